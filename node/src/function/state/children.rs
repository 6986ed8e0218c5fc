//! A map whose values are states themselves.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::ops::Deref;

use anabranch_crdt::{Mutation, Type};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Seen, State, update_at};

/// A map of states: under each key a struct that derives [`State`], or any other value but a
/// [`BoundedCounter`](super::BoundedCounter), which no map takes.
///
/// What a command changes of a child it changes as it would a field. An update of a child wins over a removal of its key that had
/// not seen it, and stands alone then: nothing of the removed child comes back with it.
///
/// ```
/// use anabranch::state::{LwwRegister, OrMap, OrSet, PnCounter, State};
/// use anabranch::{Context, Function};
///
/// #[derive(State)]
/// struct Item {
///     title: LwwRegister<String>,
///     votes: PnCounter,
///     tags: OrSet<String>,
/// }
///
/// #[derive(State)]
/// struct Board {
///     items: OrMap<String, Item>,
/// }
///
/// impl Board {
///     fn put(&mut self, _: &mut Context, (id, title): (String, String)) -> Result<usize, String> {
///         let item = self.items.entry(&id); // made if it is not there
///         item.title.set(&title);
///         item.tags.add("new");
///         Ok(self.items.len())
///     }
///
///     fn vote(&mut self, _: &mut Context, id: String) -> Result<i128, String> {
///         let item = self.items.get_mut(&id).ok_or_else(|| format!("there is no {id}"))?;
///         item.votes.increment(1);
///         Ok(item.votes.get())
///     }
///
///     fn drop(&mut self, _: &mut Context, id: String) -> Result<(), String> {
///         self.items.remove(&id);
///         Ok(())
///     }
///
///     fn titles(&self) -> Vec<(String, Option<String>)> {
///         let items = self.items.entries().into_iter();
///         items.map(|(id, item)| (id, item.title.get())).collect()
///     }
/// }
///
/// let board = Function::of::<Board>("board")
///     .command("put", Board::put)
///     .command("vote", Board::vote)
///     .command("drop", Board::drop)
///     .query("titles", |board, _, ()| Ok::<_, String>(board.titles()));
/// # let _: Function = board.into();
/// ```
///
/// A child may be a map itself, also of its own type (a tree), as deep as maps can be: eight keys and fields from the entity down.
/// A command that opens a child below that is refused. A map of bounded counters is none that compiles:
///
/// ```compile_fail
/// use anabranch::Function;
/// use anabranch::state::{BoundedCounter, OrMap};
///
/// let stock = Function::of::<OrMap<String, BoundedCounter>>("stock")
///     .query("size", |stock, _, ()| Ok::<_, String>(stock.len()));
/// # let _: Function = stock.into();
/// ```
#[derive(Debug)]
pub struct OrMap<K, S> {
    seen: Seen,
    is_cleared: bool,
    /// Keys under which the command has removed what it saw.
    removed: BTreeSet<Bytes>,
    /// Children that may be changed, since they were last removed.
    open: BTreeMap<Bytes, Open<S>>,
    /// What was done before those were opened.
    changes: Vec<Mutation>,
    holds: PhantomData<fn() -> K>,
}

#[derive(Debug)]
struct Open<S> {
    child: S,
    is_new: bool,
}

/// A child of an [`OrMap`], to look at: what the command saw of it, or what it has made of it so far.
#[derive(Debug)]
pub struct Child<'a, S>(Shown<'a, S>);

#[derive(Debug)]
enum Shown<'a, S> {
    Now(&'a S),
    Seen(S),
}

impl<S> Deref for Child<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        match &self.0 {
            Shown::Now(child) => child,
            Shown::Seen(child) => child,
        }
    }
}

impl<K: 'static, S: State> State for OrMap<K, S> {
    const TYPE: Type = Type::OrMap;

    fn open(seen: &Seen) -> OrMap<K, S> {
        const {
            let is_child = !matches!(S::TYPE, Type::BoundedCounter);
            assert!(is_child, "no map holds a BoundedCounter");
        }
        OrMap {
            seen: seen.clone(),
            is_cleared: false,
            removed: BTreeSet::new(),
            open: BTreeMap::new(),
            changes: Vec::new(),
            holds: PhantomData,
        }
    }

    fn changes(mut self) -> Vec<Mutation> {
        self.close_all();
        self.changes
    }
}

