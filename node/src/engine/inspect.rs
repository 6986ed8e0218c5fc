//! What can be read of an engine without changing it: values, summaries, counters, and what the simulator's oracles
//! look at.

use std::collections::BTreeMap;
use std::ops::Bound;

use anabranch_crdt::{Epoch, NodeId, Put, Reading, ReplicaId, Type, VersionVector};

use crate::engine::Engine;
use crate::engine::io::PersistFailure;
use crate::engine::shard::{EntityKey, Shard};
use crate::view::View;
use crate::wire::{EntityId, IdempotencyKey, ShardId};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an engine has counted since its start.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Name and value of each.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Batches (or parts of them) sent.
    batches_sent,
    /// Operations taken from peers.
    operations_received,
    /// Batches that began behind what was here.
    gaps,
    /// Batches that waited for what they depend on.
    held,
    /// Pulls asked.
    pulls_sent,
    /// Pulls answered with operations.
    pulls_served,
    /// Pulls that were not answered in time.
    pulls_timed_out,
    /// Snapshots begun for peers.
    snapshots_served,
    /// Snapshots refused because too many were being served.
    snapshots_refused,
    /// Snapshots broken off because they were larger than may be staged.
    snapshots_too_large,
    /// Snapshots of shards taken from peers.
    snapshots_installed,
    /// Intervals not taken because too much waited for the disk.
    no_room,
    /// Frames of links or epochs that are over, dropped unread.
    stale_frames,
    /// Frames that broke the protocol.
    refused_frames,
    /// Epochs refused: this node's by a peer, or a peer's by this node.
    fenced,
    /// Links that came up with a clock too far ahead of this node's.
    clock_skew_links,
    /// Runs of this node that peers know of and its directory does not: it is an older copy, or its disk has lost what was
    /// durable.
    lost_runs,
    /// Equal version vectors with unequal fingerprints: damage.
    fingerprint_mismatches,
}

/// One shard's version vector and fingerprint: equal vectors must mean equal fingerprints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSummary {
    /// Which shard.
    pub shard: ShardId,
    /// Its version vector, sorted by replica.
    pub version_vector: Vec<(ReplicaId, u64)>,
    /// The fingerprint of its live state.
    pub fingerprint: u64,
}

/// One live dot and what stands at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveDot {
    /// The entity it belongs to.
    pub entity: EntityId,
    /// Under which type.
    pub ty: Type,
    /// Who made it.
    pub replica: ReplicaId,
    /// Its sequence.
    pub seq: u64,
    /// Where it stands in the value, and what it says.
    pub put: Put,
}

/// How far each shard was at one moment.
#[derive(Clone, Debug)]
pub struct Holdings(Vec<(ShardId, VersionVector)>);

/// What a peer has said of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSaid {
    /// In which epoch: the last one it had a link in.
    pub epoch: Epoch,
    /// What it has joined, sorted by replica.
    pub applied: Vec<(ReplicaId, u64)>,
    /// What of it is on its disk.
    pub durable: Vec<(ReplicaId, u64)>,
    /// Whether it counts for majorities.
    pub votes: bool,
}

/// An engine at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineStatus {
    /// The epoch it writes under.
    pub epoch: Epoch,
    /// Whether writes are taken in every shard.
    pub ready: bool,
    /// How many shards the cluster has.
    pub shards: u32,
    /// How many of them anything was ever written to.
    pub shards_used: u32,
    /// Entities that exist, each once, also where two sides of a partition have given it two types.
    pub entities: u64,
    /// Operations kept for peers that may lack them.
    pub ring_slots: u64,
    /// Counters' slots in maps that were reset and wait for their owner to say that it has seen it.
    pub waiting_slots: u64,
    /// Idempotency keys kept.
    pub idempotency_keys: u64,
    /// Updates waiting for their level.
    pub updates_waiting: u64,
    /// Requests waiting for what their session has seen.
    pub requests_parked: u64,
    /// Batches held until what they depend on has come.
    pub batches_held: u64,
    /// Bytes of transfers that are not complete.
    pub staged_bytes: u64,
    /// Snapshots being served.
    pub snapshot_sessions: u64,
    /// Bytes handed to the log and not durable yet.
    pub unpersisted_bytes: u64,
    /// What is wrong with the store, if anything.
    pub store_failure: Option<(PersistFailure, String)>,
    /// The members.
    pub members: Vec<NodeId>,
    /// What was counted.
    pub counters: Counters,
}

