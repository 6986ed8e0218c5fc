//! Clusters whose story is told step by step: what a test of an application's looks like, and that it happens as it is told.

use std::time::Duration;

use anabranch::state::{LwwRegister, OrSet, PnCounter};
use anabranch::{
    Change, Clock, Context, Copies, EntityId, ErrorKind, Function, Level, Mutation, Op, Order, Reading,
    SCHEDULE, Shown, Stage, Type, Update, When,
};
use anabranch_sim::app::{Ask, TestCluster};

use crate::cart::{self, Contents, Line};

type Names = OrSet<String>;

/// Visits are counted, and a guest book is told of them.
fn visits() -> Vec<Function> {
    let visits = Function::of::<PnCounter>("visits")
        .command("visit", |visits, _: &mut Context, ()| {
            visits.increment(1);
            Ok::<_, String>(visits.get())
        })
        .command("close", |_, context: &mut Context, ()| {
            context.delete();
            Ok::<_, String>(())
        })
        .command("burst", |_, _: &mut Context, ()| -> Result<(), String> {
            panic!("a pipe")
        })
        .query("show", |visits, _, ()| Ok::<_, String>(visits.get()));
    let book = Function::of::<Names>("book")
        .command(
            "note",
            |names: &mut Names, context: &mut Context, change: Change| {
                let id = context.call_id().unwrap_or_default().to_owned();
                names.add(&format!("{} {id}", change.key));
                Ok::<_, String>(())
            },
        )
        .query("show", |names: &Names, _, ()| Ok::<_, String>(names.elements()))
        .on_change("visits", "note");
    vec![visits.into(), book.into()]
}

#[test]
fn changes_are_told_to_whom_no_schedule_calls() {
    let mut cluster = TestCluster::start(3, visits);
    visit(&mut cluster, 1, "a").unwrap();
    cluster.wait_until("the book was told", |cluster| {
        let noted = cluster.query::<_, Vec<String>>(2, "book", "a", "show", &());
        noted.is_ok_and(|noted| noted.len() == 1)
    });
}

#[test]
fn a_cart_that_was_filled_on_both_sides_has_both() {
    let mut cluster = TestCluster::start(3, || vec![cart::cart()]);
    cluster.split(&[&[0], &[1, 2]]);
    let line = |quantity| Line {
        product: "boots".to_owned(),
        quantity,
    };
    let one: u64 = cluster.call(0, "cart", "alice", "add", &line(1)).unwrap();
    let two: u64 = cluster.call(2, "cart", "alice", "add", &line(2)).unwrap();
    assert_eq!((one, two), (1, 2));
    cluster.heal();
    cluster.settle();
    let all: Contents = cluster.call(1, "cart", "alice", "show", &()).unwrap();
    assert_eq!(all.lines, [line(3)]);
}

fn shown(cluster: &mut TestCluster, node: usize, key: &str) -> i64 {
    cluster.call(node, "visits", key, "show", &()).unwrap()
}

fn visit(cluster: &mut TestCluster, node: usize, key: &str) -> Result<i64, anabranch::Error> {
    cluster.call(node, "visits", key, "visit", &())
}

#[test]
fn both_sides_of_a_split_go_on_and_agree_once_it_is_healed() {
    let mut cluster = TestCluster::start(3, visits);
    cluster.split(&[&[0], &[1, 2]]);
    assert_eq!(visit(&mut cluster, 0, "a").unwrap(), 1);
    assert_eq!(visit(&mut cluster, 1, "a").unwrap(), 1);
    cluster.wait_until("the other node of its side knows", |cluster| {
        cluster.query(2, "visits", "a", "show", &()) == Ok(1)
    });
    assert_eq!(visit(&mut cluster, 2, "a").unwrap(), 2);
    assert_eq!(shown(&mut cluster, 0, "a"), 1);
    cluster.heal();
    cluster.settle();
    for node in 0..3 {
        assert_eq!(shown(&mut cluster, node, "a"), 3);
    }
}

