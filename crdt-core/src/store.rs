//! Stores of dots and the one join.
//!
//! A state is a store of dots: bare ([`DotSet`]), each carrying something ([`DotFun`]), or stores by key
//! ([`DotMap`]), nested at will. All join by one rule: **a dot that both sides have stays; a dot that only one
//! side has stays exactly if the other side has not seen it.** What a side has seen is its context, and comes
//! from outside: the same code serves a value with a context of its own and a shard with one for all its values.
//!
//! Not here: types, deltas, digests, operations.
//!
//! Contract: `join` is commutative, associative and idempotent for states whose contexts cover their dots. A
//! store never keeps an empty store within it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, btree_map};
use alloc::vec;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::ops::Bound;

use crate::context::Seen;
use crate::dot::Dot;
use crate::element::{self, Element};
use crate::planted;
use crate::replicas::ReplicaIx;

/// Whether a dot that only one side has stays: if the side that lacks it has not seen it. (If it has, then the
/// dot was removed there.) The whole join is this rule.
pub(crate) fn stays(dot: Dot, seen_by_the_other: &impl Seen) -> bool {
    !seen_by_the_other.contains(dot)
}

/// What a join changed.
///
/// ```
/// use anabranch_crdt::store::{Diff, DotSet, DotStore};
/// use anabranch_crdt::{Context, Dot, ReplicaIx};
///
/// let (a, b) = (Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(1), 1));
/// let mut mine = DotSet::from_iter([a]);
/// let theirs_seen = Context::from_iter([a, b]); // a too, which they removed
/// let diff = mine.join(&Context::from_iter([a]), &DotSet::from_iter([b]), &theirs_seen);
/// assert_eq!(diff, Diff { added: vec![b], removed: vec![a] });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff<E> {
    /// What was taken from the other side.
    pub added: Vec<E>,
    /// What went because the other side had removed it.
    pub removed: Vec<E>,
}

impl<E> Default for Diff<E> {
    fn default() -> Diff<E> {
        Diff {
            added: Vec::new(),
            removed: Vec::new(),
        }
    }
}

impl<E> Diff<E> {
    /// Whether nothing changed.
    ///
    /// ```
    /// use anabranch_crdt::store::{DotSet, DotStore};
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let dots = DotSet::from_iter([Dot::new(ReplicaIx(0), 1)]);
    /// assert!(!DotSet::default().join(&(), &dots, &()).is_empty());
    /// assert!(dots.clone().join(&(), &dots, &()).is_empty()); // both have it
    /// ```
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    pub(crate) fn absorb<F>(&mut self, inner: Diff<F>, outward: impl Fn(F) -> E) {
        self.added.extend(inner.added.into_iter().map(&outward));
        self.removed.extend(inner.removed.into_iter().map(&outward));
    }
}

/// A store of dots.
///
/// ```
/// use anabranch_crdt::store::{DotSet, DotStore};
/// use anabranch_crdt::{Dot, ReplicaIx};
///
/// fn seqs<S: DotStore<Entry = Dot>>(store: &S) -> Vec<u64> {
///     store.entries().map(|dot| dot.seq()).collect()
/// }
/// let dots = DotSet::from_iter([2, 1].map(|seq| Dot::new(ReplicaIx(0), seq)));
/// assert_eq!(seqs(&dots), [1, 2]);
/// assert!(!dots.is_empty() && DotSet::default().is_empty());
/// ```
pub trait DotStore: Clone + Default + PartialEq {
    /// A dot with its place in the store and what it carries.
    type Entry;

    /// Whether there is no dot.
    fn is_empty(&self) -> bool;

    /// Every dot, in the order of the store.
    fn entries(&self) -> impl Iterator<Item = Self::Entry> + '_;

    /// Joins another store into this one; `seen` and `theirs_seen` are what the two sides have seen.
    fn join(&mut self, seen: &impl Seen, theirs: &Self, theirs_seen: &impl Seen) -> Diff<Self::Entry>;
}

/// The rule, over two ascending sequences of dots: which of mine go, which of theirs come.
fn join_dots(
    mine: impl Iterator<Item = Dot>,
    seen: &impl Seen,
    theirs: impl Iterator<Item = Dot>,
    theirs_seen: &impl Seen,
) -> (Vec<Dot>, Vec<Dot>) {
    let (mut go, mut come) = (Vec::new(), Vec::new());
    let mut theirs = theirs.peekable();
    let mut only_theirs = |dot| {
        if stays(dot, seen) {
            come.push(dot);
        }
    };
    for dot in mine {
        while let Some(other) = theirs.next_if(|other| *other < dot) {
            only_theirs(other);
        }
        if theirs.next_if_eq(&dot).is_none() && !stays(dot, theirs_seen) {
            planted!("join_keeps_what_they_removed", (), go.push(dot));
        }
    }
    theirs.for_each(only_theirs);
    (go, come)
}

