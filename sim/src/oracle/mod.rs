//! The oracles: what must hold of engines, whatever the network, the disks and the clocks did.
//!
//! They watch each engine after each step and compare it with the model; nothing they do changes a run.
//!
//! Not here: the model itself (`crate::model`), faults, clients.
//! Contract: a [`Failure`] names the oracle, the node and what was expected; a run without one broke no rule that is
//! watched.

mod durability;
mod issue;
mod rest;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use anabranch::ReplicaId;
use anabranch::engine::Engine;

use crate::model::{Ledger, Shadow, Vv};
use crate::names::Names;
use crate::net::NodeIx;
use crate::queue::Micros;

pub(crate) use issue::Standing;
pub use issue::{Asked, Issue};
pub use rest::Unsettled;

/// Which rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A node shows another value than the operations it covers have.
    Value,
    /// Other dots are alive than the version vector says.
    LiveState,
    /// Equal version vectors, unequal states.
    Equality,
    /// A fingerprint is not its state's.
    Fingerprint,
    /// A version vector went back within an epoch.
    Monotone,
    /// A dot twice, or one nobody issued.
    Dots,
    /// What was acknowledged as durable was not, or is gone.
    Durability,
    /// More was claimed of a peer than it has.
    Acknowledged,
    /// History was let go of that a member still needs.
    Trim,
    /// One idempotency key had two effects.
    Once,
    /// A node took writes before it had caught up.
    Barrier,
    /// An answer that does not fit the update.
    Answer,
    /// A bound was exceeded.
    Bounds,
    /// A store does not open on its own directory.
    Store,
    /// A peer that kept the protocol was said to have broken it.
    Refused,
    /// A node fell silent, or did not answer.
    Progress,
    /// The nodes did not agree in time.
    Convergence,
    /// The code under test panicked.
    Panic,
}

