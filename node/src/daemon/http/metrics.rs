//! `/metrics`: the node's status in Prometheus' text format.
//!
//! Written by hand: every number is already counted in `NodeStatus`, and a second registry beside it could disagree.

mod help;

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use self::help::{
    Kind::{Counter, Gauge},
    help,
};
use super::App;
use super::error::Refusal;
use crate::daemon::process::Starts;
use crate::driver::{DiskState, MemberHint};
use crate::node::NodeStatus;
use crate::sidecar::Tls;

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    // The state is measured: aside, since that may take a moment.
    let node = app.node.clone();
    let expires_ms = app.certificate_expires_ms;
    let text = move || exposition(&node.status(), expires_ms, &node.state_bytes());
    let text = tokio::task::spawn_blocking(text);
    let mut text = text.await.map_err(|e| Refusal::internal(e.to_string()))?;
    text.push_str(&requests(&app));
    text.push_str(&ingress_certificate(app.ingress_tls.get()));
    if let Some(process) = app.process.get() {
        text.push_str(&starts(process.starts()));
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

fn exposition(
    status: &NodeStatus,
    certificate_expires_ms: u64,
    state_bytes: &BTreeMap<String, u64>,
) -> String {
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
    gauges(&mut out, status, certificate_expires_ms);
    members(&mut out, status);
    methods(&mut out, status);
    kinds(&mut out, status, state_bytes);
    for (name, count) in &status.counters {
        let (kind, help) = help(name);
        let (kind, suffix) = match kind {
            Gauge => ("gauge", ""),
            Counter => ("counter", "_total"),
        };
        let name = format!("anabranch_{}{suffix}", sanitized(name));
        out.family(&name, kind, help);
        out.sample(&name, &[], count);
    }
    out.0
}

/// The node's own numbers that are no counters.
fn gauges(out: &mut Text, status: &NodeStatus, certificate_expires_ms: u64) {
    for (name, help, value) in [
        (
            "anabranch_ready",
            "1 when the node takes writes.",
            u64::from(status.takes_writes()),
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
            "anabranch_snapshot_failed",
            "1 when the last snapshot that was tried has failed: the log grows until one succeeds.",
            u64::from(status.snapshot_error.is_some()),
        ),
        (
            "anabranch_disk_full",
            "1 when the last commit found no room.",
            u64::from(is_full(&status.disk)),
        ),
        (
            "anabranch_disk_refused",
            "1 when the system refused the last commit, and not for want of space.",
            u64::from(is_refused(&status.disk)),
        ),
        (
            "anabranch_disk_failed",
            "1 after a failed sync: restart the node.",
            u64::from(is_failed(&status.disk)),
        ),
        (
            "anabranch_certificate_expiry_timestamp_seconds",
            "When the node's certificate ends, seconds since 1970.",
            certificate_expires_ms / 1_000,
        ),
    ] {
        out.family(name, "gauge", help);
        out.sample(name, &[], value);
    }
}

fn members(out: &mut Text, status: &NodeStatus) {
    let members: Vec<_> = status
        .members
        .iter()
        .map(|member| (member.node.to_string(), member))
        .collect();
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(usize) -> Option<String>| {
        out.family(name, kind, help);
        for (i, (peer, _)) in members.iter().enumerate() {
            if let Some(value) = value(i) {
                out.sample(name, &[("peer", peer)], value);
            }
        }
    };
    // Who has left for good has no link that could be missing, and no clock that anybody looks at again.
    let is_member = |i: usize| members[i].1.connected || members[i].1.hint != MemberHint::Left;
    let connected = |i: usize| is_member(i).then(|| u8::from(members[i].1.connected).to_string());
    each(
        "anabranch_peer_connected",
        "gauge",
        "1 while there is a link to the peer; nothing of one that has left for good.",
        &connected,
    );
    let skew = |i: usize| {
        let ms = members[i].1.clock_skew_ms.filter(|_| is_member(i))?;
        Some((ms as f64 / 1_000.0).to_string())
    };
    each(
        "anabranch_peer_clock_skew_seconds",
        "gauge",
        "How far the clock of a peer that has a link is ahead, as far as that is known, seconds; behind: negative.",
        &skew,
    );
    let sent = |i: usize| Some(members[i].1.bytes_sent.to_string());
    each(
        "anabranch_peer_sent_bytes_total",
        "counter",
        "Bytes sent to the peer.",
        &sent,
    );
    let received = |i: usize| Some(members[i].1.bytes_received.to_string());
    each(
        "anabranch_peer_received_bytes_total",
        "counter",
        "Bytes received from the peer.",
        &received,
    );
}

/// A histogram of each method's latency, and its errors.
fn methods(out: &mut Text, status: &NodeStatus) {
    let seconds = |micros: u64| micros as f64 / 1e6;
    let name = "anabranch_function_seconds";
    out.family(name, "histogram", "From a call of a method here to its answer.");
    for of in &status.methods {
        let labels = [("kind", of.kind.as_str()), ("method", of.method.as_str())];
        let mut bucket = |end: &str, count: u64| {
            out.sample(
                &format!("{name}_bucket"),
                &[labels[0], labels[1], ("le", end)],
                count,
            );
        };
        for (end, count) in &of.within {
            bucket(&seconds(*end).to_string(), *count);
        }
        bucket("+Inf", of.calls);
        out.sample(&format!("{name}_sum"), &labels, seconds(of.micros));
        out.sample(&format!("{name}_count"), &labels, of.calls);
    }
    let name = "anabranch_function_errors_total";
    out.family(
        name,
        "counter",
        "Calls of a method here that ended with an error, refusals among them.",
    );
    for of in &status.methods {
        let labels = [("kind", of.kind.as_str()), ("method", of.method.as_str())];
        out.sample(name, &labels, of.errors);
    }
    let name = "anabranch_function_streams_total";
    out.family(
        name,
        "counter",
        "Streams of a method here that have ended, by how.",
    );
    for of in &status.methods {
        let labels = [("kind", of.kind.as_str()), ("method", of.method.as_str())];
        let well = of.streams - of.stream_errors.min(of.streams);
        for (how, count) in [("ok", well), ("error", of.stream_errors)] {
            out.sample(name, &[labels[0], labels[1], ("ended", how)], count);
        }
    }
}

/// How much there is of each kind with a function.
fn kinds(out: &mut Text, status: &NodeStatus, state_bytes: &BTreeMap<String, u64>) {
    let entities = "Entities of a kind with a function here.";
    // It is `Node::state_bytes`: what of a large state has changed much may be as an earlier scrape found it.
    let bytes = "Bytes of the state of a kind with a function here: keys, and values in canonical form.";
    for (name, help, of) in [
        ("anabranch_function_entities", entities, &status.function_entities),
        ("anabranch_function_state_bytes", bytes, state_bytes),
    ] {
        out.family(name, "gauge", help);
        for (kind, value) in of {
            out.sample(name, &[("kind", kind.as_str())], *value);
        }
    }
}

/// What was asked of this node over HTTP and gRPC. That is not all: functions call each other, and other nodes' are called here.
fn requests(app: &App) -> String {
    let mut out = Text(String::new());
    let name = "anabranch_http_requests_total";
    let help = "Requests to the admin API that were answered, and how the status began; of a watch or a stream, how it began.";
    out.family(name, "counter", help);
    for (operation, status, count) in app.requests.all() {
        out.sample(name, &[("operation", operation), ("status", status)], count);
    }
    let name = "anabranch_http_watches_open";
    out.family(
        name,
        "gauge",
        "Watches and streams that are open at the admin API.",
    );
    out.sample(
        name,
        &[],
        app.watches_max.saturating_sub(app.watches.available_permits()),
    );
    let name = "anabranch_ingress_requests_total";
    let help = "Requests to the ingress that were answered: ok, refused (4xx, or a code like it), failed (5xx); of a stream, how it began. Nothing where there is none.";
    out.family(name, "counter", help);
    let ingress = app.ingress_requests.get().map(|ingress| ingress.all());
    for (protocol, outcome, count) in ingress.into_iter().flatten() {
        out.sample(name, &[("protocol", protocol), ("outcome", outcome)], count);
    }
    out.0
}

/// A family of its own, beside the node's: the two are renewed by different people, and end with different words.
fn ingress_certificate(tls: Option<&Tls>) -> String {
    let mut out = Text(String::new());
    let name = "anabranch_ingress_certificate_expiry_timestamp_seconds";
    let help = "When the certificate ends that the ingress shows, seconds since 1970; nothing where it does not speak TLS.";
    out.family(name, "gauge", help);
    if let Some(tls) = tls {
        out.sample(name, &[], tls.validity().until_ms / 1_000);
    }
    out.0
}

/// A function's process: how often it was started, and how long that took.
fn starts(starts: Starts) -> String {
    let mut out = Text(String::new());
    let name = "anabranch_function_process_starts_total";
    out.family(
        name,
        "counter",
        "Starts of the function's process, until its port was open.",
    );
    out.sample(name, &[], starts.count);
    let name = "anabranch_function_process_start_seconds_total";
    out.family(name, "counter", "What all of them took together.");
    out.sample(name, &[], starts.total.as_secs_f64());
    let name = "anabranch_function_process_start_seconds";
    out.family(name, "gauge", "What the last of them took.");
    out.sample(name, &[], starts.last.as_secs_f64());
    out.0
}

fn is_full(disk: &DiskState) -> bool {
    matches!(disk, DiskState::Full { .. })
}

fn is_refused(disk: &DiskState) -> bool {
    matches!(disk, DiskState::Refused { .. })
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
