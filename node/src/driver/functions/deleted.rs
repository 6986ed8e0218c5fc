//! Entities that are deleted for good: beside each stands a mark, a flag of a kind of Anabranch's own, which is made in one update
//! with the deletion, and which no function takes away, and nobody from outside: kinds of Anabranch's own are refused there (`Node::update`).
//!
//! Contract: where the mark has arrived no function is given the entity any more, whatever others made of it meanwhile.

use anabranch_crdt::{Mutation, Reading, Type};

use crate::engine::{Engine, Op};
use crate::error::{Error, ErrorKind};
use crate::function::Foreign;
use crate::wire::EntityId;

/// The kind of the marks.
const MARKS: &str = "anabranch:deleted";

/// The mark of an entity: one of no other.
fn mark(entity: &EntityId) -> Result<EntityId, Error> {
    let key = format!("{}:{}/{}", entity.kind().len(), entity.kind(), entity.key());
    EntityId::new(MARKS, &key).map_err(|e| {
        let message = format!("nothing changed: {entity} cannot be deleted for good: its mark: {e}");
        Error::new(ErrorKind::Invalid, message)
    })
}

/// What is to be done with a deletion, by a function whose deletions are for good.
pub(super) fn with_deletion(
    function: &dyn Foreign,
    entity: &EntityId,
    mutations: &[Mutation],
) -> Result<Option<Op>, Error> {
    if mutations != [Mutation::Delete] || !function.deletes_for_good() {
        return Ok(None);
    }
    Ok(Some(Op {
        entity: mark(entity)?,
        ty: Some(Type::Flag),
        mutation: Mutation::Enable,
    }))
}

/// Whether an entity can be given to its function.
pub(super) fn check(engine: &Engine, function: &dyn Foreign, entity: &EntityId) -> Result<(), Error> {
    if !function.deletes_for_good() {
        return Ok(());
    }
    // One without a mark could not be deleted.
    let is_marked =
        mark(entity).is_ok_and(|mark| engine.read(&mark) == Some((Type::Flag, Reading::Flag(true))));
    match is_marked {
        true => Err(function.deleted(entity)),
        false => Ok(()),
    }
}
