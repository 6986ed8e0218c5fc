//! [`Gossip`]: the membership by chitchat.
//!
//! A node's state is a few keys (its addresses, name, zone, version, capabilities, and `left`) under its id and epoch.
//! The epoch is chitchat's generation: a restarted node is a new one that outdates the old.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use chitchat::{Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::membership::carry::{Carrier, Farewell, SendFn, address_of};
use crate::membership::watch::{Sight, Watch};
use crate::membership::{Announcement, Hint, Leaving, Membership};

/// How long [`Membership::leave`] waits for the peers to be told.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the state of a dead node is kept.
const DEAD_NODE_GRACE: Duration = Duration::from_secs(15 * 60);
/// Suspicion from which on a node counts as down.
const PHI_MAX: f64 = 8.0;
/// Messages that wait for chitchat; more are dropped, as on a lossy network.
const INBOX_MESSAGES_MAX: usize = 256;
/// Links that came or went and were not looked at yet.
const INPUTS_MAX: usize = 1024;
/// Nodes that are hinted at; chitchat may know more.
const NODES_MAX: usize = 4096;
/// Addresses taken from one node's word.
const ADDRESSES_MAX: usize = 8;
/// The longest name, zone or version that is taken from a node's word.
const TEXT_BYTES_MAX: usize = 128;

const KEY_ADDRESSES: &str = "addresses";
const KEY_NAME: &str = "name";
const KEY_ZONE: &str = "zone";
const KEY_VERSION: &str = "version";
const KEY_CAPABILITIES: &str = "capabilities";
const KEY_LEFT: &str = "left";

/// Who gossips, and how often.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// The cluster; gossip of another one is refused.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// What it says of itself at first.
    pub own: Announcement,
    /// The time between two rounds with a few peers each.
    pub interval: Duration,
}

/// The membership by gossip. It ends when it is dropped, without a word; see [`Membership::leave`].
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use anabranch::membership::{Announcement, Gossip, GossipConfig, Hint, Membership};
/// use anabranch::{Epoch, NodeId};
///
/// let runtime = tokio::runtime::Runtime::new()?;
/// let node = |id: u128| GossipConfig {
///     cluster: "shop".into(),
///     node: NodeId(id),
///     epoch: Epoch(1),
///     own: Announcement { addresses: vec!["192.0.2.1:4400".parse().unwrap()], ..Announcement::default() },
///     interval: std::time::Duration::from_millis(20),
/// };
/// // Two nodes whose links are channels.
/// let (to_b, from_a) = mpsc::channel();
/// let (to_a, from_b) = mpsc::channel();
/// let (hint, hints) = mpsc::channel();
/// let send_a = move |_, message| drop(to_b.send(message));
/// let send_b = move |_, message| drop(to_a.send(message));
/// let a = Gossip::start(node(1), runtime.handle(), send_a, move |h| drop(hint.send(h)));
/// let b = Arc::new(Gossip::start(node(2), runtime.handle(), send_b, |_| {}));
/// let receiver = b.clone();
/// std::thread::spawn(move || from_a.iter().for_each(|message| receiver.on_message(NodeId(1), message)));
/// a.on_link_up(NodeId(2));
/// let hint = loop {
///     if let Ok(message) = from_b.try_recv() {
///         a.on_message(NodeId(2), message);
///     }
///     if let Ok(hint) = hints.try_recv() {
///         break hint;
///     }
/// };
/// assert!(matches!(hint, Hint::Up { node: NodeId(2), epoch: Epoch(1), .. }));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Gossip {
    inputs: mpsc::Sender<Input>,
    inbox: mpsc::Sender<(NodeId, Bytes)>,
    own: watch::Sender<Announcement>,
}

enum Input {
    LinkUp(NodeId),
    LinkDown(NodeId),
    Leave(oneshot::Sender<()>),
}

impl Gossip {
    /// Starts gossiping as tasks of `runtime`. `send` hands a message to the link with a node and must not wait;
    /// `hint` takes hints and must not block.
    pub fn start(
        config: GossipConfig,
        runtime: &Handle,
        send: impl Fn(NodeId, Bytes) + Send + Sync + 'static,
        hint: impl Fn(Hint) + Send + Sync + 'static,
    ) -> Gossip {
        let (inputs, inputs_rx) = mpsc::channel(INPUTS_MAX);
        let (inbox, inbox_rx) = mpsc::channel(INBOX_MESSAGES_MAX);
        let (own, own_rx) = watch::channel(config.own.clone());
        let farewell = Arc::new(Farewell::default());
        let send: SendFn = Arc::new(send);
        let carrier = Carrier {
            send,
            inbox: Mutex::new(Some(inbox_rx)),
            farewell: farewell.clone(),
        };
        drop(runtime.spawn(async move {
            let handle =
                match chitchat::spawn_chitchat(chitchat_config(&config), keys(&config.own), &carrier).await {
                    Ok(handle) => handle,
                    // Only opening the socket can fail, and ours was never opened before.
                    Err(error) => unreachable!("gossip over links did not start: {error}"),
                };
            let loop_ = Loop {
                handle,
                farewell,
                linked: BTreeSet::new(),
                watch: Watch::default(),
                me: config.node,
            };
            loop_.run(config.interval, inputs_rx, own_rx, &hint).await;
        }));
        Gossip { inputs, inbox, own }
    }
}

