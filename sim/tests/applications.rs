//! The applications of `node/examples` in simulated clusters: each with clients and an oracle of its own, and each oracle shown
//! to find what it is there to find.
//!
//! `ANABRANCH_SIM_SEEDS=10000 cargo test --release -p anabranch-sim --test applications` looks at so many seeds of each.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests may")]

#[path = "applications/boards.rs"]
mod boards;
#[path = "applications/by_hand.rs"]
mod by_hand;
#[path = "../../node/examples/cart/function.rs"]
mod cart;
#[path = "applications/carts.rs"]
mod carts;
#[path = "applications/carts_wrong.rs"]
mod carts_wrong;
#[path = "applications/entities.rs"]
mod entities;
#[path = "applications/orders.rs"]
mod orders;
#[path = "../../node/examples/presence/function.rs"]
mod presence;
#[path = "applications/presences.rs"]
mod presences;
#[path = "applications/presences_wrong.rs"]
mod presences_wrong;
#[path = "../../node/examples/quota/function.rs"]
mod quota;
#[path = "applications/quotas.rs"]
mod quotas;
#[path = "applications/quotas_wrong.rs"]
mod quotas_wrong;
#[path = "applications/streams_by_hand.rs"]
mod streams_by_hand;

use std::ops::Range;

use anabranch::Function;
use anabranch_sim::app::{self, Answered, CallCounts, Outcome, Simulation};
use anabranch_sim::oracle::Rule;

use boards::Boards;
use carts::Carts;
use entities::Entities;
use orders::Orders;
use presences::Presences;
use quotas::Quotas;

/// What became of what a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Asked,
    Answered,
    Open,
    /// It was said to have changed nothing.
    Nothing,
}

impl Fate {
    fn of(answered: &Answered) -> Fate {
        match &answered.result {
            Ok(_) => Fate::Answered,
            Err(_) if answered.may_have_run() => Fate::Open,
            Err(_) => Fate::Nothing,
        }
    }
}

/// A planted bug is found within so many seeds.
const FOUND_WITHIN: u64 = 120;

/// The seeds that hold whatever is planned: so many, unless the environment says how many.
fn seeds(default: u64) -> Range<u64> {
    let asked = std::env::var("ANABRANCH_SIM_SEEDS").ok();
    let count = asked.map(|count| count.parse().expect("ANABRANCH_SIM_SEEDS is a number"));
    1..count.unwrap_or(default) + 1
}

/// A run in which nothing is answered well, or everything is, shows nothing.
#[track_caller]
fn was_hard(counts: &CallCounts) {
    println!("{counts:?}");
    assert!(counts.answered > counts.asked / 3, "{counts:?}");
    assert!(counts.failed > 0 && counts.open > 0, "{counts:?}");
}

/// The application's own rule is broken within a few seeds.
#[track_caller]
fn is_found(run: impl FnMut(Simulation) -> Outcome) {
    let found = app::find(1..FOUND_WITHIN + 1, run);
    let found = found.unwrap_or_else(|| panic!("nothing was found in {FOUND_WITHIN} seeds"));
    println!("seed {}: {:?}", found.seed, found.failure);
    assert_eq!(found.failure.map(|failure| failure.rule), Some(Rule::Application));
}

fn real_carts() -> Vec<Function> {
    vec![cart::cart()]
}

fn real_quotas() -> Vec<Function> {
    vec![quota::quota(), quota::mover()]
}

#[test]
fn nothing_in_a_cart_is_lost_or_doubled_and_sessions_read_what_they_wrote() {
    let counts = app::check(seeds(80), |simulation| simulation.run(Carts::of(real_carts)));
    was_hard(&counts);
}

#[test]
fn no_more_is_ever_taken_from_a_quota_than_was_put_in() {
    let counts = app::check(seeds(80), |simulation| simulation.run(Quotas::of(real_quotas)));
    was_hard(&counts);
    assert!(counts.remote > 0, "{counts:?}");
}

#[test]
fn a_room_shows_whoever_is_there_and_no_ghosts() {
    let run = |simulation: Simulation| simulation.run(Presences::of(|| vec![presence::presence()]));
    let counts = app::check(seeds(80), run);
    was_hard(&counts);
}

