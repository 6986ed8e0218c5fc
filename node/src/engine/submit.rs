//! Local updates: checked whole, then made whole; one record, one contiguous range of dots per shard.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_crdt::{
    Clock, Issuer, Mutation, MutationError, REPLICAS_MAX, ReplicaId, ReplicaIx, SEQ_MAX, Type, Value,
    VersionVector, planted,
};

use crate::engine::Engine;
use crate::engine::commit::Sight;
use crate::engine::idempotency::{Known, is_repeat, row, update_hash};
use crate::engine::io::{Copies, Op, Output, RecordId, RequestId, Update};
use crate::engine::levels::Pending;
use crate::engine::shard::{EntityKey, Entry};
use crate::engine::translate::{Head, OutEntry, write_interval};
use crate::engine::trial::Trials;
use crate::error::{Error, ErrorKind};
use crate::wire::{EntityId, Interval, Record, ShardId, Token};

/// Why the algebra refused, as callers tell it apart.
fn kind_of(error: &MutationError) -> ErrorKind {
    match error {
        MutationError::WrongOperation { .. }
        | MutationError::ChildType { .. }
        | MutationError::OtherChild { .. } => ErrorKind::WrongType,
        MutationError::NegativeIncrement { .. } | MutationError::NoClock | MutationError::TooDeep => {
            ErrorKind::Invalid
        }
        MutationError::NewChild { .. } => ErrorKind::TypeRequired,
        MutationError::NotHeld { .. } => ErrorKind::Rights,
        MutationError::HoldsTooMuch => ErrorKind::Invalid,
        MutationError::TransfersWait { .. } => ErrorKind::Overloaded,
        MutationError::Exhausted => ErrorKind::Internal,
    }
}

/// Whether it writes a last-writer register with the hybrid clock.
fn is_stamped(mutation: &Mutation, ty: Type) -> bool {
    match mutation {
        Mutation::Update {
            ty: Some(ty),
            mutation,
            ..
        } => is_stamped(mutation, *ty),
        Mutation::Set {
            clock: Clock::Default | Clock::Reverse,
            ..
        } => ty == Type::LwwRegister,
        _ => false,
    }
}

/// An operation as it is made: on which entity, of which type, and what it does.
type Resolved = (EntityKey, Mutation);

/// What an update does to one shard.
struct Stretch {
    me: ReplicaIx,
    from: u64,
    entries: Vec<Entry>,
}

impl Engine {
    pub(crate) fn on_submit(&mut self, request: RequestId, update: Update) {
        self.submit_by(request, update, None);
    }

    /// Makes it, by what a function saw if it is one's, and answers once its level is reached, or that it is refused.
    pub(crate) fn submit_by(&mut self, request: RequestId, update: Update, sight: Option<Sight>) {
        match self.submit(update, sight) {
            Ok(pending) => self.await_level(request, pending),
            Err(error) => self.decline(request, error),
        }
    }

