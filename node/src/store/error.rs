//! What can go wrong in the store: one error type whose every kind says what is now true and what to do.
//!
//! Not here: our own mistakes (appending after the last possible lsn, a snapshot with records pending); those
//! assert.

use std::io;

use anabranch_crdt::{Epoch, NodeId};

/// A failure of the store. Files are named with their place in the file system where the disk has one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody holds the directory's lock: another process, or a node of this one that runs, or has not stopped altogether yet.
    /// Nothing was read or changed.
    #[error(
        "data directory {directory} is in use by {}; stop that one first or give this node a directory of its own",
        holder(*process)
    )]
    InUse {
        /// The data directory.
        directory: String,
        /// The holder's process id, as it wrote it into the lock file.
        process: Option<u32>,
    },
    /// The directory cannot be created, listed or written. Nothing was changed.
    #[error(
        "data directory {directory} cannot be used: {source}; \
         make it a directory that this user may write, or configure another"
    )]
    NotWritable {
        /// The data directory.
        directory: String,
        /// What the system said.
        source: io::Error,
    },
    /// The directory holds another node's data. Nothing was changed.
    #[error(
        "{file} says that this data directory belongs to node {found}, but this process is node {expected}; \
         start that node here, or give this one a directory of its own"
    )]
    OtherNode {
        /// The meta file.
        file: String,
        /// Whose directory it is.
        found: NodeId,
        /// Who asked.
        expected: NodeId,
    },
    /// The directory holds data of another cluster. Nothing was changed.
    #[error(
        "{file} says that this data directory belongs to cluster {found:?}, but this node is of cluster {expected:?}; \
         use that cluster's certificate, or give this node a directory of its own"
    )]
    OtherCluster {
        /// The meta file.
        file: String,
        /// Whose directory it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// A newer version wrote this file. Nothing was changed.
    #[error(
        "{file} has format {found}, and this version reads up to format {known}; \
         start the version that wrote it, or a later one"
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u8,
        /// The newest format known here.
        known: u8,
    },
    /// A version before the first release wrote this file, in a format that no release reads. Nothing was changed.
    #[error(
        "{file} has format {found}, of a version before the first release, and this version reads format {known}; \
         move the directory away and let the node fetch its state from its peers"
    )]
    OlderFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u8,
        /// The format known here.
        known: u8,
    },
    /// What was once durable is damaged. Nothing was changed, and the store does not open on it.
    #[error(
        "{file} is damaged at offset {offset}: {what}; the store does not open on damaged data: \
         move the directory away and let the node fetch its state from its peers (restore it from a backup only where no other \
         node has its state: what came after that is lost, and what it held of bounded counters may be used again)"
    )]
    Corrupt {
        /// The damaged file.
        file: String,
        /// The offset of the first damaged item.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// The disk or a quota is full. What was durable is untouched, what was appended is still pending; the
    /// same call succeeds once there is space.
    #[error("no space for {what} ({file}): {source}; free some space and it continues")]
    Full {
        /// What did not fit.
        what: &'static str,
        /// The file it was for.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A write or sync failed, so what the disk holds above the last durable record is unknown. Every later
    /// call fails the same way; opening the store again finds out.
    #[error("the store takes nothing more until it is opened again: {reason}")]
    Poisoned {
        /// What failed, with what the system said.
        reason: String,
    },
    /// A record, snapshot block or name is larger than the format allows. Nothing was changed.
    #[error("{what} of {bytes} bytes is larger than the {max} that the store takes; nothing was changed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// An epoch must be above every earlier one of the directory. Nothing was changed.
    #[error("epoch {asked} is not above {last}, the last one of this data directory; choose a higher one")]
    EpochNotNew {
        /// The epoch asked for.
        asked: Epoch,
        /// The directory's last one.
        last: Epoch,
    },
    /// The bytes are as they were written, but their reader does not take them. Nothing was changed.
    #[error(
        "{file} holds intact data that this version cannot use: {reason}; start the version that wrote it"
    )]
    Refused {
        /// The file.
        file: String,
        /// What the reader said.
        reason: String,
    },
    /// A snapshot was given up before it was whole, as its writer was told. Nothing was changed.
    #[error("the snapshot was given up; nothing was changed")]
    GivenUp,
    /// Another call of the system failed. What was durable is untouched, what was appended is still pending;
    /// a retry is safe.
    #[error("{what} failed ({file}): {source}; nothing durable was changed")]
    Disk {
        /// What failed.
        what: &'static str,
        /// The file it was for.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// True if the call failed for want of space only, and may be repeated.
    ///
    /// ```
    /// # use anabranch::store::StoreError;
    /// let error = StoreError::Poisoned { reason: "sync failed".to_owned() };
    /// assert!(error.is_poisoned() && !error.is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Full { .. })
    }

    /// True if the store takes no further call until it is opened again.
    pub fn is_poisoned(&self) -> bool {
        matches!(self, StoreError::Poisoned { .. })
    }

    /// An input or output error of a call that is safe to repeat.
    pub(super) fn io(what: &'static str, file: String, source: io::Error) -> StoreError {
        if is_full(&source) {
            StoreError::Full { what, file, source }
        } else {
            StoreError::Disk { what, file, source }
        }
    }

    /// A failure after which nobody knows what the disk holds.
    pub(super) fn poison(what: &'static str, file: &str, source: &io::Error) -> StoreError {
        StoreError::Poisoned {
            reason: format!("{what} failed ({file}): {source}"),
        }
    }

    /// Damage at `offset` of `file`.
    pub(super) fn corrupt(file: &str, offset: u64, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt {
            file: file.to_owned(),
            offset,
            what: what.into(),
        }
    }
}

/// True for the errors by which a system says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn holder(process: Option<u32>) -> String {
    match process {
        Some(id) if id == std::process::id() => {
            "a node of this very process, which runs or has not stopped altogether yet".to_owned()
        }
        Some(id) => format!("another running process (process {id})"),
        None => "another running process".to_owned(),
    }
}
