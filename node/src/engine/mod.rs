//! Keeps every replica of every entity converging, sans I/O.
//!
//! Not here: sockets, files, clocks, tasks, randomness; see `driver`, and the simulator, which stands in its place.
//!
//! Contract: after each [`Engine::handle`], drain [`Engine::poll_output`] to `None` and perform the outputs in that
//! order before the next `handle`; call `handle` with [`Input::Wakeup`] at or after [`Engine::next_wakeup`].
//! A driver that does no more than that cannot be wrong: what depends on a record being durable is held back here
//! until [`Input::Persisted`].
//!
//! The kinds of methods, each in a file of its own: local updates (`submit`), news out (`push`), news in (`receive`),
//! what nodes say of themselves (`said`), catching up (`pull`, `snapshot`), durability (`persist`), write levels
//! (`levels`), what functions did (`commit`), what the log keeps (`applied`), session tokens (`tokens`), majority reads (`polls`),
//! start (`recover`), reads (`inspect`).

mod applied;
mod clocks;
mod commit;
mod digest;
mod frozen;
mod heir;
mod idempotency;
mod inspect;
mod io;
mod levels;
pub mod limits;
mod load;
mod peers;
mod persist;
mod placement;
mod polls;
mod pull;
mod push;
mod puts;
mod readiness;
mod receive;
mod recover;
mod ring;
mod rows;
mod said;
mod serve;
mod shard;
mod size;
mod snapshot;
mod standing;
mod submit;
#[cfg(test)]
mod tests;
mod tokens;
mod translate;
mod trial;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch_crdt::{Epoch, HashKey, HybridClock, NodeId, ReplicaId, VersionVector, planted};

pub use crate::view::View;
pub use inspect::{Counters, EngineStatus, Holdings, LiveDot, PeerSaid, ShardSummary};
pub use io::{
    Answer, Copies, EngineConfig, Input, Level, Now, Op, Output, PersistFailure, Read, RecordId, RequestId,
    Stage, Start, Time, Update,
};
pub use limits::Limits;
pub use load::{Loaded, Unloaded};
pub use recover::{FrozenImage, RecoverError, epoch_for_start};

use crate::engine::clocks::PeerClock;
use crate::engine::idempotency::Keys;
use crate::engine::levels::Levels;
use crate::engine::peers::Peer;
use crate::engine::persist::Persist;
use crate::engine::placement::{Placement, hash_key};
use crate::engine::polls::Polls;
use crate::engine::pull::Pulls;
use crate::engine::recover::RecoverStage;
use crate::engine::said::SaidQueue;
use crate::engine::serve::Sessions;
use crate::engine::shard::{Kinds, Shard};
use crate::engine::standing::Standings;
use crate::engine::tokens::Parked;
use crate::wire::{DirectoryId, EntityId, ShardId};

/// The replication engine of one node (or of some of its shards). See the module's front page for its contract.
pub struct Engine {
    config: EngineConfig,
    started: Start,
    settled: Settled,
    /// The last run of this node that peers know of and its directory does not.
    lost_run: Epoch,
    expects_others: bool,
    /// See `heir`: the first run of this directory that kept what it did to bounded counters until it was on the disk.
    keeps_since: Option<Epoch>,
    key: HashKey,
    clock: HybridClock,
    now: Now,
    shards: Vec<Shard>,
    members: BTreeSet<NodeId>,
    /// What was said last of each other node.
    standing: Standings,
    /// The highest epoch known of each node.
    known_epochs: BTreeMap<NodeId, Epoch>,
    /// The epoch of each peer that has said what is held of it.
    heard_epochs: BTreeMap<NodeId, Epoch>,
    /// The one before that, of those that had another link to this run.
    former_epochs: BTreeMap<NodeId, Epoch>,
    /// The wall clock of each node that has had a link.
    clocks: BTreeMap<NodeId, PeerClock>,
    peers: BTreeMap<NodeId, Peer>,
    said: SaidQueue,
    pulls: Pulls,
    sessions: Sessions,
    levels: Levels,
    parked: Parked,
    polls: Polls,
    persist: Persist,
    keys: Keys,
    kinds: Kinds,
    counters: Counters,
    recovering: RecoverStage,
    outputs: VecDeque<Output>,
    /// Numbers transfers in parts.
    next_transfer: u64,
    /// What all rings take.
    ring_bytes: usize,
    /// The sum of all shards' summaries, and the shards whose summary it does not hold yet.
    rollup: u64,
    summaries: Vec<u64>,
    stale_summaries: BTreeSet<ShardId>,
}

