//! What an engine holds and believes, sampled: no more than it may keep, no less than it must, and nothing of others that
//! is not so.

use anabranch::engine::{Engine, Limits};
use anabranch::{NodeId, ShardId};

use super::{Check, Oracle, Rule, broken};
use crate::model::{Vv, at, covers_all};
use crate::net::NodeIx;

impl Oracle {
    /// What is too dear for every step.
    pub(super) fn sample(&mut self, node: NodeIx, engine: &Engine) -> Check {
        for shard in 0..self.shards {
            let id = ShardId(shard);
            self.looks.fingerprints += 1;
            if engine.fingerprint(id) != engine.fingerprint_from_scratch(id) {
                return Err(broken(
                    Rule::Fingerprint,
                    node,
                    format!("shard {shard}: not what its state has"),
                ));
            }
            if !engine.rings_whole(id) {
                return Err(broken(
                    Rule::LiveState,
                    node,
                    format!("shard {shard}: a ring ends below the vector"),
                ));
            }
            // An epoch that operations here were made in has been.
            for (replica, _) in engine.version_vector(id) {
                if engine
                    .known_epochs()
                    .get(&replica.node)
                    .is_none_or(|known| *known < replica.epoch)
                {
                    let what =
                        format!("shard {shard}: holds operations of {replica}, and does not know that epoch");
                    return Err(broken(Rule::Dots, node, what));
                }
            }
            if engine.counts_for_majorities(id) && !self.may_vote(node, shard) {
                let what = format!("shard {shard}: counts itself for majorities, and covers nobody's base");
                return Err(broken(Rule::Barrier, node, what));
            }
            self.check_trimmed(node, shard, engine)?;
            self.check_base(node, shard, engine)?;
            self.check_claims(node, shard, engine)?;
        }
        self.check_bounds(node, engine)
    }

    /// What every member has said it has durably is let go of, and what is durable here is known to be.
    fn check_trimmed(&mut self, node: NodeIx, shard: u32, engine: &Engine) -> Check {
        let durable = self.vector(node, &engine.durable_vector(ShardId(shard)))?;
        let told = &self.nodes[node].1.shards[shard as usize].told;
        if !covers_all(&durable, told) {
            let what = format!(
                "shard {shard}: told that {} is durable, knows of {}",
                self.tell(told),
                self.tell(&durable)
            );
            return Err(broken(Rule::Durability, node, what));
        }
        let base = self.vector(node, &engine.base(ShardId(shard)))?;
        let mut stable = durable;
        for member in engine.members() {
            if self.nodes[node].0 == member.0 {
                continue;
            }
            let said = engine
                .peer_said(*member, ShardId(shard))
                .map_or(Ok(Vv::new()), |said| self.vector(node, &said.durable))?;
            for (origin, seq) in stable.iter_mut().enumerate() {
                *seq = (*seq).min(said.get(origin).copied().unwrap_or(0));
            }
        }
        if covers_all(&base, &stable) {
            return Ok(());
        }
        let what = format!(
            "shard {shard}: keeps history above {}, all have {}",
            self.tell(&base),
            self.tell(&stable)
        );
        Err(broken(Rule::Bounds, node, what))
    }

    /// Nothing is let go of that a member lacks on its disk, unless a full ring, a snapshot or a start forced it.
    fn check_base(&mut self, node: NodeIx, shard: u32, engine: &Engine) -> Check {
        self.looks.bases += 1;
        let base = self.vector(node, &engine.base(ShardId(shard)))?;
        let watched = &self.nodes[node].1.shards[shard as usize];
        // Rings that share few bytes let go of what no rule here could tell.
        let few_bytes = self.limits.ring_bytes_max < Limits::default().ring_bytes_max;
        for (origin, &base) in (0..).zip(&base) {
            let full = at(watched.shadow.vv(), origin).saturating_sub(self.limits.ring_slots_max as u64);
            if base <= full.max(at(&watched.forced, origin)) || few_bytes {
                continue;
            }
            let known = |(_, (id, _)): &(usize, &(u128, _))| engine.members().contains(&NodeId(*id));
            for (member, (_, watch)) in self.nodes.iter().enumerate().filter(known) {
                let has = at(&watch.shards[shard as usize].ever_durable, origin);
                if has < base {
                    let name = self.origin_name(origin);
                    let what =
                        format!("shard {shard}: forgot {name} up to {base}, n{member} holds {has} durably");
                    return Err(broken(Rule::Trim, node, what));
                }
            }
        }
        Ok(())
    }

    /// No peer is believed to have what it never had, and of the life it is in, what it had in another.
    fn check_claims(&mut self, node: NodeIx, shard: u32, engine: &Engine) -> Check {
        for peer in 0..self.nodes.len() {
            let id = NodeId(self.nodes[peer].0);
            let Some(said) = engine.peer_said(id, ShardId(shard)) else {
                continue;
            };
            self.looks.claims += 1;
            let (applied, durable) = (
                self.vector(node, &said.applied)?,
                self.vector(node, &said.durable)?,
            );
            if said.votes && said.epoch.0 == self.nodes[peer].1.epoch && !self.may_vote(peer, shard) {
                let what =
                    format!("shard {shard}: counts n{peer} for majorities, which covers nobody's base");
                return Err(broken(Rule::Barrier, node, what));
            }
            let watch = &self.nodes[peer].1;
            let truth = &watch.shards[shard as usize];
            let (has, holds) = if said.epoch.0 == watch.epoch {
                (truth.shadow.vv(), &truth.held)
            } else {
                (&truth.ever_applied, &truth.ever_durable)
            };
            if !covers_all(has, &applied) || !covers_all(holds, &durable) {
                let what = format!(
                    "shard {shard}: believes of n{peer} in epoch {} that it has {} of {}, durable {} of {}",
                    said.epoch,
                    self.tell(&applied),
                    self.tell(has),
                    self.tell(&durable),
                    self.tell(holds)
                );
                return Err(broken(Rule::Acknowledged, node, what));
            }
        }
        Ok(())
    }

    /// Everything that grows stays within its bound.
    fn check_bounds(&self, node: NodeIx, engine: &Engine) -> Check {
        let (status, limits) = (engine.status(), &self.limits);
        let rings = self.ledger.origins() as u64 * u64::from(self.shards);
        let bounds = [
            (
                "slots in rings",
                status.ring_slots,
                rings * limits.ring_slots_max as u64,
            ),
            ("batches held", status.batches_held, limits.held_max as u64),
            (
                "updates waiting",
                status.updates_waiting,
                limits.requests_max as u64,
            ),
            (
                "snapshots served",
                status.snapshot_sessions,
                limits.sessions_max as u64,
            ),
        ];
        let ring_bytes = engine.ring_bytes() as u64;
        if ring_bytes > limits.ring_bytes_max as u64 {
            return Err(broken(Rule::Bounds, node, format!("rings of {ring_bytes} bytes")));
        }
        for (what, is, most) in bounds {
            if is > most {
                return Err(broken(Rule::Bounds, node, format!("{is} {what}, at most {most}")));
            }
        }
        Ok(())
    }
}