#[test]
#[should_panic(expected = "does not settle")]
fn what_is_split_does_not_settle() {
    let mut cluster = TestCluster::start(2, visits);
    cluster.split(&[&[0], &[1]]);
    visit(&mut cluster, 0, "a").unwrap();
    cluster.settle();
}

#[test]
#[should_panic(expected = "visit of visits/a at n0")]
fn what_waits_for_a_node_that_stands_still_is_named() {
    let mut cluster = TestCluster::start(2, visits);
    cluster.pause(0, Duration::from_secs(700));
    let _begun = cluster.begin(Ask::of("visits", "a", "visit", &()).at(0));
    cluster.settle();
}

#[test]
fn a_killed_node_is_not_there_until_it_is_started_and_has_what_it_answered_for() {
    let mut cluster = TestCluster::start(3, visits);
    assert_eq!(visit(&mut cluster, 0, "a").unwrap(), 1);
    cluster.cut_power(0);
    let down = visit(&mut cluster, 0, "a").unwrap_err();
    assert_eq!(down.kind(), ErrorKind::Unreachable);
    assert!(!cluster.look(|cluster| cluster.is_up(0)));
    cluster.wait_until("another has heard of it", |cluster| {
        cluster.query(1, "visits", "a", "show", &()) == Ok(1)
    });
    assert_eq!(visit(&mut cluster, 1, "a").unwrap(), 2);
    cluster.restart(0);
    assert!(
        shown(&mut cluster, 0, "a") >= 1,
        "it was answered, and is on its disk"
    );
    cluster.settle();
    assert_eq!(shown(&mut cluster, 0, "a"), 2);
    cluster.kill(2);
    cluster.settle();
    cluster.restart(2);
    cluster.settle();
    assert_eq!(shown(&mut cluster, 2, "a"), 2);
}

#[test]
fn a_session_sees_at_one_node_what_it_did_at_another() {
    let mut cluster = TestCluster::start(2, visits);
    let visit = Ask::of("visits", "a", "visit", &()).at(0).in_session();
    assert_eq!(cluster.ask(visit).reply::<i64>().ok(), Some(1));
    let show = || Ask::of("visits", "a", "show", &()).at(1).in_session();
    assert_eq!(cluster.ask(show()).reply::<i64>().ok(), Some(1));
    cluster.split(&[&[0], &[1]]);
    let visit = Ask::of("visits", "a", "visit", &()).at(0).in_session();
    assert_eq!(cluster.ask(visit).reply::<i64>().ok(), Some(2));
    let stale = cluster.ask(show().within_ms(500));
    assert!(stale.is_error(ErrorKind::Stale), "{stale:?}");
    assert!(
        stale.answered_at - stale.asked_at >= 500_000,
        "it had so much time"
    );
}

#[test]
fn calls_that_are_begun_are_under_way_at_once() {
    let mut cluster = TestCluster::start(1, visits);
    let visit = || Ask::of("visits", "a", "visit", &());
    let begun: Vec<_> = (0..3).map(|_| cluster.begin(visit())).collect();
    let answers = begun.into_iter().map(|begun| cluster.finish(begun));
    let mut answers: Vec<i64> = answers.map(|answer| answer.reply().unwrap()).collect();
    answers.sort_unstable();
    assert_eq!(answers, [1, 2, 3]);
    let burst: Result<(), _> = cluster.call(0, "visits", "a", "burst", &());
    assert_eq!(burst.unwrap_err().kind(), ErrorKind::Lost);
    let () = cluster.call(0, "visits", "a", "close", &()).unwrap();
    assert_eq!(shown(&mut cluster, 0, "a"), 0);
}

