//! Functions in Rust at whole nodes: one command at a time, nothing left of what failed, and nobody waits in vain.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PATIENCE, Scratch, commands_waiting, id, increment, until, within};
use crate::error::{Error, ErrorKind};
use crate::function::state::{CounterMap, OrSet, PnCounter};
use crate::function::{Context, Function};
use crate::node::Node;
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::wire::Token;

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum No {
    #[error("{0} is odd")]
    Odd(i64),
}

/// A counter with methods that do well and ones that do not.
fn counter() -> Function {
    let add = |count: &mut PnCounter, _: &mut Context, by: i64| {
        count.increment(by);
        Ok::<_, String>(count.get())
    };
    let add_even = |count: &mut PnCounter, _: &mut Context, by: i64| {
        count.increment(by);
        if by % 2 == 1 { Err(No::Odd(by)) } else { Ok(()) }
    };
    let panic = |count: &mut PnCounter, _: &mut Context, by: i64| -> Result<(), String> {
        count.increment(by);
        panic!("by {by}")
    };
    let large = |count: &mut PnCounter, _: &mut Context, bytes: usize| {
        count.increment(1);
        Ok::<_, String>("x".repeat(bytes))
    };
    Function::of::<PnCounter>("count")
        .command("add", add)
        .command("add_even", add_even)
        .command("panic", panic)
        .command("panic_aloud", |_, _, text: String| -> Result<(), String> {
            panic!("{text}")
        })
        .command("large", large)
        .command("delete", |_, context, ()| {
            context.delete();
            Ok::<_, String>(())
        })
        .command("everywhere", |count, context, ()| {
            count.increment(1);
            context.confirm("all".parse().map_err(|e: Error| e.to_string())?);
            Ok::<_, String>(())
        })
        .query("get", |count, _, ()| Ok::<_, String>(count.get()))
        .query("panic_looking", |_, _, ()| -> Result<(), String> {
            panic!("at nothing")
        })
        .into()
}

async fn start(scratch: &Scratch, function: Function) -> Node {
    within(scratch.builder(1).function(function).start())
        .await
        .unwrap()
}

async fn add(node: &Node, key: &str, by: i64) -> Result<i128, Error> {
    within(node.call("count", key, "add", &by)).await
}

async fn kind<R: serde::de::DeserializeOwned>(
    node: &Node,
    method: &str,
    argument: &impl Serialize,
) -> ErrorKind {
    let result = within(node.call::<_, R>("count", "a", method, argument)).await;
    result.err().expect("it is refused").kind()
}

/// A cart that takes a tuple, and what counts in other types.
fn quantities() -> Function {
    Function::of::<CounterMap<String>>("cart")
        .command("add", |lines, _, (product, quantity): (String, u32)| {
            lines.increment(&product, quantity.into());
            Ok::<_, String>(lines.get(&product))
        })
        .query("get", |lines, _, product: String| {
            let count = i64::try_from(lines.get(&product)).map_err(|e| e.to_string())?;
            Ok::<_, String>(count)
        })
        .into()
}

