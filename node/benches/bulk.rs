//! What much data costs, each beside what it is to be measured against, in one run on one machine:
//!
//! - durable updates of 100 and of 10,000 operations, beside a log by hand that appends and syncs the same keys and values;
//! - what many entities take on the disk once the log is compacted, beside their keys and values;
//! - to open them again, beside reading the same files;
//! - to bring them to a node that has nothing, and to have it see what is written meanwhile, beside a bare quinn stream of as
//!   many bytes.
//!
//! `cargo bench -p anabranch --bench bulk [-- ENTITIES]`, in `TMPDIR`, which is to be on a disk. Quote the ratios.
#![allow(clippy::unwrap_used)]

mod bare;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anabranch::transport::ca::IssueOptions;
use anabranch::{Clock, EntityId, Level, Mutation, Node, NodeId, Op, Stage, Type, Update, ca};
use bare::block_on;

const ENTITIES: usize = 1_000_000;
const VALUE_BYTES: usize = 32;
const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];
/// Operations of an update that only fills.
const FILLED_AT_ONCE: usize = 10_000;

fn main() {
    // Cargo hands a bench `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let entities = arguments.next().map_or(ENTITIES, |n| n.parse().unwrap());
    let dir = std::env::temp_dir().join(format!("anabranch-bulk-{}", std::process::id()));
    ca::init(&dir.join("ca"), "bulk").unwrap();
    block_on(async {
        for operations in [100, 10_000] {
            durable_updates(&dir, operations).await;
        }
        let bytes = fill(&dir, entities).await;
        open(&dir, entities, bytes).await;
        replicate(&dir, entities, bytes).await;
    });
    fs::remove_dir_all(&dir).unwrap();
}

async fn start(dir: &Path, id: NodeId, snapshot_bytes: u64, seeds: Vec<String>) -> Node {
    let own = dir.join(format!("n{}", id.0));
    ca::issue(&dir.join("ca"), id, &own, &IssueOptions::default()).unwrap();
    let builder = Node::builder()
        .directory(own.join("data"))
        .identity_files(own.join("ca.pem"), own.join("node.pem"), own.join("node.key"))
        .kind("row", Type::LwwRegister)
        .snapshot_bytes(snapshot_bytes)
        .seeds(seeds);
    builder.start().await.unwrap()
}

fn key(i: usize) -> String {
    format!("user-{i:08}")
}

fn value(i: usize) -> [u8; VALUE_BYTES] {
    let mut value = [7; VALUE_BYTES];
    value[..8].copy_from_slice(&i.to_le_bytes());
    value
}

/// Sets so many registers.
fn update(from: usize, operations: usize, stage: Stage) -> Update {
    let set = |i| Op {
        entity: EntityId::new("row", &key(i)).unwrap(),
        ty: None,
        mutation: Mutation::Set {
            value: value(i).to_vec().into(),
            clock: Clock::Default,
        },
    };
    Update {
        ops: (from..from + operations).map(set).collect(),
        level: Level {
            stage,
            ..Level::default()
        },
        key: None,
        after: None,
        timeout_ms: 60_000,
    }
}

/// Bytes of all files below.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// The files of snapshots below; one is there once it is whole.
fn snapshots(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("snapshot-")).collect()
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn middle(samples: &mut [Duration]) -> f64 {
    samples.sort();
    samples[samples.len() / 2].as_secs_f64()
}

async fn durable_updates(dir: &Path, operations: usize) {
    let home = dir.join(format!("durable-{operations}"));
    ca::init(&home.join("ca"), "durable").unwrap();
    let node = start(&home, NODES[0], u64::MAX, vec![]).await;
    node.ready().await;
    let mut log = File::create(home.join("log")).unwrap();
    let rounds = (200_000 / operations).clamp(20, 500);
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    // In turn, so that a disk that is busy for a while is busy for both.
    for round in 0..rounds {
        let begun = Instant::now();
        let mut bytes = Vec::new();
        for i in 0..operations {
            let (key, value) = (key(round * operations + i), value(i));
            let record = [key.as_bytes(), &value].concat();
            bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&crc32c::crc32c(&record).to_le_bytes());
            bytes.extend_from_slice(&record);
        }
        log.write_all(&bytes).unwrap();
        log.sync_data().unwrap();
        bare.push(begun.elapsed());
        let begun = Instant::now();
        let update = update(round * operations, operations, Stage::Durable);
        node.update(update).await.unwrap();
        ours.push(begun.elapsed());
    }
    let (bare, ours) = (middle(&mut bare), middle(&mut ours));
    let rate = |seconds: f64| operations as f64 / seconds / 1e3;
    println!(
        "durable, {operations} operations an update: {:.0} k/s, a log by hand {:.0} k/s; ratio {:.2}",
        rate(ours),
        rate(bare),
        bare / ours
    );
    node.shutdown().await.unwrap();
}

