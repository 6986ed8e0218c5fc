//! Functions in other processes, behind gRPC: what they are is found out by asking them, and their callers are served by an
//! ingress in front of the node.
//!
//! Not here: the rules of an entity's dealings with its function (`session`), and how a command reaches it (`driver`). A dialect
//! only translates.

mod datum;
pub mod key;
pub mod pool;
pub mod problem;
pub(crate) mod proto;
#[cfg(test)]
mod protos;
mod scan;
mod shown;
mod taken;
