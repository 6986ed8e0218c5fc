//! What a function did to its entity, made as an update: by what the function saw, not by what came meanwhile.
//!
//! Contract: what a commit removes or supersedes was there when its function was given the command. What somebody else did
//! since stays, as it would had the function run at another node.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_crdt::{Delta, Env, HashKey, Issuer, Mutation, Replicas, Type, Value, planted};

use crate::engine::Engine;
use crate::engine::io::{RequestId, Update};
use crate::engine::shard::EntityKey;
use crate::error::{Error, ErrorKind};
use crate::view::View;
use crate::wire::{EntityId, ShardId};

/// A view that is not the present any more, and what the commit has done to it so far.
pub(crate) struct Sight {
    key: EntityKey,
    value: Value,
}

impl Sight {
    /// Whether an operation goes by what was seen. Where it only concerns what its issuer has of its own (a counter's slot,
    /// a ballot, rights), or only makes what is not there, it goes by the present, in which its issuer may have done more.
    pub(crate) fn concerns(&self, key: &EntityKey, mutation: &Mutation) -> bool {
        fn removes(mutation: &Mutation) -> bool {
            match mutation {
                Mutation::Create | Mutation::Increment(_) | Mutation::Transfer { .. } | Mutation::Vote(_) => {
                    false
                }
                Mutation::Update { mutation, .. } => removes(mutation),
                _ => true,
            }
        }
        self.key == *key && removes(mutation)
    }

    /// The operation as it was meant; refused if the present understands something else by it.
    pub(crate) fn check(&self, mutation: &Mutation, now: &Mutation) -> Result<(), Error> {
        match self.value.resolve(mutation) {
            Ok(then) if then == *now => Ok(()),
            _ => Err(Error::new(
                ErrorKind::WrongType,
                format!(
                    "nothing changed: {} is not any more what the function saw: a child has another type",
                    self.key.0
                ),
            )),
        }
    }

    /// What an operation that was checked does by this sight.
    pub(crate) fn mutate(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Delta {
        let Ok(delta) = self.value.mutate(issuer, mutation) else {
            unreachable!("{} was checked against its type", self.key.0);
        };
        delta
    }

    /// The function sees what it does itself.
    pub(crate) fn join(&mut self, key: &EntityKey, replicas: &Replicas, hash: &HashKey, delta: &Delta) {
        if self.key == *key {
            let env = Env { replicas, key: hash };
            // What is put is new: what was seen does not matter.
            self.value.join_delta(&env, &(), delta);
        }
    }
}

impl Engine {
    /// An entity as one type, now.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] if it shows as another type, or the entities of its kind have another.
    pub fn view(&self, id: &EntityId, ty: Type) -> Result<View, Error> {
        self.view_in(self.shard_of(id), id, ty)
    }

    /// The same where its shard is known.
    fn view_in(&self, at: ShardId, id: &EntityId, ty: Type) -> Result<View, Error> {
        let shard = &self.shards[at.0 as usize];
        let (entity, value) = match shard.row(id) {
            // By the name that it has here: who comes with that is recognised without a look at its letters.
            Some((own, is, value)) if is == ty => (own.clone(), Some(Arc::clone(value))),
            _ => {
                self.type_for(at, id, Some(ty), &BTreeMap::new())?;
                (id.clone(), None)
            }
        };
        Ok(View {
            value,
            replicas: Arc::clone(&shard.replicas),
            entity,
            shard: at,
            ty: Some(ty),
            heir: self.heir(at, ty),
        })
    }

    /// The same for a function that is about to change it: not where that would be refused whatever it does.
    ///
    /// # Errors
    /// Those of [`Engine::view`]; and [`ErrorKind::NotReady`].
    pub fn view_to_change(&self, id: &EntityId, ty: Type) -> Result<View, Error> {
        let at = self.shard_of(id);
        self.check_takes_writes(at)?;
        self.view_in(at, id, ty)
    }

    /// An entity as what it is, now: or as what one of its kind would be, if that is known.
    pub fn view_as_it_is(&self, id: &EntityId) -> View {
        let at = self.shard_of(id);
        match self.known_type(at, id).map(|ty| self.view_in(at, id, ty)) {
            Some(Ok(view)) => view,
            _ => View {
                entity: id.clone(),
                shard: at,
                ty: None,
                value: None,
                replicas: Arc::clone(&self.shards[at.0 as usize].replicas),
                heir: None,
            },
        }
    }

    /// Whether a view shows its entity as it is now. What a commit by such a view leaves is what was seen and what its function did.
    pub fn is_present(&self, view: &View) -> bool {
        let is_present = self.view_as_it_is(&view.entity).is_same(view);
        planted!("alone_despite_others", true, is_present)
    }

    pub(crate) fn on_commit(&mut self, request: RequestId, mut update: Update, view: View) {
        for op in update.ops.iter_mut().filter(|op| op.entity == view.entity) {
            op.ty = op.ty.or(view.ty);
        }
        // One that was not there may be made as any type.
        let made = update.ops.iter().find(|op| op.entity == view.entity);
        let ty = view.ty.or(made.and_then(|op| op.ty));
        let place = (view.entity.clone(), view.shard);
        let sight = ty.and_then(|ty| self.sight(view, ty));
        self.submit_by(request, update, sight, Some(&place));
    }

    /// None if it is the present: and then nobody keeps it any more.
    fn sight(&self, view: View, ty: Type) -> Option<Sight> {
        let shard = &self.shards[view.shard.0 as usize];
        let key = (view.entity, ty);
        let now = shard.entities.get(&key).filter(|value| value.exists());
        let is_present = match (now, &view.value) {
            (Some(now), Some(seen)) => Arc::ptr_eq(now, seen),
            (None, None) => true,
            _ => false,
        };
        if planted!("commit_by_the_present", true, is_present) {
            return None;
        }
        let value = view.value.map(|value| Value::clone(&value));
        let value = value.unwrap_or_else(|| Value::new(key.1));
        Some(Sight { key, value })
    }
}
