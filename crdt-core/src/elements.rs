//! The store of a set: dots by element, and the marks that say "exists".
//!
//! Not here: which operations a set takes; each type of set says that.
//!
//! Contract: the marks are creations and removals that nobody built on yet; they may stand beside elements. Each
//! added element gets a dot of its own and supersedes the dots of it that the adder saw.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::context::Seen;
use crate::delta::{Kill, Part, Path, Payload, Put};
use crate::dot::Dot;
use crate::element::Element;
use crate::mutation::Issuer;
use crate::planted;
use crate::store::{Diff, DotMap, DotSet, DotStore};
use crate::view::{Entry, Shift, Stored};

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Elements {
    marks: DotSet,
    elements: DotMap<Element, DotSet>,
}

impl Elements {
    pub(crate) fn len(&self) -> usize {
        self.elements.key_count()
    }

    pub(crate) fn contains(&self, element: &[u8]) -> bool {
        self.elements.get(element).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.elements.iter().map(|(element, _)| element.as_slice())
    }

    /// Leaves a mark if there is nothing at all.
    pub(crate) fn create(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        if self.is_empty() {
            vec![mark(issuer, Vec::new())]
        } else {
            Vec::new()
        }
    }

    /// A part an element, ascending.
    pub(crate) fn add<'a>(
        &self,
        issuer: &Issuer<'_>,
        elements: impl IntoIterator<Item = &'a Bytes>,
    ) -> Vec<Part> {
        let mut marks = planted!("marks_pile_up", Vec::new(), self.kill_marks());
        let distinct: BTreeSet<&Bytes> = elements.into_iter().collect();
        distinct
            .into_iter()
            .enumerate()
            .map(|(position, element)| {
                let mut kills = core::mem::take(&mut marks); // the first part takes them
                kills.extend(self.kill_element(element));
                let put = Put {
                    path: Path::Element(element.clone()),
                    payload: Payload::Present,
                };
                Part {
                    dot: issuer.dot(position),
                    put: Some(put),
                    kills,
                }
            })
            .collect()
    }

    pub(crate) fn remove_elements(&self, issuer: &Issuer<'_>, elements: &[Bytes]) -> Vec<Part> {
        let distinct: BTreeSet<&Bytes> = elements.iter().collect();
        let kills = distinct
            .into_iter()
            .flat_map(|element| self.kill_element(element));
        self.removal(issuer, kills.collect())
    }

    pub(crate) fn clear(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        let kills = self
            .elements
            .entries()
            .map(|(element, dot)| Kill::of(path_of(&element), dot));
        self.removal(issuer, kills.collect())
    }

    /// The one part of a removal.
    ///
    /// It leaves a mark also when elements remain here: if others remove those concurrently, each of us leaves
    /// some, and the set that nobody emptied and nobody deleted would be gone.
    fn removal(&self, issuer: &Issuer<'_>, kills: Vec<Kill>) -> Vec<Part> {
        if kills.is_empty() {
            return Vec::new();
        }
        let mut kills = planted!("set_remove_without_dots", Vec::new(), kills);
        kills.extend(self.kill_marks());
        vec![mark(issuer, kills)]
    }

    fn kill_marks(&self) -> Vec<Kill> {
        let dots = self.marks.entries();
        dots.map(|dot| Kill::of(Path::Root, dot)).collect()
    }

    fn kill_element(&self, element: &Bytes) -> impl Iterator<Item = Kill> + '_ {
        let path = Path::Element(element.clone());
        let dots = self.elements.get(&element[..]).map_or(&[][..], DotSet::as_slice);
        dots.iter().map(move |dot| Kill::of(path.clone(), *dot))
    }
}

/// A part that leaves a mark at the root.
pub(crate) fn mark(issuer: &Issuer<'_>, kills: Vec<Kill>) -> Part {
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

fn path_of(element: &Element) -> Path {
    Path::Element(Bytes::copy_from_slice(element.as_slice()))
}

impl Stored for Elements {
    fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.elements.is_empty()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        let marks = self
            .marks
            .entries()
            .map(|dot| (Path::Root, dot, Payload::Present));
        let elements = self
            .elements
            .entries()
            .map(|(element, dot)| (path_of(&element), dot, Payload::Present));
        Box::new(marks.chain(elements))
    }

    fn entries_after<'a>(&'a self, path: &'a Path, dot: Dot) -> Box<dyn Iterator<Item = Entry> + 'a> {
        let Path::Element(element) = path else {
            let here = self.entries();
            return Box::new(here.skip_while(move |(other, at, _)| (other, *at) <= (path, dot)));
        };
        let from_here = self.elements.iter_from(&element[..]).flat_map(|(element, dots)| {
            dots.entries()
                .map(|dot| (path_of(element), dot, Payload::Present))
        });
        Box::new(from_here.skip_while(move |(other, at, _)| other == path && *at <= dot))
    }

    fn get(&self, path: &Path, dot: Dot) -> Option<Payload> {
        let dots = match path {
            Path::Root => &self.marks,
            Path::Element(element) => self.elements.get(&element[..])?,
            Path::Child(_) => return None,
        };
        dots.contains(dot).then_some(Payload::Present)
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> Shift {
        let is_new = match path {
            _ if *payload != Payload::Present => false,
            Path::Root => self.marks.insert(dot),
            Path::Element(element) => self
                .elements
                .update(Element::from(&element[..]), |dots| dots.insert(dot)),
            Path::Child(_) => false,
        };
        if is_new {
            Shift::added(path, dot, payload)
        } else {
            Shift::default()
        }
    }

    fn kill(&mut self, kill: &Kill, _is_seen: bool) -> Shift {
        let was_there = match &kill.path {
            Path::Root => self.marks.remove(kill.dot),
            Path::Element(element) => self
                .elements
                .update_existing(&element[..], |dots| dots.remove(kill.dot))
                .unwrap_or(false),
            Path::Child(_) => false,
        };
        if was_there {
            Shift::removed(&kill.path, kill.dot, Payload::Present)
        } else {
            Shift::default()
        }
    }

    fn join(&mut self, seen: &impl Seen, theirs: &Elements, theirs_seen: &impl Seen) -> Diff<Entry> {
        let marks = self.marks.join(seen, &theirs.marks, theirs_seen);
        let elements = self.elements.join(seen, &theirs.elements, theirs_seen);
        let outward = |marks: Vec<Dot>, elements: Vec<(Element, Dot)>| {
            let marks = marks.into_iter().map(|dot| (Path::Root, dot, Payload::Present));
            let elements = elements
                .iter()
                .map(|(element, dot)| (path_of(element), *dot, Payload::Present));
            marks.chain(elements).collect()
        };
        Diff {
            added: outward(marks.added, elements.added),
            removed: outward(marks.removed, elements.removed),
        }
    }
}
