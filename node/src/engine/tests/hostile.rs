//! Hostile bytes from a peer with a good certificate: refused or harmless, never a panic, never half a change.

use bytes::Bytes;
use proptest::prelude::*;

use anabranch_crdt::NodeId;

use super::world::{check, check_shards};
use crate::engine::Limits;
use crate::engine::limits::EPOCH_MAX;
use crate::wire::{
    Frame, Interval, PULL_ID_BIT, Pull, Said, SaidShard, ShardId, WirePath, WirePayload, WirePut,
    WireReplica, WireStep,
};

const SCRIPT: &str = "link a b\n run\n a s/x add e f\n b s/x add e g\n run\n a s/x remove e\n a p/c incr 3\n b p/c incr -1\n a r/r set v @3\n run
    cut a b\n a s/x clear\n b s/y add h\n b p/c incr 5\n a c/m incr 2 in k\n b c/m incr 3 in j\n link a b\n run\n a c/m remove j\n b c/m incr 4 in j\n wait 6000";

fn interval_from_a() -> Interval {
    let world = check("ab", SCRIPT);
    last_interval(world.sent.iter().filter(|(from, _)| *from == 'a'))
}

/// The last of the intervals among these frames.
fn last_interval<'a>(sent: impl IntoIterator<Item = &'a (char, Bytes)>) -> Interval {
    let frames = sent.into_iter().map(|(_, f)| Frame::decode(f).unwrap());
    let intervals = frames.filter_map(|f| match f {
        Some(Frame::Intervals(mut i)) => i.pop(),
        _ => None,
    });
    intervals.last().unwrap()
}

/// Whether `b` refuses this interval from `a` and stays as it is.
fn is_refused(change: impl FnOnce(&mut Interval)) -> bool {
    let mut world = check("ab", "link a b\n run\n a s/x add e f\n run");
    let before = world.engine('b').canonical_bytes(crate::wire::ShardId(0));
    let more = check("ab", "link a b\n run\n a s/x add e f\n run\n a s/x add e");
    let mut interval = last_interval(&more.sent);
    change(&mut interval);
    world.inject('a', 'b', Frame::Intervals(vec![interval]).encode());
    let unchanged = world.engine('b').canonical_bytes(crate::wire::ShardId(0)) == before;
    world.refused == 1 && unchanged
}

#[test]
fn what_only_a_broken_peer_sends_is_refused() {
    assert!(!is_refused(|_| {}), "untouched it is taken");
    assert!(is_refused(|i| i.shard = 99), "a shard that does not exist");
    assert!(
        is_refused(|i| i.runs.clear()),
        "a vector that claims what is not carried"
    );
    assert!(is_refused(|i| i.to[0].1 += 1), "an operation missing at the end");
    let kills_itself = |i: &mut Interval| {
        let (replica, seq) = (i.runs[0].replica, i.runs[0].first);
        let kill = &mut i.runs[0].slots[0].kills[0];
        (kill.replica, kill.seq) = (replica, seq);
    };
    assert!(is_refused(kills_itself), "an operation that kills what it puts");
    let resets_a_set = |i: &mut Interval| i.runs[0].slots[0].kills[0].reset = Some((1, 0));
    assert!(is_refused(resets_a_set), "a reset where nothing counts");
    assert!(
        is_refused(|i| i.runs[0].slots[0].entity = 7),
        "an entity that is not in the table"
    );
    assert!(is_refused(|i| i.entities[0].ty = 99), "an unknown type");
    assert!(is_refused(|i| i.entities[0].ty = 1), "a counter with elements");
    assert!(
        is_refused(|i| i.entities[0].key.clear()),
        "an entity without a key"
    );
    assert!(
        is_refused(|i| i.runs[0].slots[0].more = true),
        "an operation that is not finished"
    );
    assert!(
        is_refused(|i| i.runs[0].slots[0].kills[0].seq = 1 << 50),
        "a sequence out of range"
    );
    assert!(
        is_refused(|i| i.runs[0].slots[0].kills[0].seq = 1_000),
        "a kill of what is not covered"
    );
}

