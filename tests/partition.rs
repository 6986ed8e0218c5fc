//! Nodes that do not reach each other: each goes on, says what it knows, and all agree again once they do.

use serde_json::json;

use super::support::cluster::{Cluster, Node};
use super::support::command::anabranch;
use super::support::face::{Face, agreed};
use super::support::{exit, wait_for};

/// Operations kept for peers that are behind, where a test wants them to be too few.
const RING_SLOTS: usize = 8;
/// Operations of each side while they are apart: far more than that in a shard.
const APART: usize = 300;

#[test]
fn a_node_that_is_cut_off_goes_on_and_finds_back() {
    let cluster = Cluster::start_relayed("partition", 3);
    let [n1, n2, n3] = [0, 1, 2].map(|i| &*cluster.nodes[i]);
    n1.increment("count", "a", 1);
    agreed(cluster.faces());

    cluster.network().cut_off(2);
    for node in cluster.faces() {
        node.increment("count", "a", 10);
        let add = json!({"kind": "set", "key": "s", "op": "add", "elements": [node.name], "type": "orset"});
        node.updated(&json!({ "ops": [add] }));
    }
    wait_for("the two that reach each other", || {
        (n1.count("count", "a") == 21).then_some(())
    });
    assert_eq!(n3.count("count", "a"), 11);
    assert_eq!(n3.value("set", "s"), Some(json!(["n3"])));
    // What each can have is what it says.
    let addresses = [&n1.http, &n2.http, &n3.http].map(String::as_str);
    let verify = anabranch(["verify", "--within", "100ms"].into_iter().chain(addresses));
    assert_eq!(verify.code, Some(exit::NO), "{verify}");
    assert!(
        verify.stdout.contains("lacks") && verify.stdout.contains("n3 ("),
        "{verify}"
    );
    let level = |node: &Face, level: &str| {
        node.run([
            "update",
            "count",
            "b",
            "incr",
            "1",
            "--timeout",
            "1s",
            "--level",
            level,
        ])
    };
    level(n1, "majority").done();
    level(n1, "all").failed(exit::UNCONFIRMED, &["2 of 3"]);
    level(n3, "majority").failed(exit::UNCONFIRMED, &["1 of 2"]);
    level(n3, "local").done();
    // A majority read is never older, and there is none where no majority is.
    let read = |node: &Face| node.run(["get", "count", "a", "--level", "majority", "--timeout", "2s"]);
    assert_eq!(read(n2).done().trim(), "21");
    read(n3).failed(exit::STALE, &["majority"]);

    // Long enough that the links are given up, not only slow.
    n3.wait_for_links(0);
    n1.wait_for_links(1);
    cluster.network().heal();
    agreed(cluster.faces());
    for node in cluster.faces() {
        // What was not confirmed was not taken back either.
        assert_eq!(
            (node.count("count", "a"), node.count("count", "b")),
            (31, 4),
            "{}",
            node.name
        );
        assert_eq!(node.value("set", "s"), Some(json!(["n1", "n2", "n3"])));
    }
}

#[test]
fn stock_is_never_oversold_by_nodes_that_are_apart() {
    let cluster = Cluster::start_relayed("escrow", 3);
    let [n1, n2, n3] = [0, 1, 2].map(|i| &*cluster.nodes[i]);
    let stock = |node: &Face, op: &[&str]| {
        let args = ["update", "stock", "seats", "--type", "boundedcounter"];
        node.run(args.iter().chain(op))
    };
    stock(n1, &["incr", "10"]).done();
    wait_for("gossip has told n1 the names of all others", || {
        let status = n1.status();
        let mut members = status["members"].as_array()?.iter();
        members.all(|member| member["name"].is_string()).then_some(())
    });
    let handed_over = ["transfer", "4", "n2", "--key", "handed-over"];
    stock(n1, &handed_over).done();
    stock(n1, &["transfer", "9", "n1"]).done(); // to itself: nothing
    stock(n1, &["transfer", "1", "nobody"])
        .failed(exit::INVALID, &["\"nobody\" is no node's id or name here"]);
    agreed(cluster.faces());
    cluster.network().cut_off(1);
    // Both sell what they have and no more, without a word to each other.
    stock(n1, &["incr", "-7"]).failed(exit::RIGHTS, &["may take 6 away, not 7; others hold 4"]);
    stock(n1, &["incr", "-6"]).done();
    stock(n2, &["incr", "-4"]).done();
    stock(n2, &["incr", "-1"]).failed(exit::RIGHTS, &["may take 0 away, not 1; others hold 6"]);
    n2.wait_for_links(0);
    stock(n2, &["transfer", "1", "n1"]).failed(exit::NOT_READY, &["not connected", "nothing was changed"]);
    // What was done is known to be done, whoever can be reached now.
    n1.wait_for_links(1);
    assert!(
        stock(n1, &handed_over)
            .done()
            .contains("done before under this key")
    );
    cluster.network().heal();
    agreed(cluster.faces());
    assert_eq!(n3.value("stock", "seats"), Some(json!(0)));
}

