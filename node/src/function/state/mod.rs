//! The state of an entity as its function sees it: replicated values, read and changed as if they were its own.
//!
//! A state is one of the values here, or a struct of them:
//!
//! ```
//! use anabranch::state::{CounterMap, LwwRegister, State};
//!
//! #[derive(State)]
//! struct Cart {
//!     lines: CounterMap<String>,
//!     note: LwwRegister<String>,
//! }
//! assert_eq!(Cart::TYPE, anabranch::Type::OrMap);
//! ```
//!
//! A field may be a struct of its own, and [`OrMap`] is a map of such: a child is read and changed as a field is. A
//! [`BoundedCounter`] is the state of an entity of its own: as a field it does not compile.
//!
//! ```compile_fail
//! use anabranch::Function;
//! use anabranch::state::{BoundedCounter, OrSet, State};
//!
//! #[derive(State)]
//! struct Hall {
//!     seats: BoundedCounter,
//!     guests: OrSet<String>,
//! }
//! let hall = Function::of::<Hall>("hall").query("guests", |hall, _, ()| Ok::<_, String>(hall.guests.len()));
//! # let _: Function = hall.into();
//! ```
//!
//! What goes in has the type that comes out, or what that can be borrowed as (`str` for a `String`), as in the maps of the standard
//! library: `set(&5)` sets a `LwwRegister<u64>` to a `u64`. Another type does not compile:
//!
//! ```compile_fail
//! # use anabranch::{Context, state::LwwRegister};
//! fn set(register: &mut LwwRegister<u64>, _: &mut Context, value: i32) -> Result<(), String> {
//!     register.set(&value); // 5 as an i32 would be kept as what is 10 as a u64
//!     Ok(())
//! }
//! # let _: anabranch::Function = anabranch::Function::of::<LwwRegister<u64>>("n").command("set", set).into();
//! ```
//!
//! ```compile_fail
//! # use anabranch::{Context, state::CounterMap};
//! fn count(votes: &mut CounterMap<u32>, _: &mut Context, name: String) -> Result<(), String> {
//!     votes.increment(&name, 1);
//!     Ok(())
//! }
//! # let _: anabranch::Function = anabranch::Function::of::<CounterMap<u32>>("n").command("count", count).into();
//! ```
//!
//! A command sees its own changes at once. Others see them once the command has returned without an error, as the operations that
//! it did: so what others do meanwhile is neither lost nor undone.
//!
//! Elements, keys and values may be of any serde type that postcard can write. Text and byte strings are kept as they are, so that
//! they read the same on the command line. Everything else is kept as postcard, which has no names and goes by the order of fields
//! and variants. So put new variants of an enum after the old ones; and where a struct is to get another field, make it a new type,
//! under a new name of the state's field.
//!
//! **Never change the type of an element, a key or a value under the same name.** What is kept does not say of which type it was
//! written, so nothing can tell: what a `LwwRegister<u64>` was set to as 1000 is 500 to a `LwwRegister<i64>`, and the text `"\u{5}"` to a
//! `LwwRegister<String>` where it was 5. Above all do not make what has no sign one that has, or the other way round. (From a narrower
//! to a wider integer of the same signedness is safe for `u16` and wider, and for `i16` and wider.) Give the field another name, and
//! have a command copy what there is.
//!
//! A value that would not read back as it was (a field that is skipped when empty, a `serde_json::Value`, an enum with its tag beside
//! the fields) is not kept: the command is refused. So is a command that meets a value it cannot read, or a field of another type.

mod children;
mod maps;
mod values;

use std::borrow::Borrow;
use std::sync::{Arc, OnceLock};

use anabranch_crdt::{DEPTH_MAX, Epoch, Mutation, ReplicaId, Replicas, Type, Value};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use anabranch_derive::State;
pub use children::{Child, OrMap};
pub use maps::{CounterMap, MultiMap, RegisterMap};
pub use values::{BoundedCounter, Flag, GCounter, GSet, LwwRegister, MvRegister, OrSet, PnCounter, Vote};

use super::datum;
use crate::error::{Error, ErrorKind};
use crate::view::View;

