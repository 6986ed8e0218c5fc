//! The real network: the QUIC transport, gossip over it, and what is known of each peer.
//!
//! Events come on the network's thread and go straight to the engine; a frame's room is given back when the engine has
//! handled it, so a peer cannot run ahead of the engine.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anabranch_crdt::{Epoch, NodeId, ReplicaId};
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::engine::Input;
use crate::error::{Error, ErrorKind};
use crate::function::BoxFuture;
use crate::membership::{Announcement, Gossip, GossipConfig, Hint, Membership};
use crate::transport::{
    BindError, Event, Identity, Limits, Reason, Sent, Stream, Transport, TransportConfig, Work,
};
use crate::wire::Lane;

use super::advertise::resolve;
use super::network::{Network, NotOpened};
use super::peers::{Peers, Room};
use super::queue::Closing;
use super::refusals::Refusals;
use super::remembered::Remembered;
use super::shared::Shared;
use super::start::Config;
use super::{MemberHint, MemberStatus};

/// Time between two rounds of gossip. Each link that comes up is gossiped over at once, whatever this says.
const GOSSIP_INTERVAL: Duration = Duration::from_secs(1);

// The engine's frames are what the transport carries.
const _: () = assert!(crate::transport::FRAME_BYTES_MAX == crate::wire::FRAME_BYTES_MAX);
// What one of them believes of epochs, the others do.
const _: () = assert!(crate::transport::EPOCH_MAX == crate::engine::limits::EPOCH_MAX);
const _: () = assert!(crate::membership::EPOCH_MAX == crate::engine::limits::EPOCH_MAX);

/// Transport and membership of one node.
pub(super) struct Quic {
    pub(super) own: Own,
    pub(super) shared: Weak<Shared>,
    /// Where the socket is bound, once it is; the same for the whole run.
    local: OnceLock<SocketAddr>,
    /// Gone while they are closed, and the port with them.
    links: RwLock<Option<Links>>,
    pub(super) peers: Peers,
    refusals: Refusals,
    pub(super) remembered: Remembered,
}

/// What stays the same however often the links are opened.
pub(super) struct Own {
    pub(super) identity: Identity,
    name: String,
    listen: SocketAddr,
    advertise: Vec<SocketAddr>,
    seeds: Vec<String>,
    shards: u32,
    limits: Limits,
}

pub(super) struct Links {
    pub(super) transport: Transport,
    gossip: Gossip,
}

/// Binds, and begins to dial the seeds. The engine's first input may come before this returns. `is_wanted`: whether anybody
/// waits for that.
pub(super) fn start(
    config: &Config,
    shared: &Arc<Shared>,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let quic = Arc::new(Quic {
        own: Own {
            identity: config.identity.clone(),
            name: config.name.clone(),
            listen: config.listen,
            advertise: resolve(&config.advertise, is_wanted)?,
            seeds: config.seeds.clone(),
            shards: config.shards,
            limits: Limits {
                mtu_bytes: config.mtu_bytes,
                ..Limits::default()
            },
        },
        shared: Arc::downgrade(shared),
        local: OnceLock::new(),
        links: RwLock::new(None),
        peers: Peers::default(),
        refusals: Refusals::default(),
        remembered: Remembered::new(&config.directory),
    });
    shared.set_network(Arc::clone(&quic) as Arc<dyn Network>);
    quic.remember(shared);
    Arc::clone(&quic).open(shared.epoch())?;
    quic.look_whether_lonely();
    Ok(())
}

impl Quic {
    pub(super) fn links(&self) -> RwLockReadGuard<'_, Option<Links>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn links_mut(&self) -> RwLockWriteGuard<'_, Option<Links>> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(self: &Arc<Quic>, epoch: Epoch) -> Result<Transport, Error> {
        let config = TransportConfig {
            identity: self.own.identity.clone(),
            listen: self.local.get().copied().unwrap_or(self.own.listen),
            advertise: self.own.advertise.clone(),
            epoch,
            shards: self.own.shards,
            capabilities: 0,
            limits: self.own.limits.clone(),
        };
        let told = Arc::downgrade(self);
        let handler = move |event| {
            if let Some(quic) = told.upgrade() {
                quic.on_event(event);
            }
        };
        Transport::bind(config, Arc::new(handler)).map_err(|e| bind_error(&e))
    }

