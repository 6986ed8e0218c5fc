//! A quota: so many units in all, taken on whichever node is asked, at once, and never more than there are, however the nodes are
//! cut off from one another.
//!
//! Each node takes from what it holds itself. What it lacks is moved to it ahead of need, in the background, by ordinary calls to
//! its peers: nobody who takes waits for another node.
//!
//! ```text
//! cargo run --release --example quota -- up --nodes 3
//! cargo run --release --example quota -- call quota api deposit 1000
//! cargo run --release --example quota -- call quota api take 1
//! cargo run --release --example quota -- call quota api left
//! ```

mod function;

use std::process::ExitCode;

fn main() -> ExitCode {
    anabranch::cli::run([function::quota(), function::mover()])
}
