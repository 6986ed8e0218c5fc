//! Schedules on real nodes: whoever is left makes the calls.

use serde_json::{Value, json};

use super::functions::{example, quantity};
use super::support::cluster::Cluster;
use super::support::face::Face;
use super::support::{exit, wait_for};

/// So many that each node makes the calls of some.
const SCHEDULES: usize = 8;

fn name(i: usize) -> String {
    format!("every {i}")
}

/// Waits until each schedule was called for once more than that; says how often each was.
fn more(node: &Face, than: &[u64]) -> Vec<u64> {
    wait_for("another call of each schedule", || {
        let now: Vec<u64> = (0..SCHEDULES)
            .map(|i| quantity(node, "alice", &name(i)))
            .collect();
        now.iter().zip(than).all(|(now, than)| now > than).then_some(now)
    })
}

#[test]
fn schedules_go_on_whichever_nodes_die() {
    let mut cluster = Cluster::prepare("schedules", 3)
        .with_program(&example("cart"))
        .started();
    for i in 0..SCHEDULES {
        let line = format!(r#"{{"product": "{}", "quantity": 1}}"#, name(i));
        let set = ["schedule", "set", &name(i), "cart", "alice", "add", &line];
        let how = ["--every", "1s", "--missed", "all"];
        let said = cluster.nodes[i % 3].run(set.iter().chain(&how)).done();
        assert!(said.contains("every 1000 ms: add of cart/alice"), "{said}");
    }
    let mut seen = more(&cluster.nodes[2], &[0; SCHEDULES]);
    for dies in [0, 1] {
        cluster.nodes[dies].kill();
        seen = more(&cluster.nodes[2], &seen);
    }
    // All of them: what was missed is made good.
    cluster.nodes[2].kill();
    cluster.start_all();
    seen = more(&cluster.nodes[1], &seen);
    let node = &*cluster.nodes[1];
    for (i, seen) in seen.into_iter().enumerate() {
        let shown = node.run(["schedule", "show", &name(i), "--json"]).done();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let ms = |member: &str| shown["schedule"][member].as_u64().unwrap();
        // Once each, and again at most where a node died between a call and what it kept of it, or was thought dead.
        let times = (ms("last_ms") - ms("since_ms")) / 1_000;
        assert!(seen <= times + 8, "{seen} for {times} times");
        let order = &shown["schedule"]["order"];
        assert_eq!(order["argument"]["product"], json!(name(i)));
        node.run(["schedule", "cancel", &name(i)]).done();
    }
    wait_for("nothing is scheduled", || {
        let is_empty = |node: &Face| node.run(["schedule", "list"]).done().is_empty();
        cluster.faces().all(is_empty).then_some(())
    });
}

#[test]
fn what_is_wrong_with_a_schedule_is_said() {
    let cluster = Cluster::prepare("schedules-wrong", 1)
        .with_program(&example("cart"))
        .started();
    let node = &*cluster.nodes[0];
    let set = |more: &[&str]| {
        let set = ["schedule", "set", "s", "cart", "alice", "show"];
        node.run(set.iter().chain(more))
    };
    set(&[]).failed(exit::USAGE, &["--cron", "--every", "--in"]);
    set(&["--every", "1s", "--in", "1s"]).failed(exit::USAGE, &["cannot be used with"]);
    set(&["--cron", "often"]).failed(exit::USAGE, &["five fields"]);
    set(&["--cron", "61 * * * *"]).failed(exit::USAGE, &["nothing changed", "61"]);
    set(&["--every", "10ms"]).failed(exit::USAGE, &["at least 1000"]);
    set(&["--every", "0s"]).failed(exit::USAGE, &["at least 1000"]);
    set(&["--in", "1s", "--timeout", "0s"]).failed(exit::USAGE, &["timeout_ms"]);
    set(&["{", "--in", "1s"]).failed(exit::USAGE, &["no JSON"]);
    node.run(["schedule", "show", "s"])
        .failed(exit::NO, &["no schedule s"]);
    node.run(["schedule", "cancel", "s"])
        .failed(exit::NO, &["no schedule s"]);
    set(&["--in", "25h"]).done();
    set(&["--every", "48h"]).done();
    set(&["--cron", "@yearly"]).done();
    let listed = node.run(["schedule", "list"]).done();
    assert!(
        listed.contains("-01-01T00:00:00Z  last never  cron @yearly: show of cart/alice"),
        "{listed}"
    );
}

#[test]
fn where_no_node_has_functions_schedules_say_what_is_missing() {
    let cluster = Cluster::start("schedules-none", 1);
    for line in [
        ["schedule", "set", "s", "cart", "alice", "show", "--in", "1s"].as_slice(),
        &["schedule", "show", "s"],
        &["schedule", "cancel", "s"],
    ] {
        let ended = cluster.nodes[0].run(line);
        assert!(!ended.stderr.contains("anabranch:schedule"), "{ended}");
        ended.failed(exit::NO_FUNCTION, &["nodes that have functions", "anabranch dev"]);
    }
}
