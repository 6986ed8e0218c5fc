//! Named scenarios: one kind of trouble each, on an otherwise calm cluster, so that a failure says what it is about.

use anabranch_sim::model::Kind;
use anabranch_sim::net::NetPlan;
use anabranch_sim::plan::{
    Choice, ClockPlan, Death, DiskFate, Ending, Fault, Moment, Plan, SECOND, Settings,
};
use anabranch_sim::run::{How, Outcome, run_plan};

/// Ten virtual seconds of trouble.
const CHAOS_US: u64 = 10 * SECOND;

/// Runs a calm plan of three nodes with something changed; nothing may break.
fn check(change: impl FnOnce(&mut Plan)) -> Outcome {
    let mut plan = Plan::calm(7, 3, CHAOS_US);
    change(&mut plan);
    plan.faults.sort_by_key(|(at, _)| *at);
    let outcome = run_plan(plan, How::default(), None);
    assert_eq!(outcome.failure, None);
    assert!(outcome.tally.answered > 100, "{:?}", outcome.tally);
    outcome
}

fn counted(outcome: &Outcome, name: &str) -> u64 {
    outcome.tally.counters.get(name).copied().unwrap_or(0)
}

/// A crash at a time, back after a while.
fn crash(node: usize, at_ms: u64, back_ms: u64, disk: DiskFate) -> (u64, Fault) {
    let death = Death {
        moment: Moment::Now,
        ending: Ending::Machine,
        back_after_us: back_ms * 1_000,
        disk,
        recovery: None,
    };
    (at_ms * 1_000, Fault::Crash { node, death })
}

#[test]
fn calm() {
    let outcome = check(|_| {});
    assert_eq!(outcome.tally.net.lost, 0);
    assert!(
        outcome.tally.settled_us < 3 * SECOND,
        "{}",
        outcome.tally.settled_us
    );
}

#[test]
fn thirty_percent_loss_with_duplication_and_reordering() {
    let outcome = check(|plan| {
        plan.net = NetPlan {
            loss: 0.3,
            loss_vanishes: true,
            duplicate: 0.3,
            reorder: 0.3,
            ghost: 0.02,
            ..NetPlan::benign()
        };
    });
    assert!(outcome.tally.net.lost > 100 && outcome.tally.net.ghosts > 0);
}

#[test]
fn writes_on_both_sides_of_a_partition() {
    check(|plan| {
        let sides = vec![(0, 1), (1, 0), (0, 2), (2, 0)];
        plan.faults = vec![
            (SECOND, Fault::Block(sides.clone())),
            (8 * SECOND, Fault::Unblock(sides)),
        ];
        plan.net.idle_us = 2 * SECOND;
    });
}

#[test]
fn one_way_loss() {
    let outcome = check(|plan| {
        plan.faults = vec![
            (SECOND, Fault::Block(vec![(0, 1)])),
            (5 * SECOND, Fault::Unblock(vec![(0, 1)])),
        ];
        plan.net.partition_vanishes = true;
    });
    assert!(outcome.tally.net.lost > 0);
}

#[test]
fn a_reaches_b_and_b_reaches_c_but_a_not_c() {
    let outcome = check(|plan| {
        plan.faults = vec![(0, Fault::Block(vec![(0, 2), (2, 0)]))];
        plan.rest = vec![(0, 1), (1, 2)];
    });
    assert!(counted(&outcome, "pulls_served") > 0);
}

#[test]
fn crashes_between_apply_and_sync() {
    let outcome = check(|plan| {
        for i in 0..12 {
            plan.faults
                .push((700_000 * (i + 1), Fault::SlowSync((i % 3) as usize, 200_000)));
            plan.faults
                .push(crash((i % 3) as usize, 700 * (i + 1) + 150, 100, DiskFate::Kept));
        }
    });
    assert!(outcome.tally.crashes >= 12);
}

#[test]
fn everything_down_at_once() {
    check(|plan| {
        plan.faults = (0..3)
            .map(|node| crash(node, 4_000, 500, DiskFate::Kept))
            .collect()
    });
}

#[test]
fn a_lost_disk() {
    check(|plan| plan.faults = vec![crash(1, 4_000, 500, DiskFate::Lost)]);
}

#[test]
fn an_old_backup_comes_back() {
    check(|plan| {
        plan.faults = vec![
            (2 * SECOND, Fault::TakeBackup(1)),
            crash(1, 6_000, 500, DiskFate::Restored),
        ];
    });
}

#[test]
fn an_old_backup_comes_back_with_an_old_clock() {
    let outcome = check(|plan| {
        plan.clocks[1] = ClockPlan {
            skew_ms: 3_600_000,
            drift_ppm: 0,
        };
        plan.faults = vec![
            (2 * SECOND, Fault::TakeBackup(1)),
            crash(1, 3_000, 100, DiskFate::Kept),
            (4 * SECOND, Fault::JumpClock(1, -7_200_000)),
            crash(1, 6_000, 500, DiskFate::Restored),
        ];
    });
    assert!(counted(&outcome, "fenced") > 0);
}

#[test]
fn clocks_an_hour_off_at_a_restart() {
    check(|plan| {
        for (i, ms) in [3_600_000, -7_200_000, 3_600_000].into_iter().enumerate() {
            plan.faults
                .push((2 * SECOND * (i as u64 + 1), Fault::JumpClock(0, ms)));
            plan.faults
                .push(crash(0, 2_000 * (i as u64 + 1) + 1, 50, DiskFate::Kept));
        }
    });
}

#[test]
fn a_narrow_link_and_hot_counters() {
    check(|plan| {
        plan.net.bytes_per_s = 8_000;
        plan.load.kinds = vec![Kind::PnCounter];
        plan.load.hot = 1.0;
        plan.load.think_us = 30_000.0;
    });
}

#[test]
fn away_longer_than_the_ring() {
    let outcome = check(|plan| {
        plan.settings = Settings {
            ring: Choice::Min,
            ..Settings::default()
        };
        plan.faults = vec![crash(2, 2_000, 5_000, DiskFate::Kept)];
    });
    assert!(counted(&outcome, "snapshots_installed") > 0);
}

#[test]
fn one_disk_is_full() {
    check(|plan| {
        plan.faults = vec![
            (2 * SECOND, Fault::Room(0, Some(500))),
            (6 * SECOND, Fault::Room(0, None)),
        ];
    });
}

#[test]
fn a_sync_fails() {
    let outcome = check(|plan| plan.faults = vec![(3 * SECOND, Fault::FailSync(1))]);
    assert!(outcome.tally.crashes > 0, "it was started again");
}

#[test]
fn a_storm_of_reconnections() {
    let outcome = check(|plan| {
        for i in 0..150u64 {
            let (a, b) = [(0, 1), (1, 2), (0, 2)][i as usize % 3];
            plan.faults.push((SECOND + i * 50_000, Fault::Reset(a, b)));
        }
    });
    assert!(outcome.tally.net.links > 100);
}

#[test]
fn small_logs_and_many_snapshots() {
    let outcome = check(|plan| {
        plan.settings = Settings {
            snapshot_bytes: 4_000,
            segment_bytes: 4_000,
            ..Settings::default()
        };
        plan.faults = (0..8)
            .map(|i| crash(i % 3, 1_000 + 1_000 * i as u64, 200, DiskFate::Kept))
            .collect();
    });
    assert!(counted(&outcome, "disk_snapshots") > 3);
}
