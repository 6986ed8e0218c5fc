//! One seed again, with its story.

use super::{exit, replay_command};
use crate::plan::Plan;
use crate::queue::Micros;
use crate::run::{How, run_seed};
use crate::world::Teller;

/// What to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Which seed.
    pub seed: u64,
    /// Whether to tell every event.
    pub trace: bool,
    /// No further than this, microseconds.
    pub until: Micros,
    /// So many nodes instead of what the seed says.
    pub nodes: Option<usize>,
}

/// The command.
pub(super) fn run(replay: &Replay) -> u8 {
    println!("{}", Plan::swarm(replay.seed, replay.nodes));
    let teller: Option<Teller> = if replay.trace {
        Some(Box::new(|line| println!("{line}")))
    } else {
        None
    };
    let how = How {
        nodes: replay.nodes,
        until: replay.until,
        ..How::default()
    };
    let outcome = run_seed(replay.seed, how, teller);
    println!("{} events, {:#?}", outcome.tally.events, outcome.tally);
    println!("trace {:016x}", outcome.trace);
    match outcome.failure {
        None => {
            println!("clean");
            exit::CLEAN
        }
        Some(failure) => {
            println!("FAILED seed {}: {failure}", replay.seed);
            println!("{}", replay_command(replay.seed, replay.nodes));
            failure.rule.exit_code()
        }
    }
}
