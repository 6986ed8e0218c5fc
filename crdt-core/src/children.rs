//! The store of a map: a value by key and type, and the marks that say "exists".
//!
//! Not here: which types of children a map takes; each type of map says that.
//!
//! Contract: a child is there while it has a live dot. Removing a key removes what the remover saw of the child, and
//! nothing of the key stays behind but a mark of the map itself; so what others did to the child meanwhile stands
//! alone, and nothing of the old child comes back with it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use bytes::Bytes;

use crate::context::Seen;
use crate::delta::{Child, Kill, Part, Path, Payload};
use crate::dot::Dot;
use crate::element::{self, Element};
use crate::kind::Type;
use crate::marks::{self, Marks};
use crate::mutation::{Issuer, Mutation};
use crate::planted;
use crate::store::Diff;
use crate::value::Value;
use crate::view::{Entry, Shift, Stored};

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Children {
    marks: Marks,
    /// Under each key by type, ascending; none is vacant. More than one only if two sides of a partition differed.
    by_key: BTreeMap<Element, Vec<Value>>,
}

impl Children {
    /// The child that shows under a key: of the lowest type, if there are several.
    pub(crate) fn show(&self, key: &[u8]) -> Option<&Value> {
        element::find(&self.by_key, key)?
            .iter()
            .find(|value| value.exists())
    }

    fn of_type(&self, key: &[u8], ty: Type) -> Option<&Value> {
        element::find(&self.by_key, key)?
            .iter()
            .find(|value| value.ty() == ty)
    }

    /// The children that show, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Value)> + '_ {
        self.by_key.iter().filter_map(|(key, values)| {
            let value = values.iter().find(|value| value.exists())?;
            Some((key.as_slice(), value))
        })
    }

    /// What a mutation that the type takes does.
    pub(crate) fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation, only: Option<Type>) -> Vec<Part> {
        match mutation {
            Mutation::Create => marks::create(issuer, self.is_empty()),
            Mutation::Update { key, ty, mutation } => {
                let ty = ty.or(only).or_else(|| self.show(key).map(Value::ty));
                ty.map_or_else(Vec::new, |ty| self.update(issuer, key, ty, mutation))
            }
            Mutation::Remove(keys) => {
                let keys: BTreeSet<&Bytes> = keys.iter().collect();
                let kills = keys
                    .into_iter()
                    .filter_map(|key| self.by_key.get_key_value(&key[..]));
                self.marks.removal(
                    issuer,
                    kills.flat_map(|(key, values)| kill_all(key, values)).collect(),
                )
            }
            Mutation::Clear => {
                let kills = self.by_key.iter().flat_map(|(key, values)| kill_all(key, values));
                self.marks.removal(issuer, kills.collect())
            }
            _ => Vec::new(),
        }
    }

    /// What the child makes of its mutation; the first part also takes the map's marks.
    fn update(&self, issuer: &Issuer<'_>, key: &Bytes, ty: Type, mutation: &Mutation) -> Vec<Part> {
        let absent = Value::new(ty);
        let child = self.of_type(key, ty).unwrap_or(&absent);
        let mut parts = child.parts(issuer, mutation);
        for part in &mut parts {
            if let Some(put) = part.put.take() {
                let path = put.path.within(key.clone(), ty);
                part.put = Some(crate::Put { path, ..put });
            }
            for kill in &mut part.kills {
                kill.path = core::mem::replace(&mut kill.path, Path::Root).within(key.clone(), ty);
            }
        }
        if let Some(first) = parts.first_mut() {
            let marks = self.marks.kills();
            first
                .kills
                .extend(marks.filter(|_| planted!("map_marks_pile_up", false, true)));
        }
        parts
    }

    /// Changes a child, a new one if there is none, and forgets it if nothing is left of it.
    fn change<R>(&mut self, child: &Child, change: impl FnOnce(&mut Value) -> R) -> R {
        let values = self.by_key.entry(Element::from(&child.key[..])).or_default();
        let at = values
            .binary_search_by_key(&child.ty, Value::ty)
            .unwrap_or_else(|at| {
                values.insert(at, Value::new(child.ty));
                at
            });
        let result = change(&mut values[at]);
        if values[at].is_vacant() {
            values.remove(at);
        }
        if values.is_empty() {
            self.by_key.remove(&child.key[..]);
        }
        result
    }
}

/// The removal of the children under a key.
fn kill_all<'a>(key: &'a Element, values: &'a [Value]) -> impl Iterator<Item = Kill> + 'a {
    values.iter().flat_map(move |value| {
        let goes = |_kill: &Kill| planted!("removal_is_shallow", _kill.path.depth() == 0, true);
        value.kills().filter(goes).map(move |kill| Kill {
            path: kill.path.within(bytes_of(key), value.ty()),
            ..kill
        })
    })
}