fn by_replica(shard: &Shard, vv: &VersionVector) -> Vec<(ReplicaId, u64)> {
    let mut vector: Vec<_> = vv.iter().map(|(ix, seq)| (shard.replicas.id(ix), seq)).collect();
    vector.sort();
    vector
}

/// What no entity of a kind comes before; nothing, if none can have that name.
fn first_of(kind: &str) -> Option<EntityKey> {
    let first = EntityId::new(kind, "\0").ok()?;
    Some((first, Type::ALL[0]))
}

impl Engine {
    fn peek(&self, id: ShardId) -> &Shard {
        &self.shards[id.0 as usize]
    }

    /// An entity's type and value as this replica sees it; `None` when it does not exist here.
    pub fn read(&self, id: &EntityId) -> Option<(Type, Reading)> {
        let shard = self.peek(self.shard_of(id));
        shard
            .visible(id)
            .map(|(ty, value)| (ty, value.read(&shard.replicas)))
    }

    /// An entity's value under a type that is not the visible one: where two sides of a partition first wrote it
    /// under different types, both are kept.
    pub fn read_as(&self, id: &EntityId, ty: Type) -> Option<Reading> {
        let shard = self.peek(self.shard_of(id));
        shard
            .entities
            .get(&(id.clone(), ty))
            .filter(|value| value.exists())
            .map(|value| value.read(&shard.replicas))
    }

