//! Opening a store: whose directory is it, what does it hold, where does the log really end.
//!
//! Contract: a directory that is refused is left as it was. Otherwise, when this is done, everything that was
//! visited is durable, nothing lies behind the last record but zeros, and that is durable too.
//! Not here: what the files look like; see `meta`, `segment`, `record`, `snapshot`.

use std::io;
use std::sync::Arc;

use anabranch_crdt::planted;

use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::limits::{PROOF_BYTES_MAX, READ_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use super::log::{Closed, Found, Log, Tail};
use super::meta::{self, Meta, Ties};
use super::record::{self, Header};
use super::snapshot::Next;
use super::window::Window;
use super::{
    Identity, Lsn, Opened, Options, Recovered, Store, StoreError as E, remove_garbage, segment, snapshot,
};

type Visit<'a> = &'a mut dyn FnMut(Recovered<'_>) -> Result<(), String>;

/// See [`Store::open`].
pub(super) fn open<D: Disk>(
    disk: D,
    identity: &Identity,
    salt: u128,
    options: Options,
    visit: Visit<'_>,
) -> Result<(Store<D>, Opened), StoreError> {
    let files = Files::list(&disk)?;
    let meta = match files.meta(&disk, identity)? {
        Some(meta) => meta,
        None => {
            let meta = Meta::of_new(identity, salt)?;
            meta.write(&disk)?;
            meta
        }
    };
    // What a process before us renamed and did not live to sync is only now sure to stay.
    disk.sync_dir()
        .map_err(|e| StoreError::poison("a sync of the directory", &disk.locate("."), &e))?;

    let snapshot = match files.snapshots.last() {
        Some(covered) => Some(snapshot::read(&disk, meta.ties, *covered, visit)?),
        None => None,
    };
    let covered = snapshot.map_or(Lsn(0), |snapshot| snapshot.covered);
    let reader = Reader {
        disk: &disk,
        ties: meta.ties,
        known_durable: meta.synced.max(covered),
    };
    let mut segments = files.segments_above(covered);
    // A snapshot covers all there was when it was begun, and what came after that lies in segments of its own, so a segment
    // that begins at or below its lsn also ends there. Before the last of those is removed it is looked at all the same: what it would cost to be wrong is never seen again.
    let beyond = match files.last_covered(covered) {
        Some(first) if reader.goes_beyond(first, covered)? => Some(first),
        _ => None,
    };
    segments.splice(0..0, beyond);
    let goes_on = match snapshot {
        Some(snapshot) if snapshot.next != Next::Unsaid => snapshot.next == Next::There,
        _ => meta.has_log() && covered <= meta.synced,
    };
    if segments.is_empty() && goes_on {
        return Err(reader.misses_log(covered));
    }
    let (found, torn_bytes_cut) = reader.read_log(&segments, covered, visit)?;

    let mut garbage = files.garbage(covered, beyond);
    remove_garbage(&disk, &mut garbage)?;
    let opened = Opened {
        is_new: meta.epoch.is_none() && found.last == Lsn(0),
        directory: meta.ties.directory,
        last_epoch: meta.epoch,
        torn_bytes_cut,
    };
    let log = Log::new(meta.ties, found);
    Ok((
        Store {
            disk: Arc::new(disk),
            options,
            meta,
            log,
            snapshot,
            garbage,
            writes_snapshot: false,
            poisoned: None,
        },
        opened,
    ))
}

/// See [`Store::check`].
pub(super) fn check<D: Disk>(disk: &D, identity: &Identity) -> Result<(), StoreError> {
    Files::list(disk)?.meta(disk, identity).map(|_| ())
}

/// The directory's files by kind, in order.
struct Files {
    has_meta: bool,
    segments: Vec<Lsn>,
    snapshots: Vec<Lsn>,
    temporary: Vec<String>,
}

impl Files {
    fn list<D: Disk>(disk: &D) -> Result<Files, StoreError> {
        let names = disk
            .list()
            .map_err(|e| StoreError::io("listing the files", disk.locate("."), e))?;
        let is_temp = |name: &String| [meta::TEMP, segment::TEMP, snapshot::TEMP].contains(&name.as_str());
        let mut files = Files {
            has_meta: names.iter().any(|name| name == meta::NAME),
            segments: names
                .iter()
                .filter_map(|name| segment::parse_name(name))
                .collect(),
            snapshots: names
                .iter()
                .filter_map(|name| snapshot::parse_name(name))
                .collect(),
            temporary: names.into_iter().filter(is_temp).collect(),
        };
        files.segments.sort_unstable();
        files.snapshots.sort_unstable();
        Ok(files)
    }

    /// The meta file, if this is a directory of this identity; none if it is a new one.
    fn meta<D: Disk>(&self, disk: &D, identity: &Identity) -> Result<Option<Meta>, StoreError> {
        if !self.has_meta {
            self.refuse_orphans(disk)?;
            return Ok(None);
        }
        let meta = Meta::read(disk)?;
        meta.check_identity(&disk.locate(meta::NAME), identity)?;
        Ok(Some(meta))
    }

    /// Data without a meta file is somebody's, and nobody knows whose.
    fn refuse_orphans<D: Disk>(&self, disk: &D) -> Result<(), StoreError> {
        let first = self.segments.iter().map(|first| segment::name(*first)).next();
        match first.or_else(|| {
            self.snapshots
                .iter()
                .map(|covered| snapshot::name(*covered))
                .next()
        }) {
            Some(orphan) => Err(E::corrupt(
                &disk.locate(meta::NAME),
                0,
                format!("it is missing, though there is {orphan}"),
            )),
            None => Ok(()),
        }
    }

    /// The segments that hold nothing that a snapshot up to `covered` has.
    fn segments_above(&self, covered: Lsn) -> Vec<Lsn> {
        self.segments
            .iter()
            .copied()
            .filter(|first| *first > covered)
            .collect()
    }

    /// The last segment that begins with what a snapshot up to `covered` has.
    fn last_covered(&self, covered: Lsn) -> Option<Lsn> {
        self.segments.iter().copied().rfind(|first| *first <= covered)
    }

    /// What a crash has kept somebody from removing, but for this segment.
    fn garbage(&self, covered: Lsn, kept: Option<Lsn>) -> Vec<String> {
        let segments = self
            .segments
            .iter()
            .filter(|first| **first <= covered && Some(**first) != kept)
            .map(|first| segment::name(*first));
        let snapshots = self
            .snapshots
            .iter()
            .filter(|lsn| **lsn < covered)
            .map(|lsn| snapshot::name(*lsn));
        self.temporary
            .iter()
            .cloned()
            .chain(segments)
            .chain(snapshots)
            .collect()
    }
}

/// How a segment's records end.
struct End {
    /// Offset behind the last good record.
    at: u64,
    last: Lsn,
    /// Offset of the first record of the last commit in this segment.
    last_commit_at: u64,
    /// Why there is no further record, if there should or could be one.
    why: &'static str,
}

/// Reads the log, knowing that all up to some lsn was durable once.
struct Reader<'a, D> {
    disk: &'a D,
    ties: Ties,
    known_durable: Lsn,
}

impl<D: Disk> Reader<'_, D> {
    fn open_segment(&self, first: Lsn) -> Result<D::File, StoreError> {
        let name = segment::name(first);
        let opened = self.disk.open(&name);
        opened.map_err(|e| E::io("opening a segment", self.disk.locate(&name), e))
    }

    /// Whether a segment holds records above `covered`. What is wrong with one that does not is of no consequence.
    fn goes_beyond(&self, first: Lsn, covered: Lsn) -> Result<bool, StoreError> {
        let name = self.disk.locate(&segment::name(first));
        let failed = |e| E::io("reading a segment", name.clone(), e);
        let mut file = self.open_segment(first)?;
        let mut window = Window::new(&mut file).map_err(failed)?;
        let end = self.read_records(&name, &mut window, first, None, &mut |_| Ok(()))?;
        Ok(end.last > covered)
    }

    /// There was a segment to go on behind what is covered, and it is gone.
    fn misses_log(&self, covered: Lsn) -> StoreError {
        let first = segment::name(covered.next());
        let what =
            format!("the log is missing from here on ({first}); all files of a directory belong together");
        let beside = match covered {
            Lsn(0) => meta::NAME.to_owned(),
            covered => snapshot::name(covered),
        };
        E::corrupt(&self.disk.locate(&beside), 0, what)
    }

    /// Visits all records in `segments` above `covered`; the last of the segments becomes the log's tail.
    fn read_log(
        &self,
        segments: &[Lsn],
        covered: Lsn,
        visit: Visit<'_>,
    ) -> Result<(Found<D::File>, u64), StoreError> {
        let begins_at = segments.first().copied().filter(|first| *first <= covered);
        let mut above = |recovered: Recovered<'_>| match recovered {
            Recovered::Record { lsn, .. } if lsn <= covered => Ok(()),
            recovered => visit(recovered),
        };
        let mut found = Found {
            last: begins_at.map_or(covered, |first| Lsn(first.0 - 1)),
            tail: None,
            earlier: Vec::new(),
        };
        let mut torn_bytes_cut = 0;
        for (at, first) in segments.iter().enumerate() {
            let name = self.disk.locate(&segment::name(*first));
            if *first != found.last.next() {
                let what = format!(
                    "the segment with record {} is missing before it",
                    found.last.next()
                );
                return Err(E::corrupt(&name, 0, what));
            }
            let mut file = self.open_segment(*first)?;
            let failed = |e| E::io("reading a segment", name.clone(), e);
            let mut window = Window::new(&mut file).map_err(failed)?;
            let header_bytes = window.left(0).min(SEGMENT_HEADER_BYTES as u64) as usize;
            let header = window.get(0, header_bytes).map_err(failed)?;
            segment::check_header(&name, header, self.ties.directory, *first)?;
            let successor = segments.get(at + 1).copied();
            let end = self.read_records(&name, &mut window, *first, successor, &mut above)?;
            found.last = end.last;
            if let Some(successor) = successor {
                if end.last.next() != successor {
                    return Err(E::corrupt(
                        &name,
                        end.at,
                        format!("{}, and the log goes on only with record {successor}", end.why),
                    ));
                }
                found.earlier.push(Closed {
                    first: *first,
                    bytes: end.at,
                });
            } else {
                let (resume_at, filled, cut) = self.settle_tail(&name, &mut window, *first, &end)?;
                torn_bytes_cut = cut;
                found.tail = Some(Tail {
                    file,
                    first: *first,
                    end: resume_at,
                    filled,
                });
            }
        }
        if found.last < self.known_durable {
            let what = format!(
                "the log ends with record {}, but {} was durable",
                found.last, self.known_durable
            );
            return Err(E::corrupt(&self.disk.locate(meta::NAME), 0, what));
        }
        Ok((found, torn_bytes_cut))
    }

    /// Visits the records of one segment up to the first bad one, its end or its successor's first. What a
    /// write that failed for want of space has left behind there is its successor's to tell.
    fn read_records(
        &self,
        name: &str,
        window: &mut Window<'_, D::File>,
        first: Lsn,
        successor: Option<Lsn>,
        visit: Visit<'_>,
    ) -> Result<End, StoreError> {
        let seed = record::seed(self.ties, first.0);
        let start = SEGMENT_HEADER_BYTES as u64;
        let mut end = End {
            at: start,
            last: Lsn(first.0 - 1),
            last_commit_at: start,
            why: "",
        };
        while Some(end.last.next()) != successor {
            let believe = planted!("checksum_skipped_on_old_segment", successor.is_some(), false);
            let (header, record) = match read_record(window, end.at, seed, end.last.next(), believe) {
                Ok(Ok(good)) => good,
                Ok(Err(why)) => {
                    end.why = why;
                    break;
                }
                Err(error) => return Err(E::io("reading a segment", name.to_owned(), error)),
            };
            let payload = &record[RECORD_HEADER_BYTES..];
            visit(Recovered::Record {
                lsn: header.lsn,
                payload,
            })
            .map_err(|reason| E::Refused {
                file: name.to_owned(),
                reason: format!("record {} at offset {}: {reason}", header.lsn, end.at),
            })?;
            if header.begins_commit() {
                end.last_commit_at = end.at;
            }
            end.at += record.len() as u64;
            end.last = header.lsn;
        }
        Ok(end)
    }

    /// Decides what it means that the last segment's records end where they do, and leaves it so that it can
    /// be appended to. Returns where to go on, up to where the file is filled, and how many torn bytes were
    /// cut.
    fn settle_tail(
        &self,
        name: &str,
        window: &mut Window<'_, D::File>,
        first: Lsn,
        end: &End,
    ) -> Result<(u64, u64, u64), StoreError> {
        let failed = |e| E::io("reading a segment", name.to_owned(), e);
        let lost = end.last.next();
        if self.known_durable >= lost {
            let what = format!(
                "{}, but everything up to record {} was durable",
                end.why, self.known_durable
            );
            return Err(E::corrupt(name, end.at, what));
        }
        let torn = last_nonzero(window, end.at)
            .map_err(failed)?
            .map_or(0, |last| last + 1 - end.at);
        if torn > 0 {
            let seed = record::seed(self.ties, first.0);
            if let Some(proof) = find_proof(window, end.at, seed, lost).map_err(failed)? {
                return Err(E::corrupt(
                    name,
                    end.at,
                    format!("{} (record {lost}), and {proof}", end.why),
                ));
            }
        }
        self.rewrite(name, window, end.last_commit_at, end.at)?;
        let full = window.len();
        let file = window.file();
        let changed = |e| E::io("cutting a torn tail", name.to_owned(), e);
        let mut left = (end.at, full, torn);
        if torn > 0 {
            // The mistake: whatever is appended lies behind a record that the next recovery stops at again.
            left = planted!("append_after_torn_record", (end.at + torn, full, torn), {
                file.set_len(end.at).map_err(changed)?;
                (end.at, end.at, torn)
            });
            tracing::warn!(
                file = name,
                offset = end.at,
                bytes = torn,
                why = end.why,
                "cut a torn tail"
            );
        }
        file.sync_data()
            .map_err(|e| E::poison("a sync of the log", name, &e))?;
        Ok(left)
    }

    /// Writes the bytes between two offsets as they are. If an earlier process died after a failed sync, they
    /// may be readable and yet not be on disk, and only what is written anew is synced.
    fn rewrite(
        &self,
        name: &str,
        window: &mut Window<'_, D::File>,
        from: u64,
        to: u64,
    ) -> Result<(), StoreError> {
        let failed = |e| E::io("writing the last commit again", name.to_owned(), e);
        let mut at = from;
        while at < to {
            let count = (to - at).min(READ_BYTES as u64) as usize;
            let bytes = window.get(at, count).map_err(failed)?.to_vec();
            window.file().write_at(at, &bytes).map_err(failed)?;
            at += count as u64;
        }
        Ok(())
    }
}