/// Whether this directory has ever caught up in every shard. Until it has, each start treats it as new: it may be
/// the remains of a lost one.
#[derive(Clone, Copy, Debug, Default)]
struct Settled {
    now: bool,
    at_start: bool,
}

impl Engine {
    /// An empty engine. Feed it what the store recovered ([`Engine::recover_image`], [`Engine::recover_record`]),
    /// then call [`Engine::start`].
    ///
    /// # Panics
    /// If the shard count is 0 or above [`limits::SHARDS_MAX`]: configuration is checked before.
    pub fn new(config: EngineConfig, now: Now) -> Engine {
        assert!(
            config.shards >= 1 && config.shards <= limits::SHARDS_MAX,
            "{} shards, 1 to {} are possible",
            config.shards,
            limits::SHARDS_MAX
        );
        let standing = Standings::configured(&config);
        Engine {
            key: hash_key(&config.cluster),
            clock: HybridClock::new(),
            now,
            shards: (0..config.shards).map(|i| Shard::new(ShardId(i))).collect(),
            members: standing.members().chain([config.node]).collect(),
            standing,
            known_epochs: BTreeMap::new(),
            heard_epochs: BTreeMap::new(),
            former_epochs: BTreeMap::new(),
            clocks: BTreeMap::new(),
            peers: BTreeMap::new(),
            said: SaidQueue::default(),
            pulls: Pulls::default(),
            sessions: Sessions::default(),
            levels: Levels::default(),
            parked: Parked::default(),
            polls: Polls::default(),
            persist: Persist::default(),
            keys: Keys::default(),
            kinds: Kinds::default(),
            counters: Counters::default(),
            recovering: RecoverStage::default(),
            outputs: VecDeque::new(),
            next_transfer: 1,
            ring_bytes: 0,
            rollup: 0,
            summaries: vec![0; config.shards as usize],
            stale_summaries: BTreeSet::new(),
            config,
            // Until the directory has been read: no epoch, and no writes.
            started: Start {
                epoch: Epoch(0),
                before: None,
                directory: DirectoryId(0),
            },
            settled: Settled::default(),
            lost_run: Epoch(0),
            expects_others: false,
            keeps_since: None,
        }
    }

    /// Takes in one thing that happened. Never blocks, never fails; what follows is in [`Engine::poll_output`].
    pub fn handle(&mut self, now: Now, input: Input) {
        assert!(
            now.time >= self.now.time,
            "time went back from {:?} to {:?}",
            self.now.time,
            now.time
        );
        self.now = now;
        match input {
            Input::Submit { request, update } => self.on_update(request, update),
            Input::Commit {
                request,
                update,
                view,
            } => self.on_commit(request, update, view),
            Input::Read { request, read } => self.on_read(request, read),
            Input::Connected { peer, epoch, wall_ms } => self.on_connected(peer, epoch, wall_ms),
            Input::Disconnected { peer, epoch } => self.on_disconnected(peer, epoch),
            Input::Received { peer, epoch, frame } => self.on_received(peer, epoch, &frame),
            Input::Writable { peer, epoch, bytes } => self.on_writable(peer, epoch, bytes),
            Input::Persisted { upto } => self.on_persisted(upto),
            Input::PersistFailed { failure, reason } => self.on_persist_failed(failure, &reason),
            Input::Fenced { by, newest } => self.on_fenced(by, newest),
            Input::EpochAdopted { epoch } => self.on_epoch_adopted(epoch),
            Input::MemberSeen { node } => self.on_member_seen(node),
            Input::MemberLeft { node } => self.on_member_left(node),
            Input::Wakeup => {}
        }
        self.run_timers();
        self.settle_polls();
        self.release_parked();
        self.flush_pushes();
    }

