//! The transport itself: its thread, its socket, and the verbs that the driver calls.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Incoming, Runtime as _};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::transport::alarm::{Alarm, Watched};
use crate::transport::arrivals::Welcome;
use crate::transport::dial::{keep_peer, keep_seed};
use crate::transport::drive::{Drive, Reactor, Work, begin};
use crate::transport::event::{CloseCode, Reason};
use crate::transport::hello::{PROTOCOL_VERSION, wall_ms};
use crate::transport::limits::{
    ADDRESSES_MAX, DRAIN_TIMEOUT, IDLE_WAIT, PEERS_MAX, SEEDS_MAX, SOCKET_CLOSE_POLL, SOCKET_CLOSE_WAIT,
};
use crate::transport::link::{canonical, drain};
use crate::transport::net::Net;
use crate::transport::stream::Stream;
use crate::transport::{Counters, Handler, Hello, LinkStatus, Sent, TransportConfig, establish, socket, tls};
use crate::wire::Lane;

/// Why the transport did not start. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} (UDP): {error}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// Others would not know where to reach this node.
    #[error("listening on {0} says not where others reach this node: name an advertised address")]
    Advertise(SocketAddr),
    /// More advertised addresses than fit a hello.
    #[error("{0} advertised addresses; at most {ADDRESSES_MAX} are told")]
    Addresses(usize),
    /// A bound that cannot be used.
    #[error("{0}")]
    Limits(String),
    /// TLS would not take the identity.
    #[error("TLS does not take the node's identity: {0}")]
    Tls(String),
    /// The thread could not be started.
    #[error("the network thread could not be started: {0}")]
    Thread(io::Error),
}

/// A node's end of all its links.
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use anabranch::transport::{Event, Identity, Limits, Transport, TransportConfig, ca};
/// use anabranch::{Epoch, NodeId};
///
/// # let dir = std::env::temp_dir().join(format!("anabranch-doc-transport-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// ca::init(&dir, "shop")?;
/// let (events, seen) = mpsc::channel();
/// let mut nodes = Vec::new();
/// for id in [1, 2] {
///     let own = dir.join(id.to_string());
///     ca::issue(&dir, NodeId(id), &own, &ca::IssueOptions::default())?;
///     let identity = Identity::load(&own.join("ca.pem"), &own.join("node.pem"), &own.join("node.key"))?;
///     let config = TransportConfig {
///         identity,
///         listen: "127.0.0.1:0".parse()?,
///         advertise: Vec::new(),
///         epoch: Epoch(1),
///         shards: 1024,
///         capabilities: 0,
///         limits: Limits::default(),
///     };
///     let events = events.clone();
///     nodes.push(Transport::bind(config, Arc::new(move |event| drop(events.send((id, event)))))?);
/// }
/// nodes[0].set_seeds(vec![nodes[1].local_addr().to_string()]);
/// let (_, event) = seen.recv()?;
/// assert!(matches!(event, Event::Connected { .. }));
/// # drop(nodes);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Transport {
    pub(super) net: Arc<Net>,
    /// True when the thread is done.
    done: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    drive: Arc<Drive>,
}

