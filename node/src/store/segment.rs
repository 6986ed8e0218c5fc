//! A segment: one file of the log. A 64-byte header, then records without gaps, then perhaps zeros.
//!
//! Header: `"anablog\0" | version u8 | 7 zeros | first lsn u64 | directory u128 | 20 zeros | crc32c u32`.
//! Every version keeps magic, version, size and checksum in these places. A segment is named and identified
//! by the lsn of its first record: it is created only when all records before that are durable and stays
//! until a snapshot covers it, so no two segments of a directory ever have the same. It appears whole (header
//! synced before the rename), which makes its mere existence proof that everything before its first lsn was
//! durable.

use super::disk::{Disk, DiskFile, publish};
use super::error::StoreError;
use super::limits::SEGMENT_HEADER_BYTES;
use super::{Lsn, u32_at, u64_at, u128_at};

/// Newest format written and read here.
pub(super) const VERSION: u8 = 1;
/// Name of a segment that is not whole yet.
pub(super) const TEMP: &str = "log.tmp";

const MAGIC: [u8; 8] = *b"anablog\0";
const PREFIX: &str = "log-";

/// The file name of the segment that begins with this lsn.
pub(super) fn name(first: Lsn) -> String {
    format!("{PREFIX}{:016x}", first.0)
}

/// The first lsn of the segment of this name, if it is one.
pub(super) fn parse_name(file: &str) -> Option<Lsn> {
    super::parse_lsn(file.strip_prefix(PREFIX)?)
}

/// Creates the segment durably, empty.
pub(super) fn create<D: Disk>(disk: &D, directory: u128, first: Lsn) -> Result<D::File, StoreError> {
    let file = name(first);
    let header = encode_header(directory, first);
    publish(disk, TEMP, &file, "a new log segment", &mut |out| {
        out.write_at(0, &header)
            .map_err(|e| StoreError::io("a new log segment", disk.locate(&file), e))
    })
}

/// The header of a segment.
pub(super) fn encode_header(directory: u128, first: Lsn) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8] = VERSION;
    header[16..24].copy_from_slice(&first.0.to_le_bytes());
    header[24..40].copy_from_slice(&directory.to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Checks the header of the segment that is called `file` and should begin with `first`.
pub(super) fn check_header(file: &str, header: &[u8], directory: u128, first: Lsn) -> Result<(), StoreError> {
    let bad = |what: &str| Err(StoreError::corrupt(file, 0, what));
    if header.len() < SEGMENT_HEADER_BYTES {
        return bad("the file ends within its header");
    }
    if header[..8] != MAGIC {
        return bad("this is not a log segment");
    }
    if u32_at(header, 60) != crc32c::crc32c(&header[..60]) {
        return bad("the header's checksum is wrong");
    }
    match header[8] {
        VERSION => {}
        found if found > VERSION => {
            return Err(StoreError::NewerFormat {
                file: file.to_owned(),
                found,
                known: VERSION,
            });
        }
        _ => return bad("the header names a format that never was"),
    }
    if u64_at(header, 16) != first.0 {
        return bad("the header does not belong to a segment of this name");
    }
    if u128_at(header, 24) != directory {
        return bad("the segment belongs to another data directory");
    }
    Ok(())
}
