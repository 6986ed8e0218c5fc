//! `status`: a node, and its cluster as it sees it.

use super::super::api::{MemberBody, StatusBody};
use super::super::certificate;
use super::super::cli::Ask;
use super::super::exit::Failure;
use super::super::output::{self, plural};
use super::ANSWER_TIMEOUT;
use super::read::node;
use crate::driver::clock::wall_ms;
use crate::transport::Validity;

/// A clock further off than this is worth a word, milliseconds. A register's default clock is dragged no further.
const CLOCK_SKEW_MS_MAX: u64 = 500;

/// Prints one node's status.
pub async fn run(args: &Ask) -> Result<(), Failure> {
    let (client, at) = node(&args.target).await?;
    let timeout = args.timeout.unwrap_or(ANSWER_TIMEOUT);
    let status: StatusBody = client.get(&at, "/v1/status", timeout).await?;
    if args.target.json {
        output::object(&status)
    } else {
        output::line(&output::tame(&for_people(&status, &at)))
    }
}

fn for_people(status: &StatusBody, at: &str) -> String {
    let mut text = output::table(&about(status, at, wall_ms()));
    if status.members.is_empty() {
        text.push_str("\n\nno other nodes are known");
        return text;
    }
    let mut rows = vec![
        [
            "peer", "id", "link", "gossip", "clock", "sent", "received", "address",
        ]
        .map(String::from)
        .to_vec(),
    ];
    rows.extend(status.members.iter().map(member));
    text.push_str("\n\n");
    text.push_str(&output::table(&rows));
    for far in status.members.iter().filter(|m| {
        m.clock_skew_ms
            .is_some_and(|ms| ms.unsigned_abs() > CLOCK_SKEW_MS_MAX)
    }) {
        let (name, ms) = (
            far.name.as_deref().unwrap_or(&far.id),
            far.clock_skew_ms.unwrap_or(0),
        );
        text.push_str(&format!(
            "\nthe clock of {name} is {} ms {}: counters and sets do not mind, a register's default clock might, and \
             schedules go by the clock of the node that calls for them; set the machine's time",
            ms.unsigned_abs(),
            if ms > 0 { "ahead" } else { "behind" }
        ));
    }
    text
}

/// The node itself, a line each.
fn about(status: &StatusBody, at: &str, now_ms: u64) -> Vec<Vec<String>> {
    let ready = match (status.ready, status.store_reason.is_some()) {
        (_, true) => "takes no writes: see its store",
        (true, false) => "takes writes",
        (false, false) => "takes no writes yet: it has not caught up with a peer",
    };
    let store = match &status.store_reason {
        Some(reason) => format!("{}: {reason}", status.store),
        None => status.store.clone(),
    };
    let unsnapped = match &status.snapshot_error {
        Some(why) => format!(", which grows until a snapshot succeeds: {why}"),
        None => String::new(),
    };
    let row = |name: &str, text: String| vec![name.to_string(), text];
    let mut rows = vec![
        row(
            "node",
            format!(
                "{} ({}), process {}, version {}",
                status.node, status.id, status.pid, status.version
            ),
        ),
        row("cluster", format!("{} ({})", status.cluster, status.cluster_id)),
        row("state", ready.to_string()),
        row("addresses", format!("QUIC {}, HTTP {at}", status.quic)),
        row(
            "data",
            format!(
                "{} (directory {}, epoch {})",
                status.data, status.directory, status.epoch
            ),
        ),
        row(
            "store",
            format!("{store}; {} of log{unsnapped}", plural(status.log_bytes, "byte")),
        ),
        row(
            "entities",
            format!(
                "{} in {}",
                plural(status.entities, "entity"),
                plural(status.shards.into(), "shard")
            ),
        ),
    ];
    let ingress = status.ingress_certificate.map(|of| Validity {
        from_ms: of.valid_from_ms,
        until_ms: of.expires_ms,
    });
    for (name, validity) in [
        ("certificate", status.certificate_expires_ms.map(Validity::until)),
        ("ingress certificate", ingress),
    ] {
        let ending = validity.and_then(|validity| certificate::ending(validity, now_ms));
        rows.extend(ending.map(|ending| row(name, ending.words)));
    }
    rows
}

fn member(member: &MemberBody) -> Vec<String> {
    vec![
        member.name.clone().unwrap_or_else(|| "?".to_string()),
        member.id.clone(),
        if member.connected { "up" } else { "down" }.to_string(),
        member.hint.clone(),
        member
            .clock_skew_ms
            .map_or_else(|| "?".to_string(), |ms| format!("{ms:+} ms")),
        member.bytes_sent.to_string(),
        member.bytes_received.to_string(),
        member.addresses.join(" "),
    ]
}
