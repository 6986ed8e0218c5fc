//! Snapshots that take long to write: who writes meanwhile, and what stops them.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};

use anabranch_crdt::Clock;
use bytes::Bytes;

use super::super::DiskState;
use super::super::shared::Shared;
use super::faults::{Alone, NO_SNAPSHOT, config};
use super::hooked::Hooked;
use super::*;
use crate::store::{Disk, MemDisk};

/// The name of a snapshot that is not whole yet.
const UNFINISHED: &str = "snapshot.tmp";

/// Holds up whoever writes a snapshot until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(bool, bool)>, Condvar)>);

impl Gate {
    /// Somebody is at the gate, and waits.
    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.0 = true;
        while !state.1 {
            state = self.0.1.wait(state).unwrap();
        }
    }

    fn open(&self) {
        self.0.0.lock().unwrap().1 = true;
        self.0.1.notify_all();
    }

    fn has_come(&self) -> bool {
        self.0.0.lock().unwrap().0
    }
}

/// A node that writes its first snapshot, of about three megabytes, and has come to this call for it: it waits at the gate.
async fn held_up(
    scratch: &Scratch,
    disk: &MemDisk,
    gate: &Gate,
    calls: u32,
    hook: impl Fn(&str, &str) + Send + Sync + 'static,
) -> (Alone, i64) {
    let (at, count) = (gate.clone(), AtomicU32::new(0));
    let hooked = Hooked::new(disk, move |what, name| {
        hook(what, name);
        if name == UNFINISHED && count.fetch_add(1, Ordering::Relaxed) + 1 == calls {
            at.pass();
        }
    });
    let node = Alone::start_on(hooked, &config(scratch, 4 << 10));
    within(node.shared.update(add_large("large", 50))).await.unwrap();
    let mut made = 0;
    while !gate.has_come() {
        within(node.shared.update(increment("k", 1))).await.unwrap();
        made += 1;
    }
    (node, made)
}

fn has(disk: &MemDisk, prefix: &str) -> bool {
    disk.list().unwrap().iter().any(|name| name.starts_with(prefix))
}

async fn restarts_with(scratch: &Scratch, disk: &MemDisk, count: i64) {
    let node = Alone::start_with(scratch, disk, NO_SNAPSHOT, Vec::new());
    let read = node.shared.read(&id("n", "k"));
    assert_eq!(read, Some((Type::PnCounter, Reading::Count(i128::from(count)))));
    within(node.stop()).await.unwrap();
}

#[tokio::test]
async fn a_durable_write_waited_until_a_whole_snapshot_was_written() {
    let (scratch, disk, gate) = (Scratch::new(), MemDisk::new(), Gate::default());
    let (node, mut made) = held_up(&scratch, &disk, &gate, 1, |_, _| ()).await;
    for _ in 0..100 {
        within(node.shared.update(increment("k", 1))).await.unwrap();
        made += 1;
    }
    assert!(has(&disk, UNFINISHED), "it is not written yet");
    gate.open();
    until(|| has(&disk, "snapshot-") && !has(&disk, "log-0000000000000001")).await;
    within(node.shared.update(increment("k", 1))).await.unwrap();
    within(node.stop()).await.unwrap();
    restarts_with(&scratch, &disk, made + 1).await;
}

#[tokio::test]
async fn a_machine_that_stops_while_a_snapshot_is_written_loses_nothing() {
    let (scratch, disk, gate) = (Scratch::new(), MemDisk::new(), Gate::default());
    let (node, mut made) = held_up(&scratch, &disk, &gate, 1, |_, _| ()).await;
    for _ in 0..10 {
        within(node.shared.update(increment("k", 1))).await.unwrap();
        made += 1;
    }
    disk.crash(&mut || 0);
    gate.open();
    let _ = node.stop().await;
    restarts_with(&scratch, &disk, made).await;
}

#[tokio::test]
async fn a_node_stops_without_waiting_for_the_whole_snapshot() {
    let (scratch, disk, gate) = (Scratch::new(), MemDisk::new(), Gate::default());
    let (node, made) = held_up(&scratch, &disk, &gate, 1, |_, _| ()).await;
    node.shared.stop(None);
    gate.open();
    within(node.stop()).await.unwrap();
    // Whoever comes next has the directory alone.
    assert!(!has(&disk, UNFINISHED));
    restarts_with(&scratch, &disk, made).await;
}

#[tokio::test]
async fn records_get_the_room_that_an_unfinished_snapshot_has_taken() {
    let (scratch, disk, gate) = (Scratch::new(), MemDisk::new(), Gate::default());
    let (is_full, opens) = (Arc::new(AtomicBool::new(false)), gate.clone());
    let full = Arc::clone(&is_full);
    let hook = move |what: &str, name: &str| {
        if what == "write" && name != UNFINISHED && full.load(Ordering::Relaxed) {
            opens.open();
        }
    };
    // A state of which two writes are on the disk and the rest is not.
    let (node, _) = held_up(&scratch, &disk, &gate, 3, hook).await;
    disk.set_capacity(Some(disk.used_bytes()));
    is_full.store(true, Ordering::Relaxed);
    within(node.shared.update(add_large("more", 25))).await.unwrap();
    assert_eq!(node.shared.disk(), DiskState::Fine);
    disk.set_capacity(None);
    let read = |shared: &Shared| ["large", "more"].map(|key| shared.read(&id("set", key)));
    let before = read(&node.shared);
    assert!(before.iter().all(Option::is_some));
    within(node.stop()).await.unwrap();
    let node = Alone::start_with(&scratch, &disk, NO_SNAPSHOT, Vec::new());
    assert_eq!(read(&node.shared), before);
    within(node.stop()).await.unwrap();
}

/// A register that is written over and over fills the disk with what is no more.
#[tokio::test]
async fn a_disk_that_the_log_alone_has_filled_stayed_full() {
    let (scratch, disk) = (Scratch::new(), MemDisk::new());
    let node = Alone::start_with(&scratch, &disk, NO_SNAPSHOT, Vec::new());
    let set = |n: u8| {
        let value = Bytes::from(vec![n; 20_000]);
        let clock = Clock::Default;
        update(&[("r", "r", Type::LwwRegister, Mutation::Set { value, clock })])
    };
    within(node.shared.update(set(0))).await.unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 100_000));
    // Nobody frees anything.
    for n in 1..=60 {
        within(node.shared.update(set(n))).await.unwrap();
    }
    assert_eq!(node.shared.disk(), DiskState::Fine);
    let read = node.shared.read(&id("r", "r"));
    assert_eq!(
        read,
        Some((
            Type::LwwRegister,
            Reading::Register(Some(vec![60; 20_000].into()))
        ))
    );
    within(node.stop()).await.unwrap();
    let node = Alone::start_with(&scratch, &disk, NO_SNAPSHOT, Vec::new());
    assert_eq!(node.shared.read(&id("r", "r")), read);
    within(node.stop()).await.unwrap();
}

/// So many elements of 60,000 bytes.
fn add_large(key: &str, elements: u8) -> Update {
    let elements = (0..elements).map(|e| Bytes::from(vec![e; 60_000])).collect();
    update(&[("set", key, Type::OrSet, Mutation::Add(elements))])
}
