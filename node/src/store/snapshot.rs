//! A snapshot: one immutable file that stands for every record up to the lsn in its name.
//!
//! Header (64 bytes): `"anasnap\0" | version u8 | next u8 | 6 zeros | covered lsn u64 | directory u128 | 20 zeros |
//! crc32c u32`. Next: see `Next`.
//! Blocks: `len u32 | crc32c u32 | payload`, the checksum seeded with the directory's salt, the covered lsn and the
//! block's number.
//! Index: for each block `offset u64 | len u32`. Footer (32 bytes): `index offset u64 | blocks u64 | index
//! crc32c u32 | 0 u32 | version u8 | 3 zeros | crc32c u32`. All little-endian.
//! It appears whole (synced before the rename), so whatever is wrong with one is damage. The index lets
//! blocks be read out of order, several at a time.

use super::disk::{Disk, DiskFile, publish};
use super::error::StoreError;
use super::limits::{
    BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, INDEX_ENTRY_BYTES, SNAPSHOT_FOOTER_BYTES, SNAPSHOT_HEADER_BYTES,
    SNAPSHOT_SYNC_BYTES, SNAPSHOT_WRITE_BYTES,
};
use super::meta::Ties;
use super::window::Window;
use super::{Lsn, Recovered, record, u32_at, u64_at, u128_at};

/// Newest format written and read here.
pub(super) const VERSION: u8 = 1;
/// Name of a snapshot that is not whole yet.
pub(super) const TEMP: &str = "snapshot.tmp";

const MAGIC: [u8; 8] = *b"anasnap\0";
const PREFIX: &str = "snapshot-";

/// What the store remembers of its newest snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Every record up to this one is in it.
    pub(super) covered: Lsn,
    /// The segment behind it.
    pub(super) next: Next,
    /// Its size.
    pub(super) bytes: u64,
}

/// What a snapshot's header says of the segment that the log goes on with behind it, so that it is missed where it is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it is from before there was a word of it.
    Unsaid,
    /// It was there before the snapshot.
    There,
    /// There was no room for it.
    Absent,
}

/// The file name of the snapshot that covers up to this lsn.
pub(super) fn name(covered: Lsn) -> String {
    format!("{PREFIX}{:016x}", covered.0)
}

/// The lsn covered by the snapshot of this name, if it is one.
pub(super) fn parse_name(file: &str) -> Option<Lsn> {
    super::parse_lsn(file.strip_prefix(PREFIX)?)
}

/// Writes a snapshot durably.
pub(super) fn write<D: Disk>(
    disk: &D,
    ties: Ties,
    covered: Lsn,
    next: Next,
    blocks: &mut dyn Iterator<Item = Result<Vec<u8>, StoreError>>,
) -> Result<Summary, StoreError> {
    let file = name(covered);
    let mut bytes = 0;
    publish(disk, TEMP, &file, "a snapshot", &mut |out| {
        let failed = |e| StoreError::io("a snapshot", disk.locate(&file), e);
        let mut writer = Writer {
            out,
            written: 0,
            synced: 0,
            buffer: Vec::new(),
        };
        writer
            .push(&encode_header(ties.directory, covered, next))
            .map_err(failed)?;
        let mut index = Vec::new();
        for (number, block) in blocks.enumerate() {
            let block = block?;
            if block.len() > BLOCK_BYTES_MAX {
                let (bytes, max) = (block.len(), BLOCK_BYTES_MAX);
                return Err(StoreError::TooLarge {
                    what: "a snapshot block",
                    bytes,
                    max,
                });
            }
            index.extend_from_slice(&writer.offset().to_le_bytes());
            index.extend_from_slice(&(block.len() as u32).to_le_bytes());
            let crc = block_checksum(ties, covered, number as u64, &block);
            writer.push(&(block.len() as u32).to_le_bytes()).map_err(failed)?;
            writer.push(&crc.to_le_bytes()).map_err(failed)?;
            writer.push(&block).map_err(failed)?;
            writer
                .sync_if_much()
                .map_err(|e| StoreError::poison("a sync of a snapshot", &disk.locate(&file), &e))?;
        }
        let footer = encode_footer(writer.offset(), &index);
        writer.push(&index).map_err(failed)?;
        writer.push(&footer).map_err(failed)?;
        writer.flush().map_err(failed)?;
        bytes = writer.offset();
        Ok(())
    })?;
    Ok(Summary { covered, next, bytes })
}