#[tokio::test]
async fn a_number_is_what_it_is_to_whoever_takes_it_as_another_type() {
    let scratch = Scratch::new();
    let node = start(&scratch, quantities()).await;
    let count: i64 = within(node.call("cart", "alice", "add", &("umbrella", 2)))
        .await
        .unwrap();
    assert_eq!(count, 2, "a literal is an i32, and the cart takes a u32");
    let negative = within(node.call::<_, i128>("cart", "alice", "add", &("boots", -1)))
        .await
        .unwrap_err();
    assert_eq!(negative.kind(), ErrorKind::Invalid);
    assert!(negative.message().contains("negative integer"), "{negative}");
    let count: u64 = within(node.call("cart", "alice", "get", "umbrella"))
        .await
        .unwrap();
    assert_eq!(count, 2, "an i64 as a u64");
    let flag = within(node.call::<_, bool>("cart", "alice", "get", "umbrella"))
        .await
        .unwrap_err();
    assert_eq!(flag.kind(), ErrorKind::Unanswered);
    assert!(flag.message().contains("expected bool"), "{flag}");

    // What an older node sends.
    let old = Payload::of(Encoding::Postcard, &("boots", 3_u32)).unwrap();
    let call = Call::new(id("cart", "alice"), "add", old);
    let (reply, _) = within(node.call_payload(call, None, PATIENCE)).await.unwrap();
    assert_eq!(reply.encoding, Encoding::Postcard, "it knows no other");
    assert_eq!(reply.read::<i128>(), Ok(3));
    within(node.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_command_that_fails_leaves_no_trace() {
    let scratch = Scratch::new();
    let node = start(&scratch, counter()).await;
    assert_eq!(add(&node, "a", 3).await, Ok(3));
    let refused = within(node.call::<_, ()>("count", "a", "add_even", &7))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind(), refused.message()),
        (ErrorKind::Refused, "7 is odd")
    );
    assert_eq!(refused.details(), Some(No::Odd(7)));
    let panicked = within(node.call::<_, ()>("count", "a", "panic", &5))
        .await
        .unwrap_err();
    assert_eq!(panicked.kind(), ErrorKind::Lost);
    assert!(
        !panicked.changed_state() && panicked.message().contains("by 5"),
        "it waits for nobody: {panicked}"
    );
    let loud = within(node.call::<_, ()>("count", "a", "panic_aloud", &"☃".repeat(10_000)))
        .await
        .unwrap_err();
    assert_eq!(loud.kind(), ErrorKind::Lost);
    let said = loud.message().matches('☃').count();
    assert!((1_000..2_000).contains(&said), "{said}");
    let looked = within(node.call::<_, ()>("count", "a", "panic_looking", &()))
        .await
        .unwrap_err();
    assert!(
        looked.kind() == ErrorKind::Lost && !looked.changed_state(),
        "{looked}"
    );
    assert_eq!(
        kind::<String>(&node, "large", &(2 << 20)).await,
        ErrorKind::Refused
    );
    assert_eq!(kind::<()>(&node, "add", &"text").await, ErrorKind::Invalid);
    assert_eq!(kind::<()>(&node, "subtract", &1).await, ErrorKind::NoFunction);
    let elsewhere = within(node.call::<_, ()>("n", "a", "add", &1)).await.unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::NoFunction);
    let spaces = Payload {
        encoding: Encoding::Json,
        bytes: vec![b' '; 2 << 20].into(),
    };
    let huge = Call::new(id("count", "a"), "add", spaces);
    let refused = within(node.call_payload(huge, None, PATIENCE)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let count: i128 = within(node.call("count", "a", "get", &())).await.unwrap();
    assert_eq!(count, 3);
    // What did well goes on, and the entity is one like any other.
    within(node.call::<_, ()>("count", "a", "add_even", &4))
        .await
        .unwrap();
    let counter = node.entity::<crate::PnCounter>("count", "a").unwrap();
    within(counter.increment(10)).await.unwrap();
    assert_eq!(add(&node, "a", 1).await, Ok(18));
    within(node.call::<_, ()>("count", "a", "delete", &()))
        .await
        .unwrap();
    assert_eq!(counter.get(), None);
    assert_eq!(commands_waiting(&node), 0);
    within(node.shutdown()).await.unwrap();
    assert_eq!(add(&node, "a", 1).await.unwrap_err().kind(), ErrorKind::Stopping);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_one_entity_run_one_after_the_other_and_see_each_other() {
    let scratch = Scratch::new();
    let running = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&running);
    let function = Function::of::<OrSet<i128>>("set").command("next", move |set, _, ()| {
        assert_eq!(counted.fetch_add(1, Ordering::SeqCst), 0, "two at once");
        let next = set.len() as i128;
        set.add(&next);
        std::thread::yield_now();
        counted.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, String>(next)
    });
    let node = start(&scratch, function.into()).await;
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move {
                within(node.call::<_, i128>("set", "a", "next", &()))
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut replies = Vec::new();
    for call in calls {
        replies.push(call.await.unwrap());
    }
    replies.sort_unstable();
    assert!(replies.into_iter().eq(0..64), "each has seen those before it");
}

/// A function of which one method waits until the test lets it go on.
fn slow() -> (Function, Arc<Barrier>) {
    let barrier = Arc::new(Barrier::new(2));
    let (begun, ended) = (Arc::clone(&barrier), Arc::clone(&barrier));
    let function = Function::of::<PnCounter>("count")
        .command("slow", move |count, _, ()| {
            count.increment(1);
            begun.wait();
            begun.wait();
            Ok::<_, String>(count.get())
        })
        .command("add", |count, _, by: i64| {
            count.increment(by);
            Ok::<_, String>(count.get())
        });
    (function.into(), ended)
}

/// Begins a call of the slow method on a thread of its own, and returns once it runs.
fn begin_slow(node: &Node, barrier: &Barrier, timeout: Duration) -> mpsc::Receiver<Result<(), Error>> {
    let (sender, receiver) = mpsc::channel();
    let (node, runtime) = (node.clone(), tokio::runtime::Handle::current());
    std::thread::spawn(move || {
        let call = Call::new(
            id("count", "a"),
            "slow",
            Payload::of(Encoding::Postcard, &()).unwrap(),
        );
        let result = runtime.block_on(node.call_payload(call, None, timeout));
        sender.send(result.map(|_| ())).unwrap();
    });
    barrier.wait();
    receiver
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_function_that_does_not_return_is_told_so() {
    let scratch = Scratch::new();
    let (function, barrier) = slow();
    let node = start(&scratch, function).await;
    let hung = begin_slow(&node, &barrier, Duration::from_secs(2));
    // It waits until the one before it is given up, and is then run.
    assert_eq!(add(&node, "a", 10).await, Ok(10));
    assert_eq!(add(&node, "b", 10).await, Ok(10), "others go on");
    barrier.wait();
    let lost = hung.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Lost);
    assert_eq!(add(&node, "a", 0).await, Ok(10), "what it did late is nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_time_is_over_before_it_begins_never_does() {
    let scratch = Scratch::new();
    let (function, barrier) = slow();
    let node = start(&scratch, function).await;
    let first = begin_slow(&node, &barrier, PATIENCE);
    let call = Call::new(
        id("count", "a"),
        "add",
        Payload::of(Encoding::Postcard, &100).unwrap(),
    );
    let late = within(node.call_payload(call, None, Duration::from_millis(50))).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Expired);
    barrier.wait();
    first.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(add(&node, "a", 0).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let (function, barrier) = slow();
    let node = start(&scratch, function).await;
    let first = begin_slow(&node, &barrier, PATIENCE);
    let waiting = || commands_waiting(&node);
    let gone: Vec<_> = (0..20)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.call::<_, i128>("count", "a", "add", &100).await })
        })
        .collect();
    until(|| waiting() >= 21).await;
    gone.iter().for_each(tokio::task::JoinHandle::abort);
    until(|| waiting() <= 1).await;
    barrier.wait();
    first.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(add(&node, "a", 0).await, Ok(1));
    assert_eq!(waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_did_not_see_stays() {
    let scratch = Scratch::new();
    let (begun, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let barriers = (Arc::clone(&begun), Arc::clone(&go_on));
    let function = Function::of::<OrSet<String>>("set").command("clear", move |set, _, ()| {
        barriers.0.wait();
        barriers.1.wait();
        set.clear();
        Ok::<_, String>(set.len())
    });
    let node = start(&scratch, function.into()).await;
    let set = node.entity::<crate::OrSet>("set", "a").unwrap();
    within(set.add("seen")).await.unwrap();
    let clearing = {
        let (node, runtime) = (node.clone(), tokio::runtime::Handle::current());
        std::thread::spawn(move || runtime.block_on(node.call::<_, usize>("set", "a", "clear", &())))
    };
    begun.wait();
    within(set.add("unseen")).await.unwrap();
    go_on.wait();
    assert_eq!(clearing.join().unwrap(), Ok(0), "as far as it sees");
    assert_eq!(set.get(), Some(vec!["unseen".into()]));
}

/// Two nodes that both count.
async fn two_counters(scratch: &Scratch) -> (Node, Node) {
    let one = start(scratch, counter()).await;
    let seeds = vec![one.quic_address().to_string()];
    let two = scratch.builder(2).seeds(seeds).function(counter());
    let two = within(two.start()).await.unwrap();
    within(two.ready()).await;
    (one, two)
}

#[tokio::test]
async fn a_reply_waits_for_its_level_and_a_session_for_what_it_has_seen() {
    let scratch = Scratch::new();
    let (one, two) = two_counters(&scratch).await;
    within(one.call::<_, ()>("count", "a", "everywhere", &()))
        .await
        .unwrap();
    let call = |method: &str| {
        Call::new(
            id("count", "a"),
            method,
            Payload::of(Encoding::Json, &()).unwrap(),
        )
    };
    // Round and round, as fast as it goes.
    let mut token = Token::default();
    for round in 2..12 {
        let node = [&one, &two][round % 2];
        let add = Call {
            payload: Payload::of(Encoding::Json, &1).unwrap(),
            ..call("add")
        };
        let (reply, seen) = within(node.call_payload(add, Some(&token), PATIENCE))
            .await
            .unwrap();
        assert_eq!(reply.read::<usize>().unwrap(), round);
        let other = [&two, &one][round % 2];
        let (reply, seen) = within(other.call_payload(call("get"), Some(&seen), PATIENCE))
            .await
            .unwrap();
        assert_eq!(reply.read::<usize>().unwrap(), round);
        token = seen;
    }
    within(two.shutdown()).await.unwrap();
    let alone = within(one.call_payload(call("everywhere"), None, Duration::from_millis(200))).await;
    let alone = alone.unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::Unconfirmed);
    assert!(Token::of_error(&alone).is_some(), "its session has seen it");
    assert_eq!(add(&one, "a", 0).await, Ok(12), "it is in all the same");
}

#[tokio::test]
async fn a_session_has_seen_whatever_its_commands_went_by() {
    let scratch = Scratch::new();
    let (one, two) = two_counters(&scratch).await;
    within(two.call::<_, ()>("count", "a", "everywhere", &()))
        .await
        .unwrap();
    let call = Call::new(id("count", "a"), "add", Payload::of(Encoding::Json, &1).unwrap());
    let (reply, seen) = within(one.call_payload(call, Some(&Token::default()), PATIENCE))
        .await
        .unwrap();
    assert_eq!(reply.read::<i128>().unwrap(), 2);
    // The reply counts what the other has done: no node that lacks it shows this session less.
    let authors: BTreeSet<_> = seen.iter().map(|(_, replica, _)| replica.node).collect();
    assert_eq!(authors, [one.id(), two.id()].into());
}

#[tokio::test]
async fn functions_that_cannot_be_are_refused_before_anything_starts() {
    let scratch = Scratch::new();
    let show = |_: &PnCounter, _: &Context, (): ()| Ok::<_, String>(());
    let of = |kind: &str| Function::of::<PnCounter>(kind).query("show", show);
    let long = "m".repeat(200);
    let wrong = [
        scratch.builder(1).function(of("")),
        scratch.builder(1).function(of("a").query("show", show)),
        scratch.builder(1).function(of("a").query(&long, show)),
        scratch.builder(1).function(of("a")).function(of("a")),
        scratch.builder(1).kind("a", crate::Type::OrSet).function(of("a")),
        scratch.builder(1).kind("anabranch:a", crate::Type::PnCounter),
        scratch.builder(1).function(of("anabranch:a")),
    ];
    for builder in wrong {
        assert_eq!(
            within(builder.start()).await.unwrap_err().kind(),
            ErrorKind::Config
        );
    }
    // Who has no node to ask hears it from the function.
    let problem = |function: Function| function.problem();
    assert!(problem(of("anabranch:a").into()).is_some_and(|why| why.contains("Anabranch's own")));
    assert_eq!(problem(crate::trigger::schedules()), None);
    // An entity that has another type already.
    let node = start(&scratch, of("a").into()).await;
    within(node.update(increment("x", 1))).await.unwrap();
    within(node.shutdown()).await.unwrap();
    drop(node);
    let sets = Function::of::<OrSet<u8>>("n").query("show", |_, _, ()| Ok::<_, String>(()));
    let refused = within(scratch.builder(1).function(sets).start())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
}

#[tokio::test]
async fn a_command_that_cannot_wait_hears_which_can() {
    let scratch = Scratch::new();
    let asks = Function::of::<PnCounter>("asks").command("ask", |_, context: &mut Context, ()| {
        let mut asking = std::pin::pin!(context.call::<_, ()>("count", "a", "get", &()));
        let mut polled = std::task::Context::from_waker(std::task::Waker::noop());
        match asking.as_mut().poll(&mut polled) {
            std::task::Poll::Ready(Err(error)) => Err::<(), _>(error),
            other => panic!("{other:?}"),
        }
    });
    let node = start(&scratch, asks.into()).await;
    let refused = within(node.call::<_, ()>("asks", "a", "ask", &()))
        .await
        .unwrap_err();
    assert!(refused.message().contains("`command_async`"), "{refused}");
    let cause: Error = refused.details().unwrap();
    assert_eq!(cause.kind(), ErrorKind::NoFunction);
}

/// Orders that take from a stock, which another entity's function keeps.
fn shop() -> [Function; 2] {
    let order = |orders: &mut OrSet<String>, context: &mut Context, (product, n): (String, i64)| {
        orders.add(&product);
        context.effect("stock", &product, "add", &-n);
        context.effect("nobody", &product, "add", &n); // which fails, and nobody minds
        Ok::<_, String>(orders.len())
    };
    let order_later = |orders: &mut OrSet<String>, context: &mut Context, (product, n): (String, i64)| {
        orders.add(&product);
        context.effect_later("stock", &product, "add", &-n);
        Ok::<_, String>(orders.len())
    };
    let left = |orders: &mut OrSet<String>, context: &mut Context, product: String| {
        orders.add(&format!("{product}?"));
        context.forward("stock", &product, "get", &());
        Ok::<_, String>("never heard")
    };
    let wrong = |orders: &mut OrSet<String>, context: &mut Context, ()| {
        orders.add("wrong");
        context.effect("", "x", "add", &1);
        Ok::<_, String>(())
    };
    let refuse = |_: &mut OrSet<String>, context: &mut Context, product: String| {
        context.effect("stock", &product, "add", &1_000);
        Err::<(), _>("no".to_owned())
    };
    let astray = |orders: &mut OrSet<String>, context: &mut Context, (kind, by): (String, String)| {
        orders.add("astray");
        context.forward(&kind, "hat", "add", &by);
        Ok::<_, String>(())
    };
    let verbose = |_: &mut OrSet<String>, _: &mut Context, ()| Err::<(), _>("no ".repeat(300_000));
    let everywhere = |orders: &mut OrSet<String>, context: &mut Context, ()| {
        orders.add("everywhere");
        context.confirm("2".parse().map_err(|e: Error| e.to_string())?);
        context.effect("stock", "boots", "add", &5);
        Ok::<_, String>(())
    };
    let again = |_: &mut OrSet<String>, context: &mut Context, ()| {
        context.forward("orders", context.key().to_owned().as_str(), "again", &());
        Ok::<_, String>(())
    };
    let again_as_effect = |orders: &mut OrSet<String>, context: &mut Context, ()| {
        orders.add(&format!("{}", orders.len()));
        context.effect(
            "orders",
            context.key().to_owned().as_str(),
            "again_as_effect",
            &(),
        );
        Ok::<_, String>(orders.len())
    };
    [
        Function::of::<OrSet<String>>("orders")
            .command("order", order)
            .command("order_later", order_later)
            .command("left", left)
            .command("wrong", wrong)
            .command("refuse", refuse)
            .command("astray", astray)
            .command("verbose", verbose)
            .command("everywhere", everywhere)
            .command("again", again)
            .command("again_as_effect", again_as_effect)
            .query("all", |orders, _, ()| Ok::<_, String>(orders.elements()))
            .into(),
        Function::of::<PnCounter>("stock")
            .command("add", |stock, _, by: i64| {
                stock.increment(by);
                Ok::<_, String>(stock.get())
            })
            .query("get", |stock, _, ()| Ok::<_, String>(stock.get()))
            .into(),
    ]
}

#[tokio::test]
async fn effects_are_done_before_the_reply_and_a_forward_answers_in_its_place() {
    let scratch = Scratch::new();
    let [orders, stock] = shop();
    let node = within(scratch.builder(1).function(orders).function(stock).start())
        .await
        .unwrap();
    let order = |method: &'static str, n: i64| {
        let node = node.clone();
        async move { within(node.call::<_, usize>("orders", "a", method, &("hat", n))).await }
    };
    let left = || async {
        within(node.call::<_, i64>("orders", "a", "left", "hat"))
            .await
            .unwrap()
    };
    assert_eq!(order("order", 3).await, Ok(1));
    let stock = node.entity::<crate::PnCounter>("stock", "hat").unwrap();
    assert_eq!(stock.get(), Some(-3));
    assert_eq!(left().await, -3);
    assert_eq!(order("order_later", 4).await, Ok(2));
    let mut watch = stock.watch();
    within(async {
        while stock.get() != Some(-7) {
            watch.next().await;
        }
    })
    .await;
    // A forwarded JSON call is answered in JSON.
    let json = Payload::of(Encoding::Json, "hat").unwrap();
    let (reply, token) =
        within(node.call_payload(Call::new(id("orders", "a"), "left", json), None, PATIENCE))
            .await
            .unwrap();
    assert_eq!((reply.encoding, &reply.bytes[..]), (Encoding::Json, &b"-7"[..]));
    assert!(!token.is_empty());
    // Nothing of what a refused command wanted is done, nor of one whose wish cannot be.
    for (method, argument) in [("refuse", "\"hat\""), ("wrong", "null")] {
        let payload = Payload {
            encoding: Encoding::Json,
            bytes: argument.into(),
        };
        let call = Call::new(id("orders", "a"), method, payload);
        let refused = within(node.call_payload(call, None, PATIENCE)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{method}");
    }
    assert_eq!(stock.get(), Some(-7));
    let all: Vec<String> = within(node.call("orders", "a", "all", &())).await.unwrap();
    assert_eq!(all, ["hat", "hat?"]);
}

#[tokio::test]
async fn functions_that_call_one_another_for_ever_are_stopped() {
    let scratch = Scratch::new();
    let [orders, stock] = shop();
    let node = within(scratch.builder(1).function(orders).function(stock).start())
        .await
        .unwrap();
    let refused = within(node.call::<_, ()>("orders", "a", "again", &()))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.message().contains("32 deep"), "{refused}");
    assert_eq!(
        within(node.call::<_, usize>("orders", "a", "again_as_effect", &())).await,
        Ok(1)
    );
    let all: Vec<String> = within(node.call("orders", "a", "all", &())).await.unwrap();
    assert_eq!(all.len(), 33, "the first and 32 within one another");
    assert_eq!(commands_waiting(&node), 0);
}

