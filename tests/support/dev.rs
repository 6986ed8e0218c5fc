//! `dev` as a program uses it. What is of its nodes is read where it is kept: whether a function is found is not waited for.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::ANABRANCH;
use super::face::Face;
use super::process::Process;
use super::temp::TempDir;

/// A running `dev --json`.
pub struct Dev {
    pub process: Process,
    dir: PathBuf,
}

/// One of its nodes.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub face: Face,
    pub ingress: Option<SocketAddr>,
    /// The function's port.
    pub function: Option<u16>,
}

impl Dev {
    /// Starts it in a directory, with its data in `cluster` beneath.
    pub fn start(dir: &TempDir, count: usize, function: &[&str]) -> Dev {
        let cluster = dir.join("cluster");
        let mut command = Command::new(ANABRANCH);
        command
            .args(["dev", "--json", "--nodes", &count.to_string(), "--dir"])
            .arg(&cluster)
            .arg("--")
            .args(function)
            .current_dir(dir.path());
        Dev {
            process: Process::start("dev", &mut command),
            dir: cluster,
        }
    }

    /// Its nodes, as its directory has them.
    pub fn nodes(&self) -> Vec<Node> {
        let text = fs::read_to_string(self.dir.join("cluster.json")).unwrap();
        let cluster: Value = serde_json::from_str(&text).unwrap();
        let nodes = cluster["nodes"].as_array().unwrap();
        nodes.iter().map(|node| self.node(node)).collect()
    }

    fn node(&self, node: &Value) -> Node {
        let text = |member: &str| node[member].as_str().unwrap_or_default().to_string();
        let address = |member: &str| {
            node[member]
                .as_str()
                .map(|text| text.parse::<SocketAddr>().unwrap())
        };
        Node {
            name: text("name"),
            face: Face {
                name: text("name"),
                quic: text("quic"),
                http: text("http"),
                config: self.dir.join(text("name")).join("node.toml"),
            },
            ingress: address("ingress"),
            function: address("function").map(|address| address.port()),
        }
    }
}