impl Rule {
    /// The process's exit code for a failure of this rule.
    pub fn exit_code(self) -> u8 {
        match self {
            Rule::Panic => 10,
            Rule::Progress | Rule::Convergence => 12,
            _ => 11,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Value => "value",
            Rule::LiveState => "state = live(vv)",
            Rule::Equality => "equal vv = equal state",
            Rule::Fingerprint => "fingerprint",
            Rule::Monotone => "monotone",
            Rule::Dots => "dots",
            Rule::Durability => "durability",
            Rule::Acknowledged => "acknowledged",
            Rule::Trim => "trim",
            Rule::Once => "once",
            Rule::Barrier => "barrier",
            Rule::Answer => "answer",
            Rule::Bounds => "bounds",
            Rule::Store => "store",
            Rule::Refused => "refused",
            Rule::Progress => "progress",
            Rule::Convergence => "convergence",
            Rule::Panic => "panic",
        }
    }
}

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub rule: Rule,
    /// When, microseconds.
    pub at: Micros,
    /// Where, if it was at one node.
    pub node: Option<NodeIx>,
    /// How.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, us) = (self.at / 1_000_000, self.at % 1_000_000);
        write!(f, "{} at {s}.{us:06} s", self.rule.name())?;
        if let Some(node) = self.node {
            write!(f, " on n{node}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A failure still without its time.
pub(crate) type Check = Result<(), Failure>;

pub(crate) fn broken(rule: Rule, node: impl Into<Option<NodeIx>>, what: impl Into<String>) -> Failure {
    Failure {
        rule,
        at: 0,
        node: node.into(),
        what: what.into(),
    }
}

/// What is known of one shard at one node.
#[derive(Debug, Default)]
struct Watched {
    /// The version vector as the engine last gave it, to see at a glance whether it has changed.
    raw: Vec<(ReplicaId, u64)>,
    fingerprint: u64,
    shadow: Shadow,
    /// What its disk holds for sure, and what of that its engine has been told.
    durable: Vv,
    told: Vv,
    /// What of its own it told callers is durable here.
    acknowledged: Vv,
    /// What it ever covered, and ever held durably, over all its lives.
    ever_applied: Vv,
    ever_durable: Vv,
}

/// Version vectors that became durable, by shard.
type Reached = Vec<(u32, Vv)>;

/// What is known of one node.
#[derive(Debug, Default)]
struct Watch {
    shards: Vec<Watched>,
    /// Vectors that become durable with a record, by record.
    waiting: VecDeque<(u64, Reached)>,
    /// Those that are, and of which its engine has not been told yet.
    untold: VecDeque<(u64, Reached)>,
    /// Whether it has heard anybody since its directory was empty.
    met_peer: bool,
    /// What was durable, and whether it had heard anybody, when the disk's copy was made.
    backup: Option<(Reached, bool)>,
}

/// A state that was seen under a version vector.
#[derive(Clone, Copy, Debug)]
struct Seen {
    fingerprint: u64,
    bytes: Option<u64>,
}

/// How often each oracle looked: a check that never ran found nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Values compared with the model's.
    pub values: u64,
    /// Whole shards compared dot by dot.
    pub states: u64,
    /// States compared with an earlier one of the same version vector.
    pub equal_vectors: u64,
    /// Canonical bytes compared.
    pub bytes: u64,
    /// Fingerprints computed anew.
    pub fingerprints: u64,
    /// Durable acknowledgements.
    pub acknowledged: u64,
    /// Recoveries compared with what was durable.
    pub recoveries: u64,
    /// Bases compared with what the members hold.
    pub bases: u64,
    /// What peers are said to have, compared.
    pub claims: u64,
    /// Repeats of idempotency keys that were answered without effect.
    pub repeats: u64,
}

/// All oracles of a run.
#[derive(Debug)]
pub struct Oracle {
    /// Every operation ever made.
    pub ledger: Ledger,
    /// Both vocabularies.
    pub names: Names,
    shards: u32,
    nodes: Vec<(u128, Watch)>,
    seen: BTreeMap<(u32, u64), Seen>,
    looks: Looks,
    /// Counts steps, to take samples.
    step: u64,
}

impl Oracle {
    /// Oracles over these nodes.
    pub fn new(shards: u32, nodes: Vec<u128>, names: Names) -> Oracle {
        let watch = || Watch {
            shards: (0..shards).map(|_| Watched::default()).collect(),
            ..Watch::default()
        };
        Oracle {
            ledger: Ledger::new(shards),
            names,
            shards,
            nodes: nodes.into_iter().map(|id| (id, watch())).collect(),
            seen: BTreeMap::new(),
            looks: Looks::default(),
            step: 0,
        }
    }

    /// How often each oracle looked.
    pub fn looks(&self) -> Looks {
        self.looks
    }

    /// The model's vector for an engine's. Fails for a replica that never was.
    fn vector(&self, node: NodeIx, raw: &[(ReplicaId, u64)]) -> Result<Vv, Failure> {
        let mut vv = vec![0; self.ledger.origins()];
        for &(replica, seq) in raw {
            let Some(origin) = self.ledger.known_origin(replica.node.0, replica.epoch.0) else {
                return Err(broken(
                    Rule::Dots,
                    node,
                    format!("covers {replica}:{seq}, a replica that never was"),
                ));
            };
            vv[usize::from(origin)] = seq;
        }
        while vv.last() == Some(&0) {
            vv.pop();
        }
        Ok(vv)
    }

    /// A vector for people: node numbers and epochs' ranks instead of long ids.
    fn tell(&self, vv: &[u64]) -> String {
        let mut all = Vec::new();
        for (origin, &seq) in vv.iter().enumerate().filter(|(_, seq)| **seq > 0) {
            all.push(format!("{}:{seq}", self.origin_name(origin as u16)));
        }
        format!("{{{}}}", all.join(" "))
    }

    /// An origin for people: `n2.3` is the third life of node 2.
    pub fn origin_name(&self, origin: u16) -> String {
        let (node, epoch) = self.ledger.origin_id(origin);
        let ix = self
            .nodes
            .iter()
            .position(|(id, _)| *id == node)
            .unwrap_or(usize::MAX);
        let life = (0..self.ledger.origins() as u16)
            .map(|o| self.ledger.origin_id(o))
            .filter(|&(n, e)| n == node && e <= epoch)
            .count();
        format!("n{ix}.{life}")
    }

    /// What a node covers, for people.
    pub(crate) fn told_vector(&self, node: NodeIx, engine: &Engine) -> String {
        let mut all = Vec::new();
        for shard in engine.shard_ids() {
            let vv = self.vector(node, &engine.version_vector(shard));
            all.push(vv.map_or_else(|failure| failure.what, |vv| self.tell(&vv)));
        }
        all.join(" ")
    }

    /// A node begins a life in this epoch, its directory recovered.
    pub(crate) fn on_start(&mut self, node: NodeIx, epoch: u64, engine: &Engine) -> Check {
        let id = self.nodes[node].0;
        self.ledger.origin(id, epoch);
        self.check_recovery(node, engine)
    }

    /// A node goes on under another epoch.
    pub(crate) fn on_epoch(&mut self, node: NodeIx, epoch: u64) {
        let id = self.nodes[node].0;
        self.ledger.origin(id, epoch);
    }

    /// A node heard a peer.
    pub(crate) fn on_heard(&mut self, node: NodeIx) {
        self.nodes[node].1.met_peer = true;
    }
}
