//! Members that leave, and what of that is on disk; the image that is held still.

use std::collections::BTreeMap;

use anabranch_crdt::{Epoch, Mutation, NodeId, Type};
use bytes::Bytes;

use crate::engine::limits::{EPOCH_MAX, MEMBERS_MAX};
use crate::engine::{
    Copies, Engine, EngineConfig, Input, Level, Limits, Now, Op, Output, RequestId, Stage, Start, Time,
    Update,
};
use crate::wire::{DirectoryId, EntityId, Frame, IdempotencyKey, ImageBlock, KeyRow, Lane, Record, Standing};

const NOW: Now = Now {
    time: Time(0),
    wall_ms: 1_000,
};

fn new(members: &[u128], shards: u32) -> Engine {
    let config = EngineConfig {
        cluster: "test".into(),
        node: NodeId(1),
        shards,
        members: members.iter().map(|m| NodeId(*m)).collect(),
        kinds: BTreeMap::new(),
        limits: Limits::default(),
    };
    Engine::new(config, NOW)
}

fn start(mut engine: Engine) -> Engine {
    let directory = DirectoryId(1);
    engine.start(
        NOW,
        Start {
            epoch: Epoch(9),
            before: None,
            directory,
        },
    );
    drain(&mut engine);
    engine
}

/// Gives an input; returns the records it led to and the answers, and says that they are durable.
fn give(engine: &mut Engine, input: Input) -> (Vec<Record>, Vec<bool>) {
    engine.handle(NOW, input);
    drain(engine)
}

fn drain(engine: &mut Engine) -> (Vec<Record>, Vec<bool>) {
    let (mut records, mut answers, mut last) = (Vec::new(), Vec::new(), None);
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Persist { id, payload } => {
                last = Some(id);
                records.push(Record::decode(&payload).unwrap());
            }
            Output::Done { result, .. } => answers.push(result.is_ok()),
            _ => {}
        }
    }
    if let Some(upto) = last {
        answers.extend(give(engine, Input::Persisted { upto }).1);
    }
    (records, answers)
}

fn members(engine: &Engine) -> Vec<u128> {
    engine.status().members.iter().map(|m| m.0).collect()
}

fn connected(peer: u128) -> Input {
    Input::Connected {
        peer: NodeId(peer),
        epoch: Epoch(5),
        wall_ms: 1_000,
    }
}

/// A word of a node: its epoch, and `-` where it left.
fn word(said: &Standing) -> String {
    let Standing {
        node,
        epoch,
        has_left,
    } = said;
    format!("{node}@{epoch}{}", if *has_left { "-" } else { "" })
}

fn standing(text: &str) -> Standing {
    let (node, epoch) = text.split_once('@').unwrap();
    Standing {
        node: node.parse().unwrap(),
        epoch: epoch.trim_end_matches('-').parse().unwrap(),
        has_left: epoch.ends_with('-'),
    }
}

fn recorded(engine: &mut Engine, input: Input) -> Vec<String> {
    let words = give(engine, input).0.into_iter().flat_map(|record| match record {
        Record::Standings(said) => said.iter().map(word).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    });
    words.collect()
}

/// What was sent of members, and to whom.
fn told(engine: &mut Engine, input: Input) -> Vec<String> {
    engine.handle(NOW, input);
    let outputs = std::iter::from_fn(|| engine.poll_output());
    let sent = outputs.filter_map(|output| match output {
        Output::Send {
            peer, lane, frame, ..
        } => Some((peer, lane, Frame::decode(&frame).unwrap()?)),
        _ => None,
    });
    let members = sent.filter_map(|(peer, lane, frame)| match frame {
        Frame::Members(said) => {
            assert_eq!(lane, Lane::Control, "before what a receiver catches up by");
            let words: Vec<String> = said.iter().map(word).collect();
            Some(format!("{}: {}", peer.0, words.join(" ")))
        }
        _ => None,
    });
    members.collect()
}

fn says(peer: u128, words: &str) -> Input {
    let said = words.split(' ').map(standing).collect();
    Input::Received {
        peer: NodeId(peer),
        epoch: Epoch(5),
        frame: Frame::Members(said).encode(),
    }
}

#[test]
fn members_are_told_at_first_on_a_link_and_what_is_new_of_them_to_others() {
    let mut engine = start(new(&[1], 4));
    engine.handle(NOW, connected(2));
    let first = std::iter::from_fn(|| engine.poll_output()).find_map(|output| match output {
        Output::Send { frame, .. } => Frame::decode(&frame).unwrap(),
        _ => None,
    });
    let is_first =
        |frame: &Frame| matches!(frame, Frame::Members(said) if said.iter().map(word).eq(["2@5", "1@9"]));
    assert!(first.as_ref().is_some_and(is_first), "{first:?}");

    // Who meets a node tells those that it has met before.
    assert_eq!(told(&mut engine, connected(3)), ["2: 3@5", "3: 2@5 3@5 1@9"]);
    assert_eq!(told(&mut engine, says(3, "1@9 3@5 4@0 2@5 5@6")), ["2: 4@0 5@6"]);
    assert_eq!(members(&engine), [1, 2, 3, 4, 5]);
    // Nothing of it is news to who has it from here, nor to us; nor is another epoch alone.
    assert_eq!(
        told(&mut engine, says(2, "1@9 2@5 3@5 4@0 5@6")),
        Vec::<String>::new()
    );
    assert_eq!(told(&mut engine, says(2, "4@8")), Vec::<String>::new());
    assert_eq!(members(&engine), [1, 2, 3, 4, 5]);
}

