//! The wire's bytes are pinned, and hostile ones are refused without harm.

use anabranch_crdt::{Dot, Path, Payload, Put, ReplicaIx, encode_puts};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn replica() -> WireReplica {
    WireReplica {
        node: 0x0102,
        epoch: 7,
    }
}

fn entity() -> WireEntity {
    WireEntity {
        kind: "k".into(),
        key: "x".into(),
        ty: 4,
    }
}

fn interval() -> Interval {
    let put = WirePut {
        path: WirePath::Element(Bytes::from_static(b"e")),
        payload: WirePayload::Present,
    };
    let kills = vec![
        WireKill {
            path: None,
            replica: 0,
            seq: 8,
            reset: None,
        },
        WireKill {
            path: Some(WirePath::Root),
            replica: 0,
            seq: 7,
            reset: None,
        },
    ];
    Interval {
        shard: 3,
        replicas: vec![replica()],
        from: vec![(0, 8)],
        to: vec![(0, 9)],
        deps: vec![],
        id: 5,
        part: 0,
        last: true,
        urgent: false,
        entities: vec![entity()],
        runs: vec![Run {
            replica: 0,
            first: 9,
            slots: vec![WireSlot {
                entity: 0,
                put: Some(put),
                kills,
                more: false,
            }],
        }],
    }
}

/// Three elements of a set and twice the same field of a map: places that lean on one another.
fn leaning() -> Interval {
    let child = || WirePath::Child {
        steps: vec![WireStep {
            key: Bytes::from_static(b"count"),
            ty: 1,
        }],
        element: None,
    };
    let element = |name: &'static str| WirePath::Element(name.into());
    let slot = |(entity, path)| WireSlot {
        entity,
        put: Some(WirePut {
            path,
            payload: WirePayload::Present,
        }),
        kills: vec![],
        more: false,
    };
    let places = [
        (0, element("apple")),
        (1, child()),
        (0, element("apricot")),
        (1, child()),
        (0, element("bean")),
    ];
    let other = WireEntity {
        key: "y".into(),
        ty: 8,
        ..entity()
    };
    let mut interval = interval();
    interval.entities.push(other);
    interval.runs[0].slots = places.into_iter().map(slot).collect();
    interval
}

fn part() -> ShardPart {
    let dot = |seq| Dot::new(ReplicaIx(0), seq);
    let put = |element: &'static str| Put {
        path: Path::Element(element.into()),
        payload: Payload::Present,
    };
    let mut puts = Vec::new();
    encode_puts(
        &mut puts,
        1,
        &[(dot(8), put("an apple")), (dot(9), put("an apron"))],
    );
    ShardPart {
        shard: 3,
        session: 6,
        replicas: vec![replica()],
        view: vec![(0, 9)],
        after: Some((entity(), 2)),
        rows: vec![WireRow {
            entity: entity(),
            count: 2,
            puts: puts.into(),
        }],
        last: true,
    }
}

fn frames() -> Vec<(Frame, &'static str)> {
    let said = SaidShard {
        shard: 3,
        applied: vec![(0, 9)],
        durable: Some(vec![(0, 8)]),
        base: None,
        fingerprint: Some(0xff),
        voting: true,
    };
    vec![
        (
            Frame::Rollup(Rollup {
                summary: 300,
                durable: true,
                shards: 1024,
            }),
            "01ac02018008",
        ),
        (
            Frame::Summaries(Summaries {
                shards: vec![(1, 2), (3, 4)],
                reply: true,
            }),
            "02020102030401",
        ),
        (
            Frame::Said(Said {
                replicas: vec![replica()],
                shards: vec![said],
                reply: true,
            }),
            "03018202070103010009010100080001ff010101",
        ),
        (
            Frame::Pull(Pull {
                shard: 3,
                id: PULL_ID_BIT | 1,
                replicas: vec![replica()],
                vv: vec![(0, 9)],
            }),
            "04038180808080808080800101820207010009",
        ),
        (
            Frame::Intervals(vec![interval(), interval()]),
            "05018202070203010008010009000500010001016b00017804010009010001010165000200000800010000070000\
             03010008010009000500010001016b00017804010009010001010165000200000800010000070000",
        ),
        (
            Frame::Intervals(vec![leaning()]),
            "05018202070103010008010009000500010002016b00017804000001790801000905000101056170706c65000000010102\
             0105636f756e74010000000000010302057269636f7400000001010401000000000000000101046265616e000000",
        ),
        (
            Frame::SnapshotPart(part()),
            "0603060182020701000901016b0178040201016b00017804010212050e00008108616e206170706c6553726f6e01",
        ),
        (
            Frame::SnapshotNext(SnapshotNext {
                shard: 3,
                session: 6,
                resume: None,
            }),
            "07030600",
        ),
        (Frame::Busy(Busy { shard: 3, id: 300 }), "0903ac02"),
        (Frame::Members(vec![left()]), "0c01ac020501"),
        (Frame::Clock(300), "0eac02"),
        (
            Frame::Tell(Tell {
                id: 300,
                said: Said {
                    replicas: vec![],
                    shards: vec![],
                    reply: false,
                },
            }),
            "0dac02000000",
        ),
    ]
}

