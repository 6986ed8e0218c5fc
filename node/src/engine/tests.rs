//! The engine's behaviour as scripts; see `world` for their language.

mod commits;
mod hostile;
mod links;
mod majority;
mod members;
mod rights;
mod rules;
mod sessions;
mod updates;
mod world;

use crate::engine::limits::RECORD_BYTES_MAX;
use crate::engine::{Input, Limits};
use crate::wire::Frame;
use world::{check, check_with};

#[test]
fn an_update_reaches_connected_peers_at_once() {
    check(
        "ab",
        "link a b\n run\n a p/x incr 5\n run\n b p/x = 5\n b p/x incr -2\n run\n a p/x = 3\n equal a b",
    );
}

#[test]
fn a_new_directory_takes_no_writes_before_it_has_met_somebody() {
    check(
        "ab",
        "a p/x incr 1\n refused a not_ready\n link a b\n run\n a p/x incr 1\n a p/x = 1",
    );
    check("a", "a p/x incr 1\n a p/x = 1");
}

#[test]
fn a_new_directory_that_expects_others_waits_for_one_of_them() {
    check("?a", "a p/x incr 1\n refused a not_ready");
}

#[test]
fn a_node_that_was_alone_takes_writes_when_another_appears() {
    check("a", "a p/x incr 1\n a p/x = 1");
    let mut world = check("a", "");
    world.connect('a', 'b', anabranch_crdt::Epoch(1));
    world.script("a p/x incr 1\n a p/x = 1");
}

#[test]
fn a_durable_update_is_answered_after_the_sync() {
    check("a", "a durable p/x incr 1\n answers a 0\n sync a\n answers a 1");
}

#[test]
fn a_repeat_is_answered_with_the_record_that_it_waits_for() {
    let mut world = check("a", "a durable p/x incr 1 key k");
    let upto = world.engine('a').last_record();
    world.script("a durable p/x incr 1\n a durable p/x incr 1 key k\n answers a 0");
    world.handle('a', Input::Persisted { upto });
    world.script("answers a 2\n sync a\n answers a 1\n a p/x = 2");
}

#[test]
fn a_link_that_does_not_reach_everybody_heals_through_a_third_node() {
    check(
        "abc",
        "link a b\n link b c\n run\n a s/x add e\n c s/x add f\n wait 1000\n a s/x = [e f]\n c s/x = [e f]
         a s/x remove f\n wait 1000\n c s/x = [e]\n equal a c",
    );
}

#[test]
fn a_lost_batch_is_pulled() {
    check(
        "ab",
        "link a b\n run\n a p/x incr 1\n lose a b\n a p/x incr 1\n wait 10\n b p/x = 2\n equal a b",
    );
    check(
        "ab",
        "link a b\n run\n a p/x incr 1\n lose a b\n wait 6000\n b p/x = 1\n equal a b",
    );
}

#[test]
fn both_sides_of_a_cut_go_on_and_rejoin() {
    check(
        "ab",
        "link a b\n run\n a s/x add e\n run\n cut a b\n a s/x remove e\n b s/x add e f\n a r/x set one\n b r/x set two
         link a b\n wait 1000\n equal a b\n a s/x = [e f]",
    );
}

#[test]
fn every_slot_of_an_entity_stands_for_itself() {
    // A batch that stops between two puts of one entity must carry the first.
    let limits = Limits {
        part_bytes: 1,
        ..Limits::default()
    };
    check_with(
        "ab",
        limits,
        "link a b\n run\n a s/x add e\n a s/y add f\n a s/x add g\n wait 100\n b s/x = [e g]\n equal a b",
    );
}

#[test]
fn a_crash_loses_what_was_not_synced_and_a_restart_pulls_what_had_left() {
    check(
        "ab",
        "link a b\n run\n a p/x incr 1\n run\n sync a\n a p/x incr 1\n run\n crash a\n start a\n a p/x = 1
         link a b\n wait 1000\n a p/x = 2\n a p/x incr 1\n run\n b p/x = 3\n equal a b",
    );
}

