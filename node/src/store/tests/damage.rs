//! What the store refuses, what poisons it, and what it survives.

use std::sync::atomic::AtomicBool;

use anabranch_crdt::{Epoch, NodeId};

use super::script::{World, check};
use super::{me, open, small};
use crate::store::limits::RECORD_BYTES_MAX;
use crate::store::{Disk, DiskFile, Identity, Lsn, MemDisk, Store, StoreError};

#[test]
fn a_bad_record_with_a_later_mark_is_damage() {
    // Record 1 lies at 64..85, record 2 at 85..106. The mark in record 3 says that 2 was durable.
    check(
        "open | epoch 1 | append a | commit | append b | commit | append c | commit | flip log-1@90 | open",
        "new | ok | 1 | 2 | 3 | corrupt log-1@85",
    );
}

#[test]
fn a_bad_record_without_a_later_mark_is_the_torn_tail() {
    // Nothing on the disk tells this from a commit that the crash has torn.
    check(
        "open | epoch 1 | append a | commit | append b | commit | flip log-1@90 | open",
        "new | ok | 1 | 2 | old 1=a cut",
    );
}

#[test]
fn an_epoch_is_a_mark_too() {
    check(
        "open | epoch 1 | append a b | commit | open | epoch 2 | flip log-1@90 | open",
        "new | ok | 2 | old 1=a 2=b | ok | corrupt log-1@85",
    );
}

#[test]
fn damage_in_an_old_segment_is_found_wherever_it_is() {
    for (flipped, reported) in [
        (0, 0),
        (8, 0),
        (30, 0),
        (63, 0),
        (64, 64),
        (68, 64),
        (80, 64),
        (2000, 64),
        (3083, 64),
    ] {
        check(
            &format!(
                "open | epoch 1 | append a*3000 | commit | append b*3000 | commit | flip log-1@{flipped} | open | open"
            ),
            &format!("new | ok | 1 | 2 | corrupt log-1@{reported} | corrupt log-1@{reported}"),
        );
    }
}

#[test]
fn a_missing_file_is_damage() {
    let written = "open | epoch 1 | append a*3000 | commit | append b*3000 | commit | append c*3000 | commit | open | epoch 2";
    let answers = "new | ok | 1 | 2 | 3 | old 1=a*3000 2=b*3000 3=c*3000 | ok";
    for (file, reported) in [
        ("log-1", "log-2@0"),
        ("log-2", "log-1@3084"),
        ("log-3", "log-2@3084"),
        ("meta", "meta@0"),
    ] {
        check(
            &format!("{written} | drop {file} | open"),
            &format!("{answers} | corrupt {reported}"),
        );
    }
    check(
        "open | epoch 1 | append a | commit | snapshot | open | epoch 2 | drop snapshot-1 | open",
        "new | ok | 1 | ok | old [a] | ok | corrupt log-2@0",
    );
}

/// A copy of a directory without the files of its log, or one from which somebody has removed them to make room.
#[test]
fn a_directory_without_its_log_is_damaged() {
    check(
        "open | epoch 1 | append a | commit | drop log-1 | open",
        "new | ok | 1 | corrupt meta@0",
    );
    check("open | epoch 1 | drop log-1 | open", "new | ok | corrupt meta@0");
    check(
        "open | epoch 1 | append a | commit | snapshot | append b | commit | drop log-2 | open",
        "new | ok | 1 | ok | 2 | corrupt snapshot-1@0",
    );
    check(
        "open | epoch 1 | append a | commit | snapshot | open | epoch 2 | append b | commit | drop log-2 | open",
        "new | ok | 1 | ok | old [a] | ok | 2 | corrupt snapshot-1@0",
    );
}

/// On a full disk there may be no room for the segment behind a snapshot.
#[test]
fn a_snapshot_behind_which_there_was_no_room_misses_no_log() {
    check(
        "open | epoch 1 | append a | commit | append b*30000 | full 70000 | rescue | files | crash lost | open | epoch 2 | append c | \
         commit | crash lost | open",
        "new | ok | 1 | 2 | meta snapshot-2 | old [a b*30000] | ok | 3 | old [a b*30000] 3=c",
    );
    check(
        "open | epoch 1 | append a*2000 | commit | full 2200 | begin | room | write | end | files | crash lost | open | append b | commit | crash lost | open",
        "new | ok | 1 | begun | ok | ok | meta snapshot-1 | old [a*2000] | 2 | old [a*2000] 2=b",
    );
}