#[test]
fn of_two_words_of_a_node_the_later_epochs_holds_whoever_says_it_first() {
    let mut engine = start(new(&[1], 4));
    for peer in [2, 3] {
        give(&mut engine, connected(peer));
    }
    told(&mut engine, says(2, "4@6"));
    // It left, and somebody has not heard of that.
    assert_eq!(told(&mut engine, says(2, "4@6-")), ["3: 4@6-"]);
    assert_eq!(told(&mut engine, says(3, "4@6")), Vec::<String>::new());
    assert_eq!(told(&mut engine, says(3, "4@5")), Vec::<String>::new());
    assert_eq!(members(&engine), [1, 2, 3]);
    // It came back, and somebody has not heard of that.
    assert_eq!(told(&mut engine, says(3, "4@7")), ["2: 4@7"]);
    assert_eq!(told(&mut engine, says(2, "4@6-")), Vec::<String>::new());
    assert_eq!(members(&engine), [1, 2, 3, 4]);
    // One that nobody here knew left: later words of its being there are known to be old.
    told(&mut engine, says(2, "5@3-"));
    told(&mut engine, says(3, "5@3 5@2"));
    assert_eq!(members(&engine), [1, 2, 3, 4]);
    // A link knows better than a word of its epoch; this node is never told that it left itself.
    told(&mut engine, says(2, "3@5- 1@99-"));
    assert_eq!(members(&engine), [1, 2, 3, 4]);
    // What of that is on disk is the same again.
    let mut again = new(&[1], 4);
    for block in engine.image() {
        again.recover_image(&block).unwrap();
    }
    assert_eq!(members(&again), [1, 2, 3, 4]);
    let mut again = start(again);
    give(&mut again, connected(2));
    told(&mut again, says(2, "5@3 4@6-"));
    assert_eq!(members(&again), [1, 2, 3, 4]);
}

#[test]
fn words_of_members_that_cannot_be_are_not_believed() {
    let many: Vec<String> = (10..)
        .take(2 * MEMBERS_MAX + 2)
        .map(|node| format!("{node}@1"))
        .collect();
    for words in [many.join(" "), format!("7@{}", EPOCH_MAX * 2)] {
        let mut engine = start(new(&[1], 4));
        give(&mut engine, connected(2));
        assert_eq!(told(&mut engine, says(2, &words)), Vec::<String>::new());
        assert_eq!(members(&engine), [1, 2]);
        assert!(engine.connected().is_empty());
    }
}

#[test]
fn who_left_is_a_member_again_only_by_a_link() {
    let mut engine = start(new(&[1, 2, 3], 4));
    let left = Input::MemberLeft { node: NodeId(3) };
    assert_eq!(recorded(&mut engine, left.clone()), ["3@0-"]);
    assert_eq!(members(&engine), [1, 2]);
    assert_eq!(give(&mut engine, left.clone()).0, []);
    assert_eq!(
        give(&mut engine, Input::MemberSeen { node: NodeId(3) }).0,
        [],
        "a hint"
    );
    assert_eq!(members(&engine), [1, 2]);
    assert_eq!(recorded(&mut engine, connected(3)), ["3@5"]);
    assert_eq!(members(&engine), [1, 2, 3]);
    // The link knows better than whoever says so now.
    assert_eq!(give(&mut engine, left).0, []);
    // This node itself, and one that nobody knew.
    for node in [1, 7] {
        assert_eq!(give(&mut engine, Input::MemberLeft { node: NodeId(node) }).0, []);
    }
    assert_eq!(members(&engine), [1, 2, 3]);
}

#[test]
fn a_configured_member_that_left_stays_away_over_restarts() {
    let records = [
        Record::Members(vec![4]),
        Record::MemberLeft(3),
        Record::MemberLeft(4),
        Record::Members(vec![4]),
    ];
    let mut recovered = new(&[1, 2, 3], 4);
    for record in &records {
        recovered.recover_record(&record.encode()).unwrap();
    }
    assert_eq!(members(&recovered), [1, 2, 4]);
    let mut again = new(&[1, 2, 3], 4);
    for block in recovered.image() {
        again.recover_image(&block).unwrap();
    }
    assert_eq!(members(&again), [1, 2, 4]);
    let mut engine = start(again);
    assert_eq!(give(&mut engine, Input::MemberSeen { node: NodeId(3) }).0, []);
    assert_eq!(recorded(&mut engine, connected(3)), ["3@5"]);
}

