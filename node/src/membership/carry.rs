//! chitchat's transport and socket over our links.
//!
//! chitchat addresses nodes by `SocketAddr`. A node's gossip address here is its id, written as an IPv6 address with
//! port 1: 128 bits are 128 bits. It is never dialled; the real addresses travel as a value beside it.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_crdt::NodeId;
use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use tokio::sync::{Notify, mpsc};

/// Hands a message to the links. Never waits.
pub(super) type SendFn = Arc<dyn Fn(NodeId, Bytes) + Send + Sync>;

/// Marks an address as made from an id.
const PORT: u16 = 1;

pub(super) fn address_of(node: NodeId) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::from_bits(node.0).into(), PORT)
}

pub(super) fn node_of(address: SocketAddr) -> Option<NodeId> {
    match address {
        SocketAddr::V6(v6) if v6.port() == PORT => Some(NodeId(v6.ip().to_bits())),
        _ => None,
    }
}

/// Who has not been told yet that this node leaves.
#[derive(Default)]
pub(super) struct Farewell {
    untold: Mutex<BTreeSet<NodeId>>,
    all_told: Notify,
}

impl Farewell {
    pub(super) fn begin(&self, peers: BTreeSet<NodeId>) {
        *self.untold.lock().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    fn told(&self, node: NodeId) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if untold.remove(&node) && untold.is_empty() {
            self.all_told.notify_one();
        }
    }

    /// Waits until every peer given to [`Farewell::begin`] was sent our state.
    pub(super) async fn done(&self) {
        let is_done = || {
            self.untold
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty()
        };
        while !is_done() {
            self.all_told.notified().await;
        }
    }
}

/// Opens the one socket there is.
pub(super) struct Carrier {
    pub(super) send: SendFn,
    pub(super) inbox: Mutex<Option<mpsc::Receiver<(NodeId, Bytes)>>>,
    pub(super) farewell: Arc<Farewell>,
}

#[async_trait]
impl Transport for Carrier {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let inbox = inbox.ok_or_else(|| anyhow::anyhow!("the links were opened for gossip before"))?;
        Ok(Box::new(Links {
            send: self.send.clone(),
            inbox,
            farewell: self.farewell.clone(),
        }))
    }
}

struct Links {
    send: SendFn,
    inbox: mpsc::Receiver<(NodeId, Bytes)>,
    farewell: Arc<Farewell>,
}

#[async_trait]
impl Socket for Links {
    /// Never waits: what has no link or no room is dropped, as any datagram may be.
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let Some(node) = node_of(to) else {
            tracing::debug!(%to, "gossip for an address that is no node's");
            return Ok(());
        };
        (self.send)(node, Bytes::from(message.serialize_to_vec()));
        if matches!(
            message,
            ChitchatMessage::SynAck { .. } | ChitchatMessage::Ack { .. }
        ) {
            self.farewell.told(node);
        }
        Ok(())
    }

    /// Cancel-safe: a message leaves the channel only when it is returned.
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let Some((from, bytes)) = self.inbox.recv().await else {
                return Err(anyhow::anyhow!("the membership ended"));
            };
            let mut rest = &bytes[..];
            match ChitchatMessage::deserialize(&mut rest) {
                Ok(message) => return Ok((address_of(from), message)),
                Err(error) => {
                    tracing::warn!(%from, bytes = bytes.len(), %error, "gossip that cannot be read")
                }
            }
        }
    }
}
