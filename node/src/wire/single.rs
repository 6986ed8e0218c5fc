//! The record of one operation, which is what most updates are, written without the structures that it has elsewhere.
//!
//! Contract: the bytes are those of the [`Record::Applied`](super::Record::Applied) that says the same.

use bytes::Bytes;
use serde::Serialize;

use crate::wire::frame::seal;
use crate::wire::front::Step;
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

/// [`Interval`](super::Interval) in its own order.
#[derive(Serialize)]
struct Interval<'a> {
    shard: u32,
    from: &'a [(u16, u64)],
    to: &'a [(u16, u64)],
    deps: &'a [(u16, u64)],
    id: u64,
    part: u32,
    last: bool,
    urgent: bool,
    entities: &'a [Step<'a>],
    runs: &'a [Run<'a>],
}

#[derive(Serialize)]
struct Run<'a> {
    replica: u16,
    first: u64,
    slots: &'a [Slot<'a>],
}

#[derive(Serialize)]
struct Slot<'a> {
    entity: u32,
    put: Option<&'a WirePut>,
    kills: &'a [WireKill],
    more: bool,
}

impl Single<'_> {
    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        let (from, to) = ([(0, self.seq - 1)], [(0, self.seq)]);
        let interval = Interval {
            shard: self.shard,
            from: if self.seq == 1 { &[] } else { &from },
            to: &to,
            deps: &[],
            id: 0,
            part: 0,
            last: true,
            urgent: false,
            entities: &[Step::first(self.kind, self.key, self.ty)],
            runs: &[Run {
                replica: 0,
                first: self.seq,
                slots: &[Slot {
                    entity: 0,
                    put: self.put,
                    kills: self.kills,
                    more: false,
                }],
            }],
        };
        let intervals: &[Interval<'_>] = &[interval];
        seal(kind::APPLIED, &((self.replicas, intervals), self.row))
    }
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
