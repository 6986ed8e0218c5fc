//! The words of Cloudstate's protocol, version 0.2.

use anabranch_crdt::Type;
use bytes::Bytes;
use prost::Message;

use super::{changed, early, level, unreadable};
use crate::sidecar::delta::{Delta, MapDelta};
use crate::sidecar::proto::common::Any;
use crate::sidecar::proto::crdt::{
    self as wire, Cancelled, FlagDelta, GCounterDelta, In, Init, Items, Kind, MapEntry, Out, StreamIn,
    StreamOut,
};
use crate::sidecar::proto::entity::{CounterDelta, Delete};
use crate::sidecar::shown::unknown;
use crate::sidecar::word::{Heard, Reply, StateChange, Word};

/// A word's bytes.
pub(super) fn encode(word: Word) -> Result<Bytes, String> {
    let message = match word {
        Word::Init {
            service,
            entity,
            state,
        } => In::Init(Init {
            service_name: service,
            entity_id: entity,
            delta: state.map(shown).transpose()?,
        }),
        Word::Delta { delta, .. } => In::Delta(shown(delta)?),
        Word::Delete => In::Delete(Delete {}),
        Word::Command(command) => In::Command(command),
        Word::Cancelled { entity, id } => In::Cancelled(Cancelled {
            entity_id: entity,
            id,
        }),
    };
    let message = Some(message);
    Ok(StreamIn { message }.encode_to_vec().into())
}

/// What bytes say, of this version or the first: of both it is the same but for what was done to the entity.
pub(super) fn decode(bytes: Bytes) -> Result<Heard, String> {
    let message = StreamOut::decode(bytes).map_err(unreadable)?.message;
    Ok(
        match message.ok_or_else(|| "it sent an empty message".to_owned())? {
            Out::Failure(failure) => Heard::Failure(failure),
            Out::Streamed(streamed) => Heard::Streamed {
                command: streamed.command_id,
                action: streamed.client_action.and_then(|action| action.action),
                effects: streamed.side_effects,
                is_last: streamed.end_stream,
            },
            Out::Reply(reply) => with_state(
                Reply {
                    command: reply.command_id,
                    action: reply.client_action.and_then(|action| action.action),
                    effects: reply.side_effects,
                    is_streamed: reply.streamed,
                    ..Reply::default()
                },
                reply.state_action,
            )?,
            Out::Cancelled(reply) => with_state(
                Reply {
                    command: reply.command_id,
                    effects: reply.side_effects,
                    is_to_cancelled: true,
                    ..Reply::default()
                },
                reply.state_action,
            )?,
        },
    )
}

fn with_state(mut reply: Reply, action: Option<wire::StateAction>) -> Result<Heard, String> {
    if let Some(action) = action {
        let consistency = action.write_consistency.max(action.early_write_consistency);
        reply.level = Some(level(consistency)?);
        reply.state = match action.action {
            None => None,
            Some(wire::StateChange::Delete(_) | wire::StateChange::EarlyDelete(_)) => {
                Some(StateChange::Delete)
            }
            Some(wire::StateChange::Update(delta)) => Some(StateChange::Update(taken(delta)?)),
            Some(wire::StateChange::EarlyUpdate(delta)) => Some(StateChange::Update(early::taken(delta)?)),
            Some(wire::StateChange::EarlyCreate(state)) => {
                Some(StateChange::Update(early::taken_whole(state)?))
            }
        };
    }
    Ok(Heard::Reply(reply))
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
            let entry = |(key, delta): (Any, Delta)| {
                Ok(MapEntry {
                    key: Some(key),
                    delta: Some(shown(delta)?),
                })
            };
            Kind::Map(wire::MapDelta {
                cleared: map.cleared,
                removed: map.removed,
                updated: map
                    .updated
                    .into_iter()
                    .map(entry)
                    .collect::<Result<_, String>>()?,
                added: map.added.into_iter().map(entry).collect::<Result<_, String>>()?,
            })
        }
        Delta::Map(map) => return Err(unknown(map.ty)),
    };
    Ok(wire::Delta { kind: Some(kind) })
}

fn taken(delta: wire::Delta) -> Result<Delta, String> {
    let kind = delta.kind.ok_or_else(|| "its change is of no type".to_owned())?;
    Ok(match kind {
        Kind::GCounter(counter) => Delta::GCounter(counter.increment),
        Kind::Counter(counter) => Delta::Counter(counter.change),
        Kind::GSet(set) => Delta::GSet(set.items),
        Kind::Set(set) => Delta::Set(set),
        Kind::Register(register) => Delta::Register(register),
        Kind::Flag(flag) => Delta::Flag(flag.value),
        Kind::Vote(vote) => Delta::Vote(vote),
        Kind::Map(map) => Delta::Map(MapDelta {
            ty: Type::OrMap,
            cleared: map.cleared,
            removed: map.removed,
            updated: entries(map.updated)?,
            added: entries(map.added)?,
        }),
    })
}

fn entries(entries: Vec<MapEntry>) -> Result<Vec<(Any, Delta)>, String> {
    let entry = |entry: MapEntry| changed(entry.key, entry.delta, taken);
    entries.into_iter().map(entry).collect()
}
