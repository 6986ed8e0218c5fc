//! What each dialect says, and understands.

use anabranch_crdt::Type;
use prost::Message;

use super::*;
use crate::sidecar::delta::{MapDelta, RegisterDelta, SetDelta, VoteDelta};
use crate::sidecar::proto::common::Action;
use crate::sidecar::proto::{common, crdt, early, entity};
use crate::sidecar::word::{Reply, StateChange};

fn text(text: &str) -> Any {
    Any {
        type_url: "p.cloudstate.io/string".to_owned(),
        value: text.to_owned().into(),
    }
}

fn set(added: &[&str]) -> SetDelta {
    SetDelta {
        added: added.iter().map(|word| text(word)).collect(),
        ..SetDelta::default()
    }
}

fn map(added: Vec<(Any, Delta)>, updated: Vec<(Any, Delta)>) -> Delta {
    Delta::Map(MapDelta {
        ty: Type::OrMap,
        cleared: false,
        removed: vec![text("gone")],
        updated,
        added,
    })
}

fn init(state: Option<Delta>) -> Word {
    Word::Init {
        service: "S".to_owned(),
        entity: "e".to_owned(),
        state,
    }
}

fn delta(delta: Delta, is_whole: bool) -> Word {
    Word::Delta { delta, is_whole }
}

/// One message of the first version, as it would be read there.
fn early_messages(word: Word) -> Vec<early::In> {
    let messages = Dialect::Early.encode(word).unwrap().into_iter();
    let read = |message| early::StreamIn::decode(message).unwrap().message.unwrap();
    messages.map(read).collect()
}

fn whole(state: early::Whole) -> early::State {
    early::State { state: Some(state) }
}

fn kind(kind: early::Kind) -> early::Delta {
    early::Delta { kind: Some(kind) }
}

#[test]
fn what_a_dialect_has_no_word_for_is_said_to_have_none() {
    for unknown in [Delta::GCounter(1), Delta::GSet(Vec::new()), Delta::Flag(true)] {
        let nested = map(vec![(text("x"), unknown.clone())], Vec::new());
        for word in [init(Some(unknown.clone())), delta(nested, false)] {
            let error = Dialect::Kalix.encode(word.clone()).unwrap_err();
            assert!(error.contains("nothing that functions"), "{error}");
            Dialect::Cloudstate.encode(word.clone()).unwrap();
            Dialect::Early.encode(word).unwrap();
        }
    }
    let counters = Delta::Map(MapDelta {
        ty: Type::CounterMap,
        cleared: false,
        removed: Vec::new(),
        updated: vec![(text("x"), Delta::Counter(1))],
        added: Vec::new(),
    });
    Dialect::Kalix.encode(delta(counters.clone(), false)).unwrap();
    for dialect in [Dialect::Cloudstate, Dialect::Early] {
        let error = dialect.encode(delta(counters.clone(), false)).unwrap_err();
        assert!(error.contains("a countermap"), "{error}");
    }
}

#[test]
fn the_first_version_is_told_states_before_changes() {
    let told = early_messages(delta(Delta::Counter(-5), true));
    let state = whole(early::Whole::Counter(early::CounterState { value: -5 }));
    assert_eq!(told, [early::In::State(state)]);
    let told = early_messages(delta(Delta::Counter(-5), false));
    let change = kind(early::Kind::Counter(entity::CounterDelta { change: -5 }));
    assert_eq!(told, [early::In::Changed(change)]);
    let vote = VoteDelta {
        self_vote: true,
        votes_for: 1,
        total_voters: 3,
    };
    let [early::In::Init(init)] = &early_messages(init(Some(Delta::Vote(vote))))[..] else {
        panic!("one message")
    };
    let state = early::VoteState {
        votes_for: 1,
        total_voters: 3,
        self_vote: true,
    };
    assert_eq!(init.state, Some(whole(early::Whole::Vote(state))));
}

