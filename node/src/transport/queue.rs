//! What waits to be sent on one lane: frames in order, bounded in bytes, filled from any thread.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use crate::transport::frame::HEADER_BYTES;

/// The queue was full; nothing was queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    finished: bool,
}

/// One lane's queue.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
    /// Gets its one permit when the writer is done.
    done: Semaphore,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            waiting: Mutex::default(),
            news: Notify::new(),
            done: Semaphore::new(0),
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A thread that panicked here left the queue whole: every change is one push or one drain.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame if with it no more than `bound` bytes wait. After `finish` it is accepted and dropped.
    pub(super) fn push(&self, frame: Bytes, bound: usize) -> Result<(), Full> {
        let mut waiting = self.lock();
        if waiting.finished {
            return Ok(());
        }
        let bytes = waiting.bytes + cost(&frame);
        if bytes > bound {
            return Err(Full);
        }
        waiting.bytes = bytes;
        waiting.frames.push_back(frame);
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// No frame comes after those that wait now.
    pub(super) fn finish(&self) {
        self.lock().finished = true;
        self.news.notify_one();
    }

    /// Waits for frames and takes some, about `bytes` of them but at least one; `None` after the last one.
    pub(super) async fn take(&self, bytes: usize) -> Option<Vec<Bytes>> {
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.frames.is_empty() {
                    return Some(drain(&mut waiting, bytes));
                }
                if waiting.finished {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// The writer is done: the peer has everything, or the link is lost.
    pub(super) fn confirm(&self) {
        self.done.add_permits(1);
    }

    /// Waits for [`Queue::confirm`].
    pub(super) async fn confirmed(&self) {
        // An error would mean a closed semaphore, which none is; done either way.
        let _ = self.done.acquire().await;
    }

    /// Bytes that wait now, headers included.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

fn drain(waiting: &mut Waiting, bytes: usize) -> Vec<Bytes> {
    let mut taken = Vec::new();
    let mut taken_bytes = 0;
    while let Some(frame) = waiting.frames.pop_front() {
        taken_bytes += cost(&frame);
        taken.push(frame);
        if taken_bytes >= bytes {
            break;
        }
    }
    waiting.bytes -= taken_bytes;
    taken
}

fn cost(frame: &Bytes) -> usize {
    frame.len() + HEADER_BYTES
}
