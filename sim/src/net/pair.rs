//! The link between two nodes, as the transport has it and as each end believes.

use super::NodeIx;
use crate::queue::Micros;

/// Two nodes.
#[derive(Debug)]
pub(super) struct Pair {
    /// The smaller number first.
    pub nodes: [NodeIx; 2],
    /// The open link, if there is one.
    pub conn: Option<Conn>,
    /// What each end believes.
    pub ends: [Option<End>; 2],
    /// Counts dials; only the newest goes on.
    pub attempt: u64,
    pub back_off_us: Micros,
    /// Down for good.
    pub severed: bool,
}

/// A link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conn {
    pub id: u64,
    pub epochs: [u64; 2],
    /// When each end learns of it.
    pub up_at: [Micros; 2],
}

/// A link, as one end has learnt of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub conn: u64,
    pub peer_epoch: u64,
    pub since: Micros,
}

impl Pair {
    pub fn new(a: NodeIx, b: NodeIx) -> Pair {
        Pair {
            nodes: [a, b],
            conn: None,
            ends: [None; 2],
            attempt: 0,
            back_off_us: 0,
            severed: false,
        }
    }

    /// Which end this node is.
    pub fn side(&self, node: NodeIx) -> usize {
        usize::from(self.nodes[0] != node)
    }
}
