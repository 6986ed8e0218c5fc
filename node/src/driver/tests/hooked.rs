//! A disk that calls somebody before each write and sync, and may refuse to make files.

use std::io;
use std::sync::{Arc, Mutex};

use crate::store::{Disk, DiskFile, MemDisk};

/// The disk. Its hook is told "write" or "sync", and the file, by the name that it was created or opened with.
#[derive(Clone)]
pub(super) struct Hooked {
    disk: MemDisk,
    hook: Hook,
    /// The file that it does not make now.
    pub(super) refuses: Arc<Mutex<Option<&'static str>>>,
}

type Hook = Arc<dyn Fn(&str, &str) + Send + Sync>;

pub(super) struct HookedFile {
    file: <MemDisk as Disk>::File,
    name: String,
    hook: Hook,
}

impl Hooked {
    pub(super) fn new(disk: &MemDisk, hook: impl Fn(&str, &str) + Send + Sync + 'static) -> Hooked {
        Hooked {
            disk: disk.clone(),
            hook: Arc::new(hook),
            refuses: Arc::default(),
        }
    }

    fn file(&self, name: &str, file: <MemDisk as Disk>::File) -> HookedFile {
        HookedFile {
            file,
            name: name.to_owned(),
            hook: Arc::clone(&self.hook),
        }
    }
}

impl Disk for Hooked {
    type File = HookedFile;

    fn create(&self, name: &str) -> io::Result<HookedFile> {
        if *self.refuses.lock().unwrap() == Some(name) {
            return Err(io::Error::other("too many open files"));
        }
        Ok(self.file(name, self.disk.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<HookedFile> {
        Ok(self.file(name, self.disk.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

impl DiskFile for HookedFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (self.hook)("write", &self.name);
        self.file.write_at(offset, bytes)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, bytes)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        (self.hook)("sync", &self.name);
        self.file.sync_data()
    }
}
