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
pub const REPLICAS_MAX: usize = 65_535;

/// The index of a replica in one [`Replicas`] table.
///
/// The order of indices is the order of arrival and says nothing about the order of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaIx(pub u16);

impl ReplicaIx {
    /// The index as a position in an array.
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// The table is full; nothing was added. Retire ended epochs to make room in a new table.
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
    pub fn new() -> Replicas {
        Replicas::default()
    }

    /// The index of `id`, which is added if it is not there yet.
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
    pub fn get(&self, id: ReplicaId) -> Option<ReplicaIx> {
        self.by_id.get(&id).copied()
    }

    /// The full id behind an index.
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
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the table holds none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// All replicas in the order of their full ids.
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
