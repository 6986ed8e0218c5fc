//! Majority reads: never older than what a majority has, and kept by one before they are shown.

use super::world::{check, check_with};
use crate::engine::Limits;
use crate::wire::Frame;

#[test]
fn a_majority_read_is_shown_once_what_others_have_is_here_and_kept() {
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n cut a c\n cut b c\n a majority p/x incr 5\n run\n sync a\n sync b\n run\n answers a 1
         c p/x absent\n link b c\n c asks p/x\n answers c 0\n run\n c p/x = 5\n sync c\n run\n wait 300\n answers c 1",
    );
}

#[test]
fn a_majority_read_waits_for_a_majority_and_says_that_there_is_none() {
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n a durable p/x incr 1\n run\n sync a\n sync b\n sync c\n wait 9000\n answers a 1
         cut a b\n cut a c\n a asks p/x\n wait 999\n answers a 0\n wait 1\n refused a stale
         a asks p/x\n link a b\n run\n sync a\n sync b\n wait 600\n answers a 1",
    );
}

#[test]
fn what_one_node_alone_has_is_shown_when_a_majority_keeps_it() {
    // What is shown must not vanish again with the one that had it.
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n wait 9000\n cut a b\n cut a c\n a durable p/x incr 1\n sync a\n answers a 1\n cut b c\n link a b
         b asks p/x\n run\n b p/x = 1\n answers b 0\n sync b\n run\n wait 300\n answers b 1\n cut a b\n link b c\n c asks p/x\n run\n sync c\n run
         wait 300\n answers c 1\n c p/x = 1",
    );
}

#[test]
fn a_majority_read_of_a_node_alone_is_a_read() {
    check("a", "a p/x incr 1\n sync a\n a asks p/x\n answers a 2");
    let limits = Limits {
        requests_max: 1,
        ..Limits::default()
    };
    check_with(
        "ab",
        limits,
        "link a b\n run\n wait 9000\n cut a b\n a asks p/x\n a asks p/x\n refused a overloaded\n wait 1000\n refused a stale",
    );
}

#[test]
fn what_came_while_a_majority_was_waited_for_is_not_shown() {
    // Nobody else has it: a majority read elsewhere, later, would show less.
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n wait 9000\n a p/x incr 1\n run\n b p/x = 1\n answers a 1\n b asks p/x\n run\n answers b 0
         b p/x incr 10\n b p/x = 11\n answers b 1\n sync a\n sync b\n run\n wait 300\n answers b 1\n b showed p/x = 1",
    );
}

#[test]
fn what_was_asked_for_and_the_word_that_this_is_it_are_one_frame() {
    // Had the word come first, what the peer had long before would have been taken for what it has.
    let mut world = check(
        "ab",
        "link a b\n run\n a durable p/x incr 1\n sync a\n run\n sync b\n run\n wait 9000",
    );
    world.sent.clear();
    world.script("a asks p/x\n run");
    let told = world.sent.iter().filter(|(from, _)| *from == 'b');
    let told: Vec<Frame> = told
        .map(|(_, frame)| Frame::decode(frame).unwrap().unwrap())
        .collect();
    let is_whole = |frame: &Frame| matches!(frame, Frame::Tell(tell) if tell.said.shards.len() == 1);
    assert!(told.len() == 1 && is_whole(&told[0]), "{told:?}");
}

#[test]
fn who_has_it_on_its_disk_already_when_it_is_linked_is_asked_so_though_something_is_always_new() {
    // What a new link says first is a sum, and by the sum of a shard a peer has the same, wherever it has it.
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n wait 9000\n cut a c\n a all p/x incr 5\n run\n sync a\n sync b\n wait 1000\n sync c\n wait 1000
         c p/x = 5\n answers a 0\n c p/z incr 1\n cut b c\n link a c\n run\n answers a 1",
    );
}

#[test]
fn a_majority_read_needs_no_disk_of_its_own_where_others_keep_it() {
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n wait 9000\n a durable p/x incr 5\n run\n sync a\n sync b\n wait 1000\n answers a 1
         c p/x = 5\n c asks p/x\n run\n wait 300\n answers c 1\n c showed p/x = 5",
    );
}

#[test]
fn who_told_before_it_counted_is_counted_once_it_does() {
    // Both have just started when they are asked: the question is the second thing on a new link.
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n a durable p/x incr 1\n run\n sync a\n sync b\n sync c\n wait 9000\n answers a 1
         cut a b\n cut a c\n cut b c\n crash b\n crash c\n a asks p/x\n run\n answers a 0\n start b\n link a b\n run\n sync b\n run\n answers a 1",
    );
    // And where the one that asks counts last.
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n a durable p/x incr 1\n run\n sync a\n sync b\n sync c\n wait 9000\n answers a 1
         cut a b\n cut a c\n crash a\n start a\n answers a 0\n a asks p/x\n link a b\n run\n sync a\n sync b\n run\n answers a 1\n a showed p/x = 1",
    );
}

#[test]
fn who_asks_a_node_that_counts_for_no_majority_yet_is_told_why() {
    let mut world = check(
        "abc",
        "link a b\n link a c\n run\n sync a\n crash a\n start a\n a majority p/x incr 1\n sync a\n wait 60000\n refused a unconfirmed",
    );
    let refusal = world.refusal('a');
    assert!(
        refusal.contains("0 of 2 copies (majority)") && refusal.contains("own copy counts"),
        "{refusal}"
    );
    world.script(
        "link a b\n run\n cut a b\n a majority p/x incr 1\n sync a\n wait 60000\n refused a unconfirmed",
    );
    let refusal = world.refusal('a');
    assert!(
        refusal.contains("1 of 2 copies (majority)") && !refusal.contains("own copy counts"),
        "{refusal}"
    );
}