/// Makes the entities, and has the log compacted; bytes of keys and values.
async fn fill(dir: &Path, entities: usize) -> u64 {
    let node = start(dir, NODES[0], 64 << 20, vec![]).await;
    node.ready().await;
    for from in (0..entities).step_by(FILLED_AT_ONCE) {
        let operations = FILLED_AT_ONCE.min(entities - from);
        node.update(update(from, operations, Stage::Applied))
            .await
            .unwrap();
    }
    node.shutdown().await.unwrap();
    // As small a log as makes a snapshot due.
    let node = start(dir, NODES[0], 1, vec![]).await;
    let data = dir.join("n1/data");
    let before = snapshots(&data);
    node.update(update(0, 1, Stage::Durable)).await.unwrap();
    until(|| snapshots(&data) != before).await;
    node.shutdown().await.unwrap();
    let bytes = (entities * (key(0).len() + VALUE_BYTES)) as u64;
    println!(
        "{entities} entities take {:.1} MB on the disk, their keys and values {:.1} MB; ratio {:.2}",
        size(&data) as f64 / 1e6,
        bytes as f64 / 1e6,
        size(&data) as f64 / bytes as f64
    );
    bytes
}

async fn open(dir: &Path, entities: usize, bytes: u64) {
    let data = dir.join("n1/data");
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let begun = Instant::now();
        let mut buffer = vec![0; 1 << 20];
        for entry in fs::read_dir(&data).unwrap().map(Result::unwrap) {
            let mut file = File::open(entry.path()).unwrap();
            let mut crc = 0;
            while let Ok(n) = file.read(&mut buffer)
                && n > 0
            {
                crc = crc32c::crc32c_append(crc, &buffer[..n]);
            }
            std::hint::black_box(crc);
        }
        bare.push(begun.elapsed());
        let begun = Instant::now();
        let node = start(dir, NODES[0], u64::MAX, vec![]).await;
        ours.push(begun.elapsed());
        assert_eq!(node.status().entities, entities as u64);
        node.shutdown().await.unwrap();
    }
    let (bare, ours) = (middle(&mut bare), middle(&mut ours));
    println!(
        "opened in {ours:.2} s ({:.2} us an entity, {:.0} MB/s of keys and values), the files read with a checksum in {bare:.2} s; \
         ratio {:.1}",
        ours * 1e6 / entities as f64,
        bytes as f64 / 1e6 / ours,
        ours / bare
    );
}

async fn replicate(dir: &Path, entities: usize, bytes: u64) {
    let one = start(dir, NODES[0], u64::MAX, vec![]).await;
    one.ready().await;
    let begun = Instant::now();
    let two = start(dir, NODES[1], u64::MAX, vec![one.quic_address().to_string()]).await;
    // It takes writes before it has what the other still has in its log.
    until(|| two.status().entities == entities as u64).await;
    let caught_up = begun.elapsed().as_secs_f64();
    let bare = quinn_stream(bytes as usize);
    println!(
        "an empty node has them in {caught_up:.2} s ({:.0} MB/s of keys and values), a bare quinn stream as many bytes in {bare:.2} s; \
         ratio {:.2}",
        bytes as f64 / 1e6 / caught_up,
        bare / caught_up
    );
    // As many again, pushed as they are written, each update at once.
    let last = EntityId::new("row", &key(2 * entities - 1)).unwrap();
    let mut watch = two.watch(&last);
    let begun = Instant::now();
    for from in (entities..2 * entities).step_by(100) {
        let operations = 100.min(2 * entities - from);
        one.update(update(from, operations, Stage::Applied))
            .await
            .unwrap();
    }
    let written = begun.elapsed().as_secs_f64();
    while two.read(&last).is_none() {
        watch.next().await;
    }
    let seen = begun.elapsed().as_secs_f64();
    println!(
        "as many again are written in {written:.2} s and seen there in {seen:.2} s ({:.0} MB/s); ratio to the bare stream {:.2}",
        bytes as f64 / 1e6 / seen,
        bare / seen
    );
    one.shutdown().await.unwrap();
    two.shutdown().await.unwrap();
}

/// Seconds that it takes to send so many bytes on one stream.
fn quinn_stream(bytes: usize) -> f64 {
    let (server, client) = bare::configurations();
    let (tell, address) = mpsc::channel();
    let server = std::thread::spawn(move || {
        block_on(async {
            let (connection, (mut send, mut receive)) = bare::accepted(server, &tell).await;
            let mut buffer = vec![0; 1 << 20];
            while let Ok(Some(_)) = receive.read(&mut buffer).await {}
            send.write_all(b"!").await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
        });
    });
    let address = address.recv().unwrap();
    let client = std::thread::spawn(move || {
        block_on(async move {
            let (connection, (mut send, mut receive)) = bare::connected(client, address).await;
            let data = vec![7; 1 << 20];
            let begun = Instant::now();
            let mut left = bytes;
            while left > 0 {
                let n = left.min(data.len());
                send.write_all(&data[..n]).await.unwrap();
                left -= n;
            }
            send.finish().unwrap();
            receive.read_exact(&mut [0]).await.unwrap();
            let took = begun.elapsed().as_secs_f64();
            connection.close(0u32.into(), b"");
            took
        })
    });
    let took = client.join().unwrap();
    server.join().unwrap();
    took
}
