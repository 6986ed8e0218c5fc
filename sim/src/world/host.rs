//! One virtual machine: its disk, its wall clock, and the process on it while it lives.
//!
//! The process is production code: an engine over a store. What the driver does in production is done here: records are
//! appended, synced in groups after a virtual delay, and snapshots written beside that when due.

use std::collections::VecDeque;

use anabranch::engine::{Engine, EngineConfig, Now, PersistFailure, Start, Time, epoch_for_start};
use anabranch::store::{Disk, Identity, MemDisk, Options, Recovered, Store, StoreError};
use anabranch::{DirectoryId, Epoch, NodeId};
use bytes::Bytes;

use super::image::Image;
use crate::net::NodeIx;
use crate::plan::{ClockPlan, Death, Ending};
use crate::queue::Micros;
use crate::rng::Rng;

/// The wall clocks' common beginning, milliseconds since 1970: some seconds before a minute begins, for what goes by minutes.
const WALL_MS: u64 = 1_790_000_034_000;

/// A machine.
pub(crate) struct Host {
    pub ix: NodeIx,
    pub id: NodeId,
    pub disk: MemDisk,
    /// A copy of its disk, damaged or not.
    backup: Option<(MemDisk, bool)>,
    pub life: Option<Life>,
    /// Counts lives: events of an earlier one are void.
    pub lives: u64,
    pub clock: ClockPlan,
    /// Syncs take so much longer.
    pub slow_us: Micros,
    pub paused_until: Micros,
    /// Whether a bit of its disk has flipped since it last started.
    pub rotten: bool,
    /// It will die, at an output or at a call to its disk.
    pub doom: Option<Death>,
}
/// A process.
pub(crate) struct Life {
    pub engine: Engine,
    pub store: Store<MemDisk>,
    pub epoch: u64,
    pub since: Micros,
    /// Records handed out and not yet given to the store.
    pub queued: VecDeque<(u64, Bytes)>,
    /// The last record of the commit under way.
    pub writing: Option<u64>,
    pub poisoned: bool,
    /// The snapshot that is being written, and how many were begun.
    pub image: Option<Image>,
    pub images: u64,
    /// How the last commit that its engine was told of failed, if it did.
    pub failure: Option<PersistFailure>,
    /// Its directory's id.
    pub directory: DirectoryId,
    /// Bytes of records of which the engine does not know yet that they are durable, all together and each.
    pub unpersisted: usize,
    pub recorded: VecDeque<(u64, usize)>,
    /// The wakeup that is scheduled.
    pub wake_at: Option<Micros>,
    /// When it last did anything of its own accord, and sent anything.
    pub woke_at: Micros,
    pub sent_at: Micros,
}

/// Why a process did not come up.
pub(crate) enum NoStart {
    /// The disk is full, or a fault of the plan stopped it: later.
    Later(String),
    /// Its store finds damage in what was durable.
    Damaged(String),
    /// It never may.
    Broken(String),
}

/// What a process is started with.
pub(crate) struct StartWith {
    pub seed: u64,
    pub config: EngineConfig,
    pub options: Options,
    pub expects_others: bool,
    pub now: Micros,
}

/// A recovered item, kept until the engine exists.
enum Item {
    Image(Vec<u8>),
    Record(Vec<u8>),
}

impl Host {
    pub fn new(seed: u64, ix: NodeIx, clock: ClockPlan) -> Host {
        Host {
            ix,
            id: node_id(seed, ix),
            disk: MemDisk::new(),
            backup: None,
            life: None,
            lives: 0,
            clock,
            slow_us: 0,
            paused_until: 0,
            rotten: false,
            doom: None,
        }
    }

    /// The wall clock, milliseconds.
    pub fn wall_ms(&self, now: Micros) -> u64 {
        let passed = (now / 1_000) as i64;
        let drifted = passed + passed * self.clock.drift_ppm / 1_000_000;
        (WALL_MS as i64 + self.clock.skew_ms + drifted) as u64
    }

    pub fn now(&self, now: Micros) -> Now {
        Now {
            time: Time(now),
            wall_ms: self.wall_ms(now),
        }
    }

