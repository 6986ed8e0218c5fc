//! The counterexamples behind the replication rules, each as the script that breaks an engine without its rule. After
//! every line the world checks that equal vectors mean equal state, so a node kept at an earlier vector is a witness.

use super::world::{check, check_with};
use crate::engine::Limits;

/// Rings so short that peers fall behind them.
fn short_rings() -> Limits {
    Limits {
        ring_slots_max: 1,
        ..Limits::default()
    }
}

#[test]
fn clean_cut_a_put_and_its_overwriting_are_never_cut_apart() {
    // c is the witness with A1: it shows p. A batch (0,1] to b would cover A1 and show nothing.
    let limits = Limits {
        part_bytes: 1,
        ..Limits::default()
    };
    check_with(
        "abc",
        limits,
        "link a b\n link a c\n run\n a s/x add p\n pass a c\n c s/x = [p]\n lose a b\n a s/x add p\n a s/y add q\n cut a b\n link a b
         pass a b\n pass b a\n pass a b\n pass b a\n pass a b\n pass b a\n pass a b\n pass b a\n pass a b\n pass b a\n pass a b\n pass b a\n b s/x = [p]\n run\n wait 1000\n equal a b\n equal a c",
    );
}

#[test]
fn deps_a_put_that_another_origin_killed_needs_its_killer() {
    // d is the witness with A1 alone. c gets A's stream, in which A1 is dead, without B1 that killed it.
    check(
        "abcd",
        "link a b\n link a c\n link a d\n run\n a s/x add p\n pass a b\n pass a d\n lose a c\n cut a d\n b s/x add p\n pass b a\n cut a c\n link a c
         pass a c\n pass c a\n pass a c\n pass c a\n pass a c\n run\n wait 1000\n c s/x = [p]\n equal a c",
    );
}

#[test]
fn kills_of_puts_an_overwriting_names_what_it_kills() {
    let world = check(
        "ab",
        "link a b\n run\n a r/x set one @1\n run\n a r/x set two @2\n run\n b r/x = two\n equal a b",
    );
    assert_eq!(world.engine('b').live(crate::wire::ShardId(0)).len(), 1);
}

#[test]
fn record_no_ops_an_operation_without_effect_is_passed_on() {
    // b gets the add and the removal at once: no effect there, but c, which has the add, must hear of the removal.
    check(
        "abc",
        "link a c\n run\n a s/x add p\n run\n c s/x = [p]\n cut a c\n a s/x remove p\n link a b\n run\n cut a b\n link b c\n wait 6000
         c s/x = []\n equal b c",
    );
}

#[test]
fn deps_above_base_a_removal_waits_for_what_a_ring_has_let_go() {
    // b has trimmed C1 and removes p = C1. a, which has nothing of c, must not take the removal alone: it would take C1
    // from c later, and p would be back.
    check_with(
        "abc",
        short_rings(),
        "link b c\n run\n c s/x add p\n c s/y add q\n c s/y add r\n wait 9000\n b s/x = [p]\n cut b c\n b s/x remove p\n link a b\n wait 200\n link a c
         wait 9000\n a s/x = []\n c s/x = []\n equal a b\n equal a c",
    );
}

#[test]
fn a_pull_brings_all_origins_at_once() {
    // c pulls from b, which has overwritten p in an operation it then loses: the operation lives on, on all nodes.
    check(
        "abc",
        "link a b\n run\n a s/x add p\n run\n cut a b\n sync b\n b s/x add p\n link b c\n wait 1000\n c s/x = [p]\n crash b\n start b\n b s/x = [p]
         link b c\n wait 6000\n equal b c\n link a b\n wait 6000\n equal a b",
    );
}

#[test]
fn snapshot_context_what_was_overwritten_does_not_come_back() {
    let world = check_with(
        "ac",
        short_rings(),
        "link a c\n run\n a r/x set one @1\n run\n cut a c\n a r/x set two @2\n a r/y set v @1\n a r/z set v @1\n link a c\n wait 9000
         c r/x = two\n equal a c",
    );
    assert_eq!(world.engine('a').counters().snapshots_served, 1);
    assert_eq!(world.engine('c').live(crate::wire::ShardId(0)).len(), 3);
}

#[test]
fn snapshot_range_what_a_range_does_not_list_is_dead() {
    check_with(
        "ab",
        short_rings(),
        "link a b\n run\n b s/x add p q\n wait 9000\n a s/x = [p q]\n cut a b\n b s/x remove p\n b s/x remove q\n b s/y add r\n link a b\n wait 9000
         a s/x = []\n equal a b",
    );
}

