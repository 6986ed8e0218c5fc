//! The seam to the file system: the few calls the store makes, so that a simulated disk can fake all of them.
//!
//! What the store assumes of a disk, and nothing more: bytes written before a `sync_data` that succeeded are
//! read back after a crash; names created, renamed or removed before a `sync_dir` that succeeded stay so; a
//! rename is atomic. Unsynced writes may be there or not after a crash, in any order and in parts as small as
//! a sector; unsynced names likewise. After a `sync_data` that failed nothing is assumed of what was written
//! since the last good one. One directory, flat names of our own making, one process.

use std::io;

use super::error::{StoreError, is_full};

/// A directory of files. Names are plain (no separators) and chosen by the store.
pub trait Disk {
    /// An open file of this disk.
    type File: DiskFile;

    /// Creates an empty file for reading and writing; fails with `AlreadyExists` if the name is taken.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Renames a file atomically, replacing the one that has the new name, if any.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes every creation, rename and removal so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// How a message to a person names the file (or `.`, the directory); a disk with paths gives the path.
    fn locate(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// An open file of a [`Disk`].
#[expect(
    clippy::len_without_is_empty,
    reason = "a disk fakes as few calls as possible, and nobody asks for that one"
)]
pub trait DiskFile {
    /// Writes all bytes at the offset, extending the file if it is shorter. After an error any part may be
    /// written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads at most `bytes.len()` bytes at the offset; less than that, or 0 at the end.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Cuts or extends (with zeros) the file.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Makes the file's bytes and its length durable.
    fn sync_data(&mut self) -> io::Result<()>;
}

/// Makes a file appear whole: writes it under `temp`, syncs it, renames it to `name` and syncs the directory.
/// Only when that has failed half-way is `temp` left over, and only until the next call or the next opening
/// of the store.
pub(super) fn publish<D: Disk>(
    disk: &D,
    temp: &str,
    name: &str,
    what: &'static str,
    write: &mut dyn FnMut(&mut D::File) -> Result<(), StoreError>,
) -> Result<D::File, StoreError> {
    let mut file = create_anew(disk, temp).map_err(|e| StoreError::io(what, disk.locate(name), e))?;
    let done = write(&mut file)
        .and_then(|()| {
            file.sync_data()
                .map_err(|e| StoreError::poison("a sync", &disk.locate(name), &e))
        })
        .and_then(|()| {
            disk.rename(temp, name).map_err(|e| match is_full(&e) {
                true => StoreError::io(what, disk.locate(name), e),
                // Nobody knows which of the two names the file has now. Going on as if it had the old one would write
                // into files that the new one makes superfluous.
                false => StoreError::poison("a rename", &disk.locate(name), &e),
            })
        });
    if let Err(error) = done {
        // Best effort: on a full disk it gives the space back at once.
        let _ = disk.remove(temp);
        return Err(error);
    }
    disk.sync_dir()
        .map_err(|e| StoreError::poison("a sync of the directory", &disk.locate(name), &e))?;
    Ok(file)
}

/// Creates the file, in place of what an interrupted attempt may have left under its name.
pub(super) fn create_anew<D: Disk>(disk: &D, name: &str) -> io::Result<D::File> {
    match disk.create(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(name)?;
            disk.create(name)
        }
        other => other,
    }
}
