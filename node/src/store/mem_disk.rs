//! A [`Disk`] in memory that can crash, fail and fill up: for tests, and as the simulator's virtual disk.
//!
//! A clone is the same disk: keep one, give another to the [`Store`](super::Store), drop the store,
//! [`MemDisk::crash`] and open again. Everything is deterministic: chance comes in as a parameter, in a fixed
//! order of questions (names in the order of their calls, then files by name; of each its length, then its
//! sectors by offset). Reading and writing cost the bytes they touch, whatever the file's length.
//! Not here: time (slow and stalled disks are the caller's to delay), and any policy about which faults
//! happen when.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};
use super::mem_content::{Content, Part};

/// A disk in memory; clones are the same disk.
///
/// ```
/// use anabranch::store::{Disk, DiskFile, MemDisk};
///
/// let disk = MemDisk::new();
/// let mut file = disk.create("a")?;
/// file.write_at(0, b"synced")?;
/// file.sync_data()?;
/// disk.sync_dir()?;
/// file.write_at(0, b"lost!!")?;
/// disk.crash(&mut || 0);
/// assert_eq!(disk.read("a").as_deref(), Some(&b"synced"[..]));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`MemDisk`]. A crash makes it useless, as it does the process that held it.
pub struct MemFile {
    state: Arc<Mutex<State>>,
    file: u64,
    incarnation: u64,
}

/// Something that was not synced when the machine stopped, and may survive or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced<'a> {
    /// A name was created.
    Created {
        /// The name.
        name: &'a str,
    },
    /// A name was changed.
    Renamed {
        /// The old name.
        from: &'a str,
        /// The new name.
        to: &'a str,
    },
    /// A name was removed.
    Removed {
        /// The name.
        name: &'a str,
    },
    /// A file's length was changed; asked for shorter extensions too, while longer ones are refused.
    Length {
        /// The file.
        name: &'a str,
        /// The length it would have.
        len: u64,
    },
    /// A sector was written.
    Sector {
        /// The file.
        name: &'a str,
        /// Where the sector begins.
        offset: u64,
    },
}

#[derive(Clone, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    next_file: u64,
    /// The directory as it is seen.
    names: BTreeMap<String, u64>,
    /// The directory as it was when it was last synced, and what was done since.
    synced_names: BTreeMap<String, u64>,
    changes: Vec<Change>,
    incarnation: u64,
    calls: u64,
    halt_at: Option<u64>,
    capacity: Option<u64>,
    used: u64,
    failing_syncs: u32,
    failing_writes: u32,
    failing_reads: u32,
    failing_renames: u32,
}

