//! All that a node sees to of its own accord: whose schedules and shards are its, which of them are due, and what is kept of how
//! far it has come.
//!
//! Not here: who calls and what becomes of a call (`errand`). Contract: it looks at an engine and at what was noted of it
//! at one moment, so that a version vector it reads covers nothing that was not noted.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_crdt::{Epoch, NodeId, ReplicaId, Type, planted};

use super::changes::{Changes, Mark, Place, Trigger, Vector, both};
use super::errand::{Ended, Errand, Of};
use super::function::{self, SCHEDULE};
use super::kept::{self, Host, Note};
use super::news::{Interest, News};
use super::planner::{Fire, Planner, responsible};
use crate::engine::{Engine, Update};
use crate::wire::{EntityId, ShardId};

/// A node that starts gives the others so long to show up before it does what is theirs: as long as it takes to notice that one
/// has died.
const SETTLE_MS: u64 = 10_000;
/// Meanwhile it looks this often whether it has caught up with what others did.
const SETTLING_MS: u64 = 100;
/// What is to be noted is written again after so long where it was not kept.
const NOTE_AGAIN_MS: u64 = 1_000;

/// Finds what is due at this node, schedules and changes alike, and hands it out as [`Errand`]s.
#[derive(Debug)]
pub struct Runner {
    me: NodeId,
    shards: u32,
    planner: Planner,
    changes: Changes,
    /// Which nodes have functions, as they say.
    hosts: BTreeMap<NodeId, Host>,
    /// Whether everything that is there was looked at.
    has_begun: bool,
    /// Until then who is not seen may be there, and what is here may be old.
    settled_at_ms: u64,
    is_settling: bool,
}

/// Now, by the clock that schedules go by, and by the one that nobody sets.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Milliseconds since whenever.
    pub ms: u64,
}

/// What a look has found to do, in this order.
#[derive(Debug, Default)]
pub struct Work {
    /// What is to be kept; nobody waits for it. Where it does not come to be kept, what was before is, and it is said again.
    pub updates: Vec<Update>,
    /// What is to be seen to, each apart from the others.
    pub errands: Vec<Errand>,
}

impl Runner {
    /// The one of a node, in a cluster of so many shards.
    pub fn new(interest: &Interest, me: NodeId, shards: u32, now: Moment) -> Runner {
        Runner {
            me,
            shards,
            planner: Planner::default(),
            changes: Changes::new(interest.triggers.clone()),
            hosts: BTreeMap::new(),
            has_begun: false,
            settled_at_ms: now.ms + SETTLE_MS,
            is_settling: true,
        }
    }

    /// Looks at everything there is to look at. `live` are the runs of nodes that are believed to be there.
    pub fn look(&mut self, engine: &Engine, mut news: News, live: &BTreeSet<ReplicaId>, now: Moment) -> Work {
        // What this node has not caught up with it would do again.
        if !engine.is_ready() {
            self.take_ended(news.ended, now);
            self.has_begun = false;
            return Work::default();
        }
        news.has_lost |= !self.has_begun;
        self.take_in(engine, &mut news, live, now);
        self.has_begun = true;
        let mut work = Work::default();
        for place in self.changes.cursors_due(now.ms) {
            work.updates.extend(self.keep(engine, place));
        }
        work.updates.extend(self.leave_notes(engine));
        work.updates.extend(self.say_so(engine));
        let fires = self.due(engine, live, now.wall_ms);
        work.errands.extend(fires.into_iter().map(Errand::of_fire));
        for telling in self.changes.poll(now.ms) {
            let trigger = self.changes.triggers()[telling.place.0].clone();
            work.errands.push(Errand::of_change(telling, trigger));
        }
        work
    }

    /// How long until it is to look again if nothing is noted, milliseconds, after a look at one moment; asked at another.
    pub fn next_ms(&self, looked: Moment, now: Moment) -> Option<u64> {
        if !self.has_begun {
            return None;
        }
        let schedule = self.planner.next_wakeup(looked.wall_ms);
        let change = self.changes.next_wakeup();
        let lists_again = self.planner.lists_again_at();
        let next = [
            schedule.map(|at| at.saturating_sub(now.wall_ms)),
            change.map(|at| at.saturating_sub(now.ms)),
            lists_again.map(|at| at.saturating_sub(now.ms)),
            // Nobody tells when this node has caught up.
            self.is_settling.then_some(SETTLING_MS),
            // One that was not kept is left again.
            self.changes.notes_due().next().map(|_| NOTE_AGAIN_MS),
        ];
        next.into_iter().flatten().min()
    }

