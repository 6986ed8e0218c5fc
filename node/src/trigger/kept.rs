//! What is kept for triggers as entities, like everything else: how far each was called for, and which nodes have functions.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_crdt::{Clock, Epoch, Mutation, NodeId, Reading, ReplicaId, Type};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::engine::{Engine, Level, Op, Update};
use crate::error::{Error, ErrorKind};
use crate::function::OWN_KINDS;
use crate::wire::EntityId;

use super::changes::{Mark, Trigger, Vector};
use super::function::SCHEDULE;

/// The kind of what is kept for triggers: maps of registers. Every node with functions has it.
pub const KEPT: &str = "anabranch:trigger";
/// The entity that says which nodes have functions.
const HOSTS: &str = "nodes";
/// What the names of the entities begin with in which nodes leave notes: in each one register for a shard and a node, and one for a
/// shard, so never more than shards times nodes that ever had the function.
const NOTES: &str = "notes of ";

/// Whether an update of somebody's is of his own kinds. What Anabranch keeps for itself is written by what it does: with another type,
/// or other words, nodes could not go on with it.
///
/// # Errors
/// `Invalid`: it is not, and nothing has changed.
pub fn check_kinds(update: &Update) -> Result<(), Error> {
    let mut kinds = update.ops.iter().map(|op| op.entity.kind());
    let Some(own) = kinds.find(|kind| kind.starts_with(OWN_KINDS)) else {
        return Ok(());
    };
    let message = format!(
        "nothing changed: kinds that begin with {OWN_KINDS:?} are Anabranch's own, and {own} is read but not written by others \
         (schedules are set and cancelled by `schedule`, or by calls of {SCHEDULE})"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Host {
    /// In which of its runs.
    pub epoch: u64,
    /// The names of its triggers.
    pub triggers: BTreeSet<String>,
}

/// All that has changed in a shard up to this version vector was called for.
pub(super) fn keep_cursor(trigger: &Trigger, shard: u32, vector: &[(ReplicaId, u64)]) -> Option<Update> {
    let flat: Vec<(u128, u64, u64)> = vector
        .iter()
        .map(|(replica, seq)| (replica.node.0, replica.epoch.0, *seq))
        .collect();
    keep(&cursors(trigger), &shard.to_string(), &flat)
}

/// How far a trigger was called for in a shard; nothing where that was never kept, or cannot be read.
pub(super) fn cursor(engine: &Engine, trigger: &Trigger, shard: u32) -> Vec<(ReplicaId, u64)> {
    let kept: Option<Vec<(u128, u64, u64)>> = kept(engine, &cursors(trigger), &shard.to_string());
    let replica = |(node, epoch, seq)| (ReplicaId::new(NodeId(node), Epoch(epoch)), seq);
    kept.unwrap_or_default().into_iter().map(replica).collect()
}

/// Never the name of the entity of hosts.
fn cursors(trigger: &Trigger) -> String {
    format!("cursors of {}", trigger.name)
}

/// A node has called in a shard that it gave up, and knew only what this covers for sure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub mark: Mark,
    pub since: Vector,
}

/// A note and a vector's entries, as they are written.
type WrittenNote = (Mark, Vec<(u128, u64, u64)>);

pub(super) fn keep_note(trigger: &Trigger, shard: u32, of: NodeId, note: &Note) -> Option<Update> {
    let since = note.since.iter();
    let since = since.map(|(replica, seq)| (replica.node.0, replica.epoch.0, *seq));
    let written: WrittenNote = (note.mark, since.collect());
    keep(&notes(trigger), &format!("{shard} {of}"), &written)
}

/// The last note of a node about a shard.
pub(super) fn note(engine: &Engine, trigger: &Trigger, shard: u32, of: NodeId) -> Option<Note> {
    let (mark, since): WrittenNote = kept(engine, &notes(trigger), &format!("{shard} {of}"))?;
    let replica = |(node, epoch, seq)| (ReplicaId::new(NodeId(node), Epoch(epoch)), seq);
    let since = since.into_iter().map(replica).collect();
    Some(Note { mark, since })
}

/// All that these notes are about was called for again.
pub(super) fn keep_taken(trigger: &Trigger, shard: u32, taken: &BTreeMap<NodeId, Mark>) -> Option<Update> {
    let written: Vec<(u128, Mark)> = taken.iter().map(|(node, mark)| (node.0, *mark)).collect();
    keep(&notes(trigger), &shard.to_string(), &written)
}

/// Of which notes of a shard that is known.
pub(super) fn taken(engine: &Engine, trigger: &Trigger, shard: u32) -> BTreeMap<NodeId, Mark> {
    let kept: Option<Vec<(u128, Mark)>> = kept(engine, &notes(trigger), &shard.to_string());
    let of = kept.unwrap_or_default().into_iter();
    of.map(|(node, mark)| (NodeId(node), mark)).collect()
}

/// Never the name of cursors or of hosts.
fn notes(trigger: &Trigger) -> String {
    format!("{NOTES}{}", trigger.name)
}

/// Whether notes are kept in this entity.
pub(super) fn is_notes(entity: &EntityId) -> bool {
    entity.kind() == KEPT && entity.key().starts_with(NOTES)
}

/// A node has these triggers.
pub(super) fn keep_host(node: NodeId, host: &Host) -> Option<Update> {
    keep(HOSTS, &node.to_string(), host)
}

/// Whether this entity says which nodes have functions.
pub(super) fn is_hosts(entity: &EntityId) -> bool {
    entity.kind() == KEPT && entity.key() == HOSTS
}

/// The nodes that have functions, as they have said themselves.
pub(super) fn hosts(engine: &Engine) -> BTreeMap<NodeId, Host> {
    let read = || {
        let view = engine.view(&entity(HOSTS)?, Type::RegisterMap).ok()?;
        let Reading::Map(hosts) = view.read()? else {
            return None;
        };
        let host = |(node, kept): (Bytes, Reading)| {
            let Reading::Register(Some(bytes)) = kept else {
                return None;
            };
            let node = std::str::from_utf8(&node).ok()?.parse().ok()?;
            Some((node, postcard::from_bytes(&bytes).ok()?))
        };
        Some(hosts.into_iter().filter_map(host).collect())
    };
    read().unwrap_or_default()
}

fn entity(name: &str) -> Option<EntityId> {
    EntityId::new(KEPT, name).ok()
}

fn kept<T: DeserializeOwned>(engine: &Engine, name: &str, key: &str) -> Option<T> {
    let view = engine.view(&entity(name)?, Type::RegisterMap).ok()?;
    let child = view.value()?.child(key.as_bytes())?;
    let Reading::Register(Some(bytes)) = child.read(view.replicas()) else {
        return None;
    };
    postcard::from_bytes(&bytes).ok()
}

/// What keeps a value; nothing where it has no name or no bytes, which is only so for what was refused before.
fn keep<T: Serialize + ?Sized>(name: &str, key: &str, value: &T) -> Option<Update> {
    let value = postcard::to_extend(value, Vec::new()).ok()?;
    let set = Mutation::Set {
        value: value.into(),
        clock: Clock::Default,
    };
    let mutation = Mutation::Update {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ty: None,
        mutation: Box::new(set),
    };
    let op = Op {
        entity: entity(name)?,
        ty: Some(Type::RegisterMap),
        mutation,
    };
    Some(Update {
        ops: vec![op],
        level: Level::default(),
        key: None,
        after: None,
        timeout_ms: TIMEOUT_MS_DEFAULT,
    })
}
