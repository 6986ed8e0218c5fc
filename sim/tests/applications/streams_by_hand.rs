//! Streams in clusters whose story is told step by step: what goes on them, and each way in which one ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch::state::{OrSet, PnCounter};
use anabranch::{Context, Error, ErrorKind, Function, NodeId, STREAM_WAITING_MAX, Stream};
use anabranch_sim::app::{Ask, Opened, TestCluster};

type Sums = Stream<PnCounter, i64, i64>;

/// What the functions of all nodes were seen doing.
#[derive(Default)]
struct Seen {
    /// Replies that `flood` has handed over.
    sent: AtomicU64,
    /// Functions that were dropped or have ended.
    over: AtomicU64,
}

struct Over(Arc<Seen>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.fetch_add(1, Ordering::Relaxed);
    }
}

/// Adds each message up by a command of its own entity, and says what it came to.
async fn add_all(mut stream: Sums, by: i64) -> Result<(), Error> {
    let key = stream.key().to_owned();
    while let Some(n) = stream.next().await? {
        let sum: i64 = stream.call("sums", &key, "add", &(n * by)).await?;
        stream.send(&sum).await?;
    }
    Ok(())
}

/// Sends messages to one that lives on and takes none, until it is told so.
async fn tell(context: &mut Context, node: u128) -> Result<(i64, String), Error> {
    let mut stream = context.open(Some(NodeId(node)), "sums", "a", "deaf", &()).await?;
    let said = stream.next::<i64>().await?;
    loop {
        if let Err(error) = stream.send(&1i64).await {
            let refused = (error.kind() == ErrorKind::Refused).then(|| error.message().to_owned());
            return Ok((said.unwrap_or(-1), refused.ok_or(error)?));
        }
    }
}

/// Adds the sum of all messages once it has them all.
async fn add_sum(mut stream: Sums) -> Result<(), Error> {
    let (key, mut sum) = (stream.key().to_owned(), 0);
    while let Some(n) = stream.next().await? {
        sum += n;
    }
    let sum: i64 = stream.call("sums", &key, "add", &sum).await?;
    stream.send(&sum).await
}

/// Is in the room while it is open.
async fn attend(mut stream: Stream<OrSet<String>, (), Vec<String>>, who: String) -> Result<(), Error> {
    let key = stream.key().to_owned();
    stream.at_end("room", &key, "leave", &who)?;
    let _: () = stream.call("room", &key, "enter", &who).await?;
    loop {
        let there = stream.state()?.elements();
        stream.send(&there).await?;
        stream.changed().await?;
    }
}