impl Transport {
    /// Binds the socket and starts the thread. Nobody is dialled yet.
    ///
    /// # Errors
    /// Where the address is taken, or the configuration cannot work; see [`BindError`].
    pub fn bind(config: TransportConfig, handler: Handler) -> Result<Transport, BindError> {
        config.limits.check().map_err(BindError::Limits)?;
        if config.advertise.len() > ADDRESSES_MAX {
            return Err(BindError::Addresses(config.advertise.len()));
        }
        if config.advertise.is_empty() && config.listen.ip().is_unspecified() {
            return Err(BindError::Advertise(config.listen));
        }
        let server = tls::server(&config.identity, &config.limits).map_err(BindError::Tls)?;
        let client = tls::client(&config.identity, &config.limits).map_err(BindError::Tls)?;
        let listen_failed = |error| BindError::Listen {
            address: config.listen,
            error,
        };
        let socket = socket::bind(config.listen).map_err(listen_failed)?;
        let local = socket.local_addr().map_err(listen_failed)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BindError::Thread)?;
        let alarm = Alarm::new(handler);
        let (endpoint, open_socket) = {
            let _inside = runtime.enter();
            let watched = Watched(alarm.clone());
            let socket = watched.wrap_udp_socket(socket).map_err(listen_failed)?;
            let open_socket = Arc::downgrade(&socket);
            let endpoint = Endpoint::new_with_abstract_socket(
                endpoint_config(&config)?,
                Some(server),
                socket,
                Arc::new(watched),
            );
            (endpoint.map_err(listen_failed)?, open_socket)
        };
        let advertised = if config.advertise.is_empty() {
            vec![local]
        } else {
            config.advertise.clone()
        };
        let hello = Hello {
            node: config.identity.node(),
            epoch: config.epoch,
            cluster: config.identity.cluster().to_owned(),
            version: PROTOCOL_VERSION,
            capabilities: config.capabilities,
            wall_ms: wall_ms(),
            addresses: advertised,
            shards: config.shards,
        };
        let handle = runtime.handle().clone();
        let net = Arc::new(Net::new(
            hello,
            local,
            config.limits,
            endpoint,
            client,
            handle,
            alarm,
        ));
        Transport::start(net, runtime, open_socket)
    }

    fn start(
        net: Arc<Net>,
        runtime: Runtime,
        open_socket: Weak<dyn AsyncUdpSocket>,
    ) -> Result<Transport, BindError> {
        let (stop, mut stopped) = watch::channel(false);
        let (is_done, done) = watch::channel(false);
        let (living, ending) = (net.clone(), net.clone());
        let main = async move {
            tokio::select! {
                () = accept(living.clone()) => living.alarm.ring("the network stopped moving packets"),
                // An error means that the transport was dropped.
                _ = stopped.wait_for(|stop| *stop) => {}
            }
            if let Some(endpoint) = living.endpoint() {
                endpoint.close((CloseCode::Stopping as u32).into(), b"this node stops");
                let _ = timeout(IDLE_WAIT, endpoint.wait_idle()).await;
            }
        };
        let after = move |runtime: Runtime| {
            // Ends every task. Not dropped: that would wait for a look-up of a name that hangs.
            runtime.shutdown_background();
            ending.release();
            // Whoever waits for the end may bind the same port again at once.
            wait_closed(&open_socket);
            let _ = is_done.send(true);
        };
        let drive = Drive::new(net.alarm.clone());
        let (driving, reactor) = (
            drive.clone(),
            Reactor {
                runtime,
                main: Box::pin(main),
                after: Box::new(after),
            },
        );
        begin(move || driving.run(reactor)).map_err(BindError::Thread)?;
        Ok(Transport {
            net,
            done,
            stop,
            drive,
        })
    }

    /// The node that this is.
    pub fn node(&self) -> NodeId {
        self.net.me
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.net.local
    }

    /// Where this node tells others to reach it.
    pub fn advertised(&self) -> &[SocketAddr] {
        &self.net.hello.addresses
    }

    /// The runtime of the transport's thread, for what shall run beside it: short steps only. It ends with the
    /// transport.
    pub fn runtime(&self) -> Handle {
        self.net.runtime.clone()
    }

    /// Queues a frame of the engine (its kind byte, below [`super::KIND_TRANSPORT`], and its body). Never waits.
    /// `Queued` promises nothing but order: if the link ends, what is queued is gone.
    ///
    /// # Panics
    /// On a frame that is empty, larger than [`super::FRAME_BYTES_MAX`], or of a kind that is the transport's.
    pub fn send(&self, peer: NodeId, epoch: Epoch, lane: Lane, frame: Bytes) -> Sent {
        self.net.send(peer, epoch, lane, frame)
    }

    /// Starts a task beside the transport's own: short steps only. A panic in it is told as the transport's.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.net.spawn(task);
    }

    /// Has quick work done on the transport's thread before the next packets, or gives it back: outside of its runtime, and with
    /// nothing locked. Work that turns out to take long harms nothing if somebody [looks](Transport::look) in [`super::AWAY_MS`]:
    /// whether somebody has to is returned.
    ///
    /// # Errors
    /// The work itself, where as much waits as may, or the transport closes.
    pub fn between(&self, work: Work) -> Result<bool, Work> {
        self.drive.push(work)
    }

    /// Sees that packets are moved although work takes long. Whether somebody has to look again.
    pub fn look(&self) -> bool {
        self.drive.look()
    }

    /// Opens a stream over the link with this epoch of a peer, from whatever thread; `None` where there is no such link, or no
    /// longer. Waits while as many as the peer takes are open.
    pub fn open_stream(
        &self,
        peer: NodeId,
        epoch: Epoch,
    ) -> impl Future<Output = Option<Stream>> + Send + use<> {
        let link = self.net.table().link(peer, epoch).cloned();
        async move { link?.open_stream().await }
    }

    /// Queues a message for the peer's membership, or drops it where it would have to wait.
    pub fn send_gossip(&self, to: NodeId, message: &[u8]) -> Sent {
        self.net.send_gossip(to, message)
    }

    /// Does what [`Transport::send_gossip`] does, for whoever cannot hold the transport.
    pub fn gossip_sender(&self) -> impl Fn(NodeId, Bytes) + Send + Sync + 'static {
        let net = Arc::downgrade(&self.net);
        move |to, message| {
            if let Some(net) = net.upgrade() {
                net.send_gossip(to, &message);
            }
        }
    }

    /// Ends a link. `Disconnected` follows; if the peer's address is known it is dialled again.
    pub fn disconnect(&self, peer: NodeId, epoch: Epoch, reason: &str) {
        let link = self.net.table().link(peer, epoch).cloned();
        if let Some(link) = link {
            link.end(Reason::Closed(reason.to_owned()), CloseCode::Ended);
        }
    }

    /// Ends a link and tells the peer that a newer epoch of it is known; `Disconnected` follows here, and
    /// [`super::Event::Outdated`] there.
    pub fn fence(&self, peer: NodeId, epoch: Epoch, newest: Epoch) {
        let link = self.net.table().link(peer, epoch).cloned();
        if let Some(link) = link {
            let reason = Reason::Closed(format!("epoch {epoch} is over, {newest} is known"));
            link.replace(newest, reason, CloseCode::NewerEpoch);
        }
    }

    /// Says where a peer is now, in place of what was said before, and keeps a link to it from here on. Also while
    /// it is being dialled elsewhere, and also when it had left. At most [`ADDRESSES_MAX`] are tried.
    pub fn set_peer_addresses(&self, peer: NodeId, mut addresses: Vec<SocketAddr>) {
        if peer == self.net.me {
            return;
        }
        addresses.truncate(ADDRESSES_MAX);
        let mut table = self.net.table();
        if let Some(dial) = table.dials.get(&peer) {
            dial.set(addresses);
            return;
        }
        if table.dials.len() >= PEERS_MAX {
            tracing::warn!(%peer, "not dialled: {PEERS_MAX} peers are known already");
            return;
        }
        let dial = Arc::new(crate::transport::dial::Dial::default());
        dial.set(addresses);
        table.dials.insert(peer, dial.clone());
        self.net.spawn(keep_peer(self.net.clone(), peer, dial));
    }

    /// Stops dialling a peer. A link that is up stays.
    pub fn forget_peer(&self, peer: NodeId) {
        if let Some(dial) = self.net.table().dials.remove(&peer) {
            dial.end();
        }
    }

    /// Says which addresses (`HOST:PORT`, names too) to dial without knowing who is there, in place of what was
    /// said before. Names are looked up anew at each attempt. At most [`SEEDS_MAX`] are used.
    pub fn set_seeds(&self, mut seeds: Vec<String>) {
        seeds.truncate(SEEDS_MAX);
        let mut table = self.net.table();
        table.seeds.retain(|seed, task| {
            let stays = seeds.contains(seed);
            if !stays {
                task.abort();
            }
            stays
        });
        for seed in seeds {
            table
                .seeds
                .entry(seed)
                .or_insert_with_key(|seed| self.net.spawn(keep_seed(self.net.clone(), seed.clone())));
        }
    }

    /// The links that are up, by node.
    pub fn links(&self) -> Vec<LinkStatus> {
        let table = self.net.table();
        let status = |link: &Arc<crate::transport::link::Link>| {
            let stats = link.stats();
            LinkStatus {
                peer: link.peer,
                epoch: link.offer.epoch,
                is_dialler: link.offer.dialler == self.net.me,
                remote: link.remote(),
                addresses: link.hello.addresses.clone(),
                rtt: stats.path.rtt,
                queued_bytes: link.queues.iter().map(|queue| queue.bytes() as u64).sum(),
                udp_bytes_sent: stats.udp_tx.bytes,
                udp_bytes_received: stats.udp_rx.bytes,
            }
        };
        table.links.values().map(status).collect()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        let links = self.links();
        let counted = &self.net.counters;
        let sent: u64 = links.iter().map(|link| link.udp_bytes_sent).sum();
        let received: u64 = links.iter().map(|link| link.udp_bytes_received).sum();
        Counters {
            connections_refused: counted.connections_refused.load(Ordering::Relaxed),
            connections_refused_of_source: counted.connections_refused_of_source.load(Ordering::Relaxed),
            frames_skipped: counted.frames_skipped.load(Ordering::Relaxed),
            gossip_dropped: counted.gossip_dropped.load(Ordering::Relaxed),
            udp_bytes_sent: sent + counted.udp_bytes_sent.load(Ordering::Relaxed),
            udp_bytes_received: received + counted.udp_bytes_received.load(Ordering::Relaxed),
        }
    }

    /// Tells all peers that this node leaves the cluster, after what was queued has reached them (or
    /// [`super::LEAVE_TIMEOUT`]), and ends. Links that are up end with `Disconnected`. Returns how many peers were there to
    /// hear it.
    pub async fn leave(&self) -> usize {
        self.close(CloseCode::Leaving).await
    }

    /// As [`Transport::leave`], but says only that this node stops: its peers dial it again.
    pub async fn shutdown(&self) -> usize {
        self.close(CloseCode::Stopping).await
    }

    async fn close(&self, code: CloseCode) -> usize {
        let net = self.net.clone();
        let stop = self.stop.clone();
        let (tell, told) = oneshot::channel();
        self.drive.close();
        self.net.spawn(async move {
            let _ = tell.send(close_links(&net, code).await);
            let _ = stop.send(true);
        });
        // An error means that the thread is done too.
        let _ = self.done.clone().wait_for(|done| *done).await;
        told.await.unwrap_or(0)
    }
}