#[test]
fn functions_call_one_another_at_most_once_and_sessions_see_all_of_it() {
    let counts = app::check(seeds(30), |simulation| simulation.run(Orders::default()));
    was_hard(&counts);
    assert!(counts.remote > 0, "{counts:?}");
}

/// In the first three seeds, calls of two nodes overlap, and the one that knew less ends last.
#[test]
fn what_is_derived_from_an_entity_on_its_changes_comes_to_what_that_entity_says() {
    for seed in [688, 727, 812].into_iter().chain(seeds(30)) {
        let outcome = boards::of(Simulation::of(seed)).run(Boards);
        assert_eq!(outcome.failure, None, "seed {seed}");
    }
}

#[test]
fn entities_that_clients_write_and_read_keep_what_levels_and_sessions_promise() {
    let run = |simulation: Simulation| simulation.members_known().run(Entities::default());
    let counts = app::check(seeds(40), run);
    was_hard(&counts);
}

#[test]
fn the_oracle_finds_reads_of_one_node_that_are_taken_for_a_majoritys() {
    is_found(|simulation| simulation.members_known().run(Entities::that_read_locally()));
}

#[test]
fn the_oracle_finds_reads_and_deletions_without_their_sessions_token() {
    is_found(|simulation| simulation.members_known().run(Entities::without_tokens()));
}

#[test]
fn one_seed_goes_one_way() {
    for seed in [2, 5] {
        let run = || Simulation::of(seed).run(Quotas::of(real_quotas));
        let (first, second) = (run(), run());
        assert_eq!((first.trace, first.events), (second.trace, second.events));
        let told = Simulation::of(seed).told(|line| assert!(!line.is_empty()));
        assert_eq!(told.run(Quotas::of(real_quotas)).trace, first.trace);
    }
    let trace = |seed| Simulation::of(seed).run(Carts::of(real_carts)).trace;
    assert_ne!(trace(3), trace(4));
}

#[test]
fn the_oracle_finds_a_cart_that_sets_a_line_to_its_sum() {
    is_found(|simulation| simulation.run(Carts::of(|| vec![carts_wrong::sets_the_sum()])));
}

#[test]
fn the_oracle_finds_a_cart_that_takes_out_by_counting_down() {
    is_found(|simulation| simulation.run(Carts::of(|| vec![carts_wrong::counts_down()])));
}

#[test]
fn the_oracle_finds_a_cart_that_answers_before_it_is_on_a_disk() {
    is_found(|simulation| simulation.run(Carts::of(|| vec![carts_wrong::answers_early()])));
}

#[test]
fn the_oracle_finds_clients_that_read_without_their_token() {
    is_found(|simulation| simulation.run(Carts::of(real_carts).without_tokens()));
}

#[test]
fn the_oracle_finds_a_quota_that_is_a_plain_counter() {
    is_found(|simulation| simulation.run(Quotas::of(|| vec![quotas_wrong::plain_counter()])));
}

#[test]
fn the_oracle_finds_a_quota_that_answers_before_it_is_on_a_disk() {
    is_found(|simulation| simulation.run(Quotas::of(|| vec![quotas_wrong::answers_early(), quota::mover()])));
}

#[test]
fn the_oracle_finds_a_quota_that_says_what_it_does_not_hold() {
    is_found(|simulation| {
        simulation.run(Quotas::of(|| {
            vec![quotas_wrong::denies_too_soon(), quota::mover()]
        }))
    });
}

#[test]
fn the_oracle_finds_calls_that_are_made_again() {
    is_found(|simulation| simulation.run(Orders::that_retry()));
}

#[test]
fn the_oracle_finds_a_room_that_keeps_ghosts() {
    is_found(|simulation| simulation.run(Presences::of(|| vec![presences_wrong::keeps_ghosts()])));
}

#[test]
fn the_oracle_finds_a_room_in_which_nodes_tidy_up_after_others() {
    is_found(|simulation| simulation.run(Presences::of(|| vec![presences_wrong::tidies_up()])));
}
