//! The agreement with the `crdts` crate, for the types it gets right: random histories of several nodes, in causal
//! order and under version vectors, as a shard has them. The laws have a package of their own, `crdt-core/laws`.

mod cluster;
mod oracle;

use proptest::prelude::*;

use self::cluster::{Cluster, Step, steps};
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

    #[test]
    fn growing_sets_converge_as_crdts_says(steps in steps(Type::GSet)) {
        check(Type::GSet, &steps);
    }

    #[test]
    fn multi_value_registers_converge_as_crdts_says(steps in steps(Type::MvRegister)) {
        check(Type::MvRegister, &steps);
    }
}
