//! One call, from its beginning to its answer.

use anabranch::engine::{Input as EngineInput, Read, RequestId, Time, View};
use anabranch::session::{Action, Call, Command, CommandId, Input, Output, Said, Told};
use anabranch::session::{forward_failed, refused_alone};
use anabranch::{
    Answer, Copies, EntityId, Error, Function, Level, Mutation, Op, Payload, Reading, ReplicaId, Token, Type,
    Update,
};

use super::checks::{check, check_action, has};
use super::effects::Effects;
use super::running::Run;
use super::{Apps, By, Delivery, Event, News, Step, Todo, WorldEvent};
use crate::app::Made;
use crate::net::NodeIx;
use crate::oracle::{Answered, Issue};
use crate::world::World;

use std::collections::BTreeSet;

/// What there is to say of how a call went, for whoever asked.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// What the function was shown, and which run of its node showed it.
    pub saw: Option<(ReplicaId, View)>,
    pub made: Option<Made>,
    /// What a read has read.
    pub read: Option<(Type, Reading)>,
}

/// A call that is not answered.
#[derive(Debug)]
pub(super) struct Calling {
    pub node: NodeIx,
    pub by: By,
    /// What is called: another thing once it was forwarded.
    pub call: Call,
    pub deadline: Time,
    /// What its caller's session has seen, if it has one.
    pub session: Option<Token>,
    /// Whether what forwarded it is in.
    pub changed: bool,
    /// Whether what its function did was to be made.
    pub did: bool,
    /// The name of its command, while there is one.
    pub command: Option<u64>,
    pub stage: Stage,
    pub witness: Witness,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Stage {
    Beginning,
    /// What its session has seen is not here yet.
    Reading,
    /// With the entity's session.
    Queued,
    /// The function has it.
    Running(Run),
    /// What it did is in, and not yet where its level says.
    Confirming,
    Effecting(Effects),
    /// It was forwarded to what is not here.
    Elsewhere,
}

/// What an engine was asked for.
#[derive(Debug)]
pub(super) enum For {
    Read(u64),
    /// A stream that is to be opened.
    Open(u64),
    Commit {
        call: u64,
        id: CommandId,
        level: Level,
    },
    /// A client's update, with its level, or its read.
    Direct {
        ix: u64,
        level: Option<Level>,
    },
}

impl Apps {
    /// A new call, which begins once all that came up before is done.
    pub(super) fn open(
        &mut self,
        world: &World,
        node: NodeIx,
        by: By,
        call: Call,
        session: Option<Token>,
        timeout_ms: u64,
    ) -> u64 {
        let ix = self.number();
        let calling = Calling {
            node,
            by,
            call,
            deadline: Time(world.kernel.now()).after_ms(timeout_ms),
            session,
            changed: false,
            did: false,
            command: None,
            stage: Stage::Beginning,
            witness: Witness::default(),
        };
        self.callings.insert(ix, calling);
        self.agenda.push_back(Todo::Begin(ix));
        ix
    }

    pub(super) fn begin(&mut self, world: &mut World, ix: u64) -> Step {
        if let Some(done) = self.begin_direct(world, ix) {
            return done;
        }
        let Some(calling) = self.callings.get_mut(&ix) else {
            return Ok(());
        };
        let (node, entity) = (calling.node, calling.call.entity.clone());
        if world.is_still(node) {
            let event = Event::Arrives { node, call: ix };
            self.held.push((node, News::Event(event)));
            return Ok(());
        }
        if let Err(error) = check(&self.functions[node], &calling.call) {
            self.end(world, ix, Err(error));
            return Ok(());
        }
        let after = calling.session.clone().filter(|token| !token.is_empty());
        let Some(after) = after else {
            return self.enter(world, ix);
        };
        calling.stage = Stage::Reading;
        let read = Read {
            entities: vec![entity],
            all: false,
            after,
            majority: false,
            timeout_ms: Time(world.kernel.now()).ms_until(calling.deadline),
        };
        let request = world.number_request();
        self.requests.insert(request, (node, For::Read(ix)));
        let request = RequestId(request);
        world.ask_engine(node, EngineInput::Read { request, read })
    }

