//! Commands at a node that hangs, or is not there: they end in time, and say what may have happened.

use std::time::{Duration, Instant};

use super::support::cluster::Cluster;
use super::support::command::anabranch;
use super::support::exit;
use super::support::process::signal;
use super::support::temp::TempDir;
use super::support::up::Up;

/// A command that waits for so long, and a machine that is busy.
const SOON: Duration = Duration::from_secs(15);

/// Commands, and what they say where it is not known whether the node did what it was asked.
const COMMANDS: [(&[&str], &str); 5] = [
    (
        &["update", "hits", "k", "incr", "1", "--type", "gcounter"],
        "may or may not have been made",
    ),
    (&["delete", "hits", "k"], "may or may not have been made"),
    (&["call", "hits", "k", "hit"], "may or may not have run"),
    (&["stream", "hits", "k", "show"], "may or may not have begun"),
    (&["get", "hits", "k"], "no answer within"),
];

#[test]
fn who_hangs_is_waited_for_as_long_as_was_said() {
    let mut cluster = Cluster::start("hanging", 1);
    let pid = cluster.nodes[0].process().pid();
    signal(pid, "STOP");
    for (command, said) in COMMANDS {
        let begun = Instant::now();
        let ended = cluster.nodes[0].run(command.iter().chain(&["--timeout", "500ms"]));
        ended.failed(exit::UNREACHABLE, &[said, "no answer within"]);
        assert!(begun.elapsed() < SOON, "{command:?}: {:?}", begun.elapsed());
    }
    let begun = Instant::now();
    let status = cluster.nodes[0].run(["status", "--timeout", "500ms"]);
    status.failed(exit::UNREACHABLE, &["no answer within 500ms"]);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    signal(pid, "CONT");
    // Where nobody listens it is known that nothing happened.
    cluster.nodes[0].kill();
    for (command, _) in &COMMANDS[..4] {
        cluster.nodes[0]
            .run(*command)
            .failed(exit::UNREACHABLE, &["nothing was sent", "refused"]);
    }
}

#[test]
fn verify_waits_no_longer_for_who_hangs_than_it_was_told_to() {
    let dir = TempDir::new("hanging-verify");
    let up = Up::start(dir.path(), 3);
    let stopped = &up.nodes[..2];
    stopped.iter().for_each(|node| signal(node.pid, "STOP"));
    let addresses: Vec<&str> = up.faces().map(|face| face.http.as_str()).collect();
    // The second one finds out who has left first.
    let dir = dir.path().to_str().unwrap();
    for more in [&addresses[..], &["--dir", dir]] {
        let begun = Instant::now();
        let verify = anabranch(["verify", "--within", "2s"].iter().chain(more));
        let took = begun.elapsed();
        verify.failed(exit::UNREACHABLE, &["cannot be reached: no answer within"]);
        assert!(took < Duration::from_secs(6), "{took:?}");
    }
    stopped.iter().for_each(|node| signal(node.pid, "CONT"));
}

#[test]
fn a_name_that_none_can_have_is_told_without_a_node() {
    let at = ["--at", "127.0.0.1:1"];
    for (line, said) in [
        (["get", "k", ""].as_slice(), "a key must have 1 to 1024 bytes"),
        (&["watch", "k", ""], "a key must have 1 to 1024 bytes"),
        (&["get", "", "a"], "a kind must have 1 to 128 bytes"),
        (&["update", "k", "", "create"], "a key must have 1 to 1024 bytes"),
        (&["delete", "", "a"], "a kind must have 1 to 128 bytes"),
        (&["call", "k", "", "show"], "a key must have 1 to 1024 bytes"),
        (&["call", "k", "a", ""], "a method's name is never empty"),
        (&["stream", "k", "", "show"], "a key must have 1 to 1024 bytes"),
        (&["schedule", "show", ""], "a key must have 1 to 1024 bytes"),
    ] {
        anabranch(line.iter().chain(&at)).failed(exit::INVALID, &[said]);
    }
}
