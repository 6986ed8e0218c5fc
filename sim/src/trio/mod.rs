//! Two or three engines, their frames delivered by hand: for races that random runs rarely reach.
//!
//! A script is lines of text, one step each; every oracle looks after every step. Frames wait in their link until a
//! line lets them through, and records wait for a sync likewise.
//!
//! ```
//! anabranch_sim::trio::check("
//!     link a-b
//!     talk a-b
//!     a: add tags/e x y
//!     a>b
//!     b shows tags/e [x y]
//!     b covers a.1:2
//! ");
//! ```
//!
//! The lines: `NODE: OP KIND/KEY ARGS [key K]` with the operations of the command line on the kinds `visits` (gcounter),
//! `stock` (pncounter), `profile` (register) and `tags` (set); `NODE refuses OP ...`; `link A-B`, `cut A-B`; `A>B [N]`
//! lets all frames (or N) through, `A>B copy` the first one's copy, `drop A>B [N]`; `talk A-B [C-D ...]` lets them
//! through until nobody has anything to say, `talk A-B until C counted NAME` one by one until then; `sync A`, `crash A`, `start A`, `lose A` (its disk), `backup A`,
//! `restore A`, `clock A MS`, `wait MS`; `A shows KIND/KEY VALUE`, `A covers A.1:2 B.1:1`, `same A B C`,
//! `A counted NAME`; `#` begins a comment.
//!
//! Not here: virtual time's own will, networks, chance.
//! Contract: a script that breaks a rule, or whose expectation fails, panics with the line and what was there.

mod cluster;
mod script;
#[cfg(test)]
mod tests;

use anabranch::Limits;

pub use cluster::Trio;

/// Runs a script over three engines with small bounds (see [`limits`]), which have met before: new directories take no
/// writes until then.
///
/// # Panics
/// If a rule is broken or an expectation fails.
pub fn check(script: &str) {
    check_with(limits(), script);
}

/// As [`check`], with other bounds.
///
/// # Panics
/// If a rule is broken or an expectation fails.
pub fn check_with(limits: Limits, script: &str) {
    let mut trio = Trio::new(limits);
    run(
        &mut trio,
        "link a-b\n link b-c\n link a-c\n talk a-b b-c a-c\n cut a-b\n cut b-c\n cut a-c",
    );
    run(&mut trio, script);
}

/// As [`check`], but the three have never met.
///
/// # Panics
/// If a rule is broken or an expectation fails.
pub fn check_strangers(script: &str) {
    run(&mut Trio::new(limits()), script);
}

fn run(trio: &mut Trio, script: &str) {
    for (number, line) in script.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        if let Err(why) = trio.perform(line) {
            panic!("line {}: {line}\n{why}\n{}", number + 1, trio.tell());
        }
    }
}

/// The bounds scripts run with: rings and delays as users have them, but one part holds few operations, so that cuts
/// fall between them.
pub fn limits() -> Limits {
    Limits {
        part_bytes: 64,
        ..Limits::default()
    }
}

/// The same with rings of a single slot: whoever is behind needs a snapshot.
pub fn no_ring() -> Limits {
    Limits {
        ring_slots_max: 1,
        ..limits()
    }
}
