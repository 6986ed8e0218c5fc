//! The simulated disk keeps what it promises, and only that.

use std::io::ErrorKind;

use super::crash_points::chance;
use crate::store::{Disk, DiskFile, MemDisk, SECTOR_BYTES, Unsynced};

/// A disk with one file of `len` bytes 1, durable.
fn with_file(len: usize) -> (MemDisk, crate::store::MemFile) {
    let disk = MemDisk::new();
    let mut file = disk.create("f").expect("creating");
    file.write_at(0, &vec![1; len]).expect("writing");
    file.sync_data().expect("syncing");
    disk.sync_dir().expect("syncing");
    (disk, file)
}

#[test]
fn unsynced_sectors_survive_in_any_subset() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let (disk, mut file) = with_file(3 * SECTOR_BYTES);
        file.write_at(0, &[2; 3 * SECTOR_BYTES]).expect("writing");
        disk.crash(&mut chance(seed));
        let bytes = disk.read("f").expect("the file");
        let sectors: Vec<u8> = bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect();
        assert!(
            bytes
                .chunks(SECTOR_BYTES)
                .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
        );
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn an_unsynced_extension_survives_in_part_of_its_length() {
    let mut lens = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let (disk, mut file) = with_file(100);
        file.write_at(100, &[2; 5000]).expect("writing");
        disk.crash(&mut chance(seed));
        let bytes = disk.read("f").expect("the file");
        assert!(bytes[..100].iter().all(|byte| *byte == 1));
        assert!(bytes[100..].iter().all(|byte| *byte == 2 || *byte == 0));
        lens.insert(bytes.len());
    }
    assert!(
        lens.len() > 3 && lens.contains(&100) && lens.contains(&5100),
        "{lens:?}"
    );
}

#[test]
fn an_unsynced_cut_may_be_undone() {
    for kept in [false, true] {
        let (disk, mut file) = with_file(2000);
        file.set_len(700).expect("cutting");
        disk.crash_with(&mut |_| kept);
        let bytes = disk.read("f").expect("the file");
        assert_eq!(bytes, vec![1; if kept { 700 } else { 2000 }]);
    }
}

#[test]
fn a_cut_and_a_new_extension_may_let_the_old_bytes_through() {
    let (disk, mut file) = with_file(2000);
    file.set_len(512).expect("cutting");
    file.write_at(1800, &[3; 200]).expect("writing");
    disk.crash_with(&mut |unsynced| !matches!(unsynced, Unsynced::Sector { offset: 1024, .. }));
    let bytes = disk.read("f").expect("the file");
    assert_eq!((bytes[600], bytes[1100], bytes[1900]), (0, 1, 3));
}

#[test]
fn synced_means_synced() {
    for seed in 0..50 {
        let (disk, mut file) = with_file(2000);
        file.write_at(1500, &[2; 1000]).expect("writing");
        file.set_len(2200).expect("cutting");
        file.sync_data().expect("syncing");
        let now = disk.read("f");
        disk.crash(&mut chance(seed));
        assert_eq!(disk.read("f"), now);
    }
}

#[test]
fn unsynced_names_survive_one_by_one() {
    let (disk, _) = with_file(1);
    disk.rename("f", "g").expect("renaming");
    disk.create("h").expect("creating");
    disk.create("i").expect("creating");
    disk.crash_with(&mut |unsynced| matches!(unsynced, Unsynced::Created { name: "i" }));
    assert_eq!(disk.list().expect("listing"), ["f", "i"]);
    disk.remove("f").expect("removing");
    disk.sync_dir().expect("syncing");
    disk.crash(&mut || 0);
    assert_eq!(disk.list().expect("listing"), ["i"]);
}

#[test]
fn a_failed_sync_drops_what_it_should_have_saved() {
    let (disk, mut file) = with_file(100);
    file.write_at(0, &[2; 3000]).expect("writing");
    disk.fail_syncs(1);
    file.sync_data().expect_err("injected");
    file.sync_data().expect("a sync of nothing");
    file.write_at(1030, &[3; 10]).expect("writing");
    file.sync_data().expect("syncing");
    assert!(
        disk.read("f").expect("the file").iter().all(|byte| *byte > 1),
        "it still reads as written"
    );
    disk.crash(&mut || 1);
    let bytes = disk.read("f").expect("the file");
    assert_eq!((bytes[0], bytes[200], bytes[600]), (1, 0, 0));
    assert!(
        bytes[1024..1030].iter().all(|byte| *byte == 2),
        "the sector was written again, whole"
    );
    assert_eq!((bytes[1030], bytes[2000]), (3, 0));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (disk, mut file) = with_file(100);
    disk.set_capacity(Some(150));
    let error = file.write_at(90, &[2; 100]).expect_err("full");
    assert_eq!(
        (error.kind(), file.len().expect("len")),
        (ErrorKind::StorageFull, 150)
    );
    assert_eq!(disk.create("g").expect_err("full").kind(), ErrorKind::StorageFull);
    file.write_at(0, &[3; 150]).expect("overwriting needs no room");
    file.set_len(10).expect("cutting");
    assert_eq!(disk.used_bytes(), 10);
    disk.set_capacity(None);
    file.write_at(0, &[4; 500]).expect("writing");
}

#[test]
fn a_crash_ends_open_files_and_a_copy_stands_alone() {
    let (disk, mut file) = with_file(100);
    let copy = disk.copy();
    disk.crash(&mut || 1);
    file.write_at(0, b"x").expect_err("the process is gone");
    disk.wipe();
    assert_eq!((disk.read("f"), copy.read("f")), (None, Some(vec![1; 100])));
}
