//! Another history of the same form, with all that the real one does not have: odd names, files that shrink below
//! nothing, authors who add nothing or change nothing, letters that git seldom writes, clocks that tie and go back.

use super::support::command::anabranch;
use super::support::exit;
use super::support::face::{addresses, agreed, assert_same};
use super::support::history::{self, Event};
use super::support::random::Random;
use super::support::temp::TempDir;
use super::support::up::Up;

const EVENTS: usize = 500;
const PATHS: [&str; 16] = [
    "src/lib.rs",
    "src/Straße/漢字.rs",
    "with space and + plus",
    "quo\"ted\\and\\\\slashed",
    "tab\there",
    "line\nfeed\r",
    "bell\u{7}\u{8}\u{c}\u{1f}\u{7f}",
    "100%/%2F/%zz",
    "?query#fragment&a=b;c",
    ".",
    "..",
    "../../etc/passwd",
    "emoji 🦀 and e\u{301}",
    "é",
    "\u{10ffff}\u{e000}\u{2028}",
    "#tag#ged",
];

fn generate(seed: u64) -> Vec<Event> {
    let mut random = Random::new(seed);
    let mut authors: Vec<String> = (0..30).map(|n| format!("a{n:04}")).collect();
    authors.extend(["Ünï \"the\" \\author/", "7", "\u{1F980}"].map(String::from));
    (0..EVENTS)
        .map(|number| event(&mut random, &authors, number))
        .collect()
}

fn event(random: &mut Random, authors: &[String], number: usize) -> Event {
    // Few do most, as in real life.
    let index = random
        .below(authors.len() as u64)
        .min(random.below(authors.len() as u64));
    let author = authors[index as usize].clone();
    let changes = (0..random.below(6)).map(|_| {
        let path = format!("{}{}", random.one(&PATHS), random.one(&["", "", "/b", "\u{300}"]));
        // Those with an odd index never add.
        let statuses: &[&str] = if index % 2 == 1 {
            &["M", "D", "T"]
        } else {
            &["A", "A", "D", "M", "T", "R100"]
        };
        let plus = random.below(50) as i64;
        (
            random.one(statuses).to_string(),
            path,
            plus,
            random.below(90) as i64,
        )
    });
    let changes = changes.collect();
    // Many in the same second, some long before.
    let at = if random.below(8) == 0 {
        random.below(3)
    } else {
        1_000 + number as u64 / 20
    };
    Event {
        commit: format!("{:08x}", random.next() as u32),
        at,
        author,
        changes,
    }
}

#[test]
fn an_event_may_change_thousands_of_files() {
    let change = |n: usize| {
        (
            "A".to_string(),
            format!("vendor/of/some/depth/file-{n}.rs"),
            n as i64,
            0,
        )
    };
    let event = |commit: &str, at: u64, changes: usize| Event {
        commit: commit.to_string(),
        at,
        author: "a".to_string(),
        changes: (0..changes).map(change).collect(),
    };
    let events = [
        event("small", 1, 1),
        event("large", 2, 5_000),
        event("after", 3, 2),
    ];
    let dir = TempDir::new("large-event");
    let file = dir.write("history.jsonl", history::write(&events));
    let up = Up::start(&dir.join("cluster"), 2);
    anabranch(["replay", file.to_str().unwrap(), "--to", &addresses(up.faces())]).done();
    assert_same(&agreed(up.faces()), &history::truth(&events), "two nodes");
}

#[test]
fn whatever_a_line_may_hold_can_be_sent() {
    let change = |path: String| ("A".to_string(), path, 1, 0);
    let event = |commit: &str, changes: Vec<_>| Event {
        commit: commit.to_string(),
        at: 1,
        author: commit.to_string(),
        changes,
    };
    // Some vendored tree: 40,000 files; and one of long names that need escapes.
    let many = (0..40_000).map(|n| change(format!("{n}"))).collect();
    let long = (0..10_000)
        .map(|n| change(format!("{n:07}\t{}", "/long".repeat(200))))
        .collect();
    let events = [event("many", many), event("long", long), event("after", vec![])];
    let text = history::write(&events);
    assert!(text.len() > 10 << 20, "{}", text.len());
    let dir = TempDir::new("largest-events");
    let file = dir.write("history.jsonl", text);
    let up = Up::start(&dir.join("cluster"), 2);
    // On a slow machine the one large update takes longer than a node is waited for otherwise.
    let to = addresses(up.faces());
    anabranch(["replay", file.to_str().unwrap(), "--to", &to, "--wait", "10m"]).done();
    assert_same(&agreed(up.faces()), &history::truth(&events), "two nodes");
}

#[test]
fn a_line_too_large_for_one_update_is_a_bad_line() {
    let dir = TempDir::new("too-large-events");
    let up = Up::start(&dir.join("cluster"), 1);
    // Fourteen bytes a change: more of them than one update takes fit a line.
    let many = r#"["A","x",1,0],"#.repeat(400_000);
    let line = |changes: &str| format!(r#"{{"commit":"c","at":1,"author":"a","changes":[{changes}]}}"#);
    let file = dir.write(
        "history.jsonl",
        format!("{}\n{}\n", line(many.trim_end_matches(',')), line("")),
    );
    let args = ["replay", file.to_str().unwrap(), "--to", &addresses(up.faces())];
    let said = ["history.jsonl:1: ", "400000 changes", "349524"];
    anabranch(args).failed(exit::HISTORY, &said);
    assert_eq!(up.nodes[0].face.dump(), "");
    anabranch(args.iter().chain(&["--on-bad-line", "skip"])).done();
    assert_eq!(up.nodes[0].face.count("commits", "all"), 1);
}

#[test]
fn another_history_comes_to_what_the_model_says() {
    let events = generate(0x5eed);
    let truth = history::truth(&events);
    assert!(truth.contains("\"value\":-"), "no file shrinks below nothing");
    assert!(truth.contains("\"value\":[]"), "everybody owns something");

    let dir = TempDir::new("generated-history");
    let file = dir.write("history.jsonl", history::write(&events));
    let up = Up::start(&dir.join("cluster"), 3);
    let report = anabranch(["replay", file.to_str().unwrap(), "--to", &addresses(up.faces())]).done();
    let summary = report.lines().last().unwrap();
    assert!(
        summary.starts_with("500 events ("),
        "for people the last line is a summary: {report}"
    );
    assert_same(&agreed(up.faces()), &truth, "three nodes");

    // What is odd to type is not odd to the commands.
    for (kind, key) in [
        ("lines", "quo\"ted\\and\\\\slashed"),
        ("touched", "line\nfeed\r"),
        ("lines", ".."),
    ] {
        let line = up.nodes[0].face.run(["get", kind, key, "--json"]).done();
        assert!(truth.contains(&line), "{line}");
    }
}
