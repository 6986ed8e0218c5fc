//! A value of any type, and the only ways to read and change it.
//!
//! Not here: what each type does (a file each), and what has been seen: a value keeps only its live dots, the
//! context comes from outside.
//!
//! Contract: [`Value::mutate`] changes nothing and returns a delta; only [`Value::join_delta`] and [`Value::join`]
//! change a value, locally and remotely alike.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::boundedcounter::BoundedCounter;
use crate::context::{Context, Seen};
use crate::delta::{Delta, Kill, Part, Path, Payload, Put};
use crate::digest::HashKey;
use crate::dot::{Dot, SEQ_MAX};
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
use crate::planted;
use crate::pncounter::PnCounter;
use crate::replicas::Replicas;
use crate::store::Diff;
use crate::view::{self, Stored, View};
use crate::vote::Vote;

/// What a join needs to know beside the states: the meaning of replica indices and the key of the digest. A value
/// is joined under the same two all its life.
///
/// ```
/// use anabranch_crdt::{Env, HashKey, Mutation, Type, Value};
/// # use anabranch_crdt::{Epoch, Issuer, NodeId, ReplicaId, Replicas};
///
/// # let mut replicas = Replicas::new();
/// # let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
/// # let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
/// let delta = Value::new(Type::Flag).mutate(&issuer, &Mutation::Enable)?;
/// let [one, other] = [HashKey([1; 16]), HashKey([2; 16])].map(|key| {
///     let mut flag = Value::new(Type::Flag);
///     flag.join_delta(&Env { replicas: &replicas, key: &key }, &(), &delta);
///     flag.digest()
/// });
/// assert_ne!(one, other);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Env<'a> {
    /// The table that gives replica indices their meaning.
    pub replicas: &'a Replicas,
    /// The key of the digest.
    pub key: &'a HashKey,
}

/// The dots that a join really changed.
///
/// ```
/// use anabranch_crdt::{Changed, Dot, Mutation, ReplicaIx};
/// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// # let mut here = Causal::new(Type::OrSet);
/// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
/// let changed = here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
/// let [first, second] = [1, 2].map(|seq| Dot::new(ReplicaIx(0), seq));
/// assert_eq!(changed, Changed { added: vec![second], removed: vec![first], raised: vec![] });
/// # Ok::<(), CausalError>(())
/// ```
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
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::Flag);
    /// let op = here.mutate(me, 0, &Mutation::Enable)?;
    /// assert!(!here.join_op(&op)?.is_empty());
    /// assert!(here.join_op(&op)?.is_empty()); // it was here
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.raised.is_empty()
    }
}