    /// Opens the store, recovers the engine, and begins a new epoch.
    pub fn start(&mut self, with: StartWith) -> Result<(), NoStart> {
        self.lives += 1;
        let mut rng = Rng::stream(with.seed, "start", self.ix as u64, self.lives);
        let fresh = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        let identity = Identity {
            cluster: with.config.cluster.clone(),
            node: self.id,
            directory: fresh,
        };
        let mut items = Vec::new();
        let opened = Store::open(self.disk.clone(), &identity, with.options, &mut |recovered| {
            match recovered {
                Recovered::Image(block) => items.push(Item::Image(block.to_vec())),
                Recovered::ImageEnd => {}
                Recovered::Record { payload, .. } => items.push(Item::Record(payload.to_vec())),
            }
            Ok(())
        });
        let (mut store, opened) = opened.map_err(no_start)?;
        let epoch = epoch_for_start(opened.last_epoch, self.wall_ms(with.now), rng.next_u64() as u16);
        store.start_epoch(epoch).map_err(no_start)?;
        let now = self.now(with.now);
        let mut engine = Engine::new(with.config, now);
        for item in &items {
            match item {
                Item::Image(block) => engine.recover_image(block),
                Item::Record(record) => engine.recover_record(record),
            }
            .map_err(|e| NoStart::Broken(e.to_string()))?;
        }
        if with.expects_others {
            engine.expect_others();
        }
        engine.start(
            now,
            Start {
                epoch,
                before: opened.last_epoch,
                directory: DirectoryId(opened.directory),
            },
        );
        self.life = Some(Life {
            engine,
            store,
            epoch: epoch.0,
            since: with.now,
            queued: VecDeque::new(),
            writing: None,
            poisoned: false,
            image: None,
            images: 0,
            failure: None,
            directory: DirectoryId(opened.directory),
            unpersisted: 0,
            recorded: VecDeque::new(),
            wake_at: None,
            woke_at: with.now,
            sent_at: with.now,
        });
        Ok(())
    }

    /// A copy is made of its disk.
    pub fn back_up(&mut self) {
        self.backup = Some((self.disk.copy(), self.rotten));
    }

    /// The copy is put back, if there is one.
    pub fn restore(&mut self) -> bool {
        let Some((disk, rotten)) = &self.backup else {
            return false;
        };
        (self.disk, self.rotten) = (disk.copy(), *rotten);
        true
    }

    /// One bit of what is stored flips.
    pub fn rot(&mut self, seed: u64) {
        let mut rng = Rng::stream(seed, "rot", self.ix as u64, self.lives);
        let mut names = self.disk.list().unwrap_or_default();
        names.sort();
        if names.is_empty() {
            return;
        }
        let name = rng.pick(&names).clone();
        let len = self.disk.read(&name).map_or(0, |bytes| bytes.len() as u64);
        self.rotten |= self.disk.flip_bit(&name, rng.below(len), rng.below(8) as u8);
    }

    /// The process dies, perhaps in the midst of a commit. If the machine dies with it the disk keeps what it must, and
    /// chance decides about the rest.
    pub fn die(&mut self, seed: u64, ending: Ending) {
        let mut rng = Rng::stream(seed, "death", self.ix as u64, self.lives);
        let mut life = self.life.take();
        if let Some(image) = life.as_mut().and_then(|life| life.image.take())
            && !self.disk.is_halted()
            && rng.chance(0.5)
        {
            self.disk.halt_after(rng.below(8));
            let _ = image.write();
        }
        if let Some(mut life) = life
            && life.writing.is_some()
            && !life.poisoned
            && !self.disk.is_halted()
            && rng.chance(0.5)
        {
            self.disk.halt_after(rng.below(6));
            // Whether it gets through is the disk's matter: nobody is told.
            let _ = life.store.commit();
        }
        match ending {
            Ending::Machine => self.disk.crash(&mut || rng.next_u64()),
            Ending::Process => self.disk.kill(),
        }
        self.doom = None;
        self.slow_us = 0;
        self.paused_until = 0;
    }
}

impl Life {
    /// A higher epoch, durably, because a peer knows one.
    pub fn adopt(&mut self, above: Epoch, wall_ms: u64, random: u16) -> Result<Epoch, StoreError> {
        let last = above.max(Epoch(self.epoch));
        let epoch = epoch_for_start(Some(last), wall_ms, random);
        self.store.start_epoch(epoch)?;
        self.epoch = epoch.0;
        Ok(epoch)
    }

    /// The engine hears that records are durable.
    pub fn on_told(&mut self, upto: u64) {
        while let Some(&(id, bytes)) = self.recorded.front()
            && id <= upto
        {
            self.recorded.pop_front();
            self.unpersisted -= bytes;
        }
    }

    /// Hands the store what has queued. Returns whether there is something to sync.
    pub fn begin_commit(&mut self) -> Result<bool, StoreError> {
        if self.writing.is_some() || self.poisoned {
            return Ok(false);
        }
        while let Some((id, payload)) = self.queued.pop_front() {
            self.store.append(&payload)?;
            self.writing = Some(id);
        }
        Ok(self.writing.is_some())
    }
}

fn no_start(error: StoreError) -> NoStart {
    match error {
        StoreError::Full { .. } | StoreError::Disk { .. } | StoreError::Poisoned { .. } => {
            NoStart::Later(error.to_string())
        }
        StoreError::Corrupt { .. } => NoStart::Damaged(error.to_string()),
        other => NoStart::Broken(other.to_string()),
    }
}

/// A node's id: no order between the numbers of nodes and their ids.
pub(crate) fn node_id(seed: u64, ix: NodeIx) -> NodeId {
    let mut rng = Rng::stream(seed, "node-id", ix as u64, 0);
    NodeId(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
}
