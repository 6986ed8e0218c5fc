//! Snapshots that are written while the store goes on, and those in place of a commit.

use super::script::check;

#[test]
fn records_committed_while_a_snapshot_is_written_are_not_in_it_and_stay() {
    check(
        "open | epoch 1 | append a b | commit | begin | append c | commit | files | write | append d | commit | end | files | crash lost | open",
        "new | ok | 2 | begun | 3 | log-1 log-3 meta | ok | 4 | ok | log-3 meta snapshot-2 | old [a b] 3=c 4=d",
    );
}

#[test]
fn a_snapshot_counts_once_it_is_written_also_for_who_died_before_hearing_of_it() {
    check(
        "open | epoch 1 | append a | commit | begin | append b | commit | write | append c | commit | crash lost | open | \
         append d | commit | snapshot | files | crash lost | open",
        "new | ok | 1 | begun | 2 | ok | 3 | old [a] 2=b 3=c | 4 | ok | log-5 meta snapshot-4 | old [a b c d]",
    );
}

#[test]
fn a_snapshot_that_dies_leaves_all_records() {
    // Before its write, its sync, its rename, and the directory's sync.
    for (calls, written) in [(1, "disk"), (2, "poisoned"), (3, "poisoned"), (4, "poisoned")] {
        check(
            &format!(
                "open | epoch 1 | append a | commit | begin | append b | commit | die {calls} | write | crash lost | open"
            ),
            &format!("new | ok | 1 | begun | 2 | {written} | old 1=a 2=b"),
        );
    }
    // Once that is done, it counts; the segment it covers is still there, or not.
    for calls in [5, 6] {
        check(
            &format!(
                "open | epoch 1 | append a | commit | begin | append b | commit | die {calls} | write | crash lost | open | files"
            ),
            "new | ok | 1 | begun | 2 | poisoned | old [a] 2=b | log-2 meta snapshot-1",
        );
    }
}

#[test]
fn a_snapshot_without_room_is_none_and_a_later_one_covers_all() {
    check(
        "open | epoch 1 | append a b*9000 | commit | begin | append c | commit | full 11000 | write | end | files | room | \
         append d | commit | snapshot | files | crash lost | open",
        "new | ok | 2 | begun | 3 | full | full | log-1 log-3 meta | 4 | ok | log-5 meta snapshot-4 | old [a b*9000 c d]",
    );
}

#[test]
fn a_snapshot_that_was_given_up_is_none() {
    check(
        "open | epoch 1 | append a | commit | begin | give up | end | files | append b | commit | crash lost | open",
        "new | ok | 1 | begun | the snapshot was given up; nothing was changed | the snapshot was given up; nothing was changed \
         | log-1 log-2 meta | 2 | old 1=a 2=b",
    );
}

#[test]
fn attempts_without_a_record_in_between_end_one_segment() {
    check(
        "open | epoch 1 | append a | commit | begin | give up | end | begin | give up | end | append b | commit | files | due | begin",
        "new | ok | 1 | begun | the snapshot was given up; nothing was changed | the snapshot was given up; nothing was changed \
         | begun | the snapshot was given up; nothing was changed | the snapshot was given up; nothing was changed \
         | 2 | log-1 log-2 meta | no | begun",
    );
}

#[test]
fn a_log_is_due_for_a_snapshot_by_what_none_covers() {
    check(
        "open | epoch 1 | append a*17000 | commit | due | begin | append b*9000 | commit | write | end | due | append c*9000 | commit | due",
        "new | ok | 1 | yes | begun | 2 | ok | ok | no | 3 | yes",
    );
}

#[test]
fn an_epoch_started_while_a_snapshot_is_written_holds() {
    check(
        "open | epoch 1 | append a | commit | begin | append b | commit | epoch 2 | write | end | crash lost | open | epoch 2",
        "new | ok | 1 | begun | 2 | ok | ok | ok | old [a] 2=b | not-above 2",
    );
}

#[test]
fn a_snapshot_in_place_of_a_commit_holds_what_was_pending() {
    check(
        "open | epoch 1 | append a*9000 | commit | full 300 | append b*2000 | commit | rescue | files | room | append c | commit | \
         files | crash lost | open",
        "new | ok | 1 | full | full | log-1 meta | 3 | log-1 log-2 meta | old 1=a*9000 2=b*2000 3=c",
    );
    check(
        "open | epoch 1 | append a | commit | append b*30000 | full 20 | commit | full 70000 | append c | rescue | files | append d | \
         commit | files | crash lost | open",
        "new | ok | 1 | full | 3 | meta snapshot-3 | 4 | log-4 meta snapshot-3 | old [a b*30000 c] 4=d",
    );
}

#[test]
fn a_snapshot_in_place_of_a_commit_that_dies_leaves_what_was_durable_or_all() {
    for calls in 1..=8 {
        let script = format!(
            "open | epoch 1 | append a | commit | append b c | die {calls} | rescue | crash lost | open | append d | commit | crash lost | open"
        );
        let (what, then) = if calls <= 4 {
            ("old 1=a", "2 | old 1=a 2=d")
        } else {
            ("old [a b c]", "4 | old [a b c] 4=d")
        };
        let died = if calls == 1 { "disk" } else { "poisoned" };
        let died = if calls > 6 { "3" } else { died };
        check(&script, &format!("new | ok | 1 | {died} | {what} | {then}"));
    }
}
