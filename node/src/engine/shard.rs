//! One shard at one node: its live state, what it covers, and the one way operations get into it.
//!
//! Not here: when to send what to whom. Contract: `entities` is at every moment exactly *live(vv)*, the puts covered
//! by the version vector that no covered operation killed, and `fingerprint` is that state's.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_crdt::{
    Delta, Dot, Env, Epoch, HashKey, NodeId, Part, Path, Payload, Put, ReplicaId, ReplicaIx, Replicas,
    ReplicasFull, Type, Value, VersionVector, planted,
};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use crate::engine::io::{RecordId, Time};
use crate::engine::ring::{Ring, Slot};
use crate::engine::rows::Rows;
use crate::engine::waiting::{OwnResets, Waiting};
use crate::view::View;
use crate::wire::{EntityId, ShardId, Token};

/// An entity under one type. Two sides of a partition may write the same id under different types: both are kept,
/// the lower type id is the visible one.
pub(crate) type EntityKey = (EntityId, Type);

/// One operation: what one dot did to one entity.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub entity: EntityKey,
    pub part: Part,
}

/// How many live entities each kind has under each type: what fixes a kind's type.
#[derive(Debug, Default)]
pub(crate) struct Kinds(BTreeMap<String, Kind>);

#[derive(Debug, Default)]
struct Kind {
    /// An entity counts under each type that it has.
    types: BTreeMap<Type, u64>,
    /// Under whichever types.
    entities: u64,
}

impl Kinds {
    /// The type that entities of this kind have here; the lowest, should two sides of a partition have differed.
    pub fn type_of(&self, kind: &str) -> Option<Type> {
        self.0.get(kind)?.types.keys().next().copied()
    }

    /// Every type that entities of this kind have here, ascending.
    pub fn types_of(&self, kind: &str) -> impl Iterator<Item = Type> {
        self.0
            .get(kind)
            .into_iter()
            .flat_map(|kind| kind.types.keys().copied())
    }

    /// How many entities of this kind there are here, of whatever type.
    pub fn count_of(&self, kind: &str) -> u64 {
        self.0.get(kind).map_or(0, |kind| kind.entities)
    }

    /// How many there are of all kinds.
    pub fn entities(&self) -> u64 {
        self.0.values().map(|kind| kind.entities).sum()
    }

    /// Counts what somebody else has counted of other entities.
    pub fn join(&mut self, others: Kinds) {
        for (name, other) in others.0 {
            let kind = self.0.entry(name).or_default();
            kind.entities += other.entities;
            for (ty, n) in other.types {
                *kind.types.entry(ty).or_default() += n;
            }
        }
    }

    /// An entity is of a type, or no more. `is_otherwise`: whether it exists under another.
    fn count(&mut self, (id, ty): &EntityKey, exists: bool, is_otherwise: impl FnOnce() -> bool) {
        if exists && !self.0.contains_key(id.kind()) {
            self.0.insert(id.kind().to_owned(), Kind::default());
        }
        let Some(kind) = self.0.get_mut(id.kind()) else {
            return;
        };
        // Two sides of a partition have rarely differed.
        let is_same = kind.types.keys().any(|other| other != ty) && is_otherwise();
        if exists {
            *kind.types.entry(*ty).or_default() += 1;
            kind.entities += u64::from(!is_same);
            return;
        }
        kind.entities -= u64::from(!is_same);
        if let Some(n) = kind.types.get_mut(ty) {
            *n -= 1;
            if *n == 0 {
                kind.types.remove(ty);
            }
        }
        if kind.types.is_empty() {
            self.0.remove(id.kind());
        }
    }
}

/// What a peer has been told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub applied: VersionVector,
    pub durable: VersionVector,
    pub voting: bool,
}

/// What a peer has said of itself, in its current epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerView {
    /// Whether anything has been said yet over the current link.
    pub known: bool,
    pub applied: VersionVector,
    pub durable: VersionVector,
    /// Whether it counts for majorities.
    pub voting: bool,
    /// What it has been told of this shard over the current link.
    pub told: Told,
    /// Below this it cannot serve, as last told.
    pub base: Option<VersionVector>,
    /// Up to here its copy of our own stream has been sent over the current link.
    pub cursor: u64,
}

impl PeerView {
    /// Something was heard over the current link: pushing begins, or goes on, behind what the peer has. That may be more
    /// than was sent, after a pull or a snapshot.
    pub fn is_known(&mut self, me: Option<ReplicaIx>) {
        let has = me.map_or(0, |me| self.applied.get(me));
        self.cursor = if self.known { self.cursor.max(has) } else { has };
        self.known = true;
    }
}