impl Drop for Transport {
    /// Ends the thread without waiting for it; peers are told that this node stops.
    fn drop(&mut self) {
        self.net.table().closing = true;
        let _ = self.stop.send(true);
        self.drive.close();
    }
}

fn endpoint_config(config: &TransportConfig) -> Result<EndpointConfig, BindError> {
    let mut endpoint = EndpointConfig::default();
    let payload_bytes = config.limits.mtu_bytes.max(1472);
    endpoint
        .max_udp_payload_size(payload_bytes)
        .map_err(|e| BindError::Limits(e.to_string()))?;
    Ok(endpoint)
}

/// Drains and closes every link and waits until all have told their end. Returns how many peers were there.
async fn close_links(net: &Arc<Net>, code: CloseCode) -> usize {
    let links: Vec<_> = {
        let mut table = net.table();
        table.closing = true;
        for dial in table.dials.values() {
            dial.end();
        }
        for seed in table.seeds.values() {
            seed.abort();
        }
        table.links.values().cloned().collect()
    };
    net.changed();
    let mut drains = JoinSet::new();
    for link in links {
        drains.spawn(net.alarm.over(drain(link, code)));
    }
    let mut heard = 0;
    while let Some(drained) = drains.join_next().await {
        heard += usize::from(drained.unwrap_or(false));
    }
    let mut changes = net.changes.subscribe();
    let all_ended = async { while !net.table().links.is_empty() && changes.changed().await.is_ok() {} };
    let _ = timeout(DRAIN_TIMEOUT, all_ended).await;
    heard
}

