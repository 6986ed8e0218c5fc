//! Schedules and changes that functions are told of, on whole nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Scratch, id, within};
use anabranch_crdt::{Clock, Mutation, Type};

use crate::engine::{Level, Op, Update};
use crate::error::ErrorKind;
use crate::function::state::{MultiMap, OrSet, PnCounter};
use crate::function::{Change, Context, Function};
use crate::node::{Node, NodeBuilder};
use crate::trigger::{Missed, Order, Plan, SCHEDULE, Schedule, Shown, Slot, When};

/// A function that keeps by what names it was called.
fn journal() -> Function {
    Function::of::<OrSet<String>>("journal")
        .command("note", |seen, context: &mut Context, what: String| {
            let id = context.call_id().ok_or("a call of a schedule has a name")?;
            seen.add(&format!("{what} {id}"));
            Ok::<_, String>(())
        })
        .command("refuse", |_, _: &mut Context, ()| Err::<(), _>("never"))
        .command("fail", |_, _: &mut Context, ()| -> Result<(), String> {
            panic!("for good")
        })
        .into()
}

/// A function that is told of every change of a cart, and of one quota.
fn told() -> Function {
    Function::of::<MultiMap<String, String>>("told")
        .command("note", |seen, context: &mut Context, change: Change| {
            let id = context.call_id().unwrap_or_default().to_owned();
            seen.add(&change.kind, &id);
            Ok::<_, String>(())
        })
        .on_change("cart", "note")
        .on_change_of("quota", "api", "note")
        .into()
}

async fn started(builder: NodeBuilder) -> Node {
    let node = within(builder.start()).await.unwrap();
    within(node.ready()).await;
    node
}

async fn set(node: &Node, name: &str, order: Order) {
    let () = within(node.call(SCHEDULE, name, "set", &order)).await.unwrap();
}

fn order(when: When, method: &str, argument: &impl serde::Serialize) -> Order {
    Order::new(when, "journal", "all", method, argument).unwrap()
}

/// Waits until the journal at this node holds all of these; returns all of it.
async fn noted(node: &Node, wanted: &[String]) -> BTreeSet<String> {
    let mut watch = node.watch(&id("journal", "all"));
    let all = async {
        loop {
            let Some((_, crate::Reading::Elements(all))) = watch.next().await.unwrap() else {
                continue;
            };
            let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let all: BTreeSet<String> = all.iter().map(text).collect();
            if wanted
                .iter()
                .all(|one| all.iter().any(|noted| noted.starts_with(one.as_str())))
            {
                return all;
            }
        }
    };
    within(all).await
}

