//! The oracles: what must hold of engines, whatever the network, the disks and the clocks did.
//!
//! They watch each engine after each step and compare it with the model; nothing they do changes a run.
//!
//! Not here: the model itself (`crate::model`), faults, clients.
//! Contract: a [`Failure`] names the oracle, the node and what was expected; a run without one broke no rule that is
//! watched.

mod barrier;
mod bounds;
mod clock;
mod durability;
mod issue;
mod rest;
mod state;
mod watch;

use std::collections::BTreeMap;
use std::fmt;

use anabranch::engine::{Engine, Limits};
use anabranch::{DirectoryId, Level, ReplicaId};

use crate::model::{Ledger, Vv};
use crate::names::Names;
use crate::net::NodeIx;
use crate::queue::Micros;

pub(crate) use issue::Standing;
pub use issue::{Asked, Issue};
pub use rest::Unsettled;
use watch::Watch;

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
    /// A session was shown less than it had seen.
    Session,
    /// An application's own rule.
    Application,
    /// A function was told what it must not be, or a command was not answered as it must be.
    Function,
    /// A stream's caller heard what its function had not said, or that it had ended when it had not.
    Stream,
    /// A node took writes before it had caught up.
    Barrier,
    /// A node heard a peer without knowing of all the members that the peer knew when they were linked.
    Members,
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
            Rule::Session => "session",
            Rule::Application => "application",
            Rule::Function => "function",
            Rule::Stream => "stream",
            Rule::Barrier => "barrier",
            Rule::Members => "members",
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

/// A state that was seen under a version vector.
#[derive(Clone, Copy, Debug)]
struct Seen {
    fingerprint: u64,
    bytes: Option<u64>,
}

/// An update that is being answered, as far as its caller and the model know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered<'a> {
    pub issue: &'a Issue,
    pub level: Level,
    /// What its node covered when it was asked, in the shards of an update that did nothing, or that took something away.
    pub saw: &'a [(u32, Vv)],
    /// The directory that must be named.
    pub directory: DirectoryId,
    /// Whether it must be called a repeat, where that is known.
    pub repeats: Option<bool>,
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
    /// The bounds that engines were given.
    limits: Limits,
    nodes: Vec<(u128, Watch)>,
    seen: BTreeMap<(u32, u64), Seen>,
    looks: Looks,
    /// Updates of each origin that changed several shards.
    wide: BTreeMap<u16, Vec<Issue>>,
    /// Counts steps, to take samples.
    step: u64,
}

impl Oracle {
    /// Oracles over these nodes.
    pub fn new(shards: u32, nodes: Vec<u128>, names: Names, limits: Limits) -> Oracle {
        let watch = || Watch::new(shards, nodes.len());
        Oracle {
            ledger: Ledger::new(shards),
            names,
            shards,
            limits,
            nodes: nodes.iter().map(|id| (*id, watch())).collect(),
            seen: BTreeMap::new(),
            looks: Looks::default(),
            wide: BTreeMap::new(),
            step: 0,
        }
    }

    /// The same for operations of an application, which the model does not know: values are the application's own to judge.
    pub(crate) fn blind(shards: u32, nodes: Vec<u128>, limits: Limits) -> Oracle {
        Oracle {
            ledger: Ledger::blind(shards),
            ..Oracle::new(shards, nodes, Names::new(0), limits)
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
    pub(crate) fn tell(&self, vv: &[u64]) -> String {
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
    pub(crate) fn on_start(&mut self, node: NodeIx, epoch: u64, wall_ms: u64, engine: &Engine) -> Check {
        let (id, watch) = &self.nodes[node];
        if epoch <= watch.disk.epoch {
            let what = format!("starts epoch {epoch} after {} on the same disk", watch.disk.epoch);
            return Err(broken(Rule::Dots, node, what));
        }
        let last = self.ledger.known_origin(*id, watch.disk.epoch);
        self.ledger.origin(*id, epoch);
        self.check_recovery(node, wall_ms, engine)?;
        // Of its last life a disk holds only what that wrote itself: each update whole, or not at all.
        for issue in last.and_then(|last| self.wide.get(&last)).into_iter().flatten() {
            if self.holds_part(node, issue) && !self.holds(node, issue) {
                let what = format!("recovered a part of {issue:?}");
                return Err(broken(Rule::Durability, node, what));
            }
        }
        self.on_epoch(node, epoch);
        self.begin_barrier(node, engine)
    }

    /// A node goes on under another epoch.
    pub(crate) fn on_epoch(&mut self, node: NodeIx, epoch: u64) {
        let (id, watch) = &mut self.nodes[node];
        self.ledger.origin(*id, epoch);
        (watch.disk.epoch, watch.epoch) = (epoch, epoch);
    }
}
