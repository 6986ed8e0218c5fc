//! What functions were seen doing, by those who made them: what oracles go by besides what clients hear.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch::ReplicaId;

/// One for all nodes and all their runs.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Seen>>);

/// What functions did, as they themselves noted it.
#[derive(Debug, Default)]
pub struct Seen {
    /// How often a function was run by each name of a call.
    pub runs: BTreeMap<String, u64>,
    /// By item, all that some function that was told of a change of it has found in it.
    pub found: BTreeMap<String, BTreeSet<String>>,
    /// How often functions were told of changes.
    pub told: u64,
    /// By run of a node, function and item, what was found last.
    last: BTreeMap<(ReplicaId, &'static str, String), BTreeSet<String>>,
    /// What was broken first.
    broken: Option<String>,
}

impl Ledger {
    pub fn open(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// A function was run.
    pub fn ran(&mut self, name: &str) {
        *self.runs.entry(name.to_owned()).or_default() += 1;
    }

    pub fn broke(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// A function that was told of an item has found this in it.
    pub fn on_found(&mut self, at: ReplicaId, by: &'static str, item: &str, tokens: &[String]) {
        self.told += 1;
        let found: BTreeSet<String> = tokens.iter().cloned().collect();
        self.found
            .entry(item.to_owned())
            .or_default()
            .extend(found.iter().cloned());
        let last = self.last.entry((at, by, item.to_owned())).or_default();
        let is_back = !last.is_subset(&found);
        let before = std::mem::replace(last, found);
        if is_back {
            self.broke(format!(
                "{by} was told of {item} as it was before it was {before:?}"
            ));
        }
    }

    /// What was broken so far.
    pub fn check(&self) -> Result<(), String> {
        self.broken.clone().map_or(Ok(()), Err)
    }
}
