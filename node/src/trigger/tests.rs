//! Schedules by the clock of a test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use super::order::{Plan, Schedule, Slot, Stand};
use super::planner::{Planner, SCHEDULES_MAX, responsible};
use crate::error::ErrorKind;
use anabranch_crdt::NodeId;

use super::*;

const MINUTE: u64 = 60_000;

fn order(when: When, missed: Missed) -> Order {
    let order = Order::new(when, "job", "a", "run", &7).unwrap();
    order.missed(missed)
}

fn schedule(when: When, missed: Missed, since_ms: u64) -> Schedule {
    let order = order(when, missed);
    Schedule::new(Plan { order, since_ms }).unwrap()
}

#[test]
fn missed_times_are_made_good_as_the_order_says() {
    let every = |missed| schedule(When::EveryMs(10 * MINUTE), missed, MINUTE);
    let now = 45 * MINUTE; // 11, 21, 31 and 41 have passed
    assert_eq!(every(Missed::Once).stand(0, now), Stand::Due(41 * MINUTE));
    assert_eq!(every(Missed::All).stand(0, now), Stand::Due(11 * MINUTE));
    assert_eq!(
        every(Missed::All).stand(11 * MINUTE, now),
        Stand::Due(21 * MINUTE)
    );
    assert_eq!(every(Missed::Skip).stand(0, now), Stand::Next(51 * MINUTE));
    assert_eq!(every(Missed::Skip).stand(0, 42 * MINUTE), Stand::Due(41 * MINUTE));
    for missed in [Missed::Once, Missed::All, Missed::Skip] {
        assert_eq!(every(missed).stand(41 * MINUTE, now), Stand::Next(51 * MINUTE));
        assert_eq!(every(missed).stand(0, MINUTE), Stand::Next(11 * MINUTE));
        // What was done elsewhere by a clock ahead of this one's is done.
        assert_eq!(every(missed).stand(51 * MINUTE, now), Stand::Next(61 * MINUTE));
    }
    let daily = schedule(When::Cron("@daily".into()), Missed::Once, MINUTE);
    assert_eq!(
        daily.stand(0, 3 * 1440 * MINUTE + 5),
        Stand::Due(3 * 1440 * MINUTE)
    );
    for when in [When::AfterMs(5 * MINUTE), When::AtMs(6 * MINUTE)] {
        let once = schedule(when, Missed::Once, MINUTE);
        assert_eq!(once.stand(0, MINUTE), Stand::Next(6 * MINUTE));
        assert_eq!(once.stand(0, 999 * MINUTE), Stand::Due(6 * MINUTE));
        assert_eq!(once.stand(6 * MINUTE, 999 * MINUTE), Stand::Over);
    }
    let late = schedule(When::AtMs(MINUTE), Missed::Once, 9 * MINUTE);
    assert_eq!(
        late.stand(0, 9 * MINUTE),
        Stand::Due(MINUTE),
        "it is not too late to order it"
    );
    let ever = schedule(When::AtMs(0), Missed::Once, 9 * MINUTE);
    assert_eq!(ever.stand(0, 9 * MINUTE), Stand::Due(0));
    let skipped = schedule(When::AtMs(MINUTE), Missed::Skip, 0);
    assert_eq!(skipped.stand(0, 9 * MINUTE), Stand::Missed(MINUTE));
    assert_eq!(skipped.stand(MINUTE, 9 * MINUTE), Stand::Over);
}

#[test]
fn a_wrong_order_is_refused_with_what_is_wrong() {
    let wrong = |when, f: &dyn Fn(&mut Order)| {
        let mut order = order(When::AtMs(1), Missed::Once);
        order.when = when;
        f(&mut order);
        Schedule::new(Plan { order, since_ms: 0 })
            .unwrap_err()
            .to_string()
    };
    let nothing: &dyn Fn(&mut Order) = &|_| {};
    assert!(wrong(When::Cron("often".into()), nothing).contains("five fields"));
    assert!(wrong(When::EveryMs(999), nothing).contains("at least 1000"));
    assert!(wrong(When::AtMs(1), &|order| order.key.clear()).contains("key"));
    assert!(wrong(When::AtMs(1), &|order| order.timeout_ms = Some(0)).contains("timeout_ms"));
    let large = format!("{:?}", "x".repeat(ARGUMENT_BYTES_MAX));
    assert!(wrong(When::AtMs(1), &|order| order.argument = Json(large.clone())).contains("at most"));
    // Times at the end of time are no times, and nothing overflows.
    for when in [
        When::AtMs(u64::MAX),
        When::AfterMs(u64::MAX),
        When::EveryMs(u64::MAX),
    ] {
        let far = schedule(when, Missed::All, u64::MAX - 5);
        assert!(matches!(far.stand(0, 5), Stand::Next(_) | Stand::Over));
    }
}

