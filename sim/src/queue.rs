//! Event queues: what happens next, in the total order (time, sequence).
//!
//! Two implementations that share nothing: a binary heap, and a calendar of buckets. A run must not be able to tell
//! them apart; a test compares trace hashes.
//!
//! Contract: events leave by time, and those of one time in the order they were put in.

use std::collections::BinaryHeap;

/// Microseconds of virtual time since the run began.
pub type Micros = u64;

/// Which implementation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueKind {
    /// A binary heap.
    #[default]
    Heap,
    /// A calendar: buckets of one time slice each.
    Calendar,
}

/// A place in the total order and where the event itself lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    at: Micros,
    sequence: u64,
    slot: u32,
}

impl Ord for Key {
    /// Reversed: the standard heap gives the largest first.
    fn cmp(&self, other: &Key) -> std::cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A queue of events.
///
/// ```
/// use anabranch_sim::queue::{Queue, QueueKind};
/// let mut queue = Queue::new(QueueKind::Calendar);
/// queue.push(20, 1, "late");
/// queue.push(10, 2, "early");
/// queue.push(10, 3, "as early");
/// assert_eq!(queue.pop().map(|(_, _, e)| e), Some("early"));
/// assert_eq!(queue.peek(), Some(10));
/// ```
#[derive(Debug)]
pub struct Queue<E> {
    order: Order,
    /// The events, apart from their keys: a heap moves keys a lot.
    events: Vec<Option<E>>,
    free: Vec<u32>,
}

#[derive(Debug)]
enum Order {
    Heap(BinaryHeap<Key>),
    Calendar(Calendar),
}

impl<E> Queue<E> {
    /// An empty queue.
    pub fn new(kind: QueueKind) -> Queue<E> {
        let order = match kind {
            QueueKind::Heap => Order::Heap(BinaryHeap::new()),
            QueueKind::Calendar => Order::Calendar(Calendar::new()),
        };
        Queue {
            order,
            events: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Puts an event in. `sequence` must be larger than any before.
    #[inline]
    pub fn push(&mut self, at: Micros, sequence: u64, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.events[slot as usize] = Some(event);
                slot
            }
            None => {
                self.events.push(Some(event));
                (self.events.len() - 1) as u32
            }
        };
        let key = Key { at, sequence, slot };
        match &mut self.order {
            Order::Heap(heap) => heap.push(key),
            Order::Calendar(calendar) => calendar.push(key),
        }
    }

    /// Takes the next event out: its time, its sequence, itself.
    #[inline]
    pub fn pop(&mut self) -> Option<(Micros, u64, E)> {
        let key = match &mut self.order {
            Order::Heap(heap) => heap.pop(),
            Order::Calendar(calendar) => calendar.pop(),
        }?;
        let event = self.events[key.slot as usize].take();
        self.free.push(key.slot);
        let Some(event) = event else {
            unreachable!("a key without its event")
        };
        Some((key.at, key.sequence, event))
    }

    /// When the next event is.
    pub fn peek(&mut self) -> Option<Micros> {
        match &mut self.order {
            Order::Heap(heap) => heap.peek().map(|key| key.at),
            Order::Calendar(calendar) => calendar.peek(),
        }
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.events.len() - self.free.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A bucket's slice of time is so many microseconds, as a power of two.
const SLICE_BITS: u32 = 7;
/// Buckets in a year. What is further away waits aside.
const BUCKETS: u64 = 1 << 12;

/// Buckets of one time slice each, a "year" of them; the current one sorted, the others not; later years aside.
#[derive(Debug)]
struct Calendar {
    /// The slice that `today` holds.
    slice: u64,
    /// The current slice, descending: the next event is the last.
    today: Vec<Key>,
    buckets: Vec<Vec<Key>>,
    in_buckets: usize,
    later: Vec<Key>,
    /// The earliest slice in `later`.
    later_from: u64,
}

impl Calendar {
    fn new() -> Calendar {
        Calendar {
            slice: 0,
            today: Vec::new(),
            buckets: (0..BUCKETS).map(|_| Vec::new()).collect(),
            in_buckets: 0,
            later: Vec::new(),
            later_from: u64::MAX,
        }
    }

    fn push(&mut self, key: Key) {
        let slice = key.at >> SLICE_BITS;
        if slice <= self.slice {
            // `Key`'s order is reversed, so the list is ascending in it.
            let place = self.today.partition_point(|other| *other < key);
            self.today.insert(place, key);
        } else if slice - self.slice < BUCKETS {
            self.buckets[(slice % BUCKETS) as usize].push(key);
            self.in_buckets += 1;
        } else {
            self.later_from = self.later_from.min(slice);
            self.later.push(key);
        }
    }

    fn pop(&mut self) -> Option<Key> {
        self.turn();
        self.today.pop()
    }

    fn peek(&mut self) -> Option<Micros> {
        self.turn();
        self.today.last().map(|key| key.at)
    }

    /// Makes `today` the next slice that has events.
    fn turn(&mut self) {
        while self.today.is_empty() && (self.in_buckets > 0 || !self.later.is_empty()) {
            self.slice = if self.in_buckets == 0 {
                self.later_from
            } else {
                self.slice + 1
            };
            if self.later_from < self.slice.saturating_add(BUCKETS) {
                self.bring_later();
            }
            let bucket = &mut self.buckets[(self.slice % BUCKETS) as usize];
            std::mem::swap(&mut self.today, bucket);
            self.in_buckets -= self.today.len();
            self.today.sort_unstable();
        }
    }

    fn bring_later(&mut self) {
        self.later_from = u64::MAX;
        for key in std::mem::take(&mut self.later) {
            let slice = key.at >> SLICE_BITS;
            if slice - self.slice < BUCKETS {
                self.buckets[(slice % BUCKETS) as usize].push(key);
                self.in_buckets += 1;
            } else {
                self.later_from = self.later_from.min(slice);
                self.later.push(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn both_queues_keep_the_total_order() {
        let mut rng = Rng::stream(3, "queue", 0, 0);
        let (mut heap, mut calendar) = (Queue::new(QueueKind::Heap), Queue::new(QueueKind::Calendar));
        let (mut now, mut sequence) = (0, 0);
        for _ in 0..30_000 {
            for _ in 0..rng.below(4) {
                let wait = *rng.pick(&[0, 1, 100, 10_000, 2_000_000, 90_000_000]);
                let at = now + rng.below(wait + 1);
                sequence += 1;
                heap.push(at, sequence, sequence);
                calendar.push(at, sequence, sequence);
            }
            assert_eq!(heap.peek(), calendar.peek());
            let (a, b) = (heap.pop(), calendar.pop());
            assert_eq!(a, b);
            if let Some((at, _, _)) = a {
                assert!(at >= now, "{at} after {now}");
                now = at;
            }
            assert_eq!(heap.len(), calendar.len());
        }
        while let Some(next) = heap.pop() {
            assert_eq!(Some(next), calendar.pop());
        }
        assert!(calendar.is_empty());
    }
}
