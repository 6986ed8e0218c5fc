//! A value of any type, and the only ways to read and change it.
//!
//! Not here: what each type does (a file each), and what has been seen: a value keeps only its live dots, the
//! context comes from outside.
//!
//! Contract: [`Value::mutate`] changes nothing and returns a delta; only [`Value::join_delta`] and [`Value::join`]
//! change a value, locally and remotely alike.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::boundedcounter::BoundedCounter;
use crate::context::{Context, Seen};
use crate::delta::{Delta, Kill, Part, Path, Payload, Put};
use crate::digest::HashKey;
use crate::dot::Dot;
use crate::flag::Flag;
use crate::fragment::{self, Fragment};
use crate::gcounter::GCounter;
use crate::gset::GSet;
use crate::id::NodeId;
use crate::kind::Type;
use crate::lwwregister::LwwRegister;
use crate::maps::{CounterMap, MultiMap, OrMap, RegisterMap};
use crate::mutation::{Issuer, Mutation, MutationError};
use crate::mvregister::MvRegister;
use crate::orset::OrSet;
use crate::pncounter::PnCounter;
use crate::replicas::Replicas;
use crate::store::Diff;
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
    /// Counters' slots that count less than before, though they are alive: of what they had reached something was reset;
    /// and by which operation, if it was one.
    pub raised: Vec<(Dot, Option<Dot>)>,
}

impl Changed {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.raised.is_empty()
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
    /// A map's children, by key.
    Map(BTreeMap<Bytes, Reading>),
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
    /// A counter that never falls below 0.
    BoundedCounter(BoundedCounter),
    /// A map of values of any type.
    OrMap(OrMap),
    /// A map of counters.
    CounterMap(CounterMap),
    /// A map of registers.
    RegisterMap(RegisterMap),
    /// A map of sets.
    MultiMap(MultiMap),
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
            Value::BoundedCounter($view) => $result,
            Value::OrMap($view) => $result,
            Value::CounterMap($view) => $result,
            Value::RegisterMap($view) => $result,
            Value::MultiMap($view) => $result,
        }
    };
}

/// The same expression for two values of one type.
macro_rules! both {
    ($mine:expr, $theirs:expr, $a:ident, $b:ident => $result:expr) => {
        both!(@ $mine, $theirs, $a, $b, $result, GCounter PnCounter LwwRegister OrSet GSet Flag MvRegister Vote
            BoundedCounter OrMap CounterMap RegisterMap MultiMap)
    };
    (@ $mine:expr, $theirs:expr, $a:ident, $b:ident, $result:expr, $($ty:ident)*) => {
        match ($mine, $theirs) {
            $((Value::$ty($a), Value::$ty($b)) => $result,)*
            (mine, theirs) => panic!("a {} met a {}", theirs.ty(), mine.ty()),
        }
    };
}