/// A planner by hand, and what it wants called.
/// A planner, the time, and what it was last called for.
#[derive(Default)]
struct Bench(Planner, u64, BTreeMap<String, Slot>);

impl Bench {
    fn at(now: u64) -> Bench {
        Bench(Planner::default(), now, BTreeMap::new())
    }

    fn fires(&mut self) -> Vec<(String, u64)> {
        self.fires_of(&|_| true)
    }

    fn fires_of(&mut self, is_mine: &dyn Fn(&str) -> bool) -> Vec<(String, u64)> {
        let fires = self.0.poll(self.1, is_mine);
        fires
            .into_iter()
            .map(|fire| {
                assert_eq!(
                    fire.call.as_ref().and_then(|(call, _)| call.origin.id.as_deref()),
                    Some(&*format!("{}@{}", fire.name, fire.slot.ms))
                );
                self.2.insert(fire.name.clone(), fire.slot);
                (fire.name, fire.slot.ms / MINUTE)
            })
            .collect()
    }

    fn called(&mut self, name: &str, slot: u64, was_answered: bool) {
        let called = self.2[name];
        assert_eq!(called.ms, slot * MINUTE);
        self.0.called(name, called, was_answered, self.1);
    }

    fn wakes_at(&mut self) -> Option<u64> {
        self.0.next_wakeup(self.1)
    }
}

#[test]
fn each_time_is_called_until_it_is_answered() {
    let mut bench = Bench::default();
    bench.0.set(
        "a",
        Some((schedule(When::EveryMs(MINUTE), Missed::Once, 0), 0)),
        0,
    );
    assert_eq!((bench.fires(), bench.wakes_at()), (vec![], Some(MINUTE)));
    bench.1 = MINUTE;
    assert_eq!(bench.fires(), [("a".into(), 1)]);
    assert_eq!((bench.fires(), bench.wakes_at()), (vec![], None), "one at a time");
    bench.1 = 3 * MINUTE;
    assert_eq!(bench.fires(), []);
    // Not answered: again, after a second, then two, with the time that is due then.
    bench.called("a", 1, false);
    assert_eq!((bench.fires(), bench.wakes_at()), (vec![], Some(bench.1 + 1_000)));
    bench.1 += 1_000;
    assert_eq!(bench.fires(), [("a".into(), 3)]);
    bench.called("a", 3, false);
    assert_eq!(bench.wakes_at(), Some(bench.1 + 2_000));
    for _ in 0..20 {
        bench.1 = bench.wakes_at().unwrap();
        let [(_, slot)] = &bench.fires()[..] else {
            panic!("one")
        };
        bench.called("a", *slot, false);
    }
    assert_eq!(bench.wakes_at(), Some(bench.1 + AGAIN_MS_MAX));
    bench.1 += AGAIN_MS_MAX;
    let [(_, slot)] = bench.fires()[..] else {
        panic!("one")
    };
    bench.called("a", slot, true);
    assert_eq!(
        (bench.fires(), bench.wakes_at()),
        (vec![], Some((slot + 1) * MINUTE))
    );
}

