//! Counters, registers, sets, flags and votes.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use anabranch_crdt::{Clock, Mutation, NodeId, ReplicaId, Type, Value};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Seen, State};
use crate::function::overlay::Overlay;
use crate::view::held;

/// A counter: what was seen, and what the command added.
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            seen: Seen,
            changes: Vec<Mutation>,
            added: i128,
        }

        impl State for $name {
            const TYPE: Type = Type::$name;

            fn open(seen: &Seen) -> $name {
                $name {
                    seen: seen.clone(),
                    changes: Vec::new(),
                    added: 0,
                }
            }

            fn changes(self) -> Vec<Mutation> {
                self.changes
            }
        }

        impl $name {
            /// What it counts to. What the command has added so far is in it in full, although what one start of a node adds to a
            /// counter stops at 2^64 - 1, and so does what it takes away: beyond that, others are shown less.
            pub fn get(&self) -> i128 {
                let below = match self.seen.value_as(Type::$name) {
                    Some(Value::$name(counter)) => counter.total(),
                    _ => 0,
                };
                below + self.added
            }

            fn add(&mut self, by: i64) {
                self.added += i128::from(by);
                match self.changes.last_mut() {
                    // What is taken away is tried by itself: together with an addition it might pass.
                    Some(Mutation::Increment(sum)) if *sum >= 0 && by >= 0 && sum.checked_add(by).is_some() => {
                        *sum += by;
                    }
                    _ => self.changes.push(Mutation::Increment(by)),
                }
            }
        }
    };
}

counter! {
    /// A counter that goes up and down.
    PnCounter
}
counter! {
    /// A counter that only grows.
    GCounter
}
counter! {
    /// A counter that never falls below 0: a node takes away only what it added or was handed. A command that takes more is
    /// refused as a whole ([`Rights`](crate::ErrorKind::Rights)).
    BoundedCounter
}

impl PnCounter {
    /// Adds to it; a negative number subtracts.
    pub fn increment(&mut self, by: i64) {
        self.add(by);
    }
}

impl GCounter {
    /// Adds to it.
    pub fn increment(&mut self, by: u32) {
        self.add(by.into());
    }
}

impl BoundedCounter {
    /// Adds to it, and to what this node may take away.
    pub fn increment(&mut self, by: u32) {
        self.add(by.into());
    }

    /// Takes away from it.
    pub fn take(&mut self, amount: u32) {
        // Each by itself: together they might pass where one after the other does not.
        self.added -= i128::from(amount);
        self.changes.push(Mutation::Increment(-i64::from(amount)));
    }

    /// What a node's current run may take away, with what the command has done so far. This node's run is [`Context::replica`](crate::Context::replica); it has what earlier
    /// runs left once every member has been heard.
    pub fn held(&self, by: ReplicaId) -> u64 {
        let held = match self.seen.value_as(Type::BoundedCounter) {
            Some(Value::BoundedCounter(counter)) => held(counter, self.seen.replicas(), self.seen.heir(), by),
            _ => 0,
        };
        // What the command has done so far moves what this node holds, and what those hold whom it has handed something.
        let own = self.seen.own();
        let moved = |change: &Mutation| match change {
            Mutation::Transfer { to, amount } if *to != own => match (by == own, *to == by) {
                (true, _) => -i128::from(*amount),
                (false, true) => i128::from(*amount),
                (false, false) => 0,
            },
            _ => 0,
        };
        let moved: i128 = self.changes.iter().map(moved).sum();
        let added = if by == own { self.added } else { 0 };
        let held = i128::from(held) + added + moved;
        u64::try_from(held.max(0)).unwrap_or(u64::MAX)
    }

    /// Hands units that this node may take away over to another node's current run. A command that hands some to a node that is
    /// no member of the cluster, or to a run that this node does not know, is refused.
    pub fn transfer(&mut self, to: ReplicaId, amount: u64) {
        self.changes.push(Mutation::Transfer { to, amount });
    }
}

