//! What a session knows of its function, and of the commands that it has not answered.
//!
//! Not here: what follows from it.

use std::collections::BTreeSet;

use anabranch_crdt::Reading;
use bytes::Bytes;

use super::streams::Streaming;
use super::{Action, CommandId, Effect, StreamId, Streams};
use crate::terms::Time;
use crate::view::View;

/// The function beside the entity.
#[derive(Debug)]
pub(super) enum Life {
    /// There is none.
    None,
    Open(Open),
    /// It was asked to end.
    Closing {
        stream: StreamId,
        until: Time,
    },
}

#[derive(Debug)]
pub(super) struct Open {
    pub stream: StreamId,
    /// What it was shown last.
    pub seen: View,
    /// What it believes of the entity, if it remembers.
    pub believes: Option<Reading>,
    pub busy: Option<Busy>,
    pub idle_since: Time,
    /// The entity may be another than it was shown.
    pub is_changed: bool,
    /// What it believes may not be what it was shown, and did since.
    pub is_unsure: bool,
    /// What its last commit left, if that was all that became of the entity.
    pub left: Option<Box<Left>>,
    /// Who is there may be others than when it was told of votes.
    pub recounts: bool,
    /// Commands whose answers go on.
    pub streaming: Streaming,
}

/// The command that the function has.
#[derive(Debug)]
pub(super) struct Busy {
    pub id: CommandId,
    /// When it is given up.
    pub until: Time,
    /// When its caller does.
    pub deadline: Time,
    /// Whether he has.
    pub is_left: bool,
}

/// A command that waits to be in.
#[derive(Debug)]
pub(super) struct Committing {
    pub id: CommandId,
    pub deletes: bool,
    /// Of a map, which of its children it changes.
    pub keys: BTreeSet<Bytes>,
    /// Of a map, whether it votes in it.
    pub votes: bool,
}

/// What a commit left of its entity.
#[derive(Debug)]
pub(super) struct Left {
    pub view: View,
    /// Of a map, which of its children it changed.
    pub keys: BTreeSet<Bytes>,
}

/// What is left to do for a command that is in, or has nothing to bring in.
#[derive(Debug)]
pub(super) struct Finishing {
    pub action: Action,
    pub effects: Vec<Effect>,
    pub deadline: Time,
    /// Whether it deletes its entity.
    pub deletes: bool,
    /// Whether the answer goes on, and in which life.
    pub streams: (Streams, StreamId),
}