    /// On an error nothing has changed.
    fn submit(&mut self, update: Update, sight: Option<Sight>) -> Result<Pending, Error> {
        self.check_size(&update.ops)?;
        self.copies_needed(update.level)?;
        if self.requests_waiting() >= self.config.limits.requests_max {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "not accepted, nothing changed: {} updates wait for confirmation; retry later",
                    self.requests_waiting()
                ),
            ));
        }
        if let Some(known) = update.key.as_ref().and_then(|k| self.keys.get(k)) {
            return self.repeat(&update, known.clone());
        }
        self.check_store()?;
        let (keys, types) = self.resolve(&update.ops, sight.as_ref())?;
        let hash = update_hash(&update.ops, &types);
        if update.key.is_some() && !self.keys.make_room(&self.config.limits, self.now.wall_ms) {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "not accepted, nothing changed: {} idempotency keys of the last hour are kept already; retry later",
                    self.keys.len()
                ),
            ));
        }
        Ok(self.make(update, keys, hash, sight))
    }

    fn repeat(&self, update: &Update, known: Known) -> Result<Pending, Error> {
        // It was made under the type that was asked for, or the one there was: a repeat may name it or not.
        let types = update.ops.iter().map(|op| match op.mutation {
            Mutation::Delete => None,
            _ => op.ty.or_else(|| self.known_type(&op.entity)),
        });
        if !is_repeat(&update.ops, &types.collect::<Vec<_>>(), known.update) {
            return Err(Error::new(
                ErrorKind::KeyReused,
                "nothing changed: this idempotency key was used for a different update; use another key"
                    .to_owned(),
            ));
        }
        Ok(self.pending(
            update,
            self.answer_of(known.epoch, known.dots, true),
            known.record,
        ))
    }

    fn pending(&self, update: &Update, answer: crate::engine::Answer, record: RecordId) -> Pending {
        let token = self.token_of(update, &answer);
        let answer = crate::engine::Answer { token, ..answer };
        // An update that changed nothing answers for what it saw: that must be where its level says.
        let observed = if answer.dots.is_empty() && update.level.copies != Copies::Local {
            let shards: BTreeSet<ShardId> = update.ops.iter().map(|op| self.shard_of(&op.entity)).collect();
            shards
                .into_iter()
                .map(|id| (id, self.shards[id.0 as usize].vv.clone()))
                .collect()
        } else {
            Vec::new()
        };
        Pending {
            answer,
            observed,
            level: update.level,
            record,
            keyed: update.key.is_some(),
            reads: false,
            deadline: self.now.time.after_ms(update.timeout_ms),
            timeout_ms: update.timeout_ms,
        }
    }

    /// What the update's session has seen: what it had, and what was made of the update, or what there was already.
    fn token_of(&self, update: &Update, answer: &crate::engine::Answer) -> Token {
        let before = update.after.as_ref();
        if answer.dots.is_empty() {
            let entities = update.ops.iter().map(|op| &op.entity);
            return self.token(before.unwrap_or(&Token::default()), entities);
        }
        let mut token = before.cloned().unwrap_or_default();
        let replica = ReplicaId::new(self.config.node, answer.epoch);
        for &(shard, _, last) in &answer.dots {
            token.insert(shard, replica, last);
        }
        token
    }

    /// Each operation's entity and type, all checked, and what it does with every child's type filled in; and the type
    /// that each operation was taken to mean.
    fn resolve(
        &self,
        ops: &[Op],
        sight: Option<&Sight>,
    ) -> Result<(Vec<Resolved>, Vec<Option<Type>>), Error> {
        let mut fixed: BTreeMap<&str, Type> = BTreeMap::new();
        let (mut keys, mut types) = (Vec::with_capacity(ops.len()), Vec::with_capacity(ops.len()));
        let mut trials = Trials::new(self);
        for op in ops {
            let shard = self.shard_of(&op.entity);
            self.check_takes_writes(shard)?;
            self.check_room(shard)?;
            let is_deletion = op.mutation == Mutation::Delete;
            if is_deletion && op.ty.is_none() {
                types.push(None);
                self.resolve_delete(shard, op, &fixed, &mut trials, &mut keys)?;
                continue;
            }
            let ty = self.type_for(&op.entity, op.ty, &fixed)?;
            // What is deleted has its type no more when it is asked for again.
            types.push((!is_deletion).then_some(ty));
            fixed.entry(op.entity.kind()).or_insert(ty);
            let key = (op.entity.clone(), ty);
            let here = self.shards[shard.0 as usize].entities.get(&key);
            let resolved = match here {
                Some(value) => value.resolve(&op.mutation),
                None => Value::new(ty).resolve(&op.mutation),
            };
            let refused = |e: MutationError| Error::new(kind_of(&e), format!("{}: {e}", op.entity));
            let mutation = resolved.map_err(refused)?;
            if let Some(sight) = sight.filter(|sight| sight.concerns(&key, &mutation)) {
                sight.check(&op.mutation, &mutation)?;
            }
            if ty == Type::BoundedCounter {
                trials.make(shard, &key, &mutation).map_err(refused)?;
            }
            keys.push((key, mutation));
        }
        Ok((keys, types))
    }

    /// A deletion that names no type is of the entity whole: under each of the types that two sides of a partition may
    /// have given it, and that earlier operations of the update give it.
    fn resolve_delete(
        &self,
        shard: ShardId,
        op: &Op,
        fixed: &BTreeMap<&str, Type>,
        trials: &mut Trials<'_>,
        keys: &mut Vec<Resolved>,
    ) -> Result<(), Error> {
        let here = self.shards[shard.0 as usize].types_of(&op.entity);
        let new = fixed.get(op.entity.kind()).copied();
        let types: BTreeSet<Type> = here.chain(new).collect();
        for ty in types {
            let key = (op.entity.clone(), ty);
            if ty == Type::BoundedCounter {
                let tried = trials.make(shard, &key, &op.mutation);
                tried.map_err(|e| Error::new(kind_of(&e), format!("{}: {e}", op.entity)))?;
            }
            keys.push((key, op.mutation.clone()));
        }
        Ok(())
    }

    /// The type that an entity has, or would get, by what is here and declared.
    fn known_type(&self, entity: &EntityId) -> Option<Type> {
        let (kind, shard) = (entity.kind(), self.shard_of(entity));
        self.shards[shard.0 as usize]
            .visible_type(entity)
            .or_else(|| self.config.kinds.get(kind).copied())
            .or_else(|| self.kinds.type_of(kind))
    }

    pub(crate) fn type_for(
        &self,
        entity: &EntityId,
        asked: Option<Type>,
        fixed: &BTreeMap<&str, Type>,
    ) -> Result<Type, Error> {
        let kind = entity.kind();
        let known = self.known_type(entity).or_else(|| fixed.get(kind).copied());
        match (known, asked) {
            (Some(known), Some(asked)) if known != asked => {
                let shard = &self.shards[self.shard_of(entity).0 as usize];
                let exists = shard.visible_type(entity).is_some();
                let (what, known) = (
                    if exists {
                        ""
                    } else {
                        "of a kind whose entities are each "
                    },
                    known.indefinite(),
                );
                Err(Error::new(
                    ErrorKind::WrongType,
                    format!(
                        "nothing changed: {entity} is {what}{known}, not {}",
                        asked.indefinite()
                    ),
                ))
            }
            (Some(ty), _) | (None, Some(ty)) => Ok(ty),
            (None, None) => {
                let types: Vec<&str> = Type::ALL.iter().map(|t| t.name()).collect();
                Err(Error::new(
                    ErrorKind::TypeRequired,
                    format!(
                        "nothing changed: kind {kind:?} is new; name its type, one of {}",
                        types.join(", ")
                    ),
                ))
            }
        }
    }

    /// Cannot fail: everything was checked.
    fn make(&mut self, update: Update, keys: Vec<Resolved>, hash: u64, mut sight: Option<Sight>) -> Pending {
        let mut stretches: BTreeMap<ShardId, Stretch> = BTreeMap::new();
        let mut changed: BTreeSet<EntityId> = BTreeSet::new();
        for (key, mutation) in keys {
            self.make_one(key, &mutation, &mut stretches, &mut changed, sight.as_mut());
        }
        let dots: Vec<(ShardId, u64, u64)> = stretches
            .iter()
            .filter(|(_, s)| !s.entries.is_empty())
            .map(|(id, s)| (*id, s.from + 1, s.from + s.entries.len() as u64))
            .collect();
        let answer = self.answer_of(self.started.epoch, dots.clone(), false);
        if dots.is_empty() && update.key.is_none() {
            return self.pending(&update, answer, self.last_record());
        }
        let known = Known {
            update: hash,
            at_ms: self.now.wall_ms,
            epoch: self.started.epoch,
            record: RecordId::default(),
            dots: dots.clone(),
        };
        let key = update.key.as_ref().map(|key| row(key, &known));
        let shards: Vec<ShardId> = dots.iter().map(|(id, _, _)| *id).collect();
        let mut intervals = Vec::with_capacity(stretches.len());
        for (id, stretch) in stretches {
            if !stretch.entries.is_empty() {
                intervals.push(self.seal_stretch(id, &stretch));
            }
        }
        let record = self.record(&Record::Applied(intervals, key), &shards);
        if let Some(key) = update.key.clone() {
            self.keys.insert(key, Known { record, ..known });
        }
        for entity in changed {
            self.outputs.push_back(Output::Changed { entity });
        }
        let pending = self.pending(&update, answer, record);
        for shard in shards {
            if update.key.is_some() {
                self.shard(shard).keyed = record;
            }
            self.touch(shard);
            self.mark_dirty(shard);
        }
        pending
    }

    fn make_one(
        &mut self,
        key: EntityKey,
        mutation: &Mutation,
        stretches: &mut BTreeMap<ShardId, Stretch>,
        changed: &mut BTreeSet<EntityId>,
        sight: Option<&mut Sight>,
    ) {
        let id = self.shard_of(&key.0);
        let me = self.me();
        let stamp = if is_stamped(mutation, key.1) {
            self.clock.tick(self.now.wall_ms)
        } else {
            0
        };
        let shard = &mut self.shards[id.0 as usize];
        let Ok(me) = shard.me(me) else {
            unreachable!("shard {id} has no room for another replica");
        };
        let from = shard.vv.get(me);
        let stretch = stretches.entry(id).or_insert(Stretch {
            me,
            from,
            entries: Vec::new(),
        });
        let issuer = Issuer {
            replicas: &shard.replicas,
            me,
            next_seq: from + 1,
            stamp,
        };
        let empty = Value::new(key.1);
        let value = shard.entities.get(&key).map_or(&empty, |v| v);
        let mutation = planted!("canary", more(mutation), mutation.clone());
        let seen = sight.as_deref().filter(|sight| sight.concerns(&key, &mutation));
        let delta = match seen {
            Some(sight) => sight.mutate(&issuer, &mutation),
            None => value.mutate(&issuer, &mutation).unwrap_or_else(|error| {
                unreachable!("{} was checked against its type: {error}", key.0);
            }),
        };
        if let Some(sight) = sight {
            sight.join(&key, &shard.replicas, &self.key, &delta);
        }
        let entries: Vec<Entry> = delta
            .into_parts()
            .into_iter()
            .map(|part| Entry {
                entity: key.clone(),
                part,
                commit_end: false,
            })
            .collect();
        let Some(last) = entries.last().map(|e| e.part.dot.seq()) else {
            return;
        };
        assert!(
            last <= SEQ_MAX && last == from + entries.len() as u64,
            "a mutation's dots are contiguous"
        );
        stretch.entries.extend(entries.iter().cloned());
        changed.extend(shard.absorb(&self.key, &mut self.kinds, entries));
        shard.vv.advance(me, last);
    }

    /// Marks the end of the commit and writes what the log keeps of it.
    fn seal_stretch(&mut self, id: ShardId, stretch: &Stretch) -> Interval {
        let slots_max = self.config.limits.ring_slots_max;
        let shard = self.shard(id);
        let to = shard.vv.get(stretch.me);
        if let Some(ring) = shard.rings.get_mut(&stretch.me) {
            if let Some(slot) = ring.get_mut(to) {
                slot.commit_end = true;
            }
            let full = ring.len() > slots_max;
            if full {
                self.trim(id);
            }
        }
        let from = VersionVector::from_iter([(stretch.me, stretch.from)]);
        let to = VersionVector::from_iter([(stretch.me, to)]);
        write_record_interval(
            &self.shards[id.0 as usize].replicas,
            id,
            &from,
            &to,
            &stretch.entries,
        )
    }

    /// Whether there is nobody to catch up with.
    pub(crate) fn is_alone(&self) -> bool {
        self.members.len() == 1 && !self.expects_others
    }

    /// Whether this shard takes writes from callers.
    pub(crate) fn takes_writes(&self, shard: ShardId) -> bool {
        let s = &self.shards[shard.0 as usize];
        self.is_alone() || s.caught_up || (self.settled.now && !s.outdated)
    }

    /// A shard's table of replicas has room for this node's epoch.
    fn check_room(&self, id: ShardId) -> Result<(), Error> {
        let shard = &self.shards[id.0 as usize];
        if shard.me.is_some()
            || shard.replicas.len() < REPLICAS_MAX
            || shard.replicas.get(self.me()).is_some()
        {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Overloaded,
            format!(
                "not accepted, nothing changed: shard {id} has been written under {REPLICAS_MAX} epochs, and no more fit"
            ),
        ))
    }

    /// Once every shard takes writes the directory is as good as its peers', at its next starts too.
    pub(crate) fn check_settled(&mut self) {
        if !self.settled.now && self.is_ready() {
            self.settled.now = true;
            self.record(&Record::Settled, &[]);
        }
    }

    fn check_takes_writes(&self, shard: ShardId) -> Result<(), Error> {
        if self.takes_writes(shard) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NotReady,
            "not accepted, nothing changed: this node's directory is new or older than its peers', and it has not caught up \
             with one of them yet; retry later, or at another node"
                .to_owned(),
        ))
    }
}

/// The planted canary: an increment counts one more.
#[cfg(planted)]
fn more(m: &Mutation) -> Mutation {
    match m {
        Mutation::Increment(n) => Mutation::Increment(n.saturating_add(1)),
        m => m.clone(),
    }
}

/// Operations as the log keeps them: one interval, however large.
pub(crate) fn write_record_interval(
    replicas: &anabranch_crdt::Replicas,
    shard: ShardId,
    from: &VersionVector,
    to: &VersionVector,
    entries: &[Entry],
) -> Interval {
    assert!(to.covers(from), "a record that ends before it begins");
    let none = VersionVector::new();
    let head = Head {
        shard: shard.0,
        id: 0,
        from,
        to,
        deps: &none,
        urgent: false,
    };
    let out = entries.iter().map(|e| OutEntry {
        dot: e.part.dot,
        entity: &e.entity,
        put: e.part.put.clone(),
        kills: &e.part.kills,
    });
    let mut parts = write_interval(replicas, &head, usize::MAX, out);
    assert!(parts.len() == 1, "an interval without a budget has one part");
    parts.swap_remove(0)
}