/// A batch that waits for what it depends on.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub from_peer: NodeId,
    pub since: Time,
    pub interval: Incoming,
}

/// A whole interval, translated into this shard's terms.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub from: VersionVector,
    pub to: VersionVector,
    pub deps: VersionVector,
    pub urgent: bool,
    /// About what it takes in memory.
    pub bytes: usize,
    pub entries: Vec<Entry>,
}

/// The shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub id: ShardId,
    pub replicas: Arc<Replicas>,
    /// This node's current epoch here, once it has written.
    pub me: Option<ReplicaIx>,
    pub vv: VersionVector,
    pub durable: VersionVector,
    /// Shared with whoever holds the shard still: the first change after that copies the rows, not their values.
    pub entities: Arc<Rows>,
    pub rings: BTreeMap<ReplicaIx, Ring>,
    /// What the engine last counted its rings at.
    pub counted_ring_bytes: usize,
    pub fingerprint: u64,
    pub peers: BTreeMap<NodeId, PeerView>,
    /// The last record that changed this shard and is kept back, since it has an idempotency key or is about a bounded counter:
    /// what it did leaves once it is durable.
    pub kept_back: RecordId,
    /// Whether this start has covered another member's base once.
    pub caught_up: bool,
    /// Whether a peer remembers operations of this node that this directory has lost.
    pub outdated: bool,
    pub held: Vec<Held>,
    /// Counters' slots that were reset and wait.
    pub waiting: Waiting,
    /// What this node's own slots in counters depend on.
    pub own_resets: OwnResets,
}

impl Shard {
    pub fn new(id: ShardId) -> Shard {
        Shard {
            id,
            replicas: Arc::default(),
            me: None,
            vv: VersionVector::new(),
            durable: VersionVector::new(),
            entities: Arc::default(),
            rings: BTreeMap::new(),
            counted_ring_bytes: 0,
            fingerprint: 0,
            peers: BTreeMap::new(),
            kept_back: RecordId::default(),
            caught_up: false,
            outdated: false,
            held: Vec::new(),
            waiting: Waiting::default(),
            own_resets: OwnResets::default(),
        }
    }

    /// This node's index here, made at its first write.
    pub fn me(&mut self, id: ReplicaId) -> Result<ReplicaIx, ReplicasFull> {
        match self.me {
            Some(ix) => Ok(ix),
            None => {
                let ix = Arc::make_mut(&mut self.replicas).intern(id)?;
                self.me = Some(ix);
                Ok(ix)
            }
        }
    }

    /// The type an entity is read as.
    pub fn visible_type(&self, id: &EntityId) -> Option<Type> {
        self.visible(id).map(|(ty, _)| ty)
    }

    /// The value an entity is read as.
    pub fn visible(&self, id: &EntityId) -> Option<(Type, &Arc<Value>)> {
        self.row(id).map(|(_, ty, value)| (ty, value))
    }

    /// The same, with the name that the entity has here.
    pub fn row(&self, id: &EntityId) -> Option<(&EntityId, Type, &Arc<Value>)> {
        self.all_types(id).next()
    }

    /// One of its rows, for who goes on looking at it; with what of a bounded counter the node has inherited.
    pub fn view(
        &self,
        at: ShardId,
        (id, ty): &EntityKey,
        value: &Arc<Value>,
        heir: Option<&(ReplicaId, Epoch)>,
    ) -> View {
        View {
            entity: id.clone(),
            shard: at,
            ty: Some(*ty),
            value: Some(Arc::clone(value)),
            replicas: Arc::clone(&self.replicas),
            heir: heir
                .filter(|_| *ty == Type::BoundedCounter)
                .map(|heir| Box::new(*heir)),
        }
    }

    /// The types under which an entity exists.
    pub fn types_of(&self, id: &EntityId) -> impl Iterator<Item = Type> {
        self.all_types(id).map(|(_, ty, _)| ty)
    }

    /// What exists under an address, by type: more than one value if two sides of a partition disagreed.
    fn all_types(&self, id: &EntityId) -> impl Iterator<Item = (&EntityId, Type, &Arc<Value>)> {
        self.entities.of(id).filter(|(_, _, value)| value.exists())
    }

    /// What stands at a dot, if it is alive here.
    pub fn live_put(&self, entity: &EntityKey, path: &Path, dot: Dot) -> Option<Put> {
        let payload: Payload = self.entities.get(entity)?.payload(path, dot)?;
        Some(Put {
            path: path.clone(),
            payload,
        })
    }

    /// Looks whether this start has covered another member's base. Whether it is so now and was not before.
    #[must_use]
    pub fn check_caught_up(&mut self) -> bool {
        let covers = |view: &PeerView| view.base.as_ref().is_some_and(|base| self.vv.covers(base));
        if self.caught_up || !self.peers.values().any(covers) {
            return false;
        }
        self.caught_up = true;
        self.outdated = false;
        true
    }

