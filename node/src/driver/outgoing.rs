//! Bytes of calls that wait to be written to peers: above a bound of each peer's its calls are refused here, and answers to it wait.
//!
//! Not here: what is sent, and how. Contract: what was not handed to a link does not count, and what went with one that has ended does
//! not count for the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_crdt::NodeId;

use crate::wire::FRAME_BYTES_MAX;

/// Bytes that wait to be written to one peer.
const QUEUED_BYTES_MAX: u64 = 8 << 20;
/// An answer waits so long for room at most.
pub(super) const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

// A peer that is given no more than this does not lose its link for it.
const _: () = assert!(QUEUED_BYTES_MAX + FRAME_BYTES_MAX as u64 <= 16 << 20);

/// What waits for each peer.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    state: Mutex<State>,
    /// Something was written to a peer, or its link has ended.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    peers: BTreeMap<NodeId, Queued>,
    /// Links that anything waited for.
    links: u64,
    /// Answers that wait for room.
    waiting: usize,
}

#[derive(Debug)]
struct Queued {
    /// No other link has this number.
    link: u64,
    bytes: u64,
}

/// Room for a frame, until it is written. Dropped before it was handed over, it is room again.
#[derive(Debug)]
pub(super) struct Room {
    outgoing: Arc<Outgoing>,
    peer: NodeId,
    link: u64,
    bytes: u64,
}

impl Room {
    /// The network has the frame: it says when that is written, or that its link has ended.
    pub(super) fn handed_over(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.outgoing.give_back(self.peer, Some(self.link), self.bytes);
        }
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for so much, if there is any.
    pub(super) fn room(self: &Arc<Self>, peer: NodeId, bytes: usize) -> Option<Room> {
        let mut state = self.lock();
        state
            .has_room(peer, bytes)
            .then(|| self.taken(&mut state, peer, bytes))
    }

    /// The same once there is; nothing where there comes none.
    pub(super) fn room_later(self: &Arc<Self>, peer: NodeId, bytes: usize) -> Option<Room> {
        let is_full = |state: &mut State| !state.has_room(peer, bytes);
        let mut state = self.lock();
        state.waiting += 1;
        let waited = self.room.wait_timeout_while(state, ROOM_TIMEOUT, is_full);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        (!waited.timed_out()).then(|| self.taken(&mut state, peer, bytes))
    }

    fn taken(self: &Arc<Self>, state: &mut State, peer: NodeId, bytes: usize) -> Room {
        let State { peers, links, .. } = state;
        let queued = peers.entry(peer).or_insert_with(|| {
            *links += 1;
            let (link, bytes) = (*links, 0);
            Queued { link, bytes }
        });
        let bytes = bytes as u64;
        queued.bytes += bytes;
        Room {
            outgoing: Arc::clone(self),
            peer,
            link: queued.link,
            bytes,
        }
    }

    /// So much was written to a peer.
    pub(super) fn on_written(&self, peer: NodeId, bytes: u64) {
        self.give_back(peer, None, bytes);
    }

    /// A link has ended, and what waited for it with it.
    pub(super) fn on_disconnected(&self, peer: NodeId) {
        self.lock().peers.remove(&peer);
        self.room.notify_all();
    }

    fn give_back(&self, peer: NodeId, link: Option<u64>, bytes: u64) {
        let mut state = self.lock();
        if let Some(queued) = state.peers.get_mut(&peer)
            && link.is_none_or(|link| link == queued.link)
        {
            queued.bytes = queued.bytes.saturating_sub(bytes);
        }
        // To wake nobody costs a call of the system.
        if state.waiting > 0 {
            self.room.notify_all();
        }
    }
}

impl State {
    fn has_room(&self, peer: NodeId, bytes: usize) -> bool {
        let queued = self.peers.get(&peer).map_or(0, |queued| queued.bytes);
        queued + bytes as u64 <= QUEUED_BYTES_MAX
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_waited_for_a_link_that_has_ended_does_not_count_for_the_next() {
        let (outgoing, peer) = (Arc::new(Outgoing::default()), NodeId(2));
        let most = QUEUED_BYTES_MAX as usize;
        let all = outgoing.room(peer, most).unwrap();
        assert!(outgoing.room(peer, 1).is_none());
        assert!(outgoing.room(NodeId(3), most).is_some());
        drop(all);
        let all = outgoing.room(peer, most).unwrap();
        outgoing.on_disconnected(peer);
        let next = outgoing.room(peer, most).unwrap();
        // It went with the other link.
        drop(all);
        assert!(outgoing.room(peer, 1).is_none());
        next.handed_over();
        assert!(outgoing.room(peer, 1).is_none());
        outgoing.on_written(peer, 5);
        assert!(outgoing.room(peer, 5).is_some());
        assert!(outgoing.room(peer, 6).is_none());
    }
}
