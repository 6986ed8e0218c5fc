//! What is known of every peer linked or heard of since this start: what `status` shows, and where to look for them.
//!
//! Bounded: when there is no room, who is gone and no member is forgotten first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anabranch_crdt::{Epoch, NodeId, ReplicaId};

use crate::membership::Announcement;

use super::{MemberHint, MemberStatus};

/// Peers that are known at the same time: all that can have a link.
pub(super) const PEERS_KNOWN_MAX: usize = crate::transport::PEERS_MAX;

/// See the module's front page.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: Mutex<BTreeMap<NodeId, MemberStatus>>,
    /// It has been said that there is no room.
    crowded: AtomicBool,
}

/// Whether there is room for one more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is, or it is known already.
    Free,
    /// There is now: this one was forgotten for it.
    Instead(NodeId),
    /// All others are linked, there, or members.
    None,
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, MemberStatus>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a peer that is known.
    pub(super) fn with(&self, peer: NodeId, f: impl FnOnce(&mut MemberStatus)) {
        if let Some(status) = self.lock().get_mut(&peer) {
            f(status);
        }
    }

    /// Sees that there is room for this peer. `members` is asked only if somebody has to go for it.
    pub(super) fn make_room(&self, peer: NodeId, members: impl FnOnce() -> Vec<NodeId>) -> Room {
        let has_room = |known: &BTreeMap<_, _>| known.len() < PEERS_KNOWN_MAX || known.contains_key(&peer);
        if has_room(&self.lock()) {
            return Room::Free;
        }
        // Asking takes the engine's lock, which comes before this one's.
        let members = members();
        let mut known = self.lock();
        let gone = known
            .values()
            .filter(|status| !status.connected && status.hint != MemberHint::Up)
            .find(|status| !members.contains(&status.node))
            .map(|status| status.node);
        match gone {
            Some(node) => {
                known.remove(&node);
                Room::Instead(node)
            }
            None => {
                if !self.crowded.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%peer, "{PEERS_KNOWN_MAX} peers are known and not gone; others are left out");
                }
                Room::None
            }
        }
    }

    /// A link is up: whatever was believed of the peer, it is there. Returns whether it was thought to have left.
    pub(super) fn connected(&self, peer: NodeId, epoch: Epoch, addresses: &[SocketAddr]) -> bool {
        let mut known = self.lock();
        if known.len() >= PEERS_KNOWN_MAX && !known.contains_key(&peer) {
            // Whoever is linked is shown, at the cost of one that is not.
            let unlinked = known
                .values()
                .find(|status| !status.connected)
                .map(|status| status.node);
            unlinked.and_then(|node| known.remove(&node));
        }
        let status = known.entry(peer).or_insert_with(|| MemberStatus::unknown(peer));
        let had_left = status.hint == MemberHint::Left;
        if had_left {
            status.hint = MemberHint::Up;
        }
        status.epoch = Some(epoch);
        status.connected = true;
        status.addresses = addresses.iter().map(SocketAddr::to_string).collect();
        had_left
    }

    /// It was there in an earlier run of this node. Only for members, of whom there are fewer than there is room for.
    pub(super) fn remembered(&self, node: NodeId, addresses: &[SocketAddr]) {
        let mut known = self.lock();
        if known.len() < PEERS_KNOWN_MAX {
            let status = known.entry(node).or_insert_with(|| MemberStatus::unknown(node));
            status.addresses = addresses.iter().map(SocketAddr::to_string).collect();
        }
    }

    /// The membership believes that it is there. Only where [`Peers::make_room`] has found room.
    pub(super) fn hinted_up(&self, node: NodeId, epoch: Epoch, about: &Announcement) {
        let mut known = self.lock();
        let status = known.entry(node).or_insert_with(|| MemberStatus::unknown(node));
        status.hint = MemberHint::Up;
        status.epoch = status.epoch.max(Some(epoch));
        if !about.name.is_empty() {
            status.name = Some(about.name.clone());
        }
        status.addresses = about.addresses.iter().map(SocketAddr::to_string).collect();
    }

    /// A node that has left is silent, too: that is no news.
    pub(super) fn hinted_down(&self, node: NodeId) {
        self.with(node, |status| {
            if status.hint != MemberHint::Left {
                status.hint = MemberHint::Down;
            }
        });
    }

    /// Whether it is believed that this node has left: nobody has who is linked.
    pub(super) fn hinted_left(&self, node: NodeId) -> bool {
        let mut is_linked = false;
        self.with(node, |status| {
            is_linked = status.connected;
            if !is_linked {
                status.hint = MemberHint::Left;
            }
        });
        !is_linked
    }

    /// Every link has ended.
    pub(super) fn all_disconnected(&self) {
        for status in self.lock().values_mut() {
            status.connected = false;
        }
    }

    /// The runs of those that are believed to be up.
    pub(super) fn live(&self) -> Vec<ReplicaId> {
        let known = self.lock();
        let live = known
            .values()
            .filter(|status| status.connected || status.hint == MemberHint::Up);
        live.filter_map(|status| Some(ReplicaId::new(status.node, status.epoch?)))
            .collect()
    }

    /// All of them, sorted by node.
    pub(super) fn all(&self) -> Vec<MemberStatus> {
        self.lock().values().cloned().collect()
    }

    /// A node as people know it, and where it was.
    pub(super) fn named(&self, node: NodeId) -> String {
        let known = self.lock();
        let status = known.get(&node);
        let name = status.and_then(|status| status.name.clone());
        let at = status.map_or_else(String::new, |status| status.addresses.join(" "));
        let name = name.unwrap_or_else(|| node.to_string());
        if at.is_empty() {
            name
        } else {
            format!("{name} at {at}")
        }
    }

    /// Where to look for those that may be there.
    pub(super) fn addresses(&self) -> Vec<(NodeId, Vec<SocketAddr>)> {
        let known = self.lock();
        let there = known.values().filter(|status| status.hint != MemberHint::Left);
        let parsed = |s: &MemberStatus| s.addresses.iter().filter_map(|a| a.parse().ok()).collect();
        there.map(|status| (status.node, parsed(status))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hinted(peers: &Peers, node: usize) {
        peers.hinted_up(NodeId(node as u128), Epoch(1), &Announcement::default());
    }

    #[test]
    fn who_is_gone_and_no_member_makes_room() {
        let peers = Peers::default();
        for node in 0..PEERS_KNOWN_MAX {
            let room = peers.make_room(NodeId(node as u128), || panic!("there is room"));
            assert_eq!(room, Room::Free);
            hinted(&peers, node);
        }
        let new = NodeId(1 << 64);
        assert_eq!(peers.make_room(NodeId(5), Vec::new), Room::Free, "it is known");
        assert_eq!(peers.make_room(new, Vec::new), Room::None);
        peers.hinted_down(NodeId(5));
        peers.hinted_left(NodeId(6));
        let members = || vec![NodeId(5)];
        assert_eq!(peers.make_room(new, members), Room::Instead(NodeId(6)));
        assert_eq!(peers.make_room(new, members), Room::Free);
        hinted(&peers, 1 << 32);
        assert_eq!(peers.make_room(new, members), Room::None);
        // Who is linked is shown all the same.
        peers.connected(new, Epoch(2), &[]);
        assert_eq!(peers.all().len(), PEERS_KNOWN_MAX);
        assert!(
            peers
                .all()
                .iter()
                .any(|status| status.node == new && status.connected)
        );
    }

    #[test]
    fn a_link_disproves_that_its_peer_has_left() {
        let peers = Peers::default();
        hinted(&peers, 2);
        assert!(peers.hinted_left(NodeId(2)));
        assert!(peers.addresses().is_empty());
        assert!(peers.connected(NodeId(2), Epoch(1), &[]));
        assert!(!peers.connected(NodeId(2), Epoch(1), &[]));
        assert!(!peers.hinted_left(NodeId(2)), "not while it is linked");
        assert_eq!(peers.all()[0].hint, MemberHint::Up);
        peers.all_disconnected();
        assert!(peers.hinted_left(NodeId(2)));
    }
}