#[test]
fn schedules_come_due_as_time_passes_and_changes_are_told() {
    let mut cluster = TestCluster::start(3, visits);
    let order = Order::new(When::EveryMs(60_000), "visits", "daily", "visit", &()).unwrap();
    let () = cluster.call(0, SCHEDULE, "guard", "set", &order).unwrap();
    cluster.pass(Duration::from_secs(59));
    assert_eq!(shown(&mut cluster, 1, "daily"), 0);
    cluster.pass(Duration::from_secs(240));
    assert_eq!(shown(&mut cluster, 1, "daily"), 4);
    cluster.wait_until("the book was told", |cluster| {
        let noted = cluster.query::<_, Vec<String>>(2, "book", "daily", "show", &());
        noted.is_ok_and(|noted| noted.len() == 4)
    });
    // A clock that is ahead has the times of an hour behind it at once, and calls for the last.
    (0..3).for_each(|node| cluster.set_clock_ahead(node, 3_600_000));
    cluster.pass(Duration::from_secs(30));
    assert_eq!(shown(&mut cluster, 0, "daily"), 5);
    // Right again it goes on with the times that come.
    (0..3).for_each(|node| cluster.set_clock_ahead(node, -3_600_000));
    cluster.pass(Duration::from_secs(300));
    assert_eq!(shown(&mut cluster, 0, "daily"), 10);
    let last = cluster.look(|cluster| {
        let shown: Shown = cluster.query(1, SCHEDULE, "guard", "show", &()).unwrap();
        shown.last_ms.unwrap() - shown.since_ms
    });
    assert!(last < 3_600_000, "{last}");
}

/// A lamp that is switched, and who keeps under which name he heard of it.
fn lamps() -> Vec<Function> {
    let lamp =
        Function::of::<LwwRegister<bool>>("lamp").command("switch", |lamp, _: &mut Context, on: bool| {
            lamp.set(&on);
            Ok::<_, String>(())
        });
    let log = Function::of::<Names>("log")
        .command("note", |names: &mut Names, context: &mut Context, _: Change| {
            names.add(context.call_id().unwrap_or_default());
            Ok::<_, String>(())
        })
        .query("show", |names: &Names, _, ()| Ok::<_, String>(names.elements()))
        .on_change("lamp", "note");
    vec![lamp.into(), log.into()]
}

#[test]
fn a_change_back_has_a_name_of_its_own_and_one_that_is_told_again_has_the_same() {
    let mut cluster = TestCluster::start(3, lamps);
    let noted = |cluster: &mut TestCluster, node| {
        cluster.settle();
        cluster.pass(Duration::from_secs(30));
        let noted: Vec<String> = cluster.call(node, "log", "a", "show", &()).unwrap();
        noted.len()
    };
    for (switched, on) in [true, false, true, false].into_iter().enumerate() {
        let () = cluster.call(1, "lamp", "a", "switch", &on).unwrap();
        assert_eq!(noted(&mut cluster, 0), switched + 1);
    }
    // Whoever sees to it anew, wherever that is, tells of it as it was told before.
    for node in 0..3 {
        cluster.kill(node);
        assert_eq!(noted(&mut cluster, (node + 1) % 3), 4);
        cluster.restart(node);
    }
}

#[test]
fn who_stands_still_answers_late_and_is_not_dead() {
    let mut cluster = TestCluster::start(2, visits);
    cluster.pause(0, Duration::from_secs(3));
    let visit = cluster.ask(Ask::of("visits", "a", "visit", &()).at(0));
    assert_eq!(visit.reply::<i64>().ok(), Some(1));
    assert!(visit.answered_at - visit.asked_at >= 3_000_000, "{visit:?}");
}

fn incremented(key: &str, by: i64) -> Update {
    let entity = EntityId::new("visits", key).unwrap();
    let op = Op {
        entity: entity.clone(),
        ty: None,
        mutation: Mutation::Increment(by),
    };
    Update {
        ops: vec![op],
        ..Update::delete(entity)
    }
}

