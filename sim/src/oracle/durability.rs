//! What was acknowledged stays: against what each disk truly holds, now and at each recovery.

use anabranch::engine::Engine;
use anabranch::{Answer, Copies, NodeId, ReplicaId, ShardId, Stage};

use super::clock::{ClockBounds, followed};
use super::watch::{OnDisk, Settled};
use super::{Answered, Check, Issue, Oracle, Rule, broken};
use crate::model::{DotAt, OriginIx, Shadow, Stamps, Vv, covers, covers_all, raise, raise_to};
use crate::net::NodeIx;

impl Oracle {
    /// A node's disk holds everything up to this record.
    pub(crate) fn on_durable(&mut self, node: NodeIx, record: u64) {
        let watch = &mut self.nodes[node].1;
        watch.disk.before_last.clone_from(&watch.disk.durable);
        while watch.waiting.front().is_some_and(|(id, _)| *id <= record) {
            let Some((id, reached)) = watch.waiting.pop_front() else {
                break;
            };
            for (shard, vv) in &reached {
                raise(&mut watch.disk.durable[*shard as usize], vv);
                raise(&mut watch.shards[*shard as usize].ever_durable, vv);
                raise(&mut watch.shards[*shard as usize].held, vv);
            }
            watch.untold.push_back((id, reached));
        }
        while watch
            .members_with
            .front()
            .is_some_and(|(with, _)| *with <= record)
        {
            if let Some((_, members)) = watch.members_with.pop_front() {
                watch.disk.members = members;
            }
        }
        if watch.settles_with.is_some_and(|with| with <= record) {
            watch.disk.settled = Settled::Yes;
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
    pub(crate) fn check_unconfirmed(&self, node: NodeIx, engine: &Engine, asked: &Answered<'_>) -> Check {
        let Answered { issue, level, .. } = *asked;
        let durable = level.stage == Stage::Durable;
        let majority = level.copies == Copies::Majority;
        // Who has not caught up since its start counts for no majority.
        let counted = |peer: &u128, shard: u32| {
            let said = engine.peer_said(NodeId(*peer), ShardId(shard));
            said.filter(|said| said.votes || !majority)
        };
        let peer_covers = |peer: &u128, shard: u32, dot: DotAt| {
            let replica = self.ledger.origin_id(dot.origin);
            counted(peer, shard).is_some_and(|said| {
                let vv = if durable { said.durable } else { said.applied };
                let is_it = |of: ReplicaId| (of.node.0, of.epoch.0) == replica;
                vv.into_iter().any(|(of, seq)| is_it(of) && seq >= dot.seq)
            })
        };
        let origin = issue.origin;
        let made = issue
            .dots
            .iter()
            .map(|&(shard, _, seq)| (shard, DotAt { origin, seq }));
        let saw = asked.saw.iter().flat_map(|(shard, vv)| {
            let heads = vv.iter().enumerate().filter(|(_, seq)| **seq > 0);
            heads.map(|(origin, &seq)| {
                (
                    *shard,
                    DotAt {
                        origin: origin as OriginIx,
                        seq,
                    },
                )
            })
        });
        let all: Vec<(u32, DotAt)> = made.chain(saw).collect();
        let peer_has = |peer: &u128| {
            let counts = asked.saw.iter().all(|(shard, _)| counted(peer, *shard).is_some());
            counts && all.iter().all(|&(shard, dot)| peer_covers(peer, shard, dot))
        };
        let (me, watch) = &self.nodes[node];
        let told = |&(shard, dot): &(u32, DotAt)| covers(&watch.shards[shard as usize].told, dot);
        let votes = |&(shard, _): &(u32, DotAt)| engine.counts_for_majorities(ShardId(shard));
        let own = !durable || all.iter().all(told);
        let others = self.nodes.iter().map(|(id, _)| id);
        let have = usize::from(!majority || all.iter().all(votes))
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
        let watch = &mut self.nodes[node].1;
        watch.waiting.clear();
        watch.members_with.clear();
        watch.untold.clear();
        if watch.settles_with.take().is_some() && watch.disk.settled == Settled::No {
            watch.disk.settled = Settled::Perhaps;
        }
    }

    /// A copy is made of a node's disk.
    pub(crate) fn on_backup(&mut self, node: NodeIx) {
        let watch = &mut self.nodes[node].1;
        watch.backup = Some(watch.disk.clone());
    }

    /// A bit of a node's disk has flipped. Only what was committed last can look as if it had never been; anything else
    /// must be noticed.
    pub(crate) fn on_disk_damaged(&mut self, node: NodeIx) {
        let watch = &mut self.nodes[node].1;
        for (watched, before) in watch.shards.iter_mut().zip(&watch.disk.before_last) {
            lower(&mut watched.acknowledged, before);
        }
        watch.disk.durable.clone_from(&watch.disk.before_last);
        if watch.disk.settled == Settled::Yes {
            watch.disk.settled = Settled::Perhaps;
        }
        watch.disk.members.clear();
    }

    /// A node's disk is empty from now on.
    pub(crate) fn on_disk_lost(&mut self, node: NodeIx) {
        self.on_disk_is(node, OnDisk::empty(self.shards));
    }

    /// The copy is put back.
    pub(crate) fn on_disk_restored(&mut self, node: NodeIx) {
        if let Some(backup) = self.nodes[node].1.backup.clone() {
            self.on_disk_is(node, backup);
        }
    }

    /// Another disk was put in: what was acknowledged on the old one is not asked of it.
    fn on_disk_is(&mut self, node: NodeIx, disk: OnDisk) {
        let watch = &mut self.nodes[node].1;
        for watched in &mut watch.shards {
            watched.acknowledged.clear();
        }
        watch.disk = disk;
    }

    /// A node has recovered: all that was durable is there, and nothing that never was.
    pub(super) fn check_recovery(&mut self, node: NodeIx, wall_ms: u64, engine: &Engine) -> Check {
        self.looks.recoveries += 1;
        let mut stamps = Stamps::default();
        for shard in 0..self.shards {
            let raw = engine.version_vector(ShardId(shard));
            let vv = self.vector(node, &raw)?;
            let watch = &self.nodes[node].1;
            let watched = &watch.shards[shard as usize];
            for (what, must) in [
                ("was acknowledged", &watched.acknowledged),
                ("was synced", watch.durable(shard)),
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
            let news = match shadow.advance(&self.ledger, shard, &vv, followed(wall_ms)) {
                Ok(news) => news,
                Err(why) => {
                    let what = format!("shard {shard} recovered, but {why}");
                    return Err(broken(Rule::LiveState, node, what));
                }
            };
            stamps.least = stamps.least.max(news.stamps.least);
            stamps.most = stamps.most.max(news.stamps.most);
            let watch = &mut self.nodes[node].1;
            let watched = &mut watch.shards[shard as usize];
            watched.shadow = shadow;
            watched.raw = raw;
            watched.fingerprint = engine.fingerprint(ShardId(shard));
            raise(&mut watched.ever_durable, &vv);
            watched.told = vv.clone();
            watched.forced = vv.clone();
            watched.recovered = vv.clone();
            watched.held = vv.clone();
            // The start itself says on the disk how far it was durable.
            watch.disk.before_last[shard as usize].clone_from(&vv);
            watch.disk.durable[shard as usize] = vv;
        }
        let watch = &mut self.nodes[node].1;
        if !watch.disk.members.is_subset(engine.members()) {
            let what = format!(
                "has forgotten members: knows {:?} of {:?}",
                engine.members(),
                watch.disk.members
            );
            return Err(broken(Rule::Durability, node, what));
        }
        watch.disk.members.clone_from(engine.members());
        // What recovery took over from an unfinished commit it has written again, as one.
        watch.clock = ClockBounds::default();
        watch.clock.see(stamps);
        watch.installs = 0;
        watch.last_record = 0;
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
    pub(crate) fn on_answer(&mut self, node: NodeIx, asked: &Answered<'_>, answer: &Answer) -> Check {
        let Answered { issue, level, .. } = *asked;
        let dots: Vec<(u32, u64, u64)> = answer.dots.iter().map(|(s, a, b)| (s.0, *a, *b)).collect();
        if dots != issue.dots || (!dots.is_empty() && answer.epoch.0 != issue.epoch) {
            let what = format!(
                "the answer names {dots:?} of epoch {}, the update made {issue:?}",
                answer.epoch
            );
            return Err(broken(Rule::Answer, node, what));
        }
        if answer.directory != asked.directory
            || asked.repeats.is_some_and(|repeats| repeats != answer.repeated)
        {
            let what = format!(
                "answered {answer:?}, must name {}, repeated {:?}",
                asked.directory, asked.repeats
            );
            return Err(broken(Rule::Answer, node, what));
        }
        if answer.repeated {
            self.looks.repeats += 1;
        }
        self.looks.acknowledged += 1;
        self.check_copies(node, asked, answer)?;
        if level.stage == Stage::Durable {
            dots.into_iter().for_each(|(shard, _, last)| {
                let (origin, seq) = (issue.origin, last);
                self.promise(shard, DotAt { origin, seq });
            });
        }
        Ok(())
    }

    /// As many nodes have it as the level asks for, and as the answer says.
    fn check_copies(&self, node: NodeIx, asked: &Answered<'_>, answer: &Answer) -> Check {
        let members = self.nodes.len();
        let needed = match asked.level.copies {
            Copies::Local => 1,
            Copies::N(n) => usize::from(n),
            Copies::Majority => members / 2 + 1,
            Copies::All => members,
        };
        let durable = asked.level.stage == Stage::Durable;
        let have = (0..members)
            .filter(|&member| self.ever_has(member, asked, durable))
            .count();
        let here = !durable || self.has_on_disk(node, asked);
        let confirmed = answer.confirmed as usize;
        if here && have >= needed && (needed..=have).contains(&confirmed) {
            return Ok(());
        }
        let what = format!(
            "answered {:?} at level {} with {confirmed} of {needed} copies; {have} nodes have it, on its own disk: {here}",
            asked.issue, asked.level
        );
        Err(broken(Rule::Durability, node, what))
    }

    fn has_on_disk(&self, node: NodeIx, asked: &Answered<'_>) -> bool {
        let watch = &self.nodes[node].1;
        let origin = asked.issue.origin;
        let dots = asked.issue.dots.iter();
        let made = dots.map(|&(shard, _, seq)| covers(watch.durable(shard), DotAt { origin, seq }));
        let saw = asked
            .saw
            .iter()
            .map(|(shard, vv)| covers_all(watch.durable(*shard), vv));
        made.chain(saw).all(|has| has)
    }

    /// A caller was told that this is durable: from now on every disk that holds it answers for it.
    fn promise(&mut self, shard: u32, dot: DotAt) {
        for (_, watch) in &mut self.nodes {
            if covers(watch.durable(shard), dot) {
                raise_to(&mut watch.shards[shard as usize].acknowledged, dot);
            }
        }
    }

    /// Whether a node has, or once had, what an update did, and what it saw if it answers for that.
    fn ever_has(&self, node: NodeIx, asked: &Answered<'_>, durable: bool) -> bool {
        let ever = |shard: u32| {
            let watched = &self.nodes[node].1.shards[shard as usize];
            if durable {
                &watched.ever_durable
            } else {
                &watched.ever_applied
            }
        };
        let origin = asked.issue.origin;
        let dots = asked.issue.dots.iter();
        let made = dots.map(|&(shard, _, seq)| covers(ever(shard), DotAt { origin, seq }));
        let saw = asked.saw.iter().map(|(shard, vv)| covers_all(ever(*shard), vv));
        made.chain(saw).all(|has| has)
    }
}

/// Lowers a vector to what another covers too.
fn lower(vv: &mut Vv, to: &Vv) {
    for (i, seq) in vv.iter_mut().enumerate() {
        *seq = (*seq).min(to.get(i).copied().unwrap_or(0));
    }
    while vv.last() == Some(&0) {
        vv.pop();
    }
}
