//! Is the simulator itself well? The same seed in two processes goes the same way; how fast it is; what was tried.

use std::process::Command;

use super::print::line;
use super::search::{Search, Span, search, silence_panics, thread_time};
use super::{exit, replay_command};
use crate::kernel::Kernel;
use crate::profile::Profile;
use crate::queue::QueueKind;
use crate::rng::Rng;

/// The command.
pub(super) fn run(seeds: std::ops::Range<u64>) -> u8 {
    let mut differing = Vec::new();
    for seed in seeds.clone() {
        match (trace_of(seed), trace_of(seed)) {
            (Ok(a), Ok(b)) if a == b => {}
            (Ok(a), Ok(b)) => differing.push(format!("seed {seed}: {a} and {b}")),
            (Err(why), _) | (_, Err(why)) => differing.push(format!("seed {seed}: {why}")),
        }
    }
    line(format!(
        "determinism: {} seeds twice, {} differed",
        seeds.end - seeds.start,
        differing.len()
    ));
    for kind in [QueueKind::Heap, QueueKind::Calendar] {
        line(format!(
            "bare kernel, {kind:?}: {:.1} M events a second",
            bare_kernel(kind) / 1e6
        ));
    }
    silence_panics();
    let found = search(&Search {
        span: Span::Seeds(seeds),
        keep_going: true,
        ..Search::default()
    });
    line(format!(
        "cluster: {:.0} events a second a core over {} seeds",
        found.speed(),
        found.seeds
    ));
    for (mark, count) in &found.marks {
        line(format!("{count:>12}  {mark}"));
    }
    for outcome in &found.failed {
        let Some(failure) = &outcome.failure else { continue };
        line(format!("FAILED seed {}: {failure}", outcome.seed));
    }
    if differing.is_empty() {
        if let Some(outcome) = found.failed.first() {
            line(replay_command(outcome.seed, None, Profile::default()));
        }
        return found.exit_code();
    }
    differing.iter().for_each(line);
    exit::NON_DETERMINISM
}

/// A seed's trace hash, from a process of its own.
fn trace_of(seed: u64) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
    let output = Command::new(program)
        .args(["replay", &seed.to_string()])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let trace = text
        .lines()
        .find_map(|line| line.strip_prefix("trace "))
        .map(str::to_owned);
    trace.ok_or_else(|| format!("its replay ended without a trace: {}", output.status))
}

/// Five nodes that pass messages on, with nothing in them: what the kernel alone can do.
fn bare_kernel(kind: QueueKind) -> f64 {
    const EVENTS: u64 = 4_000_000;
    let mut kernel: Kernel<(u64, u64)> = Kernel::new(kind);
    for node in 0..5 {
        kernel.after(node, (node, 0));
    }
    let began = thread_time();
    while kernel.taken() < EVENTS {
        let Some((node, hops)) = kernel.next(u64::MAX) else {
            break;
        };
        kernel.hash().absorb(node << 32 | hops);
        let mut rng = Rng::stream(1, "", node, hops);
        let wait = 100 + rng.below(10_000);
        kernel.after(wait, (rng.below(5), hops + 1));
        if kernel.waiting() < 1_000 {
            kernel.after(wait / 2, (rng.below(5), hops + 2));
        }
    }
    EVENTS as f64 / thread_time().saturating_sub(began).as_secs_f64()
}