fn sums(seen: &Arc<Seen>) -> Function {
    let seen = Arc::clone(seen);
    Function::of::<PnCounter>("sums")
        .command("add", |sum, _: &mut Context, n: i64| {
            sum.increment(n);
            Ok::<_, String>(sum.get())
        })
        .query("get", |sum, _, ()| Ok::<_, String>(sum.get()))
        .query("few", |sum, _, ()| match sum.get() {
            few if few < 3 => Ok(few),
            many => Err(format!("{many} are many")),
        })
        .command_async("first of", |_, context: &mut Context, node: u128| {
            Box::pin(async move {
                let mut stream = context.open(Some(NodeId(node)), "sums", "a", "get", &()).await?;
                stream.next::<i64>().await
            })
        })
        .command_async("tell", |_, context: &mut Context, node: u128| {
            Box::pin(tell(context, node))
        })
        .stream("deaf", |mut stream: Sums, ()| async move {
            stream.send(&1).await?;
            drop(stream);
            std::future::pending::<Result<(), Error>>().await
        })
        .stream("add_all", add_all)
        .stream("add_sum", |stream, ()| add_sum(stream))
        .stream(
            "relay",
            |mut stream: Stream<PnCounter, (), i64>, node: u128| async move {
                let mut other = stream.open(Some(NodeId(node)), "sums", "a", "get", &()).await?;
                while let Some(reply) = other.next::<i64>().await? {
                    stream.send(&reply).await?;
                }
                Ok::<_, Error>(())
            },
        )
        .stream("flood", move |mut stream: Stream<PnCounter, (), u64>, ()| {
            let over = Over(Arc::clone(&seen));
            async move {
                for n in 0.. {
                    stream.send(&n).await?;
                    over.0.sent.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Error>(())
            }
        })
        .stream("refuse", |_: Sums, why: String| async move { Err::<(), _>(why) })
        .stream("panic", |mut stream: Sums, ()| async move {
            stream.send(&1).await?;
            panic!("this is too much");
            #[expect(unreachable_code, reason = "it says what type it is")]
            Ok::<_, Error>(())
        })
        .into()
}

fn room() -> Function {
    Function::of::<OrSet<String>>("room")
        .command(
            "enter",
            |room: &mut OrSet<String>, _: &mut Context, who: String| {
                room.add(&who);
                Ok::<_, String>(())
            },
        )
        .command(
            "leave",
            |room: &mut OrSet<String>, _: &mut Context, who: String| {
                room.remove(&who);
                Ok::<_, String>(())
            },
        )
        .query("who", |room: &OrSet<String>, _, ()| {
            Ok::<_, String>(room.elements())
        })
        .stream("attend", attend)
        .into()
}

fn start() -> (TestCluster, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let of = Arc::clone(&seen);
    let cluster = TestCluster::start(3, move || vec![sums(&of), room()]);
    (cluster, seen)
}

/// The id of a node.
fn id(cluster: &mut TestCluster, node: usize) -> u128 {
    cluster.look(|cluster| cluster.node_id(node).0)
}

fn add(cluster: &mut TestCluster, node: usize, n: i64) -> i64 {
    cluster.call(node, "sums", "a", "add", &n).unwrap()
}

fn next(cluster: &mut TestCluster, stream: &mut Opened) -> i64 {
    cluster.next(stream).unwrap().expect("it goes on")
}

fn open(cluster: &mut TestCluster) -> usize {
    cluster.look(|cluster| (0..cluster.nodes()).map(|node| cluster.streams(node)).sum())
}

#[test]
fn a_query_that_is_followed_says_what_it_answers_whenever_that_changes() {
    for on in [0, 1] {
        let (mut cluster, _) = start();
        add(&mut cluster, 2, 1);
        cluster.settle();
        let mut stream = cluster
            .open(Ask::stream("sums", "a", "get", &()).at(0).on(on))
            .unwrap();
        assert_eq!(cluster.look(|cluster| cluster.streams(on)), 1);
        assert_eq!(next(&mut cluster, &mut stream), 1);
        for by in 1..4 {
            let now = add(&mut cluster, 2, by);
            assert_eq!(next(&mut cluster, &mut stream), now);
            cluster.settle();
        }
        // Nothing is said of what makes no difference: the next reply is of the change after it.
        add(&mut cluster, 2, 0);
        let now = add(&mut cluster, 1, 5);
        assert_eq!(next(&mut cluster, &mut stream), now);
        cluster.leave(stream);
        cluster.settle();
        assert_eq!(open(&mut cluster), 0);
    }
}

#[test]
fn messages_go_to_the_function_and_replies_come_back_in_order() {
    for on in [0, 1] {
        let (mut cluster, _) = start();
        let ask = Ask::stream("sums", "a", "add_all", &10).at(0).on(on);
        let mut stream = cluster.open(ask).unwrap();
        for n in 1..4 {
            cluster.send(&mut stream, &n);
        }
        let replies: Vec<i64> = (1..4).map(|_| next(&mut cluster, &mut stream)).collect();
        assert_eq!(replies, [10, 30, 60]);
        cluster.finish_messages(&mut stream);
        assert_eq!(cluster.next::<i64>(&mut stream).unwrap(), None);
        assert_eq!(cluster.next::<i64>(&mut stream).unwrap(), None, "it stays ended");
        cluster.settle();
        assert_eq!(open(&mut cluster), 0);
    }
}

#[test]
fn all_messages_are_taken_for_all_only_once_their_caller_has_said_so() {
    for on in [0, 1] {
        let (mut cluster, _) = start();
        let ask = || Ask::stream("sums", "a", "add_sum", &()).at(0).on(on);
        let mut half = cluster.open(ask()).unwrap();
        cluster.send(&mut half, &100);
        cluster.pass(Duration::from_secs(1));
        cluster.leave(half);
        let mut whole = cluster.open(ask()).unwrap();
        cluster.send(&mut whole, &1);
        cluster.send(&mut whole, &2);
        cluster.finish_messages(&mut whole);
        assert_eq!(next(&mut cluster, &mut whole), 3);
        assert_eq!(cluster.next::<i64>(&mut whole).unwrap(), None);
        cluster.settle();
        assert_eq!(cluster.call::<_, i64>(2, "sums", "a", "get", &()).unwrap(), 3);
        assert_eq!(open(&mut cluster), 0);
    }
}

#[test]
fn a_function_is_as_far_ahead_of_its_caller_as_may_be_and_no_further() {
    for on in [0, 1] {
        let (mut cluster, seen) = start();
        let mut stream = cluster
            .open(Ask::stream("sums", "a", "flood", &()).at(0).on(on))
            .unwrap();
        assert_eq!(cluster.next::<u64>(&mut stream).unwrap(), Some(0));
        cluster.pass(Duration::from_secs(10));
        let sent = seen.sent.load(Ordering::Relaxed);
        // On the way to another node as much as its window takes waits, too.
        let most = if on == 0 { 2 } else { 8 } * STREAM_WAITING_MAX as u64;
        assert!(sent <= most, "{sent} of at most {most}");
        for n in 1..100 {
            assert_eq!(cluster.next::<u64>(&mut stream).unwrap(), Some(n));
        }
        cluster.leave(stream);
        cluster.settle();
        assert_eq!(
            seen.over.load(Ordering::Relaxed),
            1,
            "its function is dropped where it waits"
        );
    }
}

#[test]
fn what_a_function_ends_with_comes_to_its_caller() {
    for on in [0, 1] {
        let (mut cluster, _) = start();
        let mut refused = cluster
            .open(Ask::stream("sums", "a", "refuse", &"no").at(0).on(on))
            .unwrap();
        let error = cluster.next::<i64>(&mut refused).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, "no"));
        let mut panics = cluster
            .open(Ask::stream("sums", "a", "panic", &()).at(0).on(on))
            .unwrap();
        assert_eq!(next(&mut cluster, &mut panics), 1);
        let error = cluster.next::<i64>(&mut panics).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost);
        let mut few = cluster
            .open(Ask::stream("sums", "a", "few", &()).at(0).on(on))
            .unwrap();
        assert_eq!(next(&mut cluster, &mut few), 0);
        add(&mut cluster, on, 4);
        let error = cluster.next::<i64>(&mut few).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let command = cluster
            .open(Ask::stream("sums", "a", "add", &1).at(0).on(on))
            .unwrap_err();
        assert_eq!(command.kind(), ErrorKind::Invalid);
        cluster.settle();
        assert_eq!(open(&mut cluster), 0);
    }
}

