//! The record of an update of one operation, in one step: what nearly every update is, and what its caller waits for.

use anabranch_crdt::{Put, Replicas};
use bytes::Bytes;

use crate::engine::puts::{wire_path, wire_put};
use crate::engine::shard::Entry;
use crate::engine::translate::wire_replica;
use crate::wire::{KeyRow, ShardId, Single, WireKill};

/// The record of this operation of a shard; none if it takes the usual way, since it does too much.
pub(crate) fn single_record(
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
