//! chitchat's transport and socket over our links.
//!
//! chitchat addresses nodes by `SocketAddr`. A node's gossip address here is its id, written as an IPv6 address with
//! port 1: 128 bits are 128 bits. It is never dialled; the real addresses travel as a value beside it.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_crdt::NodeId;
use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use tokio::sync::{Notify, mpsc};

use crate::membership::roster::Roster;
use crate::membership::vet::vet;

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

/// Messages that wait for chitchat. Shared, so that they outlive a chitchat that has to be started again.
pub(super) type Inbox = Arc<tokio::sync::Mutex<mpsc::Receiver<(NodeId, Bytes)>>>;

/// Opens the socket, once for each chitchat that is started.
pub(super) struct Carrier {
    pub(super) send: SendFn,
    pub(super) inbox: Inbox,
    pub(super) farewell: Arc<Farewell>,
    pub(super) roster: Arc<Mutex<Roster>>,
}

/// No code that can panic half-way through a change runs under this lock.
pub(super) fn lock(roster: &Mutex<Roster>) -> MutexGuard<'_, Roster> {
    roster.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Transport for Carrier {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(Links {
            send: self.send.clone(),
            inbox: self.inbox.clone(),
            farewell: self.farewell.clone(),
            roster: self.roster.clone(),
        }))
    }
}

struct Links {
    send: SendFn,
    inbox: Inbox,
    farewell: Arc<Farewell>,
    roster: Arc<Mutex<Roster>>,
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

    /// Cancel-safe: a message leaves the channel only when it is returned. chitchat has taken in each message before it
    /// asks for the next one.
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let next = self.inbox.lock().await.recv().await;
            let Some((from, bytes)) = next else {
                // The membership ends, and this with it.
                pending::<()>().await;
                continue;
            };
            let vetted = {
                let mut roster = lock(&self.roster);
                roster.next_message();
                vet(&mut roster, from, &bytes)
            };
            let message = match vetted {
                Ok(vetted) => ChitchatMessage::deserialize(&mut &vetted[..]).map_err(|e| e.to_string()),
                Err(why) => Err(why.to_owned()),
            };
            match message {
                Ok(message) => return Ok((address_of(from), message)),
                Err(error) => {
                    lock(&self.roster).refuse();
                    tracing::warn!(%from, bytes = bytes.len(), %error, "gossip that cannot be read");
                }
            }
        }
    }
}