/// Also where no word of its segment stands in the snapshot: from the first commit behind it on the meta file has one.
#[test]
fn a_log_behind_a_snapshot_that_was_written_on_a_full_disk_is_missed() {
    for then in [
        "",
        "crash lost | open | ",
        "epoch 2 | ",
        "crash kept | open | epoch 2 | ",
    ] {
        let answers = match then {
            "" => "",
            "epoch 2 | " => "ok | ",
            "crash lost | open | " => "old [a b*30000] | ",
            _ => "old [a b*30000] | ok | ",
        };
        check(
            &format!(
                "open | epoch 1 | append a | commit | append b*30000 | full 70000 | rescue | files | room | {then}append c | commit | \
                 crash lost | drop log-3 | open"
            ),
            &format!("new | ok | 1 | 2 | meta snapshot-2 | {answers}3 | corrupt meta@0"),
        );
    }
    check(
        "open | epoch 1 | append a*2000 | commit | full 2200 | begin | room | append b | commit | write | end | files | crash lost | \
         drop log-2 | open",
        "new | ok | 1 | begun | 2 | ok | ok | log-2 meta snapshot-1 | corrupt meta@0",
    );
}

/// There may be no room for that word either. The log is as good as any, and the word follows.
#[test]
fn the_word_of_a_log_that_finds_no_room_follows_with_a_later_commit() {
    let mut late = 0;
    for capacity in (30_000..31_000).step_by(4) {
        let on_a_full_disk = || {
            let mut world = World::new();
            world.run("open | epoch 1 | append a | commit | append b*30000 | full 70000 | rescue");
            let committed = world.run(&format!("full {capacity} | append c | commit"));
            (committed == "3").then_some(world)
        };
        let Some(mut world) = on_a_full_disk() else {
            continue;
        };
        match world.run("crash lost | drop log-3 | room | open").as_str() {
            "corrupt meta@0" => continue,
            unnoticed => assert_eq!(unnoticed, "old [a b*30000]", "{capacity}"),
        }
        late += 1;
        let mut world = on_a_full_disk().expect("as before");
        assert_eq!(
            world.run("room | append d | commit | crash lost | drop log-3 | open"),
            "4 | corrupt meta@0",
            "{capacity}"
        );
    }
    assert!(
        late > 0,
        "there is a size that has room for the one and not for the other"
    );
}

/// Wherever the process dies: what was told durable is there, and no directory is refused that nobody has taken anything from.
#[test]
fn a_commit_behind_such_a_snapshot_that_dies_leaves_a_directory_that_is_taken() {
    for restarts in [false, true] {
        let (then, answers) = match restarts {
            true => ("crash lost | open | epoch 2 | ", "old [a b*30000] | ok | "),
            false => ("", ""),
        };
        for (lost, calls) in ["lost", "kept"]
            .into_iter()
            .flat_map(|lost| (1..=14).map(move |calls| (lost, calls)))
        {
            let mut world = World::new();
            let begun = format!(
                "open | epoch 1 | append a | commit | append b*30000 | full 70000 | rescue | room | {then}append c | die {calls}"
            );
            assert_eq!(
                world.run(&begun),
                format!("new | ok | 1 | 2 | {answers}").trim_end_matches(" | ")
            );
            let committed = world.run("commit") == "3";
            let opened = world.run(&format!("crash {lost} | open"));
            assert!(
                ["old [a b*30000]", "old [a b*30000] 3=c"].contains(&opened.as_str()),
                "{calls} {lost}: {opened}"
            );
            assert!(!committed || opened.ends_with("3=c"), "{calls} {lost}: {opened}");
            assert_eq!(world.run("epoch 3 | append d | commit | crash lost | open"), {
                let next = if opened.ends_with("3=c") { 4 } else { 3 };
                format!("ok | {next} | {opened} {next}=d")
            });
        }
    }
}

