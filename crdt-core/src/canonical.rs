//! The bytes of a value that are the same wherever its live state is.
//!
//! Not here: a format for disk or wire; nothing decodes these bytes. They are compared and hashed.
//!
//! Contract: two values of one type have equal live state exactly when their canonical bytes are equal, whatever
//! their replica tables look like. Golden tests pin them; a change needs a new version byte.

use alloc::vec;
use alloc::vec::Vec;
#[cfg(planted)]
use core::cmp::Ordering;

use crate::delta::{ClockMode, Path, Payload, Put};
use crate::id::ReplicaId;
use crate::kind::Type;

/// The first byte.
pub(crate) const VERSION: u8 = 2;

/// Version, type and the live dots in the order of (path, replica id, sequence).
pub(crate) fn bytes(ty: Type, mut items: Vec<((ReplicaId, u64), Put)>) -> Vec<u8> {
    items.sort_by(|(dot, put), (other_dot, other_put)| {
        put.path
            .cmp(&other_put.path)
            .then_with(|| crate::planted!("canonical_order_of_arrival", Ordering::Equal, dot.cmp(other_dot)))
    });
    let mut out = vec![VERSION, ty.id()];
    for (dot, put) in &items {
        encode_item(&put.path, *dot, &put.payload, &mut |bytes| {
            out.extend_from_slice(bytes)
        });
    }
    out
}

/// One live dot, prefix-free: every variable length is preceded by itself, every choice by a tag.
pub(crate) fn encode_item(
    path: &Path,
    dot: (ReplicaId, u64),
    payload: &Payload,
    out: &mut impl FnMut(&[u8]),
) {
    encode_path(path, out);
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
            blob(value, out);
        }
        Payload::Written { value } => {
            out(&[3]);
            blob(value, out);
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

fn encode_path(path: &Path, out: &mut impl FnMut(&[u8])) {
    match path {
        Path::Root => out(&[0]),
        Path::Element(element) => {
            out(&[1]);
            blob(element, out);
        }
        Path::Child(child) => {
            out(&[2]);
            blob(&child.key, out);
            out(&[child.ty.id()]);
            // As deep as values are nested, which is bounded.
            encode_path(&child.path, out);
        }
    }
}

fn blob(bytes: &[u8], out: &mut impl FnMut(&[u8])) {
    out(&(bytes.len() as u64).to_be_bytes());
    out(bytes);
}
