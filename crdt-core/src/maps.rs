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
            pub fn get(&self, key: &[u8]) -> Option<&Value> {
                self.children.show(key)
            }

            /// The children by key, bytewise ascending.
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
