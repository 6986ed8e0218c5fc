//! The two vocabularies, side by side: what engines call a thing, and what the model does.
//!
//! Contract: elements, values and keys are written so that their byte order is their numeric order.

use std::collections::BTreeMap;

use anabranch::{Clock, EntityId, Epoch, Mutation, NodeId, Reading, ReplicaId, Type};
use anabranch_crdt::Path;
use bytes::Bytes;

use crate::model::{Action, ENABLED, ElementIx, EntityIx, Kind, Place, Shown};

/// Entities and elements by number.
#[derive(Debug, Default)]
pub struct Names {
    entities: Vec<(EntityId, Kind)>,
    by_id: BTreeMap<EntityId, Vec<EntityIx>>,
    elements: Vec<Bytes>,
}

/// A kind's name, as users would declare it.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::GCounter => "visits",
        Kind::PnCounter => "stock",
        Kind::Register => "profile",
        Kind::Set => "tags",
        Kind::GSet => "badges",
        Kind::Flag => "switch",
        Kind::MvRegister => "draft",
        Kind::Vote => "motion",
        Kind::Bounded => "seats",
        Kind::OrMap => "dossier",
        Kind::CounterMap => "basket",
        Kind::RegisterMap => "settings",
        Kind::MultiMap => "index",
    }
}

/// The kind that clients use under two types.
pub const DISPUTED: &str = "disputed";

/// A model's type as the engine calls it.
pub fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::GCounter => Type::GCounter,
        Kind::PnCounter => Type::PnCounter,
        Kind::Register => Type::LwwRegister,
        Kind::Set => Type::OrSet,
        Kind::GSet => Type::GSet,
        Kind::Flag => Type::Flag,
        Kind::MvRegister => Type::MvRegister,
        Kind::Vote => Type::Vote,
        Kind::Bounded => Type::BoundedCounter,
        Kind::OrMap => Type::OrMap,
        Kind::CounterMap => Type::CounterMap,
        Kind::RegisterMap => Type::RegisterMap,
        Kind::MultiMap => Type::MultiMap,
    }
}

/// A register's value by number, of different lengths; now and then it is long.
pub fn value_bytes(value: u64) -> Bytes {
    let long = if value.is_multiple_of(97) { 5_000 } else { 40 };
    Bytes::from(format!("v{value}{}", ".".repeat((value % long) as usize)))
}

/// The number that [`value_bytes`] made these of.
fn value_number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b"v")?.split(|b| *b == b'.').next()?;
    let value = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (value_bytes(value) == bytes).then_some(value)
}

impl Names {
    /// Names for so many elements, of different lengths.
    pub fn new(elements: u64) -> Names {
        let element = |n: u64| format!("e{n:05}{}", "-".repeat((n * n % 60) as usize));
        let elements = (0..elements).map(|n| Bytes::from(element(n))).collect();
        Names {
            elements,
            ..Names::default()
        }
    }

    /// Adds an entity; entities are numbered in this order. One address may have several types, the lower ones first: both
    /// sides of a partition may have written it first.
    pub fn add(&mut self, id: EntityId, kind: Kind) -> EntityIx {
        let ix = self.entities.len() as EntityIx;
        self.by_id.entry(id.clone()).or_default().push(ix);
        self.entities.push((id, kind));
        ix
    }

    /// How many entities there are.
    pub fn entities(&self) -> EntityIx {
        self.entities.len() as EntityIx
    }

    /// An entity's address and type.
    pub fn entity(&self, ix: EntityIx) -> (&EntityId, Kind) {
        let (id, kind) = &self.entities[ix as usize];
        (id, *kind)
    }

    /// An entity's number.
    pub fn find(&self, id: &EntityId, ty: Type) -> Option<EntityIx> {
        self.alike(id).find(|&ix| type_of(self.entity(ix).1) == ty)
    }

    /// All entities of one address, the lowest type first.
    pub fn alike(&self, id: &EntityId) -> impl Iterator<Item = EntityIx> {
        self.by_id.get(id).into_iter().flatten().copied()
    }

    fn element(&self, ix: ElementIx) -> Bytes {
        self.elements[ix as usize].clone()
    }

    fn find_element(&self, bytes: &[u8]) -> Option<ElementIx> {
        let n: ElementIx = std::str::from_utf8(bytes.get(1..6)?).ok()?.parse().ok()?;
        (self.elements.get(n as usize)? == bytes).then_some(n)
    }

