//! The words of Cloudstate's protocol as of its first version: the one that its npm package `cloudstate` 0.0.3 speaks.
//!
//! Not here: what the function says, which is as in version 0.2 (`cloudstate`) but for the two forms of what it did to the entity.
//!
//! Contract: a child that is new to the function is told empty, and then what is in it: the package fails at one that is told
//! whole, as soon as there is an element in it.

use anabranch_crdt::Type;
use bytes::Bytes;
use prost::Message;

use super::{changed, keyed};
use crate::sidecar::delta::{Delta, MapDelta, SetDelta, VoteDelta};
use crate::sidecar::proto::common::Any;
use crate::sidecar::proto::crdt::{Cancelled, FlagDelta, GCounterDelta, Items};
use crate::sidecar::proto::early::{
    self as wire, CounterState, DeltaEntry, In, Init, Kind, MapState, State, StateEntry, StreamIn, VoteState,
    Whole,
};
use crate::sidecar::proto::entity::{CounterDelta, Delete};
use crate::sidecar::shown::unknown;
use crate::sidecar::word::Word;

/// A word's bytes; of an entity that is whole, two messages where one does not do.
pub(super) fn encode(word: Word) -> Result<Vec<Bytes>, String> {
    let messages = match word {
        Word::Init {
            service,
            entity,
            state,
        } => {
            let (state, rest) = state.map(whole).transpose()?.unzip();
            let init = In::Init(Init {
                service_name: service,
                entity_id: entity,
                state,
            });
            vec![Some(init), rest.flatten().map(In::Changed)]
        }
        Word::Delta {
            delta,
            is_whole: true,
        } => {
            let (state, rest) = whole(delta)?;
            vec![Some(In::State(state)), rest.map(In::Changed)]
        }
        Word::Delta { delta, .. } => vec![Some(In::Changed(shown(delta)?))],
        Word::Delete => vec![Some(In::Deleted(Delete {}))],
        Word::Command(command) => vec![Some(In::Command(command))],
        Word::Cancelled { entity, id } => vec![Some(In::Cancelled(Cancelled {
            entity_id: entity,
            id,
        }))],
    };
    let messages = messages.into_iter().flatten();
    let messages = messages.map(|message| StreamIn {
        message: Some(message),
    });
    Ok(messages.map(|message| message.encode_to_vec().into()).collect())
}

/// Whether it could be told of what it did; only of what is in maps it cannot always be.
pub(super) fn can_show(delta: &Delta) -> Result<(), String> {
    match delta {
        Delta::Map(_) => whole(delta.clone()).map(drop),
        _ => Ok(()),
    }
}

/// A whole entity, and what is to be told of it afterwards.
fn whole(delta: Delta) -> Result<(State, Option<wire::Delta>), String> {
    let state = match delta {
        Delta::GCounter(increment) => Whole::GCounter(GCounterDelta { increment }),
        Delta::Counter(value) => Whole::Counter(CounterState { value }),
        Delta::GSet(items) => Whole::GSet(Items { items }),
        Delta::Set(set) => Whole::Set(Items { items: set.added }),
        Delta::Register(register) => Whole::Register(register),
        Delta::Flag(value) => Whole::Flag(FlagDelta { value }),
        Delta::Vote(vote) => Whole::Vote(VoteState {
            votes_for: vote.votes_for.cast_unsigned(),
            total_voters: vote.total_voters.cast_unsigned(),
            self_vote: vote.self_vote,
        }),
        Delta::Map(map) => {
            let is_empty = map.added.is_empty() && map.updated.is_empty();
            let rest = shown(Delta::Map(map))?;
            return Ok((
                state(Whole::Map(MapState::default())),
                (!is_empty).then_some(rest),
            ));
        }
    };
    Ok((self::state(state), None))
}

fn state(state: Whole) -> State {
    State { state: Some(state) }
}

/// A child that is new to the function, and what is to be told of it afterwards.
fn child(delta: Delta) -> Result<(State, Option<wire::Delta>), String> {
    let empty = match &delta {
        Delta::GSet(_) => Whole::GSet(Items::default()),
        Delta::Set(_) => Whole::Set(Items::default()),
        Delta::Register(_) => {
            let why = "a register in a map is nothing that the package cloudstate 0.0.3 can be told of: it fails there";
            return Err(why.to_owned());
        }
        _ => return whole(delta),
    };
    Ok((state(empty), Some(shown(delta)?)))
}

