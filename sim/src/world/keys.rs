//! Idempotency keys as clients use them: what each stands for, and what its node remembers of it.

use std::collections::BTreeMap;

use anabranch::Level;

use crate::net::NodeIx;
use crate::oracle::{Asked, Issue, Oracle, Standing};

/// One key, used at one node.
#[derive(Clone, Debug)]
pub(crate) struct KeyEntry {
    pub node: NodeIx,
    pub asked: Asked,
    pub level: Level,
    /// Every time it had an effect. More than one only if all but the last were lost with a crash.
    pub issues: Vec<Issue>,
    /// Whether the directory holds the last one, and must know the key.
    pub standing: Standing,
    /// Whether its caller was told that it is durable.
    pub promised: bool,
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct KeyBook {
    entries: BTreeMap<u64, KeyEntry>,
}

impl KeyBook {
    pub fn add(&mut self, key: u64, node: NodeIx, asked: Asked, level: Level) {
        let entry = KeyEntry {
            node,
            asked,
            level,
            issues: Vec::new(),
            standing: Standing::New,
            promised: false,
        };
        self.entries.insert(key, entry);
    }

    pub fn get(&self, key: u64) -> Option<&KeyEntry> {
        self.entries.get(&key)
    }

    pub fn standing(&self, node: NodeIx, key: u64) -> Standing {
        self.entries
            .get(&key)
            .filter(|entry| entry.node == node)
            .map_or(Standing::New, |entry| entry.standing)
    }

    /// The node took the update. Returns what its answer must name: this issue, or the one it repeats.
    pub fn on_made(&mut self, node: NodeIx, key: u64, issue: Issue) -> Issue {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.node == node) else {
            return issue;
        };
        if entry.standing == Standing::Made {
            return entry.issues.last().cloned().unwrap_or(issue);
        }
        entry.standing = Standing::Made;
        entry.issues.push(issue.clone());
        issue
    }

    /// A caller was told that what a key stands for is durable.
    pub fn promise(&mut self, key: u64) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.promised = true;
        }
    }

    /// A node has recovered: it remembers the keys whose records it holds, and no others.
    pub fn on_start(&mut self, node: NodeIx, oracle: &Oracle) {
        for entry in self.entries.values_mut().filter(|entry| entry.node == node) {
            if entry.standing != Standing::Made {
                continue;
            }
            entry.standing = match entry.issues.last() {
                // Nothing tells whether a key without effect was lost with the crash.
                Some(issue) if issue.dots.is_empty() && !entry.promised => Standing::Unknown,
                Some(issue) if oracle.holds(node, issue) => Standing::Made,
                _ => Standing::New,
            };
        }
    }

    /// A node's directory is another one now: its keys are of no more use, and nobody uses them again.
    pub fn forget(&mut self, node: NodeIx) {
        self.entries.retain(|_, entry| entry.node != node);
    }

    /// A key of which two effects are in a node's state.
    pub fn doubled(&self, node: NodeIx, oracle: &Oracle) -> Option<(u64, &KeyEntry)> {
        self.entries
            .iter()
            .find(|(_, entry)| {
                entry
                    .issues
                    .iter()
                    .filter(|issue| oracle.holds_part(node, issue))
                    .count()
                    > 1
            })
            .map(|(key, entry)| (*key, entry))
    }
}