async fn shown(node: &Node, name: &str) -> Option<Shown> {
    within(node.call(SCHEDULE, name, "show", &())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ordered_is_called_at_its_time_under_its_name() {
    let scratch = Scratch::new();
    let node = started(scratch.builder(1).function(journal())).await;
    set(&node, "soon", order(When::AfterMs(50), "note", &"once")).await;
    set(&node, "often", order(When::EveryMs(1_000), "note", &"again")).await;
    set(
        &node,
        "nightly",
        order(When::Cron("@daily".into()), "note", &"late"),
    )
    .await;
    let next = shown(&node, "nightly").await.unwrap().next_ms.unwrap();
    assert_eq!(next % 86_400_000, 0);
    let all = noted(&node, &["once soon@".into(), "again often@".into()]).await;
    assert!(
        all.len() >= 2 && !all.iter().any(|noted| noted.starts_with("late")),
        "{all:?}"
    );
    // What was for once is over, and what goes on says when.
    let mut watch = node.watch(&id(SCHEDULE, "soon"));
    within(async { while watch.next().await.unwrap().is_some() {} }).await;
    assert_eq!(shown(&node, "soon").await, None);
    let slot = |of: &str| of.rsplit('@').next().unwrap().parse::<u64>().unwrap();
    let first = slot(all.iter().find(|noted| noted.starts_with("again")).unwrap());
    let often = shown(&node, "often").await.unwrap();
    assert!(first > often.since_ms && (first - often.since_ms).is_multiple_of(1_000));
    let () = within(node.call(SCHEDULE, "often", "cancel", &())).await.unwrap();
    assert_eq!(shown(&node, "often").await, None);
    let wrong = Order {
        when: When::Cron("0 0 31 feb *".into()),
        ..order(When::AtMs(1), "note", &"never")
    };
    let error = within(node.call::<_, ()>(SCHEDULE, "wrong", "set", &wrong))
        .await
        .unwrap_err();
    assert!(
        error.kind() == ErrorKind::Refused && error.message().contains("no such day"),
        "{error}"
    );
    let own = Function::of::<PnCounter>("anabranch:mine").query("get", |n, _, ()| Ok::<_, String>(n.get()));
    let error = within(scratch.builder(2).function(own).start())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_due_while_no_node_was_there_is_made_good() {
    let scratch = Scratch::new();
    let begin = async || started(scratch.builder(1).function(journal())).await;
    let node = begin().await;
    let soon = |missed| order(When::AfterMs(300), "note", &"missed").missed(missed);
    set(&node, "made good", soon(Missed::Once)).await;
    set(&node, "also", soon(Missed::All)).await;
    let ordered = shown(&node, "made good").await.unwrap();
    let late = When::AtMs(ordered.since_ms - 120_000);
    set(
        &node,
        "skipped",
        order(late, "note", &"never").missed(Missed::Skip),
    )
    .await;
    within(node.shutdown()).await.unwrap();
    // Not before its time.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let node = begin().await;
    let slot = ordered.since_ms + 300;
    let all = noted(
        &node,
        &[format!("missed made good@{slot}"), "missed also@".into()],
    )
    .await;
    // What is too late is over, and was not called for.
    let mut watch = node.watch(&id(SCHEDULE, "skipped"));
    within(async { while watch.next().await.unwrap().is_some() {} }).await;
    assert!(!all.iter().any(|noted| noted.starts_with("never")), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_is_made_again_and_one_that_is_refused_is_answered() {
    let scratch = Scratch::new();
    let node = started(scratch.builder(1).function(journal())).await;
    set(&node, "refused", order(When::AfterMs(10), "refuse", &())).await;
    set(&node, "fails", order(When::AfterMs(10), "fail", &())).await;
    set(&node, "no such", order(When::AfterMs(10), "nothing", &())).await;
    for over in ["refused", "no such"] {
        let mut watch = node.watch(&id(SCHEDULE, over));
        within(async { while watch.next().await.unwrap().is_some() {} }).await;
    }
    let fails = || {
        let methods = node.status().methods;
        let of = methods.into_iter().find(|of| of.method == "fail").unwrap();
        of.errors
    };
    within(async {
        while fails() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(
        shown(&node, "fails").await.is_some(),
        "it goes on until it is answered"
    );
    let counters = node.status().counters;
    assert!(
        counters["triggers"] >= 3 && counters["triggers_unanswered"] >= 1,
        "{counters:?}"
    );
    assert!(
        counters["triggers"] > counters["triggers_unanswered"],
        "{counters:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_node_goes_another_makes_its_calls() {
    let scratch = Scratch::new();
    let one = started(scratch.builder(1).function(journal())).await;
    let seeds = vec![one.quic_address().to_string()];
    let two = started(scratch.builder(2).function(journal()).seeds(seeds)).await;
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    for (i, name) in names.iter().enumerate() {
        let node = [&one, &two][i % 2];
        set(node, name, order(When::AfterMs(1_000), "note", &"both")).await;
    }
    // Each of them had some to make.
    within(two.shutdown()).await.unwrap();
    let wanted: Vec<String> = names.iter().map(|name| format!("both {name}@")).collect();
    let all = noted(&one, &wanted).await;
    assert_eq!(all.len(), 20, "each under one name: {all:?}");
}

/// Waits until this entity's changes were told of so many times, under different names.
async fn told_of(node: &Node, kind: &str, key: &str, times: usize) {
    let mut watch = node.watch(&id("told", key));
    let all = async {
        loop {
            if let Some((_, crate::Reading::Map(told))) = watch.next().await.unwrap()
                && let Some(crate::Reading::Elements(names)) = told.get(kind.as_bytes())
                && names.len() >= times
            {
                return;
            }
        }
    };
    within(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_told_of_changes_whoever_makes_them_and_whenever() {
    let scratch = Scratch::new();
    let begin = async |seeds: &[&Node]| {
        let seeds = seeds.iter().map(|node| node.quic_address().to_string()).collect();
        started(scratch.builder(1).function(told()).seeds(seeds)).await
    };
    let one = begin(&[]).await;
    // A node without functions: it tells nobody, and nobody waits for it.
    let seeds = vec![one.quic_address().to_string()];
    let two = started(scratch.builder(2).seeds(seeds)).await;
    let add = async |node: &Node, kind: &str, key: &str| {
        let entity = node.entity::<crate::PnCounter>(kind, key).unwrap();
        within(entity.increment(1)).await.unwrap();
    };
    for key in ["a", "b", "c"] {
        add(&one, "cart", key).await;
        told_of(&one, "cart", key, 1).await;
        add(&two, "cart", key).await;
        told_of(&one, "cart", key, 2).await;
    }
    add(&two, "quota", "other").await;
    add(&two, "quota", "api").await;
    told_of(&one, "quota", "api", 1).await;
    assert_eq!(one.read(&id("told", "other")), None, "nobody asked for it");
    // What changes while nobody is there who could be told.
    within(one.shutdown()).await.unwrap();
    drop(one);
    for key in ["a", "new"] {
        add(&two, "cart", key).await;
    }
    let one = begin(&[&two]).await;
    told_of(&one, "cart", "a", 3).await;
    told_of(&one, "cart", "new", 1).await;
    within(one.delete(&id("cart", "new"))).await.unwrap();
    told_of(&one, "cart", "new", 2).await;
}

#[tokio::test]
async fn only_a_command_can_be_told_of_changes() {
    let scratch = Scratch::new();
    for method in ["get", "nothing"] {
        let function = Function::of::<PnCounter>("n")
            .query("get", |n, _, ()| Ok::<_, String>(n.get()))
            .on_change("cart", method);
        let error = within(scratch.builder(1).function(function).start())
            .await
            .unwrap_err();
        assert!(error.message().contains("none of its commands"), "{error}");
    }
    let long = Function::of::<PnCounter>("n")
        .command("note", |_, _: &mut Context, _: Change| Ok::<_, String>(()))
        .on_change_of("cart", &"k".repeat(crate::wire::KEY_BYTES_MAX - 64), "note");
    let error = within(scratch.builder(1).function(long).start())
        .await
        .unwrap_err();
    assert!(error.message().contains("bytes together"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_outlives_the_answer_to_what_was_ordered_before_it() {
    let scratch = Scratch::new();
    let node = started(scratch.builder(1).function(journal())).await;
    let shown_at = u64::MAX / 2;
    // As a function does that orders its own next time: the call that it answers is of the order before.
    for when in [When::AtMs(shown_at), When::AfterMs(shown_at)] {
        set(&node, "next", order(when.clone(), "note", &"later")).await;
        let since = shown(&node, "next").await.unwrap().since_ms;
        let before = Slot { plan: 1, ms: since };
        let () = within(node.call(SCHEDULE, "next", "done", &before))
            .await
            .unwrap();
        let next = shown(&node, "next").await.map(|shown| shown.order.when);
        assert_eq!(next, Some(when), "it was not called for yet");
    }
    // Nor is a time that never comes the end of one that goes on.
    set(&node, "on", order(When::EveryMs(1_000), "note", &"on")).await;
    let plan = plan_of(&shown(&node, "on").await.unwrap());
    let done = async |ms: u64| {
        let slot = Slot { plan, ms };
        within(node.call::<_, ()>(SCHEDULE, "on", "done", &slot)).await
    };
    let next = async || shown(&node, "on").await.unwrap().next_ms.unwrap();
    let refused = done(u64::MAX).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "who says so has no such time");
    // The clock of the node that made the call may be ahead; so far ahead only one that is wrong is.
    let wrong = next().await + 30 * 60_000;
    done(wrong).await.unwrap();
    assert!(next().await < wrong);
    let ahead = next().await + 40_000;
    done(ahead).await.unwrap();
    assert!(next().await > ahead);
    done(ahead - 1_000).await.unwrap();
    assert!(next().await > ahead, "what was done before it is");
    // Ordered anew it has its times again.
    set(&node, "on", order(When::EveryMs(1_000), "note", &"on")).await;
    assert!(next().await < ahead);
    // Also where the end of what the clock of another node called for under the order before comes later.
    done(ahead).await.unwrap();
    assert!(next().await < ahead);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_has_noted_as_done_is_done() {
    let scratch = Scratch::new();
    let node = started(scratch.builder(1).function(journal())).await;
    let text = |text: &str| bytes::Bytes::copy_from_slice(text.as_bytes());
    let field = |name: &str, ty, value: &[u8]| {
        let mutation = Box::new(Mutation::Set {
            value: bytes::Bytes::copy_from_slice(value),
            clock: Clock::Default,
        });
        let (key, ty) = (text(name), Some(ty));
        let mutation = Mutation::Update { key, ty, mutation };
        let (entity, ty) = (id(SCHEDULE, "old"), Some(Type::OrMap));
        Op { entity, ty, mutation }
    };
    let order = order(When::Cron("* * * * *".into()), "note", &"old");
    let (since_ms, now) = (60_000, crate::driver::clock::wall_ms());
    let done = now + 30 * 60_000;
    let plan = postcard::to_extend(&Plan { order, since_ms }, Vec::new()).unwrap();
    let done_bytes = postcard::to_extend(&done, Vec::new()).unwrap();
    let ops = vec![
        field("done", Type::MvRegister, &done_bytes),
        field("plan", Type::LwwRegister, &plan),
    ];
    let (key, after) = (None, None);
    let update = Update {
        ops,
        level: Level::default(),
        key,
        after,
        timeout_ms: 10_000,
    };
    within(node.handle().update(update)).await.unwrap();
    let old = shown(&node, "old").await.unwrap();
    assert_eq!(old.last_ms, Some(done));
    // And what is done from now on is noted beside it.
    let slot = Slot {
        plan: plan_of(&old),
        ms: done + 60_000,
    };
    let () = within(node.call(SCHEDULE, "old", "done", &slot)).await.unwrap();
    assert_eq!(shown(&node, "old").await.unwrap().last_ms, Some(slot.ms));
}

/// What tells a schedule's order from others under its name.
fn plan_of(shown: &Shown) -> u64 {
    let plan = Plan {
        order: shown.order.clone(),
        since_ms: shown.since_ms,
    };
    Schedule::new(plan).unwrap().id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_no_node_has_now_is_called_once_one_has() {
    let scratch = Scratch::new();
    let here = Function::of::<OrSet<String>>("here")
        .command("note", |seen, context: &mut Context, ()| {
            seen.add(&context.call_id().unwrap_or_default().to_owned());
            Ok::<_, String>(())
        })
        .into();
    let one: Function = here;
    let one = started(scratch.builder(1).function(one)).await;
    set(&one, "waits", order(When::AfterMs(10), "note", &"at last")).await;
    let local = Order::new(When::EveryMs(1_000), "here", "a", "note", &()).unwrap();
    set(&one, "local", local).await;
    // Once that was called twice, the other was called in vain.
    let mut watch = one.watch(&id("here", "a"));
    within(async {
        loop {
            if let Some((_, crate::Reading::Elements(seen))) = watch.next().await.unwrap()
                && seen.len() >= 2
            {
                return;
            }
        }
    })
    .await;
    let seeds = vec![one.quic_address().to_string()];
    let two = started(scratch.builder(2).function(journal()).seeds(seeds)).await;
    noted(&two, &["at last waits@".into()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_again_that_it_has_functions_where_that_is_gone() {
    let scratch = Scratch::new();
    let node = started(scratch.builder(1).function(journal())).await;
    let mut watch = node.watch(&id("anabranch:trigger", "nodes"));
    within(async { while watch.next().await.unwrap().is_none() {} }).await;
    let hosts = id("anabranch:trigger", "nodes");
    let error = within(node.delete(&hosts)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    // Nodes of an earlier version take that, and what they took comes to others.
    within(node.handle().update(Update::delete(hosts))).await.unwrap();
    // Without it nobody is there who makes calls.
    set(&node, "soon", order(When::AfterMs(10), "note", &"all the same")).await;
    noted(&node, &["all the same soon@".into()]).await;
}
