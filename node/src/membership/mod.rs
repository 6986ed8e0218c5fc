//! Who is a member, and where: hints, never facts.
//!
//! Not here: links (see `transport`), replica sets (a layout's matter), anything about entities. A wrong hint costs
//! time, a dial into the void, never data.
//!
//! Contract: no call waits. Hints come from the membership's own task, one after the other; the receiver must not
//! block.
//!
//! [`Gossip`] is chitchat carried over the links that are up, addressed by node id: what a node says is bound to
//! its certificate, a node that moves stays itself, and there is no second port. It needs no seeds of its own: the
//! transport's seeds make a first link, and each link that comes up is gossiped over at once. Any member can say anything of
//! any other; what it may cost is bounded (`vet`, `roster`), and of a node with a link to this one its own word counts.

mod carry;
mod chat;
mod gossip;
mod limits;
mod roster;
#[cfg(test)]
mod tests;
mod vet;
mod watch;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;

pub use gossip::{Gossip, GossipConfig, GossipCounters};
pub use limits::{EPOCH_MAX, LEAVE_TIMEOUT};

/// What a node says of itself to all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Where it can be dialled.
    pub addresses: Vec<SocketAddr>,
    /// Its name, for people.
    pub name: String,
    /// Its zone: replicas are spread over zones.
    pub zone: String,
    /// The program's version, for people.
    pub version: String,
    /// What it can do, a bit each.
    pub capabilities: u64,
}

/// What the membership believes of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// It is there, or may be; or something it says of itself has changed.
    Up {
        /// Who.
        node: NodeId,
        /// Its epoch.
        epoch: Epoch,
        /// What it says.
        about: Announcement,
    },
    /// Nothing was heard of it for long. It may be back any time.
    Down {
        /// Who.
        node: NodeId,
    },
    /// It said that it leaves the cluster.
    Left {
        /// Who.
        node: NodeId,
    },
}

/// What is done once everybody who can hear it has been told that this node leaves, or after a bounded wait.
pub type Leaving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A way to know the members.
///
/// ```
/// use anabranch::membership::{Announcement, Leaving, Membership};
/// use anabranch::NodeId;
///
/// /// The members stand in a file: nothing to tell, nothing to hear.
/// struct Fixed;
///
/// impl Membership for Fixed {
///     fn announce(&self, _own: Announcement) {}
///     fn on_link_up(&self, _peer: NodeId) {}
///     fn on_link_down(&self, _peer: NodeId) {}
///     fn on_message(&self, _from: NodeId, _message: bytes::Bytes) {}
///     fn leave(&self) -> Leaving {
///         Box::pin(async {})
///     }
/// }
/// ```
pub trait Membership: Send + Sync {
    /// Says this of the own node from now on.
    fn announce(&self, own: Announcement);

    /// A link with `peer` came up: a good moment to talk.
    fn on_link_up(&self, peer: NodeId);

    /// The link with `peer` is no more.
    fn on_link_down(&self, peer: NodeId);

    /// A message from the membership of `from`. Dropped where it would have to wait.
    fn on_message(&self, from: NodeId, message: Bytes);

    /// Tells the others that this node leaves. Await it before the links are closed.
    fn leave(&self) -> Leaving;
}
