//! With `--json` a command's stdout carries JSON lines and nothing else; everything else is on stderr.

use std::process::Command;

use serde_json::{Value, json};

use super::support::ANABRANCH;
use super::support::cluster::Cluster;
use super::support::command::anabranch;
use super::support::exit;
use super::support::process::{Ended, Process};

#[test]
fn with_json_there_is_only_json_on_stdout() {
    let cluster = Cluster::start("json", 2);
    let node = &cluster.nodes[0];
    let object = |args: &[&str]| -> Value {
        let out = node.run(args.iter().copied().chain(["--json"])).done();
        assert_eq!(out.lines().count(), 1, "{args:?}: {out}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
    };
    let answer = object(&[
        "update", "cart", "alice", "add", "b", "a", "--type", "orset", "--level", "all",
    ]);
    assert_eq!(
        (&answer["confirmed"], &answer["repeated"]),
        (&2.into(), &false.into()),
        "{answer}"
    );
    assert_eq!(
        answer["directory"].as_str(),
        Some(node.status_text("directory").as_str())
    );
    assert_eq!(object(&["status"])["node"], "n1");
    let line = "{\"kind\":\"cart\",\"key\":\"alice\",\"value\":[\"a\",\"b\"]}\n";
    assert_eq!(node.run(["get", "cart", "alice", "--json"]).done(), line);
    assert_eq!(node.run(["dump", "--json"]).done(), line);
    let addresses = [cluster.nodes[0].http.as_str(), &cluster.nodes[1].http];
    let verify = anabranch(["verify", "--json"].into_iter().chain(addresses)).done();
    let verify: Value = serde_json::from_str(&verify).unwrap();
    assert_eq!(
        (&verify["agree"], &verify["nodes"]),
        (&true.into(), &2.into()),
        "{verify}"
    );
    // What is wrong is JSON, too, beside it.
    let failed = |args: &[&str], code: i32| -> Value {
        let ended = node.run(args.iter().copied().chain(["--json"]));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended}");
        serde_json::from_str(&ended.stderr).unwrap_or_else(|e| panic!("{args:?}: {e}: {ended}"))
    };
    let none = failed(&["get", "cart", "no\u{9b}body"], exit::NO);
    assert_eq!(
        none,
        json!({"error": "not_found", "message": "there is no cart/no\u{9b}body", "retry": false, "changed": false})
    );
    let command = ["update", "cart", "alice", "add", "c", "--level", "3"];
    let refused = failed(&command, exit::INVALID);
    assert_eq!(
        (&refused["error"], &refused["changed"]),
        (&"invalid".into(), &false.into())
    );
    for (args, code, error) in [
        (
            ["verify", &node.http, "127.0.0.1:1", "--within", "0s"].as_slice(),
            exit::UNREACHABLE,
            "unreachable",
        ),
        (&["verify", &node.http], exit::USAGE, "usage"),
        (&["replay", "nowhere.jsonl", "--to", &node.http], exit::IO, "io"),
    ] {
        let ended = anabranch(args.iter().chain(&["--json"]));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended}");
        let said: Value =
            serde_json::from_str(&ended.stderr).unwrap_or_else(|e| panic!("{args:?}: {e}: {ended}"));
        assert_eq!(
            (&said["error"], &said["changed"]),
            (&error.into(), &false.into()),
            "{said}"
        );
    }
    // Also where no node was asked.
    let dir = cluster.dir.join("nope");
    for args in [
        ["get", "k", "a"].as_slice(),
        &["update", "k", "a", "incr", "1"],
        &["call", "k", "a", "m"],
        &["leave"],
    ] {
        let ended = anabranch(args.iter().chain(&["--json", "--dir", dir.to_str().unwrap()]));
        let said: Value = serde_json::from_str(&ended.stderr).unwrap();
        assert_eq!(
            (ended.code, &said["changed"]),
            (Some(exit::UNREACHABLE), &false.into()),
            "{said}"
        );
    }
    // And where nobody could be told that it was done.
    let update = |args: &str| {
        let script = format!("{ANABRANCH} {args} --json --at {} >/dev/full", node.http);
        let ended = Process::start("sh", Command::new("sh").args(["-c", &script])).wait();
        let said: Value = serde_json::from_str(&ended.stderr).unwrap();
        assert_eq!(
            (ended.code, &said["error"]),
            (Some(exit::IO), &"io".into()),
            "{ended}"
        );
        said["changed"].clone()
    };
    assert_eq!(update("update count a incr 1 --type gcounter"), true);
    assert_eq!(node.count("count", "a"), 1);
    assert_eq!(update("update count a incr 0"), false);
    assert_eq!(update("get count a"), false);
    // For people the same is plain.
    assert_eq!(node.run(["get", "cart", "alice"]).done(), "a\nb\n");
}

