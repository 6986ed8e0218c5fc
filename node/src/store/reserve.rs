//! Space kept for the one thing that must fit a full disk: the meta file of a new epoch, without which a node does not
//! start. A file of written zeros, given up when there is no other room and made again when there is.
//!
//! Not here: when that is; the store only does it when it is told to.

use std::io;

use super::disk::{Disk, DiskFile, create_anew};
use super::limits::RESERVE_BYTES;

/// The reserve's name. What is in it does not matter, so it need not appear whole.
const NAME: &str = "reserve";

/// Makes the reserve unless it is there; says whether it was made.
pub(super) fn keep<D: Disk>(disk: &D) -> io::Result<bool> {
    match disk.open(NAME) {
        Ok(file) if file.len()? == RESERVE_BYTES as u64 => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let made = make(disk);
    if made.is_err() {
        // A part of it is of no use, and in the way of whoever needs the space.
        let _ = disk.remove(NAME);
    }
    made.map(|()| true)
}

fn make<D: Disk>(disk: &D) -> io::Result<()> {
    let mut file = create_anew(disk, NAME)?;
    file.write_at(0, &[0; RESERVE_BYTES])?;
    file.sync_data()?;
    disk.sync_dir()
}

/// Gives the space back; says whether there was any.
pub(super) fn give_up<D: Disk>(disk: &D) -> io::Result<bool> {
    match disk.remove(NAME) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // Some file systems give it back only then.
    disk.sync_dir()?;
    Ok(true)
}
