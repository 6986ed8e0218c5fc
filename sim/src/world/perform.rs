//! What the driver does in production: inputs in, outputs carried out in order, records synced in groups.

use std::collections::BTreeSet;

use anabranch::engine::{Input, Output, PersistFailure, RequestId, View};
use anabranch::wire::Frame;
use anabranch::{Answer, Epoch, Error, ErrorKind, NodeId, Update};

use super::app::News;
use super::functions::{By, Went};
use super::waiting::Waiting;
use super::{Event, Phase, World};
use crate::model::{Action, EntityIx};
use crate::net::{NodeIx, Outgoing};
use crate::oracle::{Asked, Failure, Rule, Standing, broken};

fn ask(request: RequestId, update: Update, view: Option<View>) -> Input {
    match view {
        None => Input::Submit { request, update },
        Some(view) => Input::Commit {
            request,
            update,
            view,
        },
    }
}

/// At rest so many frames may be anything but digests.
const RESTLESS_MAX: u64 = 8;

type Step = Result<(), Failure>;

impl World {
    /// Gives a node an input; if its process stands still, later.
    pub(crate) fn give(&mut self, node: NodeIx, input: Input) -> Step {
        let host = &self.hosts[node];
        if host.life.is_none() {
            return Ok(());
        }
        if host.paused_until > self.kernel.now() {
            self.late.push((node, host.lives, input));
            return Ok(());
        }
        self.step(node, input)
    }

