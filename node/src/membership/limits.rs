//! Every bound of the membership, with its unit, in one place.

use std::time::Duration;

/// How long [`crate::membership::Membership::leave`] waits for the peers to be told.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the state of a dead node is kept.
pub(super) const DEAD_NODE_GRACE: Duration = Duration::from_secs(15 * 60);
/// Suspicion from which on a node counts as down.
pub(super) const PHI_MAX: f64 = 8.0;
/// Messages that wait for chitchat; more are dropped, as on a lossy network.
pub(super) const INBOX_MESSAGES_MAX: usize = 256;
/// Links that came or went and were not looked at yet.
pub(super) const INPUTS_MAX: usize = 1024;
/// Addresses taken from one node's word.
pub(super) const ADDRESSES_MAX: usize = 8;
/// The longest name, zone or version that is taken from a node's word.
pub(super) const TEXT_BYTES_MAX: usize = 128;

/// Epochs from here on are nobody's: their milliseconds lie beyond the year 4000.
pub const EPOCH_MAX: u64 = 1 << 62;
/// Nodes and earlier lives of them that chitchat knows at the same time, this one among them.
pub(super) const IDS_MAX: usize = 512;
/// Of those, how many may be of nodes that did not speak for themselves.
pub(super) const IDS_HEARSAY_MAX: usize = IDS_MAX - 128;
/// Lives of one node; with so many chitchat begins anew.
pub(super) const IDS_OF_NODE_MAX: usize = 16;
/// From so many on it is said that they become too many.
pub(super) const IDS_WARN_MIN: usize = IDS_HEARSAY_MAX * 3 / 4;
/// From so many on chitchat begins anew, if more than [`IDS_OUTDATED_MAX`] of them are earlier lives.
pub(super) const IDS_COMPACT_MIN: usize = IDS_MAX / 2;
/// See [`IDS_COMPACT_MIN`].
pub(super) const IDS_OUTDATED_MAX: usize = IDS_MAX / 4;
/// Keys of one id; a node of this version has six.
pub(super) const KEYS_MAX: usize = 16;
/// The longest key.
pub(super) const KEY_BYTES_MAX: usize = 64;
/// The longest value.
pub(super) const VALUE_BYTES_MAX: usize = 1024;
/// Versions count a node's own changes, one at a time; beyond this they are made up.
pub(super) const VERSION_MAX: u64 = 1 << 40;
/// The longest name of a cluster.
pub(super) const CLUSTER_BYTES_MAX: usize = 255;
/// Bytes of one message's changes, unpacked.
pub(super) const DELTA_BYTES_MAX: usize = 1 << 20;
/// The longest block of them, unpacked: what chitchat itself gives it.
pub(super) const BLOCK_BYTES_MAX: usize = u16::MAX as usize;

/// How long to wait before chitchat is started again that has ended; doubled each time.
pub(super) const REVIVE_MIN: Duration = Duration::from_millis(100);
/// How long at most.
pub(super) const REVIVE_MAX: Duration = Duration::from_secs(30);
/// How long it must have run for the wait to be the shortest again, and to begin anew to be rid of the dead.
pub(super) const REVIVE_QUIET: Duration = Duration::from_secs(60);

/// Bytes of one id in chitchat's messages: 34 for the node's, 8 for the epoch, 19 for the address, 24 for what is said of it.
const ID_BYTES: usize = 34 + 8 + 19 + 24;
// chitchat sizes a message for 65,507 bytes, puts all ids in first, and needs room for one whole block of changes behind
// them: with less it asserts.
const _: () = assert!(2 + IDS_MAX * ID_BYTES + 1 + 16_384 <= 65_507);
const _: () =
    assert!(IDS_COMPACT_MIN < IDS_WARN_MIN && IDS_WARN_MIN < IDS_HEARSAY_MAX && IDS_HEARSAY_MAX < IDS_MAX);
// One id with all its keys fits what is left of a message.
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 < 16_384);
