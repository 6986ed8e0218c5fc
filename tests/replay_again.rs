//! A replay that was killed is run again: nothing counts twice, nothing is left out, everybody's order holds.

use std::process::Command;

use serde_json::Value;

use super::support::cluster::Cluster;
use super::support::command::anabranch;
use super::support::face::{addresses, agreed, assert_same};
use super::support::process::{Ended, Process};
use super::support::temp::TempDir;
use super::support::up::Up;
use super::support::{ANABRANCH, exit, history, http, wait_for};

const EVENTS: usize = 500;

#[test]
fn the_same_arguments_finish_what_was_begun_and_repeat_nothing() {
    let events = history::read(&history::real(), EVENTS);
    let truth = history::truth(&events);
    let dir = TempDir::new("replay-again");
    let file = dir.write("history.jsonl", history::write(&events));
    let up = Up::start(&dir.join("cluster"), 2);
    let to = addresses(up.faces());
    let command = |more: &[&str]| {
        let mut command = Command::new(ANABRANCH);
        command
            .arg("replay")
            .arg(&file)
            .args(["--to", &to, "--json"])
            .args(more);
        Process::start("replay", &mut command)
    };

    // The rate is no part of what makes a run the same.
    let mut begun = command(&["--rate", "400"]);
    let face = &up.nodes[0].face;
    wait_for("half of the events", || {
        (face.count("commits", "all") >= EVENTS as u64 / 2).then_some(())
    });
    begun.kill();
    let done = face.count("commits", "all");
    assert!(done < EVENTS as u64, "it was killed too late");

    let report: Value = serde_json::from_str(&command(&[]).wait().done()).unwrap();
    assert_eq!(report["events"], EVENTS, "{report}");
    assert!(
        report["repeated"].as_u64().unwrap() >= done.min(EVENTS as u64 / 2),
        "{report}"
    );
    assert_same(&agreed(up.faces()), &truth, "after the second attempt");

    let report: Value = serde_json::from_str(&command(&[]).wait().done()).unwrap();
    assert_eq!(report["repeated"], EVENTS, "{report}");
    assert_same(&agreed(up.faces()), &truth, "after the third attempt");

    // Another run's name counts again.
    let report: Value = serde_json::from_str(&command(&["--run", "again"]).wait().done()).unwrap();
    assert_eq!(report["repeated"], 0, "{report}");
    assert_eq!(up.nodes[1].face.count("commits", "all"), 2 * EVENTS as u64);
}

#[test]
fn a_node_that_lost_its_directory_between_two_attempts_does_not_count_twice() {
    let mut cluster = Cluster::start("lost-between-attempts", 2);
    let to = addresses(cluster.faces());
    let file = history::real();
    let again = |more: &[&str]| replay(file.to_str().unwrap(), &to, more);
    let mut command = Command::new(ANABRANCH);
    command
        .arg("replay")
        .arg(&file)
        .args(["--to", &to, "--rate", "300"]);
    let mut begun = Process::start("replay", &mut command);
    wait_for("some commits", || {
        (cluster.nodes[0].count("commits", "all") >= 100).then_some(())
    });
    begun.kill();
    cluster.nodes[0].kill();
    std::fs::remove_dir_all(cluster.nodes[0].data()).unwrap();
    cluster.nodes[0].start_ready();
    let before = agreed(cluster.faces());

    // However often it is tried: nobody can tell what that node had counted.
    let lost = cluster.nodes[0].http.clone();
    for _ in 0..3 {
        let said = [lost.as_str(), "lost its data directory", "count twice"];
        again(&[]).failed(exit::DIRECTORY_CHANGED, &said);
    }
    // Nothing was sent, and asking has left nothing either.
    assert_same(&agreed(cluster.faces()), &before, "after the refusals");
    assert!(!before.contains("anabranch"), "{before}");

    // Another run has nothing to do with it.
    let small = cluster
        .dir
        .write("small.jsonl", history::write(&history::read(&file, 20)));
    let before = cluster.nodes[1].count("commits", "all");
    replay(small.to_str().unwrap(), &to, &[]).done();
    assert_eq!(cluster.nodes[1].count("commits", "all"), before + 20);
}

#[test]
fn a_run_that_was_begun_with_other_nodes_is_not_dealt_anew() {
    let cluster = Cluster::start("other-deal", 2);
    let file = cluster.dir.write(
        "small.jsonl",
        history::write(&history::read(&history::real(), 20)),
    );
    let file = file.to_str().unwrap();
    let [a, b] = [0, 1].map(|i| cluster.nodes[i].http.clone());
    replay(file, &format!("{a},{b}"), &[]).done();
    for other in [format!("{b},{a}"), a.clone()] {
        replay(file, &other, &[]).failed(exit::KEY_REUSED, &["same nodes in the same order", "--run"]);
    }
    assert_eq!(cluster.nodes[0].count("commits", "all"), 20);
    replay(file, &format!("{a},{b}"), &[]).done();
    assert_eq!(cluster.nodes[0].count("commits", "all"), 20);
    replay(file, &b, &["--run", "again"]).done();
    agreed(cluster.faces());
    assert_eq!(cluster.nodes[0].count("commits", "all"), 40);
}

#[test]
fn a_keyed_update_that_changes_nothing_is_remembered_and_leaves_nothing_else() {
    let mut cluster = Cluster::start("marks", 1);
    let mark = serde_json::json!({"idempotency_key": "mark/1", "ops": [
        {"kind": "anabranch.replay", "key": "run", "op": "remove", "elements": ["x"], "type": "orset"},
    ]});
    let known = |cluster: &Cluster, key: &str| -> Value {
        let reply = http::get(&cluster.nodes[0].http, &format!("/v1/keys/{key}")).unwrap();
        serde_json::from_str::<Value>(&reply.body).unwrap()["known"].clone()
    };
    // Asking is not remembered.
    assert_eq!(known(&cluster, "mark%2F1"), false);
    assert_eq!(known(&cluster, "mark%2F1"), false);
    let shards = |cluster: &Cluster| http::get(&cluster.nodes[0].http, "/v1/shards").unwrap().body;
    let before = shards(&cluster);
    let first = cluster.nodes[0].updated(&mark);
    assert_eq!(
        (&first["repeated"], &first["dots"]),
        (&Value::from(false), &serde_json::json!([]))
    );
    assert_eq!(shards(&cluster), before);
    // Durably: a crash does not undo it.
    cluster.nodes[0].kill();
    cluster.nodes[0].start_ready();
    assert_eq!(known(&cluster, "mark%2F1"), true);
    assert_eq!(known(&cluster, "mark"), false);
    assert_eq!(cluster.nodes[0].updated(&mark)["repeated"], true);
    assert_eq!((cluster.nodes[0].dump().as_str(), shards(&cluster)), ("", before));
    let no_key = http::get(&cluster.nodes[0].http, &format!("/v1/keys/{}", "x".repeat(65))).unwrap();
    assert_eq!(no_key.status, 400);
}

fn replay(file: &str, to: &str, more: &[&str]) -> Ended {
    anabranch(
        ["replay", file, "--to", to]
            .into_iter()
            .chain(more.iter().copied()),
    )
}