    /// The base of an origin's ring; without a ring, what is covered cannot be served.
    pub fn base(&self, ix: ReplicaIx) -> u64 {
        self.rings.get(&ix).map_or_else(|| self.vv.get(ix), Ring::base)
    }

    /// Adds operations of this shard to what a session has seen.
    pub fn add_to(&self, token: &mut Token, seen: &VersionVector) {
        for (ix, seq) in seen.iter() {
            token.insert(self.id, self.replicas.id(ix), seq);
        }
    }

    /// The bases of all origins.
    pub fn bases(&self) -> VersionVector {
        self.vv.iter().map(|(ix, _)| (ix, self.base(ix))).collect()
    }

    /// Joins operations that this shard does not cover yet, in order, and records what they did. The version
    /// vector is left for the caller to advance once all of a step is in. Returns the entities that changed.
    pub fn absorb(&mut self, key: &HashKey, kinds: &mut Kinds, entries: &[Entry]) -> Vec<EntityId> {
        let mut changed: Vec<EntityId> = Vec::new();
        let mut raised = Vec::new();
        for run in entries.chunk_by(|one, next| one.entity == next.entity) {
            let entity = &run[0].entity;
            let parts = run.iter().map(|entry| entry.part.clone()).collect();
            let news = self.join_delta(key, kinds, entity, &Delta::from_parts(entity.1, parts));
            if !news.is_empty() && changed.last() != Some(&entity.0) {
                changed.push(entity.0.clone());
            }
            raised.extend(news.raised);
        }
        self.note_resets(entries.iter().map(|entry| (&entry.entity, &entry.part)));
        for entry in entries {
            self.record_slot(&entry.entity, &entry.part);
        }
        self.note_raised(raised);
        changed
    }

    /// The same for what one mutation of this node did. Says whether the entity changed.
    pub fn absorb_own(
        &mut self,
        key: &HashKey,
        kinds: &mut Kinds,
        entity: &EntityKey,
        delta: &Delta,
    ) -> bool {
        let news = self.join_delta(key, kinds, entity, delta);
        self.note_resets(delta.parts().iter().map(|part| (entity, part)));
        for part in delta.parts() {
            self.record_slot(entity, part);
        }
        let is_changed = !news.is_empty();
        self.note_raised(news.raised);
        is_changed
    }

    fn join_delta(
        &mut self,
        key: &HashKey,
        kinds: &mut Kinds,
        entity: &EntityKey,
        delta: &Delta,
    ) -> anabranch_crdt::Changed {
        let vv = std::mem::take(&mut self.vv);
        let news = self.change(key, kinds, entity, |value, env| value.join_delta(env, &vv, delta));
        self.vv = vv;
        news
    }

    /// What the slots of counters depend on.
    fn note_raised(&mut self, raised: Vec<(Dot, Option<Dot>)>) {
        for (dot, by) in raised {
            let ring = self.rings.get_mut(&dot.ix());
            if let Some(slot) = ring.and_then(|ring| ring.get_mut(dot.seq())) {
                slot.raised = by;
            }
        }
    }

