//! What clients ask for, and what they hear.

use std::fmt;

use anabranch::engine::View;
use anabranch::{
    Call, Encoding, EntityId, Error, ErrorKind, Payload, Reading, ReplicaId, ShardId, TIMEOUT_MS_DEFAULT,
    Type, Update,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Streamed;
use crate::net::NodeIx;
use crate::queue::Micros;
use crate::rng::Rng;

/// Who asks, when, and its chance.
#[derive(Debug)]
pub struct Client {
    /// Its number, from 0.
    pub ix: usize,
    /// The node that it asks where it names none.
    pub home: NodeIx,
    /// How many nodes there are, running or not.
    pub nodes: usize,
    /// Virtual time, microseconds.
    pub now: Micros,
    /// Chance, another one each time.
    pub rng: Rng,
}

impl Client {
    /// Some node, running or not.
    pub fn any_node(&mut self) -> NodeIx {
        self.rng.below(self.nodes as u64) as NodeIx
    }
}

/// What a client asks a node for: a call of a function, or, without any function, an update or a read of entities.
///
/// ```
/// use anabranch_sim::app::Ask;
/// let ask = Ask::of("cart", "alice", "add", &("boots", 2)).at(1).in_session();
/// assert_eq!(ask.to_string(), "add of cart/alice");
/// assert_eq!(Ask::delete("cart", "alice").to_string(), "delete of cart/alice");
/// ```
#[derive(Clone, Debug)]
pub struct Ask {
    what: What,
    node: Option<NodeIx>,
    timeout_ms: u64,
    in_session: bool,
    begins_session: bool,
    after_us: Option<Micros>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A call of a function, and the only node that may run it, where there is one.
    Call { call: Call, on: Option<NodeIx> },
    /// A stream of a function.
    Stream(Streamed),
    /// What no function is asked for.
    Direct(Direct),
}

#[derive(Clone, Debug)]
pub(crate) enum Direct {
    Update(Update),
    Read { entity: EntityId, majority: bool },
}

impl Ask {
    /// A call of an entity's function, as [`Node::call`](anabranch::Node::call) makes it: as CBOR.
    ///
    /// # Panics
    /// The name is no entity's, or the argument cannot be written.
    pub fn of<A: Serialize + ?Sized>(kind: &str, key: &str, method: &str, argument: &A) -> Ask {
        Ask::encoded(Encoding::Cbor, kind, key, method, argument)
    }

    /// The same in a certain encoding.
    ///
    /// # Panics
    /// The name is no entity's, or the argument cannot be written.
    pub fn encoded<A: Serialize + ?Sized>(
        encoding: Encoding,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Ask {
        let call = call(encoding, kind, key, method, argument);
        Ask::what(What::Call { call, on: None }, TIMEOUT_MS_DEFAULT)
    }

    /// An update, as [`Node::update`](anabranch::Node::update) makes it. Its answer is a reply of `()`. What its session has seen
    /// is waited for where it is asked [in one](Ask::in_session).
    pub fn update(update: Update) -> Ask {
        let timeout_ms = update.timeout_ms;
        Ask::what(What::Direct(Direct::Update(update)), timeout_ms)
    }

    /// The deletion of an entity, as [`Node::delete`](anabranch::Node::delete) makes it.
    ///
    /// # Panics
    /// The name is no entity's.
    pub fn delete(kind: &str, key: &str) -> Ask {
        Ask::update(Update::delete(name(kind, key)))
    }

    /// A read of an entity, as [`Node::read_after`](anabranch::Node::read_after) makes it. Its answer is a reply of `()`, and
    /// [what was read](Answered::read).
    ///
    /// # Panics
    /// The name is no entity's.
    pub fn read(kind: &str, key: &str) -> Ask {
        Ask::reading(name(kind, key), false)
    }

    /// The same of what more than half of the nodes have: [`Node::read_majority`](anabranch::Node::read_majority).
    ///
    /// # Panics
    /// The name is no entity's.
    pub fn read_majority(kind: &str, key: &str) -> Ask {
        Ask::reading(name(kind, key), true)
    }

    fn reading(entity: EntityId, majority: bool) -> Ask {
        let what = What::Direct(Direct::Read { entity, majority });
        Ask::what(what, TIMEOUT_MS_DEFAULT)
    }

    pub(super) fn what(what: What, timeout_ms: u64) -> Ask {
        Ask {
            what,
            node: None,
            timeout_ms,
            in_session: false,
            begins_session: false,
            after_us: None,
        }
    }

    /// At this node, instead of the client's own.
    #[must_use]
    pub fn at(self, node: NodeIx) -> Ask {
        let node = Some(node);
        Ask { node, ..self }
    }

    /// With so much time.
    #[must_use]
    pub fn within_ms(self, timeout_ms: u64) -> Ask {
        Ask { timeout_ms, ..self }
    }

    /// In the client's session: it sees what the session has seen, at whichever node.
    #[must_use]
    pub fn in_session(self) -> Ask {
        let in_session = true;
        Ask { in_session, ..self }
    }

    /// In a new session of the client's. What a crash took with it no node shows any more, and a session that has seen it
    /// waits for ever.
    #[must_use]
    pub fn in_new_session(self) -> Ask {
        Ask {
            in_session: true,
            begins_session: true,
            ..self
        }
    }

    /// Run at this node and no other, as [`Node::call_on`](anabranch::Node::call_on) does: whichever is [asked](Ask::at).
    ///
    /// # Panics
    /// It is no call.
    #[must_use]
    pub fn on(mut self, node: NodeIx) -> Ask {
        match &mut self.what {
            What::Call { on, .. } => *on = Some(node),
            What::Stream(streamed) => streamed.on = Some(node),
            _ => panic!("{self} is made at the node that is asked"),
        }
        self
    }

    /// Under a name, by which its function can tell that it was called before.
    ///
    /// # Panics
    /// It is no call.
    #[must_use]
    pub fn named(self, id: &str) -> Ask {
        self.called(|call| call.with_id(id))
    }

    /// It may run more than once: another node is asked where one does not answer.
    ///
    /// # Panics
    /// It is no call.
    #[must_use]
    pub fn idempotent(self) -> Ask {
        self.called(Call::idempotent)
    }

    fn called(mut self, f: impl FnOnce(Call) -> Call) -> Ask {
        match &mut self.what {
            What::Call { call, .. } => *call = f(call.clone()),
            What::Stream(streamed) => streamed.call = f(streamed.call.clone()),
            _ => panic!("{self} is no call of a function"),
        }
        self
    }

    /// The client waits so long before it asks this, microseconds, instead of a time that its seed draws.
    #[must_use]
    pub fn after_us(self, us: Micros) -> Ask {
        let after_us = Some(us);
        Ask { after_us, ..self }
    }

    /// The call, if it is one, or one that is answered with a stream.
    pub fn call(&self) -> Option<&Call> {
        match &self.what {
            What::Call { call, .. } => Some(call),
            What::Stream(streamed) => Some(&streamed.call),
            What::Direct(_) => None,
        }
    }

    pub(super) fn stream_mut(&mut self) -> &mut Streamed {
        match &mut self.what {
            What::Stream(streamed) => streamed,
            other => panic!("it opens no stream: {other:?}"),
        }
    }

    pub(crate) fn is_for(&self) -> &What {
        &self.what
    }

    /// The highest node that it names.
    pub(crate) fn names(&self) -> Option<NodeIx> {
        match &self.what {
            What::Call { on, .. } => self.node.max(*on),
            What::Stream(streamed) => self.node.max(streamed.on),
            What::Direct(_) => self.node,
        }
    }

    pub(crate) fn node(&self) -> Option<NodeIx> {
        self.node
    }

    pub(crate) fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    pub(crate) fn is_in_session(&self) -> bool {
        self.in_session
    }

    pub(crate) fn begins_session(&self) -> bool {
        self.begins_session
    }

    pub(crate) fn waits_us(&self) -> Option<Micros> {
        self.after_us
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Call { call, on: None } => call.fmt(f),
            What::Call { call, on: Some(on) } => write!(f, "{call} on n{on}"),
            What::Stream(streamed) => streamed.fmt(f),
            What::Direct(direct) => direct.fmt(f),
        }
    }
}

impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Direct::Update(update) => {
                for (at, op) in update.ops.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{} of {}", op.mutation.name(), op.entity)?;
                }
                Ok(())
            }
            Direct::Read { entity, majority } => {
                let how = if *majority { "majority read" } else { "read" };
                write!(f, "{how} of {entity}")
            }
        }
    }
}

