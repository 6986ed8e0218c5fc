//! A snapshot that is being written while its store goes on: what [`Store::begin_snapshot`](super::Store::begin_snapshot)
//! hands out and [`Store::end_snapshot`](super::Store::end_snapshot) takes back.
//!
//! Not here: which thread writes it, and when. The job shares nothing with its store but the disk: it touches the snapshot's
//! own file, and files that a durable snapshot makes superfluous.
//! Contract: nothing that the snapshot covers is removed before it is durable under its name. Until the store has taken the
//! result back, what is covered counts as log.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::Disk;
use super::error::StoreError;
use super::meta::Ties;
use super::snapshot::Next;
use super::{Lsn, remove_garbage, snapshot};

/// A snapshot to be written: of everything that was durable when it was handed out.
#[must_use = "a snapshot that was begun is to be written, and ended"]
pub struct SnapshotJob<D> {
    pub(super) disk: Arc<D>,
    pub(super) ties: Ties,
    pub(super) covered: Lsn,
    pub(super) next: Next,
    /// Files that are of no use once it is durable.
    pub(super) superseded: Vec<String>,
}

/// A snapshot that is durable.
#[derive(Debug)]
#[must_use = "a store must know of its snapshots"]
pub struct WrittenSnapshot {
    pub(super) summary: snapshot::Summary,
    /// Superseded files that could not be removed.
    pub(super) left: Vec<String>,
}

impl<D: Disk> SnapshotJob<D> {
    /// As it is, but that these files are of no use either once it is durable.
    pub(super) fn superseding(mut self, files: Vec<String>) -> SnapshotJob<D> {
        self.superseded.extend(files);
        self
    }

    /// Writes it, of these blocks, and then removes what it supersedes. Blocks are the caller's own cut of its state as it was
    /// when the snapshot was begun, at most [`limits::BLOCK_BYTES_MAX`](super::limits::BLOCK_BYTES_MAX) each. It is given up
    /// once `given_up` is set.
    ///
    /// # Errors
    /// `Full`, `Disk`, `TooLarge`, `GivenUp`: there is no new snapshot, and nothing was removed. `Poisoned`: nobody knows;
    /// neither must anything more be written to the store.
    pub fn write(
        mut self,
        blocks: &mut dyn Iterator<Item = Vec<u8>>,
        given_up: &AtomicBool,
    ) -> Result<WrittenSnapshot, StoreError> {
        let mut blocks = blocks.map(|block| match given_up.load(Ordering::Relaxed) {
            true => Err(StoreError::GivenUp),
            false => Ok(block),
        });
        let summary = snapshot::write(&*self.disk, self.ties, self.covered, self.next, &mut blocks)?;
        // From here on the snapshot counts. What it covers is only in the way, so failing to remove it is no failure.
        remove_garbage(&*self.disk, &mut self.superseded)?;
        Ok(WrittenSnapshot {
            summary,
            left: self.superseded,
        })
    }
}

impl<D> fmt::Debug for SnapshotJob<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotJob")
            .field("covered", &self.covered)
            .finish_non_exhaustive()
    }
}