    fn gossip(self: &Arc<Quic>, transport: &Transport, epoch: Epoch) -> Gossip {
        let config = GossipConfig {
            cluster: self.own.identity.cluster().to_owned(),
            node: self.own.identity.node(),
            epoch,
            own: Announcement {
                name: self.own.name.clone(),
                addresses: transport.advertised().to_vec(),
                zone: String::new(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                capabilities: 0,
            },
            interval: GOSSIP_INTERVAL,
        };
        let told = Arc::downgrade(self);
        let on_hint = move |hint| {
            if let Some(quic) = told.upgrade() {
                quic.on_hint(hint);
            }
        };
        Gossip::start(config, &transport.runtime(), transport.gossip_sender(), on_hint)
    }

    /// An input for the engine. An error means that the node is stopping because of a bug, and whoever hit it has
    /// said so.
    fn step(&self, input: Input) {
        if let Some(shared) = self.shared.upgrade() {
            let _ = shared.step(input);
        }
    }

    /// One event of the transport, on its thread.
    fn on_event(self: &Arc<Quic>, event: Event) {
        match event {
            Event::Connected {
                peer,
                epoch,
                wall_ms: theirs,
                hello,
            } => {
                self.on_connected(peer, epoch, theirs, &hello.addresses);
            }
            Event::Disconnected { peer, epoch, reason } => self.on_disconnected(peer, epoch, &reason),
            Event::Frame {
                peer,
                epoch,
                lane,
                frame,
                credit,
            } => {
                self.peers
                    .with(peer, |status| status.bytes_received += frame.len() as u64);
                match (lane, self.shared.upgrade()) {
                    (Lane::Calls, Some(shared)) => shared.on_call_frame(peer, epoch, &frame),
                    (Lane::Calls, None) => {}
                    _ => self.step(Input::Received { peer, epoch, frame }),
                }
                drop(credit);
            }
            Event::Stream { peer, epoch, stream } => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.on_stream(peer, epoch, stream);
                }
            }
            Event::Taken {
                peer,
                epoch,
                lane,
                bytes,
            } => {
                self.peers.with(peer, |status| status.bytes_sent += bytes);
                match (lane, self.shared.upgrade()) {
                    (Lane::Calls, Some(shared)) => shared.calls.outgoing.on_written(peer, bytes),
                    (Lane::Calls, None) => {}
                    _ => self.step(Input::Writable { peer, epoch, bytes }),
                }
            }
            Event::Gossip { from, message } => self.with_gossip(|gossip| gossip.on_message(from, message)),
            Event::Outdated { by, newest } => {
                tracing::warn!(peer = %by, %newest, "a peer knows a newer epoch of this node");
                self.step(Input::Fenced { by, newest });
            }
            Event::Broken { what } => {
                if let Some(shared) = self.shared.upgrade() {
                    broken(&shared, &what);
                }
            }
            Event::Refused {
                peer,
                address,
                reason,
            } => self.on_refused(peer, address, &reason),
        }
    }

    /// It is tried again all the time: each refusal is said once.
    #[allow(clippy::disallowed_methods, reason = "the driver is where clocks are read")]
    fn on_refused(&self, peer: Option<NodeId>, address: SocketAddr, reason: &str) {
        if self.refusals.met(peer, address, reason, Instant::now()) {
            // Of a certificate that is none of ours nobody can say whose it is.
            let peer = peer.map(tracing::field::display);
            tracing::warn!(%address, peer, reason, "no link until a configuration or a certificate changes");
        }
    }

    fn on_connected(self: &Arc<Quic>, peer: NodeId, epoch: Epoch, wall_ms: u64, addresses: &[SocketAddr]) {
        let had_left = self.peers.connected(peer, epoch, addresses);
        if had_left && let Some(links) = &*self.links() {
            // It was not looked for any more.
            links.transport.set_peer_addresses(peer, addresses.to_vec());
        }
        self.refusals.over(peer, addresses);
        self.with_gossip(|gossip| gossip.on_link_up(peer));
        self.step(Input::Connected { peer, epoch, wall_ms });
        self.tell_live();
    }

    /// Who is there may be others than before.
    fn tell_live(self: &Arc<Quic>) {
        self.write_down();
        if let Some(shared) = self.shared.upgrade() {
            shared.live_changed();
        }
    }

    fn on_disconnected(self: &Arc<Quic>, peer: NodeId, epoch: Epoch, reason: &Reason) {
        // Its own word: gossip may not have known it yet, and learns nothing more from it.
        let has_left = *reason == Reason::Left;
        self.peers.with(peer, |status| {
            status.connected = false;
            if has_left {
                status.hint = MemberHint::Left;
            }
        });
        self.with_gossip(|gossip| gossip.on_link_down(peer));
        self.step(Input::Disconnected { peer, epoch });
        if let Some(shared) = self.shared.upgrade() {
            shared.calls.on_disconnected(peer);
            shared.served.on_disconnected(peer);
        }
        if has_left {
            self.step(Input::MemberLeft { node: peer });
        }
        self.tell_live();
    }

    /// What the membership believes, on the transport's thread. Believed where it costs no more than a dial.
    fn on_hint(self: &Arc<Quic>, hint: Hint) {
        self.take_hint(hint);
        self.tell_live();
    }

    fn take_hint(&self, hint: Hint) {
        match hint {
            Hint::Up { node, epoch, about } => {
                if !self.make_room(node) {
                    return;
                }
                self.peers.hinted_up(node, epoch, &about);
                if let Some(links) = &*self.links() {
                    links.transport.set_peer_addresses(node, about.addresses);
                }
                self.step(Input::MemberSeen { node });
            }
            Hint::Down { node } => self.peers.hinted_down(node),
            Hint::Left { node } => {
                if self.peers.hinted_left(node) {
                    if let Some(links) = &*self.links() {
                        links.transport.forget_peer(node);
                    }
                    self.step(Input::MemberLeft { node });
                }
            }
        }
    }

    /// Whether there is room to know this node, perhaps in place of one that is gone.
    fn make_room(&self, node: NodeId) -> bool {
        let members = || {
            let shared = self.shared.upgrade();
            shared.map_or_else(Vec::new, |shared| shared.peek(|engine| engine.status().members))
        };
        match self.peers.make_room(node, members) {
            Room::Free => true,
            Room::None => false,
            Room::Instead(gone) => {
                if let Some(links) = &*self.links() {
                    links.transport.forget_peer(gone);
                }
                true
            }
        }
    }

    fn with_gossip(&self, f: impl FnOnce(&Gossip)) {
        if let Some(links) = &*self.links() {
            f(&links.gossip);
        }
    }
}

