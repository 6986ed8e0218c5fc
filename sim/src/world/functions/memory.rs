//! What a function that keeps its own copy of an entity makes of what it is told, and of what it does itself.
//!
//! It shares no code with `anabranch::session`.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::session::Change;
use anabranch::{Mutation, NodeId, Reading, Type};
use bytes::Bytes;

/// A copy of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Count(i128),
    Elements(BTreeSet<Bytes>),
    Register(Option<Bytes>),
    Flag(bool),
    Values(BTreeSet<Bytes>),
    Ballots(BTreeMap<NodeId, bool>),
    Map(BTreeMap<Bytes, Memory>),
}

impl Memory {
    /// Of an entity that was shown, or does not exist.
    pub fn of(reading: Option<&Reading>, ty: Type) -> Memory {
        reading.map_or_else(|| Memory::new(ty), Memory::copy)
    }

    fn new(ty: Type) -> Memory {
        match ty {
            Type::GCounter | Type::PnCounter | Type::BoundedCounter => Memory::Count(0),
            Type::OrSet | Type::GSet => Memory::Elements(BTreeSet::new()),
            Type::LwwRegister => Memory::Register(None),
            Type::MvRegister => Memory::Values(BTreeSet::new()),
            Type::Flag => Memory::Flag(false),
            Type::Vote => Memory::Ballots(BTreeMap::new()),
            _ => Memory::Map(BTreeMap::new()),
        }
    }

    fn copy(reading: &Reading) -> Memory {
        match reading {
            Reading::Count(count) => Memory::Count(*count),
            Reading::Elements(elements) => Memory::Elements(elements.iter().cloned().collect()),
            Reading::Register(value) => Memory::Register(value.clone()),
            Reading::Flag(flag) => Memory::Flag(*flag),
            Reading::Values(values) => Memory::Values(values.iter().cloned().collect()),
            Reading::Ballots(ballots) => Memory::Ballots(ballots.clone()),
            Reading::Map(children) => {
                let copy = |(key, child): (&Bytes, &Reading)| (key.clone(), Memory::copy(child));
                Memory::Map(children.iter().map(copy).collect())
            }
        }
    }

    /// What it is told became of it; false if that makes no sense.
    pub fn take(&mut self, change: &Change) -> bool {
        match (self, change) {
            (Memory::Count(count), Change::Count(by)) => *count += by,
            (Memory::Elements(elements), Change::Elements { removed, added }) => {
                let were_there = removed.iter().all(|element| elements.remove(element));
                return were_there && added.iter().all(|element| elements.insert(element.clone()));
            }
            (Memory::Register(held), Change::Register(value)) => *held = value.clone(),
            (Memory::Flag(flag), Change::Flag(now)) => *flag = *now,
            (Memory::Values(values), Change::Values(now)) => *values = now.iter().cloned().collect(),
            (Memory::Ballots(ballots), Change::Ballots(now)) => *ballots = now.clone(),
            (
                Memory::Map(children),
                Change::Map {
                    removed,
                    updated,
                    added,
                },
            ) => {
                let were_there = removed.iter().all(|key| children.remove(key).is_some());
                let mut fits = were_there;
                for (key, change) in updated {
                    fits &= children.get_mut(key).is_some_and(|child| child.take(change));
                }
                for (key, child) in added {
                    fits &= children.insert(key.clone(), Memory::copy(child)).is_none();
                }
                return fits;
            }
            _ => return false,
        }
        true
    }

    /// It does this itself.
    pub fn act(&mut self, ty: Type, me: NodeId, mutation: &Mutation) {
        match (self, mutation) {
            (memory, Mutation::Delete) => *memory = Memory::new(ty),
            (Memory::Count(count), Mutation::Increment(by)) => *count += i128::from(*by),
            (Memory::Elements(elements), Mutation::Add(added)) => elements.extend(added.iter().cloned()),
            (Memory::Elements(elements), Mutation::Remove(removed)) => {
                elements.retain(|element| !removed.contains(element));
            }
            (Memory::Elements(elements), Mutation::Clear) => elements.clear(),
            (Memory::Register(held), Mutation::Set { value, .. }) => *held = Some(value.clone()),
            (Memory::Values(values), Mutation::Set { value, .. }) => {
                *values = BTreeSet::from([value.clone()])
            }
            (Memory::Flag(flag), Mutation::Enable) => *flag = true,
            (Memory::Flag(flag), Mutation::Disable) => *flag = false,
            (Memory::Ballots(ballots), Mutation::Vote(yes)) => {
                ballots.insert(me, *yes);
            }
            (Memory::Map(children), Mutation::Remove(keys)) => {
                children.retain(|key, _| !keys.contains(key));
            }
            (Memory::Map(children), Mutation::Clear) => children.clear(),
            (
                Memory::Map(children),
                Mutation::Update {
                    key,
                    ty: named,
                    mutation,
                },
            ) => {
                // Maps in maps are not in any plan.
                let child_ty = named.unwrap_or(match ty {
                    Type::CounterMap => Type::PnCounter,
                    Type::RegisterMap => Type::LwwRegister,
                    _ => Type::OrSet,
                });
                let child = children
                    .entry(key.clone())
                    .or_insert_with(|| Memory::new(child_ty));
                child.act(child_ty, me, mutation);
            }
            _ => {}
        }
    }
}
