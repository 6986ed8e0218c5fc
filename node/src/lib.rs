//! Replicated state with functions beside it, without a database, a broker or Kubernetes: nodes find each other by gossip,
//! replicate the state of every entity (CRDTs) directly to each other over QUIC, and serve reads and writes from a
//! local copy.
//!
//! Embed a node with [`Node::builder`]; run one as a daemon with the `anabranch` binary. The layers below are public so
//! that the simulator can stand in the driver's place: [`engine`] is the sans-IO replication engine, [`session`] runs one entity's
//! function, [`trigger`] finds the calls that schedules and changes make due, [`store`] is the log with its snapshots, [`wire`] the
//! bytes that are sent and stored.
//!
//! # A tour
//!
//! **Entities** are addressed by kind and key. Each holds a value of one of the [types](Type), which nodes can change
//! independently and join later. [`Node::entity`] gives a typed handle to one, [`Node::update`] changes several together,
//! [`Node::read`] reads this node's copy without waiting:
//!
//! ```no_run
//! # async fn example(node: anabranch::Node) -> Result<(), anabranch::Error> {
//! let tags = node.entity::<anabranch::OrSet>("tags", "article 7")?;
//! tags.add("rust").await?; // on this node's disk when this returns
//! # Ok(())
//! # }
//! ```
//!
//! **Callers choose their guarantees**: a [`Level`] says how many copies must confirm a write; a [`Token`] stands for what a session
//! has seen, and [`Node::read_after`] shows at least that at any node; [`Node::read_majority`] asks the other nodes, too.
//!
//! **Functions** are code beside an entity: its state is a struct of [replicated values](state), its methods take commands. Defining
//! one needs no node:
//!
//! ```
//! use anabranch::state::{OrSet, State};
//! use anabranch::{Context, Function};
//!
//! #[derive(State)]
//! struct Room {
//!     guests: OrSet<String>,
//! }
//!
//! let room: Function = Function::of::<Room>("room")
//!     .command("enter", |room, _: &mut Context, guest: String| {
//!         if room.guests.contains(&guest) {
//!             return Err(format!("{guest} is in already"));
//!         }
//!         room.guests.add(&guest);
//!         Ok(room.guests.len())
//!     })
//!     .query("guests", |room, _, ()| Ok::<_, String>(room.guests.elements()))
//!     .into();
//! assert!(room.methods().eq(["enter", "guests"]));
//! ```
//!
//! A node that was [given a function](NodeBuilder::function) answers [`Node::call`]; a program that hands it to [`cli::run`] is the
//! whole `anabranch` program with that function. Functions call one another with [`Context::call`] and [`Context::effect`].
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
#[cfg(feature = "sidecar")]
mod browser;
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
#[cfg(feature = "sidecar")]
mod percent;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod session;
#[cfg(feature = "sidecar")]
pub mod sidecar;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod store;
mod terms;
mod trace;
#[cfg(feature = "quic")]
pub mod transport;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod trigger;
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
pub use error::{Changed, Error, ErrorKind};
pub use function::{
    AT_END_MAX, BoxFuture, Caller, Change, Context, Ended, Function, FunctionBuilder, Host, Messages, Nodes,
    STREAM_WAITING_MAX, Snapshot, Stream, Streaming, ToldOf, far, state,
};
#[cfg(feature = "quic")]
pub use node::{Dump, Node, NodeBuilder, NodeStatus, SHARDS_DEFAULT, Watch};
pub use payload::{Encoding, PAYLOAD_BYTES_MAX, Payload, PayloadError};
pub use session::{Call, Origin};
pub use trace::{Trace, TraceError};
#[cfg(feature = "quic")]
pub use transport::ca;
pub use trigger::{
    ARGUMENT_BYTES_MAX, Cron, CronError, EVERY_MS_MIN, Json, Missed, Order, OrderError, SCHEDULE, Shown,
    When, schedules,
};
pub use wire::{DirectoryId, EntityId, IdempotencyKey, NameError, ShardId, Token, TokenError};

/// The README's example must compile.
#[cfg(all(doctest, feature = "quic"))]
#[doc = include_str!("../../README.md")]
struct Readme;
