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
use crate::marks::{self, Marks};
use crate::mutation::Issuer;
use crate::planted;
use crate::store::{Diff, DotMap, DotSet, DotStore};
use crate::view::{Entry, Shift, Stored};

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Elements {
    marks: Marks,
    elements: DotMap<Element, DotSet>,
}

impl Elements {
    pub(crate) fn len(&self) -> usize {
        self.elements.key_count()
    }

    pub(crate) fn contains(&self, element: &[u8]) -> bool {
        self.elements.find(element).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.elements.iter().map(|(element, _)| element.as_slice())
    }

    /// Makes it exist.
    pub(crate) fn create(&self, issuer: &Issuer<'_>) -> Vec<Part> {
        marks::create(issuer, self.is_empty())
    }

    /// A part an element, ascending.
    pub(crate) fn add<'a>(
        &self,
        issuer: &Issuer<'_>,
        elements: impl IntoIterator<Item = &'a Bytes>,
    ) -> Vec<Part> {
        let mut marks: Vec<Kill> = planted!("marks_pile_up", Vec::new(), self.marks.kills().collect());
        let mut part = |(position, element): (usize, &Bytes)| {
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
        };
        let mut elements = elements.into_iter();
        match (elements.next(), elements.next()) {
            (None, _) => Vec::new(),
            (Some(one), None) => vec![part((0, one))],
            (Some(one), Some(other)) => {
                let distinct: BTreeSet<&Bytes> = [one, other].into_iter().chain(elements).collect();
                distinct.into_iter().enumerate().map(part).collect()
            }
        }
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

    fn removal(&self, issuer: &Issuer<'_>, kills: Vec<Kill>) -> Vec<Part> {
        let parts = self.marks.removal(issuer, kills);
        planted!("set_remove_without_dots", without_elements(parts), parts)
    }

    fn kill_element<'a>(&'a self, element: &'a Bytes) -> impl Iterator<Item = Kill> + 'a {
        let dots = self.elements.find(element).map_or(&[][..], DotSet::as_slice);
        dots.iter()
            .map(move |dot| Kill::of(Path::Element(element.clone()), *dot))
    }
}

/// The mistake of `set_remove_without_dots`: the removal says nothing of what it removed.
#[cfg(planted)]
fn without_elements(mut parts: Vec<Part>) -> Vec<Part> {
    let elements_stay = |part: &mut Part| part.kills.retain(|kill| kill.path == Path::Root);
    parts.iter_mut().for_each(elements_stay);
    parts
}

fn path_of(element: &Element) -> Path {
    Path::Element(Bytes::copy_from_slice(element.as_slice()))
}

impl Stored for Elements {
    fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.elements.is_empty()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(self.marks.entries().chain(self.elements.entries().map(entry)))
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
        match path {
            Path::Root => self.marks.get(dot),
            Path::Element(element) => {
                let dots = self.elements.find(element)?;
                dots.contains(dot).then_some(Payload::Present)
            }
            Path::Child(_) => None,
        }
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> Shift {
        match path {
            Path::Root => self.marks.insert(dot, payload),
            Path::Element(element) if *payload == Payload::Present => {
                let element = Element::from(&element[..]);
                if self.elements.update(element, |dots| dots.insert(dot)) {
                    Shift::Came(dot)
                } else {
                    Shift::default()
                }
            }
            _ => Shift::default(),
        }
    }

    fn kill(&mut self, kill: &Kill, _is_seen: bool) -> Shift {
        match &kill.path {
            Path::Root => self.marks.kill(kill.dot),
            Path::Element(element) => {
                let dots = |dots: &mut DotSet| dots.remove(kill.dot);
                if self.elements.update_found(element, dots) == Some(true) {
                    Shift::Went(kill.dot, Payload::Present)
                } else {
                    Shift::default()
                }
            }
            Path::Child(_) => Shift::default(),
        }
    }

