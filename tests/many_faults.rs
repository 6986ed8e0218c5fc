//! Faults in an order that nobody thought of: on a rough network nodes are killed and cut off at random while a
//! history is replayed, sometimes all of them at once, and every event still counts exactly once.
//!
//! `ANABRANCH_TEST_SEED=N` tries another order; the one that is tried is printed.

use std::process::Command;
use std::time::Duration;

use super::support::cluster::Cluster;
use super::support::face::{addresses, agreed, assert_same};
use super::support::process::{Process, signal};
use super::support::random::Random;
use super::support::{ANABRANCH, history};

const NODES: usize = 3;
const EVENTS: usize = 1_500;
const FAULTS: usize = 20;
/// How long one fault lasts before the next one comes. Not a wait for anything: it is the faults' rhythm.
const RHYTHM: Duration = Duration::from_millis(150);

#[test]
fn every_event_counts_once_whatever_happens_in_whatever_order() {
    let seed = std::env::var("ANABRANCH_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("ANABRANCH_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let events = history::read(&history::real(), EVENTS);
    let mut cluster = Cluster::prepare_relayed("many-faults", NODES);
    for node in &cluster.nodes {
        // Snapshots and rings so small that they are needed.
        node.configure(
            "[http]",
            "snapshot_bytes = 65536\nshards = 16\n[limits]\nring_slots_max = 64\n[http]",
        );
    }
    cluster.start_all();
    cluster.network().be_rough();
    let file = cluster.dir.write("history.jsonl", history::write(&events));
    let mut replay = Command::new(ANABRANCH);
    replay
        .arg("replay")
        .arg(file)
        .args(["--to", &addresses(cluster.faces()), "--rate", "400", "--json"]);
    let mut replay = Process::start("replay", &mut replay);

    for _ in 0..FAULTS {
        fault(&mut cluster, &mut random);
        std::thread::sleep(RHYTHM);
    }
    cluster.network().heal();
    cluster.start_all();
    let report: serde_json::Value = serde_json::from_str(&replay.wait().done()).unwrap();
    assert_eq!(report["events"], EVENTS, "{report}");
    assert_same(
        &agreed(cluster.faces()),
        &history::truth(&events),
        "after all faults",
    );
}

/// Makes one thing worse, or some things better.
fn fault(cluster: &mut Cluster, random: &mut Random) {
    let node = random.below(NODES as u64) as usize;
    let kind = random.below(12);
    println!("fault {kind} at n{}", node + 1);
    match kind {
        0..=3 if cluster.nodes[node].is_running() => cluster.nodes[node].kill(),
        0..=3 => drop(cluster.nodes[node].start()),
        4 => cluster
            .nodes
            .iter_mut()
            .filter(|node| node.is_running())
            .for_each(|node| node.kill()),
        5 if cluster.nodes[node].is_running() => cluster.nodes[node].stop(),
        6 => cluster.network().cut(node, (node + 1) % NODES),
        7 => cluster.network().cut_off(node),
        8 | 9 => cluster.network().heal(),
        10 if cluster.nodes[node].is_running() => {
            // A process that hangs for a while is neither dead nor alive.
            let pid = cluster.nodes[node].process().pid();
            signal(pid, "STOP");
            std::thread::sleep(RHYTHM * 4);
            signal(pid, "CONT");
        }
        _ => cluster
            .nodes
            .iter_mut()
            .filter(|node| !node.is_running())
            .for_each(|node| {
                node.start();
            }),
    }
}
