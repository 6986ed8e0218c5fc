//! Which schedules are due, and whether this node is to see to them: a state machine that is told the time.
//!
//! Contract: a time is handed out until it is answered, one at a time of each schedule. Who else may see to it the caller knows;
//! where two nodes do, the function is called twice under one name.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use anabranch_crdt::{NodeId, planted};
use siphasher::sip::SipHasher13;

use super::again_ms;
use super::order::{Schedule, Slot, Stand, believed};
use crate::session::Call;

/// Schedules that are looked after, at most; what is beyond is logged and left until there is room.
pub const SCHEDULES_MAX: usize = 100_000;
/// All schedules are listed again for that at most this often.
const LIST_AGAIN_MS: u64 = 10_000;
/// Calls of schedules that are under way, at most: the others are late.
pub const CALLS_MAX: usize = 64;

/// The schedules of a node.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    known: BTreeMap<String, Entry>,
    /// When each is to be looked at.
    due: BTreeSet<(u64, String)>,
    /// Those that are due and are somebody else's to see to.
    elsewhere: BTreeSet<String>,
    under_way: usize,
    /// There are others, which there was no room for.
    is_behind: bool,
    /// When all were last listed for that, by the clock that nobody sets.
    listed_at_ms: Option<u64>,
    /// When it was last asked what is to be called.
    polled_at: u64,
}

#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    done: u64,
    state: State,
    /// How long it waited last for another try; 0 while all is well.
    pause: u64,
    /// Its place in `due`.
    at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// This time is being called for.
    Calling(Slot),
    /// The last call was not answered; the next is made then.
    Waiting(u64),
}

/// A call to be made, for one time of a schedule; and that this time is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fire {
    pub name: String,
    pub slot: Slot,
    /// What to call, and how long that may take, milliseconds; nothing where the time was missed and is not made good.
    pub call: Option<(Call, u64)>,
}

impl Planner {
    /// A schedule is so now, or is no more.
    pub fn set(&mut self, name: &str, is: Option<(Schedule, u64)>, now: u64) {
        let Some((schedule, done)) = is else {
            if let Some(entry) = self.known.remove(name) {
                self.forget_at(name, entry.at);
                self.elsewhere.remove(name);
                if matches!(entry.state, State::Calling(_)) {
                    self.under_way -= 1;
                }
            }
            return;
        };
        if !self.known.contains_key(name) && self.known.len() >= SCHEDULES_MAX {
            if !std::mem::replace(&mut self.is_behind, true) {
                tracing::error!("{SCHEDULES_MAX} schedules are looked after; others, as {name:?}, are not");
            }
            return;
        }
        let entry = self.known.entry(name.to_owned()).or_insert(Entry {
            schedule: schedule.clone(),
            done: 0,
            state: State::Idle,
            pause: 0,
            at: None,
        });
        if entry.schedule != schedule {
            // Ordered anew: what was done under the old order is not done under this.
            (entry.schedule, entry.done) = (schedule, 0);
            if !matches!(entry.state, State::Calling(_)) {
                entry.state = State::Idle;
            }
        }
        let of_now = believed(done, now);
        if of_now != done {
            tracing::warn!(
                "schedule {name} was called for {} s ahead of this node's clock: its times from now on are called for all the same",
                done.saturating_sub(now) / 1_000
            );
        }
        entry.done = entry.done.max(of_now);
        self.plan(name, now);
    }