#[tokio::test]
async fn functions_that_wait_for_one_another_for_ever_are_stopped() {
    let scratch = Scratch::new();
    let function =
        Function::of::<OrSet<String>>("chain").command_async("on", |_, context: &mut Context, n: u64| {
            Box::pin(async move {
                context
                    .call::<_, ()>("chain", &n.to_string(), "on", &(n + 1))
                    .await
            })
        });
    let node = within(scratch.builder(1).function(function).start())
        .await
        .unwrap();
    let refused = within(node.call::<_, ()>("chain", "first", "on", &0))
        .await
        .unwrap_err();
    assert!(refused.message().contains("32 deep"), "{refused}");
    assert_eq!(commands_waiting(&node), 0);
}

/// Orders that ask the stock, and wait for what it says.
fn asking_shop(gate: &Arc<tokio::sync::Semaphore>) -> [Function; 2] {
    let gate = Arc::clone(gate);
    let orders = Function::of::<OrSet<String>>("orders")
        .command_async("order", |orders, context: &mut Context, product: String| {
            Box::pin(async move {
                let left: i64 = context.call("stock", &product, "take", &1).await?;
                orders.add(&product);
                Ok::<_, Error>((left, orders.len()))
            })
        })
        .command_async("panic", |orders, context, ()| {
            Box::pin(async move {
                orders.add("panic");
                context.call::<_, i64>("stock", "hat", "put", &1).await?;
                panic!("after a call");
                #[allow(unreachable_code)]
                Ok::<(), Error>(())
            })
        })
        .command_async("itself", |_, context: &mut Context, ()| {
            Box::pin(async move {
                let key = context.key().to_owned();
                context.call::<_, usize>("orders", &key, "len", &()).await
            })
        })
        .command_async("wait", move |orders, _, ()| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                orders.add("waited");
                gate.acquire().await.map_err(|e| e.to_string())?.forget();
                Ok::<_, String>(orders.len())
            })
        })
        .query("len", |orders, _, ()| Ok::<_, String>(orders.len()));
    let stock = Function::of::<PnCounter>("stock")
        .command("put", |stock, _, n: i64| {
            stock.increment(n);
            Ok::<_, String>(stock.get())
        })
        .command("take", |stock, _, n: i64| {
            if stock.get() < i128::from(n) {
                return Err(No::Odd(n));
            }
            stock.increment(-n);
            Ok(stock.get())
        });
    [orders.into(), stock.into()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_calls_another_waits_for_its_answer() {
    let scratch = Scratch::new();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let [orders, stock] = asking_shop(&gate);
    let node = within(scratch.builder(1).function(orders).function(stock).start())
        .await
        .unwrap();
    let order = || async { within(node.call::<_, (i64, usize)>("orders", "a", "order", "hat")).await };
    let refused = order().await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.message()),
        (ErrorKind::Refused, "1 is odd")
    );
    within(node.call::<_, i64>("stock", "hat", "put", &2))
        .await
        .unwrap();
    let call = Call::new(
        id("orders", "a"),
        "order",
        Payload::of(Encoding::Postcard, "hat").unwrap(),
    );
    let (_, token) = within(node.call_payload(call, None, PATIENCE)).await.unwrap();
    // Who calls has seen what was done for him: the stock is in another shard.
    assert!(token.iter().count() >= 2, "{token:?}");
    assert_eq!(order().await, Ok((0, 1)));
    assert_eq!(order().await.unwrap_err().kind(), ErrorKind::Refused);
    // What the other did stays, whatever becomes of the caller.
    let panicked = within(node.call::<_, ()>("orders", "a", "panic", &()))
        .await
        .unwrap_err();
    assert_eq!(panicked.kind(), ErrorKind::Lost);
    assert_eq!(order().await, Ok((0, 1)));
    let itself = within(node.call::<_, usize>("orders", "a", "itself", &()))
        .await
        .unwrap_err();
    assert!(itself.message().contains("wait for itself"), "{itself}");
    assert_eq!(commands_waiting(&node), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_function_waits_its_entity_does_and_a_caller_that_goes_away_ends_it() {
    let scratch = Scratch::new();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let [orders, stock] = asking_shop(&gate);
    let node = within(scratch.builder(1).function(orders).function(stock).start())
        .await
        .unwrap();
    within(node.call::<_, i64>("stock", "hat", "put", &5))
        .await
        .unwrap();
    let begin = |method: &'static str, argument: &'static str| {
        let node = node.clone();
        let argument = Payload {
            encoding: Encoding::Json,
            bytes: argument.into(),
        };
        let call = Call::new(id("orders", "a"), method, argument);
        tokio::spawn(async move { node.call_payload(call, None, PATIENCE).await })
    };
    let waiting = || commands_waiting(&node);
    let until_waiting = async |n| until(|| waiting() == n).await;
    let first = begin("wait", "null");
    until_waiting(1).await;
    let second = begin("order", "\"hat\"");
    until_waiting(2).await;
    gate.add_permits(1);
    within(first).await.unwrap().unwrap();
    let (reply, _) = within(second).await.unwrap().unwrap();
    assert_eq!(reply.read::<(i64, usize)>(), Ok((4, 2)));
    let gone = begin("wait", "null");
    until_waiting(1).await;
    gone.abort();
    until_waiting(0).await;
    assert_eq!(
        within(node.call::<_, (i64, usize)>("orders", "a", "order", "hat")).await,
        Ok((3, 2))
    );
    // And one that takes too long is given up, whoever waits for it.
    let call = Call::new(
        id("orders", "a"),
        "wait",
        Payload::of(Encoding::Postcard, &()).unwrap(),
    );
    let late = tokio::spawn({
        let node = node.clone();
        async move { node.call_payload(call, None, Duration::from_secs(1)).await }
    });
    until_waiting(1).await;
    assert_eq!(
        within(node.call::<_, (i64, usize)>("orders", "a", "order", "hat")).await,
        Ok((2, 2))
    );
    let error = within(late).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn what_is_said_of_a_forward_that_fails_is_what_is_now_true() {
    let scratch = Scratch::new();
    let [orders, stock] = shop();
    let node = within(scratch.builder(1).function(orders).function(stock).start())
        .await
        .unwrap();
    let astray = async |kind: &str| {
        let argument = (kind, "no number");
        within(node.call::<_, ()>("orders", "a", "astray", &argument))
            .await
            .unwrap_err()
    };
    let all = async || {
        within(node.call::<_, Vec<String>>("orders", "a", "all", &()))
            .await
            .unwrap()
    };
    // That there is nobody of that kind is known before.
    let error = astray("nobody").await;
    assert!(
        error.kind() == ErrorKind::NoFunction && !error.changed_state(),
        "{error}"
    );
    assert!(all().await.is_empty());
    let error = astray("stock").await;
    assert!(
        error.kind() == ErrorKind::Unanswered && error.changed_state(),
        "{error}"
    );
    assert!(!error.may_retry() && error.message().contains("is in"), "{error}");
    assert_eq!(all().await, ["astray"]);
    let verbose = within(node.call::<_, ()>("orders", "a", "verbose", &()))
        .await
        .unwrap_err();
    assert!(verbose.message().len() < 5_000 && verbose.details_payload().is_none());
}

/// And none is done before: what the command did may come to nothing.
#[tokio::test]
async fn a_caller_that_goes_away_before_the_level_is_reached_leaves_no_effect_undone() {
    let scratch = Scratch::new();
    let [orders, stock] = shop();
    let builder = scratch.builder(1).function(orders).function(stock);
    let node = within(builder.start()).await.unwrap();
    // Another member, which is away.
    let other = || {
        let seeds = vec![node.quic_address().to_string()];
        within(scratch.builder(2).seeds(seeds).start())
    };
    let two = other().await.unwrap();
    within(two.ready()).await;
    within(two.shutdown()).await.unwrap();
    let waiting = || commands_waiting(&node);
    let gone = {
        let node = node.clone();
        tokio::spawn(async move { node.call::<_, ()>("orders", "a", "everywhere", &()).await })
    };
    until(|| node.status().counters["updates_waiting"] > 0).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let boots = node.entity::<crate::PnCounter>("stock", "boots").unwrap();
    for _ in 0..200 {
        let there = within(node.call::<_, i128>("stock", "boots", "get", &())).await;
        assert_eq!((there, boots.get()), (Ok(0), None));
    }
    let two = other().await.unwrap();
    let mut watch = boots.watch();
    within(async {
        while boots.get() != Some(5) {
            watch.next().await;
        }
    })
    .await;
    until(|| waiting() == 0).await;
    within(two.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_waits_and_then_computes_beyond_its_time_is_lost() {
    let scratch = Scratch::new();
    let barrier = Arc::new(Barrier::new(2));
    let theirs = Arc::clone(&barrier);
    let function =
        Function::of::<PnCounter>("count").command_async("slow", move |count: &mut PnCounter, _, ()| {
            let barrier = Arc::clone(&theirs);
            Box::pin(async move {
                count.increment(1);
                barrier.wait();
                Ok::<_, String>(count.get())
            })
        });
    let node = start(&scratch, function.into()).await;
    let call = Call::new(
        id("count", "a"),
        "slow",
        Payload::of(Encoding::Postcard, &()).unwrap(),
    );
    let late = tokio::spawn({
        let node = node.clone();
        async move { node.call_payload(call, None, Duration::from_secs(1)).await }
    });
    let waiting = || commands_waiting(&node);
    until(|| waiting() > 0).await;
    until(|| waiting() == 0).await;
    barrier.wait();
    assert_eq!(within(late).await.unwrap().unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(node.read(&id("count", "a")), None);
}

#[cfg(feature = "sidecar")]
#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_still_starting_is_to_be_called_again_and_not_nowhere() {
    let scratch = Scratch::new();
    let node = within(scratch.builder(1).start()).await.unwrap();
    within(node.ready()).await;
    let expected = node.expect_foreign();
    let error = node.call::<_, ()>("cart", "a", "add", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    assert!(
        error.may_retry() && error.message().starts_with("nothing changed"),
        "{error}"
    );
    let error = node.stream("cart", "a", "watch", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    drop(expected);
    let error = node.call::<_, ()>("cart", "a", "add", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoFunction, "{error}");
}
