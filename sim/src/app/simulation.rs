//! One seed of an application, from its plan to its end; and many.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::Application;
use crate::oracle::Failure;
use crate::plan::{Choice, Family, Plan, SECOND};
use crate::queue::Micros;
use crate::rng::Rng;
use crate::run::{self, How, run_world};
use crate::world::{Pace, Teller, World};

/// How likely a node believes of another that it is linked with that it is not there, at any moment before all is healed.
const DOUBTS: f64 = 0.02;
/// A failure's story is its last lines.
const STORY_LINES: usize = 60;
/// Faults and calls happen in the first so many microseconds, unless told otherwise.
const CHAOS_US: Micros = 12 * SECOND;

/// A cluster, what happens to it, and how much is asked of it: drawn from a seed, as far as it is not said.
///
/// By default every family of faults is as likely in as out, but for those that take from a disk what was synced to it
/// ([`Family::is_lossy`]): no application can keep its promises then.
#[must_use]
pub struct Simulation {
    seed: u64,
    nodes: Option<usize>,
    families: Vec<Family>,
    chaos_us: Micros,
    clients: Option<usize>,
    think_us: Option<f64>,
    has_room: bool,
    knows_members: bool,
    teller: Option<Teller>,
}

impl Simulation {
    /// The one of this seed.
    pub fn of(seed: u64) -> Simulation {
        let families = Family::ALL.into_iter().filter(|family| !family.is_lossy());
        Simulation {
            seed,
            nodes: None,
            families: families.collect(),
            chaos_us: CHAOS_US,
            clients: None,
            think_us: None,
            has_room: false,
            knows_members: false,
            teller: None,
        }
    }

    /// With so many nodes.
    ///
    /// # Panics
    /// One node or none is no cluster: there is no link on which anything could go wrong.
    pub fn nodes(self, nodes: usize) -> Simulation {
        assert!(
            nodes >= 2,
            "a simulation has 2 nodes at least, and is to have {nodes}"
        );
        let nodes = Some(nodes);
        Simulation { nodes, ..self }
    }

    /// With faults of these families at most; each is in or out by the seed.
    pub fn faults(self, families: impl IntoIterator<Item = Family>) -> Simulation {
        let families = families.into_iter().collect();
        Simulation { families, ..self }
    }

    /// Faults happen, and clients ask, for so long.
    pub fn for_seconds(self, seconds: u64) -> Simulation {
        let chaos_us = seconds * SECOND;
        Simulation { chaos_us, ..self }
    }

    /// With so many clients, each of whom asks one thing at a time.
    pub fn clients(self, clients: usize) -> Simulation {
        let clients = Some(clients);
        Simulation { clients, ..self }
    }

    /// Clients think so long between an answer and their next question, on average.
    pub fn think_ms(self, ms: u64) -> Simulation {
        let think_us = Some(ms as f64 * 1e3);
        Simulation { think_us, ..self }
    }

    /// Without engines that take next to no requests at a time. What is refused for want of room is tried again by nodes after longer
    /// and longer, in the end after a minute: in a cluster that never has any, nothing comes to its end. For applications that wait for
    /// what a schedule or a change has called ([`Application::awaits`]).
    pub fn with_room(self) -> Simulation {
        let has_room = true;
        Simulation { has_room, ..self }
    }

    /// Nodes know from the beginning who is a member, as with [`NodeBuilder::members`](anabranch::NodeBuilder::members). By default
    /// some seeds' nodes only know those that they have heard of, and count majorities of these.
    pub fn members_known(self) -> Simulation {
        let knows_members = true;
        Simulation {
            knows_members,
            ..self
        }
    }

    /// Somebody hears what happens, line by line. Nothing changes by that.
    pub fn told(self, teller: impl FnMut(&str) + 'static) -> Simulation {
        let teller: Option<Teller> = Some(Box::new(teller));
        Simulation { teller, ..self }
    }

    /// Runs an application to its end or its first failure. A panic is a failure too, but for one of a function: that one's caller hears
    /// of it ([`anabranch::ErrorKind::Lost`]), as he would from a node, and what it means is the application's to say.
    pub fn run(self, application: impl Application + 'static) -> Outcome {
        let (outcome, calls) = self.run_as(application, How::default());
        Outcome {
            seed: outcome.seed,
            failure: outcome.failure,
            calls: calls.unwrap_or_default(),
            events: outcome.tally.events,
            crashes: outcome.tally.crashes,
            trace: outcome.trace,
            ended_at: outcome.ended_at,
        }
    }

