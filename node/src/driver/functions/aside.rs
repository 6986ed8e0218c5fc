//! Runs what may take its time beside threads that must not wait: each step on a thread that may block, and none while it waits.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::{Notify, oneshot};

use crate::driver::shared::Shared;
use crate::function::BoxFuture;

/// So many steps run at once; the next wait. A function that never returns from one keeps its place.
pub(super) const STEPS_MAX: usize = 128;

#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// The future's value; `None` if the network, whose threads these are, was closed. Dropped, it drops the future, after the step
/// that it is in.
pub(super) async fn aside<T: Send + 'static>(
    shared: &Shared,
    mut future: BoxFuture<'static, T>,
) -> Option<T> {
    let woken = Arc::new(Woken::default());
    loop {
        let place = Arc::clone(&shared.functions.aside).acquire_owned().await.ok()?;
        let (sender, stepped) = oneshot::channel();
        let waker = Waker::from(Arc::clone(&woken));
        shared.network().spawn_blocking(Box::new(move || {
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            drop(place);
            // Whoever wanted it may have gone.
            let _ = sender.send((future, polled));
        }));
        match stepped.await.ok()? {
            (_, Poll::Ready(value)) => return Some(value),
            (rest, Poll::Pending) => future = rest,
        }
        woken.0.notified().await;
    }
}