#[test]
fn a_keyed_update_leaves_only_when_durable() {
    // Were it to leave before, its effect would come back after the crash and its key would not: a repeat counts twice.
    check(
        "ab",
        "link a b\n run\n a durable p/x incr 5 key k\n run\n b p/x absent\n crash a\n start a\n link a b\n wait 1000
         a durable p/x incr 5 key k\n sync a\n run\n answers a 1\n a p/x = 5\n b p/x = 5
         a durable p/x incr 5 key k\n answers a 1\n a p/x = 5\n a durable p/x incr 6 key k\n refused a key_reused",
    );
}

#[test]
fn a_key_is_found_again_after_a_restart() {
    check(
        "a",
        "a durable p/x incr 5 key k\n sync a\n crash a\n start a\n a durable p/x incr 5 key k\n answers a 1\n a p/x = 5",
    );
}

#[test]
fn a_wiped_node_comes_back_whole_under_a_new_epoch() {
    check(
        "abc",
        "link a b\n link b c\n link a c\n run\n a p/x incr 1\n b p/x incr 2\n c p/x incr 4\n wait 1000\n sync a\n sync b\n sync c\n wait 1000
         wipe a\n start a\n a p/x incr 8\n refused a not_ready\n link a b\n wait 1000\n a p/x = 7\n a p/x incr 8\n wait 1000
         b p/x = 15\n wait 1000\n c p/x = 15\n equal a c",
    );
}

#[test]
fn a_wiped_node_that_crashes_before_it_caught_up_is_still_new() {
    check(
        "ab",
        "link a b\n run\n a p/x incr 1\n run\n sync a\n sync b\n wipe a\n start a\n sync a\n crash a\n start a\n a p/x incr 1\n refused a not_ready
         link a b\n wait 1000\n a p/x incr 1\n a p/x = 2",
    );
}

#[test]
fn a_state_that_is_behind_in_one_origin_leaves_a_record_that_can_be_read_again() {
    let mut world = check(
        "abc",
        "link a b\n link a c\n link b c\n run\n a p/x incr 1\n run\n a p/x incr 1\n b p/y incr 1\n lose b c\n run\n c p/x = 2\n c p/y absent",
    );
    let batch = |name: char, seq: u64| {
        world.sent.iter().find_map(|(from, f)| match Frame::decode(f) {
            Ok(Some(Frame::Intervals(mut i))) if *from == name && i[0].to == [(0, seq)] => i.pop(),
            _ => None,
        })
    };
    // What a holder that has A1 and B1 would answer to a pull that was asked before A2 came.
    let (mut state, mut other) = (batch('a', 1).unwrap(), batch('b', 1).unwrap());
    state.replicas.push(other.replicas[0]);
    state.to.push((1, 1));
    state.entities.push(other.entities.remove(0));
    let mut run = other.runs.remove(0);
    (run.replica, run.slots[0].entity) = (1, 1);
    state.runs.push(run);
    world.inject('b', 'c', Frame::Intervals(vec![state]).encode());
    world.script("c p/y = 1\n sync c\n crash c\n start c\n c p/x = 2\n c p/y = 1");
}

#[test]
fn who_is_behind_the_base_gets_the_shard_whole() {
    let limits = Limits {
        ring_slots_max: 2,
        part_bytes: 64,
        ..Limits::default()
    };
    check_with(
        "ab",
        limits,
        "link a b\n run\n a s/x add e f g\n a s/y add h\n wait 9000\n equal a b\n cut a b\n a s/x remove f\n a s/x add i j k l m\n b s/x add n\n b s/z add o
         a r/v set one\n a p/c incr 3\n a p/c incr 3\n a p/c incr 3\n link a b\n wait 9000\n equal a b\n a s/x = [e g i j k l m n]\n b s/z = [o]",
    );
}