#[test]
fn children_with_elements_come_to_the_first_version_empty_and_are_filled_then() {
    let inner = map(vec![(text("deep"), Delta::Set(set(&["b"])))], Vec::new());
    let all = map(
        vec![
            (text("n"), Delta::Counter(3)),
            (text("s"), Delta::Set(set(&["a"]))),
            (text("m"), inner),
        ],
        Vec::new(),
    );
    let [early::In::Init(init), early::In::Changed(rest)] = &early_messages(init(Some(all)))[..] else {
        panic!("two messages")
    };
    assert_eq!(
        init.state,
        Some(whole(early::Whole::Map(early::MapState::default())))
    );
    let Some(early::Kind::Map(rest)) = &rest.kind else {
        panic!("of a map")
    };
    let added: Vec<_> = rest
        .added
        .iter()
        .map(|entry| entry.value.clone().unwrap())
        .collect();
    assert_eq!(
        added,
        [
            whole(early::Whole::Counter(early::CounterState { value: 3 })),
            whole(early::Whole::Set(crdt::Items::default())),
            whole(early::Whole::Map(early::MapState::default())),
        ]
    );
    // What was told whole is not told again.
    let updated: Vec<_> = rest
        .updated
        .iter()
        .map(|entry| entry.key.clone().unwrap())
        .collect();
    assert_eq!(updated, [text("s"), text("m")]);
    let set = kind(early::Kind::Set(set(&["a"])));
    assert_eq!(rest.updated[0].delta, Some(set));
    let register = Delta::Register(RegisterDelta::default());
    let unheard = map(vec![(text("r"), register)], Vec::new());
    let error = Dialect::Early.encode(delta(unheard, false)).unwrap_err();
    assert!(error.contains("a register in a map"), "{error}");
}

fn reply(state: crdt::StateChange, consistency: [i32; 2]) -> Bytes {
    let reply = crdt::Reply {
        command_id: 7,
        state_action: Some(crdt::StateAction {
            action: Some(state),
            write_consistency: consistency[0],
            early_write_consistency: consistency[1],
        }),
        streamed: true,
        ..crdt::Reply::default()
    };
    let message = Some(crdt::Out::Reply(reply));
    crdt::StreamOut { message }.encode_to_vec().into()
}

fn heard(state: StateChange, level: Level) -> Heard {
    Heard::Reply(Reply {
        command: 7,
        state: Some(state),
        level: Some(level),
        is_streamed: true,
        ..Reply::default()
    })
}

#[test]
fn what_was_done_to_an_entity_is_understood_in_both_versions() {
    let of = |copies| Level {
        copies,
        stage: Stage::Durable,
    };
    let update = |delta| StateChange::Update(delta);
    let final_update = crdt::StateChange::Update(crdt::Delta {
        kind: Some(crdt::Kind::GCounter(crdt::GCounterDelta { increment: 2 })),
    });
    let create = early::MapState {
        entries: vec![early::StateEntry {
            key: Some(text("k")),
            value: Some(whole(early::Whole::Set(crdt::Items {
                items: vec![text("a")],
            }))),
        }],
    };
    let change = kind(early::Kind::Flag(crdt::FlagDelta { value: true }));
    let created = Delta::Map(MapDelta {
        ty: Type::OrMap,
        cleared: false,
        removed: Vec::new(),
        updated: Vec::new(),
        added: vec![(text("k"), Delta::Set(set(&["a"])))],
    });
    for (message, expected) in [
        (
            reply(final_update, [1, 0]),
            heard(update(Delta::GCounter(2)), of(Copies::Majority)),
        ),
        (
            reply(crdt::StateChange::Delete(entity::Delete {}), [2, 0]),
            heard(StateChange::Delete, of(Copies::All)),
        ),
        (
            reply(
                crdt::StateChange::EarlyCreate(whole(early::Whole::Map(create))),
                [0, 0],
            ),
            heard(update(created), Level::default()),
        ),
        (
            reply(crdt::StateChange::EarlyUpdate(change), [0, 1]),
            heard(update(Delta::Flag(true)), of(Copies::Majority)),
        ),
        (
            reply(crdt::StateChange::EarlyDelete(entity::Delete {}), [0, 2]),
            heard(StateChange::Delete, of(Copies::All)),
        ),
    ] {
        assert_eq!(Dialect::Early.decode(message), Ok(expected));
    }
}

