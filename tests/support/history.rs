//! Histories of changes, and what a cluster must hold once one was replayed.
//!
//! The model says the same as the truth file beside the real history, in other words than the product: it knows no
//! dots, no clocks and no nodes, only the file's order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    pub commit: String,
    pub at: u64,
    pub author: String,
    /// Status, path, lines added, lines deleted.
    pub changes: Vec<(String, String, i64, i64)>,
}

/// The real history.
pub fn real() -> PathBuf {
    data("quinn-history.jsonl")
}

/// What it comes to.
pub fn real_truth() -> String {
    std::fs::read_to_string(data("quinn-history.truth.jsonl")).unwrap()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(name)
}

/// Reads the first events of a file.
pub fn read(path: &Path, count: usize) -> Vec<Event> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().take(count).map(event).collect()
}

fn event(line: &str) -> Event {
    let value: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let number = |value: &Value| value.as_i64().unwrap();
    let change = |c: &Value| (text(&c[0]), text(&c[1]), number(&c[2]), number(&c[3]));
    Event {
        commit: text(&value["commit"]),
        at: value["at"].as_u64().unwrap(),
        author: text(&value["author"]),
        changes: value["changes"].as_array().unwrap().iter().map(change).collect(),
    }
}

/// A history as a file has it.
pub fn write(events: &[Event]) -> String {
    let line = |e: &Event| {
        json!({"commit": e.commit, "at": e.at, "author": e.author, "changes": e.changes}).to_string()
    };
    events.iter().map(|event| line(event) + "\n").collect()
}

/// What every node must hold: one line an entity.
pub fn truth(events: &[Event]) -> String {
    let mut lines: BTreeMap<&str, i64> = BTreeMap::new();
    let mut touched: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut owned: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut last: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for event in events {
        for (status, path, plus, minus) in &event.changes {
            *lines.entry(path).or_default() += plus - minus;
            touched.entry(path).or_default().insert(&event.author);
            let mine = owned.entry(&event.author).or_default();
            match status.as_str() {
                "A" => drop(mine.insert(path)),
                "D" => drop(mine.remove(path.as_str())),
                _ => {}
            }
        }
        let latest = last.entry(&event.author).or_insert((event.at, &event.commit));
        if event.at >= latest.0 {
            *latest = (event.at, &event.commit);
        }
    }
    let mut out = String::new();
    let mut line = |kind: &str, key: &str, value: String| {
        writeln!(
            out,
            "{{\"kind\":{},\"key\":{},\"value\":{value}}}",
            text(kind),
            text(key)
        )
        .unwrap();
    };
    // Kinds in their order; a map of strings is sorted by bytes.
    if !events.is_empty() {
        line("commits", "all", events.len().to_string());
    }
    last.iter()
        .for_each(|(author, (_, commit))| line("last", author, text(commit)));
    lines
        .iter()
        .for_each(|(path, sum)| line("lines", path, sum.to_string()));
    owned
        .iter()
        .for_each(|(author, paths)| line("owned", author, array(paths)));
    touched
        .iter()
        .for_each(|(path, authors)| line("touched", path, array(authors)));
    out
}

fn array(elements: &BTreeSet<&str>) -> String {
    format!(
        "[{}]",
        elements
            .iter()
            .map(|element| text(element))
            .collect::<Vec<_>>()
            .join(",")
    )
}

/// A JSON string with no escape that is not needed.
fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).unwrap(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[test]
fn the_model_says_of_the_real_history_what_its_truth_file_says() {
    let events = read(&real(), usize::MAX);
    assert_eq!(events.len(), 4_231);
    assert!(truth(&events) == real_truth());
}
