//! Looking for seeds that fail: many runs, on as many threads as asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::print::line;
use super::{exit, replay_command};
use crate::profile::Profile;
use crate::run::{How, Outcome, run_seed};
use crate::world::Tally;

/// Which seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// These.
    Seeds(std::ops::Range<u64>),
    /// From 1 on, for so many minutes.
    Minutes(u64),
}

/// What to look through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Which seeds.
    pub span: Span,
    /// Threads.
    pub jobs: usize,
    /// So many nodes instead of what the seed says.
    pub nodes: Option<usize>,
    /// What runs on the clusters.
    pub profile: Profile,
    /// Whether to go on after a failure.
    pub keep_going: bool,
    /// Whether to print one line of JSON.
    pub json: bool,
}

impl Default for Search {
    fn default() -> Search {
        Search {
            span: Span::Seeds(1..101),
            jobs: 1,
            nodes: None,
            profile: Profile::default(),
            keep_going: false,
            json: false,
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// How many seeds were run.
    pub seeds: u64,
    /// Those that failed, ascending.
    pub failed: Vec<Outcome>,
    /// What all runs did.
    pub marks: BTreeMap<&'static str, u64>,
    /// The same for each thousand seeds in the order of their numbers, and how many of them were run.
    pub thousands: BTreeMap<u64, (u64, BTreeMap<&'static str, u64>)>,
    /// Events that happened in all.
    pub events: u64,
    /// Processor time that the runs took on all threads together.
    pub busy: Duration,
}

/// Runs the seeds.
///
/// The clock of the machine is read here, and only here and in the doctor, to know when the minutes are over and how
/// fast it went; no run sees it.
pub fn search(search: &Search) -> Found {
    let (first, end, deadline) = match &search.span {
        Span::Seeds(seeds) => (seeds.start, seeds.end, None),
        Span::Minutes(minutes) => (
            1,
            u64::MAX,
            Some(wall_clock() + Duration::from_secs(60 * minutes)),
        ),
    };
    let next = AtomicU64::new(first);
    // Seeds from here on need not be run: one before them has failed. All before it are run to their end, so that the one
    // reported does not depend on which thread was faster.
    let stop_at = AtomicU64::new(end);
    let found = Mutex::new(Found::default());
    std::thread::scope(|scope| {
        for _ in 0..search.jobs {
            scope.spawn(|| {
                while deadline.is_none_or(|deadline| wall_clock() < deadline) {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= stop_at.load(Ordering::SeqCst) {
                        return;
                    }
                    let began = thread_time();
                    let outcome = run_seed(
                        seed,
                        How {
                            nodes: search.nodes,
                            profile: search.profile,
                            ..How::default()
                        },
                        None,
                    );
                    if outcome.failure.is_some() && !search.keep_going {
                        stop_at.fetch_min(seed, Ordering::SeqCst);
                    }
                    let Ok(mut found) = found.lock() else { return };
                    found.add(outcome, thread_time().saturating_sub(began));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.failed.sort_by_key(|outcome| outcome.seed);
    if !search.keep_going {
        found.failed.truncate(1);
    }
    found
}

/// Measures the simulator, from outside of every run.
pub(super) fn wall_clock() -> Instant {
    Instant::now()
}

/// Processor time of this thread, where the system tells it: a busy machine does not make the simulator slow.
pub(super) fn thread_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat");
    let ns = told
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ns.map_or_else(|| ORIGIN.get_or_init(wall_clock).elapsed(), Duration::from_nanos)
}

impl Found {
    fn add(&mut self, outcome: Outcome, took: Duration) {
        self.seeds += 1;
        self.events += outcome.tally.events;
        self.busy += took;
        let (seeds, thousand) = self.thousands.entry(outcome.seed / VACUITY_SEEDS).or_default();
        *seeds += 1;
        for (name, count) in marks(&outcome.tally) {
            *self.marks.entry(name).or_default() += count;
            *thousand.entry(name).or_default() += count;
        }
        if outcome.failure.is_some() {
            self.failed.push(outcome);
        }
    }

    /// Events a second, on one thread.
    pub fn speed(&self) -> f64 {
        self.events as f64 / self.busy.as_secs_f64().max(1e-9)
    }

    /// Marks that were never hit, and must be hit now and then.
    pub fn never(&self) -> Vec<&'static str> {
        never(&self.marks)
    }

    /// Whether a whole thousand of seeds never hit one.
    pub fn is_vacuous(&self) -> bool {
        let mut whole = self
            .thousands
            .values()
            .filter(|(seeds, _)| *seeds == VACUITY_SEEDS);
        whole.any(|(_, marks)| !never(marks).is_empty())
    }

    /// What the failures make of it, the first one first.
    pub(super) fn exit_code(&self) -> u8 {
        match self.failed.first().and_then(|outcome| outcome.failure.as_ref()) {
            Some(failure) => failure.rule.exit_code(),
            None if self.is_vacuous() => exit::VACUITY,
            None => exit::CLEAN,
        }
    }
}

fn never(marks: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    let unhit = marks
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(name, _)| *name);
    unhit.filter(|name| !NEVER.contains(name)).collect()
}

/// Everything that must happen now and then, or the runs prove little.
pub(super) fn marks(tally: &Tally) -> BTreeMap<&'static str, u64> {
    let (net, looks) = (&tally.net, &tally.looks);
    if !tally.marks.is_empty() {
        // What an application is about it says itself.
        let mut marks = tally.marks.clone();
        marks.extend([("crashes", tally.crashes), ("links lost", net.link_ends)]);
        return marks;
    }
    let mut marks: BTreeMap<&'static str, u64> = BTreeMap::from([
        ("updates answered", tally.answered),
        ("reads answered", tally.read),
        ("majority reads answered", tally.majorities),
        ("commands of functions", tally.commands),
        ("commits of functions", tally.committed),
        ("answers that went on", tally.streams),
        ("dots issued", tally.dots),
        ("crashes", tally.crashes),
        ("frames lost", net.lost),
        ("frames held in partitions", net.held),
        ("frames doubled", net.doubled),
        ("frames out of earlier links", net.ghosts),
        ("frames reordered", net.reordered),
        ("links lost", net.link_ends),
        ("values compared", looks.values),
        ("states compared dot by dot", looks.states),
        ("states of equal vectors", looks.equal_vectors),
        ("canonical bytes compared", looks.bytes),
        ("fingerprints from scratch", looks.fingerprints),
        ("acknowledgements checked", looks.acknowledged),
        ("recoveries checked", looks.recoveries),
        ("bases checked", looks.bases),
        ("claims about peers checked", looks.claims),
        ("repeats without effect", looks.repeats),
    ]);
    for (name, count) in &tally.counters {
        marks.insert(name, *count);
    }
    marks
}

/// Marks that no run may hit, or that need not be hit: the last one needs a shard larger than workloads make.
const NEVER: [&str; 3] = ["fingerprint_mismatches", "refused_frames", "snapshots_too_large"];
/// In so many seeds, each mark must be hit.
const VACUITY_SEEDS: u64 = 1_000;

/// The command.
pub(super) fn run(wanted: &Search) -> u8 {
    silence_panics();
    let found = search(wanted);
    let (never, code) = (found.never(), found.exit_code());
    if wanted.json {
        line(json(&found, code, wanted));
        return code;
    }
    for outcome in &found.failed {
        let Some(failure) = &outcome.failure else { continue };
        line(format!("FAILED seed {}: {failure}", outcome.seed));
    }
    line(format!(
        "{} seeds, {} failed, {} events, {:.0} events a second on one core",
        found.seeds,
        found.failed.len(),
        found.events,
        found.speed()
    ));
    if !never.is_empty() {
        line(format!("never happened: {}", never.join(", ")));
    }
    if let Some(outcome) = found.failed.first() {
        line(wanted.profile.plan(outcome.seed, wanted.nodes));
        line(replay_command(outcome.seed, wanted.nodes, wanted.profile));
    } else if code == exit::VACUITY {
        line("a thousand seeds went by in which something that must happen never did; tell of them with");
        line("  anabranch-sim doctor");
    }
    code
}

/// A panic of the code under test is a finding with a seed; its place is told by a replay.
pub(super) fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

fn json(found: &Found, code: u8, wanted: &Search) -> String {
    let failed: Vec<String> = found
        .failed
        .iter()
        .filter_map(|outcome| outcome.failure.as_ref().map(|failure| (outcome.seed, failure)))
        .map(|(seed, failure)| {
            let (rule, what) = (quoted(failure.rule.name()), quoted(&failure.what));
            let replay = quoted(&replay_command(seed, wanted.nodes, wanted.profile));
            format!(
                r#"{{"seed":{seed},"rule":{rule},"at_us":{},"what":{what},"replay":{replay}}}"#,
                failure.at
            )
        })
        .collect();
    format!(
        r#"{{"seeds":{},"exit":{code},"events":{},"events_per_s":{:.0},"failed":[{}]}}"#,
        found.seeds,
        found.events,
        found.speed(),
        failed.join(",")
    )
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
