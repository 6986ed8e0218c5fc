//! Links that are slow, shared by many shards, or never quite idle.

use anabranch_crdt::Mutation;
use bytes::Bytes;

use super::world::{World, check, check_shards, check_with};
use crate::engine::clocks::CLOCK_SAMPLES;
use crate::engine::limits::ASKED_SHARDS_MAX;
use crate::engine::{Level, Limits, Stage};
use crate::wire::{Frame, PULL_ID_BIT, Rollup, ShardId};

const APPLIED: Level = Level {
    copies: crate::engine::Copies::Local,
    stage: Stage::Applied,
};

/// Two nodes that were linked; then a writes so many sets of 20 KB each, alone, and they link again.
fn behind(shards: u32, sets: usize, limits: Limits) -> World {
    let mut world = check_shards(
        "ab",
        shards,
        limits,
        "link a b\n run\n a s/first create\n run\n cut a b",
    );
    for k in 0..sets {
        let elements =
            (0..500).map(|i| Bytes::from(format!("element-{k:04}-{i:04}-of-forty-bytes-and-more")));
        let add = Mutation::Add(elements.collect());
        world.update('a', &format!("s/{k}"), add, APPLIED, None);
        world.drain_log('a');
    }
    world.sent.clear();
    world.at_once = false;
    world.script("link a b");
    world
}

/// Paces until b has that many entities; returns the seconds that took, and the bytes of state that a sent.
fn catch_up(world: &mut World, mbit_per_s: usize, entities: u64) -> (usize, usize) {
    let bytes_per_step = mbit_per_s * 1_000_000 / 8 / 100;
    for step in 0.. {
        assert!(step < 30_000, "it has not caught up in 300 s");
        world.pace(10, bytes_per_step);
        world.drain_log('b');
        if world.engine('b').status().entities == entities {
            let state = world.sent.iter().filter(|(_, frame)| matches!(frame[0], 5 | 6));
            return (step / 100, state.map(|(_, frame)| frame.len()).sum());
        }
    }
    unreachable!()
}

#[test]
fn snapshots_of_many_shards_get_through_a_slow_link() {
    // 13 MB that the rings do not hold any more: 10 s at 10 Mbit/s.
    let limits = Limits {
        ring_slots_max: 100,
        ..Limits::default()
    };
    let mut world = behind(32, 640, limits);
    let (seconds, bytes) = catch_up(&mut world, 10, 641);
    assert!(seconds < 40 && bytes < 30_000_000, "{seconds} s, {bytes} bytes");
}

#[test]
fn one_snapshot_gets_through_a_link_slower_than_its_parts() {
    let limits = Limits {
        ring_slots_max: 100,
        ..Limits::default()
    };
    let mut world = behind(1, 40, limits);
    let (seconds, bytes) = catch_up(&mut world, 1, 41);
    assert!(seconds < 40 && bytes < 3_000_000, "{seconds} s, {bytes} bytes");
}

#[test]
fn a_backlog_of_many_shards_is_asked_for_without_a_storm() {
    // 42 MB that the rings hold: 17 s at 20 Mbit/s.
    let limits = Limits {
        ring_slots_max: 200_000,
        ..Limits::default()
    };
    let mut world = behind(256, 2_048, limits);
    let (seconds, bytes) = catch_up(&mut world, 20, 2_049);
    let pulls = world.engine('b').counters().pulls_sent;
    assert!(
        seconds < 60 && bytes < 90_000_000 && pulls < 2_000,
        "{seconds} s, {bytes} bytes, {pulls} pulls"
    );
}

#[test]
fn a_backlog_that_is_being_pushed_is_not_pulled_as_well() {
    let limits = Limits {
        ring_slots_max: 200_000,
        ..Limits::default()
    };
    let mut world = behind(1, 200, limits);
    let (_, bytes) = catch_up(&mut world, 100, 201);
    let pulled = world.sent.iter().filter(|(_, frame)| match Frame::decode(frame) {
        Ok(Some(Frame::Intervals(parts))) => parts[0].id & PULL_ID_BIT != 0,
        Ok(Some(Frame::SnapshotPart(_))) => true,
        _ => false,
    });
    let pulled: usize = pulled.map(|(_, frame)| frame.len()).sum();
    assert!(pulled * 10 < bytes, "{pulled} of {bytes} bytes were pulled");
}

