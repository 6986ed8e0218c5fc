//! The kernel: the virtual clock, the queue of what is to come, and the trace hash over what came.
//!
//! Not here: what an event means. Contract: time never goes back, and every event taken is in the hash.

use crate::hash::TraceHash;
use crate::queue::{Micros, Queue, QueueKind};

/// Virtual time and what is to happen in it.
///
/// ```
/// use anabranch_sim::kernel::Kernel;
/// let mut kernel = Kernel::new(Default::default());
/// kernel.after(5, "tick");
/// assert_eq!(kernel.next(100), Some("tick"));
/// assert_eq!(kernel.now(), 5);
/// ```
#[derive(Debug)]
pub struct Kernel<E> {
    now: Micros,
    sequence: u64,
    taken: u64,
    queue: Queue<E>,
    hash: TraceHash,
}

impl<E> Kernel<E> {
    /// At time 0, with nothing to come.
    pub fn new(queue: QueueKind) -> Kernel<E> {
        Kernel {
            now: 0,
            sequence: 0,
            taken: 0,
            queue: Queue::new(queue),
            hash: TraceHash::default(),
        }
    }

    /// The time, microseconds.
    #[inline]
    pub fn now(&self) -> Micros {
        self.now
    }

    /// How many events have been taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How many events are to come.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// An event at a time; now, if that is past.
    #[inline]
    pub fn at(&mut self, at: Micros, event: E) {
        self.sequence += 1;
        self.queue.push(at.max(self.now), self.sequence, event);
    }

    /// An event after so many microseconds.
    #[inline]
    pub fn after(&mut self, wait: Micros, event: E) {
        self.at(self.now.saturating_add(wait), event);
    }

    /// The next event not later than `until`, with the clock set to its time; `None` leaves the clock alone.
    #[inline]
    pub fn next(&mut self, until: Micros) -> Option<E> {
        if self.queue.peek()? > until {
            return None;
        }
        let (at, sequence, event) = self.queue.pop()?;
        self.now = at;
        self.taken += 1;
        self.hash.absorb(at);
        self.hash.absorb(sequence);
        Some(event)
    }

    /// Time goes on to `until`, as far as nothing happens before.
    pub fn pass(&mut self, until: Micros) {
        let next = self.queue.peek().unwrap_or(Micros::MAX);
        self.now = self.now.max(until.min(next));
    }

    /// The trace hash, for the content of the event just taken.
    #[inline]
    pub fn hash(&mut self) -> &mut TraceHash {
        &mut self.hash
    }

    /// The trace hash's value now.
    pub fn trace(&self) -> u64 {
        self.hash.value()
    }
}
