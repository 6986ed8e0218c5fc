//! A counter that only grows.
//!
//! Not here: the slots it is made of (`counts`).
//!
//! Contract: its value is the sum of all replicas' totals.

use crate::context::Seen;
use crate::counts::Slots;
use crate::delta::{Part, Path, Payload};
use crate::dot::Dot;
use crate::kind::{Crdt, Type};
use crate::mutation::{Issuer, Mutation, MutationError};
use crate::store::Diff;
use crate::view::{Entry, View};

/// A counter that only grows.
///
/// ```
/// use anabranch_crdt::{GCounter, Crdt};
///
/// assert_eq!(GCounter::TYPE.name(), "gcounter");
/// assert_eq!(GCounter::default().total(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GCounter {
    slots: Slots,
    digest: u64,
}

impl GCounter {
    /// What it counts to.
    pub fn total(&self) -> i128 {
        self.slots.total()
    }

    /// The digest of the live dots, kept up by the joins.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}

impl Crdt for GCounter {
    const TYPE: Type = Type::GCounter;
}

impl View for GCounter {
    fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Result<Vec<Part>, MutationError> {
        match mutation {
            Mutation::Create => Ok(self.slots.create(issuer)),
            Mutation::Increment(by) if *by < 0 => Err(MutationError::NegativeIncrement { by: *by }),
            Mutation::Increment(by) => Ok(self.slots.increment(issuer, *by)),
            other => Err(MutationError::WrongOperation {
                ty: Self::TYPE,
                operation: other.name(),
            }),
        }
    }

    fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(self.slots.entries())
    }

    fn get(&self, path: &Path, dot: Dot) -> Option<Payload> {
        self.slots.get(path, dot)
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> bool {
        Self::TYPE.admits_at(path, payload) && self.slots.insert(dot, payload)
    }

    fn remove(&mut self, path: &Path, dot: Dot) -> Option<Payload> {
        self.slots.remove(path, dot)
    }

    fn join_stores(&mut self, seen: &impl Seen, theirs: &GCounter, theirs_seen: &impl Seen) -> Diff<Entry> {
        self.slots.join(seen, &theirs.slots, theirs_seen)
    }

    fn digest_mut(&mut self) -> &mut u64 {
        &mut self.digest
    }

    #[cfg(planted)]
    fn count_again(&mut self, env: &crate::Env<'_>, dot: Dot, payload: &Payload) {
        self.slots.count_again(env, dot, payload, &mut self.digest);
    }
}
