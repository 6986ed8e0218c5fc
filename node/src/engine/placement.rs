//! Which shard an entity belongs to, and by which key a cluster hashes.

use std::hash::Hasher;

use anabranch_crdt::HashKey;
use siphasher::sip::SipHasher13;

use crate::wire::{EntityId, ShardId};

/// What all nodes of a cluster must agree on to place alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    pub key: HashKey,
    pub shards: u32,
}

impl Placement {
    /// See [`super::Engine::shard_of`].
    pub fn shard_of(&self, id: &EntityId) -> ShardId {
        let mut h = SipHasher13::new_with_key(&self.key.0);
        match id.key().split_once('#') {
            Some((together, _)) => h.write(together.as_bytes()),
            None => {
                h.write(id.kind().as_bytes());
                h.write_u8(0xff);
                h.write(id.key().as_bytes());
            }
        }
        ShardId((h.finish() % u64::from(self.shards)) as u32)
    }
}

/// The key of a cluster's hashes: all its nodes must place and fingerprint alike.
pub(super) fn hash_key(cluster: &str) -> HashKey {
    let mut key = [0; 16];
    for (half, seed) in key.chunks_exact_mut(8).zip([1u8, 2]) {
        let mut h = SipHasher13::new_with_key(b"anabranch shards");
        h.write_u8(seed);
        h.write(cluster.as_bytes());
        half.copy_from_slice(&h.finish().to_le_bytes());
    }
    HashKey(key)
}