/// What a function can have as its state, or as a field of it. `#[derive(State)]` makes it of a struct.
pub trait State: Sized + 'static {
    /// The type of the entity, or of the field.
    const TYPE: Type;

    /// What was there when the command began.
    fn open(seen: &Seen) -> Self;

    /// What the command did, in order.
    fn changes(self) -> Vec<Mutation>;
}

/// A place in an entity as it was when a command began.
#[derive(Clone, Debug)]
pub struct Seen {
    entity: Arc<Entity>,
    /// Whether there is nothing here, whatever there is of the entity.
    is_absent: bool,
    /// The child of a map that the path goes on from; it goes from the entity where there is none.
    within: Option<Arc<Within>>,
    path: [&'static str; DEPTH_MAX],
    names: usize,
    /// Steps from the entity.
    depth: usize,
}

/// The entity, once for all places in it.
#[derive(Debug)]
struct Entity {
    value: Option<Arc<Value>>,
    replicas: Arc<Replicas>,
    heir: Option<Box<(ReplicaId, Epoch)>>,
    /// The run of the node that the function is at.
    own: ReplicaId,
    /// Why the command will be refused.
    fault: OnceLock<String>,
}

#[derive(Debug)]
struct Within {
    map: Seen,
    key: Bytes,
}

impl Seen {
    pub(crate) fn of(view: View) -> Seen {
        Seen::at(view, ReplicaId::default())
    }

    /// The same for who may change it, at this run of a node.
    pub(crate) fn at(view: View, own: ReplicaId) -> Seen {
        let entity = Entity {
            own,
            value: view.value,
            replicas: view.replicas,
            heir: view.heir,
            fault: OnceLock::new(),
        };
        Seen {
            entity: Arc::new(entity),
            is_absent: false,
            within: None,
            path: [""; DEPTH_MAX],
            names: 0,
            depth: 0,
        }
    }

    /// The field of this name. If it is deeper than maps can be nested the command will be refused.
    pub fn child(&self, name: &'static str) -> Seen {
        let Some(mut child) = self.deeper() else {
            return self.nowhere();
        };
        child.path[child.names] = name;
        child.names += 1;
        child
    }

    /// The child of this map under a key.
    fn within(&self, key: Bytes) -> Seen {
        let Some(mut child) = self.deeper() else {
            return self.nowhere();
        };
        let map = self.clone();
        child.within = Some(Arc::new(Within { map, key }));
        child.names = 0;
        child
    }

    /// A child of this map that is not there.
    fn absent(&self) -> Seen {
        self.deeper()
            .map_or_else(|| self.nowhere(), |child| child.nowhere())
    }

    /// A step further down, if there may be one.
    fn deeper(&self) -> Option<Seen> {
        if self.depth == DEPTH_MAX {
            self.fail(format!("states are nested at most {DEPTH_MAX} deep"));
            return None;
        }
        let depth = self.depth + 1;
        Some(Seen {
            depth,
            ..self.clone()
        })
    }

    /// Just as deep, with nothing there.
    fn nowhere(&self) -> Seen {
        Seen {
            is_absent: true,
            within: None,
            names: 0,
            ..self.clone()
        }
    }

    /// What gives the replica indices in a value their meaning.
    fn replicas(&self) -> &Replicas {
        &self.entity.replicas
    }

    /// See [`View::held`].
    fn heir(&self) -> Option<&(ReplicaId, Epoch)> {
        self.entity.heir.as_deref()
    }

    fn own(&self) -> ReplicaId {
        self.entity.own
    }

    fn value(&self) -> Option<&Value> {
        let root = match &self.within {
            None if self.is_absent => return None,
            None => self.entity.value.as_deref()?,
            Some(within) => within.map.value()?.child(&within.key)?,
        };
        let mut path = self.path[..self.names].iter();
        path.try_fold(root, |value, name| value.child(name.as_bytes()))
    }

    /// The same, of the type that is read. If it is of another the command will be refused: nothing that is there is hidden.
    fn value_as(&self, ty: Type) -> Option<&Value> {
        self.value().filter(|value| {
            let place = || match (self.path[..self.names].last(), &self.within) {
                (Some(name), _) => format!("the field {name:?}"),
                (None, Some(within)) => under(&within.key),
                (None, None) => "what is here".to_owned(),
            };
            self.is_of(value, ty, place)
        })
    }

