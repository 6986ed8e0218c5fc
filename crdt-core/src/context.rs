//! Sets of dots: what somebody has seen.
//!
//! [`VersionVector`] is a set without gaps, one maximum per replica; [`Context`] adds runs above the maxima.
//! [`Seen`] is the one question the join asks of either.
//!
//! Not here: who has seen it, and whether it is durable there.
//!
//! Contract: both are canonical, so that `==` is equality of the sets.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::dot::Dot;
use crate::replicas::ReplicaIx;

/// Whether a dot belongs to what somebody has seen.
///
/// `()` has seen nothing.
///
/// ```
/// use anabranch_crdt::{Dot, ReplicaIx, Seen, VersionVector};
///
/// let dot = Dot::new(ReplicaIx(0), 2);
/// assert!(VersionVector::from_iter([(ReplicaIx(0), 2)]).contains(dot));
/// assert!(!Seen::contains(&(), dot));
/// ```
pub trait Seen {
    /// Whether `dot` was seen.
    fn contains(&self, dot: Dot) -> bool;
}

impl Seen for () {
    fn contains(&self, _: Dot) -> bool {
        false
    }
}

impl<S: Seen + ?Sized> Seen for &S {
    fn contains(&self, dot: Dot) -> bool {
        (**self).contains(dot)
    }
}

/// A set of dots without gaps: per replica all sequences up to a maximum.
///
/// ```
/// use anabranch_crdt::{ReplicaIx, VersionVector};
///
/// let mut vv = VersionVector::new();
/// vv.advance(ReplicaIx(1), 5);
/// vv.advance(ReplicaIx(1), 3); // never goes back
/// assert_eq!(vv.get(ReplicaIx(1)), 5);
/// assert!(vv.covers(&VersionVector::new()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VersionVector {
    /// By replica index. The last one is never 0, which makes the derived equality that of the sets.
    maxima: Vec<u64>,
}

impl VersionVector {
    /// The empty set.
    ///
    /// ```
    /// use anabranch_crdt::{ReplicaIx, VersionVector};
    ///
    /// assert!(VersionVector::new().is_empty());
    /// assert_eq!(VersionVector::new().get(ReplicaIx(0)), 0);
    /// ```
    pub fn new() -> VersionVector {
        VersionVector::default()
    }

    /// The largest sequence of `ix` in the set, 0 if there is none.
    ///
    /// ```
    /// use anabranch_crdt::{ReplicaIx, VersionVector};
    ///
    /// let vv = VersionVector::from_iter([(ReplicaIx(1), 5)]);
    /// assert_eq!((vv.get(ReplicaIx(0)), vv.get(ReplicaIx(1))), (0, 5));
    /// ```
    pub fn get(&self, ix: ReplicaIx) -> u64 {
        self.maxima.get(ix.at()).copied().unwrap_or(0)
    }

    /// Adds all sequences of `ix` up to `to`; never takes any away.
    ///
    /// ```
    /// use anabranch_crdt::{ReplicaIx, VersionVector};
    ///
    /// let mut vv = VersionVector::new();
    /// vv.advance(ReplicaIx(0), 5);
    /// vv.advance(ReplicaIx(0), 3);
    /// assert_eq!(vv, VersionVector::from_iter([(ReplicaIx(0), 5)]));
    /// ```
    pub fn advance(&mut self, ix: ReplicaIx, to: u64) {
        if to == 0 {
            return;
        }
        if self.maxima.len() <= ix.at() {
            self.maxima.resize(ix.at() + 1, 0);
        }
        let max = &mut self.maxima[ix.at()];
        *max = (*max).max(to);
    }

    /// Whether the set holds `dot`.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, ReplicaIx, VersionVector};
    ///
    /// let vv = VersionVector::from_iter([(ReplicaIx(0), 5)]);
    /// assert!(vv.contains(Dot::new(ReplicaIx(0), 5)));
    /// assert!(!vv.contains(Dot::new(ReplicaIx(0), 6)));
    /// assert!(!vv.contains(Dot::new(ReplicaIx(1), 1)));
    /// ```
    pub fn contains(&self, dot: Dot) -> bool {
        dot.seq() <= self.get(dot.ix())
    }

