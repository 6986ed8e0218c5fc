//! The vocabulary of the `crdts` crate for our types: its `Dot` and `VClock`, its `CvRDT` and `CmRDT`.
//!
//! Not here: its types as state. They judge ours in tests; nothing of theirs is stored or shipped.
//!
//! Contract: conversions keep the meaning both ways, and the trait methods do what our own do: `merge` and `apply`
//! are their names for `join`. What their validation refuses is left undone, not half done.

use std::convert::Infallible;

use crdts::{CmRDT, CvRDT, VClock};

use crate::causal::{Causal, CausalError, Op};
use crate::context::{Context, VersionVector};
use crate::dot::{Dot, SEQ_MAX};
use crate::id::ReplicaId;
use crate::replicas::{Replicas, ReplicasFull};

/// A dot or clock of the `crdts` crate has no counterpart here; nothing was converted.
///
/// ```
/// use anabranch_crdt::{Dot, Epoch, NodeId, ReplicaId, Replicas};
/// use anabranch_crdt::crdts_compat::ConvertError;
///
/// let id = ReplicaId::new(NodeId(1), Epoch(1));
/// let dot = crdts::Dot::new(id, 0); // ours begin at 1
/// let refused = Dot::from_crdts(&dot, &mut Replicas::new());
/// assert_eq!(refused, Err(ConvertError::Sequence { seq: 0 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The table has no room for its replica.
    #[error(transparent)]
    Replicas(#[from] ReplicasFull),
    /// Our sequences go from 1 to [`SEQ_MAX`].
    #[error("sequence {seq} is outside of 1..={SEQ_MAX}")]
    Sequence {
        /// The counter of theirs.
        seq: u64,
    },
}

impl Dot {
    /// The dot as `crdts` writes it.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Epoch, NodeId, ReplicaId, Replicas};
    ///
    /// let id = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut replicas = Replicas::new();
    /// let dot = Dot::new(replicas.intern(id)?, 3);
    /// assert_eq!(dot.to_crdts(&replicas), crdts::Dot::new(id, 3));
    /// assert_eq!(Dot::from_crdts(&crdts::Dot::new(id, 3), &mut replicas)?, dot);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the dot is not of this table.
    pub fn to_crdts(self, replicas: &Replicas) -> crdts::Dot<ReplicaId> {
        let (replica, seq) = self.full(replicas);
        crdts::Dot::new(replica, seq)
    }

    /// The dot that `crdts` writes so.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Replicas};
    /// # use anabranch_crdt::{Epoch, NodeId, ReplicaId};
    ///
    /// # let id = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut replicas = Replicas::new();
    /// let dot = Dot::from_crdts(&crdts::Dot::new(id, 3), &mut replicas)?;
    /// assert_eq!(dot.full(&replicas), (id, 3)); // the table has its replica now
    /// assert!(Dot::from_crdts(&crdts::Dot::new(id, 0), &mut replicas).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConvertError`] if the table is full or the sequence has no counterpart.
    pub fn from_crdts(dot: &crdts::Dot<ReplicaId>, replicas: &mut Replicas) -> Result<Dot, ConvertError> {
        let seq = dot.counter;
        if !(1..=SEQ_MAX).contains(&seq) {
            return Err(ConvertError::Sequence { seq });
        }
        Ok(Dot::new(replicas.intern(dot.actor)?, seq))
    }
}

impl VersionVector {
    /// The set as `crdts` writes it.
    ///
    /// ```
    /// use anabranch_crdt::{Replicas, VersionVector};
    /// # use anabranch_crdt::{Epoch, NodeId, ReplicaId};
    ///
    /// # let id = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut replicas = Replicas::new();
    /// let vv = VersionVector::from_iter([(replicas.intern(id)?, 3)]);
    /// assert_eq!(vv.to_vclock(&replicas).get(&id), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If an index is not of this table.
    pub fn to_vclock(&self, replicas: &Replicas) -> VClock<ReplicaId> {
        self.iter()
            .map(|(ix, max)| crdts::Dot::new(replicas.id(ix), max))
            .collect()
    }

    /// The set that `crdts` writes so.
    ///
    /// ```
    /// use anabranch_crdt::{ReplicaId, Replicas, VersionVector};
    /// # use anabranch_crdt::{Epoch, NodeId};
    ///
    /// # let id = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut replicas = Replicas::new();
    /// let clock: crdts::VClock<ReplicaId> = [crdts::Dot::new(id, 3)].into_iter().collect();
    /// let vv = VersionVector::from_vclock(&clock, &mut replicas)?;
    /// assert_eq!(replicas.get(id).map(|ix| vv.get(ix)), Some(3));
    /// assert_eq!(vv.to_vclock(&replicas), clock);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConvertError`] if the table is full or a sequence has no counterpart.
    pub fn from_vclock(
        clock: &VClock<ReplicaId>,
        replicas: &mut Replicas,
    ) -> Result<VersionVector, ConvertError> {
        let mut vv = VersionVector::new();
        for dot in clock.iter() {
            let dot = Dot::from_crdts(&crdts::Dot::new(*dot.actor, dot.counter), replicas)?;
            vv.advance(dot.ix(), dot.seq());
        }
        Ok(vv)
    }
}

/// Of two sets under one table.
impl CvRDT for VersionVector {
    type Validation = Infallible;

    fn validate_merge(&self, _: &VersionVector) -> Result<(), Infallible> {
        Ok(())
    }

    fn merge(&mut self, other: VersionVector) {
        self.join(&other);
    }
}

/// Of two sets under one table.
impl CvRDT for Context {
    type Validation = Infallible;

    fn validate_merge(&self, _: &Context) -> Result<(), Infallible> {
        Ok(())
    }

    fn merge(&mut self, other: Context) {
        self.join(&other);
    }
}

/// Dots under one table, in any order.
impl CmRDT for Context {
    type Op = Dot;
    type Validation = Infallible;

    fn validate_op(&self, _: &Dot) -> Result<(), Infallible> {
        Ok(())
    }

    fn apply(&mut self, dot: Dot) {
        self.insert(dot);
    }
}

/// A merge that [`CvRDT::validate_merge`] refuses changes nothing.
impl CvRDT for Causal {
    type Validation = CausalError;

    fn validate_merge(&self, other: &Causal) -> Result<(), CausalError> {
        self.check_join(other)
    }

    fn merge(&mut self, other: Causal) {
        // The trait cannot say no here; who wants to hear it asks `validate_merge` or calls `join`.
        let _: Result<_, CausalError> = self.join(&other);
    }
}

/// Validation asks for causal order, as `crdts` does; applying does not need it: an operation that comes early is
/// kept, and what was missing may come later.
impl CmRDT for Causal {
    type Op = Op;
    type Validation = CausalError;

    fn validate_op(&self, op: &Op) -> Result<(), CausalError> {
        self.check_order(op)
    }

    fn apply(&mut self, op: Op) {
        // As in `merge`: a refusal leaves the value as it was.
        let _: Result<_, CausalError> = self.join_op(&op);
    }
}

#[cfg(test)]
mod tests;
