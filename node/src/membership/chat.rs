//! chitchat itself: started, asked, and started again when it has ended or knows too many of the dead.
//!
//! A node's state is a few keys (its addresses, name, zone, version, capabilities, and `left`) under its id and epoch.
//! The epoch is chitchat's generation: a restarted node is a new one that outdates the old.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use chitchat::{Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState};
use tokio::time::Instant;

use crate::membership::carry::{Carrier, address_of, lock};
use crate::membership::limits::{
    ADDRESSES_MAX, DEAD_NODE_GRACE, PHI_MAX, REVIVE_MAX, REVIVE_MIN, REVIVE_QUIET, TEXT_BYTES_MAX,
};
use crate::membership::roster::Id;
use crate::membership::watch::Sight;
use crate::membership::{Announcement, GossipConfig};

const KEY_ADDRESSES: &str = "addresses";
const KEY_NAME: &str = "name";
const KEY_ZONE: &str = "zone";
const KEY_VERSION: &str = "version";
const KEY_CAPABILITIES: &str = "capabilities";
const KEY_LEFT: &str = "left";

/// The running chitchat.
pub(super) struct Chat {
    config: GossipConfig,
    carrier: Carrier,
    handle: ChitchatHandle,
    has_left: bool,
    started: Instant,
    /// How long to wait before it is started again.
    wait: Duration,
}

impl Chat {
    pub(super) async fn start(config: GossipConfig, carrier: Carrier) -> Chat {
        let handle = spawn(&config, &carrier).await;
        let chat = Chat {
            config,
            carrier,
            handle,
            has_left: false,
            started: Instant::now(),
            wait: REVIVE_MIN,
        };
        chat.say_all().await;
        chat
    }

    /// Resolves when it has ended, with what is known of why.
    pub(super) fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let watcher = self.handle.termination_watcher();
        async move {
            match watcher.await {
                Ok(()) => "it stopped by itself".to_owned(),
                Err(error) => error.to_string(),
            }
        }
    }

    pub(super) fn stop(&self) {
        self.handle.abort();
    }

    /// How long to wait before it is started again: longer each time it ends soon.
    pub(super) fn wait(&mut self) -> Duration {
        if self.started.elapsed() >= REVIVE_QUIET {
            self.wait = REVIVE_MIN;
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(REVIVE_MAX);
        wait
    }

    /// Begins anew, knowing nobody. What this node says goes on above what it said before, or the others would not listen.
    pub(super) async fn begin_anew(&mut self) {
        self.handle.abort();
        let own = |chitchat: &mut Chitchat| {
            let own = chitchat.self_node_state();
            (own.max_version(), own.heartbeat())
        };
        let (version, heartbeat) = self.handle.with_chitchat(own).await;
        lock(&self.carrier.roster).forget_all();
        self.handle = spawn(&self.config, &self.carrier).await;
        let go_on = |chitchat: &mut Chitchat| {
            let own = chitchat.self_node_state();
            own.set_max_version(version);
            own.try_set_heartbeat(heartbeat);
        };
        self.handle.with_chitchat(go_on).await;
        self.say_all().await;
        self.started = Instant::now();
    }

    /// Begins anew where too many of those it knows are earlier lives of others, unless it has done so just now.
    pub(super) async fn bury_the_dead(&mut self) -> bool {
        let ids = {
            let roster = lock(&self.carrier.roster);
            if !roster.is_crowded_by_the_dead() || self.started.elapsed() < REVIVE_QUIET {
                return false;
            }
            roster.ids()
        };
        tracing::warn!(
            ids,
            "gossip knows too many earlier lives of nodes that restarted; it begins anew without them"
        );
        self.begin_anew().await;
        true
    }

    pub(super) async fn announce(&mut self, own: Announcement) {
        self.config.own = own;
        self.say_all().await;
    }

    pub(super) async fn leave(&mut self) {
        self.has_left = true;
        self.say_all().await;
    }

    pub(super) fn talk_to(&self, peer: NodeId) {
        if let Err(error) = self.handle.gossip(address_of(peer)) {
            tracing::debug!(%peer, %error, "gossip has ended, and begins again soon");
        }
    }

    /// The other nodes, each as its newest epoch says. The roster learns what there is.
    pub(super) async fn look(&self) -> BTreeMap<NodeId, Sight> {
        let me = self.config.node;
        let look = |chitchat: &mut Chitchat| {
            // Under chitchat's lock: what it takes in meanwhile is not forgotten.
            lock(&self.carrier.roster).seen(known(chitchat));
            sights(chitchat, me)
        };
        self.handle.with_chitchat(look).await
    }

    async fn say_all(&self) {
        let say = |chitchat: &mut Chitchat| {
            let own = chitchat.self_node_state();
            for (key, value) in keys(&self.config.own) {
                own.set(key, value);
            }
            if self.has_left {
                own.set(KEY_LEFT, 1);
            }
        };
        self.handle.with_chitchat(say).await;
    }
}