    pub(crate) fn on_resume(&mut self, node: NodeIx, life: u64) -> Step {
        if self.hosts[node].paused_until > self.kernel.now() {
            return Ok(());
        }
        let (mine, others) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(n, _, _)| *n == node);
        self.late = others;
        for (_, lives, input) in mine {
            if lives == life && self.hosts[node].lives == life {
                self.give(node, input)?;
            }
        }
        self.news.push_back(News::Resumed(node));
        self.wake_sessions(node)
    }

    /// One input and all that follows from it, at one node.
    fn step(&mut self, node: NodeIx, input: Input) -> Step {
        match (&input, &mut self.hosts[node].life) {
            (Input::Persisted { upto }, Some(life)) => {
                self.oracle.on_told(node, upto.0);
                life.on_told(upto.0);
                life.failure = None;
            }
            (Input::PersistFailed { failure, .. }, Some(life)) => {
                life.failure = Some(*failure);
            }
            _ => {}
        }
        let heard = match &input {
            Input::Received { peer, epoch, frame } => match Frame::decode(frame) {
                Ok(Some(Frame::Said(said))) => Some((*peer, *epoch, said)),
                _ => None,
            },
            _ => None,
        };
        let outputs = self.handle(node, input);
        if let Some((peer, epoch, said)) = heard {
            self.check_heard(node, peer, epoch, &said)?;
        }
        self.look(node, &outputs, &BTreeSet::new())?;
        self.perform(node, outputs)
    }

    /// What a linked peer said is believed of it.
    fn check_heard(&self, node: NodeIx, peer: NodeId, epoch: Epoch, m: &anabranch::wire::Said) -> Step {
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        let engine = &life.engine;
        if !engine.clock_skews().contains_key(&peer) {
            return Ok(());
        }
        for s in &m.shards {
            let Some(known) = engine
                .peer_said(peer, anabranch::ShardId(s.shard))
                .filter(|k| k.epoch == epoch)
            else {
                continue;
            };
            let covers = |have: &[(anabranch::ReplicaId, u64)], vector: &[(u16, u64)]| {
                vector.iter().all(|&(ix, seq)| {
                    let r = m.replicas[usize::from(ix)];
                    have.iter()
                        .any(|(h, upto)| (h.node.0, h.epoch.0) == (r.node, r.epoch) && *upto >= seq)
                })
            };
            let durable = s.durable.as_ref().unwrap_or(&s.applied);
            if known.votes != s.voting
                || !covers(&known.applied, &s.applied)
                || !covers(&known.durable, durable)
            {
                let what = format!("a peer said {s:?}, and is believed to have {known:?}");
                return Err(broken(Rule::Acknowledged, node, what));
            }
        }
        Ok(())
    }

    pub(super) fn handle(&mut self, node: NodeIx, input: Input) -> Vec<Output> {
        let host = &mut self.hosts[node];
        let now = host.now(self.kernel.now());
        let Some(life) = &mut host.life else {
            return Vec::new();
        };
        life.engine.handle(now, input);
        std::iter::from_fn(|| life.engine.poll_output()).collect()
    }

    /// Hands a node an update; the model learns of it before anybody else can.
    pub(crate) fn submit(
        &mut self,
        node: NodeIx,
        client: Option<usize>,
        asked: Asked,
        update: Update,
        key: Option<u64>,
        by: Option<By>,
    ) -> Step {
        self.oracle.note_surely(node);
        let standing = key.map_or(Standing::New, |key| self.keys.standing(node, key));
        let request = self.next_request;
        self.next_request += 1;
        self.tally.submitted += 1;
        let (level, timeout_us) = (update.level, update.timeout_ms * 1_000);
        self.tell(|| format!("n{node} asked #{request} {asked:?} level {level} key {key:?}"));
        let function = by.as_ref().map(|by| (by.entity, by.command));
        let (outputs, left) = self.hand_in(node, RequestId(request), update, by.map(|by| by.view));
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        let wall_ms = self.hosts[node].wall_ms(self.kernel.now());
        let error = refusal(&outputs, request);
        let (mut issue, touched) =
            self.oracle
                .on_submit(node, wall_ms, &life.engine, &asked, standing, error, &outputs)?;
        self.look(node, &outputs, &touched)?;
        let refused = error.is_some() && issue.dots.is_empty();
        if let Some(key) = key.filter(|_| !refused && !asked.wrong && !asked.misused) {
            issue = self.keys.on_made(node, key, issue);
        }
        let answer_by = self.kernel.now() + timeout_us;
        // A repeat answers for what the first saw.
        let answers_for_all = issue.dots.is_empty() || asked.takes_away();
        let saw = if answers_for_all && standing == Standing::New {
            self.oracle.covers_now(node, &asked)
        } else {
            Vec::new()
        };
        let repeats = match standing {
            Standing::Made => Some(true),
            Standing::New => Some(false),
            Standing::Unknown => None,
        };
        self.waiting.insert(
            request,
            Waiting {
                client,
                node,
                asked,
                issue,
                level,
                saw,
                repeats,
                key,
                answer_by,
                must: self.phase != Phase::Chaos,
                function,
            },
        );
        self.check_waiting(node)?;
        self.perform(node, outputs)?;
        if self.waiting.contains_key(&request) {
            return self.on_session_committed(node, function, Went::In { left });
        }
        Ok(())
    }

    /// What an engine does about an update; and how it leaves the entity of its function, if it is one's and what that saw was the
    /// present.
    fn hand_in(
        &mut self,
        node: NodeIx,
        request: RequestId,
        update: Update,
        view: Option<View>,
    ) -> (Vec<Output>, Option<View>) {
        let engine = self.hosts[node].life.as_ref().map(|life| &life.engine);
        let seen = view.as_ref().zip(engine);
        let seen = seen.filter(|(view, engine)| engine.is_present(view));
        let entity = seen.map(|(view, _)| view.entity().clone());
        let outputs = self.handle(node, ask(request, update, view));
        let engine = self.hosts[node].life.as_ref().map(|life| &life.engine);
        let left = entity
            .zip(engine)
            .map(|(entity, engine)| engine.view_as_it_is(&entity));
        (outputs, left)
    }

    pub(super) fn look(&mut self, node: NodeIx, outputs: &[Output], touched: &BTreeSet<EntityIx>) -> Step {
        let wall_ms = self.hosts[node].wall_ms(self.kernel.now());
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        self.oracle
            .after_step(node, wall_ms, &life.engine, outputs, touched)
    }

    /// Carries out what an engine asked for; it may die half-way.
    pub(super) fn perform(&mut self, node: NodeIx, outputs: Vec<Output>) -> Step {
        for output in outputs {
            if self.dies_at_output(node) {
                return Ok(());
            }
            self.perform_one(node, output)?;
        }
        self.begin_commit(node)?;
        self.schedule_wake(node);
        Ok(())
    }

    fn perform_one(&mut self, node: NodeIx, output: Output) -> Step {
        let now = self.kernel.now();
        match output {
            Output::Send {
                peer,
                epoch,
                lane,
                frame,
            } => {
                let Some(to) = self.find(peer) else { return Ok(()) };
                let is_digest = matches!(
                    Frame::decode(&frame),
                    Ok(Some(Frame::Rollup(_) | Frame::Clock(_)))
                );
                if self.is_at_rest() && !is_digest {
                    self.restless += 1;
                    // A digest that comes very late may still be answered.
                    if self.restless > RESTLESS_MAX {
                        let what = format!("at rest it sends n{to} {}", self.describe(&frame));
                        return Err(broken(Rule::Bounds, node, what));
                    }
                }
                if let Some(life) = &mut self.hosts[node].life {
                    life.sent_at = now;
                }
                let kernel = &mut self.kernel;
                let lane = lane.index() as u8;
                let outgoing = Outgoing {
                    from: node,
                    to,
                    epoch: epoch.0,
                    lane,
                    bytes: frame,
                };
                self.net
                    .send(now, outgoing, &mut |at, event| kernel.at(at, Event::Net(event)));
                Ok(())
            }
            Output::Persist { id, payload } => {
                if let Some(life) = &mut self.hosts[node].life {
                    life.unpersisted += payload.len();
                    life.recorded.push_back((id.0, payload.len()));
                    life.queued.push_back((id.0, payload));
                }
                Ok(())
            }
            Output::Done { request, result } => self.on_done(node, request.0, result),
            Output::Changed { entity } => {
                if self.is_application() {
                    self.news.push_back(News::Changed { node, entity });
                    return Ok(());
                }
                for entity in self.oracle.names.alike(&entity).collect::<Vec<_>>() {
                    self.session(node, entity, anabranch::session::Input::Changed)?;
                }
                Ok(())
            }
            Output::Disconnect { peer, epoch, reason } => {
                self.on_disconnect(node, peer, epoch, None, &reason)
            }
            Output::Fence { peer, epoch, newest } => {
                self.on_disconnect(node, peer, epoch, Some(newest.0), "its epoch is over")
            }
            Output::AdoptEpoch { above } => self.adopt(node, above),
        }
    }

    pub(super) fn find(&self, id: NodeId) -> Option<NodeIx> {
        self.hosts.iter().position(|host| host.id == id)
    }

    pub(super) fn on_disconnect(
        &mut self,
        node: NodeIx,
        peer: NodeId,
        epoch: Epoch,
        fenced: Option<u64>,
        reason: &str,
    ) -> Step {
        let Some(to) = self.find(peer) else { return Ok(()) };
        self.tell(|| format!("n{node} closes its link to n{to}: {reason}"));
        let now = self.kernel.now();
        let kernel = &mut self.kernel;
        self.net
            .disconnect(now, node, to, epoch.0, fenced, &mut |at, event| {
                kernel.at(at, Event::Net(event))
            });
        Ok(())
    }

    pub(crate) fn schedule_wake(&mut self, node: NodeIx) {
        let now = self.kernel.now();
        let host = &mut self.hosts[node];
        let life_number = host.lives;
        let Some(life) = &mut host.life else { return };
        let Some(due) = life.engine.next_wakeup() else {
            return;
        };
        let at = due.0.max(now + 1);
        if life.wake_at.is_none_or(|scheduled| at < scheduled) {
            life.wake_at = Some(at);
            self.kernel.at(
                at,
                Event::Wake {
                    node,
                    life: life_number,
                    at,
                },
            );
        }
    }

    /// No more updates wait than may.
    fn check_waiting(&self, node: NodeIx) -> Step {
        let waiting = self
            .waiting
            .values()
            .filter(|w| w.node == node && !w.asked.wrong)
            .count();
        // The one just handed in may be refused in this very step.
        if waiting <= self.limits.requests_max + 1 {
            return Ok(());
        }
        let what = format!("{waiting} updates wait, at most {}", self.limits.requests_max);
        Err(broken(Rule::Bounds, node, what))
    }

    /// A caller gets its answer.
    fn on_done(&mut self, node: NodeIx, request: u64, result: Result<Answer, Error>) -> Step {
        self.tell(|| format!("n{node} answers #{request} {result:?}"));
        if self.is_application() {
            self.news.push_back(News::Done {
                node,
                request,
                result,
            });
            return Ok(());
        }
        if let Some(reading) = self.reads.remove(&request) {
            return self.on_read_done(node, &reading, result);
        }
        let Some(waiting) = self.waiting.remove(&request) else {
            let what = format!("#{request} is answered twice, or was never asked");
            return Err(broken(Rule::Answer, node, what));
        };
        let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.check_done(node, &waiting, result)?;
        self.on_session_committed(node, waiting.function, Went::Ended(outcome))
    }

    fn check_done(&mut self, node: NodeIx, waiting: &Waiting, result: Result<Answer, Error>) -> Step {
        match &result {
            Ok(answer) if waiting.asked.wrong || waiting.asked.misused => {
                let what = format!("{:?} is nonsense and was answered {answer:?}", waiting.asked);
                Err(broken(Rule::Answer, node, what))
            }
            Ok(answer) => {
                self.note_seen(waiting, answer);
                self.note_kept(waiting);
                self.on_answered(node, waiting, answer)
            }
            // What a node holds of a bounded counter may be little even when all is well; the oracle saw to it.
            Err(error) if waiting.must && error.kind() != ErrorKind::Rights => {
                let what = format!("all is well, but {:?} was refused: {error}", waiting.asked);
                Err(broken(Rule::Progress, node, what))
            }
            Err(error) if self.is_expected(node, error.kind(), waiting) => {
                self.on_refused(node, waiting, error)
            }
            Err(error) => {
                let what = format!("{:?} was refused without a cause: {error:?}", waiting.asked);
                Err(broken(Rule::Answer, node, what))
            }
        }
    }

    fn on_answered(&mut self, node: NodeIx, waiting: &Waiting, answer: &Answer) -> Step {
        self.tally.answered += 1;
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        self.oracle
            .on_answer(node, &waiting.answered(life.directory), answer)?;
        if waiting.level.copies == anabranch::Copies::Majority {
            let shards: BTreeSet<anabranch::ShardId> = answer
                .dots
                .iter()
                .map(|(shard, _, _)| *shard)
                .chain(waiting.saw.iter().map(|(shard, _)| anabranch::ShardId(*shard)))
                .collect();
            let me = self.hosts[node].id;
            let votes = |m: NodeId| {
                shards.iter().all(|&shard| {
                    if m == me {
                        life.engine.counts_for_majorities(shard)
                    } else {
                        life.engine.peer_said(m, shard).is_some_and(|said| said.votes)
                    }
                })
            };
            let voters = life.engine.members().iter().filter(|&&m| votes(m)).count();
            if answer.confirmed as usize > voters {
                let what = format!(
                    "{} copies counted for a majority, {voters} members count for one",
                    answer.confirmed
                );
                return Err(broken(Rule::Durability, node, what));
            }
        }
        if let Some(key) = waiting
            .key
            .filter(|_| waiting.level.stage == anabranch::Stage::Durable)
        {
            self.keys.promise(key);
        }
        self.after_answer(waiting, None);
        Ok(())
    }

    fn on_refused(&mut self, node: NodeIx, waiting: &Waiting, error: &Error) -> Step {
        // Of a repeat that takes something away it is not known here what else it waits for.
        let is_known = waiting.repeats == Some(false) || !waiting.asked.takes_away();
        if let Some(life) = &self.hosts[node].life
            && error.kind() == ErrorKind::Unconfirmed
            && is_known
        {
            let answered = waiting.answered(life.directory);
            self.oracle.check_unconfirmed(node, &life.engine, &answered)?;
        }
        self.after_answer(waiting, Some(error.kind()));
        Ok(())
    }

    /// Whether there is a cause for this refusal: a fault that is at work, a bound that is reached, a wrong request.
    fn is_expected(&self, node: NodeIx, kind: ErrorKind, waiting: &Waiting) -> bool {
        let Some(life) = &self.hosts[node].life else {
            return true;
        };
        let transfers = || {
            let ops = &waiting.asked.ops;
            ops.iter().any(|(_, a)| matches!(a, Action::Transfer { .. }))
        };
        match kind {
            ErrorKind::NotReady => {
                self.oracle.may_not_be_ready(node) && !self.oracle.must_be_ready(node, &waiting.asked)
            }
            ErrorKind::Overloaded => {
                let updates = self.waiting.values().filter(|w| w.node == node).count();
                let others = updates + self.reads.values().filter(|read| read.node == node).count();
                let keys = life.engine.status().idempotency_keys as usize;
                let keys_full = waiting.key.is_some() && keys >= self.limits.keys_max;
                let disk_behind = life.unpersisted > self.limits.unpersisted_bytes_max;
                others >= self.limits.requests_max || disk_behind || keys_full || transfers()
            }
            ErrorKind::Rights => true, // the oracle has checked it when it was made
            ErrorKind::DiskFull => life.failure == Some(PersistFailure::Full),
            ErrorKind::Io => life.failure == Some(PersistFailure::Refused),
            ErrorKind::Poisoned => life.poisoned,
            ErrorKind::Unconfirmed => self.kernel.now() >= waiting.answer_by,
            ErrorKind::WrongType => waiting.asked.wrong || waiting.asked.disputed,
            // To whom is no member, or no run that is known, where it was asked.
            ErrorKind::Invalid => waiting.asked.wrong || transfers(),
            ErrorKind::TypeRequired => waiting.asked.untyped && !self.oracle.knows_kind(node, &waiting.asked),
            ErrorKind::KeyReused => waiting.asked.misused,
            _ => false,
        }
    }
}

/// The error with which an update was refused at once. (Other updates may have been answered in the same step.)
fn refusal(outputs: &[Output], asked: u64) -> Option<&Error> {
    outputs.iter().find_map(|output| match output {
        Output::Done {
            request,
            result: Err(error),
        } if request.0 == asked => Some(error),
        _ => None,
    })
}
