//! Gossip over links that are channels, and hints from what is seen.

mod hostile;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::membership::carry::{address_of, node_of};
use crate::membership::watch::{HEARSAY, Sight, Watch};
use crate::membership::{Announcement, Gossip, GossipConfig, Hint, Membership};

/// How long anything may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the watch says of node 1, look by look: `sight -> hints`.
#[track_caller]
fn check(script: &[(Option<Sight>, u64, &str)]) {
    let mut watch = Watch::default();
    let start = Instant::now();
    for (step, (sight, at_s, want)) in script.iter().enumerate() {
        let sights: BTreeMap<_, _> = sight
            .clone()
            .into_iter()
            .map(|sight| (NodeId(1), sight))
            .collect();
        let hints = watch.look(start + Duration::from_secs(*at_s), &sights, &BTreeSet::new());
        let said: Vec<String> = hints
            .iter()
            .map(|hint| match hint {
                Hint::Up { epoch, about, .. } => format!("up {epoch} {}", about.zone),
                Hint::Down { .. } => "down".into(),
                Hint::Left { .. } => "left".into(),
            })
            .collect();
        assert_eq!(said.join(", "), *want, "step {step}");
    }
}

fn sight(epoch: u64, zone: &str) -> Sight {
    let about = Announcement {
        zone: zone.into(),
        ..Announcement::default()
    };
    Sight {
        epoch: Epoch(epoch),
        about: Some(about),
        has_left: false,
        is_live: true,
    }
}

#[test]
fn a_node_is_hinted_at_once_and_again_when_what_it_says_changes() {
    let existence = Sight {
        about: None,
        is_live: false,
        ..sight(1, "")
    };
    check(&[
        (None, 0, ""),
        (Some(existence), 0, ""),
        (Some(sight(1, "eu")), 0, "up 1 eu"),
        (Some(sight(1, "eu")), 0, ""),
        (Some(sight(1, "us")), 0, "up 1 us"),
    ]);
}

#[test]
fn a_node_goes_down_and_comes_back() {
    let dead = Sight {
        is_live: false,
        ..sight(1, "eu")
    };
    check(&[
        (Some(sight(1, "eu")), 0, "up 1 eu"),
        (Some(dead.clone()), 1, "down"),
        (Some(dead), 2, ""),
        (Some(sight(1, "eu")), 3, "up 1 eu"),
        // Forgotten after its grace, and back.
        (None, 4, ""),
        (Some(sight(1, "eu")), 5, "up 1 eu"),
    ]);
}

#[test]
fn hearsay_of_a_dead_node_ends_after_a_while() {
    let hearsay = Sight {
        is_live: false,
        ..sight(1, "eu")
    };
    let late = HEARSAY.as_secs();
    check(&[
        (Some(hearsay.clone()), 0, "up 1 eu"),
        (Some(hearsay.clone()), late - 1, ""),
        (Some(hearsay), late, "down"),
    ]);
}

#[test]
fn a_restart_is_news_and_an_older_epoch_is_not() {
    let left = Sight {
        has_left: true,
        ..sight(2, "eu")
    };
    check(&[
        (Some(sight(1, "eu")), 0, "up 1 eu"),
        (Some(sight(2, "eu")), 0, "up 2 eu"),
        (Some(sight(1, "eu")), 0, ""),
        (Some(left.clone()), 0, "left"),
        (Some(left), 0, ""),
        (Some(sight(2, "eu")), 0, ""),
        (Some(sight(3, "eu")), 0, "up 3 eu"),
    ]);
    let gone = Sight {
        has_left: true,
        ..sight(1, "eu")
    };
    check(&[(Some(gone), 0, ""), (Some(sight(2, "eu")), 0, "up 2 eu")]);
}

#[test]
fn nobody_leaves_who_has_a_link() {
    let left = |epoch| Sight {
        has_left: true,
        ..sight(epoch, "eu")
    };
    let mut watch = Watch::default();
    let now = Instant::now();
    let look = |watch: &mut Watch, sight: Sight, is_linked: bool| {
        let linked = is_linked.then_some(NodeId(1)).into_iter().collect();
        watch.look(now, &BTreeMap::from([(NodeId(1), sight)]), &linked)
    };
    let up = |hints: Vec<Hint>| matches!(hints[..], [Hint::Up { .. }]);
    let gone = [Hint::Left { node: NodeId(1) }];
    assert!(up(look(&mut watch, sight(1, "eu"), true)));
    assert_eq!(look(&mut watch, left(1), true), []);
    // Without the link nobody else would say so.
    assert_eq!(look(&mut watch, left(1), false), gone);
    // It comes back in the same life: somebody made it up.
    watch.link_up(now, NodeId(1));
    assert_eq!(look(&mut watch, left(1), true), []);
    assert_eq!(look(&mut watch, left(1), false), []);
    // Its next life may leave.
    assert!(up(look(&mut watch, sight(2, "eu"), false)));
    assert_eq!(look(&mut watch, left(2), false), gone);
}

#[test]
fn a_gossip_address_is_the_node_id() {
    for id in [0, 1, 0xffff_0102_0304, u128::MAX] {
        assert_eq!(node_of(address_of(NodeId(id))), Some(NodeId(id)));
    }
    assert_eq!(node_of("127.0.0.1:1".parse().unwrap()), None);
    assert_eq!(node_of("[::1]:2".parse().unwrap()), None);
}

