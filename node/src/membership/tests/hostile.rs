//! Members that say what no chitchat says, and a chitchat that ends.

use proptest::prelude::*;

use super::*;
use crate::membership::limits::{
    EPOCH_MAX, IDS_HEARSAY_MAX, IDS_MAX, IDS_OF_NODE_MAX, KEYS_MAX, VALUE_BYTES_MAX, VERSION_MAX,
};
use crate::membership::roster::Roster;
use crate::membership::vet::vet;

// The bytes of chitchat's messages, as hostile as they can be.

fn head(kind: u8) -> Vec<u8> {
    vec![0x53, 0xb0, 0, kind]
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_id(out: &mut Vec<u8>, node: u128, epoch: u64) {
    put(out, &NodeId(node).to_string());
    out.extend(epoch.to_le_bytes());
    out.push(6);
    out.extend(std::net::Ipv6Addr::from_bits(node).octets());
    out.extend(1u16.to_le_bytes());
}

fn syn(ids: &[(u128, u64)]) -> Vec<u8> {
    let mut out = head(0);
    out.extend((ids.len() as u16).to_le_bytes());
    for (node, epoch) in ids {
        put_id(&mut out, *node, *epoch);
        for number in [5u64, 0, 0] {
            out.extend(number.to_le_bytes());
        }
    }
    put(&mut out, "shop");
    out
}

enum Change<'a> {
    Node(u128, u64),
    Key(&'a str, &'a str, u64),
    Max(u64),
}