#[test]
fn every_bit_of_a_snapshot_and_of_the_meta_file_is_covered() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    store.start_epoch(Epoch(1)).expect("an epoch");
    store.append(b"x").expect("appending");
    store.commit().expect("a commit");
    store
        .snapshot(&mut [b"one".to_vec(), Vec::new(), b"three".to_vec()].into_iter())
        .expect("a snapshot");
    drop(store);
    for name in ["snapshot-0000000000000001", "meta"] {
        let len = disk.read(name).expect("the file").len() as u64;
        for offset in 0..len {
            let copy = disk.copy();
            assert!(copy.flip_bit(name, offset, offset as u8));
            let error = open(copy, small()).expect_err("damage");
            assert!(
                matches!(&error, StoreError::Corrupt { file, .. } if file == name),
                "{name}@{offset}: {error}"
            );
        }
        for len in 0..len {
            let copy = disk.copy();
            copy.open(name)
                .and_then(|mut file| file.set_len(len))
                .expect("cutting");
            let error = open(copy, small()).expect_err("damage");
            assert!(
                matches!(error, StoreError::Corrupt { .. }),
                "{name} cut to {len}: {error}"
            );
        }
    }
}

#[test]
fn every_bit_of_a_marked_record_is_covered() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    for payload in [b"first", b"other", b"third"] {
        store.append(payload).expect("appending");
        store.commit().expect("a commit");
    }
    drop(store);
    for offset in 0..64 + 2 * 25 {
        for bit in 0..8 {
            let copy = disk.copy();
            assert!(copy.flip_bit("log-0000000000000001", offset, bit));
            let error = open(copy, small()).expect_err("damage");
            let expect = [0, 64, 89]
                .into_iter()
                .rev()
                .find(|start| *start <= offset)
                .expect("a place");
            assert!(
                matches!(error, StoreError::Corrupt { offset: at, .. } if at == expect),
                "{offset}.{bit}: {error}"
            );
        }
    }
}

#[test]
fn a_records_bytes_are_not_believed_in_another_place() {
    // A misdirected write: the bytes of record 1 lie where those of record 2 should.
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    for payload in [b"1", b"2", b"3"] {
        store.append(payload).expect("appending");
        store.commit().expect("a commit");
    }
    drop(store);
    let mut file = disk.open("log-0000000000000001").expect("the segment");
    let mut record = [0; 21];
    file.read_at(64, &mut record).expect("reading");
    file.write_at(85, &record).expect("writing");
    let error = open(disk, small()).expect_err("damage");
    assert!(
        error
            .to_string()
            .contains("damaged at offset 85: a record is out of order"),
        "{error}"
    );
}

#[test]
fn a_lie_about_a_length_allocates_nothing() {
    let disk = MemDisk::new();
    drop(open(disk.clone(), small()).expect("a new store"));
    let mut file = disk.create("log-0000000000000001").expect("a segment");
    file.write_at(0, &crate::store::segment::encode_header(me().directory, Lsn(1)))
        .expect("writing");
    file.write_at(64, &[0xff; 4]).expect("writing");
    let (_, opened, held) = open(disk, small()).expect("a torn tail");
    assert_eq!((opened.torn_bytes_cut, held.records.len()), (4, 0));
}

#[test]
fn a_failed_sync_poisons_until_reopened() {
    check(
        "open | epoch 1 | append a | commit | append b | fail-sync | commit | commit | snapshot | epoch 2 | crash lost | open \
         | append c | commit | open",
        "new | ok | 1 | poisoned | poisoned | poisoned | poisoned | old 1=a | 2 | old 1=a 2=c",
    );
}

#[test]
fn what_a_failed_sync_dropped_is_durable_once_it_was_told() {
    // Only the process dies: record 2 is readable and not on disk, and nothing but writing it again will put
    // it there.
    check(
        "open | epoch 1 | append a | commit | append b | fail-sync | commit | open | append c | commit | crash lost | open",
        "new | ok | 1 | poisoned | old 1=a 2=b | 3 | old 1=a 2=b 3=c",
    );
}

