//! What every type is to the join: an operation's meaning, over a store of dots by path.
//!
//! Not here: the types themselves, the shapes of store they share, and the rule of the join ([`crate::store`]).
//!
//! Contract: the digest follows every dot that comes or goes, and joining a delta looks only at the places the
//! delta names.

use crate::context::Seen;
use crate::delta::{Delta, Part, Path, Payload};
use crate::digest;
use crate::dot::Dot;
use crate::kind::Type;
use crate::mutation::{Issuer, Mutation, MutationError};
use crate::store::Diff;
pub(crate) use crate::store::stays;
use crate::value::{Changed, Env};

/// One live dot: where it is, which it is, what it carries.
pub(crate) type Entry = (Path, Dot, Payload);

/// Live dots by path.
pub(crate) trait Stored {
    /// Whether there is no live dot.
    fn is_empty(&self) -> bool;

    /// Every live dot, by path and then by dot.
    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_>;

    /// Those of them that come after this place and dot. Finding where they begin costs little where there may be many.
    fn entries_after<'a>(&'a self, path: &'a Path, dot: Dot) -> Box<dyn Iterator<Item = Entry> + 'a> {
        Box::new(
            self.entries()
                .skip_while(move |(other, at, _)| (other, *at) <= (path, dot)),
        )
    }

    /// What the dot at this place carries.
    fn get(&self, path: &Path, dot: Dot) -> Option<Payload>;

    /// Adds a dot; false, and nothing changes, if it is there or does not fit the store.
    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> bool;

    /// Takes a dot out.
    fn remove(&mut self, path: &Path, dot: Dot) -> Option<Payload>;

    /// Joins another store into this one.
    fn join(&mut self, seen: &impl Seen, theirs: &Self, theirs_seen: &impl Seen) -> Diff<Entry>;
}

/// A type: what its operations do to its store.
pub(crate) trait View {
    /// Which type.
    const TYPE: Type;

    /// The shape of its store.
    type Store: Stored;

    /// What the mutation does; empty if it changes nothing.
    fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Result<Vec<Part>, MutationError>;

    /// Its live dots.
    fn store(&self) -> &Self::Store;

    /// The sum that follows its live dots.
    fn digest(&self) -> u64;

    /// Its live dots, and the sum that follows them.
    fn store_mut(&mut self) -> (&mut Self::Store, &mut u64);

    /// Adds a dot that fits the type.
    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> bool {
        Self::TYPE.admits_at(path, payload) && self.store_mut().0.insert(path, dot, payload)
    }

    /// The mistake of [`planted!`](crate::planted) `duplicate_counted_twice`; only counters can make it.
    #[cfg(planted)]
    fn count_again(&mut self, _env: &Env<'_>, _dot: Dot, _payload: &Payload) {}
}

/// The type's part of [`View`] for a struct with a store of this shape and a `digest`; `mutate` is its own.
macro_rules! view {
    ($view:ident, $store:ident: $shape:ty) => {
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
            ) -> Result<Vec<crate::delta::Part>, crate::mutation::MutationError> {
                mutation.check(crate::kind::Type::$view)?;
                Ok(self.parts(issuer, mutation))
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
        fn count_again(&mut self, env: &crate::Env<'_>, dot: crate::Dot, payload: &crate::Payload) {
            self.$store.count_again(env, dot, payload, &mut self.digest);
        }
    };
    ($shape:ty, $store:ident) => {};
}
#[cfg(not(planted))]
macro_rules! count_again {
    ($shape:ty, $store:ident) => {};
}
pub(crate) use count_again;

/// Joins a delta. Within it order does not matter: a put that any part kills does not come alive.
pub(crate) fn join_delta<V: View>(view: &mut V, env: &Env<'_>, seen: &impl Seen, delta: &Delta) -> Changed {
    let mut changed = Changed::default();
    let mut sum = view.digest();
    let killed = killed_dots(delta.parts());
    for part in delta.parts() {
        let Some(put) = &part.put else { continue };
        if !stays(part.dot, seen) {
            #[cfg(planted)]
            let count_again = |view: &mut V, sum: &mut u64| {
                view.count_again(env, part.dot, &put.payload);
                *sum = view.digest();
            };
            crate::planted!("duplicate_counted_twice", count_again(view, &mut sum), ());
        } else if killed.binary_search(&part.dot).is_err() && view.insert(&put.path, part.dot, &put.payload) {
            sum = sum.wrapping_add(digest::item(env, &put.path, part.dot, &put.payload));
            changed.added.push(part.dot);
        }
    }
    // What a part kills it has seen and lacks: by the rule it does not stay.
    for kill in delta.parts().iter().flat_map(|part| &part.kills) {
        crate::planted!(
            "remove_takes_unseen",
            remove_all_at(view, env, &kill.path, &mut sum, &mut changed),
            ()
        );
        if let Some(payload) = view.store_mut().0.remove(&kill.path, kill.dot) {
            sum = sum.wrapping_sub(digest::item(env, &kill.path, kill.dot, &payload));
            changed.removed.push(kill.dot);
        }
    }
    *view.store_mut().1 = sum;
    changed
}

/// The mistake of [`planted!`](crate::planted) `remove_takes_unseen`: whatever is there goes, seen by the remover or not.
#[cfg(planted)]
fn remove_all_at<V: View>(view: &mut V, env: &Env<'_>, path: &Path, sum: &mut u64, changed: &mut Changed) {
    let there: Vec<Entry> = view.store().entries().filter(|(at, _, _)| at == path).collect();
    for (_, dot, payload) in there {
        view.store_mut().0.remove(path, dot);
        *sum = sum.wrapping_sub(digest::item(env, path, dot, &payload));
        changed.removed.push(dot);
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
    let sum_of =
        |entries: &[Entry]| digest_of(env, entries.iter().map(|(path, dot, load)| (path, *dot, load)));
    *sum = sum
        .wrapping_add(sum_of(&diff.added))
        .wrapping_sub(sum_of(&diff.removed));
    let dots = |entries: Vec<Entry>| entries.into_iter().map(|(_, dot, _)| dot).collect();
    Changed {
        added: dots(diff.added),
        removed: dots(diff.removed),
    }
}

/// The digest of these live dots.
pub(crate) fn digest_of<'a>(env: &Env<'_>, dots: impl Iterator<Item = (&'a Path, Dot, &'a Payload)>) -> u64 {
    dots.fold(0, |sum, (path, dot, payload)| {
        sum.wrapping_add(digest::item(env, path, dot, payload))
    })
}
