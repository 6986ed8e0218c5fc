//! Every dot ever issued: by whom, for what, seeing what.

use std::collections::BTreeMap;

use super::{DotAt, EntityIx, Kind, Place, Stands};

/// A replica (a node in one epoch), as the model numbers them.
pub type OriginIx = u16;

/// One dot.
#[derive(Clone, Debug)]
pub struct DotRecord {
    /// Which entity it changed.
    pub entity: EntityIx,
    /// Where its put stands, and what.
    pub put: Option<(Place, Stands)>,
    /// What it killed.
    pub kills: Vec<(Place, DotAt)>,
    /// Who killed its put.
    pub killers: Vec<DotAt>,
    /// Whether it is the last of its update in this shard.
    pub commit_end: bool,
    /// How its operation counts; only with the operation's first dot.
    pub counts: i64,
}

/// An entity.
#[derive(Clone, Debug)]
pub struct Entity {
    /// Its type.
    pub kind: Kind,
    /// Where it lives.
    pub shard: u32,
}

/// Everything that was ever issued, over all nodes and epochs.
#[derive(Debug, Default)]
pub struct Ledger {
    /// (node id, epoch) of each origin: also the order in which equal clocks are decided.
    origins: Vec<(u128, u64)>,
    by_id: BTreeMap<(u128, u64), OriginIx>,
    entities: Vec<Entity>,
    /// By shard, then origin, then sequence - 1.
    dots: Vec<Vec<Vec<DotRecord>>>,
    is_blind: bool,
}

impl Ledger {
    /// An empty ledger for so many shards.
    pub fn new(shards: u32) -> Ledger {
        Ledger {
            dots: (0..shards).map(|_| Vec::new()).collect(),
            ..Ledger::default()
        }
    }

    /// A ledger that is told of no operations, since they are an application's: whatever is covered was issued.
    pub fn blind(shards: u32) -> Ledger {
        Ledger {
            is_blind: true,
            ..Ledger::new(shards)
        }
    }

    /// Whether it is told of no operations: then vectors are known, and values are not.
    pub fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// The number of a replica, new or known.
    pub fn origin(&mut self, node: u128, epoch: u64) -> OriginIx {
        if let Some(&ix) = self.by_id.get(&(node, epoch)) {
            return ix;
        }
        let ix = self.origins.len() as OriginIx;
        self.origins.push((node, epoch));
        self.by_id.insert((node, epoch), ix);
        ix
    }

    /// The number of a replica, if it is known.
    pub fn known_origin(&self, node: u128, epoch: u64) -> Option<OriginIx> {
        self.by_id.get(&(node, epoch)).copied()
    }

    /// Node id and epoch of an origin.
    pub fn origin_id(&self, ix: OriginIx) -> (u128, u64) {
        self.origins[usize::from(ix)]
    }

    /// How many origins there are.
    pub fn origins(&self) -> usize {
        self.origins.len()
    }

    /// Adds an entity.
    pub fn add_entity(&mut self, kind: Kind, shard: u32) -> EntityIx {
        self.entities.push(Entity { kind, shard });
        (self.entities.len() - 1) as EntityIx
    }

    /// An entity.
    pub fn entity(&self, ix: EntityIx) -> &Entity {
        &self.entities[ix as usize]
    }

    /// The last sequence an origin issued in a shard.
    pub fn head(&self, shard: u32, origin: OriginIx) -> u64 {
        self.dots[shard as usize]
            .get(usize::from(origin))
            .map_or(0, |log| log.len() as u64)
    }

    /// One dot, if it was ever issued.
    pub fn dot(&self, shard: u32, dot: DotAt) -> Option<&DotRecord> {
        self.dots[shard as usize]
            .get(usize::from(dot.origin))?
            .get(usize::try_from(dot.seq).ok()?.checked_sub(1)?)
    }

    /// All dots ever issued in a shard.
    pub fn records(&self, shard: u32) -> impl Iterator<Item = &DotRecord> {
        self.dots[shard as usize].iter().flatten()
    }

    /// The largest clock, up to `follow`, that a hybrid clock ever chose in a shard.
    pub fn largest_stamp(&self, shard: u32, follow: u64) -> u64 {
        let puts = self.dots[shard as usize]
            .iter()
            .flatten()
            .map(|record| record.put);
        let stamps = puts.filter_map(|put| match put {
            Some((
                _,
                Stands::Register {
                    clock, custom: false, ..
                },
            )) if clock <= follow => Some(clock),
            _ => None,
        });
        stamps.max().unwrap_or(0)
    }

    /// All dots issued in all shards.
    pub fn len(&self) -> u64 {
        self.dots.iter().flatten().map(|log| log.len() as u64).sum()
    }

    /// Whether nothing was ever issued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes an operation's dot down; it must be the next of its origin.
    pub fn issue(&mut self, shard: u32, dot: DotAt, record: DotRecord) {
        let logs = &mut self.dots[shard as usize];
        if logs.len() <= usize::from(dot.origin) {
            logs.resize_with(usize::from(dot.origin) + 1, Vec::new);
        }
        for &(_, killed) in &record.kills {
            let Some(put) = logs[usize::from(killed.origin)].get_mut(killed.seq as usize - 1) else {
                unreachable!("{dot:?} kills {killed:?}, which was never issued")
            };
            put.killers.push(dot);
        }
        let log = &mut logs[usize::from(dot.origin)];
        assert!(
            dot.seq == log.len() as u64 + 1,
            "{dot:?} issued after {}",
            log.len()
        );
        log.push(record);
    }

    /// Marks the end of an update in a shard.
    pub fn end_commit(&mut self, shard: u32, dot: DotAt) {
        let log = self.dots[shard as usize].get_mut(usize::from(dot.origin));
        if let Some(record) = log.and_then(|log| log.get_mut(dot.seq as usize - 1)) {
            record.commit_end = true;
        }
    }
}
