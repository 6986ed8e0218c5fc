//! Can the suite fail? Deliberate mistakes in the crate, each of which must be found.
//!
//! One extra build of this program holds all of them (`RUSTFLAGS="--cfg planted"`, a target directory of its own); an
//! environment variable chooses one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anabranch_crdt::Type;

/// Within how many steps of one type each must be found.
pub const STEPS_MAX: u64 = 100_000;

/// The mistakes, each with where it stands.
const PLANTED: &[(&str, &str)] = &[
    ("none", "-"),
    ("gap_is_covered", "context"),
    ("touching_runs_stay_apart", "context"),
    ("join_keeps_what_they_removed", "join"),
    ("duplicate_counted_twice", "join of a delta"),
    ("remove_takes_unseen", "join of a delta"),
    ("since_leaves_out_removals", "since"),
    ("chunk_taken_for_the_whole", "split"),
    ("canonical_order_of_arrival", "canonical order"),
    ("increment_from_nothing", "gcounter, pncounter"),
    ("tie_by_arrival", "lwwregister"),
    ("own_clock_kills_all", "lwwregister"),
    ("set_remove_without_dots", "orset"),
    ("marks_pile_up", "orset"),
    ("gset_adds_again", "gset"),
    ("enabled_once", "flag"),
    ("write_supersedes_nothing", "mvregister"),
    ("ballot_of_all", "vote"),
    ("rights_of_all", "boundedcounter"),
    ("transfer_stays", "boundedcounter"),
    ("removal_is_shallow", "ormap"),
    ("map_marks_pile_up", "all maps"),
    ("removal_keeps_counters", "ormap, countermap"),
    ("reset_forgets_the_totals", "ormap, countermap"),
    ("slot_kept_that_they_dropped", "counters"),
];

const HEAD: &str = "\
# Planted mistakes: can the proof suite fail?

Written by `cargo run --release -p anabranch-laws -- mutants > crdt-core/laws/PLANTED.md`. One build holds all of them
(`RUSTFLAGS=\"--cfg planted\"`), `ANABRANCH_PLANTED=NAME` chooses one, and the histories are those of any run from seed 1:
how many steps of a type it took, at most 100,000, and what differed then. `none` must not be found.

| planted | in | found in steps | of | by |
|---|---|---|---|---|";

/// Tries them all and prints the table; false if one was not found, or `none` was.
///
/// # Errors
///
/// What kept it from running.
pub fn run() -> Result<bool, String> {
    let program = build()?;
    println!("{HEAD}");
    let mut is_right = true;
    for (name, place) in PLANTED {
        let found = first_found(&program, name)?;
        is_right &= found.is_some() == (*name != "none");
        let row = match found {
            Some((steps, ty, what)) => format!("{steps} | {ty} | {what}"),
            None => "not found | - | -".to_owned(),
        };
        println!("| `{name}` | {place} | {row} |");
    }
    Ok(is_right)
}

/// The fewest steps over all types in which a mistake is found, and how.
fn first_found(program: &Path, name: &str) -> Result<Option<(u64, Type, String)>, String> {
    let output = Command::new(program)
        .args(["run", "--steps", &STEPS_MAX.to_string()])
        .env("ANABRANCH_PLANTED", name)
        .output()
        .map_err(|e| format!("the planted build cannot be run: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().filter_map(|line| {
        let (ty, rest) = line.split_once(": a mismatch within ")?;
        let (steps, what) = rest.split_once(" steps: ")?;
        let what = what
            .strip_prefix("after `")
            .and_then(|rest| rest.split_once("`: "))
            .map_or(what, |(_, what)| what);
        let what = what.split(": ours").next().unwrap_or(what);
        Some((steps.parse().ok()?, ty.parse().ok()?, what.to_owned()))
    });
    let found = found.min_by_key(|(steps, _, _)| *steps);
    if found.is_none() && !output.status.success() {
        return Err(format!(
            "{name}: the planted build died: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(found)
}

/// Builds this program with all mistakes in it.
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
            "anabranch-laws",
            "--manifest-path",
        ])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", "--cfg planted")
        .status()
        .map_err(|e| format!("cargo cannot be run: {e}"))?;
    if status.success() {
        Ok(target.join("release").join("anabranch-laws"))
    } else {
        Err(format!("the planted build failed: {status}"))
    }
}