#[derive(Clone)]
enum Change {
    Create(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

/// Using a disk.
impl MemDisk {
    /// An empty disk of unlimited size.
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// A disk of its own with what this one shows now, all of it durable: a backup, or a cloned machine's.
    pub fn copy(&self) -> MemDisk {
        let mut state = self.lock().clone();
        state.changes.clear();
        state.synced_names = state.names.clone();
        state.retain_named();
        state.files.values_mut().for_each(Content::sync);
        MemDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What a file holds, or nothing if there is no such file.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.names.get(name)?;
        state.files.get(file).map(|content| content.bytes().to_vec())
    }

    /// Bytes in all files.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used
    }

    /// Calls so far that could have changed something (all but reading, listing and asking for a length).
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Faults.
impl MemDisk {
    /// The machine stops. `chance` decides what of the unsynced survives: nothing, all, a part from the
    /// front, or any subset. All files that were open are useless, and pending faults are forgotten except
    /// for a limited capacity.
    pub fn crash(&self, chance: &mut dyn FnMut() -> u64) {
        let style = chance() % 4;
        let mut stopped = false;
        self.crash_with(&mut |_| match style {
            0 => false,
            1 => true,
            2 => {
                stopped = stopped || chance().is_multiple_of(8);
                !stopped
            }
            _ => chance().is_multiple_of(2),
        });
    }

    /// As [`MemDisk::crash`], with each unsynced thing decided by `keep`. Only what makes a difference is
    /// asked for.
    pub fn crash_with(&self, keep: &mut dyn FnMut(Unsynced<'_>) -> bool) {
        let mut state = self.lock();
        let mut names = std::mem::take(&mut state.synced_names);
        for change in std::mem::take(&mut state.changes) {
            match change {
                Change::Create(name, file) => {
                    if keep(Unsynced::Created { name: &name }) {
                        names.insert(name, file);
                    }
                }
                Change::Rename(from, to, file) => {
                    if keep(Unsynced::Renamed { from: &from, to: &to }) {
                        names.remove(&from);
                        names.insert(to, file);
                    }
                }
                Change::Remove(name) => {
                    if keep(Unsynced::Removed { name: &name }) {
                        names.remove(&name);
                    }
                }
            }
        }
        for (name, file) in &names {
            let Some(content) = state.files.get_mut(file) else {
                unreachable!("{name} has no file")
            };
            content.crash(&mut |part| match part {
                Part::Length(len) => keep(Unsynced::Length { name, len }),
                Part::Sector(offset) => keep(Unsynced::Sector { name, offset }),
            });
        }
        state.synced_names.clone_from(&names);
        state.names = names;
        state.retain_named();
        state.incarnation += 1;
        state.halt_at = None;
        (state.failing_syncs, state.failing_writes, state.failing_reads) = (0, 0, 0);
        state.failing_renames = 0;
    }

    /// The process stops and the machine goes on: the next process sees everything that was written, synced or not, and what
    /// is not synced is still lost when the machine stops. Files that were open are useless; pending faults are forgotten
    /// except for a limited capacity.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.incarnation += 1;
        state.halt_at = None;
        (state.failing_syncs, state.failing_writes, state.failing_reads) = (0, 0, 0);
    }

    /// Whether a call has come to the point that [`MemDisk::halt_after`] set.
    pub fn is_halted(&self) -> bool {
        let state = self.lock();
        state.halt_at.is_some_and(|halt_at| state.calls >= halt_at)
    }

    /// After so many more calls that change something, every further one fails without effect, as if the
    /// process had died there; until the next crash.
    pub fn halt_after(&self, calls: u64) {
        let mut state = self.lock();
        state.halt_at = Some(state.calls + calls);
    }

    /// The next so many syncs of files or of the directory fail. What a file's failed sync should have saved
    /// is dropped: it still reads as written, but no later sync makes it durable, unless it is written again.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().failing_syncs = count;
    }

    /// The next so many writes fail half-way, with an error that does not say full.
    pub fn fail_writes(&self, count: u32) {
        self.lock().failing_writes = count;
    }

    /// The next so many reads fail.
    pub fn fail_reads(&self, count: u32) {
        self.lock().failing_reads = count;
    }

    /// The next so many renames are done, and fail all the same.
    pub fn fail_renames(&self, count: u32) {
        self.lock().failing_renames = count;
    }

    /// Limits the bytes in all files; `None` for no limit. A write beyond it is done as far as it fits.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Flips a bit of what is stored. False if there is no such byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut state = self.lock();
        let file = state.names.get(name).copied();
        file.and_then(|file| state.files.get_mut(&file))
            .is_some_and(|content| content.flip_bit(offset, bit))
    }

    /// Removes everything, durably: another disk was put in.
    pub fn wipe(&self) {
        let mut state = self.lock();
        let (capacity, incarnation, calls) = (state.capacity, state.incarnation + 1, state.calls);
        *state = State {
            capacity,
            incarnation,
            calls,
            ..State::default()
        };
    }
}

impl State {
    /// Every call that changes something passes here first.
    fn admit(&mut self) -> io::Result<()> {
        if self.halt_at.is_some_and(|halt_at| self.calls >= halt_at) {
            return Err(io::Error::other("the process has stopped"));
        }
        self.calls += 1;
        Ok(())
    }

