//! What the driver needs of a network: a seam, so that the driver's own tests need no sockets.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId, ReplicaId};
use bytes::Bytes;

use crate::error::Error;
use crate::function::BoxFuture;
use crate::transport::{Stream, Work};
use crate::wire::Lane;

use super::MemberStatus;

/// Why a stream was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// There is no such link.
    NoLink,
    /// As many as the peer takes were open all the time.
    Full,
}

/// The network of one node. No call waits, but for [`Network::open`] and [`Network::close`].
pub(crate) trait Network: fmt::Debug + Send + Sync {
    /// Takes and makes links as this epoch, after the start or after a `close`.
    ///
    /// # Errors
    /// Nothing is open then.
    fn open(self: Arc<Self>, epoch: Epoch) -> Result<(), Error>;

    /// Sends a frame over the link to this epoch of a peer. Whether the link has it: where there is none, or it ends of this, nothing
    /// more is heard of the frame.
    fn send(&self, peer: NodeId, epoch: Epoch, lane: Lane, frame: Bytes) -> bool;

    /// Opens a stream over the link to this epoch of a peer.
    fn open_stream(
        &self,
        peer: NodeId,
        epoch: Epoch,
        within: Duration,
    ) -> BoxFuture<'static, Result<Stream, NotOpened>>;

    /// Runs this on the network's thread: short steps only.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Has quick work done by the network's thread between packets. Whether somebody has to [`Network::look`] in
    /// [`crate::transport::AWAY_MS`].
    ///
    /// # Errors
    /// The work itself: the network cannot do it now.
    fn between(&self, work: Work) -> Result<bool, Work>;

    /// Sees that packets are moved although such work takes long. Whether somebody has to look again.
    fn look(&self) -> bool;

    /// Runs this on a thread that may block.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>);

    /// The peers that this node is linked with, the nearest first.
    fn nearest(&self) -> Vec<NodeId>;

    /// The runs of other nodes that are believed to be up.
    fn live(&self) -> Vec<ReplicaId>;

    /// Ends a link.
    fn disconnect(&self, peer: NodeId, epoch: Epoch, reason: &str);

    /// Ends a link and tells the peer that this newer epoch of it is known.
    fn fence(&self, peer: NodeId, epoch: Epoch, newest: Epoch);

    /// Where this node listens.
    fn local_address(&self) -> SocketAddr;

    /// What is known of every node ever seen or configured, but for this one; sorted by node.
    fn members(&self) -> Vec<MemberStatus>;

    /// Links that one of their two sides refuses now, as ADDRESS: REASON.
    fn refusals(&self) -> Vec<String>;

    /// What there is to count.
    fn counters(&self) -> Vec<(&'static str, u64)>;

    /// Says goodbye (for good, if this node leaves) and closes everything: when it returns, every link has ended and
    /// nothing more comes in. Returns how many peers were there to hear it.
    fn close(&self, leaving: bool) -> usize;
}
