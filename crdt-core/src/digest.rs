//! The digest of a value: an order-free sum of one keyed hash per live dot.
//!
//! Not here: the fingerprint of a shard, which sums these.
//!
//! Contract: the digest covers path, full dot identity and payload, so equal live states have equal digests on
//! every node that shares the key, and the sum is kept up by adding and subtracting what a join changed.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::delta::{ClockMode, Path, Payload};
use crate::dot::Dot;
use crate::id::ReplicaId;
use crate::value::Env;

/// The cluster's key for hashing: whoever does not know it cannot aim for collisions.
///
/// ```
/// use anabranch_crdt::HashKey;
///
/// assert_eq!(format!("{:?}", HashKey([7; 16])), "HashKey(..)"); // a log does not give it away
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)") // it must not show up in logs
    }
}

/// The hash of one live dot.
pub(crate) fn item(env: &Env<'_>, path: &Path, dot: Dot, payload: &Payload) -> u64 {
    let mut gathered = Gathered {
        hasher: SipHasher13::new_with_key(&env.key.0),
        bytes: [0; GATHERED_BYTES_MAX],
        len: 0,
    };
    write_item(path, dot.full(env.replicas), payload, &mut |bytes| {
        gathered.write(bytes)
    });
    gathered.finish()
}

/// As much as most live dots take.
const GATHERED_BYTES_MAX: usize = 120;

/// Bytes on their way into a hash, which takes many at once far faster than a few at a time.
struct Gathered {
    hasher: SipHasher13,
    bytes: [u8; GATHERED_BYTES_MAX],
    len: usize,
}

impl Gathered {
    fn write(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.len..self.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => {
                self.flush();
                self.hasher.write(bytes);
            }
        }
    }

    fn flush(&mut self) {
        self.hasher.write(&self.bytes[..self.len]);
        self.len = 0;
    }

    fn finish(mut self) -> u64 {
        self.flush();
        self.hasher.finish()
    }
}

/// One live dot, prefix-free: every variable length is preceded by itself, every choice by a tag.
fn write_item(path: &Path, dot: (ReplicaId, u64), payload: &Payload, out: &mut impl FnMut(&[u8])) {
    write_path(path, out);
    let (replica, seq) = dot;
    let mut fixed = [0; 32];
    fixed[..16].copy_from_slice(&replica.node.0.to_be_bytes());
    fixed[16..24].copy_from_slice(&replica.epoch.0.to_be_bytes());
    fixed[24..].copy_from_slice(&seq.to_be_bytes());
    out(&fixed);
    match payload {
        Payload::Present => out(&[0]),
        Payload::Count { totals, base } => {
            let (seq, reset) = base.origin();
            out(&[1, u8::from(reset.is_some())]);
            let reset = reset.map(|reset| [reset.plus, reset.minus]);
            let all = [totals.plus, totals.minus, seq].into_iter();
            all.chain(reset.into_iter().flatten())
                .for_each(|number| out(&number.to_be_bytes()));
        }
        Payload::Stamped { clock, mode, value } => {
            let mode = match mode {
                ClockMode::Default => 0,
                ClockMode::Custom => 1,
            };
            out(&[2, mode]);
            out(&clock.to_be_bytes());
            write_string(value, out);
        }
        Payload::Written { value } => {
            out(&[3]);
            write_string(value, out);
        }
        Payload::Ballot { yes } => out(&[4, u8::from(*yes)]),
        Payload::Rights { amount, to } => {
            out(&[5, u8::from(to.is_some())]);
            out(&amount.to_be_bytes());
            if let Some(to) = to {
                out(&to.node.0.to_be_bytes());
                out(&to.epoch.0.to_be_bytes());
            }
        }
    }
}

fn write_path(path: &Path, out: &mut impl FnMut(&[u8])) {
    match path {
        Path::Root => out(&[0]),
        Path::Element(element) => {
            out(&[1]);
            write_string(element, out);
        }
        Path::Child(child) => {
            out(&[2]);
            write_string(&child.key, out);
            out(&[child.ty.id()]);
            // As deep as values are nested, which is bounded.
            write_path(&child.path, out);
        }
    }
}

fn write_string(bytes: &[u8], out: &mut impl FnMut(&[u8])) {
    out(&(bytes.len() as u64).to_be_bytes());
    out(bytes);
}