    /// An operation on a map's child. A type that follows from the map's is named for every other key.
    fn within(&self, kind: Kind, key: ElementIx, mutation: Mutation) -> Mutation {
        let is_named = kind == Kind::OrMap || key % 4 < 2;
        Mutation::Update {
            key: self.element(key),
            ty: is_named.then(|| type_of(kind.child(key))),
            mutation: Box::new(mutation),
        }
    }

    /// What the engine is asked for, of an entity of this type.
    pub fn mutation(&self, kind: Kind, action: &Action) -> Mutation {
        let elements = |list: &[ElementIx]| list.iter().map(|&e| self.element(e)).collect();
        match action {
            Action::Create => Mutation::Create,
            Action::Increment(by) => Mutation::Increment(*by),
            Action::Add(list) => Mutation::Add(elements(list)),
            Action::Remove(list) => Mutation::Remove(elements(list)),
            Action::Clear => Mutation::Clear,
            Action::Delete => Mutation::Delete,
            Action::Set { value, clock } => Mutation::Set {
                value: value_bytes(*value),
                clock: clock.map_or(Clock::Default, Clock::Custom),
            },
            Action::SetAbove { value, least } => Mutation::Set {
                value: value_bytes(*value),
                clock: Clock::AutoIncrement(*least),
            },
            Action::Write(value) => Mutation::Set {
                value: value_bytes(*value),
                clock: Clock::Default,
            },
            Action::IncrementIn(key, by) => self.within(kind, *key, Mutation::Increment(*by)),
            Action::AddIn(key, list) => self.within(kind, *key, Mutation::Add(elements(list))),
            Action::RemoveIn(key, list) => self.within(kind, *key, Mutation::Remove(elements(list))),
            Action::SetIn(key, value) => {
                let set = Mutation::Set {
                    value: value_bytes(*value),
                    clock: Clock::Default,
                };
                self.within(kind, *key, set)
            }
            Action::SetFirst(value) => Mutation::Set {
                value: value_bytes(*value),
                clock: Clock::Reverse,
            },
            Action::Enable => Mutation::Enable,
            Action::Disable => Mutation::Disable,
            Action::Vote(yes) => Mutation::Vote(*yes),
            Action::Transfer {
                amount,
                to: (node, epoch),
            } => Mutation::Transfer {
                amount: *amount,
                to: ReplicaId::new(NodeId(*node), Epoch(*epoch)),
            },
        }
    }

    /// A place, as the model has it; `None` for one that no workload makes.
    pub fn place(&self, path: &Path) -> Option<Place> {
        match path {
            Path::Root => Some(Place::Root),
            Path::Element(bytes) if bytes.is_empty() => Some(Place::Element(ENABLED)),
            Path::Element(bytes) => self.find_element(bytes).map(Place::Element),
            Path::Child(child) => {
                let key = self.find_element(&child.key)?;
                match (child.ty, &child.path) {
                    (Type::PnCounter | Type::LwwRegister | Type::OrSet, Path::Root) => {
                        Some(Place::Child(key))
                    }
                    (Type::OrSet, Path::Element(element)) => {
                        Some(Place::Member(key, self.find_element(element)?))
                    }
                    _ => None,
                }
            }
        }
    }

    /// A reading, as the model has it; `None` for one that no workload makes.
    pub fn shown(&self, reading: &Reading) -> Option<Shown> {
        Some(match reading {
            Reading::Count(n) => Shown::Count(*n),
            Reading::Elements(list) => {
                Shown::Elements(list.iter().map(|e| self.find_element(e)).collect::<Option<_>>()?)
            }
            Reading::Register(None) => Shown::Register(None),
            Reading::Register(Some(bytes)) => Shown::Register(Some(value_number(bytes)?)),
            Reading::Flag(is_enabled) => Shown::Flag(*is_enabled),
            Reading::Values(list) => {
                let mut values = list
                    .iter()
                    .map(|v| value_number(v))
                    .collect::<Option<Vec<u64>>>()?;
                values.sort_unstable();
                Shown::Values(values)
            }
            Reading::Map(children) => {
                let child =
                    |(key, child): (&Bytes, &Reading)| Some((self.find_element(key)?, self.shown(child)?));
                let mut children = children.iter().map(child).collect::<Option<Vec<_>>>()?;
                children.sort_unstable_by_key(|(key, _)| *key);
                Shown::Map(children)
            }
            Reading::Ballots(ballots) => {
                Shown::Ballots(ballots.iter().map(|(node, yes)| (node.0, *yes)).collect())
            }
        })
    }
}
