//! A million steps a type, every small history, and the cases that go wrong elsewhere.

use anabranch_crdt::{Clock, Mutation, Type};
use bytes::Bytes;

use crate::exhaustive::{self, Scope};
use crate::{check, random};

const STEPS: u64 = 1_000_000;

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