#[test]
fn snapshot_base_who_took_one_does_not_serve_what_is_below_it() {
    // c has B1 from a snapshot and no slot for it: a must not get an empty interval that covers B1.
    check_with(
        "abc",
        short_rings(),
        "link b c\n run\n cut b c\n b s/x add p\n b s/y add q\n b s/z add r\n link b c\n wait 9000\n c s/x = [p]\n cut b c\n link a c\n wait 9000
         a s/x = [p]\n equal a c",
    );
}

#[test]
fn a_broken_snapshot_leaves_no_trace() {
    let limits = Limits {
        ring_slots_max: 1,
        part_bytes: 64,
        ..Limits::default()
    };
    let elements: Vec<String> = (0..40).map(|i| format!("element-{i}")).collect();
    let script = format!(
        "link a b\n run\n cut a b\n a s/x add {}\n a s/y add e\n link a b\n pass a b\n pass b a\n pass a b\n pass b a\n pass a b\n pass b a\n pass a b
         b s/x absent\n cut a b\n b s/x absent\n link a b\n wait 9000\n equal a b",
        elements.join(" ")
    );
    check_with("ab", limits, &script);
}

#[test]
fn old_epochs_are_streams_like_any_other() {
    check(
        "abc",
        "link a b\n run\n a p/x incr 1\n run\n sync a\n sync b\n crash a\n start a\n link a b\n wait 1000\n a p/x incr 1\n run\n sync a\n crash a\n start a
         link a b\n wait 1000\n a p/x incr 1\n run\n b p/x = 3\n link b c\n wait 6000\n c p/x = 3\n equal b c",
    );
}

#[test]
fn delete_takes_what_it_saw_and_an_unseen_update_survives() {
    check(
        "abc",
        "link a b\n link b c\n run\n a s/x add p q\n a p/n incr 5\n wait 6000\n cut a b\n a s/x delete\n a p/n delete\n a s/x absent\n a p/n absent
         b s/x add r\n b p/n incr 2\n run\n c s/x = [p q r]\n c p/n = 7\n link a b\n run\n wait 6000
         a s/x = [r]\n c s/x = [r]\n a p/n = 2\n c p/n = 2\n equal a b\n equal a c",
    );
}

#[test]
fn deleting_what_is_not_there_is_nothing_and_a_deleted_entity_can_be_made_again() {
    let world = check(
        "ab",
        "link a b\n run\n a s/x delete\n b s/x absent\n a s/x add p\n run\n b s/x delete\n run\n a s/x absent\n a s/x delete\n a s/x create\n run
         b s/x = []\n equal a b\n b s/x delete\n a p/n incr 4\n a p/n delete\n a p/n incr 1\n run\n wait 6000\n b p/n = 1\n a s/x absent\n equal a b",
    );
    let all = world.engine('a').version_vector(crate::wire::ShardId(0));
    let issued: u64 = all.iter().map(|(_, seq)| seq).sum();
    assert_eq!(issued, 7, "what changes nothing uses no dot");
}

#[test]
fn delete_a_late_delivery_does_not_bring_it_back() {
    // c has p; a takes it from b and deletes it; c, which is behind, meets a first by a snapshot and then by b's stream.
    check_with(
        "abc",
        short_rings(),
        "link b c\n link a b\n run\n b s/x add p\n wait 9000\n cut b c\n a s/x delete\n a s/y add q\n a s/z add r\n wait 9000\n a s/x absent
         c s/x = [p]\n cut a b\n link a c\n wait 9000\n c s/x absent\n link b c\n wait 9000\n b s/x absent\n equal a c\n equal b c",
    );
}

#[test]
fn delete_leaves_nothing_once_all_have_seen_it() {
    let world = check(
        "ab",
        "link a b\n run\n a s/x add p q r\n run\n b s/x delete\n run\n sync a\n sync b\n wait 9000\n sync a\n sync b\n wait 9000\n a s/x absent\n equal a b",
    );
    for node in ['a', 'b'] {
        assert_eq!(world.engine(node).live(crate::wire::ShardId(0)).len(), 0);
        let rows = &world.engine(node).shards[0].entities;
        assert!(rows.is_empty(), "{node} keeps {} rows of it", rows.len());
    }
}
