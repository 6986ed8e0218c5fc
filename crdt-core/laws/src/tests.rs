//! A million steps a type, every small history, and the cases that go wrong elsewhere.

use anabranch_crdt::{Clock, Mutation, Type};
use bytes::Bytes;

use crate::exhaustive::{self, Scope};
use crate::{check, random};

const STEPS: u64 = 1_000_000;

#[test]
fn the_bytes_are_those_that_other_versions_wrote() {
    let now = crate::golden::print(crate::golden::FILE).unwrap();
    for (ours, golden) in now.lines().zip(crate::golden::FILE.lines()) {
        assert_eq!(ours, golden);
    }
    assert_eq!(now, crate::golden::FILE);
}

fn million(ty: Type) {
    if let Err(failure) = random::run(ty, 1, STEPS) {
        panic!("within {} steps: {failure}", failure.steps);
    }
}

#[test]
fn a_million_steps_of_gcounter() {
    million(Type::GCounter);
}

#[test]
fn a_million_steps_of_pncounter() {
    million(Type::PnCounter);
}

#[test]
fn a_million_steps_of_lwwregister() {
    million(Type::LwwRegister);
}

#[test]
fn a_million_steps_of_orset() {
    million(Type::OrSet);
}

#[test]
fn a_million_steps_of_gset() {
    million(Type::GSet);
}

#[test]
fn a_million_steps_of_flag() {
    million(Type::Flag);
}

#[test]
fn a_million_steps_of_mvregister() {
    million(Type::MvRegister);
}

#[test]
fn a_million_steps_of_vote() {
    million(Type::Vote);
}

#[test]
fn a_million_steps_of_boundedcounter() {
    million(Type::BoundedCounter);
}

#[test]
fn a_million_steps_of_ormap() {
    million(Type::OrMap);
}

#[test]
fn a_million_steps_of_countermap() {
    million(Type::CounterMap);
}

#[test]
fn a_million_steps_of_registermap() {
    million(Type::RegisterMap);
}

#[test]
fn a_million_steps_of_multimap() {
    million(Type::MultiMap);
}

fn everything(scope: &Scope, at_least: u64) {
    match exhaustive::run(scope) {
        Ok(histories) => assert!(histories >= at_least, "only {histories} histories"),
        Err(failure) => panic!("{}\n{}", failure.1, failure.0),
    }
}

fn words(words: &[&'static str]) -> Vec<Bytes> {
    words.iter().map(|word| (*word).into()).collect()
}

#[test]
fn every_set_of_two_elements_after_five_operations_at_three_replicas() {
    let scope = Scope {
        ty: Type::OrSet,
        replicas: 3,
        operations: 5,
        mutations: vec![
            Mutation::Add(words(&["x"])),
            Mutation::Add(words(&["y"])),
            Mutation::Remove(words(&["x"])),
            Mutation::Clear,
        ],
    };
    everything(&scope, 100_000);
}

#[test]
fn every_register_after_four_writes_at_three_replicas() {
    let set = |value: &'static str, clock: Clock| Mutation::Set {
        value: value.into(),
        clock,
    };
    let scope = Scope {
        ty: Type::LwwRegister,
        replicas: 3,
        operations: 4,
        mutations: vec![
            set("d", Clock::Default),
            set("e", Clock::Custom(1)),
            set("f", Clock::Custom(2)),
        ],
    };
    everything(&scope, 1_000);
}

#[test]
fn every_counter_after_five_operations_at_three_replicas() {
    let scope = Scope {
        ty: Type::PnCounter,
        replicas: 3,
        operations: 5,
        mutations: vec![Mutation::Create, Mutation::Increment(2), Mutation::Increment(-1)],
    };
    everything(&scope, 10_000);
}

#[test]
fn every_bounded_counter_after_five_operations_at_three_replicas() {
    let to = |n| Mutation::Transfer {
        to: crate::replica_id(n),
        amount: 1,
    };
    let scope = Scope {
        ty: Type::BoundedCounter,
        replicas: 3,
        operations: 5,
        mutations: vec![Mutation::Increment(2), Mutation::Increment(-1), to(0), to(1)],
    };
    everything(&scope, 10_000);
}

