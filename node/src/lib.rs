//! Stateful serverless without a database, a broker or Kubernetes in the middle.
#![warn(missing_docs)]

pub mod engine;
mod error;
pub mod store;
pub mod wire;

pub use anabranch_crdt as crdt;
pub use anabranch_crdt::{
    Epoch, GCounter, LwwRegister, Mutation, NodeId, OrSet, PnCounter, Reading, ReplicaId, Type,
};
pub use engine::{Answer, Copies, Level, Limits, Op, Stage, Update};
pub use error::{Error, ErrorKind};
pub use wire::{DirectoryId, EntityId, IdempotencyKey, NameError, ShardId};
