//! A register that shows all concurrent values.
//!
//! Not here: the store, which other registers share (`writes`).
//!
//! Contract: a write supersedes every write it saw, so the values are those of writes that no other had seen.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::delta::{Part, Payload};
use crate::mutation::{Issuer, Mutation};
use crate::planted;
use crate::view::view;
use crate::writes::Writes;

/// A register that shows all concurrent values.
///
/// ```
/// use anabranch_crdt::{Crdt, MvRegister};
///
/// assert_eq!(MvRegister::TYPE.name(), "mvregister");
/// assert!(MvRegister::default().values().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MvRegister {
    writes: Writes,
    digest: u64,
}

impl MvRegister {
    /// Its values, bytewise ascending, each once. None if it was never set.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Clock, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// let (mut here, mut there) = (Causal::new(Type::MvRegister), Causal::new(Type::MvRegister));
    /// let set = |value: &'static str| Mutation::Set { value: value.into(), clock: Clock::Default };
    /// here.join_op(&here.mutate(a, 0, &set("y"))?)?;
    /// there.join_op(&there.mutate(b, 0, &set("x"))?)?;
    /// here.join(&there)?;
    /// assert!(matches!(here.value(), Value::MvRegister(register) if register.values() == ["x", "y"]));
    /// here.join_op(&here.mutate(a, 0, &set("z"))?)?; // it has seen both
    /// assert!(matches!(here.value(), Value::MvRegister(register) if register.values() == ["z"]));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn values(&self) -> Vec<Bytes> {
        let values = self
            .writes
            .as_slice()
            .iter()
            .filter_map(|(_, payload)| match payload {
                Payload::Written { value } => Some(value),
                _ => None,
            });
        let distinct: BTreeSet<&Bytes> = values.collect();
        distinct.into_iter().cloned().collect()
    }

    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        match mutation {
            Mutation::Create => self.writes.create(issuer),
            Mutation::Set { value, .. } => {
                let value = value.clone();
                self.writes.write(issuer, Payload::Written { value }, |_, _| {
                    planted!("write_supersedes_nothing", false, true)
                })
            }
            _ => Vec::new(),
        }
    }
}

view!(MvRegister, writes: Writes);
