//! `replay`: a history of changes, sent to a cluster as if its authors worked there, and measured.
//!
//! Each author's events go to one node in the file's order, one event after the other; authors work at the same time.
//! One event is one batch with one idempotency key, made of the file's digest, the line and the run's name, so nothing
//! counts twice: not when a node is killed and its open events are sent again, and not when the replay itself is killed
//! and run again with the same arguments (within what nodes keep: an hour and a million keys).
//!
//! A node that lost its data directory has lost its keys. Every update names the directory it is meant for, so such a
//! node refuses, and the replay ends; a replay that is run again finds out before it sends anything (`markers`).

mod dealer;
mod event;
mod histogram;
mod history;
mod markers;
mod node;
mod progress;
mod report;
mod run;

pub use run::run;