    /// The plan of its cluster.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::of_application(self.seed, self.nodes, &self.families, self.chaos_us);
        if self.has_room {
            plan.settings.requests = Choice::Default;
        }
        plan.discovered &= !self.knows_members;
        plan
    }

    /// The same in a certain way: `how.nodes` is not looked at.
    pub(crate) fn run_as(
        self,
        application: impl Application + 'static,
        how: How,
    ) -> (run::Outcome, Option<CallCounts>) {
        let plan = self.plan();
        let mut rng = Rng::stream(self.seed, "pace", 0, 0);
        let drawn = (rng.between(2, 5) as usize, rng.log_uniform(20_000.0, 400_000.0));
        let pace = Pace {
            clients: self.clients.unwrap_or(drawn.0),
            think_us: self.think_us.unwrap_or(drawn.1),
            roams: *rng.pick(&[0.0, 0.1, 0.5]),
            leaves: *rng.pick(&[0.0, 0.0, 0.05, 0.3]),
            doubts: DOUBTS,
        };
        let application = Box::new(application);
        let make = |plan, queue| World::of_application(plan, queue, self.teller, application, pace);
        run_world(plan, how, make, World::call_counts)
    }
}

/// What became of the calls of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls that clients made.
    pub asked: u64,
    /// Of them answered well.
    pub answered: u64,
    /// Refused by their function.
    pub refused: u64,
    /// Failed, and nothing of it has happened.
    pub failed: u64,
    /// Failed, and nobody can say what has happened.
    pub open: u64,
    /// Commands that functions were given, clients' and others'.
    pub commands: u64,
    /// Calls of functions at other nodes, and streams of them.
    pub remote: u64,
    /// Streams that functions began, clients' and others'.
    pub streams: u64,
    /// Replies of streams that clients took.
    pub replies: u64,
}

/// How a seed ended.
#[derive(Clone, Debug)]
#[must_use]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What broke, if anything did.
    pub failure: Option<Failure>,
    /// What became of the calls.
    pub calls: CallCounts,
    /// Events that happened.
    pub events: u64,
    /// Deaths of processes.
    pub crashes: u64,
    /// The trace hash at the end.
    pub trace: u64,
    /// Virtual time at the end, microseconds.
    pub ended_at: Micros,
}

/// The variable that names the one seed that is to be run, and told line by line.
const REPLAY: &str = "ANABRANCH_SIM_SEED";

/// Runs every seed, and panics at the first that fails: with the failure, what came before it, and the command that replays it.
/// That names the seed in `ANABRANCH_SIM_SEED`: then it alone is run, and all that happens is printed on stderr. Returns what all
/// seeds' calls became.
///
/// # Panics
/// A seed fails; the variable is no number.
pub fn check(seeds: Range<u64>, mut run: impl FnMut(Simulation) -> Outcome) -> CallCounts {
    let Some(seed) = variable(REPLAY) else {
        return check_all(seeds, run);
    };
    let Ok(seed) = seed.parse() else {
        panic!("{REPLAY} is {seed:?}, and no number");
    };
    let outcome = run(Simulation::of(seed).told(|line| eprintln!("{line}")));
    if let Some(failure) = &outcome.failure {
        panic!("seed {seed}: {failure}");
    }
    outcome.calls
}

#[allow(
    clippy::disallowed_methods,
    reason = "it says which seed is run and how that is told, and nothing of how it goes"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What one types to see a seed of the test that runs now.
fn replay(seed: u64) -> String {
    let package = variable("CARGO_PKG_NAME").map(|name| format!(" -p {name}"));
    let thread = std::thread::current();
    // Tests that run one after the other do so on the main thread.
    let test = thread.name().filter(|name| *name != "main");
    let test = test.map(|name| format!(" --exact {name}"));
    let (package, test) = (package.unwrap_or_default(), test.unwrap_or_default());
    format!("{REPLAY}={seed} cargo test{package} -- --nocapture{test}")
}

fn check_all(seeds: Range<u64>, mut run: impl FnMut(Simulation) -> Outcome) -> CallCounts {
    let mut all = CallCounts::default();
    for seed in seeds {
        let outcome = run(Simulation::of(seed));
        if let Some(failure) = &outcome.failure {
            let story = Rc::new(RefCell::new(VecDeque::new()));
            let lines = Rc::clone(&story);
            let again = run(Simulation::of(seed).told(move |line| {
                let mut lines = lines.borrow_mut();
                if lines.len() == STORY_LINES {
                    lines.pop_front();
                }
                lines.push_back(line.to_owned());
            }));
            assert_eq!(again.trace, outcome.trace, "seed {seed} went two ways");
            let story: Vec<String> = story.take().into();
            panic!("seed {seed}: {failure}\n{}\n{}", story.join("\n"), replay(seed));
        }
        all.add(&outcome.calls);
    }
    all
}