#[test]
fn what_is_somebody_elses_is_left_until_it_is_not() {
    let mut bench = Bench::default();
    let every = || schedule(When::EveryMs(MINUTE), Missed::Once, 0);
    bench.0.set("a", Some((every(), 0)), 0);
    bench.0.set("b", Some((every(), 0)), 0);
    bench.1 = MINUTE;
    assert_eq!(bench.fires_of(&|name| name == "b"), [("b".into(), 1)]);
    assert_eq!(bench.wakes_at(), None, "nobody wakes for what is somebody else's");
    // That one has done it.
    bench.0.set("a", Some((every(), MINUTE)), MINUTE);
    bench.called("b", 1, true);
    assert_eq!((bench.fires(), bench.wakes_at()), (vec![], Some(2 * MINUTE)));
    // That one has died.
    bench.1 = 2 * MINUTE;
    assert_eq!(bench.fires_of(&|name| name == "b"), [("b".into(), 2)]);
    bench.0.look_again(bench.1);
    assert_eq!(bench.fires(), [("a".into(), 2)]);
    // Cancelled while it is called, and ordered again: what comes of the first is nothing to the second.
    bench.0.set("a", None, bench.1);
    bench.0.set(
        "a",
        Some((schedule(When::EveryMs(MINUTE), Missed::Once, bench.1), 0)),
        bench.1,
    );
    bench.called("a", 2, true);
    bench.1 = 3 * MINUTE;
    assert_eq!(bench.fires(), [("a".into(), 3)]);
    bench.0.set("b", None, bench.1);
    bench.called("b", 2, true);
    bench.0.set("a", None, bench.1);
    assert!(bench.0.poll(u64::MAX - 1, &|_| true).is_empty() && bench.wakes_at().is_none());
}

#[test]
fn everybody_finds_the_same_node_and_few_change_theirs() {
    let nodes = |n: u128| (1..=n).map(NodeId);
    let names: Vec<String> = (0..3_000).map(|i| format!("schedule {i}")).collect();
    let mut count = [0; 4];
    for name in &names {
        let of = responsible(name, nodes(3)).unwrap();
        count[of.0 as usize] += 1;
        let more = responsible(name, nodes(4)).unwrap();
        assert!(more == of || more == NodeId(4), "{name} went from {of} to {more}");
        let reversed: Vec<NodeId> = nodes(3).collect();
        assert_eq!(responsible(name, reversed.into_iter().rev()), Some(of));
    }
    assert!(count[1..].iter().all(|n| (800..1_200).contains(n)), "{count:?}");
    assert_eq!(responsible("a", []), None);
}

#[test]
fn what_is_ordered_while_another_order_is_called_for_has_its_own_times() {
    let mut bench = Bench::default();
    let set = |bench: &mut Bench, when| {
        let now = bench.1;
        bench
            .0
            .set("a", Some((schedule(when, Missed::Once, now), 0)), now);
    };
    set(&mut bench, When::EveryMs(MINUTE));
    bench.1 = 5 * MINUTE;
    assert_eq!(bench.fires(), [("a".into(), 5)]);
    set(&mut bench, When::AtMs(2 * MINUTE));
    assert_eq!(bench.fires(), [], "one at a time");
    bench.called("a", 5, true);
    assert_eq!(bench.fires(), [("a".into(), 2)]);
    bench.called("a", 2, true);
    // Nor has it those of a clock that was ahead meanwhile.
    set(&mut bench, When::EveryMs(MINUTE));
    bench.1 = 600 * MINUTE;
    assert_eq!(bench.fires(), [("a".into(), 600)]);
    bench.1 = 7 * MINUTE;
    set(&mut bench, When::EveryMs(2 * MINUTE));
    bench.1 = 9 * MINUTE;
    bench.called("a", 600, true);
    assert_eq!(bench.fires(), [("a".into(), 9)]);
}

#[test]
fn the_end_of_time_is_no_time() {
    let cron: Cron = "* * * * *".parse().unwrap();
    for ms in [u64::MAX, u64::MAX - MINUTE, u64::MAX - 24 * 60 * MINUTE] {
        assert!(cron.after(ms).is_none_or(|next| next > ms), "{ms}");
        assert!(cron.until(ms).is_some_and(|last| last <= ms), "{ms}");
    }
    let minutely = schedule(When::Cron("* * * * *".into()), Missed::Once, 0);
    assert_eq!(minutely.stand(u64::MAX, MINUTE), Stand::Over);
}