/// A register: the last writer wins.
#[derive(Debug)]
pub struct LwwRegister<T> {
    seen: Seen,
    changes: Vec<Mutation>,
    set: Option<Bytes>,
    holds: PhantomData<fn() -> T>,
}

impl<T: 'static> State for LwwRegister<T> {
    const TYPE: Type = Type::LwwRegister;

    fn open(seen: &Seen) -> LwwRegister<T> {
        LwwRegister {
            seen: seen.clone(),
            changes: Vec::new(),
            set: None,
            holds: PhantomData,
        }
    }

    fn changes(self) -> Vec<Mutation> {
        self.changes
    }
}

impl<T: Serialize + DeserializeOwned> LwwRegister<T> {
    /// What it holds; nothing if it was never set. After [`set_with_clock`](LwwRegister::set_with_clock) what was set with it,
    /// though that may lose to what was there.
    pub fn get(&self) -> Option<T> {
        let bytes = match (&self.set, self.seen.value_as(Type::LwwRegister)) {
            (Some(set), _) => set,
            (None, Some(Value::LwwRegister(register))) => register.get(self.seen.replicas())?,
            _ => return None,
        };
        self.seen.decode(bytes)
    }

    /// Sets it. It supersedes every value that the command saw.
    pub fn set<Q>(&mut self, value: &Q)
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.set_with_clock(value, Clock::Default);
    }

    /// Sets it under another clock than the default.
    pub fn set_with_clock<Q>(&mut self, value: &Q, clock: Clock)
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let value = self.seen.keep::<T, Q>(value);
        self.set = Some(value.clone());
        let set = Mutation::Set { value, clock };
        match self.changes.last_mut() {
            // It would be superseded at once.
            Some(
                last @ Mutation::Set {
                    clock: Clock::Default,
                    ..
                },
            ) if clock == Clock::Default => *last = set,
            _ => self.changes.push(set),
        }
    }
}

/// A register that shows all concurrent values.
#[derive(Debug)]
pub struct MvRegister<T> {
    seen: Seen,
    set: Option<Bytes>,
    holds: PhantomData<fn() -> T>,
}

impl<T: 'static> State for MvRegister<T> {
    const TYPE: Type = Type::MvRegister;

    fn open(seen: &Seen) -> MvRegister<T> {
        MvRegister {
            seen: seen.clone(),
            set: None,
            holds: PhantomData,
        }
    }

    fn changes(self) -> Vec<Mutation> {
        let clock = Clock::Default;
        let set = self.set.map(|value| Mutation::Set { value, clock });
        set.into_iter().collect()
    }
}

impl<T: Serialize + DeserializeOwned> MvRegister<T> {
    /// All values that were set concurrently, by their bytes; none if it was never set.
    pub fn values(&self) -> Vec<T> {
        let values = match (&self.set, self.seen.value_as(Type::MvRegister)) {
            (Some(set), _) => vec![set.clone()],
            (None, Some(Value::MvRegister(register))) => register.values(),
            _ => Vec::new(),
        };
        values
            .iter()
            .filter_map(|value| self.seen.decode(value))
            .collect()
    }

    /// Sets it. It supersedes every value that the command saw.
    pub fn set<Q>(&mut self, value: &Q)
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.set = Some(self.seen.keep::<T, Q>(value));
    }
}

