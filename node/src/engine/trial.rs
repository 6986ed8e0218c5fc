//! Bounded counters tried out: several operations of one update may each hold what they take, and all together not.
//!
//! Contract: what passes here is not refused when the update is made, and nothing of the shards has changed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anabranch_crdt::{Env, Issuer, Mutation, MutationError, ReplicaIx, Replicas, Type, Value};

use crate::engine::Engine;
use crate::engine::shard::EntityKey;
use crate::wire::ShardId;

/// Copies of the counters of one update, changed as it goes.
pub(crate) struct Trials<'a> {
    engine: &'a Engine,
    /// Per shard its replicas, this node's epoch among them.
    tables: BTreeMap<ShardId, (Cow<'a, Replicas>, ReplicaIx)>,
    /// Each counter with its operations' next sequence, which is only the trial's.
    counters: BTreeMap<EntityKey, (Value, u64)>,
}

impl<'a> Trials<'a> {
    /// Nothing tried yet.
    pub fn new(engine: &'a Engine) -> Trials<'a> {
        Trials {
            engine,
            tables: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    /// Makes one operation on the copy of a bounded counter.
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
        let (value, next_seq) = self.counters.entry(key.clone()).or_insert_with(|| {
            let value = shard.entities.get(key).map(|value| Value::clone(value));
            let value = value.unwrap_or_else(|| Value::new(Type::BoundedCounter));
            (value, shard.vv.get(*me) + 1)
        });
        let issuer = Issuer {
            replicas,
            me: *me,
            next_seq: *next_seq,
            stamp: 0,
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
