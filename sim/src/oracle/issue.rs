//! A new update enters the ledger: what it must do by the model, against the dots the engine gave it.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::engine::{Engine, Output};
use anabranch::wire::{Record, WirePayload};
use anabranch::{Error, ErrorKind, ShardId};
use bytes::Bytes;

use super::{Failure, Oracle, Rule, broken};
use crate::model::{
    Action, DotAt, DotRecord, Draft, EntityIx, Kind, Meaning, OriginIx, Row, Vv, is_refused, predict,
};
use crate::names::value_bytes;
use crate::net::NodeIx;

/// An update as the simulator's clients make it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What to do, in order.
    pub ops: Vec<(EntityIx, Action)>,
    /// Whether it is nonsense and must be refused.
    pub wrong: bool,
    /// Whether it leaves it to the node to know the type.
    pub untyped: bool,
    /// Whether it comes under a key of another update, and must be refused.
    pub misused: bool,
    /// Whether it names a disputed kind: the type may be another one where it is asked.
    pub disputed: bool,
    /// Whose commit it is, and what its function saw of it: what goes by that does not go by what is there now.
    pub seen: Option<(EntityIx, Row)>,
}

impl Asked {
    /// Whether it takes away what others see: its level and its session answer for what others had taken away before, too.
    pub fn takes_away(&self) -> bool {
        self.ops.iter().any(|(_, action)| match action {
            Action::Remove(_)
            | Action::RemoveIn(..)
            | Action::Clear
            | Action::Delete
            | Action::Disable
            | Action::Write(_) => true,
            Action::Create
            | Action::Increment(_)
            | Action::Add(_)
            | Action::Set { .. }
            | Action::SetAbove { .. }
            | Action::SetFirst(_)
            | Action::Enable
            | Action::Vote(_)
            | Action::Transfer { .. }
            | Action::IncrementIn(..)
            | Action::AddIn(..)
            | Action::SetIn(..) => false,
        })
    }
}

/// What an update consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The replica that made it.
    pub origin: OriginIx,
    /// Its epoch.
    pub epoch: u64,
    /// Per shard the first and the last dot.
    pub dots: Vec<(u32, u64, u64)>,
}

/// What is already known of an update when it is handed to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Never seen by this directory.
    New,
    /// The directory has made it: nothing more may happen.
    Made,
    /// It had no effect, and the directory may have forgotten that.
    Unknown,
}

impl Oracle {
    /// A node was handed an update and has refused it at once, with `error`, or not. Writes its dots down; returns them,
    /// and the entities it changed.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one moment")]
    pub(crate) fn on_submit(
        &mut self,
        node: NodeIx,
        wall_ms: u64,
        engine: &Engine,
        asked: &Asked,
        standing: Standing,
        error: Option<&Error>,
        outputs: &[Output],
    ) -> Result<(Issue, BTreeSet<EntityIx>), Failure> {
        let (id, epoch) = (self.nodes[node].0, self.nodes[node].1.epoch);
        let me = self.ledger.origin(id, epoch);
        let heads = self.own_heads(id, epoch, engine);
        let consumed = (0..self.shards).any(|shard| heads[shard as usize] > self.ledger.head(shard, me));
        let nothing = Issue {
            origin: me,
            epoch,
            dots: Vec::new(),
        };
        if let Some(error) = error.filter(|error| consumed && !error.changed_state()) {
            return Err(broken(
                Rule::Answer,
                node,
                format!("an update consumed dots and was refused: {error}"),
            ));
        }
        if let Some(error) = error.filter(|e| e.kind() == ErrorKind::Rights)
            && !self.is_refused(node, me, engine, asked)
        {
            let what = format!("{asked:?} was refused, though it holds what that takes: {error}");
            return Err(broken(Rule::Answer, node, what));
        }
        if !consumed && (error.is_some() || standing == Standing::Unknown) {
            return Ok((nothing, BTreeSet::new()));
        }
        if standing == Standing::Made || asked.wrong || asked.misused {
            if consumed {
                let nonsense = asked.wrong || asked.misused;
                let rule = if nonsense { Rule::Answer } else { Rule::Once };
                return Err(broken(
                    rule,
                    node,
                    format!("{asked:?} had an effect, and must have none"),
                ));
            }
            return Ok((nothing, BTreeSet::new()));
        }
        if error.is_none() {
            for (entity, _) in &asked.ops {
                self.check_barrier(node, self.ledger.entity(*entity).shard)?;
                self.check_type(node, *entity)?;
            }
        }
        let issue = self.write_down(node, me, epoch, wall_ms, engine, asked, outputs)?;
        self.compare_heads(node, me, &heads, asked)?;
        let touched = asked.ops.iter().map(|(entity, _)| *entity).collect();
        if issue.dots.len() > 1 {
            self.wide.entry(me).or_default().push(issue.clone());
        }
        Ok((issue, touched))
    }

