//! `anabranch-sim`: see the library's front page.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    ExitCode::from(anabranch_sim::cli::main(&args))
}
