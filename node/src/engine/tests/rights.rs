//! Bounded counters: what each run of a node may take away, and what it leaves to the next.

use anabranch_crdt::Mutation;

use super::world::{check, node_id};
use crate::engine::Input;

#[test]
fn a_bounded_counter_never_falls_below_its_bound_on_any_side_of_a_partition() {
    check(
        "abc",
        "link a b\n link b c\n link a c\n run\n a e/x incr 10\n sync a\n run\n b e/x = 10\n b e/x incr -1\n refused b rights
         cut a b\n cut a c\n a e/x incr -10\n a e/x incr -1\n refused a rights\n b e/x incr -1\n refused b rights
         sync a\n link a b\n wait 6000\n a e/x = 0\n b e/x = 0\n c e/x = 0\n equal a b",
    );
}

#[test]
fn rights_that_were_handed_over_move_and_do_not_multiply() {
    check(
        "ab",
        "link a b\n run\n a e/x incr 10\n a e/x transfer 4 b2\n a e/x incr -7\n refused a rights\n a e/x incr -6\n sync a\n run
         b e/x = 4\n b e/x incr -4\n b e/x incr -1\n refused b rights\n sync b\n run\n a e/x = 0\n equal a b",
    );
}

#[test]
fn operations_of_one_update_hold_together_what_they_take() {
    let mut world = check("a", "");
    let all = |by: &[i64]| by.iter().map(|by| Mutation::Increment(*by)).collect();
    world.update_all('a', "e/x", all(&[5, -3]));
    world.script("a e/x = 2");
    world.update_all('a', "e/x", all(&[-2, -1]));
    world.script("refused a rights\n a e/x = 2");
    world.update_all('a', "e/x", all(&[-2, 1, -1]));
    world.script("a e/x = 0");
}

#[test]
fn what_is_done_to_a_bounded_counter_leaves_once_it_is_on_the_disk() {
    // Were it to leave before, a crash would leave a directory that does not know what its last run has spent.
    check(
        "ab",
        "link a b\n run\n a e/x incr 10\n run\n b e/x absent\n sync a\n run\n b e/x = 10\n a e/x incr -4\n a e/x transfer 1 b2\n run
         b e/x = 10\n b e/x incr -1\n refused b rights\n sync a\n run\n b e/x = 6\n b e/x incr -1\n b e/x = 5",
    );
}

#[test]
fn what_a_run_held_is_the_next_ones_once_every_member_has_said_what_it_has() {
    check(
        "abc",
        "link a b\n link a c\n run\n a e/x incr 10\n sync a\n run\n b e/x incr 2\n sync b\n run\n a e/x incr -3\n crash a\n start a\n a e/x = 10
         a e/x incr -1\n refused a rights\n link a b\n run\n a e/x incr -1\n refused a rights\n link a c\n run
         a e/x incr -11\n refused a rights\n a e/x incr -10\n a e/x = 2\n sync a\n run\n b e/x = 2\n c e/x = 2\n equal a b\n equal a c",
    );
}

#[test]
fn what_was_handed_to_a_run_that_did_nothing_itself_is_the_next_ones() {
    check(
        "ab",
        "link a b\n run\n a e/x incr 10\n a e/x transfer 4 b2\n sync a\n run\n b e/x = 10\n sync b\n crash b\n start b\n link a b\n run
         b e/x incr -5\n refused b rights\n b e/x incr -4\n b e/x = 6",
    );
    // Nor need it have come to know of it.
    check(
        "ab",
        "link a b\n run\n a e/x incr 10\n sync a\n run\n sync b\n cut a b\n a e/x transfer 4 b2\n sync a\n crash b\n start b\n link a b\n run
         b e/x incr -4\n b e/x = 6",
    );
}

#[test]
fn an_heir_takes_up_what_comes_late_to_a_run_that_is_over_and_leaves_it_to_its_own_heir() {
    check(
        "ab",
        "link a b\n run\n b e/x incr 10\n sync b\n run\n cut a b\n b e/x transfer 4 a1\n sync b\n a e/y incr 1\n sync a\n crash a\n start a\n link a b\n run
         a e/x incr -1\n sync a\n crash a\n start a\n a e/x incr -3\n refused a rights\n link a b\n run\n a e/x incr -4\n refused a rights
         a e/x incr -3\n sync a\n run\n b e/x = 6\n equal a b",
    );
}

#[test]
fn a_node_that_has_no_others_has_at_once_what_it_held() {
    check(
        "a",
        "a e/x incr 10\n sync a\n crash a\n start a\n a e/x incr -4\n sync a\n crash a\n start a\n a e/x incr -7\n refused a rights\n a e/x incr -6",
    );
}

#[test]
fn a_node_whose_others_have_all_left_has_what_it_held_whatever_its_seeds_name() {
    let script = "link a b\n run\n a e/x incr 10\n sync a\n run\n sync b\n crash a\n start a\n link a b\n run\n sync a\n cut a b
                  a e/x incr -1\n refused a rights";
    let mut world = check("?ab", script);
    world.handle('a', Input::MemberLeft { node: node_id('b') });
    world.script(
        "a e/x incr -4\n sync a\n crash a\n start a\n a e/x incr -7\n refused a rights\n a e/x incr -6\n a e/x = 0",
    );
}

/// No run takes up what went to one after it, or to one before its directory was made: it would be lost.
#[test]
fn nothing_is_handed_to_a_run_of_a_member_that_never_was() {
    for run in ["b9", "b1", "a9", "c2"] {
        check(
            "abc",
            &format!(
                "link a b\n run\n a e/x incr 10\n a e/x transfer 4 {run}\n refused a invalid\n a e/x incr -11\n refused a rights
                 a e/x incr -10"
            ),
        );
    }
}

#[test]
fn what_is_handed_to_a_run_that_was_there_a_moment_ago_is_taken_up() {
    // Whoever looked up whom to hand it to did so before that run ended.
    check(
        "ab",
        "link a b\n run\n a e/x incr 10\n sync a\n run\n sync b\n crash b\n start b\n link a b\n run\n a e/x transfer 4 b2\n sync a\n run
         b e/x incr -5\n refused b rights\n b e/x incr -4\n b e/x = 6",
    );
}

#[test]
fn what_was_held_by_a_directory_that_is_lost_is_nobodys() {
    check(
        "ab",
        "link a b\n run\n a e/x incr 10\n sync a\n run\n sync b\n wipe a\n start a\n link a b\n wait 1000\n a e/x = 10\n a e/x incr -1\n refused a rights
         a e/x incr 1\n a e/x incr -1\n sync a\n crash a\n start a\n link a b\n wait 1000\n a e/x incr -1\n refused a rights",
    );
}

#[test]
fn an_old_copy_of_a_directory_gives_nothing_until_what_came_after_it_is_here() {
    check(
        "abc",
        "link a b\n link a c\n run\n a e/x incr 10\n sync a\n run\n copy a\n a e/x incr -4\n sync a\n lose a b\n pass a c\n c e/x = 6
         crash a\n restore a\n start a\n a e/x = 10\n link a b\n run\n a e/x incr -1\n refused a rights\n link a c\n wait 1000\n a e/x = 6
         a e/x incr -7\n refused a rights\n a e/x incr -6\n a e/x = 0",
    );
}
