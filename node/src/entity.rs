//! A typed handle to one entity: mutators that wait for their level, getters that do not wait.
//!
//! Not here: the types' semantics (`anabranch::crdt`), atomic updates of several entities ([`Node::update`]).
//! Elements and values are bytes; a string or byte string stands for itself.

mod maps;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use anabranch_crdt::{
    BoundedCounter, Clock, Crdt, Flag, GCounter, GSet, LwwRegister, Mutation, MvRegister, NodeId, OrSet,
    PnCounter, Reading, ReplicaId, Vote,
};
use bytes::Bytes;

use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::engine::{Answer, Level, Op, Update};
use crate::error::{Error, ErrorKind};
use crate::node::{Node, Watch};
use crate::terms::millis;
use crate::wire::EntityId;

/// One entity of a node, seen as a `T`. Made by [`Node::entity`]; keeps the node running.
///
/// Each mutator is one update at the handle's level: local and durable by default. If the entity exists with another
/// type, mutators end with [`ErrorKind::WrongType`] and getters return `None`.
///
/// ```no_run
/// use std::time::Duration;
/// use anabranch::{LwwRegister, PnCounter};
///
/// # async fn example(node: anabranch::Node) -> Result<(), anabranch::Error> {
/// let stock = node.entity::<PnCounter>("stock", "umbrellas")?;
/// stock.increment(-2).await?;
///
/// let title = node.entity::<LwwRegister>("title", "home")?;
/// title.clone().with_level("majority".parse()?).with_timeout(Duration::from_secs(2)).set("Welcome").await?;
/// assert_eq!(title.get().flatten().as_deref(), Some(&b"Welcome"[..]));
/// # Ok(())
/// # }
/// ```
pub struct Entity<T> {
    node: Node,
    id: EntityId,
    level: Level,
    timeout_ms: u64,
    seen_as: PhantomData<fn() -> T>,
}

impl<T: Crdt> Entity<T> {
    pub(crate) fn new(node: Node, id: EntityId) -> Entity<T> {
        Entity {
            node,
            id,
            level: Level::default(),
            timeout_ms: TIMEOUT_MS_DEFAULT,
            seen_as: PhantomData,
        }
    }

    /// Its address.
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// This handle with another write level.
    #[must_use]
    pub fn with_level(self, level: Level) -> Entity<T> {
        Entity { level, ..self }
    }

    /// This handle with another limit to how long a mutator waits for its level; 10 s by default.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Entity<T> {
        Entity {
            timeout_ms: millis(timeout),
            ..self
        }
    }

    /// Follows it.
    pub fn watch(&self) -> Watch {
        self.node.watch(&self.id)
    }

    /// Makes it exist, empty (a counter: zero). Nothing happens if it exists.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn create(&self) -> Result<Answer, Error> {
        self.mutate(Mutation::Create).await
    }

    /// Deletes it, whole: see [`Mutation::Delete`]. Nothing happens if it does not exist.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn delete(&self) -> Result<Answer, Error> {
        self.mutate(Mutation::Delete).await
    }

    async fn mutate(&self, mutation: Mutation) -> Result<Answer, Error> {
        let op = Op {
            entity: self.id.clone(),
            ty: Some(T::TYPE),
            mutation,
        };
        let (level, timeout_ms) = (self.level, self.timeout_ms);
        self.node
            .update(Update {
                ops: vec![op],
                level,
                key: None,
                after: None,
                timeout_ms,
            })
            .await
    }

    fn reading(&self) -> Option<Reading> {
        self.node
            .read(&self.id)
            .filter(|(ty, _)| *ty == T::TYPE)
            .map(|(_, reading)| reading)
    }

    fn count(&self) -> Option<i128> {
        match self.reading()? {
            Reading::Count(count) => Some(count),
            _ => None,
        }
    }
}

impl Entity<PnCounter> {
    /// Adds to the counter; a negative number subtracts. Adding 0 creates it.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn increment(&self, by: i64) -> Result<Answer, Error> {
        self.mutate(Mutation::Increment(by)).await
    }

    /// The count, if it exists.
    pub fn get(&self) -> Option<i128> {
        self.count()
    }
}

impl Entity<GCounter> {
    /// Adds to the counter. Adding 0 creates it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] above [`i64::MAX`]; for the rest see [`Node::update`].
    pub async fn increment(&self, by: u64) -> Result<Answer, Error> {
        let by = i64::try_from(by).map_err(|_| {
            let what = format!(
                "one increment adds at most {}, this one {by}; nothing was changed",
                i64::MAX
            );
            Error::new(ErrorKind::Invalid, what)
        })?;
        self.mutate(Mutation::Increment(by)).await
    }

    /// The count, if it exists.
    pub fn get(&self) -> Option<i128> {
        self.count()
    }
}

impl Entity<OrSet> {
    /// Adds an element. An add wins over a removal that has not seen it.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn add(&self, element: impl AsRef<[u8]>) -> Result<Answer, Error> {
        self.mutate(Mutation::Add(vec![bytes(element)])).await
    }

    /// Adds elements in one step.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn add_all<E: AsRef<[u8]>>(
        &self,
        elements: impl IntoIterator<Item = E>,
    ) -> Result<Answer, Error> {
        let elements = elements.into_iter().map(bytes).collect();
        self.mutate(Mutation::Add(elements)).await
    }

    /// Removes an element. Nothing happens if it is not there.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn remove(&self, element: impl AsRef<[u8]>) -> Result<Answer, Error> {
        self.mutate(Mutation::Remove(vec![bytes(element)])).await
    }

    /// Removes all elements that this node sees; the set stays, empty.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn clear(&self) -> Result<Answer, Error> {
        self.mutate(Mutation::Clear).await
    }

    /// The elements, sorted by bytes, if the set exists.
    pub fn get(&self) -> Option<Vec<Bytes>> {
        match self.reading()? {
            Reading::Elements(elements) => Some(elements),
            _ => None,
        }
    }

    /// Whether the element is in it.
    pub fn contains(&self, element: impl AsRef<[u8]>) -> bool {
        let element = element.as_ref();
        self.get()
            .is_some_and(|all| all.binary_search_by(|e| e.as_ref().cmp(element)).is_ok())
    }
}