    fn join(&mut self, seen: &impl Seen, theirs: &Elements, theirs_seen: &impl Seen) -> Diff<Entry> {
        let mut diff = self.marks.join(seen, &theirs.marks, theirs_seen);
        diff.absorb(self.elements.join(seen, &theirs.elements, theirs_seen), entry);
        diff
    }
}

fn entry((element, dot): (Element, Dot)) -> Entry {
    (path_of(&element), dot, Payload::Present)
}

/// What the two types of set have in common for those who read them.
macro_rules! set_of_elements {
    ($set:ident) => {
        impl $set {
            /// How many elements it has.
            ///
            /// ```
            /// use anabranch_crdt::{Mutation, Value};
            /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
            ///
            /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
            /// # let (mut or_set, mut g_set) = (Causal::new(Type::OrSet), Causal::new(Type::GSet));
            /// let add = Mutation::Add(vec!["x".into(), "y".into(), "x".into()]);
            /// or_set.join_op(&or_set.mutate(me, 0, &add)?)?;
            /// g_set.join_op(&g_set.mutate(me, 0, &add)?)?;
            /// assert!(matches!(or_set.value(), Value::OrSet(set) if set.len() == 2));
            /// assert!(matches!(g_set.value(), Value::GSet(set) if set.len() == 2));
            /// # Ok::<(), CausalError>(())
            /// ```
            pub fn len(&self) -> usize {
                self.elements.len()
            }

            /// Whether it has no element. It may exist all the same.
            ///
            /// ```
            /// use anabranch_crdt::{Mutation, Value};
            /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
            ///
            /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
            /// # let (mut or_set, mut g_set) = (Causal::new(Type::OrSet), Causal::new(Type::GSet));
            /// or_set.join_op(&or_set.mutate(me, 0, &Mutation::Create)?)?;
            /// g_set.join_op(&g_set.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
            /// assert!(matches!(or_set.value(), Value::OrSet(set) if set.is_empty()));
            /// assert!(or_set.value().exists());
            /// assert!(matches!(g_set.value(), Value::GSet(set) if !set.is_empty()));
            /// # Ok::<(), CausalError>(())
            /// ```
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether it has this element.
            ///
            /// ```
            /// use anabranch_crdt::Value;
            /// # use anabranch_crdt::{Causal, CausalError, Epoch, Mutation, NodeId, ReplicaId, Type};
            ///
            /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
            /// # let (mut or_set, mut g_set) = (Causal::new(Type::OrSet), Causal::new(Type::GSet));
            /// # let add = Mutation::Add(vec!["x".into()]);
            /// # or_set.join_op(&or_set.mutate(me, 0, &add)?)?;
            /// # g_set.join_op(&g_set.mutate(me, 0, &add)?)?;
            /// // "x" was added to both.
            /// assert!(matches!(or_set.value(), Value::OrSet(set) if set.contains(b"x") && !set.contains(b"y")));
            /// assert!(matches!(g_set.value(), Value::GSet(set) if set.contains(b"x") && !set.contains(b"y")));
            /// # Ok::<(), CausalError>(())
            /// ```
            pub fn contains(&self, element: &[u8]) -> bool {
                self.elements.contains(element)
            }

            /// Its elements, bytewise ascending.
            ///
            /// ```
            /// use anabranch_crdt::{Mutation, Value};
            /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
            ///
            /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
            /// # let (mut or_set, mut g_set) = (Causal::new(Type::OrSet), Causal::new(Type::GSet));
            /// let add = Mutation::Add(vec!["y".into(), "x".into()]);
            /// or_set.join_op(&or_set.mutate(me, 0, &add)?)?;
            /// g_set.join_op(&g_set.mutate(me, 0, &add)?)?;
            /// assert!(matches!(or_set.value(), Value::OrSet(set) if set.iter().eq([b"x", b"y"])));
            /// assert!(matches!(g_set.value(), Value::GSet(set) if set.iter().eq([b"x", b"y"])));
            /// # Ok::<(), CausalError>(())
            /// ```
            pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
                self.elements.iter()
            }
        }
    };
}
pub(crate) use set_of_elements;
