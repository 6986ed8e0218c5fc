//! What every type is to the join: an operation's meaning, over a store of dots by path.
//!
//! Not here: the types themselves, the shapes of store they share, and the rule of the join ([`crate::store`]).
//!
//! Contract: the digest follows every dot that comes or goes, and joining a delta looks only at the places the
//! delta names.

use crate::context::Seen;
use crate::delta::{Delta, Kill, Part, Path, Payload};
use crate::digest;
use crate::dot::Dot;
use crate::kind::Type;
use crate::mutation::{Issuer, Mutation};
use crate::store::Diff;
pub(crate) use crate::store::stays;
use crate::value::{Changed, Env};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// One dot that a store keeps: where it is, which it is, what it carries.
pub(crate) type Entry = (Path, Dot, Payload);

/// What became of the live dot at a place.
#[derive(Debug, Default)]
pub(crate) enum Shift {
    /// Nothing.
    #[default]
    None,
    /// This one came, and carries what it was given.
    Came(Dot),
    /// It went.
    Went(Dot, Payload),
    /// A counter's slot: the same dot may carry something else.
    Slot {
        before: Option<(Dot, Payload)>,
        after: Option<(Dot, Payload)>,
    },
}

/// Dots by path: those alive, and of counters those that wait.
pub(crate) trait Stored {
    /// Whether there is no live dot.
    fn is_empty(&self) -> bool;

    /// Whether there is no dot at all, so that the store can go.
    fn is_vacant(&self) -> bool {
        self.is_empty()
    }

    /// Every dot that is kept, by path and then by dot.
    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_>;

    /// Those of them that come after this place and dot. Finding where they begin costs little where there may be many.
    fn entries_after<'a>(&'a self, path: &'a Path, dot: Dot) -> Box<dyn Iterator<Item = Entry> + 'a> {
        Box::new(
            self.entries()
                .skip_while(move |(other, at, _)| (other, *at) <= (path, dot)),
        )
    }

    /// What the live dot at this place carries.
    fn get(&self, path: &Path, dot: Dot) -> Option<Payload>;

    /// Adds a dot; nothing changes if it is there or does not fit the store.
    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> Shift;

    /// Takes a dot out, or resets a counter's slot; `is_seen` says whether this side has seen the dot.
    fn kill(&mut self, kill: &Kill, is_seen: bool) -> Shift;

    /// Whether something waits under this dot.
    fn waits(&self, _path: &Path, _dot: Dot) -> bool {
        false
    }

    /// Lets go of what waits under this dot; false if nothing does.
    fn drop_waiting(&mut self, _path: &Path, _dot: Dot) -> bool {
        false
    }

    /// Joins another store into this one. A dot that stays but carries something else is both removed and added.
    fn join(&mut self, seen: &impl Seen, theirs: &Self, theirs_seen: &impl Seen) -> Diff<Entry>;
}

/// A type: what its operations do to its store.
pub(crate) trait View {
    /// Which type.
    const TYPE: Type;

    /// The shape of its store.
    type Store: Stored;

    /// What a mutation that the type takes does; empty if it changes nothing.
    fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part>;

    /// Its live dots.
    fn store(&self) -> &Self::Store;

    /// The sum that follows its live dots.
    fn digest(&self) -> u64;

    /// Its live dots, and the sum that follows them.
    fn store_mut(&mut self) -> (&mut Self::Store, &mut u64);

    /// Adds a dot that fits the type.
    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> Shift {
        if Self::TYPE.admits_at(path, payload) && payload.fits(dot) {
            self.store_mut().0.insert(path, dot, payload)
        } else {
            Shift::default()
        }
    }

    /// The mistake of [`planted!`](crate::planted) `duplicate_counted_twice`; only counters can make it.
    #[cfg(planted)]
    fn count_again(&mut self, _dot: Dot, _payload: &Payload) -> Shift {
        Shift::default()
    }
}

/// The type's part of [`View`] for a struct with a store of this shape and a `digest`; `mutate` is its own.
macro_rules! view {
    ($view:ident, $store:ident: $shape:ident) => {
        impl crate::kind::Crdt for $view {
            const TYPE: crate::kind::Type = crate::kind::Type::$view;
        }

        impl crate::view::View for $view {
            const TYPE: crate::kind::Type = crate::kind::Type::$view;
            type Store = $shape;

            fn mutate(
                &self,
                issuer: &crate::mutation::Issuer<'_>,
                mutation: &crate::mutation::Mutation,
            ) -> Vec<crate::delta::Part> {
                self.parts(issuer, mutation)
            }

            fn store(&self) -> &$shape {
                &self.$store
            }

            fn digest(&self) -> u64 {
                self.digest
            }

            fn store_mut(&mut self) -> (&mut $shape, &mut u64) {
                (&mut self.$store, &mut self.digest)
            }

            $crate::view::count_again!($shape, $store);
        }
    };
}
pub(crate) use view;

