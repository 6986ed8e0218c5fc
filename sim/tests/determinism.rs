//! One seed goes one way, whatever the event queue is made of and whoever listens.

use anabranch_sim::plan::{Plan, SECOND};
use anabranch_sim::queue::QueueKind;
use anabranch_sim::run::{How, run_plan, run_seed};

#[test]
fn both_event_queues_give_the_same_trace() {
    for seed in [3, 8] {
        let until = 20 * SECOND;
        let heap = run_seed(
            seed,
            How {
                until,
                ..How::default()
            },
            None,
        );
        let calendar = run_seed(
            seed,
            How {
                until,
                queue: QueueKind::Calendar,
                ..How::default()
            },
            None,
        );
        assert_eq!(heap.failure, None, "seed {seed}");
        assert_eq!(
            (heap.trace, heap.tally.events),
            (calendar.trace, calendar.tally.events),
            "seed {seed}"
        );
    }
}

#[test]
fn whoever_listens_changes_nothing() {
    let until = 10 * SECOND;
    let quiet = run_seed(
        5,
        How {
            until,
            ..How::default()
        },
        None,
    );
    let told = run_seed(
        5,
        How {
            until,
            ..How::default()
        },
        Some(Box::new(|line| assert!(!line.is_empty()))),
    );
    assert_eq!(quiet.trace, told.trace);
}

#[test]
fn another_seed_goes_another_way() {
    let trace = |seed| run_plan(Plan::calm(seed, 3, SECOND), How::default(), None).trace;
    assert_ne!(trace(1), trace(2));
    assert_eq!(trace(1), trace(1));
}
