//! The entities of a shard: found by a hash of their ids, walked in the order of their names.
//!
//! A tree by names alone compares some ten of them on the way to one, each somewhere else in memory; by its hash a row of a
//! million is found with one or two of those looks. Whoever changes what is there does not touch the order.
//! Not here: what a row means. Contract: nothing that can be seen depends on the hash.

#[allow(
    clippy::disallowed_types,
    reason = "nobody sees its order: rows are walked by `order`"
)]
use std::collections::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;
use std::sync::Arc;

use anabranch_crdt::{Type, Value};

use crate::engine::shard::EntityKey;
use crate::wire::EntityId;

/// What there is of one id: nearly always one value.
#[derive(Clone, Debug)]
struct Row {
    ty: Type,
    value: Arc<Value>,
    /// Of higher types, where two sides of a partition have differed; none if that is empty.
    #[allow(
        clippy::box_collection,
        reason = "every row has this: one word of it and not three"
    )]
    others: Option<Box<BTreeMap<Type, Arc<Value>>>>,
}

impl Row {
    fn new(ty: Type) -> Row {
        Row {
            ty,
            value: Arc::new(Value::new(ty)),
            others: None,
        }
    }

    fn others(&self) -> impl Iterator<Item = (Type, &Arc<Value>)> {
        let others = self.others.iter().flat_map(|others| others.iter());
        others.map(|(ty, value)| (*ty, value))
    }

    fn get(&self, ty: Type) -> Option<&Arc<Value>> {
        match self.ty == ty {
            true => Some(&self.value),
            false => self.others.as_ref()?.get(&ty),
        }
    }

    fn or_new(&mut self, ty: Type) -> &mut Arc<Value> {
        if self.ty == ty {
            return &mut self.value;
        }
        let others = self.others.get_or_insert_default();
        if ty < self.ty {
            let new = Row::new(ty);
            others.insert(self.ty, std::mem::replace(&mut self.value, new.value));
            self.ty = ty;
            return &mut self.value;
        }
        others.entry(ty).or_insert_with(|| Row::new(ty).value)
    }

    /// Whether nothing is left of it.
    fn remove(&mut self, ty: Type) -> bool {
        let Some(others) = &mut self.others else {
            return self.ty == ty;
        };
        if self.ty == ty {
            if let Some(next) = others.pop_first() {
                (self.ty, self.value) = next;
            }
        } else {
            others.remove(&ty);
        }
        if others.is_empty() {
            self.others = None;
        }
        false
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// By a key of chance, so that nobody can choose names that meet.
    #[allow(clippy::disallowed_types, reason = "see the import")]
    found: HashMap<EntityId, Row>,
    /// Shared with copies until a row comes or goes.
    order: Arc<BTreeSet<EntityKey>>,
}

impl Rows {
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn get(&self, (id, ty): &EntityKey) -> Option<&Arc<Value>> {
        self.found.get(id)?.get(*ty)
    }

    /// What there is of an id, by type, ascending; with the id as it is kept here.
    pub fn of(&self, id: &EntityId) -> impl Iterator<Item = (&EntityId, Type, &Arc<Value>)> {
        self.found.get_key_value(id).into_iter().flat_map(|(own, row)| {
            let first = std::iter::once((row.ty, &row.value));
            first.chain(row.others()).map(move |(ty, value)| (own, ty, value))
        })
    }

    pub fn get_mut(&mut self, (id, ty): &EntityKey) -> Option<&mut Arc<Value>> {
        let row = self.found.get_mut(id)?;
        match row.ty == *ty {
            true => Some(&mut row.value),
            false => row.others.as_mut()?.get_mut(ty),
        }
    }

    /// The value of a row, which is made if it is not there.
    pub fn or_new(&mut self, key: &EntityKey) -> &mut Arc<Value> {
        let (id, ty) = key;
        let order = &mut self.order;
        let mut is_new = false;
        let row = self.found.entry(id.clone()).or_insert_with(|| {
            is_new = true;
            Row::new(*ty)
        });
        if is_new || row.get(*ty).is_none() {
            Arc::make_mut(order).insert(key.clone());
        }
        row.or_new(*ty)
    }

    pub fn remove(&mut self, key: &EntityKey) {
        if !Arc::make_mut(&mut self.order).remove(key) {
            return;
        }
        let (id, ty) = key;
        if self.found.get_mut(id).is_some_and(|row| row.remove(*ty)) {
            self.found.remove(id);
        }
    }

    /// Adds rows that are not there yet, in order.
    pub fn extend_sorted(&mut self, rows: Vec<(EntityKey, Value)>) {
        let is_first = self.order.is_empty();
        let names = rows.iter().map(|(key, _)| key.clone());
        match is_first {
            // A set made of what is sorted is filled from below, without a look at what is there.
            true => self.order = Arc::new(names.collect()),
            false => Arc::make_mut(&mut self.order).extend(names),
        }
        self.found.reserve(rows.len());
        for ((id, ty), value) in rows {
            let row = self.found.entry(id).or_insert_with(|| Row::new(ty));
            *row.or_new(ty) = Arc::new(value);
        }
    }

