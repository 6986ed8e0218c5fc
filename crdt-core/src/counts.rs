//! The slots of a counter: per replica its totals, and how much of them was reset.
//!
//! A counter is observed-reset: whoever removes it, with the map entry it stands in, takes away exactly what it saw,
//! and what others add meanwhile stays. So a slot holds two marks of its replica's progress: the totals of the last
//! increment, and the totals that were reset. Both only grow, the larger sequence wins, and the slot counts the difference.
//!
//! A slot that is reset as far as it goes counts nothing and is nothing a user or a digest sees, but must *wait*: an
//! increment may be under way whose author had not seen the reset, and would count what was taken away once more. When
//! it may go is for the owner of the value to know (`drop_waiting`).
//!
//! When a replica opens its slot anew, its totals begin at nothing, and the slot says at which sequence it was opened:
//! every reset of something before that is void. (A number of its own for the opening would do the same; it is half a
//! step below the first increment instead.)
//!
//! Not here: which increments a counter takes; the two counters say that.
//!
//! Contract: totals only grow, saturating; an increment touches its replica's own slot and no other, so concurrent
//! increments never wait for or undo each other.

use crate::context::Seen;
use crate::delta::{Base, Kill, Part, Path, Payload, Put, Totals};
use crate::dot::Dot;
use crate::mutation::{Issuer, Mutation};
use crate::replicas::ReplicaIx;
use crate::store::{Diff, stays};
use crate::view::{Entry, Shift, Stored};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// One replica's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// Of the last increment. If nothing is left of it: of what was reset.
    dot: Dot,
    totals: Totals,
    base: Base,
}

impl Slot {
    fn is_live(&self) -> bool {
        self.base.is_below(self.dot)
    }

    fn payload(&self) -> Payload {
        Payload::Count {
            totals: self.totals,
            base: self.base,
        }
    }

    fn live(&self) -> Option<(Dot, Payload)> {
        self.is_live().then(|| (self.dot, self.payload()))
    }

    fn entry(&self) -> Option<Entry> {
        self.live().map(|(dot, payload)| (Path::Root, dot, payload))
    }

    /// The larger of each, and then what was reset is not below what was reached.
    fn join(&mut self, other: Slot) {
        if other.dot > self.dot {
            (self.dot, self.totals) = (other.dot, other.totals);
        }
        self.base = self.base.max(other.base);
        if let Some(reset) = self.base.reset_dot(self.dot.ix())
            && reset > self.dot
        {
            (self.dot, self.totals) = (reset, self.base.totals());
        }
    }
}

/// Ascending by replica.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Slots(Vec<Slot>);

impl Slots {
    fn find(&self, ix: ReplicaIx) -> Result<usize, usize> {
        self.0.binary_search_by_key(&ix, |slot| slot.dot.ix())
    }

    fn slot(&self, ix: ReplicaIx) -> Option<Slot> {
        self.find(ix).ok().map(|at| self.0[at])
    }

    /// The sum of the slots.
    pub(crate) fn total(&self) -> i128 {
        self.0.iter().fold(0_i128, |sum, slot| {
            let Totals { plus, minus } = slot.totals.beyond(slot.base);
            sum.saturating_add(i128::from(plus))
                .saturating_sub(i128::from(minus))
        })
    }

