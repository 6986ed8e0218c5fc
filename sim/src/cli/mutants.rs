//! Planted bugs: does the simulator find them?
//!
//! One extra build of this program holds all of them (`RUSTFLAGS="--cfg planted"`, a target directory of its own); an
//! environment variable chooses one. Same seeds and profile as any run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::exit;
use super::print::line;
use crate::profile::Profile;

/// What to try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutants {
    /// One of them alone.
    pub only: Option<String>,
    /// At most so many seeds each; as many as its class allows if it is not said.
    pub seeds: Option<u64>,
}

/// So many seeds are passed without a bug, from each beginning.
const CLEAN_SEEDS: u64 = 100;

/// A bug, where it stands in `simulation.md`, and within how many seeds it must be found.
struct Planted {
    number: &'static str,
    name: &'static str,
    class: &'static str,
    seeds_max: u64,
    profile: Profile,
}

const fn planted(number: &'static str, name: &'static str, class: &'static str, seeds_max: u64) -> Planted {
    Planted {
        number,
        name,
        class,
        seeds_max,
        profile: Profile::Swarm,
    }
}

/// One that the swarm has nothing to do with.
const fn within(profile: Profile, name: &'static str, class: &'static str, seeds_max: u64) -> Planted {
    Planted {
        profile,
        ..planted("-", name, class, seeds_max)
    }
}

/// All that are planted; `none` must pass and `canary` must fail (it needs a counter in the plan, which most have).
const PLANTED: [Planted; 51] = [
    planted("-", "none", "-", 0),
    planted("-", "canary", "I", 10),
    planted("1", "ack_before_sync", "I", 10),
    planted("2", "restart_keeps_epoch", "I", 10),
    planted("3", "backup_keeps_epoch", "II", 100),
    planted("4", "set_remove_without_dots", "I", 10),
    planted("5", "remove_takes_unseen", "II", 100),
    planted("6", "duplicate_counted_twice", "I", 10),
    planted("7", "gap_accepted", "III", 1_000),
    planted("8", "trim_on_send", "I", 10),
    planted("9", "one_digest", "II", 100),
    planted("10", "only_own_updates_pulled", "I", 10),
    planted("11", "digest_ignores_removals", "II", 100),
    planted("12", "summary_of_16_bits", "IV", 10_000),
    planted("14", "tie_by_arrival", "II", 100),
    planted("15", "raw_wall_clock", "II", 100),
    planted("16", "removal_keeps_counters", "II", 100),
    planted("20", "append_after_torn_record", "II", 100),
    planted("21", "checksum_skipped_on_old_segment", "III", 1_000),
    planted("22", "failed_sync_believed", "II", 100),
    planted("23", "token_by_maximum", "III", 1_000),
    planted("-", "token_leaves_out_stable", "III", 1_000),
    planted("-", "level_of_what_is_made", "III", 1_000),
    planted("-", "commit_by_the_present", "II", 100),
    planted("-", "majority_of_one", "II", 100),
    planted("-", "members_not_told", "II", 100),
    planted("-", "delta_while_busy", "I", 10),
    planted("-", "reply_before_commit", "I", 10),
    planted("-", "part_before_commit", "II", 100),
    planted("-", "memory_kept_after_failure", "II", 100),
    planted("-", "own_writes_believed", "II", 100),
    planted("-", "alone_despite_others", "II", 100),
    planted("25", "timer_dies_on_restart", "I", 10),
    planted("-", "rights_of_all", "II", 100),
    planted("-", "transfer_stays", "II", 100),
    planted("-", "heir_too_soon", "II", 100),
    within(Profile::Triggers, "fire_done_unanswered", "II", 100),
    within(Profile::Triggers, "fire_named_by_try", "II", 100),
    within(Profile::Triggers, "missed_all_once", "II", 100),
    within(Profile::Triggers, "done_of_any_order", "III", 1_000),
    within(Profile::Triggers, "change_while_told_lost", "II", 100),
    within(Profile::Triggers, "cursor_before_answer", "II", 100),
    within(Profile::Triggers, "taken_over_as_told", "II", 100),
    within(Profile::Retries, "once_asked_again", "II", 100),
    within(Profile::Retries, "refused_has_not_run", "II", 100),
    within(Profile::Retries, "may_have_run_forgotten", "II", 100),
    within(Profile::Retries, "name_stays_behind", "II", 100),
    within(Profile::Retries, "forward_hides_first_part", "II", 100),
    within(Profile::Streams, "cut_taken_for_the_end", "I", 10),
    within(Profile::Streams, "stream_outlives_its_caller", "I", 10),
    within(Profile::Streams, "gone_has_said_all", "II", 100),
];

/// What stands above the table in `sim/PLANTED.md`.
const HEAD: &str = "\
# Planted bugs: seeds to detection

