//! One process a directory: an advisory lock on a file of its own, which the system releases when the process
//! ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use super::error::{StoreError, is_full};

/// Name of the lock file. It is never removed: removing it would let two processes lock two files of one
/// name.
pub(super) const NAME: &str = "lock";

/// Bytes read of the lock file to learn the holder's process id.
const NOTE_BYTES_MAX: u64 = 32;

/// Held as long as the directory is in use.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock or says who has it.
    pub(super) fn take(directory: &Path) -> Result<DirectoryLock, StoreError> {
        let shown = || directory.display().to_string();
        let not_usable = |source: io::Error| match is_full(&source) {
            true => StoreError::Full {
                what: "the lock file",
                file: shown(),
                source,
            },
            false => StoreError::NotWritable {
                directory: shown(),
                source,
            },
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(directory.join(NAME))
            .map_err(not_usable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    directory: shown(),
                    process: read_note(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(not_usable(source)),
        }
        // The note is for the message of whoever comes second; on a full disk it goes without.
        let _ = file
            .set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(DirectoryLock { _file: file })
    }
}

/// The process id that the lock's holder has noted.
fn read_note(file: &mut File) -> Option<u32> {
    let mut note = String::new();
    file.take(NOTE_BYTES_MAX).read_to_string(&mut note).ok()?;
    note.trim().parse().ok()
}
