//! The first thing two nodes tell each other, and whether they may go on.
//!
//! On the wire: the version as two bytes, then the rest in postcard. What a later version appends is ignored, so
//! that a node can tell a newer peer from garbage and name the versions in its refusal.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anabranch_crdt::{Epoch, NodeId};
use serde::{Deserialize, Serialize};

use crate::terms::millis;
use crate::transport::event::CloseCode;
use crate::transport::limits::{ADDRESSES_MAX, EPOCH_MAX, HELLO_BYTES_MAX};

/// The protocol's version. Nodes of different versions do not talk.
pub const PROTOCOL_VERSION: u16 = 4;

/// What a node says of itself when a link begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The node; must be the one its certificate names.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its cluster; must be the one its certificate names.
    pub cluster: String,
    /// The protocol it speaks.
    pub version: u16,
    /// What it can do, a bit each. No bit is assigned yet.
    pub capabilities: u64,
    /// Its wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Where it can be dialled.
    pub addresses: Vec<SocketAddr>,
    /// How many shards its cluster was created with.
    pub shards: u32,
}

/// The form on the wire after the version.
#[derive(Serialize, Deserialize)]
struct WireHello {
    node: u128,
    epoch: u64,
    cluster: String,
    capabilities: u64,
    wall_ms: u64,
    addresses: Vec<SocketAddr>,
    shards: u32,
}

/// Why a link may not be, as told to both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: CloseCode,
    pub(super) why: String,
}

impl Refusal {
    pub(super) fn new(code: CloseCode, why: impl Into<String>) -> Refusal {
        Refusal {
            code,
            why: why.into(),
        }
    }
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        let wire = WireHello {
            node: self.node.0,
            epoch: self.epoch.0,
            cluster: self.cluster.clone(),
            capabilities: self.capabilities,
            wall_ms: self.wall_ms,
            addresses: self.addresses.clone(),
            shards: self.shards,
        };
        let bytes = postcard::to_extend(&wire, self.version.to_le_bytes().to_vec());
        let Ok(bytes) = bytes else {
            unreachable!("a hello always has a form: {bytes:?}")
        };
        assert!(bytes.len() <= HELLO_BYTES_MAX, "a hello of {} bytes", bytes.len());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Hello, Refusal> {
        let malformed = |why: String| Refusal::new(CloseCode::Protocol, format!("malformed hello: {why}"));
        let Some((version, rest)) = bytes.split_first_chunk::<2>() else {
            return Err(malformed("it is empty".into()));
        };
        let version = u16::from_le_bytes(*version);
        if version != PROTOCOL_VERSION {
            let why = format!("protocol version {version} met version {PROTOCOL_VERSION}: run one version");
            return Err(Refusal::new(CloseCode::WrongVersion, why));
        }
        let (wire, _later) =
            postcard::take_from_bytes::<WireHello>(rest).map_err(|e| malformed(e.to_string()))?;
        if wire.addresses.len() > ADDRESSES_MAX {
            return Err(malformed(format!("{} addresses", wire.addresses.len())));
        }
        // Room above what a close may name, or a node that was told of one could not come back.
        if wire.epoch >= EPOCH_MAX * 2 {
            return Err(malformed(format!("epoch {} is nobody's", wire.epoch)));
        }
        Ok(Hello {
            node: NodeId(wire.node),
            epoch: Epoch(wire.epoch),
            cluster: wire.cluster,
            version,
            capabilities: wire.capabilities,
            wall_ms: wire.wall_ms,
            addresses: wire.addresses,
            shards: wire.shards,
        })
    }

    /// Holds the peer's hello against its certificate and our own hello.
    pub(super) fn judge(&self, theirs: &Hello, certified: NodeId) -> Result<(), Refusal> {
        if theirs.node != certified {
            let why = format!(
                "the hello is of node {}, the certificate of node {certified}",
                theirs.node
            );
            return Err(Refusal::new(CloseCode::WrongNode, why));
        }
        if theirs.cluster != self.cluster {
            let why = format!(
                "the hello is of cluster {:?}, this is cluster {:?}",
                theirs.cluster, self.cluster
            );
            return Err(Refusal::new(CloseCode::WrongCluster, why));
        }
        if theirs.shards != self.shards {
            let why = format!(
                "node {} has {} shards, node {} has {}: their number is fixed when a cluster is created",
                self.node, self.shards, theirs.node, theirs.shards
            );
            return Err(Refusal::new(CloseCode::WrongShards, why));
        }
        Ok(())
    }
}

/// This machine's wall clock in milliseconds since 1970; 0 before that.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}
