//! A [`Disk`] that is a directory of the file system, locked against other processes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::error::{StoreError, is_full};
use super::lock::DirectoryLock;

/// A real directory. Dropping it releases the directory's lock.
///
/// ```no_run
/// use anabranch::store::FsDisk;
///
/// let disk = FsDisk::open("/var/lib/anabranch/node-1".as_ref())?;
/// # Ok::<(), anabranch::store::StoreError>(())
/// ```
#[derive(Debug)]
pub struct FsDisk {
    directory: PathBuf,
    _lock: DirectoryLock,
}

impl FsDisk {
    /// Opens a data directory, which is created (for this user only) if it is missing, and locks it.
    ///
    /// # Errors
    /// `InUse`: another process has it. `NotWritable`: it cannot be created or written. `Full`: no room even
    /// for that.
    pub fn open(directory: &Path) -> Result<FsDisk, StoreError> {
        create_durably(directory).map_err(|source| {
            let shown = directory.display().to_string();
            match is_full(&source) {
                true => StoreError::Full {
                    what: "the data directory",
                    file: shown,
                    source,
                },
                false => StoreError::NotWritable {
                    directory: shown,
                    source,
                },
            }
        })?;
        // One that was made before, by a process that died between making it and this, or by hand.
        if let Err(error) = sync_parent(directory) {
            tracing::warn!(directory = %directory.display(), %error, "the directory above the data directory cannot be synced");
        }
        let lock = DirectoryLock::take(directory)?;
        Ok(FsDisk {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        assert!(
            !name.is_empty() && !name.contains('/') && !name.starts_with('.'),
            "file name {name:?}"
        );
        self.directory.join(name)
    }
}

impl Disk for FsDisk {
    type File = File;

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.directory)
    }

    fn locate(&self, name: &str) -> String {
        match name {
            "." => self.directory.display().to_string(),
            name => self.directory.join(name).display().to_string(),
        }
    }
}

impl DiskFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }
}

/// Creates the directory and what is missing above it, each durable in the one above before it is used.
fn create_durably(directory: &Path) -> io::Result<()> {
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let parent = parent_of(directory);
    create_durably(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent),
    }
}

/// A relative path's last ancestor is the empty one: the working directory, which is there.
fn parent_of(directory: &Path) -> &Path {
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_parent(directory: &Path) -> io::Result<()> {
    // Of "data/.." and "." the parent is not what the path says.
    let whole = directory.canonicalize()?;
    sync_directory(parent_of(&whole))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