#[test]
fn a_failed_sync_of_any_file_poisons() {
    check(
        "open | epoch 1 | fail-sync | epoch 2 | epoch 3 | open | epoch 2",
        "new | ok | poisoned | poisoned | old | ok",
    );
    check(
        "open | epoch 1 | append a | commit | fail-sync | snapshot | commit | crash lost | open",
        "new | ok | 1 | poisoned | poisoned | old 1=a",
    );
    check(
        "open | epoch 1 | append a | fail-sync | commit | commit | open",
        "new | ok | poisoned | poisoned | old 1=a",
    );
    check(
        "open | append a | fail-sync | commit | commit | open",
        "new | poisoned | poisoned | new",
    );
}

#[test]
fn a_failed_write_poisons() {
    check(
        "open | epoch 1 | append a | commit | append b | fail-write | commit | commit | open | append b | commit | open",
        "new | ok | 1 | poisoned | poisoned | old 1=a cut | 2 | old 1=a 2=b",
    );
}

#[test]
fn a_full_disk_keeps_what_is_pending_and_continues() {
    // 59 bytes of meta and a segment filled ahead to 1024: there is room for 300 bytes more.
    check(
        "open | epoch 1 | append a*900 | commit | full 1450 | append b*900 | commit | append c | commit | room | commit \
         | append d | commit | crash lost | open",
        "new | ok | 1 | full | full | 3 | 4 | old 1=a*900 2=b*900 3=c 4=d",
    );
}

#[test]
fn a_full_disk_and_a_crash_lose_only_what_was_pending() {
    for how in ["lost", "kept"] {
        check(
            &format!(
                "open | epoch 1 | append a*900 | commit | full 1450 | append b*900 | commit | crash {how} | open | room | append d | commit | open"
            ),
            &format!(
                "new | ok | 1 | full | old 1=a*900{} | 2 | old 1=a*900 2=d",
                if how == "kept" { " cut" } else { "" }
            ),
        );
    }
}

#[test]
fn a_full_disk_takes_what_fits_without_filling_ahead() {
    check(
        "open | epoch 1 | append a*900 | commit | full 1450 | append b*200 | commit | crash lost | open",
        "new | ok | 1 | 2 | old 1=a*900 2=b*200",
    );
}

#[test]
fn a_full_disk_refuses_a_segment_a_snapshot_and_an_epoch_and_loses_nothing() {
    check(
        "open | epoch 1 | append a*3000 | commit | full 4200 | append b*3000 | commit | epoch 2 | room | commit | full 8200 \
         | snapshot | epoch 2 | room | snapshot | epoch 2 | crash lost | open",
        "new | ok | 1 | full | full | 2 | full | full | ok | ok | old [a*3000 b*3000]",
    );
}

#[test]
fn a_batch_that_outgrew_its_segment_while_the_disk_was_full_leaves_no_ghosts() {
    // Part of record 2 has reached the first segment before the disk was full; then the batch no longer fits
    // it.
    check(
        "open bare | epoch 1 | append a*3000 | commit | full 3500 | append b*900 | commit | append c*900 | room | commit | files \
         | crash kept | open",
        "new | ok | 1 | full | 3 | log-1 log-2 meta | old 1=a*3000 2=b*900 3=c*900",
    );
}

#[test]
fn a_directory_belongs_to_one_node_of_one_cluster() {
    let disk = MemDisk::new();
    drop(open(disk.clone(), small()).expect("a new store"));
    let other_node = Identity {
        node: NodeId(0xb),
        ..me()
    };
    let error = Store::open(disk.clone(), &other_node, small(), &mut |_| Ok(())).expect_err("another node");
    assert_eq!(
        error.to_string(),
        "meta says that this data directory belongs to node 0000000000000000000000000000000a, but this process is node \
         0000000000000000000000000000000b; start that node here, or give this one a directory of its own"
    );
    let other_cluster = Identity {
        cluster: "prod".to_owned(),
        node: NodeId(0xb),
        directory: 1,
    };
    let error =
        Store::open(disk.clone(), &other_cluster, small(), &mut |_| Ok(())).expect_err("another cluster");
    assert_eq!(
        error.to_string(),
        "meta says that this data directory belongs to cluster \"test\", but this node is of cluster \"prod\"; use that \
         cluster's certificate, or give this node a directory of its own"
    );
    // The directory keeps the id of whoever made it.
    let again = Identity {
        directory: 0xd2,
        ..me()
    };
    let (_, opened) = Store::open(disk, &again, small(), &mut |_| Ok(())).expect("the same node");
    assert_eq!(opened.directory, 0xd1);
}