#[test]
fn a_clock_that_is_set_back_keeps_nobody_waiting_for_another_try() {
    let mut bench = Bench::default();
    let every = schedule(When::EveryMs(MINUTE), Missed::Once, 0);
    bench.0.set("a", Some((every, 0)), 0);
    bench.1 = 600 * MINUTE;
    assert_eq!(bench.fires(), [("a".into(), 600)]);
    bench.called("a", 600, false);
    bench.1 = 2 * MINUTE;
    assert_eq!((bench.fires(), bench.wakes_at()), (vec![], Some(bench.1 + 1_000)));
    bench.1 += 1_000;
    assert_eq!(bench.fires(), [("a".into(), 2)]);
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_silences_nothing() {
    let every = || schedule(When::EveryMs(MINUTE), Missed::Once, 0);
    let mut ahead = Bench::default();
    ahead.0.set("a", Some((every(), 0)), 0);
    ahead.1 = 600 * MINUTE;
    assert_eq!(ahead.fires(), [("a".into(), 600)]);
    ahead.called("a", 600, true);
    ahead.0.set("a", Some((every(), 600 * MINUTE)), ahead.1);
    ahead.1 = 5 * MINUTE;
    assert_eq!(ahead.fires(), []);
    ahead.1 += MINUTE;
    assert_eq!(ahead.fires(), [("a".into(), 6)]);
    // Nor at a node whose clock was right all the time, or that has just started.
    let mut right = Bench::at(5 * MINUTE);
    right.0.set("a", Some((every(), 600 * MINUTE)), right.1);
    right.1 += MINUTE;
    assert_eq!(right.fires(), [("a".into(), 6)]);
    // What is done by a clock that is a little ahead is done.
    let mut near = Bench::at(5 * MINUTE);
    near.0.set("a", Some((every(), 6 * MINUTE)), near.1);
    near.1 += MINUTE;
    assert_eq!(near.fires(), []);
}

#[test]
fn what_is_somebody_elses_is_not_looked_at_each_time() {
    let mut planner = Planner::default();
    let daily = || schedule(When::Cron("@daily".into()), Missed::Once, 0);
    for n in 0..1_000 {
        planner.set(&n.to_string(), Some((daily(), 0)), 0);
    }
    let looks = std::cell::Cell::new(0);
    let is_mine = |name: &str| {
        looks.set(looks.get() + 1);
        name.ends_with('7')
    };
    let now = 1440 * MINUTE;
    let mut under_way = planner.poll(now, &is_mine);
    let mut called = 0;
    while let Some(fire) = under_way.pop() {
        called += 1;
        planner.called(&fire.name, fire.slot, true, now);
        under_way.extend(planner.poll(now, &is_mine));
    }
    assert_eq!((called, looks.get()), (100, 1_000));
    // Once who is there has changed it is.
    planner.look_again(now);
    assert!(!planner.poll(now, &|_| true).is_empty());
}

#[test]
fn a_schedule_that_there_was_no_room_for_has_its_turn_once_there_is() {
    let mut planner = Planner::default();
    let every = || Some((schedule(When::EveryMs(MINUTE), Missed::Once, 0), 0));
    for n in 0..SCHEDULES_MAX {
        planner.set(&n.to_string(), every(), 0);
    }
    assert_eq!((planner.lists_again_at(), planner.lists_again(0)), (None, false));
    planner.set("one more", every(), 0);
    assert_eq!(planner.names().count(), SCHEDULES_MAX);
    assert_eq!(planner.lists_again_at(), None, "there is no room yet");
    planner.set("5", None, 0);
    assert_eq!(planner.lists_again_at(), Some(0));
    assert!(planner.lists_again(7) && !planner.lists_again(7));
    planner.set("one more", every(), 0);
    assert!(planner.names().any(|name| name == "one more"));
    // One after the other that comes and goes does not have all listed each time.
    planner.set("another", every(), 0);
    planner.set("6", None, 0);
    assert!(!planner.lists_again(8));
    let again = planner.lists_again_at().unwrap();
    assert!(again > 8 && planner.lists_again(again));
}

#[test]
fn an_order_that_schedules_would_refuse_is_refused_where_it_is_made() {
    let new = |when: When, kind: &str, argument: &str| Order::new(when, kind, "a", "run", argument);
    for (order, why) in [
        (new(When::EveryMs(10), "job", ""), "every 10 ms is too often"),
        (new(When::Cron("61 * * * *".into()), "job", ""), "61"),
        (new(When::AfterMs(1), "", ""), "kind"),
        (
            new(When::AfterMs(1), "job", &"x".repeat(70_000)),
            "an argument of 70002 bytes",
        ),
    ] {
        let error = order.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(why), "{error}");
    }
    assert!(new(When::EveryMs(1_000), "job", "").is_ok());
}