#[test]
fn an_update_does_not_wait_for_a_copy_of_who_left() {
    let mut engine = new(&[1, 2], 4);
    engine.recover_record(&Record::Settled.encode()).unwrap();
    let mut engine = start(engine);
    let update = Update {
        after: None,
        ops: vec![Op {
            entity: EntityId::new("n", "k").unwrap(),
            ty: Some(Type::PnCounter),
            mutation: Mutation::Increment(1),
        }],
        level: Level {
            copies: Copies::All,
            stage: Stage::Durable,
        },
        key: None,
        timeout_ms: 60_000,
    };
    let request = RequestId(1);
    assert!(give(&mut engine, Input::Submit { request, update }).1.is_empty());
    let shard = engine.shard_of(&EntityId::new("n", "k").unwrap());
    assert_eq!(engine.base(shard), []);
    let (_, answers) = give(&mut engine, Input::MemberLeft { node: NodeId(2) });
    assert_eq!(answers, [true]);
    // Nor is the operation kept for it.
    assert_eq!(engine.base(shard), engine.version_vector(shard));
}

#[test]
fn blocks_of_keys_are_bounded_in_bytes() {
    let shards = 10_000;
    let rows: Vec<KeyRow> = (0..40u64)
        .map(|n| KeyRow {
            key: Bytes::copy_from_slice(&n.to_le_bytes()),
            update: u64::MAX,
            at_ms: u64::MAX,
            epoch: u64::MAX,
            dots: (0..shards).map(|s| (s, u64::MAX - 1, u64::MAX)).collect(),
        })
        .collect();
    let mut engine = new(&[1], shards);
    for row in &rows {
        let block = ImageBlock::Keys(vec![row.clone()]).encode();
        engine.recover_image(&block).unwrap();
    }
    let frozen = engine.freeze();
    drop(engine);
    let mut seen = Vec::new();
    for block in frozen.blocks() {
        assert!(block.len() <= 2 << 20, "a block of {} bytes", block.len());
        if let ImageBlock::Keys(rows) = ImageBlock::decode(&block).unwrap() {
            seen.extend(rows);
        }
    }
    assert_eq!(seen, rows);
}

#[test]
fn what_is_held_still_stays_as_it_was_while_writes_go_on() {
    let mut engine = start(new(&[1], 4));
    let change = |engine: &mut Engine, n: u64, mutation: Mutation| {
        let update = Update {
            after: None,
            ops: vec![Op {
                entity: EntityId::new("s", &(n % 40).to_string()).unwrap(),
                ty: Some(Type::OrSet),
                mutation,
            }],
            level: Level::default(),
            key: Some(IdempotencyKey::new(&n.to_le_bytes()).unwrap()),
            timeout_ms: 60_000,
        };
        let request = RequestId(n);
        assert_eq!(give(engine, Input::Submit { request, update }).1, [true]);
    };
    let add = |n: u64| Mutation::Add(vec![Bytes::copy_from_slice(&n.to_le_bytes())]);
    (0..100).for_each(|n| change(&mut engine, n, add(n)));
    let before: Vec<_> = engine.image().collect();
    let frozen = engine.freeze();
    (100..180).for_each(|n| change(&mut engine, n, add(n)));
    (180..200).for_each(|n| change(&mut engine, n, Mutation::Delete));
    let after: Vec<_> = engine.image().collect();
    assert_ne!(before, after);
    assert!(frozen.blocks().eq(before));
}

#[test]
fn what_others_wrote_is_handed_over_too() {
    let mut engine = new(&[1, 2], 4);
    engine.recover_record(&Record::Settled.encode()).unwrap();
    let mut engine = start(engine);
    assert!(engine.is_handed_over(&engine.holdings()));
    let update = Update {
        after: None,
        ops: vec![Op {
            entity: EntityId::new("n", "k").unwrap(),
            ty: Some(Type::PnCounter),
            mutation: Mutation::Increment(1),
        }],
        level: Level::default(),
        key: None,
        timeout_ms: 60_000,
    };
    let request = RequestId(1);
    give(&mut engine, Input::Submit { request, update });
    let image: Vec<_> = engine.image().collect();
    // The same in another life: it writes nothing, and still has what the peer lacks.
    let mut again = new(&[1, 2], 4);
    for block in image {
        again.recover_image(&block).unwrap();
    }
    let mut again = start(again);
    assert!(again.is_handed_over(&again.holdings()), "nobody is there");
    give(&mut again, connected(2));
    let held = again.holdings();
    assert!(!again.is_handed_over(&held));
    // What there was when it began to wait is all that it waits for.
    assert!(again.is_handed_over(&start(new(&[1, 2], 4)).holdings()));
}
