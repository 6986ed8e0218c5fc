//! An entity that somebody follows by asking its function again and again.
//!
//! Contract: however many follow one entity, a few of them ask at a time: the room that its session has is its callers'.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::stream::stopped;
use crate::driver::Mark;
use crate::driver::shared::Shared;
use crate::error::Error;
use crate::wire::EntityId;

/// So many of those who follow an entity ask its function at a time.
const ASKING_MAX: usize = 4;

/// Whose turn it is, by entity. As many as are followed, which streams bound.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<EntityId, Weak<Semaphore>>>);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EntityId, Weak<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, entity: &EntityId) -> Arc<Semaphore> {
        let mut turns = self.lock();
        if let Some(there) = turns.get(entity).and_then(Weak::upgrade) {
            return there;
        }
        let new = Arc::new(Semaphore::new(ASKING_MAX));
        turns.insert(entity.clone(), Arc::downgrade(&new));
        new
    }

    /// One who follows it does so no more; with the last one it is forgotten.
    fn give_back(&self, entity: &EntityId, turn: Arc<Semaphore>) {
        let mut turns = self.lock();
        drop(turn);
        if turns.get(entity).is_some_and(|turn| turn.strong_count() == 0) {
            turns.remove(entity);
        }
    }
}

/// Until it is dropped.
pub(super) struct Followed {
    shared: Arc<Shared>,
    entity: EntityId,
    held: Option<(Mark, Arc<Semaphore>)>,
}

impl Followed {
    /// None once the node has stopped.
    pub(super) fn new(shared: &Arc<Shared>, entity: &EntityId) -> Option<Followed> {
        let mark = shared.subscribe(entity)?;
        let turn = shared.functions.foreign.turns.of(entity);
        Some(Followed {
            shared: Arc::clone(shared),
            entity: entity.clone(),
            held: Some((mark, turn)),
        })
    }

    fn held(&mut self) -> &mut (Mark, Arc<Semaphore>) {
        let Some(held) = &mut self.held else {
            unreachable!("it is held until it is dropped");
        };
        held
    }

    /// Waits for its turn to ask. What the entity becomes from then on is a change that it has not asked for.
    pub(super) async fn turn(&mut self) -> Result<SemaphorePermit<'_>, Error> {
        let (mark, turn) = self.held();
        let permit = turn.acquire().await.map_err(|_| stopped())?;
        mark.mark_unchanged();
        Ok(permit)
    }

    /// Waits until the entity has changed since it was last this one's turn.
    pub(super) async fn changed(&mut self) -> Result<(), Error> {
        self.held().0.changed().await.map_err(|_| stopped())
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some((mark, turn)) = self.held.take() {
            self.shared.unsubscribe(&self.entity, mark);
            self.shared.functions.foreign.turns.give_back(&self.entity, turn);
        }
    }
}
