//! Calls between two nodes over a real link.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::{PATIENCE, Scratch, commands_waiting, id, until, within};
use crate::NodeId;
use crate::error::{Error, ErrorKind};
use crate::function::state::PnCounter;
use crate::function::{Context, Function};
use crate::node::Node;
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::wire::Token;

/// A function that says where it runs, and one method of which waits for the test.
fn function(barrier: &Arc<Barrier>) -> Function {
    let (barrier, held) = (Arc::clone(barrier), Arc::clone(barrier));
    let add = |count: &mut PnCounter, _: &mut Context, by: i64| {
        count.increment(by);
        if by == 0 {
            Err(format!("{by} is nothing"))
        } else {
            Ok(count.get())
        }
    };
    let slow = move |count: &mut PnCounter, _: &mut Context, ()| {
        count.increment(1);
        barrier.wait();
        barrier.wait();
        Ok::<_, String>(count.get())
    };
    Function::of::<PnCounter>("count")
        .command("add", add)
        .command("slow", slow)
        .query("where", |_, context, ()| Ok::<_, String>(context.node().0))
        .query("get", |count, _, ()| Ok::<_, String>(count.get()))
        .query("held", move |_, _, is_held: bool| {
            if is_held {
                held.wait();
                held.wait();
            }
            Ok::<_, String>(std::thread::current().name().map(str::to_owned))
        })
        .into()
}

struct Pair {
    _scratch: Scratch,
    one: Node,
    two: Node,
    /// Of the second node's slow method.
    barrier: Arc<Barrier>,
}

async fn pair() -> Pair {
    let scratch = Scratch::new();
    let barrier = Arc::new(Barrier::new(2));
    let one = scratch.builder(1).function(function(&Arc::new(Barrier::new(2))));
    let one = within(one.start()).await.unwrap();
    let seeds = vec![one.quic_address().to_string()];
    let two = within(
        scratch
            .builder(2)
            .seeds(seeds)
            .function(function(&barrier))
            .start(),
    )
    .await
    .unwrap();
    within(two.ready()).await;
    Pair {
        _scratch: scratch,
        one,
        two,
        barrier,
    }
}

fn call(method: &str, argument: &impl serde::Serialize) -> Call {
    Call::new(
        id("count", "a"),
        method,
        Payload::of(Encoding::Postcard, argument).unwrap(),
    )
}

