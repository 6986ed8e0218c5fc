//! What a node's triggers are about, and what they have not looked at yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::changes::Trigger;
use super::errand::Ended;
use super::function::SCHEDULE;
use super::kept::KEPT;
use crate::function::Function;
use crate::wire::EntityId;

/// Entities that have changed and were not looked at yet; beyond it everything is looked at.
const NOTED_MAX: usize = 100_000;

/// Of what the functions of a node want to be told, and whether schedules are looked after there.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// Kinds of which changes are wanted; none where there are no functions.
    kinds: Vec<String>,
    pub(super) triggers: Vec<Trigger>,
}

impl Interest {
    /// The one of these functions.
    pub fn of(functions: &[Arc<Function>]) -> Interest {
        let of = |function: &Arc<Function>| {
            let (kind, told) = (function.kind().to_owned(), function.told().to_vec());
            told.into_iter().map(move |told| Trigger {
                name: match &told.key {
                    None => format!("{kind}.{} of {}", told.method, told.kind),
                    Some(key) => format!("{kind}.{} of {}/{key}", told.method, told.kind),
                },
                kind: told.kind,
                key: told.key,
                function: kind.clone(),
                method: told.method,
            })
        };
        let triggers: Vec<Trigger> = functions.iter().flat_map(of).collect();
        let mut kinds: Vec<String> = triggers.iter().map(|trigger| trigger.kind.clone()).collect();
        if functions.iter().any(|function| function.kind() == SCHEDULE) {
            kinds.push(SCHEDULE.to_owned());
        }
        // Who sees to what goes by which nodes have functions: who tells of changes has to hear of that, schedules or none.
        if !kinds.is_empty() {
            kinds.push(KEPT.to_owned());
        }
        Interest { kinds, triggers }
    }

    /// Whether there is anything to look at.
    pub fn is_any(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Whether a change of this entity is to be looked at.
    pub fn is_about(&self, entity: &EntityId) -> bool {
        self.kinds.iter().any(|kind| kind == entity.kind())
    }
}

/// What has happened since the last look.
#[derive(Debug, Default)]
pub struct News {
    pub(super) changed: BTreeSet<EntityId>,
    /// More has changed than there was room for.
    pub(super) has_lost: bool,
    pub(super) ended: Vec<Ended>,
    /// Who is there may be others, or this node takes writes now.
    pub(super) is_new: bool,
}

impl News {
    /// An entity has changed. To be said before anybody looks at a version vector that covers the change.
    pub fn note(&mut self, entity: &EntityId) {
        if self.changed.len() < NOTED_MAX {
            self.changed.insert(entity.clone());
        } else {
            self.has_lost = true;
        }
    }

    /// Who is there may be others than before, or this node takes writes now.
    pub fn look_around(&mut self) {
        self.is_new = true;
    }

    /// What was to be done has ended.
    pub fn ended(&mut self, ended: Ended) {
        self.ended.push(ended);
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.ended.is_empty() && !self.has_lost && !self.is_new
    }
}
