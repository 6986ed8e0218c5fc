//! One life of a store, stopped after every single call that changes something, with what was unsynced lost,
//! kept, or kept in part; then opened, stopped again while it recovers, and opened for good.

use std::sync::atomic::AtomicBool;

use anabranch_crdt::Epoch;

use super::{open, small};
use crate::store::{MemDisk, Store, StoreError};

/// What somebody was told, and what they asked for beyond it.
#[derive(Default)]
struct Promised {
    epoch: u64,
    /// Payloads whose commit has returned.
    durable: Vec<Vec<u8>>,
    /// Payloads of the commit that has not.
    asked: Vec<Vec<u8>>,
    asked_epoch: u64,
}

#[test]
fn a_store_survives_a_stop_after_every_call() {
    let disk = MemDisk::new();
    live(&disk, &mut Promised::default()).expect("a life without faults");
    let calls = disk.calls();
    assert!(calls > 60, "{calls} calls are no life");
    for stop_at in 0..calls {
        for seed in 0..12 {
            let disk = MemDisk::new();
            let mut promised = Promised::default();
            disk.halt_after(stop_at);
            live(&disk, &mut promised).expect_err("the disk has stopped");
            disk.crash(&mut chance(seed));
            let place = format!("stopped after {stop_at} calls, seed {seed}");
            // Recovery is stopped too, after its first, second, ... call.
            disk.halt_after(seed % 8);
            let _ = open(disk.clone(), small());
            disk.crash(&mut chance(seed + 100));
            let held = check_kept(&disk, &promised, &place);
            // Whatever came back was told, so now it is durable whatever happens.
            disk.crash(&mut || 0);
            assert_eq!(check_kept(&disk, &promised, &place), held, "{place}");
        }
    }
}

/// Epochs, commits over several segments, snapshots in one step and beside commits, a restart.
fn live(disk: &MemDisk, promised: &mut Promised) -> Result<(), StoreError> {
    for life in 1..=2 {
        let (mut store, ..) = open(disk.clone(), small())?;
        promised.asked_epoch = life;
        store.start_epoch(Epoch(life))?;
        promised.epoch = life;
        for round in 0..7_u8 {
            for payload in [vec![round; 700], vec![round + 100; 3], vec![round + 200; 900]] {
                store.append(&payload)?;
                promised.asked.push(payload);
            }
            commit(&mut store, promised)?;
            match round {
                2 => store.snapshot(&mut promised.durable.clone().into_iter())?,
                5 => snapshot_beside(&mut store, promised)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Commits go on while it is written, and after that before the store hears of it.
fn snapshot_beside(store: &mut Store<MemDisk>, promised: &mut Promised) -> Result<(), StoreError> {
    let blocks = promised.durable.clone();
    let job = store.begin_snapshot()?.expect("there is something to cover");
    let beside = |store: &mut Store<MemDisk>, promised: &mut Promised, byte: u8| {
        for payload in [vec![byte; 900], vec![byte + 1; 2500]] {
            store.append(&payload)?;
            promised.asked.push(payload);
            commit(store, promised)?;
        }
        Ok::<(), StoreError>(())
    };
    beside(store, promised, 70)?;
    let written = job.write(&mut blocks.into_iter(), &AtomicBool::new(false));
    beside(store, promised, 80)?;
    store.end_snapshot(written)
}

fn commit(store: &mut Store<MemDisk>, promised: &mut Promised) -> Result<(), StoreError> {
    store.commit()?;
    promised.durable.append(&mut promised.asked);
    Ok(())
}

/// Opens the store, checks that it holds what was promised and nothing that was not asked for, and returns
/// all it holds.
fn check_kept(disk: &MemDisk, promised: &Promised, place: &str) -> Vec<Vec<u8>> {
    let (mut store, opened, held) = open(disk.clone(), small()).unwrap_or_else(|e| panic!("{place}: {e}"));
    let first = held.records.first().map_or(0, |(lsn, _)| *lsn);
    assert!(
        held.records
            .iter()
            .map(|(lsn, _)| *lsn)
            .eq((first..).take(held.records.len())),
        "{place}: a gap"
    );
    let held = held.payloads();
    assert!(
        held.len() >= promised.durable.len(),
        "{place}: {} of {} held",
        held.len(),
        promised.durable.len()
    );
    let known: Vec<_> = promised
        .durable
        .iter()
        .chain(&promised.asked)
        .take(held.len())
        .cloned()
        .collect();
    assert_eq!(held, known, "{place}");
    let epoch = opened.last_epoch.map_or(0, |epoch| epoch.0);
    assert!(
        (promised.epoch..=promised.asked_epoch).contains(&epoch),
        "{place}: epoch {epoch}"
    );
    // And it works: but what this writes is never committed.
    store.append(b"more").unwrap_or_else(|e| panic!("{place}: {e}"));
    held
}

/// A small generator of its own, so that every stop has its own fate.
pub(super) fn chance(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
}