impl Membership for Gossip {
    fn announce(&self, own: Announcement) {
        self.own.send_replace(own);
    }

    fn on_link_up(&self, peer: NodeId) {
        // Dropped when thousands wait: the rounds reach the peer too, later.
        let _ = self.inputs.try_send(Input::LinkUp(peer));
    }

    fn on_link_down(&self, peer: NodeId) {
        let _ = self.inputs.try_send(Input::LinkDown(peer));
    }

    fn on_message(&self, from: NodeId, message: Bytes) {
        if self.inbox.try_send((from, message)).is_err() {
            tracing::debug!(%from, "gossip dropped: too much waits");
        }
    }

    fn leave(&self) -> Leaving {
        let inputs = self.inputs.clone();
        Box::pin(async move {
            let (told, all_told) = oneshot::channel();
            let leaving = async {
                // Either error means that the gossip has ended: nobody is left to be told.
                if inputs.send(Input::Leave(told)).await.is_ok() {
                    let _ = all_told.await;
                }
            };
            let _ = timeout(LEAVE_TIMEOUT, leaving).await;
        })
    }
}

/// What the gossip's task does next.
enum Step {
    Look,
    Announce,
    Handle(Input),
    End,
}

struct Loop {
    handle: ChitchatHandle,
    farewell: Arc<Farewell>,
    linked: BTreeSet<NodeId>,
    watch: Watch,
    me: NodeId,
}

impl Loop {
    async fn run(
        mut self,
        every: Duration,
        mut inputs: mpsc::Receiver<Input>,
        mut own: watch::Receiver<Announcement>,
        hint: &(dyn Fn(Hint) + Send + Sync),
    ) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                input = inputs.recv() => input.map_or(Step::End, Step::Handle),
                changed = own.changed() => if changed.is_ok() { Step::Announce } else { Step::End },
                _ = ticks.tick() => Step::Look,
            };
            match step {
                Step::Look => self.look().await.into_iter().for_each(hint),
                Step::Announce => {
                    let own = own.borrow_and_update().clone();
                    self.announce(&own).await;
                }
                Step::Handle(input) => self.handle(input).await,
                Step::End => break,
            }
        }
        self.handle.abort();
    }

    async fn look(&mut self) -> Vec<Hint> {
        let me = self.me;
        let sights = self.handle.with_chitchat(|chitchat| sights(chitchat, me)).await;
        self.watch.look(Instant::now(), &sights)
    }

    async fn announce(&self, own: &Announcement) {
        let set = |chitchat: &mut Chitchat| {
            for (key, value) in keys(own) {
                chitchat.self_node_state().set(key, value);
            }
        };
        self.handle.with_chitchat(set).await;
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::LinkUp(peer) => {
                self.linked.insert(peer);
                self.talk_to(peer);
            }
            Input::LinkDown(peer) => {
                self.linked.remove(&peer);
            }
            Input::Leave(told) => {
                self.handle
                    .with_chitchat(|chitchat| chitchat.self_node_state().set(KEY_LEFT, 1))
                    .await;
                self.farewell.begin(self.linked.clone());
                for peer in &self.linked {
                    self.talk_to(*peer);
                }
                // In its own task: the answers to what was just said come through this loop's chitchat.
                let farewell = self.farewell.clone();
                tokio::spawn(async move {
                    let _ = timeout(LEAVE_TIMEOUT, farewell.done()).await;
                    let _ = told.send(());
                });
            }
        }
    }

    fn talk_to(&self, peer: NodeId) {
        if let Err(error) = self.handle.gossip(address_of(peer)) {
            tracing::warn!(%peer, %error, "gossip has ended");
        }
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
fn keys(own: &Announcement) -> Vec<(String, String)> {
    let addresses: Vec<String> = own.addresses.iter().map(SocketAddr::to_string).collect();
    let key = |key: &str, value: String| (key.to_owned(), value);
    vec![
        key(KEY_ADDRESSES, addresses.join(",")),
        key(KEY_NAME, own.name.clone()),
        key(KEY_ZONE, own.zone.clone()),
        key(KEY_VERSION, own.version.clone()),
        key(KEY_CAPABILITIES, format!("{:x}", own.capabilities)),
    ]
}

/// The other nodes, each as its newest epoch says.
fn sights(chitchat: &Chitchat, me: NodeId) -> BTreeMap<NodeId, Sight> {
    let live: BTreeSet<&ChitchatId> = chitchat.live_nodes().collect();
    let mut sights: BTreeMap<NodeId, Sight> = BTreeMap::new();
    for (id, state) in chitchat.node_states() {
        let Ok(node) = id.node_id.parse::<NodeId>() else {
            continue;
        };
        let epoch = Epoch(id.generation_id);
        let is_newest = sights.get(&node).is_none_or(|sight| sight.epoch < epoch);
        if node != me && is_newest && (sights.len() < NODES_MAX || sights.contains_key(&node)) {
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
