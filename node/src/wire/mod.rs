//! Bytes between nodes and on disk: names, frames, records, and their one codec.
//!
//! Types here are written for the wire; inner types never derive a format. Replicas travel as indices into a
//! table at the head of each message, so that a dot costs a few bytes. Decoding is bounded by the length of what
//! arrived, and every index is checked before anything is built from it.
//!
//! Not here: what a message means (see `engine`), how it gets to a peer (see `transport`).

mod call;
mod carried;
mod frame;
mod front;
mod ids;
mod interval;
mod intervals;
mod lane;
mod lean;
mod record;
mod shard_part;
mod single;
#[cfg(test)]
mod tests;
mod token;

pub use call::{CallFrame, CallReply, CallRequest, WireError, WireValue};
pub use frame::{
    Ask, Busy, DecodeError, FRAME_BYTES_MAX, Frame, PULL_ID_BIT, Pull, Rollup, Said, SaidShard, SnapshotNext,
    Standing, Summaries, Tell,
};
pub use ids::{
    DirectoryId, EntityId, IDEMPOTENCY_KEY_BYTES_MAX, IdempotencyKey, KEY_BYTES_MAX, KIND_BYTES_MAX,
    NameError, ShardId,
};
pub use interval::{
    Interval, Run, WireEntity, WireKill, WirePath, WirePayload, WirePut, WireReplica, WireSlot, WireStep,
    WireVector,
};
pub use lane::Lane;
pub use record::{ImageBlock, KeyRow, Record};
pub use shard_part::{Resume, ShardPart, WireRow};
pub(crate) use single::Single;
pub use token::{TOKEN_TEXT_BYTES_MAX, Token, TokenError};
