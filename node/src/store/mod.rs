//! The node's durable memory: a checksummed log of records, snapshots that let it forget covered ones, and a
//! meta file that says whose directory it is.
//!
//! Not here: what a record means (bytes in, the same bytes back), threads, clocks, and when to commit. The
//! store does what it is told, on the thread that tells it; group commit is the caller's: append what has
//! queued, then commit once.
//!
//! Contract: what a [`Store::commit`] that returned `Ok` covers is there again after any crash, in order and
//! without a gap. What was appended and not so confirmed may be there too, but only as a prefix behind what
//! was. Whatever was durable and is damaged is refused with its file and offset, never skipped.
//!
//! A bad record is either of two things, and telling them apart is what the marks are for: each record names
//! the last lsn that was synced before its commit was written. A bad record at or below any mark that is
//! found (in a later record, a later segment's existence, a snapshot, the meta file) was once durable:
//! damage. A bad record above all marks is the torn tail of the commit during which the machine stopped: it
//! and all behind it are cut, and the cut is synced before anything is appended. Opening also writes the last
//! commit's bytes once more and syncs them, since a process that died after a failed sync may have left pages
//! that look written and are not.
//!
//! Files, all in one flat directory: `meta`, `log-LSN`, `snapshot-LSN` (each laid out on the
//! front page of its module), `*.tmp` (not whole yet, removed at the next opening), `reserve` (space for an epoch on a full
//! disk) and, on a real disk, `lock`.
//!
//! ```
//! use anabranch::store::{Identity, MemDisk, Options, Recovered, Store};
//! use anabranch_crdt::{Epoch, NodeId};
//!
//! let disk = MemDisk::new();
//! let me = Identity { cluster: "demo".to_owned(), node: NodeId(7), directory: 0x5eed };
//! let (mut store, opened) = Store::open(disk.clone(), &me, Options::default(), &mut |_| Ok(()))?;
//! assert!(opened.is_new);
//! store.start_epoch(Epoch(1))?;
//! store.append(b"one")?;
//! let lsn = store.append(b"two")?;
//! assert_eq!(store.commit()?, lsn);
//!
//! store.append(b"three, never committed")?;
//! drop(store);
//! disk.crash(&mut || 0);
//!
//! let mut seen = Vec::new();
//! let (_store, opened) = Store::open(disk, &me, Options::default(), &mut |recovered| {
//!     if let Recovered::Record { payload, .. } = recovered {
//!         seen.push(payload.to_vec());
//!     }
//!     Ok(())
//! })?;
//! assert_eq!(seen, [b"one".to_vec(), b"two".to_vec()]);
//! assert_eq!(opened.last_epoch, Some(Epoch(1)));
//! # Ok::<(), anabranch::store::StoreError>(())
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anabranch_crdt::{Epoch, NodeId, planted};

mod disk;
mod error;
mod fs_disk;
pub mod limits;
mod lock;
mod log;
mod mem_content;
mod mem_disk;
mod meta;
mod record;
mod recovery;
mod reserve;
mod segment;
mod snapshot;
mod snapshot_job;
#[cfg(test)]
mod tests;
mod window;

pub use disk::{Disk, DiskFile};
pub use error::StoreError;
pub use fs_disk::FsDisk;
pub use mem_content::SECTOR_BYTES;
pub use mem_disk::{MemDisk, MemFile, Unsynced};
pub use snapshot_job::{SnapshotJob, WrittenSnapshot};

use log::Log;
use meta::Meta;
use snapshot::Next;

/// A record's place in the log: counts up by one from 1. `Lsn(0)` is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who opens a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// The id the directory gets if it is new: random, so that a directory that was lost and made again
    /// differs.
    pub directory: u128,
}

/// Sizes that may be chosen. The defaults are for a real disk; tests and the simulator shrink them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment that would grow beyond this gets a successor. One commit never straddles two segments.
    pub segment_bytes: u64,
    /// Amount of log from which [`Store::snapshot_due`] says so.
    pub snapshot_bytes: u64,
    /// Step in which a segment is filled ahead with zeros while commits are small; 0 for never.
    pub fill_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            snapshot_bytes: limits::SNAPSHOT_BYTES_DEFAULT,
            fill_bytes: limits::FILL_BYTES_DEFAULT,
        }
    }
}