/// The last line on stderr, behind the log: what a start failed with.
#[track_caller]
fn failure(ended: &Ended) -> Value {
    assert_eq!(ended.stdout, "", "{ended}");
    let last = ended.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {ended}"))
}

#[test]
fn a_start_that_fails_says_so_in_json() {
    let mut cluster = Cluster::start("json-start", 2);
    let said = |cluster: &Cluster, code: i32, name: &str| {
        let ended = cluster.nodes[1].run_to_end_in_json();
        assert_eq!(ended.code, Some(code), "{ended}");
        let said = failure(&ended);
        assert_eq!(
            (&said["error"], &said["retry"]),
            (&name.into(), &false.into()),
            "{said}"
        );
        said["message"].as_str().unwrap().to_string()
    };
    let taken = said(&cluster, exit::ADDRESS_IN_USE, "address_in_use");
    assert!(taken.contains(&cluster.nodes[1].quic), "{taken}");
    cluster.nodes[1].kill();
    // Somebody else has the directory.
    let data = cluster.nodes[0].data().to_str().unwrap().to_string();
    cluster.nodes[1].configure("data = \"data\"", &format!("data = {data:?}"));
    said(&cluster, exit::IN_USE, "in_use");
    let certificate = cluster.nodes[1].config.with_file_name("node.pem");
    std::fs::write(&certificate, "no certificate").unwrap();
    said(&cluster, exit::IDENTITY, "identity");
    cluster.nodes[1].configure("listen", "lissen");
    let wrong = said(&cluster, exit::CONFIG, "config");
    assert!(wrong.contains("lissen"), "{wrong}");

    // Of those who start nodes, too.
    let file = cluster.nodes[1].config.to_str().unwrap();
    for args in [
        ["up", "--nodes", "1", "--json", "--dir", file].as_slice(),
        &["dev", "--json", "--dir", file, "--", "true"],
    ] {
        let ended = anabranch(args.iter());
        let said = failure(&ended);
        assert!(ended.code.is_some_and(|code| code > exit::NO), "{ended}");
        assert!(
            said["message"]
                .as_str()
                .is_some_and(|message| message.contains(file)),
            "{said}"
        );
    }
    let ended = anabranch(["dev", "--json", "--", "no-such-command-at-all"]);
    assert_eq!(
        (ended.code, &failure(&ended)["error"]),
        (Some(exit::USAGE), &"usage".into()),
        "{ended}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let cluster = Cluster::start("pipe", 1);
    let node = &cluster.nodes[0];
    // More than a pipe holds.
    for key in 0..20 {
        let op = json!({"kind": "page", "key": key.to_string(), "op": "set", "value": "x".repeat(20_000), "type": "lwwregister"});
        node.updated(&json!({ "ops": [op] }));
    }
    let script = format!("{ANABRANCH} dump --at {} | head -n 1; echo $?", node.http);
    let mut shell = Process::start("sh", Command::new("sh").args(["-c", &script]));
    let ended = shell.wait();
    assert_eq!(
        (ended.stdout.lines().count(), ended.stderr.as_str()),
        (2, ""),
        "{ended}"
    );
    // One that has had enough of what goes on for ever, too.
    let script = format!("{ANABRANCH} watch page 0 --at {} | head -n 1; echo $?", node.http);
    let ended = Process::start("sh", Command::new("sh").args(["-c", &script])).wait();
    assert_eq!(
        (ended.stdout.lines().count(), ended.stderr.as_str()),
        (2, ""),
        "{ended}"
    );
}

#[test]
fn what_others_have_chosen_does_not_drive_the_terminal() {
    let cluster = Cluster::start("terminal", 1);
    let node = &cluster.nodes[0];
    let key = "k\u{1b}[2J\u{9b}2J\nline\t";
    let shown = "cart/k\\u{1b}[2J\\u{9b}2J\\nline\\t: done";
    let said = node
        .run(["update", "cart", key, "add", key, "--type", "orset"])
        .done();
    assert!(said.contains(shown), "{said:?}");
    let get = node.run(["get", "cart", key]).done();
    assert_eq!(get, "k\\u{1b}[2J\\u{9b}2J\\nline\\t\n");
    for args in [
        ["get", "other", key].as_slice(),
        &["update", "cart", key, "incr", "1"],
    ] {
        let ended = node.run(args);
        assert!(ended.stderr.contains("\\u{1b}[2J\\u{9b}2J"), "{ended:?}");
        let controls = |c: char| c.is_control() && c != '\n';
        assert!(!ended.stderr.contains(controls), "{ended:?}");
    }
}
