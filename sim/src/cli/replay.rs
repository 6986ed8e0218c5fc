//! One seed again, with its story.

use super::print::line;
use super::{exit, replay_command};
use crate::plan::SECOND;
use crate::profile::Profile;
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
    /// What runs on the cluster.
    pub profile: Profile,
}

/// The command.
pub(super) fn run(replay: &Replay) -> u8 {
    line(replay.profile.plan(replay.seed, replay.nodes));
    let teller: Option<Teller> = if replay.trace {
        Some(Box::new(|told| line(told)))
    } else {
        None
    };
    let how = How {
        nodes: replay.nodes,
        profile: replay.profile,
        until: replay.until,
        ..How::default()
    };
    let outcome = run_seed(replay.seed, how, teller);
    line(format!("{} events, {:#?}", outcome.tally.events, outcome.tally));
    line(format!("trace {:016x}", outcome.trace));
    match outcome.failure {
        None if replay.until <= outcome.ended_at.saturating_add(SECOND) && replay.until < Micros::MAX => {
            line(format!(
                "nothing broken up to {} s, where it was to stop",
                replay.until / SECOND
            ));
            exit::CLEAN
        }
        None => {
            line("clean");
            exit::CLEAN
        }
        Some(failure) => {
            line(format!("FAILED seed {}: {failure}", replay.seed));
            line(replay_command(replay.seed, replay.nodes, replay.profile));
            failure.rule.exit_code()
        }
    }
}