#[test]
fn what_a_client_writes_itself_its_function_sees_and_its_session_reads_anywhere() {
    let mut cluster = TestCluster::start(3, visits);
    cluster.split(&[&[0, 1], &[2]]);
    let five = Ask::update(incremented("a", 5)).at(0).in_session();
    let five = cluster.ask(five);
    assert_eq!(five.reply::<()>().ok(), Some(()));
    assert!(five.made.is_some_and(|made| made.dots.len() == 1));
    assert_eq!(visit(&mut cluster, 0, "a").unwrap(), 6);
    let read = |node| Ask::read("visits", "a").at(node).within_ms(100);
    assert_eq!(cluster.ask(read(2)).read, None);
    let in_session = cluster.ask(read(2).in_session());
    assert!(in_session.is_error(ErrorKind::Stale), "{in_session:?}");
    cluster.heal();
    let read = cluster.ask(Ask::read("visits", "a").at(2).in_session());
    let Some((Type::PnCounter, Reading::Count(5 | 6))) = read.read else {
        panic!("{read:?}");
    };
}

#[test]
fn a_deletion_takes_what_its_node_has_seen_and_a_majority_reads_what_is_left() {
    let mut cluster = TestCluster::start(3, visits);
    visit(&mut cluster, 0, "a").unwrap();
    cluster.settle();
    cluster.split(&[&[0, 1], &[2]]);
    visit(&mut cluster, 2, "a").unwrap();
    cluster.delete(1, "visits", "a").unwrap();
    assert_eq!(cluster.read_majority(0, "visits", "a").unwrap(), None);
    let alone = cluster.ask(Ask::read_majority("visits", "a").at(2).within_ms(100));
    assert!(alone.is_error(ErrorKind::Stale), "{alone:?}");
    cluster.heal();
    cluster.settle();
    assert_eq!(shown(&mut cluster, 1, "a"), 1);
}

fn of_one(entity: &EntityId, ty: Option<Type>, mutation: Mutation) -> Update {
    let op = Op {
        entity: entity.clone(),
        ty,
        mutation,
    };
    Update {
        ops: vec![op],
        ..Update::delete(entity.clone())
    }
}

/// A book that had x, at every node; node 2 has taken that away since, node 1 has heard of it, node 0 has not, and will not hear of
/// it from node 2.
fn half_emptied(ty: Type, x: Mutation, gone: Mutation) -> (TestCluster, EntityId) {
    let book = EntityId::new("shelf", "a").unwrap();
    let mut cluster = TestCluster::start(3, visits);
    cluster.update(0, of_one(&book, Some(ty), x)).unwrap();
    cluster.settle();
    cluster.split(&[&[0], &[1, 2]]);
    let mut old = None;
    cluster.look(|cluster| old = cluster.read(1, &book));
    cluster.update(2, of_one(&book, Some(ty), gone)).unwrap();
    cluster.wait_until("the other hears of it", |cluster| cluster.read(1, &book) != old);
    (cluster, book)
}

/// The session's deletion did not take away what another's had: who has the one and not the other shows that.
#[test]
fn a_session_sees_nothing_of_what_it_deleted_where_another_had_deleted_some_of_it() {
    let (mut cluster, book) = half_emptied(Type::OrSet, Mutation::Add(vec!["x".into()]), Mutation::Delete);
    cluster
        .update(
            1,
            of_one(&book, Some(Type::OrSet), Mutation::Add(vec!["y".into()])),
        )
        .unwrap();
    let deleted = cluster.ask(Ask::delete("shelf", "a").at(1).in_session());
    assert!(deleted.result.is_ok(), "{deleted:?}");
    cluster.heal();
    cluster.split(&[&[2], &[0, 1]]);
    let read = cluster.ask(Ask::read("shelf", "a").at(0).in_session());
    assert!(read.result.is_ok() && read.read.is_none(), "{read:?}");
}

