//! A value of any type, and the only ways to read and change it.
//!
//! Not here: what each type does (a file each), and what has been seen: a value keeps only its live dots, the
//! context comes from outside.
//!
//! Contract: [`Value::mutate`] changes nothing and returns a delta; only [`Value::join_delta`] and [`Value::join`]
//! change a value, locally and remotely alike.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::canonical;
use crate::context::{Context, Seen};
use crate::delta::{Delta, Path, Payload, Put};
use crate::digest::HashKey;
use crate::dot::Dot;
use crate::flag::Flag;
use crate::fragment::{self, Fragment};
use crate::gcounter::GCounter;
use crate::gset::GSet;
use crate::id::NodeId;
use crate::kind::Type;
use crate::lwwregister::LwwRegister;
use crate::mutation::{Issuer, Mutation, MutationError};
use crate::mvregister::MvRegister;
use crate::orset::OrSet;
use crate::pncounter::PnCounter;
use crate::replicas::Replicas;
use crate::view::{self, Stored, View};
use crate::vote::Vote;

/// What a join needs to know beside the states: the meaning of replica indices and the key of the digest. A value
/// is joined under the same two all its life.
#[derive(Clone, Copy, Debug)]
pub struct Env<'a> {
    /// The table that gives replica indices their meaning.
    pub replicas: &'a Replicas,
    /// The key of the digest.
    pub key: &'a HashKey,
}

/// The dots that a join really changed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changed {
    /// They came alive.
    pub added: Vec<Dot>,
    /// They were alive before and are no more.
    pub removed: Vec<Dot>,
}

impl Changed {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// What a user sees of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// What a counter counts to.
    Count(i128),
    /// A set's elements, bytewise ascending.
    Elements(Vec<Bytes>),
    /// A register's value; nothing if it was created and never set.
    Register(Option<Bytes>),
    /// Whether a flag is enabled.
    Flag(bool),
    /// All concurrent values of a register, bytewise ascending.
    Values(Vec<Bytes>),
    /// Every node's ballot.
    Ballots(BTreeMap<NodeId, bool>),
}

/// A value of any type: its live dots and nothing else.
///
/// ```
/// use anabranch_crdt::*;
///
/// let mut replicas = Replicas::new();
/// let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
/// let env = Env { replicas: &replicas, key: &HashKey([7; 16]) };
/// let mut seen = VersionVector::new();
///
/// let mut likes = Value::new(Type::PnCounter);
/// for by in [5, -2] {
///     let issuer = Issuer { replicas: &replicas, me, next_seq: seen.get(me) + 1, stamp: 0 };
///     let delta = likes.mutate(&issuer, &Mutation::Increment(by))?;
///     likes.join_delta(&env, &seen, &delta); // the same call at every replica
///     seen.advance(me, seen.get(me) + delta.parts().len() as u64);
/// }
/// assert_eq!(likes.read(&replicas), Reading::Count(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A counter that only grows.
    GCounter(GCounter),
    /// A counter that goes up and down.
    PnCounter(PnCounter),
    /// A register: the last writer wins.
    LwwRegister(LwwRegister),
    /// A set in which an addition wins over a concurrent removal.
    OrSet(OrSet),
    /// A set that only grows.
    GSet(GSet),
    /// A flag: enabling wins over a concurrent disabling.
    Flag(Flag),
    /// A register that shows all concurrent values.
    MvRegister(MvRegister),
    /// One ballot a node, counted over the members.
    Vote(Vote),
}

/// The same expression for whichever type the value is of.
macro_rules! each {
    ($value:expr, $view:ident => $result:expr) => {
        match $value {
            Value::GCounter($view) => $result,
            Value::PnCounter($view) => $result,
            Value::LwwRegister($view) => $result,
            Value::OrSet($view) => $result,
            Value::GSet($view) => $result,
            Value::Flag($view) => $result,
            Value::MvRegister($view) => $result,
            Value::Vote($view) => $result,
        }
    };
}

impl Value {
    /// A value that does not exist yet: no live dot.
    pub fn new(ty: Type) -> Value {
        match ty {
            Type::GCounter => Value::GCounter(GCounter::default()),
            Type::PnCounter => Value::PnCounter(PnCounter::default()),
            Type::LwwRegister => Value::LwwRegister(LwwRegister::default()),
            Type::OrSet => Value::OrSet(OrSet::default()),
            Type::GSet => Value::GSet(GSet::default()),
            Type::Flag => Value::Flag(Flag::default()),
            Type::MvRegister => Value::MvRegister(MvRegister::default()),
            Type::Vote => Value::Vote(Vote::default()),
        }
    }

    /// Its type.
    pub fn ty(&self) -> Type {
        fn of<V: View>(_: &V) -> Type {
            V::TYPE
        }
        each!(self, view => of(view))
    }

    /// What the mutation would do. An empty delta means that it would change nothing: no dot is used.
    ///
    /// # Errors
    ///
    /// [`MutationError`] if the type does not take it.
    pub fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Result<Delta, MutationError> {
        let parts = each!(self, view => view.mutate(issuer, mutation))?;
        Ok(Delta::from_parts(self.ty(), parts))
    }

