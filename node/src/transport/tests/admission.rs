//! Which connection is kept.

use super::*;
use crate::transport::admit::{Known, Offer, Verdict, decide};
use crate::transport::event::CloseCode;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// Reads like the rule: `me`, what it knows, what is offered, what becomes of it.
#[track_caller]
fn check(
    me: NodeId,
    held: Option<(u64, NodeId)>,
    newest: Option<u64>,
    asking: bool,
    offer: (u64, NodeId),
    want: &str,
) {
    let offer_of = |(epoch, dialler)| Offer {
        epoch: Epoch(epoch),
        dialler,
    };
    let peer = if me == A { B } else { A };
    let known = Known {
        held: held.map(offer_of),
        newest: newest.map(Epoch),
        asking,
    };
    let said = match decide(me, peer, known, offer_of(offer)) {
        Verdict::Admit => "admit".to_owned(),
        Verdict::Replace(reason, _) => format!("replace {reason:?}"),
        Verdict::Refuse(code) => format!("refuse {code:?}"),
    };
    assert_eq!(said, want);
}

#[test]
fn the_smaller_diallers_connection_is_kept() {
    check(A, None, None, false, (5, B), "admit");
    check(A, None, Some(5), false, (5, A), "admit");
    check(A, Some((5, B)), Some(5), false, (5, A), "replace Replaced");
    check(A, Some((5, A)), Some(5), false, (5, B), "refuse Duplicate");
    check(B, Some((5, A)), Some(5), false, (5, B), "refuse Duplicate");
    check(B, Some((5, B)), Some(5), false, (5, A), "replace Replaced");
}

#[test]
fn of_two_by_one_dialler_the_later_is_kept() {
    check(A, Some((5, B)), Some(5), false, (5, B), "replace Replaced");
    check(B, Some((5, A)), Some(5), false, (5, A), "replace Replaced");
}

#[test]
fn a_newer_epoch_replaces_and_an_older_is_refused() {
    check(
        A,
        Some((5, A)),
        Some(5),
        false,
        (6, B),
        "replace NewEpoch(Epoch(6))",
    );
    check(A, Some((5, A)), Some(5), true, (4, B), "refuse NewerEpoch");
    check(A, None, Some(5), false, (4, B), "refuse NewerEpoch");
}

#[test]
fn the_own_dial_under_way_wins_if_it_would_be_kept() {
    check(A, None, None, true, (5, B), "refuse Duplicate");
    check(A, None, Some(5), true, (5, B), "refuse Duplicate");
    check(B, None, None, true, (5, A), "admit");
    // The peer restarted while it was asked: its old process will not answer.
    check(A, None, Some(4), true, (5, B), "admit");
}

#[test]
fn codes_keep_their_numbers() {
    assert_eq!((CloseCode::Leaving as u32, CloseCode::Ended as u32), (1, 14));
    for code in 1..=14 {
        assert_eq!(CloseCode::from_wire(code).map(|known| known as u64), Some(code));
    }
    assert_eq!(CloseCode::from_wire(15), None);
}

#[test]
fn dials_from_both_sides_at_once_end_with_one_link() {
    let bed = Bed::new("shop");
    for round in 0..20 {
        let (a, b) = (bed.node(1, round), bed.node(2, round));
        a.dial(&b);
        b.dial(&a);
        a.connected(b.id(), round);
        b.connected(a.id(), round);
        // A frame that went both ways has passed on one connection that both hold: what one sends on another goes
        // down with it, so each sends until it is answered.
        let is_one = |of: &Node, to: &Node| {
            let (ours, theirs) = (of.transport.links(), to.transport.links());
            match (&ours[..], &theirs[..]) {
                ([ours], [theirs]) => ours.is_dialler != theirs.is_dialler && ours.remote == to.address(),
                _ => false,
            }
        };
        let until = Instant::now() + PATIENCE;
        while !is_one(&a, &b) {
            assert!(
                Instant::now() < until,
                "{:?} {:?}",
                a.transport.links(),
                b.transport.links()
            );
            std::thread::yield_now();
        }
        assert_eq!(a.send(b.id(), round, Lane::Push, b"from a"), Sent::Queued);
        assert_eq!(b.send(a.id(), round, Lane::Push, b"from b"), Sent::Queued);
        assert_eq!(
            (&a.frame(Lane::Push)[..], &b.frame(Lane::Push)[..]),
            (&b"from b"[..], &b"from a"[..])
        );
    }
}

#[test]
fn a_restarted_peer_replaces_its_old_self_at_once() {
    let bed = Bed::new("shop");
    let (a, old) = pair(&bed);
    // The old process is still there: a copied machine, or one that hangs.
    let new = bed.node(2, 21);
    new.dial(&a);
    assert_eq!(a.disconnected(old.id()), Reason::NewEpoch(Epoch(21)));
    a.connected(new.id(), 21);
    assert_eq!(a.send(old.id(), 20, Lane::Push, b"x"), Sent::NoLink);
    assert_eq!(a.send(new.id(), 21, Lane::Push, b"to the new one"), Sent::Queued);
    assert_eq!(&new.frame(Lane::Push)[..], b"to the new one");

    let outdated = |event: &Event| match event {
        Event::Outdated { by, newest } => Some((*by, *newest)),
        _ => None,
    };
    assert_eq!(old.disconnected(a.id()), Reason::Outdated(Epoch(21)));
    assert_eq!(old.wait("word of the newer epoch", outdated), (a.id(), Epoch(21)));
    old.dial(&a);
    assert_eq!(
        old.wait("word of the newer epoch again", outdated),
        (a.id(), Epoch(21))
    );
    assert_eq!(a.transport.links().len(), 1);

    // Who refuses an old self of a peer's has heard nothing of its own.
    drop(new);
    a.disconnected(old.id());
    a.dial(&old);
    for _ in 0..2 {
        assert_eq!(old.wait("its word to a", outdated), (a.id(), Epoch(21)));
    }
    let heard = a.events.try_iter().chain(a.passed.take());
    assert_eq!(heard.filter_map(|event| outdated(&event)).collect::<Vec<_>>(), []);
}
