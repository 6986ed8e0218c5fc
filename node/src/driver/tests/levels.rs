//! Write levels over real links, and what their callers hear when the node stops.

use super::*;
use crate::{
    BoundedCounter, Call, Encoding, Function, IdempotencyKey, MemberHint, Payload, ReplicaId, Token,
};

fn at(level: &str, update: Update) -> Update {
    Update {
        level: level.parse().unwrap(),
        ..update
    }
}

#[tokio::test]
async fn a_majority_confirms_and_a_minority_says_so() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    let c = scratch.start(3, &[&a]).await;
    within(async { tokio::join!(b.ready(), c.ready()) }).await;
    // Known to all: then a majority is two of three.
    let all = within(a.update(at("3", increment("k", 1)))).await.unwrap();
    assert_eq!(all.confirmed, 3);
    assert_eq!(
        (counter(&b, "k").get(), counter(&c, "k").get()),
        (Some(1), Some(1))
    );
    let majority = within(a.update(at("majority", increment("k", 1)))).await.unwrap();
    assert!(majority.confirmed >= 2, "{majority:?}");
    let applied = within(a.update(at("all-applied", increment("k", 1))))
        .await
        .unwrap();
    assert_eq!(applied.confirmed, 3);

    within(b.shutdown()).await.unwrap();
    within(c.shutdown()).await.unwrap();
    let alone = at("majority", increment("k", 1));
    let update = Update {
        timeout_ms: 200,
        ..alone
    };
    let error = within(a.update(update.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconfirmed);
    assert!(error.changed_state());
    assert!(!error.may_retry(), "it would be made twice: {error}");
    assert_eq!(counter(&a, "k").get(), Some(4), "accepted all the same");
    // So its session is told no less at another node.
    let b = scratch.start(2, &[&a]).await;
    let seen = Token::of_error(&error).expect("its session has seen it");
    let k = id("n", "k");
    let reading = b.read_after(&k, &seen, Duration::from_secs(30));
    let (read, _) = within(reading).await.unwrap();
    assert_eq!(read.map(|(_, is)| is), Some(Reading::Count(4)));
    within(b.shutdown()).await.unwrap();
    let keyed = Update {
        key: Some(IdempotencyKey::new(b"once").unwrap()),
        ..update
    };
    let error = within(a.update(keyed)).await.unwrap_err();
    assert!(error.changed_state() && error.may_retry(), "{error}");
    let too_many = within(a.update(at("4", increment("k", 1)))).await.unwrap_err();
    assert_eq!(too_many.kind(), ErrorKind::Invalid);
    let none = Update {
        level: crate::Level {
            copies: crate::Copies::N(0),
            ..crate::Level::default()
        },
        ..increment("k", 1)
    };
    let none = within(a.update(none)).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Invalid, "{none}");
    assert_eq!(counter(&a, "k").get(), Some(5));
    within(a.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_stop_answers_those_who_wait_and_refuses_those_who_come() {
    let scratch = Scratch::new();
    let builder = scratch.builder(1).members(vec![NodeId(1), NodeId(2)]);
    // A directory of a cluster of one, so that it takes writes although the other member never comes.
    let node = scratch.start(1, &[]).await;
    within(counter(&node, "k").create()).await.unwrap();
    within(node.shutdown()).await.unwrap();
    drop(node);

    let node = within(builder.start()).await.unwrap();
    let mut watch = node.watch(&id("n", "k"));
    assert_eq!(
        within(watch.next()).await,
        Some(Some((Type::PnCounter, Reading::Count(0))))
    );
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { node.update(at("all", increment("k", 2))).await }
    });
    assert_eq!(
        within(watch.next()).await,
        Some(Some((Type::PnCounter, Reading::Count(2))))
    );
    within(node.shutdown()).await.unwrap();
    let error = within(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconfirmed);
    assert_eq!(
        within(node.update(increment("k", 1))).await.unwrap_err().kind(),
        ErrorKind::Stopping
    );
    assert_eq!(within(watch.next()).await, None);
    assert_eq!(
        counter(&node, "k").get(),
        Some(2),
        "its last state stays readable"
    );
    within(node.stopped()).await.unwrap();
    drop(node);

    let node = scratch.start(1, &[]).await;
    assert_eq!(counter(&node, "k").get(), Some(2));
    within(node.shutdown()).await.unwrap();
}

