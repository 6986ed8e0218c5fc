//! A replay that was killed is run again: nothing counts twice, nothing is left out, everybody's order holds.

use std::process::Command;

use serde_json::Value;

use super::support::face::{addresses, agreed, assert_same};
use super::support::process::Process;
use super::support::temp::TempDir;
use super::support::up::Up;
use super::support::{ANABRANCH, history, wait_for};

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
