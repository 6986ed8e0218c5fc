//! One seed, from its plan to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::oracle::{Failure, Rule};
use crate::plan::Plan;
use crate::profile::{self, Profile};
use crate::queue::{Micros, QueueKind};
use crate::world::{Tally, Teller, World};

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What broke, if anything did.
    pub failure: Option<Failure>,
    /// What the run was like, up to there.
    pub tally: Tally,
    /// The trace hash at the end.
    pub trace: u64,
    /// Virtual time at the end, microseconds.
    pub ended_at: Micros,
}

/// How a seed is to be run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// What runs on the cluster.
    pub profile: Profile,
    /// So many nodes, instead of what the seed says.
    pub nodes: Option<usize>,
    /// With which event queue.
    pub queue: QueueKind,
    /// No further than this, microseconds.
    pub until: Micros,
}

impl Default for How {
    fn default() -> How {
        How {
            profile: Profile::Swarm,
            nodes: None,
            queue: QueueKind::Heap,
            until: Micros::MAX,
        }
    }
}

/// Runs a seed to its end or its first failure. A panic of the code under test is a failure too.
///
/// ```no_run
/// use anabranch_sim::run::{How, run_seed};
/// let outcome = run_seed(1, How::default(), None);
/// assert!(outcome.failure.is_none());
/// ```
pub fn run_seed(seed: u64, how: How, teller: Option<Teller>) -> Outcome {
    match how.profile {
        Profile::Swarm => run_plan(Plan::swarm(seed, how.nodes), how, teller),
        Profile::Triggers => profile::triggers(seed, how, teller),
        Profile::Retries => profile::retries(seed, how, teller),
        Profile::Streams => profile::streams(seed, how, teller),
    }
}

/// Runs a plan likewise: `how.nodes` is not looked at.
pub fn run_plan(plan: Plan, how: How, teller: Option<Teller>) -> Outcome {
    run_world(plan, how, |plan, queue| World::new(plan, queue, teller), |_| ()).0
}

/// Runs whatever world is made of a plan, and takes with it what there is to say of it at its end.
pub(crate) fn run_world<T>(
    plan: Plan,
    how: How,
    make: impl FnOnce(Plan, QueueKind) -> World,
    say: impl FnOnce(&World) -> T,
) -> (Outcome, Option<T>) {
    let seed = plan.seed;
    let made = catch_unwind(AssertUnwindSafe(|| make(plan, how.queue)));
    let mut world = match made {
        Ok(world) => world,
        Err(panic) => return (Outcome::of_panic(seed, &*panic), None),
    };
    let caught = catch_unwind(AssertUnwindSafe(|| world.run(how.until)));
    let failure = match caught {
        Ok(result) => result.err(),
        Err(panic) => Some(Failure {
            rule: Rule::Panic,
            at: world.now(),
            node: None,
            what: words(&*panic),
        }),
    };
    let outcome = Outcome {
        seed,
        failure,
        trace: world.trace(),
        ended_at: world.now(),
        tally: world.tally(),
    };
    (outcome, Some(say(&world)))
}

impl Outcome {
    /// The run had not even begun.
    fn of_panic(seed: u64, panic: &(dyn std::any::Any + Send)) -> Outcome {
        let failure = Failure {
            rule: Rule::Panic,
            at: 0,
            node: None,
            what: words(panic),
        };
        Outcome {
            seed,
            failure: Some(failure),
            tally: Tally::default(),
            trace: 0,
            ended_at: 0,
        }
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
