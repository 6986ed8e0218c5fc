//! What the tests stand on: processes, clusters, a network that can be cut, a client, a model.

pub mod calls;
pub mod cluster;
pub mod command;
pub mod dev;
pub mod exit;
pub mod face;
pub mod grpc;
pub mod history;
pub mod http;
pub mod kalix;
pub mod namespace;
pub mod ports;
pub mod process;
pub mod random;
pub mod raw;
pub mod relay;
pub mod scripted;
pub mod stranger;
pub mod temp;
pub mod up;
pub mod yaml;

use std::time::{Duration, Instant};

/// The program under test.
pub const ANABRANCH: &str = env!("CARGO_BIN_EXE_anabranch");
/// How long anything may take that should happen at once. Generous: the machine may be slow, and busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at something that reports no event.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until there is something to see. Only for what reports no event; everything else is awaited.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
