use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

type Run = (u16, u64, u64);

fn runs() -> impl Strategy<Value = Vec<Run>> {
    prop::collection::vec(
        (0..3_u16, 0..12_u64, 0..4_u64).prop_map(|(ix, from, len)| (ix, from, from + len)),
        0..12,
    )
}

fn build(runs: &[Run]) -> (Context, BTreeSet<(u16, u64)>) {
    let (mut context, mut model) = (Context::new(), BTreeSet::new());
    for (ix, from, to) in runs {
        context.insert_run(ReplicaIx(*ix), *from, *to);
        model.extend((from + 1..=*to).map(|seq| (*ix, seq)));
    }
    (context, model)
}

fn all_dots() -> impl Iterator<Item = (u16, u64)> {
    (0..3).flat_map(|ix| (1..20).map(move |seq| (ix, seq)))
}

proptest! {
    #[test]
    fn a_context_is_the_set_of_its_dots(a in runs(), b in runs()) {
        let ((mut x, mut model), (y, other)) = (build(&a), build(&b));
        for (ix, seq) in all_dots() {
            prop_assert_eq!(x.contains(Dot::new(ReplicaIx(ix), seq)), model.contains(&(ix, seq)));
        }
        prop_assert_eq!(x.covers(&y), model.is_superset(&other));
        prop_assert_eq!(x == y, model == other);
        prop_assert_eq!(x.intersects(&y), !model.is_disjoint(&other));
        let dots: Vec<Dot> = other.iter().map(|(ix, seq)| Dot::new(ReplicaIx(*ix), *seq)).collect();
        let rest: Context = model.difference(&other).map(|(ix, seq)| Dot::new(ReplicaIx(*ix), *seq)).collect();
        prop_assert_eq!(x.without(&dots), rest);
        x.join(&y);
        model.extend(&other);
        prop_assert!(x.covers(&y));
        // However it came about, the representation is the one of the set.
        let one_by_one: Context = model.iter().rev().map(|(ix, seq)| Dot::new(ReplicaIx(*ix), *seq)).collect();
        prop_assert_eq!(&x, &one_by_one);
        prop_assert_eq!(x.is_contiguous(), model.iter().all(|(ix, seq)| *seq == 1 || model.contains(&(*ix, seq - 1))));
        prop_assert_eq!(x.is_empty(), model.is_empty());
    }

    #[test]
    fn a_version_vector_is_a_context_without_runs(a in prop::collection::vec((0..4_u16, 0..5_u64), 0..6),
                                                  b in prop::collection::vec((0..4_u16, 0..5_u64), 0..6)) {
        let build = |list: &[(u16, u64)]| list.iter().map(|(ix, to)| (ReplicaIx(*ix), *to)).collect::<VersionVector>();
        let (mut x, y) = (build(&a), build(&b));
        let (mut as_context, other) = (Context::from(x.clone()), Context::from(y.clone()));
        prop_assert_eq!(x.covers(&y), as_context.covers(&other));
        prop_assert_eq!(x == y, as_context == other);
        x.join(&y);
        as_context.join(&other);
        prop_assert_eq!(as_context.as_version_vector(), Some(&x));
        prop_assert_eq!(x.iter().collect::<VersionVector>(), x);
    }
}

#[test]
fn entries_of_zero_make_no_difference() {
    let mut vv = VersionVector::from_iter([(ReplicaIx(5), 0)]);
    assert!(vv.is_empty() && vv == VersionVector::new());
    vv.advance(ReplicaIx(2), 1);
    assert_eq!(vv.iter().collect::<Vec<_>>(), [(ReplicaIx(2), 1)]);
}

#[test]
fn a_gap_is_closed_by_the_run_that_fills_it() {
    let ix = ReplicaIx(0);
    let mut context = Context::from_iter([Dot::new(ix, 2), Dot::new(ix, 4), Dot::new(ix, 5)]);
    assert_eq!(context.as_version_vector(), None);
    assert_eq!(context.runs().collect::<Vec<_>>(), [(ix, 1, 2), (ix, 3, 5)]);
    context.insert_run(ix, 0, 3);
    assert_eq!(context.as_version_vector().map(|vv| vv.get(ix)), Some(5));
}