    /// What a mutation that the type takes does.
    pub(crate) fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        match mutation {
            Mutation::Create if self.is_empty() => self.increment(issuer, 0),
            Mutation::Increment(by) if *by != 0 || self.is_empty() => self.increment(issuer, *by),
            _ => Vec::new(),
        }
    }

    /// Adds to the issuer's own slot, or opens it.
    fn increment(&self, issuer: &Issuer<'_>, by: i64) -> Vec<Part> {
        let dot = issuer.dot(0);
        let own = self.slot(issuer.me);
        let own = own.filter(|slot| crate::planted!("increment_from_nothing", false, slot.is_live()));
        let (mut totals, base) = match own {
            Some(slot) => (slot.totals, slot.base),
            None => (Totals::default(), Base::opened(dot.seq())),
        };
        let side = if by < 0 {
            &mut totals.minus
        } else {
            &mut totals.plus
        };
        *side = side.saturating_add(by.unsigned_abs());
        let put = Put {
            path: Path::Root,
            payload: Payload::Count { totals, base },
        };
        vec![Part {
            dot,
            put: Some(put),
            kills: own
                .map(|slot| Kill::of(Path::Root, slot.dot))
                .into_iter()
                .collect(),
        }]
    }

    /// Changes the slot of a replica, which may be new or go, and says what became of its live dot.
    fn change(&mut self, ix: ReplicaIx, change: impl FnOnce(Option<Slot>) -> Option<Slot>) -> Shift {
        let place = self.find(ix);
        let old = place.ok().map(|at| self.0[at]);
        let new = change(old);
        match (place, new) {
            (Ok(at), Some(slot)) => self.0[at] = slot,
            (Ok(at), None) => {
                self.0.remove(at);
            }
            (Err(at), Some(slot)) => self.0.insert(at, slot),
            (Err(_), None) => {}
        }
        Shift::Slot {
            before: old.and_then(|slot| slot.live()),
            after: new.and_then(|slot| slot.live()),
        }
    }

    /// Takes the totals of a put for an increment and adds them to the replica's slot once more.
    #[cfg(planted)]
    pub(crate) fn count_again(&mut self, dot: Dot, payload: &Payload) -> Shift {
        let Payload::Count { totals, .. } = *payload else {
            return Shift::default();
        };
        self.change(dot.ix(), |slot| {
            slot.map(|mut slot| {
                slot.totals.plus = slot.totals.plus.saturating_add(totals.plus);
                slot.totals.minus = slot.totals.minus.saturating_add(totals.minus);
                slot
            })
        })
    }
}

impl Slots {
    /// Joins slots of the same replicas in place; false, and nothing is done, if the two do not have the same. Most
    /// counters that meet do, and most of their slots are equal.
    fn join_alike(
        &mut self,
        seen: &impl Seen,
        theirs: &Slots,
        theirs_seen: &impl Seen,
        diff: &mut Diff<Entry>,
    ) -> bool {
        let pairs = self.0.iter().zip(&theirs.0);
        if self.0.len() != theirs.0.len() || !pairs.clone().all(|(a, b)| a.dot.ix() == b.dot.ix()) {
            return false;
        }
        let mut is_gone = false;
        for (mine, theirs) in self.0.iter_mut().zip(&theirs.0) {
            if mine == theirs {
                continue;
            }
            let both = join_slots(*mine, seen, *theirs, theirs_seen);
            note(diff, mine.entry(), both.and_then(|slot| slot.entry()));
            // Nothing is at sequence 0 and of no base: it goes below.
            is_gone |= both.is_none();
            *mine = both.unwrap_or(Slot {
                base: Base::default(),
                totals: Totals::default(),
                ..*mine
            });
        }
        if is_gone {
            self.0.retain(|slot| slot.base != Base::default());
        }
        true
    }
}

fn note(diff: &mut Diff<Entry>, before: Option<Entry>, after: Option<Entry>) {
    if before != after {
        diff.removed.extend(before);
        diff.added.extend(after);
    }
}

/// What is left of a slot whose last increment is dead: what was reset before, which must wait.
fn without_last(slot: Slot) -> Option<Slot> {
    let dot = slot.base.reset_dot(slot.dot.ix())?;
    let totals = slot.base.totals();
    Some(Slot { dot, totals, ..slot })
}

impl Stored for Slots {
    fn is_empty(&self) -> bool {
        !self.0.iter().any(Slot::is_live)
    }

    fn is_vacant(&self) -> bool {
        self.0.is_empty()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(self.0.iter().map(|slot| (Path::Root, slot.dot, slot.payload())))
    }

