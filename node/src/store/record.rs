//! One record of the log: `len u32 | crc32c u32 | lsn u64 | behind u32 | payload`, all little-endian.
//!
//! `len` counts the payload. `behind` is the distance from this record's lsn back to the commit's *mark*, the
//! last lsn that was synced before this commit was written; every record of a commit carries it, so that
//! whichever of them survives a crash bears witness. The checksum covers everything but itself, and starts
//! from a seed made of the directory's secret salt and the segment's lsn, so that bytes of another file or directory
//! are never taken for this one's, nor bytes that a client chose to store.
//! Not here: where records lie and what a bad one means; see `log` and `recovery`.

use super::limits::{COMMIT_RECORDS_MAX, RECORD_BYTES_MAX, RECORD_HEADER_BYTES};
use super::meta::Ties;
use super::{Lsn, u32_at, u64_at};

/// A decoded header. Its numbers are believed only after [`Header::is_intact`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: u32,
    crc: u32,
    pub(super) lsn: Lsn,
    behind: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`, which hold at least one.
    pub(super) fn decode(bytes: &[u8]) -> Header {
        assert!(
            bytes.len() >= RECORD_HEADER_BYTES,
            "a record header in {} bytes",
            bytes.len()
        );
        Header {
            len: u32_at(bytes, 0),
            crc: u32_at(bytes, 4),
            lsn: Lsn(u64_at(bytes, 8)),
            behind: u32_at(bytes, 16),
        }
    }

    /// The commit's mark, if the distance to it is possible.
    pub(super) fn mark(&self) -> Option<Lsn> {
        let mark = self.lsn.0.checked_sub(u64::from(self.behind))?;
        (self.behind > 0).then_some(Lsn(mark))
    }

    /// True if this is the first record of its commit.
    pub(super) fn begins_commit(&self) -> bool {
        self.behind == 1
    }

    /// Bytes of the whole record, or nothing if its length is one that is never written.
    pub(super) fn record_bytes(&self) -> Option<usize> {
        let len = self.len as usize;
        (len <= RECORD_BYTES_MAX).then_some(RECORD_HEADER_BYTES + len)
    }

    /// True if `record` (the whole record) has the checksum its header names.
    pub(super) fn is_intact(&self, seed: u32, record: &[u8]) -> bool {
        checksum(seed, record) == self.crc
    }
}

/// The seed of the checksums in one file.
pub(super) fn seed(ties: Ties, file: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&ties.salt.to_le_bytes()), &file.to_le_bytes())
}

/// Adds a record to a buffer of pending ones. [`seal`] fills in what only the commit knows.
pub(super) fn push(pending: &mut Vec<u8>, lsn: Lsn, payload: &[u8]) {
    assert!(
        payload.len() <= RECORD_BYTES_MAX,
        "a record of {} bytes",
        payload.len()
    );
    pending.reserve(RECORD_HEADER_BYTES + payload.len());
    pending.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    pending.extend_from_slice(&[0; 4]);
    pending.extend_from_slice(&lsn.0.to_le_bytes());
    pending.extend_from_slice(&[0; 4]);
    pending.extend_from_slice(payload);
}

/// Gives every record of the commit its mark and checksum. A commit that failed for want of space is sealed
/// again with the same mark, so its records have the same bytes again.
pub(super) fn seal(pending: &mut [u8], seed: u32, mark: Lsn) {
    let mut rest = pending;
    while !rest.is_empty() {
        let header = Header::decode(rest);
        let behind = header.lsn.0 - mark.0;
        assert!(
            behind > 0 && behind <= COMMIT_RECORDS_MAX,
            "record {} above mark {mark}",
            header.lsn
        );
        let (record, behind_it) = rest.split_at_mut(RECORD_HEADER_BYTES + header.len as usize);
        record[16..20].copy_from_slice(&(behind as u32).to_le_bytes());
        let crc = checksum(seed, record);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        rest = behind_it;
    }
}

/// The checksum of a whole record.
fn checksum(seed: u32, record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &record[..4]), &record[8..])
}
