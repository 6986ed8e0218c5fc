use bytes::Bytes;
use crdts::ctx::AddCtx;
use crdts::{LWWReg, Map, Orswot};

use super::*;
use crate::store::{DotMap, DotSet, DotStore};
use crate::{Clock, Epoch, Mutation, NodeId, Reading, ReplicaIx, Type};

fn id(n: u128) -> ReplicaId {
    ReplicaId::new(NodeId(n), Epoch(1))
}

fn add(elements: &[&'static str]) -> Mutation {
    Mutation::Add(elements.iter().map(|element| Bytes::from(*element)).collect())
}

fn set(value: &'static str, clock: Option<u64>) -> Mutation {
    Mutation::Set {
        value: value.into(),
        clock: clock.map_or(Clock::Default, Clock::Custom),
    }
}

/// Mutates and returns the operation.
fn local(value: &mut Causal, me: ReplicaId, mutation: &Mutation) -> Op {
    let op = value.mutate(me, 0, mutation).unwrap();
    value.join_op(&op).unwrap();
    op
}

fn elements(value: &Causal) -> Vec<Bytes> {
    let Reading::Elements(elements) = value.read() else {
        panic!("not a set")
    };
    elements
}

#[test]
fn clocks_convert_both_ways_and_under_another_table() {
    let mut here = Replicas::new();
    let vv: VersionVector = [(5, 2), (3, 9)]
        .map(|(n, to)| (here.intern(id(n)).unwrap(), to))
        .into_iter()
        .collect();
    let clock = vv.to_vclock(&here);
    assert_eq!(
        (clock.get(&id(5)), clock.get(&id(3)), clock.get(&id(1))),
        (2, 9, 0)
    );
    assert_eq!(VersionVector::from_vclock(&clock, &mut here), Ok(vv));
    let mut there = Replicas::new();
    there.intern(id(3)).unwrap();
    let translated = VersionVector::from_vclock(&clock, &mut there).unwrap();
    assert_eq!(translated.get(ReplicaIx(0)), 9);
    assert_eq!(translated.to_vclock(&there), clock);
}

#[test]
fn what_has_no_counterpart_is_refused() {
    let mut replicas = Replicas::new();
    for seq in [0, SEQ_MAX + 1] {
        let refused = Dot::from_crdts(&crdts::Dot::new(id(1), seq), &mut replicas);
        assert_eq!(refused, Err(ConvertError::Sequence { seq }));
    }
    assert!(replicas.is_empty());
}

#[test]
fn our_values_work_through_the_traits_of_crdts() {
    let (mut a, mut b) = (Causal::new(Type::OrSet), Causal::new(Type::OrSet));
    let op = a.mutate(id(1), 0, &add(&["x"])).unwrap();
    assert_eq!(a.validate_op(&op), Ok(()));
    a.apply(op);
    let _ = local(&mut b, id(2), &add(&["y"]));
    assert_eq!(a.validate_merge(&b), Ok(()));
    a.merge(b.clone());
    assert_eq!(elements(&a), ["x", "y"]);
    let counter = Causal::new(Type::PnCounter);
    let refused = Err(CausalError::Type {
        mine: Type::OrSet,
        theirs: Type::PnCounter,
    });
    assert_eq!(a.validate_merge(&counter), refused);
    let before = a.clone();
    a.merge(counter);
    assert_eq!(a, before);
}

#[test]
fn validation_names_the_first_operation_that_is_missing() {
    let (mut a, b) = (Causal::new(Type::OrSet), Causal::new(Type::OrSet));
    let first = local(&mut a, id(1), &add(&["x"]));
    let second = local(&mut a, id(1), &Mutation::Clear);
    assert_eq!(b.validate_op(&first), Ok(()));
    assert_eq!(
        b.validate_op(&second),
        Err(CausalError::Gap {
            replica: id(1),
            seq: 1
        })
    );
    let mut c = b.clone();
    c.apply(first);
    assert_eq!(c.validate_op(&second), Ok(()));
}

#[test]
fn contexts_work_through_the_traits_of_crdts() {
    let (mut a, mut b) = (Context::new(), Context::new());
    a.apply(Dot::new(ReplicaIx(0), 2));
    b.apply(Dot::new(ReplicaIx(0), 1));
    a.merge(b);
    let mut vv = VersionVector::new();
    vv.merge(VersionVector::from_iter([(ReplicaIx(0), 2)]));
    assert_eq!(a.as_version_vector(), Some(&vv));
}

#[test]
fn we_differ_on_purpose_an_orswot_loses_an_addition_that_comes_after_a_gap() {
    let op = |member, counter| crdts::orswot::Op::Add {
        dot: crdts::Dot::new(id(1), counter),
        members: vec![member],
    };
    let mut theirs: Orswot<&str, ReplicaId> = Orswot::new();
    theirs.apply(op("second", 2));
    theirs.apply(op("first", 1));
    assert!(
        !theirs.read().val.contains("first"),
        "lost for good, without an error"
    );

    let mut origin = Causal::new(Type::OrSet);
    let (first, second) = (
        local(&mut origin, id(1), &add(&["1"])),
        local(&mut origin, id(1), &add(&["2"])),
    );
    let mut ours = Causal::new(Type::OrSet);
    ours.apply(second);
    ours.apply(first);
    assert_eq!(elements(&ours), ["1", "2"]);
}

#[test]
fn we_differ_on_purpose_an_lwwreg_keeps_either_of_two_writes_with_one_marker() {
    let write = |val| LWWReg { val, marker: 7 };
    let (mut a, mut b) = (write("a"), write("b"));
    a.merge(write("b"));
    b.merge(write("a"));
    assert_ne!(a, b, "the replicas differ for ever");

    let (mut a, mut b) = (Causal::new(Type::LwwRegister), Causal::new(Type::LwwRegister));
    let (from_a, from_b) = (
        local(&mut a, id(1), &set("a", Some(7))),
        local(&mut b, id(2), &set("b", Some(7))),
    );
    a.apply(from_b);
    b.apply(from_a);
    assert_eq!(a, b);
    assert_eq!(
        a.read(),
        Reading::Register(Some("b".into())),
        "the larger replica id"
    );
}

#[test]
fn we_differ_on_purpose_an_lwwreg_drops_a_write_whose_clock_went_back() {
    let mut theirs = LWWReg {
        val: "old",
        marker: 1_000,
    };
    theirs.update("new", 999); // the writer saw "old"; its clock was set back
    assert_eq!(theirs.val, "old");

    let mut ours = Causal::new(Type::LwwRegister);
    for (value, stamp) in [("old", 1_000), ("new", 999)] {
        let op = ours.mutate(id(1), stamp, &set(value, None)).unwrap();
        ours.apply(op);
    }
    assert_eq!(ours.read(), Reading::Register(Some("new".into())));
}

#[test]
fn we_differ_on_purpose_an_emptied_orswot_is_the_same_as_one_that_never_was() {
    let mut theirs: Orswot<&str, ReplicaId> = Orswot::new();
    theirs.apply(theirs.add("x", theirs.read_ctx().derive_add_ctx(id(1))));
    theirs.apply(theirs.rm("x", theirs.read_ctx().derive_rm_ctx()));
    assert_eq!(theirs.read().val, Orswot::<&str, ReplicaId>::new().read().val);

    let mut ours = Causal::new(Type::OrSet);
    assert!(!ours.value().exists());
    let _ = local(&mut ours, id(1), &add(&["x"]));
    let removal = local(&mut ours, id(1), &Mutation::Remove(vec!["x".into()]));
    assert!(ours.value().exists() && elements(&ours).is_empty());
    assert_eq!(removal.delta().parts().len(), 1, "a removal uses a dot");
}

#[test]
fn we_differ_on_purpose_equal_orswots_list_their_elements_in_unequal_order() {
    let fill = || {
        let mut set: Orswot<u32, ReplicaId> = Orswot::new();
        set.apply(set.add_all(0..200, set.read_ctx().derive_add_ctx(id(1))));
        set
    };
    let (a, b) = (fill(), fill());
    assert!(a == b);
    assert!(
        !a.iter().map(|ctx| *ctx.val).eq(b.iter().map(|ctx| *ctx.val)),
        "and so their bytes differ"
    );

    let (mut ours, mut other) = (Causal::new(Type::OrSet), Causal::new(Type::OrSet));
    let (x, y) = (
        local(&mut ours, id(1), &add(&["x"])),
        local(&mut other, id(2), &add(&["y"])),
    );
    ours.apply(y);
    other.apply(x);
    assert_eq!(ours.canonical_bytes(), other.canonical_bytes());
}

/// `a` puts an element into a set in a map; `b`, who saw it, removes the key while `a` adds another element there.
#[test]
fn we_differ_on_purpose_a_map_resurrects_a_nested_element_when_its_key_was_removed() {
    type Nested = Map<u8, Orswot<&'static str, ReplicaId>, ReplicaId>;
    let up = |map: &Nested, element, me| {
        let ctx: AddCtx<ReplicaId> = map.read_ctx().derive_add_ctx(me);
        map.update(1, ctx, |set, ctx| set.add(element, ctx))
    };
    let (mut a, mut b) = (Nested::new(), Nested::new());
    let first = up(&a, "seen", id(1));
    a.apply(first.clone());
    b.apply(first);
    b.apply(b.rm(1, b.get(&1).derive_rm_ctx()));
    a.apply(up(&a, "unseen", id(1)));
    let stale = a.clone();
    a.merge(b.clone());
    b.merge(stale);
    let read = |map: &Nested| {
        let mut all: Vec<_> = map
            .get(&1)
            .val
            .map(|set| set.read().val.into_iter().collect())
            .unwrap_or_default();
        all.sort_unstable();
        all
    };
    assert_eq!(read(&a), ["seen", "unseen"], "removed, and back");
    assert_eq!(read(&b), ["seen", "unseen"]);

    let (seen, unseen) = (Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(0), 2));
    let mut ours: DotMap<u8, DotMap<&str, DotSet>> = DotMap::default();
    for (element, dot) in [("seen", seen), ("unseen", unseen)] {
        ours.update(1, |set| set.update(element, |dots| dots.insert(dot)));
    }
    let context = Context::from_iter([seen, unseen]);
    let theirs = (DotMap::default(), Context::from_iter([seen]));
    ours.join(&context, &theirs.0, &theirs.1);
    assert_eq!(ours.entries().collect::<Vec<_>>(), [(1, ("unseen", unseen))]);
}
