//! The bytes of each file, pinned. A change here is a new format: it gets a new version byte, and the old
//! bytes stay as a test that the old format is still read.

use anabranch_crdt::Epoch;

use super::{Held, me, small};
use crate::store::{Disk, DiskFile, MemDisk, Opened, Options, Recovered, Store, StoreError};

/// Nobody's but this directory's.
const SALT: u128 = 0x5a17_5a17;

/// The meta file as it was before it had a salt.
const META_1: &[&str] = &[
    "616e61626d6574610104746573740a00",
    "0000000000000000000000000000d100",
    "00000000000000000000000000000105",
    "000000000000000200000000000000a6",
    "24a0a8",
];

const META: &[&str] = &[
    "616e61626d6574610704746573740a00",
    "0000000000000000000000000000d100",
    "0000000000000000000000000000175a",
    "175a0000000000000000000000000105",
    "000000000000000200000000000000c2",
    "8dd93e",
];

/// The same of format 6, in which there may be no log beside it.
const META_6: &[&str] = &[
    "616e61626d6574610604746573740a00",
    "0000000000000000000000000000d100",
    "0000000000000000000000000000175a",
    "175a0000000000000000000000000105",
    "0000000000000002000000000000008b",
    "6bad24",
];

/// The same of format 5, whose first start here makes it the newest.
const META_5: &[&str] = &[
    "616e61626d6574610504746573740a00",
    "0000000000000000000000000000d100",
    "0000000000000000000000000000175a",
    "175a0000000000000000000000000105",
    "00000000000000020000000000000050",
    "41300a",
];
const SEGMENT: &[&str] = &[
    "616e61626c6f67000100000000000000",
    "0300000000000000d100000000000000",
    "00000000000000000000000000000000",
    "000000000000000000000000b929ef5d",
    "050000006b241dd00300000000000000",
    "01000000746872656500000000388bbe",
    "13040000000000000001000000040000",
    "00c99273e00500000000000000020000",
    "0066697665",
];
const SNAPSHOT: &[&str] = &[
    "616e61736e6170000101000000000000",
    "0200000000000000d100000000000000",
    "00000000000000000000000000000000",
    "000000000000000000000000e2b78b4b",
    "0400000021e4b151626c756500000000",
    "122770b3030000002c10adf572656440",
    "00000000000000040000004c00000000",
    "00000000000000540000000000000003",
    "0000005f000000000000000300000000",
    "0000009ba78f570000000001000000e3",
    "1e149c",
];
/// The same as it was before it said whether the log goes on behind it.
const SNAPSHOT_UNSAID: &[&str] = &[
    "616e61736e6170000100000000000000",
    "0200000000000000d100000000000000",
    "00000000000000000000000000000000",
    "000000000000000000000000648da372",
    "0400000021e4b151626c756500000000",
    "122770b3030000002c10adf572656440",
    "00000000000000040000004c00000000",
    "00000000000000540000000000000003",
    "0000005f000000000000000300000000",
    "0000009ba78f570000000001000000e3",
    "1e149c",
];

fn open(disk: MemDisk, options: Options) -> Result<(Store<MemDisk>, Opened, Held), StoreError> {
    let mut held = Held::default();
    let mut visit = |recovered: Recovered<'_>| {
        match recovered {
            Recovered::Image(block) => held.image.push(block.to_vec()),
            Recovered::ImageEnd => {}
            Recovered::Record { lsn, payload } => held.records.push((lsn.0, payload.to_vec())),
        }
        Ok(())
    };
    let (store, opened) = Store::open_salted(disk, &me(), SALT, options, &mut visit)?;
    Ok((store, opened, held))
}