    fn get(&self, path: &Path, dot: Dot) -> Option<Payload> {
        if *path != Path::Root {
            return None;
        }
        let slot = self.slot(dot.ix())?;
        (slot.dot == dot && slot.is_live()).then(|| slot.payload())
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> Shift {
        match *payload {
            Payload::Count { totals, base } if *path == Path::Root => self.change(dot.ix(), |slot| {
                let new = Slot { dot, totals, base };
                let mut joined = slot.unwrap_or(new);
                joined.join(new);
                Some(joined)
            }),
            _ => Shift::default(),
        }
    }

    fn kill(&mut self, kill: &Kill, is_seen: bool) -> Shift {
        let dot = kill.dot;
        if kill.path != Path::Root {
            return Shift::default();
        }
        self.change(dot.ix(), |slot| match (slot, kill.reset) {
            (Some(mut slot), Some(totals)) => {
                let base = crate::planted!(
                    "reset_forgets_the_totals",
                    Base::default(),
                    Base::reset(dot.seq(), totals)
                );
                slot.join(Slot { dot, totals, base });
                Some(slot)
            }
            // It was there, and has gone since: nothing of it is under way any more.
            (None, Some(_)) if is_seen => None,
            (None, Some(totals)) => Some(Slot {
                dot,
                totals,
                base: Base::reset(dot.seq(), totals),
            }),
            (Some(slot), None) if slot.dot == dot && slot.is_live() => without_last(slot),
            (slot, None) => slot,
        })
    }

    fn waits(&self, path: &Path, dot: Dot) -> bool {
        let slot = self.slot(dot.ix());
        *path == Path::Root && slot.is_some_and(|slot| slot.dot == dot && !slot.is_live())
    }

    fn drop_waiting(&mut self, path: &Path, dot: Dot) -> bool {
        let waits = self.waits(path, dot);
        if waits {
            self.0.retain(|slot| slot.dot != dot);
        }
        waits
    }

    fn join(&mut self, seen: &impl Seen, theirs: &Slots, theirs_seen: &impl Seen) -> Diff<Entry> {
        let mut diff = Diff::default();
        if self.join_alike(seen, theirs, theirs_seen, &mut diff) {
            return diff;
        }
        let mut joined = Vec::with_capacity(self.0.len().max(theirs.0.len()));
        let mut rest = theirs.0.iter().copied().peekable();
        for &mine in &self.0 {
            while let Some(slot) = rest.next_if(|slot| slot.dot.ix() < mine.dot.ix()) {
                take(slot, seen, &mut joined, &mut diff);
            }
            match rest.next_if(|slot| slot.dot.ix() == mine.dot.ix()) {
                Some(theirs) if theirs == mine => joined.push(mine),
                Some(theirs) => {
                    let both = join_slots(mine, seen, theirs, theirs_seen);
                    note(&mut diff, mine.entry(), both.and_then(|slot| slot.entry()));
                    joined.extend(both);
                }
                None if crate::planted!(
                    "slot_kept_that_they_dropped",
                    true,
                    stays(mine.dot, theirs_seen)
                ) =>
                {
                    joined.push(mine);
                }
                None => diff.removed.extend(mine.entry()),
            }
        }
        for slot in rest {
            take(slot, seen, &mut joined, &mut diff);
        }
        self.0 = joined;
        diff
    }
}

/// Joins two slots of one replica. An increment that one side has seen and is behind is dead, like any other dot.
fn join_slots(mine: Slot, seen: &impl Seen, theirs: Slot, theirs_seen: &impl Seen) -> Option<Slot> {
    let standing = |slot: Slot, other: Slot, is_seen: bool| {
        if slot.is_live() && other.dot < slot.dot && is_seen {
            without_last(slot)
        } else {
            Some(slot)
        }
    };
    let of_mine = standing(mine, theirs, !stays(mine.dot, theirs_seen));
    let of_theirs = standing(theirs, mine, !stays(theirs.dot, seen));
    match (of_mine, of_theirs) {
        (Some(mut both), Some(other)) => {
            both.join(other);
            Some(both)
        }
        (mine, theirs) => mine.or(theirs),
    }
}

/// Takes a slot that only the other side has, unless it was here and has gone.
fn take(slot: Slot, seen: &impl Seen, joined: &mut Vec<Slot>, diff: &mut Diff<Entry>) {
    if stays(slot.dot, seen) {
        diff.added.extend(slot.entry());
        joined.push(slot);
    }
}
