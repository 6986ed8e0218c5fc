//! `/metrics`: the node's status in Prometheus' text format.
//!
//! Written by hand: every number is already counted in `NodeStatus`, and a second registry beside it could disagree.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::App;
use crate::driver::DiskState;
use crate::node::NodeStatus;

/// Those of the status' numbers that go down, too.
const GAUGES: &[&str] = &[
    "idempotency_keys",
    "ring_slots",
    "shards_used",
    "unpersisted_bytes",
    "updates_waiting",
];

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = exposition(&app.node.status());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn exposition(status: &NodeStatus) -> String {
    let mut out = Text(String::new());
    let node = status.id.to_string();
    out.family(
        "anabranch_info",
        "gauge",
        "The node: its id, name, cluster and version.",
    );
    let labels = [
        ("id", node.as_str()),
        ("name", &status.name),
        ("cluster", &status.cluster),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    out.sample("anabranch_info", &labels, 1);
    for (name, help, value) in [
        (
            "anabranch_ready",
            "1 when the node takes writes.",
            u64::from(status.ready),
        ),
        (
            "anabranch_shards",
            "Shards of the cluster.",
            u64::from(status.shards),
        ),
        (
            "anabranch_entities",
            "Entities held by this node.",
            status.entities,
        ),
        (
            "anabranch_log_bytes",
            "Bytes of log that no snapshot covers yet.",
            status.log_bytes,
        ),
        (
            "anabranch_disk_full",
            "1 when the last commit found no room.",
            u64::from(is_full(&status.disk)),
        ),
        (
            "anabranch_disk_failed",
            "1 after a failed sync: restart the node.",
            u64::from(is_failed(&status.disk)),
        ),
    ] {
        out.family(name, "gauge", help);
        out.sample(name, &[], value);
    }
    members(&mut out, status);
    for (name, count) in &status.counters {
        let (kind, suffix, help) = if GAUGES.contains(name) {
            ("gauge", "", "As it is now.")
        } else {
            ("counter", "_total", "Counted since this start.")
        };
        let name = format!("anabranch_{}{suffix}", sanitized(name));
        out.family(&name, kind, help);
        out.sample(&name, &[], count);
    }
    out.0
}

fn members(out: &mut Text, status: &NodeStatus) {
    let members: Vec<_> = status
        .members
        .iter()
        .map(|member| (member.node.to_string(), member))
        .collect();
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(usize) -> Option<i128>| {
        out.family(name, kind, help);
        for (i, (peer, _)) in members.iter().enumerate() {
            if let Some(value) = value(i) {
                out.sample(name, &[("peer", peer)], value);
            }
        }
    };
    let connected = |i: usize| Some(i128::from(members[i].1.connected));
    each(
        "anabranch_peer_connected",
        "gauge",
        "1 while there is a link to the peer.",
        &connected,
    );
    let skew = |i: usize| members[i].1.clock_skew_ms.map(i128::from);
    each(
        "anabranch_peer_clock_skew_ms",
        "gauge",
        "How far the peer's clock is ahead, milliseconds.",
        &skew,
    );
    let sent = |i: usize| Some(i128::from(members[i].1.bytes_sent));
    each(
        "anabranch_peer_sent_bytes_total",
        "counter",
        "Bytes sent to the peer.",
        &sent,
    );
    let received = |i: usize| Some(i128::from(members[i].1.bytes_received));
    each(
        "anabranch_peer_received_bytes_total",
        "counter",
        "Bytes received from the peer.",
        &received,
    );
}

fn is_full(disk: &DiskState) -> bool {
    matches!(disk, DiskState::Full { .. })
}

fn is_failed(disk: &DiskState) -> bool {
    matches!(disk, DiskState::Failed { .. })
}

/// A metric's name: letters, digits and underscores.
fn sanitized(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

/// Prometheus' text format, growing.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let escaped = |text: &str| {
            text.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n")
        };
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        self.push(format_args!("{name}{labels} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        let written = self.0.write_fmt(text);
        assert!(written.is_ok(), "a String refused {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_escaped() {
        let mut out = Text(String::new());
        out.family("a", "gauge", "Help.");
        out.sample("a", &[("x", "q\"b\\n\n")], -3);
        out.sample("a", &[], 1);
        assert_eq!(
            out.0,
            "# HELP a Help.\n# TYPE a gauge\na{x=\"q\\\"b\\\\n\\n\"} -3\na 1\n"
        );
        assert_eq!(sanitized("frames.sent-total"), "frames_sent_total");
    }
}