/// So with a majority that confirms it: it must still be gone when the node that made it is lost, too.
#[test]
fn what_a_majority_confirms_as_taken_away_is_gone_at_a_majority() {
    let x = || Mutation::Add(vec!["x".into()]);
    let set = |value: &'static str| Mutation::Set {
        value: value.into(),
        clock: Clock::Default,
    };
    let left_to_one = Reading::Values(vec!["z".into()]);
    let cases = [
        (Type::OrSet, x(), Mutation::Delete, Mutation::Delete, None),
        (
            Type::OrSet,
            x(),
            Mutation::Clear,
            Mutation::Clear,
            Some(Reading::Elements(vec![])),
        ),
        (Type::MvRegister, set("x"), set("y"), set("z"), Some(left_to_one)),
    ];
    for (ty, x, gone, again, left) in cases {
        let (mut cluster, book) = half_emptied(ty, x.clone(), gone);
        if ty == Type::OrSet {
            let y = Mutation::Add(vec!["y".into()]);
            cluster.update(1, of_one(&book, Some(ty), y)).unwrap();
        }
        // Nobody else has both.
        cluster.kill(2);
        let level = Level {
            copies: Copies::Majority,
            stage: Stage::Durable,
        };
        let update = Update {
            level,
            ..of_one(&book, None, again)
        };
        let asked = cluster.begin(Ask::update(update).at(1));
        cluster.heal();
        let answered = cluster.finish(asked);
        assert!(answered.result.is_ok(), "{answered:?}");
        cluster.look(|cluster| assert_eq!(cluster.read(0, &book).map(|(_, is)| is), left));
    }
}

#[test]
fn a_call_of_a_certain_node_runs_there_or_not_at_all() {
    let mut cluster = TestCluster::start(3, visits);
    let on = |node| Ask::of("visits", "a", "visit", &()).at(0).on(node);
    assert_eq!(cluster.ask(on(2)).reply::<i64>().ok(), Some(1));
    let ran_at = |cluster: &mut TestCluster, node| {
        let shown: Result<i64, String> = cluster.look(|at| at.query(node, "visits", "a", "show", &()));
        shown
    };
    assert_eq!(ran_at(&mut cluster, 2), Ok(1));
    cluster.settle();
    cluster.split(&[&[0], &[1, 2]]);
    let lost = cluster.ask(on(2).within_ms(500));
    assert!(lost.may_have_run(), "{lost:?}");
    cluster.kill(2);
    cluster.heal();
    cluster.pass(Duration::from_secs(30));
    let down = cluster.ask(on(2));
    assert!(down.is_error(ErrorKind::Unreachable), "{down:?}");
    assert_eq!(ran_at(&mut cluster, 0), Ok(1));
    assert_eq!(cluster.ask(on(0)).reply::<i64>().ok(), Some(2));
}

#[test]
fn who_asks_a_node_that_dies_hears_that_nobody_knows() {
    let mut cluster = TestCluster::start(3, visits);
    cluster.pause(0, Duration::from_secs(2));
    let update = cluster.begin(Ask::update(incremented("a", 1)).at(0));
    let read = cluster.begin(Ask::read("visits", "a").at(0));
    let elsewhere = cluster.begin(Ask::of("visits", "a", "visit", &()).at(1).on(0));
    cluster.kill(0);
    for begun in [update, read, elsewhere] {
        let answered = cluster.finish(begun);
        assert!(answered.is_error(ErrorKind::Unanswered), "{answered:?}");
    }
    let down = cluster.update(0, incremented("a", 1)).unwrap_err();
    assert_eq!(down.kind(), ErrorKind::Unreachable);
    cluster.restart(0);
    cluster.settle();
    assert_eq!(shown(&mut cluster, 2, "a"), 0);
}

#[test]
fn what_is_anabranchs_own_is_not_written_by_others() {
    let mut cluster = TestCluster::start(2, visits);
    let refused = cluster.delete(0, SCHEDULE, "a").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
}

