//! The lanes of a link: the few long-lived streams between two nodes, by urgency.
//!
//! Not here: how a lane is carried; see `transport`. Ids are append-only: they are the first byte of each stream.

use std::fmt;

/// One of the streams that a link keeps open in each direction, so that what is large never blocks what is urgent.
///
/// The order is the order of urgency: `Control` first, `Bulk` last.
///
/// ```
/// use anabranch::wire::Lane;
///
/// assert!(Lane::Control < Lane::Bulk);
/// assert_eq!(Lane::from_id(Lane::Push.id()), Some(Lane::Push));
/// assert_eq!(Lane::ALL[Lane::Calls.index()], Lane::Calls);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Hello, digests, acknowledgements, gossip.
    Control = 0,
    /// Batches of the sender's own stream.
    Push = 1,
    /// Commands and replies.
    Calls = 2,
    /// Pulled states and snapshots.
    Bulk = 3,
}

impl Lane {
    /// Every lane, the most urgent first.
    pub const ALL: [Lane; 4] = [Lane::Control, Lane::Push, Lane::Calls, Lane::Bulk];
    /// How many lanes a link has in each direction.
    pub const COUNT: usize = Lane::ALL.len();

    /// The lane's place in [`Lane::ALL`]; below [`Lane::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The byte that opens the lane's stream.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The lane with this opening byte, if there is one.
    pub fn from_id(id: u8) -> Option<Lane> {
        Lane::ALL.get(usize::from(id)).copied()
    }

    /// The lane's name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Push => "push",
            Lane::Calls => "calls",
            Lane::Bulk => "bulk",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
