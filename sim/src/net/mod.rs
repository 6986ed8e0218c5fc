//! The virtual network: links like QUIC's between every pair of nodes, and everything that can happen to them.
//!
//! A link is up between two epochs; both ends learn of it, each at its own time, and of its end likewise. What was
//! under way when it broke is lost. Harsher than QUIC where the plan says so: frames vanish inside a link, overtake
//! each other, come twice, or come seconds later out of a link or a receiver's life that is over.
//!
//! Not here: what a frame means, and who decides when a partition begins (`crate::plan`).
//! Contract: whatever it returns or schedules follows from the seed, the plan and the calls alone.

mod direction;
mod links;
mod pair;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::latency::Latency;
use crate::queue::Micros;
use crate::rng::Rng;

use direction::Direction;
pub(crate) use direction::STREAMS;
use pair::Pair;

/// A node's number, from 0.
pub type NodeIx = usize;

/// How the network behaves. Plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct NetPlan {
    /// One-way delays.
    pub latency: Latency,
    /// How often a packet is lost.
    pub loss: f64,
    /// Whether a lost frame is gone; else it is sent again, later, as QUIC does.
    pub loss_vanishes: bool,
    /// How often a burst begins in which everything is lost.
    pub burst: f64,
    /// A burst's mean length, microseconds.
    pub burst_us: f64,
    /// How often a frame comes twice.
    pub duplicate: f64,
    /// How often a copy comes seconds later, whatever has become of the link or of the receiver meanwhile.
    pub ghost: f64,
    /// How often a frame may overtake or be overtaken.
    pub reorder: f64,
    /// Bytes a second in each direction; 0 for no limit.
    pub bytes_per_s: u64,
    /// A link that hears nothing for so long is given up, microseconds.
    pub idle_us: Micros,
    /// Whether frames sent into a partition are gone; else they wait for its end, as long as the link lives.
    pub partition_vanishes: bool,
}

impl NetPlan {
    /// A network without faults.
    pub fn benign() -> NetPlan {
        NetPlan {
            latency: Latency::LogNormal {
                median_us: 500.0,
                spread: 0.2,
            },
            loss: 0.0,
            loss_vanishes: false,
            burst: 0.0,
            burst_us: 0.0,
            duplicate: 0.0,
            ghost: 0.0,
            reorder: 0.0,
            bytes_per_s: 0,
            idle_us: 10_000_000,
            partition_vanishes: false,
        }
    }
}

/// Something that will happen in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// Somebody tries to reach somebody.
    Dial {
        /// Which pair.
        pair: usize,
        /// Only the newest attempt counts.
        attempt: u64,
    },
    /// A handshake is through.
    Establish {
        /// Which pair.
        pair: usize,
        /// Only the newest attempt counts.
        attempt: u64,
        /// Between which epochs.
        epochs: [u64; 2],
    },
    /// One end learns that a link is up.
    Up {
        /// Which pair.
        pair: usize,
        /// Which link.
        conn: u64,
        /// Which end.
        side: usize,
    },
    /// One end learns that a link is gone.
    Down {
        /// Which pair.
        pair: usize,
        /// Which link.
        conn: u64,
        /// Which end.
        side: usize,
        /// The newer epoch of this end that the other knows, if it closed the link for that.
        fenced: Option<u64>,
    },
    /// A link that may have heard nothing for too long.
    Idle {
        /// Which pair.
        pair: usize,
        /// Which link.
        conn: u64,
        /// In which direction.
        direction: usize,
    },
    /// A frame arrives.
    Frame(FrameEvent),
    /// The transport has taken bytes.
    Taken {
        /// In which direction.
        direction: usize,
    },
}

/// A frame under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameEvent {
    /// From whom.
    pub from: NodeIx,
    /// To whom.
    pub to: NodeIx,
    /// Over which link.
    pub conn: u64,
    /// The sender's epoch.
    pub epoch: u64,
    /// Its lane's number.
    pub lane: u8,
    /// Its bytes.
    pub bytes: Bytes,
    /// Whether it comes whatever has become of the link.
    pub ghost: bool,
}

/// A frame as it is given to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// From whom.
    pub from: NodeIx,
    /// To whom.
    pub to: NodeIx,
    /// Over the link to which epoch of the receiver.
    pub epoch: u64,
    /// Its lane's number.
    pub lane: u8,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What a node is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whom to tell.
    pub node: NodeIx,
    /// About whom.
    pub peer: NodeIx,
    /// In which epoch.
    pub epoch: u64,
    /// What.
    pub news: News,
}

/// What a link tells its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is up.
    Connected,
    /// It is gone.
    Disconnected,
    /// The other end knows this newer epoch.
    Fenced(u64),
    /// So many bytes were taken.
    Writable(u64),
}

/// What the network did, for people and for vacuity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounts {
    /// Frames given to it.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames lost for good.
    pub lost: u64,
    /// Frames that waited in a partition.
    pub held: u64,
    /// Frames doubled.
    pub doubled: u64,
    /// Frames that came out of a link or a life that was over.
    pub ghosts: u64,
    /// Frames that could overtake.
    pub reordered: u64,
    /// Links made.
    pub links: u64,
    /// Links made non-transitively: while some third node could reach only one of both.
    pub link_ends: u64,
}

/// Where events go: a time and what happens then.
pub type Schedule<'a> = &'a mut dyn FnMut(Micros, NetEvent);

/// The network.
#[derive(Debug)]
pub struct Net {
    seed: u64,
    nodes: usize,
    plan: NetPlan,
    /// Each node's epoch while it runs.
    running: Vec<Option<u64>>,
    pairs: Vec<Pair>,
    directions: Vec<Direction>,
    next_conn: u64,
    counts: NetCounts,
}

/// The first dial of a node comes within this, microseconds.
const DIAL_US_MAX: Micros = 20_000;
/// Dials are at most so far apart, microseconds.
const BACK_OFF_US_MAX: Micros = 1_000_000;
/// A late copy comes at most so much later, microseconds.
const GHOST_US_MAX: Micros = 15_000_000;

impl Net {
    /// A network between so many nodes, none of them running.
    pub fn new(seed: u64, nodes: usize, plan: NetPlan) -> Net {
        let pairs = (0..nodes)
            .flat_map(|a| (a + 1..nodes).map(move |b| Pair::new(a, b)))
            .collect();
        let directions = (0..nodes * nodes).map(|_| Direction::default()).collect();
        Net {
            seed,
            nodes,
            plan,
            running: vec![None; nodes],
            pairs,
            directions,
            next_conn: 1,
            counts: NetCounts::default(),
        }
    }

    /// What it did so far.
    pub fn counts(&self) -> NetCounts {
        self.counts
    }

    /// From now on the network behaves like this.
    pub fn set_plan(&mut self, plan: NetPlan) {
        self.plan = plan;
    }

    fn pair_ix(&self, a: NodeIx, b: NodeIx) -> usize {
        assert!(
            a != b && a < self.nodes && b < self.nodes,
            "no link from {a} to {b}"
        );
        let (a, b) = (a.min(b), a.max(b));
        a * (2 * self.nodes - a - 1) / 2 + (b - a - 1)
    }

    fn direction_ix(&self, from: NodeIx, to: NodeIx) -> usize {
        from * self.nodes + to
    }

    /// A stream of chance for one pair or direction.
    fn rng(&self, name: &str, entity: usize, counter: u64) -> Rng {
        Rng::stream(self.seed, name, entity as u64, counter)
    }
}
