//! What the oracles know of each node: what it covers, what its disk holds, what it has heard.

use std::collections::{BTreeSet, VecDeque};

use anabranch::{NodeId, ReplicaId};

use super::clock::ClockBounds;
use crate::model::{Shadow, Vv};
use crate::net::NodeIx;

/// What is known of one shard at one node.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// The version vector as the engine last gave it, to see at a glance whether it has changed.
    pub raw: Vec<(ReplicaId, u64)>,
    pub fingerprint: u64,
    pub shadow: Shadow,
    /// What of what is durable its engine has been told.
    pub told: Vv,
    /// What of its own it told callers is durable here.
    pub acknowledged: Vv,
    /// What it ever covered, and ever held durably, over all its lives.
    pub ever_applied: Vv,
    pub ever_durable: Vv,
    /// Up to here it may have let go of history, whoever lacks it: a start, a snapshot.
    pub forced: Vv,
    /// What was covered when this life began.
    pub recovered: Vv,
    /// What became durable in this life, or was when it began, whatever has happened to the disk since.
    pub held: Vv,
}

/// What a node's disk holds for sure.
#[derive(Clone, Debug, Default)]
pub(super) struct OnDisk {
    /// By shard.
    pub durable: Vec<Vv>,
    /// The same before the last commit: only that one can look as if it had never been.
    pub before_last: Vec<Vv>,
    /// The last epoch begun.
    pub epoch: u64,
    /// Whether it has caught up once, and says so.
    pub settled: Settled,
    /// The members it names.
    pub members: BTreeSet<NodeId>,
}

/// Whether a directory has caught up once, as it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Settled {
    #[default]
    No,
    /// Its record was on its way when the node died, or may have been damaged since.
    Perhaps,
    Yes,
}

/// Version vectors that become durable with a record, by shard.
pub(super) type Reached = Vec<(u32, Vv)>;

/// What is known of one node.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub shards: Vec<Watched>,
    pub disk: OnDisk,
    /// The epoch of its life.
    pub epoch: u64,
    /// Vectors that become durable with a record, by record.
    pub waiting: VecDeque<(u64, Reached)>,
    /// Those that are, and of which its engine has not been told yet.
    pub untold: VecDeque<(u64, Reached)>,
    /// The last record it handed out.
    pub last_record: u64,
    /// Members, and the record that makes them durable.
    pub members_with: VecDeque<(u64, BTreeSet<NodeId>)>,
    /// The record that says it has caught up, on its way to the disk.
    pub settles_with: Option<u64>,
    /// What was on the disk when a copy of it was made.
    pub backup: Option<OnDisk>,
    /// Whether its disk had caught up when this life began.
    pub settled_at_start: Settled,
    /// Whom it has heard in this life.
    pub heard: BTreeSet<NodeIx>,
    /// Shards in which it has caught up in this life, as far as was looked.
    pub caught_up: BTreeSet<u32>,
    /// Shards in which it has covered a base that it was told in this life, and bases it was told and did not cover yet.
    pub surely: BTreeSet<u32>,
    pub told_bases: std::collections::BTreeMap<(NodeIx, u32), Vv>,
    /// Whether it has heard frames of earlier links.
    pub hears_ghosts: bool,
    /// By peer and shard, a base below which the peer cannot have told one to this life.
    pub bases: Vec<Vec<Vv>>,
    /// Shards in which a peer has told this life of operations of this node that it lacks.
    pub outdated: BTreeSet<u32>,
    pub clock: ClockBounds,
    /// Snapshots it had taken from peers when last looked at.
    pub installs: u64,
}

impl Watch {
    pub fn new(shards: u32, nodes: usize) -> Watch {
        let none = || vec![Vv::new(); shards as usize];
        Watch {
            shards: (0..shards).map(|_| Watched::default()).collect(),
            disk: OnDisk::empty(shards),
            bases: (0..nodes).map(|_| none()).collect(),
            ..Watch::default()
        }
    }

    pub fn durable(&self, shard: u32) -> &Vv {
        &self.disk.durable[shard as usize]
    }
}

impl OnDisk {
    pub fn empty(shards: u32) -> OnDisk {
        OnDisk {
            durable: vec![Vv::new(); shards as usize],
            before_last: vec![Vv::new(); shards as usize],
            ..OnDisk::default()
        }
    }
}
