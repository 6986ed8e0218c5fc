//! One node on an in-memory disk, without sockets: full and failing disks, snapshots, fencing, a broken engine.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anabranch_crdt::{Epoch, ReplicaId};
use bytes::Bytes;

use super::super::network::{Network, NotOpened};
use super::super::shared::Shared;
use super::super::start::{Config, live, new_epoch, open};
use super::super::{DiskState, MemberStatus};
use super::hooked::Hooked;
use super::*;
use crate::engine::limits::EPOCH_MAX;
use crate::engine::{Input, Limits};
use crate::error::Error;
use crate::function::state::PnCounter;
use crate::function::{BoxFuture, Function, Stream as FunctionStream};
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::store::{Disk, DiskFile, Identity, MemDisk, Options, Store};
use crate::transport::{self, MTU_BYTES_DEFAULT, Stream, Work};
use crate::trigger::{Order, SCHEDULE, When};
use crate::wire::{Lane, Token};

/// What the engine wanted of the network.
#[derive(Clone, Debug, Default)]
pub(super) struct Nobody {
    said: Arc<Mutex<Vec<String>>>,
    /// Who is there.
    live: Arc<Mutex<Vec<ReplicaId>>>,
    /// How often it still cannot be opened.
    closed_for: Arc<AtomicU32>,
}

impl Nobody {
    fn say(&self, what: String) {
        self.said.lock().unwrap().push(what);
    }
}

impl Network for Nobody {
    fn send(&self, peer: NodeId, _: Epoch, lane: Lane, _: Bytes) -> bool {
        self.say(format!("send {} {lane}", peer.0));
        false
    }

    fn open_stream(&self, _: NodeId, _: Epoch, _: Duration) -> BoxFuture<'static, Result<Stream, NotOpened>> {
        Box::pin(std::future::ready(Err(NotOpened::NoLink)))
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {}

    fn between(&self, work: Work) -> Result<bool, Work> {
        Err(work)
    }

    fn look(&self) -> bool {
        false
    }

    fn spawn_blocking(&self, _: Box<dyn FnOnce() + Send>) {
        self.say("work".into());
    }

    fn nearest(&self) -> Vec<NodeId> {
        Vec::new()
    }

    fn live(&self) -> Vec<ReplicaId> {
        self.live.lock().unwrap().clone()
    }

    fn disconnect(&self, peer: NodeId, _: Epoch, _: &str) {
        self.say(format!("disconnect {}", peer.0));
    }

    fn fence(&self, peer: NodeId, _: Epoch, newest: Epoch) {
        self.say(format!("fence {} {newest}", peer.0));
    }

    fn open(self: Arc<Self>, epoch: Epoch) -> Result<(), crate::Error> {
        let fails = |left: u32| left.checked_sub(1);
        if self
            .closed_for
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
            .is_ok()
        {
            self.say(format!("cannot open {epoch}"));
            return Err(crate::Error::new(ErrorKind::InUse, "the port is taken"));
        }
        self.say(format!("open {epoch}"));
        Ok(())
    }

    fn local_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    fn members(&self) -> Vec<MemberStatus> {
        Vec::new()
    }

    fn refusals(&self) -> Vec<String> {
        Vec::new()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn close(&self, leaving: bool) -> usize {
        self.say(format!("close leaving={leaving}"));
        0
    }
}

pub(super) struct Alone {
    pub(super) shared: Arc<Shared>,
    network: Nobody,
    writer: Option<JoinHandle<()>>,
}

impl Alone {
    fn start(scratch: &Scratch, disk: &MemDisk, snapshot_bytes: u64) -> Alone {
        Alone::start_with(scratch, disk, snapshot_bytes, Vec::new())
    }

    pub(super) fn start_with(
        scratch: &Scratch,
        disk: &MemDisk,
        snapshot_bytes: u64,
        functions: Vec<Arc<Function>>,
    ) -> Alone {
        let config = Config {
            functions,
            ..config(scratch, snapshot_bytes)
        };
        Alone::start_on(disk.clone(), &config)
    }