    /// Whether a child of this map is of the type that is read.
    fn is_child_of(&self, key: &[u8], child: &Value, ty: Type) -> bool {
        self.is_of(child, ty, || under(key))
    }

    fn is_of(&self, value: &Value, ty: Type, place: impl FnOnce() -> String) -> bool {
        let is = value.ty();
        if is != ty {
            self.fail(format!(
                "{} is kept as {is}, and the function reads {ty}",
                place()
            ));
        }
        is == ty
    }

    /// The bytes of a value that is to be read as a `T` again. If it would not be itself the command will be refused.
    fn keep<T, Q>(&self, value: &Q) -> Bytes
    where
        T: DeserializeOwned + Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let bytes = self.encode(value);
        if let Err(why) = reads_back::<T, Q>(&bytes) {
            let ty = std::any::type_name::<T>();
            self.fail(format!(
                "a {ty} cannot be kept: as postcard, without names, it does not read back as what it is: {why}"
            ));
        }
        bytes
    }

    /// The bytes of what is kept as a `T`, if it is there. If they would not be the same the command will be refused.
    fn sought<T, Q>(&self, value: &Q) -> Bytes
    where
        T: DeserializeOwned + Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let bytes = self.encode(value);
        let [kept, sought] = [std::any::type_name::<T>(), std::any::type_name::<Q>()];
        // Text is itself, of whichever type; of others one lends what is written otherwise: `Bytes` a list of bytes.
        if sought != kept
            && sought != "str"
            && let Err(why) = reads_back::<T, Q>(&bytes)
        {
            self.fail(format!("a {kept} cannot be found by a {sought}: {why}"));
        }
        bytes
    }

    /// What a value is as bytes. If that cannot be the command will be refused.
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Bytes {
        datum::encode(value).unwrap_or_else(|why| {
            self.fail(format!("a value cannot be kept: {why}"));
            Bytes::new()
        })
    }

    /// The value that these bytes are. If there is none the command will be refused.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Option<T> {
        match datum::decode(bytes) {
            Ok(value) => Some(value),
            Err(why) => {
                let is = bytes.escape_ascii();
                self.fail(format!(
                    "what is kept, \"{is:.64}\", is no {}: {why}",
                    std::any::type_name::<T>()
                ));
                None
            }
        }
    }

    fn fail(&self, why: String) {
        // The first is told.
        let _ = self.entity.fault.set(why);
    }

    /// Whether everything could be read and written.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.entity.fault.get() {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::Refused, format!("nothing changed: {why}"))),
        }
    }
}

/// A child of a map, by its key, for people.
fn under(key: &[u8]) -> String {
    format!("what is under the key \"{:.64}\"", key.escape_ascii())
}

/// Whether bytes that were written of a `Q` are a `T` that lends the same `Q`.
fn reads_back<T, Q>(bytes: &Bytes) -> Result<(), String>
where
    T: DeserializeOwned + Borrow<Q>,
    Q: Serialize + ?Sized,
{
    let again = datum::encode(datum::decode::<T>(bytes)?.borrow())?;
    // A hash map comes in any order.
    match again.len() == bytes.len() {
        true => Ok(()),
        false => Err("it reads as another".to_owned()),
    }
}

/// Adds what was done to a field to what was done to its struct. For the derive macro.
#[doc(hidden)]
pub fn update(changes: &mut Vec<Mutation>, name: &'static str, ty: Type, of_field: Vec<Mutation>) {
    update_at(changes, &Bytes::from_static(name.as_bytes()), ty, of_field);
}

fn update_at(changes: &mut Vec<Mutation>, key: &Bytes, ty: Type, of_child: Vec<Mutation>) {
    changes.extend(of_child.into_iter().map(|mutation| Mutation::Update {
        key: key.clone(),
        ty: Some(ty),
        mutation: Box::new(mutation),
    }));
}

#[cfg(test)]
mod tests;
