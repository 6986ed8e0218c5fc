//! The store of a register: the dots in force, each with what it wrote.
//!
//! Not here: which of them a register shows, and what a write supersedes; each type says that.
//!
//! Contract: all is at the root, and a stored write has bytes of its own.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

use crate::context::Seen;
use crate::delta::{Kill, Part, Path, Payload, Put};
use crate::dot::Dot;
use crate::marks;
use crate::mutation::Issuer;
use crate::store::{Diff, DotFun, DotStore};
use crate::view::{Entry, Shift, Stored};

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Writes(DotFun<Payload>);

impl Writes {
    /// The dots in force with what they carry.
    pub(crate) fn as_slice(&self) -> &[(Dot, Payload)] {
        self.0.as_slice()
    }

    /// Makes it exist.
    pub(crate) fn create(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        marks::create(issuer, self.is_empty())
    }

    /// A write that supersedes what `goes` says.
    pub(crate) fn write(
        &self,
        issuer: &Issuer<'_>,
        payload: Payload,
        goes: impl Fn(Dot, &Payload) -> bool,
    ) -> Vec<Part> {
        let kills = self
            .as_slice()
            .iter()
            .filter(|(dot, payload)| goes(*dot, payload))
            .map(|(dot, _)| Kill::of(Path::Root, *dot))
            .collect();
        let put = Put {
            path: Path::Root,
            payload,
        };
        vec![Part {
            dot: issuer.dot(0),
            put: Some(put),
            kills,
        }]
    }
}

impl Stored for Writes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(self.0.entries().map(|(dot, payload)| (Path::Root, dot, payload)))
    }

    fn get(&self, path: &Path, dot: Dot) -> Option<Payload> {
        self.0.get(dot).filter(|_| *path == Path::Root).cloned()
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> Shift {
        if *path == Path::Root && self.0.insert(dot, owned(payload)) {
            Shift::Came(dot)
        } else {
            Shift::default()
        }
    }

    fn kill(&mut self, kill: &Kill, _is_seen: bool) -> Shift {
        let payload = (kill.path == Path::Root)
            .then(|| self.0.remove(kill.dot))
            .flatten();
        payload.map_or_else(Shift::default, |payload| Shift::Went(kill.dot, payload))
    }

    fn join(&mut self, seen: &impl Seen, theirs: &Writes, theirs_seen: &impl Seen) -> Diff<Entry> {
        let diff = self.0.join(seen, &theirs.0, theirs_seen);
        let outward = |writes: Vec<(Dot, Payload)>| {
            let at_root = writes
                .into_iter()
                .map(|(dot, payload)| (Path::Root, dot, payload));
            at_root.collect()
        };
        Diff {
            added: outward(diff.added),
            removed: outward(diff.removed),
        }
    }
}

/// The payload with bytes of its own: a slice of a received frame would keep the whole frame alive.
fn owned(payload: &Payload) -> Payload {
    match payload {
        Payload::Stamped { clock, mode, value } => Payload::Stamped {
            clock: *clock,
            mode: *mode,
            value: Bytes::copy_from_slice(value),
        },
        Payload::Written { value } => Payload::Written {
            value: Bytes::copy_from_slice(value),
        },
        other => other.clone(),
    }
}