#[test]
fn a_directory_without_a_salt_is_refused_clearly() {
    let disk = MemDisk::new();
    disk.create("meta")
        .and_then(|mut file| file.write_at(0, &unhex(META_1)))
        .expect("writing");
    let error = open(disk.clone(), small())
        .map(|_| ())
        .expect_err("an old format");
    assert!(
        matches!(error, StoreError::OlderFormat { found: 1, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("move the directory away"), "{error}");
    assert_eq!(disk.read("meta").as_deref(), Some(&unhex(META_1)[..]));
}

#[test]
fn the_salt_is_no_secret_that_is_printed() {
    let (store, ..) = open(MemDisk::new(), small()).expect("a store");
    let printed = format!("{store:?}");
    assert!(
        !printed.contains("salt") && !printed.contains(&SALT.to_string()),
        "{printed}"
    );
}

/// Epoch 5; a snapshot of three blocks that covers records 1 and 2; records 3 to 5 in two commits.
fn written() -> MemDisk {
    let disk = MemDisk::new();
    let (mut store, ..) = open(
        disk.clone(),
        Options {
            fill_bytes: 0,
            ..small()
        },
    )
    .expect("a new store");
    store.append(b"one").expect("appending");
    store.append(b"two").expect("appending");
    store.commit().expect("a commit");
    store.start_epoch(Epoch(5)).expect("an epoch");
    store
        .snapshot(&mut [b"blue".to_vec(), Vec::new(), b"red".to_vec()].into_iter())
        .expect("a snapshot");
    for payloads in [&["three"][..], &["", "five"]] {
        for payload in payloads {
            store.append(payload.as_bytes()).expect("appending");
        }
        store.commit().expect("a commit");
    }
    disk
}

#[test]
fn what_is_written_has_these_bytes() {
    let disk = written();
    for (name, golden) in [
        ("meta", META),
        ("log-0000000000000003", SEGMENT),
        ("snapshot-0000000000000002", SNAPSHOT),
    ] {
        let bytes = disk.read(name).expect("the file");
        assert_eq!(hex(&bytes), golden, "{name}");
    }
}

#[test]
fn these_bytes_are_read() {
    for meta in [META, META_6, META_5] {
        read_with(meta, SNAPSHOT);
        read_with(meta, SNAPSHOT_UNSAID);
    }
}

/// An older version must not start on a directory that this one has used.
#[test]
fn the_format_before_is_the_newest_once_it_is_started() {
    for (meta, format) in [(META_5, 5), (META_6, 6)] {
        let (disk, mut store) = read_with(meta, SNAPSHOT_UNSAID);
        assert_eq!(disk.read("meta").expect("the file")[8], format);
        store.start_epoch(Epoch(9)).expect("an epoch");
        assert_eq!(disk.read("meta").expect("the file")[8], 7);
    }
}

/// Directories of format 6 may be without a log, and are told nothing of one that they miss.
#[test]
fn a_directory_of_the_format_before_may_be_without_a_log() {
    let disk = MemDisk::new();
    for (name, golden) in [("meta", META_6), ("snapshot-0000000000000002", SNAPSHOT_UNSAID)] {
        disk.create(name)
            .and_then(|mut file| file.write_at(0, &unhex(golden)))
            .expect("writing");
    }
    let (.., held) = open(disk, small()).expect("a store");
    assert_eq!(held.image.len(), 3);
}

fn read_with(meta: &[&str], snapshot: &[&str]) -> (MemDisk, Store<MemDisk>) {
    let disk = MemDisk::new();
    for (name, golden) in [
        ("meta", meta),
        ("log-0000000000000003", SEGMENT),
        ("snapshot-0000000000000002", snapshot),
    ] {
        disk.create(name)
            .and_then(|mut file| file.write_at(0, &unhex(golden)))
            .expect("writing");
    }
    let (store, opened, held) = open(disk.clone(), small()).expect("a store");
    assert_eq!((opened.last_epoch, opened.directory), (Some(Epoch(5)), 0xd1));
    assert_eq!(held.image, [b"blue".to_vec(), Vec::new(), b"red".to_vec()]);
    assert_eq!(
        held.records,
        [(3, b"three".to_vec()), (4, Vec::new()), (5, b"five".to_vec())]
    );
    (disk, store)
}

/// Sixteen bytes a line.
fn hex(bytes: &[u8]) -> Vec<String> {
    bytes
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect()
}

fn unhex(lines: &[&str]) -> Vec<u8> {
    let digits: Vec<char> = lines.iter().flat_map(|line| line.chars()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}
