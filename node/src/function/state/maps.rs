//! Maps of counters, of registers and of sets.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use anabranch_crdt::{Clock, Mutation, Type, Value};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Seen, State};
use crate::function::overlay::Overlay;

/// What all maps can; `$child` is what a child is read as.
macro_rules! map {
    ($(#[$doc:meta])* $name:ident<$key:ident$(, $of:ident)?> of $child:ty: $read:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<$key$(, $of)?> {
            seen: Seen,
            now: Overlay<$child>,
            holds: PhantomData<fn() -> ($key, $($of)?)>,
        }

        impl<$key: 'static$(, $of: 'static)?> State for $name<$key$(, $of)?> {
            const TYPE: Type = Type::$name;

            fn open(seen: &Seen) -> $name<$key$(, $of)?> {
                $name {
                    seen: seen.clone(),
                    now: Overlay::new(),
                    holds: PhantomData,
                }
            }

            fn changes(self) -> Vec<Mutation> {
                self.now.into_changes()
            }
        }

        impl<$key: Serialize + DeserializeOwned$(, $of: Serialize + DeserializeOwned)?> $name<$key$(, $of)?> {
            /// Whether there is something under the key.
            pub fn contains_key<Q>(&self, key: &Q) -> bool
            where
                $key: Borrow<Q>,
                Q: Serialize + ?Sized,
            {
                self.child(&self.seen.sought::<$key, Q>(key)).is_some()
            }

            /// How many keys there are.
            pub fn len(&self) -> usize {
                self.all().len()
            }

            /// Whether there is none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Removes a key and what the command saw under it, if it is there.
            pub fn remove<Q>(&mut self, key: &Q)
            where
                $key: Borrow<Q>,
                Q: Serialize + ?Sized,
            {
                let key = self.seen.sought::<$key, Q>(key);
                self.now.remove(key);
            }

            /// Removes all that the command saw.
            pub fn clear(&mut self) {
                self.now.clear();
            }

            fn child(&self, key: &[u8]) -> Option<$child> {
                self.now.get(key, || ($read)(&self.seen, self.seen.value_as(Type::$name)?.child(key)?))
            }

            fn all(&self) -> BTreeMap<Bytes, $child> {
                let Some(Value::$name(map)) = self.seen.value_as(Type::$name) else {
                    return self.now.all(std::iter::empty());
                };
                let read = |(key, child)| Some((key, ($read)(&self.seen, child)?));
                self.now.all(map.iter().filter_map(read))
            }

            fn update(&mut self, key: Bytes, child: $child, mutation: Mutation) {
                let update = Mutation::Update {
                    key: key.clone(),
                    ty: None,
                    mutation: Box::new(mutation),
                };
                self.now.put(key, child, update);
            }
        }
    };
}

map! {
    /// A map of counters.
    CounterMap<K> of i128: |_: &Seen, child: &Value| match child {
        Value::PnCounter(counter) => Some(counter.total()),
        _ => None,
    }
}
map! {
    /// A map of registers: under each key the last writer wins.
    RegisterMap<K, V> of Option<Bytes>: |seen: &Seen, child: &Value| match child {
        Value::LwwRegister(register) => Some(register.get(seen.replicas()).cloned()),
        _ => None,
    }
}
map! {
    /// A map of sets.
    MultiMap<K, E> of BTreeSet<Bytes>: |_: &Seen, child: &Value| match child {
        Value::OrSet(set) => Some(set.iter().map(Bytes::copy_from_slice).collect()),
        _ => None,
    }
}

impl<K: Serialize + DeserializeOwned> CounterMap<K> {
    /// What is counted under the key; 0 where there is nothing.
    pub fn get<Q>(&self, key: &Q) -> i128
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.child(&self.seen.sought::<K, Q>(key)).unwrap_or(0)
    }

    /// Adds to the counter under a key, which is made if it is not there; a negative number subtracts.
    pub fn increment<Q>(&mut self, key: &Q, by: i64)
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let key = self.seen.keep::<K, Q>(key);
        let before = self.child(&key).unwrap_or(0);
        self.update(key, before + i128::from(by), Mutation::Increment(by));
    }

    /// The counters, by their keys' bytes.
    pub fn entries(&self) -> Vec<(K, i128)> {
        let all = self.all().into_iter();
        all.filter_map(|(key, count)| Some((self.seen.decode(&key)?, count)))
            .collect()
    }
}

impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> RegisterMap<K, V> {
    /// What is held under the key; nothing where there is nothing, or where it was never set.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let bytes = self.child(&self.seen.sought::<K, Q>(key))??;
        self.seen.decode(&bytes)
    }

    /// Sets the register under a key, which is made if it is not there.
    pub fn set<Q, W>(&mut self, key: &Q, value: &W)
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        V: Borrow<W>,
        W: Serialize + ?Sized,
    {
        let (key, value) = (self.seen.keep::<K, Q>(key), self.seen.keep::<V, W>(value));
        let set = Mutation::Set {
            value: value.clone(),
            clock: Clock::Default,
        };
        self.update(key, Some(value), set);
    }

    /// What is held, by the keys' bytes, without what was never set.
    pub fn entries(&self) -> Vec<(K, V)> {
        let all = self.all().into_iter();
        all.filter_map(|(key, value)| Some((self.seen.decode(&key)?, self.seen.decode(&value?)?)))
            .collect()
    }
}

impl<K: Serialize + DeserializeOwned, E: Serialize + DeserializeOwned> MultiMap<K, E> {
    /// The elements under a key, by their bytes; none where there is nothing.
    pub fn get<Q>(&self, key: &Q) -> Vec<E>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let elements = self.child(&self.seen.sought::<K, Q>(key)).unwrap_or_default();
        elements
            .iter()
            .filter_map(|element| self.seen.decode(element))
            .collect()
    }

    /// Whether the element is in the set under the key.
    pub fn contains<Q, F>(&self, key: &Q, element: &F) -> bool
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        E: Borrow<F>,
        F: Serialize + ?Sized,
    {
        let elements = self.child(&self.seen.sought::<K, Q>(key)).unwrap_or_default();
        elements.contains(&self.seen.sought::<E, F>(element))
    }

    /// Adds an element to the set under a key, which is made if it is not there.
    pub fn add<Q, F>(&mut self, key: &Q, element: &F)
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        E: Borrow<F>,
        F: Serialize + ?Sized,
    {
        let (key, element) = (self.seen.keep::<K, Q>(key), self.seen.keep::<E, F>(element));
        let mut elements = self.child(&key).unwrap_or_default();
        elements.insert(element.clone());
        self.update(key, elements, Mutation::Add(vec![element]));
    }

    /// Removes an element from the set under a key, if it is there.
    pub fn remove_element<Q, F>(&mut self, key: &Q, element: &F)
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        E: Borrow<F>,
        F: Serialize + ?Sized,
    {
        let (key, element) = (self.seen.sought::<K, Q>(key), self.seen.sought::<E, F>(element));
        let Some(mut elements) = self.child(&key) else {
            return;
        };
        if elements.remove(&element) {
            self.update(key, elements, Mutation::Remove(vec![element]));
        }
    }

    /// The sets, by their keys' bytes.
    pub fn entries(&self) -> Vec<(K, Vec<E>)> {
        let decode = |element: &Bytes| self.seen.decode(element);
        let all = self.all().into_iter();
        all.filter_map(|(key, set)| Some((self.seen.decode(&key)?, set.iter().filter_map(decode).collect())))
            .collect()
    }
}
