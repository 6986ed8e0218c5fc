//! The whole system: real processes, real sockets, real disks.
//!
//! One file per behaviour; what they stand on is in `support`. Each test has its own cluster, directory and ports, so
//! that they run side by side. Input and its truth lie in `data/`.
//!
//! Contract: whatever a test starts ends with it, whichever way it ends; a test that fails prints the last words of
//! every process it had.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

mod bad_input;
mod clock_skew;
mod cloudstate;
mod cluster_crash;
mod damaged_segment;
mod delete;
mod dev;
mod discovery;
mod full_disk;
mod functions;
mod generated_history;
mod hanging;
mod history;
mod hostile_network;
mod http_api;
mod idempotency;
mod ingress;
mod kalix;
mod kalix_faults;
mod lost_directory;
mod many_faults;
mod messages;
mod moving;
mod ops;
mod output;
mod partition;
mod presence;
mod readme;
mod replay_again;
mod replay_end;
mod schedules;
mod sessions;
mod strangers;
mod tck;
mod tidy;
mod tls;
mod traces;
mod up;
mod watch;
