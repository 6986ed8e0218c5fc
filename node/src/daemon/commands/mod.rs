//! The commands that ask nodes and print what they say. One file each; `up`, `node` and `replay` have modules of
//! their own.

pub mod ca;
pub mod call;
pub mod leave;
pub mod read;
pub mod schedule;
pub mod status;
pub mod stream;
pub mod update;
pub mod verify;

use std::time::Duration;

/// How long an answer may take that needs no other node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How much later than it was told to a node may answer: there and back, and a disk that is slow. Later than that it hangs.
const GRACE: Duration = Duration::from_secs(2);
