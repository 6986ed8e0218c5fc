//! After each step: the state is live(vv), values are the model's, equal vectors mean equal states, vectors only grow.

use std::collections::BTreeSet;

use anabranch::engine::{Engine, Output};
use anabranch::wire::FRAME_BYTES_MAX;
use anabranch::{EntityId, ShardId};

use super::clock::followed;
use super::watch::{Settled, Watched};
use super::{Check, Oracle, Rule, Seen, broken};
use crate::hash::{TraceHash, hash_bytes};
use crate::model::{Broken, EntityIx, Kind, Row, Stamps, Vv, covers_all, raise};
use crate::names::{type_of, value_bytes};
use crate::net::NodeIx;

/// A shard with at most so many live dots is compared whole whenever its state is new; a larger one in proportion less.
const WHOLE_DOTS: u64 = 64;
/// One in so many steps without a record is looked at like one with it.
const UNRECORDED_SAMPLE: u64 = 8;
/// One in so many steps is sampled for what costs a look at everything.
const SAMPLE: u64 = 64;

/// What is learnt of one step.
struct Step<'a> {
    wall_ms: u64,
    /// Entities that a caller's update was about.
    touched: &'a BTreeSet<EntityIx>,
    /// Vectors that have changed, by shard.
    reached: Vec<(u32, Vv)>,
    /// Entities of which dots came alive or died.
    changed: BTreeSet<EntityIx>,
}

fn hash_vector(vv: &[u64]) -> u64 {
    let mut hash = TraceHash::default();
    vv.iter().for_each(|&seq| hash.absorb(seq));
    hash.value()
}

impl Oracle {
    /// Looks at a node after a step; `touched` are entities it changed itself.
    pub(crate) fn after_step(
        &mut self,
        node: NodeIx,
        wall_ms: u64,
        engine: &Engine,
        outputs: &[Output],
        touched: &BTreeSet<EntityIx>,
    ) -> Check {
        self.step += 1;
        if engine.counters().refused_frames > 0 && !self.nodes[node].1.hears_ghosts {
            let why = outputs.iter().find_map(|output| match output {
                Output::Disconnect { reason, .. } => Some(reason.as_str()),
                _ => None,
            });
            let what = format!("a peer that keeps the protocol is said to have broken it: {why:?}");
            return Err(broken(Rule::Refused, node, what));
        }
        // What changes a state is recorded: a step without a record is looked at closely only now and then.
        let recorded = outputs
            .iter()
            .any(|output| matches!(output, Output::Persist { .. }));
        if !recorded && !self.step.is_multiple_of(UNRECORDED_SAMPLE) {
            return self.glance(node, engine);
        }
        let mut step = Step {
            wall_ms,
            touched,
            reached: Vec::new(),
            changed: BTreeSet::new(),
        };
        for shard in 0..self.shards {
            self.observe(node, shard, engine, &mut step)?;
        }
        self.check_told(node, outputs, &step.changed)?;
        self.note_records(node, engine, outputs, step.reached)?;
        if self.step.is_multiple_of(SAMPLE) {
            self.sample(node, engine)?;
        }
        Ok(())
    }

    /// Watchers are told of whatever changed.
    fn check_told(&self, node: NodeIx, outputs: &[Output], changed: &BTreeSet<EntityIx>) -> Check {
        for &entity in changed {
            let id = self.names.entity(entity).0;
            let is_told = |output: &Output| matches!(output, Output::Changed { entity } if entity == id);
            if !outputs.iter().any(is_told) {
                let what = format!("{id} changed, and nobody who watches it is told");
                return Err(broken(Rule::Value, node, what));
            }
        }
        Ok(())
    }

    /// The least that every step is looked at for: no state has changed.
    fn glance(&self, node: NodeIx, engine: &Engine) -> Check {
        let same = |(shard, watched): (usize, &Watched)| {
            engine.fingerprint(ShardId(shard as u32)) == watched.fingerprint
        };
        if self.nodes[node].1.shards.iter().enumerate().all(same) {
            return Ok(());
        }
        Err(broken(
            Rule::LiveState,
            node,
            "a state changed, and no record was written of it",
        ))
    }

