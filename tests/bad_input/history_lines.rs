//! Lines of a history that are none: the number and what is wrong, and nothing of that line is done.

use crate::support::cluster::Cluster;
use crate::support::command::anabranch;
use crate::support::exit;
use crate::support::face::{Face, addresses, agreed, assert_same};
use crate::support::history;
use crate::support::process::Ended;
use crate::support::temp::TempDir;

const GOOD: usize = 40;

/// A line that is no event, and what is said about it.
const BAD: [(&str, &str); 9] = [
    ("", "empty"),
    ("{", "EOF"),
    ("not json at all", "expected"),
    (r#"["c",1,"zzz",[]]"#, "expected an object"),
    (r#"{"commit":"c","at":1,"author":"zzz"}"#, "changes"),
    (r#"{"commit":"c","at":-1,"author":"zzz","changes":[]}"#, "-1"),
    (r#"{"commit":"c","at":1,"author":"","changes":[]}"#, "author"),
    (
        r#"{"commit":"c","at":1,"author":"zzz","changes":[["A","good",1,0],["A","",1,0]]}"#,
        "change 2",
    ),
    (
        r#"{"commit":"c","at":1,"author":"zzz","changes":[["A","good",1]]}"#,
        "an array of its status, path",
    ),
];

#[test]
fn a_bad_line_stops_the_replay_or_is_skipped() {
    let events = history::read(&history::real(), GOOD);
    let lines: Vec<String> = history::write(&events).lines().map(str::to_string).collect();
    let dir = TempDir::new("bad-lines");
    let cluster = Cluster::start("bad-lines", 1);
    for (i, (bad, said)) in BAD.into_iter().enumerate() {
        let text = |at: usize| format!("{}\n{bad}\n{}\n", lines[..at].join("\n"), lines[at..].join("\n"));
        let file = dir.write(&format!("history-{i}.jsonl"), text(GOOD / 2));
        let place = format!("{}:{}: ", file.display(), GOOD / 2 + 1);
        replay(&cluster.nodes[0], &file, &[]).failed(exit::HISTORY, &[&place, said, "nothing of this line"]);
    }
    // Each file counts by itself, and what stood before the bad line was done; of the line itself nothing.
    let node = &cluster.nodes[0];
    assert_eq!(node.count("commits", "all"), (BAD.len() * GOOD / 2) as u64);
    assert_eq!(
        (node.value("lines", "good"), node.value("last", "zzz")),
        (None, None)
    );
}

#[test]
fn bad_lines_are_skipped_when_that_is_said() {
    let events = history::read(&history::real(), GOOD);
    let mut lines: Vec<String> = history::write(&events).lines().map(str::to_string).collect();
    BAD.into_iter()
        .enumerate()
        .for_each(|(i, (bad, _))| lines.insert(i * 3, bad.to_string()));
    let cluster = Cluster::start("skipped-lines", 2);
    let file = cluster.dir.write("history.jsonl", lines.join("\n"));
    let to = addresses(cluster.faces());
    let args = [
        "replay",
        file.to_str().unwrap(),
        "--to",
        &to,
        "--on-bad-line",
        "skip",
        "--json",
    ];
    let ended = anabranch(args);
    for (i, (_, said)) in BAD.into_iter().enumerate() {
        let place = format!("{}:{}: ", file.display(), i * 3 + 1);
        assert!(
            ended
                .stderr
                .lines()
                .any(|line| line.contains(&place) && line.contains(said)),
            "{place}{said}: {ended}"
        );
    }
    let report: serde_json::Value = serde_json::from_str(&ended.done()).unwrap();
    assert_eq!(
        (report["events"].as_u64(), report["bad_lines"].as_u64()),
        (Some(GOOD as u64), Some(BAD.len() as u64))
    );
    assert_same(
        &agreed(cluster.faces()),
        &history::truth(&events),
        "the good lines",
    );
}

#[test]
fn a_line_that_a_node_refuses_is_refused_whole() {
    let events = history::read(&history::real(), 1);
    let path = events[0].changes[1].1.as_str();
    let dir = TempDir::new("refused-line");
    let file = dir.write("history.jsonl", history::write(&events));
    let mut cluster = Cluster::prepare("refused-line", 1);
    // One of the kinds that the line needs has another type here.
    cluster.nodes[0].configure("[http]", "[kinds]\ntouched = \"gcounter\"\n[http]");
    cluster.start_all();
    let node = &cluster.nodes[0];
    let place = format!("{}:1: ", file.display());
    replay(node, &file, &[]).failed(exit::WRONG_TYPE, &[&place, "touched", "gcounter"]);
    assert_eq!((node.value("lines", path), node.dump().as_str()), (None, ""));
}

/// A line of this author; with a change it needs a kind that has another type where it is sent.
fn line(commit: &str, author: &str, refused: bool) -> String {
    let changes = if refused { r#"["M","x",1,0]"# } else { "" };
    format!(r#"{{"commit":"{commit}","at":1,"author":"{author}","changes":[{changes}]}}"#)
}

#[test]
fn a_line_that_a_node_refuses_stops_the_replay_there() {
    let mut cluster = Cluster::prepare("refused-stops", 1);
    cluster.nodes[0].configure("[http]", "[kinds]\ntouched = \"gcounter\"\n[http]");
    cluster.start_all();
    let node = &cluster.nodes[0];
    // One of them is refused; before it and behind it much else, also of the same author.
    let mut lines = Vec::new();
    for i in 0..200 {
        lines.push(line(&format!("a{i}"), "a", i == 20));
        lines.push(line(&format!("b{i}"), "b", false));
        lines.push(line(&format!("c{i}"), &format!("c{i}"), false));
    }
    let file = cluster.dir.write("history.jsonl", lines.join("\n"));
    let place = format!("{}:61: ", file.display());
    let ended = replay(node, &file, &[]);
    assert!(!ended.stderr.contains("the events before it were."), "{ended}");
    let said = [
        place.as_str(),
        "touched",
        "nothing later of its author",
        "may have been applied",
    ];
    ended.failed(exit::WRONG_TYPE, &said);
    // Nothing that its author did later stands there without what was refused.
    assert_eq!(node.value("last", "a"), Some("a19".into()));
    assert_ne!(node.value("last", "b"), Some("b199".into()));
    let commits = node.count("commits", "all");
    assert!((20..500).contains(&commits), "{commits} commits");

    // Skipped, it is reported, and everybody goes on.
    let ended = replay(node, &file, &["--on-bad-line", "skip", "--json"]);
    assert!(ended.stderr.contains(&place), "{ended}");
    let report: serde_json::Value = serde_json::from_str(&ended.done()).unwrap();
    assert_eq!(
        (&report["events"], &report["bad_lines"]),
        (&599.into(), &1.into())
    );
    assert_eq!(node.value("last", "a"), Some("a199".into()));

    // Of several that are refused in one moment the first one is named, whichever answer comes first.
    let refused: Vec<String> = (0..40).map(|i| line("c", &format!("d{i}"), true)).collect();
    let file = cluster.dir.write("refused.jsonl", refused.join("\n"));
    replay(&cluster.nodes[0], &file, &[]).failed(exit::WRONG_TYPE, &["refused.jsonl:1: "]);
}

#[test]
fn a_history_that_is_not_there_is_named() {
    let cluster = Cluster::start("no-history", 1);
    let missing = cluster.dir.join("nothing.jsonl");
    replay(&cluster.nodes[0], &missing, &[]).failed(exit::IO, &[missing.to_str().unwrap(), "No such file"]);
    for odd in [std::path::Path::new("/dev/stdin"), cluster.dir.path()] {
        replay(&cluster.nodes[0], odd, &[])
            .failed(exit::USAGE, &[odd.to_str().unwrap(), "not a regular file"]);
    }
    let empty = cluster.dir.write("empty.jsonl", "");
    replay(&cluster.nodes[0], &empty, &[]).done();
    assert_eq!(cluster.nodes[0].dump(), "");
}

fn replay(node: &Face, file: &std::path::Path, more: &[&str]) -> Ended {
    let args = ["replay", file.to_str().unwrap(), "--to", &node.http];
    anabranch(args.into_iter().chain(more.iter().copied()))
}
