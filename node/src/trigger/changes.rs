//! Which changes of entities some function is still to be told of: a state machine that is told the time.
//!
//! Contract: of a shard that is this node's to see to, every entity that has changed is called for at least once after its last
//! change, one call at a time at this node. What has been called for is kept, shard by shard, as the version vector up to which it
//! was (a *cursor*); whoever sees to the shard next begins there.
//!
//! Two nodes may see to a shard for a while, and the call that saw less may be the one that ends last. So who gives up a shard in
//! which he has called leaves a *note* once the last of these calls has ended: from which version vector on he called without
//! knowing all. Whoever sees to the shard calls once more for all that has changed since. What no call of the other's has seen is
//! past that vector: it covers only what all calls that were made after it was taken have seen.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_crdt::{NodeId, ReplicaId, planted};

use super::again_ms;
use crate::wire::EntityId;

/// Entities that are to be called for, at most; beyond it, what has changed is looked for again later.
pub const PENDING_MAX: usize = 100_000;
/// Calls under way, at most.
pub const CALLS_MAX: usize = 64;
/// How far was called is kept at most this often, for each shard.
const CURSOR_MS: u64 = 1_000;

/// What a function is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// Its name: what is kept of it is kept under this.
    pub name: String,
    /// Changes of entities of this kind.
    pub kind: String,
    /// Only of this one, if it is given.
    pub key: Option<String>,
    /// The kind of the function that is told.
    pub function: String,
    /// By this method.
    pub method: String,
}

impl Trigger {
    /// Whether it is about this entity.
    pub fn is_about(&self, entity: &EntityId) -> bool {
        self.kind == entity.kind() && self.key.as_deref().is_none_or(|key| key == entity.key())
    }
}

/// A version vector.
pub(super) type Vector = BTreeMap<ReplicaId, u64>;

/// Which note is meant: those of a node follow one another, by its run and their number in it.
pub(super) type Mark = (u64, u64);

/// What both cover.
pub(super) fn both(a: &Vector, b: &Vector) -> Vector {
    let covered = a
        .iter()
        .filter_map(|(replica, seq)| Some((*replica, *seq.min(b.get(replica)?))));
    covered.collect()
}

/// A trigger in a shard.
pub(crate) type Place = (usize, u32);

/// A call to be made, or that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Telling {
    pub place: Place,
    pub entity: EntityId,
    /// No other call has it: what is answered is this one.
    number: u64,
}

/// What is left to be told, of all triggers and shards.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    triggers: Vec<Trigger>,
    mine: BTreeMap<Place, Mine>,
    /// What this node has given up and called in, until there is a note of it.
    left: BTreeMap<Place, Left>,
    /// Notes that were to be left.
    notes: u64,
    /// When each is to be called for.
    due: BTreeSet<(u64, Place, EntityId)>,
    pending: usize,
    under_way: usize,
    /// Calls that were made.
    calls: u64,
}

/// A shard that this node sees to.
#[derive(Debug, Default)]
struct Mine {
    pending: BTreeMap<EntityId, Pending>,
    /// Something was called for since the cursor was kept last.
    has_news: bool,
    /// The cursor is not kept before this.
    keep_at: u64,
    /// Something has changed that there was no room for.
    is_behind: bool,
    /// Something was called for since the shard was taken over.
    has_called: bool,
    /// The calls that were made, and are made, have seen all that this covers.
    since: Option<Vector>,
    /// The notes that were there when it was last looked what has changed.
    noted: BTreeMap<NodeId, Mark>,
}

/// A shard that this node has given up.
#[derive(Debug)]
struct Left {
    /// Its calls that have not ended.
    calls: BTreeSet<u64>,
    since: Vector,
    /// The number of the note.
    note: u64,
}

#[derive(Debug, Default)]
struct Pending {
    calling: Option<Calling>,
    at: u64,
    pause: u64,
}

/// A call is under way.
#[derive(Debug)]
struct Calling {
    number: u64,
    /// It has changed again meanwhile.
    again: bool,
}

impl Changes {
    /// What is to be told of what.
    pub fn new(triggers: Vec<Trigger>) -> Changes {
        Changes {
            triggers,
            ..Changes::default()
        }
    }

