//! Every bound and size of the store, with its unit and, where two depend on each other, the relation checked
//! at compile time. What an operator or a test may choose is in [`Options`](super::Options); what is here is
//! fixed.

/// Bytes before a record's payload: `len u32 | crc32c u32 | lsn u64 | behind u32`.
pub const RECORD_HEADER_BYTES: usize = 20;

/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 64;

/// Default size at which a segment is full and the next one begins.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// Largest payload of one record: what fits a default segment alone.
pub const RECORD_BYTES_MAX: usize = (64 << 20) - RECORD_HEADER_BYTES - SEGMENT_HEADER_BYTES;

/// Most records one commit can hold: the distance to the mark before it is a `u32`.
pub const COMMIT_RECORDS_MAX: u64 = u32::MAX as u64;

/// Default amount of log after which a snapshot is due.
pub const SNAPSHOT_BYTES_DEFAULT: u64 = 64 << 20;

/// Bytes of a snapshot's header.
pub const SNAPSHOT_HEADER_BYTES: usize = 64;

/// Bytes of a snapshot's footer.
pub const SNAPSHOT_FOOTER_BYTES: usize = 32;

/// Bytes before a snapshot block's payload: `len u32 | crc32c u32`.
pub const BLOCK_HEADER_BYTES: usize = 8;

/// Bytes of one entry of a snapshot's block index: `offset u64 | len u32`.
pub const INDEX_ENTRY_BYTES: usize = 12;

/// Largest payload of one snapshot block.
pub const BLOCK_BYTES_MAX: usize = 64 << 20;

/// Bytes a snapshot gathers before it writes them.
pub const SNAPSHOT_WRITE_BYTES: usize = 1 << 20;

/// Bytes of a snapshot that are written and not yet synced, about.
pub const SNAPSHOT_SYNC_BYTES: u64 = 8 << 20;

/// Default step in which a segment is filled ahead with zeros.
pub const FILL_BYTES_DEFAULT: u64 = 1 << 20;

/// Mean commit size from which filling ahead costs more (every byte written twice) than it saves (the journal
/// of the file's growing size).
pub const FILL_BATCH_BYTES_MAX: u64 = 64 << 10;

/// Capacity the buffer of pending records keeps between commits; what a rare large commit took beyond it is
/// given back.
pub const PENDING_BYTES_KEPT: usize = 4 << 20;

/// Bytes recovery reads at a time.
pub const READ_BYTES: usize = 1 << 20;

/// Bytes recovery checksums at most while it searches behind a bad record for proof that the record was once
/// durable. Honest bytes hold next to no candidates; only forged ones reach this, and then the segment is
/// refused.
pub const PROOF_BYTES_MAX: u64 = 4 << 30;

/// Longest name of a cluster.
pub const CLUSTER_BYTES_MAX: usize = 255;

/// Largest meta file that is read.
pub const META_BYTES_MAX: u64 = 1024;

/// Space kept for starting an epoch on a full disk: a meta file, whatever a file system adds to it.
pub const RESERVE_BYTES: usize = 64 << 10;

const _: () = assert!(RECORD_BYTES_MAX + RECORD_HEADER_BYTES <= u32::MAX as usize);
const _: () = assert!(
    (RECORD_BYTES_MAX + RECORD_HEADER_BYTES + SEGMENT_HEADER_BYTES) as u64 <= SEGMENT_BYTES_DEFAULT,
    "the largest record fits a default segment"
);
const _: () = assert!(BLOCK_BYTES_MAX + BLOCK_HEADER_BYTES <= u32::MAX as usize);
const _: () = assert!(
    CLUSTER_BYTES_MAX <= u8::MAX as usize,
    "its length is one byte of the meta file"
);
const _: () = assert!(FILL_BATCH_BYTES_MAX < FILL_BYTES_DEFAULT);
const _: () = assert!(META_BYTES_MAX < RESERVE_BYTES as u64);
