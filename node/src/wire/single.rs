//! The record of one operation, which is what most updates are, written without the structures that it has elsewhere.
//!
//! Contract: the bytes are those of the [`Record::Applied`](super::Record::Applied) that says the same.

use bytes::Bytes;

use crate::wire::interval::{WireKill, WirePut, WireReplica};
use crate::wire::record::{KeyRow, kind};

/// One operation of one replica, on one entity.
#[derive(Debug)]
pub(crate) struct Single<'a> {
    pub shard: u32,
    pub seq: u64,
    /// Its replica, index 0, and that of what it killed if it is another, index 1.
    pub replicas: &'a [WireReplica],
    pub kind: &'a str,
    pub key: &'a str,
    pub ty: u8,
    pub put: Option<&'a WirePut>,
    /// At most one of the put and the kills says a place: nothing can lean on another.
    pub kills: &'a [WireKill],
    pub row: Option<&'a KeyRow>,
}

impl Single<'_> {
    /// The record's bytes, as postcard writes what stands in them, in order.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        out.push(kind::APPLIED);
        number(&mut out, self.replicas.len() as u128);
        for replica in self.replicas {
            number(&mut out, replica.node);
            number(&mut out, replica.epoch.into());
        }
        // One interval, of this shard, from before the operation to it.
        out.push(1);
        number(&mut out, self.shard.into());
        match self.seq - 1 {
            0 => out.push(0),
            before => maximum(&mut out, before),
        }
        maximum(&mut out, self.seq);
        // It depends on nothing, is no transfer's (0) only part (0 and the last), and not urgent.
        out.extend_from_slice(&[0, 0, 0, 1, 0]);
        // One entity, which has nothing in common with one before.
        out.push(1);
        name(&mut out, self.kind);
        out.push(0);
        name(&mut out, self.key);
        out.push(self.ty);
        // One run, of the first replica, of one slot, of the first entity.
        out.extend_from_slice(&[1, 0]);
        number(&mut out, self.seq.into());
        out.extend_from_slice(&[1, 0]);
        // What it did, that nothing more belongs to it, and the row.
        match postcard::to_extend(&(self.put, self.kills, false, self.row), out) {
            Ok(out) => out.into(),
            Err(error) => unreachable!("a vector takes whatever is written into it: {error}"),
        }
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn number(out: &mut Vec<u8>, mut n: u128) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A version vector of the first replica alone.
fn maximum(out: &mut Vec<u8>, seq: u64) {
    out.extend_from_slice(&[1, 0]);
    number(out, seq.into());
}

fn name(out: &mut Vec<u8>, name: &str) {
    number(out, name.len() as u128);
    out.extend_from_slice(name.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{self, Record, WireEntity, WirePath, WirePayload, WireSlot};

    /// Checks the bytes of an operation against those of the same in its usual form.
    fn check(seq: u64, put: Option<WirePut>, kills: &[WireKill], row: Option<KeyRow>) {
        let replica = |node| WireReplica { node, epoch: 7 << 16 };
        let all = [replica(1 << 90), replica(3)];
        let replicas = &all[..1 + usize::from(kills.iter().any(|kill| kill.replica == 1))];
        let entity = WireEntity {
            kind: "cart".into(),
            key: "älice".into(),
            ty: 4,
        };
        let single = Single {
            shard: 300,
            seq,
            replicas,
            kind: &entity.kind,
            key: &entity.key,
            ty: entity.ty,
            put: put.as_ref(),
            kills,
            row: row.as_ref(),
        };
        let bytes = single.encode();
        let slot = WireSlot {
            entity: 0,
            put: put.clone(),
            kills: kills.to_vec(),
            more: false,
        };
        let interval = wire::Interval {
            shard: 300,
            replicas: replicas.to_vec(),
            from: if seq == 1 { vec![] } else { vec![(0, seq - 1)] },
            to: vec![(0, seq)],
            last: true,
            entities: vec![entity.clone()],
            runs: vec![wire::Run {
                replica: 0,
                first: seq,
                slots: vec![slot],
            }],
            ..wire::Interval::default()
        };
        assert_eq!(bytes, Record::Applied(vec![interval], row).encode());
    }

    #[test]
    fn its_bytes_are_those_of_the_usual_form() {
        let put = |path| {
            let payload = WirePayload::Present;
            Some(WirePut { path, payload })
        };
        let kill = |path, replica, reset| WireKill {
            path,
            replica,
            seq: 400,
            reset,
        };
        check(1, put(WirePath::Root), &[], None);
        check(
            500,
            put(WirePath::Element("fig".into())),
            &[kill(None, 0, None)],
            None,
        );
        check(500, put(WirePath::Root), &[kill(None, 1, Some((3, 4)))], None);
        check(
            500,
            None,
            &[kill(Some(WirePath::Element("fig".into())), 1, None)],
            None,
        );
        let row = KeyRow {
            key: "k".into(),
            update: 5,
            at_ms: 6,
            epoch: 7,
            dots: vec![(300, 2, 2)],
        };
        check(2, put(WirePath::Root), &[], Some(row));
    }
}