    /// The triggers.
    pub fn triggers(&self) -> &[Trigger] {
        &self.triggers
    }

    /// Which shards are this node's to see to from now on; returns those that were not.
    pub fn see_to(&mut self, shards: u32, is_mine: &dyn Fn(&Trigger, u32) -> bool) -> Vec<Place> {
        let mut new = Vec::new();
        for at in 0..self.triggers.len() {
            for shard in 0..shards {
                let place = (at, shard);
                match (self.mine.contains_key(&place), is_mine(&self.triggers[at], shard)) {
                    (false, true) => {
                        self.mine.insert(place, Mine::default());
                        new.push(place);
                    }
                    (true, false) => self.leave(place),
                    _ => {}
                }
            }
        }
        new
    }

    fn leave(&mut self, place: Place) {
        let Some(mine) = self.mine.remove(&place) else {
            return;
        };
        let mut calls = BTreeSet::new();
        for (entity, pending) in mine.pending {
            self.pending -= 1;
            match pending.calling {
                Some(calling) => drop(calls.insert(calling.number)),
                None => drop(self.due.remove(&(pending.at, place, entity))),
            }
        }
        if !mine.has_called {
            return;
        }
        let mut since = mine.since.unwrap_or_default();
        if let Some(before) = self.left.remove(&place) {
            calls.extend(before.calls);
            since = both(&since, &before.since);
        }
        let note = self.notes;
        self.notes += 1;
        self.left.insert(place, Left { calls, since, note });
    }

    /// The notes that are to be left now, with their numbers.
    pub fn notes_due(&self) -> impl Iterator<Item = (Place, u64, &Vector)> {
        let due = self.left.iter().filter(|(_, left)| left.calls.is_empty());
        due.map(|(place, left)| (*place, left.note, &left.since))
    }

    /// This note is kept.
    pub fn is_noted(&mut self, place: Place, note: u64) {
        if self.left.get(&place).is_some_and(|left| left.note == note) {
            self.left.remove(&place);
        }
    }

    /// The shards that are this node's, and which notes were there when it was looked what has changed in them.
    pub fn noted(&self) -> impl Iterator<Item = (Place, &BTreeMap<NodeId, Mark>)> {
        self.mine.iter().map(|(place, mine)| (*place, &mine.noted))
    }

    /// It was looked what has changed in a shard since this vector, with these notes.
    pub fn looked(&mut self, place: Place, since: Vector, noted: BTreeMap<NodeId, Mark>) {
        let Some(mine) = self.mine.get_mut(&place) else {
            return;
        };
        mine.since = Some(match &mine.since {
            Some(before) => both(before, &since),
            None => since,
        });
        mine.has_news |= mine.noted != noted;
        mine.noted = noted;
    }

    /// All that this vector covers was called for.
    pub fn is_kept(&mut self, place: Place, vector: Vector) {
        if let Some(mine) = self.mine.get_mut(&place) {
            mine.since = Some(vector);
        }
    }

    /// An entity has changed.
    pub fn changed(&mut self, entity: &EntityId, shard: u32) {
        for at in 0..self.triggers.len() {
            if self.triggers[at].is_about(entity) {
                self.found((at, shard), entity);
            }
        }
    }

    /// An entity has changed since its shard's cursor was kept.
    pub fn found(&mut self, place: Place, entity: &EntityId) {
        let Some(mine) = self.mine.get_mut(&place) else {
            return;
        };
        if let Some(pending) = mine.pending.get_mut(entity) {
            if let Some(calling) = &mut pending.calling {
                calling.again = planted!("change_while_told_lost", false, true);
            }
            return;
        }
        if self.pending >= PENDING_MAX {
            mine.is_behind = true;
            return;
        }
        self.pending += 1;
        mine.pending.insert(entity.clone(), Pending::default());
        self.due.insert((0, place, entity.clone()));
    }

    /// Something may have changed anywhere.
    pub fn lost_track(&mut self) {
        self.mine.values_mut().for_each(|mine| mine.is_behind = true);
    }

