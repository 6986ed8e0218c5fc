//! The short indices that stand for full replica ids inside one shard.
//!
//! Not here: anything that travels or is stored. An index means something only beside its table, and two
//! nodes number the same replicas differently.
//!
//! Contract: an index once given keeps its meaning as long as the table lives; nothing is ever taken out.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::ReplicaId;

/// How many replicas one table can hold, ended epochs included.
///
/// ```
/// use anabranch_crdt::{Epoch, NodeId, REPLICAS_MAX, ReplicaId, Replicas};
///
/// let mut replicas = Replicas::new();
/// for node in 0..REPLICAS_MAX as u128 {
///     replicas.intern(ReplicaId::new(NodeId(node), Epoch(1)))?;
/// }
/// assert!(replicas.intern(ReplicaId::new(NodeId(0), Epoch(2))).is_err());
/// # Ok::<(), anabranch_crdt::ReplicasFull>(())
/// ```
pub const REPLICAS_MAX: usize = 65_535;

/// The index of a replica in one [`Replicas`] table.
///
/// The order of indices is the order of arrival and says nothing about the order of replicas.
///
/// ```
/// use anabranch_crdt::{Epoch, NodeId, ReplicaId, ReplicaIx, Replicas};
///
/// let mut replicas = Replicas::new();
/// let late = replicas.intern(ReplicaId::new(NodeId(2), Epoch(1)))?;
/// let early = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
/// assert_eq!((late, early), (ReplicaIx(0), ReplicaIx(1))); // as they came
/// # Ok::<(), anabranch_crdt::ReplicasFull>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaIx(pub u16);

impl ReplicaIx {
    /// The index as a position in an array.
    ///
    /// ```
    /// use anabranch_crdt::ReplicaIx;
    ///
    /// assert_eq!(["a", "b", "c"][ReplicaIx(2).at()], "c");
    /// ```
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// The table is full; nothing was added. Retire ended epochs to make room in a new table.
///
/// ```
/// use anabranch_crdt::{Epoch, NodeId, REPLICAS_MAX, ReplicaId, Replicas, ReplicasFull};
///
/// let mut replicas = Replicas::new();
/// let id = |node| ReplicaId::new(NodeId(node), Epoch(1));
/// let first_refused = (0..).find_map(|node| replicas.intern(id(node)).err().map(|err| (node, err)));
/// assert_eq!(first_refused, Some((REPLICAS_MAX as u128, ReplicasFull)));
/// assert_eq!(replicas.intern(id(0))?.at(), 0); // what it has it still gives
/// # Ok::<(), ReplicasFull>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {REPLICAS_MAX} replicas in one shard")]
pub struct ReplicasFull;

/// Full replica ids by index, and back.
///
/// ```
/// use anabranch_crdt::{Epoch, NodeId, ReplicaId, Replicas};
///
/// let mut replicas = Replicas::new();
/// let id = ReplicaId::new(NodeId(7), Epoch(1));
/// let ix = replicas.intern(id)?;
/// assert_eq!(replicas.intern(id)?, ix);
/// assert_eq!((replicas.id(ix), replicas.get(id)), (id, Some(ix)));
/// # Ok::<(), anabranch_crdt::ReplicasFull>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    ids: Vec<ReplicaId>,
    by_id: BTreeMap<ReplicaId, ReplicaIx>,
}

impl Replicas {
    /// An empty table.
    ///
    /// ```
    /// use anabranch_crdt::Replicas;
    ///
    /// assert!(Replicas::new().is_empty());
    /// ```
    pub fn new() -> Replicas {
        Replicas::default()
    }

    /// The index of `id`, which is added if it is not there yet.
    ///
    /// ```
    /// use anabranch_crdt::{Epoch, NodeId, ReplicaId, ReplicaIx, Replicas};
    ///
    /// let mut replicas = Replicas::new();
    /// let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// assert_eq!((replicas.intern(a)?, replicas.intern(b)?), (ReplicaIx(0), ReplicaIx(1)));
    /// assert_eq!(replicas.intern(a)?, ReplicaIx(0)); // it is there already
    /// # Ok::<(), anabranch_crdt::ReplicasFull>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReplicasFull`] if it is new and the table holds [`REPLICAS_MAX`]; the table is unchanged.
    pub fn intern(&mut self, id: ReplicaId) -> Result<ReplicaIx, ReplicasFull> {
        if let Some(ix) = self.get(id) {
            return Ok(ix);
        }
        if self.ids.len() >= REPLICAS_MAX {
            return Err(ReplicasFull);
        }
        let ix = ReplicaIx(u16::try_from(self.ids.len()).map_err(|_| ReplicasFull)?);
        self.ids.push(id);
        self.by_id.insert(id, ix);
        Ok(ix)
    }