    /// All that its session has seen is here.
    fn enter(&mut self, world: &mut World, ix: u64) -> Step {
        let id = self.number();
        let Some(calling) = self.callings.get_mut(&ix) else {
            return Ok(());
        };
        let (node, entity) = (calling.node, calling.call.entity.clone());
        let Some(function) = self.functions[node].get(entity.kind()) else {
            return Ok(());
        };
        let command = Command {
            method: calling.call.method.clone(),
            payload: calling.call.payload.clone(),
            deadline: calling.deadline,
            origin: calling.call.origin.clone(),
        };
        if function.is_query(&command.method) == Ok(true) {
            let function = std::sync::Arc::clone(function);
            let result = self.query(world, ix, &function, &command, CommandId(id));
            self.end(world, ix, result.map(|action| (action, false)));
            return Ok(());
        }
        (calling.stage, calling.command) = (Stage::Queued, Some(id));
        self.commands.insert(id, ix);
        let id = CommandId(id);
        self.agenda.push_back(Todo::Session {
            node,
            entity,
            input: Input::Command { id, command },
        });
        Ok(())
    }

    /// Looks, now, whoever else is at it.
    fn query(
        &mut self,
        world: &World,
        ix: u64,
        function: &Function,
        command: &Command,
        id: CommandId,
    ) -> Result<Action, Error> {
        let Some(calling) = self.callings.get_mut(&ix) else {
            unreachable!("it was just there");
        };
        let (node, entity) = (calling.node, &calling.call.entity);
        let Some(life) = &world.hosts[node].life else {
            unreachable!("who begins a call is alive");
        };
        if let Some(token) = &mut calling.session {
            *token = life.engine.token(token, [entity]);
        }
        let view = life.engine.view(entity, function.ty())?;
        let context = world.context(node, entity, id.0);
        let saw = &mut calling.witness.saw;
        saw.get_or_insert((context.replica(), view.clone()));
        match function.run(id, command, view, context) {
            Said::Reply(reply) => {
                let is_alone = world.peers(node).is_empty();
                check_action(&self.functions[node], &reply.action, is_alone)?;
                Ok(reply.action)
            }
            Said::Failed { error, .. } => Err(error),
            Said::Ended | Said::Streamed { .. } => unreachable!("a function in Rust answers, at once"),
        }
    }

    pub(super) fn on_session_output(
        &mut self,
        world: &mut World,
        node: NodeIx,
        entity: &EntityId,
        output: Output,
    ) -> Step {
        match output {
            Output::Tell {
                stream,
                told: Told::Command { id, command, view },
            } => match self.commands.get(&id.0).copied() {
                Some(call) => self.run(world, call, stream, command, view),
                // Its caller has gone: the function was not given it after all.
                None => {
                    let said = Said::Ended;
                    self.later_tell(node, entity, Input::Said { stream, said });
                    Ok(())
                }
            },
            Output::Commit {
                id,
                mutations,
                view,
                level,
                deadline,
                ..
            } => self.commit(world, id, mutations, view, level, deadline),
            Output::Effects {
                id,
                effects,
                deadline,
            } => {
                self.on_effects(node, entity, id, effects, deadline);
                Ok(())
            }
            Output::Answer { id, result } => {
                self.on_session_answer(world, id, result);
                Ok(())
            }
            Output::Report { what } => {
                world.tell(|| format!("n{node} a function of {entity} broke the rules: {what}"));
                Ok(())
            }
            // Who remembers nothing is told nothing else, and does not go on.
            Output::Tell { .. } | Output::Reset { .. } | Output::Streamed { .. } => Ok(()),
        }
    }

    pub(super) fn later_tell(&mut self, node: NodeIx, entity: &EntityId, input: Input) {
        self.agenda.push_back(Todo::Session {
            node,
            entity: entity.clone(),
            input,
        });
    }

