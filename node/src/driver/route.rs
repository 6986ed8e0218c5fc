//! Which node answers a call: this one if its function has the method, else the nearest whose does; and who comes next where that is
//! allowed. So nodes may have different versions of a function, while a cluster is changed node by node.

use std::sync::Arc;

use anabranch_crdt::NodeId;

use super::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::function::Streaming;
use crate::payload::Payload;
use crate::session::Call;
use crate::wire::Token;

impl Shared {
    /// Calls the function of an entity, here if it is here. Each node is asked once: the next one where the one before has not
    /// run it; and, if it may run twice, where that one may have.
    pub(crate) async fn call_anywhere(
        self: &Arc<Self>,
        call: Call,
        session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Payload, Error> {
        let found = self.functions.find(call.entity.kind(), &call.method);
        let is_here = found.is_some() || self.functions.has_foreign(&call);
        if is_here && !call.is_idempotent {
            return self.call_found(found, call, session, timeout_ms).await;
        }
        // Most calls are for here, and need no room for this.
        Box::pin(self.call_one_of(is_here, call, session, timeout_ms)).await
    }

    /// Calls the function of an entity at one node after the other.
    async fn call_one_of(
        self: &Arc<Self>,
        is_here: bool,
        call: Call,
        mut session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Payload, Error> {
        let deadline = self.clock.time().after_ms(timeout_ms);
        let nodes = self.candidates(is_here);
        let mut last: Option<Error> = None;
        for (i, node) in nodes.iter().enumerate() {
            let left_ms = self.clock.time().ms_until(deadline);
            if left_ms == 0 && last.is_some() {
                break;
            }
            // One that hangs must leave the others some of it.
            let share = if call.is_idempotent { nodes.len() - i } else { 1 };
            let own_ms = left_ms / share as u64;
            let asked = self.call_on(*node, call.clone(), session.as_deref_mut(), own_ms);
            match asked.await {
                Err(error) if goes_on(&error, call.is_idempotent) => {
                    // Where it may have run somewhere, that is what there is to say.
                    last = last.filter(may_have_run).or(Some(error));
                }
                ended => return ended,
            }
        }
        Err(self.nobody(&call, &nodes, last))
    }

    /// Opens a stream of an entity's function, here if it is here.
    pub(crate) async fn open_anywhere(
        self: &Arc<Self>,
        call: Call,
        after: Token,
        timeout_ms: u64,
    ) -> Result<Streaming, Error> {
        if self.functions.has_method(&call) {
            return self.open(call, after, timeout_ms).await;
        }
        let deadline = self.clock.time().after_ms(timeout_ms);
        let nodes = self.candidates(false);
        let mut last = None;
        for node in &nodes {
            let left_ms = self.clock.time().ms_until(deadline);
            match self.open_on(*node, call.clone(), after.clone(), left_ms).await {
                // A stream has changed nothing before it began.
                Err(error) if goes_on(&error, true) => last = Some(error),
                opened => return opened,
            }
        }
        Err(self.nobody(&call, &nodes, last))
    }

    fn candidates(&self, is_here: bool) -> Vec<NodeId> {
        let mut nodes = if is_here {
            vec![self.about.node]
        } else {
            Vec::new()
        };
        nodes.extend(self.network().nearest());
        nodes
    }

    /// What to say where everybody was asked.
    fn nobody(&self, call: &Call, nodes: &[NodeId], last: Option<Error>) -> Error {
        match last {
            Some(error) if error.kind() != ErrorKind::NoFunction => error,
            last => {
                let asked = match nodes.len() {
                    0 => "and no other node is linked".to_owned(),
                    n => format!("nor at the {n} nodes that it is linked with"),
                };
                let last = last.map(|error| format!("; the last of them says: {}", error.message()));
                let here = match self.functions.of(call.entity.kind()) {
                    Ok(function) => function.methods().collect::<Vec<_>>().join(", "),
                    Err(_) => "none of this kind".to_owned(),
                };
                let message = format!(
                    "nothing changed: {call}: there is no such function at this node (it has {here}), {asked}{}",
                    last.unwrap_or_default()
                );
                Error::new(ErrorKind::NoFunction, message)
            }
        }
    }
}

/// Whether the function may have been given the call before this came of it.
fn may_have_run(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Lost | ErrorKind::Unanswered)
}

/// Whether another node may be asked after this.
fn goes_on(error: &Error, is_idempotent: bool) -> bool {
    match error.kind() {
        // It has not begun there.
        ErrorKind::NoFunction
        | ErrorKind::Unreachable
        | ErrorKind::Overloaded
        | ErrorKind::NotReady
        | ErrorKind::Stopping => true,
        ErrorKind::Lost | ErrorKind::Unanswered | ErrorKind::Expired | ErrorKind::Stale => is_idempotent,
        _ => false,
    }
}
