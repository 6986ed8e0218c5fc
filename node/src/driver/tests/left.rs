//! What follows a change that is in is made, whether or not its caller is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::{Scratch, commands_waiting, id, until, within};
use crate::NodeId;
use crate::error::Error;
use crate::function::state::PnCounter;
use crate::function::{Context, Function};
use crate::node::Node;
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::wire::Token;

/// One that is held up by its own command until the gate is opened, and one that has it called.
fn busy_and_first(gate: &Arc<Notify>) -> [Function; 2] {
    let gate = Arc::clone(gate);
    let busy = Function::of::<PnCounter>("busy")
        .command_async("slow", move |_: &mut PnCounter, _, ()| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.notified().await;
                Ok::<_, String>(())
            })
        })
        .command("plus", |count, _, by: i64| {
            // Twice what was there and this: the order shows.
            count.increment(i64::try_from(count.get()).map_err(|e| e.to_string())? + by);
            Ok::<_, String>(())
        })
        .query("get", |count, _, ()| Ok::<_, String>(count.get()));
    let with = |name: &'static str, calls: fn(&mut Context)| {
        (name, move |count: &mut PnCounter, context: &mut Context, ()| {
            count.increment(1);
            calls(context);
            Ok::<_, String>(())
        })
    };
    let mut first = Function::of::<PnCounter>("first");
    for (name, command) in [
        with("effect", |context| context.effect("busy", "b", "plus", &1)),
        with("effects", |context| {
            context.effect("busy", "b", "plus", &1);
            context.effect("busy", "b", "plus", &10);
        }),
        with("forward", |context| context.forward("busy", "b", "plus", &1)),
        with("all", |context| {
            context.effect("busy", "b", "plus", &1);
            context.effect("busy", "b", "plus", &10);
            context.forward("busy", "b", "plus", &100);
        }),
    ] {
        first = first.command(name, command);
    }
    let first = first.command("everywhere", |count, context, ()| {
        count.increment(1);
        context.confirm("2".parse().map_err(|e: Error| e.to_string())?);
        context.forward("busy", "b", "plus", &1);
        Ok::<_, String>(())
    });
    [busy.into(), first.into()]
}

async fn start(scratch: &Scratch, id: u128, others: &[&Node], functions: [Function; 2]) -> Node {
    let addresses = others.iter().map(|node| node.quic_address().to_string());
    let builder = scratch.builder(id).seeds(addresses.collect());
    let node = within(builder.functions(functions).start()).await.unwrap();
    within(node.ready()).await;
    node
}

async fn busy(node: &Node) -> i128 {
    within(node.call("busy", "b", "get", &())).await.unwrap()
}