#[test]
fn a_newer_format_is_named() {
    for (name, known, checked) in [
        ("meta", 7, 0..55),
        ("log-0000000000000002", 1, 0..60),
        ("snapshot-0000000000000001", 1, 0..60),
    ] {
        let disk = MemDisk::new();
        let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
        store.append(b"a").expect("appending");
        store.commit().expect("a commit");
        store
            .snapshot(&mut [b"a".to_vec()].into_iter())
            .expect("a snapshot");
        store.append(b"b").expect("appending");
        store.commit().expect("a commit");
        drop(store);
        let mut bytes = disk.read(name).expect("the file");
        let checked = if name == "meta" {
            0..bytes.len() - 4
        } else {
            checked
        };
        let newer = known + 1;
        bytes[8] = newer;
        let crc = crc32c::crc32c(&bytes[checked.clone()]).to_le_bytes();
        bytes[checked.end..checked.end + 4].copy_from_slice(&crc);
        disk.open(name)
            .and_then(|mut file| file.write_at(0, &bytes))
            .expect("writing");
        let error = open(disk, small()).expect_err("a newer format");
        assert_eq!(
            error.to_string(),
            format!(
                "{name} has format {newer}, and this version reads up to format {known}; start the version that wrote it, or a later one"
            )
        );
    }
}

#[test]
fn a_reader_may_refuse() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    store.append(b"a").expect("appending");
    store.commit().expect("a commit");
    drop(store);
    let error =
        Store::open(disk, &me(), small(), &mut |_| Err("unknown kind 9".to_owned())).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("record 1 at offset 64: unknown kind 9"),
        "{error}"
    );
}

#[test]
fn a_record_has_a_largest_size() {
    let (mut store, ..) = open(MemDisk::new(), small()).expect("a new store");
    let error = store
        .append(&vec![0; RECORD_BYTES_MAX + 1])
        .expect_err("too large");
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert_eq!(
        (store.pending_bytes(), store.append(b"a").expect("appending")),
        (0, Lsn(1))
    );
}

#[test]
fn a_largest_record_comes_back() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    store.append(&vec![7; RECORD_BYTES_MAX]).expect("appending");
    store.commit().expect("a commit");
    drop(store);
    let (_, _, held) = open(disk, small()).expect("an old store");
    assert!(held.records == [(1, vec![7; RECORD_BYTES_MAX])]);
}

#[test]
fn a_failed_read_changes_nothing() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    store.append(b"a").expect("appending");
    store.commit().expect("a commit");
    drop(store);
    disk.fail_reads(1);
    assert!(matches!(
        open(disk.clone(), small()),
        Err(StoreError::Disk { .. })
    ));
    assert_eq!(open(disk, small()).expect("an old store").2.records.len(), 1);
}

#[test]
fn a_commit_is_one_write_and_one_sync() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    for payload in [&b"first"[..], b"second", &[3; 600], &[4; 600]] {
        store.append(payload).expect("appending");
        let before = disk.calls();
        let creates_segment = store.durable() == Lsn(0);
        store.commit().expect("a commit");
        assert_eq!(disk.calls() - before, if creates_segment { 7 } else { 2 });
    }
}

#[test]
fn a_rename_that_may_have_happened_poisons_the_store() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    store.start_epoch(Epoch(1)).expect("an epoch");
    for payload in [b"one", b"two"] {
        store.append(payload).expect("appending");
        store.commit().expect("a commit");
    }
    disk.fail_renames(1);
    let error = store
        .snapshot(&mut [b"image".to_vec()].into_iter())
        .expect_err("it failed");
    assert!(error.is_poisoned(), "{error}");
    // Had it gone on, this would lie in a segment that the snapshot makes superfluous.
    assert!(store.append(b"three").expect_err("poisoned").is_poisoned());
    drop(store);
    let (_, _, held) = open(disk, small()).expect("a store");
    assert_eq!(held.payloads(), [b"one".to_vec(), b"two".to_vec()]);
}

