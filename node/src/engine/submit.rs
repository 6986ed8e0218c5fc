//! Local updates: checked whole, then made whole; one record, one contiguous range of dots per shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch_crdt::{
    Clock, Issuer, Mutation, MutationError, REPLICAS_MAX, ReplicaId, SEQ_MAX, Type, Value, planted,
};

use crate::engine::Engine;
use crate::engine::applied::Stretch;
use crate::engine::commit::Sight;
use crate::engine::idempotency::{Known, is_repeat, row, update_hash};
use crate::engine::io::{Answer, Copies, Op, Output, RecordId, RequestId, Update};
use crate::engine::levels::Pending;
use crate::engine::persist::Reached;
use crate::engine::shard::{EntityKey, Entry};
use crate::engine::trial::Trials;
use crate::error::{Error, ErrorKind};
use crate::wire::{EntityId, ShardId, Token};

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

/// An operation as it is made: where, on which entity, of which type, and what it does.
pub(super) struct Resolved {
    shard: ShardId,
    pub(super) key: EntityKey,
    pub(super) mutation: Mutation,
}

impl Engine {
    pub(crate) fn on_submit(&mut self, request: RequestId, update: Update) {
        self.submit_by(request, update, None, None);
    }

    /// Makes it, by what a function saw if it is one's, and answers once its level is reached, or that it is refused. `place`: of
    /// this entity it is known where it is.
    pub(crate) fn submit_by(
        &mut self,
        request: RequestId,
        update: Update,
        sight: Option<Sight>,
        place: Option<&(EntityId, ShardId)>,
    ) {
        match self.submit(update, sight, place) {
            Ok(pending) => self.await_level(request, pending),
            Err(error) => self.decline(request, error),
        }
    }