fn read_map<'a>(children: impl Iterator<Item = (&'a [u8], &'a Value)>, replicas: &Replicas) -> Reading {
    Reading::Map(
        children
            .map(|(key, value)| (Bytes::copy_from_slice(key), value.read(replicas)))
            .collect(),
    )
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
            Type::BoundedCounter => Value::BoundedCounter(BoundedCounter::default()),
            Type::OrMap => Value::OrMap(OrMap::default()),
            Type::CounterMap => Value::CounterMap(CounterMap::default()),
            Type::RegisterMap => Value::RegisterMap(RegisterMap::default()),
            Type::MultiMap => Value::MultiMap(MultiMap::default()),
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
    /// [`MutationError`] if the type does not take it, or its author does not hold what it takes of a bounded counter.
    pub fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Result<Delta, MutationError> {
        mutation.check(self.ty())?;
        let parts = match self {
            Value::BoundedCounter(counter) => counter.try_parts(issuer, mutation)?,
            _ => self.parts(issuer, mutation),
        };
        Ok(Delta::from_parts(self.ty(), parts))
    }

    /// What a mutation that the type takes does.
    pub(crate) fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        each!(self, view => view.mutate(issuer, mutation))
    }

    /// The mutation with every type of a child that it leaves open filled in from what is here.
    ///
    /// # Errors
    ///
    /// [`MutationError`] if a child has another type than the one named, or is new and none is named, or if the type
    /// it has does not take the mutation.
    pub fn resolve(&self, mutation: &Mutation) -> Result<Mutation, MutationError> {
        let Mutation::Update {
            key,
            ty,
            mutation: inner,
        } = mutation
        else {
            mutation.check(self.ty())?;
            return Ok(mutation.clone());
        };
        let child = self.child(key);
        if let (Some(is), Some(asked)) = (child.map(Value::ty), *ty)
            && is != asked
        {
            let key = key.clone();
            return Err(MutationError::OtherChild { key, is, asked });
        }
        mutation.check(self.ty())?;
        let known = child.map(Value::ty).or(*ty).or(self.ty().child());
        let ty = known.ok_or_else(|| MutationError::NewChild { key: key.clone() })?;
        let absent = Value::new(ty);
        let inner = child.unwrap_or(&absent).resolve(inner)?;
        Ok(Mutation::Update {
            key: key.clone(),
            ty: Some(ty),
            mutation: Box::new(inner),
        })
    }

    /// The child of a map that shows under a key.
    pub fn child(&self, key: &[u8]) -> Option<&Value> {
        match self {
            Value::OrMap(map) => map.get(key),
            Value::CounterMap(map) => map.get(key),
            Value::RegisterMap(map) => map.get(key),
            Value::MultiMap(map) => map.get(key),
            _ => None,
        }
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
        both!(self, theirs, mine, theirs => view::join(mine, env, seen, theirs, theirs_seen))
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
        !Stored::is_empty(self)
    }

    /// What the live dot at this place carries; nothing if it is not alive there.
    pub fn payload(&self, path: &Path, dot: Dot) -> Option<Payload> {
        Stored::get(self, path, dot)
    }

    /// Every live dot with what it put, by path and then by dot.
    pub fn puts(&self) -> impl Iterator<Item = (Dot, Put)> + '_ {
        self.kept().filter(|(dot, put)| put.payload.is_live(*dot))
    }

    /// Everything that a copy of the value needs, by path and then by dot: the live dots, and the slots of counters that
    /// wait because an increment may be under way whose author had not seen their reset.
    pub fn kept(&self) -> impl Iterator<Item = (Dot, Put)> + '_ {
        Stored::entries(self).map(|(path, dot, payload)| (dot, Put { path, payload }))
    }

    /// What waits: see [`Value::kept`].
    pub fn waiting(&self) -> impl Iterator<Item = (Path, Dot)> + '_ {
        let waits = |(path, dot, payload): view::Entry| (!payload.is_live(dot)).then_some((path, dot));
        // Only counters wait, so nothing else is looked through.
        let all = self.ty().counts().then(|| Stored::entries(self));
        all.into_iter().flatten().filter_map(waits)
    }

    /// Whether a counter's slot waits at this place under this dot: see [`Value::kept`].
    pub fn waits(&self, path: &Path, dot: Dot) -> bool {
        Stored::waits(self, path, dot)
    }

    /// Lets go of what waits at this place under this dot; false if nothing does. It may go if the dot is of this
    /// replica and its epoch is live; or if the dot's replica has said, of that very epoch, that it has seen the
    /// reset, and this side has seen all that it had done when it said so; or if its epoch is over and all it did has
    /// been seen here.
    pub fn drop_waiting(&mut self, path: &Path, dot: Dot) -> bool {
        Stored::drop_waiting(self, path, dot)
    }

    /// Whether nothing is kept of it, so that it need not be stored.
    pub fn is_vacant(&self) -> bool {
        Stored::is_vacant(self)
    }

    /// Those of [`Value::kept`] that come after this place and dot, which need not be there: how a walk in pieces goes on.
    pub fn kept_after<'a>(&'a self, path: &'a Path, dot: Dot) -> impl Iterator<Item = (Dot, Put)> + 'a {
        Stored::entries_after(self, path, dot).map(|(path, dot, payload)| (dot, Put { path, payload }))
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
            Value::BoundedCounter(counter) => Reading::Count(counter.total()),
            Value::OrMap(map) => read_map(map.iter(), replicas),
            Value::CounterMap(map) => read_map(map.iter(), replicas),
            Value::RegisterMap(map) => read_map(map.iter(), replicas),
            Value::MultiMap(map) => read_map(map.iter(), replicas),
        }
    }

    /// The wrapping sum over all live dots of a keyed hash of path, full dot and payload. Kept by the joins, so
    /// this costs nothing; 0 without live dots.
    pub fn digest(&self) -> u64 {
        each!(self, view => view.digest())
    }

    /// The same sum, from the live dots: what [`Value::digest`] must be.
    pub fn digest_from_scratch(&self, env: &Env<'_>) -> u64 {
        let live = Stored::entries(self).filter(|(_, dot, payload)| payload.is_live(*dot));
        view::digest_of(env, &live.collect::<Vec<_>>())
    }
}

impl Stored for Value {
    fn is_empty(&self) -> bool {
        each!(self, view => view.store().is_empty())
    }

    fn is_vacant(&self) -> bool {
        each!(self, view => view.store().is_vacant())
    }

    fn entries(&self) -> Box<dyn Iterator<Item = view::Entry> + '_> {
        each!(self, view => view.store().entries())
    }

    fn entries_after<'a>(&'a self, path: &'a Path, dot: Dot) -> Box<dyn Iterator<Item = view::Entry> + 'a> {
        each!(self, view => view.store().entries_after(path, dot))
    }

    fn get(&self, path: &Path, dot: Dot) -> Option<Payload> {
        each!(self, view => view.store().get(path, dot))
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> view::Shift {
        each!(self, view => View::insert(view, path, dot, payload))
    }

    fn kill(&mut self, kill: &Kill, is_seen: bool) -> view::Shift {
        each!(self, view => view.store_mut().0.kill(kill, is_seen))
    }

    fn waits(&self, path: &Path, dot: Dot) -> bool {
        each!(self, view => view.store().waits(path, dot))
    }

    fn drop_waiting(&mut self, path: &Path, dot: Dot) -> bool {
        each!(self, view => view.store_mut().0.drop_waiting(path, dot))
    }

    fn join(&mut self, seen: &impl Seen, theirs: &Value, theirs_seen: &impl Seen) -> Diff<view::Entry> {
        both!(self, theirs, mine, theirs => mine.store_mut().0.join(seen, theirs.store(), theirs_seen))
    }
}

#[cfg(test)]
mod tests;
