//! The start: a directory's snapshot and log become the state they were written from, rings included as far as the log
//! reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch_crdt::{Epoch, planted};

use crate::engine::Engine;
use crate::engine::frozen::Frozen;
use crate::engine::idempotency::{FrozenKeys, read_row};
use crate::engine::io::{Now, Start};
use crate::engine::limits::SHARDS_MAX;
use crate::engine::load::Unloaded;
use crate::engine::peers::may_fence;
use crate::engine::translate::read_intervals;
use crate::wire::{ImageBlock, Interval, KeyRow, Record, ShardId, ShardPart, Standing};

/// Idempotency keys in one block of a snapshot.
const KEYS_PER_BLOCK: usize = 1_024;

/// Bytes of keys in one block of a snapshot; a single row may be more.
const KEYS_BLOCK_BYTES: usize = 1 << 20;

// Far below what a store takes as one block. A row names each shard at most once.
const _: () = assert!(KEYS_BLOCK_BYTES + SHARDS_MAX as usize * 23 + 1_024 < 64 << 20);

/// Bytes of a directory that cannot be what was written: damaged, or of a newer version. The node must not start
/// with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct RecoverError {
    why: String,
    newer: bool,
}

impl RecoverError {
    /// Whether a newer version wrote them.
    pub fn is_newer(&self) -> bool {
        self.newer
    }
}

pub(super) fn refused(why: impl ToString) -> RecoverError {
    RecoverError {
        why: why.to_string(),
        newer: false,
    }
}

/// What was read and has no effect yet.
#[derive(Debug, Default)]
pub(crate) struct RecoverStage {
    /// Parts of snapshots that are not installed, by shard and session.
    parts: BTreeMap<(u32, u64), Vec<ShardPart>>,
    /// The shards of the directory's snapshot that were whole.
    loaded: BTreeSet<ShardId>,
    /// Pieces of a record whose last has not come.
    pieces: Vec<u8>,
}

/// The epoch of a start: wall-clock milliseconds and 16 random bits, above the directory's last.
///
/// ```
/// use anabranch::{Epoch, engine::epoch_for_start};
/// assert_eq!(epoch_for_start(None, 5, 9), Epoch(5 << 16 | 9));
/// assert_eq!(epoch_for_start(Some(Epoch(7 << 16 | 3)), 5, 9), Epoch(8 << 16 | 9));
/// ```
pub fn epoch_for_start(last: Option<Epoch>, wall_ms: u64, random: u16) -> Epoch {
    let epoch_of = |ms: u64| Epoch((ms << 16) | u64::from(random));
    let fresh = epoch_of(wall_ms);
    // Above the last one by a whole millisecond, so that the random bits stay: two lives of one restored image
    // must not choose the same.
    let above = last
        .filter(|last| *last >= fresh)
        .map_or(fresh, |last| epoch_of((last.0 >> 16) + 1));
    let above = planted!(
        "backup_keeps_epoch",
        last.map_or(fresh, |last| Epoch(last.0 + 1)),
        above
    );
    planted!("restart_keeps_epoch", last.unwrap_or(above), above)
}

impl Engine {
    /// Takes in a block of the directory's snapshot, in the order they were written, before any record.
    pub fn recover_image(&mut self, block: &[u8]) -> Result<(), RecoverError> {
        if let Some(unloaded) = self.read_image(block)? {
            self.adopt(unloaded.load()?);
        }
        Ok(())
    }

    /// The same, but for a shard that is whole now: that is for the caller to load, wherever, and to give back by
    /// [`Engine::adopt`].
    pub fn read_image(&mut self, block: &[u8]) -> Result<Option<Unloaded>, RecoverError> {
        let decoded = ImageBlock::decode(block).map_err(|e| RecoverError {
            why: e.to_string(),
            newer: ImageBlock::is_newer(block),
        })?;
        match decoded {
            ImageBlock::Part(part) => {
                let (shard, session, last) = (part.shard, part.session, part.last);
                self.stage(part);
                if last {
                    return self.whole(shard, session);
                }
            }
            ImageBlock::Keys(rows) => rows.into_iter().try_for_each(|row| self.recover_key(row))?,
            ImageBlock::Members(members) => self.recover_members(members, false),
            ImageBlock::Left(nodes) => self.recover_members(nodes, true),
            ImageBlock::Standings(said) => self.recover_standings(&said),
            ImageBlock::Settled => self.settled.now = true,
            ImageBlock::KeepsSince(epoch) => self.keeps_since = Some(Epoch(epoch)),
        }
        Ok(None)
    }