/// The same for an increment in a map that was taken up to one operation before.
fn is_refused_in_a_map(change: impl FnOnce(&mut WirePut)) -> bool {
    let script = "link a b\n run\n a c/m incr 5 in k\n run";
    let mut world = check("ab", script);
    let before = world.engine('b').canonical_bytes(crate::wire::ShardId(0));
    let more = check("ab", &format!("{script}\n a c/m incr 1 in k"));
    let mut interval = last_interval(&more.sent);
    change(interval.runs[0].slots[0].put.as_mut().unwrap());
    world.inject('a', 'b', Frame::Intervals(vec![interval]).encode());
    let unchanged = world.engine('b').canonical_bytes(crate::wire::ShardId(0)) == before;
    world.refused == 1 && unchanged
}

#[test]
fn what_no_map_holds_is_refused() {
    fn steps(put: &mut WirePut) -> &mut Vec<WireStep> {
        match &mut put.path {
            WirePath::Child { steps, .. } => steps,
            other => panic!("{other:?} is not in a map"),
        }
    }
    assert!(!is_refused_in_a_map(|_| {}), "untouched it is taken");
    assert!(is_refused_in_a_map(|put| steps(put).clear()), "no way");
    assert!(
        is_refused_in_a_map(|put| steps(put)[0].ty = 99),
        "a child of no type"
    );
    assert!(
        is_refused_in_a_map(|put| steps(put)[0].ty = 4),
        "a set in a map of counters"
    );
    let deep = |put: &mut WirePut| *steps(put) = vec![steps(put)[0].clone(); 9];
    assert!(is_refused_in_a_map(deep), "a way too deep");
    assert!(
        is_refused_in_a_map(|put| put.path = WirePath::Root),
        "totals at the root of a map"
    );
    let base = |base, reset| {
        move |put: &mut WirePut| {
            let (plus, minus) = (6, 0);
            put.payload = WirePayload::Count {
                plus,
                minus,
                base,
                reset,
            };
        }
    };
    assert!(!is_refused_in_a_map(base(1, None)), "as it is");
    assert!(is_refused_in_a_map(base(0, None)), "opened before the beginning");
    assert!(is_refused_in_a_map(base(3, None)), "opened by a later operation");
    assert!(
        is_refused_in_a_map(base(u64::MAX, None)),
        "opened at no operation"
    );
    assert!(
        !is_refused_in_a_map(base(1, Some((7, 0)))),
        "more was reset than there is: nothing is left of it, and all agree"
    );
}

#[test]
fn an_operation_of_our_own_that_we_never_made_is_refused() {
    // `b` is node 0x62 and runs under epoch 2.
    assert!(is_refused(|i| {
        i.replicas = vec![WireReplica { node: 0x62, epoch: 2 }];
        (i.from, i.to, i.deps) = (vec![], vec![(0, 1)], vec![]);
        i.runs
            .iter_mut()
            .for_each(|run| (run.replica, run.first) = (0, 1));
        i.runs[0].slots[0].kills.clear();
    }));
}

/// Whatever becomes of the interval: what it says of us would count as a copy of what we write next.
#[test]
fn a_vector_that_covers_what_we_never_made_is_refused_also_where_nothing_can_be_applied() {
    let claims = |i: &mut Interval| {
        i.replicas.push(WireReplica { node: 0x62, epoch: 2 });
        (i.replicas.len() - 1) as u16
    };
    assert!(is_refused(|i| {
        let me = claims(i);
        i.deps.push((me, 9));
    }));
    // A gap: what it begins after is not here.
    assert!(is_refused(|i| {
        let me = claims(i);
        (i.from, i.to) = (vec![(0, 100), (me, 9)], vec![(0, 100), (me, 9)]);
        i.runs.clear();
    }));
}

#[test]
fn a_refused_statement_is_not_believed_by_halves() {
    let mut world = check_shards("ab", 2, Limits::default(), "link a b\n run");
    let statement = |shard, durable| SaidShard {
        shard,
        applied: vec![(0, 7)],
        durable: Some(vec![(0, durable)]),
        base: None,
        fingerprint: None,
        voting: true,
    };
    let said = Said {
        replicas: vec![WireReplica { node: 0x61, epoch: 1 }],
        shards: vec![statement(0, 7), statement(1, 8)],
        reply: false,
    };
    world.inject('a', 'b', Frame::Said(said).encode());
    assert_eq!(world.refused, 1);
    let heard = world.engine('b').peer_said(NodeId(0x61), ShardId(0));
    assert!(
        heard.as_ref().is_none_or(|said| said.applied.is_empty()),
        "{heard:?}"
    );
}

