//! How large the state of each kind with a function is, for whoever asks now and then.
//!
//! Kept in step with every change it would cost each update; measured whole, each asking would cost all there is. So it is
//! measured when it is asked for, where a shard's fingerprint is another than when it was measured last, and so much of it at a
//! time: what is left is as it was, and comes first the next time. Whoever asks again at rest has it exactly.
//!
//! Contract: the engine is locked to list some values, never while they are measured.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anabranch_crdt::Type;

use super::shared::Shared;
use crate::view::View;
use crate::wire::{EntityId, ShardId};

/// Bytes measured for one asking.
const MEASURED_BYTES_MAX: usize = 32 << 20;
/// A value counts for at least so many of them, so that there is a bound for small ones, too.
const VALUE_BYTES_MIN: usize = 256;
/// Values listed under one lock, and kept from being changed in place until they are measured.
const SLICE_VALUES: usize = 64;

/// What was measured so far. Its lock is above the engine's.
#[derive(Debug, Default)]
pub(super) struct Sizes(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    shards: Vec<Size>,
    /// Where to look next.
    next: usize,
    /// What has begun there and not ended.
    begun: Option<Begun>,
}

/// A shard as it was measured last.
#[derive(Clone, Debug, Default)]
struct Size {
    fingerprint: u64,
    /// By kind.
    bytes: Vec<u64>,
}

/// A shard that is being measured. It has the fingerprint from before: what changes meanwhile is measured again.
#[derive(Debug)]
struct Begun {
    so_far: Size,
    kind: usize,
    after: Option<(EntityId, Type)>,
}

impl Shared {
    /// Bytes of the state of each kind that has a function here: keys, and values in their canonical form.
    pub(crate) fn state_bytes(&self) -> BTreeMap<String, u64> {
        self.measure(MEASURED_BYTES_MAX)
    }

    /// The same, measuring about so much of what has changed.
    pub(super) fn measure(&self, bytes_max: usize) -> BTreeMap<String, u64> {
        let kinds: Vec<&str> = self.functions.iter().map(|function| function.kind()).collect();
        let mut measured = self.sizes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let prints: Vec<u64> =
            self.peek(|engine| engine.shard_ids().map(|id| engine.fingerprint(id)).collect());
        measured.shards.resize_with(prints.len(), Size::default);
        let mut left = bytes_max;
        for _ in 0..prints.len() {
            let at = measured.next;
            let has_changed = measured.shards[at].fingerprint != prints[at];
            let begun = measured.begun.take();
            let begun = begun.or_else(|| has_changed.then(|| Begun::of(prints[at], kinds.len())));
            if let Some(mut begun) = begun {
                if !self.measure_shard(at, &kinds, &mut begun, &mut left) {
                    measured.begun = Some(begun);
                    break;
                }
                measured.shards[at] = begun.so_far;
            }
            measured.next = (at + 1) % prints.len();
        }
        let kinds = kinds.into_iter().enumerate();
        kinds
            .map(|(ix, kind)| (kind.to_owned(), measured.of(ix)))
            .collect()
    }

    /// Goes on until all of a shard is measured, which this says, or nothing is left of the bound.
    fn measure_shard(&self, at: usize, kinds: &[&str], begun: &mut Begun, left: &mut usize) -> bool {
        let shard = ShardId(at as u32);
        while let Some(kind) = kinds.get(begun.kind) {
            if *left == 0 {
                return false;
            }
            let after = begun.after.take();
            let views = self.peek(|engine| engine.views_of(shard, kind, after.as_ref(), SLICE_VALUES));
            for view in &views {
                let bytes = bytes_of(view);
                begun.so_far.bytes[begun.kind] += bytes as u64;
                *left = left.saturating_sub(bytes.max(VALUE_BYTES_MIN));
            }
            begun.after = views
                .last()
                .and_then(|view| Some((view.entity().clone(), view.ty()?)));
            if views.len() < SLICE_VALUES {
                begun.kind += 1;
                begun.after = None;
            }
        }
        true
    }
}

impl Measured {
    fn of(&self, kind: usize) -> u64 {
        let shards = self.shards.iter();
        shards.filter_map(|shard| shard.bytes.get(kind)).sum()
    }
}

impl Begun {
    fn of(fingerprint: u64, kinds: usize) -> Begun {
        Begun {
            so_far: Size {
                fingerprint,
                bytes: vec![0; kinds],
            },
            kind: 0,
            after: None,
        }
    }
}

fn bytes_of(view: &View) -> usize {
    let value = view.value().map(|value| value.canonical_bytes(view.replicas()));
    view.entity().key().len() + value.map_or(0, |bytes| bytes.len())
}