    fn content(&mut self, file: u64, incarnation: u64) -> io::Result<&mut Content> {
        if incarnation != self.incarnation {
            return Err(io::Error::other("the file was open before the crash"));
        }
        self.files
            .get_mut(&file)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// How much longer the files may become together.
    fn room(&self) -> u64 {
        self.capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used))
    }

    /// Forgets files without a name and counts the rest anew.
    fn retain_named(&mut self) {
        let State {
            files,
            names,
            synced_names,
            changes,
            ..
        } = self;
        files.retain(|file, _| {
            names
                .values()
                .chain(synced_names.values())
                .any(|named| named == file)
                || changes.iter().any(|change| change.file() == Some(*file))
        });
        self.used = self
            .names
            .values()
            .filter_map(|file| self.files.get(file))
            .map(Content::len)
            .sum();
    }
}

impl Change {
    fn file(&self) -> Option<u64> {
        match self {
            Change::Create(_, file) | Change::Rename(_, _, file) => Some(*file),
            Change::Remove(_) => None,
        }
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn create(&self, name: &str) -> io::Result<MemFile> {
        let mut state = self.lock();
        state.admit()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.room() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, Content::default());
        state.names.insert(name.to_owned(), file);
        state.changes.push(Change::Create(name.to_owned(), file));
        Ok(MemFile {
            state: Arc::clone(&self.state),
            file,
            incarnation: state.incarnation,
        })
    }

    fn open(&self, name: &str) -> io::Result<MemFile> {
        let state = self.lock();
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemFile {
            state: Arc::clone(&self.state),
            file,
            incarnation: state.incarnation,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.admit()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state
            .changes
            .push(Change::Rename(from.to_owned(), to.to_owned(), file));
        state.retain_named();
        if state.failing_renames > 0 {
            state.failing_renames -= 1;
            return Err(io::Error::other("the rename failed, or its answer was lost"));
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.admit()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.changes.push(Change::Remove(name.to_owned()));
        state.retain_named();
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.admit()?;
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(io::Error::other("injected: the sync failed"));
        }
        if !state.changes.is_empty() {
            state.changes.clear();
            state.synced_names = state.names.clone();
            state.retain_named();
        }
        Ok(())
    }
}

impl DiskFile for MemFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.admit()?;
        let fails = state.failing_writes > 0;
        state.failing_writes -= u32::from(fails);
        let room = state.room();
        let content = state.content(self.file, self.incarnation)?;
        let before = content.len();
        let fitting = before
            .saturating_add(room)
            .saturating_sub(offset)
            .min(bytes.len() as u64) as usize;
        let done = if fails { fitting / 2 } else { fitting };
        content.write(offset, &bytes[..done]);
        let grown = content.len() - before;
        state.used += grown;
        match () {
            () if fails => Err(io::Error::other("injected: the write failed")),
            () if done < bytes.len() => Err(io::ErrorKind::StorageFull.into()),
            () => Ok(()),
        }
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut state = lock(&self.state);
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            return Err(io::Error::other("injected: the read failed"));
        }
        Ok(state.content(self.file, self.incarnation)?.read(offset, bytes))
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.admit()?;
        let room = state.room();
        let content = state.content(self.file, self.incarnation)?;
        let before = content.len();
        if len.saturating_sub(before) > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.set_len(len);
        state.used = state.used + len - before;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.state).content(self.file, self.incarnation)?.len())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.admit()?;
        let fails = state.failing_syncs > 0;
        state.failing_syncs -= u32::from(fails);
        let content = state.content(self.file, self.incarnation)?;
        if fails {
            content.fail_sync();
            return Err(io::Error::other("injected: the sync failed"));
        }
        content.sync();
        Ok(())
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("MemDisk")
            .field("names", &state.names)
            .field("used", &state.used)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves the state as whole as any other moment: no change is ever half done.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