/// Dots that carry nothing. One dot takes no allocation.
///
/// ```
/// use anabranch_crdt::store::{DotSet, DotStore};
/// use anabranch_crdt::{Context, Dot, ReplicaIx};
///
/// let (a, b) = (Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(1), 1));
/// let mut mine = DotSet::from_iter([a]);
/// // They have b, and have seen and removed a.
/// mine.join(&Context::from_iter([a]), &DotSet::from_iter([b]), &Context::from_iter([a, b]));
/// assert_eq!(mine.as_slice(), [b]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DotSet(Few);

#[derive(Clone, Debug, PartialEq, Eq, Default)]
enum Few {
    #[default]
    None,
    One(Dot),
    /// Two or more, ascending. Concurrent additions of one element: rare, so the common case pays one word.
    #[expect(
        clippy::box_collection,
        reason = "a thin pointer keeps the common case at two words"
    )]
    Many(Box<Vec<Dot>>),
}

const _: () = assert!(size_of::<DotSet>() == 16);

impl DotSet {
    /// The dots, ascending.
    ///
    /// ```
    /// use anabranch_crdt::store::DotSet;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let [one, two] = [1, 2].map(|seq| Dot::new(ReplicaIx(0), seq));
    /// assert_eq!(DotSet::from_iter([two, one, two]).as_slice(), [one, two]);
    /// ```
    pub fn as_slice(&self) -> &[Dot] {
        match &self.0 {
            Few::None => &[],
            Few::One(dot) => core::slice::from_ref(dot),
            Few::Many(dots) => dots,
        }
    }

    /// Whether it holds `dot`.
    ///
    /// ```
    /// use anabranch_crdt::store::DotSet;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let dots = DotSet::from_iter([Dot::new(ReplicaIx(0), 2)]);
    /// assert!(dots.contains(Dot::new(ReplicaIx(0), 2)));
    /// assert!(!dots.contains(Dot::new(ReplicaIx(0), 1)));
    /// ```
    pub fn contains(&self, dot: Dot) -> bool {
        self.as_slice().binary_search(&dot).is_ok()
    }

    /// Adds `dot`; false if it was there.
    ///
    /// ```
    /// use anabranch_crdt::store::DotSet;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let mut dots = DotSet::default();
    /// assert!(dots.insert(Dot::new(ReplicaIx(0), 1)));
    /// assert!(!dots.insert(Dot::new(ReplicaIx(0), 1)));
    /// assert_eq!(dots.as_slice().len(), 1);
    /// ```
    pub fn insert(&mut self, dot: Dot) -> bool {
        let Err(at) = self.as_slice().binary_search(&dot) else {
            return false;
        };
        match &mut self.0 {
            Few::None => self.0 = Few::One(dot),
            Few::One(other) => {
                let mut dots = Box::new(vec![*other]);
                dots.insert(at, dot);
                self.0 = Few::Many(dots);
            }
            Few::Many(dots) => dots.insert(at, dot),
        }
        true
    }

    /// Takes `dot` out; false if it was not there.
    ///
    /// ```
    /// use anabranch_crdt::store::DotSet;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let dot = Dot::new(ReplicaIx(0), 1);
    /// let mut dots = DotSet::from_iter([dot]);
    /// assert!(dots.remove(dot));
    /// assert!(!dots.remove(dot));
    /// assert_eq!(dots, DotSet::default());
    /// ```
    pub fn remove(&mut self, dot: Dot) -> bool {
        let Ok(at) = self.as_slice().binary_search(&dot) else {
            return false;
        };
        match &mut self.0 {
            Few::None | Few::One(_) => self.0 = Few::None,
            Few::Many(dots) => {
                dots.remove(at);
                if let [last] = dots[..] {
                    self.0 = Few::One(last); // also what makes the derived equality hold
                }
            }
        }
        true
    }
}

impl FromIterator<Dot> for DotSet {
    fn from_iter<I: IntoIterator<Item = Dot>>(iter: I) -> DotSet {
        let mut set = DotSet::default();
        for dot in iter {
            set.insert(dot);
        }
        set
    }
}

impl DotStore for DotSet {
    type Entry = Dot;

    fn is_empty(&self) -> bool {
        matches!(self.0, Few::None)
    }