#[test]
fn two_nodes_that_never_reach_each_other_agree_through_a_third() {
    let mut cluster = Cluster::prepare_relayed("non-transitive", 3);
    cluster.network().cut(0, 2);
    cluster.start_all();
    for round in 1..=10 {
        cluster.nodes[0].increment("count", "a", 1);
        cluster.nodes[2].increment("count", "b", 1);
        let seen =
            || cluster.nodes[2].count("count", "a") == round && cluster.nodes[0].count("count", "b") == round;
        wait_for("what the other one wrote", || seen().then_some(()));
    }
    agreed(cluster.faces());
    // The one in the middle is away for a while, and both go on meanwhile.
    cluster.nodes[1].kill();
    cluster.nodes[0].increment("count", "a", 100);
    cluster.nodes[2].increment("count", "a", 1_000);
    cluster.nodes[1].start_ready();
    agreed(cluster.faces());
    assert_eq!(cluster.nodes[1].count("count", "a"), 1_110);
}

#[test]
fn a_node_that_missed_more_than_is_kept_gets_the_whole() {
    let mut cluster = Cluster::prepare_relayed("behind-the-ring", 3);
    for node in &cluster.nodes {
        // One shard has it all, so that the ring is soon too short.
        node.configure(
            "[http]",
            &format!("shards = 1\n[limits]\nring_slots_max = {RING_SLOTS}\n[http]"),
        );
    }
    cluster.start_all();
    write(&cluster.nodes[0], "before", APART / 10);
    agreed(cluster.faces());
    cluster.network().cut_off(2);
    for node in &cluster.nodes {
        write(node, &node.name, APART);
    }
    cluster.network().heal();
    agreed(cluster.faces());
    let installed: u64 = cluster
        .nodes
        .iter()
        .map(|node| counter(node, "snapshots_installed"))
        .sum();
    assert!(installed > 0, "nobody needed the whole");
    for node in cluster.faces() {
        assert_eq!(
            node.value("set", "s").unwrap().as_array().unwrap().len(),
            3 * APART + APART / 10
        );
    }
    // The same for one that was down, and once more for one that has nothing.
    cluster.nodes[1].kill();
    write(&cluster.nodes[0], "down", APART);
    cluster.nodes[1].start_ready();
    agreed(cluster.faces());
    assert_eq!(
        cluster.nodes[1]
            .value("set", "s")
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        4 * APART + APART / 10
    );
}

/// Adds and removes so many elements, one update each.
#[track_caller]
fn write(node: &Face, name: &str, count: usize) {
    for number in 0..count {
        let element = format!("{name} {number}");
        let batch = json!({"ops": [
            {"kind": "set", "key": "s", "op": "add", "elements": [element], "type": "orset"},
            {"kind": "gone", "key": "s", "op": "add", "elements": [element], "type": "orset"},
            {"kind": "gone", "key": "s", "op": "remove", "elements": [element]},
        ]});
        node.updated(&batch);
    }
}

#[track_caller]
fn counter(node: &Node, name: &str) -> u64 {
    let status = node.status();
    status["counters"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {status}"))
}
