//! What was acknowledged stays: against what each disk truly holds, now and at each recovery.

use anabranch::engine::Engine;
use anabranch::{Answer, Copies, Level, NodeId, ReplicaId, ShardId, Stage};

use super::{Check, Issue, Oracle, Reached, Rule, broken};
use crate::model::{DotAt, Shadow, covers, covers_all, raise, raise_to};
use crate::net::NodeIx;

impl Oracle {
    /// A node's disk holds everything up to this record.
    pub(crate) fn on_durable(&mut self, node: NodeIx, record: u64) {
        let watch = &mut self.nodes[node].1;
        while watch.waiting.front().is_some_and(|(id, _)| *id <= record) {
            let Some((id, reached)) = watch.waiting.pop_front() else {
                break;
            };
            for (shard, vv) in &reached {
                let watched = &mut watch.shards[*shard as usize];
                raise(&mut watched.durable, vv);
                raise(&mut watched.ever_durable, vv);
            }
            watch.untold.push_back((id, reached));
        }
    }

    /// A node's engine is told so.
    pub(crate) fn on_told(&mut self, node: NodeIx, record: u64) {
        let watch = &mut self.nodes[node].1;
        while watch.untold.front().is_some_and(|(id, _)| *id <= record) {
            let Some((_, reached)) = watch.untold.pop_front() else {
                break;
            };
            for (shard, vv) in &reached {
                raise(&mut watch.shards[*shard as usize].told, vv);
            }
        }
    }

    /// An update ended unconfirmed: then its node must not have known that its level was reached.
    pub(crate) fn check_unconfirmed(
        &self,
        node: NodeIx,
        engine: &Engine,
        issue: &Issue,
        level: Level,
    ) -> Check {
        let replica = self.ledger.origin_id(issue.origin);
        let says = |vv: &[(ReplicaId, u64)], last: u64| {
            vv.iter()
                .any(|(r, seq)| (r.node.0, r.epoch.0) == replica && *seq >= last)
        };
        let durable = level.stage == Stage::Durable;
        let majority = level.copies == Copies::Majority;
        // Who has not caught up since its start counts for no majority.
        let peer_has = |peer: &u128| {
            issue.dots.iter().all(|&(shard, _, last)| {
                engine
                    .peer_said(NodeId(*peer), ShardId(shard))
                    .is_some_and(|said| {
                        says(if durable { &said.durable } else { &said.applied }, last)
                            && (said.votes || !majority)
                    })
            })
        };
        let (me, watch) = &self.nodes[node];
        let told = |&(shard, _, last): &(u32, u64, u64)| {
            let dot = DotAt {
                origin: issue.origin,
                seq: last,
            };
            covers(&watch.shards[shard as usize].told, dot)
        };
        let votes = |&(shard, _, _): &(u32, u64, u64)| engine.counts_for_majorities(ShardId(shard));
        let own = !durable || issue.dots.iter().all(told);
        let others = self.nodes.iter().map(|(id, _)| id);
        let have = usize::from(!majority || issue.dots.iter().all(votes))
            + others.filter(|id| *id != me && peer_has(id)).count();
        let enough = match level.copies {
            Copies::Local => true,
            Copies::N(n) => have >= usize::from(n),
            Copies::Majority => have > self.nodes.len() / 2,
            Copies::All => have == self.nodes.len(),
        };
        if own && enough && !issue.dots.is_empty() {
            let what =
                format!("{issue:?} ended unconfirmed, though {have} are known to have it (level {level})");
            return Err(broken(Rule::Progress, node, what));
        }
        Ok(())
    }

    /// A node is dead; what was on its way to the disk may or may not be there.
    pub(crate) fn on_stop(&mut self, node: NodeIx) {
        self.nodes[node].1.waiting.clear();
        self.nodes[node].1.untold.clear();
    }

    /// A copy is made of a node's disk.
    pub(crate) fn on_backup(&mut self, node: NodeIx) {
        let watch = &mut self.nodes[node].1;
        let durable: Reached = watch
            .shards
            .iter()
            .map(|w| w.durable.clone())
            .enumerate()
            .map(|(i, v)| (i as u32, v))
            .collect();
        watch.backup = Some((durable, watch.met_peer));
    }

    /// A node's disk is damaged: what was synced last may look like what never was.
    pub(crate) fn on_disk_damaged(&mut self, node: NodeIx) {
        for watched in &mut self.nodes[node].1.shards {
            watched.durable.clear();
            watched.acknowledged.clear();
        }
    }

    /// A node's disk is empty from now on.
    pub(crate) fn on_disk_lost(&mut self, node: NodeIx) {
        self.nodes[node].1.met_peer = false;
        self.on_disk_damaged(node);
    }

    /// The copy is put back.
    pub(crate) fn on_disk_restored(&mut self, node: NodeIx) {
        let watch = &mut self.nodes[node].1;
        let Some((backup, met_peer)) = watch.backup.clone() else {
            return;
        };
        watch.met_peer = met_peer;
        for (shard, vv) in backup {
            let watched = &mut watch.shards[shard as usize];
            watched.durable = vv;
            watched.acknowledged.clear();
        }
    }