/// What opening a store hands back of what it holds: first the blocks of the newest snapshot, then every
/// later record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered<'a> {
    /// A block of the snapshot, as [`Store::snapshot`] was given it, in the same order.
    Image(&'a [u8]),
    /// That was the last of its blocks. Not said where there is no snapshot.
    ImageEnd,
    /// A record, in log order.
    Record {
        /// Its place.
        lsn: Lsn,
        /// What was appended.
        payload: &'a [u8],
    },
}

/// What was found when a store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// No epoch was ever started in this directory, so it holds nothing.
    pub is_new: bool,
    /// The directory's random id, given by the identity that first opened it.
    pub directory: u128,
    /// The last epoch started in this directory.
    pub last_epoch: Option<Epoch>,
    /// Bytes of a torn tail that were cut off: the remains of a commit nobody was told about.
    pub torn_bytes_cut: u64,
}

/// The durable memory of one node, on any [`Disk`].
///
/// Methods are of five kinds: opening; the log (`append`, `commit`); what replaces a file (`start_epoch`,
/// `snapshot`, which is `begin_snapshot`, [`SnapshotJob::write`] and `end_snapshot` in one); space kept for a full disk (`keep_reserve`, `give_up_reserve`); questions. Each may be repeated after an error, except after [`StoreError::Poisoned`].
pub struct Store<D: Disk> {
    disk: Arc<D>,
    options: Options,
    meta: Meta,
    log: Log<D::File>,
    /// What the newest snapshot covers and how large it is.
    snapshot: Option<snapshot::Summary>,
    /// Files that are of no more use and could not be removed yet.
    garbage: Vec<String>,
    /// Whether a snapshot was begun and has not ended.
    writes_snapshot: bool,
    poisoned: Option<String>,
}