fn shown(delta: Delta) -> Result<wire::Delta, String> {
    let kind = match delta {
        Delta::GCounter(increment) => Kind::GCounter(GCounterDelta { increment }),
        Delta::Counter(change) => Kind::Counter(CounterDelta { change }),
        Delta::GSet(items) => Kind::GSet(Items { items }),
        Delta::Set(set) => Kind::Set(set),
        Delta::Register(register) => Kind::Register(register),
        Delta::Flag(value) => Kind::Flag(FlagDelta { value }),
        Delta::Vote(vote) => Kind::Vote(vote),
        Delta::Map(map) if map.ty == Type::OrMap => {
            let entry = |key: Any, delta: wire::Delta| DeltaEntry {
                key: Some(key),
                delta: Some(delta),
            };
            let (mut added, mut updated) = (Vec::new(), Vec::new());
            for (key, delta) in map.added {
                let (state, rest) = child(delta)?;
                updated.extend(rest.map(|rest| entry(key.clone(), rest)));
                added.push(StateEntry {
                    key: Some(key),
                    value: Some(state),
                });
            }
            for (key, delta) in map.updated {
                updated.push(entry(key, shown(delta)?));
            }
            Kind::Map(wire::MapDelta {
                cleared: map.cleared,
                removed: map.removed,
                updated,
                added,
            })
        }
        Delta::Map(map) => return Err(unknown(map.ty)),
    };
    Ok(wire::Delta { kind: Some(kind) })
}

/// What a function did to an entity that it knows.
pub(super) fn taken(delta: wire::Delta) -> Result<Delta, String> {
    let kind = delta.kind.ok_or_else(|| "its change is of no type".to_owned())?;
    Ok(match kind {
        Kind::GCounter(counter) => Delta::GCounter(counter.increment),
        Kind::Counter(counter) => Delta::Counter(counter.change),
        Kind::GSet(set) => Delta::GSet(set.items),
        Kind::Set(set) => Delta::Set(set),
        Kind::Register(register) => Delta::Register(register),
        Kind::Flag(flag) => Delta::Flag(flag.value),
        Kind::Vote(vote) => Delta::Vote(vote),
        Kind::Map(map) => {
            let entry = |entry: DeltaEntry| changed(entry.key, entry.delta, taken);
            Delta::Map(MapDelta {
                ty: Type::OrMap,
                cleared: map.cleared,
                removed: map.removed,
                updated: map.updated.into_iter().map(entry).collect::<Result<_, _>>()?,
                added: whole_entries(map.added)?,
            })
        }
    })
}

/// What a function made of an entity that it knew nothing of.
pub(super) fn taken_whole(state: State) -> Result<Delta, String> {
    let state = state
        .state
        .ok_or_else(|| "what it made is of no type".to_owned())?;
    Ok(match state {
        Whole::GCounter(counter) => Delta::GCounter(counter.increment),
        Whole::Counter(counter) => Delta::Counter(counter.value),
        Whole::GSet(set) => Delta::GSet(set.items),
        Whole::Set(set) => Delta::Set(SetDelta {
            added: set.items,
            ..SetDelta::default()
        }),
        Whole::Register(register) => Delta::Register(register),
        Whole::Flag(flag) => Delta::Flag(flag.value),
        Whole::Vote(vote) => Delta::Vote(VoteDelta {
            self_vote: vote.self_vote,
            ..VoteDelta::default()
        }),
        Whole::Map(map) => Delta::Map(MapDelta {
            ty: Type::OrMap,
            cleared: false,
            removed: Vec::new(),
            updated: Vec::new(),
            added: whole_entries(map.entries)?,
        }),
    })
}

fn whole_entries(entries: Vec<StateEntry>) -> Result<Vec<(Any, Delta)>, String> {
    let entry = |entry: StateEntry| {
        let value = entry.value;
        let value = value.ok_or_else(|| "an entry of its map has no value".to_owned())?;
        keyed(entry.key, taken_whole(value)?)
    };
    entries.into_iter().map(entry).collect()
}
