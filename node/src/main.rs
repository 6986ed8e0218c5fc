//! The program `anabranch`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    anabranch::daemon::main()
}
