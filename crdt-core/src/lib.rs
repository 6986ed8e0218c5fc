//! Delta CRDTs over one dot algebra.
//!
//! Replicas of a value are changed apart from each other and agree once they have heard of the same changes, in whatever
//! order. This page is the whole idea.
//!
//! **A dot is one event of one replica**: its id and a sequence that counts from 1 ([`Dot`]). Every mutation uses dots of
//! its own, removals too. An id is never used again, not even by the same machine after it lost its disk ([`ReplicaId`]).
//!
//! **A value is a store of dots**, those that are alive, each where it was put and with what it carries ([`store`]). An
//! element of a set has the dot of the addition that put it there, a register the dots of the writes in force, a counter a
//! dot for each replica's progress, a map whole stores by key. Nothing is kept of what was removed.
//!
//! **What was seen is a set of dots** ([`Context`]; without gaps a [`VersionVector`]). It tells "removed" from "not heard
//! of yet": a dot that was seen and is not there has been removed.
//!
//! **There is one join.** A dot that both sides have stays; a dot that one side lacks stays if that side has not seen
//! it. The dots of both sides together are what was seen afterwards. It is commutative, associative and idempotent, so that
//! it does not matter what comes first, what comes twice, and what comes together.
//!
//! ```
//! use anabranch_crdt::{Causal, Epoch, Mutation, NodeId, Reading, ReplicaId, Type};
//!
//! let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
//! let mut here = Causal::new(Type::OrSet);
//! here.join_op(&here.mutate(a, 0, &Mutation::Add(vec!["apple".into(), "pear".into()]))?)?;
//! let mut there = here.clone();
//!
//! // Apart from each other: one removes what the other adds anew.
//! let removal = here.mutate(a, 0, &Mutation::Remove(vec!["apple".into(), "pear".into()]))?;
//! here.join_op(&removal)?;
//! there.join_op(&there.mutate(b, 0, &Mutation::Add(vec!["apple".into()]))?)?;
//!
//! // The removal names the dots it saw; the new addition has another.
//! there.join_op(&removal)?;
//! here.join(&there)?;
//! assert_eq!(here, there);
//! assert_eq!(here.read(), Reading::Elements(vec!["apple".into()]));
//! # Ok::<(), anabranch_crdt::CausalError>(())
//! ```
//!
//! **A delta is what a mutation did**: the dots it put, where, and the dots it saw there and supersedes ([`Delta`]). To
//! make one changes nothing; to join it is the only way to change a value, at its author as anywhere else. It names its
//! places, so its cost follows the delta and not the value. It claims no dot that it does not carry, so it may be lost,
//! repeated, cut and put together.
//!
//! **A fragment is a part of a state**: exactly what somebody lacks who has seen this and that ([`Value::since`]), in pieces
//! as small as one likes ([`Fragment::split`]). The dots it claims and does not carry are dead.
//!
//! **Empty is not absent.** A value exists while it has a live dot; what leaves a set empty leaves its own dot as a mark.
//!
//! **A counter in a map is reset when its key is removed**, by what the remover saw and no more. So a slot holds how far its
//! replica came and how much of that was reset; both only grow, and the difference counts. **A [`BoundedCounter`] is made of
//! holdings** that only their holder uses, so that no side of any partition takes it below 0.
//!
//! The context comes from outside, by reference ([`Seen`]): [`Causal`] is a value with a context of its own, while the values
//! of a shard share one version vector, and one that nobody touches costs nothing but its live dots. [`Value`] is of whatever
//! [`Type`] is known at run time. Replica ids are interned ([`Replicas`]), so that a dot takes 8 bytes. Joins keep a
//! [digest](Value::digest), the same wherever the live dots are, and say what they [changed](Changed). [Bytes](Op::encode) of
//! equal states [are equal](Value::canonical_bytes).
//!
//! # Where this comes from
//!
//! - Almeida, Shoker, Baquero: "Delta State Replicated Data Types", JPDC 2018: dot stores, causal contexts, deltas.
//! - Enes, Almeida, Baquero, Leitão: "Efficient Synchronization of State-Based CRDTs", ICDE 2019: what another lacks, and
//!   irreducible parts.
//! - Gonçalves, Almeida, Baquero, Fonte: "Concise Server-Wide Causality Management for Eventually Consistent Data Stores",
//!   DAIS 2015: one context for many values.
//! - Balegas, Serra, Duarte, Ferreira, Shapiro, Rodrigues, Preguiça: "Extending Eventually Consistent Cloud Databases for
//!   Enforcing Numeric Invariants", SRDS 2015: escrow.
//!
//! Without default features it needs no standard library, only an allocator. The feature `crdts` has conversions and
//! traits of the crate of that name.
//!
//! # Ends
//!
//! A sequence has 48 bits ([`SEQ_MAX`]); a mutation that would need one beyond is refused, and none is read. What
//! a replica added to a counter, and what it took away, each saturate at 2^64 - 1, and so does what is read beyond 127 bits. A
//! bounded counter refuses what one holding cannot hold. A register's clock of 2^64 - 1 is the last: of equal ones the larger
//! replica id wins, then the later sequence. A table has room for 65,535 replicas and refuses another.
//!
//! Not here: clocks, randomness, sockets, files, tasks, frames of a protocol.
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
pub use delta::{
    Base, Child, ClockMode, DEPTH_MAX, DOT_BYTES_MAX, Delta, Kill, Part, Path, Payload, Put, Totals,
};
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