impl<D: Disk> Store<D> {
    /// Opens the store in a directory, a new one or a used one, and hands everything it holds to `visit`.
    ///
    /// When this returns, all that was visited is durable. `visit` is called before that is known, so it must
    /// have no effect outside; a reason it returns ends the opening as [`StoreError::Refused`].
    ///
    /// # Errors
    /// `OtherCluster`, `OtherNode`, `NewerFormat`, `OlderFormat`, `Corrupt`, `Refused`: this directory is not for
    /// this process; nothing was changed. `Full`, `Disk`, `Poisoned`: the system refused a call; opening again is
    /// safe.
    pub fn open(
        disk: D,
        identity: &Identity,
        options: Options,
        visit: &mut dyn FnMut(Recovered<'_>) -> Result<(), String>,
    ) -> Result<(Store<D>, Opened), StoreError> {
        Store::open_salted(disk, identity, identity.directory, options, visit)
    }

    /// As [`Store::open`], which is for tests and simulations: with a random `salt` that a new directory keeps, and nobody
    /// learns. Its checksums start from it, so that what a client stores can never be taken for a record.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_salted(
        disk: D,
        identity: &Identity,
        salt: u128,
        options: Options,
        visit: &mut dyn FnMut(Recovered<'_>) -> Result<(), String>,
    ) -> Result<(Store<D>, Opened), StoreError> {
        recovery::open(disk, identity, salt, options, visit)
    }

    /// Whether a directory is this identity's or nobody's, as [`Store::open`] finds it. Changes nothing.
    ///
    /// # Errors
    /// `OtherCluster`, `OtherNode`, `NewerFormat`, `OlderFormat`, `Corrupt`: it is not for this process. `Disk`: the system
    /// refused a call.
    pub fn check(disk: &D, identity: &Identity) -> Result<(), StoreError> {
        recovery::check(disk, identity)
    }

    /// Starts a new epoch; it is durable when this returns.
    ///
    /// # Errors
    /// `EpochNotNew`: not above the directory's last one. `Full`, `Disk`: not started; a retry is safe.
    pub fn start_epoch(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        self.check_alive()?;
        let is_old = |last: &Epoch| planted!("restart_keeps_epoch", epoch < *last, epoch <= *last);
        if let Some(last) = self.meta.epoch.filter(is_old) {
            return Err(StoreError::EpochNotNew { asked: epoch, last });
        }
        // From now on a directory without it has lost it.
        let begun = self.log.begin_segment(&*self.disk);
        self.poison_if_failed(begun)?;
        let meta = Meta {
            format: meta::VERSION,
            epoch: Some(epoch),
            synced: self.log.durable(),
            ..self.meta.clone()
        };
        let written = meta.write(&*self.disk);
        self.poison_if_failed(written)?;
        self.meta = meta;
        Ok(())
    }

    /// Makes the file whose space [`Store::give_up_reserve`] gives back, unless it is there. Best effort: on a full disk
    /// there is none until a later call.
    pub fn keep_reserve(&self) {
        if let Err(error) = reserve::keep(&*self.disk) {
            tracing::debug!(%error, "no space is kept for starting an epoch on a full disk");
        }
    }

    /// Gives up the space kept by [`Store::keep_reserve`], so that a call that failed with `Full` may be repeated; says
    /// whether there was any.
    pub fn give_up_reserve(&self) -> bool {
        reserve::give_up(&*self.disk).unwrap_or_else(|error| {
            tracing::warn!(%error, "the space kept for a full disk could not be given up");
            false
        })
    }

    /// Adds a record in memory; [`Store::commit`] makes it durable. How much may be pending is the caller's
    /// to bound.
    ///
    /// # Errors
    /// `TooLarge`: above [`limits::RECORD_BYTES_MAX`]; nothing was added.
    pub fn append(&mut self, payload: &[u8]) -> Result<Lsn, StoreError> {
        self.check_alive()?;
        self.log.append(payload)
    }

    /// Bytes appended and not yet durable, as they will lie on disk.
    pub fn pending_bytes(&self) -> usize {
        self.log.pending_bytes()
    }

    /// Makes everything appended so far durable, with one write and one sync, and returns the last durable
    /// lsn.
    ///
    /// # Errors
    /// `Full`, `Disk`: nothing is lost, everything is still pending; call again later. `Poisoned`: it is
    /// unknown what of the pending records is durable; only opening the store again tells.
    pub fn commit(&mut self) -> Result<Lsn, StoreError> {
        self.check_alive()?;
        let committed = self.log.commit(&*self.disk, &self.options);
        let durable = self.poison_if_failed(committed)?;
        self.note_log()?;
        Ok(durable)
    }

    /// Where the newest snapshot has no word of the segment behind it, for want of room, the meta file gets one of the first record
    /// there: from then on a directory without it has lost it. On a full disk that has to wait for a later commit.
    fn note_log(&mut self) -> Result<(), StoreError> {
        let absent = self
            .snapshot
            .as_ref()
            .filter(|snapshot| snapshot.next == Next::Absent);
        let Some(first) = absent.map(|snapshot| snapshot.covered.next()) else {
            return Ok(());
        };
        if self.meta.synced >= first || self.log.durable() < first {
            return Ok(());
        }
        let meta = Meta {
            synced: first,
            ..self.meta.clone()
        };
        let written = meta.write(&*self.disk);
        match self.poison_if_failed(written) {
            Ok(()) => self.meta = meta,
            Err(error) if error.is_poisoned() => return Err(error),
            Err(error) => tracing::debug!(%error, "the meta file has no word of the log yet"),
        }
        Ok(())
    }

    /// The last lsn known durable.
    pub fn durable(&self) -> Lsn {
        self.log.durable()
    }

    /// True if so much log has gathered that a snapshot is worth it: more than [`Options::snapshot_bytes`],
    /// and more than the last snapshot is large, so that a large state is not written again for every little
    /// log.
    pub fn snapshot_due(&self) -> bool {
        let image_bytes = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes);
        self.log.bytes() > self.options.snapshot_bytes.max(image_bytes)
    }

    /// Writes a snapshot, which covers all durable records, and then removes these. Without any record since
    /// the last snapshot it does nothing. Blocks are the caller's own cut of its state, at most
    /// [`limits::BLOCK_BYTES_MAX`] each.
    ///
    /// # Errors
    /// `Full`, `Disk`, `TooLarge`: there is no new snapshot and the log is as it was; a retry is safe.
    ///
    /// # Panics
    /// If records are pending: the blocks would hold what is not durable.
    pub fn snapshot(&mut self, blocks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), StoreError> {
        match self.begin_snapshot()? {
            Some(job) => {
                let written = job.write(blocks, &AtomicBool::new(false));
                self.end_snapshot(written)
            }
            None => Ok(()),
        }
    }

