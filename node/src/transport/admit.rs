//! Which of several connections between two nodes is kept: a decision, and nothing else.
//!
//! Both nodes decide alone, and come to the same answer: among connections of the same two epochs the one whose
//! dialler has the smaller node id stays, and of two by the same dialler the later (it dials only when it has
//! lost the earlier). A newer epoch of the peer replaces an older one at once.

use anabranch_crdt::{Epoch, NodeId};

use crate::transport::event::{CloseCode, Reason};

/// A connection as far as the decision goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The peer's epoch.
    pub(super) epoch: Epoch,
    /// Who dialled.
    pub(super) dialler: NodeId,
}

/// What this node knows of the peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The link that is up.
    pub(super) held: Option<Offer>,
    /// The newest epoch it was ever linked with.
    pub(super) newest: Option<Epoch>,
    /// Whether this node has said hello on a connection that it dialled, and waits for the answer.
    pub(super) asking: bool,
}

/// What to do with an offered connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It becomes the link; there is none.
    Admit,
    /// It becomes the link in place of the one that is up.
    Replace(Reason, CloseCode),
    /// It is closed.
    Refuse(CloseCode),
}

/// Decides about a connection with `peer` whose hello has come.
pub(super) fn decide(me: NodeId, peer: NodeId, known: Known, offer: Offer) -> Verdict {
    assert!(
        offer.dialler == me || offer.dialler == peer,
        "{} dialled neither from nor to here",
        offer.dialler
    );
    if known.newest.is_some_and(|newest| newest > offer.epoch) {
        return Verdict::Refuse(CloseCode::NewerEpoch);
    }
    if let Some(held) = known.held {
        if held.epoch < offer.epoch {
            return Verdict::Replace(Reason::NewEpoch(offer.epoch), CloseCode::NewerEpoch);
        }
        return if offer.dialler <= held.dialler {
            Verdict::Replace(Reason::Replaced, CloseCode::Duplicate)
        } else {
            Verdict::Refuse(CloseCode::Duplicate)
        };
    }
    // Our own dial is as good as up, and would win. Not so if the peer has restarted since: it may have died
    // before it could answer.
    let restarted = known.newest.is_some_and(|newest| newest < offer.epoch);
    if known.asking && offer.dialler == peer && me < peer && !restarted {
        return Verdict::Refuse(CloseCode::Duplicate);
    }
    Verdict::Admit
}
