//! Commands at a node that hangs, or is not there: they end in time, and say what may have happened.

use std::time::{Duration, Instant};

use super::support::cluster::Cluster;
use super::support::exit;
use super::support::process::signal;

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
    signal(pid, "CONT");
    // Where nobody listens it is known that nothing happened.
    cluster.nodes[0].kill();
    for (command, _) in &COMMANDS[..4] {
        cluster.nodes[0]
            .run(*command)
            .failed(exit::UNREACHABLE, &["nothing was sent", "refused"]);
    }
}