    /// The schedules that are due and this node's.
    fn due(&mut self, engine: &Engine, live: &BTreeSet<ReplicaId>, now: u64) -> Vec<Fire> {
        let live = self.live(live);
        let knows = self.knows(engine);
        let is_mine = |name: &str| {
            let shard = EntityId::new(SCHEDULE, name).map(|entity| engine.shard_of(&entity));
            let nodes = live.iter().map(|(node, _)| *node);
            shard.is_ok_and(&knows) && responsible(name, nodes) == Some(self.me)
        };
        self.planner.poll(now, &is_mine)
    }

    /// In which shards this node knows what others have called for: once it has settled in all. Until then where every node that
    /// has functions is linked, and all that linked nodes have is here.
    fn knows<'e>(&self, engine: &'e Engine) -> impl Fn(ShardId) -> bool + use<'e> {
        let (has_settled, are_all_linked) = (!self.is_settling, self.are_all_linked(engine));
        move |shard| has_settled || are_all_linked && engine.has_what_peers_have(shard)
    }

    /// Whether every other member that has functions is linked.
    fn are_all_linked(&self, engine: &Engine) -> bool {
        let members = engine.members();
        let mut others = self.hosts.keys().filter(|node| **node != self.me);
        others.all(|node| engine.linked_epoch(*node).is_some() || !members.contains(node))
    }

    fn take_ended(&mut self, all: Vec<Ended>, now: Moment) {
        for Ended { of, was_answered } in all {
            match of {
                Of::Fire { name, slot } => self.planner.called(&name, slot, was_answered, now.wall_ms),
                Of::Change(telling) => self.changes.called(&telling, was_answered, now.ms),
            }
        }
    }

    fn take_in(&mut self, engine: &Engine, news: &mut News, live: &BTreeSet<ReplicaId>, now: Moment) {
        self.take_ended(std::mem::take(&mut news.ended), now);
        if news.has_lost {
            news.changed.extend(engine.entities_of(SCHEDULE));
            // Those that are no more, too.
            let known = self.planner.names();
            let known = known.filter_map(|name| EntityId::new(SCHEDULE, name).ok());
            news.changed.extend(known);
            self.changes.lost_track();
        }
        let has_new_hosts = news.has_lost || news.changed.iter().any(kept::is_hosts);
        if has_new_hosts {
            self.hosts = kept::hosts(engine);
        }
        let has_notes = news.changed.iter().any(kept::is_notes);
        for entity in &news.changed {
            if entity.kind() == SCHEDULE {
                self.follow(engine, entity, now);
            }
            self.changes.changed(entity, engine.shard_of(entity).0);
        }
        // After those that have gone have made room.
        if self.planner.lists_again(now.ms) {
            for entity in engine.entities_of(SCHEDULE) {
                self.follow(engine, &entity, now);
            }
        }
        let mut to_find = self.changes.behind();
        if has_new_hosts || news.is_new || self.is_settling {
            self.is_settling = now.ms < self.settled_at_ms;
            self.planner.look_again(now.wall_ms);
            let new = self.see_to(engine, live);
            planted!("taken_over_as_told", drop(new), to_find.extend(new));
        }
        if has_notes || has_new_hosts {
            let mine = self.changes.noted();
            let is_new = |place: Place, noted: &BTreeMap<NodeId, Mark>| *noted != self.marks(engine, place);
            to_find.extend(
                mine.filter(|(place, noted)| is_new(*place, noted))
                    .map(|(place, _)| place),
            );
        }
        for place in to_find.into_iter().collect::<BTreeSet<_>>() {
            self.find(engine, place);
        }
    }

    fn follow(&mut self, engine: &Engine, schedule: &EntityId, now: Moment) {
        let is = engine.view(schedule, Type::OrMap).ok().and_then(function::read);
        self.planner.set(schedule.key(), is, now.wall_ms);
    }

    /// Which shards' changes are this node's to tell; those that were not.
    fn see_to(&mut self, engine: &Engine, live: &BTreeSet<ReplicaId>) -> Vec<Place> {
        let live = self.live(live);
        let (knows, me) = (self.knows(engine), self.me);
        let is_mine = |trigger: &Trigger, shard: u32| {
            if !knows(ShardId(shard)) {
                return false;
            }
            let name = format!("{}:{shard}", trigger.name);
            let has_it = |host: &Host| host.triggers.contains(&trigger.name);
            let able = live.iter().filter(|(_, host)| has_it(host));
            responsible(&name, able.map(|(node, _)| *node)) == Some(me)
        };
        self.changes.see_to(self.shards, &is_mine)
    }

    /// What has changed in a shard since its cursor was kept, or since what others have noted that nobody has taken in yet.
    fn find(&mut self, engine: &Engine, place: Place) {
        let (shard, trigger) = (place.1, self.changes.triggers()[place.0].clone());
        let mut since: Vector = kept::cursor(engine, &trigger, shard).into_iter().collect();
        let taken = kept::taken(engine, &trigger, shard);
        for node in self.hosts.keys() {
            let note = kept::note(engine, &trigger, shard, *node);
            if let Some(note) = note.filter(|note| taken.get(node) != Some(&note.mark)) {
                since = both(&since, &note.since);
            }
        }
        let flat: Vec<_> = since.iter().map(|(replica, seq)| (*replica, *seq)).collect();
        let found = engine.changed_since(ShardId(shard), &trigger.kind, &flat);
        // A cursor may come before what it covers.
        let seen = engine.version_vector(ShardId(shard)).into_iter().collect();
        let noted = self.marks(engine, place);
        self.changes.looked(place, both(&since, &seen), noted);
        for entity in found.iter().filter(|entity| trigger.is_about(entity)) {
            self.changes.found(place, entity);
        }
    }

    /// All that has changed in a shard was called for, and for all that was noted of it.
    fn keep(&mut self, engine: &Engine, place: Place) -> Vec<Update> {
        let (shard, trigger) = (place.1, &self.changes.triggers()[place.0]);
        let vector = engine.version_vector(ShardId(shard));
        let mut updates = Vec::from_iter(kept::keep_cursor(trigger, shard, &vector));
        let noted = self.changes.noted().find(|(of, _)| *of == place);
        if let Some((_, noted)) = noted.filter(|(_, noted)| **noted != kept::taken(engine, trigger, shard)) {
            updates.extend(kept::keep_taken(trigger, shard, noted));
        }
        self.changes.is_kept(place, vector.into_iter().collect());
        updates
    }

    /// What is noted about a shard.
    fn marks(&self, engine: &Engine, place: Place) -> BTreeMap<NodeId, Mark> {
        let trigger = &self.changes.triggers()[place.0];
        let mark = |node: &NodeId| Some((*node, kept::note(engine, trigger, place.1, *node)?.mark));
        self.hosts.keys().filter_map(mark).collect()
    }

    /// Notes about shards that this node has given up, until they are kept.
    fn leave_notes(&mut self, engine: &Engine) -> Vec<Update> {
        let due = self.changes.notes_due();
        let due: Vec<_> = due
            .map(|(place, number, since)| (place, number, since.clone()))
            .collect();
        let mut updates = Vec::new();
        for (place, number, mut since) in due {
            let (shard, trigger) = (place.1, &self.changes.triggers()[place.0]);
            let mark = (engine.epoch().0, number);
            let before = kept::note(engine, trigger, shard, self.me);
            if before.as_ref().is_some_and(|note| note.mark == mark) {
                self.changes.is_noted(place, number);
                continue;
            }
            // The one that is written over may not have been taken in.
            let taken = kept::taken(engine, trigger, shard);
            if let Some(before) = before.filter(|note| taken.get(&self.me) != Some(&note.mark)) {
                since = both(&since, &before.since);
            }
            updates.extend(kept::keep_note(trigger, shard, self.me, &Note { mark, since }));
        }
        updates
    }

    /// The nodes with functions that are believed to be there, this one among them once it has said so.
    fn live(&self, live: &BTreeSet<ReplicaId>) -> Vec<(NodeId, Host)> {
        let hosts = self.hosts.iter().filter(|(node, host)| {
            let run = ReplicaId::new(**node, Epoch(host.epoch));
            self.is_settling || **node == self.me || live.contains(&run)
        });
        hosts.map(|(node, host)| (*node, host.clone())).collect()
    }

    /// Tells the other nodes, in each run of it, that this one has functions. Where it is refused, it is said at the next look. As long
    /// as this node sees to nothing yet, it says nothing either: they would leave to it what it does not do.
    fn say_so(&self, engine: &Engine) -> Option<Update> {
        if self.is_settling && !self.are_all_linked(engine) {
            return None;
        }
        let triggers = self.changes.triggers().iter().map(|trigger| trigger.name.clone());
        let host = Host {
            epoch: engine.epoch().0,
            triggers: triggers.collect(),
        };
        let is_said = self.hosts.get(&self.me) == Some(&host);
        if is_said {
            return None;
        }
        kept::keep_host(self.me, &host)
    }
}
