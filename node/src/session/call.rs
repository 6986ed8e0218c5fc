//! Calls between functions, whoever carries them: what one may be, and how it goes to another node.
//!
//! Contract: what may be wrong with a call is said here, in the same words to whoever makes it, wherever it runs.

use std::sync::Arc;

use anabranch_crdt::{NodeId, planted};
use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::payload::Payload;
use crate::session::{Action, Call, Origin};
use crate::trace::Trace;
use crate::wire::{CallRequest, EntityId, Token, WireValue};

/// Functions call one another at most so deep.
const DEPTH_MAX: u8 = 32;

impl Call {
    /// What a call may be, whoever makes it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: its argument is too long. [`ErrorKind::Refused`]: functions have called one another too deep.
    /// Nothing has changed.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(excess) = self.payload.excess() {
            let message = format!("nothing changed: an argument of {excess}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if self.origin.depth > DEPTH_MAX {
            let message = format!(
                "nothing changed: functions have called one another {DEPTH_MAX} deep, at last {self}"
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        Ok(())
    }

    /// The call as another node is asked it: under a name of the asker's, with how long he waits and what his session has seen,
    /// if he has one.
    pub fn to_request(self, id: u64, timeout_ms: u64, token: Option<&Token>) -> CallRequest {
        let origin = self.origin;
        CallRequest {
            id,
            kind: self.entity.kind().to_owned(),
            key: self.entity.key().to_owned(),
            method: self.method,
            argument: WireValue::of(self.payload),
            timeout_ms,
            depth: origin.depth,
            call_id: planted!("name_stays_behind", None, origin.id.map(|id| id.to_string())),
            trace: origin.trace.map(|trace| (trace.id, trace.span, trace.flags)),
            token: token.map(|token| Bytes::from(token.to_bytes())),
        }
    }

    /// What another node asks, and what its caller's session has seen.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: a name, the argument's encoding or the token is none of this version's. Nothing has changed.
    pub fn from_request(request: CallRequest) -> Result<(Call, Option<Token>), Error> {
        let invalid = |what: String| Error::new(ErrorKind::Invalid, format!("nothing changed: {what}"));
        let entity = EntityId::new(&request.kind, &request.key).map_err(|e| invalid(e.to_string()))?;
        let argument = request.argument.read().ok_or_else(|| {
            invalid("the argument is in an encoding that this node does not know".to_owned())
        })?;
        let token = request.token.map(|bytes| Token::from_bytes(&bytes));
        let token = token.transpose().map_err(|e| invalid(e.to_string()))?;
        let trace = request.trace.map(|(id, span, flags)| Trace { id, span, flags });
        let call = Call {
            origin: Origin {
                depth: request.depth,
                id: request.call_id.map(Arc::from),
                trace,
            },
            ..Call::new(entity, request.method, argument)
        };
        Ok((call, token))
    }
}

impl Action {
    /// What can be known to be wrong with an answer before what the command did is in. `forward` says the same of a call that the
    /// command is forwarded to.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`]: the reply is too long; and those of `forward`. Nothing has changed.
    pub fn check(&self, forward: impl FnOnce(&Call) -> Result<(), Error>) -> Result<(), Error> {
        match self {
            Action::Reply(payload) => check_reply(payload),
            Action::Forward(call) => forward(call),
            Action::Refuse(_) => Ok(()),
        }
    }
}

/// What can be known to be wrong with a reply.
pub(crate) fn check_reply(reply: &Payload) -> Result<(), Error> {
    match reply.excess() {
        None => Ok(()),
        Some(excess) => {
            let message = format!("nothing changed: the function's reply has {excess}");
            Err(Error::new(ErrorKind::Refused, message))
        }
    }
}

/// What a caller hears whose call went to another node, and whose answer does not come.
pub(crate) fn unanswered(peer: NodeId, why: &str) -> Error {
    let message = format!(
        "node {peer} was called and its answer is lost: {why}. Whether the function ran is not known"
    );
    Error::new(ErrorKind::Unanswered, message)
}

/// The same of an answer that came.
pub(crate) fn strange(peer: NodeId, what: &str) -> Error {
    let message = format!("node {peer} has answered, and {what} cannot be read: it is of another version");
    Error::new(ErrorKind::Unanswered, message)
}