    fn commit(
        &mut self,
        world: &mut World,
        id: CommandId,
        mutations: Vec<Mutation>,
        view: View,
        level: Level,
        deadline: Time,
    ) -> Step {
        let call = self.commands.get(&id.0).copied();
        let Some((ix, calling)) = call.and_then(|ix| Some((ix, self.callings.get_mut(&ix)?))) else {
            unreachable!("what a command did is made while it is somebody's");
        };
        (calling.stage, calling.did) = (Stage::Confirming, true);
        let (node, entity) = (calling.node, calling.call.entity.clone());
        let op = |mutation| Op {
            entity: entity.clone(),
            ty: view.ty(),
            mutation,
        };
        let update = Update {
            ops: mutations.into_iter().map(op).collect(),
            level,
            key: None,
            after: None,
            timeout_ms: Time(world.kernel.now()).ms_until(deadline),
        };
        let request = world.number_request();
        self.requests
            .insert(request, (node, For::Commit { call: ix, id, level }));
        let input = EngineInput::Commit {
            request: RequestId(request),
            update,
            view,
        };
        world.oracle.note_surely(node);
        world.ask_engine(node, input)?;
        let is_it = |news: &News| matches!(news, News::Done { request: of, .. } if *of == request);
        if !world.news.iter().any(is_it) {
            self.later_tell(node, &entity, Input::Joined { id, left: None });
        }
        Ok(())
    }

    /// An engine has answered.
    pub(super) fn on_done(
        &mut self,
        world: &mut World,
        node: NodeIx,
        request: u64,
        result: Result<Answer, Error>,
    ) -> Step {
        match self.requests.remove(&request) {
            Some((_, For::Read(ix))) => match result {
                Ok(_) => self.enter(world, ix),
                Err(error) => {
                    self.end(world, ix, Err(error));
                    Ok(())
                }
            },
            Some((_, For::Open(number))) => {
                self.on_open_read(world, number, result.map(|_| ()));
                Ok(())
            }
            Some((_, For::Commit { call, id, level })) => {
                let Some(calling) = self.callings.get_mut(&call) else {
                    return Ok(());
                };
                if calling.command != Some(id.0) {
                    return Ok(());
                }
                if let Ok(answer) = &result {
                    world.check_answer(node, level, answer, Some(false))?;
                    calling.witness.made = Some(Made {
                        by: ReplicaId::new(world.hosts[node].id, answer.epoch),
                        dots: answer.dots.clone(),
                    });
                    if let Some(token) = &mut calling.session {
                        token.join(&answer.token);
                    }
                }
                let entity = calling.call.entity.clone();
                let function = self.functions[node].get(entity.kind());
                let is_async = function.is_some_and(|function| function.is_async(&calling.call.method));
                let result = result.map(|_| ());
                let result = result.map_err(|e| if is_async { e } else { refused_alone(e) });
                self.later_tell(node, &entity, Input::Committed { id, result });
                Ok(())
            }
            Some((_, For::Direct { ix, level })) => self.on_direct_done(world, ix, level, result),
            // Its caller has gone.
            None => Ok(()),
        }
    }

    fn on_session_answer(&mut self, world: &mut World, id: CommandId, result: Result<Action, Error>) {
        let Some(ix) = self.commands.get(&id.0).copied() else {
            return;
        };
        let Some(calling) = self.callings.get_mut(&ix) else {
            return;
        };
        if let Stage::Effecting(effects) = &mut calling.stage {
            effects.answer = Some(result);
            return;
        }
        self.end_command(world, ix, result);
    }

    /// A command is answered.
    pub(super) fn end_command(&mut self, world: &mut World, ix: u64, result: Result<Action, Error>) {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return;
        };
        if let Some(command) = calling.command.take() {
            self.commands.remove(&command);
        }
        if let Stage::Running(run) = std::mem::replace(&mut calling.stage, Stage::Beginning) {
            calling.learn(&run.seen);
        }
        self.cancel_children(world, ix);
        let Some(calling) = self.callings.get_mut(&ix) else {
            return;
        };
        let did = calling.did;
        self.end(world, ix, result.map(|action| (action, did)));
    }

