//! Whoever is told the transport's events, and how a panic in any of its tasks becomes one: a runtime that catches it would
//! leave a node that runs without a network and does not know.
//!
//! Not here: what follows from it; the driver ends the node.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

use crate::transport::{Event, Handler};

/// Tells events; among them, once, that the transport does not work any more.
pub(super) struct Alarm {
    handler: Handler,
    rung: AtomicBool,
}

impl Alarm {
    pub(super) fn new(handler: Handler) -> Arc<Alarm> {
        Arc::new(Alarm {
            handler,
            rung: AtomicBool::new(false),
        })
    }

    pub(super) fn tell(&self, event: Event) {
        (self.handler)(event);
    }

    pub(super) fn ring(&self, what: &str) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            (self.handler)(Event::Broken {
                what: what.to_owned(),
            });
        }
    }

    /// Rings if the thread panics before the guard is dropped.
    pub(super) fn guard(self: &Arc<Alarm>) -> Guard {
        Guard(self.clone())
    }

    /// The same future; rings if it panics.
    pub(super) fn over<F: Future>(self: &Arc<Alarm>, future: F) -> impl Future<Output = F::Output> + use<F> {
        let guard = self.guard();
        async move {
            let output = future.await;
            drop(guard);
            output
        }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm")
            .field("rung", &self.rung)
            .finish_non_exhaustive()
    }
}

/// See [`Alarm::guard`].
pub(super) struct Guard(Arc<Alarm>);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.ring("a task of the network panicked");
        }
    }
}

/// Runs quinn's own tasks, which move all packets, under the alarm too.
#[derive(Debug)]
pub(super) struct Watched(pub(super) Arc<Alarm>);

impl Runtime for Watched {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(Box::pin(self.0.over(future)));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