/// Calls at the second node, from the first.
async fn ask(
    pair: &Pair,
    call: Call,
    after: Option<&Token>,
    timeout: Duration,
) -> Result<(Payload, Token), Error> {
    within(pair.one.call_on(NodeId(2), call, after, timeout)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_runs_at_the_node_that_is_asked_and_its_caller_reads_what_it_did() {
    let pair = pair().await;
    let at = |node: u128| {
        let one = pair.one.clone();
        async move {
            let (reply, _) = within(one.call_on(NodeId(node), call("where", &()), None, PATIENCE))
                .await
                .unwrap();
            reply.read::<u128>().unwrap()
        }
    };
    assert_eq!((at(1).await, at(2).await), (1, 2));
    let mut token = Token::default();
    for round in 1..20i64 {
        let (reply, seen) = ask(&pair, call("add", &1), Some(&token), PATIENCE).await.unwrap();
        assert_eq!(reply.read::<i64>(), Ok(round));
        let (reply, seen) = within(pair.one.call_payload(call("get", &()), Some(&seen), PATIENCE))
            .await
            .unwrap();
        assert_eq!(reply.read::<i64>(), Ok(round));
        token = seen;
    }
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let one = pair.one.clone();
            tokio::spawn(async move { within(one.call_on(NodeId(2), call("add", &1), None, PATIENCE)).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let (reply, _) = ask(&pair, call("get", &()), None, PATIENCE).await.unwrap();
    assert_eq!(reply.read::<i64>(), Ok(19 + 64));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_at_the_other_node_is_told_as_if_it_were_here() {
    let pair = pair().await;
    let refused = ask(&pair, call("add", &0), None, PATIENCE).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.message()),
        (ErrorKind::Refused, "0 is nothing")
    );
    assert_eq!(refused.details::<String>().as_deref(), Some("0 is nothing"));
    let kind = async |call: Call| ask(&pair, call, None, PATIENCE).await.unwrap_err().kind();
    assert_eq!(kind(call("steal", &())).await, ErrorKind::NoFunction);
    assert_eq!(kind(call("add", &"x")).await, ErrorKind::Invalid);
    let elsewhere = Call::new(id("nobody", "a"), "add", Payload::of(Encoding::Json, &1).unwrap());
    assert_eq!(kind(elsewhere).await, ErrorKind::NoFunction);
    assert_eq!(kind(call("add", &"x".repeat(1 << 20))).await, ErrorKind::Invalid);
    let mut deep = call("add", &1);
    deep.origin.depth = 40;
    assert_eq!(kind(deep).await, ErrorKind::Refused);
    let nobody = within(pair.one.call_on(NodeId(7), call("add", &1), None, PATIENCE)).await;
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::Unreachable);
    let (reply, _) = ask(&pair, call("get", &()), None, PATIENCE).await.unwrap();
    assert_eq!(reply.read::<i64>(), Ok(0), "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_wait_any_more_is_waited_for_by_nobody() {
    let pair = pair().await;
    let one = pair.one.clone();
    let hung = tokio::spawn(async move { one.call_on(NodeId(2), call("slow", &()), None, PATIENCE).await });
    pair.barrier.wait();
    let queued: Vec<_> = (0..10)
        .map(|_| {
            let one = pair.one.clone();
            tokio::spawn(async move { one.call_on(NodeId(2), call("add", &100), None, PATIENCE).await })
        })
        .collect();
    until(|| commands_waiting(&pair.two) == 11).await;
    queued.iter().for_each(tokio::task::JoinHandle::abort);
    until(|| commands_waiting(&pair.two) == 1).await;
    // One whose time is over hears it from over there.
    let late = ask(&pair, call("add", &100), None, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Expired);
    pair.barrier.wait();
    let (reply, _) = within(hung).await.unwrap().unwrap();
    assert_eq!(reply.read::<i64>(), Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_quick_until_it_waits_does_not_keep_the_network() {
    let pair = pair().await;
    let held = |is_held: bool| {
        // However slow this machine is.
        pair.two
            .handle()
            .shared()
            .functions
            .count_as_quick("count", "held");
        let (one, call) = (pair.one.clone(), call("held", &is_held));
        tokio::spawn(async move { one.call_on(NodeId(2), call, None, PATIENCE).await })
    };
    let thread = async |answered: tokio::task::JoinHandle<Result<(Payload, Token), Error>>| {
        let (reply, _) = within(answered).await.unwrap().unwrap();
        reply.read::<Option<String>>().unwrap()
    };
    let on_network = Some("anabranch-net");
    assert_eq!(thread(held(false)).await.as_deref(), on_network);
    let waits = held(true);
    let barrier = Arc::clone(&pair.barrier);
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    // Another thread goes on with the packets, and answers.
    assert_eq!(thread(held(false)).await.as_deref(), on_network);
    let (reply, _) = ask(&pair, call("add", &7), None, PATIENCE).await.unwrap();
    assert_eq!(reply.read::<i64>(), Ok(7));
    pair.barrier.wait();
    assert_eq!(thread(waits).await.as_deref(), on_network);
    assert_eq!(thread(held(false)).await.as_deref(), on_network);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_does_not_come_may_have_run() {
    let pair = pair().await;
    let silent = ask(&pair, call("slow", &()), None, Duration::from_secs(2));
    let (silent, ()) = tokio::join!(silent, async {
        let barrier = Arc::clone(&pair.barrier);
        tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    });
    let error = silent.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unanswered && error.changed_state(),
        "{error}"
    );
    pair.barrier.wait();
    // The other node stops while it is asked.
    let one = pair.one.clone();
    let cut = tokio::spawn(async move {
        one.call_on(NodeId(2), call("slow", &()), None, PATIENCE * 2)
            .await
    });
    pair.barrier.wait();
    let two = pair.two.clone();
    let stopping = tokio::spawn(async move { two.shutdown().await });
    let error = within(cut).await.unwrap().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unanswered | ErrorKind::Stopping),
        "{error}"
    );
    pair.barrier.wait();
    within(stopping).await.unwrap().unwrap();
    until(|| pair.one.status().members.iter().all(|member| !member.connected)).await;
    let gone = ask(&pair, call("add", &1), None, PATIENCE).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Unreachable);
}

/// A function that waits by tokio, and for what it spawns there.
fn napping() -> Function {
    let nap = || async { tokio::time::sleep(Duration::from_millis(1)).await };
    Function::of::<PnCounter>("naps")
        .command_async("nap", move |naps: &mut PnCounter, _: &mut Context, ()| {
            Box::pin(async move {
                nap().await;
                tokio::spawn(nap()).await.map_err(|e| e.to_string())?;
                naps.increment(1);
                Ok::<_, String>(naps.get())
            })
        })
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_finds_tokio_whoever_calls_it() {
    let scratch = Scratch::new();
    let one = within(scratch.builder(1).functions([napping()]).start())
        .await
        .unwrap();
    let seeds = vec![one.quic_address().to_string()];
    let two = scratch.builder(2).seeds(seeds).function(napping());
    let two = within(two.start()).await.unwrap();
    within(two.ready()).await;
    let nap = || {
        Call::new(
            id("naps", "a"),
            "nap",
            Payload::of(Encoding::Postcard, &()).unwrap(),
        )
    };
    let (reply, _) = within(one.call_on(NodeId(2), nap(), None, PATIENCE))
        .await
        .unwrap();
    assert_eq!(reply.read::<i64>(), Ok(1));
    let here = within(two.call::<_, i64>("naps", "a", "nap", &())).await;
    assert_eq!(here, Ok(2));
    // A caller without a runtime.
    let at = two.clone();
    let elsewhere =
        std::thread::spawn(move || super::super::quic::block_on(at.call::<_, i64>("naps", "a", "nap", &())));
    let elsewhere = tokio::task::spawn_blocking(move || elsewhere.join().unwrap());
    assert_eq!(within(elsewhere).await.unwrap(), Ok(3));
    within(two.shutdown()).await.unwrap();
    within(one.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_run_somewhere_is_not_said_to_have_changed_nothing() {
    let scratch = Scratch::new();
    let function: Function = Function::of::<PnCounter>("fails")
        .command("for good", |_, _: &mut Context, ()| -> Result<(), String> {
            panic!("at once")
        })
        .into();
    let one = within(scratch.builder(1).function(function).start())
        .await
        .unwrap();
    let seeds = vec![one.quic_address().to_string()];
    let two = within(scratch.builder(2).seeds(seeds).start()).await.unwrap();
    within(two.ready()).await;
    let nothing = Payload::of(Encoding::Postcard, &()).unwrap();
    let call = Call::new(id("fails", "a"), "for good", nothing).idempotent();
    let error = within(one.call_payload(call, None, PATIENCE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
}