/// Nobody takes from a lane what one step puts there: all that many starts have left in many shards was more than it holds, and the
/// node could never link.
#[test]
fn many_shards_are_not_spoken_of_at_once() {
    let limits = Limits {
        part_bytes: 1_024,
        ..Limits::default()
    };
    let mut world = check_shards("ab", 300, limits, "link a b\n run\n cut a b");
    for _ in 0..2 {
        for k in 0..900 {
            world.update('a', &format!("p/{k}"), Mutation::Increment(1), APPLIED, None);
        }
        world.script("sync a\n crash a\n start a");
    }
    world.script("link a b\n run\n wait 6000\n equal a b");
    assert_eq!(world.engine('b').status().entities, 900);
    assert!(
        world.spoken_of_at_once > ASKED_SHARDS_MAX / 2,
        "they are spoken of"
    );
    assert!(
        world.spoken_of_at_once <= ASKED_SHARDS_MAX,
        "{} shards at once",
        world.spoken_of_at_once
    );
}

#[test]
fn a_shard_too_large_to_stage_is_left_alone_for_a_while() {
    let limits = Limits {
        ring_slots_max: 1,
        part_bytes: 64,
        staged_bytes_max: 1 << 10,
        ..Limits::default()
    };
    let elements: Vec<String> = (0..100).map(|i| format!("element-{i}")).collect();
    let script = format!(
        "link a b\n run\n cut a b\n a s/x add {}\n a s/y add e\n link a b\n wait 50000",
        elements.join(" ")
    );
    let world = check_shards("ab", 1, limits, &script);
    let counters = world.engine('b').counters();
    assert_eq!(
        (counters.snapshots_too_large, counters.snapshots_installed),
        (1, 0)
    );
}

#[test]
fn a_node_that_is_behind_becomes_ready_while_others_write() {
    // At no digest are the roll-ups equal; of the shards that are, both sides must hear.
    for (lost, one, other) in [('a', 'b', 'c'), ('c', 'a', 'b')] {
        let script = format!(
            "link a b\n link b c\n link a c\n run\n {one} p/x incr 1\n run\n wait 6000\n wipe {lost}\n start {lost}\n link {lost} {one}\n \
             link {lost} {other}"
        );
        let mut world = check_shards("abc", 8, Limits::default(), &script);
        world.at_once = false;
        for _ in 0..2_400 {
            for writer in [one, other] {
                world.update(writer, "p/x", Mutation::Increment(1), APPLIED, None);
            }
            world.pace(5, usize::MAX / 2);
        }
        let engine = world.engine(lost);
        let ready: Vec<u32> = (0..8).filter(|i| engine.takes_writes(ShardId(*i))).collect();
        assert_eq!(
            ready.len(),
            8,
            "{lost} takes writes in {ready:?} after 12 s of load"
        );
    }
}

#[test]
fn a_wiped_node_is_ready_when_it_has_caught_up_not_at_the_next_digest() {
    for (lost, other) in [('a', 'b'), ('b', 'a')] {
        let script = format!(
            "link a b\n run\n {other} p/x incr 1\n {other} p/y incr 1\n run\n wait 6000\n wipe {lost}\n start {lost}\n link a b\n wait 500"
        );
        let world = check_shards("ab", 8, Limits::default(), &script);
        assert!(world.engine(lost).is_ready(), "{lost}");
    }
}

#[test]
fn who_has_the_history_is_asked_before_who_would_send_the_shard_whole() {
    // a has let its ring go; b holds it. c lacks one operation and hears of it from a first.
    let limits = Limits {
        ring_slots_max: 64,
        ..Limits::default()
    };
    let world = check_shards(
        "abcd",
        1,
        limits,
        "link a b\n link b c\n link a d\n link b d\n run\n d s/x add e\n run\n wait 1000\n sync a\n sync b\n sync c\n sync d\n wait 1000
         link a c\n run\n cut b c\n cut a c\n d s/x add f\n run\n sync a\n wait 6000\n crash a\n start a\n link b c\n link a c\n pass a c\n pass c a\n pass a c
         run\n wait 6000\n c s/x = [e f]",
    );
    assert_eq!(world.engine('c').counters().snapshots_installed, 0);
}