    /// What is to be called for now.
    pub fn poll(&mut self, now: u64) -> Vec<Telling> {
        let mut calls = Vec::new();
        while self.under_way < CALLS_MAX && self.due.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, place, entity)) = self.due.pop_first() else {
                break;
            };
            let number = self.calls;
            if let Some(mine) = self.mine.get_mut(&place)
                && let Some(pending) = mine.pending.get_mut(&entity)
            {
                mine.has_called = true;
                pending.calling = Some(Calling { number, again: false });
                (self.under_way, self.calls) = (self.under_way + 1, self.calls + 1);
                calls.push(Telling {
                    place,
                    entity,
                    number,
                });
            }
        }
        calls
    }

    /// A call was made: whether it was answered.
    pub fn called(&mut self, telling: &Telling, was_answered: bool, now: u64) {
        let Telling {
            place,
            entity,
            number,
        } = telling;
        let place = *place;
        let left = self.left.get_mut(&place);
        if left.is_some_and(|left| left.calls.remove(number)) {
            self.under_way -= 1;
            return;
        }
        let Some(pending) = self.pending_of(place, entity) else {
            return;
        };
        // Left and come back to meanwhile, it has a call of its own.
        let is_this = |calling: &mut Calling| calling.number == *number;
        let Some(Calling { again, .. }) = pending.calling.take_if(is_this) else {
            return;
        };
        (pending.at, pending.pause) = if was_answered {
            (0, 0)
        } else {
            let pause = again_ms(pending.pause);
            (now + pause, pause)
        };
        let at = pending.at;
        self.under_way -= 1;
        if !was_answered || again {
            self.due.insert((at, place, entity.clone()));
            return;
        }
        self.pending -= 1;
        if let Some(mine) = self.mine.get_mut(&place) {
            mine.pending.remove(entity);
            mine.has_news = true;
        }
    }

    fn pending_of(&mut self, place: Place, entity: &EntityId) -> Option<&mut Pending> {
        self.mine.get_mut(&place)?.pending.get_mut(entity)
    }

    /// Shards in which what has changed since the cursor has to be looked for again: there is room now.
    pub fn behind(&mut self) -> Vec<Place> {
        if self.pending > PENDING_MAX / 2 {
            return Vec::new();
        }
        let behind = self.mine.iter_mut().filter(|(_, mine)| mine.is_behind);
        let behind = behind.map(|(place, mine)| {
            mine.is_behind = false;
            *place
        });
        behind.collect()
    }

    /// Shards in which all that has changed was called for, and whose cursor is to be kept as their version vector is now.
    pub fn cursors_due(&mut self, now: u64) -> Vec<Place> {
        let done = self
            .mine
            .iter_mut()
            .filter(|(_, mine)| mine.is_done() && mine.keep_at <= now);
        let kept = done.map(|(place, mine)| {
            mine.has_news = false;
            mine.keep_at = now + CURSOR_MS;
            *place
        });
        kept.collect()
    }

    /// When to look again, if nothing else happens.
    pub fn next_wakeup(&self) -> Option<u64> {
        let can_call = self.under_way < CALLS_MAX;
        let call = self.due.first().filter(|_| can_call).map(|(at, ..)| *at);
        let keep = self
            .mine
            .values()
            .filter(|mine| mine.is_done())
            .map(|mine| mine.keep_at);
        keep.chain(call).min()
    }
}

