//! Streaming calls: here, and between two nodes over a real link.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::oneshot;

use super::{PATIENCE, Scratch, id, until, within};
use crate::NodeId;
use crate::error::{Error, ErrorKind};
use crate::function::state::{OrSet, PnCounter};
use crate::function::{AT_END_MAX, Context, Function, STREAM_WAITING_MAX, Stream, Streaming};
use crate::node::Node;
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::wire::Token;

/// What a test sees of the functions of one node.
#[derive(Default)]
struct Watched {
    /// Replies that `flood` has handed over.
    sent: AtomicU64,
    /// Functions that were dropped while they ran.
    dropped: Notify,
    /// Ends `look`.
    has_looked: AtomicBool,
    /// What `look` took for its caller's last word.
    took_end: AtomicBool,
    /// Lets go of `stuck`.
    stuck: Mutex<Option<oneshot::Receiver<()>>>,
}

struct Dropped(Arc<Watched>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

type Sums = Stream<PnCounter, i64, i64>;

/// Adds each message up by a command of its own entity, and says what it came to.
async fn add_all(mut stream: Sums, by: i64) -> Result<(), Error> {
    while let Some(n) = stream.next().await? {
        let (kind, key) = (stream.entity().kind().to_owned(), stream.key().to_owned());
        let sum: i64 = stream.call(&kind, &key, "add", &(n * by)).await?;
        stream.send(&sum).await?;
    }
    Ok(())
}

/// Adds the sum of all messages once it has them all.
async fn add_sum(mut stream: Sums, watched: Arc<Watched>) -> Result<(), Error> {
    let _dropped = Dropped(watched);
    let mut sum = 0;
    while let Some(n) = stream.next().await? {
        sum += n;
        stream.send(&sum).await?;
    }
    let (kind, key) = (stream.entity().kind().to_owned(), stream.key().to_owned());
    let sum: i64 = stream.call(&kind, &key, "add", &sum).await?;
    stream.send(&sum).await
}

/// Looks for messages again and again, in one step.
async fn look(mut stream: Sums, watched: Arc<Watched>) -> Result<(), Error> {
    let _dropped = Dropped(Arc::clone(&watched));
    stream.next().await?;
    stream.send(&1).await?;
    let mut next = Box::pin(stream.next());
    while !watched.has_looked.load(Ordering::Relaxed) {
        let polled = next.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        if matches!(polled, Poll::Ready(Ok(None))) {
            watched.took_end.store(true, Ordering::Relaxed);
            break;
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Says one thing, takes nothing and lives on.
async fn deaf(mut stream: Stream<PnCounter, String, i64>, (): ()) -> Result<(), Error> {
    stream.send(&1).await?;
    drop(stream);
    std::future::pending().await
}

async fn flood(mut stream: Stream<PnCounter, (), u64>, watched: Arc<Watched>) -> Result<(), Error> {
    let _dropped = Dropped(Arc::clone(&watched));
    for n in 0.. {
        stream.send(&n).await?;
        watched.sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn sums(watched: &Arc<Watched>) -> Function {
    let of = || Arc::clone(watched);
    let (sum_of, flood_of, look_of, stuck_of) = (of(), of(), of(), of());
    let stuck = move |_: Stream<PnCounter, (), ()>, ()| {
        let watched = Arc::clone(&stuck_of);
        async move {
            let held = watched.stuck.lock().unwrap().take();
            // Never does what a future should: it blocks.
            Err::<(), _>(format!("{:?}", held.map(oneshot::Receiver::blocking_recv)))
        }
    };
    Function::of::<PnCounter>("sums")
        .command("add", |sum, _: &mut Context, n: i64| {
            sum.increment(n);
            Ok::<_, String>(sum.get())
        })
        .query("get", |sum, _, ()| Ok::<_, String>(sum.get()))
        .command_async("first of", |_, context: &mut Context, node: u128| {
            Box::pin(async move {
                let mut stream = context.open(Some(NodeId(node)), "sums", "other", "get", &()).await?;
                stream.next::<i64>().await
            })
        })
        .stream("first of each", |mut stream: Stream<PnCounter, u128, i64>, ()| async move {
            while let Some(node) = stream.next().await? {
                let mut other = stream.open(Some(NodeId(node)), "sums", "other", "get", &()).await?;
                stream.send(&other.next().await?.unwrap_or(-1)).await?;
            }
            Ok::<_, Error>(())
        })
        .stream("add_all", add_all)
        .stream("add_sum", move |stream, ()| add_sum(stream, Arc::clone(&sum_of)))
        .stream("flood", move |stream, ()| flood(stream, Arc::clone(&flood_of)))
        .stream("deaf", deaf)
        .stream("look", move |stream, ()| look(stream, Arc::clone(&look_of)))
        .stream("stuck", stuck)
        .stream("attend", |mut stream: Sums, ()| async move {
            stream.send(&1).await?;
            loop {
                stream.changed().await?;
                let _: i64 = stream.call("sums", "b", "add", &1).await?;
            }
            #[expect(unreachable_code, reason = "it says what type it is")]
            Ok::<_, Error>(())
        })
        .stream("refuse", |_: Sums, why: String| async move { Err::<(), _>(why) })
        .stream("panic", |mut stream: Sums, ()| async move {
            stream.send(&1).await?;
            panic!("this is too much");
            #[expect(unreachable_code, reason = "it says what type it is")]
            Ok::<_, Error>(())
        })
        .stream("large", |mut stream: Stream<PnCounter, String, String>, ()| async move {
            while let Some(text) = stream.next().await? {
                stream.send(&text).await?;
            }
            Ok::<_, Error>(())
        })
        .stream("too large", |mut stream: Stream<PnCounter, (), String>, ()| async move {
            stream.send(&"x".repeat(1 << 20)).await
        })
        .query("echo", |_, _, text: String| Ok::<_, String>(text))
        .into()
}

struct Pair {
    scratch: Scratch,
    one: Node,
    two: Node,
    at_one: Arc<Watched>,
    at_two: Arc<Watched>,
}

async fn pair() -> Pair {
    let scratch = Scratch::new();
    let (at_one, at_two) = (Arc::default(), Arc::default());
    let one = scratch.builder(1).function(sums(&at_one));
    let one = within(one.start()).await.unwrap();
    let seeds = vec![one.quic_address().to_string()];
    let two = scratch.builder(2).seeds(seeds).function(sums(&at_two));
    let two = within(two.start()).await.unwrap();
    within(two.ready()).await;
    Pair {
        scratch,
        one,
        two,
        at_one,
        at_two,
    }
}

fn call(method: &str, argument: &impl serde::Serialize) -> Call {
    Call::new(
        id("sums", "a"),
        method,
        Payload::of(Encoding::Postcard, argument).unwrap(),
    )
}

/// Opens a stream at one of the two nodes, from the first.
async fn open(pair: &Pair, at: u128, call: Call) -> Result<Streaming, Error> {
    within(
        pair.one
            .stream_payload(Some(NodeId(at)), call, &Token::default(), PATIENCE),
    )
    .await
}

async fn next<R: serde::de::DeserializeOwned>(stream: &mut Streaming) -> Option<R> {
    within(stream.next()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_followed_says_what_it_answers_whenever_that_changes() {
    let pair = pair().await;
    for at in [1, 2] {
        let add = async |n: i64| {
            within(pair.one.call::<_, i64>("sums", "a", "add", &n))
                .await
                .unwrap()
        };
        let before = add(0).await;
        let mut stream = open(&pair, at, call("get", &())).await.unwrap();
        // The other node may not have all of it yet.
        while next::<i64>(&mut stream).await != Some(before) {}
        let (opener, served) = if at == 1 { (1, 0) } else { (0, 1) };
        let streams = |node: &Node| node.status().counters["streams_open"];
        assert_eq!((streams(&pair.one), streams(&pair.two)), (opener, served));
        for _ in 0..3 {
            let now = add(1).await;
            assert_eq!(next(&mut stream).await, Some(now));
        }
        // Nothing is said of what makes no difference: the next reply is of the change after it.
        add(0).await;
        let now = add(5).await;
        assert_eq!(next(&mut stream).await, Some(now));
        drop(stream);
        until(|| streams(&pair.one) + streams(&pair.two) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_to_the_function_and_replies_come_back_in_order() {
    let pair = pair().await;
    for at in [1, 2] {
        let mut stream = open(&pair, at, call("add_all", &10)).await.unwrap();
        let before = within(pair.one.call::<_, i64>("sums", "a", "add", &0))
            .await
            .unwrap();
        for n in 1..=3 {
            within(stream.send(&n)).await.unwrap();
            let sum = next::<i64>(&mut stream).await.unwrap();
            if n == 1 {
                assert!(sum >= 10, "{sum} after {before}");
            }
        }
        // Both at once: more than either end holds.
        let (mut messages, mut stream) = stream.split();
        let many = 20 * STREAM_WAITING_MAX as i64;
        let sending = tokio::spawn(async move {
            for _ in 0..many {
                messages.send(&1).await.unwrap();
            }
            messages.finish();
        });
        let mut last = 0;
        for _ in 0..many {
            let sum = next::<i64>(&mut stream).await.unwrap();
            assert!(sum > last, "{sum} after {last}");
            last = sum;
        }
        within(sending).await.unwrap();
        assert_eq!(next::<i64>(&mut stream).await, None, "all was said");
        // Whoever reads with what the stream had seen sees what it did.
        let read = within(
            pair.one
                .call_payload(call("get", &()), Some(stream.token()), PATIENCE),
        );
        let sum: i64 = read.await.unwrap().0.read().unwrap();
        assert_eq!(sum, last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_open_streams_of_one_another_here_and_there() {
    let pair = pair().await;
    let added: i64 = within(pair.two.call("sums", "other", "add", &7)).await.unwrap();
    assert_eq!(added, 7);
    let mut here = within(pair.one.stream("sums", "other", "get", &()))
        .await
        .unwrap();
    while next::<i64>(&mut here).await != Some(7) {}
    let mut each = open(&pair, 2, call("first of each", &())).await.unwrap();
    for node in [1u128, 2] {
        let first: Option<i64> = within(pair.one.call("sums", "a", "first of", &node))
            .await
            .unwrap();
        assert_eq!(first, Some(7));
        within(each.send(&node)).await.unwrap();
        assert_eq!(next(&mut each).await, Some(7i64));
    }
    drop((each, here));
    let streams = |node: &Node| node.status().counters["streams_open"];
    until(|| streams(&pair.one) + streams(&pair.two) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_has_not_said_all() {
    let pair = pair().await;
    let mut stream = open(&pair, 2, call("add_sum", &())).await.unwrap();
    within(stream.send(&40)).await.unwrap();
    assert_eq!(next(&mut stream).await, Some(40));
    drop(stream);
    within(pair.at_two.dropped.notified()).await;
    let sum: i64 = within(pair.two.call("sums", "a", "get", &())).await.unwrap();
    assert_eq!(sum, 0, "what was not said to be all was taken for it");
    let mut stream = open(&pair, 2, call("add_sum", &())).await.unwrap();
    within(stream.send(&40)).await.unwrap();
    within(stream.send(&2)).await.unwrap();
    stream.finish();
    assert_eq!(
        within(stream.send(&1)).await.unwrap_err().kind(),
        ErrorKind::Refused
    );
    for sum in [40, 42, 42] {
        assert_eq!(next(&mut stream).await, Some(sum));
    }
    assert_eq!(next::<i64>(&mut stream).await, None);
    assert_eq!(next::<i64>(&mut stream).await, None, "and stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_does_not_get_far_ahead_of_its_caller() {
    let pair = pair().await;
    let mut stream = open(&pair, 2, call("flood", &())).await.unwrap();
    for n in 0..10_000u64 {
        assert_eq!(next(&mut stream).await, Some(n));
    }
    drop(stream);
    within(pair.at_two.dropped.notified()).await;
    // Here it moves when its caller does.
    let mut stream = open(&pair, 1, call("flood", &())).await.unwrap();
    assert_eq!(pair.at_one.sent.load(Ordering::Relaxed), 0);
    for n in 0..1_000u64 {
        assert_eq!(next(&mut stream).await, Some(n));
        let ahead = pair.at_one.sent.load(Ordering::Relaxed) - n;
        assert!(ahead <= STREAM_WAITING_MAX as u64 + 1, "{ahead} ahead");
    }
    drop(stream);
    within(pair.at_one.dropped.notified()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_to_a_function_that_takes_no_more_is_refused() {
    let pair = pair().await;
    let text = "0123456789abcdef".repeat(8 << 10);
    for at in [1, 2] {
        let mut stream = open(&pair, at, call("deaf", &())).await.unwrap();
        assert_eq!(next(&mut stream).await, Some(1));
        let sending = async {
            loop {
                if let Err(error) = stream.send(&text).await {
                    break error;
                }
            }
        };
        assert_eq!(within(sending).await.kind(), ErrorKind::Refused);
        drop(stream);
        // The same where one sends while another waits.
        let mut stream = open(&pair, at, call("deaf", &())).await.unwrap();
        assert_eq!(next(&mut stream).await, Some(1));
        let (mut messages, mut replies) = stream.split();
        let refused = async {
            loop {
                if let Err(error) = messages.send(&text).await {
                    break error;
                }
            }
        };
        let sending = async {
            tokio::select! {
                error = refused => error,
                reply = replies.next::<i64>() => panic!("it lives on, and says nothing: {reply:?}"),
            }
        };
        assert_eq!(within(sending).await.kind(), ErrorKind::Refused);
        let open = || {
            let streams = |node: &Node| node.status().counters["streams_open"];
            streams(&pair.one) + streams(&pair.two)
        };
        assert!(open() > 0, "the function lives on");
        drop(replies);
        until(|| open() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_stream_ends_its_caller_hears() {
    let pair = pair().await;
    for at in [1, 2] {
        let mut refused = open(&pair, at, call("refuse", &"not today")).await.unwrap();
        let error = within(refused.next::<i64>()).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, "not today"));
        assert_eq!(error.details::<String>().as_deref(), Some("not today"));
        assert_eq!(next::<i64>(&mut refused).await, None, "an error is told once");
        let mut panicked = open(&pair, at, call("panic", &())).await.unwrap();
        assert_eq!(
            next(&mut panicked).await,
            Some(1),
            "what was said before is heard"
        );
        let error = within(panicked.next::<i64>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert!(error.message().contains("this is too much"), "{error}");
        let mut large = open(&pair, at, call("too large", &())).await.unwrap();
        let error = within(large.next::<String>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        let mut wrong = open(&pair, at, call("add_all", &"x")).await.unwrap();
        let error = within(wrong.next::<i64>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let kind = async |call: Call| open(&pair, at, call).await.unwrap_err().kind();
        assert_eq!(kind(call("add", &1)).await, ErrorKind::Invalid, "a command");
        assert_eq!(kind(call("nothing", &1)).await, ErrorKind::NoFunction);
        let unary = within(pair.one.call_on(NodeId(at), call("add_all", &1), None, PATIENCE)).await;
        assert_eq!(unary.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let nobody = open(&pair, 7, call("get", &())).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Unreachable);
    let of = pair.two.status();
    let refuse = of
        .methods
        .iter()
        .find(|method| method.method == "refuse")
        .unwrap();
    assert_eq!((refuse.streams, refuse.stream_errors, refuse.calls), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_either_node() {
    let Pair {
        scratch, one, two, ..
    } = pair().await;
    let open = async |from: &Node, at: u128| {
        let none = Token::default();
        let opening = from.stream_payload(Some(NodeId(at)), call("get", &()), &none, PATIENCE);
        let mut stream = within(opening).await.unwrap();
        next::<i64>(&mut stream).await.unwrap();
        stream
    };
    let (mut away, mut here) = (open(&one, 2).await, open(&two, 2).await);
    within(two.shutdown()).await.unwrap();
    let error = within(away.next::<i64>()).await.unwrap_err();
    let kinds = [ErrorKind::Unanswered, ErrorKind::Stopping];
    assert!(kinds.contains(&error.kind()), "{error}");
    let error = within(here.next::<i64>()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopping, "{error}");
    drop((away, here, two));
    within(one.shutdown()).await.unwrap();
    drop(scratch);
}

/// Whatever the stop is first seen by: none of it is what the function answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_node_stops_is_refused_by_nobody() {
    let scratch = Scratch::new();
    let node = scratch.builder(1).function(sums(&Arc::default()));
    let node = within(node.start()).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..32 {
        let mut stream = within(node.stream("sums", "a", "attend", &())).await.unwrap();
        assert_eq!(next(&mut stream).await, Some(1));
        streams.push(tokio::spawn(async move { stream.next::<i64>().await }));
    }
    // They are busy as it ends.
    let busy = tokio::spawn({
        let node = node.clone();
        async move { while node.call::<_, i64>("sums", "a", "add", &1).await.is_ok() {} }
    });
    until(|| node.entity::<crate::PnCounter>("sums", "b").unwrap().get() >= Some(64)).await;
    within(node.shutdown()).await.unwrap();
    within(busy).await.unwrap();
    for stream in streams {
        let error = within(stream).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopping, "{error}");
        assert!(error.may_retry(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_blocks_holds_up_no_other() {
    let pair = pair().await;
    let (let_go, held) = oneshot::channel();
    *pair.at_two.stuck.lock().unwrap() = Some(held);
    let mut stuck = open(&pair, 2, call("stuck", &())).await.unwrap();
    let waiting = tokio::spawn(async move { stuck.next::<()>().await });
    until(|| pair.at_two.stuck.lock().unwrap().is_none()).await;
    let mut other = open(&pair, 2, call("add_all", &1)).await.unwrap();
    within(other.send(&7)).await.unwrap();
    assert_eq!(next(&mut other).await, Some(7));
    let_go.send(()).unwrap();
    let error = within(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.message(), "Some(Ok(()))");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_goes_a_way_of_its_own() {
    let pair = pair().await;
    let text = "0123456789abcdef".repeat(47 << 10);
    let calls: Vec<_> = (0..20)
        .map(|i| {
            let (one, text) = (pair.one.clone(), text.clone());
            tokio::spawn(async move {
                let text = if i % 2 == 0 { text } else { "small".to_owned() };
                let called = one.call_on(NodeId(2), call("echo", &text), None, PATIENCE);
                let (reply, _) = within(called).await.unwrap();
                assert!(reply.read::<String>().unwrap() == text);
            })
        })
        .collect();
    for call in calls {
        within(call).await.unwrap();
    }
    let mut stream = open(&pair, 2, call("large", &())).await.unwrap();
    for _ in 0..20 {
        within(stream.send(&text)).await.unwrap();
        assert!(next::<String>(&mut stream).await.unwrap() == text);
    }
    let error = within(stream.send(&"x".repeat(1 << 20))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_different_versions_of_a_function_side_by_side() {
    let older = || {
        Function::of::<PnCounter>("versions")
            .command("add", |n, _: &mut Context, by: i64| {
                n.increment(by);
                Ok::<_, String>(n.get())
            })
            .command("take", |n, context: &mut Context, by: i64| {
                n.increment(1);
                context.forward("versions", "b", "subtract", &by);
                Ok::<_, String>(n.get())
            })
            .command("lose", |n, context: &mut Context, by: i64| {
                n.increment(1);
                context.forward("versions", "b", "divide", &by);
                Ok::<_, String>(n.get())
            })
    };
    let newer = older()
        .command("subtract", |n, _: &mut Context, by: i64| {
            n.increment(-by);
            Ok::<_, String>(n.get())
        })
        .query("get", |n, _, ()| Ok::<_, String>(n.get()));
    let scratch = Scratch::new();
    let one = within(scratch.builder(1).function(older()).start())
        .await
        .unwrap();
    let seeds = vec![one.quic_address().to_string()];
    let two = scratch.builder(2).seeds(seeds).function(newer);
    let two = within(two.start()).await.unwrap();
    within(two.ready()).await;
    let call = async |node: &Node, method: &str| {
        within(node.call::<_, i64>("versions", "a", method, &5))
            .await
            .unwrap()
    };
    assert_eq!(call(&one, "add").await, 5);
    // What is new goes to where it is; it does not see what has not come there yet.
    let mut stream = within(one.stream("versions", "a", "get", &())).await.unwrap();
    while next::<i64>(&mut stream).await != Some(5) {}
    assert_eq!(call(&one, "subtract").await, 0);
    assert_eq!(next(&mut stream).await, Some(0i64));
    let error = within(one.call::<_, i64>("versions", "a", "divide", &5))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoFunction);
    assert!(error.message().contains("it has add, lose, take)"), "{error}");
    assert!(
        error.message().contains("it has add, get, lose, subtract, take"),
        "{error}"
    );
    // What is forwarded goes there, too.
    assert_eq!(call(&one, "take").await, -5);
    let error = within(one.call::<_, i64>("versions", "a", "lose", &5))
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unanswered,
        "what forwarded it is in: {error}"
    );
}

/// A function whose every method panics where `at` is not the node that runs it.
fn only_at(at: u128) -> Function {
    let check = move |context: &Context| {
        assert!(context.node() == NodeId(at), "not here");
        Ok::<_, String>(context.node().0)
    };
    Function::of::<OrSet<String>>("guarded")
        .command("where", move |_, context: &mut Context, ()| check(context))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_to_where_it_can_be_answered() {
    let scratch = Scratch::new();
    let one = within(scratch.builder(1).function(only_at(2)).start())
        .await
        .unwrap();
    let seeds = vec![one.quic_address().to_string()];
    let two = scratch.builder(2).seeds(seeds).function(only_at(2));
    let two = within(two.function(sums(&Arc::default())).start()).await.unwrap();
    within(two.ready()).await;
    // The first node has no such function.
    let sum: i64 = within(one.call("sums", "a", "add", &3)).await.unwrap();
    assert_eq!(sum, 3);
    let mut stream = within(one.stream("sums", "a", "get", &())).await.unwrap();
    assert_eq!(next(&mut stream).await, Some(3));
    for error in [
        within(one.call::<_, i64>("nobody", "a", "add", &3))
            .await
            .unwrap_err(),
        within(one.stream("nobody", "a", "add", &3)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoFunction);
        assert!(error.message().contains("nor at the 1 nodes"), "{error}");
    }
    // It has this one, which fails there: only what may run twice is tried elsewhere.
    let guarded = || {
        Call::new(
            id("guarded", "a"),
            "where",
            Payload::of(Encoding::Postcard, &()).unwrap(),
        )
    };
    let once = within(one.call_payload(guarded(), None, PATIENCE))
        .await
        .unwrap_err();
    assert_eq!(once.kind(), ErrorKind::Lost);
    let (reply, _) = within(one.call_payload(guarded().idempotent(), None, PATIENCE))
        .await
        .unwrap();
    assert_eq!(reply.read::<u128>(), Ok(2));
    // A refusal is an answer.
    let refused = call("add", &"x").idempotent();
    let error = within(two.call_payload(refused, None, PATIENCE))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_runs_while_its_caller_goes_does_not_take_that_for_the_end() {
    let pair = pair().await;
    let mut stream = open(&pair, 2, call("look", &())).await.unwrap();
    within(stream.send(&1)).await.unwrap();
    assert_eq!(next(&mut stream).await, Some(1));
    drop(stream);
    // By now the other node has heard of it.
    for _ in 0..100 {
        let called = pair.one.call_on(NodeId(2), call("get", &()), None, PATIENCE);
        within(called).await.unwrap();
    }
    pair.at_two.has_looked.store(true, Ordering::Relaxed);
    within(pair.at_two.dropped.notified()).await;
    assert!(!pair.at_two.took_end.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_wants_done_at_its_end_is_done_in_order() {
    const STREAMS: usize = 12;
    let scratch = Scratch::new();
    let noted: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
    let note = Arc::clone(&noted);
    let function: Function = Function::of::<PnCounter>("ends")
        .command("note", move |count, context: &mut Context, n: u64| {
            count.increment(1);
            note.lock().unwrap().push((context.key().to_owned(), n));
            Ok::<_, String>(())
        })
        .stream("open", |mut stream: Stream<PnCounter, (), ()>, ()| async move {
            let key = stream.key().to_owned();
            for n in 0..AT_END_MAX as u64 {
                stream.at_end("ends", &key, "note", &n)?;
            }
            stream.send(&()).await?;
            stream.next().await.map(drop)
        })
        .into();
    let node = within(scratch.builder(1).function(function).start())
        .await
        .unwrap();
    let mut streams = Vec::new();
    for n in 0..STREAMS {
        let key = format!("k{n}");
        let mut stream = within(node.stream("ends", &key, "open", &())).await.unwrap();
        assert_eq!(next(&mut stream).await, Some(()));
        streams.push(stream);
    }
    drop(streams);
    until(|| noted.lock().unwrap().len() == STREAMS * AT_END_MAX).await;
    let mut of: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (key, n) in noted.lock().unwrap().drain(..) {
        of.entry(key).or_default().push(n);
    }
    for (key, ns) in of {
        assert!(ns.is_sorted(), "{key}: {ns:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_go_on_leave_room_for_what_is_large() {
    let pair = pair().await;
    let (mut streams, none) = (Vec::new(), Token::default());
    let full = loop {
        let opening = pair.one.stream_payload(
            Some(NodeId(2)),
            call("get", &()),
            &none,
            Duration::from_millis(500),
        );
        match within(opening).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::Overloaded);
    let text = "0123456789abcdef".repeat(10 << 10);
    let called = pair
        .one
        .call_on(NodeId(2), call("echo", &text), None, Duration::from_secs(10));
    let (reply, _) = within(called).await.unwrap();
    assert!(reply.read::<String>().unwrap() == text);
    // One that ends makes room for another.
    let _ = streams.pop();
    until_open(&pair, &mut streams).await;
}

async fn until_open(pair: &Pair, streams: &mut Vec<Streaming>) {
    loop {
        match open(pair, 2, call("get", &())).await {
            Ok(stream) => return streams.push(stream),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_leaves_behind_goes_to_where_it_can_be_done() {
    let scratch = Scratch::new();
    let function: Function = Function::of::<PnCounter>("leaves")
        .command("behind", |_, context: &mut Context, ()| {
            context.effect("sums", "a", "add", &1);
            context.effect_later("sums", "a", "add", &10);
            Ok::<_, String>(())
        })
        .stream("at end", |mut stream: Stream<PnCounter, (), ()>, ()| async move {
            stream.at_end("sums", "a", "add", &100)
        })
        .into();
    let one = within(scratch.builder(1).function(function).start())
        .await
        .unwrap();
    let seeds = vec![one.quic_address().to_string()];
    let two = scratch.builder(2).seeds(seeds).function(sums(&Arc::default()));
    let two = within(two.start()).await.unwrap();
    within(two.ready()).await;
    let () = within(one.call("leaves", "a", "behind", &())).await.unwrap();
    let mut stream = within(one.stream("leaves", "a", "at end", &())).await.unwrap();
    assert_eq!(next::<()>(&mut stream).await, None);
    let mut sum = within(two.stream("sums", "a", "get", &())).await.unwrap();
    while next::<i64>(&mut sum).await != Some(111) {}
}
