//! A set in which an addition wins over a concurrent removal: a removal removes what it saw, and no more.
//!
//! Not here: what an element means; it is bytes.
//!
//! Contract: each added element gets a dot of its own, also one that is there already, and supersedes the dots of
//! it that the adder saw. A set without elements still exists: every removal leaves its own dot as a mark, until
//! the next mutation that sees it. So every mutation puts something, and only a delete, which is no mutation of the
//! set, makes it absent.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::context::Seen;
use crate::delta::{Kill, Part, Path, Payload, Put};
use crate::dot::Dot;
use crate::element::Element;
use crate::kind::{Crdt, Type};
use crate::mutation::{Issuer, Mutation, MutationError};
use crate::planted;
use crate::store::{Diff, DotMap, DotSet, DotStore};
use crate::view::{Entry, View};

/// A set in which an addition wins over a concurrent removal.
///
/// ```
/// use anabranch_crdt::{Crdt, OrSet};
///
/// let set = OrSet::default();
/// assert_eq!(OrSet::TYPE.name(), "orset");
/// assert!(set.is_empty() && !set.contains(b"x"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OrSet {
    /// The dots that say "exists": creations and removals that nobody built on yet. They may stand beside elements.
    marks: DotSet,
    elements: DotMap<Element, DotSet>,
    digest: u64,
}

impl OrSet {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.elements.key_count()
    }

    /// Whether it has no element. It may exist all the same.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Whether it has this element.
    pub fn contains(&self, element: &[u8]) -> bool {
        self.elements.get(element).is_some()
    }

    /// Its elements, bytewise ascending.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.elements.iter().map(|(element, _)| element.as_slice())
    }

    /// The digest of the live dots, kept up by the joins.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    fn create(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        if !View::is_empty(self) {
            return Vec::new();
        }
        vec![Part {
            dot: issuer.dot(0),
            put: Some(mark()),
            kills: Vec::new(),
        }]
    }

    fn add(&self, issuer: &Issuer<'_>, elements: &[Bytes]) -> Vec<Part> {
        let mut marks = planted!("marks_pile_up", Vec::new(), self.kill_marks());
        let distinct: BTreeSet<&Bytes> = elements.iter().collect();
        distinct
            .into_iter()
            .enumerate()
            .map(|(position, element)| {
                let mut kills = std::mem::take(&mut marks); // the first part takes them
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

    fn remove_elements(&self, issuer: &Issuer<'_>, elements: &[Bytes]) -> Vec<Part> {
        let distinct: BTreeSet<&Bytes> = elements.iter().collect();
        self.removal(
            issuer,
            distinct
                .into_iter()
                .flat_map(|element| self.kill_element(element))
                .collect(),
        )
    }

    fn clear(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        let kills = self
            .elements
            .entries()
            .map(|(element, dot)| Kill {
                path: path_of(&element),
                dot,
            })
            .collect();
        self.removal(issuer, kills)
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
        vec![Part {
            dot: issuer.dot(0),
            put: Some(mark()),
            kills,
        }]
    }

    fn kill_marks(&self) -> Vec<Kill> {
        self.marks
            .entries()
            .map(|dot| Kill {
                path: Path::Root,
                dot,
            })
            .collect()
    }

    fn kill_element(&self, element: &Bytes) -> impl Iterator<Item = Kill> + '_ {
        let path = Path::Element(element.clone());
        let dots = self.elements.get(&element[..]).map_or(&[][..], DotSet::as_slice);
        dots.iter().map(move |dot| Kill {
            path: path.clone(),
            dot: *dot,
        })
    }
}

fn mark() -> Put {
    Put {
        path: Path::Root,
        payload: Payload::Present,
    }
}

fn path_of(element: &Element) -> Path {
    Path::Element(Bytes::copy_from_slice(element.as_slice()))
}

impl Crdt for OrSet {
    const TYPE: Type = Type::OrSet;
}

impl View for OrSet {
    fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Result<Vec<Part>, MutationError> {
        match mutation {
            Mutation::Create => Ok(self.create(issuer)),
            Mutation::Add(elements) => Ok(self.add(issuer, elements)),
            Mutation::Remove(elements) => Ok(self.remove_elements(issuer, elements)),
            Mutation::Clear => Ok(self.clear(issuer)),
            other => Err(MutationError::WrongOperation {
                ty: Self::TYPE,
                operation: other.name(),
            }),
        }
    }

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
        };
        dots.contains(dot).then_some(Payload::Present)
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> bool {
        if !Self::TYPE.admits_at(path, payload) {
            return false;
        }
        match path {
            Path::Root => self.marks.insert(dot),
            Path::Element(element) => self
                .elements
                .update(Element::from(&element[..]), |dots| dots.insert(dot)),
        }
    }

    fn remove(&mut self, path: &Path, dot: Dot) -> Option<Payload> {
        let removed = match path {
            Path::Root => self.marks.remove(dot),
            Path::Element(element) => self
                .elements
                .update_existing(&element[..], |dots| dots.remove(dot))
                .unwrap_or(false),
        };
        removed.then_some(Payload::Present)
    }

    fn join_stores(&mut self, seen: &impl Seen, theirs: &OrSet, theirs_seen: &impl Seen) -> Diff<Entry> {
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

    fn digest_mut(&mut self) -> &mut u64 {
        &mut self.digest
    }
}
