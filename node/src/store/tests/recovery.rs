//! What is there again after the process or the machine stopped.

use super::script::check;

#[test]
fn an_empty_directory_is_new_until_an_epoch_is_started() {
    check("open | open | epoch 7 | open", "new | new | ok | old");
}

#[test]
fn an_epoch_is_above_all_earlier_ones() {
    check(
        "open | epoch 7 | epoch 7 | crash lost | open | epoch 6 | epoch 8",
        "new | ok | not-above 7 | old | not-above 7 | ok",
    );
}

#[test]
fn committed_records_come_back_in_order() {
    check(
        "open | epoch 1 | append a b | commit | append c | commit | crash lost | open",
        "new | ok | 2 | 3 | old 1=a 2=b 3=c",
    );
}

#[test]
fn a_commit_of_nothing_writes_nothing() {
    check(
        "open | epoch 1 | commit | append a | commit | die 0 | commit",
        "new | ok | 0 | 1 | 1",
    );
}

#[test]
fn an_empty_record_is_a_record() {
    check(
        "open | epoch 1 | append x*0 b | commit | open",
        "new | ok | 2 | old 1= 2=b",
    );
}

#[test]
fn what_was_not_committed_may_be_lost() {
    check(
        "open | epoch 1 | append a | commit | append b | crash kept | open",
        "new | ok | 1 | old 1=a",
    );
}

#[test]
fn a_commit_that_reached_the_disk_unsynced_is_kept_and_made_durable() {
    // The commit dies between its write and its sync. The first crash is of the process only; the reopened
    // store has told of record 2, so the second, of the machine, must not lose it.
    check(
        "open | epoch 1 | append a | commit | append b | die 1 | commit | crash kept | open | crash lost | open",
        "new | ok | 1 | poisoned | old 1=a 2=b | old 1=a 2=b",
    );
}

#[test]
fn a_torn_record_is_cut_with_all_behind_it() {
    // Record 2 lies at 85..1105 and loses its middle sector; record 3 behind it is whole, and of the same
    // lost commit.
    check(
        "open | epoch 1 | append a | commit | append b*1000 c | die 1 | commit | crash without log-1@512 | open \
         | append d | commit | crash lost | open",
        "new | ok | 1 | poisoned | old 1=a cut | 2 | old 1=a 2=d",
    );
}

#[test]
fn a_cut_is_synced_before_anything_is_appended() {
    // If the cut could be lost, the old record 3 would follow the new record 2 after the second crash.
    check(
        "open | epoch 1 | append a | commit | append b*1000 c | die 1 | commit | crash without log-1@512 | open \
         | append e*1000 | commit | crash lost | open",
        "new | ok | 1 | poisoned | old 1=a cut | 2 | old 1=a 2=e*1000",
    );
}

#[test]
fn a_crash_during_recovery_is_recovered_from() {
    for calls in 0..6 {
        check(
            &format!(
                "open | epoch 1 | append a | commit | append b*1000 c | die 1 | commit | crash without log-1@512 \
                 | die {calls} | open | crash lost | open | append d | commit | crash lost | open"
            ),
            &format!(
                "new | ok | 1 | poisoned | {} | old 1=a{} | 2 | old 1=a 2=d",
                match calls {
                    0 | 3 => "poisoned",
                    1 | 2 => "disk",
                    _ => "old 1=a cut",
                },
                if calls < 4 { " cut" } else { "" }
            ),
        );
    }
}

#[test]
fn the_first_record_of_a_segment_may_be_torn() {
    check(
        "open | epoch 1 | append a*900 | die 1 | commit | crash without log-1@0 | open | append b | commit | open",
        "new | ok | poisoned | old cut | 1 | old 1=b",
    );
}

#[test]
fn segments_follow_each_other() {
    check(
        "open | epoch 1 | append a*3000 | commit | append b*3000 | commit | append c*9000 | commit | append d | commit \
         | files | crash lost | open",
        "new | ok | 1 | 2 | 3 | 4 | log-1 log-2 log-3 log-4 meta | old 1=a*3000 2=b*3000 3=c*9000 4=d",
    );
}

#[test]
fn a_segment_counts_only_when_it_is_whole() {
    // create, write, sync, rename, sync_dir, then the records' write and sync.
    for calls in 0..7 {
        check(
            &format!(
                "open | epoch 1 | append a*3000 | commit | append b*3000 | die {calls} | commit | crash lost | open \
                 | append c*3000 | commit | crash lost | open | files"
            ),
            &format!(
                "new | ok | 1 | {} | old 1=a*3000 | 2 | old 1=a*3000 2=c*3000 | log-1 log-2 meta",
                match calls {
                    0 | 1 => "disk",
                    _ => "poisoned",
                }
            ),
        );
    }
}

#[test]
fn a_snapshot_stands_for_the_log_it_covers() {
    check(
        "open | epoch 1 | append a b | commit | snapshot | files | append c | commit | files | crash lost | open",
        "new | ok | 2 | ok | log-3 meta snapshot-2 | 3 | log-3 meta snapshot-2 | old [a b] 3=c",
    );
}

#[test]
fn a_snapshot_replaces_the_one_before() {
    check(
        "open | epoch 1 | append a | commit | snapshot | append b | commit | snapshot | snapshot | files | crash lost | open",
        "new | ok | 1 | ok | 2 | ok | ok | log-3 meta snapshot-2 | old [a b]",
    );
}

#[test]
fn a_snapshot_is_due_when_the_log_is_large_and_larger_than_the_last_one() {
    check(
        "open | epoch 1 | append a*9000 | commit | due | append b*9000 | commit | due | snapshot | due \
         | append c*17000 | commit | due | append d*1000 | commit | due | open | due",
        "new | ok | 1 | no | 2 | yes | ok | no | 3 | no | 4 | yes | old [a*9000 b*9000] 3=c*17000 4=d*1000 | yes",
    );
}

#[test]
fn leftovers_are_removed_at_the_next_opening() {
    // The snapshot dies after its rename is durable and before anything is removed.
    check(
        "open | epoch 1 | append a | commit | die 10 | snapshot | crash lost | files | open | files",
        "new | ok | 1 | poisoned | log-1 log-2 meta snapshot-1 | old [a] | log-2 meta snapshot-1",
    );
    check(
        "open | epoch 1 | append a | commit | die 7 | snapshot | crash kept | files | open | files",
        "new | ok | 1 | poisoned | log-1 log-2 meta snapshot.tmp | old 1=a | log-1 log-2 meta",
    );
}
