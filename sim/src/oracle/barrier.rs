//! Who may take writes: a node whose directory is new, failed or older than its peers' records of it takes none before it
//! covers the base of another member once.
//!
//! What is demanded here is a little less than that: a base that the peer had when this life began stands for the ones it
//! told since.

use anabranch::ShardId;
use anabranch::engine::Engine;
use anabranch::wire::Frame;

use super::watch::Settled;
use super::{Check, Oracle, Rule, broken};
use crate::model::{at, covers_all};
use crate::net::NodeIx;

impl Oracle {
    /// A life begins: nobody is heard yet, and bases are as they are now.
    pub(super) fn begin_barrier(&mut self, node: NodeIx, engine: &Engine) -> Check {
        let mut base = Vec::new();
        for shard in 0..self.shards {
            base.push(self.vector(node, &engine.base(ShardId(shard)))?);
        }
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            // Who has caught up with an earlier base of this node has caught up.
            for shard in 0..self.shards {
                if self.has_caught_up(peer, shard) {
                    self.nodes[peer].1.caught_up.insert(shard);
                }
            }
            self.nodes[peer].1.bases[node] = base.clone();
        }
        let watch = &mut self.nodes[node].1;
        watch.heard.clear();
        watch.caught_up.clear();
        watch.surely.clear();
        watch.told_bases.clear();
        watch.hears_ghosts = false;
        watch.outdated.clear();
        watch.settles_with = None;
        watch.settled_at_start = watch.disk.settled;
        Ok(())
    }

    /// Whether some other node ever had operations of this node that it lacked when its life began.
    fn lacked_own(&self, node: NodeIx, shard: u32) -> bool {
        let (id, watch) = &self.nodes[node];
        let had = &watch.shards[shard as usize].recovered;
        let others = |origin| {
            let watches = self.nodes.iter().enumerate().filter(|(peer, _)| *peer != node);
            watches
                .map(|(_, (_, w))| at(&w.shards[shard as usize].ever_applied, origin))
                .max()
        };
        (0..self.ledger.origins() as u16)
            .filter(|&origin| {
                let (of, epoch) = self.ledger.origin_id(origin);
                of == *id && epoch != watch.epoch
            })
            .any(|origin| others(origin) > Some(at(had, origin)))
    }

    /// A node's bases rise while it runs: those who begin a life now can only be told these.
    pub(crate) fn note_bases(&mut self, node: NodeIx, engines: &[(NodeIx, &Engine)]) -> Check {
        for (peer, engine) in engines.iter().filter(|(peer, _)| *peer != node) {
            for shard in 0..self.shards {
                let base = self.vector(*peer, &engine.base(ShardId(shard)))?;
                self.nodes[node].1.bases[*peer][shard as usize] = base;
            }
        }
        Ok(())
    }

    /// A node hears a peer, before it knows what to make of it.
    pub(crate) fn on_heard(&mut self, node: NodeIx, peer: NodeIx, frame: &[u8], ghost: bool) {
        let (id, watch) = &mut self.nodes[node];
        watch.heard.insert(peer);
        // Said to another life of it, or by another of the peer's: it may not fit.
        watch.hears_ghosts |= ghost;
        // What exactly was said is of interest only while nobody is sure that it is up to date.
        let shards = 0..watch.shards.len() as u32;
        if ghost || shards.clone().all(|shard| watch.surely.contains(&shard)) {
            return;
        }
        let Ok(Some(Frame::Said(said))) = Frame::decode(frame) else {
            return;
        };
        for statement in said.shards {
            let Some(watched) = watch.shards.get(statement.shard as usize) else {
                continue;
            };
            let here = watched.shadow.vv();
            if let Some(base) = &statement.base {
                let mut vv = crate::model::Vv::new();
                let known = base.iter().all(|&(ix, seq)| {
                    let replica = said.replicas.get(usize::from(ix));
                    let origin = replica.and_then(|r| self.ledger.known_origin(r.node, r.epoch));
                    origin
                        .map(|origin| crate::model::raise_to(&mut vv, crate::model::DotAt { origin, seq }))
                        .is_some()
                });
                if known {
                    watch.told_bases.insert((peer, statement.shard), vv);
                }
            }
            let tells_more = statement.applied.iter().any(|&(ix, seq)| {
                let replica = said.replicas.get(usize::from(ix));
                replica.is_some_and(|r| {
                    let origin = self.ledger.known_origin(r.node, r.epoch);
                    r.node == *id && r.epoch != watch.epoch && origin.is_some_and(|o| seq > at(here, o))
                })
            });
            if tells_more {
                watch.outdated.insert(statement.shard);
            }
        }
    }

    /// Looks which of the bases it was told a node covers by now. Called after each of its steps.
    pub(crate) fn note_surely(&mut self, node: NodeIx) {
        let watch = &mut self.nodes[node].1;
        let (shards, surely) = (&watch.shards, &mut watch.surely);
        watch.told_bases.retain(|(_, shard), base| {
            let covered = covers_all(shards[*shard as usize].shadow.vv(), base);
            if covered {
                surely.insert(*shard);
            }
            !covered && !surely.contains(shard)
        });
    }

    /// A new link: what an earlier life of the peer told may be forgotten.
    pub(crate) fn on_linked(&mut self, node: NodeIx, peer: NodeIx) {
        self.nodes[node].1.told_bases.retain(|(of, _), _| *of != peer);
    }

    /// Whether a node must take writes in these shards: it has covered a base that it was told.
    pub(crate) fn must_be_ready(&self, node: NodeIx, asked: &super::Asked) -> bool {
        let watch = &self.nodes[node].1;
        !watch.hears_ghosts
            && asked
                .ops
                .iter()
                .all(|(e, _)| watch.surely.contains(&self.ledger.entity(*e).shard))
    }

    fn has_caught_up(&self, node: NodeIx, shard: u32) -> bool {
        let watch = &self.nodes[node].1;
        let here = watch.shards[shard as usize].shadow.vv();
        let covers_base = |peer: &NodeIx| covers_all(here, &watch.bases[*peer][shard as usize]);
        watch.caught_up.contains(&shard) || watch.heard.iter().any(covers_base)
    }

    /// Whether a node may count for majorities: it has covered, in this life, a base that another had since it began.
    pub(super) fn may_vote(&self, node: NodeIx, shard: u32) -> bool {
        let watch = &self.nodes[node].1;
        let here = watch.shards[shard as usize].shadow.vv();
        let covers = |peer: usize| covers_all(here, &watch.bases[peer][shard as usize]);
        self.nodes.len() == 1
            || watch.hears_ghosts
            || watch.caught_up.contains(&shard)
            || (0..self.nodes.len()).any(|peer| peer != node && covers(peer))
    }

    /// A node took a write in this shard. Called before the write is in the model.
    pub(super) fn check_barrier(&self, node: NodeIx, shard: u32) -> Check {
        let watch = &self.nodes[node].1;
        let settled = watch.settled_at_start != Settled::No || watch.disk.settled == Settled::Yes;
        // A base that was told to another life of it may be lower than all bases now.
        if self.nodes.len() == 1 || watch.hears_ghosts || self.has_caught_up(node, shard) {
            return Ok(());
        }
        let why = if !settled {
            "its directory never caught up, and it covers nobody's base"
        } else if watch.outdated.contains(&shard) {
            "a peer has told it of operations of its own that it lacks, and it covers nobody's base"
        } else {
            return Ok(());
        };
        let what = format!("took a write in shard {shard}, though {why}");
        Err(broken(Rule::Barrier, node, what))
    }

    /// Whether a node may say that it takes no writes yet.
    pub(crate) fn may_not_be_ready(&self, node: NodeIx) -> bool {
        self.nodes[node].1.settled_at_start != Settled::Yes
            || (0..self.shards).any(|shard| self.lacked_own(node, shard))
    }
}