Written by `cargo run --release -p anabranch-sim -- mutants > sim/PLANTED.md`. One build holds all of them
(`RUSTFLAGS=\"--cfg planted\"`, a target directory of its own), `ANABRANCH_PLANTED=NAME` chooses one, and the runs are
those of any `anabranch-sim run`: same seeds, same profile (`swarm`, unless another is named). How many seeds it took from
each of three beginnings, and which rules were broken. Class I: at most 10 seeds, II 100, III 1,000, IV 10,000.
";

/// What stands below it.
const FOOT: &str = "\
Not planted, since what they are about does not exist yet: 17 and 18 (hand-off, partial placement), 24 (mixed versions).
13 has nothing to stand in: a removal leaves no metadata of its own that a clock could end. Nor has 19: tokens leave nothing
out, so a node that has not recovered lacks what they name.

12 is planted where digests meet, in the summary of a shard. In the fingerprint beneath it 16 bits would be enough for
every run without another bug: a summary also covers the version vector, and of equal vectors the states are equal.
";

/// Where runs of seeds begin: a single lucky seed proves little.
const STARTS: [u64; 3] = [1, 10_001, 20_001];

/// The command.
pub(super) fn run(mutants: &Mutants) -> u8 {
    let program = match build() {
        Ok(program) => program,
        Err(why) => {
            eprintln!("{why}");
            return exit::USAGE;
        }
    };
    let mut missed = false;
    line(format!(
        "{HEAD}\n| # | planted | class | seeds from 1, 10001, 20001 | found by |\n|---|---|---|---|---|"
    ));
    for bug in PLANTED
        .iter()
        .filter(|bug| mutants.only.as_ref().is_none_or(|only| only == bug.name))
    {
        match try_bug(&program, bug, mutants.seeds) {
            Ok((row, fits)) => {
                missed |= !fits;
                line(row);
            }
            Err(why) => {
                eprintln!("{}: {why}", bug.name);
                return exit::PANIC;
            }
        }
    }
    line(format!("\n{FOOT}"));
    if missed { exit::SAFETY } else { exit::CLEAN }
}

/// A bug's line of the table, and whether it was found in time.
fn try_bug(program: &Path, bug: &Planted, seeds: Option<u64>) -> Result<(String, bool), String> {
    let seeds = seeds.unwrap_or(match bug.seeds_max {
        0 => CLEAN_SEEDS,
        most => most,
    });
    let mut counts = Vec::new();
    let mut rules: Vec<String> = Vec::new();
    let mut fits = true;
    for start in STARTS {
        match first_failure(program, bug, start, seeds)? {
            None => {
                fits &= bug.seeds_max == 0;
                counts.push(format!("none in {seeds}"));
            }
            Some((count, rule)) => {
                fits &= count <= bug.seeds_max;
                counts.push(count.to_string());
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    let found_by = if rules.is_empty() {
        "-".to_owned()
    } else {
        rules.join(", ")
    };
    let verdict = if fits { "" } else { " **not in its class**" };
    let Planted {
        number, name, class, ..
    } = bug;
    let profile = match bug.profile {
        Profile::Swarm => String::new(),
        other => format!(" (`{}`)", other.name()),
    };
    Ok((
        format!(
            "| {number} | `{name}`{profile} | {class} | {}{verdict} | {found_by} |",
            counts.join(", ")
        ),
        fits,
    ))
}

/// Builds the program with all bugs in it.
fn build() -> Result<PathBuf, String> {
    let target = PathBuf::from(std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned()))
        .join("planted");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--quiet",
            "--bin",
            "anabranch-sim",
            "--manifest-path",
        ])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", "--cfg planted")
        .status()
        .map_err(|e| format!("cargo cannot be run: {e}"))?;
    if status.success() {
        Ok(target.join("release").join("anabranch-sim"))
    } else {
        Err(format!("the planted build failed: {status}"))
    }
}

/// How many seeds it takes to find a bug, and by which rule.
fn first_failure(
    program: &Path,
    bug: &Planted,
    start: u64,
    seeds: u64,
) -> Result<Option<(u64, String)>, String> {
    let span = format!("{start}..{}", start + seeds);
    let output = Command::new(program)
        .args(["run", "--seeds", &span, "--nodes", "5", "--json"])
        .args(["--profile", bug.profile.name()])
        .env("ANABRANCH_PLANTED", bug.name)
        .output()
        .map_err(|e| format!("the planted build cannot be run: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains(r#""exit":"#) {
        return Err(format!("the planted build died: {}", output.status));
    }
    Ok(parse_failure(&text).map(|(seed, rule)| (seed - start + 1, rule)))
}

fn parse_failure(json: &str) -> Option<(u64, String)> {
    let (_, failed) = json.split_once(r#"{"seed":"#)?;
    let (seed, rest) = failed.split_once(',')?;
    let rule = rest.split_once(r#""rule":""#)?.1.split('"').next()?;
    Some((seed.parse().ok()?, rule.to_owned()))
}