    /// Joins a delta into the value; `seen` is what this side has seen, the delta not included. The cost follows
    /// the delta: only the places it names are looked at.
    ///
    /// # Panics
    ///
    /// If the delta is for another type, or has dots that are not of the table: who decodes it checks that.
    pub fn join_delta(&mut self, env: &Env<'_>, seen: &impl Seen, delta: &Delta) -> Changed {
        assert!(
            self.ty() == delta.ty(),
            "a delta for a {} met a {}",
            delta.ty(),
            self.ty()
        );
        each!(self, view => view::join_delta(view, env, seen, delta))
    }

    /// Joins another state into this one; `seen` and `theirs_seen` are what the two sides have seen.
    ///
    /// # Panics
    ///
    /// If the types differ.
    pub fn join(
        &mut self,
        env: &Env<'_>,
        seen: &impl Seen,
        theirs: &Value,
        theirs_seen: &impl Seen,
    ) -> Changed {
        macro_rules! both {
            ($($ty:ident)*) => {
                match (self, theirs) {
                    $((Value::$ty(mine), Value::$ty(theirs)) => view::join(mine, env, seen, theirs, theirs_seen),)*
                    (mine, theirs) => panic!("a {} met a {}", theirs.ty(), mine.ty()),
                }
            };
        }
        both!(GCounter PnCounter LwwRegister OrSet GSet Flag MvRegister Vote)
    }

    /// What this value, which has seen `seen`, has beyond `theirs`: exactly what somebody who has seen that lacks.
    /// Whoever joins it has seen both afterwards.
    pub fn since(&self, seen: &Context, theirs: &impl Seen) -> Fragment {
        each!(self, view => Fragment::since(self.ty(), view, seen, theirs))
    }

    /// Joins a part of another state; `seen` is what this side has seen, and has the fragment's claims added by the
    /// caller afterwards. The cost follows the fragment, unless it claims dots this side has seen: then every live
    /// dot here is looked at once.
    ///
    /// # Panics
    ///
    /// If the fragment is of another type, or has dots that are not of the table: who decodes it checks that.
    pub fn join_fragment(&mut self, env: &Env<'_>, seen: &Context, fragment: &Fragment) -> Changed {
        assert!(
            self.ty() == fragment.ty(),
            "a part of a {} met a {}",
            fragment.ty(),
            self.ty()
        );
        each!(self, view => fragment::join(view, env, seen, fragment))
    }

    /// Whether it exists: it has a live dot. An empty set may exist.
    pub fn exists(&self) -> bool {
        each!(self, view => !view.store().is_empty())
    }

    /// What the live dot at this place carries; nothing if it is not alive there.
    pub fn payload(&self, path: &Path, dot: Dot) -> Option<Payload> {
        each!(self, view => view.store().get(path, dot))
    }

    /// Every live dot with what it put, by path and then by dot.
    pub fn puts(&self) -> impl Iterator<Item = (Dot, Put)> + '_ {
        each!(self, view => view.store().entries()).map(|(path, dot, payload)| (dot, Put { path, payload }))
    }

    /// Those of them that come after this place and dot, which need not be alive: how a walk in pieces goes on.
    pub fn puts_after<'a>(&'a self, path: &'a Path, dot: Dot) -> impl Iterator<Item = (Dot, Put)> + 'a {
        each!(self, view => view.store().entries_after(path, dot))
            .map(|(path, dot, payload)| (dot, Put { path, payload }))
    }

    /// What a user sees.
    pub fn read(&self, replicas: &Replicas) -> Reading {
        match self {
            Value::GCounter(counter) => Reading::Count(counter.total()),
            Value::PnCounter(counter) => Reading::Count(counter.total()),
            Value::LwwRegister(register) => Reading::Register(register.get(replicas).cloned()),
            Value::OrSet(set) => Reading::Elements(set.iter().map(Bytes::copy_from_slice).collect()),
            Value::GSet(set) => Reading::Elements(set.iter().map(Bytes::copy_from_slice).collect()),
            Value::Flag(flag) => Reading::Flag(flag.is_enabled()),
            Value::MvRegister(register) => Reading::Values(register.values()),
            Value::Vote(vote) => Reading::Ballots(vote.ballots(replicas)),
        }
    }

    /// The wrapping sum over all live dots of a keyed hash of path, full dot and payload. Kept by the joins, so
    /// this costs nothing; 0 without live dots.
    pub fn digest(&self) -> u64 {
        each!(self, view => view.digest())
    }

    /// The same sum, from the live dots: what [`Value::digest`] must be.
    pub fn digest_from_scratch(&self, env: &Env<'_>) -> u64 {
        let entries: Vec<_> = each!(self, view => view.store().entries()).collect();
        view::digest_of(
            env,
            entries.iter().map(|(path, dot, payload)| (path, *dot, payload)),
        )
    }

    /// Bytes that are equal exactly when type and live state are, whatever the replica tables look like.
    pub fn canonical_bytes(&self, replicas: &Replicas) -> Vec<u8> {
        canonical::bytes(
            self.ty(),
            self.puts().map(|(dot, put)| (dot.full(replicas), put)).collect(),
        )
    }
}

#[cfg(test)]
mod tests;