/// What its session has seen is at no node that is up.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_says_that_nothing_changed_to_those_who_wait_for_what_their_session_has_seen() {
    let scratch = Scratch::new();
    let functions = || {
        let function = Function::of::<crate::function::state::PnCounter>("n");
        let function = function.command("add", |count, _, by: i64| {
            count.increment(by);
            Ok::<_, String>(())
        });
        function.query("get", |count, _, ()| Ok::<_, String>(count.get()))
    };
    let elsewhere = scratch.start(1, &[]).await;
    let seen = within(elsewhere.update(increment("k", 1))).await.unwrap().token;
    within(elsewhere.shutdown()).await.unwrap();
    // A directory of a cluster of one, so that it takes writes although the other member never comes.
    within(scratch.start(2, &[]).await.shutdown()).await.unwrap();
    let builder = scratch.builder(2).members(vec![NodeId(1), NodeId(2)]);
    let node = within(builder.function(functions()).start()).await.unwrap();
    let (k, patience) = (id("n", "k"), Duration::from_secs(600));
    let call = |method: &str, payload: Payload| Call::new(id("n", "k"), method, payload);
    let add = || call("add", Payload::of(Encoding::Cbor, &1).unwrap());
    let get = || call("get", Payload::of(Encoding::Cbor, &()).unwrap());
    let after = Update {
        after: Some(seen.clone()),
        timeout_ms: 600_000,
        ..increment("k", 1)
    };
    let update = async || node.update(after).await.map(drop);
    let command = async || node.call_payload(add(), Some(&seen), patience).await.map(drop);
    let query = async || node.call_payload(get(), Some(&seen), patience).await.map(drop);
    let stream = async || node.stream_payload(None, get(), &seen, patience).await.map(drop);
    let read = async || node.read_after(&k, &seen, patience).await.map(drop);
    let dump = async || node.dump_after(None, &seen, patience).await.map(drop);
    let majority = async || {
        node.read_majority(&k, &Token::default(), patience)
            .await
            .map(drop)
    };
    let stop = async || {
        let waiting = || node.handle().shared().peek(|engine| engine.requests_waiting());
        until(|| waiting() == 7).await;
        node.shutdown().await
    };
    let (update, command, query, stream, read, dump, majority, stopped) = within(async {
        tokio::join!(
            update(),
            command(),
            query(),
            stream(),
            read(),
            dump(),
            majority(),
            stop()
        )
    })
    .await;
    stopped.unwrap();
    for (what, result) in [
        ("update", update),
        ("command", command),
        ("query", query),
        ("stream", stream),
        ("read", read),
        ("dump", dump),
        ("majority", majority),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopping, "{what}: {error}");
        assert!(!error.changed_state() && error.may_retry(), "{what}: {error}");
    }
    drop(node);
    let node = scratch.start(2, &[]).await;
    assert_eq!(counter(&node, "k").get(), None);
    within(node.shutdown()).await.unwrap();
}

