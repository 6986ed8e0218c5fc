//! Ratios that matter, both sides measured in one run on one machine:
//!
//! - one update's visibility on the other two of three nodes, against a bare quinn round trip;
//! - a durable commit of one update, against a bare append and fdatasync of the same bytes in the same directory;
//! - a command and a query of a function in Rust, against the same update and read without one, and these against a bare map;
//! - a call of a function at another node, against a bare quinn round trip.
//!
//! `cargo bench -p anabranch --bench side_by_side` (absolute figures move with the machine's load; quote the ratios).
#![allow(clippy::unwrap_used)]

mod bare;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anabranch::transport::ca::IssueOptions;
use anabranch::{
    Call, Encoding, EntityId, Function, Level, Node, NodeId, Payload, PnCounter, Stage, ca, state,
};
use bare::block_on;

const ROUNDS: usize = 2_000;
const WARM_UP: usize = 200;

fn main() {
    let dir = std::env::temp_dir().join(format!("anabranch-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    visibility(&dir);
    durable_commit(&dir);
    functions(&dir);
    fs::remove_dir_all(&dir).unwrap();
}

/// Prints median and 99th percentile, and gives the median, microseconds.
fn report(what: &str, mut samples: Vec<Duration>) -> f64 {
    samples.drain(..WARM_UP);
    samples.sort();
    let at = |p: usize| samples[samples.len() * p / 100].as_secs_f64() * 1e6;
    println!("{what:<58} p50 {:>8.1} us   p99 {:>8.1} us", at(50), at(99));
    at(50)
}

/// Many short ones, of which one alone is less than the clock can tell; gives nanoseconds for each.
fn report_each(what: &str, mut once: impl FnMut()) -> f64 {
    const EACH: u32 = 100;
    (0..WARM_UP as u32 * EACH).for_each(|_| once());
    let mut samples: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..EACH).for_each(|_| once());
            begun.elapsed() / EACH
        })
        .collect();
    samples.sort();
    let at = |p: usize| samples[samples.len() * p / 100].as_nanos() as f64;
    println!("{what:<58} p50 {:>8.0} ns   p99 {:>8.0} ns", at(50), at(99));
    at(50)
}

fn start(dir: &Path, i: u128, members: &[NodeId], seeds: Vec<String>) -> Node {
    let own = dir.join(format!("n{i}"));
    ca::issue(&dir.join("ca"), NodeId(i), &own, &IssueOptions::default()).unwrap();
    let builder = Node::builder()
        .directory(own.join("data"))
        .identity_files(own.join("ca.pem"), own.join("node.pem"), own.join("node.key"))
        .members(members.to_vec())
        .function(hits())
        .seeds(seeds);
    block_on(builder.start()).unwrap()
}

fn visibility(dir: &Path) {
    let echo = report("bare quinn, one stream, 64 B there and back", quinn_echo());
    ca::init(&dir.join("ca"), "bench").unwrap();
    let members = [NodeId(1), NodeId(2), NodeId(3)];
    let first = start(dir, 1, &members, vec![]);
    let seed = vec![first.quic_address().to_string()];
    let others = [
        start(dir, 2, &members, seed.clone()),
        start(dir, 3, &members, seed),
    ];
    block_on(async {
        for node in others.iter().chain([&first]) {
            node.ready().await;
        }
    });
    let (seen, all_seen) = mpsc::channel();
    for node in &others {
        let (node, seen) = (node.clone(), seen.clone());
        std::thread::spawn(move || {
            let mut watch = node.entity::<PnCounter>("bench", "visible").unwrap().watch();
            block_on(async {
                while let Some(value) = watch.next().await {
                    if let Some((_, anabranch::Reading::Count(n))) = value
                        && seen.send(n).is_err()
                    {
                        return;
                    }
                }
            });
        });
    }
    let entity = first.entity::<PnCounter>("bench", "visible").unwrap();
    let entity = entity.with_level(Level {
        stage: Stage::Applied,
        ..Level::default()
    });
    let samples = (1..=ROUNDS as i128)
        .map(|n| {
            let begun = Instant::now();
            block_on(entity.increment(1)).unwrap();
            let mut waiting = others.len();
            while waiting > 0 {
                waiting -= usize::from(all_seen.recv().unwrap() == n);
            }
            begun.elapsed()
        })
        .collect();
    let visible = report("one update, seen by watchers on both other nodes", samples);
    println!("ratio: visibility / quinn round trip = {:.2}\n", visible / echo);
    for node in others.iter().chain([&first]) {
        block_on(node.shutdown()).unwrap();
    }
}