#[test]
fn an_increment_behind_a_reset_is_not_seen_before_the_reset() {
    // c has the 5 and not b's removal; a's 2 goes on behind it, and alone at c it would take the 5 away. The removal's
    // mark, which a's increment would otherwise name, has been superseded by d.
    check(
        "abcd",
        "link a b
         link a c
         link a d
         link b d
         run
         a c/m incr 5 in k
         run
         b c/m remove k
         pass b d
         d c/m incr 1 in j
         pass b a
         pass d a
         a c/m = {\"j\":1}
         a c/m incr 2 in k
         pass a c
         c c/m = {\"k\":5}
         wait 6000
         c c/m = {\"j\":1,\"k\":2}
         equal a c
         equal b c
         equal d c",
    );
}

#[test]
fn a_reset_slot_waits_until_its_owner_has_seen_the_reset() {
    let script = "link a b\n run\n a c/m incr 5 in k\n run\n cut a b\n b c/m remove k\n a c/m incr 2 in k";
    let mut world = check("ab", script);
    assert_eq!(world.engine('b').status().waiting_slots, 1);
    world.script("link a b\n wait 6000\n a c/m = {\"k\":2}\n b c/m = {\"k\":2}");
    assert_eq!(world.engine('b').status().waiting_slots, 0);
    world.script("b c/m remove k\n run\n wait 6000\n a c/m = {}\n b c/m = {}");
    for node in ['a', 'b'] {
        assert_eq!(world.engine(node).status().waiting_slots, 0, "at {node}");
    }
}

#[test]
fn of_a_deleted_counter_nothing_is_left_once_its_owner_has_seen_that() {
    // Also where the owner deletes it itself.
    let script = "link a b\n run\n a p/x incr 5\n a c/m incr 1 in k\n a g/y incr 2\n run\n b p/x delete\n b c/m delete\n a g/y delete\n run\n wait 6000";
    let world = check("ab", script);
    for node in ['a', 'b'] {
        let status = world.engine(node).status();
        assert_eq!((status.waiting_slots, status.entities), (0, 0), "at {node}");
    }
}

#[test]
fn a_reset_slot_of_an_epoch_that_is_over_is_not_dropped_by_the_next_ones_word() {
    // a's 2 is under way when it crashes: c alone has it. The next epoch of a has seen the reset, and says so.
    let mut world = check(
        "abc",
        "link a b
         link a c
         run
         a c/m incr 5 in k
         run
         sync a
         cut a b
         b c/m remove k
         a c/m incr 2 in k
         pass a c
         crash a
         start a
         link a b
         wait 6000
         a c/m = {}
         b c/m = {}",
    );
    assert_eq!(world.engine('b').status().waiting_slots, 1);
    world.script(
        "link b c
         wait 6000
         b c/m = {\"k\":2}
         c c/m = {\"k\":2}
         equal a b
         equal b c",
    );
}

#[test]
fn who_told_another_sum_before_it_caught_up_tells_that_they_are_equal_now() {
    // b, which had this first, does not know otherwise, and pushes nothing until it does.
    let mut world = check(
        "ab",
        "link a b\n run\n wait 9000\n a p/x incr 1\n run\n b p/x = 1",
    );
    let rollup = Rollup {
        summary: world.rollup('b'),
        durable: false,
        shards: world.engine('b').config.shards,
    };
    let told = |world: &World| {
        let told = world.sent.iter().filter(|(from, _)| *from == 'a');
        let rollups = told.filter(|(_, frame)| matches!(Frame::decode(frame), Ok(Some(Frame::Rollup(_)))));
        rollups.count()
    };
    for expected in [1, 0] {
        world.sent.clear();
        world.inject('b', 'a', Frame::Rollup(rollup.clone()).encode());
        assert_eq!(told(&world), expected);
    }
}

#[test]
fn a_start_that_reads_back_a_snapshot_is_no_fence() {
    let limits = Limits {
        ring_slots_max: 1,
        ..Limits::default()
    };
    let world = check_with(
        "ab",
        limits,
        "link a b\n run\n a s/x add e\n run\n sync a\n sync b\n wait 1000\n crash a\n b s/x add f\n b s/x add g\n b s/x add h\n wait 1000\n sync b
         start a\n link a b\n run\n wait 1000\n a s/x = [e f g h]\n sync a\n crash a\n start a\n a s/x = [e f g h]",
    );
    assert_eq!(world.engine('a').counters.fenced, 0);
}

/// Schedules go by the clock, and a link may stay up for months.
#[test]
fn a_clock_that_jumps_while_the_link_is_up_is_seen() {
    let mut world = check("ab", "link a b\n run");
    world.sent.clear();
    world.script("wait 6000");
    let now = world.now().wall_ms;
    let told = |name| {
        let frames = world.sent.iter().filter(|(from, _)| *from == name);
        frames.fold(None, |last, (_, frame)| match Frame::decode(frame) {
            Ok(Some(Frame::Clock(wall_ms))) => Some(wall_ms),
            _ => last,
        })
    };
    for name in ['a', 'b'] {
        assert!(
            told(name).is_some_and(|at| now - at <= 6_000),
            "{name} says its time"
        );
    }
    let skews = |world: &World| -> Vec<i64> { world.engine('a').clock_skews().into_values().collect() };
    // One that says an earlier time may have been late.
    for _ in 1..CLOCK_SAMPLES {
        world.inject('b', 'a', Frame::Clock(now - 86_400_000).encode());
        assert!(skews(&world)[0] > -1_000, "{:?}", skews(&world));
    }
    world.inject('b', 'a', Frame::Clock(now - 86_400_000).encode());
    assert_eq!(skews(&world), [-86_400_000]);
    world.inject('b', 'a', Frame::Clock(now + 3_600_000).encode());
    assert_eq!(skews(&world), [3_600_000]);
}
