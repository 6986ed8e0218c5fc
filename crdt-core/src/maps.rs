//! Maps: values by key, where an update wins over a concurrent removal and the child is reset to what the remover had
//! not seen.
//!
//! Not here: the store all maps share (`children`).
//!
//! Contract: a map of one type of children takes no other.

use crate::children::Children;
use crate::delta::Part;
use crate::kind::Type;
use crate::mutation::{Issuer, Mutation};
use crate::value::Value;
use crate::view::view;
use alloc::vec::Vec;

/// A map's type over the store of children.
macro_rules! map {
    ($(#[$about:meta])* $map:ident) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Default)]
        pub struct $map {
            children: Children,
            digest: u64,
        }

        impl $map {
            /// The child under a key: of the lowest type, should two sides of a partition have differed.
            ///
            /// As a map of counters does it, so do the others:
            ///
            /// ```
            /// use anabranch_crdt::{Mutation, Value};
            /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
            ///
            /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
            /// # let mut here = Causal::new(Type::CounterMap);
            /// let three = Box::new(Mutation::Increment(3));
            /// let hit = Mutation::Update { key: "hits".into(), ty: None, mutation: three };
            /// here.join_op(&here.mutate(me, 0, &hit)?)?;
            /// let Value::CounterMap(map) = here.value() else { unreachable!() };
            /// assert!(matches!(map.get(b"hits"), Some(Value::PnCounter(hits)) if hits.total() == 3));
            /// assert!(map.get(b"misses").is_none());
            /// # Ok::<(), CausalError>(())
            /// ```
            pub fn get(&self, key: &[u8]) -> Option<&Value> {
                self.children.show(key)
            }

            /// The children by key, bytewise ascending.
            ///
            /// As a map of counters does it, so do the others:
            ///
            /// ```
            /// use anabranch_crdt::{Mutation, Type, Value};
            /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId};
            ///
            /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
            /// # let mut here = Causal::new(Type::CounterMap);
            /// for key in ["y", "x"] {
            ///     let three = Box::new(Mutation::Increment(3));
            ///     let hit = Mutation::Update { key: key.into(), ty: None, mutation: three };
            ///     here.join_op(&here.mutate(me, 0, &hit)?)?;
            /// }
            /// let Value::CounterMap(map) = here.value() else { unreachable!() };
            /// assert!(map.iter().map(|(key, _)| key).eq([b"x", b"y"]));
            /// assert!(map.iter().all(|(_, child)| child.ty() == Type::PnCounter));
            /// # Ok::<(), CausalError>(())
            /// ```
            pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Value)> + '_ {
                self.children.iter()
            }

            fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
                self.children.parts(issuer, mutation, Type::$map.child())
            }
        }

        view!($map, children: Children);
    };
}

map! {
    /// A map of values of any type, maps among them.
    ///
    /// ```
    /// use anabranch_crdt::{Crdt, OrMap};
    ///
    /// assert_eq!(OrMap::TYPE.name(), "ormap");
    /// assert!(OrMap::default().get(b"x").is_none());
    /// ```
    OrMap
}

map! {
    /// A map of counters that go up and down.
    ///
    /// ```
    /// use anabranch_crdt::{CounterMap, Crdt};
    ///
    /// assert_eq!(CounterMap::TYPE.child().map(|ty| ty.name()), Some("pncounter"));
    /// ```
    CounterMap
}

map! {
    /// A map of last-writer registers.
    ///
    /// ```
    /// use anabranch_crdt::{Crdt, RegisterMap};
    ///
    /// assert_eq!(RegisterMap::TYPE.child().map(|ty| ty.name()), Some("lwwregister"));
    /// ```
    RegisterMap
}

map! {
    /// A map of sets in which an addition wins over a concurrent removal.
    ///
    /// ```
    /// use anabranch_crdt::{Crdt, MultiMap};
    ///
    /// assert_eq!(MultiMap::TYPE.child().map(|ty| ty.name()), Some("orset"));
    /// ```
    MultiMap
}
