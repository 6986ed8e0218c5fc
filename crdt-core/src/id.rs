//! Who issues dots: nodes, their epochs, and the pair of the two.
//!
//! Not here: how an epoch is chosen (the daemon does, from the clock and the data directory) and the short
//! indices that stand for replicas inside one shard ([`crate::Replicas`]).
//!
//! Contract: a [`ReplicaId`] is never reused, not even by the same machine after losing its disk.

use core::fmt;
use core::str::FromStr;

/// A process of the cluster, stable over restarts and bound to its certificate.
///
/// ```
/// use anabranch_crdt::NodeId;
///
/// let node = NodeId(0xbeef);
/// assert_eq!(node.to_string(), "0000000000000000000000000000beef");
/// assert_eq!(node.to_string().parse(), Ok(node));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u128);

/// One run of a node: new at every start, strictly increasing per node.
///
/// ```
/// use anabranch_crdt::Epoch;
///
/// assert!(Epoch(7) < Epoch(8));
/// assert_eq!("8".parse(), Ok(Epoch(8)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// Who issues dots: a node in one of its epochs. Ordered by node, then epoch.
///
/// ```
/// use anabranch_crdt::{Epoch, NodeId, ReplicaId};
///
/// let before = ReplicaId::new(NodeId(1), Epoch(7));
/// let after = ReplicaId::new(NodeId(1), Epoch(8));
/// assert!(before < after);
/// assert_eq!(after.to_string(), "00000000000000000000000000000001/8");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplicaId {
    /// The node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
}

impl ReplicaId {
    /// The replica that `node` is in `epoch`.
    ///
    /// ```
    /// use anabranch_crdt::{Epoch, NodeId, ReplicaId};
    ///
    /// let id = ReplicaId::new(NodeId(1), Epoch(7));
    /// assert_eq!((id.node, id.epoch), (NodeId(1), Epoch(7)));
    /// ```
    pub const fn new(node: NodeId, epoch: Epoch) -> ReplicaId {
        ReplicaId { node, epoch }
    }
}

/// The text is not a node id: 32 lower-case hexadecimal digits are.
///
/// ```
/// use anabranch_crdt::{NodeId, NodeIdError};
///
/// assert_eq!("beef".parse::<NodeId>(), Err(NodeIdError)); // too short
/// assert_eq!("0000000000000000000000000000BEEF".parse::<NodeId>(), Err(NodeIdError));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node id is 32 lower-case hexadecimal digits")]
pub struct NodeIdError;

/// The text is not an epoch: a decimal number below 2^64 is.
///
/// ```
/// use anabranch_crdt::{Epoch, EpochError};
///
/// assert_eq!("-1".parse::<Epoch>(), Err(EpochError));
/// assert_eq!("18446744073709551616".parse::<Epoch>(), Err(EpochError)); // 2^64
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch is a decimal number below 2^64")]
pub struct EpochError;

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<NodeId, NodeIdError> {
        // `from_str_radix` alone would take a sign and upper case: two spellings of one id.
        let plain = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !plain {
            return Err(NodeIdError);
        }
        u128::from_str_radix(text, 16)
            .map(NodeId)
            .map_err(|_| NodeIdError)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Epoch, EpochError> {
        if text.starts_with('+') {
            return Err(EpochError);
        }
        text.parse().map(Epoch).map_err(|_| EpochError)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.epoch)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_has_exactly_one_spelling() {
        let id = NodeId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "beef",
            "+0000000000000000000000000000001",
            "0000000000000000000000000000BEEF",
        ] {
            assert_eq!(bad.parse::<NodeId>(), Err(NodeIdError), "{bad:?}");
        }
    }

    #[test]
    fn an_epoch_reads_what_it_prints() {
        assert_eq!(u64::MAX.to_string().parse(), Ok(Epoch(u64::MAX)));
        for bad in ["", "-1", "+1", "18446744073709551616", "1x"] {
            assert_eq!(bad.parse::<Epoch>(), Err(EpochError), "{bad:?}");
        }
    }
}