/// The caller goes while what its command wants called waits for its turn.
async fn leave_while_it_waits(at: &Node, from: &Node, gate: &Notify, method: &'static str) {
    let slow = {
        let at = at.clone();
        tokio::spawn(async move { at.call::<_, ()>("busy", "b", "slow", &()).await })
    };
    until(|| commands_waiting(at) == 1).await;
    let call = Call::new(
        id("first", "f"),
        method,
        Payload::of(Encoding::Cbor, &()).unwrap(),
    );
    let (from, on) = (from.clone(), at.id());
    let gone = tokio::spawn(async move {
        let patience = Duration::from_secs(60);
        from.call_on(on, call, None, patience).await.map(drop)
    });
    let first = at.entity::<crate::PnCounter>("first", "f").unwrap();
    until(|| first.get() == Some(1)).await;
    gone.abort();
    assert!(within(gone).await.unwrap_err().is_cancelled());
    gate.notify_one();
    within(slow).await.unwrap().unwrap();
    let busy = at.entity::<crate::PnCounter>("busy", "b").unwrap();
    let expected = match method {
        "effects" => 12,
        "all" => 124,
        _ => 1,
    };
    until(|| busy.get() == Some(expected)).await;
    until(|| commands_waiting(at) == 0).await;
    assert_eq!(busy.get(), Some(expected), "once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_change_is_made_in_order_without_its_caller() {
    for method in ["effect", "effects", "forward", "all"] {
        let (scratch, gate) = (Scratch::new(), Arc::default());
        let node = start(&scratch, 1, &[], busy_and_first(&gate)).await;
        leave_while_it_waits(&node, &node, &gate, method).await;
        within(node.shutdown()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_change_is_made_without_a_caller_at_another_node() {
    let (scratch, gate) = (Scratch::new(), Arc::default());
    let node = start(&scratch, 1, &[], busy_and_first(&gate)).await;
    let other = start(&scratch, 2, &[&node], busy_and_first(&gate)).await;
    until(|| other.replica_of(NodeId(1)).is_some()).await;
    leave_while_it_waits(&node, &other, &gate, "all").await;
    for node in [other, node] {
        within(node.shutdown()).await.unwrap();
    }
}

/// And not before: what the command did may come to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_answers_in_a_commands_place_is_called_once_its_level_is_reached_without_its_caller() {
    let (scratch, gate) = (Scratch::new(), Arc::default());
    let node = start(&scratch, 1, &[], busy_and_first(&gate)).await;
    let two = start(&scratch, 2, &[&node], busy_and_first(&gate)).await;
    within(two.shutdown()).await.unwrap();
    drop(two);
    let gone = {
        let node = node.clone();
        tokio::spawn(async move { node.call::<_, ()>("first", "f", "everywhere", &()).await })
    };
    until(|| node.status().counters["updates_waiting"] > 0).await;
    gone.abort();
    assert!(within(gone).await.unwrap_err().is_cancelled());
    assert_eq!(busy(&node).await, 0);
    let two = start(&scratch, 2, &[&node], busy_and_first(&gate)).await;
    let called = node.entity::<crate::PnCounter>("busy", "b").unwrap();
    until(|| called.get() == Some(1)).await;
    until(|| commands_waiting(&node) == 0).await;
    for node in [two, node] {
        within(node.shutdown()).await.unwrap();
    }
}

/// The answer of one whose caller has gone waits for the second node, the session's state for the third.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_without_a_caller_sees_what_his_session_has_seen() {
    let (scratch, gate) = (Scratch::new(), Arc::default());
    let one = start(&scratch, 1, &[], busy_and_first(&gate)).await;
    let two = start(&scratch, 2, &[&one], busy_and_first(&gate)).await;
    within(one.shutdown()).await.unwrap();
    let patience = Duration::from_secs(60);
    let of = |kind: &str, key: &str, method: &str, argument: &i64| {
        let argument = match method {
            "plus" => Payload::of(Encoding::Cbor, argument),
            _ => Payload::of(Encoding::Cbor, &()),
        };
        Call::new(id(kind, key), method, argument.unwrap())
    };
    let none = Token::default();
    let plus = two.call_payload(of("busy", "b", "plus", &100), Some(&none), patience);
    let (_, seen) = within(plus).await.unwrap();
    within(two.shutdown()).await.unwrap();
    drop((one, two));
    let one = start(&scratch, 1, &[], busy_and_first(&gate)).await;
    let gone = {
        let (one, call) = (one.clone(), of("first", "f", "everywhere", &0));
        tokio::spawn(async move { one.call_payload(call, Some(&seen), patience).await.map(drop) })
    };
    until(|| one.status().counters["updates_waiting"] > 0).await;
    gone.abort();
    assert!(within(gone).await.unwrap_err().is_cancelled());
    // With it the level is reached, and what follows is called.
    let three = start(&scratch, 3, &[&one], busy_and_first(&gate)).await;
    until(|| one.status().counters["updates_waiting"] == 0).await;
    let two = start(&scratch, 2, &[&one], busy_and_first(&gate)).await;
    let count = one.entity::<crate::PnCounter>("busy", "b").unwrap();
    until(|| count.get().is_some_and(|count| count > 100)).await;
    assert_eq!(
        count.get(),
        Some(201),
        "it did not see the hundred that its session had seen"
    );
    for node in [two, three, one] {
        within(node.shutdown()).await.unwrap();
    }
}

/// As many as could hold up all threads that make calls for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_to_be_done_holds_up_nobodys_work() {
    const LEFT: usize = 80;
    let (scratch, gate) = (Scratch::new(), Arc::new(Semaphore::new(0)));
    let held = Arc::clone(&gate);
    // What is only being forwarded is a command that waits, too: its caller must not go before.
    let begun = Arc::new(AtomicUsize::new(0));
    let begins = Arc::clone(&begun);
    let slow =
        Function::of::<PnCounter>("slow").command_async("wait", move |count: &mut PnCounter, _, ()| {
            count.increment(1);
            begins.fetch_add(1, Ordering::SeqCst);
            let gate = Arc::clone(&held);
            Box::pin(async move {
                // It is there once this is closed.
                let _ = gate.acquire().await;
                Ok::<_, String>(())
            })
        });
    let first = Function::of::<PnCounter>("first")
        .command("forward", |count, context: &mut Context, ()| {
            count.increment(1);
            let key = context.key().to_owned();
            context.forward("slow", &key, "wait", &());
            Ok::<_, String>(())
        })
        .command("later", |count, context: &mut Context, ()| {
            count.increment(1);
            context.effect_later("slow", "later", "wait", &());
            Ok::<_, String>(())
        });
    let node = start(&scratch, 1, &[], [slow.into(), first.into()]).await;
    for n in 0..LEFT {
        let (at, key) = (node.clone(), format!("k{n}"));
        let calling = async move { at.call::<_, ()>("first", &key, "forward", &()).await };
        let gone = tokio::spawn(calling);
        until(|| begun.load(Ordering::SeqCst) > n).await;
        gone.abort();
        assert!(within(gone).await.unwrap_err().is_cancelled());
    }
    let () = within(node.call("first", "z", "later", &())).await.unwrap();
    gate.close();
    until(|| node.status().counters["left_waiting"] == 0).await;
    assert_eq!(node.status().counters["left_refused"], 0);
    for n in 0..LEFT {
        let slow = node.entity::<crate::PnCounter>("slow", &format!("k{n}")).unwrap();
        assert_eq!(slow.get(), Some(1));
    }
    within(node.shutdown()).await.unwrap();
}