    fn entries(&self) -> impl Iterator<Item = Dot> + '_ {
        self.as_slice().iter().copied()
    }

    fn join(&mut self, seen: &impl Seen, theirs: &DotSet, theirs_seen: &impl Seen) -> Diff<Dot> {
        let (go, come) = join_dots(self.entries(), seen, theirs.entries(), theirs_seen);
        go.iter()
            .for_each(|dot| assert!(self.remove(*dot), "{dot:?} came from this very set"));
        come.iter()
            .for_each(|dot| assert!(self.insert(*dot), "{dot:?} was not in this set"));
        Diff {
            added: come,
            removed: go,
        }
    }
}

/// Dots that each carry something.
///
/// Ascending in one piece of memory: a counter or register holds a few, and finds one of many by bisection.
///
/// ```
/// use anabranch_crdt::store::{DotFun, DotStore};
/// use anabranch_crdt::{Context, Dot, ReplicaIx};
///
/// let (a, b) = (Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(1), 1));
/// let mut mine = DotFun::from_iter([(a, "mine")]);
/// let theirs = DotFun::from_iter([(b, "theirs")]);
/// mine.join(&Context::from_iter([a]), &theirs, &Context::from_iter([b]));
/// assert_eq!(mine.as_slice(), [(a, "mine"), (b, "theirs")]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DotFun<V>(Vec<(Dot, V)>);

impl<V> Default for DotFun<V> {
    fn default() -> DotFun<V> {
        DotFun(Vec::new())
    }
}

impl<V> DotFun<V> {
    fn find(&self, dot: Dot) -> Result<usize, usize> {
        self.0.binary_search_by_key(&dot, |(dot, _)| *dot)
    }

    /// The dots with what they carry, ascending.
    ///
    /// ```
    /// use anabranch_crdt::store::DotFun;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let (a, b) = (Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(1), 1));
    /// let fun = DotFun::from_iter([(b, "y"), (a, "x")]);
    /// assert_eq!(fun.as_slice(), [(a, "x"), (b, "y")]);
    /// ```
    pub fn as_slice(&self) -> &[(Dot, V)] {
        &self.0
    }

    /// What `dot` carries.
    ///
    /// ```
    /// use anabranch_crdt::store::DotFun;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let fun = DotFun::from_iter([(Dot::new(ReplicaIx(0), 1), "x")]);
    /// assert_eq!(fun.get(Dot::new(ReplicaIx(0), 1)), Some(&"x"));
    /// assert_eq!(fun.get(Dot::new(ReplicaIx(0), 2)), None);
    /// ```
    pub fn get(&self, dot: Dot) -> Option<&V> {
        self.find(dot).ok().map(|at| &self.0[at].1)
    }

    /// The dots of one replica, ascending.
    ///
    /// ```
    /// use anabranch_crdt::store::DotFun;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let (a, b) = (Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(1), 1));
    /// let fun = DotFun::from_iter([(a, "x"), (b, "y")]);
    /// assert_eq!(fun.of_replica(ReplicaIx(1)), [(b, "y")]);
    /// assert_eq!(fun.of_replica(ReplicaIx(2)), []);
    /// ```
    pub fn of_replica(&self, ix: ReplicaIx) -> &[(Dot, V)] {
        let from = self.0.partition_point(|(dot, _)| dot.ix() < ix);
        let len = self.0[from..].partition_point(|(dot, _)| dot.ix() == ix);
        &self.0[from..from + len]
    }

    /// Adds `dot`; false, and nothing changes, if it was there.
    ///
    /// ```
    /// use anabranch_crdt::store::DotFun;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let mut fun = DotFun::default();
    /// assert!(fun.insert(Dot::new(ReplicaIx(0), 1), "x"));
    /// assert!(!fun.insert(Dot::new(ReplicaIx(0), 1), "y"));
    /// assert_eq!(fun.get(Dot::new(ReplicaIx(0), 1)), Some(&"x"));
    /// ```
    pub fn insert(&mut self, dot: Dot, value: V) -> bool {
        let Err(at) = self.find(dot) else { return false };
        self.0.insert(at, (dot, value));
        true
    }

    /// Takes `dot` out with what it carries.
    ///
    /// ```
    /// use anabranch_crdt::store::DotFun;
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// let mut fun = DotFun::from_iter([(Dot::new(ReplicaIx(0), 1), "x")]);
    /// assert_eq!(fun.remove(Dot::new(ReplicaIx(0), 1)), Some("x"));
    /// assert_eq!(fun.remove(Dot::new(ReplicaIx(0), 1)), None);
    /// ```
    pub fn remove(&mut self, dot: Dot) -> Option<V> {
        self.find(dot).ok().map(|at| self.0.remove(at).1)
    }
}

