//! What is counted of each method. Those of functions in Rust are known from the start; of functions in other processes those are
//! counted that were served last, so that nothing grows here but with what is served.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::engine::Time;
use crate::function::{self, Foreign, Function};

/// Upper ends of the classes of latency, microseconds; what is above the last has a class of its own.
const BUCKETS_US: [u64; 12] = [
    5, 20, 100, 500, 2_000, 5_000, 20_000, 50_000, 200_000, 1_000_000, 5_000_000, 20_000_000,
];

/// What a node has counted of a method since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodStatus {
    /// Whose function's.
    pub kind: String,
    /// Its name.
    pub method: String,
    /// Calls that have ended.
    pub calls: u64,
    /// Of them those that ended with an error, refusals among them.
    pub errors: u64,
    /// What all of them took together, until they were answered, microseconds.
    pub micros: u64,
    /// How many took at most so long, microseconds; the longest class first holds all that took no longer.
    pub within: Vec<(u64, u64)>,
    /// Streams that have ended.
    pub streams: u64,
    /// Of them those that the function ended with an error.
    pub stream_errors: u64,
}

/// A query is quick that lately took no longer, microseconds: about what it costs to have another thread answer it.
const QUICK_US: u64 = 20;
/// Of so many queries their mean is kept, a power of two.
const RECENT: u64 = 8;
/// None counts for more, microseconds.
const RECENT_US_MAX: u64 = 1_000_000;
/// One that was taken for quick is at work.
const AT_WORK: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Method {
    /// What the latest queries took, together; those before the first count as too long.
    recent: AtomicU64,
    errors: AtomicU64,
    micros: AtomicU64,
    classes: [AtomicU64; BUCKETS_US.len() + 1],
    streams: AtomicU64,
    stream_errors: AtomicU64,
}

impl Default for Method {
    fn default() -> Method {
        Method {
            recent: AtomicU64::new(2 * QUICK_US * RECENT),
            errors: AtomicU64::default(),
            micros: AtomicU64::default(),
            classes: Default::default(),
            streams: AtomicU64::default(),
            stream_errors: AtomicU64::default(),
        }
    }
}

/// What is counted of the methods of one function, each where it stands there.
#[derive(Debug)]
pub(super) struct Stats(Vec<Method>);

impl Stats {
    pub(super) fn new(function: &Function) -> Stats {
        Stats(function.methods().map(|_| Method::default()).collect())
    }

    /// What is counted of a method of the function that these are of.
    pub(super) fn of(&self, method: &function::Method) -> &Method {
        &self.0[method.place()]
    }

    /// All of them, by name.
    pub(super) fn all(&self, function: &Function) -> impl Iterator<Item = MethodStatus> {
        let methods = function
            .methods()
            .filter_map(|name| Some((name, function.method(name)?)));
        methods.map(|(name, method)| self.of(method).status(function.kind(), name))
    }
}

/// What is counted of functions of other processes, by kind and method.
#[derive(Debug, Default)]
pub(super) struct ForeignStats(RwLock<BTreeMap<String, BTreeMap<String, Arc<Method>>>>);

impl ForeignStats {
    /// These are all that there are from now on. What was counted of a method goes on: its process may only have been started again.
    #[cfg_attr(not(feature = "sidecar"), allow(dead_code, reason = "there are none"))]
    pub(super) fn serve(&self, functions: &[Arc<dyn Foreign>]) {
        let mut by_kind = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *by_kind);
        for function in functions {
            let mut counted = before.remove(function.kind()).unwrap_or_default();
            let methods = function.methods().into_iter().map(|method| {
                let stats = counted.remove(&method).unwrap_or_default();
                (method, stats)
            });
            by_kind.insert(function.kind().to_owned(), methods.collect());
        }
    }

    /// What is counted of a method, if there is one of this name.
    pub(super) fn of(&self, kind: &str, method: &str) -> Option<Arc<Method>> {
        let by_kind = self.0.read().unwrap_or_else(PoisonError::into_inner);
        by_kind.get(kind)?.get(method).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<MethodStatus> {
        let by_kind = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let methods = by_kind.iter().flat_map(|(kind, methods)| {
            methods
                .iter()
                .map(move |(name, method)| method.status(kind, name))
        });
        methods.collect()
    }
}

