//! A shard's state at one moment, handed out in bounded parts: to a peer that is behind a base, and to the disk.
//!
//! Rows and values are shared with the shard, not copied, so that freezing costs little however many and large they are.
//! Not here: who asks (`serve`), and what a receiver does with parts (`snapshot`).
//! Contract: the parts together hold every live put once, ascending, each part about `budget` bytes and never empty but
//! for a shard without a row.

use std::ops::Bound;
use std::sync::Arc;

use anabranch_crdt::{DOT_BYTES_MAX, Dot, Path, Put, Replicas, VersionVector, encode_puts};

use crate::engine::rows::Rows;
use crate::engine::shard::{EntityKey, Shard};
use crate::engine::translate::{TableWriter, wire_entity};
use crate::wire::{Resume, ShardId, ShardPart, WireEntity, WireRow};

/// The state, and how far it has been handed out.
#[derive(Debug)]
pub(crate) struct Frozen {
    shard: ShardId,
    session: u64,
    replicas: Arc<Replicas>,
    view: VersionVector,
    rows: Arc<Rows>,
    at: Place,
    done: bool,
}

/// Where the next part begins.
#[derive(Debug, Default)]
struct Place {
    /// The row, if not the first.
    row: Option<EntityKey>,
    /// The last put of that row that was handed out, and how many were.
    after: Option<(Path, Dot)>,
    puts: u64,
    resume: Resume,
}

impl Frozen {
    /// The state of a shard now; `session` names the transfer.
    pub fn of(shard: &Shard, session: u64) -> Frozen {
        Frozen {
            shard: shard.id,
            session,
            replicas: Arc::clone(&shard.replicas),
            view: shard.vv.clone(),
            rows: Arc::clone(&shard.entities),
            at: Place::default(),
            done: false,
        }
    }

    /// Where the next part will begin.
    pub fn resume(&self) -> &Resume {
        &self.at.resume
    }

    /// The next part; `None` after the last.
    pub fn next_part(&mut self, budget: usize) -> Option<ShardPart> {
        if self.done {
            return None;
        }
        let mut table = TableWriter::new(&self.replicas);
        let view = table.vector(&self.view);
        let mut rows: Vec<(WireEntity, Vec<(Dot, Put)>)> = Vec::new();
        let (mut bytes, mut full) = (0, false);
        let (begun, at) = (self.at.resume.clone(), &mut self.at);
        let from = at.row.take().map_or(Bound::Unbounded, Bound::Included);
        let mut left = self.rows.range((from, Bound::Unbounded)).peekable();
        while let Some((key, value)) = left.peek().copied().filter(|_| !full) {
            let mut row = (wire_entity(key), Vec::new());
            bytes += row.0.len_bytes();
            let from = at.after.take();
            {
                let puts: &mut dyn Iterator<Item = _> = match &from {
                    None => &mut value.kept(),
                    Some((path, dot)) => &mut value.kept_after(path, *dot),
                };
                for (dot, put) in puts {
                    if bytes >= budget && !(rows.is_empty() && row.1.is_empty()) {
                        full = true;
                        break;
                    }
                    bytes += DOT_BYTES_MAX + put.weight();
                    at.puts += 1;
                    at.after = Some((put.path.clone(), dot));
                    row.1.push((table.dot(dot), put));
                }
            }
            if at.after.is_none() {
                // Not one fitted: the row begins, or goes on, with the next part.
                at.after = from;
            } else {
                at.resume = Some((row.0.clone(), at.puts));
                rows.push(row);
            }
            if !full {
                left.next();
                (at.after, at.puts) = (None, 0);
            }
        }
        at.row = left.peek().map(|(key, _)| EntityKey::clone(key));
        self.done = !full;
        let rows = rows.into_iter().map(|(entity, puts)| {
            let mut bytes = Vec::new();
            encode_puts(&mut bytes, table.ids.len(), &puts);
            WireRow {
                entity,
                count: puts.len() as u64,
                puts: bytes.into(),
            }
        });
        let rows = rows.collect();
        Some(ShardPart {
            shard: self.shard.0,
            session: self.session,
            replicas: table.ids,
            view,
            after: begun,
            rows,
            last: self.done,
        })
    }
}

/// Where a part ends, for the request of the next.
pub(crate) fn resume_after(part: &ShardPart) -> Resume {
    let Some(row) = part.rows.last() else {
        return part.after.clone();
    };
    let before = match &part.after {
        Some((entity, puts)) if part.rows.len() == 1 && *entity == row.entity => *puts,
        _ => 0,
    };
    Some((row.entity.clone(), before.saturating_add(row.count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_was_copied_while_the_engine_was_locked() {
        let shard = Shard::new(ShardId(0));
        let frozen = Frozen::of(&shard, 0);
        assert!(Arc::ptr_eq(&frozen.rows, &shard.entities));
    }
}
