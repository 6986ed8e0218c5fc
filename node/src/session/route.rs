//! Whom a call is taken to where its function may be at several nodes, and after which errors somebody else is asked.
//!
//! Not here: who carries it (`driver::route`; in the simulator, its world). Contract: each node is asked once. The next one is asked
//! where the one before has not run it; where that one may have, only if the call may run twice. What is answered in the end says
//! that something may have run, if it may anywhere.

use anabranch_crdt::{NodeId, planted};

use crate::error::{Error, ErrorKind};
use crate::session::Call;
use crate::terms::Time;

/// A call on its way from node to node.
#[derive(Debug)]
pub struct Route {
    nodes: Vec<NodeId>,
    /// How many of them were asked.
    asked: usize,
    is_idempotent: bool,
    deadline: Time,
    last: Option<Error>,
}

impl Route {
    /// Of these nodes, in this order, until this time.
    pub fn new(nodes: Vec<NodeId>, call: &Call, deadline: Time) -> Route {
        Route {
            nodes,
            asked: 0,
            is_idempotent: call.is_idempotent,
            deadline,
            last: None,
        }
    }

    /// Who is asked next, and how long that may take, milliseconds; nobody where all were asked, or the time is over.
    pub fn next(&mut self, now: Time) -> Option<(NodeId, u64)> {
        let left_ms = now.ms_until(self.deadline);
        if left_ms == 0 && self.last.is_some() {
            return None;
        }
        let node = *self.nodes.get(self.asked)?;
        // One that hangs must leave the others some of it.
        let share = if self.is_idempotent {
            self.nodes.len() - self.asked
        } else {
            1
        };
        self.asked += 1;
        Some((node, left_ms / share as u64))
    }

    /// Who was asked has answered. Returns what the caller hears; nothing where somebody else is to be asked.
    pub fn heard<T>(&mut self, result: Result<T, Error>) -> Option<Result<T, Error>> {
        match result {
            Err(error) if goes_on(&error, self.is_idempotent) => {
                // Where it may have run somewhere, that is what there is to say.
                let before = self.last.take().filter(may_have_run);
                self.last = before.or(Some(error));
                None
            }
            ended => Some(ended),
        }
    }

    /// What there is to say where nobody else is asked. `here` are the methods of this node's function, for people.
    pub fn over(self, call: &Call, here: &str) -> Error {
        nobody(call, self.nodes.len(), self.last, here)
    }
}

/// What to say where everybody was asked, so many nodes, and this came of it at last.
pub(crate) fn nobody(call: &Call, nodes: usize, last: Option<Error>, here: &str) -> Error {
    match last {
        Some(error) if error.kind() != ErrorKind::NoFunction => error,
        last => {
            let asked = match nodes {
                0 => "and no other node is linked".to_owned(),
                n => format!("nor at the {n} nodes that it is linked with"),
            };
            let last = last.map(|error| format!("; the last of them says: {}", error.message()));
            let message = format!(
                "nothing changed: {call}: there is no such function at this node (it has {here}), {asked}{}",
                last.unwrap_or_default()
            );
            Error::new(ErrorKind::NoFunction, message)
        }
    }
}

/// Whether the function may have been given the call before this came of it.
fn may_have_run(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Lost | ErrorKind::Unanswered)
}

/// Whether another node may be asked after this.
pub(crate) fn goes_on(error: &Error, is_idempotent: bool) -> bool {
    match error.kind() {
        // It has not begun there.
        ErrorKind::NoFunction
        | ErrorKind::Unreachable
        | ErrorKind::Overloaded
        | ErrorKind::NotReady
        | ErrorKind::Stopping => true,
        ErrorKind::Lost | ErrorKind::Unanswered | ErrorKind::Expired | ErrorKind::Stale => {
            planted!("once_asked_again", true, is_idempotent)
        }
        _ => false,
    }
}
