//! The laws of all four types, over random histories of several nodes.

mod cluster;
mod oracle;

use proptest::prelude::*;

use self::cluster::{Cluster, NODES, Step, steps};
use crate::*;

/// Runs a history and checks at every step what must always hold; then brings everything everywhere.
fn check(ty: Type, steps: &[Step]) {
    let mut cluster = Cluster::new(ty);
    for step in steps {
        cluster.run(step);
        cluster.check();
    }
    cluster.heal();
    cluster.check();
    let first = &cluster.nodes[0];
    for node in &cluster.nodes {
        assert_eq!(node.past(), first.past(), "healed");
        assert_eq!(node.bytes(), first.bytes());
    }
}

proptest! {
    #[test]
    fn gcounters_converge_as_crdts_and_the_model_say(steps in steps(Type::GCounter)) {
        check(Type::GCounter, &steps);
    }

    #[test]
    fn pncounters_converge_as_crdts_and_the_model_say(steps in steps(Type::PnCounter)) {
        check(Type::PnCounter, &steps);
    }

    #[test]
    fn registers_converge_as_crdts_says(steps in steps(Type::LwwRegister)) {
        check(Type::LwwRegister, &steps);
    }

    #[test]
    fn sets_converge_as_crdts_and_the_model_say(steps in steps(Type::OrSet)) {
        check(Type::OrSet, &steps);
    }
}

/// Values on their own, with the operations that made them, from a history in which operations travel singly, out
/// of order and more than once.
fn scattered(ty: Type, steps: &[Step]) -> (Vec<Causal>, Vec<Op>) {
    let mut values = vec![Causal::new(ty); NODES];
    let mut ops: Vec<Op> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Mutate { node, mutation } => {
                let me = ReplicaId::new(NodeId(*node as u128), Epoch(1));
                let op = values[*node].mutate(me, at as u64 / 4, mutation).unwrap();
                values[*node].join_op(&op).unwrap();
                if !op.delta().is_empty() {
                    ops.push(op);
                }
            }
            Step::Deliver { to, pick } | Step::Again { to, pick } => {
                if let Some(op) = ops.get(pick % ops.len().max(1)) {
                    values[*to].join_op(op).unwrap();
                }
            }
            Step::Group { to, count } => {
                for op in ops.iter().rev().take(*count) {
                    values[*to].join_op(op).unwrap();
                }
            }
            Step::Join { to, from } => {
                let from = values[*from].clone();
                values[*to].join(&from).unwrap();
            }
        }
    }
    (values, ops)
}

fn joined(a: &Causal, b: &Causal) -> Causal {
    let mut both = a.clone();
    both.join(b).unwrap();
    both
}

fn any_type() -> impl Strategy<Value = (Type, Vec<Step>)> {
    prop::sample::select(Type::ALL.to_vec()).prop_flat_map(|ty| (Just(ty), steps(ty)))
}

proptest! {
    #[test]
    fn the_join_of_states_is_commutative_associative_and_idempotent((ty, steps) in any_type()) {
        let (values, _) = scattered(ty, &steps);
        for a in &values {
            prop_assert_eq!(&joined(a, a), a);
            prop_assert_eq!(&joined(a, &Causal::new(ty)), a);
            for b in &values {
                let ab = joined(a, b);
                prop_assert_eq!(&ab, &joined(b, a));
                prop_assert_eq!(&joined(&ab, b), &ab);
                for c in &values {
                    prop_assert_eq!(joined(&ab, c), joined(a, &joined(b, c)));
                }
            }
        }
    }

    #[test]
    fn operations_in_any_order_and_repetition_reach_what_the_states_reach(
        (ty, steps) in any_type(),
        order in any::<prop::sample::Index>(),
        seed in prop::collection::vec(any::<usize>(), 64),
    ) {
        let (values, ops) = scattered(ty, &steps);
        let mut by_state = Causal::new(ty);
        for value in &values {
            by_state.join(value).unwrap();
        }
        let mut shuffled: Vec<&Op> = ops.iter().collect();
        for (at, other) in seed.iter().enumerate().take(shuffled.len()) {
            let other = other % shuffled.len();
            shuffled.swap(at, other);
        }
        if let Some(twice) = (!ops.is_empty()).then(|| order.get(&ops)) {
            shuffled.push(twice);
        }
        let mut by_op = Causal::new(ty);
        for op in shuffled {
            by_op.join_op(op).unwrap();
        }
        prop_assert!(by_op.seen().is_contiguous());
        prop_assert_eq!(&by_op.canonical_bytes(), &by_state.canonical_bytes());
        prop_assert_eq!(by_op, by_state);
    }

    #[test]
    fn a_delta_joins_like_the_state_that_holds_it((ty, steps) in any_type()) {
        let (values, ops) = scattered(ty, &steps);
        for value in &values {
            for op in &ops {
                let (mut by_op, mut state) = (value.clone(), Causal::new(ty));
                by_op.join_op(op).unwrap();
                state.join_op(op).unwrap();
                prop_assert_eq!(by_op, joined(value, &state));
            }
        }
    }
}
