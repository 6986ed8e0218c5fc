//! The thread that owns the store: group commit, snapshots, epochs, and the node's orderly end.
//!
//! Group commit without a timer: whatever queued up while one sync ran is the next batch. Nothing is told durable that
//! a commit has not returned for. When the disk is full the batch stays pending and is tried again with the next
//! record, or after [`FULL_RETRY`]. When a sync has failed, the node stops.

use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::Epoch;

use crate::engine::{Input, PersistFailure, RecordId, Time};
use crate::error::{Error, ErrorKind};
use crate::store::{Disk, Store, StoreError};

use super::DiskState;
use super::clock::{until, wall_ms};
use super::queue::{Closing, Job};
use super::shared::Shared;
use super::start::{new_epoch, store_error};

/// How long to wait before a full disk is tried again when nothing new comes.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// How long a snapshot that failed for want of space is left alone, milliseconds.
const SNAPSHOT_RETRY_MS: u64 = 10_000;

/// How long a node that stops waits until its peers have what it has written, milliseconds: it will be back.
const STOP_MS_MAX: u64 = 1_000;

/// How long a node that leaves waits for the same, milliseconds: nobody gets it later.
const LEAVE_MS_MAX: u64 = 5_000;

/// The store, and how far it has come.
pub(super) struct Writer<D: Disk> {
    store: Store<D>,
    shared: Arc<Shared>,
    last_epoch: Epoch,
    /// The last record appended, and the last one known durable.
    appended: RecordId,
    durable: RecordId,
    /// The engine wants an epoch above this one.
    wanted_epoch: Option<Epoch>,
    snapshot_not_before: Time,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(store: Store<D>, shared: Arc<Shared>) -> Writer<D> {
        let last_epoch = shared.epoch();
        Writer {
            store,
            shared,
            last_epoch,
            appended: RecordId(0),
            durable: RecordId(0),
            wanted_epoch: None,
            snapshot_not_before: Time(0),
        }
    }

    /// Writes until the node is told to stop or cannot go on; returns how it is to stop.
    pub(super) fn run(&mut self) -> Result<Closing, Error> {
        loop {
            let unfinished = self.appended != self.durable || self.wanted_epoch.is_some();
            let taken = self.shared.queue.take(unfinished.then_some(FULL_RETRY));
            self.write(taken.jobs)?;
            if let Some(closing) = taken.closing {
                return Ok(closing);
            }
        }
    }

    /// Lets the connected peers have all that this node has written, for as long as that may take.
    pub(super) fn hand_over(&mut self, leaving: bool) -> Result<(), Error> {
        let limit_ms = if leaving { LEAVE_MS_MAX } else { STOP_MS_MAX };
        let deadline = self.shared.clock.now().time.after_ms(limit_ms);
        while !self.shared.is_handed_over()? {
            let left = until(self.shared.clock.now().time, deadline);
            if left.is_zero() {
                tracing::warn!(
                    leaving,
                    "not all peers have all that this node has written; it is on its disk"
                );
                break;
            }
            let jobs = self.shared.queue.take_nudged(left);
            self.write(jobs)?;
        }
        Ok(())
    }

