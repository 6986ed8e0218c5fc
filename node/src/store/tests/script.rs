//! `check(script, expect)`: steps against a store on a disk in memory, and what each answers.
//!
//! Steps are separated by `|`; those marked with an arrow answer.
//! ```text
//! open -> what it holds: "new" or "old", `[image blocks]`, `lsn=payload`, `cut` if a torn tail was
//! open bare                       the same; segments are not filled ahead
//! append P...           payloads; `x*2000` is 2000 times x
//! commit -> the durable lsn       snapshot -> ok: an image of everything the store was told so far
//! begin -> begun | none           write -> ok                      end -> ok: the same in three steps
//! give up -> why there is none
//! rescue -> the durable lsn       an image of everything appended, in place of a commit
//! epoch N -> ok                   due -> yes | no
//! crash lost | kept               what is not synced is lost, or has reached the disk
//! crash without F@O...            all has reached the disk but these sectors (or, without @O, all that is of this name)
//! die N                           the process dies after N more calls that change something
//! fail-sync  fail-write  full N  room  flip F@O
//! drop F                          removes a file, durably
//! files -> all names
//! ```
//! Errors answer with their kind. `log-1` stands for `log-0000000000000001`.

use std::sync::atomic::AtomicBool;

use anabranch_crdt::Epoch;

use crate::store::{Disk, MemDisk, Options, SnapshotJob, Store, StoreError, Unsynced, WrittenSnapshot};

use super::{Held, open, small};

/// Runs a script and compares its answers.
#[track_caller]
pub(super) fn check(script: &str, expect: &str) {
    let answers = World::new().run(script);
    let expect: Vec<&str> = expect.split('|').map(str::trim).collect();
    assert_eq!(answers, expect.join(" | "), "script: {script}");
}

/// A disk and the store on it, for a test that looks at the answers itself.
pub(super) struct World {
    disk: MemDisk,
    store: Option<Store<MemDisk>>,
    /// Everything recovered or committed, in order: the state an image is of.
    told: Vec<Vec<u8>>,
    pending: Vec<Vec<u8>>,
    /// A snapshot that was begun, with its blocks, and what became of it.
    begun: Option<(SnapshotJob<MemDisk>, Vec<Vec<u8>>)>,
    written: Option<Result<WrittenSnapshot, StoreError>>,
}

impl World {
    pub(super) fn new() -> World {
        World {
            disk: MemDisk::new(),
            store: None,
            told: Vec::new(),
            pending: Vec::new(),
            begun: None,
            written: None,
        }
    }

    /// The steps' answers.
    pub(super) fn run(&mut self, script: &str) -> String {
        let steps = script.split('|');
        let answers: Vec<String> = steps.filter_map(|step| self.step(step.trim())).collect();
        answers.join(" | ")
    }

    fn step(&mut self, step: &str) -> Option<String> {
        let mut words = step.split_whitespace();
        let verb = words.next().expect("an empty step");
        let args: Vec<&str> = words.collect();
        match verb {
            "open" => return Some(self.open(args.contains(&"bare"))),
            "append" => args.iter().for_each(|arg| self.append(arg)),
            "commit" => {
                let committed = self.store().commit();
                if committed.is_ok() {
                    self.told.append(&mut self.pending);
                }
                return Some(committed.map_or_else(kind, |lsn| lsn.to_string()));
            }
            "snapshot" => {
                let blocks = self.told.clone();
                return Some(answer(self.store().snapshot(&mut blocks.into_iter())));
            }
            "rescue" => {
                let blocks = [self.told.clone(), self.pending.clone()].concat();
                let rescued = self.store().snapshot_of_all(&mut blocks.into_iter());
                if rescued.is_ok() {
                    self.told.append(&mut self.pending);
                }
                return Some(rescued.map_or_else(kind, |lsn| lsn.to_string()));
            }
            "begin" => return Some(self.begin()),
            "write" => return Some(self.write(false)),
            "give" => return Some(self.write(true)),
            "end" => {
                let written = self.written.take().expect("nothing is written");
                return Some(answer(self.store().end_snapshot(written)));
            }
            "epoch" => return Some(answer(self.store().start_epoch(Epoch(number(args[0]))))),
            "due" => return Some(if self.store().snapshot_due() { "yes" } else { "no" }.to_owned()),
            "files" => {
                return Some(
                    self.disk
                        .list()
                        .expect("listing")
                        .iter()
                        .map(short)
                        .collect::<Vec<_>>()
                        .join(" "),
                );
            }
            _ => self.fault(verb, &args),
        }
        None
    }

