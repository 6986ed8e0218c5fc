//! The same store on a real directory: the lock, and what a person is told when a directory will not do.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anabranch_crdt::Epoch;

use super::{Held, open, small};
use crate::store::{Disk, FsDisk, Options, StoreError};

/// A directory of the test's own, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("anabranch-store-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_real_directory_keeps_what_was_committed() {
    let scratch = Scratch::new();
    let path = scratch.0.join("new/deep");
    for round in 1..=20_u64 {
        let (mut store, opened, held) =
            open(FsDisk::open(&path).expect("the directory"), small()).expect("a store");
        assert_eq!(opened.is_new, round == 1);
        let held = Held::payloads(held);
        assert_eq!(held, (1..round).map(|n| vec![n as u8; 1000]).collect::<Vec<_>>());
        store.start_epoch(Epoch(round)).expect("an epoch");
        store.append(&vec![round as u8; 1000]).expect("appending");
        store.commit().expect("a commit");
        if round % 7 == 0 {
            let blocks: Vec<_> = (1..=round).map(|n| vec![n as u8; 1000]).collect();
            store.snapshot(&mut blocks.into_iter()).expect("a snapshot");
        }
    }
    let mut names = FsDisk::open(&path)
        .map(|disk| disk.list().expect("listing"))
        .expect("the directory");
    names.sort();
    assert_eq!(
        names,
        [
            "lock",
            "log-000000000000000f",
            "log-0000000000000012",
            "meta",
            "snapshot-000000000000000e"
        ]
    );
}

#[test]
fn a_directory_is_used_by_one_process() {
    let scratch = Scratch::new();
    let (store, ..) = open(
        FsDisk::open(&scratch.0).expect("the directory"),
        Options::default(),
    )
    .expect("a store");
    let error = FsDisk::open(&scratch.0).expect_err("in use");
    assert_eq!(
        error.to_string(),
        format!(
            "data directory {} is in use by a node of this very process, which runs or has not stopped altogether yet; stop \
             that one first or give this node a directory of its own",
            scratch.0.display(),
        )
    );
    drop(store);
    FsDisk::open(&scratch.0).expect("free again");
}

#[test]
fn a_directory_that_will_not_do_is_named() {
    let scratch = Scratch::new();
    let file = scratch.0.join("file");
    fs::write(&file, b"").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let error = FsDisk::open(&path).expect_err("not a directory");
        assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn damage_names_the_path() {
    let scratch = Scratch::new();
    let (store, ..) = open(FsDisk::open(&scratch.0).expect("the directory"), small()).expect("a store");
    drop(store);
    let meta = scratch.0.join("meta");
    fs::write(&meta, b"anabmeta and so on").expect("damaging");
    let error = open(FsDisk::open(&scratch.0).expect("the directory"), small()).expect_err("damage");
    assert!(
        error
            .to_string()
            .starts_with(&format!("{} is damaged at offset 0", meta.display())),
        "{error}"
    );
}
