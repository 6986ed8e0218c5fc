//! A shopping cart: a function beside its state on every node. Nothing is lost or doubled across a partition, and whoever put
//! something in finds it at any node.
//!
//! ```text
//! cargo run --release --example cart -- up --nodes 3
//! cargo run --release --example cart -- call cart alice add '{"product": "umbrella", "quantity": 2}'
//! cargo run --release --example cart -- call cart alice show
//! ```

mod function;

use std::process::ExitCode;

fn main() -> ExitCode {
    anabranch::cli::run([function::cart()])
}