    /// All rows in the order of their names, and then of their types.
    pub fn iter(&self) -> impl Iterator<Item = (&EntityKey, &Arc<Value>)> {
        self.range(..)
    }

    pub fn keys(&self) -> impl Iterator<Item = &EntityKey> {
        self.order.iter()
    }

    /// Those between two, in the same order.
    pub fn range<'a>(
        &'a self,
        range: impl RangeBounds<EntityKey> + 'a,
    ) -> impl Iterator<Item = (&'a EntityKey, &'a Arc<Value>)> {
        let names = self.order.range(range);
        names.map(|key| match self.get(key) {
            Some(value) => (key, value),
            None => unreachable!("{} is in the order of a shard's rows, and not among them", key.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use anabranch_crdt::{Env, HashKey, Issuer, Mutation, NodeId, ReplicaId, Replicas};
    use proptest::prelude::*;

    use super::*;

    const TYPES: [Type; 3] = [Type::OrSet, Type::PnCounter, Type::LwwRegister];

    fn value(ty: Type, n: u64) -> Value {
        let mut replicas = Replicas::new();
        let me = replicas
            .intern(ReplicaId::new(NodeId(1), anabranch_crdt::Epoch(1)))
            .unwrap();
        let key = HashKey([7; 16]);
        let env = Env {
            replicas: &replicas,
            key: &key,
        };
        let issuer = Issuer {
            replicas: &replicas,
            me,
            next_seq: n + 1,
            stamp: 0,
            inherits: None,
        };
        let mut value = Value::new(ty);
        let delta = value.mutate(&issuer, &Mutation::Create).unwrap();
        value.join_delta(&env, &(), &delta);
        value
    }

    proptest! {
        #[test]
        fn rows_are_those_of_a_tree(steps in prop::collection::vec((0u8..4, 0u8..12, 0usize..3), 0..120)) {
            let mut rows = Rows::default();
            let mut tree: BTreeMap<EntityKey, Arc<Value>> = BTreeMap::new();
            for (n, (step, name, ty)) in steps.into_iter().enumerate() {
                let (id, ty) = (EntityId::new("k", &name.to_string()).unwrap(), TYPES[ty]);
                let key = (id.clone(), ty);
                let copy = rows.clone();
                match step {
                    0 | 1 => {
                        let new = value(ty, n as u64);
                        *Arc::make_mut(rows.or_new(&key)) = new.clone();
                        tree.insert(key.clone(), Arc::new(new));
                    }
                    2 => {
                        rows.remove(&key);
                        tree.remove(&key);
                    }
                    _ => {
                        // What is not there, sorted.
                        let new = (0..6u8).map(|i| (EntityId::new("k", &format!("{i}{n}")).unwrap(), ty));
                        let new: Vec<_> = new.map(|key| (key, value(ty, n as u64))).collect();
                        tree.extend(new.iter().map(|(key, value)| (key.clone(), Arc::new(value.clone()))));
                        rows.extend_sorted(new);
                    }
                }
                drop(copy);
                prop_assert_eq!(rows.is_empty(), tree.is_empty());
                prop_assert_eq!(rows.get(&key).map(|v| v.exists()), tree.get(&key).map(|v| v.exists()));
                prop_assert_eq!(rows.get_mut(&key).is_some(), tree.contains_key(&key));
                let of: Vec<Type> = rows.of(&id).map(|(_, ty, _)| ty).collect();
                let all: Vec<Type> = tree.keys().filter(|(other, _)| *other == id).map(|(_, ty)| *ty).collect();
                prop_assert_eq!(of, all);
            }
            let flat = |rows: Vec<(&EntityKey, &Arc<Value>)>| {
                rows.into_iter().map(|(key, value)| (key.clone(), value.digest())).collect::<Vec<_>>()
            };
            prop_assert_eq!(flat(rows.iter().collect()), flat(tree.iter().collect()));
            let from = (EntityId::new("k", "3").unwrap(), Type::PnCounter);
            prop_assert_eq!(flat(rows.range(from.clone()..).collect()), flat(tree.range(from..).collect()));
        }
    }

    #[test]
    fn a_copy_stays_as_it_was() {
        let key = (EntityId::new("k", "a").unwrap(), Type::OrSet);
        let mut rows = Rows::default();
        rows.or_new(&key);
        let copy = rows.clone();
        rows.remove(&key);
        assert!(rows.is_empty() && rows.get(&key).is_none());
        assert_eq!((copy.len(), copy.keys().next()), (1, Some(&key)));
        assert!(copy.get(&key).is_some());
    }
}
