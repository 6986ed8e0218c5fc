//! The dialects that functions speak: how each says what functions and this node have to say to each other.
//!
//! Not here: when anything is said (`session`), and what it does (`taken`). Contract: a dialect only translates, one word for one
//! word; what it has no word for is an error, never left out.

mod cloudstate;
mod discovery;
mod early;
mod kalix;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use self::discovery::{Asked, Unasked, ask, farewell, report};
use super::datum::Primitives;
use super::delta::Delta;
use super::proto::common::Any;
use super::word::{Heard, Word};
use crate::engine::{Copies, Level};
use crate::terms::Stage;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Kalix's protocol, version 1.1.
    Kalix,
    /// Cloudstate's, version 0.2.
    Cloudstate,
    /// Cloudstate's, as of its first version.
    Early,
}

/// Where what functions are told goes.
#[derive(Debug)]
pub struct Paths {
    /// The stream of an entity.
    pub handle: &'static str,
    /// Commands to nobody in particular: one message and one answer.
    pub unary: &'static str,
    /// Many and one.
    pub streamed_in: &'static str,
    /// One and many.
    pub streamed_out: &'static str,
    /// Many and many.
    pub streamed: &'static str,
}

impl Dialect {
    /// Where it is told what.
    pub fn paths(self) -> &'static Paths {
        match self {
            Dialect::Kalix => &Paths {
                handle: "/kalix.component.replicatedentity.ReplicatedEntities/Handle",
                unary: "/kalix.component.action.Actions/HandleUnary",
                streamed_in: "/kalix.component.action.Actions/HandleStreamedIn",
                streamed_out: "/kalix.component.action.Actions/HandleStreamedOut",
                streamed: "/kalix.component.action.Actions/HandleStreamed",
            },
            Dialect::Cloudstate => &Paths {
                handle: "/cloudstate.crdt.Crdt/handle",
                unary: "/cloudstate.action.ActionProtocol/handleUnary",
                streamed_in: "/cloudstate.action.ActionProtocol/handleStreamedIn",
                streamed_out: "/cloudstate.action.ActionProtocol/handleStreamedOut",
                streamed: "/cloudstate.action.ActionProtocol/handleStreamed",
            },
            Dialect::Early => &Paths {
                handle: "/cloudstate.crdt.Crdt/handle",
                unary: "/cloudstate.function.StatelessFunction/handleUnary",
                streamed_in: "/cloudstate.function.StatelessFunction/handleStreamedIn",
                streamed_out: "/cloudstate.function.StatelessFunction/handleStreamedOut",
                streamed: "/cloudstate.function.StatelessFunction/handleStreamed",
            },
        }
    }

    /// What it calls a kind of entities.
    pub fn kind(self) -> &'static str {
        match self {
            Dialect::Kalix => "an entity type",
            Dialect::Cloudstate | Dialect::Early => "a persistenceId",
        }
    }

    /// How it names primitives.
    pub fn primitives(self) -> Primitives {
        match self {
            Dialect::Kalix => Primitives::Kalix,
            Dialect::Cloudstate | Dialect::Early => Primitives::Cloudstate,
        }
    }

    /// Whether entities answer streams themselves. Otherwise a command of theirs is given anew whenever they have changed.
    pub fn streams_entities(self) -> bool {
        self != Dialect::Kalix
    }

    /// Whether every message of a stream says whose it is. Otherwise the first does, and has nothing else in it.
    pub fn names_every_message(self) -> bool {
        self == Dialect::Early
    }

    /// A word's messages, in order.
    ///
    /// # Errors
    /// It has no word for it, and why.
    pub fn encode(self, word: Word) -> Result<Vec<Bytes>, String> {
        match self {
            Dialect::Kalix => kalix::encode(word).map(|message| vec![message]),
            Dialect::Cloudstate => cloudstate::encode(word).map(|message| vec![message]),
            Dialect::Early => early::encode(word),
        }
    }

    /// Whether a function that did this can be told of it once it begins anew.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn can_show(self, delta: &Delta) -> Result<(), String> {
        match self {
            // They have a word for whatever they can say.
            Dialect::Kalix | Dialect::Cloudstate => Ok(()),
            Dialect::Early => early::can_show(delta),
        }
    }

    /// What a message says.
    ///
    /// # Errors
    /// It makes no sense, and why.
    pub fn decode(self, message: Bytes) -> Result<Heard, String> {
        match self {
            Dialect::Kalix => kalix::decode(message),
            Dialect::Cloudstate | Dialect::Early => cloudstate::decode(message),
        }
    }
}

/// A write level, by the number that all dialects give it.
pub fn level(consistency: i32) -> Result<Level, String> {
    let copies = match consistency {
        0 => return Ok(Level::default()),
        1 => Copies::Majority,
        2 => Copies::All,
        other => return Err(format!("there is no write consistency of number {other}")),
    };
    Ok(Level {
        copies,
        stage: Stage::Durable,
    })
}

fn keyed(key: Option<Any>, delta: Delta) -> Result<(Any, Delta), String> {
    match key {
        Some(key) => Ok((key, delta)),
        None => Err("an entry of its map has no key".to_owned()),
    }
}

/// A child of a map, and what became of it.
fn changed<D>(
    key: Option<Any>,
    delta: Option<D>,
    taken: impl FnOnce(D) -> Result<Delta, String>,
) -> Result<(Any, Delta), String> {
    let delta = delta.ok_or_else(|| "an entry of its map has no change".to_owned())?;
    keyed(key, taken(delta)?)
}

fn unreadable(error: prost::DecodeError) -> String {
    format!("it sent a message that cannot be read: {error}")
}