/// An entity that somebody outside names.
fn name(kind: &str, key: &str) -> EntityId {
    EntityId::new(kind, key).unwrap_or_else(|e| panic!("an entity {kind}/{key}: {e}"))
}

/// What is sent on a stream.
pub(crate) fn message<M: Serialize + ?Sized>(encoding: Encoding, message: &M) -> Payload {
    Payload::of(encoding, message).unwrap_or_else(|e| panic!("a message: {e}"))
}

/// A call from outside.
pub(crate) fn call<A: Serialize + ?Sized>(
    encoding: Encoding,
    kind: &str,
    key: &str,
    method: &str,
    argument: &A,
) -> Call {
    let argument = Payload::of(encoding, argument);
    Call::new(
        name(kind, key),
        method,
        argument.unwrap_or_else(|e| panic!("the argument of {method}: {e}")),
    )
}

/// What became of what a client asked for.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Whose call it was.
    pub client: usize,
    /// What was asked.
    pub ask: Ask,
    /// At which node.
    pub node: NodeIx,
    /// When it was asked and answered, microseconds.
    pub asked_at: Micros,
    /// See `asked_at`.
    pub answered_at: Micros,
    /// The answer.
    pub result: Result<Payload, Error>,
    /// What the function was shown, and the node's run that showed it; nothing if it was not given the command.
    pub saw: Option<(ReplicaId, View)>,
    /// What its command or its update made at the node that was asked; nothing where that is not known.
    pub made: Option<Made>,
    /// What a read has read; nothing if the entity does not exist, or it was no read.
    pub read: Option<(Type, Reading)>,
}

/// What a command or an update made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The run of its node.
    pub by: ReplicaId,
    /// The operations: per shard the first and the last sequence.
    pub dots: Vec<(ShardId, u64, u64)>,
}

impl Answered {
    /// The reply, or why there is none.
    ///
    /// # Errors
    /// Those of the call.
    ///
    /// # Panics
    /// The reply is none of this type.
    pub fn reply<R: DeserializeOwned>(&self) -> Result<R, &Error> {
        let payload = self.result.as_ref()?;
        let read = payload.read();
        Ok(read.unwrap_or_else(|e| panic!("the reply to {}: {e}", self.ask)))
    }

    /// Whether it failed so that nobody can say whether it has run, or will stay.
    pub fn may_have_run(&self) -> bool {
        self.result.as_ref().is_err_and(Error::changed_state)
    }

    /// Whether it failed for what the function itself said.
    pub fn is_refused(&self) -> bool {
        self.is_error(ErrorKind::Refused)
    }

    /// Whether it failed in this way.
    pub fn is_error(&self, kind: ErrorKind) -> bool {
        self.result.as_ref().is_err_and(|error| error.kind() == kind)
    }
}
