//! Transport and membership together, wired as the driver wires them: what neither may say of the other.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use tokio::sync::mpsc;

use crate::membership::{Announcement, Gossip, GossipConfig, Hint, Membership};
use crate::transport::{Event, Identity, Limits, Transport, TransportConfig, ca};

/// How long anything may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    transport: Arc<Transport>,
    gossip: Arc<OnceLock<Gossip>>,
    connected: mpsc::UnboundedReceiver<NodeId>,
    hints: mpsc::UnboundedReceiver<Hint>,
}

fn node(dir: &Path, id: u128, epoch: u64) -> Node {
    let own = dir.join(id.to_string());
    ca::issue(&dir.join("ca"), NodeId(id), &own, &ca::IssueOptions::default()).unwrap();
    let config = TransportConfig {
        identity: Identity::load(&own.join("ca.pem"), &own.join("node.pem"), &own.join("node.key")).unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: Vec::new(),
        epoch: Epoch(epoch),
        shards: 16,
        capabilities: 0,
        limits: Limits {
            reconnect_min: Duration::from_millis(20),
            ..Limits::default()
        },
    };
    let gossip: Arc<OnceLock<Gossip>> = Arc::default();
    let (tell, connected) = mpsc::unbounded_channel();
    let told = gossip.clone();
    let handler = move |event| match event {
        Event::Connected { peer, .. } => {
            told.wait().on_link_up(peer);
            let _ = tell.send(peer);
        }
        Event::Disconnected { peer, .. } => told.wait().on_link_down(peer),
        Event::Gossip { from, message } => told.wait().on_message(from, message),
        _ => {}
    };
    let transport = Arc::new(Transport::bind(config, Arc::new(handler)).unwrap());
    let (tell, hints) = mpsc::unbounded_channel();
    let dialler = Arc::downgrade(&transport);
    let hint = move |hint: Hint| {
        if let (Hint::Up { node, about, .. }, Some(transport)) = (&hint, dialler.upgrade()) {
            transport.set_peer_addresses(*node, about.addresses.clone());
        }
        let _ = tell.send(hint);
    };
    let config = GossipConfig {
        cluster: "shop".into(),
        node: NodeId(id),
        epoch: Epoch(epoch),
        own: Announcement {
            addresses: transport.advertised().to_vec(),
            ..Announcement::default()
        },
        interval: Duration::from_millis(50),
    };
    let started = Gossip::start(config, &transport.runtime(), transport.gossip_sender(), hint);
    assert!(gossip.set(started).is_ok());
    Node {
        transport,
        gossip,
        connected,
        hints,
    }
}

impl Node {
    fn address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    async fn connected(&mut self, to: u128) {
        let linked = async { while self.connected.recv().await != Some(NodeId(to)) {} };
        assert!(
            tokio::time::timeout(PATIENCE, linked).await.is_ok(),
            "no link with {to}"
        );
    }

    async fn hinted(&mut self, want: impl Fn(&Hint) -> bool) {
        let told = async {
            while let Some(hint) = self.hints.recv().await {
                if want(&hint) {
                    return;
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, told).await.is_ok(), "no such hint");
    }
}

fn bed(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("anabranch-network-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    ca::init(&dir.join("ca"), "shop").unwrap();
    dir
}

#[tokio::test]
async fn three_nodes_find_each_other_through_one_seed() {
    let dir = bed("seed");
    let mut nodes = [1, 2, 3].map(|id| node(&dir, id, 1));
    // Two and three know one alone; each other they know by gossip.
    for other in &nodes[1..] {
        other.transport.set_seeds(vec![nodes[0].address().to_string()]);
    }
    nodes[1].connected(3).await;
    nodes[2].connected(2).await;

    // One comes back elsewhere and knows nobody but three, by an address; two finds it by gossip.
    let [one, mut two, three] = nodes;
    one.gossip.wait().leave().await;
    one.transport.leave().await;
    two.hinted(|hint| *hint == Hint::Left { node: NodeId(1) }).await;
    let mut one = node(&dir, 1, 2);
    one.transport.set_seeds(vec![three.address().to_string()]);
    let address = one.address();
    two.hinted(|hint| {
        matches!(hint, Hint::Up { node: NodeId(1), epoch: Epoch(2), about } if about.addresses == [address])
    })
    .await;
    one.connected(2).await;
    std::fs::remove_dir_all(&dir).unwrap();
}