    /// Writes a snapshot in place of a commit: of all that was appended, durable or not, which is durable with it. On a full disk it
    /// may be far smaller than the log, which can go then. Returns the last durable lsn.
    ///
    /// # Errors
    /// As of [`Store::snapshot`]; what was pending is pending as before.
    ///
    /// # Panics
    /// If a snapshot was begun and has not ended.
    pub fn snapshot_of_all(&mut self, blocks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<Lsn, StoreError> {
        self.check_alive()?;
        assert!(!self.writes_snapshot, "one snapshot at a time");
        let covered = self.log.appended();
        let Some(job) = self.job(covered) else {
            return Ok(covered);
        };
        let job = job.superseding(self.log.segments());
        let written = job.write(blocks, &AtomicBool::new(false));
        let WrittenSnapshot { summary, left } = self.poison_if_failed(written)?;
        self.garbage = left;
        self.log.forget_all();
        self.snapshot = Some(summary);
        Ok(covered)
    }

    /// Begins a snapshot, which will cover all durable records; none without any record since the last one. The store goes on
    /// meanwhile: what is appended from now on lies in segments of its own. One at a time: give its result to
    /// [`Store::end_snapshot`] before the next is begun.
    ///
    /// # Errors
    /// `Poisoned`: as of [`Store::commit`].
    ///
    /// # Panics
    /// If records are pending, of which the blocks would hold what is not durable; if the last one has not ended.
    pub fn begin_snapshot(&mut self) -> Result<Option<SnapshotJob<D>>, StoreError> {
        self.check_alive()?;
        assert!(
            self.log.pending_bytes() == 0,
            "a snapshot with {} bytes pending",
            self.log.pending_bytes()
        );
        assert!(!self.writes_snapshot, "one snapshot at a time");
        let Some(job) = self.job(self.log.durable()) else {
            return Ok(None);
        };
        let job = job.superseding(self.log.close_segment());
        let begun = self.log.begin_segment(&*self.disk);
        let next = match self.poison_if_failed(begun) {
            Ok(()) => Next::There,
            Err(error) if error.is_poisoned() => return Err(error),
            // Where there is no room for it, there may be once the snapshot is written.
            Err(_) => Next::Absent,
        };
        self.writes_snapshot = true;
        Ok(Some(SnapshotJob { next, ..job }))
    }

    /// A snapshot up to `covered`; none where the last one covers that.
    fn job(&self, covered: Lsn) -> Option<SnapshotJob<D>> {
        let before = self.snapshot.as_ref().map(|snapshot| snapshot.covered);
        if covered == before.unwrap_or_default() {
            return None;
        }
        let mut superseded = self.garbage.clone();
        superseded.extend(before.map(snapshot::name));
        Some(SnapshotJob {
            disk: Arc::clone(&self.disk),
            ties: self.meta.ties,
            covered,
            next: Next::Absent,
            superseded,
        })
    }

    /// Takes back what became of a snapshot.
    ///
    /// # Errors
    /// Those of [`SnapshotJob::write`]: the log is as it was, and may be covered by a later one.
    pub fn end_snapshot(&mut self, written: Result<WrittenSnapshot, StoreError>) -> Result<(), StoreError> {
        self.writes_snapshot = false;
        let WrittenSnapshot { summary, left } = self.poison_if_failed(written)?;
        self.garbage = left;
        self.log.forget_covered(summary.covered);
        self.snapshot = Some(summary);
        self.note_log()
    }

    fn check_alive(&self) -> Result<(), StoreError> {
        match &self.poisoned {
            Some(reason) => Err(StoreError::Poisoned {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    fn poison_if_failed<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Poisoned { reason }) = &result {
            tracing::error!(%reason, "the store is poisoned until it is opened again");
            self.poisoned = Some(reason.clone());
        }
        result
    }
}

impl<D: Disk> fmt::Debug for Store<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("meta", &self.meta)
            .field("durable", &self.log.durable())
            .field("pending_bytes", &self.log.pending_bytes())
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

/// Removes files that are of no use; those that cannot be removed stay on the list for another time.
fn remove_garbage<D: Disk>(disk: &D, garbage: &mut Vec<String>) -> Result<(), StoreError> {
    if garbage.is_empty() {
        return Ok(());
    }
    garbage.retain(|name| match disk.remove(name) {
        Ok(()) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => {
            tracing::warn!(file = disk.locate(name), %error, "a file that is no longer needed cannot be removed");
            true
        }
    });
    disk.sync_dir()
        .map_err(|e| StoreError::poison("a sync of the directory", &disk.locate("."), &e))
}

/// The lsn in a file's name: exactly 16 lower-case hex digits.
fn parse_lsn(digits: &str) -> Option<Lsn> {
    let plain = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain
        .then(|| u64::from_str_radix(digits, 16).ok().map(Lsn))
        .flatten()
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(array_at(bytes, at))
}
