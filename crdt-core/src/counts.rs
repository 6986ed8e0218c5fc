//! The slots of a counter: per replica one live dot with that replica's totals.
//!
//! Not here: which increments a counter takes; the two counters say that.
//!
//! Contract: totals only grow, saturating; an increment replaces the replica's own dot and touches no other slot,
//! so concurrent increments never wait for or undo each other.

use crate::context::Seen;
use crate::delta::{Kill, Part, Path, Payload, Put};
use crate::dot::Dot;
use crate::mutation::{Issuer, Mutation};
use crate::store::{Diff, DotFun, DotStore};
use crate::view::{Entry, Stored};

/// One replica's totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Count {
    pub(crate) plus: u64,
    pub(crate) minus: u64,
}

impl Count {
    fn payload(self) -> Payload {
        Payload::Count {
            plus: self.plus,
            minus: self.minus,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Slots(DotFun<Count>);

impl Slots {
    /// The sum of the slots.
    pub(crate) fn total(&self) -> i128 {
        self.0.as_slice().iter().fold(0_i128, |sum, (_, count)| {
            sum.saturating_add(i128::from(count.plus))
                .saturating_sub(i128::from(count.minus))
        })
    }

    /// What a mutation that the type takes does.
    pub(crate) fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        match mutation {
            Mutation::Create => self.create(issuer),
            Mutation::Increment(by) => self.increment(issuer, *by),
            _ => Vec::new(),
        }
    }

    /// Opens the issuer's own slot with nothing in it, if there is no slot at all.
    fn create(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        if self.is_empty() {
            self.increment(issuer, 0)
        } else {
            Vec::new()
        }
    }

    /// Adds to the issuer's own slot.
    fn increment(&self, issuer: &Issuer<'_>, by: i64) -> Vec<Part> {
        if by == 0 && !self.is_empty() {
            return Vec::new();
        }
        let own = self.0.of_replica(issuer.me);
        let mut count = own.last().map(|(_, count)| *count).unwrap_or_default();
        let side = if by < 0 { &mut count.minus } else { &mut count.plus };
        *side = side.saturating_add(by.unsigned_abs());
        let old = crate::planted!("old_total_stays", &[][..], own);
        let kills = old
            .iter()
            .map(|(dot, _)| Kill {
                path: Path::Root,
                dot: *dot,
            })
            .collect();
        let put = Some(Put {
            path: Path::Root,
            payload: count.payload(),
        });
        vec![Part {
            dot: issuer.dot(0),
            put,
            kills,
        }]
    }

    /// Takes the totals of a put for an increment and adds them to the replica's slot once more.
    #[cfg(planted)]
    pub(crate) fn count_again(
        &mut self,
        env: &crate::Env<'_>,
        dot: Dot,
        payload: &Payload,
        digest: &mut u64,
    ) {
        let Payload::Count { plus, minus } = *payload else {
            return;
        };
        let item = |dot, count: Count| crate::digest::item(env, &Path::Root, dot, &count.payload());
        let (slot, mut count) = self
            .0
            .of_replica(dot.ix())
            .last()
            .copied()
            .unwrap_or((dot, Count::default()));
        if let Some(old) = self.0.remove(slot) {
            *digest = digest.wrapping_sub(item(slot, old));
        }
        count.plus = count.plus.saturating_add(plus);
        count.minus = count.minus.saturating_add(minus);
        self.0.insert(slot, count);
        *digest = digest.wrapping_add(item(slot, count));
    }
}

impl Stored for Slots {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        let slots = self.0.as_slice().iter();
        Box::new(slots.map(|(dot, count)| (Path::Root, *dot, count.payload())))
    }

    fn get(&self, path: &Path, dot: Dot) -> Option<Payload> {
        if *path != Path::Root {
            return None;
        }
        self.0.get(dot).map(|count| count.payload())
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> bool {
        match *payload {
            Payload::Count { plus, minus } if *path == Path::Root => {
                self.0.insert(dot, Count { plus, minus })
            }
            _ => false,
        }
    }

    fn remove(&mut self, path: &Path, dot: Dot) -> Option<Payload> {
        if *path != Path::Root {
            return None;
        }
        self.0.remove(dot).map(Count::payload)
    }

    fn join(&mut self, seen: &impl Seen, theirs: &Slots, theirs_seen: &impl Seen) -> Diff<Entry> {
        let diff = self.0.join(seen, &theirs.0, theirs_seen);
        let outward = |entries: Vec<(Dot, Count)>| {
            entries
                .into_iter()
                .map(|(dot, count)| (Path::Root, dot, count.payload()))
                .collect()
        };
        Diff {
            added: outward(diff.added),
            removed: outward(diff.removed),
        }
    }
}