    /// Which record makes what was reached durable; and bounds on what leaves.
    fn note_records(
        &mut self,
        node: NodeIx,
        engine: &Engine,
        outputs: &[Output],
        reached: Vec<(u32, Vv)>,
    ) -> Check {
        let watch = &mut self.nodes[node].1;
        let mut recorded = false;
        for output in outputs {
            match output {
                Output::Persist { id, .. } => (watch.last_record, recorded) = (id.0, true),
                Output::Send { frame, .. } if frame.len() > FRAME_BYTES_MAX => {
                    let what = format!("sends a frame of {} bytes", frame.len());
                    return Err(broken(Rule::Bounds, node, what));
                }
                _ => {}
            }
        }
        if watch.disk.settled != Settled::Yes && watch.settles_with.is_none() && engine.is_ready() {
            watch.settles_with = Some(watch.last_record);
        }
        let newest = watch
            .members_with
            .back()
            .map_or(&watch.disk.members, |(_, members)| members);
        let (grew, changed) = (!engine.members().is_subset(newest), newest != engine.members());
        if changed {
            let now = (watch.last_record, engine.members().clone());
            watch.members_with.push_back(now);
        }
        if grew {
            self.let_go_before(node, engine)?;
        }
        let watch = &mut self.nodes[node].1;
        if recorded {
            watch.waiting.push_back((watch.last_record, reached));
        } else if !reached.is_empty() {
            let what = "covers more than before and wrote no record of it";
            return Err(broken(Rule::Durability, node, what));
        }
        Ok(())
    }

    /// What was let go of before a member was known, it need not hold.
    fn let_go_before(&mut self, node: NodeIx, engine: &Engine) -> Check {
        for shard in 0..self.nodes[node].1.shards.len() {
            let base = self.vector(node, &engine.base(ShardId(shard as u32)))?;
            raise(&mut self.nodes[node].1.shards[shard].forced, &base);
        }
        Ok(())
    }

    /// One shard.
    fn observe(&mut self, node: NodeIx, shard: u32, engine: &Engine, step: &mut Step<'_>) -> Check {
        let id = ShardId(shard);
        let raw = engine.version_vector(id);
        let fingerprint = engine.fingerprint(id);
        let watched = &self.nodes[node].1.shards[shard as usize];
        if raw == watched.raw {
            if fingerprint != watched.fingerprint {
                return Err(broken(
                    Rule::LiveState,
                    node,
                    format!("shard {shard} changed under an unchanged vector"),
                ));
            }
            return Ok(());
        }
        let vv = self.vector(node, &raw)?;
        self.advance(node, shard, engine, &vv, step)?;
        let watch = &mut self.nodes[node].1;
        let watched = &mut watch.shards[shard as usize];
        watched.raw = raw;
        watched.fingerprint = fingerprint;
        raise(&mut watched.ever_applied, &vv);
        let installs = engine.counters().snapshots_installed;
        if std::mem::replace(&mut watch.installs, installs) < installs {
            // What led there is not known to it; and it has looked at stamps that it had, or had not followed, before.
            raise(&mut watched.forced, &vv);
            let most = self.ledger.largest_stamp(shard, followed(step.wall_ms));
            watch.clock.see(Stamps { least: 0, most });
        }
        self.compare_equal(node, shard, engine, &vv)?;
        step.reached.push((shard, vv));
        Ok(())
    }