#[tokio::test]
async fn who_leaves_hands_over_what_it_may_take_away() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    let stock = |node: &Node, key: &str| node.entity::<BoundedCounter>("stock", key).unwrap();
    // Of another one it holds nothing.
    within(stock(&a, "boots").add(3)).await.unwrap();
    let everywhere = stock(&b, "hats").with_level("all".parse().unwrap());
    within(everywhere.add(9)).await.unwrap();
    let refused = within(stock(&a, "hats").take(9)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Rights);
    // Nobody could give back what went to nobody.
    let nobody = ReplicaId::new(NodeId(7), a.epoch());
    let refused = within(stock(&b, "hats").transfer(nobody, 1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert!(!refused.changed_state(), "{refused}");
    within(b.leave()).await.unwrap();
    for (key, by) in [("hats", 9), ("boots", 3)] {
        within(stock(&a, key).take(by)).await.unwrap();
        let refused = within(stock(&a, key).take(1)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Rights);
    }
    within(a.shutdown()).await.unwrap();
}

#[tokio::test]
async fn who_leaves_at_once_says_that_nothing_was_handed_over() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    let hats = b.entity::<BoundedCounter>("stock", "hats").unwrap();
    within(hats.clone().with_level("all".parse().unwrap()).add(9))
        .await
        .unwrap();
    let error = within(b.leave_within(Duration::ZERO)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconfirmed);
    assert!(error.message().contains("1 bounded counter"), "{error}");
    drop((b, hats));
    // As it was said: it is all there.
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    let run = ReplicaId::new(b.id(), b.epoch());
    let hats = b.entity::<BoundedCounter>("stock", "hats").unwrap();
    until(|| {
        b.handle()
            .shared()
            .peek(|engine| engine.view_as_it_is(hats.id()).held(run))
            == 9
    })
    .await;
    within(b.leave()).await.unwrap();
    let refused = within(a.entity::<BoundedCounter>("stock", "hats").unwrap().take(10)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Rights);
    within(a.entity::<BoundedCounter>("stock", "hats").unwrap().take(9))
        .await
        .unwrap();
    within(a.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_back_takes_away_what_it_held() {
    let scratch = Scratch::new();
    let stock = |node: &Node| node.entity::<BoundedCounter>("stock", "hats").unwrap();
    let a = scratch.start(1, &[]).await;
    within(stock(&a).add(9)).await.unwrap();
    within(a.shutdown()).await.unwrap();
    drop(a);
    // It never met another.
    let a = scratch.start(1, &[]).await;
    within(stock(&a).take(2)).await.unwrap();
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    within(a.shutdown()).await.unwrap();
    drop(a);
    // What b has of it is not known before they meet.
    let a = scratch.start(1, &[]).await;
    let refused = within(stock(&a).take(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Rights);
    within(a.shutdown()).await.unwrap();
    drop(a);
    let a = scratch.start(1, &[&b]).await;
    let run = ReplicaId::new(a.id(), a.epoch());
    let held = || {
        let look = |engine: &crate::engine::Engine| engine.view_as_it_is(stock(&a).id()).held(run);
        a.handle().shared().peek(look)
    };
    until(|| held() == 7).await;
    within(stock(&a).take(7)).await.unwrap();
    for node in [a, b] {
        within(node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn gossip_introduces_nodes_and_tells_that_one_has_left() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    let c = scratch.start(3, &[&a]).await;
    within(async { tokio::join!(b.ready(), c.ready()) }).await;
    // Nobody told these two of each other.
    let sees = |node: &Node, other: &Node, hint: MemberHint| {
        let members = node.status().members;
        members
            .iter()
            .any(|m| m.node == other.id() && m.hint == hint && m.connected == (hint == MemberHint::Up))
    };
    until(|| sees(&b, &c, MemberHint::Up) && sees(&c, &b, MemberHint::Up)).await;
    // Who leaves hands over first: whoever is there has it when it has left.
    within(c.update(increment("k", 1))).await.unwrap();
    within(c.leave()).await.unwrap();
    assert_eq!(
        (counter(&a, "k").get(), counter(&b, "k").get()),
        (Some(1), Some(1))
    );
    until(|| sees(&a, &c, MemberHint::Left) && sees(&b, &c, MemberHint::Left)).await;
    // Nobody waits for it any more, nor after a restart.
    let all = within(a.update(at("all", increment("k", 1)))).await.unwrap();
    assert_eq!(all.confirmed, 2);
    let address = a.quic_address();
    within(a.shutdown()).await.unwrap();
    drop(a);
    let back = scratch.builder(1).listen(address);
    let members = [1, 2, 3].map(NodeId).to_vec();
    let a = within(back.members(members).start()).await.unwrap();
    until(|| sees(&b, &a, MemberHint::Up)).await;
    let all = within(a.update(at("all", increment("k", 1)))).await.unwrap();
    assert_eq!(all.confirmed, 2);
    // It may come back all the same.
    let c = scratch.start(3, &[&b]).await;
    until(|| sees(&a, &c, MemberHint::Up) && sees(&b, &c, MemberHint::Up)).await;
    within(c.ready()).await;
    let all = within(a.update(at("all", increment("k", 1)))).await.unwrap();
    assert_eq!(all.confirmed, 3);
    for node in [a, b, c] {
        within(node.shutdown()).await.unwrap();
    }
}