/// Reads a whole snapshot and hands its blocks on. All of it is checked, each block before it is handed on.
pub(super) fn read<D: Disk>(
    disk: &D,
    ties: Ties,
    covered: Lsn,
    visit: &mut dyn FnMut(Recovered<'_>) -> Result<(), String>,
) -> Result<Summary, StoreError> {
    let file = disk.locate(&name(covered));
    let failed = |e| StoreError::io("reading a snapshot", file.clone(), e);
    let mut input = disk.open(&name(covered)).map_err(failed)?;
    let mut window = Window::new(&mut input).map_err(failed)?;
    let (next, footer, index) = read_index(&file, &mut window, ties.directory, covered)?;
    let mut offset = SNAPSHOT_HEADER_BYTES as u64;
    for (number, entry) in index.chunks_exact(INDEX_ENTRY_BYTES).enumerate() {
        let (at, len) = (u64_at(entry, 0), u32_at(entry, 8) as usize);
        let whole = BLOCK_HEADER_BYTES + len;
        if at != offset || len > BLOCK_BYTES_MAX || whole as u64 > footer.index_at - offset {
            return Err(StoreError::corrupt(
                &file,
                offset,
                "the block index does not fit the blocks",
            ));
        }
        let block = window.get(offset, whole).map_err(failed)?;
        let payload = &block[BLOCK_HEADER_BYTES..];
        let crc = block_checksum(ties, covered, number as u64, payload);
        if u32_at(block, 0) as usize != len || u32_at(block, 4) != crc {
            return Err(StoreError::corrupt(
                &file,
                offset,
                format!("block {number} has a wrong checksum"),
            ));
        }
        visit(Recovered::Image(payload)).map_err(|reason| StoreError::Refused {
            file: file.clone(),
            reason,
        })?;
        offset += whole as u64;
    }
    if offset != footer.index_at {
        return Err(StoreError::corrupt(
            &file,
            offset,
            "there are more blocks than the index names",
        ));
    }
    visit(Recovered::ImageEnd).map_err(|reason| StoreError::Refused { file, reason })?;
    Ok(Summary {
        covered,
        next,
        bytes: window.len(),
    })
}

/// The footer and the block index, checked together with the header.
fn read_index<F: DiskFile>(
    file: &str,
    window: &mut Window<'_, F>,
    directory: u128,
    covered: Lsn,
) -> Result<(Next, Footer, Vec<u8>), StoreError> {
    let failed = |e| StoreError::io("reading a snapshot", file.to_owned(), e);
    if window.len() < (SNAPSHOT_HEADER_BYTES + SNAPSHOT_FOOTER_BYTES) as u64 {
        return Err(StoreError::corrupt(
            file,
            0,
            "the file is too short for a snapshot",
        ));
    }
    let next = check_header(
        file,
        window.get(0, SNAPSHOT_HEADER_BYTES).map_err(failed)?,
        directory,
        covered,
    )?;
    let footer_at = window.len() - SNAPSHOT_FOOTER_BYTES as u64;
    let footer = decode_footer(
        file,
        footer_at,
        window.get(footer_at, SNAPSHOT_FOOTER_BYTES).map_err(failed)?,
    )?;
    let index_bytes = (footer_at - footer.index_at) as usize;
    let index = window.get(footer.index_at, index_bytes).map_err(failed)?.to_vec();
    if crc32c::crc32c(&index) != footer.index_crc {
        return Err(StoreError::corrupt(
            file,
            footer.index_at,
            "the block index's checksum is wrong",
        ));
    }
    Ok((next, footer, index))
}

/// Gathers small writes into large ones.
struct Writer<'a, F> {
    out: &'a mut F,
    written: u64,
    synced: u64,
    buffer: Vec<u8>,
}