#[test]
fn who_sends_to_a_function_that_takes_no_more_is_refused() {
    let (mut cluster, _) = start();
    let mut tell = |node| {
        let on = id(&mut cluster, node);
        let told: (i64, String) = cluster.call(0, "sums", "b", "tell", &on).unwrap();
        assert_eq!(told.0, 1);
        cluster.settle();
        assert_eq!(open(&mut cluster), 0);
        told.1
    };
    assert_eq!(tell(0), tell(1), "it is the same wherever the function is");
}

#[test]
fn a_stream_ends_with_its_link_and_may_be_opened_elsewhere() {
    let (mut cluster, _) = start();
    let mut stream = cluster
        .open(Ask::stream("sums", "a", "get", &()).at(0).on(1))
        .unwrap();
    assert_eq!(next(&mut cluster, &mut stream), 0);
    cluster.split(&[&[0], &[1]]);
    let error = cluster.next::<i64>(&mut stream).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unanswered);
    let gone = cluster
        .open(Ask::stream("sums", "a", "get", &()).at(0).on(1))
        .unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Unreachable);
    cluster.pass(Duration::from_secs(30));
    assert_eq!(
        open(&mut cluster),
        0,
        "its function is over at the other side, too"
    );
    let mut again = cluster
        .open(Ask::stream("sums", "a", "get", &()).at(0).on(2))
        .unwrap();
    let now = add(&mut cluster, 1, 7);
    while next(&mut cluster, &mut again) != now {}
    cluster.leave(again);
    cluster.heal();
    cluster.settle();
    assert_eq!(open(&mut cluster), 0);
}

