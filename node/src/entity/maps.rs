//! Typed handles to maps: an update of a child wins over a removal of its key that has not seen it.

use std::collections::BTreeMap;

use anabranch_crdt::{Clock, CounterMap, MultiMap, Mutation, OrMap, Reading, RegisterMap, Type};
use bytes::Bytes;

use super::{Entity, bytes};
use crate::engine::Answer;
use crate::error::Error;
#[cfg(doc)]
use crate::{error::ErrorKind, node::Node};

/// What all maps can.
macro_rules! map {
    ($map:ident) => {
        impl Entity<$map> {
            /// Removes a key and what this node sees under it. What others did there meanwhile stays. Nothing happens if it is
            /// not there.
            ///
            /// # Errors
            /// See [`Node::update`].
            pub async fn remove(&self, key: impl AsRef<[u8]>) -> Result<Answer, Error> {
                self.mutate(Mutation::Remove(vec![bytes(key)])).await
            }

            /// Removes all keys that this node sees; the map stays, empty.
            ///
            /// # Errors
            /// See [`Node::update`].
            pub async fn clear(&self) -> Result<Answer, Error> {
                self.mutate(Mutation::Clear).await
            }

            async fn update_child(
                &self,
                key: impl AsRef<[u8]>,
                ty: Option<Type>,
                mutation: Mutation,
            ) -> Result<Answer, Error> {
                let update = Mutation::Update {
                    key: bytes(key),
                    ty,
                    mutation: Box::new(mutation),
                };
                self.mutate(update).await
            }

            fn children(&self) -> Option<BTreeMap<Bytes, Reading>> {
                match self.reading()? {
                    Reading::Map(children) => Some(children),
                    _ => None,
                }
            }
        }
    };
}

map!(CounterMap);
map!(RegisterMap);
map!(MultiMap);
map!(OrMap);

impl Entity<CounterMap> {
    /// Adds to the counter under a key, which is made if it is not there; a negative number subtracts.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<Answer, Error> {
        self.update_child(key, None, Mutation::Increment(by)).await
    }

    /// The counters by key, if the map exists.
    pub fn get(&self) -> Option<BTreeMap<Bytes, i128>> {
        let count = |(key, reading)| match reading {
            Reading::Count(count) => Some((key, count)),
            _ => None,
        };
        Some(self.children()?.into_iter().filter_map(count).collect())
    }
}

impl Entity<RegisterMap> {
    /// Sets the register under a key, which is made if it is not there.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Answer, Error> {
        let mutation = Mutation::Set {
            value: bytes(value),
            clock: Clock::Default,
        };
        self.update_child(key, None, mutation).await
    }

    /// The registers by key, if the map exists; `None` is one that was created and never set.
    pub fn get(&self) -> Option<BTreeMap<Bytes, Option<Bytes>>> {
        let register = |(key, reading)| match reading {
            Reading::Register(value) => Some((key, value)),
            _ => None,
        };
        Some(self.children()?.into_iter().filter_map(register).collect())
    }
}

impl Entity<MultiMap> {
    /// Adds an element to the set under a key, which is made if it is not there.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn add(&self, key: impl AsRef<[u8]>, element: impl AsRef<[u8]>) -> Result<Answer, Error> {
        self.update_child(key, None, Mutation::Add(vec![bytes(element)]))
            .await
    }

    /// Removes an element from the set under a key, which stays, empty.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn remove_element(
        &self,
        key: impl AsRef<[u8]>,
        element: impl AsRef<[u8]>,
    ) -> Result<Answer, Error> {
        self.update_child(key, None, Mutation::Remove(vec![bytes(element)]))
            .await
    }

    /// The sets by key, if the map exists.
    pub fn get(&self) -> Option<BTreeMap<Bytes, Vec<Bytes>>> {
        let set = |(key, reading)| match reading {
            Reading::Elements(elements) => Some((key, elements)),
            _ => None,
        };
        Some(self.children()?.into_iter().filter_map(set).collect())
    }
}

impl Entity<OrMap> {
    /// Changes the child under a key, which is made, of type `ty`, if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] if the child is of another type; for the rest see [`Node::update`].
    pub async fn update(&self, key: impl AsRef<[u8]>, ty: Type, mutation: Mutation) -> Result<Answer, Error> {
        self.update_child(key, Some(ty), mutation).await
    }

    /// The children by key, if the map exists.
    pub fn get(&self) -> Option<BTreeMap<Bytes, Reading>> {
        self.children()
    }
}
