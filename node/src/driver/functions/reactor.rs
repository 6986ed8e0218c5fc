//! Tokio for functions that wait, wherever they run: a caller may be on a runtime of his own, on another executor, or at another node.
//!
//! Contract: a function finds the runtime of whoever polls it, or where he has none its node's. That is none of the network's, which
//! what a function spawns must not hold up and which ends with each epoch.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

/// A runtime that is made when the first function needs it.
#[derive(Debug, Default)]
pub(super) struct Reactor {
    /// None where it could not be made.
    handle: OnceLock<Option<Handle>>,
    runtime: Mutex<Option<Runtime>>,
}

impl Reactor {
    /// The future's value; each of its steps has a runtime around it.
    pub(super) async fn around<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|task| {
            let _entered = self.enter();
            future.as_mut().poll(task)
        })
        .await
    }

    fn enter(&self) -> Option<EnterGuard<'_>> {
        if Handle::try_current().is_ok() {
            return None;
        }
        let handle = self.handle.get_or_init(|| self.begin());
        handle.as_ref().map(Handle::enter)
    }

    fn begin(&self) -> Option<Handle> {
        // Functions run on their callers' threads: this one looks after what they wait for, and what they spawn.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("anabranch-tokio")
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => {
                let handle = runtime.handle().clone();
                *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
                Some(handle)
            }
            Err(error) => {
                tracing::warn!("no runtime for functions that use tokio: {error}");
                None
            }
        }
    }

    /// The node has stopped.
    pub(super) fn end(&self) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Whoever ends it may be within a runtime, where none may be waited for.
            runtime.shutdown_background();
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.end();
    }
}