impl<F: DiskFile> Writer<'_, F> {
    fn push(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= SNAPSHOT_WRITE_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Commits to the log, which go on meanwhile, would wait for all that is written and not synced.
    fn sync_if_much(&mut self) -> std::io::Result<()> {
        if self.written - self.synced < SNAPSHOT_SYNC_BYTES {
            return Ok(());
        }
        self.synced = self.written;
        self.out.sync_data()
    }

    fn offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }
}

fn encode_header(directory: u128, covered: Lsn, next: Next) -> [u8; SNAPSHOT_HEADER_BYTES] {
    let mut header = [0; SNAPSHOT_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8] = VERSION;
    header[9] = match next {
        Next::Unsaid => 0,
        Next::There => 1,
        Next::Absent => 2,
    };
    header[16..24].copy_from_slice(&covered.0.to_le_bytes());
    header[24..40].copy_from_slice(&directory.to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Checks the header of the snapshot that is called `file`.
fn check_header(file: &str, header: &[u8], directory: u128, covered: Lsn) -> Result<Next, StoreError> {
    let bad = |what: &str| Err(StoreError::corrupt(file, 0, what));
    if header[..8] != MAGIC {
        return bad("this is not a snapshot");
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
    if u64_at(header, 16) != covered.0 {
        return bad("the header does not belong to a snapshot of this name");
    }
    if u128_at(header, 24) != directory {
        return bad("the snapshot belongs to another data directory");
    }
    match header[9] {
        0 => Ok(Next::Unsaid),
        1 => Ok(Next::There),
        2 => Ok(Next::Absent),
        _ => bad("what the header says of the next segment makes no sense"),
    }
}

struct Footer {
    index_at: u64,
    index_crc: u32,
}

fn encode_footer(index_at: u64, index: &[u8]) -> [u8; SNAPSHOT_FOOTER_BYTES] {
    let mut footer = [0; SNAPSHOT_FOOTER_BYTES];
    footer[..8].copy_from_slice(&index_at.to_le_bytes());
    footer[8..16].copy_from_slice(&((index.len() / INDEX_ENTRY_BYTES) as u64).to_le_bytes());
    footer[16..20].copy_from_slice(&crc32c::crc32c(index).to_le_bytes());
    footer[24] = VERSION;
    let crc = crc32c::crc32c(&footer[..28]);
    footer[28..].copy_from_slice(&crc.to_le_bytes());
    footer
}

/// Checks the footer, and that its index lies exactly between the blocks and itself.
fn decode_footer(file: &str, footer_at: u64, footer: &[u8]) -> Result<Footer, StoreError> {
    if u32_at(footer, 28) != crc32c::crc32c(&footer[..28]) {
        return Err(StoreError::corrupt(
            file,
            footer_at,
            "the footer's checksum is wrong",
        ));
    }
    let (index_at, blocks) = (u64_at(footer, 0), u64_at(footer, 8));
    let index_bytes = blocks.checked_mul(INDEX_ENTRY_BYTES as u64);
    if index_at < SNAPSHOT_HEADER_BYTES as u64
        || index_bytes.and_then(|bytes| index_at.checked_add(bytes)) != Some(footer_at)
    {
        return Err(StoreError::corrupt(
            file,
            footer_at,
            "the footer does not fit the file",
        ));
    }
    Ok(Footer {
        index_at,
        index_crc: u32_at(footer, 16),
    })
}

fn block_checksum(ties: Ties, covered: Lsn, number: u64, payload: &[u8]) -> u32 {
    let seed = crc32c::crc32c_append(record::seed(ties, covered.0), &number.to_le_bytes());
    crc32c::crc32c_append(seed, payload)
}
