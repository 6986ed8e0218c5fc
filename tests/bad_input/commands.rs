//! Commands that are asked for what cannot be.

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::command::{anabranch, anabranch_in};
use crate::support::temp::TempDir;
use crate::support::{exit, ports};

#[test]
fn nobody_at_the_address() {
    // A port that no other test gets.
    let at = ports::take().to_string();
    anabranch(["status", "--at", &at]).failed(exit::UNREACHABLE, &[&at]);
    let dir = TempDir::new("nobody");
    let said = ["there is no cluster in", "up --nodes 3"];
    anabranch_in(dir.path(), ["get", "cart", "alice"]).failed(exit::UNREACHABLE, &said);
    anabranch_in(dir.path(), ["verify"]).failed(exit::UNREACHABLE, &said);
    assert!(!dir.join(".anabranch").exists(), "asking made a directory");
}

#[test]
fn wrong_usage() {
    let usage = |line: &str, said: &str| anabranch(line.split(' ')).failed(exit::USAGE, &[said]);
    usage("frobnicate", "frobnicate");
    usage("up", "--nodes");
    usage("up --nodes 0", "0");
    usage("up --nodes many", "many");
    usage("node", "--config");
    usage("get cart", "<KEY>");
    usage("update cart alice", "add");
    usage("update cart alice shrink", "shrink");
    usage("update cart alice add", "<E>");
    usage("update cart alice incr 1.5", "1.5");
    usage("update cart alice incr 1 --level most", "majority");
    usage("status --at nowhere", "HOST:PORT");
    usage("replay nothing", "--to");
    usage("verify 127.0.0.1:1", "at least two");
    usage("cert issue --out x --node n1", "n1");
}

#[test]
fn wrong_usage_was_plain_text_for_programs_too() {
    for (line, said) in [
        ("frobnicate --json", "frobnicate"),
        ("get cart --json", "<KEY>"),
        ("update cart alice --json shrink", "shrink"),
        ("status --json --at nowhere", "HOST:PORT"),
        ("verify --json 127.0.0.1:1", "at least two"),
    ] {
        let ended = anabranch(line.split(' '));
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(exit::USAGE), ""),
            "{ended}"
        );
        let error: Value = serde_json::from_str(&ended.stderr).expect(&ended.stderr);
        assert_eq!(
            (&error["error"], &error["retry"]),
            (&"usage".into(), &false.into())
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(said) && !message.contains("Usage:"), "{message}");
    }
    // Behind a bare -- it is a word like any other.
    anabranch(["get", "--", "cart", "--json", "x"]).failed(exit::USAGE, &["Usage:"]);
}

#[test]
fn a_node_is_not_compared_with_itself() {
    let cluster = Cluster::start("itself", 1);
    let at = cluster.nodes[0].http.as_str();
    let port = at.rsplit(':').next().unwrap();
    let spelled = format!("localhost:{port}");
    for other in [at, &spelled] {
        anabranch(["verify", at, other]).failed(exit::USAGE, &[at, other, "the same node"]);
    }
    anabranch(["verify", at]).failed(exit::USAGE, &["at least two"]);
}

#[test]
fn clusters_of_one_name_are_told_apart() {
    let clusters = [Cluster::start("namesakes", 1), Cluster::start("namesakes", 1)];
    let [a, b] = [0, 1].map(|i| clusters[i].nodes[0].http.as_str());
    let id = |cluster: &Cluster| cluster.nodes[0].status_text("cluster_id");
    let ids = [id(&clusters[0]), id(&clusters[1])];
    assert_ne!(ids[0], ids[1]);
    // The two have the same node id too, so that is not what is compared.
    let said = [a, b, &ids[0], &ids[1], "different clusters"];
    anabranch(["verify", a, b]).failed(exit::IDENTITY, &said);
    let to = format!("{a},{b}");
    let file = clusters[0].dir.write("empty.jsonl", "");
    anabranch(["replay", file.to_str().unwrap(), "--to", &to]).failed(exit::IDENTITY, &said);
}

#[test]
fn more_copies_than_there_are_do_not_confirm() {
    let cluster = Cluster::start("levels", 1);
    let node = &cluster.nodes[0];
    let incr = ["update", "count", "a", "incr", "1", "--type", "gcounter"];
    node.run(incr.into_iter().chain(["--level", "all"])).done();
    node.run(incr.into_iter().chain(["--level", "majority-applied"]))
        .done();
    // Accepted and not rolled back, so it says so.
    let three = node.run(incr.into_iter().chain(["--level", "3", "--timeout", "200ms"]));
    assert!(
        matches!(three.code, Some(exit::UNCONFIRMED | exit::INVALID)),
        "{three}"
    );
    let accepted = three.code == Some(exit::UNCONFIRMED);
    assert_eq!(node.count("count", "a"), 2 + u64::from(accepted));
}