    fn whole(&mut self, shard: u32, session: u64) -> Result<Option<Unloaded>, RecoverError> {
        let id = self.shard_id(shard).map_err(refused)?;
        let parts = self.staged(id, session)?;
        if !self.recovering.loaded.insert(id) {
            return Err(refused(format!("shard {id} is in a snapshot twice")));
        }
        Ok(Some(Unloaded {
            id,
            parts,
            placement: self.placement(),
            now: self.now,
        }))
    }

    /// Takes in a record of the log, in log order.
    pub fn recover_record(&mut self, record: &[u8]) -> Result<(), RecoverError> {
        self.recover_whole(decode(record)?)
    }

    fn recover_whole(&mut self, record: Record) -> Result<(), RecoverError> {
        match record {
            Record::Applied(intervals, key) => {
                for interval in intervals {
                    self.recover_interval(interval)?;
                }
                key.map_or(Ok(()), |row| self.recover_key(row))
            }
            Record::Staged(part) => {
                self.stage(part);
                Ok(())
            }
            Record::Installed { shard, session } => self.install_staged(shard, session),
            Record::Members(members) => {
                self.recover_members(members, false);
                Ok(())
            }
            Record::MemberLeft(node) => {
                self.recover_members(vec![node], true);
                Ok(())
            }
            Record::Standings(said) => {
                self.recover_standings(&said);
                Ok(())
            }
            Record::Settled => {
                self.settled.now = true;
                Ok(())
            }
            Record::KeepsSince(epoch) => {
                self.keeps_since = Some(Epoch(epoch));
                Ok(())
            }
            Record::Piece { first, last, bytes } => self.recover_piece(first, last, &bytes),
        }
    }

    /// A record whose last piece was lost with a crash never was; the next one begins with a first piece.
    fn recover_piece(&mut self, first: bool, last: bool, bytes: &[u8]) -> Result<(), RecoverError> {
        let pieces = &mut self.recovering.pieces;
        if first {
            pieces.clear();
        } else if pieces.is_empty() {
            return Err(refused("a piece of a record without its first"));
        }
        pieces.extend_from_slice(bytes);
        if !last {
            return Ok(());
        }
        let whole = std::mem::take(pieces);
        match decode(&whole)? {
            Record::Piece { .. } => Err(refused("a piece of a piece of a record")),
            record => self.recover_whole(record),
        }
    }

    /// There are other members, though none may be known here yet (seeds are configured): a new directory then waits to
    /// meet one of them before it takes writes. Call before [`Engine::start`].
    pub fn expect_others(&mut self) {
        self.expects_others = true;
    }

    /// Recovery is over: what was read is durable, and this start has its epoch. Drain the outputs as after a `handle`.
    pub fn start(&mut self, now: Now, start: Start) {
        self.now = now;
        self.started = start;
        self.settled.at_start = self.settled.now;
        let replicas = self.shards.iter().flat_map(|shard| shard.replicas.iter());
        for (_, replica) in replicas.filter(|(_, replica)| may_fence(replica.epoch)) {
            let known = self.known_epochs.entry(replica.node).or_insert(replica.epoch);
            *known = replica.epoch.max(*known);
        }
        self.known_epochs.insert(self.config.node, start.epoch);
        self.recovering = RecoverStage::default();
        for i in 0..self.shards.len() {
            let shard = &mut self.shards[i];
            shard.durable = shard.vv.clone();
            let id = shard.id;
            self.count_rings(id);
            if !self.shards[i].vv.is_empty() {
                self.stale_summaries.insert(id);
            }
        }
        // A node that is alone is as caught up as it can be, also when the first thing it hears is another node.
        self.check_settled();
        self.keep_for_heirs();
    }

    fn stage(&mut self, part: ShardPart) {
        let parts = self
            .recovering
            .parts
            .entry((part.shard, part.session))
            .or_default();
        if part.after.is_none() {
            // A transfer that broke and was begun again leaves its first parts in the log.
            parts.clear();
        }
        parts.push(part);
    }

    fn install_staged(&mut self, shard: u32, session: u64) -> Result<(), RecoverError> {
        let id = self.shard_id(shard).map_err(refused)?;
        let parts = self.staged(id, session)?;
        self.install(id, &parts).map(|_| ()).map_err(refused)
    }

    fn staged(&mut self, id: ShardId, session: u64) -> Result<Vec<ShardPart>, RecoverError> {
        let parts = self.recovering.parts.remove(&(id.0, session));
        parts.ok_or_else(|| {
            refused(format!(
                "shard {id}: the parts of a snapshot that was taken are missing"
            ))
        })
    }

