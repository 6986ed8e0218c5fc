//! The thread that owns the store: group commit, when snapshots are due, epochs, and the node's orderly end.
//!
//! Group commit without a timer: whatever queued up while one sync ran is the next batch. Nothing is told durable that
//! a commit has not returned for. When the disk is full, or the system refuses a call, the batch stays pending and is tried
//! again with the next record, or after [`FULL_RETRY`]. When a sync has failed, the node stops.

use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::NodeId;

use crate::engine::{Input, PersistFailure, RecordId, Time};
use crate::error::{Error, ErrorKind};
use crate::store::limits::RESERVE_BYTES;
use crate::store::{Disk, Store, StoreError};

use super::DiskState;
use super::clock::until;
use super::epochs::{Epochs, Failed};
use super::image::{Image, Written};
use super::queue::{Closing, Job, Jobs};
use super::shared::Shared;
use super::start::store_error;

/// How long to wait before a commit that found no room, or was refused, is tried again when nothing new comes.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// How long a snapshot that failed is left alone, milliseconds: at first, and at most.
const IMAGE_RETRY_MS_MIN: u64 = 10_000;
const IMAGE_RETRY_MS_MAX: u64 = 300_000;

/// A snapshot takes the place of the log on a full disk only if all of it is no larger; and how long after one that did not fit the
/// next is tried, milliseconds: at first, and at most.
const RESCUE_BYTES_MAX: usize = 16 << 20;
const RESCUE_RETRY_MS_MIN: u64 = 1_000;
const RESCUE_RETRY_MS_MAX: u64 = 60_000;

/// How long a node that stops waits until its peers have what it has written, milliseconds: it will be back.
const STOP_MS_MAX: u64 = 1_000;

/// Peers that are named where some lack what a node had that stops.
const NODES_SHOWN_MAX: usize = 3;

/// The store, and how far it has come.
pub(super) struct Writer<D: Disk> {
    store: Store<D>,
    shared: Arc<Shared>,
    epochs: Epochs,
    /// The last record appended, and the last one known durable.
    appended: RecordId,
    durable: RecordId,
    /// The snapshot that is being written.
    image: Option<Image>,
    image_not_before: Time,
    image_wait_ms: u64,
    rescue_not_before: Time,
    rescue_wait_ms: u64,
}

