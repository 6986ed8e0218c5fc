//! Who wants to know when a value changes. One mark per entity, never a queue: a watcher that is slow sees the latest
//! value, not every one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::wire::EntityId;

/// The entities that somebody watches.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    /// How many entities are watched, so that nobody pays where nobody watches. A watcher is counted before it
    /// reads, and a change is looked up after it was made: one of the two sees the other.
    watched: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    entities: BTreeMap<EntityId, watch::Sender<()>>,
}

impl Watchers {
    /// Whether anybody watches anything.
    pub(super) fn any(&self) -> bool {
        self.watched.load(Ordering::SeqCst) > 0
    }

    /// A mark that is set whenever this entity changes from now on; none once the node has stopped.
    pub(super) fn subscribe(&self, entity: &EntityId) -> Option<watch::Receiver<()>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        if let Some(sender) = state.entities.get(entity) {
            return Some(sender.subscribe());
        }
        let (sender, receiver) = watch::channel(());
        state.entities.insert(entity.clone(), sender);
        self.watched.store(state.entities.len(), Ordering::SeqCst);
        Some(receiver)
    }

    /// Takes a mark back, and forgets the entity with its last one.
    pub(super) fn unsubscribe(&self, entity: &EntityId, receiver: watch::Receiver<()>) {
        let mut state = self.lock();
        drop(receiver);
        if state
            .entities
            .get(entity)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            state.entities.remove(entity);
            self.watched.store(state.entities.len(), Ordering::SeqCst);
        }
    }

    /// These entities changed.
    pub(super) fn changed(&self, entities: &[EntityId]) {
        let state = self.lock();
        for entity in entities {
            if let Some(sender) = state.entities.get(entity) {
                sender.send_replace(());
            }
        }
    }

    /// Nothing changes any more: every watcher ends after what it has not seen yet.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.entities.clear();
        self.watched.store(0, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
