//! Stateful serverless without a database, a broker or Kubernetes in the middle: nodes find each other by gossip,
//! replicate the state of every entity (CRDTs) directly to each other over QUIC, and serve reads and writes from a
//! local copy.
//!
//! Embed a node with [`Node::builder`]; run one as a daemon with the `anabranch` binary. The layers below are public so
//! that the simulator can stand in the driver's place: [`engine`] is the sans-IO replication engine, [`store`] the log
//! and snapshots beneath it, [`wire`] the bytes.
//!
//! ```
//! use anabranch::{EntityId, Level};
//!
//! let cart = EntityId::new("cart", "alice")?;
//! assert_eq!(cart.to_string(), "cart/alice");
//! // One write level by default everywhere: this node's copy, on disk.
//! assert_eq!(Level::default().to_string(), "local");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// The derive macro names the crate, in its own tests too.
extern crate self as anabranch;

pub mod base64;
#[cfg(feature = "daemon")]
pub mod daemon;
/// The program `anabranch`, for programs with functions of their own.
#[cfg(feature = "daemon")]
pub mod cli {
    pub use crate::daemon::run;
}
#[cfg(feature = "quic")]
mod driver;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod engine;
#[cfg(feature = "quic")]
mod entity;
mod error;
mod function;
pub mod json;
#[cfg(feature = "quic")]
pub mod membership;
#[cfg(all(test, feature = "quic"))]
mod network_tests;
#[cfg(feature = "quic")]
mod node;
mod payload;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod session;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod store;
mod terms;
#[cfg(feature = "quic")]
pub mod transport;
mod view;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod wire;

pub use anabranch_crdt as crdt;
pub use anabranch_crdt::{
    BoundedCounter, Clock, CounterMap, Crdt, Epoch, Flag, GCounter, GSet, LwwRegister, MultiMap, Mutation,
    MvRegister, NodeId, OrMap, OrSet, PnCounter, Reading, RegisterMap, ReplicaId, Type, Vote,
};
#[cfg(feature = "quic")]
pub use driver::{DiskState, MemberHint, MemberStatus, MethodStatus};
pub use engine::limits::TIMEOUT_MS_DEFAULT;
pub use engine::{Answer, Copies, Level, Limits, Op, ShardSummary, Stage, Update};
#[cfg(feature = "quic")]
pub use entity::Entity;
pub use error::{Error, ErrorKind};
pub use function::{BoxFuture, Caller, Context, Function, FunctionBuilder, state};
#[cfg(feature = "quic")]
pub use node::{Dump, Node, NodeBuilder, NodeStatus, SHARDS_DEFAULT, Watch};
pub use payload::{Encoding, Payload, PayloadError};
pub use session::Call;
#[cfg(feature = "quic")]
pub use transport::ca;
pub use wire::{DirectoryId, EntityId, IdempotencyKey, NameError, ShardId, Token, TokenError};

/// The README's example must compile.
#[cfg(all(doctest, feature = "quic"))]
#[doc = include_str!("../../README.md")]
struct Readme;
