//! The types there are.
//!
//! Not here: what they do; each has a file of its own.
//!
//! Contract: ids and names are append-only, since they are on disk and on the wire.

use core::fmt;
use core::str::FromStr;

use crate::delta::{DEPTH_MAX, Kill, Path, Payload, Put, Totals};

/// Which of the types a value is of. Ordered by id.
///
/// ```
/// use anabranch_crdt::Type;
///
/// assert_eq!("orset".parse(), Ok(Type::OrSet));
/// assert_eq!(Type::from_id(Type::OrSet.id()), Some(Type::OrSet));
/// assert_eq!(Type::from_id(200), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Type {
    /// A counter that only grows.
    GCounter = 1,
    /// A counter that goes up and down.
    PnCounter = 2,
    /// A register: the last writer wins.
    LwwRegister = 3,
    /// A set in which an addition wins over a concurrent removal.
    OrSet = 4,
    /// A set that only grows.
    GSet = 5,
    /// A flag: enabling wins over a concurrent disabling.
    Flag = 6,
    /// A register that shows all concurrent values.
    MvRegister = 7,
    /// One ballot a node, counted over the members.
    Vote = 8,
    /// A counter that never falls below 0.
    BoundedCounter = 9,
    /// A map of values of any type but bounded counters.
    OrMap = 10,
    /// A map of counters.
    CounterMap = 11,
    /// A map of registers.
    RegisterMap = 12,
    /// A map of sets.
    MultiMap = 13,
}

/// There is no type of that name; the message lists those there are.
///
/// ```
/// use anabranch_crdt::{Type, TypeError};
///
/// let refused = "set".parse::<Type>();
/// assert_eq!(refused, Err(TypeError));
/// assert!(TypeError.to_string().contains("orset"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such type: it is one of gcounter, pncounter, lwwregister, orset, gset, flag, mvregister, vote, boundedcounter, ormap, countermap, registermap, multimap"
)]
pub struct TypeError;

impl Type {
    /// Every type, by id.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert!(Type::ALL.into_iter().map(Type::id).eq(1..=13));
    /// ```
    pub const ALL: [Type; 13] = [
        Type::GCounter,
        Type::PnCounter,
        Type::LwwRegister,
        Type::OrSet,
        Type::GSet,
        Type::Flag,
        Type::MvRegister,
        Type::Vote,
        Type::BoundedCounter,
        Type::OrMap,
        Type::CounterMap,
        Type::RegisterMap,
        Type::MultiMap,
    ];

    /// The number on disk and on the wire.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert_eq!(Type::OrSet.id(), 4);
    /// ```
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The type with this number, if there is one.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert_eq!(Type::from_id(4), Some(Type::OrSet));
    /// assert_eq!(Type::from_id(0), None);
    /// ```
    pub fn from_id(id: u8) -> Option<Type> {
        Type::ALL.into_iter().find(|ty| ty.id() == id)
    }

