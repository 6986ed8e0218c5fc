//! What goes into a session and what comes out of it: values, never effects.

use std::fmt;
use std::sync::Arc;

use anabranch_crdt::{Mutation, NodeId, Reading, Type};

use crate::error::Error;
pub use crate::payload::{Encoding, Payload};
use crate::session::change::Change;
use crate::terms::{Level, Time};
use crate::trace::Trace;
use crate::view::View;
use crate::wire::EntityId;

/// What a session is made of; fixed for its life.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node it is at.
    pub node: NodeId,
    /// Whose session it is.
    pub entity: EntityId,
    /// The type its function knows the entity as; none if it takes the entity as it is, and makes one as it likes.
    pub ty: Option<Type>,
    /// Whether the function keeps a copy of the state between commands, and must be told what becomes of it. One that does
    /// not is shown the entity with every command.
    pub remembers: bool,
    /// Whether the function's copy is as it was when it has refused a command. Otherwise it is given a new one.
    pub trusts_refusals: bool,
    /// The write level of a command that names none.
    pub level: Level,
    /// Commands that wait or are being answered, at most.
    pub commands_max: usize,
    /// How long a function may take for a command, milliseconds.
    pub answer_ms: u64,
    /// How long it may go on with one whose caller has gone, milliseconds.
    pub left_ms: u64,
    /// After how long without a command the function is passivated, milliseconds.
    pub idle_ms: u64,
    /// How long it may take to end when it is passivated, and no command comes, milliseconds.
    pub closing_ms: u64,
    /// The lives of its function are counted from here: so that no word of an earlier session's is heard in this one.
    pub streams_from: u64,
}

impl Config {
    /// The session of an entity with a function that remembers, with every bound at its default.
    pub fn new(node: NodeId, entity: EntityId, ty: impl Into<Option<Type>>) -> Config {
        Config {
            node,
            entity,
            ty: ty.into(),
            remembers: true,
            trusts_refusals: false,
            level: Level::default(),
            commands_max: super::COMMANDS_MAX_DEFAULT,
            answer_ms: super::ANSWER_MS_DEFAULT,
            left_ms: super::LEFT_MS_DEFAULT,
            idle_ms: super::IDLE_MS_DEFAULT,
            closing_ms: super::CLOSING_MS_DEFAULT,
            streams_from: 0,
        }
    }
}

/// Names one command until its [`Output::Answer`]; never used twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Names one life of the function beside the entity: what an earlier one says is not heard any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A named message to a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Which of the function's methods.
    pub method: String,
    /// Its argument.
    pub payload: Payload,
    /// When its caller gives up.
    pub deadline: Time,
    /// How it came to be.
    pub origin: Origin,
}

/// How a call came to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// How many functions have called one another to get here; 0 for a caller who is none.
    pub depth: u8,
    /// A name of this call, the same wherever and whenever it is made again: by which its function can tell that it was.
    pub id: Option<Arc<str>>,
    /// Where it stands in what it is part of, if somebody keeps track of that.
    pub trace: Option<Trace>,
}

impl Origin {
    /// Of a call that is made for this one.
    pub fn onward(&self) -> Origin {
        Origin {
            depth: self.depth.saturating_add(1),
            id: None,
            trace: self.trace,
        }
    }
}

/// A command to another entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which entity; its kind says which function.
    pub entity: EntityId,
    /// Which of the function's methods.
    pub method: String,
    /// Its argument.
    pub payload: Payload,
    /// How it came to be.
    pub origin: Origin,
    /// Whether it may run more than once: then it is tried at other nodes where one does not answer.
    pub is_idempotent: bool,
}

impl Call {
    /// A call from outside.
    pub fn new(entity: EntityId, method: impl Into<String>, payload: Payload) -> Call {
        Call {
            entity,
            method: method.into(),
            payload,
            origin: Origin::default(),
            is_idempotent: false,
        }
    }

    /// The same under a name, by which its function can tell that it was made before.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Arc<str>>) -> Call {
        self.origin.id = Some(id.into());
        self
    }

    /// The same as a part of a trace.
    #[must_use]
    pub fn with_trace(mut self, trace: Trace) -> Call {
        self.origin.trace = Some(trace);
        self
    }

    /// The same, and it may run more than once.
    #[must_use]
    pub fn idempotent(self) -> Call {
        Call {
            is_idempotent: true,
            ..self
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.method, self.entity)
    }
}

/// A call that a function wants made once its own change is in; where it refuses, there is none to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What to call.
    pub call: Call,
    /// Whether the caller waits until it is done. How it went nobody is told.
    pub awaited: bool,
}

/// What its caller hears of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// This.
    Reply(Payload),
    /// What another entity's function answers to this.
    Forward(Call),
    /// That it was refused, and why. Nothing was changed.
    Refuse(Error),
}

/// What a command does to the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    #[default]
    Same,
    /// This, in order.
    Update(Vec<Mutation>),
    /// It deletes the entity, as far as the function sees it.
    Delete,
}

