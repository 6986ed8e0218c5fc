//! Links that one of their two sides refuses: each is tried again and again, and said once.
//!
//! Bounded: when there is no room, what was met longest ago is forgotten, and said anew if it is met again.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anabranch_crdt::NodeId;

/// Refusals that are remembered.
const REFUSALS_MAX: usize = 64;
/// What goes on is said again so long after it was said last.
const SAY_AGAIN: Duration = Duration::from_secs(600);
/// What was not met for so long is over: a peer is dialled much more often.
const OVER_AFTER: Duration = Duration::from_secs(60);

/// See the module's front page.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Vec<Refusal>>);

#[derive(Debug)]
struct Refusal {
    peer: Option<NodeId>,
    address: SocketAddr,
    reason: String,
    said_at: Instant,
    met_at: Instant,
}

impl Refusal {
    /// A node is the same wherever it is met; of one that is not known its address is all there is.
    fn is_with(&self, peer: Option<NodeId>, address: SocketAddr) -> bool {
        self.address == address || (peer.is_some() && self.peer == peer)
    }
}

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, Vec<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one more. Returns whether it is to be said.
    pub(super) fn met(&self, peer: Option<NodeId>, address: SocketAddr, reason: &str, now: Instant) -> bool {
        let mut met = self.lock();
        // Both sides dial, and each has words of its own for the same: that is no change.
        let is_it =
            |refusal: &&mut Refusal| refusal.is_with(peer, address) && are_alike(&refusal.reason, reason);
        if let Some(refusal) = met.iter_mut().find(is_it) {
            let is_due = now.saturating_duration_since(refusal.said_at) >= SAY_AGAIN;
            refusal.met_at = now;
            if is_due {
                refusal.said_at = now;
            }
            return is_due;
        }
        if met.len() >= REFUSALS_MAX {
            let oldest = (0..met.len()).min_by_key(|i| met[*i].met_at);
            oldest.map(|oldest| met.swap_remove(oldest));
        }
        met.push(Refusal {
            peer,
            address,
            reason: reason.to_owned(),
            said_at: now,
            met_at: now,
        });
        true
    }

    /// There is a link all the same.
    pub(super) fn over(&self, peer: NodeId, addresses: &[SocketAddr]) {
        self.lock()
            .retain(|refusal| refusal.peer != Some(peer) && !addresses.contains(&refusal.address));
    }

    /// Those that go on, for people; sorted.
    pub(super) fn all(&self, now: Instant) -> Vec<String> {
        let met = self.lock();
        let goes_on = |refusal: &&Refusal| now.saturating_duration_since(refusal.met_at) < OVER_AFTER;
        let words = |refusal: &Refusal| format!("{}: {}", refusal.address, refusal.reason);
        let mut all: Vec<String> = met.iter().filter(goes_on).map(words).collect();
        all.sort();
        all
    }
}

/// Whether two reasons are one, but for the time that stands in them.
fn are_alike(a: &str, b: &str) -> bool {
    let words = |text: &str| -> String { text.chars().filter(|c| !c.is_ascii_digit()).collect() };
    words(a) == words(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn a_refusal_is_said_once_and_again_when_it_has_changed_or_gone_on_for_long() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let met = |reason: &str, seconds: u64| {
            refusals.met(None, at(1), reason, start + Duration::from_secs(seconds))
        };
        assert!(met("expired at 100", 0));
        assert!(!met("expired at 101", 1));
        assert!(met("unknown issuer", 2));
        assert!(!met("unknown issuer", 3) && !met("expired at 104", 4));
        assert!(!met("expired at 105", 599) && met("expired at 106", 600));
        assert!(!met("expired at 107", 601));
        assert!(refusals.met(None, at(2), "unknown issuer", start), "another peer");
    }

    #[test]
    fn a_link_or_silence_ends_it() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let met = |peer: Option<u128>, port: u16| refusals.met(peer.map(NodeId), at(port), "no", start);
        assert!(met(Some(7), 1) && !met(Some(7), 2) && met(None, 3));
        assert_eq!(
            refusals.all(start + OVER_AFTER / 2),
            ["127.0.0.1:1: no", "127.0.0.1:3: no"]
        );
        assert!(refusals.all(start + OVER_AFTER).is_empty());
        refusals.over(NodeId(7), &[]);
        assert!(met(Some(7), 1));
        refusals.over(NodeId(8), &[at(3)]);
        assert!(met(None, 3));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let met = |port: u16, seconds: u64| {
            refusals.met(None, at(port), "no", start + Duration::from_secs(seconds))
        };
        for port in 0..REFUSALS_MAX as u16 {
            assert!(met(port, port.into()));
        }
        // The first was met again, so the second one has to go.
        assert!(!met(0, 100) && met(1_000, 101));
        assert!(!met(0, 102) && met(1, 103));
        assert_eq!(refusals.lock().len(), REFUSALS_MAX);
    }
}