impl Method {
    /// A call has ended.
    pub(super) fn note(&self, began: Time, now: Time, is_error: bool) {
        let micros = now.0.saturating_sub(began.0);
        let class = BUCKETS_US.partition_point(|end| *end < micros);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(is_error), Ordering::Relaxed);
    }

    /// A query has ended. Of those that run at once any may end what [`Method::begin_quickly`] began.
    pub(super) fn note_look(&self, began: Time, now: Time) {
        let micros = now.0.saturating_sub(began.0).min(RECENT_US_MAX);
        let before = self.recent.load(Ordering::Relaxed) & !AT_WORK;
        let recent = before - before / RECENT + micros;
        self.recent.store(recent, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn count_as_quick(&self) {
        self.recent.store(0, Ordering::Relaxed);
    }

    /// Whether queries have taken next to no time lately.
    pub(super) fn is_quick(&self) -> bool {
        self.recent.load(Ordering::Relaxed) <= QUICK_US * RECENT
    }

    /// The same; if so, no other is quick until one has ended: it may be one that never does.
    pub(super) fn begin_quickly(&self) -> bool {
        let is_quick = self.is_quick();
        if is_quick {
            self.recent.fetch_or(AT_WORK, Ordering::Relaxed);
        }
        is_quick
    }

    /// A stream has ended.
    pub(super) fn note_stream(&self, is_error: bool) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.stream_errors
            .fetch_add(u64::from(is_error), Ordering::Relaxed);
    }

    fn status(&self, kind: &str, method: &str) -> MethodStatus {
        let mut calls = 0;
        let mut upto = |class: &AtomicU64| {
            calls += class.load(Ordering::Relaxed);
            calls
        };
        let (last, classes) = (&self.classes[BUCKETS_US.len()], &self.classes[..BUCKETS_US.len()]);
        let within = BUCKETS_US
            .into_iter()
            .zip(classes.iter().map(&mut upto))
            .collect();
        let calls = upto(last);
        MethodStatus {
            kind: kind.to_owned(),
            method: method.to_owned(),
            calls,
            errors: self.errors.load(Ordering::Relaxed),
            micros: self.micros.load(Ordering::Relaxed),
            within,
            streams: self.streams.load(Ordering::Relaxed),
            stream_errors: self.stream_errors.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::state::PnCounter;

    #[test]
    fn calls_are_counted_in_their_class() {
        let function =
            Function::of::<PnCounter>("n").query("get", |count, _, ()| Ok::<_, String>(count.get()));
        let function: Function = function.into();
        let stats = Stats::new(&function);
        for micros in [0, 5, 6, 19, 30_000_000] {
            let method = stats.of(function.method("get").unwrap());
            method.note(Time(1_000), Time(1_000 + micros), micros == 6);
        }
        let all: Vec<MethodStatus> = stats.all(&function).collect();
        let [status] = &all[..] else { panic!("one method") };
        assert_eq!((status.kind.as_str(), status.method.as_str()), ("n", "get"));
        assert_eq!((status.calls, status.errors, status.micros), (5, 1, 30_000_030));
        assert_eq!(status.within[..3], [(5, 2), (20, 4), (100, 4)]);
        assert_eq!(status.within.last(), Some(&(20_000_000, 4)));
    }

    #[test]
    fn a_query_is_quick_while_it_was_lately_and_none_is_at_work() {
        let method = Method::default();
        let took = |micros: u64| method.note_look(Time(7), Time(7 + micros));
        assert!(!method.begin_quickly(), "nobody knows yet");
        (0..RECENT).for_each(|_| took(1));
        assert!(method.begin_quickly());
        assert!(!method.begin_quickly(), "it may never end");
        took(1);
        assert!(method.is_quick());
        took(1_000);
        assert!(!method.is_quick());
        (0..100).for_each(|_| took(19));
        assert!(method.is_quick());
        took(60_000_000);
        (0..100).for_each(|_| took(19));
        assert!(method.is_quick(), "one does not count for ever");
        (0..100).for_each(|_| took(25));
        assert!(!method.is_quick());
    }
}
