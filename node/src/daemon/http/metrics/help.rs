//! What each number of the status is, for whoever reads `/metrics`.

/// What each of the status' numbers is: whether it goes down, too, and what it counts.
const HELP: &[(&str, Kind, &str)] = &[
    ("batches_sent", Counter, "Batches of operations sent to peers."),
    (
        "clock_skew_links",
        Counter,
        "Links that came up with a clock more than 500 ms ahead of this node's.",
    ),
    (
        "connections_refused",
        Counter,
        "Incoming connections that did not become a link, whatever the reason.",
    ),
    (
        "connections_refused_of_source",
        Counter,
        "Those of them refused because their address had too many handshakes open already.",
    ),
    (
        "fenced",
        Counter,
        "Epochs refused: this node's by a peer, or a peer's by this node.",
    ),
    (
        "lost_runs",
        Counter,
        "Runs of this node that peers know of and its directory does not: an older copy, or a disk that has lost what was durable.",
    ),
    (
        "fingerprint_mismatches",
        Counter,
        "Peers that had seen the same operations and held something else: damage.",
    ),
    (
        "frames_skipped",
        Counter,
        "Frames of a kind that this version does not know.",
    ),
    (
        "gaps",
        Counter,
        "Batches that began behind what was here, so that the rest was asked for.",
    ),
    (
        "gossip_dropped",
        Counter,
        "Messages of gossip that had no link or no room.",
    ),
    (
        "gossip_ids",
        Gauge,
        "Nodes, and earlier lives of them, that gossip knows now, this one among them.",
    ),
    (
        "gossip_refused",
        Counter,
        "Parts of gossip left out because they made no sense or found no room.",
    ),
    (
        "gossip_revivals",
        Counter,
        "How often gossip had ended and was started again.",
    ),
    ("held", Counter, "Batches that waited for what they depend on."),
    ("idempotency_keys", Gauge, "Idempotency keys remembered."),
    (
        "no_room",
        Counter,
        "News not taken because too much waited for the disk.",
    ),
    ("operations_received", Counter, "Operations taken from peers."),
    (
        "pulls_sent",
        Counter,
        "Requests for operations that were missing here.",
    ),
    (
        "pulls_served",
        Counter,
        "Such requests of peers answered with operations.",
    ),
    (
        "pulls_timed_out",
        Counter,
        "Such requests that were not answered in time.",
    ),
    (
        "refused_frames",
        Counter,
        "Frames that broke the protocol; the link was closed.",
    ),
    (
        "ring_slots",
        Gauge,
        "Operations kept for peers that may lack them.",
    ),
    ("shards_used", Gauge, "Shards that anything was ever written to."),
    ("snapshots_installed", Counter, "Shards taken whole from a peer."),
    (
        "snapshots_refused",
        Counter,
        "Shards not sent whole because too many were being sent.",
    ),
    (
        "snapshots_served",
        Counter,
        "Shards that were begun to be sent whole to a peer.",
    ),
    (
        "snapshots_too_large",
        Counter,
        "Shards not taken whole because they exceed limits.staged_bytes_max.",
    ),
    (
        "stale_frames",
        Counter,
        "Frames of links or epochs that are over, dropped unread.",
    ),
    (
        "triggers",
        Counter,
        "Times of schedules, and changes to be told of, that this node saw to.",
    ),
    (
        "triggers_unanswered",
        Counter,
        "Those of them that were not answered, and are seen to again.",
    ),
    (
        "udp_bytes_received",
        Counter,
        "Bytes of UDP payload received from peers: all of QUIC.",
    ),
    (
        "udp_bytes_sent",
        Counter,
        "Bytes of UDP payload sent to peers: all of QUIC.",
    ),
    (
        "unpersisted_bytes",
        Gauge,
        "Bytes of records handed to the log and not durable yet.",
    ),
    (
        "requests_waiting_for_session",
        Gauge,
        "Updates and reads that wait for what their session has seen.",
    ),
    (
        "commands_waiting",
        Gauge,
        "Commands that wait for their entity's function, or are being answered.",
    ),
    (
        "function_cold_starts",
        Counter,
        "Commands whose entity had no session with its function, so that one was begun; all others found one.",
    ),
    (
        "streams_open",
        Gauge,
        "Streams of functions that are open, at this node.",
    ),
    (
        "left_waiting",
        Gauge,
        "What goes on although its caller has gone, and has not ended: calls that follow changes that are in.",
    ),
    (
        "left_refused",
        Counter,
        "What was to go on without its caller and was not done: too much of it waited, or there was no thread for it.",
    ),
    (
        "updates_waiting",
        Gauge,
        "Updates that wait for their write level.",
    ),
    (
        "waiting_slots",
        Gauge,
        "Counters that were removed or deleted, alone or in maps: each writer's part, kept until it says that it has seen that.",
    ),
];

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Up, since this start.
    Counter,
    /// Up and down.
    Gauge,
}
use Kind::{Counter, Gauge};

/// What a number is; one that is not in the table is a counter that somebody has forgotten there.
pub(super) fn help(name: &str) -> (Kind, &'static str) {
    let row = HELP.iter().find(|(known, ..)| *known == name);
    row.map_or((Counter, "Counted since this start."), |(_, kind, help)| {
        (*kind, help)
    })
}