    /// Changes one entity's value through `join` and keeps the fingerprint and the row in step with it.
    pub fn change(
        &mut self,
        key: &HashKey,
        kinds: &mut Kinds,
        entity: &EntityKey,
        join: impl FnOnce(&mut Value, &Env<'_>) -> anabranch_crdt::Changed,
    ) -> anabranch_crdt::Changed {
        let env = Env {
            replicas: &self.replicas,
            key,
        };
        let rows = Arc::make_mut(&mut self.entities);
        let row = rows.or_new(entity);
        let named = hasher_of(key, entity);
        let before = row_fingerprint(&named, row);
        let gone = planted!("digest_ignores_removals", 0, before);
        let existed = row.exists();
        let changed = join(Arc::make_mut(row), &env);
        self.fingerprint = self
            .fingerprint
            .wrapping_sub(gone)
            .wrapping_add(row_fingerprint(&named, row));
        let exists = row.exists();
        if row.is_vacant() {
            rows.remove(entity);
        }
        if existed != exists {
            kinds.count(entity, exists, || {
                self.types_of(&entity.0).any(|ty| ty != entity.1)
            });
        }
        changed
    }

    /// Adds rows that are not here, in order, and keeps the fingerprint in step with them.
    pub fn add_rows(&mut self, key: &HashKey, kinds: &mut Kinds, rows: Vec<(EntityKey, Value)>) {
        for (i, (name, value)) in rows.iter().enumerate() {
            let fingerprint = row_fingerprint(&hasher_of(key, name), value);
            self.fingerprint = self.fingerprint.wrapping_add(fingerprint);
            if value.exists() {
                let before = || rows[..i].iter().rev().take_while(|((id, _), _)| *id == name.0);
                kinds.count(name, true, || {
                    before().any(|(_, other)| other.exists()) || self.types_of(&name.0).next().is_some()
                });
            }
        }
        Arc::make_mut(&mut self.entities).extend_sorted(rows);
    }

    /// One slot per dot, for the operations that follow the ring's head.
    fn record_slot(&mut self, entity: &EntityKey, part: &Part) {
        let dot = part.dot;
        for kill in &part.kills {
            if let Some(slot) = self
                .rings
                .get_mut(&kill.dot.ix())
                .and_then(|r| r.get_mut(kill.dot.seq()))
                && slot.killer.is_none()
            {
                slot.killer = Some(dot);
            }
        }
        let base = self.vv.get(dot.ix());
        let ring = self.rings.entry(dot.ix()).or_insert_with(|| Ring::new(base));
        if planted!("duplicate_counted_twice", dot.seq() <= ring.head(), false) {
            return;
        }
        let path = part.put.as_ref().map(|put| put.path.clone());
        let raised = match &path {
            Some(path) if Some(dot.ix()) == self.me => self.own_resets.before(entity, path),
            _ => None,
        };
        ring.push(
            dot.seq(),
            Slot {
                entity: entity.clone(),
                path,
                kills: part.kills[..].into(),
                killer: None,
                raised,
                commit_end: false,
            },
        );
    }

    /// Lets go of slots: what every member has durably, and whatever is over the cap.
    pub fn trim(&mut self, stable: &VersionVector, slots_max: usize) {
        self.own_resets.trim(stable);
        for (&ix, ring) in &mut self.rings {
            let durable_everywhere = stable.get(ix).min(ring.head());
            if durable_everywhere > ring.base() {
                ring.trim(durable_everywhere);
            }
            if ring.len() > slots_max {
                let upto = ring.head() - slots_max as u64;
                ring.trim(upto);
            }
        }
    }

    /// About what its rings take in memory.
    pub fn ring_bytes(&self) -> usize {
        self.rings.values().map(Ring::bytes).sum()
    }

    /// Lets go of the older half of the ring that takes most, whoever may still need it.
    pub fn halve_largest_ring(&mut self) {
        let largest = self.rings.values_mut().max_by_key(|ring| ring.bytes());
        if let Some(ring) = largest {
            let upto = ring.base() + (ring.len() as u64).div_ceil(2);
            ring.trim(upto);
        }
    }

    /// A number that differs when (version vector, fingerprint) do; 0 for a shard nobody has written.
    pub fn summary(&self, key: &HashKey) -> u64 {
        if self.vv.is_empty() {
            return 0;
        }
        let mut h = SipHasher13::new_with_key(&key.0);
        h.write_u32(self.id.0);
        for (ix, id) in self.replicas.iter() {
            let seq = self.vv.get(ix);
            if seq > 0 {
                h.write_u128(id.node.0);
                h.write_u64(id.epoch.0);
                h.write_u64(seq);
            }
        }
        h.write_u64(self.fingerprint);
        planted!("summary_of_16_bits", h.finish() & 0xffff, h.finish())
    }

    /// The fingerprint computed anew from every row: what `fingerprint` must equal.
    pub fn fingerprint_from_scratch(&self, key: &HashKey) -> u64 {
        let env = Env {
            replicas: &self.replicas,
            key,
        };
        self.entities.iter().fold(0, |sum, (entity, row)| {
            if row.exists() {
                let digest = row.digest_from_scratch(&env);
                sum.wrapping_add(fingerprint_of(&hasher_of(key, entity), digest))
            } else {
                sum
            }
        })
    }
}

fn row_fingerprint(named: &SipHasher13, row: &Value) -> u64 {
    if row.exists() {
        fingerprint_of(named, row.digest())
    } else {
        0
    }
}

/// What has taken in the name of a row, so that its fingerprints before and after a change take it in once.
fn hasher_of(key: &HashKey, (id, ty): &EntityKey) -> SipHasher13 {
    let mut h = SipHasher13::new_with_key(&key.0);
    h.write(id.kind().as_bytes());
    h.write_u8(0xff);
    h.write(id.key().as_bytes());
    h.write_u8(0xff);
    h.write_u8(ty.id());
    h
}

fn fingerprint_of(named: &SipHasher13, digest: u64) -> u64 {
    let mut h = *named;
    h.write_u64(digest);
    h.finish()
}