/// The first of these seeds that fails: for a test that plants a bug, and shows that it is found.
pub fn find(seeds: Range<u64>, mut run: impl FnMut(Simulation) -> Outcome) -> Option<Outcome> {
    let mut outcomes = seeds.map(|seed| run(Simulation::of(seed)));
    outcomes.find(|outcome| outcome.failure.is_some())
}

impl CallCounts {
    fn add(&mut self, other: &CallCounts) {
        let CallCounts {
            asked,
            answered,
            refused,
            failed,
            open,
            commands,
            remote,
            streams,
            replies,
        } = other;
        self.asked += asked;
        self.answered += answered;
        self.refused += refused;
        self.failed += failed;
        self.open += open;
        self.commands += commands;
        self.remote += remote;
        self.streams += streams;
        self.replies += replies;
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use anabranch::Function;
    use anabranch::state::Flag;

    use super::*;
    use crate::app::{Answered, Ask, Client, Cluster};
    use crate::net::NodeIx;

    /// Asks a node.
    struct At(NodeIx);

    impl Application for At {
        fn functions(&self) -> Vec<Function> {
            let flag = Function::of::<Flag>("flag").query("get", |flag, _, ()| Ok::<_, String>(flag.get()));
            vec![flag.into()]
        }

        fn next(&mut self, _: &mut Client) -> Option<Ask> {
            Some(Ask::of("flag", "a", "get", &()).at(self.0))
        }

        fn on_answer(&mut self, _: &Answered, _: &Cluster<'_>) -> Result<(), String> {
            Ok(())
        }

        fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
            let shown: Result<bool, String> = cluster.query(99, "flag", "a", "get", &());
            match shown {
                Err(why) if why.contains("there are 3") => Ok(()),
                shown => Err(format!("{shown:?}")),
            }
        }
    }

    fn short(seed: u64) -> Simulation {
        Simulation::of(seed).nodes(3).for_seconds(1)
    }

    #[test]
    #[should_panic(expected = "2 nodes at least, and is to have 1")]
    fn a_cluster_of_one_is_refused_with_words() {
        let _ = Simulation::of(1).nodes(1);
    }

    #[test]
    fn a_node_that_is_not_there_is_told_of_and_no_index() {
        let failure = short(1).run(At(99)).failure.map(|failure| failure.to_string());
        let failure = failure.unwrap_or_default();
        assert!(
            failure.contains("asks node 99 for get of flag/a: there are 3"),
            "{failure}"
        );
        assert!(short(1).run(At(2)).failure.is_none());
    }

    /// Awaits what never comes.
    struct InVain;

    impl Application for InVain {
        fn functions(&self) -> Vec<Function> {
            At(0).functions()
        }

        fn next(&mut self, client: &mut Client) -> Option<Ask> {
            At(0).next(client)
        }

        fn on_answer(&mut self, _: &Answered, _: &Cluster<'_>) -> Result<(), String> {
            Ok(())
        }

        fn awaits(&mut self, _: &Cluster<'_>) -> Option<String> {
            Some("what never comes".to_owned())
        }

        fn at_rest(&mut self, _: &Cluster<'_>) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn what_never_comes_is_awaited_for_a_bound_and_told_of_once() {
        let story = Rc::new(RefCell::new(Vec::new()));
        let lines = Rc::clone(&story);
        let told = short(1).told(move |line| lines.borrow_mut().push(line.to_owned()));
        let failure = told.run(InVain).failure.map(|failure| failure.to_string());
        let failure = failure.unwrap_or_default();
        assert!(
            failure.contains("180 s after all was healed: what never comes"),
            "{failure}"
        );
        let told = story.take();
        let told = told
            .iter()
            .filter(|line| line.ends_with("not settled yet: what never comes"));
        assert!((1..10).contains(&told.count()));
    }

    #[test]
    fn a_failure_says_how_it_is_replayed() {
        let failed = catch_unwind(AssertUnwindSafe(|| check(7..8, |_| short(7).run(At(99)))));
        let text = failed.err().and_then(|panic| panic.downcast::<String>().ok());
        let text = text.map_or_else(String::new, |text| *text);
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("ANABRANCH_SIM_SEED=7 cargo test -p anabranch-sim"),
            "{text}"
        );
    }
}