fn quinn_echo() -> Vec<Duration> {
    let (server, client) = bare::configurations();
    let (tell, address) = mpsc::channel();
    std::thread::spawn(move || {
        block_on(async {
            let (_connection, (mut send, mut receive)) = bare::accepted(server, &tell).await;
            let mut buffer = [0; 64];
            while receive.read_exact(&mut buffer).await.is_ok() {
                send.write_all(&buffer).await.unwrap();
            }
        });
    });
    let address = address.recv().unwrap();
    block_on(async {
        let (_connection, (mut send, mut receive)) = bare::connected(client, address).await;
        let mut samples = Vec::with_capacity(ROUNDS);
        let mut buffer = [7; 64];
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            send.write_all(&buffer).await.unwrap();
            receive.read_exact(&mut buffer).await.unwrap();
            samples.push(begun.elapsed());
        }
        samples
    })
}

fn durable_commit(dir: &Path) {
    let bare_dir: PathBuf = dir.join("bare");
    fs::create_dir_all(&bare_dir).unwrap();
    let solo = dir.join("solo");
    ca::init(&solo.join("ca"), "solo").unwrap();
    let node = start(&solo, 9, &[], vec![]);
    block_on(node.ready());
    let entity = node.entity::<PnCounter>("bench", "durable").unwrap();
    let mut file = File::create(bare_dir.join("log")).unwrap();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    // In turn, so that a disk that is busy for a while is busy for both.
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        // About what one update's record takes, header included.
        file.write_all(&[7; 100]).unwrap();
        file.sync_data().unwrap();
        bare.push(begun.elapsed());
        let begun = Instant::now();
        block_on(entity.increment(1)).unwrap();
        ours.push(begun.elapsed());
    }
    let bare = report("bare append of 100 B and fdatasync", bare);
    let ours = report("one durable update on a node of its own", ours);
    println!(
        "ratio: durable update / bare append and fdatasync = {:.2}",
        ours / bare
    );
    block_on(node.shutdown()).unwrap();
}

/// A counter, raised in memory or on disk.
fn hits() -> Function {
    let raise = |hits: &mut state::PnCounter, by: i64| {
        hits.increment(by);
        Ok::<_, String>(hits.get())
    };
    Function::of::<state::PnCounter>("hits")
        .command("hit", move |hits, context, by| {
            context.confirm(APPLIED);
            raise(hits, by)
        })
        .query("get", |hits, _, ()| Ok::<_, String>(hits.get()))
        .into()
}

const APPLIED: Level = Level {
    copies: anabranch::Copies::Local,
    stage: Stage::Applied,
};

fn functions(dir: &Path) {
    let home = dir.join("functions");
    ca::init(&home.join("ca"), "functions").unwrap();
    let members = [NodeId(1), NodeId(2)];
    let one = start(&home, 1, &members, vec![]);
    let two = start(&home, 2, &members, vec![one.quic_address().to_string()]);
    block_on(async {
        one.ready().await;
        two.ready().await;
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    println!();
    let mut map = BTreeMap::from([(("hits".to_owned(), "a".to_owned()), 0i64)]);
    let key = ("hits".to_owned(), "a".to_owned());
    let map = report_each("a number in a BTreeMap, raised", || {
        *map.get_mut(std::hint::black_box(&key)).unwrap() += 1;
    });
    let entity = one.entity::<PnCounter>("bare", "a").unwrap().with_level(APPLIED);
    let update = report_each("one update of a counter, in memory", || {
        runtime.block_on(entity.increment(1)).unwrap();
    });
    let command = report_each("the same by a command of its function", || {
        runtime
            .block_on(one.call::<_, i64>("hits", "a", "hit", &1))
            .unwrap();
    });
    let read = report_each("one read of a counter", || {
        std::hint::black_box(entity.get());
    });
    let query = report_each("the same by a query of its function", || {
        runtime
            .block_on(one.call::<_, i64>("hits", "a", "get", &()))
            .unwrap();
    });
    println!(
        "ratio: update / map = {:.1}, command / update = {:.2}, query / read = {:.2}\n",
        update / map,
        command / update,
        query / read
    );

    let echo = report("bare quinn, one stream, 64 B there and back", quinn_echo());
    let argument = Payload::of(Encoding::Postcard, &()).unwrap();
    let call = || Call::new(EntityId::new("hits", "a").unwrap(), "get", argument.clone());
    let samples = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        runtime
            .block_on(one.call_on(NodeId(2), call(), None, Duration::from_secs(10)))
            .unwrap();
        begun.elapsed()
    });
    let called = report("a query of a function at another node", samples.collect());
    println!("ratio: call / quinn round trip = {:.2}", called / echo);
    block_on(one.shutdown()).unwrap();
    block_on(two.shutdown()).unwrap();
}
