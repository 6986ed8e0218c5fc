//! At rest: everybody has everything, and nobody does anything any more.

use anabranch::ShardId;
use anabranch::engine::Engine;

use super::{Check, Oracle, Rule, broken};
use crate::hash::hash_bytes;
use crate::model::{DotAt, DotRecord, Stands, at, covers_all};
use crate::net::NodeIx;

/// What is still missing for agreement, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled(pub String);

impl Oracle {
    /// Whether all nodes agree: vectors, fingerprints, readiness, nothing waiting.
    pub(crate) fn agreement(&self, engines: &[(NodeIx, &Engine)]) -> Result<(), Unsettled> {
        let Some(((_, first), rest)) = engines.split_first() else {
            return Ok(());
        };
        for &(node, engine) in engines {
            if !engine.is_ready() {
                return Err(Unsettled(format!("n{node} takes no writes yet")));
            }
        }
        for shard in (0..self.shards).map(ShardId) {
            let must = first.version_vector(shard);
            for &(node, engine) in rest {
                if engine.version_vector(shard) != must {
                    return Err(Unsettled(self.differing(shard, engines, node)));
                }
            }
        }
        for &(node, engine) in engines {
            if engine.members().len() != self.nodes.len() {
                return Err(Unsettled(format!("n{node} does not know everybody")));
            }
            let status = engine.status();
            let left = (status.batches_held, status.staged_bytes, status.snapshot_sessions);
            if !engine.is_idle() || left != (0, 0, 0) {
                let what = "batches held, bytes staged, snapshots served";
                return Err(Unsettled(format!("n{node} is still busy: {what}: {left:?}")));
            }
        }
        Ok(())
    }

    fn differing(&self, shard: ShardId, engines: &[(NodeIx, &Engine)], node: NodeIx) -> String {
        let mut all = vec![format!("shard {shard}: n{node} differs")];
        for &(node, engine) in engines {
            let told = self
                .vector(node, &engine.version_vector(shard))
                .map(|vv| self.tell(&vv));
            all.push(format!("n{node} {}", told.unwrap_or_else(|failure| failure.what)));
        }
        all.join("; ")
    }

    /// Everything, once more, on nodes that agree.
    pub(crate) fn check_rest(&mut self, engines: &[(NodeIx, &Engine)]) -> Check {
        for &(node, engine) in engines {
            self.check_epoch(node)?;
            self.compare_all(node, engine)?;
            let mismatches = engine.counters().fingerprint_mismatches;
            if mismatches > 0 {
                return Err(broken(
                    Rule::Fingerprint,
                    node,
                    format!("{mismatches} peers' fingerprints differed"),
                ));
            }
        }
        for shard in 0..self.shards {
            self.check_equal_bytes(shard, engines)?;
            self.check_nothing_lost(shard)?;
            self.check_rights_once(shard)?;
        }
        Ok(())
    }

    /// What somebody held of a bounded counter was used once: no two operations that are here stand in its place.
    fn check_rights_once(&self, shard: u32) -> Check {
        let Some((_, watch)) = self.nodes.first() else {
            return Ok(());
        };
        let vv = watch.shards[shard as usize].shadow.vv();
        let is_share = |record: &DotRecord| matches!(record.put, Some((_, Stands::Rights { .. })));
        let uses = |by: &&DotAt| {
            let record = self.ledger.dot(shard, **by);
            at(vv, by.origin) >= by.seq && record.is_some_and(is_share)
        };
        for record in self.ledger.records(shard).filter(|record| is_share(record)) {
            let users: Vec<&DotAt> = record.killers.iter().filter(uses).collect();
            if users.len() > 1 {
                let what = format!("{record:?} was used more than once, by {users:?}");
                return Err(broken(Rule::Value, None, what));
            }
        }
        Ok(())
    }

    /// Peers that know a higher epoch of a node have told it.
    fn check_epoch(&self, node: NodeIx) -> Check {
        let (id, watch) = &self.nodes[node];
        let epochs = (0..self.ledger.origins() as u16).map(|origin| self.ledger.origin_id(origin));
        // One that nobody has operations of is not known to anybody.
        let known = epochs.filter(|(of, epoch)| of == id && self.is_covered_somewhere(*of, *epoch));
        let highest = known.map(|(_, epoch)| epoch).max().unwrap_or(0);
        if watch.epoch >= highest {
            return Ok(());
        }
        let what = format!("runs in epoch {}, though {highest} of it is known", watch.epoch);
        Err(broken(Rule::Dots, node, what))
    }

    fn is_covered_somewhere(&self, node: u128, epoch: u64) -> bool {
        let origin = self.ledger.known_origin(node, epoch);
        let shadows = self
            .nodes
            .iter()
            .flat_map(|(_, w)| w.shards.iter().map(|s| &s.shadow));
        origin.is_some_and(|origin| shadows.into_iter().any(|shadow| at(shadow.vv(), origin) > 0))
    }

    fn check_equal_bytes(&mut self, shard: u32, engines: &[(NodeIx, &Engine)]) -> Check {
        let mut first = None;
        for &(node, engine) in engines {
            self.looks.bytes += 1;
            let bytes = hash_bytes(&engine.canonical_bytes(ShardId(shard)));
            if *first.get_or_insert(bytes) != bytes {
                return Err(broken(
                    Rule::Equality,
                    node,
                    format!("shard {shard}: other bytes than elsewhere"),
                ));
            }
        }
        Ok(())
    }

    /// What some node acknowledged, on a disk that was never lost, everybody has.
    fn check_nothing_lost(&self, shard: u32) -> Check {
        for (node, (_, watch)) in self.nodes.iter().enumerate() {
            let acknowledged = &watch.shards[shard as usize].acknowledged;
            for (other, (_, at)) in self.nodes.iter().enumerate() {
                if !covers_all(at.shards[shard as usize].shadow.vv(), acknowledged) {
                    let what = format!("shard {shard}: n{node} acknowledged {}", self.tell(acknowledged));
                    return Err(broken(
                        Rule::Durability,
                        other,
                        format!("{what}, which is missing"),
                    ));
                }
            }
        }
        Ok(())
    }
}