    fn fault(&mut self, verb: &str, args: &[&str]) {
        match verb {
            "crash" => self.crash(args),
            "die" => self.disk.halt_after(number(args[0])),
            "fail-sync" => self.disk.fail_syncs(1),
            "fail-write" => self.disk.fail_writes(1),
            "full" => self.disk.set_capacity(Some(number(args[0]))),
            "room" => self.disk.set_capacity(None),
            "flip" => {
                let (file, offset) = args[0].split_once('@').expect("FILE@OFFSET");
                assert!(
                    self.disk.flip_bit(&long(file), number(offset), 3),
                    "no byte {}",
                    args[0]
                );
            }
            "drop" => {
                self.disk.remove(&long(args[0])).expect("removing");
                self.disk.sync_dir().expect("syncing");
            }
            _ => panic!("unknown step {verb}"),
        }
    }

    fn open(&mut self, bare: bool) -> String {
        self.store = None;
        (self.begun, self.written) = (None, None);
        self.pending.clear();
        let options = if bare {
            Options {
                fill_bytes: 0,
                ..small()
            }
        } else {
            small()
        };
        let (store, opened, held) = match open(self.disk.clone(), options) {
            Ok(opened) => opened,
            Err(error) => return kind(error),
        };
        let mut words = vec![if opened.is_new { "new" } else { "old" }.to_owned()];
        if !held.image.is_empty() {
            let blocks: Vec<String> = held.image.iter().map(|block| show(block)).collect();
            words.push(format!("[{}]", blocks.join(" ")));
        }
        words.extend(
            held.records
                .iter()
                .map(|(lsn, payload)| format!("{lsn}={}", show(payload))),
        );
        if opened.torn_bytes_cut > 0 {
            words.push("cut".to_owned());
        }
        self.told = Held::payloads(held);
        self.store = Some(store);
        words.join(" ")
    }

    fn begin(&mut self) -> String {
        match self.store().begin_snapshot() {
            Ok(Some(job)) => {
                self.begun = Some((job, self.told.clone()));
                "begun".to_owned()
            }
            Ok(None) => "none".to_owned(),
            Err(error) => kind(error),
        }
    }

    fn write(&mut self, given_up: bool) -> String {
        let (job, blocks) = self.begun.take().expect("no snapshot was begun");
        let written = job.write(&mut blocks.into_iter(), &AtomicBool::new(given_up));
        let word = match &written {
            Ok(_) => "ok".to_owned(),
            Err(error) => word(error),
        };
        self.written = Some(written);
        word
    }

    fn append(&mut self, word: &str) {
        let payload = match word.split_once('*') {
            Some((text, times)) => text.repeat(number(times) as usize),
            None => word.to_owned(),
        };
        self.store().append(payload.as_bytes()).expect("appending");
        self.pending.push(payload.into_bytes());
    }

    fn crash(&mut self, args: &[&str]) {
        self.store = None;
        let (how, without) = args.split_first().expect("crash how");
        let without: Vec<(String, Option<u64>)> = without
            .iter()
            .map(|place| match place.split_once('@') {
                Some((file, offset)) => (long(file), Some(number(offset))),
                None => (long(place), None),
            })
            .collect();
        self.disk.crash_with(&mut |unsynced| {
            let (name, offset) = match unsynced {
                Unsynced::Created { name } | Unsynced::Removed { name } => (name, None),
                Unsynced::Renamed { to, .. } => (to, None),
                Unsynced::Length { .. } => return *how != "lost",
                Unsynced::Sector { name, offset } => (name, Some(offset)),
            };
            let named = without.iter().any(|(file, at)| file == name && *at == offset);
            *how != "lost" && !named
        });
    }

    fn store(&mut self) -> &mut Store<MemDisk> {
        self.store.as_mut().expect("no store is open")
    }
}

fn answer(result: Result<(), StoreError>) -> String {
    result.map_or_else(kind, |()| "ok".to_owned())
}

fn kind(error: StoreError) -> String {
    word(&error)
}

/// An error as a word, with its place where it has one.
fn word(error: &StoreError) -> String {
    match error {
        StoreError::Full { .. } => "full".to_owned(),
        StoreError::Poisoned { .. } => "poisoned".to_owned(),
        StoreError::Corrupt { file, offset, .. } => format!("corrupt {}@{offset}", short(file)),
        StoreError::EpochNotNew { last, .. } => format!("not-above {last}"),
        StoreError::Disk { .. } => "disk".to_owned(),
        StoreError::NewerFormat { .. } => "newer".to_owned(),
        other => other.to_string(),
    }
}

fn show(payload: &[u8]) -> String {
    match payload {
        [first, rest @ ..] if rest.len() > 8 && rest.iter().all(|byte| byte == first) => {
            format!("{}*{}", char::from(*first), payload.len())
        }
        _ => String::from_utf8_lossy(payload).into_owned(),
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn long(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((kind, lsn)) => format!("{kind}-{:016x}", number(lsn)),
        None => name.to_owned(),
    }
}

fn short(name: impl AsRef<str>) -> String {
    let name = name.as_ref();
    match name.rsplit_once('-') {
        Some((kind, lsn)) => format!("{kind}-{}", u64::from_str_radix(lsn, 16).expect("an lsn")),
        None => name.to_owned(),
    }
}