    /// Whether the update takes more of bounded counters than its issuer holds: its operations, one after the other.
    fn is_refused(&self, node: NodeIx, me: OriginIx, engine: &Engine, asked: &Asked) -> bool {
        let mut rows: BTreeMap<EntityIx, Row> = BTreeMap::new();
        let bounded = |entity: &EntityIx| self.ledger.entity(*entity).kind == Kind::Bounded;
        asked
            .ops
            .iter()
            .filter(|(entity, _)| bounded(entity))
            .any(|(entity, action)| {
                let shard = self.ledger.entity(*entity).shard;
                let here = || {
                    self.nodes[node].1.shards[shard as usize]
                        .shadow
                        .row(*entity)
                        .cloned()
                };
                let row = rows.entry(*entity).or_insert_with(|| here().unwrap_or_default());
                let seq = self.ledger.head(shard, me) + 1;
                let meaning = self.meaning(engine, *entity, DotAt { origin: me, seq }, 0);
                let is_refused = is_refused(&meaning, Some(row), action);
                for draft in predict(&meaning, Some(row), action) {
                    row.try_out(me, draft);
                }
                is_refused
            })
    }

    /// What there is to know of an operation whose first dot this is. From which earlier epoch on its node has inherited what they
    /// held of bounded counters is as the node says it itself; that it may is seen at rest.
    fn meaning(&self, engine: &Engine, entity: EntityIx, first: DotAt, clock: u64) -> Meaning<'_> {
        let entity = self.ledger.entity(entity);
        Meaning {
            kind: entity.kind,
            me: first.origin,
            clock,
            ledger: &self.ledger,
            seq: first.seq,
            inherits: engine.inherits(ShardId(entity.shard)).map(|epoch| epoch.0),
        }
    }

    /// An entity that exists under one type is not written under another.
    fn check_type(&self, node: NodeIx, entity: EntityIx) -> Result<(), Failure> {
        let (id, kind) = self.names.entity(entity);
        match self.visible(node, id) {
            Some((other, _)) if other != kind => {
                let what = format!("wrote {id} as {kind:?}, though it shows it as {other:?}");
                Err(broken(Rule::Answer, node, what))
            }
            _ => Ok(()),
        }
    }

    /// Whether a node can know the type of a kind's new entity: some entity of the kind exists there.
    pub(crate) fn knows_kind(&self, node: NodeIx, asked: &Asked) -> bool {
        asked.ops.iter().all(|(entity, _)| {
            let kind = self.names.entity(*entity).0.kind();
            let alike = (0..self.names.entities()).filter(|e| self.names.entity(*e).0.kind() == kind);
            alike.into_iter().any(|e| {
                let shard = self.ledger.entity(e).shard;
                let row = self.nodes[node].1.shards[shard as usize].shadow.row(e);
                row.is_some_and(|row| row.exists())
            })
        })
    }

    /// What a node covers in the shards of an update.
    pub(crate) fn covers_now(&self, node: NodeIx, asked: &Asked) -> Vec<(u32, Vv)> {
        let shards: BTreeSet<u32> = asked
            .ops
            .iter()
            .map(|(e, _)| self.ledger.entity(*e).shard)
            .collect();
        let watch = &self.nodes[node].1;
        shards
            .into_iter()
            .map(|shard| (shard, watch.shards[shard as usize].shadow.vv().clone()))
            .collect()
    }

    /// An entity as a node has it.
    pub(crate) fn row(&self, node: NodeIx, entity: EntityIx) -> Row {
        let shard = self.ledger.entity(entity).shard;
        let shadow = &self.nodes[node].1.shards[shard as usize].shadow;
        shadow.row(entity).cloned().unwrap_or_default()
    }

    /// What a node covers of a shard.
    pub(crate) fn vv(&self, node: NodeIx, shard: u32) -> &Vv {
        self.nodes[node].1.shards[shard as usize].shadow.vv()
    }

    /// How far this replica's own stream is, by shard.
    fn own_heads(&self, id: u128, epoch: u64, engine: &Engine) -> Vec<u64> {
        (0..self.shards)
            .map(|shard| {
                let vv = engine.version_vector(ShardId(shard));
                vv.iter()
                    .find(|(r, _)| r.node.0 == id && r.epoch.0 == epoch)
                    .map_or(0, |(_, seq)| *seq)
            })
            .collect()
    }

    fn compare_heads(&self, node: NodeIx, me: OriginIx, heads: &[u64], asked: &Asked) -> Result<(), Failure> {
        for (shard, &head) in heads.iter().enumerate() {
            let must = self.ledger.head(shard as u32, me);
            if head != must {
                let what =
                    format!("{asked:?}: its own stream in shard {shard} is at {head}, must be at {must}");
                let rule = if head < must { Rule::Dots } else { Rule::Value };
                return Err(broken(rule, node, what));
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "all that an update is made of")]
    fn write_down(
        &mut self,
        node: NodeIx,
        me: OriginIx,
        epoch: u64,
        wall_ms: u64,
        engine: &Engine,
        asked: &Asked,
        outputs: &[Output],
    ) -> Result<Issue, Failure> {
        let stamped = asked.ops.iter().any(|(_, action)| is_stamped(action));
        let clocks = if stamped {
            chosen_clocks(self.nodes[node].0, epoch, outputs)
        } else {
            BTreeMap::new()
        };
        let mut firsts: BTreeMap<u32, u64> = BTreeMap::new();
        let mut sight = asked.seen.clone();
        for (entity, action) in &asked.ops {
            let shard = self.ledger.entity(*entity).shard;
            let seq = self.ledger.head(shard, me) + 1;
            let shadow = &self.nodes[node].1.shards[shard as usize].shadow;
            firsts.entry(shard).or_insert(seq);
            // A write that loses is none: what stands under its number is another's.
            let written = clocks
                .get(&(shard, seq))
                .filter(|(_, value)| written_by(action, value));
            let clock = written.map_or(0, |(clock, _)| *clock);
            let meaning = self.meaning(engine, *entity, DotAt { origin: me, seq }, clock);
            let row = shadow.row(*entity).cloned();
            if is_refused(&meaning, row.as_ref(), action) {
                let what = format!("{action:?} was made, and takes more than its issuer holds");
                return Err(broken(Rule::Value, node, what));
            }
            let sight = sight.as_mut().filter(|(of, _)| of == entity).map(|(_, row)| row);
            let row = by_sight(row, sight.as_deref(), action);
            let drafts = predict(&meaning, row.as_ref(), action);
            let first = DotAt { origin: me, seq };
            sight.into_iter().for_each(|row| row.see(first, &drafts));
            if is_stamped(action) {
                self.check_stamp(node, wall_ms, row.as_ref(), action, &drafts, clock)?;
            }
            self.write_drafts(node, shard, *entity, first, drafts)?;
        }
        let mut dots = Vec::new();
        for (shard, first) in firsts {
            let last = self.ledger.head(shard, me);
            if last >= first {
                self.ledger.end_commit(
                    shard,
                    DotAt {
                        origin: me,
                        seq: last,
                    },
                );
                dots.push((shard, first, last));
            }
        }
        Ok(Issue {
            origin: me,
            epoch,
            dots,
        })
    }

    fn write_drafts(
        &mut self,
        node: NodeIx,
        shard: u32,
        entity: EntityIx,
        first: DotAt,
        drafts: Vec<Draft>,
    ) -> Result<(), Failure> {
        for (i, Draft { put, kills, counts }) in drafts.into_iter().enumerate() {
            let dot = DotAt {
                seq: first.seq + i as u64,
                ..first
            };
            let record = DotRecord {
                entity,
                put,
                kills,
                killers: Vec::new(),
                commit_end: false,
                counts,
            };
            self.ledger.issue(shard, dot, record);
            let shadow = &mut self.nodes[node].1.shards[shard as usize].shadow;
            shadow
                .issue(&self.ledger, shard, dot)
                .map_err(|why| broken(Rule::LiveState, node, why.to_string()))?;
        }
        Ok(())
    }
}