    /// The index of `id` if the table has it.
    ///
    /// ```
    /// use anabranch_crdt::{Epoch, NodeId, ReplicaId, Replicas};
    ///
    /// let mut replicas = Replicas::new();
    /// let id = ReplicaId::new(NodeId(1), Epoch(1));
    /// assert_eq!(replicas.get(id), None);
    /// let ix = replicas.intern(id)?;
    /// assert_eq!(replicas.get(id), Some(ix));
    /// # Ok::<(), anabranch_crdt::ReplicasFull>(())
    /// ```
    pub fn get(&self, id: ReplicaId) -> Option<ReplicaIx> {
        self.by_id.get(&id).copied()
    }

    /// The full id behind an index.
    ///
    /// ```
    /// use anabranch_crdt::{Epoch, NodeId, ReplicaId, Replicas};
    ///
    /// let mut replicas = Replicas::new();
    /// let ix = replicas.intern(ReplicaId::new(NodeId(1), Epoch(7)))?;
    /// assert_eq!(replicas.id(ix), ReplicaId::new(NodeId(1), Epoch(7)));
    /// # Ok::<(), anabranch_crdt::ReplicasFull>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the index is not of this table, which is a bug of the caller.
    pub fn id(&self, ix: ReplicaIx) -> ReplicaId {
        assert!(
            ix.at() < self.ids.len(),
            "replica index {} in a table of {}",
            ix.0,
            self.ids.len()
        );
        self.ids[ix.at()]
    }

    /// How many replicas the table holds.
    ///
    /// ```
    /// use anabranch_crdt::{Epoch, NodeId, ReplicaId, Replicas};
    ///
    /// let mut replicas = Replicas::new();
    /// for epoch in [1, 2, 1] {
    ///     replicas.intern(ReplicaId::new(NodeId(1), Epoch(epoch)))?;
    /// }
    /// assert_eq!(replicas.len(), 2);
    /// # Ok::<(), anabranch_crdt::ReplicasFull>(())
    /// ```
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the table holds none.
    ///
    /// ```
    /// use anabranch_crdt::{Epoch, NodeId, ReplicaId, Replicas};
    ///
    /// let mut replicas = Replicas::new();
    /// assert!(replicas.is_empty());
    /// replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// assert!(!replicas.is_empty());
    /// # Ok::<(), anabranch_crdt::ReplicasFull>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether there is room for all that `other` has.
    pub(crate) fn check_room(&self, other: &Replicas) -> Result<(), ReplicasFull> {
        let new = other.ids.iter().filter(|id| self.get(**id).is_none()).count();
        if self.len() + new > REPLICAS_MAX {
            return Err(ReplicasFull);
        }
        Ok(())
    }

    /// All replicas in the order of their full ids.
    ///
    /// ```
    /// use anabranch_crdt::{Epoch, NodeId, ReplicaId, Replicas};
    ///
    /// let mut replicas = Replicas::new();
    /// for node in [2, 1] {
    ///     replicas.intern(ReplicaId::new(NodeId(node), Epoch(1)))?;
    /// }
    /// let nodes: Vec<_> = replicas.iter().map(|(ix, id)| (ix.at(), id.node)).collect();
    /// assert_eq!(nodes, [(1, NodeId(1)), (0, NodeId(2))]);
    /// # Ok::<(), anabranch_crdt::ReplicasFull>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaIx, ReplicaId)> + '_ {
        self.by_id.iter().map(|(id, ix)| (*ix, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, NodeId};

    #[test]
    fn a_full_table_refuses_new_ids_and_still_knows_the_old() {
        let mut table = Replicas::new();
        for n in 0..REPLICAS_MAX {
            table.intern(ReplicaId::new(NodeId(n as u128), Epoch(1))).unwrap();
        }
        assert_eq!(
            table.intern(ReplicaId::new(NodeId(1 << 100), Epoch(1))),
            Err(ReplicasFull)
        );
        assert_eq!(table.len(), REPLICAS_MAX);
        assert_eq!(
            table.intern(ReplicaId::new(NodeId(5), Epoch(1))),
            Ok(ReplicaIx(5))
        );
    }

    #[test]
    fn iteration_is_by_full_id() {
        let mut table = Replicas::new();
        for n in [9, 3, 5] {
            table.intern(ReplicaId::new(NodeId(n), Epoch(1))).unwrap();
        }
        let order: Vec<u128> = table.iter().map(|(_, id)| id.node.0).collect();
        assert_eq!(order, [3, 5, 9]);
    }

    #[test]
    #[should_panic(expected = "replica index 1 in a table of 0")]
    fn an_index_of_another_table_is_a_bug() {
        Replicas::new().id(ReplicaIx(1));
    }
}