#[test]
fn streams_and_their_ends_are_understood() {
    let message = Some(crdt::Out::Streamed(crdt::Streamed {
        command_id: 3,
        client_action: Some(common::ClientAction {
            action: Some(Action::Reply(common::Reply::default())),
        }),
        side_effects: vec![common::SideEffect::default()],
        end_stream: true,
    }));
    let streamed = Heard::Streamed {
        command: 3,
        action: Some(Action::Reply(common::Reply::default())),
        effects: vec![common::SideEffect::default()],
        is_last: true,
    };
    let bytes = crdt::StreamOut { message }.encode_to_vec();
    assert_eq!(Dialect::Cloudstate.decode(bytes.into()), Ok(streamed));
    let message = Some(crdt::Out::Cancelled(crdt::CancelledReply {
        command_id: 3,
        ..crdt::CancelledReply::default()
    }));
    let cancelled = Heard::Reply(Reply {
        command: 3,
        is_to_cancelled: true,
        ..Reply::default()
    });
    let bytes = crdt::StreamOut { message }.encode_to_vec();
    assert_eq!(Dialect::Cloudstate.decode(bytes.into()), Ok(cancelled));
}

#[test]
fn what_makes_no_sense_is_no_word() {
    for dialect in [Dialect::Kalix, Dialect::Cloudstate, Dialect::Early] {
        assert_eq!(
            dialect.decode(Bytes::new()),
            Err("it sent an empty message".to_owned())
        );
        let error = dialect.decode(Bytes::from_static(b"\x0a\x05x")).unwrap_err();
        assert!(error.contains("cannot be read"), "{error}");
    }
    let no_kind = crdt::StateChange::Update(crdt::Delta::default());
    let error = "its change is of no type".to_owned();
    assert_eq!(Dialect::Cloudstate.decode(reply(no_kind, [0, 0])), Err(error));
    let no_level = crdt::StateChange::Delete(entity::Delete {});
    let error = "there is no write consistency of number 3".to_owned();
    assert_eq!(Dialect::Cloudstate.decode(reply(no_level, [3, 0])), Err(error));
    let no_key = entity::CounterMapDelta {
        updated: vec![entity::CounterMapEntry::default()],
        ..Default::default()
    };
    let no_change = entity::MapDelta {
        updated: vec![entity::MapEntry {
            key: Some(text("x")),
            delta: None,
        }],
        ..Default::default()
    };
    for (kind, why) in [
        (entity::Kind::CounterMap(no_key), "an entry of its map has no key"),
        (entity::Kind::Map(no_change), "an entry of its map has no change"),
    ] {
        let update = entity::StateChange::Update(entity::Delta { kind: Some(kind) });
        let message = Some(entity::Out::Reply(entity::EntityReply {
            state_action: Some(entity::StateAction { action: Some(update) }),
            ..Default::default()
        }));
        let bytes = entity::StreamOut { message }.encode_to_vec();
        assert_eq!(Dialect::Kalix.decode(bytes.into()), Err(why.to_owned()));
    }
}

#[test]
fn what_a_function_could_not_be_shown_again_is_known_when_it_does_it() {
    let register = || {
        Delta::Register(RegisterDelta {
            value: Some(text("a")),
            ..RegisterDelta::default()
        })
    };
    let inner = map(vec![(text("x"), register())], Vec::new());
    let nested = map(Vec::new(), vec![(text("y"), inner.clone())]);
    for delta in [inner, nested] {
        let error = Dialect::Early.can_show(&delta).unwrap_err();
        assert!(error.contains("a register in a map"), "{error}");
        Dialect::Cloudstate.can_show(&delta).unwrap();
    }
    Dialect::Early.can_show(&register()).unwrap();
    let others = map(
        vec![(text("x"), Delta::Set(set(&["a"])))],
        vec![(text("y"), Delta::Counter(1))],
    );
    Dialect::Early.can_show(&others).unwrap();
}