    /// On a disk of whichever kind.
    pub(super) fn start_on<D: Disk + Send + Sync + 'static>(disk: D, config: &Config) -> Alone
    where
        D::File: Send,
    {
        let network = Nobody::default();
        let open = open(disk, config, |shared| {
            shared.set_network(Arc::new(network.clone()));
            Ok(())
        })
        .unwrap();
        let shared = Arc::clone(&open.shared);
        let writer = Some(thread::spawn(move || live(open)));
        Alone {
            shared,
            network,
            writer,
        }
    }

    pub(super) async fn stop(mut self) -> Result<(), crate::Error> {
        self.shared.stop(None);
        let result = within(self.shared.stopped()).await;
        self.writer.take().unwrap().join().unwrap();
        result
    }

    fn count(&self, key: &str) -> Option<i128> {
        match self.shared.read(&id("n", key))? {
            (_, Reading::Count(count)) => Some(count),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn config(scratch: &Scratch, snapshot_bytes: u64) -> Config {
    let home = scratch.path().join("node");
    if !home.exists() {
        ca::issue(
            &scratch.path().join("ca"),
            NodeId(1),
            &home,
            &ca::IssueOptions::default(),
        )
        .unwrap();
    }
    Config {
        directory: "in memory".into(),
        identity: transport::Identity::load(
            &home.join("ca.pem"),
            &home.join("node.pem"),
            &home.join("node.key"),
        )
        .unwrap(),
        name: "alone".into(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise: Vec::new(),
        seeds: Vec::new(),
        members: Vec::new(),
        shards: 4,
        functions: Vec::new(),
        kinds: BTreeMap::new(),
        limits: Limits::default(),
        snapshot_bytes,
        mtu_bytes: MTU_BYTES_DEFAULT,
    }
}

pub(super) const NO_SNAPSHOT: u64 = u64::MAX;

#[tokio::test]
async fn a_full_disk_is_told_and_heals() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    disk.set_capacity(Some(0));
    // What was filled ahead is used up first.
    let elements = |n: u8| (0..10).map(|e| Bytes::from(vec![n * 10 + e; 60_000])).collect();
    let error = within(async {
        let mut n = 0;
        loop {
            n += 1;
            let add = ("set", "s", Type::OrSet, Mutation::Add(elements(n)));
            if let Err(error) = node.shared.update(update(&[add])).await {
                break error;
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(error.changed_state(), "{error}");
    let accepted = node.shared.read(&id("set", "s"));
    assert!(matches!(node.shared.disk(), DiskState::Full { .. }));
    let refused = within(node.shared.update(increment("k", 1))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
    assert!(!refused.changed_state(), "{refused}");
    assert_eq!(node.count("k"), Some(1));

    disk.set_capacity(None);
    // The writer tries again by itself; until then updates are refused.
    let healed = async {
        while let Err(error) = node.shared.update(increment("k", 1)).await {
            assert_eq!(error.kind(), ErrorKind::DiskFull);
            tokio::task::yield_now().await;
        }
    };
    within(healed).await;
    assert_eq!(node.shared.disk(), DiskState::Fine);
    within(node.stop()).await.unwrap();
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    assert_eq!(node.count("k"), Some(2));
    assert_eq!(
        node.shared.read(&id("set", "s")),
        accepted,
        "accepted, so not lost"
    );
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn what_the_system_refused_was_called_a_full_disk() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let hooked = Hooked::new(&disk, |_, _| ());
    let refuses = Arc::clone(&hooked.refuses);
    let node = Alone::start_on(hooked, &config(&scratch, 4 << 10));
    let shared = &node.shared;
    within(shared.update(increment("k", 1))).await.unwrap();
    // A snapshot goes with a new segment.
    *refuses.lock().unwrap() = Some("log.tmp");
    let mut made = 2;
    let error = within(async {
        loop {
            if let Err(error) = shared.update(increment("k", 1)).await {
                break error;
            }
            made += 1;
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.changed_state() && !error.may_retry(), "{error}");
    assert!(matches!(shared.disk(), DiskState::Refused { .. }));
    let refused = within(shared.update(increment("k", 1))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused}");
    assert!(!refused.changed_state() && refused.may_retry(), "{refused}");
    // It is tried again without anybody asking.
    *refuses.lock().unwrap() = None;
    until(|| shared.disk() == DiskState::Fine).await;
    within(node.stop()).await.unwrap();
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    assert_eq!(node.count("k"), Some(made));
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_fails_is_told() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let hooked = Hooked::new(&disk, |_, _| ());
    *hooked.refuses.lock().unwrap() = Some("snapshot.tmp");
    let node = Alone::start_on(hooked, &config(&scratch, 4 << 10));
    let shared = &node.shared;
    within(async {
        while shared.snapshot_error().is_none() {
            shared.update(increment("k", 1)).await.unwrap();
        }
    })
    .await;
    let why = shared.snapshot_error().unwrap();
    assert!(why.contains("too many open files"), "{why}");
    assert_eq!(shared.disk(), DiskState::Fine);
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn a_node_starts_on_a_full_disk_again_and_again() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    within(node.stop()).await.unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let mut last = Epoch(0);
    for _ in 0..3 {
        let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
        assert!(node.shared.epoch() > last);
        last = node.shared.epoch();
        assert_eq!(node.count("k"), Some(1));
        within(node.stop()).await.unwrap();
    }
    // The space is there for an epoch and for nothing else.
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    let elements = |n: u8| (0..20).map(|e| Bytes::from(vec![n * 20 + e; 60_000])).collect();
    let add = |n| update(&[("set", "s", Type::OrSet, Mutation::Add(elements(n)))]);
    let error = within(async {
        let mut n = 0;
        loop {
            n += 1;
            if let Err(error) = node.shared.update(add(n)).await {
                break error;
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(disk.list().unwrap().contains(&"reserve".to_owned()));
    disk.set_capacity(None);
    let healed = async {
        while node.shared.update(increment("k", 1)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(healed).await;
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_stops_the_node_and_nothing_acknowledged_is_lost() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    disk.fail_syncs(1);
    let error = within(node.shared.update(increment("k", 1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    let stopped = within(node.shared.stopped()).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Poisoned);
    assert!(matches!(node.shared.disk(), DiskState::Failed { .. }));
    assert_eq!(
        within(node.shared.update(increment("k", 1)))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Poisoned
    );
    assert_eq!(within(node.stop()).await.unwrap_err().kind(), ErrorKind::Poisoned);
    disk.crash(&mut || 0);

    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    assert_eq!(node.count("k"), Some(1));
    within(node.shared.update(increment("k", 1))).await.unwrap();
    within(node.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_beside_writers_lose_nothing() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    for round in 1..=3 {
        let node = Alone::start(&scratch, &disk, 4 << 10);
        let writers: Vec<_> = (0..4)
            .map(|n| {
                let shared = Arc::clone(&node.shared);
                let key = format!("k{n}");
                tokio::spawn(async move {
                    for _ in 0..100 {
                        shared.update(increment(&key, 1)).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            within(writer).await.unwrap();
        }
        assert!(
            disk.list()
                .unwrap()
                .iter()
                .any(|name| name.starts_with("snapshot-")),
            "one was due"
        );
        // Every update was answered, so a crash takes nothing.
        if round == 2 {
            within(node.stop()).await.unwrap();
        } else {
            disk.crash(&mut || 0);
            node.shared.stop(None);
            let _ = within(node.shared.stopped()).await;
        }
        let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
        for n in 0..4 {
            assert_eq!(node.count(&format!("k{n}")), Some(100 * round), "round {round}");
        }
        within(node.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn the_disk_is_never_waited_for_with_the_engine_locked() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let running: Arc<OnceLock<Arc<Shared>>> = Arc::default();
    let wrong = Arc::new(AtomicU32::new(0));
    let (node, locked) = (running.clone(), wrong.clone());
    let hook = move |what: &str, _: &str| {
        let Some(shared) = node.get() else { return };
        // Others hold it for moments; who waits for the disk with it holds it now and goes on doing so.
        let until = Instant::now() + Duration::from_secs(5);
        while shared.cell.try_lock().is_err() {
            if Instant::now() > until {
                locked.fetch_add(1, Ordering::Relaxed);
                return;
            }
            thread::yield_now();
        }
        // There is always one more record by the time a commit is done.
        if what == "sync" && !shared.is_stopping() {
            let applied = Update {
                level: "local-applied".parse().unwrap(),
                ..increment("late", 1)
            };
            // It may have begun to stop just now.
            let _ = super::super::quic::block_on(shared.update(applied));
        }
    };
    let hooked = Hooked::new(&disk, hook);
    let open = open(hooked, &config(&scratch, 4 << 10), |shared| {
        shared.set_network(Arc::new(Nobody::default()));
        Ok(())
    })
    .unwrap();
    let shared = Arc::clone(&open.shared);
    assert!(running.set(shared.clone()).is_ok());
    let writer = thread::spawn(move || live(open));
    let snapshots = || {
        disk.list()
            .unwrap()
            .iter()
            .any(|name| name.starts_with("snapshot-"))
    };
    while !snapshots() {
        within(shared.update(increment("k", 1))).await.unwrap();
    }
    shared.stop(None);
    within(shared.stopped()).await.unwrap();
    writer.join().unwrap();
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    let read = |key: &str| shared.read(&id("n", key));
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    for key in ["k", "late"] {
        assert_eq!(node.shared.read(&id("n", key)), read(key), "{key}");
    }
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn a_fenced_node_goes_on_under_a_durable_higher_epoch() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    within(node.stop()).await.unwrap();
    // No longer a new directory, so it takes writes without having caught up.
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    let (peer, epoch) = (NodeId(2), Epoch(7));
    let above = Epoch(node.shared.epoch().0 + 1_000_000_000_000);
    node.shared
        .step(Input::Connected {
            peer,
            epoch,
            wall_ms: 0,
        })
        .unwrap();
    node.shared
        .step(Input::Fenced {
            by: peer,
            newest: above,
        })
        .unwrap();
    let adopted = async {
        while node.shared.epoch() <= above {
            tokio::task::yield_now().await;
        }
    };
    within(adopted).await;
    let answer = within(async {
        loop {
            let answer = node.shared.update(increment("k", 1)).await.unwrap();
            if answer.epoch > above {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(answer.epoch, node.shared.epoch());
    let (last, network) = (node.shared.epoch(), node.network.clone());
    within(node.stop()).await.unwrap();
    let said = network.said.lock().unwrap().join("; ");
    let reopened = format!("close leaving=false; disconnect 2; open {last}; close leaving=false");
    assert!(said.ends_with(&reopened), "{said}");
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    assert!(node.shared.epoch() > last, "a restart goes above it");
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_not_free_at_once_does_not_end_a_fenced_node() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    node.network.closed_for.store(3, Ordering::Relaxed);
    let newest = Epoch(node.shared.epoch().0 + 1_000_000_000_000);
    let by = NodeId(2);
    node.shared.step(Input::Fenced { by, newest }).unwrap();
    let opened = || {
        let said = node.network.said.lock().unwrap();
        said.iter().any(|word| word.starts_with("open "))
    };
    until(opened).await;
    let said = node.network.said.lock().unwrap().join("; ");
    assert_eq!(said.matches("cannot open").count(), 3, "{said}");
    within(node.shared.update(increment("k", 1))).await.unwrap();
    within(node.stop()).await.unwrap();
}

#[test]
fn an_epoch_beyond_all_clocks_is_an_error_and_no_overflow() {
    let highest = Epoch(2 * EPOCH_MAX - (1 << 17));
    assert!(new_epoch(5, Some(highest)).unwrap() > highest);
    for last in [2 * EPOCH_MAX - 1, 2 * EPOCH_MAX, u64::MAX] {
        let error = new_epoch(5, Some(Epoch(last))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    assert!(
        new_epoch(u64::MAX, None).unwrap().0 < EPOCH_MAX,
        "a clock that is off"
    );
}

#[tokio::test]
async fn a_panic_in_the_engine_stops_the_node_with_an_error() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    let shared = Arc::clone(&node.shared);
    // The engine asserts that nothing is confirmed that it has not handed out.
    let nonsense = Input::Persisted {
        upto: crate::engine::RecordId(1_000_000),
    };
    assert!(thread::spawn(move || shared.step(nonsense)).join().is_err());
    assert_eq!(
        within(node.shared.stopped()).await.unwrap_err().kind(),
        ErrorKind::Internal
    );
    assert_eq!(
        within(node.shared.update(increment("k", 1)))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Internal
    );
    assert_eq!(node.count("k"), Some(1), "the last state stays readable");
    let _ = within(node.stop()).await;
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    assert_eq!(node.count("k"), Some(1));
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn who_waits_when_the_node_breaks_is_not_told_that_nothing_changed() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    node.shared.step(Input::MemberSeen { node: NodeId(2) }).unwrap();
    let all = Update {
        level: "all".parse().unwrap(),
        ..increment("k", 1)
    };
    let waiting = tokio::spawn({
        let shared = Arc::clone(&node.shared);
        async move { shared.update(all).await }
    });
    until(|| node.count("k") == Some(2)).await;
    super::super::quic::broken(&node.shared, "for a test");
    let error = within(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.changed_state() && !error.may_retry(), "{error}");
    assert!(error.message().contains("for a test"), "{error}");
    let refused = within(node.shared.update(increment("k", 1))).await.unwrap_err();
    assert!(!refused.changed_state() && !refused.may_retry(), "{refused}");
}

#[tokio::test]
async fn who_leaves_with_nobody_there_is_told() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    // Alone in the cluster: nobody to take over.
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    node.shared.stop(Some(PATIENCE));
    within(node.stop()).await.unwrap();
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    node.shared.step(Input::MemberSeen { node: NodeId(2) }).unwrap();
    node.shared.stop(Some(PATIENCE));
    let error = within(node.stop()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconfirmed);
    assert!(error.message().contains("on its disk alone"), "{error}");
}

/// However long the first who had it leave would wait.
#[tokio::test]
async fn who_has_a_leaving_node_go_sooner_is_heard_and_told_who_may_lack_something() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    let (peer, epoch, wall_ms) = (NodeId(2), Epoch(7), 0);
    node.shared
        .step(Input::Connected { peer, epoch, wall_ms })
        .unwrap();
    node.shared.stop(Some(Duration::MAX));
    // It waits for the peer now, or is about to.
    node.shared.stop(Some(Duration::ZERO));
    let error = within(node.stop()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconfirmed);
    assert!(error.message().contains(&peer.to_string()), "{error}");
}

#[tokio::test]
async fn a_node_that_is_its_own_only_seed_waits_for_nobody() {
    let start = |seeds: &[&str]| {
        let (scratch, disk) = (Scratch::new(), MemDisk::new());
        let config = Config {
            listen: (Ipv4Addr::LOCALHOST, 7_411).into(),
            advertise: vec!["n1.example:7411".into()],
            seeds: seeds.iter().map(ToString::to_string).collect(),
            ..config(&scratch, NO_SNAPSHOT)
        };
        (Alone::start_on(disk, &config), scratch)
    };
    for (seeds, is_alone) in [
        (&["127.0.0.1:7411"][..], true),
        (&["n1.example:7411", "127.0.0.1:7411"], true),
        (&["127.0.0.1:7411", "n2.example:7411"], false),
        (&["127.0.0.1:7412"], false),
    ] {
        let (node, _scratch) = start(seeds);
        assert_eq!(node.shared.is_ready(), is_alone, "{seeds:?}");
        within(node.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn a_broken_network_stops_the_node_with_an_error() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    super::super::quic::broken(&node.shared, "a task of the network panicked");
    let stopped = within(node.shared.stopped()).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Internal);
    assert!(stopped.message().contains("network"), "{stopped}");
}

#[tokio::test]
async fn what_is_damaged_or_strange_is_refused() {
    let scratch = Scratch::new();
    let refused = |disk: &MemDisk| {
        let connect = |_: &Arc<Shared>| panic!("nothing is bound on such a directory");
        open(disk.clone(), &config(&scratch, NO_SNAPSHOT), connect)
            .err()
            .unwrap()
    };
    // Intact bytes that are no record: of a kind yet to come, and of one that is known.
    for (record, kind) in [
        (&b"what is this?"[..], ErrorKind::NewerFormat),
        (&[1, 255, 255], ErrorKind::Corrupt),
    ] {
        let disk = MemDisk::new();
        within(Alone::start(&scratch, &disk, NO_SNAPSHOT).stop())
            .await
            .unwrap();
        let me = Identity {
            cluster: "test".into(),
            node: NodeId(1),
            directory: 0,
        };
        let (mut store, _) = Store::open(disk.clone(), &me, Options::default(), &mut |_| Ok(())).unwrap();
        store.append(record).unwrap();
        store.commit().unwrap();
        drop(store);
        let error = refused(&disk);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains("log-"), "it names the file: {error}");
    }

    let disk = MemDisk::new();
    within(Alone::start(&scratch, &disk, NO_SNAPSHOT).stop())
        .await
        .unwrap();
    assert!(disk.flip_bit("created", 3, 1));
    assert_eq!(refused(&disk).kind(), ErrorKind::Corrupt);
    disk.remove("created").unwrap();
    assert_eq!(refused(&disk).kind(), ErrorKind::Corrupt);
}

/// Puts other bytes into a file, which is there or not.
fn put(disk: &MemDisk, name: &str, bytes: &[u8]) {
    let _ = disk.remove(name);
    disk.create(name).unwrap().write_at(0, bytes).unwrap();
}

#[tokio::test]
async fn a_directory_is_refused_for_the_first_thing_that_is_wrong_with_it() {
    let scratch = Scratch::new();
    let shards = |config: Config, shards| Config { shards, ..config };
    let refused = |disk: &MemDisk, shards_now| {
        let connect = |_: &Arc<Shared>| panic!("nothing is bound on such a directory");
        let config = shards(config(&scratch, NO_SNAPSHOT), shards_now);
        open(disk.clone(), &config, connect).err().unwrap()
    };
    let used = MemDisk::new();
    let node = Alone::start(&scratch, &used, NO_SNAPSHOT);
    within(node.shared.update(increment("k", 1))).await.unwrap();
    within(node.stop()).await.unwrap();

    // Somebody else's, whatever its shards.
    let me = Identity {
        cluster: "other".into(),
        node: NodeId(1),
        directory: 0,
    };
    let foreign = MemDisk::new();
    Store::open(foreign.clone(), &me, Options::default(), &mut |_| Ok(())).unwrap();
    put(&foreign, "created", b"anabranch directory 1\nshards 9\n");
    assert_eq!(refused(&foreign, 4).kind(), ErrorKind::Directory);
    assert_eq!(refused(&used, 5).kind(), ErrorKind::Config);

    // A later version's, whether or not it got as far as the store's first file.
    let newer = used.copy();
    put(&newer, "created", b"anabranch directory 2\nzones\n");
    assert_eq!(refused(&newer, 4).kind(), ErrorKind::NewerFormat);
    let early = MemDisk::new();
    put(&early, "created", b"anabranch directory 2\n");
    assert_eq!(refused(&early, 4).kind(), ErrorKind::NewerFormat);

    // With the meta file gone what is left is not taken for a new directory, and stays as it is.
    let orphaned = used.copy();
    orphaned.remove("meta").unwrap();
    assert_eq!(refused(&orphaned, 5).kind(), ErrorKind::Corrupt);
    assert_eq!(orphaned.read("created"), used.read("created"));
}

#[tokio::test]
async fn calls_that_no_link_took_leave_room_for_the_next() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start(&scratch, &disk, NO_SNAPSHOT);
    let (peer, epoch, wall_ms) = (NodeId(2), Epoch(7), 0);
    let linked = Input::Connected { peer, epoch, wall_ms };
    node.shared.step(linked).unwrap();
    for bytes in [1_000, 500_000] {
        let argument = "x".repeat(bytes);
        for n in 0..(32 << 20) / bytes {
            let call = Call::new(
                id("n", "a"),
                "take",
                Payload::of(Encoding::Postcard, &argument).unwrap(),
            );
            let asking = node.shared.call_on(peer, call, None, 60_000);
            let answer = tokio::time::timeout(Duration::ZERO, asking).await;
            assert!(answer.is_err(), "call {n} of {bytes} bytes: {answer:?}");
        }
    }
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn a_call_that_found_no_thread_while_the_network_was_closed_is_made_again() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let functions = vec![Arc::new(crate::trigger::schedules())];
    let node = Alone::start_with(&scratch, &disk, NO_SNAPSHOT, functions);
    let order = Order::new(When::AfterMs(0), "nobody", "a", "run", &()).unwrap();
    let order = Payload::of(Encoding::Postcard, &order).unwrap();
    let set = Call::new(id(SCHEDULE, "x"), "set", order);
    within(node.shared.call(set, None, 10_000)).await.unwrap();
    let works = || {
        let said = node.network.said.lock().unwrap();
        said.iter().filter(|what| *what == "work").count()
    };
    until(|| works() >= 2).await;
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn a_stream_goes_on_while_the_network_is_closed_for_a_higher_epoch() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let function = Function::of::<PnCounter>("echo").stream(
        "all",
        |mut stream: FunctionStream<PnCounter, i64, i64>, (): ()| async move {
            while let Some(n) = stream.next().await? {
                stream.send(&n).await?;
            }
            Ok::<_, Error>(())
        },
    );
    let node = Alone::start_with(&scratch, &disk, NO_SNAPSHOT, vec![Arc::new(function.into())]);
    let nothing = Payload::of(Encoding::Postcard, &()).unwrap();
    let call = Call::new(id("echo", "a"), "all", nothing);
    // Its network has no thread for anybody, as one that is closed.
    let opening = node.shared.open_aside(call, Token::default(), 10_000);
    let mut stream = within(opening).await.unwrap();
    for n in 0..3_i64 {
        within(stream.send(&n)).await.unwrap();
        assert_eq!(within(stream.next::<i64>()).await.unwrap(), Some(n));
    }
    within(node.stop()).await.unwrap();
    let over = within(stream.next::<i64>()).await.unwrap_err();
    assert_eq!(over.kind(), ErrorKind::Stopping);
}

/// Says how many nodes are there; looks at its entity only after it was told to.
async fn count_live(mut stream: FunctionStream<PnCounter, (), usize>, (): ()) -> Result<(), Error> {
    loop {
        let live = stream.live().len();
        stream.send(&live).await?;
        stream.next().await?;
        let _ = stream.state()?;
        stream.changed().await?;
    }
}

#[tokio::test]
async fn who_comes_between_two_looks_of_a_stream_is_not_missed() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let function = Function::of::<PnCounter>("live").stream("count", count_live);
    let node = Alone::start_with(&scratch, &disk, NO_SNAPSHOT, vec![Arc::new(function.into())]);
    let nothing = Payload::of(Encoding::Postcard, &()).unwrap();
    let call = Call::new(id("live", "a"), "count", nothing);
    let mut stream = within(node.shared.open(call, Token::default(), 10_000))
        .await
        .unwrap();
    assert_eq!(within(stream.next::<usize>()).await.unwrap(), Some(1));
    let two = ReplicaId::new(NodeId(2), Epoch(5));
    node.network.live.lock().unwrap().push(two);
    node.shared.live_changed();
    within(stream.send(&())).await.unwrap();
    assert_eq!(within(stream.next::<usize>()).await.unwrap(), Some(2));
    drop(stream);
    within(node.stop()).await.unwrap();
}
