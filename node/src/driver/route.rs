//! Which node answers a call: this one if its function has the method, else the nearest whose does; and who comes next where that is
//! allowed (`session::route`). So nodes may have different versions of a function, while a cluster is changed node by node.

use std::sync::Arc;

use anabranch_crdt::NodeId;

use super::shared::Shared;
use crate::error::Error;
use crate::function::Streaming;
use crate::payload::Payload;
use crate::session::Call;
use crate::session::route::{Opening, Route};
use crate::wire::Token;

impl Shared {
    /// Calls the function of an entity, here if it is here. Each node is asked once: the next one where the one before has not
    /// run it; and, if it may run twice, where that one may have.
    pub(crate) async fn call_anywhere(
        self: &Arc<Self>,
        call: Call,
        mut session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Payload, Error> {
        let found = self.functions.find(call.entity.kind(), &call.method);
        let at_once = found.filter(|found| !call.is_idempotent && found.is_plain(&call, session.as_deref()));
        if let Some(found) = at_once {
            return match self.call_at_once(found, call, session.as_deref_mut(), timeout_ms) {
                Ok(answer) => answer,
                Err(begun) => begun.answer(session).await,
            };
        }
        let is_here = found.is_some() || self.functions.has_foreign(&call);
        if is_here && !call.is_idempotent {
            return self.call_found(found, call, session, timeout_ms).await;
        }
        if !is_here {
            self.check_suspect(&call)?;
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
        let mut route = Route::new(self.candidates(is_here), &call, deadline);
        while let Some((node, own_ms)) = route.next(self.clock.time()) {
            let asked = self.call_on(node, call.clone(), session.as_deref_mut(), own_ms);
            let asked = asked.await;
            if let Err(error) = &asked
                && !is_here
            {
                self.note_elsewhere(&call, deadline, error);
            }
            if let Some(ended) = route.heard(asked) {
                return ended;
            }
        }
        let nobody = route.over(&call, self.functions.methods_of(call.entity.kind()));
        Err(self.unless_expected(nobody))
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
        self.check_suspect(&call)?;
        let deadline = self.clock.time().after_ms(timeout_ms);
        let mut route = Opening::new(self.candidates(false));
        while let Some(node) = route.next_node() {
            let left_ms = self.clock.time().ms_until(deadline);
            let opened = self.open_on(node, call.clone(), after.clone(), left_ms).await;
            if let Some(opened) = route.heard(opened) {
                return opened;
            }
        }
        let nobody = route.over(&call, self.functions.methods_of(call.entity.kind()));
        Err(self.unless_expected(nobody))
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
}