/// A function's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Which command.
    pub command: CommandId,
    /// For the caller.
    pub action: Action,
    /// For the entity; not looked at if the command is refused.
    pub state: State,
    /// For others.
    pub effects: Vec<Effect>,
    /// The write level, if it is not the session's.
    pub level: Option<Level>,
    /// The type that it took the entity for, if it says so.
    pub ty: Option<Type>,
    /// Whether there is more to come.
    pub streams: Streams,
}

/// Whether an answer goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// It is all there is.
    #[default]
    No,
    /// It is the first of several.
    Begun,
    /// It is nothing, and others are to come.
    Silent,
}

/// What a function says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It answers.
    Reply(Reply),
    /// More of an answer that goes on.
    Streamed {
        /// To which command.
        command: CommandId,
        /// For its caller, if anything.
        action: Option<Action>,
        /// For others.
        effects: Vec<Effect>,
        /// Whether it was the last.
        is_last: bool,
    },
    /// It failed, at a command or at all, and why: its copy of the state is not what it should be.
    Failed {
        /// At which command.
        command: Option<CommandId>,
        /// Why.
        error: Error,
    },
    /// It has ended.
    Ended,
}

/// What a function is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// It begins.
    Init {
        /// The entity.
        view: View,
        /// What it reads, if it exists.
        reading: Option<Reading>,
    },
    /// Something became of the entity.
    Delta {
        /// What.
        change: Change,
        /// The entity now.
        view: View,
    },
    /// The entity was deleted. The function is to end.
    Delete,
    /// A command, and what it is shown.
    Command {
        /// Its name.
        id: CommandId,
        /// What to do.
        command: Command,
        /// The entity now: the same as it was told, if it remembers.
        view: View,
    },
    /// Nobody hears any more how its answer to a command goes on. It answers that as it does a command.
    Cancelled {
        /// Which command.
        id: CommandId,
    },
    /// Nothing more comes: it is to end.
    End,
}

/// One thing that happened, for [`Session::handle`](super::Session::handle).
#[derive(Clone, Debug)]
pub enum Input {
    /// A caller's command; answered by exactly one [`Output::Answer`], unless it is cancelled before it begins.
    Command {
        /// The host's name for it.
        id: CommandId,
        /// What to do.
        command: Command,
    },
    /// The caller of a command has gone. One that has not begun never does; one whose answer goes on is ended, and answered then;
    /// another goes on, and is given up after a while.
    Cancelled {
        /// Which.
        id: CommandId,
    },
    /// The entity may have changed at this node.
    Changed,
    /// Who is there may be others than before: whoever shows how many there are to vote shows it anew.
    Recount,
    /// The function said something.
    Said {
        /// In which of its lives.
        stream: StreamId,
        /// What.
        said: Said,
    },
    /// What [`Output::Commit`] asked for was accepted: it is visible here.
    Joined {
        /// The command that made it.
        id: CommandId,
        /// The entity just behind it, where what the function had seen was the present then: for a function that remembers, which
        /// need not be told what it did itself.
        left: Option<View>,
    },
    /// It has reached its level, or was refused, or will not be known to have reached it.
    Committed {
        /// The command that made it.
        id: CommandId,
        /// How it went.
        result: Result<(), Error>,
    },
    /// A command's awaited effects are done.
    EffectsDone {
        /// The command.
        id: CommandId,
    },
    /// Time has passed.
    Wakeup,
}

/// One thing to be done, in the order they come.
#[derive(Clone, Debug)]
pub enum Output {
    /// Tell the function, and begin a life of it where it is the first thing told on this stream.
    Tell {
        /// Which of its lives.
        stream: StreamId,
        /// What.
        told: Told,
    },
    /// End this life of the function at once; nothing that it says is heard. It may have been told to end before.
    Reset {
        /// Which.
        stream: StreamId,
    },
    /// Make this update of the entity, by what was seen: [`Input::Joined`] and [`Input::Committed`] say how it went.
    Commit {
        /// For which command.
        id: CommandId,
        /// As which type.
        ty: Type,
        /// What the function did.
        mutations: Vec<Mutation>,
        /// What it had seen.
        view: View,
        /// How many copies must confirm it.
        level: Level,
        /// Until when.
        deadline: Time,
    },
    /// Make these calls in order; the awaited ones done, say [`Input::EffectsDone`].
    Effects {
        /// The command that wants them.
        id: CommandId,
        /// What to call.
        effects: Vec<Effect>,
        /// Until when.
        deadline: Time,
    },
    /// A part of an answer that goes on. Make the calls in order, and then its caller hears.
    Streamed {
        /// To which command.
        id: CommandId,
        /// For its caller, if anything.
        action: Option<Action>,
        /// What to call.
        effects: Vec<Effect>,
    },
    /// The answer to a command: a reply or a forward. Behind parts of one, that it has ended: what it is then is of no matter.
    Answer {
        /// Which.
        id: CommandId,
        /// How it went.
        result: Result<Action, Error>,
    },
    /// The function broke the rules: for its author.
    Report {
        /// How.
        what: String,
    },
}