/// Nodes whose links are channels: what is sent over a link that is not up is lost.
struct Net {
    runtime: Runtime,
    nodes: Arc<Mutex<BTreeMap<NodeId, Arc<Gossip>>>>,
    links: Arc<Mutex<BTreeSet<(NodeId, NodeId)>>>,
}

impl Net {
    fn new() -> Net {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Net {
            runtime,
            nodes: Arc::default(),
            links: Arc::default(),
        }
    }

    fn start(&self, node: u128, epoch: u64, cluster: &str) -> Receiver<Hint> {
        let me = NodeId(node);
        let config = GossipConfig {
            cluster: cluster.into(),
            node: me,
            epoch: Epoch(epoch),
            own: own(node, "eu"),
            interval: Duration::from_millis(20),
        };
        let (nodes, links) = (Arc::downgrade(&self.nodes), self.links.clone());
        let send = move |to: NodeId, message: Bytes| {
            let Some(nodes) = nodes.upgrade() else { return };
            let target = nodes.lock().unwrap().get(&to).cloned();
            if let Some(target) = target.filter(|_| links.lock().unwrap().contains(&(me.min(to), me.max(to))))
            {
                target.on_message(me, message);
            }
        };
        let (tell, hints) = channel();
        let gossip = Gossip::start(config, self.runtime.handle(), send, move |hint| {
            drop(tell.send(hint))
        });
        self.nodes.lock().unwrap().insert(me, Arc::new(gossip));
        hints
    }

    fn gossip(&self, node: u128) -> Arc<Gossip> {
        self.nodes.lock().unwrap()[&NodeId(node)].clone()
    }

    fn link(&self, a: u128, b: u128) {
        self.links
            .lock()
            .unwrap()
            .insert((NodeId(a.min(b)), NodeId(a.max(b))));
        self.gossip(a).on_link_up(NodeId(b));
        self.gossip(b).on_link_up(NodeId(a));
    }

    fn unlink(&self, a: u128, b: u128) {
        self.links
            .lock()
            .unwrap()
            .remove(&(NodeId(a.min(b)), NodeId(a.max(b))));
        self.gossip(a).on_link_down(NodeId(b));
        self.gossip(b).on_link_down(NodeId(a));
    }
}

fn own(node: u128, zone: &str) -> Announcement {
    Announcement {
        addresses: vec![
            format!("192.0.2.{node}:4400").parse().unwrap(),
            "[2001:db8::1]:4400".parse().unwrap(),
        ],
        name: format!("n{node}"),
        zone: zone.into(),
        version: "0.1.0".into(),
        capabilities: 0xbeef,
    }
}

fn wait(hints: &Receiver<Hint>, want: &Hint) {
    wait_all(hints, std::slice::from_ref(want));
}

/// Waits for all of these, in whatever order they come.
fn wait_all(hints: &Receiver<Hint>, wanted: &[Hint]) {
    let until = std::time::Instant::now() + PATIENCE;
    let (mut wanted, mut seen) = (wanted.to_vec(), Vec::new());
    while !wanted.is_empty() {
        match hints.recv_timeout(until.saturating_duration_since(std::time::Instant::now())) {
            Ok(hint) => {
                wanted.retain(|want| *want != hint);
                seen.push(hint);
            }
            Err(error) => panic!("no {wanted:?} ({error}); saw {seen:?}"),
        }
    }
}

fn up(node: u128, epoch: u64, zone: &str) -> Hint {
    Hint::Up {
        node: NodeId(node),
        epoch: Epoch(epoch),
        about: own(node, zone),
    }
}

#[test]
fn word_of_a_node_passes_through_another() {
    let net = Net::new();
    let [one, two, three] = [1, 2, 3].map(|node| net.start(node, 1, "shop"));
    net.link(1, 2);
    net.link(2, 3);
    wait(&one, &up(3, 1, "eu"));
    wait(&three, &up(1, 1, "eu"));
    wait(&two, &up(1, 1, "eu"));
    // What a node says anew, and that it leaves, pass likewise.
    net.gossip(3).announce(own(3, "us"));
    wait(&one, &up(3, 1, "us"));
    net.runtime.block_on(net.gossip(3).leave());
    net.unlink(2, 3);
    wait(&two, &Hint::Left { node: NodeId(3) });
    wait(&one, &Hint::Left { node: NodeId(3) });
}

#[test]
fn a_silent_node_is_down_and_its_next_life_is_up() {
    let net = Net::new();
    let (one, _two) = (net.start(1, 1, "shop"), net.start(2, 1, "shop"));
    net.link(1, 2);
    wait(&one, &up(2, 1, "eu"));
    net.unlink(1, 2);
    wait(&one, &Hint::Down { node: NodeId(2) });
    let _two = net.start(2, 2, "shop");
    net.link(1, 2);
    wait(&one, &up(2, 2, "eu"));
}

#[test]
fn gossip_of_another_cluster_and_garbage_are_refused() {
    let net = Net::new();
    let [one, _two, _three] =
        [(1, "shop"), (2, "bank"), (3, "shop")].map(|(node, name)| net.start(node, 1, name));
    net.gossip(1)
        .on_message(NodeId(9), Bytes::from_static(b"no gossip"));
    net.link(1, 2);
    net.link(1, 3);
    wait(&one, &up(3, 1, "eu"));
    assert!(
        one.try_iter()
            .all(|hint| !matches!(hint, Hint::Up { node: NodeId(2), .. }))
    );
}

#[test]
fn who_has_no_links_leaves_at_once() {
    let net = Net::new();
    let _one = net.start(1, 1, "shop");
    net.runtime.block_on(net.gossip(1).leave());
}