/// A set: what was seen, and what the command did over it.
macro_rules! set {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<T> {
            seen: Seen,
            now: Overlay<()>,
            holds: PhantomData<fn() -> T>,
        }

        impl<T: 'static> State for $name<T> {
            const TYPE: Type = Type::$name;

            fn open(seen: &Seen) -> $name<T> {
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

        impl<T: Serialize + DeserializeOwned> $name<T> {
            /// Whether the element is in it.
            pub fn contains<Q>(&self, element: &Q) -> bool
            where
                T: Borrow<Q>,
                Q: Serialize + ?Sized,
            {
                let element = self.seen.sought::<T, Q>(element);
                let below = || match self.seen.value_as(Type::$name) {
                    Some(Value::$name(set)) => set.contains(&element).then_some(()),
                    _ => None,
                };
                self.now.get(&element, below).is_some()
            }

            /// The elements, by their bytes.
            pub fn elements(&self) -> Vec<T> {
                let elements = self.all().into_keys();
                elements.filter_map(|element| self.seen.decode(&element)).collect()
            }

            /// How many there are.
            pub fn len(&self) -> usize {
                self.all().len()
            }

            /// Whether there is none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            fn all(&self) -> BTreeMap<Bytes, ()> {
                match self.seen.value_as(Type::$name) {
                    Some(Value::$name(set)) => self.now.all(set.iter().map(|element| (element, ()))),
                    _ => self.now.all(std::iter::empty()),
                }
            }

            /// Adds an element.
            pub fn add<Q>(&mut self, element: &Q)
            where
                T: Borrow<Q>,
                Q: Serialize + ?Sized,
            {
                let element = self.seen.keep::<T, Q>(element);
                self.now.put(element.clone(), (), Mutation::Add(vec![element]));
            }
        }
    };
}

set! {
    /// A set in which an addition wins over a removal that has not seen it.
    OrSet
}
set! {
    /// A set that only grows.
    GSet
}

impl<T: Serialize + DeserializeOwned> OrSet<T> {
    /// Removes an element, if it is there.
    pub fn remove<Q>(&mut self, element: &Q)
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let element = self.seen.sought::<T, Q>(element);
        self.now.remove(element);
    }

    /// Removes all that the command saw.
    pub fn clear(&mut self) {
        self.now.clear();
    }
}

/// A flag: enabling wins over a disabling that has not seen it.
#[derive(Debug)]
pub struct Flag {
    seen: Seen,
    set: Option<bool>,
}

impl State for Flag {
    const TYPE: Type = Type::Flag;

    fn open(seen: &Seen) -> Flag {
        Flag {
            seen: seen.clone(),
            set: None,
        }
    }

    fn changes(self) -> Vec<Mutation> {
        let change = self.set.map(|set| match set {
            true => Mutation::Enable,
            false => Mutation::Disable,
        });
        change.into_iter().collect()
    }
}

impl Flag {
    /// Whether it is enabled.
    pub fn get(&self) -> bool {
        let below = || matches!(self.seen.value_as(Type::Flag), Some(Value::Flag(flag)) if flag.is_enabled());
        self.set.unwrap_or_else(below)
    }

    /// Enables or disables it.
    pub fn set(&mut self, enabled: bool) {
        self.set = Some(enabled);
    }
}

/// One ballot a node.
#[derive(Debug)]
pub struct Vote {
    seen: Seen,
    cast: Option<bool>,
}

impl State for Vote {
    const TYPE: Type = Type::Vote;

    fn open(seen: &Seen) -> Vote {
        Vote {
            seen: seen.clone(),
            cast: None,
        }
    }

    fn changes(self) -> Vec<Mutation> {
        self.cast.map(Mutation::Vote).into_iter().collect()
    }
}

impl Vote {
    /// The ballots that were there, by node, without the one that the command casts.
    pub fn ballots(&self) -> BTreeMap<NodeId, bool> {
        match self.seen.value_as(Type::Vote) {
            Some(Value::Vote(vote)) => vote.ballots(self.seen.replicas()),
            _ => BTreeMap::new(),
        }
    }

    /// The nodes that said yes.
    pub fn in_favour(&self) -> BTreeSet<NodeId> {
        let ballots = self.ballots().into_iter();
        ballots.filter(|(_, yes)| *yes).map(|(node, _)| node).collect()
    }

    /// Casts this node's ballot, in place of an earlier one.
    pub fn cast(&mut self, yes: bool) {
        self.cast = Some(yes);
    }
}