impl Network for Quic {
    fn send(&self, peer: NodeId, epoch: Epoch, lane: Lane, frame: Bytes) -> bool {
        let links = self.links();
        let sent = links
            .as_ref()
            .map(|links| links.transport.send(peer, epoch, lane, frame));
        // The engine hears of everything else by `Disconnected`.
        sent == Some(Sent::Queued)
    }

    fn open_stream(
        &self,
        peer: NodeId,
        epoch: Epoch,
        within: Duration,
    ) -> BoxFuture<'static, Result<Stream, NotOpened>> {
        let (sender, opened) = oneshot::channel();
        if let Some(links) = &*self.links() {
            let opening = links.transport.open_stream(peer, epoch);
            // There, where seconds are counted. What nobody waits for any more is dropped, and the peer told.
            links.transport.spawn(async move {
                let opened = timeout(within, opening).await;
                let _ = sender.send(match opened {
                    Ok(stream) => stream.ok_or(NotOpened::NoLink),
                    Err(_elapsed) => Err(NotOpened::Full),
                });
            });
        }
        Box::pin(async { opened.await.unwrap_or(Err(NotOpened::NoLink)) })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // Where the network is closed nobody waits for what it would do.
        if let Some(links) = &*self.links() {
            links.transport.spawn(task);
        }
    }

    fn between(&self, work: Work) -> Result<bool, Work> {
        match &*self.links() {
            Some(links) => links.transport.between(work),
            None => Err(work),
        }
    }

    fn look(&self) -> bool {
        self.links().as_ref().is_some_and(|links| links.transport.look())
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        // Where the network is closed nobody waits for what it would do.
        if let Some(links) = &*self.links() {
            links.transport.runtime().spawn_blocking(work);
        }
    }

    fn nearest(&self) -> Vec<NodeId> {
        let links = self.links();
        let mut links = links
            .as_ref()
            .map_or_else(Vec::new, |links| links.transport.links());
        links.sort_by_key(|link| link.rtt);
        links.into_iter().map(|link| link.peer).collect()
    }

    fn live(&self) -> Vec<ReplicaId> {
        self.peers.live()
    }

    fn disconnect(&self, peer: NodeId, epoch: Epoch, reason: &str) {
        if let Some(links) = &*self.links() {
            links.transport.disconnect(peer, epoch, reason);
        }
    }

    fn fence(&self, peer: NodeId, epoch: Epoch, newest: Epoch) {
        if let Some(links) = &*self.links() {
            links.transport.fence(peer, epoch, newest);
        }
    }

    fn open(self: Arc<Self>, epoch: Epoch) -> Result<(), Error> {
        // Locked until all is in place: the first event waits for it, so no link comes up that gossip does not hear of.
        let mut links = self.links_mut();
        let transport = self.bind(epoch)?;
        let local = *self.local.get_or_init(|| transport.local_addr());
        tracing::info!(%local, %epoch, "listening");
        transport.set_seeds(self.own.seeds.clone());
        for (node, addresses) in self.peers.addresses() {
            transport.set_peer_addresses(node, addresses);
        }
        let gossip = self.gossip(&transport, epoch);
        *links = Some(Links { transport, gossip });
        Ok(())
    }

    fn local_address(&self) -> SocketAddr {
        self.local
            .get()
            .copied()
            .unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into())
    }

    fn members(&self) -> Vec<MemberStatus> {
        self.peers.all()
    }

    #[allow(clippy::disallowed_methods, reason = "the driver is where clocks are read")]
    fn refusals(&self) -> Vec<String> {
        self.refusals.all(Instant::now())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Some(links) = &*self.links() else {
            return Vec::new();
        };
        let counted = links.transport.counters();
        let gossip = links.gossip.counters();
        vec![
            ("connections_refused", counted.connections_refused),
            (
                "connections_refused_of_source",
                counted.connections_refused_of_source,
            ),
            ("frames_skipped", counted.frames_skipped),
            ("gossip_dropped", counted.gossip_dropped),
            ("gossip_ids", gossip.ids),
            ("gossip_refused", gossip.refused),
            ("gossip_revivals", gossip.revivals),
            ("udp_bytes_sent", counted.udp_bytes_sent),
            ("udp_bytes_received", counted.udp_bytes_received),
        ]
    }

    fn close(&self, leaving: bool) -> usize {
        // It counts its seconds by the runtime's clock, so it has to run there.
        let farewell = |links: &Links| links.transport.runtime().spawn(links.gossip.leave());
        let told = if leaving {
            self.links().as_ref().map(farewell)
        } else {
            None
        };
        if let Some(told) = told {
            let _ = block_on(told);
        }
        let links = self.links_mut().take();
        let heard = links.map_or(0, |Links { transport, gossip }| {
            let heard = block_on(async {
                if leaving {
                    transport.leave().await
                } else {
                    transport.shutdown().await
                }
            });
            drop((transport, gossip));
            heard
        });
        self.remembered.end();
        self.peers.all_disconnected();
        heard
    }
}

impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quic")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// A node without a network would look well and diverge: it stops, and whoever runs it starts it again.
pub(super) fn broken(shared: &Shared, what: &str) {
    tracing::error!(what, "the network of this node is broken");
    let message = format!(
        "the node's network stopped because of a bug in Anabranch: {what}; the log has the panic, please report it. What was \
         acknowledged durable is on disk: restart the node"
    );
    shared.queue.close(Closing {
        error: Some(Error::new(ErrorKind::Internal, message)),
        leaving: None,
    });
}

fn bind_error(error: &BindError) -> Error {
    let kind = match error {
        BindError::Listen { error, .. } if error.kind() == io::ErrorKind::AddrInUse => ErrorKind::InUse,
        BindError::Listen { .. } | BindError::Thread(_) => ErrorKind::Io,
        BindError::Advertise(_) | BindError::Addresses(_) | BindError::Limits(_) => ErrorKind::Config,
        BindError::Tls(_) => ErrorKind::Identity,
    };
    Error::new(kind, error.to_string())
}

/// Waits for a future on this thread, which belongs to no runtime.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    block_on_with(future, thread::park)
}

/// The same, waiting by `park`, which is to end when this thread is unparked.
pub(super) fn block_on_with<F: Future>(future: F, park: impl Fn()) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => park(),
        }
    }
}