    fn advance(&mut self, node: NodeIx, shard: u32, engine: &Engine, vv: &Vv, step: &mut Step<'_>) -> Check {
        let shadow = &mut self.nodes[node].1.shards[shard as usize].shadow;
        if !covers_all(vv, shadow.vv()) {
            let before = shadow.vv().clone();
            let (before, now) = (self.tell(&before), self.tell(vv));
            return Err(broken(
                Rule::Monotone,
                node,
                format!("shard {shard} went from {before} to {now}"),
            ));
        }
        let news = match shadow.advance(&self.ledger, shard, vv, followed(step.wall_ms)) {
            Ok(news) => news,
            Err(why) => {
                let rule = if matches!(why, Broken::NeverIssued(_)) {
                    Rule::Dots
                } else {
                    Rule::LiveState
                };
                let told = self.tell(vv);
                let what = format!("shard {shard} at {told}: {}", self.tell_broken(&why));
                return Err(broken(rule, node, what));
            }
        };
        self.nodes[node].1.clock.see(news.stamps);
        step.changed.extend(news.changed);
        let mine = step.touched.iter().copied();
        let mine = mine.filter(|&entity| self.ledger.entity(entity).shard == shard);
        let all: BTreeSet<EntityIx> = news.touched.into_iter().chain(mine).collect();
        all.into_iter()
            .try_for_each(|entity| self.compare_value(node, engine, entity))
    }

    fn tell_broken(&self, why: &Broken) -> String {
        let name = |dot: &crate::model::DotAt| format!("{}:{}", self.origin_name(dot.origin), dot.seq);
        match why {
            Broken::NeverIssued(dot) => format!("it covers {}, which nobody issued", name(dot)),
            Broken::TornCommit(dot) => format!("it ends at {}, in the middle of an update", name(dot)),
            Broken::KilledUncovered { killer, killed } => {
                format!(
                    "it covers {} but not {}, which that killed",
                    name(killer),
                    name(killed)
                )
            }
        }
    }

    /// What a node shows of an entity against what it must.
    pub(super) fn compare_value(&mut self, node: NodeIx, engine: &Engine, entity: EntityIx) -> Check {
        self.looks.values += 1;
        let id = self.names.entity(entity).0;
        let shard = self.ledger.entity(entity).shard;
        let row = self.visible(node, id);
        let must = row.map(|(kind, row)| (type_of(kind), Some(row.shown(&self.ledger, kind))));
        let got = engine
            .read(id)
            .map(|(ty, reading)| (ty, self.names.shown(&reading)));
        if got == must {
            return Ok(());
        }
        let vv = self.tell(self.nodes[node].1.shards[shard as usize].shadow.vv());
        let live = row.map(|(_, row)| {
            row.live
                .keys()
                .map(|(at, dot)| format!("{at:?}@{}:{}", self.origin_name(dot.origin), dot.seq))
                .collect::<Vec<_>>()
        });
        Err(broken(
            Rule::Value,
            node,
            format!(
                "{id} (shard {shard}) shows {got:?} and must show {must:?} at {vv}; live dots must be {live:?}"
            ),
        ))
    }

    /// Of several types under one address the lowest that exists is the visible one.
    pub(super) fn visible(&self, node: NodeIx, id: &EntityId) -> Option<(Kind, &Row)> {
        let mut rows = self.names.alike(id).filter_map(|ix| {
            let shard = self.ledger.entity(ix).shard;
            let row = self.nodes[node].1.shards[shard as usize].shadow.row(ix)?;
            Some((self.names.entity(ix).1, row))
        });
        rows.find(|(_, row)| row.exists())
    }

