//! A bounded counter tried out: several operations of one update may each hold what they take, and all together not.
//!
//! Contract: what passes here is not refused when the update is made, and nothing of the shard has changed.

use anabranch_crdt::{
    Env, HashKey, Issuer, Mutation, MutationError, ReplicaIx, Replicas, Type, Value, VersionVector,
};

use crate::engine::Engine;
use crate::wire::ShardId;

/// A copy of one counter, changed as the update goes.
pub(crate) struct Trial {
    replicas: Replicas,
    me: ReplicaIx,
    seen: VersionVector,
    value: Value,
}

impl Trial {
    /// Of this value, or of one that is not there yet.
    pub fn new(engine: &Engine, shard: ShardId, value: Option<Value>) -> Trial {
        let shard = &engine.shards[shard.0 as usize];
        let mut replicas = shard.replicas.clone();
        let Ok(me) = replicas.intern(engine.me()) else {
            unreachable!("shard {} was checked to have room for this epoch", shard.id);
        };
        Trial {
            replicas,
            me,
            seen: shard.vv.clone(),
            value: value.unwrap_or_else(|| Value::new(Type::BoundedCounter)),
        }
    }

    /// Makes one operation on the copy.
    pub fn make(&mut self, key: &HashKey, mutation: &Mutation) -> Result<(), MutationError> {
        let next_seq = self.seen.get(self.me) + 1;
        let issuer = Issuer {
            replicas: &self.replicas,
            me: self.me,
            next_seq,
            stamp: 0,
        };
        let delta = self.value.mutate(&issuer, mutation)?;
        let env = Env {
            replicas: &self.replicas,
            key,
        };
        self.value.join_delta(&env, &self.seen, &delta);
        self.seen.advance(self.me, next_seq + delta.parts().len() as u64);
        Ok(())
    }
}
