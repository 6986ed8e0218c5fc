//! The main job on real input: a history is replayed to three nodes while one of them is killed and another one is
//! cut off, and in the end every node holds what the history comes to, byte for byte.

use std::process::Command;

use serde_json::Value;

use super::support::cluster::Cluster;
use super::support::face::{Face, addresses, agreed, assert_same};
use super::support::process::Process;
use super::support::{ANABRANCH, history, wait_for};

/// Events of the history.
const EVENTS: u64 = 4_231;
/// Each fault begins and ends while at least so many are still to come.
const TO_COME_MIN: u64 = EVENTS / 4;
/// Events a second: slow enough for every fault to find its place.
const RATE: &str = "450";

#[test]
fn a_history_arrives_whole_whatever_happens_to_the_nodes() {
    let mut cluster = Cluster::start_relayed("history", 3);
    let [n1, n2, n3] = [0, 1, 2];
    // Authors are dealt in this order; the first two get nearly all events, the third some of them.
    let to = addresses([&*cluster.nodes[n2], &*cluster.nodes[n3], &*cluster.nodes[n1]]);
    let mut replay = Command::new(ANABRANCH);
    replay
        .arg("replay")
        .arg(history::real())
        .args(["--to", &to, "--rate", RATE, "--json"]);
    let mut replay = Process::start("replay", &mut replay);

    // One node is killed, and comes back while the others go on.
    let seen = wait_for_commits(&cluster.nodes[n1], 200);
    assert!(EVENTS - seen >= TO_COME_MIN);
    cluster.nodes[n2].kill();
    let seen = cluster.nodes[n1].count("commits", "all");
    let seen = wait_for_commits(&cluster.nodes[n1], seen + 100);
    cluster.nodes[n2].start_ready();
    assert!(EVENTS - seen >= TO_COME_MIN);

    // Another one is cut off. It takes updates meanwhile, and so do the others.
    let before = wait_for_commits(&cluster.nodes[n3], seen + 100);
    cluster.network().cut_off(n3);
    let there = wait_for_commits(&cluster.nodes[n3], before + 200);
    let here = wait_for_commits(&cluster.nodes[n1], before + 200);
    // What one side has seen counts at most once more at the other side.
    assert!(
        EVENTS - (there + here - before) >= TO_COME_MIN,
        "cut off too late: {before}, {there}, {here}"
    );
    cluster.network().heal();
    assert!(cluster.network().dropped() > 0, "nothing was cut");
    assert!(!replay.has_ended());

    let report: Value = serde_json::from_str(&replay.wait().done()).unwrap();
    assert_eq!(
        (&report["events"], &report["bad_lines"]),
        (&Value::from(EVENTS), &Value::from(0)),
        "{report}"
    );
    assert!(report["agreed_after_ms"].is_number(), "{report}");

    let truth = history::real_truth();
    for node in cluster.faces() {
        assert_same(&node.dump(), &truth, &node.name);
    }
    assert_same(&agreed(cluster.faces()), &truth, "after all agreed");
}

fn wait_for_commits(node: &Face, count: u64) -> u64 {
    wait_for(&format!("{count} commits at {}", node.name), || {
        Some(node.count("commits", "all")).filter(|seen| *seen >= count)
    })
}
