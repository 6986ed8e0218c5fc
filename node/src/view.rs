//! What a function sees of its entity.

use std::sync::Arc;

use anabranch_crdt::{BoundedCounter, Epoch, Reading, ReplicaId, Replicas, Type, Value};

use crate::wire::{EntityId, ShardId};

/// An entity at one moment, as one type: what a function sees of it. Taking one and keeping it costs a reference; a change of
/// the entity copies it while somebody keeps a view of it.
///
/// ```
/// use anabranch::engine::{Engine, EngineConfig, Limits, Now};
/// use anabranch::{EntityId, NodeId, Type};
///
/// let engine = Engine::new(
///     EngineConfig {
///         cluster: "docs".into(),
///         node: NodeId(1),
///         shards: 4,
///         members: vec![NodeId(1)],
///         kinds: Default::default(),
///         limits: Limits::default(),
///     },
///     Now::default(),
/// );
/// let view = engine.view(&EntityId::new("cart", "alice")?, Type::CounterMap)?;
/// assert_eq!(view.read(), None); // there is no such entity
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) entity: EntityId,
    /// Where the entity is: the same at every node.
    pub(crate) shard: ShardId,
    pub(crate) ty: Option<Type>,
    pub(crate) value: Option<Arc<Value>>,
    pub(crate) replicas: Arc<Replicas>,
    /// Of a bounded counter: this node's run, and from which earlier one on what they held of it is its own. Few have any.
    pub(crate) heir: Option<Box<(ReplicaId, Epoch)>>,
}

impl View {
    /// Whose view it is.
    pub fn entity(&self) -> &EntityId {
        &self.entity
    }

    /// The type that it is seen as; none if there is no such entity and nothing says what one of its kind would be.
    pub fn ty(&self) -> Option<Type> {
        self.ty
    }

    /// Its value, if it exists.
    pub fn value(&self) -> Option<&Value> {
        self.value.as_deref()
    }

    /// What gives the replica indices in its value their meaning.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// How much of a bounded counter a run of a node may take away; nothing of what is none.
    pub fn held(&self, run: ReplicaId) -> u64 {
        let Some(Value::BoundedCounter(counter)) = self.value() else {
            return 0;
        };
        held(counter, &self.replicas, self.heir.as_deref(), run)
    }

    /// What a user sees of it, if it exists.
    pub fn read(&self) -> Option<Reading> {
        Some(self.value()?.read(&self.replicas))
    }

    /// This view; what stays shows nothing of the entity, and keeps nobody who changes it from doing so in place.
    pub(crate) fn take(&mut self) -> View {
        let value = self.value.take();
        View {
            value,
            ..self.clone()
        }
    }

    /// Whether nothing was done to the entity between the two: never true where something was.
    pub fn is_same(&self, other: &View) -> bool {
        let is_same = match (&self.value, &other.value) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        };
        is_same && self.entity == other.entity && self.ty == other.ty
    }
}

/// How much of a bounded counter a run of a node may take away: the heir with what it has inherited.
pub(crate) fn held(
    counter: &BoundedCounter,
    replicas: &Replicas,
    heir: Option<&(ReplicaId, Epoch)>,
    run: ReplicaId,
) -> u64 {
    let first = heir.filter(|(heir, _)| *heir == run).map(|(_, first)| *first);
    u64::try_from(counter.held(replicas, run, first)).unwrap_or(u64::MAX)
}

/// As [`View::is_same`].
impl PartialEq for View {
    fn eq(&self, other: &View) -> bool {
        self.is_same(other)
    }
}

impl Eq for View {}
