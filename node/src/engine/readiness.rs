//! Whether this node takes writes: once it has caught up with another, or is alone.
//!
//! Not here: what catching up is (`said`, `digest`).

use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::wire::{Record, ShardId};

impl Engine {
    /// Whether there is nobody to catch up with: no others were ever expected, or all have left that a directory knew which has
    /// caught up with others before. What seeds still name does not make them members.
    pub(crate) fn is_alone(&self) -> bool {
        let all_left = self.settled.now && self.standing.has_any();
        self.never_had_others() || self.members.len() == 1 && all_left
    }

    /// Whether no others were ever expected, and none are known.
    pub(crate) fn never_had_others(&self) -> bool {
        self.members.len() == 1 && !self.expects_others
    }

    /// Whether this shard takes writes from callers.
    pub(crate) fn takes_writes(&self, shard: ShardId) -> bool {
        let s = &self.shards[shard.0 as usize];
        self.is_alone() || s.caught_up || (self.settled.now && !s.outdated)
    }

    /// Once every shard takes writes the directory is as good as its peers', at its next starts too.
    pub(crate) fn check_settled(&mut self) {
        if !self.settled.now && self.is_ready() {
            self.settled.now = true;
            self.record(Record::Settled, &[]);
        }
    }

    pub(super) fn check_takes_writes(&self, shard: ShardId) -> Result<(), Error> {
        if self.takes_writes(shard) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NotReady,
            "not accepted, nothing changed: this node's directory is new or older than its peers', and it has not caught up \
             with one of them yet; retry later, or at another node"
                .to_owned(),
        ))
    }
}
