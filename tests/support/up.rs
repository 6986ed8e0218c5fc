//! `up` as a program uses it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::ANABRANCH;
use super::face::Face;
use super::process::Process;

/// A running `up --json`.
pub struct Up {
    pub process: Process,
    /// In the order of their names.
    pub nodes: Vec<Node>,
}

/// One of its nodes.
pub struct Node {
    pub face: Face,
    pub pid: u32,
}

impl Up {
    /// Starts it and reads one object for each node.
    pub fn start(dir: &Path, count: usize) -> Up {
        let mut process = Process::start("up", &mut command(dir, count));
        let mut nodes: Vec<Node> = (0..count).map(|_| ready(&mut process)).collect();
        nodes.sort_by(|a, b| a.face.name.cmp(&b.face.name));
        let names: Vec<&str> = nodes.iter().map(|node| node.face.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3", "n4", "n5"][..count]);
        Up { process, nodes }
    }

    /// The nodes as their users meet them.
    pub fn faces(&self) -> impl Iterator<Item = &Face> {
        self.nodes.iter().map(|node| &node.face)
    }
}

/// `up --json`, not started.
pub fn command(dir: &Path, count: usize) -> Command {
    let mut command = Command::new(ANABRANCH);
    command
        .args(["up", "--json", "--nodes", &count.to_string(), "--dir"])
        .arg(dir);
    command
}

fn ready(process: &mut Process) -> Node {
    let line = process
        .stdout
        .next()
        .unwrap_or_else(|| panic!("`up` ended:\n{}", process.stderr.text()));
    let object: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
    let members: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["config", "http", "node", "pid", "quic"],
        "exactly these: {line}"
    );
    let text = |name: &str| {
        object[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name} in {line}"))
            .to_string()
    };
    let face = Face {
        name: text("node"),
        quic: text("quic"),
        http: text("http"),
        config: text("config").into(),
    };
    assert!(face.config.is_absolute() && face.config.is_file(), "{line}");
    Node {
        face,
        pid: u32::try_from(object["pid"].as_u64().unwrap()).unwrap(),
    }
}