    /// A node has recovered: all that was durable is there, and nothing that never was.
    pub(super) fn check_recovery(&mut self, node: NodeIx, engine: &Engine) -> Check {
        self.looks.recoveries += 1;
        for shard in 0..self.shards {
            let raw = engine.version_vector(ShardId(shard));
            let vv = self.vector(node, &raw)?;
            let watched = &self.nodes[node].1.shards[shard as usize];
            for (what, must) in [
                ("was acknowledged", &watched.acknowledged),
                ("was synced", &watched.durable),
            ] {
                if !covers_all(&vv, must) {
                    let what = format!(
                        "shard {shard} recovered {}, but {} {what}",
                        self.tell(&vv),
                        self.tell(must)
                    );
                    return Err(broken(Rule::Durability, node, what));
                }
            }
            if !covers_all(&watched.ever_applied, &vv) {
                let what = format!("shard {shard} recovered {}, which it never had", self.tell(&vv));
                return Err(broken(Rule::Durability, node, what));
            }
            let mut shadow = Shadow::default();
            if let Err(why) = shadow.advance(&self.ledger, shard, &vv) {
                return Err(broken(
                    Rule::LiveState,
                    node,
                    format!("shard {shard} recovered, but {why}"),
                ));
            }
            let watched = &mut self.nodes[node].1.shards[shard as usize];
            watched.shadow = shadow;
            watched.raw = raw;
            watched.fingerprint = engine.fingerprint(ShardId(shard));
            raise(&mut watched.ever_durable, &vv);
            watched.told = vv.clone();
            watched.durable = vv;
        }
        self.compare_all(node, engine)
    }

    /// Whether a node's recovered state holds what an update did.
    pub(crate) fn holds(&self, node: NodeIx, issue: &Issue) -> bool {
        issue.dots.iter().all(|&(shard, _, last)| {
            let vv = self.nodes[node].1.shards[shard as usize].shadow.vv();
            covers(
                vv,
                DotAt {
                    origin: issue.origin,
                    seq: last,
                },
            )
        })
    }

    /// Whether a node's state holds a part of what an update did.
    pub(crate) fn holds_part(&self, node: NodeIx, issue: &Issue) -> bool {
        issue.dots.iter().any(|&(shard, first, _)| {
            let vv = self.nodes[node].1.shards[shard as usize].shadow.vv();
            covers(
                vv,
                DotAt {
                    origin: issue.origin,
                    seq: first,
                },
            )
        })
    }

    /// An update was answered at its level.
    pub(crate) fn on_answer(&mut self, node: NodeIx, issue: &Issue, level: Level, answer: &Answer) -> Check {
        let dots: Vec<(u32, u64, u64)> = answer.dots.iter().map(|(s, a, b)| (s.0, *a, *b)).collect();
        if dots != issue.dots || (!dots.is_empty() && answer.epoch.0 != issue.epoch) {
            let what = format!(
                "the answer names {dots:?} of epoch {}, the update made {issue:?}",
                answer.epoch
            );
            return Err(broken(Rule::Answer, node, what));
        }
        if answer.repeated {
            self.looks.repeats += 1;
        }
        let members = self.nodes.len();
        let needed = match level.copies {
            Copies::Local => 1,
            Copies::N(n) => usize::from(n),
            Copies::Majority => members / 2 + 1,
            Copies::All => members,
        };
        self.looks.acknowledged += 1;
        let durable = level.stage == Stage::Durable;
        let have = (0..members)
            .filter(|&member| self.ever_has(member, issue, durable))
            .count();
        let here = self.nodes[node]
            .1
            .shards
            .iter()
            .enumerate()
            .all(|(shard, watched)| {
                !durable
                    || dots.iter().all(|&(s, _, last)| {
                        s as usize != shard
                            || covers(
                                &watched.durable,
                                DotAt {
                                    origin: issue.origin,
                                    seq: last,
                                },
                            )
                    })
            });
        if !here || have < needed || (answer.confirmed as usize) < needed {
            let what = format!(
                "answered {issue:?} at level {level} with {} of {needed} copies; {have} nodes have it, on its own disk: {here}",
                answer.confirmed
            );
            return Err(broken(Rule::Durability, node, what));
        }
        if durable {
            dots.into_iter().for_each(|(shard, _, last)| {
                self.promise(
                    shard,
                    DotAt {
                        origin: issue.origin,
                        seq: last,
                    },
                )
            });
        }
        Ok(())
    }

    /// A caller was told that this is durable: from now on every disk that holds it answers for it.
    fn promise(&mut self, shard: u32, dot: DotAt) {
        for (_, watch) in &mut self.nodes {
            let watched = &mut watch.shards[shard as usize];
            if covers(&watched.durable, dot) {
                raise_to(&mut watched.acknowledged, dot);
            }
        }
    }

    /// Whether a node has, or once had, what an update did.
    fn ever_has(&self, node: NodeIx, issue: &Issue, durable: bool) -> bool {
        issue.dots.iter().all(|&(shard, _, last)| {
            let watched = &self.nodes[node].1.shards[shard as usize];
            let vv = if durable {
                &watched.ever_durable
            } else {
                &watched.ever_applied
            };
            covers(
                vv,
                DotAt {
                    origin: issue.origin,
                    seq: last,
                },
            )
        })
    }
}
