//! Random scripts against the naive model: a list of what was committed and a list of what was only appended.

use std::sync::atomic::AtomicBool;

use anabranch_crdt::Epoch;
use proptest::prelude::*;

use super::crash_points::chance;
use super::{open, small};
use crate::store::{MemDisk, Options, SnapshotJob, Store, StoreError, WrittenSnapshot};

#[derive(Clone, Debug)]
enum Step {
    Append {
        byte: u8,
        len: usize,
    },
    Commit,
    Snapshot,
    /// A snapshot in three steps, with others in between.
    BeginSnapshot,
    WriteSnapshot {
        give_up: bool,
    },
    EndSnapshot,
    Epoch,
    /// The process dies after so many calls of whatever comes next.
    Die {
        calls: u64,
    },
    FailSync,
    /// So many bytes more fit the disk.
    Full {
        left: u64,
    },
    Room,
    Crash {
        seed: u64,
    },
    /// The process ends and is started again, the machine goes on.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), prop_oneof![0..40_usize, 0..1500_usize]).prop_map(|(byte, len)| Step::Append { byte, len }),
        5 => Just(Step::Commit),
        1 => Just(Step::Snapshot),
        2 => Just(Step::BeginSnapshot),
        2 => (0..8_u8).prop_map(|n| Step::WriteSnapshot { give_up: n == 0 }),
        2 => Just(Step::EndSnapshot),
        1 => Just(Step::Epoch),
        2 => (0..12_u64).prop_map(|calls| Step::Die { calls }),
        1 => Just(Step::FailSync),
        1 => (0..3000_u64).prop_map(|left| Step::Full { left }),
        2 => Just(Step::Room),
        3 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        1 => Just(Step::Reopen),
    ]
}

/// A snapshot on its way.
enum Begun {
    None,
    Job(SnapshotJob<MemDisk>, Vec<Vec<u8>>),
    Written(Result<WrittenSnapshot, StoreError>),
}

struct Model {
    disk: MemDisk,
    options: Options,
    store: Option<Store<MemDisk>>,
    begun: Begun,
    /// Told to be durable: must be there.
    durable: Vec<Vec<u8>>,
    /// Appended: may be there, from the front.
    appended: Vec<Vec<u8>>,
    epoch: u64,
    asked_epoch: u64,
    sync_failed: bool,
}

impl Model {
    fn new(options: Options) -> Model {
        Model {
            disk: MemDisk::new(),
            options,
            store: None,
            begun: Begun::None,
            durable: Vec::new(),
            appended: Vec::new(),
            epoch: 0,
            asked_epoch: 0,
            sync_failed: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Die { calls } => return self.disk.halt_after(*calls),
            Step::FailSync => {
                self.sync_failed = true;
                return self.disk.fail_syncs(1);
            }
            Step::Full { left } => return self.disk.set_capacity(Some(self.disk.used_bytes() + left)),
            Step::Room => return self.disk.set_capacity(None),
            Step::WriteSnapshot { give_up } => return self.write_snapshot(*give_up),
            Step::Crash { seed } => {
                self.die();
                self.disk.crash(&mut chance(*seed));
                return;
            }
            Step::Reopen => return self.die(),
            _ => {}
        }
        if self.store.is_none() && !self.open() {
            return;
        }
        let Some(store) = &mut self.store else {
            unreachable!("just opened")
        };
        match step {
            Step::Append { byte, len } => {
                let payload = vec![*byte; *len];
                if store.append(&payload).is_ok() {
                    self.appended.push(payload);
                }
            }
            // If it fails, everything stays pending or nobody knows: `open` takes either.
            Step::Commit if store.commit().is_ok() => self.durable.append(&mut self.appended),
            Step::BeginSnapshot if store.pending_bytes() == 0 && matches!(self.begun, Begun::None) => {
                if let Ok(Some(job)) = store.begin_snapshot() {
                    self.begun = Begun::Job(job, self.durable.clone());
                }
            }
            Step::EndSnapshot if matches!(self.begun, Begun::Written(_)) => {
                if let Begun::Written(written) = std::mem::replace(&mut self.begun, Begun::None) {
                    let _ = store.end_snapshot(written);
                }
            }
            Step::Snapshot if store.pending_bytes() == 0 && matches!(self.begun, Begun::None) => {
                let blocks: Vec<Vec<u8>> = self.durable.clone();
                let _ = store.snapshot(&mut blocks.into_iter());
            }
            Step::Epoch => {
                self.asked_epoch += 1;
                if store.start_epoch(Epoch(self.asked_epoch)).is_ok() {
                    self.epoch = self.asked_epoch;
                }
            }
            _ => {}
        }
    }

    /// On a thread of its own, so whatever has become of the store.
    fn write_snapshot(&mut self, give_up: bool) {
        self.begun = match std::mem::replace(&mut self.begun, Begun::None) {
            Begun::Job(job, blocks) => {
                Begun::Written(job.write(&mut blocks.into_iter(), &AtomicBool::new(give_up)))
            }
            other => other,
        };
    }

    fn die(&mut self) {
        self.store = None;
        self.begun = Begun::None;
    }

    /// Opens the store and checks what it holds. It may fail to open while the disk has stopped, is full or
    /// fails; never because of what lies on it.
    fn open(&mut self) -> bool {
        let (store, opened, held) = match open(self.disk.clone(), self.options.clone()) {
            Ok(opened) => opened,
            Err(error) => {
                let excused = ["stopped", "injected", "no storage space"];
                assert!(
                    excused.iter().any(|excuse| error.to_string().contains(excuse)),
                    "{error}"
                );
                return false;
            }
        };
        let held = held.payloads();
        assert!(
            held.len() >= self.durable.len(),
            "{} of {} held",
            held.len(),
            self.durable.len()
        );
        let known: Vec<_> = self
            .durable
            .drain(..)
            .chain(self.appended.drain(..))
            .take(held.len())
            .collect();
        assert_eq!(held, known);
        self.durable = held;
        let epoch = opened.last_epoch.map_or(0, |epoch| epoch.0);
        assert!((self.epoch..=self.asked_epoch).contains(&epoch), "epoch {epoch}");
        self.epoch = epoch;
        self.store = Some(store);
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn committed_records_survive_everything(
        steps in prop::collection::vec(step(), 1..80),
        fill_bytes in prop_oneof![Just(0_u64), Just(512), Just(4096)],
        segment_bytes in prop_oneof![Just(600_u64), Just(4096), Just(1 << 20)],
    ) {
        let mut model = Model::new(Options { fill_bytes, segment_bytes, ..small() });
        for step in &steps {
            model.step(step);
        }
        // All is well again: what was promised is there, once more after the machine stops with nothing
        // unsynced kept.
        model.disk.set_capacity(None);
        for _ in 0..2 {
            model.die();
            model.disk.crash(&mut || 0);
            prop_assert!(model.open());
        }
    }
}
