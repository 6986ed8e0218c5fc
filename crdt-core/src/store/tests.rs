//! The laws of the join, for every store, against the naive model: a dot is unseen, alive or removed at a side, in
//! this order, and the join takes the later of the two.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::context::Context;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Unseen,
    Alive,
    Removed,
}

/// What one side knows of every dot there is.
type Fates = BTreeMap<Dot, Fate>;

fn fates() -> impl Strategy<Value = Fates> {
    let fate = prop_oneof![Just(Fate::Unseen), Just(Fate::Alive), Just(Fate::Removed)];
    prop::collection::vec(fate, 18).prop_map(|fates| {
        let dots = (0..3).flat_map(|ix| (1..=6).map(move |seq| Dot::new(ReplicaIx(ix), seq)));
        dots.zip(fates).collect()
    })
}

fn later(a: &Fates, b: &Fates) -> Fates {
    a.iter().map(|(dot, fate)| (*dot, *fate.max(&b[dot]))).collect()
}

fn seen(fates: &Fates) -> Context {
    fates
        .iter()
        .filter(|(_, fate)| **fate != Fate::Unseen)
        .map(|(dot, _)| *dot)
        .collect()
}

fn alive(fates: &Fates) -> impl Iterator<Item = Dot> {
    fates
        .iter()
        .filter(|(_, fate)| **fate == Fate::Alive)
        .map(|(dot, _)| *dot)
}

/// A store under test: how it is made of dots. Where a dot lives and what it carries follows from the dot.
trait Made: DotStore + std::fmt::Debug {
    fn make(dots: impl Iterator<Item = Dot>) -> Self;
}

impl Made for DotSet {
    fn make(dots: impl Iterator<Item = Dot>) -> DotSet {
        dots.collect()
    }
}

impl Made for DotFun<u64> {
    fn make(dots: impl Iterator<Item = Dot>) -> DotFun<u64> {
        dots.map(|dot| (dot, dot.seq() * 10)).collect()
    }
}

impl<S: Made> Made for DotMap<u64, S> {
    fn make(dots: impl Iterator<Item = Dot>) -> DotMap<u64, S> {
        let mut by_key: BTreeMap<u64, Vec<Dot>> = BTreeMap::new();
        for dot in dots {
            by_key.entry(dot.seq() % 3).or_default().push(dot);
        }
        let mut map = DotMap::default();
        for (key, dots) in by_key {
            map.update(key, |store| *store = S::make(dots.into_iter()));
        }
        map
    }
}

fn laws<S: Made>(a: &Fates, b: &Fates, c: &Fates) {
    let join = |a: &Fates, b: &Fates| {
        let mut store = S::make(alive(a));
        let diff = store.join(&seen(a), &S::make(alive(b)), &seen(b));
        let count = |fates: &Fates| alive(fates).count();
        let both = later(a, b);
        assert_eq!(store, S::make(alive(&both)), "the naive model");
        assert_eq!(
            count(&both) + diff.removed.len(),
            count(a) + diff.added.len(),
            "the difference adds up"
        );
        assert_eq!(store.entries().count(), count(&both));
        assert_eq!(diff.is_empty(), store == S::make(alive(a)));
        both
    };
    assert_eq!(join(a, b), join(b, a), "commutative");
    assert_eq!(join(&join(a, b), c), join(a, &join(b, c)), "associative");
    assert_eq!(join(a, a), *a, "idempotent");
    let nothing = later(a, a).into_keys().map(|dot| (dot, Fate::Unseen)).collect();
    assert_eq!(join(a, &nothing), *a, "nothing is the bottom");
}

proptest! {
    #[test]
    fn every_store_obeys_the_laws(a in fates(), b in fates(), c in fates()) {
        laws::<DotSet>(&a, &b, &c);
        laws::<DotFun<u64>>(&a, &b, &c);
        laws::<DotMap<u64, DotSet>>(&a, &b, &c);
        laws::<DotMap<u64, DotFun<u64>>>(&a, &b, &c);
        laws::<DotMap<u64, DotMap<u64, DotSet>>>(&a, &b, &c);
    }

    #[test]
    fn a_dot_set_is_a_set(ops in prop::collection::vec((any::<bool>(), 1..6_u64), 0..40)) {
        let (mut set, mut model) = (DotSet::default(), std::collections::BTreeSet::new());
        for (add, seq) in ops {
            let dot = Dot::new(ReplicaIx(0), seq);
            if add {
                prop_assert_eq!(set.insert(dot), model.insert(dot));
            } else {
                prop_assert_eq!(set.remove(dot), model.remove(&dot));
            }
            prop_assert!(set.as_slice().iter().eq(&model));
            prop_assert_eq!(&set, &model.iter().copied().collect::<DotSet>());
        }
    }
}

#[test]
fn a_map_forgets_a_key_without_dots() {
    let dot = Dot::new(ReplicaIx(0), 1);
    let mut map: DotMap<u8, DotSet> = DotMap::default();
    map.update(1, |_| ());
    assert!(map.is_empty());
    map.update(1, |set| set.insert(dot));
    assert_eq!(map.key_count(), 1);
    assert_eq!(map.update_existing(&1, |set| set.remove(dot)), Some(true));
    assert_eq!((map.key_count(), map.update_existing(&1, |_| ())), (0, None));
}

#[test]
fn the_dots_of_one_replica_are_found_among_all() {
    let dot = |ix, seq| Dot::new(ReplicaIx(ix), seq);
    let fun: DotFun<u8> = [(dot(2, 9), 9), (dot(0, 3), 3), (dot(1, 5), 5), (dot(1, 4), 4)]
        .into_iter()
        .collect();
    assert_eq!(fun.of_replica(ReplicaIx(1)), [(dot(1, 4), 4), (dot(1, 5), 5)]);
    assert_eq!(fun.of_replica(ReplicaIx(3)), []);
}
