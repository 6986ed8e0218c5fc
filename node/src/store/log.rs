//! The log's writing end: pending records, the segment being written, commits.
//!
//! Contract: a commit is one `write_at` and one `sync_data`. A segment's successor is created only when all
//! records before it are durable, so no commit straddles two segments.
//! Not here: reading; see `recovery`.

use anabranch_crdt::planted;

use super::disk::{Disk, DiskFile};
use super::error::{StoreError, is_full};
use super::limits::{
    COMMIT_RECORDS_MAX, FILL_BATCH_BYTES_MAX, PENDING_BYTES_KEPT, RECORD_BYTES_MAX, SEGMENT_HEADER_BYTES,
};
use super::meta::Ties;
use super::{Lsn, Options, record, segment};

/// The log, ready to be appended to.
pub(super) struct Log<F> {
    ties: Ties,
    durable: Lsn,
    appended: Lsn,
    /// Encoded records above `durable`, without marks and checksums until the commit.
    pending: Vec<u8>,
    tail: Option<Tail<F>>,
    /// The segments before the tail that no snapshot covers.
    earlier: Vec<Closed>,
    mean_batch_bytes: u64,
}

/// The segment being written.
pub(super) struct Tail<F> {
    pub(super) file: F,
    pub(super) first: Lsn,
    /// Where the last durable record ends.
    pub(super) end: u64,
    /// Up to here the file has been written, so that overwriting it does not change its length.
    pub(super) filled: u64,
}

/// A segment that is not written to any more.
#[derive(Clone, Copy)]
pub(super) struct Closed {
    pub(super) first: Lsn,
    pub(super) bytes: u64,
}

/// What recovery found of the log.
pub(super) struct Found<F> {
    pub(super) last: Lsn,
    pub(super) tail: Option<Tail<F>>,
    pub(super) earlier: Vec<Closed>,
}

impl<F: DiskFile> Log<F> {
    pub(super) fn new(ties: Ties, found: Found<F>) -> Log<F> {
        let Found { last, tail, earlier } = found;
        Log {
            ties,
            durable: last,
            appended: last,
            pending: Vec::new(),
            tail,
            earlier,
            mean_batch_bytes: 0,
        }
    }

    pub(super) fn append(&mut self, payload: &[u8]) -> Result<Lsn, StoreError> {
        if payload.len() > RECORD_BYTES_MAX {
            let (bytes, max) = (payload.len(), RECORD_BYTES_MAX);
            return Err(StoreError::TooLarge {
                what: "a record",
                bytes,
                max,
            });
        }
        let lsn = self.appended.next();
        assert!(
            lsn.0 - self.durable.0 <= COMMIT_RECORDS_MAX,
            "{lsn} appended, {} durable",
            self.durable
        );
        record::push(&mut self.pending, lsn, payload);
        self.appended = lsn;
        Ok(lsn)
    }