    /// Whether the set holds all of `other`.
    ///
    /// ```
    /// use anabranch_crdt::{ReplicaIx, VersionVector};
    ///
    /// let small = VersionVector::from_iter([(ReplicaIx(0), 5)]);
    /// let large = VersionVector::from_iter([(ReplicaIx(0), 6), (ReplicaIx(1), 1)]);
    /// assert!(large.covers(&small) && large.covers(&large));
    /// assert!(!small.covers(&large));
    /// ```
    pub fn covers(&self, other: &VersionVector) -> bool {
        // A longer vector ends with an entry above 0, which this one lacks.
        other.maxima.len() <= self.maxima.len()
            && other
                .maxima
                .iter()
                .zip(&self.maxima)
                .all(|(theirs, mine)| theirs <= mine)
    }

    /// The union.
    ///
    /// ```
    /// use anabranch_crdt::{ReplicaIx, VersionVector};
    ///
    /// let mut vv = VersionVector::from_iter([(ReplicaIx(0), 5), (ReplicaIx(1), 1)]);
    /// vv.join(&VersionVector::from_iter([(ReplicaIx(0), 2), (ReplicaIx(1), 4)]));
    /// assert_eq!(vv, VersionVector::from_iter([(ReplicaIx(0), 5), (ReplicaIx(1), 4)]));
    /// ```
    pub fn join(&mut self, other: &VersionVector) {
        for (ix, to) in other.iter() {
            self.advance(ix, to);
        }
    }

    /// The maxima above 0, by index.
    ///
    /// ```
    /// use anabranch_crdt::{ReplicaIx, VersionVector};
    ///
    /// let vv = VersionVector::from_iter([(ReplicaIx(3), 1), (ReplicaIx(0), 5)]);
    /// assert_eq!(vv.iter().collect::<Vec<_>>(), [(ReplicaIx(0), 5), (ReplicaIx(3), 1)]);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaIx, u64)> + '_ {
        // Indices are u16 by construction, so the counter cannot pass it.
        (0..=u16::MAX)
            .zip(&self.maxima)
            .filter(|(_, max)| **max > 0)
            .map(|(ix, max)| (ReplicaIx(ix), *max))
    }

    /// Whether the set is empty.
    ///
    /// ```
    /// use anabranch_crdt::{ReplicaIx, VersionVector};
    ///
    /// let mut vv = VersionVector::new();
    /// vv.advance(ReplicaIx(3), 0); // there is no sequence 0
    /// assert!(vv.is_empty());
    /// vv.advance(ReplicaIx(3), 1);
    /// assert!(!vv.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.maxima.is_empty()
    }
}

impl FromIterator<(ReplicaIx, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ReplicaIx, u64)>>(iter: I) -> VersionVector {
        let mut vv = VersionVector::new();
        for (ix, to) in iter {
            vv.advance(ix, to);
        }
        vv
    }
}

impl Seen for VersionVector {
    fn contains(&self, dot: Dot) -> bool {
        VersionVector::contains(self, dot)
    }
}

/// Any set of dots: contiguous maxima plus runs above them.
///
/// ```
/// use anabranch_crdt::{Context, Dot, ReplicaIx};
///
/// let mut context = Context::new();
/// context.insert(Dot::new(ReplicaIx(0), 2));
/// assert!(!context.is_contiguous());
/// context.insert(Dot::new(ReplicaIx(0), 1));
/// assert_eq!(context.as_version_vector().map(|vv| vv.get(ReplicaIx(0))), Some(2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Context {
    maxima: VersionVector,
    /// Per replica the runs above its maximum, `from` (excluded) to `to` (included) by `from`: not empty, not
    /// touching the maximum or each other.
    runs: BTreeMap<ReplicaIx, BTreeMap<u64, u64>>,
}

impl Context {
    /// The empty set.
    ///
    /// ```
    /// use anabranch_crdt::{Context, VersionVector};
    ///
    /// assert!(Context::new().is_empty());
    /// assert_eq!(Context::new(), VersionVector::new().into());
    /// ```
    pub fn new() -> Context {
        Context::default()
    }

    /// Adds one dot.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let mut context = Context::new();
    /// context.insert(Dot::new(ReplicaIx(0), 3));
    /// assert!(context.contains(Dot::new(ReplicaIx(0), 3)));
    /// assert!(!context.contains(Dot::new(ReplicaIx(0), 2))); // this dot and no other
    /// ```
    pub fn insert(&mut self, dot: Dot) {
        self.insert_run(dot.ix(), dot.seq() - 1, dot.seq());
    }