    /// On an error nothing has changed.
    fn submit(
        &mut self,
        update: Update,
        sight: Option<Sight>,
        place: Option<&(EntityId, ShardId)>,
    ) -> Result<Pending, Error> {
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
        let is_keyed = update.key.is_some();
        let (resolved, types) = self.resolve(&update.ops, sight.as_ref(), place, is_keyed)?;
        // Who has no key is never asked again for what it was.
        let hash = if is_keyed {
            update_hash(&update.ops, &types)
        } else {
            0
        };
        if is_keyed && !self.keys.make_room(&self.config.limits, self.now.wall_ms) {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "not accepted, nothing changed: {} idempotency keys of the last hour are kept already; retry later",
                    self.keys.len()
                ),
            ));
        }
        Ok(self.make(update, resolved, hash, sight))
    }

    fn repeat(&self, update: &Update, known: Known) -> Result<Pending, Error> {
        // It was made under the type that was asked for, or the one there was: a repeat may name it or not.
        let types = update.ops.iter().map(|op| match op.mutation {
            Mutation::Delete => None,
            _ => op
                .ty
                .or_else(|| self.known_type(self.shard_of(&op.entity), &op.entity)),
        });
        if !is_repeat(&update.ops, &types.collect::<Vec<_>>(), known.update) {
            return Err(Error::new(
                ErrorKind::KeyReused,
                "nothing changed: this idempotency key was used for a different update; use another key"
                    .to_owned(),
            ));
        }
        let takes_away = update.ops.iter().any(|op| {
            let known = || self.known_type(self.shard_of(&op.entity), &op.entity);
            op.mutation.takes_away(op.ty.or_else(known))
        });
        Ok(self.pending(
            update,
            takes_away,
            self.answer_of(known.epoch, known.dots, true),
            known.record,
        ))
    }

    /// An update that changed nothing answers for what it saw, and one that takes something away for what others had taken away
    /// before, which it did not take away again: that must be where its level says, and its session has seen it. Who had all that
    /// it made, and not that, would show what its caller was told is gone.
    fn pending(&self, update: &Update, takes_away: bool, answer: Answer, record: RecordId) -> Pending {
        let answers_for_all = takes_away || answer.dots.is_empty();
        let token = self.token_of(update, answers_for_all, &answer);
        let answer = Answer { token, ..answer };
        let is_asked = update.level.copies != Copies::Local;
        let observed = if planted!("level_of_what_is_made", answer.dots.is_empty(), answers_for_all)
            && is_asked
        {
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

    /// What the update's session has seen: what it had, what was made of the update, and, where it answers for that, what is here.
    fn token_of(&self, update: &Update, answers_for_all: bool, answer: &Answer) -> Token {
        let before = update.after.clone().unwrap_or_default();
        let mut token = if answers_for_all {
            self.token(&before, update.ops.iter().map(|op| &op.entity))
        } else {
            before
        };
        let replica = ReplicaId::new(self.config.node, answer.epoch);
        for &(shard, _, last) in &answer.dots {
            token.insert(shard, replica, last);
        }
        token
    }

    /// Each operation's entity and type, all checked, and what it does with every child's type filled in; and the type
    /// that each operation was taken to mean, if that is to be remembered.
    fn resolve(
        &self,
        ops: &[Op],
        sight: Option<&Sight>,
        place: Option<&(EntityId, ShardId)>,
        is_keyed: bool,
    ) -> Result<(Vec<Resolved>, Vec<Option<Type>>), Error> {
        let mut fixed: BTreeMap<&str, Type> = BTreeMap::new();
        let (mut all, mut types) = (Vec::with_capacity(ops.len()), Vec::new());
        let mut trials = Trials::new(self);
        for op in ops {
            let shard = match place {
                Some((entity, shard)) if *entity == op.entity => *shard,
                _ => self.shard_of(&op.entity),
            };
            self.check_takes_writes(shard)?;
            self.check_room(shard)?;
            let is_deletion = op.mutation == Mutation::Delete;
            if is_deletion && op.ty.is_none() {
                types.extend(is_keyed.then_some(None));
                self.resolve_delete(shard, op, &fixed, &mut trials, &mut all)?;
                continue;
            }
            let (key, here) = self.row_for(shard, op, &fixed)?;
            let ty = key.1;
            // What is deleted has its type no more when it is asked for again.
            types.extend(is_keyed.then_some((!is_deletion).then_some(ty)));
            if ops.len() > 1 {
                fixed.entry(op.entity.kind()).or_insert(ty);
            }
            let refused = |e: MutationError| Error::new(kind_of(&e), format!("{}: {e}", op.entity));
            let resolved = trials.resolve(shard, &key, here.map(|value| &**value), &all, &op.mutation);
            let (mutation, is_tried) = resolved.map_err(refused)?;
            // What its function removed itself need not be what it saw.
            let sight = sight.filter(|sight| !is_tried && sight.concerns(&key, &mutation));
            if let Some(sight) = sight {
                sight.check(&op.mutation, &mutation)?;
            }
            if ty == Type::BoundedCounter {
                trials.make(shard, &key, &mutation).map_err(refused)?;
                self.check_receiver(shard, &op.entity, &mutation)?;
            }
            all.push(Resolved { shard, key, mutation });
        }
        Ok((all, types))
    }

    /// What is handed to somebody whom nobody knows is gone for good. So is what is handed to a run that never was: a node's later
    /// runs take up what the earlier ones of its directory held, and a made-up one may be none of these.
    fn check_receiver(&self, shard: ShardId, entity: &EntityId, mutation: &Mutation) -> Result<(), Error> {
        let (to, amount) = match mutation {
            Mutation::Transfer { to, amount } if *amount > 0 => (*to, amount),
            _ => return Ok(()),
        };
        let why = if !self.members.contains(&to.node) {
            "which is no member of the cluster".to_owned()
        } else if !self.is_known_run(shard, to) {
            format!("of which no run {} is known here", to.epoch)
        } else {
            return Ok(());
        };
        let node = to.node;
        let message = format!("nothing changed: {amount} of {entity} cannot be handed to node {node}, {why}");
        Err(Error::new(ErrorKind::Invalid, message))
    }

    /// The entity that an operation concerns, as the type that it is taken to be of, and what there is of it.
    fn row_for(
        &self,
        shard: ShardId,
        op: &Op,
        fixed: &BTreeMap<&str, Type>,
    ) -> Result<(EntityKey, Option<&Arc<Value>>), Error> {
        let rows = &self.shards[shard.0 as usize];
        if let Some((own, is, value)) = rows.row(&op.entity)
            && op.ty.is_none_or(|asked| asked == is)
        {
            return Ok(((own.clone(), is), Some(value)));
        }
        let key = (op.entity.clone(), self.type_for(shard, &op.entity, op.ty, fixed)?);
        let here = rows.entities.get(&key);
        Ok((key, here))
    }

    /// A deletion that names no type is of the entity whole: under each of the types that two sides of a partition may
    /// have given it, and that earlier operations of the update give it.
    fn resolve_delete(
        &self,
        shard: ShardId,
        op: &Op,
        fixed: &BTreeMap<&str, Type>,
        trials: &mut Trials<'_>,
        all: &mut Vec<Resolved>,
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
            all.push(Resolved {
                shard,
                key,
                mutation: op.mutation.clone(),
            });
        }
        Ok(())
    }

    /// The type that an entity has, or would get, by what is here and declared.
    pub(crate) fn known_type(&self, shard: ShardId, entity: &EntityId) -> Option<Type> {
        let kind = entity.kind();
        self.shards[shard.0 as usize]
            .visible_type(entity)
            .or_else(|| self.config.kinds.get(kind).copied())
            .or_else(|| self.kinds.type_of(kind))
    }

    pub(crate) fn type_for(
        &self,
        shard: ShardId,
        entity: &EntityId,
        asked: Option<Type>,
        fixed: &BTreeMap<&str, Type>,
    ) -> Result<Type, Error> {
        let kind = entity.kind();
        let known = self.known_type(shard, entity);
        let known = known.or_else(|| fixed.get(kind).copied());
        match (known, asked) {
            (Some(known), Some(asked)) if known != asked => {
                let shard = &self.shards[shard.0 as usize];
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
    fn make(
        &mut self,
        update: Update,
        resolved: Vec<Resolved>,
        hash: u64,
        mut sight: Option<Sight>,
    ) -> Pending {
        let is_kept = resolved.iter().any(|op| op.key.1 == Type::BoundedCounter);
        let takes_away = resolved.iter().any(|op| op.mutation.takes_away(Some(op.key.1)));
        let (mut stretches, mut changed) = (Vec::new(), Vec::new());
        for op in resolved {
            self.make_one(op, &mut stretches, &mut changed, sight.as_mut());
        }
        stretches.retain(|stretch| !stretch.entries.is_empty());
        let dots = stretches.iter().map(|s| (s.shard, s.from + 1, s.to()));
        let answer = self.answer_of(self.started.epoch, dots.collect(), false);
        if stretches.is_empty() && update.key.is_none() {
            return self.pending(&update, takes_away, answer, self.last_record());
        }
        let known = update.key.as_ref().map(|key| {
            let known = Known {
                update: hash,
                at_ms: self.now.wall_ms,
                epoch: self.started.epoch,
                record: RecordId::default(),
                dots: answer.dots.clone(),
            };
            (key.clone(), known)
        });
        let row = known.as_ref().map(|(key, known)| row(key, known));
        for stretch in &stretches {
            self.end_commit(stretch);
        }
        // Most updates are of one shard, and need no memory for this.
        let reach = |s: &Stretch| -> Reached { (s.shard, s.me, s.to()) };
        let (one, several);
        let reached = match &stretches[..] {
            [only] => {
                one = [reach(only)];
                &one[..]
            }
            all => {
                several = all.iter().map(reach).collect::<Vec<Reached>>();
                &several[..]
            }
        };
        let bytes = self.applied(&stretches, row);
        let record = self.record_bytes(bytes, reached);
        if let Some((key, known)) = known {
            self.keys.insert(key, Known { record, ..known });
        }
        changed.sort_unstable();
        changed.dedup();
        for entity in changed {
            self.outputs.push_back(Output::Changed { entity });
        }
        let pending = self.pending(&update, takes_away, answer, record);
        for &(shard, _, _) in reached {
            if update.key.is_some() || is_kept {
                self.shard(shard).kept_back = record;
            }
            self.touch(shard);
            self.mark_dirty(shard);
        }
        pending
    }

    fn make_one(
        &mut self,
        op: Resolved,
        stretches: &mut Vec<Stretch>,
        changed: &mut Vec<EntityId>,
        sight: Option<&mut Sight>,
    ) {
        let Resolved {
            shard: id,
            key,
            mutation,
        } = op;
        let me = self.me();
        let inherits = self.inherited(id, key.1);
        let stamp = if is_stamped(&mutation, key.1) {
            self.clock.tick(self.now.wall_ms)
        } else {
            0
        };
        let shard = &mut self.shards[id.0 as usize];
        let Ok(me) = shard.me(me) else {
            unreachable!("shard {id} has no room for another replica");
        };
        let from = shard.vv.get(me);
        let stretch = Stretch::of(stretches, id, me, from);
        let issuer = Issuer {
            replicas: &shard.replicas,
            me,
            next_seq: from + 1,
            stamp,
            inherits,
        };
        let mutation = planted!("canary", more(&mutation), mutation);
        let seen = sight.as_deref().filter(|sight| sight.concerns(&key, &mutation));
        let delta = match seen {
            Some(sight) => sight.mutate(&issuer, &mutation),
            None => {
                let delta = match shard.entities.get(&key) {
                    Some(value) => value.mutate(&issuer, &mutation),
                    None => Value::new(key.1).mutate(&issuer, &mutation),
                };
                delta.unwrap_or_else(|error| {
                    unreachable!("{} was checked against its type: {error}", key.0);
                })
            }
        };
        if let Some(sight) = sight {
            sight.join(&key, &shard.replicas, &self.key, &delta);
        }
        let Some(last) = delta.parts().last().map(|part| part.dot.seq()) else {
            return;
        };
        assert!(
            last <= SEQ_MAX && last == from + delta.parts().len() as u64,
            "a mutation's dots are contiguous"
        );
        if shard.absorb_own(&self.key, &mut self.kinds, &key, &delta) {
            changed.push(key.0.clone());
        }
        shard.vv.advance(me, last);
        let entry = |part| Entry {
            entity: key.clone(),
            part,
        };
        stretch.entries.extend(delta.into_parts().into_iter().map(entry));
    }

    /// Marks the end of the commit.
    fn end_commit(&mut self, stretch: &Stretch) {
        let (id, slots_max) = (stretch.shard, self.config.limits.ring_slots_max);
        let shard = self.shard(id);
        if let Some(ring) = shard.rings.get_mut(&stretch.me) {
            if let Some(slot) = ring.get_mut(stretch.to()) {
                slot.commit_end = true;
            }
            if ring.len() > slots_max {
                self.trim(id);
            }
        }
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
}

/// The planted canary: an increment counts one more.
#[cfg(planted)]
fn more(m: &Mutation) -> Mutation {
    match m {
        Mutation::Increment(n) => Mutation::Increment(n.saturating_add(1)),
        m => m.clone(),
    }
}