    /// The next thing to be done, or `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Engine::handle`] with [`Input::Wakeup`] at the latest.
    pub fn next_wakeup(&self) -> Option<Time> {
        if planted!("timer_dies_on_restart", self.settled.at_start, false) {
            return None;
        }
        [
            self.peers_wakeup(),
            self.said.wakeup(),
            self.pulls.wakeup(self.config.limits.pulls_max),
            self.levels.wakeup(),
            self.parked.wakeup(),
            self.polls.wakeup(),
            self.sessions.wakeup(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn run_timers(&mut self) {
        self.on_levels_due();
        self.on_parked_due();
        self.on_polls_due();
        self.on_pulls_due();
        self.on_sessions_due();
        self.on_said_due();
        self.on_digests_due();
        self.check_settled();
    }

    /// This node under its current epoch: who issues dots.
    fn me(&self) -> ReplicaId {
        ReplicaId::new(self.config.node, self.started.epoch)
    }

    fn shard(&mut self, id: ShardId) -> &mut Shard {
        &mut self.shards[id.0 as usize]
    }

    /// The shard of an entity: a keyed hash of its id or, where its key has a `#`, of what stands before it, so that
    /// related entities of different kinds can be placed together.
    pub fn shard_of(&self, id: &EntityId) -> ShardId {
        self.placement().shard_of(id)
    }

    fn placement(&self) -> Placement {
        Placement {
            key: self.key,
            shards: self.config.shards,
        }
    }

    /// A shard's vector or fingerprint has changed: everything that follows from it is due again.
    fn touch(&mut self, shard: ShardId) {
        self.parked.recheck(shard);
        self.count_rings(shard);
        self.stale_summaries.insert(shard);
        self.said
            .news(shard, self.now.time.after_ms(self.config.limits.said_delay_ms));
    }

    /// What every member has durably, in its current epoch; what nobody is known to have is not in it.
    fn stable(&self, shard: &Shard) -> VersionVector {
        let mut stable = shard.durable.clone();
        for member in self.members.iter().filter(|m| **m != self.config.node) {
            let Some(view) = shard.peers.get(member) else {
                return VersionVector::new();
            };
            stable = stable
                .iter()
                .map(|(ix, seq)| (ix, seq.min(view.durable.get(ix))))
                .collect();
        }
        stable
    }

    fn trim(&mut self, id: ShardId) {
        let stable = self.stable(&self.shards[id.0 as usize]);
        let slots_max = self.config.limits.ring_slots_max;
        self.shard(id).trim(&stable, slots_max);
        self.count_rings(id);
    }

    /// Keeps count of what all rings take, and within their bound: whoever needs what is let go gets a snapshot.
    fn count_rings(&mut self, id: ShardId) {
        self.recount(id);
        let most = self.config.limits.ring_bytes_max;
        while self.ring_bytes > most {
            let largest = self.shards.iter().max_by_key(|s| s.counted_ring_bytes);
            let Some(id) = largest.map(|s| s.id) else { return };
            self.shard(id).halve_largest_ring();
            self.recount(id);
        }
    }

    fn recount(&mut self, id: ShardId) {
        let shard = self.shard(id);
        let bytes = shard.ring_bytes();
        let before = std::mem::replace(&mut shard.counted_ring_bytes, bytes);
        self.ring_bytes = self.ring_bytes + bytes - before;
    }
}
