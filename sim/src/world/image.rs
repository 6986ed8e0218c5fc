//! Snapshots when they are due: written after a virtual delay, during which records are committed as ever.

use std::sync::atomic::AtomicBool;

use anabranch::store::{MemDisk, SnapshotJob, StoreError, WrittenSnapshot};

use super::{Event, World};
use crate::net::NodeIx;
use crate::oracle::{Failure, Rule, broken};
use crate::queue::Micros;
use crate::rng::Rng;

/// Writing a snapshot takes as long as so many syncs, at most.
const SYNCS_MAX: u64 = 8;

type Step = Result<(), Failure>;

/// A snapshot that is to be written.
pub(crate) struct Image {
    job: SnapshotJob<MemDisk>,
    blocks: Vec<Vec<u8>>,
}

impl Image {
    /// All of it, as far as the disk gets.
    pub(super) fn write(self) -> Result<WrittenSnapshot, StoreError> {
        self.job
            .write(&mut self.blocks.into_iter(), &AtomicBool::new(false))
    }
}

impl World {
    /// Everything recorded so far is durable at this moment if nothing is queued; else at the next one.
    pub(super) fn begin_image_if_due(&mut self, node: NodeIx) -> Step {
        let host = &mut self.hosts[node];
        let (lives, slow_us) = (host.lives, host.slow_us);
        let Some(life) = &mut host.life else { return Ok(()) };
        if life.image.is_some() || !life.store.snapshot_due() || !life.queued.is_empty() {
            return Ok(());
        }
        let begun = life.store.begin_snapshot();
        if self.died_at_its_disk(node) {
            return Ok(());
        }
        let Some(life) = &mut self.hosts[node].life else {
            return Ok(());
        };
        let job = match begun {
            Ok(Some(job)) => job,
            Ok(None) => return Ok(()),
            Err(StoreError::Poisoned { .. }) => {
                self.poisoned(node, lives);
                return Ok(());
            }
            Err(other) => {
                return Err(broken(
                    Rule::Store,
                    node,
                    format!("no snapshot is begun: {other}"),
                ));
            }
        };
        let blocks: Vec<Vec<u8>> = life.engine.image().collect();
        life.image = Some(Image { job, blocks });
        let mut rng = Rng::stream(self.plan.seed, "image", node as u64, lives << 32 | life.images);
        life.images += 1;
        let syncs: Micros = (0..=rng.below(SYNCS_MAX))
            .map(|_| self.plan.sync.draw(&mut rng))
            .sum();
        self.kernel
            .after(syncs + slow_us, Event::ImageWritten { node, life: lives });
        Ok(())
    }

    /// The time that a snapshot takes is over: now it is written, or fails.
    pub(crate) fn on_image_written(&mut self, node: NodeIx, life_number: u64) -> Step {
        let host = &mut self.hosts[node];
        if host.lives != life_number {
            return Ok(());
        }
        let Some(image) = host.life.as_mut().and_then(|life| life.image.take()) else {
            return Ok(());
        };
        let written = image.write();
        if self.died_at_its_disk(node) {
            return Ok(());
        }
        let Some(life) = &mut self.hosts[node].life else {
            return Ok(());
        };
        match life.store.end_snapshot(written) {
            Ok(()) => {
                *self.tally.counters.entry("disk_snapshots").or_default() += 1;
                self.tell(|| format!("n{node} wrote a snapshot"));
                Ok(())
            }
            Err(StoreError::Full { .. } | StoreError::Disk { .. }) => Ok(()),
            Err(StoreError::Poisoned { .. }) => {
                self.poisoned(node, life_number);
                Ok(())
            }
            Err(other) => Err(broken(
                Rule::Store,
                node,
                format!("a snapshot is refused: {other}"),
            )),
        }
    }
}
