//! What the transport tells: links that come and go, frames, credit, gossip; and why links end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::transport::Hello;
use crate::transport::limits::EPOCH_MAX;
use crate::transport::stream::Stream;
use crate::wire::Lane;

/// Something that happened on the network. All events come from the transport's one thread, in order: between
/// `Connected` and `Disconnected` of a peer lie exactly the frames and the streams of that link.
#[derive(Debug)]
pub enum Event {
    /// The peer's hello has come: the link is up. At most one link per peer is.
    Connected {
        /// Who.
        peer: NodeId,
        /// Its epoch.
        epoch: Epoch,
        /// Its wall clock when it said hello, in milliseconds since 1970: what clock skew is judged by.
        wall_ms: u64,
        /// All it said.
        hello: Arc<Hello>,
    },
    /// The link is no more; what was queued for it is gone.
    Disconnected {
        /// Who.
        peer: NodeId,
        /// The epoch the link was with.
        epoch: Epoch,
        /// Why.
        reason: Reason,
    },
    /// A frame of the peer's engine.
    Frame {
        /// From whom.
        peer: NodeId,
        /// The epoch it is of.
        epoch: Epoch,
        /// The lane it came on.
        lane: Lane,
        /// Its kind byte and body, as given to `send` over there. The bytes are this frame's own: keeping a slice
        /// keeps the frame, nothing else.
        frame: Bytes,
        /// Drop it when the frame has been handled: until then it counts against the lane's bound.
        credit: Credit,
    },
    /// The peer has opened a stream.
    Stream {
        /// Who.
        peer: NodeId,
        /// Its epoch.
        epoch: Epoch,
        /// Both ways.
        stream: Stream,
    },
    /// So many bytes of what was given to `send` were written into the lane's stream.
    Taken {
        /// Whose link.
        peer: NodeId,
        /// Its epoch.
        epoch: Epoch,
        /// Which lane.
        lane: Lane,
        /// How many bytes, counted as the lengths of the frames given to `send`.
        bytes: u64,
    },
    /// A message for the membership. Best effort: gossip is dropped where it would have to wait.
    Gossip {
        /// From whom, by its certificate.
        from: NodeId,
        /// The message.
        message: Bytes,
    },
    /// A peer knows a newer epoch of this node and will not talk to this one: this process needs an epoch above
    /// `newest`, or is an old copy.
    Outdated {
        /// Who says so.
        by: NodeId,
        /// The epoch it knows.
        newest: Epoch,
    },
    /// A bug has ended the transport or a task of it: it carries nothing that can be relied on any more. Told once, from
    /// whatever thread it happened on.
    Broken {
        /// What happened.
        what: String,
    },
    /// A member of this CA, or whoever was dialled, could not be linked with, and trying again will not help until
    /// somebody changes something.
    Refused {
        /// Who, if its certificate said so.
        peer: Option<NodeId>,
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        reason: String,
    },
}

/// Room for one received frame; given back when dropped. Whoever holds many makes the lane's sender wait.
#[derive(Debug)]
pub struct Credit {
    #[expect(dead_code, reason = "it only is there to be dropped")]
    permit: OwnedSemaphorePermit,
}

impl Credit {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Credit {
        Credit { permit }
    }
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The peer said that it leaves the cluster. It is not dialled until somebody names its address again.
    Left,
    /// The peer said that it stops, and will be back.
    Stopped,
    /// Another connection between the same two epochs took its place: both nodes had dialled, or the peer lost
    /// this one before we did.
    Replaced,
    /// The peer restarted: a connection of this newer epoch took its place.
    NewEpoch(Epoch),
    /// The peer knows this newer epoch of *this* node; see [`Event::Outdated`].
    Outdated(Epoch),
    /// The network lost it.
    Lost(String),
    /// More was queued on the lane than its bound: the sender did not keep to its credit.
    Overflow(Lane),
    /// This node ended it with `disconnect`.
    Closed(String),
    /// The peer ended it and said why.
    ClosedByPeer(String),
    /// The peer broke the protocol.
    Protocol(String),
    /// This transport shuts down.
    Shutdown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Left => f.write_str("the peer left the cluster"),
            Reason::Stopped => f.write_str("the peer stopped"),
            Reason::Replaced => f.write_str("another connection to the same peer took its place"),
            Reason::NewEpoch(epoch) => write!(f, "the peer restarted as epoch {epoch}"),
            Reason::Outdated(newest) => write!(f, "the peer knows the newer epoch {newest} of this node"),
            Reason::Lost(why) => write!(f, "the connection was lost: {why}"),
            Reason::Overflow(lane) => write!(f, "more was queued on lane {lane} than its bound"),
            Reason::Closed(why) => write!(f, "closed: {why}"),
            Reason::ClosedByPeer(why) => write!(f, "closed by the peer: {why}"),
            Reason::Protocol(why) => write!(f, "the peer broke the protocol: {why}"),
            Reason::Shutdown => f.write_str("this node shuts down"),
        }
    }
}

/// What a close for a newer epoch says; read by [`newer_epoch_in`] on the other side.
pub(super) fn newer_epoch_text(newest: Epoch) -> String {
    format!("a newer epoch of this node is known: {newest}")
}

/// The epoch that a close's text names, unless it is one that nobody has.
pub(super) fn newer_epoch_in(text: &str) -> Option<Epoch> {
    let (_, number) = text.rsplit_once(' ')?;
    let epoch: u64 = number.parse().ok()?;
    (epoch < EPOCH_MAX).then_some(Epoch(epoch))
}

/// What a connection is closed with, on the wire. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The sender leaves the cluster.
    Leaving = 1,
    /// The sender stops and will be back.
    Stopping = 2,
    /// Another connection between the same two epochs is kept.
    Duplicate = 3,
    /// The sender knows, or has a connection with, a newer epoch of the receiver.
    NewerEpoch = 4,
    /// The certificate is not of this cluster.
    WrongCluster = 5,
    /// The hello names another node or cluster than the certificate.
    WrongNode = 6,
    /// The protocol versions differ.
    WrongVersion = 7,
    /// The clusters were created with different numbers of shards.
    WrongShards = 8,
    /// The receiver broke the protocol.
    Protocol = 9,
    /// The sender's queue for the receiver was full.
    Overflow = 10,
    /// The dialler reached itself.
    Myself = 11,
    /// No hello within the handshake timeout.
    Timeout = 12,
    /// The sender has as many peers as it can have.
    Busy = 13,
    /// The sender's engine ended the link.
    Ended = 14,
}

impl CloseCode {
    const ALL: [CloseCode; 14] = [
        CloseCode::Leaving,
        CloseCode::Stopping,
        CloseCode::Duplicate,
        CloseCode::NewerEpoch,
        CloseCode::WrongCluster,
        CloseCode::WrongNode,
        CloseCode::WrongVersion,
        CloseCode::WrongShards,
        CloseCode::Protocol,
        CloseCode::Overflow,
        CloseCode::Myself,
        CloseCode::Timeout,
        CloseCode::Busy,
        CloseCode::Ended,
    ];

    pub(super) fn from_wire(code: u64) -> Option<CloseCode> {
        CloseCode::ALL.into_iter().find(|known| *known as u64 == code)
    }

    /// Whether dialling again cannot help before somebody changes a configuration or a certificate.
    pub(super) fn is_refusal(self) -> bool {
        matches!(
            self,
            CloseCode::WrongCluster | CloseCode::WrongNode | CloseCode::WrongVersion | CloseCode::WrongShards
        )
    }
}