fn ack(changes: &[Change<'_>]) -> Vec<u8> {
    let mut steps = Vec::new();
    for change in changes {
        match change {
            Change::Node(node, epoch) => {
                steps.push(0);
                put_id(&mut steps, *node, *epoch);
                steps.extend([0; 16]);
            }
            Change::Key(key, value, version) => {
                steps.push(1);
                put(&mut steps, key);
                put(&mut steps, value);
                steps.extend(version.to_le_bytes());
                steps.push(0);
            }
            Change::Max(max) => {
                steps.push(2);
                steps.extend(max.to_le_bytes());
            }
        }
    }
    let mut out = head(2);
    for block in steps.chunks(60_000) {
        out.push(2);
        out.extend((block.len() as u16).to_le_bytes());
        out.extend(block);
    }
    out.push(0);
    out
}

/// Node 1, linked with 2 and told all this by it, still hears of a node that comes later.
#[track_caller]
fn survives(messages: &[Vec<u8>]) -> Arc<Gossip> {
    let net = Net::new();
    let [one, _two] = [1, 2].map(|node| net.start(node, 1, "shop"));
    net.link(1, 2);
    wait(&one, &up(2, 1, "eu"));
    for message in messages {
        net.gossip(1).on_message(NodeId(2), message.clone().into());
    }
    let _three = net.start(3, 1, "shop");
    net.link(2, 3);
    wait(&one, &up(3, 1, "eu"));
    let gossip = net.gossip(1);
    assert_eq!(gossip.counters().revivals, 0, "it ended meanwhile");
    gossip
}

#[test]
fn a_version_that_goes_back_does_not_end_gossip() {
    let key = Change::Key("k", "v", 1_000_000);
    let gossip = survives(&[ack(&[Change::Node(2, 1), key, Change::Max(999_999)])]);
    assert_eq!(gossip.counters().refused, 1);
}

#[test]
fn more_lives_of_a_node_than_fit_a_message_do_not_end_gossip() {
    let lives: Vec<(u128, u64)> = (0..768).map(|n| (9, 100 + n)).collect();
    let gossip = survives(&[syn(&lives)]);
    assert!(gossip.counters().ids <= 4, "{:?}", gossip.counters());
    let one_by_one: Vec<_> = lives.iter().take(100).map(|life| syn(&[*life])).collect();
    let gossip = survives(&one_by_one);
    assert!(
        gossip.counters().ids as usize <= 3 + IDS_OF_NODE_MAX,
        "{:?}",
        gossip.counters()
    );
}

#[test]
fn more_nodes_than_fit_a_message_do_not_end_gossip() {
    let net = Net::new();
    let [one, _two] = [1, 2].map(|node| net.start(node, 1, "shop"));
    net.link(1, 2);
    wait(&one, &up(2, 1, "eu"));
    let nodes: Vec<(u128, u64)> = (100..1_000).map(|n| (n, 1)).collect();
    net.gossip(1).on_message(NodeId(2), syn(&nodes).into());
    // Who speaks for itself still has room beside them.
    let _three = net.start(3, 1, "shop");
    net.link(1, 3);
    wait(&one, &up(3, 1, "eu"));
    let counters = net.gossip(1).counters();
    assert_eq!(
        (counters.ids as usize, counters.revivals),
        (IDS_HEARSAY_MAX + 1, 0)
    );
    const { assert!(IDS_HEARSAY_MAX + 1 < IDS_MAX) };
}

#[test]
fn what_others_say_of_a_node_or_of_its_link_is_not_believed() {
    let net = Net::new();
    let [one, two, three] = [1, 2, 3].map(|node| net.start(node, 1, "shop"));
    net.link(1, 2);
    net.link(2, 3);
    net.link(1, 3);
    wait_all(&one, &[up(2, 1, "eu"), up(3, 1, "eu")]); // in no order
    // Three says that two has left, that it has restarted, that one itself has left.
    let left = |node| ack(&[Change::Node(node, 1), Change::Key("left", "1", 1_000)]);
    for message in [left(2), syn(&[(2, 7), (2, EPOCH_MAX), (2, u64::MAX)]), left(1)] {
        net.gossip(1).on_message(NodeId(3), message.into());
    }
    net.gossip(3).announce(own(3, "us"));
    wait(&one, &up(3, 1, "us"));
    let wrong = |hint: &Hint| matches!(hint, Hint::Left { .. } | Hint::Up { node: NodeId(2), .. });
    assert!(!one.try_iter().any(|hint| wrong(&hint)));
    for hints in [two, three] {
        let left = |hint: &Hint| *hint == Hint::Left { node: NodeId(1) };
        assert!(!hints.try_iter().any(|hint| left(&hint)));
    }
}

#[test]
fn gossip_that_ended_begins_again_and_is_listened_to() {
    let net = Net::new();
    let [one, two] = [1, 2].map(|node| net.start(node, 1, "shop"));
    net.link(1, 2);
    wait(&one, &up(2, 1, "eu"));
    wait(&two, &up(1, 1, "eu"));
    net.gossip(1).break_down();
    let until = std::time::Instant::now() + PATIENCE;
    while net.gossip(1).counters().revivals == 0 {
        assert!(std::time::Instant::now() < until, "it is not started again");
        std::thread::yield_now();
    }
    // It goes on where it was: what it says now is news to the other one, and it hears the other one.
    net.gossip(1).announce(own(1, "us"));
    wait(&two, &up(1, 1, "us"));
    net.gossip(2).announce(own(2, "us"));
    wait(&one, &up(2, 1, "us"));
}

// The vet alone.

fn roster() -> Roster {
    Roster::new(NodeId(1), Epoch(10))
}

fn vetted(roster: &mut Roster, from: u128, message: &[u8]) -> Vec<u8> {
    vet(roster, NodeId(from), message).unwrap()
}

#[test]
fn sane_messages_pass_as_they_are() {
    let mut roster = roster();
    let hello = syn(&[(2, 1), (3, 5)]);
    assert_eq!(vetted(&mut roster, 2, &hello).len(), hello.len());
    let news = ack(&[
        Change::Node(2, 1),
        Change::Key("a", "1", 1),
        Change::Key("b", "2", 2),
        Change::Node(3, 5),
        Change::Max(7),
    ]);
    assert_eq!(vetted(&mut roster, 2, &news), news);
    assert_eq!(vetted(&mut roster, 2, &head(3)), head(3));
    assert_eq!(roster.refused(), 0);
}

#[test]
fn changes_that_cannot_be_are_left_out_with_what_follows_of_their_node() {
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    for bad in [
        Change::Key("b", &long, 2),
        Change::Key(&long, "v", 2),
        Change::Key("b", "v", 1),
        Change::Key("b", "v", VERSION_MAX + 1),
        Change::Max(0),
        Change::Max(u64::MAX),
    ] {
        let mut roster = roster();
        vetted(&mut roster, 2, &syn(&[(2, 1), (3, 1)]));
        let first = || [Change::Node(2, 1), Change::Key("a", "v", 1)];
        let other = || [Change::Node(3, 1), Change::Key("a", "v", 1)];
        let wrong = [bad, Change::Key("c", "v", 3)];
        let message = ack(&first()
            .into_iter()
            .chain(wrong)
            .chain(other())
            .collect::<Vec<_>>());
        let kept = ack(&first().into_iter().chain(other()).collect::<Vec<_>>());
        assert_eq!(vetted(&mut roster, 2, &message), kept);
        assert_eq!(roster.refused(), 1);
    }
}

#[test]
fn one_node_has_only_so_many_keys() {
    let mut roster = roster();
    vetted(&mut roster, 2, &syn(&[(2, 1)]));
    for n in 1..=KEYS_MAX as u64 + 1 {
        let key = format!("key {n}");
        let one = ack(&[Change::Node(2, 1), Change::Key(&key, "v", n)]);
        let is_kept = vetted(&mut roster, 2, &one) == one;
        assert_eq!(is_kept, n <= KEYS_MAX as u64, "key {n}");
    }
    let known = ack(&[Change::Node(2, 1), Change::Key("key 1", "w", 100)]);
    assert_eq!(vetted(&mut roster, 2, &known), known);
}

#[test]
fn ids_come_newest_first_and_from_their_owner_while_it_is_linked() {
    let ids = |roster: &mut Roster, from, ids: &[(u128, u64)]| {
        let before = syn(&[]).len();
        (vetted(roster, from, &syn(ids)).len() - before) / (syn(&[(2, 1)]).len() - before)
    };
    let mut roster = roster();
    assert_eq!(ids(&mut roster, 3, &[(2, 5), (2, 6), (2, 4)]), 1);
    assert_eq!(ids(&mut roster, 3, &[(2, 5)]), 0, "an earlier life");
    assert_eq!(ids(&mut roster, 3, &[(2, EPOCH_MAX), (2, u64::MAX)]), 0);
    assert_eq!(
        ids(&mut roster, 3, &[(1, 10), (1, 9), (1, 11)]),
        2,
        "of this node itself"
    );
    roster.link_up(NodeId(2));
    assert_eq!(ids(&mut roster, 3, &[(2, 6), (2, 7)]), 1, "hearsay");
    assert_eq!(ids(&mut roster, 2, &[(2, 7)]), 1);
    roster.link_down(NodeId(2));
    assert_eq!(ids(&mut roster, 3, &[(2, 8)]), 1);
}

#[test]
fn a_node_that_restarts_again_and_again_is_reason_to_begin_anew() {
    let mut roster = roster();
    for epoch in 1..IDS_OF_NODE_MAX as u64 {
        assert!(!roster.is_crowded_by_the_dead());
        vetted(&mut roster, 2, &syn(&[(2, epoch)]));
    }
    assert!(!roster.is_crowded_by_the_dead());
    vetted(&mut roster, 2, &syn(&[(2, 1_000)]));
    assert!(roster.is_crowded_by_the_dead());
    roster.forget_all();
    assert_eq!(roster.ids(), 1);
}

#[test]
fn what_cannot_be_read_is_refused_whole() {
    let bomb = {
        let block = zstd::bulk::compress(&vec![0; 65_535], 1).unwrap();
        let mut out = head(2);
        for _ in 0..100 {
            out.push(1);
            out.extend((block.len() as u16).to_le_bytes());
            out.extend(&block);
        }
        out.push(0);
        out
    };
    assert!(bomb.len() < 10_000);
    let unpacked = [&head(2)[..], &[1, 3, 0, 1, 2, 3, 0]].concat();
    for (message, why) in [
        (&b""[..], "cut off"),
        (b"no gossip", "version"),
        (&head(9), "kind"),
        (&head(0), "cut off"),
        (&bomb, "more changes"),
        (&unpacked, "unpacked"),
        (&ack(&[])[..4], "cut off"),
    ] {
        let refused = vet(&mut roster(), NodeId(2), message).unwrap_err();
        assert!(refused.contains(why), "{refused}, not {why}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_vetted_or_refused(
        kind in 0u8..5,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let message = [head(kind), bytes].concat();
        if let Ok(vetted) = vet(&mut roster(), NodeId(2), &message) {
            // What has passed passes again.
            prop_assert_eq!(vet(&mut roster(), NodeId(2), &vetted), Ok(vetted));
        }
    }

    #[test]
    fn a_damaged_message_is_vetted_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut roster = roster();
        let hello = syn(&[(2, 1), (3, 5)]);
        vetted(&mut roster, 2, &hello);
        for mut message in [hello, ack(&[Change::Node(2, 1), Change::Key("a", "1", 1), Change::Max(7)])] {
            let at = at.index(message.len());
            message[at] = byte;
            let _ = vet(&mut roster, NodeId(2), &message);
            message.truncate(at);
            let _ = vet(&mut roster, NodeId(2), &message);
        }
    }
}
