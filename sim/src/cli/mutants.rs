//! Planted bugs: does the simulator find them?
//!
//! One extra build of this program holds all of them (`RUSTFLAGS="--cfg planted"`, a target directory of its own); an
//! environment variable chooses one. Same seeds and profile as any run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::exit;

/// What to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutants {
    /// One of them alone.
    pub only: Option<String>,
    /// At most so many seeds each.
    pub seeds: u64,
}

impl Default for Mutants {
    fn default() -> Mutants {
        Mutants {
            only: None,
            seeds: 100,
        }
    }
}

/// A bug, where it stands in `simulation.md`, and within how many seeds it must be found.
struct Planted {
    number: &'static str,
    name: &'static str,
    class: &'static str,
    seeds_max: u64,
}

const fn planted(number: &'static str, name: &'static str, class: &'static str, seeds_max: u64) -> Planted {
    Planted {
        number,
        name,
        class,
        seeds_max,
    }
}

/// All that are planted; `none` must pass and `canary` must fail (it needs a counter in the plan, which most have).
const PLANTED: [Planted; 11] = [
    planted("-", "none", "-", 0),
    planted("-", "canary", "I", 10),
    planted("1", "ack_before_sync", "I", 10),
    planted("2", "restart_keeps_epoch", "I", 10),
    planted("4", "set_remove_without_dots", "I", 10),
    planted("6", "duplicate_counted_twice", "I", 10),
    planted("7", "gap_accepted", "III", 1_000),
    planted("8", "trim_on_send", "I", 10),
    planted("10", "only_own_updates_pulled", "I", 10),
    planted("11", "digest_ignores_removals", "II", 100),
    planted("25", "timer_dies_on_restart", "I", 10),
];

/// What stands above the table in `sim/PLANTED.md`.
const HEAD: &str = "\
# Planted bugs: seeds to detection

Written by `cargo run --release -p anabranch-sim -- mutants > sim/PLANTED.md`. One build holds all of them
(`RUSTFLAGS=\"--cfg planted\"`, a target directory of its own), `ANABRANCH_PLANTED=NAME` chooses one, and the runs are
those of any `anabranch-sim run`: same seeds, same profile. How many seeds it took from each of three beginnings, and
which rules were broken. Class I: at most 10 seeds, II 100, III 1,000.
";

/// What stands below it.
const FOOT: &str = "\
Not planted, since what they are about does not exist yet: 13 and 16 (removal of entities and map keys), 17 and 18
(hand-off, partial placement), 19 and 23 (session tokens), 24 (mixed versions). Not planted yet: 3, 5, 9, 12, 14, 15.
In the store, with tests of its own that fail: 20, 21, 22.
";

/// Where runs of seeds begin: a single lucky seed proves little.
const STARTS: [u64; 3] = [1, 1_001, 2_001];

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
    println!("{HEAD}\n| # | planted | class | seeds from 1, 1001, 2001 | found by |\n|---|---|---|---|---|");
    for bug in PLANTED
        .iter()
        .filter(|bug| mutants.only.as_ref().is_none_or(|only| only == bug.name))
    {
        let tries: Vec<Option<(u64, String)>> = STARTS
            .iter()
            .map(|&start| first_failure(&program, bug.name, start, mutants.seeds))
            .collect();
        let fits = tries.iter().all(|found| match found {
            None => bug.seeds_max == 0,
            Some((seeds, _)) => *seeds <= bug.seeds_max,
        });
        missed |= !fits;
        let seeds: Vec<String> = tries
            .iter()
            .map(|found| {
                found
                    .as_ref()
                    .map_or(format!("none in {}", mutants.seeds), |(seeds, _)| {
                        seeds.to_string()
                    })
            })
            .collect();
        let mut rules: Vec<&str> = tries.iter().flatten().map(|(_, rule)| rule.as_str()).collect();
        rules.dedup();
        let rules = if rules.is_empty() {
            "-".to_owned()
        } else {
            rules.join(", ")
        };
        let verdict = if fits { "" } else { " **not in its class**" };
        println!(
            "| {} | `{}` | {} | {}{verdict} | {rules} |",
            bug.number,
            bug.name,
            bug.class,
            seeds.join(", ")
        );
    }
    println!("\n{FOOT}");
    if missed { exit::SAFETY } else { exit::CLEAN }
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
fn first_failure(program: &Path, name: &str, start: u64, seeds: u64) -> Option<(u64, String)> {
    let span = format!("{start}..{}", start + seeds);
    let output = Command::new(program)
        .args(["run", "--seeds", &span, "--json"])
        .env("ANABRANCH_PLANTED", name)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, failed) = text.split_once(r#"{"seed":"#)?;
    let (seed, rest) = failed.split_once(',')?;
    let rule = rest.split_once(r#""rule":""#)?.1.split('"').next()?;
    Some((seed.parse::<u64>().ok()? - start + 1, rule.to_owned()))
}