impl Mine {
    fn is_done(&self) -> bool {
        let is_all_told = planted!("cursor_before_answer", true, self.pending.is_empty());
        self.has_news && is_all_told && !self.is_behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(kind: &str, key: Option<&str>) -> Trigger {
        Trigger {
            name: format!("t of {kind}"),
            kind: kind.into(),
            key: key.map(Into::into),
            function: "f".into(),
            method: "m".into(),
        }
    }

    fn id(kind: &str, key: &str) -> EntityId {
        EntityId::new(kind, key).unwrap()
    }

    /// Where and of what it tells now.
    fn poll(changes: &mut Changes, now: u64) -> Vec<(Place, EntityId)> {
        let calls = changes.poll(now).into_iter();
        calls.map(|telling| (telling.place, telling.entity)).collect()
    }

    /// The last call of this has ended.
    fn called(changes: &mut Changes, place: Place, entity: &EntityId, was_answered: bool, now: u64) {
        let of = changes.mine.get(&place).and_then(|mine| mine.pending.get(entity));
        let number = of.and_then(|of| of.calling.as_ref()).map_or(0, |of| of.number);
        let entity = entity.clone();
        let telling = Telling {
            place,
            entity,
            number,
        };
        changes.called(&telling, was_answered, now);
    }

    fn all() -> Changes {
        let mut changes = Changes::new(vec![trigger("a", None), trigger("b", Some("x"))]);
        assert_eq!(changes.see_to(2, &|_, _| true).len(), 4);
        changes
    }

    #[test]
    fn each_change_is_followed_by_a_call_and_one_entity_has_one_at_a_time() {
        let mut changes = all();
        for (entity, shard) in [
            (id("a", "1"), 0),
            (id("a", "1"), 0),
            (id("a", "2"), 1),
            (id("c", "1"), 0),
            (id("b", "y"), 0),
            (id("b", "x"), 1),
        ] {
            changes.changed(&entity, shard);
        }
        assert_eq!(changes.next_wakeup(), Some(0));
        let calls = poll(&mut changes, 5);
        assert_eq!(
            calls,
            [
                ((0, 0), id("a", "1")),
                ((0, 1), id("a", "2")),
                ((1, 1), id("b", "x"))
            ]
        );
        // It changes while it is called for: it is called for again.
        changes.changed(&id("a", "1"), 0);
        assert_eq!(poll(&mut changes, 5), []);
        called(&mut changes, (0, 0), &id("a", "1"), true, 5);
        assert_eq!(changes.cursors_due(5), [], "not all is called for");
        assert_eq!(poll(&mut changes, 5), [((0, 0), id("a", "1"))]);
        called(&mut changes, (0, 0), &id("a", "1"), true, 5);
        assert_eq!(changes.cursors_due(5), [(0, 0)]);
        assert_eq!(changes.cursors_due(5), [], "nothing new");
        // One that is not answered is called again, and its shard's cursor stays.
        called(&mut changes, (0, 1), &id("a", "2"), false, 5);
        assert_eq!(
            (poll(&mut changes, 1_004), changes.next_wakeup()),
            (vec![], Some(1_005))
        );
        assert_eq!(poll(&mut changes, 1_005), [((0, 1), id("a", "2"))]);
        called(&mut changes, (0, 1), &id("a", "2"), false, 1_005);
        assert_eq!(changes.next_wakeup(), Some(3_005));
        assert_eq!(changes.cursors_due(2_000), []);
        // The cursor of a busy shard is kept now and then.
        changes.changed(&id("a", "1"), 0);
        poll(&mut changes, 1_006);
        called(&mut changes, (0, 0), &id("a", "1"), true, 1_006);
        assert_eq!(
            (changes.cursors_due(1_004), changes.cursors_due(1_006)),
            (vec![], vec![(0, 0)])
        );
    }

    #[test]
    fn what_another_node_sees_to_is_its_own() {
        let mut changes = all();
        changes.changed(&id("a", "1"), 0);
        changes.changed(&id("a", "2"), 1);
        let calls = changes.poll(0);
        assert_eq!(calls.len(), 2);
        changes.changed(&id("a", "3"), 1);
        assert_eq!(changes.see_to(2, &|_, shard| shard == 0), []);
        assert_eq!(changes.under_way, 2);
        changes.called(&calls[1], true, 0);
        changes.changed(&id("a", "2"), 1);
        assert_eq!(
            (poll(&mut changes, 9), changes.pending, changes.under_way),
            (vec![], 1, 1)
        );
        assert_eq!(changes.see_to(2, &|_, _| true), [(0, 1), (1, 1)]);
        changes.found((0, 1), &id("a", "2"));
        assert_eq!(poll(&mut changes, 9), [((0, 1), id("a", "2"))]);
    }

    #[test]
    fn the_answer_to_an_earlier_call_is_none_to_a_later_one() {
        let mut changes = all();
        changes.changed(&id("a", "1"), 0);
        let early = changes.poll(0);
        // Somebody else sees to it for a while, and it changes.
        changes.see_to(2, &|_, _| false);
        changes.see_to(2, &|_, _| true);
        changes.found((0, 0), &id("a", "1"));
        let late = changes.poll(0);
        assert_eq!((early.len(), late.len()), (1, 1));
        changes.called(&early[0], true, 0);
        assert_eq!((changes.cursors_due(0), changes.under_way), (vec![], 1));
        changes.called(&late[0], false, 0);
        assert_eq!(poll(&mut changes, 1_000).len(), 1, "it is told of all the same");
    }

    fn notes(changes: &Changes) -> Vec<(Place, u64, Vector)> {
        let due = changes.notes_due();
        due.map(|(place, note, since)| (place, note, since.clone()))
            .collect()
    }

    fn vector(seq: u64) -> Vector {
        Vector::from([(ReplicaId::default(), seq)])
    }

    #[test]
    fn who_gives_up_what_he_called_in_leaves_a_note_once_his_calls_have_ended() {
        let mut changes = all();
        changes.see_to(2, &|trigger, shard| (&*trigger.kind, shard) == ("a", 0));
        changes.looked((0, 0), vector(5), BTreeMap::new());
        changes.see_to(2, &|_, _| false);
        assert_eq!(notes(&changes), [], "it has not called");
        changes.see_to(2, &|_, shard| shard == 0);
        changes.looked((0, 0), vector(5), BTreeMap::new());
        changes.changed(&id("a", "1"), 0);
        let early = changes.poll(0);
        changes.see_to(2, &|_, _| false);
        assert_eq!(notes(&changes), [], "its call goes on");
        // A second time, before the first call has ended: one note says both.
        changes.see_to(2, &|_, shard| shard == 0);
        changes.looked((0, 0), vector(9), BTreeMap::new());
        changes.found((0, 0), &id("a", "1"));
        let late = changes.poll(0);
        changes.see_to(2, &|_, _| false);
        changes.called(&late[0], true, 0);
        assert_eq!(notes(&changes), []);
        changes.called(&early[0], false, 0);
        assert_eq!(notes(&changes), [((0, 0), 1, vector(5))]);
        changes.is_noted((0, 0), 0);
        assert_eq!(notes(&changes).len(), 1, "that is another");
        changes.is_noted((0, 0), 1);
        assert_eq!((notes(&changes), changes.under_way), (vec![], 0));
    }

    #[test]
    fn a_note_covers_what_was_called_for_and_not_what_came_after() {
        let mut changes = all();
        changes.looked((0, 0), vector(5), BTreeMap::new());
        changes.changed(&id("a", "1"), 0);
        let call = changes.poll(0);
        changes.called(&call[0], true, 0);
        assert_eq!(changes.cursors_due(0), [(0, 0)]);
        changes.is_kept((0, 0), vector(7));
        // Somebody else's note is looked at: it is taken in with the next cursor.
        let noted = BTreeMap::from([(NodeId(2), (1, 0))]);
        changes.looked((0, 0), vector(6), noted.clone());
        assert_eq!(changes.noted().next(), Some(((0, 0), &noted)));
        assert_eq!(changes.cursors_due(1_000), [(0, 0)]);
        changes.see_to(2, &|_, _| false);
        assert_eq!(notes(&changes), [((0, 0), 0, vector(6))]);
    }

    #[test]
    fn what_there_is_no_room_for_is_looked_for_again() {
        let mut changes = all();
        for n in 0..PENDING_MAX + 1 {
            changes.changed(&id("a", &n.to_string()), 0);
        }
        assert_eq!((changes.pending, changes.behind()), (PENDING_MAX, vec![]));
        let mut done = 0;
        while done < PENDING_MAX {
            for (place, entity) in poll(&mut changes, 0) {
                called(&mut changes, place, &entity, true, 0);
                done += 1;
            }
        }
        assert_eq!(changes.cursors_due(0), [], "not all of the shard was called for");
        assert_eq!(changes.behind(), [(0, 0)]);
        assert_eq!(
            changes.cursors_due(0),
            [(0, 0)],
            "now it was, unless something is found"
        );
        changes.lost_track();
        assert_eq!(changes.behind().len(), 4);
    }
}
