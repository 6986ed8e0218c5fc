//! Links to the other nodes: one UDP port, one QUIC endpoint, mutual TLS, a few lanes per peer.
//!
//! Not here: what frames mean (see `engine`), who is a member (see `membership`), when anything is sent again:
//! what was queued for a link that ends is gone, and the engines find out what is missing.
//!
//! Contract: [`Transport::send`] never waits. Events come from one thread at a time, in order, and between `Connected` and
//! `Disconnected` of a peer lie exactly the frames of that link. The handler must not block: it runs on the thread
//! that moves all packets.
//!
//! How it is wired (the driver does):
//! - `Output::Send` goes to [`Transport::send`], [`Event::Taken`] gives its bytes back to the engine.
//! - [`Event::Connected`], [`Event::Disconnected`], [`Event::Frame`] become the engine's inputs; a frame's
//!   [`Credit`] is dropped when the engine has handled it.
//! - [`Event::Gossip`] goes to the membership, which sends with [`Transport::send_gossip`]. Gossip is addressed by
//!   node id, never by socket address: the certificate says who spoke, and a node keeps its id when it moves.
//! - The membership's word of a node's addresses goes to [`Transport::set_peer_addresses`]; the configuration's
//!   seeds go to [`Transport::set_seeds`].
//!
//! Reading order: `event` and `limits`; `net` (what is shared), `establish` (a connection becomes a link), `admit`
//! (which of two is kept), `link` (its life), `stream`, `dial` (keeping it), `arrivals`, `alarm`, `drive` (its thread); `frame`, `hello`, `queue`; `identity`, `ca`,
//! `tls`, `socket`.

mod admit;
mod alarm;
mod arrivals;
pub mod ca;
mod dial;
mod drive;
mod endpoint;
mod establish;
mod event;
mod frame;
mod hello;
mod identity;
mod limits;
mod link;
mod net;
mod queue;
mod socket;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};

pub use drive::Work;
pub use endpoint::{BindError, Transport};
pub use event::{CloseCode, Credit, Event, Reason};
pub use frame::KIND_TRANSPORT;
pub use hello::{Hello, PROTOCOL_VERSION};
#[cfg(feature = "sidecar")]
#[cfg(feature = "daemon")]
pub(crate) use identity::named_in;
pub use identity::{CLUSTER_BYTES_MAX, Identity, IdentityError, TLS_NAME, Validity, check_cluster};
#[cfg(feature = "sidecar")]
pub(crate) use identity::{read_certificates, read_key};
pub use limits::{
    ADDRESSES_MAX, AWAY_MS, EPOCH_MAX, FRAME_BYTES_MAX, GOSSIP_BYTES_MAX, LEAVE_TIMEOUT, Limits,
    MTU_BYTES_DEFAULT, MTU_BYTES_MAX, MTU_BYTES_MIN, PEERS_MAX, SEEDS_MAX, STREAMS_MAX,
};
pub use stream::{CutOff, Stream, StreamIn, StreamOut};
pub use tls::ALPN;
#[cfg(feature = "sidecar")]
pub(crate) use tls::provider;

/// Takes the transport's events, on the transport's thread.
pub type Handler = Arc<dyn Fn(Event) + Send + Sync>;

/// How a node is on the network.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Who it is.
    pub identity: Identity,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach it; empty where that is the address it listens on.
    pub advertise: Vec<SocketAddr>,
    /// Its epoch.
    pub epoch: Epoch,
    /// How many shards its cluster has.
    pub shards: u32,
    /// What it can do, a bit each.
    pub capabilities: u64,
    /// Bounds.
    pub limits: Limits,
}

/// What became of something handed to the transport. Only `Queued` went anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It waits in its lane, in order.
    Queued,
    /// There is no link with this node in this epoch: dropped.
    NoLink,
    /// The lane's queue was full. A frame's link is ended and `Disconnected` follows; gossip is just dropped.
    Overflow,
}

/// One link, for people.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// With whom.
    pub peer: NodeId,
    /// The peer's epoch.
    pub epoch: Epoch,
    /// Whether this node dialled.
    pub is_dialler: bool,
    /// Where the peer's packets come from.
    pub remote: SocketAddr,
    /// Where it says it can be dialled.
    pub addresses: Vec<SocketAddr>,
    /// The round trip as measured now.
    pub rtt: Duration,
    /// Bytes that wait to be written to its streams.
    pub queued_bytes: u64,
    /// Bytes in UDP datagrams since it came up.
    pub udp_bytes_sent: u64,
    /// Bytes in UDP datagrams since it came up.
    pub udp_bytes_received: u64,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Incoming connections that did not become a link, whatever the reason.
    pub connections_refused: u64,
    /// Those among them that were refused because as many from the same source were in their handshake.
    pub connections_refused_of_source: u64,
    /// Frames of a kind this version does not know.
    pub frames_skipped: u64,
    /// Gossip that had no link or no room.
    pub gossip_dropped: u64,
    /// Bytes in UDP datagrams of all links, past and present.
    pub udp_bytes_sent: u64,
    /// Bytes in UDP datagrams of all links, past and present.
    pub udp_bytes_received: u64,
}
