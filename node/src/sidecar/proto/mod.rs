//! The messages that functions and we exchange, as they are on the wire.
//!
//! Not here: what they mean. Written by hand from the fields' numbers, so that no compiler of schemas is needed.

pub mod action;
pub mod common;
pub mod crdt;
pub mod discovery;
pub mod early;
pub mod entity;
