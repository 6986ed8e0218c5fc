//! Whole nodes in one process: real directories, real QUIC on loopback. What needs a disk or a peer that misbehaves is
//! in `faults`, on an in-memory disk and without sockets.

mod calls;
mod epochs;
mod faults;
mod functions;
mod hooked;
mod images;
mod left;
mod levels;
mod sizes;
mod streams;
mod triggers;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anabranch_crdt::{Mutation, NodeId, OrSet, PnCounter, Reading, Type};

use crate::engine::{Level, Op, Update};
use crate::entity::Entity;
use crate::error::ErrorKind;
use crate::function::Function;
use crate::function::state::Flag;
use crate::node::{Node, NodeBuilder};
use crate::transport::ca;
use crate::wire::{EntityId, IdempotencyKey};

/// Far more than any of this takes: whoever waits longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a CA in it, gone at the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("anabranch-driver-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        ca::init(&dir.join("ca"), "test").unwrap();
        Scratch(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn home(&self, id: u128) -> PathBuf {
        self.0.join(id.to_string())
    }

    pub(super) fn builder(&self, id: u128) -> NodeBuilder {
        let home = self.home(id);
        if !home.exists() {
            ca::issue(
                &self.0.join("ca"),
                NodeId(id),
                &home,
                &ca::IssueOptions::default(),
            )
            .unwrap();
        }
        Node::builder()
            .directory(home.join("data"))
            .identity_files(home.join("ca.pem"), home.join("node.pem"), home.join("node.key"))
            .shards(16)
    }

    /// A node that knows these others.
    async fn start(&self, id: u128, others: &[&Node]) -> Node {
        let seeds = others
            .iter()
            .map(|node| node.quic_address().to_string())
            .collect();
        within(self.builder(id).seeds(seeds).start()).await.unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("this hangs")
}

/// How many commands of functions wait at a node, or are being answered.
pub(super) fn commands_waiting(node: &Node) -> u64 {
    node.status().counters["commands_waiting"]
}

pub(super) fn id(kind: &str, key: &str) -> EntityId {
    EntityId::new(kind, key).unwrap()
}

pub(super) fn update(ops: &[(&str, &str, Type, Mutation)]) -> Update {
    let op = |(kind, key, ty, mutation): &(&str, &str, Type, Mutation)| Op {
        entity: id(kind, key),
        ty: Some(*ty),
        mutation: mutation.clone(),
    };
    Update {
        after: None,
        ops: ops.iter().map(op).collect(),
        level: Level::default(),
        key: None,
        timeout_ms: 30_000,
    }
}

pub(super) fn increment(key: &str, by: i64) -> Update {
    update(&[("n", key, Type::PnCounter, Mutation::Increment(by))])
}

fn counter(node: &Node, key: &str) -> Entity<PnCounter> {
    node.entity("n", key).unwrap()
}

/// Waits until the counter is so high.
async fn until_count(node: &Node, key: &str, count: i128) {
    let mut watch = counter(node, key).watch();
    within(async {
        while let Some(value) = watch.next().await {
            if value == Some((Type::PnCounter, Reading::Count(count))) {
                return;
            }
        }
        panic!("the node stopped before the counter was {count}");
    })
    .await;
}

/// Waits for what nobody tells.
async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_node_comes_back_with_what_it_had() {
    let scratch = Scratch::new();
    let node = scratch.start(1, &[]).await;
    assert!(node.is_ready());
    assert_eq!(
        (node.id(), node.cluster(), node.name()),
        (NodeId(1), "test", "00000000")
    );
    let tags = node.entity::<OrSet>("tags", "t").unwrap();
    within(counter(&node, "a").increment(3)).await.unwrap();
    within(tags.add_all(["y", "x"])).await.unwrap();
    within(tags.remove("y")).await.unwrap();
    let title = node.entity::<anabranch_crdt::LwwRegister>("title", "t").unwrap();
    assert_eq!(title.get(), None);
    within(title.create()).await.unwrap();
    assert_eq!(title.get(), Some(None));
    within(title.set("hello")).await.unwrap();
    let dump: Vec<_> = node.dump().collect();
    let (epoch, directory) = (node.epoch(), node.directory_id());
    within(node.shutdown()).await.unwrap();
    within(node.shutdown()).await.unwrap();
    assert!(!node.is_ready() && !node.status().ready);
    drop((node, tags, title));

    let node = scratch.start(1, &[]).await;
    assert!(node.is_ready() && node.epoch() > epoch && node.directory_id() == directory);
    assert_eq!(node.dump().collect::<Vec<_>>(), dump);
    within(counter(&node, "a").increment(4)).await.unwrap();
    assert_eq!(counter(&node, "a").get(), Some(7));
    assert!(node.entity::<OrSet>("tags", "t").unwrap().contains("x"));
    within(node.leave()).await.unwrap();
    assert!(!node.is_ready() && !node.status().ready);
}

#[tokio::test]
async fn a_node_that_had_been_stopped_does_not_say_that_it_has_left() {
    let scratch = Scratch::new();
    let node = scratch.start(1, &[]).await;
    within(node.shutdown()).await.unwrap();
    let error = within(node.leave()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopping, "{error}");
    assert!(error.message().contains("has not left"), "{error}");
    within(node.shutdown()).await.unwrap();
    drop(node);
    // Whoever else stops a node that leaves, and asks it to leave again, hears the same.
    let node = scratch.start(1, &[]).await;
    within(node.leave()).await.unwrap();
    within(node.shutdown()).await.unwrap();
    within(node.leave()).await.unwrap();
}

#[tokio::test]
async fn two_nodes_converge() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    within(counter(&a, "k").increment(1)).await.unwrap();
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    until_count(&b, "k", 1).await;
    within(counter(&b, "k").increment(10)).await.unwrap();
    within(counter(&a, "k").increment(100)).await.unwrap();
    until_count(&a, "k", 111).await;
    until_count(&b, "k", 111).await;
    assert_eq!(a.summaries(), b.summaries());
    let status = a.status();
    assert_eq!(status.entities, 1);
    let [peer] = &status.members[..] else {
        panic!("{status:?}")
    };
    assert!(
        peer.node == b.id() && peer.connected && peer.epoch == Some(b.epoch()),
        "{peer:?}"
    );
    assert!(
        peer.bytes_received > 0 && peer.bytes_sent > 0 && peer.clock_skew_ms.is_some(),
        "{peer:?}"
    );
    within(b.shutdown()).await.unwrap();
    within(a.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_was_away_catches_up_at_another_address() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    let c = scratch.start(3, &[&a]).await;
    within(async { tokio::join!(b.ready(), c.ready()) }).await;
    within(counter(&c, "k").increment(1)).await.unwrap();
    until_count(&a, "k", 1).await;
    until_count(&b, "k", 1).await;
    let epoch = c.epoch();
    within(c.shutdown()).await.unwrap();

    for _ in 0..20 {
        within(counter(&a, "k").increment(1)).await.unwrap();
        within(counter(&b, "k").increment(1)).await.unwrap();
    }
    let c = scratch.start(3, &[&b]).await;
    assert!(c.epoch() > epoch);
    assert!(counter(&c, "k").get() >= Some(1), "it had this on disk");
    until_count(&c, "k", 41).await;
    within(counter(&c, "k").increment(1)).await.unwrap();
    until_count(&a, "k", 42).await;
    until_count(&b, "k", 42).await;
    for node in [a, b, c] {
        within(node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_directory_is_filled_again_and_nothing_counts_twice() {
    let scratch = Scratch::new();
    let a = scratch.start(1, &[]).await;
    let b = scratch.start(2, &[&a]).await;
    within(b.ready()).await;
    within(counter(&b, "k").increment(5)).await.unwrap();
    until_count(&a, "k", 5).await;
    let (epoch, directory) = (b.epoch(), b.directory_id());
    within(b.shutdown()).await.unwrap();
    drop(b);
    std::fs::remove_dir_all(scratch.home(2).join("data")).unwrap();

    let b = scratch.start(2, &[&a]).await;
    assert!(b.epoch() > epoch && b.directory_id() != directory);
    within(b.ready()).await;
    until_count(&b, "k", 5).await;
    within(counter(&b, "k").increment(1)).await.unwrap();
    until_count(&a, "k", 6).await;
    for node in [a, b] {
        within(node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn an_idempotency_key_is_known_after_a_restart() {
    let scratch = Scratch::new();
    let keyed = |by| Update {
        key: Some(IdempotencyKey::new(b"once").unwrap()),
        ..increment("k", by)
    };
    let node = scratch.start(1, &[]).await;
    let first = within(node.update(keyed(5))).await.unwrap();
    assert!(!first.repeated);
    within(node.shutdown()).await.unwrap();

    let node = scratch.start(1, &[]).await;
    let again = within(node.update(keyed(5))).await.unwrap();
    assert!(again.repeated);
    assert_eq!(
        (again.dots, again.epoch, again.directory),
        (first.dots, first.epoch, first.directory)
    );
    assert_eq!(counter(&node, "k").get(), Some(5));
    let other = within(node.update(keyed(6))).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::KeyReused);
    within(node.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_goes_on_beside_writers() {
    let scratch = Scratch::new();
    let node = scratch.start(1, &[]).await;
    let keys: Vec<String> = (0..400).map(|n| format!("{n:04}")).collect();
    let ops: Vec<_> = keys
        .iter()
        .map(|k| ("n", k.as_str(), Type::PnCounter, Mutation::Increment(1)))
        .collect();
    within(node.update(update(&ops))).await.unwrap();

    let writer = tokio::spawn({
        let (node, keys) = (node.clone(), keys.clone());
        async move {
            for key in keys.iter().rev() {
                node.update(increment(key, 1)).await.unwrap();
                node.update(increment(&format!("{key}+"), 1)).await.unwrap();
            }
        }
    });
    let mut dumps = 0;
    while !writer.is_finished() || dumps == 0 {
        let dump: Vec<EntityId> = node.dump().map(|(id, _, _)| id).collect();
        assert!(dump.is_sorted_by(|a, b| a < b));
        assert!(
            keys.iter().all(|key| dump.binary_search(&id("n", key)).is_ok()),
            "what was there before is in it"
        );
        dumps += 1;
        tokio::task::yield_now().await;
    }
    within(writer).await.unwrap();
    assert_eq!(node.dump().count(), 800);
    assert_eq!(node.status().entities, 800);
    within(node.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_watch_tells_the_value_now_and_then_changes_and_then_the_end() {
    let scratch = Scratch::new();
    let node = scratch.start(1, &[]).await;
    let mut watch = node.watch(&id("n", "k"));
    assert_eq!(within(watch.next()).await, Some(None));
    within(counter(&node, "other").increment(1)).await.unwrap();
    for n in 1..=3 {
        within(counter(&node, "k").increment(n)).await.unwrap();
    }
    // Three changes, one look.
    assert_eq!(
        within(watch.next()).await,
        Some(Some((Type::PnCounter, Reading::Count(6))))
    );
    let mut late = node.watch(&id("n", "k"));
    assert_eq!(
        within(late.next()).await,
        Some(Some((Type::PnCounter, Reading::Count(6))))
    );
    // The last handle goes: the node stops by itself, and a watch does not keep it.
    drop(node);
    assert_eq!(within(watch.next()).await, None);
    assert_eq!(within(late.next()).await, None);
}

#[tokio::test]
async fn a_dropped_start_or_update_does_not_hang_anything() {
    let scratch = Scratch::new();
    let mut starting = Box::pin(scratch.builder(1).start());
    let polled =
        std::future::poll_fn(|cx| std::task::Poll::Ready(starting.as_mut().poll(cx).is_ready())).await;
    assert!(!polled, "opening takes longer than one look");
    drop(starting);
    // Whether it had got as far as the lock or not, the directory comes free.
    let node = loop {
        match within(scratch.builder(1).start()).await {
            Ok(node) => break node,
            Err(error) => assert_eq!(error.kind(), ErrorKind::InUse, "{error}"),
        }
    };
    let mut updating = Box::pin(node.update(increment("k", 2)));
    let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(updating.as_mut().poll(cx).is_ready())).await;
    drop(updating);
    assert_eq!(counter(&node, "k").get(), Some(2), "polled once, made");
    within(node.shutdown()).await.unwrap();
    drop(node);
    let node = scratch.start(1, &[]).await;
    assert_eq!(counter(&node, "k").get(), Some(2));
    within(node.shutdown()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let scratch = Scratch::new();
    let kind = |result: Result<Node, crate::Error>| result.unwrap_err().kind();
    assert_eq!(kind(Node::builder().start().await), ErrorKind::Config);
    assert_eq!(
        kind(scratch.builder(1).shards(0).start().await),
        ErrorKind::Config
    );
    assert_eq!(
        kind(scratch.builder(1).seeds(vec!["host".into()]).start().await),
        ErrorKind::Config
    );
    assert_eq!(kind(scratch.builder(1).name("").start().await), ErrorKind::Config);
    let missing = scratch
        .builder(1)
        .identity_files("no/ca.pem", "no/node.pem", "no/node.key");
    assert_eq!(kind(missing.start().await), ErrorKind::Identity);
    let nowhere = scratch.builder(1).directory("/proc/anabranch");
    assert_eq!(kind(within(nowhere.start()).await), ErrorKind::Io);

    let node = scratch.start(1, &[]).await;
    assert_eq!(kind(within(scratch.builder(1).start()).await), ErrorKind::InUse);
    let port = scratch.builder(2).listen(node.quic_address());
    assert_eq!(kind(within(port.start()).await), ErrorKind::InUse);
    within(node.shutdown()).await.unwrap();

    let other_shards = within(scratch.builder(1).shards(17).start()).await.unwrap_err();
    assert_eq!(other_shards.kind(), ErrorKind::Config);
    assert!(other_shards.message().contains("configure 16"), "{other_shards}");
    let node = scratch.start(1, &[]).await;
    within(counter(&node, "k").increment(1)).await.unwrap();
    within(node.shutdown()).await.unwrap();
    drop(node);
    let declared = scratch.builder(1).kind("n", Type::OrSet);
    let declared = within(declared.start()).await.unwrap_err();
    assert!(
        declared.message().contains("take the declaration out"),
        "{declared}"
    );
    // What a function keeps cannot be undeclared.
    let function = Function::of::<Flag>("n").query("get", |flag, _, ()| Ok::<_, String>(flag.get()));
    let changed = within(scratch.builder(1).function(function).start()).await;
    let changed = changed.unwrap_err();
    assert_eq!(changed.kind(), ErrorKind::Config);
    let helps = "name the function's kind anew, or delete those first";
    assert!(changed.message().contains(helps), "{changed}");
    let foreign = scratch.builder(2).directory(scratch.home(1).join("data"));
    assert_eq!(kind(within(foreign.start()).await), ErrorKind::Directory);
}

#[tokio::test]
async fn nodes_run_on_any_executor() {
    let scratch = Scratch::new();
    let builder = scratch.builder(1);
    let other = std::thread::spawn(move || {
        super::quic::block_on(async {
            let node = builder.start().await.unwrap();
            node.ready().await;
            counter(&node, "k").increment(1).await.unwrap();
            let mut watch = node.watch(&id("n", "k"));
            assert_eq!(
                watch.next().await,
                Some(Some((Type::PnCounter, Reading::Count(1))))
            );
            node.leave().await.unwrap();
        });
    });
    within(tokio::task::spawn_blocking(move || other.join().unwrap()))
        .await
        .unwrap();
}