/// What a user sees of a value.
///
/// ```
/// use anabranch_crdt::{Causal, Clock, Mutation, Reading, Type};
/// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let mut here = Causal::new(Type::LwwRegister);
/// here.join_op(&here.mutate(me, 0, &Mutation::Create)?)?;
/// assert_eq!(here.read(), Reading::Register(None));
/// here.join_op(&here.mutate(me, 1, &Mutation::Set { value: "x".into(), clock: Clock::Default })?)?;
/// assert_eq!(here.read(), Reading::Register(Some("x".into())));
/// # Ok::<(), CausalError>(())
/// ```
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
///     let issuer = Issuer { replicas: &replicas, me, next_seq: seen.get(me) + 1, stamp: 0, inherits: None };
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
    ///
    /// ```
    /// use anabranch_crdt::{Type, Value};
    ///
    /// let set = Value::new(Type::OrSet);
    /// assert_eq!((set.ty(), set.exists()), (Type::OrSet, false));
    /// ```
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

    /// The value that keeps these: what [`Value::kept`] gave of one.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Env, HashKey, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// let env = Env { replicas: here.replicas(), key: &HashKey([0; 16]) };
    /// let copy = Value::from_puts(&env, Type::OrSet, here.value().kept());
    /// assert_eq!(copy.read(here.replicas()), here.read());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn from_puts(env: &Env<'_>, ty: Type, puts: impl IntoIterator<Item = (Dot, Put)>) -> Value {
        let part = |(dot, put)| Part {
            dot,
            put: Some(put),
            kills: Vec::new(),
        };
        let mut value = Value::new(ty);
        let parts = puts.into_iter().map(part).collect();
        value.join_delta(env, &(), &Delta::from_parts(ty, parts));
        value
    }

    /// Its type.
    ///
    /// ```
    /// use anabranch_crdt::{Type, Value};
    ///
    /// for ty in Type::ALL {
    ///     assert_eq!(Value::new(ty).ty(), ty);
    /// }
    /// ```
    pub fn ty(&self) -> Type {
        fn of<V: View>(_: &V) -> Type {
            V::TYPE
        }
        each!(self, view => of(view))
    }

    /// What the mutation would do. An empty delta means that it would change nothing: no dot is used.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Type, Value};
    /// # use anabranch_crdt::{Env, Epoch, HashKey, Issuer, NodeId, ReplicaId, Replicas};
    ///
    /// # let mut replicas = Replicas::new();
    /// # let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// # let env = Env { replicas: &replicas, key: &HashKey([7; 16]) };
    /// # let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
    /// let set = Value::new(Type::OrSet);
    /// assert_eq!(set.mutate(&issuer, &Mutation::Add(vec!["x".into()]))?.parts().len(), 1);
    /// assert!(set.mutate(&issuer, &Mutation::Remove(vec!["x".into()]))?.is_empty()); // it is not there
    /// assert!(set.mutate(&issuer, &Mutation::Enable).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`MutationError`] if the type does not take it, or its author does not hold what it takes of a bounded counter.
    pub fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Result<Delta, MutationError> {
        mutation.check(self.ty())?;
        if issuer.next_seq.saturating_add(mutation.dots_max()) > SEQ_MAX + 1 {
            return Err(MutationError::Exhausted);
        }
        let parts = match (self, mutation) {
            (_, Mutation::Delete) => self.delete(issuer),
            (Value::BoundedCounter(counter), _) => counter.try_parts(issuer, mutation)?,
            _ => self.parts(issuer, mutation),
        };
        Ok(Delta::from_parts(self.ty(), parts))
    }

    /// What a mutation that the type takes does.
    pub(crate) fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        each!(self, view => view.mutate(issuer, mutation))
    }

    /// One dot that puts nothing and kills everything; none if nothing is there.
    fn delete(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        if !self.exists() {
            return Vec::new();
        }
        vec![Part {
            dot: issuer.dot(0),
            put: None,
            kills: self.kills().collect(),
        }]
    }

    /// The removal of every live dot, with what it had reached where it counts.
    pub(crate) fn kills(&self) -> impl Iterator<Item = Kill> + '_ {
        self.puts().map(|(dot, Put { path, payload })| {
            let reset = match payload {
                Payload::Count { totals, .. } => planted!("removal_keeps_counters", None, Some(totals)),
                _ => None,
            };
            Kill { path, dot, reset }
        })
    }

    /// The mutation with every type of a child that it leaves open filled in from what is here.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, MutationError, Type, Value};
    ///
    /// let update = |ty| Mutation::Update { key: "k".into(), ty, mutation: Box::new(Mutation::Create) };
    /// let resolved = Value::new(Type::CounterMap).resolve(&update(None))?;
    /// assert_eq!(resolved, update(Some(Type::PnCounter)));
    /// let refused = Value::new(Type::OrMap).resolve(&update(None)); // which type is the child to be of?
    /// assert_eq!(refused, Err(MutationError::NewChild { key: "k".into() }));
    /// # Ok::<(), MutationError>(())
    /// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Type, Value};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrMap);
    /// let enable = Mutation::Update {
    ///     key: "on".into(),
    ///     ty: Some(Type::Flag),
    ///     mutation: Box::new(Mutation::Enable),
    /// };
    /// here.join_op(&here.mutate(me, 0, &enable)?)?;
    /// assert!(matches!(here.value().child(b"on"), Some(Value::Flag(flag)) if flag.is_enabled()));
    /// assert_eq!(here.value().child(b"off"), None);
    /// # Ok::<(), CausalError>(())
    /// ```
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
    /// ```
    /// use anabranch_crdt::{Dot, Mutation, Reading, Type, Value};
    /// # use anabranch_crdt::{Env, Epoch, HashKey, Issuer, NodeId, ReplicaId, Replicas};
    ///
    /// # let mut replicas = Replicas::new();
    /// # let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// # let env = Env { replicas: &replicas, key: &HashKey([7; 16]) };
    /// # let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
    /// let mut flag = Value::new(Type::Flag);
    /// let delta = flag.mutate(&issuer, &Mutation::Enable)?;
    /// assert_eq!(flag.join_delta(&env, &(), &delta).added, [Dot::new(me, 1)]);
    /// assert!(flag.join_delta(&env, &delta.context(), &delta).is_empty()); // it was seen
    /// assert_eq!(flag.read(&replicas), Reading::Flag(true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// use anabranch_crdt::{Mutation, Type, Value};
    /// # use anabranch_crdt::{Env, Epoch, HashKey, Issuer, NodeId, ReplicaId, Replicas};
    ///
    /// # let mut replicas = Replicas::new();
    /// # let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// # let env = Env { replicas: &replicas, key: &HashKey([7; 16]) };
    /// # let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
    /// let (mut mine, mut theirs) = (Value::new(Type::Flag), Value::new(Type::Flag));
    /// let delta = theirs.mutate(&issuer, &Mutation::Enable)?;
    /// theirs.join_delta(&env, &(), &delta);
    /// mine.join(&env, &(), &theirs, &delta.context());
    /// assert_eq!(mine, theirs);
    /// // One that has seen the dot and lacks it has removed it.
    /// mine.join(&env, &delta.context(), &Value::new(Type::Flag), &delta.context());
    /// assert!(!mine.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, Mutation, Type, Value, VersionVector};
    /// # use anabranch_crdt::{Env, Epoch, HashKey, Issuer, NodeId, ReplicaId, Replicas};
    ///
    /// # let mut replicas = Replicas::new();
    /// # let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// # let env = Env { replicas: &replicas, key: &HashKey([7; 16]) };
    /// # let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
    /// let mut set = Value::new(Type::OrSet);
    /// let delta = set.mutate(&issuer, &Mutation::Add(vec!["x".into(), "y".into()]))?;
    /// set.join_delta(&env, &(), &delta);
    /// let theirs = VersionVector::from_iter([(me, 1)]); // they have seen "x"
    /// let fragment = set.since(&delta.context(), &theirs);
    /// assert_eq!(fragment.claims(), &Context::from_iter([Dot::new(me, 2)]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn since(&self, seen: &Context, theirs: &impl Seen) -> Fragment {
        each!(self, view => Fragment::since(self.ty(), view, seen, theirs))
    }

    /// Joins a part of another state; `seen` is what this side has seen, and has the fragment's claims added by the
    /// caller afterwards. The cost follows the fragment, unless it claims dots this side has seen: then every live
    /// dot here is looked at once.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, Mutation, Type, Value};
    /// # use anabranch_crdt::{Env, Epoch, HashKey, Issuer, NodeId, ReplicaId, Replicas};
    ///
    /// # let mut replicas = Replicas::new();
    /// # let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// # let env = Env { replicas: &replicas, key: &HashKey([7; 16]) };
    /// # let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
    /// let (mut mine, mut theirs) = (Value::new(Type::Flag), Value::new(Type::Flag));
    /// let delta = theirs.mutate(&issuer, &Mutation::Enable)?;
    /// theirs.join_delta(&env, &(), &delta);
    /// let fragment = theirs.since(&delta.context(), &());
    /// assert_eq!(mine.join_fragment(&env, &Context::new(), &fragment).added, [Dot::new(me, 1)]);
    /// assert_eq!(mine, theirs);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Reading};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// assert!(!here.value().exists());
    /// here.join_op(&here.mutate(me, 0, &Mutation::Create)?)?;
    /// assert!(here.value().exists());
    /// assert_eq!(here.read(), Reading::Elements(vec![]));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn exists(&self) -> bool {
        !Stored::is_empty(self)
    }

    /// What the live dot at this place carries; nothing if it is not alive there.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Mutation, Path, Payload, ReplicaIx};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// let (place, dot) = (Path::Element("x".into()), Dot::new(ReplicaIx(0), 1));
    /// assert_eq!(here.value().payload(&place, dot), Some(Payload::Present));
    /// assert_eq!(here.value().payload(&Path::Root, dot), None);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn payload(&self, path: &Path, dot: Dot) -> Option<Payload> {
        Stored::get(self, path, dot)
    }

    /// Every live dot with what it put, by path and then by dot.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Path};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["x".into()]))?)?;
    /// let live: Vec<_> = here.value().puts().map(|(dot, put)| (put.path, dot.seq())).collect();
    /// assert_eq!(live, [(Path::Root, 3), (Path::Element("y".into()), 2)]);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn puts(&self) -> impl Iterator<Item = (Dot, Put)> + '_ {
        self.kept().filter(|(dot, put)| put.payload.is_live(*dot))
    }

    /// Everything that a copy of the value needs, by path and then by dot: the live dots, and the slots of counters that
    /// wait because an increment may be under way whose author had not seen their reset.
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::CounterMap);
    /// let hit = Mutation::Update { key: "hits".into(), ty: None, mutation: Box::new(Mutation::Increment(1)) };
    /// here.join_op(&here.mutate(me, 0, &hit)?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["hits".into()]))?)?;
    /// assert_eq!(here.value().puts().count(), 1); // the mark of the removal
    /// assert_eq!(here.value().kept().count(), 2); // and the slot of the counter
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn kept(&self) -> impl Iterator<Item = (Dot, Put)> + '_ {
        Stored::entries(self).map(|(path, dot, payload)| (dot, Put { path, payload }))
    }

    /// What waits: see [`Value::kept`].
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Mutation, Path, ReplicaIx, Type};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::CounterMap);
    /// let hit = Mutation::Update { key: "hits".into(), ty: None, mutation: Box::new(Mutation::Increment(1)) };
    /// here.join_op(&here.mutate(me, 0, &hit)?)?;
    /// assert_eq!(here.value().waiting().next(), None);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["hits".into()]))?)?;
    /// let slot = Path::Root.within("hits".into(), Type::PnCounter);
    /// assert_eq!(here.value().waiting().next(), Some((slot, Dot::new(ReplicaIx(0), 1))));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn waiting(&self) -> impl Iterator<Item = (Path, Dot)> + '_ {
        let waits = |(path, dot, payload): view::Entry| (!payload.is_live(dot)).then_some((path, dot));
        // Only counters wait, so nothing else is looked through.
        let all = self.ty().counts().then(|| Stored::entries(self));
        all.into_iter().flatten().filter_map(waits)
    }

    /// Whether a counter's slot waits at this place under this dot: see [`Value::kept`].
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Mutation, Path, ReplicaIx, Type};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::CounterMap);
    /// let hit = Mutation::Update { key: "hits".into(), ty: None, mutation: Box::new(Mutation::Increment(1)) };
    /// let (slot, dot) = (Path::Root.within("hits".into(), Type::PnCounter), Dot::new(ReplicaIx(0), 1));
    /// here.join_op(&here.mutate(me, 0, &hit)?)?;
    /// assert!(!here.value().waits(&slot, dot));
    /// here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["hits".into()]))?)?;
    /// assert!(here.value().waits(&slot, dot));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn waits(&self, path: &Path, dot: Dot) -> bool {
        Stored::waits(self, path, dot)
    }

    /// Lets go of what waits at this place under this dot; false if nothing does. It may go if the dot is of this
    /// replica and its epoch is live; or if the dot's replica has said, of that very epoch, that it has seen the
    /// reset, and this side has seen all that it had done when it said so; or if its epoch is over and all it did has
    /// been seen here.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Path, ReplicaIx, Type};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, Mutation, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::CounterMap);
    /// # let hit = Mutation::Update { key: "hits".into(), ty: None, mutation: Box::new(Mutation::Increment(1)) };
    /// # here.join_op(&here.mutate(me, 0, &hit)?)?;
    /// # here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["hits".into()]))?)?;
    /// // A map of counters from which "hits" was removed.
    /// let mut map = here.value().clone();
    /// let (slot, dot) = (Path::Root.within("hits".into(), Type::PnCounter), Dot::new(ReplicaIx(0), 1));
    /// assert!(map.drop_waiting(&slot, dot));
    /// assert!(!map.drop_waiting(&slot, dot)); // it has gone
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn drop_waiting(&mut self, path: &Path, dot: Dot) -> bool {
        Stored::drop_waiting(self, path, dot)
    }

    /// Whether nothing is kept of it, so that it need not be stored.
    ///
    /// ```
    /// use anabranch_crdt::{Delta, Dot, Kill, Mutation, Part, Path, Totals, Type, Value};
    /// # use anabranch_crdt::{Env, Epoch, HashKey, Issuer, NodeId, ReplicaId, Replicas};
    ///
    /// # let mut replicas = Replicas::new();
    /// # let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// # let env = Env { replicas: &replicas, key: &HashKey([7; 16]) };
    /// # let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
    /// let mut counter = Value::new(Type::GCounter);
    /// let add = counter.mutate(&issuer, &Mutation::Increment(5))?;
    /// counter.join_delta(&env, &(), &add);
    /// // Someone deletes it: an increment that has not seen that may still come.
    /// let reset = Some(Totals { plus: 5, minus: 0 });
    /// let kill = Kill { path: Path::Root, dot: Dot::new(me, 1), reset };
    /// let delete = Part { dot: Dot::new(me, 2), put: None, kills: vec![kill] };
    /// counter.join_delta(&env, &add.context(), &Delta::from_parts(Type::GCounter, vec![delete]));
    /// assert!(!counter.exists() && !counter.is_vacant());
    /// counter.drop_waiting(&Path::Root, Dot::new(me, 1));
    /// assert!(counter.is_vacant());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_vacant(&self) -> bool {
        Stored::is_vacant(self)
    }

    /// Those of [`Value::kept`] that come after this place and dot, which need not be there: how a walk in pieces goes on.
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Mutation, Path, ReplicaIx};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// let (place, dot) = (Path::Element("x".into()), Dot::new(ReplicaIx(0), 1));
    /// let rest: Vec<Path> = here.value().kept_after(&place, dot).map(|(_, put)| put.path).collect();
    /// assert_eq!(rest, [Path::Element("y".into())]);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn kept_after<'a>(&'a self, path: &'a Path, dot: Dot) -> impl Iterator<Item = (Dot, Put)> + 'a {
        Stored::entries_after(self, path, dot).map(|(path, dot, payload)| (dot, Put { path, payload }))
    }

    /// What a user sees.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, NodeId, Reading};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::Vote);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Vote(true))?)?;
    /// let ballots = [(NodeId(1), true)].into();
    /// assert_eq!(here.value().read(here.replicas()), Reading::Ballots(ballots));
    /// # Ok::<(), CausalError>(())
    /// ```
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
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// # let (mut here, mut there) = (Causal::new(Type::GSet), Causal::new(Type::GSet));
    /// here.join_op(&here.mutate(a, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// there.join_op(&there.mutate(b, 0, &Mutation::Add(vec!["y".into()]))?)?;
    /// assert_ne!(here.value().digest(), there.value().digest());
    /// here.join(&there)?;
    /// there.join(&here)?;
    /// assert_eq!(here.value().digest(), there.value().digest());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn digest(&self) -> u64 {
        each!(self, view => view.digest())
    }

    /// The same sum, from the live dots: what [`Value::digest`] must be.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Type, Value};
    /// # use anabranch_crdt::{Env, Epoch, HashKey, Issuer, NodeId, ReplicaId, Replicas};
    ///
    /// # let mut replicas = Replicas::new();
    /// # let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
    /// # let env = Env { replicas: &replicas, key: &HashKey([7; 16]) };
    /// # let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
    /// let mut flag = Value::new(Type::Flag);
    /// let delta = flag.mutate(&issuer, &Mutation::Enable)?;
    /// flag.join_delta(&env, &(), &delta);
    /// assert_ne!(flag.digest_from_scratch(&env), 0);
    /// assert_eq!(flag.digest_from_scratch(&env), flag.digest());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
