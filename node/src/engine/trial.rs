//! Updates tried out, where what one operation may do follows from those before it: several may each hold what they take of a bounded
//! counter, and all together not; and a child of a map may be made as another type once it was removed.
//!
//! Contract: what passes here is not refused when the update is made, and nothing of the shards has changed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anabranch_crdt::{Env, Issuer, Mutation, MutationError, ReplicaIx, Replicas, Value};

use crate::engine::Engine;
use crate::engine::shard::EntityKey;
use crate::engine::submit::Resolved;
use crate::wire::ShardId;

/// Copies of what one update is about, changed as it goes: of counters, and of maps where there is need.
pub(crate) struct Trials<'a> {
    engine: &'a Engine,
    /// Per shard its replicas, this node's epoch among them.
    tables: BTreeMap<ShardId, (Cow<'a, Replicas>, ReplicaIx)>,
    /// Each copy with its operations' next sequence, which is only the trial's.
    copies: BTreeMap<EntityKey, (Value, u64)>,
    /// Where each map's operations are among those before that were looked at: each is once, and only if there is need.
    of_maps: BTreeMap<EntityKey, Vec<usize>>,
    looked_at: usize,
}

impl<'a> Trials<'a> {
    /// Nothing tried yet.
    pub fn new(engine: &'a Engine) -> Trials<'a> {
        Trials {
            engine,
            tables: BTreeMap::new(),
            copies: BTreeMap::new(),
            of_maps: BTreeMap::new(),
            looked_at: 0,
        }
    }

    /// What an operation does with every child's type filled in, to what is here and behind those of its entity before it; and
    /// whether these had to be tried for that, as it goes from then on. `before` are all the update's before it.
    pub fn resolve(
        &mut self,
        id: ShardId,
        key: &EntityKey,
        here: Option<&Value>,
        before: &[Resolved],
        mutation: &Mutation,
    ) -> Result<(Mutation, bool), MutationError> {
        if !key.1.is_map() || !self.copies.contains_key(key) {
            let resolved = match here {
                Some(value) => value.resolve(mutation),
                None => Value::new(key.1).resolve(mutation),
            };
            match resolved {
                Err(MutationError::OtherChild { .. }) => {}
                resolved => return resolved.map(|resolved| (resolved, false)),
            }
            self.look_at(before);
            for at in self.of_maps.remove(key).unwrap_or_default() {
                self.make(id, key, &before[at].mutation)?;
            }
        }
        let copy = self.copies.get(key).map(|(value, _)| value);
        let resolved = match copy.or(here) {
            Some(value) => value.resolve(mutation)?,
            None => Value::new(key.1).resolve(mutation)?,
        };
        self.make(id, key, &resolved)?;
        Ok((resolved, true))
    }

    fn look_at(&mut self, before: &[Resolved]) {
        for (at, earlier) in before.iter().enumerate().skip(self.looked_at) {
            if earlier.key.1.is_map() {
                self.of_maps.entry(earlier.key.clone()).or_default().push(at);
            }
        }
        self.looked_at = before.len();
    }

    /// Makes one operation on the copy of its entity.
    pub fn make(&mut self, id: ShardId, key: &EntityKey, mutation: &Mutation) -> Result<(), MutationError> {
        let engine = self.engine;
        let shard = &engine.shards[id.0 as usize];
        let (replicas, me) = self.tables.entry(id).or_insert_with(|| {
            let mut replicas: Cow<'_, Replicas> = Cow::Borrowed(&shard.replicas);
            let known = replicas.get(engine.me());
            let Some(me) = known.or_else(|| replicas.to_mut().intern(engine.me()).ok()) else {
                unreachable!("shard {id} was checked to have room for this epoch");
            };
            (replicas, me)
        });
        let (value, next_seq) = self.copies.entry(key.clone()).or_insert_with(|| {
            let value = shard.entities.get(key).map(|value| Value::clone(value));
            let value = value.unwrap_or_else(|| Value::new(key.1));
            (value, shard.vv.get(*me) + 1)
        });
        let issuer = Issuer {
            replicas,
            me: *me,
            next_seq: *next_seq,
            stamp: 0,
            inherits: engine.inherited(id, key.1),
        };
        let delta = value.mutate(&issuer, mutation)?;
        *next_seq += delta.parts().len() as u64;
        let env = Env {
            replicas,
            key: &engine.key,
        };
        // What is killed is there, and what is put is new: what was seen does not matter.
        value.join_delta(&env, &(), &delta);
        Ok(())
    }
}