    /// What is to be called now, of what is this node's to see to.
    pub fn poll(&mut self, now: u64, is_mine: &dyn Fn(&str) -> bool) -> Vec<Fire> {
        if now < std::mem::replace(&mut self.polled_at, now) {
            self.clock_set_back(now);
        }
        let mut fires = Vec::new();
        while self.under_way < CALLS_MAX && self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.due.pop_first() else {
                break;
            };
            let Some(entry) = self.known.get_mut(&name) else {
                continue;
            };
            entry.at = None;
            if !is_mine(&name) {
                self.elsewhere.insert(name);
                continue;
            }
            let (ms, is_missed) = match entry.schedule.stand(entry.done, now) {
                Stand::Due(slot) => (slot, false),
                Stand::Missed(slot) => (slot, true),
                Stand::Next(_) | Stand::Over => {
                    self.plan(&name, now);
                    continue;
                }
            };
            let slot = entry.schedule.slot(ms);
            entry.state = State::Calling(slot);
            self.under_way += 1;
            let id = planted!(
                "fire_named_by_try",
                format!("{name}+{}", entry.pause),
                name.clone()
            );
            let call = (!is_missed).then(|| entry.schedule.call(&id, ms));
            fires.push(Fire {
                name: name.clone(),
                slot,
                call,
            });
            self.plan(&name, now);
        }
        fires
    }

    /// A call was made: whether it was answered.
    pub fn called(&mut self, name: &str, slot: Slot, was_answered: bool, now: u64) {
        let Some(entry) = self.known.get_mut(name) else {
            return;
        };
        if entry.state != State::Calling(slot) {
            return; // gone and come back meanwhile
        }
        self.under_way -= 1;
        if was_answered {
            (entry.state, entry.pause) = (State::Idle, 0);
            if entry.schedule.has(slot) {
                entry.done = entry.done.max(believed(slot.ms, now));
            }
        } else {
            entry.pause = again_ms(entry.pause);
            entry.state = State::Waiting(now + entry.pause);
        }
        self.plan(name, now);
    }

    /// Who waits for another try does not wait for the clock to come back to where it was, nor who was called for by it.
    fn clock_set_back(&mut self, now: u64) {
        let mut names = Vec::new();
        for (name, entry) in &mut self.known {
            let of_now = believed(entry.done, now);
            let mut is_other = std::mem::replace(&mut entry.done, of_now) != of_now;
            if let State::Waiting(until) = &mut entry.state {
                *until = (*until).min(now + entry.pause);
                is_other = true;
            }
            if is_other {
                names.push(name.clone());
            }
        }
        names.iter().for_each(|name| self.plan(name, now));
    }

    /// Who sees to what may be others than before.
    pub fn look_again(&mut self, now: u64) {
        for name in std::mem::take(&mut self.elsewhere) {
            self.plan(&name, now);
        }
    }

    /// When to list all schedules again, by the clock that nobody sets: some were left, and there is room now.
    pub fn lists_again_at(&self) -> Option<u64> {
        let has_room = self.known.len() < SCHEDULES_MAX;
        let next = self.listed_at_ms.map_or(0, |at| at + LIST_AGAIN_MS);
        (self.is_behind && has_room).then_some(next)
    }

    /// Whether to list them now.
    pub fn lists_again(&mut self, now_ms: u64) -> bool {
        let is_due = self.lists_again_at().is_some_and(|at| at <= now_ms);
        if is_due {
            (self.is_behind, self.listed_at_ms) = (false, Some(now_ms));
        }
        is_due
    }

    /// Those that are looked after.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// When to look again, if nothing else happens.
    pub fn next_wakeup(&self, now: u64) -> Option<u64> {
        // What is due already waits for a call to end.
        let mut later = self.due.range((now + 1, String::new())..);
        later.next().map(|(at, _)| *at)
    }

    fn plan(&mut self, name: &str, now: u64) {
        let Some(entry) = self.known.get_mut(name) else {
            return;
        };
        let stand = match entry.schedule.stand(entry.done, now) {
            Stand::Due(slot) | Stand::Missed(slot) => Some(slot),
            Stand::Next(at) => Some(at),
            Stand::Over => None,
        };
        let at = match entry.state {
            State::Idle => stand,
            State::Calling(_) => None,
            State::Waiting(until) => stand.map(|at| at.max(until)),
        };
        let before = std::mem::replace(&mut entry.at, at);
        if before != at {
            self.forget_at(name, before);
            self.elsewhere.remove(name);
            if let Some(at) = at {
                self.due.insert((at, name.to_owned()));
            }
        }
    }

    fn forget_at(&mut self, name: &str, at: Option<u64>) {
        if let Some(at) = at {
            self.due.remove(&(at, name.to_owned()));
        }
    }
}

/// Which of the nodes is responsible for what has this name: the same wherever the same nodes are believed to be there, and
/// another only where that one comes or goes.
///
/// Highest random weight: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998).
pub(crate) fn responsible(name: &str, nodes: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
    let weight = |node: &NodeId| {
        let mut hasher = SipHasher13::new_with_keys(0, 0);
        hasher.write(name.as_bytes());
        hasher.write_u128(node.0);
        (hasher.finish(), *node)
    };
    nodes.into_iter().max_by_key(weight)
}
