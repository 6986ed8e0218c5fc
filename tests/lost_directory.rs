//! A data directory deleted while its node is down: the node comes back whole under the same id, and nothing is lost
//! or counted twice. Its certificate and configuration lie elsewhere and stay.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::support::cluster::Cluster;
use super::support::face::{Face, addresses, agreed};
use super::support::process::Process;
use super::support::{ANABRANCH, exit, history, wait_for};

#[test]
fn a_node_without_its_directory_comes_back_whole() {
    let mut cluster = Cluster::start("lost-directory", 3);
    // Every node has a share in each counter, so that a share lost or taken twice shows.
    for (i, node) in cluster.faces().enumerate() {
        for key in ["a", "b", "c"] {
            node.increment("count", key, 10 + i as i64);
        }
        let add = json!({"kind": "set", "key": "s", "op": "add", "elements": [node.name], "type": "orset"});
        node.updated(&json!({"ops": [add], "level": "all"}));
    }
    agreed(cluster.faces());
    let before = cluster.nodes[1].status();
    cluster.nodes[1].kill();
    fs::remove_dir_all(cluster.nodes[1].data()).unwrap();
    // The others go on meanwhile.
    cluster.nodes[0].increment("count", "a", 100);

    cluster.nodes[1].start_ready();
    let after = cluster.nodes[1].status();
    assert_eq!(after["id"], before["id"]);
    assert_ne!(after["directory"], before["directory"]);
    let epoch = |status: &serde_json::Value| status["epoch"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(epoch(&after) > epoch(&before), "{after}");
    agreed(cluster.faces());
    assert_eq!(counts(&cluster.nodes[1]), [133, 33, 33]);

    // It counts on, beside what it had counted before it lost it.
    cluster.nodes[1].increment("count", "b", 1_000);
    cluster.nodes[2].increment("count", "c", -3);
    agreed(cluster.faces());
    // The same once more: the share it lost is now spread over two epochs.
    cluster.nodes[1].kill();
    fs::remove_dir_all(cluster.nodes[1].data()).unwrap();
    cluster.nodes[1].start_ready();
    cluster.nodes[1].increment("count", "b", 1);
    agreed(cluster.faces());
    for node in cluster.faces() {
        assert_eq!(counts(node), [133, 1_034, 30], "{}", node.name);
        assert_eq!(node.value("set", "s"), Some(json!(["n1", "n2", "n3"])));
    }
}

#[test]
fn whoever_comes_without_a_directory_knows_all_members_before_it_takes_writes() {
    // Members are known by the links that there were, and by no configuration.
    let cluster = Cluster::prepare("members-met", 3);
    for node in &cluster.nodes {
        node.configure("members = ", "# members = ");
    }
    let mut cluster = cluster.started();
    cluster.nodes[0].increment("count", "a", 1);
    agreed(cluster.faces());
    // One is away, and nobody gossips of it to who comes anew.
    cluster.nodes.iter_mut().for_each(|node| node.kill());
    fs::remove_dir_all(cluster.nodes[2].data()).unwrap();
    cluster.nodes[0].start_ready();
    cluster.nodes[2].start_ready();
    let n3 = &cluster.nodes[2];
    let level = |level| {
        n3.run([
            "update",
            "count",
            "a",
            "incr",
            "1",
            "--level",
            level,
            "--timeout",
            "500ms",
        ])
    };
    level("all").failed(exit::UNCONFIRMED, &["2 of 3"]);
    level("majority").done();
    cluster.nodes[0].kill();
    let n3 = &cluster.nodes[2];
    n3.run(["get", "count", "a", "--level", "majority", "--timeout", "500ms"])
        .failed(exit::STALE, &["3 members"]);
}

#[test]
fn a_directory_restored_from_a_backup_harms_nobody() {
    let mut cluster = Cluster::start("restored", 3);
    cluster.nodes[1].increment("count", "a", 1);
    agreed(cluster.faces());
    cluster.nodes[1].stop();
    let backup = cluster.dir.join("backup");
    copy(cluster.nodes[1].data(), &backup);
    cluster.nodes[1].start_ready();
    // What it does after the backup was made is known to the others only.
    for _ in 0..20 {
        cluster.nodes[1].increment("count", "a", 10);
    }
    cluster.nodes[0].increment("count", "a", 1_000);
    agreed(cluster.faces());
    cluster.nodes[1].kill();
    fs::remove_dir_all(cluster.nodes[1].data()).unwrap();
    copy(&backup, cluster.nodes[1].data());

    cluster.nodes[1].start_ready();
    agreed(cluster.faces());
    assert_eq!(counts(&cluster.nodes[1]), [1_201, 0, 0]);
    cluster.nodes[1].increment("count", "a", 10_000);
    agreed(cluster.faces());
    assert_eq!(counts(&cluster.nodes[2]), [11_201, 0, 0]);
}

#[test]
fn an_empty_directory_takes_no_writes_before_it_has_caught_up() {
    let mut cluster = Cluster::start("empty-directory", 2);
    cluster.nodes[1].increment("count", "a", 7);
    agreed(cluster.faces());
    cluster.nodes.iter_mut().for_each(|node| node.kill());
    fs::remove_dir_all(cluster.nodes[1].data()).unwrap();

    // Alone it cannot know what it has counted before.
    cluster.nodes[1].start();
    let node = &cluster.nodes[1];
    wait_for("an answer", || {
        super::support::http::get(&node.http, "/healthz").ok()
    });
    assert_eq!(
        super::support::http::get(&node.http, "/readyz").unwrap().status,
        503
    );
    node.run(["update", "count", "a", "incr", "1", "--type", "pncounter"])
        .failed(exit::NOT_READY, &["caught up"]);
    assert_eq!(node.value("count", "a"), None);
    // Its log says what it waits for, and when that is over.
    let why = cluster.nodes[1].process().stderr.until("takes no writes yet");
    assert!(
        why.contains("no other node has a link") && why.contains("seeds"),
        "{why}"
    );

    cluster.nodes[0].start_ready();
    cluster.nodes[1].wait_until_said_ready();
    cluster.nodes[1].process().stderr.until("takes writes now");
    cluster.nodes[1].increment("count", "a", 1);
    agreed(cluster.faces());
    assert_eq!(cluster.nodes[0].count("count", "a"), 8);
}

#[test]
fn a_replay_does_not_go_on_with_a_node_that_lost_its_directory() {
    let mut cluster = Cluster::start("lost-during-replay", 2);
    let to = addresses(cluster.faces());
    let mut replay = Command::new(ANABRANCH);
    replay
        .arg("replay")
        .arg(history::real())
        .args(["--to", &to, "--rate", "200", "--json"]);
    let mut replay = Process::start("replay", &mut replay);
    wait_for("some commits", || {
        (cluster.nodes[0].count("commits", "all") >= 50).then_some(())
    });

    cluster.nodes[0].kill();
    fs::remove_dir_all(cluster.nodes[0].data()).unwrap();
    cluster.nodes[0].start();
    let http = cluster.nodes[0].http.clone();
    replay.wait().failed(
        exit::DIRECTORY_CHANGED,
        &[&http, "lost its data directory", "count twice"],
    );
    // The node itself is well.
    cluster.nodes[0].wait_until_said_ready();
    agreed(cluster.faces());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn counts(node: &Face) -> [u64; 3] {
    ["a", "b", "c"].map(|key| node.count("count", key))
}