/// Only a store of slots counts.
#[cfg(planted)]
macro_rules! count_again {
    (Slots, $store:ident) => {
        fn count_again(&mut self, dot: crate::Dot, payload: &crate::Payload) -> crate::view::Shift {
            self.$store.count_again(dot, payload)
        }
    };
    ($shape:ident, $store:ident) => {};
}
#[cfg(not(planted))]
macro_rules! count_again {
    ($shape:ident, $store:ident) => {};
}
pub(crate) use count_again;

/// What a join changes, as it goes: the digest and the news.
pub(crate) struct Ledger<'a> {
    env: &'a Env<'a>,
    pub(crate) sum: u64,
    pub(crate) changed: Changed,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(env: &'a Env<'a>, sum: u64) -> Ledger<'a> {
        let changed = Changed::default();
        Ledger { env, sum, changed }
    }

    /// Takes note of what became of the live dot at a place; of what was put there; and of the operation `by`.
    pub(crate) fn note(&mut self, path: &Path, shift: Shift, put: Option<&Payload>, by: Option<Dot>) {
        match shift {
            Shift::None => {}
            Shift::Came(dot) => {
                let item = put.map_or(0, |payload| digest::item(self.env, path, dot, payload));
                self.sum = self.sum.wrapping_add(item);
                self.changed.added.push(dot);
            }
            Shift::Went(dot, payload) => {
                self.sum = self.sum.wrapping_sub(digest::item(self.env, path, dot, &payload));
                self.changed.removed.push(dot);
            }
            Shift::Slot { before, after } if before == after => {}
            Shift::Slot { before, after } => {
                let item = |(dot, payload): &(Dot, Payload)| digest::item(self.env, path, *dot, payload);
                let (less, more) = (before.as_ref().map_or(0, item), after.as_ref().map_or(0, item));
                self.sum = self.sum.wrapping_sub(less).wrapping_add(more);
                let dot = |live: Option<(Dot, Payload)>| live.map(|(dot, _)| dot);
                match (dot(before), dot(after)) {
                    (Some(before), Some(after)) if before == after => self.changed.raised.push((after, by)),
                    (before, after) => {
                        self.changed.removed.extend(before);
                        self.changed.added.extend(after);
                    }
                }
            }
        }
    }

    /// The news, without what came and went again in one step.
    pub(crate) fn finish(mut self) -> Changed {
        take_common(&mut self.changed.added, &mut self.changed.removed);
        self.changed
    }
}

/// So many pairs of dots are compared before lists are sorted: most operations change one or two.
const COMPARED_MAX: usize = 64;

/// Takes the dots that both lists have out of them.
fn take_common(added: &mut Vec<Dot>, removed: &mut Vec<Dot>) -> Vec<Dot> {
    if added.is_empty() || removed.is_empty() {
        return Vec::new();
    }
    if added.len() * removed.len() <= COMPARED_MAX && !added.iter().any(|dot| removed.contains(dot)) {
        return Vec::new();
    }
    let mut went = removed.clone();
    went.sort_unstable();
    let mut common: Vec<Dot> = added
        .extract_if(.., |dot| went.binary_search(dot).is_ok())
        .collect();
    common.sort_unstable();
    removed.retain(|dot| common.binary_search(dot).is_err());
    common
}

/// Joins a delta. Within it order does not matter: a put that any part kills does not come alive.
pub(crate) fn join_delta<V: View>(view: &mut V, env: &Env<'_>, seen: &impl Seen, delta: &Delta) -> Changed {
    let mut ledger = Ledger::new(env, view.digest());
    let killed = killed_dots(delta.parts());
    let is_put = |part: &Part| stays(part.dot, seen) && killed.binary_search(&part.dot).is_err();
    // What a part kills it has seen and lacks: by the rule it does not stay. Resets come first: they need the slot that
    // an increment beside them replaces.
    let parts = InOrder::of(delta.parts(), |part| part.dot);
    for resets in [true, false] {
        for part in parts.iter() {
            // The last first: stores of a few dots keep them in one piece of memory.
            let kills = InOrder::of(&part.kills, |kill| kill.dot);
            for kill in kills.iter().rev().filter(|kill| kill.reset.is_some() == resets) {
                if is_followed(view, kill, part) && is_put(part) {
                    continue;
                }
                crate::planted!(
                    "remove_takes_unseen",
                    remove_all_at(view, &kill.path, &mut ledger),
                    ()
                );
                let shift = view.store_mut().0.kill(kill, !stays(kill.dot, seen));
                ledger.note(&kill.path, shift, None, Some(part.dot));
            }
        }
    }
    for part in parts.iter() {
        let Some(put) = &part.put else { continue };
        if is_put(part) {
            let shift = view.insert(&put.path, part.dot, &put.payload);
            ledger.note(&put.path, shift, Some(&put.payload), None);
        } else if !stays(part.dot, seen) {
            #[cfg(planted)]
            let count_again = |view: &mut V, ledger: &mut Ledger<'_>| {
                ledger.note(&put.path, view.count_again(part.dot, &put.payload), None, None);
            };
            crate::planted!("duplicate_counted_twice", count_again(view, &mut ledger), ());
        }
    }
    *view.store_mut().1 = ledger.sum;
    ledger.finish()
}

