//! Counters' slots that were reset as far as they go, and wait because an increment may be under way whose author had
//! not seen the reset.
//!
//! Not here: what a reset does (`anabranch-crdt`).
//!
//! And what the slots of this node's own depend on: an increment that goes on behind a reset must not be seen where the
//! reset has not been seen, or what was taken away would be gone there before whoever took it is known.
//!
//! Contract: a slot goes only if it is this node's own; or if its owner, in the very epoch that made it, has said that it
//! has seen the reset, and everything it had done when it said so is here. Slots of an epoch that is over wait on. None
//! of this is part of fingerprints, and replicas may differ in it. A row of which nothing else is left goes with its last slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_crdt::{Dot, Part, Path, ReplicaIx, VersionVector};

use crate::engine::rows::Rows;
use crate::engine::shard::{EntityKey, Shard};

/// What the owner must have seen before a slot may go.
#[derive(Clone, Debug)]
enum After {
    /// The operation that reset it.
    Dot(Dot),
    /// All that is covered here, since the slot came with a snapshot.
    View(Arc<VersionVector>),
}

/// The slots that wait, by owner.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(BTreeMap<ReplicaIx, BTreeMap<(EntityKey, Path, Dot), After>>);

/// Of this node's own slots in counters: which of its increments was the last that a foreign operation has reset, and
/// which operation that was, as long as a member may lack it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnResets(BTreeMap<(EntityKey, Path), (u64, Dot)>);

impl OwnResets {
    /// What an increment of this counter by this node must come after.
    pub fn before(&self, entity: &EntityKey, path: &Path) -> Option<Dot> {
        if self.0.is_empty() {
            return None; // nearly always
        }
        self.0.get(&(entity.clone(), path.clone())).map(|(_, by)| *by)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what every member covers.
    pub fn trim(&mut self, stable: &VersionVector) {
        self.0.retain(|_, (_, by)| !stable.contains(*by));
    }

    /// Forgets all: the node goes on under another epoch, with slots of its own.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Waiting {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    fn insert(&mut self, entity: &EntityKey, path: &Path, dot: Dot, after: After) {
        let place = (entity.clone(), path.clone(), dot);
        self.0.entry(dot.ix()).or_default().insert(place, after);
    }
}

impl Shard {
    /// Takes note of the slots that these operations have reset; this node's own go at once.
    pub fn note_resets<'a>(&mut self, parts: impl Iterator<Item = (&'a EntityKey, &'a Part)>) {
        for (entity, part) in parts {
            for kill in part.kills.iter().filter(|kill| kill.reset.is_some()) {
                if Some(kill.dot.ix()) == self.me && Some(part.dot.ix()) != self.me {
                    let place = (entity.clone(), kill.path.clone());
                    let new = (kill.dot.seq(), part.dot);
                    let last = self.own_resets.0.entry(place).or_insert(new);
                    if new.0 > last.0 {
                        *last = new; // removals that saw less may come later
                    }
                }
                let row = self.entities.get(entity);
                if !row.is_some_and(|value| value.waits(&kill.path, kill.dot)) {
                    continue;
                }
                if Some(kill.dot.ix()) == self.me {
                    drop_slot(Arc::make_mut(&mut self.entities), entity, &kill.path, kill.dot);
                } else {
                    let after = After::Dot(part.dot);
                    self.waiting.insert(entity, &kill.path, kill.dot, after);
                }
            }
        }
    }

    /// Takes note of every slot that waits, and is not known to, in a row that came whole; `now` is all that is covered.
    pub fn note_waiting_in(&mut self, entity: &EntityKey, now: &Arc<VersionVector>) {
        let Some(value) = self.entities.get(entity) else {
            return;
        };
        for (path, dot) in value.waiting() {
            let place = (entity.clone(), path, dot);
            let slots = self.waiting.0.entry(dot.ix()).or_default();
            slots.entry(place).or_insert_with(|| After::View(Arc::clone(now)));
        }
    }

    /// The replica `owner`, in its current epoch, has made this statement: slots of its own that waited for that go. All
    /// of it must be in one statement, since statements may come in any order: by an older one it had done less, and of
    /// the rest something may be under way that knows nothing of the reset.
    pub fn owner_said(&mut self, owner: ReplicaIx, said: &VersionVector) {
        let own = said.get(owner);
        if own == 0 || own > self.vv.get(owner) {
            return;
        }
        let Some(slots) = self.waiting.0.get_mut(&owner) else {
            return;
        };
        let entities = Arc::make_mut(&mut self.entities);
        slots.retain(|(entity, path, dot), after| {
            let row = entities.get(entity);
            if !row.is_some_and(|value| value.waits(path, *dot)) {
                return false; // opened anew since
            }
            let has_seen = match after {
                After::Dot(dot) => said.contains(*dot),
                After::View(view) => said.covers(view),
            };
            if has_seen {
                drop_slot(entities, entity, path, *dot);
            }
            !has_seen
        });
        if slots.is_empty() {
            self.waiting.0.remove(&owner);
        }
    }
}

/// A slot that waits for nothing any more goes, and its row with it where nothing else is left of that.
fn drop_slot(entities: &mut Rows, entity: &EntityKey, path: &Path, dot: Dot) {
    let Some(value) = entities.get_mut(entity) else {
        return;
    };
    Arc::make_mut(value).drop_waiting(path, dot);
    if value.is_vacant() {
        entities.remove(entity);
    }
}
