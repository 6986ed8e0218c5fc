//! What a function beside an entity and this node say to each other, in no dialect's words.

use super::delta::Delta;
use super::proto::common::{Action, Command, Failure, SideEffect};
use crate::terms::Level;

/// What a function is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// It begins, beside this entity.
    Init {
        /// Which of its services.
        service: String,
        /// The entity's key.
        entity: String,
        /// The entity, if it exists.
        state: Option<Delta>,
    },
    /// Something became of the entity.
    Delta {
        /// What.
        delta: Delta,
        /// Whether the function knows of no entity yet, so that this is the whole of one.
        is_whole: bool,
    },
    /// The entity was deleted.
    Delete,
    /// A command.
    Command(Command),
    /// Nobody hears any more what it says to a command that is streamed.
    Cancelled {
        /// The entity's key.
        entity: String,
        /// Which command.
        id: i64,
    },
}

/// What it says.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It answers a command, or that its stream was cancelled.
    Reply(Reply),
    /// More of an answer that is streamed.
    Streamed {
        /// To which command.
        command: i64,
        /// For its caller.
        action: Option<Action>,
        /// What is to be called.
        effects: Vec<SideEffect>,
        /// Whether it was the last.
        is_last: bool,
    },
    /// It failed.
    Failure(Failure),
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// To which command.
    pub command: i64,
    /// Whether it is one to a cancellation.
    pub is_to_cancelled: bool,
    /// For the command's caller.
    pub action: Option<Action>,
    /// What is to be called.
    pub effects: Vec<SideEffect>,
    /// What it did to the entity.
    pub state: Option<StateChange>,
    /// Where that must be before the caller hears, if it says.
    pub level: Option<Level>,
    /// Whether more is to come.
    pub is_streamed: bool,
}

/// What a function did to its entity.
#[derive(Clone, Debug, PartialEq)]
pub enum StateChange {
    /// This.
    Update(Delta),
    /// It deleted it.
    Delete,
}
