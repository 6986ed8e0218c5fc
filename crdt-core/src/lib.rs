//! Delta CRDTs over one dot algebra.
//!
//! A value is a store of dots, a dot is one event of one replica, and everything follows from one join: keep a dot
//! that both sides have, or that the side lacking it has not seen. What a side has seen comes from outside, so that
//! the same code serves a value on its own and a shard with one version vector for all its values.
//!
//! The way of a write: [`Value::mutate`] returns a [`Delta`] and changes nothing; [`Value::join_delta`] brings it
//! into this replica's value and into every other's.
//!
//! Without default features it needs no standard library, only an allocator.
//!
//! Not here: clocks, randomness, sockets, files, tasks, formats for disk or wire.
//!
//! Contract: replicas that have seen the same dots have the same state, whatever the order, grouping and repetition
//! in which the deltas came, as long as each origin's deltas come in order and none before what it removes.

#![cfg_attr(not(any(test, planted, feature = "crdts")), no_std)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

extern crate alloc;

mod boundedcounter;
mod causal;
mod children;
mod clock;
mod codec;
mod context;
mod counts;
#[cfg(feature = "crdts")]
pub mod crdts_compat;
mod delta;
mod digest;
mod dot;
mod element;
mod elements;
mod flag;
mod fragment;
mod gcounter;
mod gset;
mod id;
mod kind;
mod lwwregister;
mod maps;
mod marks;
mod mutation;
mod mvregister;
mod orset;
#[doc(hidden)]
pub mod planted;
mod pncounter;
mod replicas;
pub mod store;
mod translate;
mod value;
mod view;
mod vote;
mod writes;

#[cfg(test)]
mod laws;

pub use boundedcounter::{BoundedCounter, TRANSFERS_MAX};
pub use causal::{Causal, CausalError, Knowledge, Op, Piece};
pub use clock::{DRIFT_MS_MAX, HybridClock};
pub use codec::{DecodeError, decode_puts, encode_puts};
pub use context::{Context, Seen, VersionVector};
pub use delta::{Base, Child, ClockMode, DEPTH_MAX, Delta, Kill, Part, Path, Payload, Put, Totals};
pub use digest::HashKey;
pub use dot::{Dot, SEQ_MAX};
pub use flag::Flag;
pub use fragment::Fragment;
pub use gcounter::GCounter;
pub use gset::GSet;
pub use id::{Epoch, EpochError, NodeId, NodeIdError, ReplicaId};
pub use kind::{Crdt, Type, TypeError};
pub use lwwregister::LwwRegister;
pub use maps::{CounterMap, MultiMap, OrMap, RegisterMap};
pub use mutation::{Clock, Issuer, Mutation, MutationError};
pub use mvregister::MvRegister;
pub use orset::OrSet;
pub use pncounter::PnCounter;
pub use replicas::{REPLICAS_MAX, ReplicaIx, Replicas, ReplicasFull};
pub use value::{Changed, Env, Reading, Value};
pub use vote::{Tally, Vote};