    /// Commits what came in last. An error: it could not be made durable.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        loop {
            let jobs = self.shared.queue.take_now().jobs;
            let last = jobs.is_empty();
            self.write(jobs)?;
            if last {
                break;
            }
        }
        match self.shared.disk() {
            DiskState::Full { reason } if self.appended != self.durable => Err(Error::new(
                ErrorKind::DiskFull,
                format!("the node stopped with updates that are not durable and are lost now: {reason}"),
            )),
            _ => Ok(()),
        }
    }

    /// One round: append, commit, tell the engine; then what is due beside it.
    fn write(&mut self, jobs: Vec<Job>) -> Result<(), Error> {
        self.append(jobs)?;
        if self.appended != self.durable {
            let committed = self.commit();
            self.report(committed)?;
        }
        if self.appended == self.durable {
            self.start_epoch()?;
            self.snapshot()?;
        }
        Ok(())
    }

    fn append(&mut self, jobs: Vec<Job>) -> Result<(), Error> {
        for job in jobs {
            match job {
                Job::Record { id, payload } => {
                    assert_eq!(
                        id.0,
                        self.appended.0 + 1,
                        "records are handed out in order, each once"
                    );
                    // Too large, or poisoned before: either way no later record may take its place.
                    self.store.append(&payload).map_err(|e| store_error(&e))?;
                    self.appended = id;
                }
                // Several peers may say so; one step above all of them is enough.
                Job::Epoch { above } if above < self.last_epoch => {}
                Job::Epoch { above } => self.wanted_epoch = self.wanted_epoch.max(Some(above)),
            }
        }
        Ok(())
    }

    /// Makes everything appended durable. What the engine is to be told is returned, since a snapshot tells it later.
    fn commit(&mut self) -> Input {
        match self.store.commit() {
            Ok(_) => {
                self.durable = self.appended;
                self.shared.set_disk(DiskState::Fine);
                Input::Persisted { upto: self.durable }
            }
            Err(error) => self.persist_failed(&error),
        }
    }

    /// What the engine is told of a failed commit. Everything but a failed sync can be tried again.
    fn persist_failed(&self, error: &StoreError) -> Input {
        let reason = error.to_string();
        let (failure, state) = if error.is_poisoned() {
            (
                PersistFailure::Poisoned,
                DiskState::Failed {
                    reason: reason.clone(),
                },
            )
        } else {
            (
                PersistFailure::Full,
                DiskState::Full {
                    reason: reason.clone(),
                },
            )
        };
        if self.shared.disk() != state {
            tracing::error!(%reason, "records could not be made durable");
            self.shared.set_disk(state);
        }
        Input::PersistFailed { failure, reason }
    }

    /// Tells the engine how a commit went. A store that is poisoned ends the node.
    fn report(&self, input: Input) -> Result<(), Error> {
        let poisoned = poison(&input);
        self.shared.step(input)?;
        poisoned
    }

    /// Takes the epoch the engine asked for: durable first, then the engine and the network go on under it.
    fn start_epoch(&mut self) -> Result<(), Error> {
        let Some(above) = self.wanted_epoch else {
            return Ok(());
        };
        let epoch = new_epoch(wall_ms(), Some(self.last_epoch.max(above)));
        match self.store.start_epoch(epoch) {
            Ok(()) => {}
            Err(error) if error.is_poisoned() => {
                let input = self.persist_failed(&error);
                return self.report(input);
            }
            Err(error) => {
                tracing::error!(%error, %epoch, "a higher epoch could not be started; trying again");
                return Ok(());
            }
        }
        tracing::warn!(%epoch, "peers knew a higher epoch of this node; it goes on under a new one");
        self.wanted_epoch = None;
        self.last_epoch = epoch;
        self.shared.set_epoch(epoch);
        // No link may carry the new epoch's dots under the old one's name.
        let network = Arc::clone(self.shared.network());
        network.close(false);
        self.shared.step(Input::EpochAdopted { epoch })?;
        network.open(epoch)
    }

    /// Writes a snapshot when one is due, so that the log it covers can go.
    ///
    /// The image must hold exactly what the records committed so far made: so the engine is locked, the rest of the
    /// queue is committed under that lock, and the image is taken before the engine learns of it (which might make it
    /// record more). Readers and writers wait for that long: one sync and a pass over memory. Writing the blocks
    /// happens without the lock; only durable answers wait for it.
    fn snapshot(&mut self) -> Result<(), Error> {
        if !self.store.snapshot_due() || self.shared.clock.now().time < self.snapshot_not_before {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let (blocks, poisoned, after) = shared.with_cell(|cell| {
            self.append(shared.queue.take_now().jobs)?;
            let input = self.commit();
            let complete = self.appended == self.durable;
            let blocks: Option<Vec<Vec<u8>>> = complete.then(|| cell.engine.image().collect());
            Ok::<_, Error>((blocks, poison(&input), cell.step(&shared, input)))
        })??;
        shared.finish(after);
        poisoned?;
        let Some(blocks) = blocks else { return Ok(()) };
        let (count, bytes) = (blocks.len(), blocks.iter().map(Vec::len).sum::<usize>());
        match self.store.snapshot(&mut blocks.into_iter()) {
            Ok(()) => {
                tracing::info!(blocks = count, bytes, "snapshot written");
                Ok(())
            }
            Err(error) if error.is_poisoned() => {
                let input = self.persist_failed(&error);
                self.report(input)
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot; the log stays and grows until one succeeds");
                self.snapshot_not_before = shared.clock.now().time.after_ms(SNAPSHOT_RETRY_MS);
                Ok(())
            }
        }
    }
}

/// The error that ends the node, if this is it.
fn poison(input: &Input) -> Result<(), Error> {
    match input {
        Input::PersistFailed {
            failure: PersistFailure::Poisoned,
            reason,
        } => Err(Error::new(ErrorKind::Poisoned, reason.clone())),
        _ => Ok(()),
    }
}
