//! What seeds run: plain updates, reads and commands of every kind (a swarm), or an application of the simulator's own about what a
//! swarm does not have.
//!
//! Not here: what a swarm does (`crate::plan`, `crate::world`).

mod changes;
mod functions;
mod ledger;
mod retries;
mod schedules;
mod streams;
mod triggers;

use crate::app::Simulation;
use crate::plan::{Family, Plan};
use crate::run::{How, Outcome};
use crate::world::Teller;

use retries::Retries;
use streams::Streams;
use triggers::Triggers;

/// Nodes look after what is not theirs once a start is so long ago (10 s): twice that is enough for both.
const CHAOS_S: u64 = 20;
/// Clients think so long on average: functions are called without them, too.
const THINK_MS: u64 = 300;

/// Which of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Everything that an engine, a session and a store promise.
    #[default]
    Swarm,
    /// Schedules, and functions that are told of changes.
    Triggers,
    /// Calls that are taken to other nodes, and those that must not be.
    Retries,
    /// Streams, and queries that are followed.
    Streams,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 4] = [
        Profile::Swarm,
        Profile::Triggers,
        Profile::Retries,
        Profile::Streams,
    ];

    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Swarm => "swarm",
            Profile::Triggers => "triggers",
            Profile::Retries => "retries",
            Profile::Streams => "streams",
        }
    }

    /// The plan of a seed.
    pub fn plan(self, seed: u64, nodes: Option<usize>) -> Plan {
        match self {
            Profile::Swarm => Plan::swarm(seed, nodes),
            Profile::Triggers => of_triggers(seed, nodes).plan(),
            Profile::Retries => of_retries(seed, nodes).plan(),
            Profile::Streams => of_streams(seed, nodes).plan(),
        }
    }
}

/// Every other seed has clocks that may be wrong by an hour: then less can be said of when a schedule is due.
fn of_triggers(seed: u64, nodes: Option<usize>) -> Simulation {
    let families = Family::ALL.into_iter();
    let families =
        families.filter(|family| !family.is_lossy() && (*family != Family::Clock || seed.is_multiple_of(2)));
    let simulation = Simulation::of(seed)
        .faults(families)
        .for_seconds(CHAOS_S)
        .think_ms(THINK_MS)
        .with_room();
    with(simulation, nodes, None)
}

fn of_retries(seed: u64, nodes: Option<usize>) -> Simulation {
    with(Simulation::of(seed), nodes, None)
}

/// Some clients add, and the others follow, some of them for as long as it goes on.
fn of_streams(seed: u64, nodes: Option<usize>) -> Simulation {
    with(Simulation::of(seed).clients(8), nodes, None)
}

fn with(simulation: Simulation, nodes: Option<usize>, teller: Option<Teller>) -> Simulation {
    let simulation = match nodes {
        Some(nodes) => simulation.nodes(nodes),
        None => simulation,
    };
    match teller {
        Some(teller) => simulation.told(teller),
        None => simulation,
    }
}

/// Runs a seed of the profile `retries`.
pub(crate) fn retries(seed: u64, how: How, teller: Option<Teller>) -> Outcome {
    let simulation = with(of_retries(seed, how.nodes), None, teller);
    simulation.run_as(Retries::default(), how).0
}

/// Runs a seed of the profile `streams`.
pub(crate) fn streams(seed: u64, how: How, teller: Option<Teller>) -> Outcome {
    let simulation = with(of_streams(seed, how.nodes), None, teller);
    simulation.run_as(Streams::default(), how).0
}

/// Runs a seed of the profile `triggers`.
pub(crate) fn triggers(seed: u64, how: How, teller: Option<Teller>) -> Outcome {
    let simulation = of_triggers(seed, how.nodes);
    let knows_time = !simulation.plan().families.contains(&Family::Clock);
    let simulation = with(simulation, None, teller);
    simulation.run_as(Triggers::new(knows_time), how).0
}