#[test]
fn an_answer_too_large_to_stage_comes_as_a_snapshot() {
    // Many operations, of which little is alive: the history does not fit, the state does.
    let limits = Limits {
        part_bytes: 512,
        staged_bytes_max: 8 << 10,
        ..Limits::default()
    };
    let script = format!(
        "link a b\n run\n cut a b\n{}\n b s/y add f\n link a b\n wait 3000\n b p/x = 400\n equal a b",
        "a p/x incr 1\n".repeat(400)
    );
    let world = check_with("ab", limits, &script);
    assert_eq!(world.engine('a').counters().snapshots_served, 1);
}

#[test]
fn a_holder_with_no_place_for_another_snapshot_says_so() {
    let limits = Limits {
        part_bytes: 64,
        ring_slots_max: 1,
        sessions_max: 1,
        ..Limits::default()
    };
    let elements: Vec<String> = (0..40).map(|i| format!("element-{i}")).collect();
    let script = format!(
        "a s/x add {}\n a s/y add e\n sync a\n crash a\n start a\n link a b\n{}\n link a c\n{}\n wait 9000\n equal a b\n equal a c",
        elements.join(" "),
        "pass a b\n pass b a\n".repeat(6),
        "pass a c\n pass c a\n".repeat(8),
    );
    let mut world = check_with("a", limits, "");
    world.join_later("bc");
    world.script(&script);
    assert!(world.engine('a').counters().snapshots_refused > 0);
    assert_eq!(world.engine('c').counters().pulls_timed_out, 0);
}

#[test]
fn levels_wait_for_copies() {
    check(
        "abc",
        "link a b\n run\n a majority p/x incr 1\n run\n answers a 0\n sync b\n run\n answers a 0\n sync a\n run\n answers a 1
         a all-applied p/x incr 1\n wait 11000\n refused a unconfirmed\n a p/x = 2\n b p/x = 2
         a 9 p/x incr 1\n refused a invalid",
    );
}

#[test]
fn rings_share_one_bound_and_a_full_one_costs_a_snapshot_not_data() {
    let limits = Limits {
        ring_bytes_max: 30_000,
        ..Limits::default()
    };
    let writes: String = (0..200)
        .map(|i| format!("a s/{} add element-{i}\n a s/{} clear\n", i % 7, i % 7))
        .collect();
    let world = check_with(
        "ab",
        limits,
        &format!(
            "link a b\n run\n a s/0 create\n run\n cut a b\n{writes}\n b p/x incr 3\n link a b\n wait 6000\n equal a b\n a s/9 add e\n run\n equal a b"
        ),
    );
    assert!(world.engine('a').status().ring_slots < 200);
    assert_eq!(world.engine('b').counters().snapshots_installed, 1);
}

#[test]
fn keys_stamped_by_a_clock_that_was_ahead_age_from_now_on() {
    let limits = Limits {
        keys_kept: 2,
        keys_max: 3,
        ..Limits::default()
    };
    let mut world = check_with(
        "a",
        limits,
        "ahead 100000000\n a durable p/x incr 1 key 1\n a durable p/x incr 1 key 2\n a durable p/x incr 1 key 3\n sync a\n answers a 3\n ahead 0
         a durable p/x incr 1 key 4\n refused a overloaded\n wait 3700000\n a durable p/x incr 1 key 5\n sync a\n answers a 1",
    );
    // What was let go is a new update again, what was kept a repeat.
    world.script("a durable p/x incr 1 key 3\n answers a 1\n a p/x = 4");
}

#[test]
fn an_epoch_heard_of_through_others_is_known() {
    // b has operations of a later epoch of a, from c; an older life of a that links to b now is fenced.
    let mut world = check(
        "abc",
        "link a b\n run\n a s/x add e\n run\n cut a b\n crash a\n start a\n link a c\n run\n wait 1000\n a s/x add f\n run\n link b c\n run\n wait 6000",
    );
    let before = world.engine('a').status().epoch;
    let earlier = anabranch_crdt::Epoch(1);
    world.connect('b', 'a', earlier);
    assert_eq!(world.fenced, [('a', before)]);
}

