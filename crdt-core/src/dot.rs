//! One event of one replica, packed into 64 bits.
//!
//! Not here: the full identity of the replica, which only its [`crate::Replicas`] table knows.
//!
//! Contract: a dot means something only beside one table, and the order of dots is not the order of replicas:
//! what a user or another node can observe is sorted by full id.

use core::fmt;

use crate::id::ReplicaId;
use crate::replicas::{ReplicaIx, Replicas};

const SEQ_BITS: u32 = 48;

/// The largest sequence number of a dot. A million events a second reach it in nine years.
///
/// ```
/// use anabranch_crdt::{Dot, ReplicaIx, SEQ_MAX};
///
/// assert!(Dot::try_new(ReplicaIx(0), SEQ_MAX).is_some());
/// assert_eq!(Dot::try_new(ReplicaIx(0), SEQ_MAX + 1), None);
/// ```
pub const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;

/// The number of one event of one replica: 16 bits of replica index, 48 bits of sequence, from 1.
///
/// ```
/// use anabranch_crdt::{Dot, ReplicaIx};
///
/// let dot = Dot::new(ReplicaIx(3), 17);
/// assert_eq!((dot.ix(), dot.seq()), (ReplicaIx(3), 17));
/// assert_eq!(Dot::try_new(ReplicaIx(3), 0), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot(u64);

impl Dot {
    /// The dot `seq` of the replica `ix`.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// assert_eq!(format!("{:?}", Dot::new(ReplicaIx(3), 17)), "#3.17");
    /// assert!(Dot::new(ReplicaIx(3), 17) < Dot::new(ReplicaIx(4), 1)); // first by replica
    /// ```
    ///
    /// # Panics
    ///
    /// If `seq` is 0 or above [`SEQ_MAX`]: a caller that read it from a peer or a disk uses [`Dot::try_new`].
    pub fn new(ix: ReplicaIx, seq: u64) -> Dot {
        assert!(
            (1..=SEQ_MAX).contains(&seq),
            "sequence {seq} is outside of 1..={SEQ_MAX}"
        );
        Dot(u64::from(ix.0) << SEQ_BITS | seq)
    }

    /// The dot `seq` of the replica `ix`, if there can be one.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// assert_eq!(Dot::try_new(ReplicaIx(3), 17), Some(Dot::new(ReplicaIx(3), 17)));
    /// assert_eq!(Dot::try_new(ReplicaIx(3), 0), None); // they begin at 1
    /// ```
    pub fn try_new(ix: ReplicaIx, seq: u64) -> Option<Dot> {
        (1..=SEQ_MAX).contains(&seq).then(|| Dot::new(ix, seq))
    }

    /// The replica's index.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// assert_eq!(Dot::new(ReplicaIx(3), 17).ix(), ReplicaIx(3));
    /// ```
    pub const fn ix(self) -> ReplicaIx {
        ReplicaIx((self.0 >> SEQ_BITS) as u16)
    }

    /// The sequence number.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, ReplicaIx};
    ///
    /// assert_eq!(Dot::new(ReplicaIx(3), 17).seq(), 17);
    /// ```
    pub const fn seq(self) -> u64 {
        self.0 & SEQ_MAX
    }

    /// The dot's identity beyond this table, and the order in which dots may be shown.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Epoch, NodeId, ReplicaId, Replicas};
    ///
    /// let mut replicas = Replicas::new();
    /// let me = ReplicaId::new(NodeId(1), Epoch(7));
    /// let dot = Dot::new(replicas.intern(me)?, 17);
    /// assert_eq!(dot.full(&replicas), (me, 17));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the dot is not of this table.
    pub fn full(self, replicas: &Replicas) -> (ReplicaId, u64) {
        (replicas.id(self.ix()), self.seq())
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.ix().0, self.seq())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_survive_packing() {
        for (ix, seq) in [(0, 1), (0, SEQ_MAX), (u16::MAX, 1), (u16::MAX, SEQ_MAX)] {
            let dot = Dot::new(ReplicaIx(ix), seq);
            assert_eq!((dot.ix().0, dot.seq()), (ix, seq));
        }
        assert_eq!(Dot::try_new(ReplicaIx(1), SEQ_MAX + 1), None);
    }

    #[test]
    #[should_panic(expected = "sequence 0")]
    fn sequences_start_at_one() {
        Dot::new(ReplicaIx(0), 0);
    }
}
