//! A shard of the directory's snapshot, made away from the engine: on another thread, if its host has some.
//!
//! Not here: threads (`driver::loading`). Contract: what the engine then has is what joining the parts into an empty shard gives.

use std::sync::Arc;

use anabranch_crdt::HybridClock;

use crate::engine::Engine;
use crate::engine::io::Now;
use crate::engine::placement::Placement;
use crate::engine::receive::stamp_of;
use crate::engine::recover::{RecoverError, refused};
use crate::engine::shard::{Kinds, Shard};
use crate::engine::snapshot::{check_place, read_image};
use crate::wire::{ShardId, ShardPart};

/// All that a snapshot has of a shard, as it was read.
#[derive(Debug)]
pub struct Unloaded {
    pub(super) id: ShardId,
    pub(super) parts: Vec<ShardPart>,
    pub(super) placement: Placement,
    pub(super) now: Now,
}

/// A shard that is made, and not yet the engine's.
#[derive(Debug)]
pub struct Loaded {
    shard: Shard,
    kinds: Kinds,
    clock: HybridClock,
}

impl Unloaded {
    /// Makes the shard. Nothing else is looked at, so this may be done anywhere.
    ///
    /// # Errors
    /// The parts are not what was written.
    pub fn load(self) -> Result<Loaded, RecoverError> {
        let mut shard = Shard::new(self.id);
        let image = read_image(Arc::make_mut(&mut shard.replicas), &self.parts).map_err(refused)?;
        check_place(&self.placement, self.id, &image).map_err(refused)?;
        let mut clock = HybridClock::new();
        for stamp in image.puts().filter_map(stamp_of) {
            clock.observe(self.now.wall_ms, stamp);
        }
        let mut kinds = Kinds::default();
        shard.join_image(&self.placement.key, &mut kinds, image);
        Ok(Loaded { shard, kinds, clock })
    }
}

impl Engine {
    /// Takes a shard over whose parts [`Engine::read_image`] gave, in the order in which it gave them, and before any record.
    pub fn adopt(&mut self, loaded: Loaded) {
        let Loaded { shard, kinds, clock } = loaded;
        let (id, made) = (shard.id, shard.vv.clone());
        let own = self.shard(id);
        assert!(
            own.vv.is_empty() && own.replicas.is_empty() && own.entities.is_empty(),
            "shard {id} is loaded into one that is empty"
        );
        own.replicas = shard.replicas;
        own.vv = shard.vv;
        own.entities = shard.entities;
        own.fingerprint = shard.fingerprint;
        own.rings = shard.rings;
        own.waiting = shard.waiting;
        self.kinds.join(kinds);
        self.clock.join(&clock);
        self.learn_epochs(id, &made);
    }
}
