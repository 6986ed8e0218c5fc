//! What the log keeps of operations: of updates, and of what came from others.

use anabranch_crdt::{Put, ReplicaIx, Replicas, VersionVector};
use bytes::Bytes;

use crate::engine::Engine;
use crate::engine::puts::{wire_path, wire_put};
use crate::engine::shard::Entry;
use crate::engine::translate::{Head, OutEntry, wire_replica, write_interval};
use crate::wire::{Interval, KeyRow, Record, ShardId, Single, WireKill};

/// What an update does to one shard.
pub(crate) struct Stretch {
    pub shard: ShardId,
    pub me: ReplicaIx,
    /// The sequence before its first.
    pub from: u64,
    pub entries: Vec<Entry>,
}

impl Stretch {
    /// What an update does to this shard: more, or its first there, behind `from`. Ascending by shard.
    pub fn of(all: &mut Vec<Stretch>, shard: ShardId, me: ReplicaIx, from: u64) -> &mut Stretch {
        let at = all.binary_search_by_key(&shard, |stretch| stretch.shard);
        let at = at.unwrap_or_else(|at| {
            let stretch = Stretch {
                shard,
                me,
                from,
                entries: Vec::new(),
            };
            all.insert(at, stretch);
            at
        });
        &mut all[at]
    }

    /// The last sequence of it.
    pub fn to(&self) -> u64 {
        self.from + self.entries.len() as u64
    }
}

impl Engine {
    /// What the log keeps of an update.
    pub(crate) fn applied(&self, stretches: &[Stretch], row: Option<KeyRow>) -> Bytes {
        let replicas = |s: &Stretch| &*self.shards[s.shard.0 as usize].replicas;
        let in_full = |row| {
            let interval = |s: &Stretch| {
                let [from, to] = [s.from, s.to()].map(|seq| VersionVector::from_iter([(s.me, seq)]));
                write_record_interval(replicas(s), s.shard, &from, &to, &s.entries)
            };
            Record::Applied(stretches.iter().map(interval).collect(), row).into_bytes()
        };
        if let [s] = stretches
            && let Some(bytes) = single_record(replicas(s), s.shard, &s.entries, row.as_ref())
        {
            debug_assert_eq!(bytes, in_full(row), "one record has one form");
            return bytes;
        }
        in_full(row)
    }
}

/// Operations as the log keeps them: one interval, however large.
pub(crate) fn write_record_interval(
    replicas: &Replicas,
    shard: ShardId,
    from: &VersionVector,
    to: &VersionVector,
    entries: &[Entry],
) -> Interval {
    assert!(to.covers(from), "a record that ends before it begins");
    let none = VersionVector::new();
    let head = Head {
        shard: shard.0,
        id: 0,
        from,
        to,
        deps: &none,
        urgent: false,
    };
    let out = entries.iter().map(|e| OutEntry {
        dot: e.part.dot,
        entity: &e.entity,
        put: e.part.put.clone(),
        kills: &e.part.kills,
    });
    let mut parts = write_interval(replicas, &head, usize::MAX, out);
    assert!(parts.len() == 1, "an interval without a budget has one part");
    parts.swap_remove(0)
}

/// The record of this operation of a shard; none if it takes the usual way, since it does too much.
fn single_record(
    replicas: &Replicas,
    shard: ShardId,
    entries: &[Entry],
    row: Option<&KeyRow>,
) -> Option<Bytes> {
    let [Entry { entity, part, .. }] = entries else {
        return None;
    };
    let (id, ty) = entity;
    let own = part.dot.ix();
    let put = part.put.as_ref();
    let kill = match &part.kills[..] {
        [] => None,
        [kill] => Some(kill),
        _ => return None,
    };
    let is_same_place = |put: &Put| kill.is_none_or(|kill| kill.path == put.path);
    if !put.is_none_or(is_same_place) {
        return None; // one place may lean on the other
    }
    let other = kill.map(|kill| kill.dot.ix()).filter(|ix| *ix != own);
    let replicas = [own, other.unwrap_or(own)].map(|ix| wire_replica(replicas, ix));
    let kill = kill.map(|kill| WireKill {
        path: put.is_none().then(|| wire_path(&kill.path)),
        replica: u16::from(other.is_some()),
        seq: kill.dot.seq(),
        reset: kill.reset.map(|reset| (reset.plus, reset.minus)),
    });
    let put = put.map(wire_put);
    let single = Single {
        shard: shard.0,
        seq: part.dot.seq(),
        replicas: &replicas[..1 + usize::from(other.is_some())],
        kind: id.kind(),
        key: id.key(),
        ty: ty.id(),
        put: put.as_ref(),
        kills: kill.as_slice(),
        row,
    };
    Some(single.encode())
}
