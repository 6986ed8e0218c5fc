//! A flag: enabling wins over a concurrent disabling.
//!
//! Not here: the store: a flag is a set of one possible element, the empty one (`elements`).
//!
//! Contract: disabling undoes the enablings it saw. A flag that nobody ever disables is the one-way flag of Cloudstate.

use alloc::vec::Vec;
use bytes::Bytes;

use crate::delta::Part;
use crate::elements::Elements;
use crate::mutation::{Issuer, Mutation};
use crate::planted;
use crate::view::view;

/// What the set has while the flag is enabled.
const ENABLED: Bytes = Bytes::new();

/// A flag: enabling wins over a concurrent disabling.
///
/// ```
/// use anabranch_crdt::{Crdt, Flag};
///
/// assert_eq!(Flag::TYPE.name(), "flag");
/// assert!(!Flag::default().is_enabled());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Flag {
    elements: Elements,
    digest: u64,
}

impl Flag {
    /// Whether it is enabled.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::Flag);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
    /// assert!(matches!(here.value(), Value::Flag(flag) if flag.is_enabled()));
    /// here.join_op(&here.mutate(me, 0, &Mutation::Disable)?)?;
    /// assert!(matches!(here.value(), Value::Flag(flag) if !flag.is_enabled()));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn is_enabled(&self) -> bool {
        self.elements.contains(&ENABLED)
    }

    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        match mutation {
            Mutation::Create => self.elements.create(issuer),
            Mutation::Enable if planted!("enabled_once", self.is_enabled(), false) => Vec::new(),
            Mutation::Enable => self.elements.add(issuer, [&ENABLED]),
            Mutation::Disable => self.elements.clear(issuer),
            _ => Vec::new(),
        }
    }
}

view!(Flag, elements: Elements);