impl<D: Disk + Send + Sync + 'static> Writer<D> {
    pub(super) fn new(store: Store<D>, shared: Arc<Shared>) -> Writer<D> {
        let epochs = Epochs::new(shared.epoch());
        Writer {
            store,
            shared,
            epochs,
            appended: RecordId(0),
            durable: RecordId(0),
            image: None,
            image_not_before: Time(0),
            image_wait_ms: IMAGE_RETRY_MS_MIN,
            rescue_not_before: Time(0),
            rescue_wait_ms: RESCUE_RETRY_MS_MIN,
        }
    }

    /// Writes until the node is told to stop or cannot go on; returns how it is to stop.
    pub(super) fn run(&mut self) -> Result<Closing, Error> {
        loop {
            let retry = (self.appended != self.durable).then_some(FULL_RETRY);
            let epoch = self.epochs.wait(self.shared.clock.now().time);
            let taken = self.shared.queue.take(retry.into_iter().chain(epoch).min());
            self.write(taken.jobs)?;
            if let Some(closing) = taken.closing {
                return Ok(closing);
            }
        }
    }

    /// Lets the connected peers have all that this node has, for as long as that may take. Says what somebody who had it
    /// leave must know, if that was in vain. A peer that is gone is not waited for once its link is known to be.
    pub(super) fn hand_over(&mut self, leaving: bool) -> Result<Option<Error>, Error> {
        let stopped_by = self.shared.clock.now().time.after_ms(STOP_MS_MAX);
        loop {
            let lacking = self.shared.lacking()?;
            if lacking.is_empty() {
                break;
            }
            // Somebody may have it go sooner meanwhile.
            let asked = self.shared.queue.leaving().filter(|_| leaving);
            let left = until(self.shared.clock.now().time, asked.unwrap_or(stopped_by));
            if left.is_zero() {
                let lacking = some_of(&lacking);
                tracing::warn!(
                    leaving,
                    lacking,
                    "not all peers have all that this node has; it is on its disk"
                );
                return Ok(leaving.then(|| {
                    left_behind(&format!(
                        "it is not confirmed that every connected peer took it over in time (not by {lacking})"
                    ))
                }));
            }
            let jobs = self.shared.queue.take_nudged(left);
            self.write(jobs)?;
        }
        let nobody = self.shared.with_cell(|cell| {
            let status = cell.engine.status();
            status.shards_used > 0 && status.members.len() > 1 && cell.engine.connected().is_empty()
        })?;
        if leaving && nobody {
            tracing::error!(
                "this node leaves, and no peer is connected to take over what it has; it is on its disk"
            );
            return Ok(Some(left_behind("no peer was connected to take it over")));
        }
        Ok(None)
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
        let (kind, reason) = match self.shared.disk() {
            DiskState::Full { reason } => (ErrorKind::DiskFull, reason),
            DiskState::Refused { reason } => (ErrorKind::Io, reason),
            DiskState::Fine | DiskState::Failed { .. } => return Ok(()),
        };
        if self.appended == self.durable {
            return Ok(());
        }
        Err(Error::new(
            kind,
            format!("the node stopped with updates that are not durable and are lost now: {reason}"),
        ))
    }

    /// One round: append, commit, tell the engine; then what is due beside it.
    fn write(&mut self, jobs: Jobs) -> Result<(), Error> {
        self.append(jobs)?;
        self.commit_appended()?;
        self.advance_epochs()?;
        self.look_after_image()
    }

    fn append(&mut self, jobs: Jobs) -> Result<(), Error> {
        for job in jobs.iter() {
            match job {
                Job::Record { id, payload } => {
                    assert_eq!(
                        id.0,
                        self.appended.0 + 1,
                        "records are handed out in order, each once"
                    );
                    // Too large, or poisoned before: either way no later record may take its place.
                    self.store.append(payload).map_err(|e| store_error(&e))?;
                    self.appended = id;
                }
                Job::Epoch { above } => self.epochs.want(above),
            }
        }
        self.shared.queue.recycle(jobs);
        Ok(())
    }

    /// Makes everything appended durable, as far as there is room, and tells the engine.
    fn commit_appended(&mut self) -> Result<(), Error> {
        if self.appended == self.durable {
            return Ok(());
        }
        let mut committed = self.store.commit();
        if matches!(&committed, Err(error) if error.is_full()) && self.give_up_image()? {
            committed = self.store.commit();
        }
        match committed {
            Ok(_) => self.all_durable(),
            Err(error) if error.is_full() && self.rescue()? => Ok(()),
            Err(error) => self.persist_failed(&error),
        }
    }

    /// Tells the engine that everything appended is durable.
    fn all_durable(&mut self) -> Result<(), Error> {
        self.durable = self.appended;
        if self.shared.disk() != DiskState::Fine {
            self.shared.set_disk(DiskState::Fine);
            self.store.keep_reserve();
        }
        self.report(Input::Persisted { upto: self.durable })
    }

    /// On a full disk: a snapshot in place of the commit, of all that is here. Where much of the log is of what is no more, it is so
    /// much smaller that it fits; then the log goes. Says whether it did. Only of a small state, and from memory: it holds up the commits.
    fn rescue(&mut self) -> Result<bool, Error> {
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.now().time;
        if now < self.rescue_not_before {
            return Ok(false);
        }
        self.rescue_not_before = now.after_ms(self.rescue_wait_ms);
        self.rescue_wait_ms = (self.rescue_wait_ms * 2).min(RESCUE_RETRY_MS_MAX);
        let (jobs, frozen) = shared.with_cell(|cell| (shared.queue.take_now().jobs, cell.engine.freeze()))?;
        self.append(jobs)?;
        let mut bytes = 0;
        let blocks = frozen.blocks().take_while(|block| {
            bytes += block.len();
            bytes <= RESCUE_BYTES_MAX
        });
        let blocks: Vec<Vec<u8>> = blocks.collect();
        if bytes > RESCUE_BYTES_MAX {
            return Ok(false);
        }
        let mut written = self.store.snapshot_of_all(&mut blocks.iter().cloned());
        // The space kept for such times is for the next start: it is risked for what surely fits.
        let fits = bytes <= RESERVE_BYTES / 2;
        if fits && matches!(&written, Err(error) if error.is_full()) && self.store.give_up_reserve() {
            written = self.store.snapshot_of_all(&mut blocks.into_iter());
            self.store.keep_reserve();
        }
        match written {
            Ok(_) => {
                tracing::warn!("the disk was full: a snapshot has taken the place of the log");
                self.rescue_wait_ms = RESCUE_RETRY_MS_MIN;
                self.shared.set_snapshot_error(None);
                self.all_durable()?;
                Ok(true)
            }
            Err(error) if error.is_poisoned() => {
                self.persist_failed(&error)?;
                Ok(false)
            }
            Err(error) => {
                tracing::info!(%error, "nor does a snapshot fit in place of the log");
                Ok(false)
            }
        }
    }

    /// Tells the engine of a failed commit. Everything but a failed sync can be tried again.
    fn persist_failed(&self, error: &StoreError) -> Result<(), Error> {
        let reason = error.to_string();
        let said = reason.clone();
        let (failure, state) = match () {
            () if error.is_poisoned() => (PersistFailure::Poisoned, DiskState::Failed { reason: said }),
            () if error.is_full() => (PersistFailure::Full, DiskState::Full { reason: said }),
            () => (PersistFailure::Refused, DiskState::Refused { reason: said }),
        };
        if self.shared.disk() != state {
            tracing::error!(%reason, "records could not be made durable");
            self.shared.set_disk(state);
        }
        self.report(Input::PersistFailed { failure, reason })
    }

    /// Tells the engine how a commit went. A store that is poisoned ends the node.
    fn report(&self, input: Input) -> Result<(), Error> {
        let poisoned = poison(&input);
        self.shared.step(input)?;
        poisoned
    }

    fn advance_epochs(&mut self) -> Result<(), Error> {
        match self.epochs.advance(&mut self.store, &self.shared) {
            Ok(()) => Ok(()),
            Err(Failed::Node(error)) => Err(error),
            Err(Failed::Store(error)) => self.persist_failed(&error),
        }
    }

    /// Looks after the snapshot that is being written, or begins one when it is due.
    fn look_after_image(&mut self) -> Result<(), Error> {
        match &self.image {
            Some(image) => match image.poll() {
                Some(written) => self.end_image(written?),
                None => Ok(()),
            },
            None if self.appended == self.durable => self.begin_image(),
            None => Ok(()),
        }
    }

    /// Begins a snapshot when one is due, so that the log it covers can go.
    ///
    /// The image must hold exactly what the records up to the last committed one made. Under the engine's lock its state is
    /// held still (values are shared, not copied) and the records that led to it are taken: nothing else. They are
    /// committed after that. From there on a thread of its own encodes the image and writes it, and later records go
    /// into other segments than those it makes superfluous.
    fn begin_image(&mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        if !self.store.snapshot_due() || shared.clock.now().time < self.image_not_before {
            return Ok(());
        }
        let taken = shared.with_cell(|cell| {
            let goes_on = cell.refusing.is_none();
            goes_on.then(|| (shared.queue.take_now().jobs, cell.engine.freeze()))
        })?;
        // A node that stops would only give it up.
        let Some((jobs, frozen)) = taken else {
            return Ok(());
        };
        self.append(jobs)?;
        self.commit_appended()?;
        if self.appended != self.durable {
            // No space, and no snapshot that would fit.
            self.put_off_image();
            return Ok(());
        }
        let job = match self.store.begin_snapshot() {
            Ok(Some(job)) => job,
            Ok(None) => return Ok(()),
            Err(error) => return self.persist_failed(&error),
        };
        match Image::begin(job, frozen, shared) {
            Ok(image) => {
                self.image = Some(image);
                Ok(())
            }
            Err(source) => self.end_image(Err(StoreError::Disk {
                what: "starting a thread for a snapshot",
                file: self.shared.about.path.display().to_string(),
                source,
            })),
        }
    }

    /// Tells the store what became of the snapshot: only then its log is shorter, or the next one can be begun.
    fn end_image(&mut self, written: Written) -> Result<(), Error> {
        self.image = None;
        match self.store.end_snapshot(written) {
            Ok(()) => {
                self.image_wait_ms = IMAGE_RETRY_MS_MIN;
                self.shared.set_snapshot_error(None);
                self.store.keep_reserve();
                Ok(())
            }
            Err(error) if error.is_poisoned() => self.persist_failed(&error),
            Err(error) => {
                tracing::error!(%error, "no snapshot; the log stays and grows until one succeeds");
                self.shared.set_snapshot_error(Some(error.to_string()));
                self.put_off_image();
                Ok(())
            }
        }
    }

    /// Gives up the snapshot that is being written, if there is one: what it has taken of a full disk is wanted for records.
    fn give_up_image(&mut self) -> Result<bool, Error> {
        let Some(image) = self.image.take() else {
            return Ok(false);
        };
        self.end_image(image.give_up()?)?;
        Ok(true)
    }

    /// Every attempt ends a segment, and may fill a disk for a moment: one that fails is followed by fewer and fewer.
    fn put_off_image(&mut self) {
        self.image_not_before = self.shared.clock.now().time.after_ms(self.image_wait_ms);
        self.image_wait_ms = (self.image_wait_ms * 2).min(IMAGE_RETRY_MS_MAX);
    }
}

/// Nodes, for people: a few of them.
fn some_of(nodes: &[NodeId]) -> String {
    let shown = nodes.iter().take(NODES_SHOWN_MAX).map(ToString::to_string);
    let shown: Vec<String> = shown.collect();
    match nodes.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What a node that left says when what it had may be with nobody else.
fn left_behind(why: &str) -> Error {
    Error::new(
        ErrorKind::Unconfirmed,
        format!(
            "the node has left the cluster, but what it had may be on its disk alone: {why}. Start it again on the same \
             directory, let it meet its peers, and have it leave then"
        ),
    )
}

/// What a node that left says when nobody was there to hear it. One would do: it tells the others.
pub(super) fn unheard() -> Error {
    Error::new(
        ErrorKind::Unconfirmed,
        "the node has stopped, but no other node has confirmed that it heard of its leaving: they may still count it as a member. \
         Start it again on the same directory, let it meet its peers, and have it leave then",
    )
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