impl<V> FromIterator<(Dot, V)> for DotFun<V> {
    fn from_iter<I: IntoIterator<Item = (Dot, V)>>(iter: I) -> DotFun<V> {
        let mut fun = DotFun::default();
        for (dot, value) in iter {
            fun.insert(dot, value);
        }
        fun
    }
}

impl<V: Clone + PartialEq> DotStore for DotFun<V> {
    type Entry = (Dot, V);

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn entries(&self) -> impl Iterator<Item = (Dot, V)> + '_ {
        self.0.iter().cloned()
    }

    fn join(&mut self, seen: &impl Seen, theirs: &DotFun<V>, theirs_seen: &impl Seen) -> Diff<(Dot, V)> {
        let dots = |fun: &DotFun<V>| fun.0.iter().map(|(dot, _)| *dot).collect::<Vec<_>>();
        let (go, come) = join_dots(
            dots(self).into_iter(),
            seen,
            dots(theirs).into_iter(),
            theirs_seen,
        );
        let removed: Vec<_> = go
            .into_iter()
            .filter_map(|dot| Some((dot, self.remove(dot)?)))
            .collect();
        let added: Vec<_> = come
            .into_iter()
            .filter_map(|dot| Some((dot, theirs.get(dot)?.clone())))
            .collect();
        for (dot, value) in &added {
            assert!(self.insert(*dot, value.clone()), "{dot:?} was not in this store");
        }
        Diff { added, removed }
    }
}

/// Stores of dots by key; none of them is empty.
///
/// ```
/// use anabranch_crdt::store::{DotMap, DotSet, DotStore};
/// use anabranch_crdt::{Context, Dot, ReplicaIx};
///
/// let dot = Dot::new(ReplicaIx(0), 1);
/// let mut map = DotMap::<&str, DotSet>::default();
/// map.update("x", |dots| dots.insert(dot));
/// assert!(map.get("x").is_some_and(|dots| dots.contains(dot)));
/// map.join(&(), &DotMap::default(), &Context::from_iter([dot])); // they have removed it
/// assert_eq!(map.get("x"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DotMap<K, S>(BTreeMap<K, S>);

impl<K, S> Default for DotMap<K, S> {
    fn default() -> DotMap<K, S> {
        DotMap(BTreeMap::new())
    }
}

impl<K: Ord, S: DotStore> DotMap<K, S> {
    /// How many keys have dots.
    ///
    /// ```
    /// use anabranch_crdt::store::{DotMap, DotSet};
    /// # use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// # let (a, b) = (Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(1), 1));
    /// let mut map = DotMap::<&str, DotSet>::default();
    /// map.update("x", |dots| dots.insert(a) && dots.insert(b));
    /// assert_eq!(map.key_count(), 1); // of two dots
    /// ```
    pub fn key_count(&self) -> usize {
        self.0.len()
    }