#[test]
fn all_runs_are_alike() {
    let story = || {
        let lines = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let mut cluster = TestCluster::start(3, visits);
        let heard = std::rc::Rc::clone(&lines);
        cluster.tell(move |line| heard.borrow_mut().push(line.to_owned()));
        visit(&mut cluster, 0, "a").unwrap();
        cluster.cut_power(0);
        cluster.settle();
        lines.take()
    };
    let first = story();
    assert!(first.len() > 2, "{first:?}");
    assert_eq!(first, story());
}

/// Its share of changes and schedules is seen to all the time: by the others until it does that itself, although it cannot know what the
/// dead one has called for.
#[test]
fn while_one_is_dead_another_that_restarts_leaves_nothing_to_wait_for() {
    let mut cluster = TestCluster::start(3, visits);
    visit(&mut cluster, 0, "first").unwrap();
    for name in 0..10 {
        let name = format!("s{name}");
        let order = Order::new(When::EveryMs(1_000), "visits", &name, "visit", &()).unwrap();
        let () = cluster.call(0, SCHEDULE, &name, "set", &order).unwrap();
    }
    cluster.kill(2);
    cluster.pass(Duration::from_secs(120));
    cluster.kill(1);
    cluster.pass(Duration::from_secs(60));
    cluster.restart(1);
    let begun = cluster.look(|cluster| cluster.now());
    for n in 0..20 {
        let key = format!("k{n}");
        visit(&mut cluster, 0, &key).unwrap();
        cluster.wait_until("the book has it", |cluster| {
            let noted: Result<Vec<String>, String> = cluster.query(0, "book", &key, "show", &());
            noted.is_ok_and(|noted| noted.iter().any(|line| line.starts_with(&format!("{key} "))))
        });
    }
    let took = cluster.look(|cluster| cluster.now()) - begun;
    assert!(took < 2_000_000, "twenty changes were told within {took} us");
    let counts = |cluster: &mut TestCluster| -> Vec<i64> {
        let counts = (0..10).map(|name| shown(cluster, 0, &format!("s{name}")));
        counts.collect()
    };
    let before = counts(&mut cluster);
    cluster.pass(Duration::from_secs(5));
    let after = counts(&mut cluster);
    let gained: Vec<i64> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| after - before)
        .collect();
    assert!(gained.iter().all(|gained| *gained >= 4), "{gained:?}");
}

#[test]
#[should_panic(expected = "there is no node 3: there are 3")]
fn a_node_that_is_not_there_is_told_of() {
    TestCluster::start(3, visits).kill(3);
}

/// A node that has started is linked with some members, which hand on what it writes, before it is linked with the others: those have
/// it, but not on their disks yet, when their link with it comes up.
#[test]
fn a_write_by_all_waits_for_links_and_disks_and_not_for_the_next_digest() {
    let kept = || {
        let kept = Function::of::<PnCounter>("kept").command("hit", |hits, context: &mut Context, ()| {
            context.confirm(Level {
                copies: Copies::All,
                stage: Stage::Durable,
            });
            hits.increment(1);
            Ok::<_, String>(())
        });
        vec![kept.into()]
    };
    let mut cluster = TestCluster::start(5, kept);
    for n in 0..30 {
        cluster.kill(4);
        cluster.split(&[&[4], &[2, 3]]);
        cluster.pass(Duration::from_secs(20));
        cluster.restart(4);
        cluster.pass(Duration::from_millis(161 + 7 * (n % 7)));
        let hit = cluster.begin(Ask::of("kept", "a", "hit", &()).at(4));
        cluster.pass(Duration::from_millis(391 + 17 * (n % 11)));
        cluster.heal();
        let linked = cluster.look(|cluster| cluster.now());
        let hit = cluster.finish(hit);
        assert!(hit.result.is_ok(), "{hit:?}");
        let waited = hit.answered_at.saturating_sub(linked);
        assert!(waited < 1_000_000, "{n}: {waited} us after all were linked");
    }
}
