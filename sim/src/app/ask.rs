//! What clients ask for, and what they hear.

use anabranch::engine::View;
use anabranch::{
    Call, Encoding, EntityId, Error, ErrorKind, Payload, ReplicaId, ShardId, TIMEOUT_MS_DEFAULT,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

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

/// A call that a client makes.
///
/// ```
/// use anabranch_sim::app::Ask;
/// let ask = Ask::of("cart", "alice", "add", &("boots", 2)).at(1).in_session();
/// assert_eq!(ask.call().to_string(), "add of cart/alice");
/// ```
#[derive(Clone, Debug)]
pub struct Ask {
    call: Call,
    node: Option<NodeIx>,
    timeout_ms: u64,
    in_session: bool,
    begins_session: bool,
    after_us: Option<Micros>,
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
        Ask {
            call: call(encoding, kind, key, method, argument),
            node: None,
            timeout_ms: TIMEOUT_MS_DEFAULT,
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

    /// Under a name, by which its function can tell that it was called before.
    #[must_use]
    pub fn named(self, id: &str) -> Ask {
        let call = self.call.clone().with_id(id);
        Ask { call, ..self }
    }

    /// It may run more than once: another node is asked where one does not answer.
    #[must_use]
    pub fn idempotent(self) -> Ask {
        let call = self.call.clone().idempotent();
        Ask { call, ..self }
    }

    /// The client waits so long before it asks this, microseconds, instead of a time that its seed draws.
    #[must_use]
    pub fn after_us(self, us: Micros) -> Ask {
        let after_us = Some(us);
        Ask { after_us, ..self }
    }

    /// The call itself.
    pub fn call(&self) -> &Call {
        &self.call
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

/// A call from outside.
pub(crate) fn call<A: Serialize + ?Sized>(
    encoding: Encoding,
    kind: &str,
    key: &str,
    method: &str,
    argument: &A,
) -> Call {
    let entity = EntityId::new(kind, key).unwrap_or_else(|e| panic!("a call of {kind}/{key}: {e}"));
    let argument = Payload::of(encoding, argument);
    Call::new(
        entity,
        method,
        argument.unwrap_or_else(|e| panic!("the argument of {method}: {e}")),
    )
}

/// What became of a call.
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
    /// What its command made at the node that was asked; nothing where that is not known.
    pub made: Option<Made>,
}

/// What a command made.
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
        Ok(read.unwrap_or_else(|e| panic!("the reply to {}: {e}", self.ask.call)))
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
