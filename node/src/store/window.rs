//! Reading a file of any length through a buffer of bounded length.
//!
//! Contract: what is asked for lies within the file's length as it was when the window was opened; the caller
//! checks that before it asks, so a wrong length on disk never becomes an allocation.

use std::io;

use super::disk::DiskFile;
use super::limits::READ_BYTES;

/// A file being read from front to back, mostly.
pub(super) struct Window<'a, F> {
    file: &'a mut F,
    len: u64,
    /// Offset in the file of the first buffered byte.
    start: u64,
    buffer: Vec<u8>,
}

impl<'a, F: DiskFile> Window<'a, F> {
    pub(super) fn new(file: &'a mut F) -> io::Result<Window<'a, F>> {
        let len = file.len()?;
        Ok(Window {
            file,
            len,
            start: 0,
            buffer: Vec::new(),
        })
    }

    /// The file's length when the window was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes from the offset to the end.
    pub(super) fn left(&self, offset: u64) -> u64 {
        self.len.saturating_sub(offset)
    }

    /// Exactly `count` bytes at the offset.
    pub(super) fn get(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        assert!(
            count as u64 <= self.left(offset),
            "{count} bytes at {offset} of {}",
            self.len
        );
        let have = self.start + self.buffer.len() as u64;
        if offset < self.start || offset + count as u64 > have {
            self.load(offset, count)?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.buffer[from..from + count])
    }

    /// As many bytes at the offset as are read in one go anyway, at least `least` where the file has them.
    pub(super) fn chunk(&mut self, offset: u64, least: usize) -> io::Result<&[u8]> {
        let count = self.left(offset).min(least.max(READ_BYTES) as u64) as usize;
        self.get(offset, count)
    }

    /// The file, for writing. Nothing read before is trusted after.
    pub(super) fn file(&mut self) -> &mut F {
        self.buffer.clear();
        self.file
    }

    fn load(&mut self, offset: u64, count: usize) -> io::Result<()> {
        // What is already here of the wanted bytes moves to the front; the rest is read behind it.
        let have = self.start + self.buffer.len() as u64;
        if offset >= self.start && offset < have {
            self.buffer.drain(..(offset - self.start) as usize);
        } else {
            self.buffer.clear();
        }
        self.start = offset;
        let kept = self.buffer.len();
        let wanted = self.left(offset).min(count.max(READ_BYTES) as u64) as usize;
        self.buffer.resize(wanted.max(kept), 0);
        let read = read_full(self.file, offset + kept as u64, &mut self.buffer[kept..])?;
        self.buffer.truncate(kept + read);
        if self.buffer.len() < count {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends, and returns how much that was.
pub(super) fn read_full<F: DiskFile>(file: &mut F, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(offset + done as u64, &mut bytes[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
