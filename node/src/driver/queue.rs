//! What waits for the store's writer thread: records to append, an epoch to start, the order to stop.
//!
//! Not here: a bound of its own. Records come out of the engine, which bounds what it has handed out and not yet seen
//! durable, so this queue never holds more than that.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_crdt::Epoch;

use crate::engine::RecordId;
use crate::error::Error;
use crate::terms::Time;

/// Room that a burst took and that is not kept for the next, bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// One thing for the writer, in the order the engine said it.
#[derive(Debug)]
pub(super) enum Job<'a> {
    /// Append this record.
    Record { id: RecordId, payload: &'a [u8] },
    /// Start an epoch above this one, durably.
    Epoch { above: Epoch },
}

/// Jobs, with all their bytes in one piece: what one thread allocates another would have to free, and each would wait for
/// the other in the allocator.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    list: Vec<Queued>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Queued {
    /// Its bytes end here.
    Record {
        id: RecordId,
        end: usize,
    },
    Epoch {
        above: Epoch,
    },
}

impl Jobs {
    pub(super) fn iter(&self) -> impl Iterator<Item = Job<'_>> {
        let mut from = 0;
        self.list.iter().map(move |queued| match *queued {
            Queued::Record { id, end } => {
                let payload = &self.bytes[std::mem::replace(&mut from, end)..end];
                Job::Record { id, payload }
            }
            Queued::Epoch { above } => Job::Epoch { above },
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn push(&mut self, job: &Job<'_>) {
        self.list.push(match *job {
            Job::Record { id, payload } => {
                self.bytes.extend_from_slice(payload);
                let end = self.bytes.len();
                Queued::Record { id, end }
            }
            Job::Epoch { above } => Queued::Epoch { above },
        });
    }

    /// The same room, empty.
    fn cleared(mut self) -> Jobs {
        self.list.clear();
        self.bytes.clear();
        self
    }

    fn is_large(&self) -> bool {
        self.bytes.capacity() + self.list.capacity() * size_of::<Queued>() > SPARE_BYTES_MAX
    }
}

/// How the node is to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Closing {
    /// Why, if it is not by request.
    pub(super) error: Option<Error>,
    /// Whether to tell the others that this node does not come back, and until when it waits before that for them to have what
    /// it has.
    pub(super) leaving: Option<Time>,
}

/// What the writer found.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) jobs: Jobs,
    pub(super) closing: Option<Closing>,
}

/// The queue. Any thread pushes; one takes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: Jobs,
    /// Room for the jobs after these.
    spare: Jobs,
    closing: Option<Closing>,
    /// Something that the writer waits for, and that is no job, has come.
    nudged: bool,
    /// The writer sleeps: whoever brings news must wake it (a wake-up is a system call even when nobody sleeps).
    asleep: bool,
}

impl Queue {
    /// Adds a job; says whether the writer must be woken with [`Queue::wake`], which may be done after releasing
    /// other locks.
    pub(super) fn push(&self, job: &Job<'_>) -> bool {
        let mut state = self.lock();
        state.jobs.push(job);
        std::mem::take(&mut state.asleep)
    }

    /// Wakes the writer.
    pub(super) fn wake(&self) {
        self.news.notify_one();
    }

    /// Orders the stop. The first order's reason stands; a later one may still add that the node leaves, or have it go sooner.
    pub(super) fn close(&self, closing: Closing) {
        {
            let mut state = self.lock();
            match &mut state.closing {
                Some(earlier) => {
                    let asked = earlier.leaving.into_iter().chain(closing.leaving);
                    earlier.leaving = asked.min();
                }
                empty => *empty = Some(closing),
            }
            // Whoever waits for the peers to have everything looks again how long it may.
            state.nudged = true;
            state.asleep = false;
        }
        self.wake();
    }

    /// Until when a node that leaves may wait for its peers, by the last word.
    pub(super) fn leaving(&self) -> Option<Time> {
        self.lock().closing.as_ref().and_then(|closing| closing.leaving)
    }

    /// Wakes the writer though there is no job for it.
    pub(super) fn nudge(&self) {
        {
            let mut state = self.lock();
            state.nudged = true;
            state.asleep = false;
        }
        self.wake();
    }

    /// Everything there is, without waiting.
    pub(super) fn take_now(&self) -> Taken {
        self.lock().take()
    }

    /// Takes back the room of jobs that are done.
    pub(super) fn recycle(&self, done: Jobs) {
        if !done.is_large() {
            let done = done.cleared();
            self.lock().spare = done;
        }
    }

    /// Everything there is; waits until there is something, a nudge, or `limit` is over.
    pub(super) fn take(&self, limit: Option<Duration>) -> Taken {
        self.take_when(limit, |state| {
            let nudged = std::mem::take(&mut state.nudged);
            nudged || !state.jobs.is_empty() || state.closing.is_some()
        })
    }

    /// Jobs that came while the node is being closed; waits for one, a nudge, or `limit`.
    pub(super) fn take_nudged(&self, limit: Duration) -> Jobs {
        self.take_when(Some(limit), |state| {
            !state.jobs.is_empty() || std::mem::take(&mut state.nudged)
        })
        .jobs
    }

    fn take_when(&self, limit: Option<Duration>, mut ready: impl FnMut(&mut State) -> bool) -> Taken {
        let mut state = self.lock();
        while !ready(&mut state) {
            state.asleep = true;
            let Some(limit) = limit else {
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (back, waited) = self
                .news
                .wait_timeout(state, limit)
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
            if waited.timed_out() {
                break;
            }
        }
        state.asleep = false;
        state.take()
    }

    /// No code that can panic runs under this lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Taken {
        let spare = std::mem::take(&mut self.spare);
        Taken {
            jobs: std::mem::replace(&mut self.jobs, spare),
            closing: self.closing.clone(),
        }
    }
}
