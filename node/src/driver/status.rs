//! What an operator may ask of a node's surroundings: its disk, and the other members as seen from here.

use anabranch_crdt::{Epoch, NodeId};

/// How the store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskState {
    /// Commits succeed.
    Fine,
    /// The last commit found no room. Nothing is lost; updates are refused until it succeeds, and it is tried again at
    /// least every second.
    Full {
        /// What the store said.
        reason: String,
    },
    /// The system refused a call of the last commit (too many open files, no permission). As when it is full, nothing is
    /// lost, and it is tried again.
    Refused {
        /// What the store said.
        reason: String,
    },
    /// A sync failed: nothing more becomes durable until the node is restarted.
    Failed {
        /// What the store said.
        reason: String,
    },
}

/// What gossip says of a member. A hint: a wrong one costs time, never data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MemberHint {
    /// Nothing heard yet.
    #[default]
    Unknown,
    /// It is there.
    Up,
    /// It has not been heard of for a while.
    Down,
    /// It said that it leaves.
    Left,
}

impl MemberHint {
    /// A stable lower-case name.
    ///
    /// ```
    /// assert_eq!(anabranch::MemberHint::Left.name(), "left");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            MemberHint::Unknown => "unknown",
            MemberHint::Up => "up",
            MemberHint::Down => "down",
            MemberHint::Left => "left",
        }
    }
}

/// Another member, as seen from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Who.
    pub node: NodeId,
    /// Its name for people, where it is known.
    pub name: Option<String>,
    /// The last epoch it was linked with, or gossip told.
    pub epoch: Option<Epoch>,
    /// Where it can be dialled, HOST:PORT.
    pub addresses: Vec<String>,
    /// Whether there is a link to it now.
    pub connected: bool,
    /// What gossip says.
    pub hint: MemberHint,
    /// How far its wall clock is ahead of this node's (behind: negative), as far as that is known, milliseconds; the time that what
    /// it says of it travels is in it. None of one that has no link.
    pub clock_skew_ms: Option<i64>,
    /// Bytes of frames given to its links since this start.
    pub bytes_sent: u64,
    /// Bytes of frames received over its links since this start.
    pub bytes_received: u64,
}

impl MemberStatus {
    /// A member of whom nothing else is known.
    pub(crate) fn unknown(node: NodeId) -> MemberStatus {
        MemberStatus {
            node,
            name: None,
            epoch: None,
            addresses: Vec::new(),
            connected: false,
            hint: MemberHint::Unknown,
            clock_skew_ms: None,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }
}
