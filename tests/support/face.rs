//! One node as its users meet it: its addresses, and what can be asked of it.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::http::{self, Reply};
use super::process::Ended;
use super::{command, wait_for};

/// Where a node is.
#[derive(Clone, Debug)]
pub struct Face {
    pub name: String,
    pub quic: String,
    pub http: String,
    pub config: PathBuf,
}

impl Face {
    /// Runs a command that asks this node.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        let mut all: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_os_string()).collect();
        // What follows a bare `--` is taken as it is, so the address goes before it.
        let end = all.iter().position(|arg| arg == "--").unwrap_or(all.len());
        all.splice(end..end, ["--at".into(), self.http.as_str().into()]);
        command::anabranch(all)
    }

    /// Everything it holds, as `dump` prints it.
    #[track_caller]
    pub fn dump(&self) -> String {
        self.run(["dump"]).done()
    }

    /// What `/v1/status` says.
    #[track_caller]
    pub fn status(&self) -> Value {
        let reply = http::get(&self.http, "/v1/status").unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        serde_json::from_str(&reply.body).unwrap()
    }

    /// One member of the status that is a string.
    #[track_caller]
    pub fn status_text(&self, member: &str) -> String {
        self.status()[member].as_str().unwrap().to_string()
    }

    /// An entity's value; none if there is no such entity.
    #[track_caller]
    pub fn value(&self, kind: &str, key: &str) -> Option<Value> {
        let reply = http::get(&self.http, &entity_path("entities", kind, key)).unwrap();
        match reply.status {
            200 => Some(serde_json::from_str::<Value>(&reply.body).unwrap()["value"].clone()),
            404 => None,
            _ => panic!("{reply:?}"),
        }
    }

    /// A counter's value, 0 if there is none.
    #[track_caller]
    pub fn count(&self, kind: &str, key: &str) -> u64 {
        self.value(kind, key).map_or(0, |value| value.as_u64().unwrap())
    }

    /// Sends one batch.
    pub fn update(&self, batch: &Value) -> io::Result<Reply> {
        http::post(&self.http, "/v1/updates", &batch.to_string())
    }

    /// Adds to a counter and returns the answer.
    #[track_caller]
    pub fn increment(&self, kind: &str, key: &str, by: i64) -> Value {
        let op = json!({"kind": kind, "key": key, "op": "incr", "by": by, "type": "pncounter"});
        self.updated(&json!({ "ops": [op] }))
    }

    /// Sends one batch, which must be done, and returns the answer.
    #[track_caller]
    pub fn updated(&self, batch: &Value) -> Value {
        let reply = self.update(batch).unwrap();
        assert_eq!(reply.status, 200, "{batch}: {reply:?}");
        serde_json::from_str(&reply.body).unwrap()
    }

    /// Whether it takes writes. A node that does not answer does not.
    pub fn is_ready(&self) -> bool {
        http::get(&self.http, "/readyz/writes").is_ok_and(|reply| reply.status == 200)
    }

    /// Waits until it takes writes.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        wait_for(&format!("{} is ready", self.name), || {
            self.is_ready().then_some(())
        });
    }

    /// Waits until it sees a link to so many other nodes.
    #[track_caller]
    pub fn wait_for_links(&self, links: usize) {
        wait_for(&format!("{} has {links} links", self.name), || {
            let status = self.status();
            let members = status["members"].as_array().unwrap();
            (members
                .iter()
                .filter(|member| member["connected"] == true)
                .count()
                == links)
                .then_some(())
        });
    }
}

/// The path of an entity, percent-encoded.
pub fn entity_path(what: &str, kind: &str, key: &str) -> String {
    format!("/v1/{what}/{}/{}", encoded(kind), encoded(key))
}

fn encoded(segment: &str) -> String {
    let byte = |b: u8| {
        if b.is_ascii_alphanumeric() {
            char::from(b).to_string()
        } else {
            format!("%{b:02x}")
        }
    };
    segment.bytes().map(byte).collect()
}

/// The HTTP addresses of nodes, as `replay --to` takes them.
pub fn addresses<'a>(nodes: impl IntoIterator<Item = &'a Face>) -> String {
    nodes
        .into_iter()
        .map(|node| node.http.as_str())
        .collect::<Vec<_>>()
        .join(",")
}

/// All nodes hold the same: `verify` says so, and so do their dumps. Returns the dump.
#[track_caller]
pub fn agreed<'a>(nodes: impl IntoIterator<Item = &'a Face>) -> String {
    let nodes: Vec<&Face> = nodes.into_iter().collect();
    let mut args = vec!["verify", "--within", "180s"];
    args.extend(nodes.iter().map(|node| node.http.as_str()));
    command::anabranch(args).done();
    let dump = nodes[0].dump();
    for node in &nodes[1..] {
        assert_same(
            &node.dump(),
            &dump,
            &format!("{} and {}", node.name, nodes[0].name),
        );
    }
    dump
}

/// Compares two dumps and shows the first line in which they differ, not megabytes.
#[track_caller]
pub fn assert_same(got: &str, wanted: &str, what: &str) {
    if got == wanted {
        return;
    }
    let (mut left, mut right) = (got.lines(), wanted.lines());
    for number in 1.. {
        let (a, b) = (left.next(), right.next());
        assert_eq!(
            a,
            b,
            "{what}: line {number} of {} and {}",
            got.lines().count(),
            wanted.lines().count()
        );
        if a.is_none() {
            break;
        }
    }
    panic!("{what}: equal lines, different bytes");
}
