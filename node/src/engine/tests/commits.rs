//! Commits of functions: by what was seen, whatever came meanwhile.

use super::world::{check, check_with};
use crate::engine::Limits;

#[test]
fn a_commit_by_the_present_is_an_update() {
    check(
        "ab",
        "link a b\n run\n a s/x add p q\n a sees s/x\n a commits s/x remove p ; add r\n a s/x = [q r]\n run\n b s/x = [q r]\n equal a b",
    );
}

#[test]
fn a_commit_does_not_remove_what_its_function_did_not_see() {
    check(
        "ab",
        "link a b\n run\n a s/x add p q\n run\n a sees s/x\n b s/x add p r\n a s/x add t\n run\n a commits s/x clear\n run\n wait 9000
         a s/x = [p r t]\n b s/x = [p r t]\n equal a b
         a sees s/x\n b s/x add u\n run\n a commits s/x delete\n run\n wait 9000\n a s/x = [u]\n equal a b",
    );
}

#[test]
fn a_commit_resets_a_counter_as_far_as_its_function_saw() {
    check(
        "ab",
        "link a b\n run\n a c/x incr 5 in k\n run\n b c/x incr 2 in k\n run\n a sees c/x\n a c/x incr 10 in k\n b c/x incr 100 in k\n run
         a commits c/x remove k\n run\n wait 9000\n a c/x = {\"k\":110}\n b c/x = {\"k\":110}\n equal a b
         a c/x incr 1 in k\n b c/x incr 1 in k\n run\n wait 9000\n b c/x = {\"k\":112}\n equal a b",
    );
}

#[test]
fn a_commit_adds_to_the_counter_there_is_now() {
    check(
        "ab",
        "link a b\n run\n a p/x incr 1\n a sees p/x\n a p/x incr 10\n b p/x incr 100\n run\n a commits p/x incr 1000\n run\n a p/x = 1111
         b p/x = 1111\n equal a b\n a sees p/x\n a p/x delete\n a commits p/x incr 3\n run\n wait 9000\n a p/x = 3\n b p/x = 3\n equal a b",
    );
}

#[test]
fn a_commit_sees_what_it_did_before() {
    check(
        "ab",
        "link a b\n run\n a s/x add p\n run\n a sees s/x\n b s/x add q\n run\n a commits s/x add r ; remove p r ; add v\n run\n wait 9000
         a s/x = [q v]\n b s/x = [q v]\n equal a b",
    );
}

#[test]
fn a_register_that_a_commit_did_not_see_is_concurrent() {
    check(
        "ab",
        "link a b\n run\n a m/x set one\n run\n a sees m/x\n b m/x set two\n run\n a commits m/x set three\n run\n a m/x = [\"three\",\"two\"]
         b m/x = [\"three\",\"two\"]\n a sees m/x\n a commits m/x set four\n run\n b m/x = [\"four\"]\n equal a b",
    );
}

#[test]
fn a_commit_catches_up_like_any_operation() {
    // Behind trimmed rings, from a directory, and by snapshot.
    let limits = Limits {
        ring_slots_max: 2,
        ..Limits::default()
    };
    check_with(
        "abc",
        limits,
        "link a b\n run\n a c/x incr 5 in k\n a s/x add p q\n run\n a sees c/x\n a sees s/x\n b c/x incr 7 in k\n b s/x add p\n run
         a c/x incr 1 in k\n a commits c/x remove k\n a commits s/x remove p q\n run\n a c/x = {\"k\":8}\n sync a\n sync b\n crash a\n start a
         link a b\n wait 9000\n link b c\n wait 9000\n a c/x = {\"k\":8}\n c c/x = {\"k\":8}\n c s/x = [p]\n equal a b\n equal b c",
    );
}

#[test]
fn a_child_that_a_commit_has_removed_is_made_as_another_type_by_it() {
    check(
        "ab",
        "link a b\n run\n a o/x incr 5 into k pncounter\n a o/x incr 1 into l pncounter\n run
         a sees o/x\n a commits o/x clear ; add p into k orset ; add q into k orset\n run\n b o/x = {\"k\":[\"p\",\"q\"]}
         a sees o/x\n a commits o/x remove k ; incr 2 into k pncounter ; incr 3 into k pncounter\n run\n b o/x = {\"k\":5}
         a o/x incr 1 into deep pncounter into m ormap\n a sees o/x
         a commits o/x clear into m ormap ; add p into deep orset into m ormap\n run\n b o/x = {\"k\":5,\"m\":{\"deep\":[\"p\"]}}\n equal a b
         a sees o/x\n a commits o/x add t into new orset ; add p into k orset\n refused a wrong_type
         a commits o/x remove k ; add p into k orset ; incr 1 into k pncounter\n refused a wrong_type\n run
         b o/x = {\"k\":5,\"m\":{\"deep\":[\"p\"]}}\n equal a b",
    );
}

#[test]
fn what_a_commit_did_not_see_of_a_child_stands_beside_what_it_made_in_its_place() {
    check(
        "ab",
        "link a b\n run\n a o/x incr 5 into k pncounter\n run\n a sees o/x\n b o/x incr 7 into k pncounter\n run
         a commits o/x clear ; add p into k orset\n run\n wait 9000\n a o/x = {\"k\":7}\n b o/x = {\"k\":7}\n equal a b
         a o/x remove k\n run\n a o/x = {}\n b o/x = {}\n equal a b",
    );
}