/// It would be shut out by everybody who has the operation, whose epoch it could never pass.
#[test]
fn an_operation_of_an_epoch_that_is_nobodys_shuts_nobody_out() {
    let of_c = |epoch| {
        move |i: &mut Interval| {
            i.replicas = vec![WireReplica { node: 0x63, epoch }];
            (i.from, i.to, i.deps) = (vec![], vec![(0, 1)], vec![]);
            i.runs
                .iter_mut()
                .for_each(|run| (run.replica, run.first) = (0, 1));
            i.runs[0].slots[0].kills.clear();
        }
    };
    assert!(is_refused(of_c(2 * EPOCH_MAX)));
    let mut world = check("abc", "link a b\n link b c\n link a c\n run\n a s/x add e\n run");
    let mut interval = last_interval(&world.sent);
    of_c(EPOCH_MAX)(&mut interval);
    world.inject('a', 'b', Frame::Intervals(vec![interval]).encode());
    assert_eq!((world.refused, &world.fenced[..]), (0, &[][..]));
    world.script("run\n cut b c\n link b c\n run\n c s/x add f\n run");
    world.script("crash b\n start b\n link b c\n run\n c s/x add g\n run");
    assert_eq!(world.fenced, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_frames_change_nothing_by_halves(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut world = check("ab", SCRIPT);
        let (from, frame) = world.sent[which.index(world.sent.len())].clone();
        let mut bytes = frame.to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let to = if from == 'a' { 'b' } else { 'a' };
        world.inject(from, to, Bytes::from(bytes));
    }

    #[test]
    fn numbers_out_of_place_change_nothing_by_halves(from in any::<u64>(), to in any::<u64>(), first in any::<u64>(), seq in any::<u64>(), part in 0u32..3) {
        let mut interval = interval_from_a();
        let mut world = check("ab", SCRIPT);
        for v in &mut interval.from { v.1 = from }
        for v in &mut interval.to { v.1 = to }
        interval.part = part;
        for run in &mut interval.runs {
            run.first = first;
            for kill in run.slots.iter_mut().flat_map(|s| &mut s.kills) { kill.seq = seq }
        }
        world.inject('a', 'b', Frame::Intervals(vec![interval]).encode());
    }
}

#[test]
fn invented_replicas_in_a_pull_are_not_remembered() {
    let mut world = check("ab", "link a b\n run\n a s/x add e\n run");
    for epoch in 0..5_u64 {
        let replicas = (0..16_384)
            .map(|node| WireReplica {
                node,
                epoch: 1_000 + epoch,
            })
            .collect();
        let pull = Pull {
            shard: 0,
            id: PULL_ID_BIT | epoch,
            replicas,
            vv: vec![],
        };
        world.inject('b', 'a', Frame::Pull(pull).encode());
    }
    world.script("run\n a s/x add f\n run\n b s/x = [e f]");
}

#[test]
fn a_fence_beyond_all_time_is_refused() {
    let mut world = check("ab", "link a b\n run\n a s/x add e\n run");
    world.fence('b', 'a', anabranch_crdt::Epoch(u64::MAX));
    assert_eq!(world.engine('a').counters().refused_frames, 1);
    world.script("a s/x add f\n run\n b s/x = [e f]");
}

#[test]
fn a_forged_reset_does_not_make_a_state_that_nobody_can_read() {
    // More is reset than was ever reached, and at another operation: nothing is left of the counter, and everybody can
    // still write it down and read it again.
    for (seq, reset) in [(1, (1_000, 0)), (2, (10, 7))] {
        let start = "link a b\n run\n a c/m incr 5 in k\n run\n a c/m incr 5 in k\n run";
        let mut world = check("ab", start);
        let more = check("ab", &format!("{start}\n a c/m remove k"));
        let mut interval = last_interval(&more.sent);
        let kills = &mut interval.runs[0].slots[0].kills;
        let kill = kills.iter_mut().find(|kill| kill.reset.is_some()).unwrap();
        (kill.seq, kill.reset) = (seq, Some(reset));
        world.inject('a', 'b', Frame::Intervals(vec![interval]).encode());
        assert_eq!(world.refused, 0);
        world.assert_image_reads('b');
    }
}