/// Reads the record at the offset, or says why there is no good one with that lsn.
fn read_record<'w, F: DiskFile>(
    window: &'w mut Window<'_, F>,
    at: u64,
    seed: u32,
    lsn: Lsn,
    believe: bool,
) -> io::Result<Result<(Header, &'w [u8]), &'static str>> {
    if window.left(at) < RECORD_HEADER_BYTES as u64 {
        return Ok(Err("there is no room for a further record"));
    }
    let head = window.get(at, RECORD_HEADER_BYTES)?;
    if head.iter().all(|byte| *byte == 0) {
        return Ok(Err("there is no further record"));
    }
    let header = Header::decode(head);
    let Some(bytes) = header.record_bytes() else {
        return Ok(Err("a record has an impossible length"));
    };
    if bytes as u64 > window.left(at) {
        return Ok(Err("a record is longer than its segment"));
    }
    let record = window.get(at, bytes)?;
    if !believe && !header.is_intact(seed, record) {
        return Ok(Err("a record's checksum is wrong"));
    }
    if header.lsn != lsn {
        return Ok(Err("a record is out of order"));
    }
    if header.mark().is_none() {
        return Ok(Err("a record names an impossible mark"));
    }
    Ok(Ok((header, record)))
}

/// The offset of the last byte at or behind `from` that is not zero.
fn last_nonzero<F: DiskFile>(window: &mut Window<'_, F>, from: u64) -> io::Result<Option<u64>> {
    let (mut at, mut last) = (from, None);
    while window.left(at) > 0 {
        let chunk = window.chunk(at, 1)?;
        if let Some(found) = chunk.iter().rposition(|byte| *byte != 0) {
            last = Some(at + found as u64);
        }
        at += chunk.len() as u64;
    }
    Ok(last)
}

/// Looks behind a bad record for an intact one whose mark says that record `lost` was durable. Where the next
/// record begins is unknown, so every offset is tried; the marks that would prove something are so rare that
/// few are checksummed.
fn find_proof<F: DiskFile>(
    window: &mut Window<'_, F>,
    from: u64,
    seed: u32,
    lost: Lsn,
) -> io::Result<Option<String>> {
    let highest = lost
        .0
        .saturating_add(window.left(from) / RECORD_HEADER_BYTES as u64 + 1);
    let mut budget = PROOF_BYTES_MAX;
    let mut at = from + 1;
    while window.left(at) >= RECORD_HEADER_BYTES as u64 {
        let chunk = window.chunk(at, RECORD_HEADER_BYTES)?;
        let tries = chunk.len() + 1 - RECORD_HEADER_BYTES;
        let candidate = (0..tries).find_map(|skip| {
            let header = Header::decode(&chunk[skip..]);
            let proves = header.lsn > lost && header.lsn.0 <= highest && header.mark() >= Some(lost);
            proves.then_some((skip as u64, header))
        });
        let Some((skip, header)) = candidate else {
            at += tries as u64;
            continue;
        };
        let offset = at + skip;
        at = offset + 1;
        let Some(bytes) = header
            .record_bytes()
            .filter(|bytes| *bytes as u64 <= window.left(offset))
        else {
            continue;
        };
        let Some(rest) = budget.checked_sub(bytes as u64) else {
            return Ok(Some(
                "too much behind it looks like records to tell a torn tail from damage".to_owned(),
            ));
        };
        budget = rest;
        if header.is_intact(seed, window.get(offset, bytes)?) {
            return Ok(Some(format!(
                "record {} at offset {offset} proves that it was durable",
                header.lsn
            )));
        }
    }
    Ok(None)
}