/// The row that an operation goes by.
fn by_sight(now: Option<Row>, then: Option<&Row>, action: &Action) -> Option<Row> {
    match then {
        Some(then) if goes_by_sight(action) => Some(then.clone()),
        _ => now,
    }
}

/// Whether an operation of a function's commit goes by what the function saw. What it adds to its issuer's own share it adds
/// to what there is now.
fn goes_by_sight(action: &Action) -> bool {
    !matches!(
        action,
        Action::Create
            | Action::Increment(_)
            | Action::IncrementIn(..)
            | Action::Transfer { .. }
            | Action::Vote(_)
    )
}

/// Whether a hybrid clock decides.
fn is_stamped(action: &Action) -> bool {
    matches!(
        action,
        Action::Set { clock: None, .. } | Action::SetIn(..) | Action::SetFirst(_)
    )
}

/// Whether this is the value that the action writes.
fn written_by(action: &Action, value: &Bytes) -> bool {
    match action {
        Action::Set { value: number, .. } | Action::SetIn(_, number) | Action::SetFirst(number) => {
            value_bytes(*number) == *value
        }
        _ => false,
    }
}

/// The clocks of the registers written in a step with the values, by shard and sequence, read from the record made of it.
fn chosen_clocks(node: u128, epoch: u64, outputs: &[Output]) -> BTreeMap<(u32, u64), (u64, Bytes)> {
    let mut clocks = BTreeMap::new();
    for output in outputs {
        let Output::Persist { payload, .. } = output else {
            continue;
        };
        let Ok(Record::Applied(intervals, _)) = Record::decode(payload) else {
            continue;
        };
        for interval in intervals {
            let mine = interval
                .replicas
                .iter()
                .position(|r| (r.node, r.epoch) == (node, epoch));
            for run in interval
                .runs
                .iter()
                .filter(|run| Some(usize::from(run.replica)) == mine)
            {
                for (seq, slot) in (run.first..).zip(&run.slots) {
                    if let Some(WirePayload::Stamped { clock, value, .. }) =
                        slot.put.as_ref().map(|put| &put.payload)
                    {
                        clocks.insert((interval.shard, seq), (*clock, value.clone()));
                    }
                }
            }
        }
    }
    clocks
}