    /// A state of this vector may have been seen before, here or elsewhere.
    fn compare_equal(&mut self, node: NodeIx, shard: u32, engine: &Engine, vv: &Vv) -> Check {
        let key = (shard, hash_vector(vv));
        let fingerprint = engine.fingerprint(ShardId(shard));
        let Some(seen) = self.seen.get(&key).copied() else {
            let live = self.nodes[node].1.shards[shard as usize].shadow.live();
            let bytes = self
                .step
                .is_multiple_of(8)
                .then(|| hash_bytes(&engine.canonical_bytes(ShardId(shard))));
            self.seen.insert(key, Seen { fingerprint, bytes });
            if self.step.is_multiple_of(live / WHOLE_DOTS + 1) {
                self.compare_whole(node, shard, engine)?;
            }
            return Ok(());
        };
        self.looks.equal_vectors += 1;
        if seen.fingerprint != fingerprint {
            let told = self.tell(vv);
            let what = format!(
                "shard {shard} at {told}: fingerprint {fingerprint:x}, elsewhere {:x}",
                seen.fingerprint
            );
            return Err(self.compare_whole(node, shard, engine).err().unwrap_or(broken(
                Rule::Equality,
                node,
                what,
            )));
        }
        if let Some(bytes) = seen.bytes {
            self.looks.bytes += 1;
            if bytes != hash_bytes(&engine.canonical_bytes(ShardId(shard))) {
                let told = self.tell(vv);
                return Err(broken(
                    Rule::Equality,
                    node,
                    format!("shard {shard} at {told}: other bytes than elsewhere"),
                ));
            }
        }
        Ok(())
    }

    /// Every live dot of a shard against live(vv).
    pub(super) fn compare_whole(&mut self, node: NodeIx, shard: u32, engine: &Engine) -> Check {
        if self.ledger.is_blind() {
            return Ok(());
        }
        self.looks.states += 1;
        let shadow = &self.nodes[node].1.shards[shard as usize].shadow;
        let mut count = 0;
        for live in engine.live(ShardId(shard)) {
            count += 1;
            let origin = self
                .ledger
                .known_origin(live.replica.node.0, live.replica.epoch.0);
            let must = self
                .names
                .find(&live.entity, live.ty)
                .zip(origin)
                .zip(self.names.place(&live.put.path))
                .is_some_and(|((entity, origin), place)| {
                    let dot = crate::model::DotAt {
                        origin,
                        seq: live.seq,
                    };
                    let row = shadow.row(entity);
                    row.and_then(|row| Some(row.must(place, dot, *row.live.get(&(place, dot))?)))
                        .is_some_and(|must| stands(&live.put.payload, must))
                });
            if !must {
                let vv = self.tell(shadow.vv());
                let what = format!("shard {shard} at {vv}: {live:?} is alive and must not be, or not so");
                return Err(broken(Rule::LiveState, node, what));
            }
        }
        if count != shadow.live() {
            let vv = self.tell(shadow.vv());
            let what = format!(
                "shard {shard} at {vv}: {count} live dots, must be {}",
                shadow.live()
            );
            return Err(broken(Rule::LiveState, node, what));
        }
        Ok(())
    }

    /// Everything at one node, whole: at quiet moments.
    pub(crate) fn compare_all(&mut self, node: NodeIx, engine: &Engine) -> Check {
        for shard in 0..self.shards {
            self.compare_whole(node, shard, engine)?;
        }
        for entity in 0..self.names.entities() {
            self.compare_value(node, engine, entity)?;
        }
        self.sample(node, engine)
    }
}

/// Whether a payload is what the model expects.
fn stands(payload: &anabranch_crdt::Payload, must: crate::model::Stands) -> bool {
    use crate::model::Stands;
    use anabranch_crdt::{ClockMode, Payload};
    match (payload, must) {
        (Payload::Present, Stands::Mark) => true,
        (Payload::Count { totals, base }, Stands::Count { plus, minus }) => {
            let counted = totals.beyond(*base);
            (counted.plus, counted.minus) == (plus, minus)
        }
        (
            Payload::Stamped { clock, mode, value },
            Stands::Register {
                clock: c,
                custom,
                value: v,
            },
        ) => *clock == c && (*mode == ClockMode::Custom) == custom && *value == value_bytes(v),
        (Payload::Written { value }, Stands::Value(v)) => *value == value_bytes(v),
        (Payload::Ballot { yes }, Stands::Ballot(must)) => *yes == must,
        (Payload::Rights { amount, to }, Stands::Rights { amount: a, to: t }) => {
            *amount == a && to.map(|to| (to.node.0, to.epoch.0)) == t
        }
        _ => false,
    }
}