#[test]
fn frames_have_the_bytes_they_always_had() {
    for (frame, golden) in frames() {
        let bytes = frame.encode();
        assert_eq!(hex(&bytes), golden, "{frame:?}");
        assert_eq!(Frame::decode(&bytes), Ok(Some(frame)));
    }
}

fn left() -> Standing {
    Standing {
        node: 300,
        epoch: 5,
        has_left: true,
    }
}

#[test]
fn records_have_the_bytes_they_always_had() {
    let key = KeyRow {
        key: Bytes::from_static(b"k"),
        update: 1,
        at_ms: 2,
        epoch: 3,
        dots: vec![(4, 5, 6)],
    };
    let records = [
        (
            Record::Applied(vec![], Some(key.clone())),
            "01000001016b01020301040506",
        ),
        (Record::Installed { shard: 3, session: 6 }, "030306"),
        (Record::Members(vec![1, 300]), "040201ac02"),
        (Record::Settled, "05"),
        (
            Record::Piece {
                first: true,
                last: false,
                bytes: Bytes::from_static(b"ab"),
            },
            "070100026162",
        ),
        (Record::MemberLeft(300), "06ac02"),
        (Record::Standings(vec![left()]), "0801ac020501"),
        (Record::KeepsSince(300), "09ac02"),
    ];
    for (record, golden) in records {
        assert_eq!(hex(&record.encode()), golden, "{record:?}");
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }
    let blocks = [
        (ImageBlock::Keys(vec![key]), "4201016b01020301040506"),
        (ImageBlock::Members(vec![1]), "430101"),
        (ImageBlock::Settled, "44"),
        (ImageBlock::Left(vec![1, 300]), "450201ac02"),
        (ImageBlock::Standings(vec![left()]), "4601ac020501"),
        (ImageBlock::KeepsSince(300), "47ac02"),
    ];
    for (block, golden) in blocks {
        assert_eq!(hex(&block.encode()), golden, "{block:?}");
        assert_eq!(ImageBlock::decode(&block.encode()), Ok(block));
    }
    assert_eq!(
        ImageBlock::decode(&ImageBlock::Part(part()).encode()),
        Ok(ImageBlock::Part(part()))
    );
    assert_eq!(
        Record::decode(&Record::Staged(part()).encode()),
        Ok(Record::Staged(part()))
    );
}

#[test]
fn a_frame_of_a_later_version_is_skipped_and_a_record_of_one_is_not() {
    assert_eq!(Frame::decode(&[200, 1, 2, 3]), Ok(None));
    assert!(Record::decode(&[200, 1, 2, 3]).is_err());
    assert!(ImageBlock::decode(&[200]).is_err());
    assert!(Record::is_newer(&[200]) && Record::is_newer(&[10]) && ImageBlock::is_newer(&[72]));
    assert!(!Record::is_newer(&[7]) && !Record::is_newer(&[]) && !ImageBlock::is_newer(&[69]));
}

#[test]
fn an_index_past_the_shared_table_is_refused() {
    let mut bytes = Frame::Intervals(vec![interval()]).encode().to_vec();
    // Kind, table of one replica (node, epoch), one interval: its shard, then the index of its first origin.
    assert_eq!(&bytes[..8], [5, 1, 0x82, 2, 7, 1, 3, 1]);
    assert_eq!(bytes[8], 0);
    bytes[8] = 1;
    assert!(Frame::decode(&bytes).is_err());
}

#[test]
fn bytes_left_over_are_an_error() {
    let mut bytes = Frame::Busy(Busy { shard: 1, id: 2 }).encode().to_vec();
    bytes.push(0);
    assert!(Frame::decode(&bytes).is_err());
    assert!(Frame::decode(&[]).is_err());
    assert!(matches!(
        Frame::decode(&vec![1; FRAME_BYTES_MAX + 1]),
        Err(DecodeError::TooLarge(_))
    ));
}

#[test]
fn names_are_bounded() {
    assert!(EntityId::new(&"k".repeat(KIND_BYTES_MAX), &"x".repeat(KEY_BYTES_MAX)).is_ok());
    assert!(EntityId::new(&"k".repeat(KIND_BYTES_MAX + 1), "x").is_err());
    assert!(EntityId::new("k", &"x".repeat(KEY_BYTES_MAX + 1)).is_err());
    assert!(EntityId::new("k", "").is_err());
    assert!(IdempotencyKey::new(&[0; IDEMPOTENCY_KEY_BYTES_MAX]).is_ok());
    assert!(IdempotencyKey::new(&[0; IDEMPOTENCY_KEY_BYTES_MAX + 1]).is_err());
    assert!(IdempotencyKey::new(&[]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Frame::decode(&bytes);
        let _ = Record::decode(&bytes);
        let _ = ImageBlock::decode(&bytes);
    }

    #[test]
    fn a_damaged_frame_is_read_or_refused(which in 0usize..9, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = frames()[which].0.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Frame::decode(&bytes);
        bytes.truncate(at);
        let _ = Frame::decode(&bytes);
    }
}