    pub(super) fn commit<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        options: &Options,
    ) -> Result<Lsn, StoreError> {
        if self.pending.is_empty() {
            return Ok(self.durable);
        }
        let batch = self.pending.len() as u64;
        self.roll_if_needed(disk, options, batch)?;
        let Some(tail) = &mut self.tail else {
            unreachable!("a roll leaves a tail or fails")
        };
        record::seal(
            &mut self.pending,
            record::seed(self.ties, tail.first.0),
            self.durable,
        );
        let first = tail.first;
        let file = || disk.locate(&segment::name(first));
        let fill_to = fill_goal(tail, options, batch, self.mean_batch_bytes);
        match write_batch(tail, &mut self.pending, fill_to) {
            Ok(()) => {}
            Err(e) if is_full(&e) => return Err(StoreError::io("log records", file(), e)),
            Err(e) => return Err(StoreError::poison("a write to the log", &file(), &e)),
        }
        if let Err(e) = tail.file.sync_data() {
            let failed = StoreError::poison("a sync of the log", &file(), &e);
            // The mistake: a second sync finds no dirty pages and succeeds, though the first one has dropped
            // them.
            planted!(
                "failed_sync_believed",
                tail.file.sync_data().map_err(|_| failed),
                Err(failed)
            )?;
        }
        tail.end += batch;
        tail.filled = tail.filled.max(tail.end);
        self.durable = self.appended;
        self.mean_batch_bytes = (self.mean_batch_bytes * 7 + batch) / 8;
        self.pending.clear();
        if self.pending.capacity() > PENDING_BYTES_KEPT {
            self.pending = Vec::new();
        }
        Ok(self.durable)
    }

    /// Whatever is appended from here on goes into a segment that begins with it, so that those with the records so far
    /// hold nothing else. Returns their names. Nothing may be pending.
    pub(super) fn close_segment(&mut self) -> Vec<String> {
        assert!(
            self.appended == self.durable,
            "appended {}, durable {}",
            self.appended,
            self.durable
        );
        let durable = self.durable;
        if let Some(tail) = self.tail.take_if(|tail| tail.first <= durable) {
            self.earlier.push(tail.closed());
        }
        self.earlier
            .iter()
            .map(|closed| segment::name(closed.first))
            .collect()
    }

    /// Makes sure that there is a segment for what is appended next. Nothing may be pending.
    pub(super) fn begin_segment<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), StoreError> {
        match self.tail {
            Some(_) => Ok(()),
            None => self.roll(disk),
        }
    }

    /// Forgets the segments with records up to `covered`, which must be durable in a snapshot. It was the last one when
    /// [`Log::close_segment`] was called.
    pub(super) fn forget_covered(&mut self, covered: Lsn) {
        let rest = self.tail.as_ref().map_or(self.durable.next(), |tail| tail.first);
        assert!(
            covered < rest,
            "covered {covered}, but the segment with {rest} is still written to"
        );
        self.earlier.retain(|closed| closed.first > covered);
    }

    /// The names of all segments.
    pub(super) fn segments(&self) -> Vec<String> {
        let earlier = self.earlier.iter().map(|closed| closed.first);
        let tail = self.tail.as_ref().map(|tail| tail.first);
        earlier.chain(tail).map(segment::name).collect()
    }

    /// The last record appended.
    pub(super) fn appended(&self) -> Lsn {
        self.appended
    }

    /// Forgets all segments, and what is pending: a durable snapshot has the records that are appended.
    pub(super) fn forget_all(&mut self) {
        self.durable = self.appended;
        self.pending = Vec::new();
        self.tail = None;
        self.earlier.clear();
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn durable(&self) -> Lsn {
        self.durable
    }

    /// Bytes of log that no snapshot covers.
    pub(super) fn bytes(&self) -> u64 {
        let closed: u64 = self.earlier.iter().map(|closed| closed.bytes).sum();
        closed + self.tail.as_ref().map_or(0, |tail| tail.end)
    }

    /// Makes sure there is a segment the batch belongs into. One that holds a record already is not grown
    /// beyond the limit; a batch larger than a segment gets one of its own.
    fn roll_if_needed<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        options: &Options,
        batch: u64,
    ) -> Result<(), StoreError> {
        let empty = SEGMENT_HEADER_BYTES as u64;
        if self
            .tail
            .as_ref()
            .is_some_and(|t| t.end == empty || t.end + batch <= options.segment_bytes)
        {
            return Ok(());
        }
        self.roll(disk)
    }

    fn roll<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), StoreError> {
        let empty = SEGMENT_HEADER_BYTES as u64;
        let first = self.durable.next();
        let file = segment::create(disk, self.ties.directory, first)?;
        if let Some(full) = self.tail.replace(Tail {
            file,
            first,
            end: empty,
            filled: empty,
        }) {
            self.earlier.push(full.closed());
        }
        Ok(())
    }
}

impl<F> Tail<F> {
    fn closed(self) -> Closed {
        Closed {
            first: self.first,
            bytes: self.end,
        }
    }
}

/// Up to where the file should be filled with this write: not at all while it is long enough, or while
/// commits are so large that writing everything twice costs more than growing the file.
fn fill_goal<F>(tail: &Tail<F>, options: &Options, batch: u64, mean_batch_bytes: u64) -> u64 {
    let end = tail.end + batch;
    if end <= tail.filled || options.fill_bytes == 0 || mean_batch_bytes.max(batch) >= FILL_BATCH_BYTES_MAX {
        return end;
    }
    end.next_multiple_of(options.fill_bytes)
        .min(options.segment_bytes)
        .max(end)
}

/// Writes the batch behind the last durable record, together with the zeros up to `fill_to`. If these do not
/// fit the disk, the batch alone may.
fn write_batch<F: DiskFile>(tail: &mut Tail<F>, batch: &mut Vec<u8>, fill_to: u64) -> std::io::Result<()> {
    let bytes = batch.len();
    let with_fill = (fill_to - tail.end) as usize;
    if with_fill > bytes {
        batch.resize(with_fill, 0);
        let written = tail.file.write_at(tail.end, batch);
        batch.truncate(bytes);
        match written {
            Ok(()) => {
                tail.filled = fill_to;
                return Ok(());
            }
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if let Err(error) = tail.file.write_at(tail.end, batch) {
        // What did fit is of no use, and in the way of whoever needs the space. If it cannot be cut off, it is written over later.
        let _ = tail.file.set_len(tail.filled);
        return Err(error);
    }
    if with_fill > bytes {
        // Zeros that did fit stay and are used up before the next try.
        tail.filled = tail.file.len()?;
    }
    Ok(())
}