    /// Adds the sequences `from` (excluded) to `to` (included) of `ix`.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let mut context = Context::new();
    /// context.insert_run(ReplicaIx(0), 1, 3);
    /// let dots = Context::from_iter([Dot::new(ReplicaIx(0), 2), Dot::new(ReplicaIx(0), 3)]);
    /// assert_eq!(context, dots);
    /// ```
    pub fn insert_run(&mut self, ix: ReplicaIx, from: u64, to: u64) {
        if from >= to || to <= self.maxima.get(ix) {
            return;
        }
        let reach = self.maxima.get(ix);
        if from <= crate::planted!("gap_is_covered", reach + 1, reach) {
            self.raise(ix, to);
            return;
        }
        let runs = self.runs.entry(ix).or_default();
        let (mut from, mut to) = (from, to);
        // Takes in, from the right, every run that begins at or before this one's end, down to the first that
        // ends before its start.
        while let Some((&other_from, &other_to)) = runs.range(..=to).next_back() {
            if crate::planted!("touching_runs_stay_apart", other_to <= from, other_to < from) {
                break;
            }
            runs.remove(&other_from);
            from = from.min(other_from);
            to = to.max(other_to);
        }
        runs.insert(from, to);
    }

    /// Raises the maximum and takes in the runs it reaches.
    fn raise(&mut self, ix: ReplicaIx, to: u64) {
        let mut to = to;
        if let Some(runs) = self.runs.get_mut(&ix) {
            while let Some(first) = runs.first_entry() {
                if *first.key() > to {
                    break;
                }
                to = to.max(first.remove());
            }
            if runs.is_empty() {
                self.runs.remove(&ix);
            }
        }
        self.maxima.advance(ix, to);
    }

    /// Whether the set holds `dot`.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let mut context = Context::new();
    /// context.insert_run(ReplicaIx(0), 0, 2);
    /// context.insert_run(ReplicaIx(0), 4, 6);
    /// let held: Vec<u64> = (1..=8).filter(|seq| context.contains(Dot::new(ReplicaIx(0), *seq))).collect();
    /// assert_eq!(held, [1, 2, 5, 6]);
    /// ```
    pub fn contains(&self, dot: Dot) -> bool {
        self.maxima.contains(dot) || self.run_covers(dot.ix(), dot.seq() - 1, dot.seq())
    }

    /// Whether a single run holds all of `from` (excluded) to `to` (included).
    fn run_covers(&self, ix: ReplicaIx, from: u64, to: u64) -> bool {
        self.runs
            .get(&ix)
            .and_then(|runs| runs.range(..=from).next_back())
            .is_some_and(|(_, run_to)| to <= *run_to)
    }

    /// Whether the set holds all of `other`.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx, VersionVector};
    ///
    /// let all = Context::from(VersionVector::from_iter([(ReplicaIx(0), 3)]));
    /// let gap = Context::from_iter([Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(0), 3)]);
    /// assert!(all.covers(&gap));
    /// assert!(!gap.covers(&all));
    /// ```
    pub fn covers(&self, other: &Context) -> bool {
        self.maxima.covers(&other.maxima)
            && other.runs().all(|(ix, from, to)| {
                // Runs do not touch, so what the maximum leaves must lie within one of them.
                let from = from.max(self.maxima.get(ix));
                from >= to || self.run_covers(ix, from, to)
            })
    }

    /// The union.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx, VersionVector};
    ///
    /// let mut context = Context::from_iter([Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(0), 3)]);
    /// context.join(&Context::from_iter([Dot::new(ReplicaIx(0), 2)]));
    /// assert_eq!(context, VersionVector::from_iter([(ReplicaIx(0), 3)]).into());
    /// ```
    pub fn join(&mut self, other: &Context) {
        for (ix, to) in other.maxima.iter() {
            self.insert_run(ix, 0, to);
        }
        for (ix, from, to) in other.runs() {
            self.insert_run(ix, from, to);
        }
    }

    /// The contiguous part: per replica all sequences from 1 on without a gap.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let context = Context::from_iter([1, 2, 5].map(|seq| Dot::new(ReplicaIx(0), seq)));
    /// assert_eq!(context.maxima().get(ReplicaIx(0)), 2);
    /// ```
    pub fn maxima(&self) -> &VersionVector {
        &self.maxima
    }