impl<K, S: State> OrMap<K, S> {
    /// What was below the key when the command began, unless the command has removed it.
    fn below(&self, key: &Bytes) -> Option<Seen> {
        let child = self.seen.value_as(Type::OrMap)?.child(key)?;
        let is_there = !self.is_removed(key) && self.seen.is_child_of(key, child, S::TYPE);
        is_there.then(|| self.seen.within(key.clone()))
    }

    fn is_removed(&self, key: &[u8]) -> bool {
        self.is_cleared || self.removed.contains(key)
    }

    /// The keys under which something is now.
    fn all(&self) -> BTreeSet<Bytes> {
        let mut all: BTreeSet<Bytes> = self.open.keys().cloned().collect();
        if let Some(anabranch_crdt::Value::OrMap(map)) = self.seen.value_as(Type::OrMap) {
            let below = map.iter().filter(|(key, _)| !self.is_removed(key));
            let left = below.filter(|(key, child)| self.seen.is_child_of(key, child, S::TYPE));
            all.extend(left.map(|(key, _)| Bytes::copy_from_slice(key)));
        }
        all
    }

    fn shown(&self, key: &Bytes) -> Option<Child<'_, S>> {
        let shown = match self.open.get(key) {
            Some(open) => Shown::Now(&open.child),
            None => Shown::Seen(S::open(&self.below(key)?)),
        };
        Some(Child(shown))
    }

    /// The child in a form that may be changed, if it is there or shall be.
    fn opened(&mut self, key: Bytes, makes: bool) -> Option<&mut S> {
        if !self.open.contains_key(&key) {
            let below = self.below(&key);
            let is_new = below.is_none();
            if is_new && !makes {
                return None;
            }
            let child = S::open(&below.unwrap_or_else(|| self.seen.absent()));
            self.open.insert(key.clone(), Open { child, is_new });
        }
        self.open.get_mut(&key).map(|open| &mut open.child)
    }

    /// What was done to a child goes before what is done to the map next.
    fn close(&mut self, key: Bytes, open: Open<S>) {
        let mut changes = open.child.changes();
        if open.is_new {
            // Last: where the changes have made it, it does nothing.
            changes.push(Mutation::Create);
        }
        update_at(&mut self.changes, &key, S::TYPE, changes);
    }

    fn close_all(&mut self) {
        for (key, open) in std::mem::take(&mut self.open) {
            self.close(key, open);
        }
    }
}

impl<K: Serialize + DeserializeOwned, S: State> OrMap<K, S> {
    /// Whether there is something under the key.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let key = self.seen.sought::<K, Q>(key);
        self.open.contains_key(&key) || self.below(&key).is_some()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys, by their bytes.
    pub fn keys(&self) -> Vec<K> {
        let all = self.all().into_iter();
        all.filter_map(|key| self.seen.decode(&key)).collect()
    }

    /// What is under the key, to look at; nothing where there is nothing.
    pub fn get<Q>(&self, key: &Q) -> Option<Child<'_, S>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.shown(&self.seen.sought::<K, Q>(key))
    }

    /// What is under the key, to change; nothing where there is nothing.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut S>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let key = self.seen.sought::<K, Q>(key);
        self.opened(key, false)
    }

    /// What is under the key, to change; it is made if it is not there, also if nothing is done to it.
    #[allow(clippy::missing_panics_doc, reason = "it never does")]
    pub fn entry<Q>(&mut self, key: &Q) -> &mut S
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let key = self.seen.keep::<K, Q>(key);
        let Some(child) = self.opened(key, true) else {
            unreachable!("what is not there was made");
        };
        child
    }

    /// Removes a key and what the command saw under it, if it is there.
    pub fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let key = self.seen.sought::<K, Q>(key);
        if let Some(open) = self.open.remove(&key) {
            self.close(key.clone(), open);
        }
        self.removed.insert(key.clone());
        match self.changes.last_mut() {
            Some(Mutation::Remove(keys)) => keys.push(key),
            _ => self.changes.push(Mutation::Remove(vec![key])),
        }
    }

    /// Removes all that the command saw.
    pub fn clear(&mut self) {
        self.close_all();
        self.removed.clear();
        self.is_cleared = true;
        self.changes.push(Mutation::Clear);
    }

    /// What there is, by the keys' bytes, to look at.
    pub fn entries(&self) -> Vec<(K, Child<'_, S>)> {
        let all = self.all().into_iter();
        all.filter_map(|key| Some((self.seen.decode(&key)?, self.shown(&key)?)))
            .collect()
    }
}