#[test]
fn a_stream_ends_with_the_node_of_its_function() {
    let (mut cluster, _) = start();
    for on in [0, 1] {
        let mut stream = cluster
            .open(Ask::stream("sums", "a", "get", &()).at(0).on(on))
            .unwrap();
        next(&mut cluster, &mut stream);
        cluster.cut_power(on);
        let error = cluster.next::<i64>(&mut stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unanswered);
        let down = cluster.stream(on, "sums", "a", "get", &()).unwrap_err();
        assert_eq!(down.kind(), ErrorKind::Unreachable);
        cluster.restart(on);
        cluster.settle();
        assert_eq!(open(&mut cluster), 0);
    }
}

fn who(cluster: &mut TestCluster, node: usize) -> Vec<String> {
    let mut who: Vec<String> = cluster.call(node, "room", "lobby", "who", &()).unwrap();
    who.sort();
    who
}

#[test]
fn what_is_wanted_at_a_streams_end_is_called_however_it_ends() {
    let (mut cluster, _) = start();
    let attend = |name: &str, at, on| Ask::stream("room", "lobby", "attend", &name).at(at).on(on);
    let mut here = cluster.open(attend("here", 1, 1)).unwrap();
    let mut there = cluster.open(attend("there", 0, 1)).unwrap();
    let mut dies = cluster.open(attend("dies", 2, 1)).unwrap();
    for stream in [&mut here, &mut there, &mut dies] {
        cluster.next::<Vec<String>>(stream).unwrap().expect("it goes on");
    }
    cluster.settle();
    assert_eq!(who(&mut cluster, 0), ["dies", "here", "there"]);
    cluster.leave(here);
    cluster.settle();
    assert_eq!(who(&mut cluster, 0), ["dies", "there"]);
    cluster.leave(there);
    cluster.settle();
    assert_eq!(who(&mut cluster, 0), ["dies"]);
    // Its caller dies without a word: the link's end tells of it.
    cluster.kill(2);
    cluster.wait_until("nobody is there", |cluster| {
        cluster.query::<_, Vec<String>>(0, "room", "lobby", "who", &()) == Ok(Vec::new())
    });
    cluster.settle();
    assert_eq!(open(&mut cluster), 0);
}

#[test]
fn functions_open_streams_themselves() {
    let (mut cluster, _) = start();
    add(&mut cluster, 2, 3);
    cluster.settle();
    for on in [0, 1] {
        let other = id(&mut cluster, on);
        let first: Option<i64> = cluster.call(0, "sums", "b", "first of", &other).unwrap();
        assert_eq!(first, Some(3));
        cluster.settle();
        assert_eq!(open(&mut cluster), 0, "a command's streams end with it");
    }
    let other = id(&mut cluster, 2);
    let mut relay = cluster
        .open(Ask::stream("sums", "b", "relay", &other).at(0).on(1))
        .unwrap();
    assert_eq!(next(&mut cluster, &mut relay), 3);
    assert_eq!(open(&mut cluster), 2);
    let now = add(&mut cluster, 0, 1);
    assert_eq!(next(&mut cluster, &mut relay), now);
    cluster.leave(relay);
    cluster.settle();
    assert_eq!(open(&mut cluster), 0, "the inner one ends with the outer one");
}

#[test]
fn as_many_streams_as_a_node_takes_and_no_more() {
    let (mut cluster, _) = start();
    let ask = || Ask::stream("sums", "a", "get", &()).at(0).on(1);
    let streams: Vec<Opened> = (0..48).map(|_| cluster.open(ask()).unwrap()).collect();
    let full = cluster.open(ask()).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded);
    for stream in streams {
        cluster.leave(stream);
    }
    let mut one = cluster.open(ask()).unwrap();
    assert_eq!(next(&mut cluster, &mut one), 0);
    cluster.leave(one);
    cluster.settle();
    assert_eq!(open(&mut cluster), 0);
}

#[test]
fn a_node_that_stood_still_goes_on_with_its_streams() {
    let (mut cluster, _) = start();
    for on in [0, 1] {
        let mut stream = cluster
            .open(Ask::stream("sums", "a", "get", &()).at(0).on(on))
            .unwrap();
        next(&mut cluster, &mut stream);
        cluster.pause(on, Duration::from_secs(2));
        let now = add(&mut cluster, 2, 1);
        assert_eq!(next(&mut cluster, &mut stream), now);
        cluster.leave(stream);
        cluster.settle();
    }
}
