//! Functions that are elsewhere: in another process, beside each of their entities with a copy of its state.
//!
//! Not here: who they are and how they are reached (`sidecar`), and when they are told what (`session`, `driver`).
//!
//! Contract: nothing here waits. What is told to a function goes on its way, and what it says is heard later.

use std::fmt;
use std::sync::Arc;

use anabranch_crdt::Type;
use bytes::Bytes;

use crate::error::Error;
use crate::function::{BoxFuture, Caller, Pipe};
use crate::payload::{Encoding, Payload};
use crate::session::{Action, Call, Command, Config, Effect, Said, Told};
use crate::wire::EntityId;

/// The function of a kind, in another process.
pub trait Foreign: Send + Sync + fmt::Debug {
    /// Whose function it is.
    fn kind(&self) -> &str;

    /// Another where it is not the same function any more: of one that was mended it is not known on what it ends.
    #[cfg(feature = "sidecar")]
    fn edition(&self) -> u64;

    /// Whether it has a method of this name.
    fn has(&self, method: &str) -> bool;

    /// The names of its methods.
    fn methods(&self) -> Vec<String>;

    /// The type of its entities, if it says so; otherwise it makes each as what it likes.
    fn ty(&self) -> Option<Type>;

    /// Whether it has no entities: it answers each command with [`Foreign::act`], and has no life beside one.
    fn is_stateless(&self) -> bool;

    /// Whether entities that it deletes cannot be made again.
    fn deletes_for_good(&self) -> bool;

    /// What a command hears of an entity that was deleted for good.
    fn deleted(&self, entity: &EntityId) -> Error;

    /// What a command hears that is kept from it for a while.
    fn parked(&self, what: &str) -> Error;

    /// What a caller hears where its answer cannot be gone by: it is to blame, and nobody else.
    fn fault(&self, what: &str) -> Error;

    /// The same, and its author is told: once of each method, of each thing that it does wrong.
    fn blame(&self, method: &str, what: &'static str, text: &str) -> Error;

    /// What sessions of its entities are made of.
    fn session(&self, config: Config) -> Config;

    /// A call as the function takes it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): its argument is none of this method's. Nothing has changed.
    fn take(&self, call: Call) -> Result<Call, Error>;

    /// The message of an argument that was [taken](Foreign::take), without what was said beside it.
    fn message(&self, payload: &Payload) -> Bytes;

    /// A reply as its caller wants it, who has called with an argument of this encoding.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal): the reply is none of this method's.
    fn give(&self, method: &str, wants: Encoding, reply: Payload) -> Result<Payload, Error>;

    /// Begins a life of it beside an entity. It is dropped where it is not to be heard any more.
    fn open(&self, entity: &EntityId, hear: Hear) -> Box<dyn Handle>;

    /// Answers one command on its own, and says what it wants called.
    fn act(&self, command: Command) -> BoxFuture<'_, (Result<Action, Error>, Vec<Effect>)>;

    /// Whether the method is answered with a stream: by [`Foreign::stream`], where there are no entities; of an entity, as it changes.
    fn is_streamed(&self, method: &str) -> bool;

    /// Whether it goes on answering streams of an entity by itself, as the entity changes. Otherwise it is asked again.
    fn goes_on(&self) -> bool;

    /// Answers a stream, as its caller wants it, and makes its calls by `calls`.
    fn stream(
        &self,
        command: Command,
        wants: Encoding,
        pipe: Pipe,
        calls: Arc<dyn Caller>,
    ) -> BoxFuture<'static, Result<(), Error>>;

    /// Tells its author what is wrong with it.
    fn report(&self, what: &str);

    /// Has something done beside everything else.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// One life of a function beside an entity.
pub trait Handle: Send {
    /// Tells it something. What cannot be told it is the end of this life, which is heard.
    fn tell(&mut self, told: Told);
}

/// Where what a life of a function says is heard; never from within [`Handle::tell`] or [`Foreign::open`].
#[derive(Clone)]
#[cfg_attr(not(feature = "sidecar"), allow(dead_code, reason = "nobody says anything"))]
pub struct Hear(Arc<dyn Fn(Said) + Send + Sync>);

#[cfg_attr(not(feature = "sidecar"), allow(dead_code, reason = "nobody says anything"))]
impl Hear {
    /// Hears by this.
    pub fn new(hear: impl Fn(Said) + Send + Sync + 'static) -> Hear {
        Hear(Arc::new(hear))
    }

    /// The function has said something.
    pub fn said(&self, said: Said) {
        (self.0)(said);
    }
}

impl fmt::Debug for Hear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hear")
    }
}

/// What is known of a command whose answer cannot be used.
pub fn unknown_elsewhere(has_entity: bool) -> &'static str {
    match has_entity {
        true => "Its entity is as it was; what it did elsewhere is not known",
        false => "What it did elsewhere is not known",
    }
}
