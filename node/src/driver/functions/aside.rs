//! Runs what may take its time beside threads that must not wait: each step on a thread that may block, and none while it waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

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

/// A future, and its place among those that run.
type Held<T> = (BoxFuture<'static, T>, OwnedSemaphorePermit);

/// The future's value; `None` where a step of it panicked, or there was no thread for it. Dropped, it drops the future, after the step
/// that it is in.
///
/// The threads are the network's, which is closed for a higher epoch, too: what finds it so has a thread of its own meanwhile.
pub(super) async fn aside<T: Send + 'static>(
    shared: &Shared,
    mut future: BoxFuture<'static, T>,
) -> Option<T> {
    let woken = Arc::new(Woken::default());
    loop {
        let place = Arc::clone(&shared.functions.aside).acquire_owned().await.ok()?;
        let waker = Waker::from(Arc::clone(&woken));
        // Here it stays where no thread takes it.
        let kept = Arc::new(Mutex::new(Some((future, place))));
        let (sender, stepped) = oneshot::channel();
        let (there, by) = (Arc::clone(&kept), waker.clone());
        shared.network().spawn_blocking(Box::new(move || {
            if let Some(held) = take(&there) {
                // Whoever wanted it may have gone.
                let _ = sender.send(step(held, &by));
            }
        }));
        let stepped = match stepped.await {
            Ok(stepped) => stepped,
            Err(_) => {
                let held = take(&kept)?;
                let (sender, stepped) = oneshot::channel();
                let thread = thread::Builder::new().name("anabranch-aside".into());
                let stepping = thread.spawn(move || drop(sender.send(step(held, &waker))));
                stepping.ok()?;
                stepped.await.ok()?
            }
        };
        match stepped {
            (_, Poll::Ready(value)) => return Some(value),
            (rest, Poll::Pending) => future = rest,
        }
        woken.0.notified().await;
    }
}

fn take<T>(kept: &Mutex<Option<Held<T>>>) -> Option<Held<T>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn step<T>((mut future, place): Held<T>, waker: &Waker) -> (BoxFuture<'static, T>, Poll<T>) {
    let polled = future.as_mut().poll(&mut Context::from_waker(waker));
    drop(place);
    (future, polled)
}
