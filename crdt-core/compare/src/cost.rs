//! The cases that are counted in instructions. Each side's function makes a state and has the operations
//! [`measured`](crate::measured), so many of them that what surrounds them does not count.

use crate::{ours, theirs};

/// Whose code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Crdts,
    Dson,
    Automerge,
    Loro,
}

impl Side {
    pub const ALL: [Side; 5] = [Side::Ours, Side::Crdts, Side::Dson, Side::Automerge, Side::Loro];

    pub fn name(self) -> &'static str {
        match self {
            Side::Ours => "ours",
            Side::Crdts => "crdts",
            Side::Dson => "dson",
            Side::Automerge => "automerge",
            Side::Loro => "loro",
        }
    }
}

/// A case, and what each side does for it.
pub struct Case {
    pub name: &'static str,
    /// How many operations a run does.
    pub operations: u32,
    /// At most so many times the instructions of `crdts`.
    pub target: Option<f64>,
    ours: fn(),
    crdts: Option<fn()>,
    dson: Option<fn()>,
    automerge: Option<fn()>,
    loro: Option<fn()>,
}

impl Case {
    pub fn side(&self, side: Side) -> Option<fn()> {
        match side {
            Side::Ours => Some(self.ours),
            Side::Crdts => self.crdts,
            Side::Dson => self.dson,
            Side::Automerge => self.automerge,
            Side::Loro => self.loro,
        }
    }

    const fn crdts(
        name: &'static str,
        operations: u32,
        target: Option<f64>,
        ours: fn(),
        crdts: fn(),
    ) -> Case {
        Case {
            name,
            operations,
            target,
            ours,
            crdts: Some(crdts),
            dson: None,
            automerge: None,
            loro: None,
        }
    }
}

/// Adds and removes that are measured at once.
pub const MANY: u32 = 100;

pub const CASES: &[Case] = &[
    Case::crdts(
        "set of 10k, 3 replicas: add with its delta",
        MANY,
        Some(0.6),
        || ours::add(3),
        || theirs::crdts::add(3),
    ),
    Case::crdts(
        "set of 10k, 100 replicas: add with its delta",
        MANY,
        Some(0.2),
        || ours::add(100),
        || theirs::crdts::add(100),
    ),
    Case::crdts(
        "set of 10k, 3 replicas: remove with its delta",
        MANY,
        None,
        || ours::remove(3),
        || theirs::crdts::remove(3),
    ),
    Case::crdts(
        "set of 10k, 3 replicas: contains",
        MANY,
        None,
        ours::contains,
        theirs::crdts::contains,
    ),
    Case::crdts(
        "merge of two sets of 10k that differ in 10",
        1,
        Some(0.04),
        ours::merge,
        theirs::crdts::merge,
    ),
    Case::crdts(
        "join of a 10-element delta into 1k",
        1,
        None,
        || ours::delta_into(1_000),
        || theirs::crdts::ops_into(1_000),
    ),
    Case::crdts(
        "join of a 10-element delta into 100k",
        1,
        Some(1.0),
        || ours::delta_into(100_000),
        || theirs::crdts::ops_into(100_000),
    ),
    Case::crdts(
        "join of a 10-element delta into 1M",
        1,
        None,
        || ours::delta_into(1_000_000),
        || theirs::crdts::ops_into(1_000_000),
    ),
    Case {
        automerge: Some(theirs::automerge::increment),
        loro: Some(theirs::loro::increment),
        ..Case::crdts(
            "counter, 3 replicas: increment with its delta",
            MANY,
            Some(1.0 / 15.0),
            || ours::increment(3),
            || theirs::crdts::increment(3),
        )
    },
    Case::crdts(
        "counter, 100 replicas: increment with its delta",
        MANY,
        Some(1.0 / 15.0),
        || ours::increment(100),
        || theirs::crdts::increment(100),
    ),
    Case::crdts(
        "counter, 3 replicas: merge",
        1,
        Some(1.0 / 15.0),
        || ours::merge_counters(3),
        || theirs::crdts::merge_counters(3),
    ),
    Case::crdts(
        "counter, 100 replicas: merge",
        1,
        Some(1.0 / 15.0),
        || ours::merge_counters(100),
        || theirs::crdts::merge_counters(100),
    ),
    Case {
        dson: Some(theirs::dson::nested),
        automerge: Some(theirs::automerge::nested),
        loro: Some(theirs::loro::nested),
        ..Case::crdts(
            "map of 100 maps: update in a map in a map",
            MANY,
            None,
            ours::nested,
            theirs::crdts::nested,
        )
    },
    Case {
        dson: Some(theirs::dson::write),
        automerge: Some(theirs::automerge::write),
        loro: Some(theirs::loro::write),
        ..Case::crdts(
            "register: write with its delta",
            MANY,
            None,
            ours::write,
            theirs::crdts::write,
        )
    },
];
