//! Presence: who is in a room, on every node of a cluster. Who came in by a node that dies is gone everywhere once that is noticed;
//! a node that was only thought dead brings its own back.
//!
//! ```text
//! cargo run --release --example presence -- up --nodes 3
//! cargo run --release --example presence -- stream presence lobby attend '"alice"' --at 127.0.0.1:PORT1
//! cargo run --release --example presence -- stream presence lobby who --at 127.0.0.1:PORT2
//! ```

mod function;

use std::process::ExitCode;

fn main() -> ExitCode {
    anabranch::cli::run([function::presence()])
}