fn bytes_of(key: &Element) -> Bytes {
    Bytes::copy_from_slice(key.as_slice())
}

fn within<'a>(key: &'a Element, ty: Type) -> impl Fn(Entry) -> Entry + 'a {
    let key = bytes_of(key);
    move |(path, dot, payload)| (path.within(key.clone(), ty), dot, payload)
}

impl Stored for Children {
    fn is_empty(&self) -> bool {
        self.marks.is_empty() && !self.by_key.values().flatten().any(Value::exists)
    }

    fn is_vacant(&self) -> bool {
        self.marks.is_empty() && self.by_key.is_empty()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        let children = self.by_key.iter().flat_map(|(key, values)| {
            values
                .iter()
                .flat_map(move |value| Stored::entries(value).map(within(key, value.ty())))
        });
        Box::new(self.marks.entries().chain(children))
    }

    fn entries_after<'a>(&'a self, path: &'a Path, dot: Dot) -> Box<dyn Iterator<Item = Entry> + 'a> {
        let Path::Child(child) = path else {
            let here = self.entries();
            return Box::new(here.skip_while(move |(other, at, _)| (other, *at) <= (path, dot)));
        };
        let from_here = self
            .by_key
            .range::<[u8], _>((Bound::Included(&child.key[..]), Bound::Unbounded));
        Box::new(from_here.flat_map(move |(key, values)| {
            let is_child = key.as_slice() == &child.key[..];
            let values = values
                .iter()
                .filter(move |value| !is_child || value.ty() >= child.ty);
            values.flat_map(move |value| {
                let rest = if is_child && value.ty() == child.ty {
                    Stored::entries_after(value, &child.path, dot)
                } else {
                    Stored::entries(value)
                };
                rest.map(within(key, value.ty()))
            })
        }))
    }

    fn get(&self, path: &Path, dot: Dot) -> Option<Payload> {
        match path {
            Path::Root => self.marks.get(dot),
            Path::Element(_) => None,
            Path::Child(child) => Stored::get(self.of_type(&child.key, child.ty)?, &child.path, dot),
        }
    }

    fn insert(&mut self, path: &Path, dot: Dot, payload: &Payload) -> Shift {
        match path {
            Path::Root => self.marks.insert(dot, payload),
            Path::Element(_) => Shift::default(),
            Path::Child(child) => self.change(child, |value| value.insert(&child.path, dot, payload)),
        }
    }

    fn kill(&mut self, kill: &Kill, is_seen: bool) -> Shift {
        match &kill.path {
            Path::Root => self.marks.kill(kill.dot),
            Path::Element(_) => Shift::default(),
            Path::Child(child) => {
                let inner = Kill {
                    path: child.path.clone(),
                    ..*kill
                };
                self.change(child, |value| value.kill(&inner, is_seen))
            }
        }
    }

    fn waits(&self, path: &Path, dot: Dot) -> bool {
        match path {
            Path::Child(child) => {
                let value = self.of_type(&child.key, child.ty);
                value.is_some_and(|value| Stored::waits(value, &child.path, dot))
            }
            _ => false,
        }
    }

    fn drop_waiting(&mut self, path: &Path, dot: Dot) -> bool {
        match path {
            Path::Child(child) if self.of_type(&child.key, child.ty).is_some() => {
                self.change(child, |value| value.drop_waiting(&child.path, dot))
            }
            _ => false,
        }
    }

    fn join(&mut self, seen: &impl Seen, theirs: &Children, theirs_seen: &impl Seen) -> Diff<Entry> {
        let mut diff = self.marks.join(seen, &theirs.marks, theirs_seen);
        let keys = |of: &Children| -> Vec<(Element, Type)> {
            let pairs = of.by_key.iter();
            pairs
                .flat_map(|(key, values)| values.iter().map(|value| (key.clone(), value.ty())))
                .collect()
        };
        let both: BTreeSet<(Element, Type)> = keys(self).into_iter().chain(keys(theirs)).collect();
        for (key, ty) in both {
            let absent = Value::new(ty);
            let other = theirs.of_type(key.as_slice(), ty).unwrap_or(&absent);
            if self.of_type(key.as_slice(), ty).is_some_and(|mine| mine == other) {
                continue;
            }
            let child = Child {
                key: bytes_of(&key),
                ty,
                path: Path::Root,
            };
            let inner = self.change(&child, |value| Stored::join(value, seen, other, theirs_seen));
            diff.absorb(inner, within(&key, ty));
        }
        diff
    }
}