/// Waits until nobody holds the socket any more. All that keeps it beside the tasks, which are gone, are steps of other
/// threads that are under way.
fn wait_closed(socket: &Weak<dyn AsyncUdpSocket>) {
    let until = Instant::now() + SOCKET_CLOSE_WAIT;
    while socket.strong_count() > 0 {
        if Instant::now() >= until {
            tracing::error!("the UDP socket is still open though the transport has ended");
            return;
        }
        thread::sleep(SOCKET_CLOSE_POLL);
    }
}

/// Meets incoming connections until the endpoint closes.
async fn accept(net: Arc<Net>) {
    let Some(endpoint) = net.endpoint() else { return };
    while let Some(incoming) = endpoint.accept().await {
        meet(&net, incoming);
    }
}

fn meet(net: &Arc<Net>, incoming: Incoming) {
    let from = canonical(incoming.remote_address());
    let refused = |counter: &AtomicU64| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let proven = incoming.remote_address_validated() || !incoming.may_retry();
    match net.arrivals.welcome(from.ip(), proven) {
        Welcome::In(place) if !net.is_closing() => {
            tracing::trace!(remote = %from, open = net.arrivals.open(), "incoming connection");
            let accepting = net.clone();
            net.spawn(async move {
                establish::accept(accepting, incoming).await;
                drop(place);
            });
        }
        Welcome::Retry => {
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
        }
        Welcome::SourceFull => {
            tracing::debug!(remote = %from, "refused: too many handshakes from there");
            refused(&net.counters.connections_refused);
            refused(&net.counters.connections_refused_of_source);
            incoming.refuse();
        }
        Welcome::In(_) | Welcome::Full => {
            refused(&net.counters.connections_refused);
            incoming.refuse();
        }
    }
}
