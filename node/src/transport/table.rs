//! Who is linked, who is being asked, who is dialled: the transport's one shared state.
//!
//! Changed on the transport's thread alone, but for the addresses to dial; read by whoever sends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use anabranch_crdt::{Epoch, NodeId};
use tokio::task::AbortHandle;

use crate::transport::admit::{Known, Offer, Verdict, decide};
use crate::transport::dial::Dial;
use crate::transport::event::{CloseCode, newer_epoch_text};
use crate::transport::limits::PEERS_MAX;
use crate::transport::link::Link;

#[derive(Default)]
pub(super) struct Table {
    pub(super) links: BTreeMap<NodeId, Arc<Link>>,
    /// Peers on whose dialled connection we have said hello.
    asking: BTreeSet<NodeId>,
    newest: BTreeMap<NodeId, Epoch>,
    pub(super) dials: BTreeMap<NodeId, Arc<Dial>>,
    pub(super) seeds: BTreeMap<String, AbortHandle>,
    /// No new link is taken: the transport shuts down.
    pub(super) closing: bool,
}

impl Table {
    /// Takes the right to say hello to `peer` on a connection we dialled: at most one at a time, and none while
    /// a link is up, so that a peer never has to choose between two connections that we dialled.
    pub(super) fn ask(&mut self, peer: NodeId) -> bool {
        !self.closing && !self.links.contains_key(&peer) && self.asking.insert(peer)
    }

    pub(super) fn asked(&mut self, peer: NodeId) {
        self.asking.remove(&peer);
    }

    /// Decides about a connection whose hello has come; see [`decide`].
    pub(super) fn decide(&self, me: NodeId, peer: NodeId, offer: Offer) -> Verdict {
        if self.closing {
            return Verdict::Refuse(CloseCode::Stopping);
        }
        let known = Known {
            held: self.links.get(&peer).map(|link| link.offer),
            newest: self.newest.get(&peer).copied(),
            asking: self.asking.contains(&peer),
        };
        if !self.links.contains_key(&peer) && self.links.len() >= PEERS_MAX {
            return Verdict::Refuse(CloseCode::Busy);
        }
        decide(me, peer, known, offer)
    }

    /// A refusal in words, for both sides.
    pub(super) fn why_refused(&self, peer: NodeId, code: CloseCode) -> String {
        match (code, self.newest.get(&peer)) {
            (CloseCode::NewerEpoch, Some(newest)) => newer_epoch_text(*newest),
            (CloseCode::Busy, _) => format!("this node has {PEERS_MAX} links, and takes no more"),
            (CloseCode::Stopping, _) => "this node stops".into(),
            _ => "another connection between these two nodes is kept".into(),
        }
    }

    /// Puts an admitted link in its place and returns the one it replaces.
    pub(super) fn insert(&mut self, link: Arc<Link>) -> Option<Arc<Link>> {
        self.forget_one(link.peer);
        let newest = self.newest.entry(link.peer).or_insert(link.offer.epoch);
        assert!(
            *newest <= link.offer.epoch,
            "epoch {} of {} after {newest}",
            link.offer.epoch,
            link.peer
        );
        *newest = link.offer.epoch;
        self.links.insert(link.peer, link)
    }

    /// Makes room to remember `peer`'s epoch, at the cost of a node that is not linked.
    fn forget_one(&mut self, peer: NodeId) {
        if self.newest.len() < PEERS_MAX || self.newest.contains_key(&peer) {
            return;
        }
        let unlinked = self
            .newest
            .keys()
            .find(|node| !self.links.contains_key(node))
            .copied();
        if let Some(node) = unlinked {
            self.newest.remove(&node);
        }
    }

    /// Takes a link out unless another one has its place already.
    pub(super) fn remove(&mut self, link: &Arc<Link>) -> bool {
        let is_current = self
            .links
            .get(&link.peer)
            .is_some_and(|current| Arc::ptr_eq(current, link));
        if is_current {
            self.links.remove(&link.peer);
        }
        is_current
    }

    /// The link with this node in this epoch.
    pub(super) fn link(&self, peer: NodeId, epoch: Epoch) -> Option<&Arc<Link>> {
        self.links.get(&peer).filter(|link| link.offer.epoch == epoch)
    }

    /// The peer that is linked and found at this address, or says it is.
    pub(super) fn at(&self, address: SocketAddr) -> Option<NodeId> {
        let here = |link: &&Arc<Link>| link.remote() == address || link.hello.addresses.contains(&address);
        self.links.values().find(here).map(|link| link.peer)
    }
}