#[test]
fn a_snapshots_rename_that_may_have_happened_poisons_the_store() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    store.start_epoch(Epoch(1)).expect("an epoch");
    store.append(b"one").expect("appending");
    store.commit().expect("a commit");
    let job = store.begin_snapshot().expect("a store").expect("a snapshot");
    disk.fail_renames(1);
    let written = job.write(&mut [b"image".to_vec()].into_iter(), &AtomicBool::new(false));
    let error = store.end_snapshot(written).expect_err("it failed");
    assert!(error.is_poisoned(), "{error}");
    // Had it gone on, this would lie in a segment that the snapshot makes superfluous.
    assert!(store.append(b"three").expect_err("poisoned").is_poisoned());
    drop(store);
    let (_, _, held) = open(disk, small()).expect("a store");
    assert_eq!(held.image, [b"image".to_vec()]);
    assert_eq!(held.records, []);
}

#[test]
fn a_segment_that_goes_on_beyond_a_snapshot_is_not_removed() {
    let disk = MemDisk::new();
    let (mut store, ..) = open(disk.clone(), small()).expect("a new store");
    store.start_epoch(Epoch(1)).expect("an epoch");
    store.append(b"one").expect("appending");
    store.append(b"two").expect("appending");
    store.commit().expect("a commit");
    // A snapshot nobody knows of: as by a rename whose answer was lost.
    let other = disk.copy();
    let (mut snapshot, ..) = open(other.clone(), small()).expect("a copy");
    snapshot
        .snapshot(&mut [b"one and two".to_vec()].into_iter())
        .expect("a snapshot");
    let name = "snapshot-0000000000000002";
    store.append(b"three").expect("appending");
    store.commit().expect("a commit");
    drop(store);
    let bytes = other.read(name).expect("the snapshot");
    disk.create(name)
        .and_then(|mut file| {
            file.write_at(0, &bytes)?;
            file.sync_data()
        })
        .and_then(|()| disk.sync_dir())
        .expect("writing");
    for round in 0..2 {
        let (mut store, _, held) = open(disk.clone(), small()).expect("a store");
        assert_eq!(held.image, [b"one and two".to_vec()]);
        let mut records = vec![(3, b"three".to_vec())];
        if round == 1 {
            records.push((4, b"four".to_vec()));
        }
        assert_eq!(held.records, records);
        store.append(b"four").expect("appending");
        store.commit().expect("a commit");
        disk.crash(&mut || 0);
    }
}

#[test]
fn what_a_client_stores_is_never_taken_for_a_record() {
    // Record 2 is torn; in its payload lies what would be a good record 3 that proves record 2 durable, if its checksum
    // began with what a client can know: the directory's id.
    let forge = |seed: u128| {
        let other = MemDisk::new();
        let identity = Identity {
            directory: 0xd1,
            ..me()
        };
        let small = crate::store::Options {
            fill_bytes: 0,
            ..small()
        };
        let (mut store, _) =
            Store::open_salted(other.clone(), &identity, seed, small, &mut |_| Ok(())).expect("a store");
        store.start_epoch(Epoch(1)).expect("an epoch");
        for payload in [b"a", b"b", b"c"] {
            store.append(payload).expect("appending");
            store.commit().expect("a commit");
        }
        let bytes = other.read("log-0000000000000001").expect("the log");
        bytes[bytes.len() - 21..].to_vec()
    };
    let opened = |salt: u128| {
        let disk = MemDisk::new();
        let open = |disk: MemDisk| Store::open_salted(disk, &me(), salt, small(), &mut |_| Ok(()));
        let (mut store, _) = open(disk.clone()).expect("a new store");
        store.start_epoch(Epoch(1)).expect("an epoch");
        store.append(b"one").expect("appending");
        store.commit().expect("a commit");
        store
            .append(&[&[7; 100][..], &forge(0xd1)].concat())
            .expect("appending");
        store.commit().expect("a commit");
        drop(store);
        assert!(disk.flip_bit("log-0000000000000001", 64 + 23 + 30, 0));
        open(disk).map(|(_, opened)| opened.torn_bytes_cut > 0)
    };
    assert!(
        matches!(opened(0xd1), Err(StoreError::Corrupt { .. })),
        "it was believed"
    );
    assert!(matches!(opened(0x5a17), Ok(true)), "it is the torn tail it is");
}