#[test]
fn every_deletion_after_four_operations_at_three_replicas() {
    let to_first = Mutation::Transfer {
        to: crate::replica_id(0),
        amount: 1,
    };
    let set = |value: &'static str| Mutation::Set {
        value: value.into(),
        clock: Clock::Default,
    };
    let in_map = |mutation| within("k", Type::PnCounter, mutation);
    let add = || Mutation::Add(words(&["x"]));
    for (ty, others) in [
        (Type::PnCounter, vec![Mutation::Increment(2), Mutation::Create]),
        (
            Type::BoundedCounter,
            vec![Mutation::Increment(2), Mutation::Increment(-1), to_first],
        ),
        (Type::OrSet, vec![add(), Mutation::Clear]),
        (Type::Flag, vec![Mutation::Enable, Mutation::Disable]),
        (Type::LwwRegister, vec![set("a"), set("b")]),
        (Type::Vote, vec![Mutation::Vote(true), Mutation::Vote(false)]),
        (
            Type::CounterMap,
            vec![in_map(Mutation::Increment(3)), Mutation::Clear],
        ),
    ] {
        let scope = Scope {
            ty,
            replicas: 3,
            operations: 4,
            mutations: [Mutation::Delete].into_iter().chain(others).collect(),
        };
        everything(&scope, 500);
    }
}

#[test]
fn a_piece_leaves_a_claim_behind_that_its_first_put_leaves_no_room_for() {
    check(
        "ormap causal
         a create ~1
         d < a1
         d in k:ormap in k:ormap in j:lwwregister set an_element_of_more_than_22_bytes ~2",
    )
    .unwrap();
}

#[test]
fn rights_that_were_handed_over_are_used_once() {
    // b uses them while a, which still has a copy from before, joins b's state and its own old one.
    check(
        "boundedcounter causal
         a incr 3
         b << a
         a transfer 3 b
         a incr -1
         b < a2
         b incr -3
         a << b
         b << a",
    )
    .unwrap();
    check(
        "boundedcounter any
         a incr 3
         a transfer 2 b
         b < a2.1
         b incr -2
         c << b
         a incr -2
         c < a2.0
         c << a",
    )
    .unwrap();
}

fn within(key: &'static str, ty: Type, mutation: Mutation) -> Mutation {
    Mutation::Update {
        key: key.into(),
        ty: Some(ty),
        mutation: Box::new(mutation),
    }
}

#[test]
fn every_map_of_two_counters_after_five_operations_at_three_replicas() {
    let scope = Scope {
        ty: Type::CounterMap,
        replicas: 3,
        operations: 5,
        mutations: vec![
            within("k", Type::PnCounter, Mutation::Increment(1)),
            within("j", Type::PnCounter, Mutation::Increment(-2)),
            Mutation::Remove(words(&["k"])),
            Mutation::Remove(words(&["k", "j"])),
        ],
    };
    everything(&scope, 100_000);
}

#[test]
fn every_map_of_two_sets_after_five_operations_at_three_replicas() {
    let scope = Scope {
        ty: Type::OrMap,
        replicas: 3,
        operations: 5,
        mutations: vec![
            within("k", Type::OrSet, Mutation::Add(words(&["x"]))),
            within("k", Type::OrSet, Mutation::Remove(words(&["x"]))),
            within("j", Type::OrSet, Mutation::Add(words(&["x"]))),
            Mutation::Remove(words(&["k"])),
        ],
    };
    everything(&scope, 100_000);
}

fn right(script: &str) {
    check(script).unwrap();
}

// What goes wrong elsewhere.

#[test]
fn a_chunk_of_a_state_is_not_mistaken_for_the_whole() {
    // delta_crdt_ex #65: the receiver took what a chunk did not list for removed.
    right(
        "orset any
         a add u v w x y z
         b << a
         b add t
         a remove u
         b <~ a 40 1
         b <~ a 40 0",
    );
}

#[test]
fn a_gap_does_not_destroy_an_element_on_healthy_replicas() {
    // Orswot of `crdts`: applying a dot beyond a gap makes the missing one count as seen, and so as removed.
    right(
        "orset any
         a add x
         a add y
         b < a2
         c < a1
         c << b
         b << c",
    );
}

#[test]
fn a_removal_that_comes_before_the_additions_it_saw_removes_them() {
    right(
        "orset any
         a add x
         a add x
         b < a1
         b < a2
         b remove x
         c < a1
         c < b1
         d < a1
         d << c
         d < a2",
    );
}

#[test]
fn an_element_added_anew_survives_the_removal_of_the_old() {
    right(
        "orset causal
         a add x
         b < a1
         a add x
         b remove x
         a < b1
         b < a2",
    );
}