    /// What was called has answered; that may be that another is to answer.
    pub(super) fn end(&mut self, world: &World, ix: u64, result: Result<(Action, bool), Error>) {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return;
        };
        let result = match result {
            Ok((Action::Forward(next), did)) => {
                calling.changed |= did;
                if !has(&self.functions[calling.node], &next) {
                    return self.forward_elsewhere(world, ix, next);
                }
                (calling.call, calling.did, calling.stage) = (next, false, Stage::Beginning);
                self.agenda.push_back(Todo::Begin(ix));
                return;
            }
            Ok((Action::Reply(payload), _)) => Ok(payload),
            Ok((Action::Refuse(error), _)) | Err(error) if calling.changed => {
                Err(forward_failed(&calling.call.entity, &error))
            }
            Ok((Action::Refuse(error), _)) | Err(error) => Err(error),
        };
        let Some(calling) = self.callings.remove(&ix) else {
            return;
        };
        debug_assert!(calling.command.is_none() || world.hosts[calling.node].life.is_none());
        self.answer(calling, result);
    }

    /// Whoever made the call hears of it, once all that came up before is done.
    pub(super) fn answer(&mut self, calling: Calling, result: Result<Payload, Error>) {
        self.agenda.push_back(Todo::Deliver(Delivery {
            node: calling.node,
            to: calling.by,
            result,
            session: calling.session,
            witness: calling.witness,
        }));
    }

    /// Whoever made a call hears how it went.
    pub(super) fn deliver(&mut self, world: &mut World, delivery: Delivery) -> Step {
        let Delivery {
            node,
            to,
            result,
            session,
            ..
        } = delivery;
        match to {
            By::Client(client) => {
                let delivery = Delivery {
                    node,
                    to,
                    result,
                    session,
                    witness: delivery.witness,
                };
                return self.on_client_answer(world, client, delivery);
            }
            By::Peer { peer, epoch, id } => {
                self.reply_to_peer(world, node, (peer, epoch, id), result, session)
            }
            By::Function { of, slot } => self.on_heard(of, slot, result, session.as_ref()),
            By::Stream { of, slot } => self.on_stream_heard(of, slot, result, session.as_ref()),
            By::Effect { of } => self.on_effect_done(world, of, &result, session.as_ref()),
            By::Forward { of } => self.on_forwarded(of, result, session.as_ref()),
            By::Routed { number } => self.on_routed(number, result, session.as_ref()),
            By::Errand { number } => self.on_errand_heard(world, node, number, &result),
            By::Later { chain } => {
                world.note_effect(node, &result);
                self.agenda.push_back(Todo::NextLater(chain));
            }
        }
        Ok(())
    }
}

impl Calling {
    /// Its session has seen this too, if it has one.
    pub(super) fn learn(&mut self, seen: &Token) {
        if let Some(token) = &mut self.session {
            token.join(seen);
        }
    }
}

impl World {
    pub(super) fn number_request(&mut self) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        request
    }

    /// One input to an engine, and all that follows from it.
    pub(super) fn ask_engine(&mut self, node: NodeIx, input: EngineInput) -> Step {
        let outputs = self.handle(node, input);
        self.look(node, &outputs, &BTreeSet::new())?;
        self.perform(node, outputs)
    }

    /// What was done has reached its level: as many copies have it as that says, and keep it. `repeats`: whether it was done before,
    /// where that is known.
    pub(super) fn check_answer(
        &mut self,
        node: NodeIx,
        level: Level,
        answer: &Answer,
        repeats: Option<bool>,
    ) -> Step {
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        let issue = Issue {
            origin: self.oracle.ledger.origin(self.hosts[node].id.0, answer.epoch.0),
            epoch: answer.epoch.0,
            dots: answer
                .dots
                .iter()
                .map(|(shard, a, b)| (shard.0, *a, *b))
                .collect(),
        };
        // Before it knows everybody, a node counts majorities of those it knows.
        let copies = if self.plan.discovered {
            Copies::Local
        } else {
            level.copies
        };
        let answered = Answered {
            issue: &issue,
            level: Level { copies, ..level },
            saw: &[],
            directory: life.directory,
            repeats,
        };
        self.oracle.on_answer(node, &answered, answer)
    }

    /// An effect that nobody is told of.
    pub(super) fn note_effect(&mut self, node: NodeIx, result: &Result<Payload, Error>) {
        if let Err(error) = result {
            self.tell(|| format!("n{node} an effect failed: {error}"));
        }
    }

    /// An event for the application, after a while.
    pub(super) fn plan_event(&mut self, wait: u64, event: Event) {
        self.kernel.after(wait, WorldEvent::App(event));
    }
}
