//! The dots that say no more than "exists": what a creation or a removal leaves at the root of a set or map.
//!
//! Not here: registers, whose marks stand among their writes.
//!
//! Contract: they are creations and removals that nobody built on yet, so they may stand beside elements or children,
//! and the next mutation that sees them takes them away.

use alloc::vec;
use alloc::vec::Vec;

use crate::context::Seen;
use crate::delta::{Kill, Part, Path, Payload, Put};
use crate::dot::Dot;
use crate::mutation::Issuer;
use crate::store::{Diff, DotSet, DotStore};
use crate::view::{Entry, Shift};

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Marks(DotSet);

impl Marks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.0.entries().map(entry)
    }

    pub(crate) fn get(&self, dot: Dot) -> Option<Payload> {
        self.0.contains(dot).then_some(Payload::Present)
    }

    pub(crate) fn insert(&mut self, dot: Dot, payload: &Payload) -> Shift {
        if *payload == Payload::Present && self.0.insert(dot) {
            Shift::Came(dot)
        } else {
            Shift::default()
        }
    }

    pub(crate) fn kill(&mut self, dot: Dot) -> Shift {
        if self.0.remove(dot) {
            Shift::Went(dot, Payload::Present)
        } else {
            Shift::default()
        }
    }

    pub(crate) fn join(&mut self, seen: &impl Seen, theirs: &Marks, theirs_seen: &impl Seen) -> Diff<Entry> {
        let diff = self.0.join(seen, &theirs.0, theirs_seen);
        Diff {
            added: diff.added.into_iter().map(entry).collect(),
            removed: diff.removed.into_iter().map(entry).collect(),
        }
    }

    /// What takes them all away.
    pub(crate) fn kills(&self) -> impl Iterator<Item = Kill> + '_ {
        self.0.entries().map(|dot| Kill::of(Path::Root, dot))
    }

    /// The one part of a removal that kills these; none if that is nothing.
    ///
    /// It leaves a mark also when something remains here: if others remove that concurrently, each of us leaves some,
    /// and what nobody emptied and nobody deleted would be gone.
    pub(crate) fn removal(&self, issuer: &Issuer<'_>, mut kills: Vec<Kill>) -> Vec<Part> {
        if kills.is_empty() {
            return Vec::new();
        }
        kills.extend(self.kills());
        vec![mark(issuer, kills)]
    }
}

fn entry(dot: Dot) -> Entry {
    (Path::Root, dot, Payload::Present)
}

/// A part that creates what has no dot at all; none otherwise.
pub(crate) fn create(issuer: &Issuer<'_>, is_empty: bool) -> Vec<Part> {
    if is_empty {
        vec![mark(issuer, Vec::new())]
    } else {
        Vec::new()
    }
}

/// A part that leaves a mark.
fn mark(issuer: &Issuer<'_>, kills: Vec<Kill>) -> Part {
    let put = Put {
        path: Path::Root,
        payload: Payload::Present,
    };
    Part {
        dot: issuer.dot(0),
        put: Some(put),
        kills,
    }
}
