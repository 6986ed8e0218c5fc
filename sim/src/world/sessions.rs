//! Sessions: what a caller has once seen it never sees less of, whichever node it asks.
//!
//! Contract: what a session must see is kept here as whole vectors by the model; its token is only what nodes made of it.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::engine::{Input, Read, RequestId};
use anabranch::{Answer, Copies, Error, ErrorKind, Stage, Token};

use super::World;
use super::waiting::Waiting;
use crate::model::{DotAt, Vv, covers_all, raise, raise_to};
use crate::net::NodeIx;
use crate::oracle::{Failure, Rule, broken};
use crate::queue::Micros;
use crate::rng::Rng;

/// How likely a caller forgets its session and begins another. What a crash took with it no node shows any more, and who
/// has seen that waits for ever.
const FORGETS: f64 = 0.05;

type Step = Result<(), Failure>;

/// What one caller has seen.
#[derive(Debug, Default)]
pub(crate) struct Session {
    token: Token,
    /// Per shard what its nodes covered when it read there, and what it wrote.
    seen: BTreeMap<u32, Vv>,
}

/// A read that is not answered yet.
#[derive(Debug)]
pub(crate) struct Reading {
    client: usize,
    majority: bool,
    pub node: NodeIx,
    /// What must be shown, by shard: what the client had seen when it asked.
    must: BTreeMap<u32, Vv>,
    answer_by: Micros,
}

impl World {
    /// A client reads somewhere what it may have seen elsewhere.
    pub(super) fn maybe_read(&mut self, client: usize, number: u64) -> Step {
        let mut rng = Rng::stream(self.plan.seed, "read", client as u64, number);
        if !rng.chance(self.plan.load.reads) {
            return Ok(());
        }
        let node = rng.below(self.plan.nodes as u64) as NodeIx;
        if self.hosts[node].life.is_none() || self.hosts[node].paused_until > self.kernel.now() {
            return Ok(());
        }
        if rng.chance(FORGETS) {
            self.sessions[client] = Session::default();
        }
        let count = rng.between(1, 2);
        let entities: Vec<_> = (0..count).map(|_| self.choose(&mut rng)).collect();
        let timeout_ms = rng.log_uniform(1.0, 20_000.0) as u64;
        let majority = rng.chance(0.3) && self.knows_all(node);
        let shard = |&entity: &u32| self.oracle.ledger.entity(entity).shard;
        let seen = |shard: u32| {
            let mut seen = self.sessions[client]
                .seen
                .get(&shard)
                .cloned()
                .unwrap_or_default();
            if let Some(kept) = self.kept.get(&shard).filter(|_| majority) {
                raise(&mut seen, kept);
            }
            Some(seen)
        };
        let must = entities.iter().map(shard);
        let must = must
            .map(|shard| (shard, seen(shard).unwrap_or_default()))
            .collect();
        let id = |&entity: &u32| self.oracle.names.entity(entity).0.clone();
        let read = Read {
            entities: entities.iter().map(id).collect(),
            all: false,
            after: self.sessions[client].token.clone(),
            majority,
            timeout_ms,
        };
        let request = self.next_request;
        self.next_request += 1;
        self.tell(|| {
            format!(
                "n{node} is to read #{request} {entities:?} after {:?}",
                read.after
            )
        });
        let reading = Reading {
            client,
            majority,
            node,
            must,
            answer_by: self.kernel.now() + timeout_ms * 1_000,
        };
        self.reads.insert(request, reading);
        let request = RequestId(request);
        let outputs = self.handle(node, Input::Read { request, read });
        self.look(node, &outputs, &BTreeSet::new())?;
        self.perform(node, outputs)
    }

    /// The node may be read, or says that it is behind.
    pub(super) fn on_read_done(
        &mut self,
        node: NodeIx,
        reading: &Reading,
        result: Result<Answer, Error>,
    ) -> Step {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => {
                let cause = match error.kind() {
                    ErrorKind::Stale => self.kernel.now() >= reading.answer_by,
                    ErrorKind::Overloaded => true,
                    _ => false,
                };
                let what = || format!("{reading:?} was refused without a cause: {error:?}");
                return if cause {
                    Ok(())
                } else {
                    Err(broken(Rule::Answer, node, what()))
                };
            }
        };
        self.tally.read += 1;
        let session = &mut self.sessions[reading.client];
        for (&shard, must) in &reading.must {
            let here = self.oracle.vv(node, shard);
            if !covers_all(here, must) {
                let what = format!(
                    "client {} reads shard {shard} at {}, and has seen {}",
                    reading.client,
                    self.oracle.tell(here),
                    self.oracle.tell(must)
                );
                return Err(broken(Rule::Session, node, what));
            }
            raise(session.seen.entry(shard).or_default(), here);
            // What one was shown the next one must be shown, too: as far as was kept for that when the answer was decided.
            if reading.majority && self.keeps_disks {
                raise(self.kept.entry(shard).or_default(), must);
            }
        }
        session.token.join(&answer.token);
        self.tally.majorities += u64::from(reading.majority);
        Ok(())
    }

    fn knows_all(&self, node: NodeIx) -> bool {
        let life = self.hosts[node].life.as_ref();
        life.is_some_and(|life| life.engine.members().len() == self.hosts.len())
    }

    /// An update has reached its level: if that is the disks of a majority, every majority read from now on must show it.
    pub(super) fn note_kept(&mut self, waiting: &Waiting) {
        let nodes = self.hosts.len();
        let copies = match waiting.level.copies {
            Copies::Local => 1,
            Copies::N(n) => usize::from(n),
            Copies::Majority => nodes / 2 + 1,
            Copies::All => nodes,
        };
        if waiting.level.stage != Stage::Durable || copies <= nodes / 2 || !self.keeps_disks {
            return;
        }
        for &(shard, _, last) in &waiting.issue.dots {
            let dot = DotAt {
                origin: waiting.issue.origin,
                seq: last,
            };
            raise_to(self.kept.entry(shard).or_default(), dot);
        }
        for (shard, saw) in &waiting.saw {
            raise(self.kept.entry(*shard).or_default(), saw);
        }
    }

    /// A client's update was answered: it has seen what it wrote, or what stood in its place.
    pub(super) fn note_seen(&mut self, waiting: &Waiting, answer: &Answer) {
        let Some(client) = waiting.client else { return };
        let session = &mut self.sessions[client];
        session.token.join(&answer.token);
        for &(shard, _, last) in &waiting.issue.dots {
            let dot = DotAt {
                origin: waiting.issue.origin,
                seq: last,
            };
            raise_to(session.seen.entry(shard).or_default(), dot);
        }
        for (shard, saw) in &waiting.saw {
            raise(session.seen.entry(*shard).or_default(), saw);
        }
    }
}