/// So many are taken in whatever order they come.
const UNORDERED_MAX: usize = 64;

/// Things by their dots: many at once would take the time of their number squared in the worst order, which only somebody
/// hostile would choose.
struct InOrder<'a, T> {
    few: &'a [T],
    many: Vec<&'a T>,
}

impl<'a, T> InOrder<'a, T> {
    fn of(items: &'a [T], dot: impl Fn(&T) -> Dot) -> InOrder<'a, T> {
        if items.len() <= UNORDERED_MAX {
            return InOrder {
                few: items,
                many: Vec::new(),
            };
        }
        let mut many: Vec<&T> = items.iter().collect();
        many.sort_by_key(|item| dot(item));
        InOrder { few: &[], many }
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = &'a T> + '_ {
        self.few.iter().chain(self.many.iter().copied())
    }
}

/// Whether the kill is of a counter's increment that the put beside it stands for: to put that is to replace it, and the
/// slot need not go and come back.
fn is_followed<V: View>(view: &V, kill: &Kill, part: &Part) -> bool {
    let Some(put) = &part.put else { return false };
    let Payload::Count { base, .. } = put.payload else {
        return false;
    };
    let is_its_slot = kill.reset.is_none() && kill.dot.ix() == part.dot.ix() && kill.dot < part.dot;
    is_its_slot
        && put.path == kill.path
        // Only a forged one goes back behind what the slot counts from.
        && matches!(view.store().get(&kill.path, kill.dot), Some(Payload::Count { base: old, .. }) if old <= base)
}

/// The mistake of [`planted!`](crate::planted) `remove_takes_unseen`: whatever is there goes, seen by the remover or not.
#[cfg(planted)]
fn remove_all_at<V: View>(view: &mut V, path: &Path, ledger: &mut Ledger<'_>) {
    let there: Vec<Entry> = view.store().entries().filter(|(at, _, _)| at == path).collect();
    for (_, dot, _) in there {
        let shift = view.store_mut().0.kill(&Kill::of(path.clone(), dot), true);
        ledger.note(path, shift, None, None);
    }
}

/// The dots that parts of a delta kill, ascending. Only a delta of several parts can kill one of its own puts.
fn killed_dots(parts: &[Part]) -> Vec<Dot> {
    if parts.len() < 2 {
        return Vec::new();
    }
    let mut dots: Vec<Dot> = parts
        .iter()
        .flat_map(|part| &part.kills)
        .map(|kill| kill.dot)
        .collect();
    dots.sort_unstable();
    dots
}

/// Joins another state.
pub(crate) fn join<V: View>(
    view: &mut V,
    env: &Env<'_>,
    seen: &impl Seen,
    theirs: &V,
    theirs_seen: &impl Seen,
) -> Changed {
    let (store, sum) = view.store_mut();
    let diff = store.join(seen, theirs.store(), theirs_seen);
    *sum = sum
        .wrapping_add(digest_of(env, &diff.added))
        .wrapping_sub(digest_of(env, &diff.removed));
    let dots = |entries: Vec<Entry>| entries.into_iter().map(|(_, dot, _)| dot).collect::<Vec<Dot>>();
    let (mut added, mut removed) = (dots(diff.added), dots(diff.removed));
    // The same dot on both sides: it stays and carries something else.
    let raised = take_common(&mut added, &mut removed);
    Changed {
        added,
        removed,
        raised: raised.into_iter().map(|dot| (dot, None)).collect(),
    }
}

/// The digest of these live dots.
pub(crate) fn digest_of(env: &Env<'_>, dots: &[Entry]) -> u64 {
    dots.iter().fold(0, |sum, (path, dot, payload)| {
        sum.wrapping_add(digest::item(env, path, *dot, payload))
    })
}