    /// The name users type.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert_eq!(Type::OrSet.name(), "orset");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Type::GCounter => "gcounter",
            Type::PnCounter => "pncounter",
            Type::LwwRegister => "lwwregister",
            Type::OrSet => "orset",
            Type::GSet => "gset",
            Type::Flag => "flag",
            Type::MvRegister => "mvregister",
            Type::Vote => "vote",
            Type::BoundedCounter => "boundedcounter",
            Type::OrMap => "ormap",
            Type::CounterMap => "countermap",
            Type::RegisterMap => "registermap",
            Type::MultiMap => "multimap",
        }
    }

    /// One value of the type, for people: its name with the article it takes.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert_eq!((Type::OrSet.indefinite(), Type::GSet.indefinite()), ("an orset", "a gset"));
    /// ```
    pub const fn indefinite(self) -> &'static str {
        match self {
            Type::GCounter => "a gcounter",
            Type::PnCounter => "a pncounter",
            Type::LwwRegister => "an lwwregister",
            Type::OrSet => "an orset",
            Type::GSet => "a gset",
            Type::Flag => "a flag",
            Type::MvRegister => "an mvregister",
            Type::Vote => "a vote",
            Type::BoundedCounter => "a boundedcounter",
            Type::OrMap => "an ormap",
            Type::CounterMap => "a countermap",
            Type::RegisterMap => "a registermap",
            Type::MultiMap => "a multimap",
        }
    }

    /// The operations the type takes, for people.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert_eq!(Type::GSet.operations(), "create and add");
    /// ```
    pub const fn operations(self) -> &'static str {
        match self {
            Type::GCounter => "create and incr (not negative)",
            Type::PnCounter => "create and incr",
            Type::LwwRegister => "create and set",
            Type::OrSet => "create, add, remove and clear",
            Type::GSet => "create and add",
            Type::Flag => "create, enable and disable",
            Type::MvRegister => "create and set (without a clock)",
            Type::Vote => "create and vote",
            Type::BoundedCounter => "create, incr and transfer",
            Type::OrMap | Type::CounterMap | Type::RegisterMap | Type::MultiMap => {
                "create, remove and clear, and what its children take"
            }
        }
    }

    /// Whether values of this type hold others by key.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert!(Type::CounterMap.is_map());
    /// assert!(!Type::OrSet.is_map());
    /// ```
    pub const fn is_map(self) -> bool {
        matches!(
            self,
            Type::OrMap | Type::CounterMap | Type::RegisterMap | Type::MultiMap
        )
    }

    /// Whether there may be counters in a value of this type.
    pub(crate) const fn counts(self) -> bool {
        matches!(
            self,
            Type::GCounter | Type::PnCounter | Type::CounterMap | Type::OrMap
        )
    }

    /// The only type of a map's children; nothing if it takes any, or is no map.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert_eq!(Type::CounterMap.child(), Some(Type::PnCounter));
    /// assert_eq!((Type::OrMap.child(), Type::OrSet.child()), (None, None)); // takes any; is no map
    /// ```
    pub const fn child(self) -> Option<Type> {
        match self {
            Type::CounterMap => Some(Type::PnCounter),
            Type::RegisterMap => Some(Type::LwwRegister),
            Type::MultiMap => Some(Type::OrSet),
            _ => None,
        }
    }

    /// Whether a map of this type takes children of that one.
    ///
    /// ```
    /// use anabranch_crdt::Type;
    ///
    /// assert!(Type::OrMap.takes(Type::OrMap) && Type::CounterMap.takes(Type::PnCounter));
    /// assert!(!Type::CounterMap.takes(Type::Flag));
    /// assert!(!Type::OrMap.takes(Type::BoundedCounter)); // no map does
    /// ```
    pub fn takes(self, child: Type) -> bool {
        self.is_map() && child.is_child() && self.child().is_none_or(|only| only == child)
    }

    /// Whether a map may hold values of this type. What a removal leaves of a child is decided by what the remover saw,
    /// and no such rule keeps a bound.
    const fn is_child(self) -> bool {
        !matches!(self, Type::BoundedCounter)
    }

    /// Whether a value of this type can hold `put`. Whoever decodes a delta asks this of every put before joining
    /// it; the join itself ignores a put that does not fit.
    ///
    /// ```
    /// use anabranch_crdt::{Path, Payload, Put, Type};
    ///
    /// let put = Put { path: Path::Element("x".into()), payload: Payload::Present };
    /// assert!(Type::OrSet.admits(&put));
    /// assert!(!Type::PnCounter.admits(&put));
    /// ```
    pub fn admits(self, put: &Put) -> bool {
        self.admits_at(&put.path, &put.payload)
    }

    /// Whether an operation on a value of this type can kill there, and reset so much. Whoever decodes a delta asks this
    /// of every kill.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Kill, Path, ReplicaIx, Totals, Type};
    ///
    /// let mut kill = Kill::of(Path::Root, Dot::new(ReplicaIx(0), 1));
    /// assert!(Type::OrSet.admits_kill(&kill));
    /// kill.reset = Some(Totals { plus: 1, minus: 0 }); // a set has nothing to reset
    /// assert!(!Type::OrSet.admits_kill(&kill) && Type::GCounter.admits_kill(&kill));
    /// ```
    pub fn admits_kill(self, kill: &Kill) -> bool {
        let (mut ty, mut path) = (self, &kill.path);
        if path.depth() > DEPTH_MAX {
            return false;
        }
        while let Path::Child(child) = path {
            if !ty.takes(child.ty) {
                return false;
            }
            (ty, path) = (child.ty, &child.path);
        }
        let fits = match (ty, path) {
            (_, Path::Root) | (Type::OrSet | Type::GSet, Path::Element(_)) => true,
            (Type::Flag, Path::Element(element)) => element.is_empty(),
            _ => false,
        };
        let resets = |totals: Totals| match ty {
            Type::GCounter => totals.minus == 0,
            _ => ty == Type::PnCounter,
        };
        fits && kill.reset.is_none_or(resets)
    }

    pub(crate) fn admits_at(self, path: &Path, payload: &Payload) -> bool {
        match (self, path, payload) {
            (Type::GCounter, Path::Root, Payload::Count { totals, base }) => {
                totals.minus == 0 && base.origin().1.is_none_or(|reset| reset.minus == 0)
            }
            (Type::PnCounter, Path::Root, Payload::Count { .. })
            | (Type::LwwRegister, Path::Root, Payload::Present | Payload::Stamped { .. })
            | (Type::OrSet | Type::GSet, Path::Root | Path::Element(_), Payload::Present)
            | (Type::Flag, Path::Root, Payload::Present)
            | (Type::MvRegister, Path::Root, Payload::Present | Payload::Written { .. })
            | (Type::Vote, Path::Root, Payload::Present | Payload::Ballot { .. })
            | (Type::BoundedCounter, Path::Root, Payload::Rights { .. }) => true,
            (Type::Flag, Path::Element(element), Payload::Present) => element.is_empty(),
            (map, Path::Root, Payload::Present) => map.is_map(),
            (map, Path::Child(child), payload) => {
                path.depth() <= DEPTH_MAX && map.takes(child.ty) && child.ty.admits_at(&child.path, payload)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Type {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Type, TypeError> {
        Type::ALL
            .into_iter()
            .find(|ty| ty.name() == text)
            .ok_or(TypeError)
    }
}

/// A type known at compile time: what a typed handle is made for.
///
/// ```
/// use anabranch_crdt::{Crdt, OrSet, Type};
///
/// assert_eq!(OrSet::TYPE, Type::OrSet);
/// ```
pub trait Crdt {
    /// The type.
    const TYPE: Type;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_lead_back() {
        for ty in Type::ALL {
            assert_eq!(Type::from_id(ty.id()), Some(ty));
            assert_eq!(ty.name().parse(), Ok(ty));
            assert!(ty.indefinite().ends_with(&format!(" {ty}")));
            assert!(
                TypeError.to_string().contains(ty.name()),
                "the error lists every type"
            );
        }
        assert!(Type::ALL.is_sorted_by_key(|ty| ty.id()));
        assert_eq!("ORSET".parse::<Type>(), Err(TypeError));
    }
}
