//! Presence, as its README section has it: real nodes, some of which die, and real clients, some of which go away.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::functions::example;
use super::support::cluster::Cluster;
use super::support::exit;
use super::support::face::Face;
use super::support::http;
use super::support::process::Process;
use super::support::wait_for;

/// A client that keeps a stream of the lobby open.
struct Client(Process);

impl Client {
    fn start(program: &Path, node: &Face, method: &[&str]) -> Client {
        let mut command = Command::new(program);
        command
            .args(["stream", "presence", "lobby"])
            .args(method)
            .args(["--at", &node.http]);
        Client(Process::start(
            format!("{method:?} at {}", node.name),
            &mut command,
        ))
    }

    fn attend(program: &Path, node: &Face, who: &str) -> Client {
        Client::start(program, node, &["attend", &format!("{who:?}")])
    }

    /// Waits until it ends, which it does with this.
    #[track_caller]
    fn ends(&mut self, code: i32, why: &str) {
        let ended = self.0.wait();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }

    /// Waits until it says that these are there.
    #[track_caller]
    fn sees(&mut self, who: &[&str]) {
        self.0.stdout.until(&serde_json::to_string(who).unwrap());
    }
}

/// Who is there, for somebody who asks once.
fn who(node: &Face) -> Value {
    let reply = http::post(&node.http, "/v1/call/presence/lobby/who", "").unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

fn started(name: &str) -> (PathBuf, Cluster) {
    let program = example("presence");
    let cluster = Cluster::prepare_relayed(name, 3).with_program(&program).started();
    (program, cluster)
}

#[test]
fn who_goes_is_gone_everywhere_and_so_are_those_of_a_node_that_dies() {
    let (program, mut cluster) = started("presence");
    let mut here = Client::start(&program, &cluster.nodes[2], &["who"]);
    here.sees(&[]);
    let alice = Client::attend(&program, &cluster.nodes[0], "alice");
    here.sees(&["alice"]);
    let mut bob = Client::attend(&program, &cluster.nodes[1], "bob");
    here.sees(&["alice", "bob"]);
    bob.sees(&["alice", "bob"]);
    // A client that is killed says no goodbye; its connection ends all the same.
    drop(alice);
    here.sees(&["bob"]);
    bob.sees(&["bob"]);
    let mut alice = Client::attend(&program, &cluster.nodes[0], "alice");
    alice.sees(&["alice", "bob"]);
    here.sees(&["alice", "bob"]);
    cluster.nodes[0].kill();
    here.sees(&["bob"]);
    bob.sees(&["bob"]);
    alice.ends(exit::UNREACHABLE, "broke off");
    // It comes back without those who were there by it.
    cluster.nodes[0].start_ready();
    let mut back = Client::start(&program, &cluster.nodes[0], &["who"]);
    back.sees(&["bob"]);
    let _carol = Client::attend(&program, &cluster.nodes[0], "carol");
    for client in [&mut back, &mut here, &mut bob] {
        client.sees(&["bob", "carol"]);
    }
}

#[test]
fn a_node_that_is_only_thought_dead_brings_its_own_back() {
    let (program, cluster) = started("presence-suspected");
    let mut here = Client::start(&program, &cluster.nodes[0], &["who"]);
    let mut bob = Client::attend(&program, &cluster.nodes[2], "bob");
    here.sees(&["bob"]);
    cluster.network().cut_off(2);
    here.sees(&[]);
    assert_eq!(who(&cluster.nodes[2]), serde_json::json!(["bob"]), "he is there");
    let _alice = Client::attend(&program, &cluster.nodes[1], "alice");
    here.sees(&["alice"]);
    cluster.network().heal();
    here.sees(&["alice", "bob"]);
    bob.sees(&["alice", "bob"]);
}

#[test]
fn a_rolling_restart_leaves_no_ghosts() {
    let (program, mut cluster) = started("presence-rolling");
    let mut clients: Vec<Client> = (0..3)
        .map(|i| Client::attend(&program, &cluster.nodes[i], &format!("of {i}")))
        .collect();
    for client in &mut clients {
        client.sees(&["of 0", "of 1", "of 2"]);
    }
    for (i, mut client) in clients.into_iter().enumerate() {
        cluster.nodes[i].stop();
        client.ends(exit::STOPPING, "has stopped");
        cluster.nodes[i].start_ready();
    }
    for i in 0..3 {
        let node = &cluster.nodes[i];
        wait_for("nobody is there", || {
            (who(node) == serde_json::json!([])).then_some(())
        });
    }
    // The next to come in by a node takes what is left of its earlier runs with him, and of no other's.
    let mut last = Client::attend(&program, &cluster.nodes[0], "last");
    last.sees(&["last"]);
    let kept = cluster.nodes[0].value("presence", "lobby").unwrap();
    assert_eq!(kept.as_object().unwrap().len(), 3, "{kept}");
}

#[test]
fn a_page_follows_a_query_and_nothing_that_changes_anything() {
    let (_, cluster) = started("presence-http");
    let node = &*cluster.nodes[0];
    let mut lines = http::lines(&node.http, "/v1/stream/presence/lobby/who").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "data: []");
    for (path, status) in [
        ("attend?argument=%22eve%22", 400),
        ("enter", 400),
        ("nothing", 404),
    ] {
        let path = format!("/v1/stream/presence/lobby/{path}");
        let reply = http::get(&node.http, &path).unwrap();
        assert_eq!(reply.status, status, "{reply:?}");
    }
    let reply = http::post(&node.http, "/v1/stream/presence/lobby/enter", "null").unwrap();
    assert!(
        reply.status == 400 && reply.body.contains("answered once"),
        "{reply:?}"
    );
    let reply = http::post(&node.http, "/v1/call/presence/lobby/attend", "\"eve\"").unwrap();
    assert!(reply.status == 400 && reply.body.contains("opened"), "{reply:?}");
}
