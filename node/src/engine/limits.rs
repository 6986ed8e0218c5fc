//! Every bound of the engine, with its unit, in one place. A full queue is a named outcome, never a silent one.

use crate::wire::FRAME_BYTES_MAX;

/// How long an update waits for its level, and a session's request for what the session has seen, unless told otherwise,
/// milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 10_000;

/// A set's element is at most this long.
pub const ELEMENT_BYTES_MAX: usize = 64 << 10;
/// A register's value is at most this long.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// All bytes of one update together.
pub const UPDATE_BYTES_MAX: usize = 64 << 20;
/// Nobody who asks over a network is waited for longer, whatever he says, milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 600_000;
/// Entities of one read.
pub const READ_ENTITIES_MAX: usize = 1_000;
/// Operations of one update, at most; fewer where [`Limits::update_ops_max`] says so.
pub const UPDATE_OPS_MAX: usize = 1 << 20;
/// What an element counts beside its bytes in an update.
pub const ELEMENT_OVERHEAD_BYTES: usize = 16;
/// What is applied in one step, and sent in answer to one pull, is no larger: beyond it a shard comes as a snapshot, in
/// parts as they are asked for. Far below what a lane queues and what the log takes as one record.
pub const TRANSFER_BYTES_MAX: usize = 8 << 20;
/// A record larger than this goes to the log in pieces: an update or an answer may kill more than one record holds.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
/// Bytes under way to a peer beyond which a pull is put off.
pub const IN_FLIGHT_BYTES_MAX: u64 = 16 << 20;
/// Snapshots served to one peer at a time: more would only share its link.
pub const SESSIONS_PER_PEER_MAX: usize = 4;
/// How often the wait for an answer to a pull doubles while none comes.
pub const PULL_DOUBLINGS_MAX: u32 = 2;
/// How long a shard is left alone whose snapshot was larger than may be staged, milliseconds; it doubles up to the second.
pub const TOO_LARGE_MS: [u64; 2] = [60_000, 3_600_000];
/// Epochs from here on are nobody's: their milliseconds lie beyond the year 4000.
pub const EPOCH_MAX: u64 = 1 << 62;
/// A part of a message aims at no more than this; one operation more than fits always goes.
pub const PART_BYTES_MAX: usize = 256 << 10;
/// A batch larger than this is not held but pulled again when what it depends on has come.
pub const HELD_BYTES_MAX: usize = 64 << 10;
/// So many parts of statements go to a peer at a time: the next when it has answered, news after the delay of news. Far below what a
/// lane queues.
pub const SAID_PARTS_MAX: usize = 4;
/// Shards that a peer is asked of at a time: it answers of all of them at once, and may have more to say than who asks.
pub const ASKED_SHARDS_MAX: usize = 256;
/// A wall clock further from ours than this is reported, milliseconds.
pub const CLOCK_SKEW_MS_MAX: u64 = 500;
/// Members of a cluster, at most.
pub const MEMBERS_MAX: usize = 1_024;
/// Shards of a cluster, at most: all their summaries fit one frame.
pub const SHARDS_MAX: u32 = 16_384;
/// Replicas in one message's table, at most.
pub const MESSAGE_REPLICAS_MAX: usize = 16_384;

// A part is cut before it exceeds its budget, but one slot with its entity's name may stand alone in a part.
const _: () = assert!(PART_BYTES_MAX + VALUE_BYTES_MAX + ELEMENT_BYTES_MAX + 64 * 1024 < FRAME_BYTES_MAX);
// 13 bytes a shard at most: a varint number and a hash.
const _: () = assert!((SHARDS_MAX as usize) * 15 < FRAME_BYTES_MAX);

/// The bounds and delays that an operator, a test or the simulator may choose.
///
/// ```
/// let limits = anabranch::Limits::default();
/// assert_eq!(limits.digest_every_ms, 5_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations in one update.
    pub update_ops_max: usize,
    /// Updates that wait for their level; one more is refused as overloaded.
    pub requests_max: usize,
    /// Bytes of records handed out but not yet durable; beyond, writes are refused and news is not taken.
    pub unpersisted_bytes_max: usize,
    /// Slots kept per origin and shard for peers that are behind; beyond, a peer needs a snapshot.
    pub ring_slots_max: usize,
    /// Bytes of all those slots together, over all shards; beyond, the largest ring lets go of its older half.
    pub ring_bytes_max: usize,
    /// Bytes of a message part.
    pub part_bytes: usize,
    /// Bytes sent to a peer and not yet taken by the transport, beyond which no push is built.
    pub push_window_bytes: u64,
    /// How long a push waits for the one before it to be taken, milliseconds.
    pub push_delay_ms: u64,
    /// Bytes of parts received and not yet complete: of batches and answers per peer, of snapshots all together.
    pub staged_bytes_max: usize,
    /// Transfers in parts from one peer at a time.
    pub staged_transfers_max: usize,
    /// Batches held, over all shards, until what they depend on has come.
    pub held_max: usize,
    /// How long they are held before a pull, milliseconds.
    pub hold_ms: u64,
    /// How long news from a third node may come from its origin before it is pulled, milliseconds.
    pub pull_grace_ms: u64,
    /// How long a pull may take without progress before another holder is asked, milliseconds; it doubles with each in
    /// a row that came to nothing.
    pub pull_timeout_ms: u64,
    /// Pulls under way at a time.
    pub pulls_max: usize,
    /// Snapshots served at a time.
    pub sessions_max: usize,
    /// How long acknowledgements and news are gathered when nobody waits for them, milliseconds.
    pub said_delay_ms: u64,
    /// How often two nodes compare all they have, milliseconds.
    pub digest_every_ms: u64,
    /// Idempotency keys kept however old they are.
    pub keys_kept: usize,
    /// About how many bytes idempotency keys and what they stand for may take; when even the oldest is younger than an
    /// hour, keyed updates are refused.
    pub keys_bytes_max: usize,
    /// Idempotency keys kept at most; when even the oldest is younger than an hour, keyed updates are refused.
    pub keys_max: usize,
}

/// An idempotency key is found again for at least this long, milliseconds.
pub const KEY_AGE_MS_MIN: u64 = 3_600_000;

impl Limits {
    /// How long a pull waits for progress after so many that came to nothing, milliseconds.
    pub(crate) fn pull_wait_ms(&self, failures: u32) -> u64 {
        self.pull_timeout_ms
            .saturating_mul(1 << failures.min(PULL_DOUBLINGS_MAX))
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            update_ops_max: UPDATE_OPS_MAX,
            requests_max: 65_536,
            unpersisted_bytes_max: 64 << 20,
            ring_slots_max: 16_384,
            ring_bytes_max: 256 << 20,
            part_bytes: PART_BYTES_MAX,
            push_window_bytes: 1 << 20,
            push_delay_ms: 2,
            staged_bytes_max: 256 << 20,
            staged_transfers_max: 64,
            held_max: 1_024,
            hold_ms: 100,
            pull_grace_ms: 200,
            pull_timeout_ms: 2_000,
            pulls_max: 64,
            sessions_max: 16,
            said_delay_ms: 200,
            digest_every_ms: 5_000,
            keys_kept: 1_000_000,
            keys_max: 2_000_000,
            keys_bytes_max: 512 << 20,
        }
    }
}