#[test]
fn a_directory_that_is_older_than_what_peers_know_is_noticed() {
    let script = "link a b\n run\n a s/x add e\n run\n sync a\n copy a\n crash a\n start a\n link a b\n run\n a s/x add f\n run\n sync a\n crash a";
    let mut world = check("ab", script);
    // As it was left, though what b has of the last run was never on the disk.
    world.script("start a\n link a b\n run\n a s/x add g\n run\n crash a\n start a\n link a b\n run\n wait 1000\n a s/x = [e f g]");
    assert_eq!(world.engine('a').counters().lost_runs, 0);
    // A copy from before that run, twice: its own runs are not lost.
    world.script("crash a\n restore a\n start a\n link a b\n run\n wait 1000\n a s/x = [e f g]");
    assert_eq!(world.engine('a').counters().lost_runs, 1);
    world.script("a s/x add h\n run\n sync a\n crash a\n start a\n link a b\n run\n wait 1000");
    assert_eq!(world.engine('a').counters().lost_runs, 0);
}

#[test]
fn what_an_epoch_said_ends_with_it_though_the_next_is_known_already() {
    // b hears of a's second epoch from c, before a links to it again without what it had not synced.
    let world = check(
        "abc",
        "link a b\n link b c\n run\n a p/x incr 1\n run\n cut a b\n crash a\n start a\n link a c\n run\n a p/y incr 1\n run\n wait 1000\n b p/y = 1\n link a b",
    );
    let shard = crate::wire::ShardId(0);
    assert_eq!(
        world
            .engine('b')
            .peer_said(anabranch_crdt::NodeId('a' as u128), shard),
        None
    );
}

#[test]
fn a_full_window_waits_for_the_transport_not_for_a_timer() {
    // Two peers whose transports take nothing: between digests there is no reason to wake up.
    let limits = Limits {
        push_window_bytes: 64,
        push_delay_ms: 0,
        said_delay_ms: 1,
        ..Limits::default()
    };
    let world = check_with(
        "abc",
        limits,
        "link a b\n link a c\n run\n wait 100\n a s/x add e\n a s/x add f\n a s/x add g\n a s/x add h\n a s/x add i",
    );
    let (now, wake) = (world.now().time, world.engine('a').next_wakeup().unwrap());
    assert!(wake > now, "it wakes at {wake:?}, now is {now:?}");
    let mut world = world;
    world.handle('a', crate::engine::Input::Wakeup);
    let wake = world.engine('a').next_wakeup().unwrap();
    assert!(wake > now, "it wakes again at {wake:?}, now is {now:?}");
}

#[test]
fn an_update_larger_than_a_record_is_kept_in_pieces() {
    let many: Vec<String> = (0..150).map(|i| format!("{i:0>65535}")).collect();
    let script = format!(
        "a s/x add {}\n sync a\n a s/x clear\n a s/y add e\n sync a\n crash a\n start a\n a s/x = []\n a s/y = [e]",
        many.join(" ")
    );
    let mut world = check("a", &script);
    assert!(
        world
            .directory('a')
            .iter()
            .all(|record| record.len() <= RECORD_BYTES_MAX + 64)
    );
    // A crash in the midst of the pieces: the update never was, and the next one is not disturbed.
    world.script("a s/x add f\n sync a");
    let keep = world.directory('a').len();
    world.script(&format!("a s/z add {}\n sync a\n crash a", many.join(" ")));
    world.directory('a').truncate(keep + 1);
    world.script(
        "start a\n a s/x = [f]\n a s/z absent\n a s/z add g\n sync a\n crash a\n start a\n a s/z = [g]",
    );
}

#[test]
fn a_lost_acknowledgement_is_made_good_by_the_digest() {
    check(
        "ab",
        "link a b\n run\n a 2-applied p/x incr 1\n pass a b\n lose b a\n answers a 0\n wait 6000\n answers a 1",
    );
}

#[test]
fn a_kind_has_one_type() {
    check(
        "a",
        "a s/x add e\n a s/x incr 1\n refused a wrong_type\n a s/x = [e]",
    );
}