    fn recover_interval(&mut self, interval: Interval) -> Result<(), RecoverError> {
        let id = self.shard_id(interval.shard).map_err(refused)?;
        let mut incoming =
            read_intervals(Arc::make_mut(&mut self.shard(id).replicas), vec![interval]).map_err(refused)?;
        if !self.shards[id.0 as usize].vv.covers(&incoming.from) {
            return Err(refused(format!(
                "shard {id}: a record begins behind what is there; records are missing"
            )));
        }
        let vv = &self.shards[id.0 as usize].vv;
        incoming.entries.retain(|e| !vv.contains(e.part.dot));
        self.observe_clocks(incoming.entries.iter().filter_map(|e| e.part.put.as_ref()));
        let shard = &mut self.shards[id.0 as usize];
        shard.absorb(&self.key, &mut self.kinds, &incoming.entries);
        shard.vv.join(&incoming.to);
        let slots_max = self.config.limits.ring_slots_max;
        shard.trim(&anabranch_crdt::VersionVector::new(), slots_max);
        Ok(())
    }

    fn recover_key(&mut self, row: KeyRow) -> Result<(), RecoverError> {
        let (key, known) = read_row(row).map_err(refused)?;
        if let Some((shard, _, _)) = known.dots.iter().find(|(s, _, _)| s.0 >= self.config.shards) {
            return Err(refused(format!("an idempotency key names shard {shard}")));
        }
        self.keys.insert(key, known);
        Ok(())
    }

    /// Everything recorded so far, as blocks for [`crate::store::Store::snapshot`]: recovering them gives the state
    /// that recovering all records up to now would give, without the rings.
    pub fn image(&self) -> impl Iterator<Item = Vec<u8>> + use<> {
        self.freeze().blocks()
    }

    /// The same, held still to be encoded later: all that grows with the state is shared, not copied.
    pub fn freeze(&self) -> FrozenImage {
        let shards = self.shards.iter().filter(|s| !s.vv.is_empty());
        FrozenImage {
            standings: self.standing.all().collect(),
            settled: self.settled.now,
            keeps_since: self.keeps_since,
            keys: self.keys.freeze(),
            shards: shards.map(|s| Frozen::of(s, 0)).collect(),
            part_bytes: self.config.limits.part_bytes,
        }
    }
}

/// An engine's recorded state at one moment.
#[derive(Debug)]
pub struct FrozenImage {
    standings: Vec<Standing>,
    settled: bool,
    keeps_since: Option<Epoch>,
    keys: FrozenKeys,
    shards: Vec<Frozen>,
    part_bytes: usize,
}

impl FrozenImage {
    /// Its blocks, each encoded when it is asked for.
    pub fn blocks(self) -> impl Iterator<Item = Vec<u8>> {
        let standings = ImageBlock::Standings(self.standings);
        let settled = self.settled.then_some(ImageBlock::Settled);
        let kept = self.keeps_since.map(|first| ImageBlock::KeepsSince(first.0));
        let first = [Some(standings), settled, kept].into_iter().flatten();
        let part_bytes = self.part_bytes;
        let shards = self.shards.into_iter();
        first
            .map(|block| block.encode().to_vec())
            .chain(key_blocks(self.keys.rows()))
            .chain(shards.flat_map(move |frozen| shard_image(frozen, part_bytes)))
    }
}

/// Blocks of keys, bounded in number and in bytes: a key used in thousands of shards is a row of hundreds of kilobytes.
fn key_blocks(rows: impl Iterator<Item = KeyRow>) -> impl Iterator<Item = Vec<u8>> {
    let mut rows = rows.peekable();
    std::iter::from_fn(move || {
        let (mut block, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next_if(|row| {
            let fits = block.len() < KEYS_PER_BLOCK && bytes + row_bytes_max(row) <= KEYS_BLOCK_BYTES;
            block.is_empty() || fits
        }) {
            bytes += row_bytes_max(&row);
            block.push(row);
        }
        (!block.is_empty()).then(|| ImageBlock::Keys(block).encode().to_vec())
    })
}

/// More than a row takes when it is encoded: ten bytes a number, three for a shard's.
fn row_bytes_max(row: &KeyRow) -> usize {
    row.key.len() + 40 + row.dots.len() * 23
}

fn decode(record: &[u8]) -> Result<Record, RecoverError> {
    Record::decode(record).map_err(|e| RecoverError {
        why: e.to_string(),
        newer: Record::is_newer(record),
    })
}

fn shard_image(mut frozen: Frozen, budget: usize) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let part = frozen.next_part(budget)?;
        Some(ImageBlock::Part(part).encode().to_vec())
    })
}