    /// The ids of all entities, sorted by kind, then key.
    pub fn entity_ids(&self) -> Vec<EntityId> {
        let mut ids: Vec<EntityId> = self
            .shards
            .iter()
            .flat_map(|s| s.entities.iter())
            .filter(|(_, value)| value.exists())
            .map(|((id, _), _)| id.clone())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// The entities of a kind that exist, in no order.
    pub fn entities_of(&self, kind: &str) -> Vec<EntityId> {
        let has_any = self.kinds.type_of(kind).is_some();
        let shards = self.shards.iter().filter(|_| has_any);
        let rows = shards.flat_map(|shard| shard.entities.iter());
        rows.filter(|((id, _), value)| id.kind() == kind && value.exists())
            .map(|((id, _), _)| id.clone())
            .collect()
    }

    /// The entities of a kind in a shard that hold something of operations that this vector does not cover. One that was deleted
    /// holds nothing.
    pub fn changed_since(&self, shard: ShardId, kind: &str, vector: &[(ReplicaId, u64)]) -> Vec<EntityId> {
        if self.kinds.type_of(kind).is_none() {
            return Vec::new();
        }
        let shard = self.peek(shard);
        let covered: BTreeMap<ReplicaId, u64> = vector.iter().copied().collect();
        let is_new = |dot: anabranch_crdt::Dot| {
            let replica = shard.replicas.id(dot.ix());
            covered.get(&replica).is_none_or(|seq| dot.seq() > *seq)
        };
        let Some(first) = first_of(kind) else {
            return Vec::new();
        };
        let rows = shard.entities.range(first..);
        let rows = rows.take_while(|((id, _), _)| id.kind() == kind);
        rows.filter(|(_, value)| value.puts().any(|(dot, _)| is_new(dot)))
            .map(|((id, _), _)| id.clone())
            .collect()
    }

    /// What shows in a shard, of all kinds or of one, as it is now, in order.
    pub fn shown_in(&self, at: ShardId, kind: Option<&str>) -> Vec<View> {
        let shard = self.peek(at);
        let from = match kind.map(first_of) {
            None => Bound::Unbounded,
            Some(Some(first)) => Bound::Included(first),
            Some(None) => return Vec::new(),
        };
        let rows = shard.entities.range((from, Bound::Unbounded));
        let rows = rows.take_while(|((id, _), _)| kind.is_none_or(|kind| id.kind() == kind));
        let heir = self.heir(at, Type::BoundedCounter);
        let mut shown: Vec<View> = rows
            .filter(|(_, value)| value.exists())
            .map(|(key, value)| shard.view(at, key, value, heir.as_deref()))
            .collect();
        // Of several types the lowest shows, and comes first.
        shown.dedup_by(|next, first| next.entity == first.entity);
        shown
    }

    /// The entities of a kind in a shard that follow one of them, at most so many, as they are now: for who looks at them while
    /// the engine goes on.
    pub fn views_of(
        &self,
        at: ShardId,
        kind: &str,
        after: Option<&(EntityId, Type)>,
        most: usize,
    ) -> Vec<View> {
        let Some(first) = first_of(kind) else {
            return Vec::new();
        };
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        let shard = self.peek(at);
        let heir = self.heir(at, Type::BoundedCounter);
        let rows = shard.entities.range((from, Bound::Unbounded));
        rows.take_while(|((id, _), _)| id.kind() == kind)
            .filter(|(_, value)| value.exists())
            .take(most)
            .map(|(key, value)| shard.view(at, key, value, heir.as_deref()))
            .collect()
    }

    /// How many entities of a kind exist.
    pub fn kind_entities(&self, kind: &str) -> u64 {
        self.kinds.count_of(kind)
    }

    /// The types that entities of a kind have here, ascending: one, unless two sides of a partition have differed.
    pub fn kind_types(&self, kind: &str) -> Vec<Type> {
        self.kinds.types_of(kind).collect()
    }

    /// Whether an update with this idempotency key is remembered: one more would be a repeat.
    pub fn knows_key(&self, key: &IdempotencyKey) -> bool {
        self.keys.get(key).is_some()
    }

    /// Whether writes are taken in every shard: see [`crate::ErrorKind::NotReady`].
    pub fn is_ready(&self) -> bool {
        (0..self.config.shards).all(|i| self.takes_writes(ShardId(i)))
    }

    /// Which run of its node it is.
    pub fn epoch(&self) -> Epoch {
        self.started.epoch
    }

    /// The shards that anything was ever written to.
    pub fn summaries(&self) -> Vec<ShardSummary> {
        self.shards
            .iter()
            .filter(|s| !s.vv.is_empty())
            .map(|s| ShardSummary {
                shard: s.id,
                version_vector: by_replica(s, &s.vv),
                fingerprint: s.fingerprint,
            })
            .collect()
    }

    /// The engine at a glance.
    pub fn status(&self) -> EngineStatus {
        EngineStatus {
            epoch: self.started.epoch,
            ready: self.is_ready(),
            shards: self.config.shards,
            shards_used: self.shards.iter().filter(|s| !s.vv.is_empty()).count() as u32,
            entities: self.kinds.entities(),
            ring_slots: self
                .shards
                .iter()
                .flat_map(|s| s.rings.values())
                .map(|r| r.len() as u64)
                .sum(),
            waiting_slots: self.shards.iter().map(|s| s.waiting.len() as u64).sum(),
            idempotency_keys: self.keys.len() as u64,
            updates_waiting: self.levels.len() as u64,
            requests_parked: self.parked.len() as u64,
            batches_held: self.shards.iter().map(|s| s.held.len() as u64).sum(),
            staged_bytes: self.staged_bytes() as u64,
            snapshot_sessions: self.sessions.len() as u64,
            unpersisted_bytes: self.persist.bytes() as u64,
            store_failure: self.persist.failure().cloned(),
            members: self.members.iter().copied().collect(),
            counters: self.counters.clone(),
        }
    }

    fn staged_bytes(&self) -> usize {
        let transfers: usize = self.peers.values().map(|p| p.staging.bytes()).sum();
        transfers + self.pulls.arriving_bytes()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The members as they are known here.
    pub fn members(&self) -> &std::collections::BTreeSet<NodeId> {
        &self.members
    }

    /// Every shard's id.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.config.shards).map(ShardId)
    }

    /// What a shard covers, sorted by replica.
    pub fn version_vector(&self, shard: ShardId) -> Vec<(ReplicaId, u64)> {
        by_replica(self.peek(shard), &self.peek(shard).vv)
    }

    /// What of it is durable here.
    pub fn durable_vector(&self, shard: ShardId) -> Vec<(ReplicaId, u64)> {
        by_replica(self.peek(shard), &self.peek(shard).durable)
    }

    /// Below this a shard cannot be served from here.
    pub fn base(&self, shard: ShardId) -> Vec<(ReplicaId, u64)> {
        by_replica(self.peek(shard), &self.peek(shard).bases())
    }

    /// What all rings take.
    pub fn ring_bytes(&self) -> usize {
        self.shards.iter().map(Shard::ring_bytes).sum()
    }

    /// Every live dot of a shard.
    pub fn live(&self, shard: ShardId) -> Vec<LiveDot> {
        let shard = self.peek(shard);
        let rows = shard.entities.iter();
        rows.flat_map(|((id, ty), value)| {
            value.puts().map(|(dot, put)| LiveDot {
                entity: id.clone(),
                ty: *ty,
                replica: shard.replicas.id(dot.ix()),
                seq: dot.seq(),
                put,
            })
        })
        .collect()
    }

    /// All that is here now, whoever wrote it.
    pub fn holdings(&self) -> Holdings {
        let filled = self.shards.iter().filter(|shard| !shard.vv.is_empty());
        Holdings(filled.map(|shard| (shard.id, shard.vv.clone())).collect())
    }

    /// Whether every connected peer is known to have all of this. What came since has come from one who has it.
    pub fn is_handed_over(&self, holdings: &Holdings) -> bool {
        self.lacking(holdings).next().is_none()
    }

    /// The connected peers of which that is not known.
    pub fn lacking(&self, holdings: &Holdings) -> impl Iterator<Item = NodeId> {
        let has_all = |peer: &NodeId, (id, held): &(ShardId, VersionVector)| {
            let view = self.shards[id.0 as usize].peers.get(peer);
            view.is_some_and(|view| view.applied.covers(held))
        };
        let lacks = move |peer: &&NodeId| !holdings.0.iter().all(|held| has_all(peer, held));
        self.peers.keys().filter(lacks).copied()
    }

    /// A shard's live state as bytes: equal at two replicas exactly when the states are.
    pub fn canonical_bytes(&self, shard: ShardId) -> Vec<u8> {
        let shard = self.peek(shard);
        let mut bytes = Vec::new();
        for ((id, ty), value) in shard.entities.iter().filter(|(_, value)| value.exists()) {
            for name in [id.kind(), id.key()] {
                bytes.extend((name.len() as u32).to_le_bytes());
                bytes.extend(name.as_bytes());
            }
            bytes.push(ty.id());
            let value = value.canonical_bytes(&shard.replicas);
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend(value);
        }
        bytes
    }

    /// A shard's fingerprint, as kept incrementally.
    pub fn fingerprint(&self, shard: ShardId) -> u64 {
        self.peek(shard).fingerprint
    }

    /// The same computed anew.
    pub fn fingerprint_from_scratch(&self, shard: ShardId) -> u64 {
        self.peek(shard).fingerprint_from_scratch(&self.key)
    }

    /// What a peer has said of a shard, if anything.
    pub fn peer_said(&self, peer: NodeId, shard: ShardId) -> Option<PeerSaid> {
        let shard = self.peek(shard);
        let view = shard.peers.get(&peer)?;
        Some(PeerSaid {
            epoch: *self.heard_epochs.get(&peer)?,
            applied: by_replica(shard, &view.applied),
            durable: by_replica(shard, &view.durable),
            votes: view.voting,
        })
    }

    /// Whether this node counts for majorities in a shard: it has caught up with another member since it started.
    pub fn counts_for_majorities(&self, shard: ShardId) -> bool {
        self.votes(shard)
    }

    /// Whether each linked peer has said over its link what it has of a shard, and all of that is here.
    pub fn has_what_peers_have(&self, shard: ShardId) -> bool {
        let shard = self.peek(shard);
        self.peers.keys().all(|peer| {
            let view = shard.peers.get(peer);
            view.is_some_and(|view| view.known && shard.vv.covers(&view.applied))
        })
    }

    /// The ring's contents are contiguous from base to vector for every origin.
    pub fn rings_whole(&self, shard: ShardId) -> bool {
        let shard = self.peek(shard);
        shard
            .rings
            .iter()
            .all(|(ix, ring)| ring.head() == shard.vv.get(*ix))
    }

    /// Whether nothing is being fetched or waited for.
    pub fn is_idle(&self) -> bool {
        self.pulls.is_idle() && self.levels.len() == 0 && self.persist.all_durable()
    }

    /// The epoch of the node at the other end of a link.
    pub fn linked_epoch(&self, node: NodeId) -> Option<Epoch> {
        self.peers.get(&node).map(|peer| peer.epoch)
    }

    /// The nodes that this one is linked with now.
    pub fn linked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    /// Highest epoch known of each node.
    pub fn known_epochs(&self) -> &BTreeMap<NodeId, Epoch> {
        &self.known_epochs
    }
}