#[test]
fn concurrent_removals_leave_an_empty_set_not_none() {
    check(
        "ab",
        "link a b\n run\n a s/x add e f\n run\n cut a b\n a s/x remove e\n b s/x remove f\n link a b\n wait 1000\n a s/x = []\n equal a b",
    );
}

#[test]
fn a_cleared_large_set_travels_in_parts() {
    let elements: Vec<String> = (0..300).map(|i| format!("element-{i}")).collect();
    let limits = Limits {
        part_bytes: 1024,
        ..Limits::default()
    };
    let script = format!(
        "link a b\n run\n a s/x add {}\n wait 50\n equal a b\n b s/x clear\n wait 50\n a s/x = []\n equal a b",
        elements.join(" ")
    );
    check_with("ab", limits, &script);
}

#[test]
fn a_register_keeps_concurrent_losers_until_they_were_seen() {
    check(
        "ab",
        "link a b\n run\n cut a b\n a r/x set low @3\n b r/x set high @5\n link a b\n wait 1000\n a r/x = high\n b r/x = high
         a r/x set lower @1\n run\n b r/x = high\n a r/x set top @9\n run\n b r/x = top\n equal a b",
    );
}

#[test]
fn a_batch_waits_for_what_it_kills() {
    // a puts e (A1) -> b; b overwrites it; c hears of b first.
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n a s/x add e\n pass a b\n b s/x add e\n pass b c\n c s/x absent\n run\n c s/x = [e]\n wait 1000
         equal a c\n equal b c",
    );
}

#[test]
fn pushing_goes_on_after_a_snapshot() {
    let limits = Limits {
        ring_slots_max: 4,
        ..Limits::default()
    };
    let world = check_with(
        "ab",
        limits.clone(),
        "link a b\n run\n a s/x add w\n wait 1000\n cut a b\n a s/x add c\n a s/x add d\n a s/x add e\n a s/x add f\n a s/x add g\n a s/x add h
         link a b\n wait 6000\n equal a b\n wait 6000\n a s/x add z\n run\n equal a b\n a s/x add y\n run\n equal a b",
    );
    assert_eq!(world.engine('b').counters().pulls_sent, 1);
    check_with(
        "ab",
        limits,
        "link a b\n run\n a s/x add 0\n wait 1000\n a s/x add 1 2 3 4 5 6\n wait 6000\n equal a b\n a s/x add 7\n run\n equal a b",
    );
}

#[test]
fn a_backlog_of_large_values_travels_in_batches_that_can_be_staged() {
    let limits = Limits {
        part_bytes: 2_048,
        staged_bytes_max: 8 << 10,
        ..Limits::default()
    };
    let value = "v".repeat(300);
    let writes: String = (0..60).map(|i| format!("a r/{i} set {value}\n")).collect();
    check_with(
        "ab",
        limits,
        &format!("link a b\n run\n cut a b\n{writes}\n link a b\n wait 6000\n equal a b"),
    );
}

#[test]
fn an_update_that_changes_nothing_waits_for_what_it_saw() {
    check(
        "a",
        "a p/x create\n answers a 1\n a durable p/x create\n answers a 0\n sync a\n answers a 1\n crash a\n start a\n a p/x = 0",
    );
    check(
        "abc",
        "link a b\n run\n a s/x create\n run\n sync a\n cut a b\n answers a 1\n a all s/x create\n wait 11000\n refused a unconfirmed",
    );
}

#[test]
fn a_node_that_has_not_caught_up_counts_for_no_majority() {
    let limits = Limits {
        ring_slots_max: 1,
        ..Limits::default()
    };
    check_with(
        "abc",
        limits,
        "link a b\n link a c\n link b c\n run\n a s/x add e\n run\n sync a\n sync b\n wait 1000\n crash a\n b s/x add f\n b s/x add g\n b s/x add h
         wait 1000\n sync b\n cut b c\n start a\n answers a 0\n link a b\n pass a b\n pass b a\n pass a b\n pass b a\n a majority-applied s/y add q\n pass a b\n pass b a
         answers a 0\n wait 3000\n answers a 1",
    );
}
