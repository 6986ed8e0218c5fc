//! Who wants to be polled again, in the order in which they came to want it: what an executor's run queue is.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// One that wakes itself so often without waiting for anybody never ends.
const POLLS_MAX: usize = 10_000;

/// What can be polled, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A command that waits for others.
    Call(u64),
    /// A stream that is not open yet.
    Opening(u64),
    /// The function's side of a stream with another node.
    Served(u64),
    /// A client that waits for a reply.
    Taker(u64),
    /// A client that waits for room for a message.
    Sender(u64),
    /// A stream's function that is to make a step, or is not wanted any more.
    Function(u64),
}

/// Those who want it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bells(Arc<Mutex<VecDeque<Who>>>);

impl Bells {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Who>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ring(&self, who: Who) {
        let mut queue = self.lock();
        if !queue.contains(&who) {
            queue.push_back(who);
        }
    }

    pub fn next(&self) -> Option<Who> {
        self.lock().pop_front()
    }

    /// Polls until it waits for somebody else, who then rings for `who`.
    pub fn poll<F: Future + ?Sized>(&self, mut future: Pin<&mut F>, who: Who) -> Poll<F::Output> {
        let bell = Arc::new(Bell {
            bells: self.clone(),
            who,
            is_polled: AtomicBool::new(true),
            is_rung: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&bell));
        let mut task = Context::from_waker(&waker);
        let mut polled = future.as_mut().poll(&mut task);
        for _ in 1..POLLS_MAX {
            if polled.is_ready() || !bell.is_rung.swap(false, Ordering::Relaxed) {
                break;
            }
            polled = future.as_mut().poll(&mut task);
        }
        bell.is_polled.store(false, Ordering::Relaxed);
        polled
    }
}

struct Bell {
    bells: Bells,
    who: Who,
    /// Whoever rings now is polled again at once.
    is_polled: AtomicBool,
    is_rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if self.is_polled.load(Ordering::Relaxed) {
            self.is_rung.store(true, Ordering::Relaxed);
        } else {
            self.bells.ring(self.who);
        }
    }
}
