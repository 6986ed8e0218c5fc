//! Following one entity.

use std::fmt;
use std::sync::Arc;

use anabranch_crdt::{Reading, Type};

use crate::driver::{Mark, Shared};
use crate::wire::EntityId;

/// Follows one entity: its value now, then each time it has changed. There is no queue behind it: who comes late gets
/// the latest value once.
///
/// ```no_run
/// # async fn example(node: anabranch::Node, id: anabranch::EntityId) {
/// let mut watch = node.watch(&id);
/// while let Some(value) = watch.next().await {
///     match value {
///         Some((ty, reading)) => println!("{ty:?}: {reading:?}"),
///         None => println!("there is no {id}"),
///     }
/// }
/// // The node has stopped.
/// # }
/// ```
pub struct Watch {
    shared: Arc<Shared>,
    entity: EntityId,
    /// Set whenever the entity changes; `None` if the node had stopped before.
    mark: Option<Mark>,
    /// What was returned last, once something was.
    last: Option<Option<(Type, Reading)>>,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, entity: EntityId) -> Watch {
        let mark = shared.subscribe(&entity);
        Watch {
            shared,
            entity,
            mark,
            last: None,
        }
    }

    /// Which entity it follows.
    pub fn entity(&self) -> &EntityId {
        &self.entity
    }

    /// The value now, the first time; afterwards waits until it differs from the one returned last. The inner `None`:
    /// there is no such entity (any more). The outer one: the node has stopped and nothing will change.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Option<(Type, Reading)>> {
        loop {
            let mark = self.mark.as_mut()?;
            if self.last.is_some() {
                mark.changed().await.ok()?;
            } else {
                mark.mark_unchanged();
            }
            // The mark is down before the value is read, so a change in between sets it again.
            let value = self.shared.read(&self.entity);
            if self.last.as_ref() != Some(&value) {
                self.last = Some(value.clone());
                return Some(value);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take() {
            self.shared.unsubscribe(&self.entity, mark);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("entity", &self.entity)
            .finish_non_exhaustive()
    }
}