#[test]
fn two_removals_of_different_elements_leave_an_empty_set_not_an_absent_one() {
    right(
        "orset causal
         a add x y
         b < a1
         a remove x
         b remove y
         a < b1
         b << a",
    );
}

#[test]
fn equal_clocks_converge() {
    right(
        "lwwregister causal
         a set x @5
         b set y @5
         c set z @5
         a < c1
         a < b1
         b <- a
         c <~ b 1",
    );
}

#[test]
fn an_observed_value_is_superseded_whatever_the_skew() {
    // One hour of milliseconds in the upper bits of a stamp.
    right(
        "lwwregister causal
         a set ahead ~235929600000
         b < a1
         b set behind ~5
         a < b1
         a set again ~235929600001
         b << a",
    );
}

#[test]
fn a_write_at_the_end_of_all_clocks_is_superseded_where_it_was_seen() {
    right(
        "lwwregister causal
         a set last @18446744073709551615
         b < a1
         b set after
         a < b1
         d set other @18446744073709551615
         a < d1",
    );
}

#[test]
fn removed_nested_state_does_not_resurrect_while_the_same_replica_writes_the_key() {
    // `Map` of `crdts`: what was removed with the key comes back with the next write of the same replica.
    right(
        "ormap causal
         a in k:orset add old
         b < a1
         b remove k
         a < b1
         a in k:orset add new
         b < a2
         a in k:orset add newer
         c << a
         b <- c",
    );
}

#[test]
fn an_update_wins_over_a_concurrent_removal_and_brings_nothing_old_with_it() {
    // Akka's ORMap: a removal and an update that cross leave the child with all it had before.
    right(
        "ormap causal
         a in k:orset add old older
         b < a1
         b remove k
         a in k:orset add new
         a < b1
         b < a2
         c <- b",
    );
}

#[test]
fn a_key_removed_and_written_again_does_not_mix_old_and_new() {
    // Akka's ORMap keeps the removed child's state for whoever updates it meanwhile.
    right(
        "ormap causal
         a in k:orset add old
         b << a
         b remove k
         b in k:orset add new
         a in k:orset add other
         a < b1 b2
         b < a2
         c << a",
    );
}

#[test]
fn a_lost_disk_brings_nothing_back_and_takes_nothing_away() {
    // a loses everything and goes on as c, which nobody has heard of.
    right(
        "countermap causal
         a in k:pncounter incr 5
         b < a1
         b in k:pncounter incr 1
         b remove k
         c <- b
         c in k:pncounter incr 2
         b <- c
         a << b",
    );
}

#[test]
fn a_restored_backup_goes_on_under_another_id() {
    // c is a from a backup: what a did since then, and what c does, are different operations.
    right(
        "orset causal
         a add x
         c << a
         a add y
         b << a
         c remove x
         c add w
         b <- c
         c <- b
         a << c",
    );
}

#[test]
fn a_counter_removed_while_incremented_shows_only_what_was_concurrent() {
    right(
        "countermap causal
         a in k:pncounter incr 5
         b < a1
         b remove k
         a in k:pncounter incr 3
         c < a1 a2
         a < b1
         b < a2
         c < b1",
    );
}

#[test]
fn two_concurrent_removals_of_a_counter_do_not_take_it_twice() {
    right(
        "countermap causal
         a in k:pncounter incr 5
         b < a1
         c < a1
         b remove k
         c remove k
         a in k:pncounter incr 1
         a < b1 c1
         b <- c
         c <- a
         b <- a",
    );
}

#[test]
fn a_counter_opened_anew_is_not_counted_from_where_it_was_removed() {
    // protocol-rules, opening mark: whoever still has the reset of 3 must not read -1.
    right(
        "countermap causal
         b in k:pncounter incr 3
         a < b1
         b remove k
         b drop
         a < b2
         b in k:pncounter incr 2
         a < b3
         c <~ a 1",
    );
}

#[test]
fn a_reset_that_comes_before_what_it_resets_counts() {
    // protocol-rules, last = reset: 4 - 5 must never be read.
    right(
        "countermap any
         a in k:pncounter incr 4
         b < a1
         a in k:pncounter incr 1
         a remove k
         a drop
         b < a3
         b < a2
         c < a3 a1",
    );
}

#[test]
fn maps_of_different_types_under_one_key_are_both_kept() {
    right(
        "ormap causal
         a in k:orset add x
         b in k:pncounter incr 1
         a < b1
         b << a
         b remove k
         a in k:orset add y
         a < b2
         b < a2",
    );
}
