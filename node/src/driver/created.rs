//! What was chosen when a data directory was made and can never change: the number of shards.
//!
//! A file of its own beside the store's, so that an operator can read it and a wrong configuration is named before
//! anything is recovered. Two lines of text: `anabranch directory 1` and `shards N`. It appears whole, before the
//! store's first file, and is never written again. Whose directory it is stands in the store's meta file and is checked
//! before this.

use std::io;

use crate::error::{Error, ErrorKind};
use crate::store::{Disk, DiskFile};

const NAME: &str = "created";
const TEMP: &str = "created.tmp";
const HEAD: &str = "anabranch directory 1";
/// More than this is no such file.
const BYTES_MAX: u64 = 256;

/// Checks the number of shards against the directory's, or writes it into a new directory.
pub(super) fn check<D: Disk>(disk: &D, shards: u32) -> Result<(), Error> {
    let failed = |e: io::Error| Error::new(ErrorKind::Io, format!("{}: {e}", disk.locate(NAME)));
    let names = disk.list().map_err(failed)?;
    let is_there = names.iter().any(|name| name == NAME);
    let found = if is_there {
        read(disk).map_err(failed)?
    } else {
        Vec::new()
    };
    if is_newer(&found) {
        let what = format!(
            "{}: a newer version made this directory; start that version, or a later one",
            disk.locate(NAME)
        );
        return Err(Error::new(ErrorKind::NewerFormat, what));
    }
    // Without it nothing was ever recorded here: whatever an interrupted start has left is of no consequence.
    if !names.iter().any(|name| name == "meta") {
        return write(disk, shards).map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
                ErrorKind::DiskFull,
                format!("no space for {}: {e}", disk.locate(NAME)),
            ),
            _ => failed(e),
        });
    }
    let damaged = |why: &str| {
        let what = format!(
            "{}: {why}; put back two lines, \"{HEAD}\" and \"shards N\"",
            disk.locate(NAME)
        );
        Error::new(ErrorKind::Corrupt, what)
    };
    if !is_there {
        return Err(damaged("it is missing, though the directory is in use"));
    }
    let found = parse(&found).map_err(damaged)?;
    if found == shards {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!(
            "the configuration says {shards} shards, but this directory was created with {found} ({}); a cluster \
             keeps its number for life: configure {found}",
            disk.locate(NAME)
        ),
    ))
}

fn write<D: Disk>(disk: &D, shards: u32) -> io::Result<()> {
    match disk.remove(TEMP) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = disk.create(TEMP)?;
    file.write_at(0, format!("{HEAD}\nshards {shards}\n").as_bytes())?;
    file.sync_data()?;
    disk.rename(TEMP, NAME)?;
    disk.sync_dir()
}

fn read<D: Disk>(disk: &D) -> io::Result<Vec<u8>> {
    let mut file = disk.open(NAME)?;
    let mut bytes = vec![0; file.len()?.min(BYTES_MAX) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(filled as u64, &mut bytes[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Whether it begins as this file will in a later format.
fn is_newer(bytes: &[u8]) -> bool {
    let head = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let version = head.strip_prefix(b"anabranch directory ").unwrap_or_default();
    let version = std::str::from_utf8(version)
        .ok()
        .and_then(|digits| digits.parse::<u32>().ok());
    version.is_some_and(|version| version > 1)
}

fn parse(bytes: &[u8]) -> Result<u32, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    match text.lines().collect::<Vec<_>>()[..] {
        [HEAD, shards] => {
            let shards = shards.strip_prefix("shards ").and_then(|n| n.parse().ok());
            shards.ok_or("its second line is not \"shards N\"")
        }
        _ => Err("it is not what a start writes"),
    }
}
