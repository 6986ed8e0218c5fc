//! The command line: looking for seeds that fail, telling how one came about, checking the simulator itself.
//!
//! Not here: runs themselves (`crate::run`). The clock and the environment are read here, outside of every run.
//! Contract: exit codes are those of [`exit`]; the last line of every failure is the command that replays it.

#![allow(clippy::disallowed_methods)]

mod args;
mod doctor;
mod mutants;
mod print;
mod replay;
mod search;
#[cfg(test)]
mod tests;

use crate::profile::Profile;

pub use args::{Command, parse};
pub use search::{Found, Search, Span, search};

/// Exit codes.
pub mod exit {
    /// All is well.
    pub const CLEAN: u8 = 0;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// The code under test, or the simulator, panicked.
    pub const PANIC: u8 = 10;
    /// Something happened that must not.
    pub const SAFETY: u8 = 11;
    /// Something did not happen that must.
    pub const LIVENESS: u8 = 12;
    /// Nothing was found, but something was never tried.
    pub const VACUITY: u8 = 13;
    /// One seed went two ways.
    pub const NON_DETERMINISM: u8 = 14;
}

/// How to use the program.
pub const USAGE: &str = "\
usage:
  anabranch-sim run     [--seeds A..B | --minutes M] [-j N] [--nodes N] [--profile NAME] [--keep-going] [--json]
  anabranch-sim replay  SEED [--trace] [--until SECONDS] [--nodes N] [--profile NAME]
  anabranch-sim doctor  [--seeds A..B]
  anabranch-sim mutants [--only NAME] [--seeds N]

A..B leaves B out. Profiles: swarm (as if none is given), triggers, retries, streams. Exit codes: 0 clean, 2 usage, 10 panic, 11 safety, 12 liveness, 13 vacuity, 14 non-determinism.";

/// The program. Returns its exit code.
pub fn main(args: &[String]) -> u8 {
    match parse(args) {
        Ok(Command::Run(search)) => search::run(&search),
        Ok(Command::Replay(replay)) => replay::run(&replay),
        Ok(Command::Doctor(seeds)) => doctor::run(seeds),
        Ok(Command::Mutants(mutants)) => mutants::run(&mutants),
        Ok(Command::Help) => {
            print::line(USAGE);
            exit::CLEAN
        }
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            exit::USAGE
        }
    }
}

/// The command that replays a seed.
pub fn replay_command(seed: u64, nodes: Option<usize>, profile: Profile) -> String {
    let nodes = nodes.map(|n| format!(" --nodes {n}")).unwrap_or_default();
    let profile = match profile {
        Profile::Swarm => String::new(),
        other => format!(" --profile {}", other.name()),
    };
    let planted = match std::env::var("ANABRANCH_PLANTED") {
        Ok(name) if cfg!(planted) => format!("ANABRANCH_PLANTED={name} "),
        _ => String::new(),
    };
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "anabranch-sim".to_owned());
    format!("{planted}{program} replay {seed} --trace{nodes}{profile}")
}
