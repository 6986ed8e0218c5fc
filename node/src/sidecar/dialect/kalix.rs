//! The words of Kalix's protocol, version 1.1.

use anabranch_crdt::Type;
use bytes::Bytes;
use prost::Message;

use super::{changed, keyed, unreadable};
use crate::sidecar::delta::{Delta, MapDelta};
use crate::sidecar::proto::common::Any;
use crate::sidecar::proto::entity::{
    self as wire, CounterDelta, CounterMapDelta, CounterMapEntry, In, Init, Kind, MapEntry, MultiMapDelta,
    MultiMapEntry, Out, RegisterMapDelta, RegisterMapEntry, StreamIn, StreamOut,
};
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
        Word::Delete => In::Delete(wire::Delete {}),
        Word::Command(command) => In::Command(command),
        Word::Cancelled { .. } => return Err("its protocol has no streams of entities".to_owned()),
    };
    let message = Some(message);
    Ok(StreamIn { message }.encode_to_vec().into())
}

/// What bytes say.
pub(super) fn decode(bytes: Bytes) -> Result<Heard, String> {
    let message = StreamOut::decode(bytes).map_err(unreadable)?.message;
    Ok(
        match message.ok_or_else(|| "it sent an empty message".to_owned())? {
            Out::Failure(failure) => Heard::Failure(failure),
            Out::Reply(reply) => Heard::Reply(Reply {
                command: reply.command_id,
                action: reply.client_action.and_then(|action| action.action),
                effects: reply.side_effects,
                state: match reply.state_action.and_then(|action| action.action) {
                    None => None,
                    Some(wire::StateChange::Delete(_)) => Some(StateChange::Delete),
                    Some(wire::StateChange::Update(delta)) => Some(StateChange::Update(taken(delta)?)),
                },
                ..Reply::default()
            }),
        },
    )
}

fn shown(delta: Delta) -> Result<wire::Delta, String> {
    let kind = match delta {
        Delta::Counter(change) => Kind::Counter(CounterDelta { change }),
        Delta::Set(set) => Kind::Set(set),
        Delta::Register(register) => Kind::Register(register),
        Delta::Vote(vote) => Kind::Vote(vote),
        Delta::Map(map) => shown_map(map)?,
        Delta::GCounter(_) | Delta::GSet(_) | Delta::Flag(_) => return Err(unknown(delta.ty())),
    };
    Ok(wire::Delta { kind: Some(kind) })
}

fn shown_map(map: MapDelta) -> Result<Kind, String> {
    let MapDelta {
        ty,
        cleared,
        removed,
        updated,
        added,
    } = map;
    if ty == Type::OrMap {
        let entry = |(key, delta): (Any, Delta)| {
            Ok(MapEntry {
                key: Some(key),
                delta: Some(shown(delta)?),
            })
        };
        return Ok(Kind::Map(wire::MapDelta {
            cleared,
            removed,
            updated: updated.into_iter().map(entry).collect::<Result<_, String>>()?,
            added: added.into_iter().map(entry).collect::<Result<_, String>>()?,
        }));
    }
    let all = updated.into_iter().chain(added);
    Ok(match ty {
        Type::CounterMap => Kind::CounterMap(CounterMapDelta {
            cleared,
            removed,
            updated: all.filter_map(counter_entry).collect(),
        }),
        Type::RegisterMap => Kind::RegisterMap(RegisterMapDelta {
            cleared,
            removed,
            updated: all.filter_map(register_entry).collect(),
        }),
        Type::MultiMap => Kind::MultiMap(MultiMapDelta {
            cleared,
            removed,
            updated: all.filter_map(multi_entry).collect(),
        }),
        _ => return Err(unknown(ty)),
    })
}

fn counter_entry((key, delta): (Any, Delta)) -> Option<CounterMapEntry> {
    let Delta::Counter(change) = delta else {
        return None;
    };
    Some(CounterMapEntry {
        key: Some(key),
        delta: Some(CounterDelta { change }),
    })
}

fn register_entry((key, delta): (Any, Delta)) -> Option<RegisterMapEntry> {
    let Delta::Register(delta) = delta else {
        return None;
    };
    Some(RegisterMapEntry {
        key: Some(key),
        delta: Some(delta),
    })
}

/// A key without values is none of a multimap's.
fn multi_entry((key, delta): (Any, Delta)) -> Option<MultiMapEntry> {
    let Delta::Set(delta) = delta else {
        return None;
    };
    let is_nothing = delta.added.is_empty() && delta.removed.is_empty();
    (!is_nothing).then_some(MultiMapEntry {
        key: Some(key),
        delta: Some(delta),
    })
}

fn taken(delta: wire::Delta) -> Result<Delta, String> {
    let kind = delta.kind.ok_or_else(|| "its change is of no type".to_owned())?;
    Ok(match kind {
        Kind::Counter(counter) => Delta::Counter(counter.change),
        Kind::Set(set) => Delta::Set(set),
        Kind::Register(register) => Delta::Register(register),
        Kind::Vote(vote) => Delta::Vote(vote),
        Kind::Map(map) => Delta::Map(MapDelta {
            ty: Type::OrMap,
            cleared: map.cleared,
            removed: map.removed,
            updated: entries(map.updated)?,
            added: entries(map.added)?,
        }),
        Kind::CounterMap(map) => {
            let child = |entry: CounterMapEntry| {
                let change = entry.delta.unwrap_or_default().change;
                keyed(entry.key, Delta::Counter(change))
            };
            of_one_type(Type::CounterMap, map.cleared, map.removed, map.updated, child)?
        }
        Kind::RegisterMap(map) => {
            let child =
                |entry: RegisterMapEntry| keyed(entry.key, Delta::Register(entry.delta.unwrap_or_default()));
            of_one_type(Type::RegisterMap, map.cleared, map.removed, map.updated, child)?
        }
        Kind::MultiMap(map) => {
            let child = |entry: MultiMapEntry| keyed(entry.key, Delta::Set(entry.delta.unwrap_or_default()));
            of_one_type(Type::MultiMap, map.cleared, map.removed, map.updated, child)?
        }
    })
}

fn entries(entries: Vec<MapEntry>) -> Result<Vec<(Any, Delta)>, String> {
    let entry = |entry: MapEntry| changed(entry.key, entry.delta, taken);
    entries.into_iter().map(entry).collect()
}

fn of_one_type<E>(
    ty: Type,
    cleared: bool,
    removed: Vec<Any>,
    updated: Vec<E>,
    child: impl Fn(E) -> Result<(Any, Delta), String>,
) -> Result<Delta, String> {
    Ok(Delta::Map(MapDelta {
        ty,
        cleared,
        removed,
        updated: updated.into_iter().map(child).collect::<Result<_, _>>()?,
        added: Vec::new(),
    }))
}
