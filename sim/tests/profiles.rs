//! The applications of the simulator's own: some seeds of each, and that what they are about happens.

use anabranch_sim::profile::Profile;
use anabranch_sim::run::{How, run_seed};

/// Runs some seeds; everything that a profile counts must have happened in them.
#[track_caller]
fn check(profile: Profile, seeds: std::ops::Range<u64>) {
    let how = How {
        profile,
        ..How::default()
    };
    let mut marks = std::collections::BTreeMap::new();
    for seed in seeds {
        let outcome = run_seed(seed, how, None);
        assert!(outcome.failure.is_none(), "seed {seed}: {:?}", outcome.failure);
        for (name, count) in outcome.tally.marks {
            *marks.entry(name).or_insert(0) += count;
        }
        assert_eq!(
            run_seed(seed, how, Some(Box::new(|_| {}))).trace,
            outcome.trace,
            "seed {seed}"
        );
    }
    assert!(
        !marks.is_empty() && marks.values().all(|count| *count > 0),
        "{marks:?}"
    );
}

#[test]
fn what_is_due_is_called_for_and_what_has_changed_is_told() {
    check(Profile::Triggers, 1..17);
}

#[test]
fn what_may_run_once_runs_once_and_what_is_said_of_the_rest_is_true() {
    check(Profile::Retries, 1..21);
}

#[test]
fn streams_show_what_there_is_and_end_at_both_ends() {
    check(Profile::Streams, 1..21);
}