    /// The runs above the contiguous part: replica, start (excluded), end (included).
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let context = Context::from_iter([1, 2, 5, 6, 9].map(|seq| Dot::new(ReplicaIx(0), seq)));
    /// assert_eq!(context.runs().collect::<Vec<_>>(), [(ReplicaIx(0), 4, 6), (ReplicaIx(0), 8, 9)]);
    /// ```
    pub fn runs(&self) -> impl Iterator<Item = (ReplicaIx, u64, u64)> + '_ {
        self.runs
            .iter()
            .flat_map(|(ix, runs)| runs.iter().map(|(from, to)| (*ix, *from, *to)))
    }

    /// The whole set as runs, in the order of dots: replica, start (excluded), end (included).
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let context = Context::from_iter([1, 2, 5, 6].map(|seq| Dot::new(ReplicaIx(0), seq)));
    /// assert_eq!(context.all_runs().collect::<Vec<_>>(), [(ReplicaIx(0), 0, 2), (ReplicaIx(0), 4, 6)]);
    /// ```
    pub fn all_runs(&self) -> impl Iterator<Item = (ReplicaIx, u64, u64)> + '_ {
        let mut runs: Vec<_> = self.maxima.iter().map(|(ix, max)| (ix, 0, max)).collect();
        runs.extend(self.runs());
        runs.sort_unstable(); // each of the two is sorted already
        runs.into_iter()
    }

    /// The set without these dots, which are ascending.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let dots = [1, 2, 3].map(|seq| Dot::new(ReplicaIx(0), seq));
    /// let rest = Context::from_iter(dots).without(&dots[1..2]);
    /// assert_eq!(rest, Context::from_iter([dots[0], dots[2]]));
    /// ```
    pub fn without(&self, dots: &[Dot]) -> Context {
        let mut rest = Context::new();
        let mut dots = dots.iter().peekable();
        for (ix, mut from, to) in self.all_runs() {
            while let Some(dot) = dots.next_if(|dot| **dot <= Dot::new(ix, to)) {
                if dot.ix() == ix && dot.seq() > from {
                    rest.insert_run(ix, from, dot.seq() - 1);
                    from = dot.seq();
                }
            }
            rest.insert_run(ix, from, to);
        }
        rest
    }

    /// Whether the two have a dot in common.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let [one, two, three] = [1, 2, 3].map(|seq| Dot::new(ReplicaIx(0), seq));
    /// let context = Context::from_iter([one, three]);
    /// assert!(context.intersects(&Context::from_iter([two, three])));
    /// assert!(!context.intersects(&Context::from_iter([two])));
    /// ```
    pub fn intersects(&self, other: &Context) -> bool {
        other.all_runs().any(|(ix, from, to)| {
            from < self.maxima.get(ix)
                || self.runs.get(&ix).is_some_and(|runs| {
                    runs.range(..to)
                        .next_back()
                        .is_some_and(|(_, run_to)| from < *run_to)
                })
        })
    }

    /// Whether the set has no gap.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// let mut context = Context::from_iter([Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(0), 3)]);
    /// assert!(!context.is_contiguous());
    /// context.insert(Dot::new(ReplicaIx(0), 2));
    /// assert!(context.is_contiguous());
    /// ```
    pub fn is_contiguous(&self) -> bool {
        self.runs.is_empty()
    }

    /// The set as a version vector, if it has no gap.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx, VersionVector};
    ///
    /// let vv = VersionVector::from_iter([(ReplicaIx(0), 2)]);
    /// let mut context = Context::from(vv.clone());
    /// assert_eq!(context.as_version_vector(), Some(&vv));
    /// context.insert(Dot::new(ReplicaIx(0), 4));
    /// assert_eq!(context.as_version_vector(), None);
    /// ```
    pub fn as_version_vector(&self) -> Option<&VersionVector> {
        self.is_contiguous().then_some(&self.maxima)
    }

    /// Whether the set is empty.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, ReplicaIx};
    ///
    /// assert!(Context::new().is_empty());
    /// assert!(!Context::from_iter([Dot::new(ReplicaIx(0), 2)]).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.maxima.is_empty() && self.runs.is_empty()
    }
}

impl From<VersionVector> for Context {
    fn from(maxima: VersionVector) -> Context {
        Context {
            maxima,
            runs: BTreeMap::new(),
        }
    }
}

impl FromIterator<Dot> for Context {
    fn from_iter<I: IntoIterator<Item = Dot>>(iter: I) -> Context {
        let mut context = Context::new();
        for dot in iter {
            context.insert(dot);
        }
        context
    }
}

impl Seen for Context {
    fn contains(&self, dot: Dot) -> bool {
        Context::contains(self, dot)
    }
}

#[cfg(test)]
mod tests;