async fn spawn(config: &GossipConfig, carrier: &Carrier) -> ChitchatHandle {
    match chitchat::spawn_chitchat(chitchat_config(config), Vec::new(), carrier).await {
        Ok(handle) => handle,
        // Only opening the socket can fail, and ours opens always.
        Err(error) => unreachable!("gossip over links did not start: {error}"),
    }
}

fn chitchat_config(config: &GossipConfig) -> ChitchatConfig {
    let address = address_of(config.node);
    ChitchatConfig {
        chitchat_id: ChitchatId::new(config.node.to_string(), config.epoch.0, address),
        cluster_id: config.cluster.clone(),
        gossip_interval: config.interval,
        listen_addr: address,
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: PHI_MAX,
            initial_interval: config.interval * 2,
            dead_node_grace_period: DEAD_NODE_GRACE,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: DEAD_NODE_GRACE,
        catchup_callback: None,
        extra_liveness_predicate: None,
    }
}

/// An announcement as chitchat carries it.
fn keys(own: &Announcement) -> Vec<(&'static str, String)> {
    let addresses: Vec<String> = own.addresses.iter().map(SocketAddr::to_string).collect();
    vec![
        (KEY_ADDRESSES, addresses.join(",")),
        (KEY_NAME, own.name.clone()),
        (KEY_ZONE, own.zone.clone()),
        (KEY_VERSION, own.version.clone()),
        (KEY_CAPABILITIES, format!("{:x}", own.capabilities)),
    ]
}

fn id_of(id: &ChitchatId) -> Option<Id> {
    let node = id.node_id.parse().ok()?;
    Some((node, Epoch(id.generation_id)))
}

/// All that chitchat knows of, and under which keys.
fn known(chitchat: &Chitchat) -> BTreeMap<Id, BTreeSet<String>> {
    let states = chitchat.node_states().iter();
    states
        .filter_map(|(id, state)| {
            let keys = state.key_values_including_deleted();
            Some((id_of(id)?, keys.map(|(key, _)| key.to_owned()).collect()))
        })
        .collect()
}

/// The other nodes, each as its newest epoch says.
fn sights(chitchat: &Chitchat, me: NodeId) -> BTreeMap<NodeId, Sight> {
    let live: BTreeSet<&ChitchatId> = chitchat.live_nodes().collect();
    let mut sights: BTreeMap<NodeId, Sight> = BTreeMap::new();
    for (id, state) in chitchat.node_states() {
        let Some((node, epoch)) = id_of(id).filter(|(node, _)| *node != me) else {
            continue;
        };
        if sights.get(&node).is_none_or(|sight| sight.epoch < epoch) {
            let sight = Sight {
                epoch,
                about: about(state),
                has_left: state.get(KEY_LEFT).is_some(),
                is_live: live.contains(id),
            };
            sights.insert(node, sight);
        }
    }
    sights
}

/// What a node says of itself, as far as it has come; what cannot be read is left out.
fn about(state: &NodeState) -> Option<Announcement> {
    let text = |key| {
        state
            .get(key)
            .filter(|text| text.len() <= TEXT_BYTES_MAX)
            .unwrap_or_default()
            .to_owned()
    };
    let addresses = state
        .get(KEY_ADDRESSES)?
        .split(',')
        .filter_map(|address| address.parse().ok());
    Some(Announcement {
        addresses: addresses.take(ADDRESSES_MAX).collect(),
        name: text(KEY_NAME),
        zone: text(KEY_ZONE),
        version: text(KEY_VERSION),
        capabilities: state
            .get(KEY_CAPABILITIES)
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .unwrap_or(0),
    })
}
