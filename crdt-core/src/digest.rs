//! The digest of a value: an order-free sum of one keyed hash per live dot.
//!
//! Not here: the fingerprint of a shard, which sums these.
//!
//! Contract: the digest covers path, full dot identity and payload, so equal live states have equal digests on
//! every node that shares the key, and the sum is kept up by adding and subtracting what a join changed.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::canonical;
use crate::delta::{Path, Payload};
use crate::dot::Dot;
use crate::value::Env;

/// The cluster's key for hashing: whoever does not know it cannot aim for collisions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)") // it must not show up in logs
    }
}

/// The hash of one live dot.
pub(crate) fn item(env: &Env<'_>, path: &Path, dot: Dot, payload: &Payload) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&env.key.0);
    canonical::encode_item(path, dot.full(env.replicas), payload, &mut |bytes| {
        hasher.write(bytes)
    });
    hasher.finish()
}