    /// The store at `key`.
    ///
    /// ```
    /// use anabranch_crdt::store::{DotMap, DotSet};
    /// # use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// # let dot = Dot::new(ReplicaIx(0), 1);
    /// let mut map = DotMap::<String, DotSet>::default();
    /// map.update("x".to_string(), |dots| dots.insert(dot));
    /// assert_eq!(map.get("x"), Some(&DotSet::from_iter([dot])));
    /// assert_eq!(map.get("y"), None);
    /// ```
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&S>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// The keys that have dots with their stores, ascending.
    ///
    /// ```
    /// use anabranch_crdt::store::{DotMap, DotSet};
    /// # use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// # let (a, b) = (Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(1), 1));
    /// let mut map = DotMap::<&str, DotSet>::default();
    /// map.update("y", |dots| dots.insert(a));
    /// map.update("x", |dots| dots.insert(b));
    /// assert!(map.iter().eq([(&"x", &DotSet::from_iter([b])), (&"y", &DotSet::from_iter([a]))]));
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&K, &S)> + '_ {
        self.0.iter()
    }

    /// The same from `key` on.
    ///
    /// ```
    /// use anabranch_crdt::store::{DotMap, DotSet};
    /// # use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// # let dot = Dot::new(ReplicaIx(0), 1);
    /// let mut map = DotMap::<String, DotSet>::default();
    /// for key in ["z", "x", "y"] {
    ///     map.update(key.to_string(), |dots| dots.insert(dot));
    /// }
    /// assert!(map.iter_from("y").map(|(key, _)| key).eq(["y", "z"]));
    /// ```
    pub fn iter_from<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = (&K, &S)> + '_
    where
        K: Borrow<Q>,
    {
        self.0.range::<Q, _>((Bound::Included(key), Bound::Unbounded))
    }

    /// Changes the store at `key`, an empty one if there is none, and forgets the key if no dot is left.
    ///
    /// ```
    /// use anabranch_crdt::store::{DotMap, DotSet};
    /// # use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// # let dot = Dot::new(ReplicaIx(0), 1);
    /// let mut map = DotMap::<&str, DotSet>::default();
    /// assert!(map.update("x", |dots| dots.insert(dot)));
    /// assert_eq!(map.key_count(), 1);
    /// assert!(map.update("x", |dots| dots.remove(dot)));
    /// assert_eq!(map.key_count(), 0);
    /// ```
    pub fn update<R>(&mut self, key: K, change: impl FnOnce(&mut S) -> R) -> R {
        match self.0.entry(key) {
            btree_map::Entry::Occupied(mut entry) => {
                let result = change(entry.get_mut());
                if entry.get().is_empty() {
                    entry.remove();
                }
                result
            }
            btree_map::Entry::Vacant(entry) => {
                let mut store = S::default();
                let result = change(&mut store);
                if !store.is_empty() {
                    entry.insert(store);
                }
                result
            }
        }
    }

    /// Changes the store at `key` if there is one, and forgets the key if no dot is left.
    ///
    /// ```
    /// use anabranch_crdt::store::{DotMap, DotSet};
    /// # use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// # let dot = Dot::new(ReplicaIx(0), 1);
    /// let mut map = DotMap::<&str, DotSet>::default();
    /// assert_eq!(map.update_existing("x", |dots| dots.insert(dot)), None);
    /// map.update("x", |dots| dots.insert(dot));
    /// assert_eq!(map.update_existing("x", |dots| dots.remove(dot)), Some(true));
    /// assert_eq!(map.key_count(), 0);
    /// ```
    pub fn update_existing<Q: Ord + ?Sized, R>(
        &mut self,
        key: &Q,
        change: impl FnOnce(&mut S) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
    {
        let store = self.0.get_mut(key)?;
        let result = change(store);
        if store.is_empty() {
            self.0.remove(key);
        }
        Some(result)
    }
}

impl<S: DotStore> DotMap<Element, S> {
    /// The store at the key with these bytes.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&S> {
        element::find(&self.0, key)
    }

    /// Changes it if there is one, and forgets the key if no dot is left.
    pub(crate) fn update_found<R>(&mut self, key: &[u8], change: impl FnOnce(&mut S) -> R) -> Option<R> {
        match Element::in_place(key) {
            Some(key) => self.update_existing(&key, change),
            None => self.update_existing(key, change),
        }
    }
}

impl<K: Ord + Clone, S: DotStore> DotStore for DotMap<K, S> {
    type Entry = (K, S::Entry);

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn entries(&self) -> impl Iterator<Item = (K, S::Entry)> + '_ {
        self.0
            .iter()
            .flat_map(|(key, store)| store.entries().map(|entry| (key.clone(), entry)))
    }

    fn join(
        &mut self,
        seen: &impl Seen,
        theirs: &DotMap<K, S>,
        theirs_seen: &impl Seen,
    ) -> Diff<(K, S::Entry)> {
        let nothing = S::default();
        let mut diff = Diff::default();
        let (mut emptied, mut new) = (Vec::new(), Vec::new());
        let mut only_theirs = |key: &K, store: &S, diff: &mut Diff<(K, S::Entry)>| {
            let mut taken = S::default();
            diff.absorb(taken.join(seen, store, theirs_seen), |entry| (key.clone(), entry));
            if !taken.is_empty() {
                new.push((key.clone(), taken));
            }
        };
        let mut rest = theirs.0.iter();
        let mut next = rest.next();
        for (key, store) in &mut self.0 {
            let other = loop {
                let Some((other_key, other)) = next else {
                    break &nothing;
                };
                if other_key == key {
                    next = rest.next();
                    break other;
                }
                if other_key > key {
                    break &nothing;
                }
                only_theirs(other_key, other, &mut diff);
                next = rest.next();
            };
            if store == other {
                continue; // both have it all: most keys of two states that hardly differ
            }
            diff.absorb(store.join(seen, other, theirs_seen), |entry| (key.clone(), entry));
            if store.is_empty() {
                emptied.push(key.clone());
            }
        }
        for (key, store) in next.into_iter().chain(rest) {
            only_theirs(key, store, &mut diff);
        }
        for key in emptied {
            self.0.remove(&key);
        }
        self.0.extend(new);
        diff
    }
}

#[cfg(test)]
mod tests;