impl Entity<LwwRegister> {
    /// Sets the value. It supersedes every value seen here.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn set(&self, value: impl AsRef<[u8]>) -> Result<Answer, Error> {
        self.mutate(Mutation::Set {
            value: bytes(value),
            clock: Clock::Default,
        })
        .await
    }

    /// Sets the value under another clock than the default: see [`Clock`].
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn set_with_clock(&self, value: impl AsRef<[u8]>, clock: Clock) -> Result<Answer, Error> {
        self.mutate(Mutation::Set {
            value: bytes(value),
            clock,
        })
        .await
    }

    /// The value, if the register exists; the inner `None` is one that was created and never set.
    pub fn get(&self) -> Option<Option<Bytes>> {
        match self.reading()? {
            Reading::Register(value) => Some(value),
            _ => None,
        }
    }
}

impl Entity<GSet> {
    /// Adds an element. Nothing happens if it is there.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn add(&self, element: impl AsRef<[u8]>) -> Result<Answer, Error> {
        self.mutate(Mutation::Add(vec![bytes(element)])).await
    }

    /// The elements, sorted by bytes, if the set exists.
    pub fn get(&self) -> Option<Vec<Bytes>> {
        match self.reading()? {
            Reading::Elements(elements) => Some(elements),
            _ => None,
        }
    }
}

impl Entity<Flag> {
    /// Enables the flag. It wins over a disabling that has not seen it.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn enable(&self) -> Result<Answer, Error> {
        self.mutate(Mutation::Enable).await
    }

    /// Disables the flag. Nothing happens if it is not enabled.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn disable(&self) -> Result<Answer, Error> {
        self.mutate(Mutation::Disable).await
    }

    /// Whether it is enabled, if it exists.
    pub fn get(&self) -> Option<bool> {
        match self.reading()? {
            Reading::Flag(is_enabled) => Some(is_enabled),
            _ => None,
        }
    }
}

impl Entity<MvRegister> {
    /// Sets the value. It supersedes every value seen here.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn set(&self, value: impl AsRef<[u8]>) -> Result<Answer, Error> {
        self.mutate(Mutation::Set {
            value: bytes(value),
            clock: Clock::Default,
        })
        .await
    }

    /// All concurrent values, sorted by bytes, if the register exists; none if it was never set.
    pub fn get(&self) -> Option<Vec<Bytes>> {
        match self.reading()? {
            Reading::Values(values) => Some(values),
            _ => None,
        }
    }
}

impl Entity<BoundedCounter> {
    /// Adds to the counter, and to what this node may take away.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn add(&self, amount: u32) -> Result<Answer, Error> {
        self.mutate(Mutation::Increment(amount.into())).await
    }

    /// Takes away from the counter.
    ///
    /// # Errors
    /// See [`Node::update`]; [`ErrorKind::Rights`](crate::ErrorKind::Rights) if this node does not hold so much.
    pub async fn take(&self, amount: u32) -> Result<Answer, Error> {
        self.mutate(Mutation::Increment(-i64::from(amount))).await
    }

    /// Hands units that this node may take away over to another node's current run: see [`Node::replica_of`].
    ///
    /// # Errors
    /// See [`Node::update`]; [`ErrorKind::Rights`](crate::ErrorKind::Rights) if this node does not hold so much;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the other one is no member of the cluster, or no such run of it is known
    /// here: what it was handed would be lost.
    pub async fn transfer(&self, to: ReplicaId, amount: u64) -> Result<Answer, Error> {
        self.mutate(Mutation::Transfer { to, amount }).await
    }

    /// The count, if the counter exists. Never below 0; this node alone may be able to take away less.
    pub fn get(&self) -> Option<i128> {
        match self.reading()? {
            Reading::Count(n) => Some(n),
            _ => None,
        }
    }
}

impl Entity<Vote> {
    /// Casts this node's ballot, in place of an earlier one.
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn vote(&self, yes: bool) -> Result<Answer, Error> {
        self.mutate(Mutation::Vote(yes)).await
    }

    /// Every node's ballot, if the vote exists. Which of them count is for the caller to decide.
    pub fn get(&self) -> Option<BTreeMap<NodeId, bool>> {
        match self.reading()? {
            Reading::Ballots(ballots) => Some(ballots),
            _ => None,
        }
    }
}

impl<T> Clone for Entity<T> {
    fn clone(&self) -> Entity<T> {
        let Entity {
            node,
            id,
            level,
            timeout_ms,
            seen_as,
        } = self;
        Entity {
            node: node.clone(),
            id: id.clone(),
            level: *level,
            timeout_ms: *timeout_ms,
            seen_as: *seen_as,
        }
    }
}

impl<T> fmt::Debug for Entity<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entity")
            .field("id", &self.id)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

fn bytes(value: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(value.as_ref())
}
