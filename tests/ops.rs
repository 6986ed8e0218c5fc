//! What is in `config/` for those who run nodes: the unit, the image, the pods, what is scraped and shown. Each says of the program
//! what is so.
//!
//! Not here: systemd, a container builder, a Kubernetes and a Grafana, which are not where the tests run. What was looked at by
//! hand, each file says itself.

mod image;
mod pods;
mod scraped;
mod unit;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::yaml;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The objects of config/kubernetes.yaml.
fn manifest() -> Vec<Value> {
    yaml::documents(&file("config/kubernetes.yaml"))
}

/// The one object of this kind and name.
#[track_caller]
fn object(manifest: &[Value], kind: &str, name: &str) -> Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let found: Vec<&Value> = manifest.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0].clone()
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

#[track_caller]
fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// The item of a list that has this name.
#[track_caller]
fn named<'a>(items: &'a Value, name: &str) -> &'a Value {
    let found = list(items).iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {items}"))
}

/// A constant of the sources that is a number of seconds.
#[track_caller]
fn seconds(path: &str, name: &str) -> u64 {
    let source = file(path);
    let start = format!("const {name}: Duration = Duration::from_secs(");
    let (_, rest) = source
        .split_once(&start)
        .unwrap_or_else(|| panic!("{path} has no {name} in seconds"));
    rest.split(')').next().unwrap().parse().unwrap()
}

/// How long a node's own waits take together, at the longest, once it is told to stop: one after the other, where some are at the
/// same time.
fn stop_seconds() -> u64 {
    let waits = [
        ("node/src/daemon/node_command.rs", "HTTP_DRAIN"),
        ("node/src/sidecar/ingress/mod.rs", "DRAIN"),
        // A function's command gets its time, and its minder the same again.
        ("node/src/daemon/process/minder.rs", "GRACE"),
        ("node/src/daemon/process/minder.rs", "GRACE"),
        ("node/src/daemon/process/run.rs", "OUTPUT_TIMEOUT"),
        ("node/src/daemon/process/outlet.rs", "END_TIMEOUT"),
        ("node/src/daemon/traces/export.rs", "FLUSH_TIMEOUT"),
        ("node/src/membership/limits.rs", "LEAVE_TIMEOUT"),
        ("node/src/transport/limits.rs", "DRAIN_TIMEOUT"),
        ("node/src/transport/limits.rs", "LEAVE_TIMEOUT"),
        ("node/src/transport/limits.rs", "SOCKET_CLOSE_WAIT"),
    ];
    waits.iter().map(|(path, name)| seconds(path, name)).sum()
}

/// The words behind the program's name must be a command with its options.
#[track_caller]
fn is_typed_rightly(words: &[&str]) {
    let help = super::support::command::anabranch([words[0], "--help"]).done();
    let known: Vec<&str> = help
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .collect();
    let options: Vec<&&str> = words.iter().filter(|word| word.starts_with('-')).collect();
    assert!(!options.is_empty(), "{words:?}");
    for option in options {
        assert!(known.contains(option), "{} has no {option}", words[0]);
    }
}
