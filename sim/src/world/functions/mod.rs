//! Functions beside their entities, each behind a session as in production: they take their time, and some misbehave.
//!
//! What must hold: a function has one command at a time and is told nothing meanwhile; its copy of the entity is the entity
//! whenever it is given a command; what it does goes by what it had seen, and not at all if it was given up; each command is
//! answered once, in time, and not before what it did is where its level says; an answer that goes on is heard until its caller
//! leaves or its function's life ends, and nothing of it before what the function did by then is in.

mod act;
mod memory;
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use anabranch::Update;
use anabranch::engine::{Time, View};
use anabranch::session::{Action, Command, CommandId, Config, Input, Output, Session, StreamId, Told};
use anabranch::{Error, ErrorKind, Level, Op};

use super::clients::nonsense;
use super::{Event, World};
use crate::model::{EntityIx, Row};
use crate::names::type_of;
use crate::net::NodeIx;
use crate::oracle::{Asked, Failure, Rule, broken};
use crate::plan::SECOND;
use crate::queue::Micros;
use crate::rng::Rng;

pub(crate) use act::Act;
use act::{Manner, payload};
use memory::Memory;
use streams::Going;

type Step = Result<(), Failure>;

/// Sessions and functions of a world, by node and entity.
pub(super) type Functions = BTreeMap<(NodeIx, EntityIx), Hosted>;

/// A session and the function behind it.
#[derive(Debug)]
pub(crate) struct Hosted {
    session: Session,
    remembers: bool,
    wake_at: Option<Time>,
    function: Option<Function>,
    commands: BTreeMap<u64, Given>,
    going: Going,
}

/// A command that is not answered.
#[derive(Debug)]
struct Given {
    client: usize,
    asked: Asked,
    update: Update,
    deadline: Micros,
    /// What its function saw, by the model.
    row: Option<Row>,
    /// Whether its function's change was handed to the entity.
    committed: bool,
    /// Whether its answer goes on: there is no time then in which it must end.
    goes_on: bool,
}

/// A life of a function.
#[derive(Debug)]
struct Function {
    stream: StreamId,
    memory: Memory,
    has: Option<u64>,
    was_told_to_end: bool,
    /// What it has answered, and says more of.
    going: BTreeSet<u64>,
}

/// What a function did, as its session hands it on.
struct Made {
    mutations: Vec<anabranch::Mutation>,
    level: Level,
    deadline: Time,
}

/// What became of what a function's command did.
pub(crate) enum Went {
    /// It is in; and this is what it left, if nothing else became of its entity since it was seen.
    In { left: Option<View> },
    /// It is where its level says, or will not be.
    Ended(Result<(), Error>),
}

/// Whose commit an update is.
#[derive(Debug)]
pub(crate) struct By {
    pub entity: EntityIx,
    pub command: u64,
    pub view: View,
}

impl World {
    /// Whether this update is to be made by a function.
    pub(super) fn is_function(&self, number: u64, asked: &Asked) -> bool {
        let mut rng = Rng::stream(self.plan.seed, "function", number, 0);
        rng.chance(self.plan.load.commits) && !asked.wrong && !asked.disputed
    }

    /// The function of the first entity of an update is to make what is about that.
    pub(super) fn command(
        &mut self,
        node: NodeIx,
        client: usize,
        number: u64,
        mut asked: Asked,
        update: Update,
    ) -> Step {
        let entity = asked.ops[0].0;
        let (id, kind) = self.oracle.names.entity(entity);
        let (id, ty) = (id.clone(), type_of(kind));
        let mut ops = update.ops;
        ops.retain(|op| op.entity == id);
        asked.ops.retain(|(of, _)| *of == entity);
        // It knows its entity's type.
        asked.untyped = false;
        let mut rng = Rng::stream(self.plan.seed, "command", number, 0);
        let deadline = self.kernel.now() + rng.log_uniform(1e4, 2e7) as u64;
        let seed = self.plan.seed;
        let host_id = self.hosts[node].id;
        let hosted = self.functions.entry((node, entity)).or_insert_with(|| {
            let mut rng = Rng::stream(seed, "session", node as u64, u64::from(entity));
            let config = Config {
                remembers: rng.chance(0.7),
                commands_max: rng.between(1, 6) as usize,
                answer_ms: rng.between(100, 5_000),
                idle_ms: rng.between(50, 3_000),
                closing_ms: rng.between(10, 500),
                ..Config::new(host_id, id, ty)
            };
            Hosted {
                remembers: config.remembers,
                session: Session::new(config),
                wake_at: None,
                function: None,
                commands: BTreeMap::new(),
                going: Going::default(),
            }
        });
        let given = Given {
            client,
            asked,
            update: Update { ops, ..update },
            deadline,
            row: None,
            committed: false,
            goes_on: false,
        };
        hosted.commands.insert(number, given);
        let command = Command {
            method: String::new(),
            payload: payload(),
            deadline: Time(deadline),
            origin: Default::default(),
        };
        let id = CommandId(number);
        self.tell(|| format!("n{node} has command {number} for entity {entity}, until {deadline}"));
        self.tally.commands += 1;
        self.session(node, entity, Input::Command { id, command })
    }

    /// One thing that happened to a session, and all that follows.
    pub(super) fn session(&mut self, node: NodeIx, entity: EntityIx, input: Input) -> Step {
        let now = Time(self.kernel.now());
        let wakes = matches!(input, Input::Wakeup);
        let (Some(life), Some(hosted)) = (&self.hosts[node].life, self.functions.get_mut(&(node, entity)))
        else {
            return Ok(());
        };
        let (id, kind) = self.oracle.names.entity(entity);
        let look = || life.engine.view(id, type_of(kind));
        if wakes {
            hosted.wake_at = None;
        }
        hosted.session.handle(now, input, &look);
        while let Some(hosted) = self.functions.get_mut(&(node, entity))
            && let Some(output) = hosted.session.poll_output()
        {
            self.on_session_output(node, entity, output)?;
        }
        self.schedule_session(node, entity);
        Ok(())
    }

    fn schedule_session(&mut self, node: NodeIx, entity: EntityIx) {
        let Some(hosted) = self.functions.get_mut(&(node, entity)) else {
            return;
        };
        let due = hosted.session.next_wakeup();
        if let Some(at) = due.filter(|at| hosted.wake_at.is_none_or(|scheduled| *at < scheduled)) {
            hosted.wake_at = Some(at);
            let lives = self.hosts[node].lives;
            let event = Event::Session {
                node,
                entity,
                lives,
                at: at.0,
            };
            self.kernel.at(at.0.max(self.kernel.now()), event);
        }
    }

    pub(super) fn on_session_due(&mut self, node: NodeIx, entity: EntityIx, lives: u64, at: Micros) -> Step {
        let host = &self.hosts[node];
        // A process that stands still is woken when it goes on.
        if host.lives != lives || host.life.is_none() || host.paused_until > self.kernel.now() {
            return Ok(());
        }
        if let Some(hosted) = self.functions.get_mut(&(node, entity))
            && hosted.wake_at == Some(Time(at))
        {
            return self.session(node, entity, Input::Wakeup);
        }
        Ok(())
    }

    fn on_session_output(&mut self, node: NodeIx, entity: EntityIx, output: Output) -> Step {
        self.tell(|| format!("n{node} session of entity {entity}: {output:?}"));
        match output {
            Output::Tell { stream, told } => self.on_told_function(node, entity, stream, told),
            Output::Reset { stream } => {
                if let Some(hosted) = self.functions.get_mut(&(node, entity)) {
                    hosted.function.take_if(|function| function.stream == stream);
                }
                Ok(())
            }
            Output::Commit {
                id,
                mutations,
                view,
                level,
                deadline,
                ..
            } => {
                let made = Made {
                    mutations,
                    level,
                    deadline,
                };
                self.on_session_commit(node, entity, id.0, made, view)
            }
            Output::Answer { id, result } => self.on_session_answer(node, entity, id.0, &result),
            Output::Effects { .. } | Output::Report { .. } => Ok(()),
            Output::Streamed { id, action, .. } => self.on_part_heard(node, entity, id.0, action.as_ref()),
        }
    }

    /// A function is told something: what it may expect is checked, and what it does next is decided.
    fn on_told_function(&mut self, node: NodeIx, entity: EntityIx, stream: StreamId, told: Told) -> Step {
        let wrong = |what: String| Err(broken(Rule::Function, node, format!("entity {entity}: {what}")));
        let ty = type_of(self.oracle.names.entity(entity).1);
        let here = self.hosts[node].life.as_ref();
        let here = here.and_then(|life| life.engine.read_as(self.oracle.names.entity(entity).0, ty));
        let row = self.oracle.row(node, entity);
        let Some(hosted) = self.functions.get_mut(&(node, entity)) else {
            return Ok(());
        };
        let begins = matches!(told, Told::Init { .. }) || !hosted.remembers;
        let function = match &mut hosted.function {
            Some(function) if function.stream == stream => function,
            other if begins => other.insert(Function {
                stream,
                memory: Memory::of(None, ty),
                has: None,
                was_told_to_end: false,
                going: BTreeSet::new(),
            }),
            _ => return wrong(format!("a function that is not there was told {told:?}")),
        };
        if function.was_told_to_end {
            return wrong(format!("a function that was told to end was told {told:?}"));
        }
        if function.has.is_some() {
            return wrong(format!("a function that has a command was told {told:?}"));
        }
        match told {
            Told::Init { reading, .. } => function.memory = Memory::of(reading.as_ref(), ty),
            Told::Delta { change, .. } => {
                let before = function.memory.clone();
                if !function.memory.take(&change) {
                    return wrong(format!("{before:?} was told {change:?}"));
                }
                if !function.going.is_empty() {
                    self.plan_speech(node, entity, stream);
                }
            }
            Told::Delete => function.memory = Memory::of(None, ty),
            Told::Cancelled { id } => return self.on_told_left(node, entity, stream, id.0),
            Told::Command { id, view, .. } => {
                if !hosted.remembers {
                    function.memory = Memory::of(view.read().as_ref(), ty);
                }
                let must = Memory::of(here.as_ref(), ty);
                if function.memory != must || Memory::of(view.read().as_ref(), ty) != must {
                    return wrong(format!(
                        "a function has {:?}, and it is {must:?}",
                        function.memory
                    ));
                }
                function.has = Some(id.0);
                let Some(given) = hosted.commands.get_mut(&id.0) else {
                    return wrong(format!(
                        "a function was given command {id:?}, which is none or answered"
                    ));
                };
                given.row = Some(row);
                self.plan_act(node, entity, stream, Some(id.0));
            }
            Told::End => {
                function.was_told_to_end = true;
                self.plan_act(node, entity, stream, None);
            }
        }
        Ok(())
    }

    /// When a function does what, and how well.
    fn plan_act(&mut self, node: NodeIx, entity: EntityIx, stream: StreamId, command: Option<u64>) {
        let number = self.next_act;
        self.next_act += 1;
        let mut rng = Rng::stream(self.plan.seed, "act", node as u64, number);
        let manner = Manner::draw(&mut rng);
        let manner = match command {
            None if manner != Manner::Silent => Manner::Ends,
            _ => manner,
        };
        let hosted = self.functions.get(&(node, entity));
        let remembers = hosted.is_some_and(|hosted| hosted.remembers);
        let may_go_on = command.is_some() && remembers && manner == Manner::Well;
        let act = Act {
            node,
            lives: self.hosts[node].lives,
            entity,
            stream,
            command,
            manner,
            goes_on: may_go_on && Rng::stream(self.plan.seed, "goes on", node as u64, number).chance(0.3),
            is_left: false,
        };
        let takes = rng.log_uniform(1.0, 3e6) as u64;
        self.kernel.after(takes, Event::Function { act });
    }

    /// A function has done with what it was told.
    pub(super) fn on_function(&mut self, act: Act) -> Step {
        let host = &self.hosts[act.node];
        if host.life.is_none() || host.lives != act.lives {
            return Ok(());
        }
        if act.manner == Manner::Leaves {
            return self.on_leaves(act);
        }
        if !self.is_chaos() {
            return Ok(());
        }
        if host.paused_until > self.kernel.now() {
            self.kernel.at(host.paused_until + 1, Event::Function { act });
            return Ok(());
        }
        if act.manner == Manner::Speaks {
            return self.speak(&act);
        }
        let ty = type_of(self.oracle.names.entity(act.entity).1);
        let Some(hosted) = self.functions.get_mut(&(act.node, act.entity)) else {
            return Ok(());
        };
        let given = act.command.filter(|_| !act.is_left);
        let given = given.and_then(|command| hosted.commands.get(&command));
        // One that was reset speaks all the same: nobody may hear it.
        if let Some(function) = hosted.function.as_mut().filter(|f| f.stream == act.stream) {
            for op in given.into_iter().flat_map(|given| &given.update.ops) {
                function.memory.act(ty, host.id, &op.mutation);
            }
        }
        let (mutations, level) = match given {
            Some(_) if act.manner == Manner::Wrongly => {
                let kind = self.oracle.names.entity(act.entity).1;
                let wrong = self.oracle.names.mutation(kind, &nonsense(kind));
                (vec![wrong], None)
            }
            Some(given) => {
                let ops = given.update.ops.iter().map(|op| op.mutation.clone());
                (ops.collect(), Some(given.update.level))
            }
            None if act.is_left => (Vec::new(), None),
            None => (vec![anabranch::Mutation::Create], None),
        };
        // What it has done it speaks of before it says that it has done it.
        self.speak(&act)?;
        let part = self.begin_part(&act);
        for said in act.says(&mutations, level, part) {
            let stream = act.stream;
            self.session(act.node, act.entity, Input::Said { stream, said })?;
        }
        Ok(())
    }

    fn on_session_commit(
        &mut self,
        node: NodeIx,
        entity: EntityIx,
        command: u64,
        made: Made,
        view: View,
    ) -> Step {
        let now = self.kernel.now();
        let Some(given) = self
            .functions
            .get_mut(&(node, entity))
            .and_then(|hosted| hosted.commands.get_mut(&command))
        else {
            let what = format!("command {command} is answered, and its function's change is to be made");
            return Err(broken(Rule::Function, node, what));
        };
        given.committed = true;
        let mut asked = given.asked.clone();
        asked.seen = given.row.take().map(|row| (entity, row));
        let id = self.oracle.names.entity(entity).0;
        let op = |mutation| Op {
            entity: id.clone(),
            ty: None,
            mutation,
        };
        let update = Update {
            ops: made.mutations.into_iter().map(op).collect(),
            level: made.level,
            timeout_ms: Time(now).ms_until(made.deadline),
            ..given.update.clone()
        };
        asked.wrong = update.ops.iter().map(|op| &op.mutation).ne(given
            .update
            .ops
            .iter()
            .map(|op| &op.mutation));
        let client = given.client;
        self.tally.committed += 1;
        let by = By {
            entity,
            command,
            view,
        };
        self.submit(node, Some(client), asked, update, None, Some(by))
    }

    /// A function's commit was accepted, or refused, or has reached its level.
    pub(super) fn on_session_committed(
        &mut self,
        node: NodeIx,
        function: Option<(EntityIx, u64)>,
        went: Went,
    ) -> Step {
        let Some((entity, command)) = function else {
            return Ok(());
        };
        let is_in = match &went {
            Went::In { .. } | Went::Ended(Ok(())) => true,
            Went::Ended(Err(error)) => error.kind() == ErrorKind::Unconfirmed,
        };
        if let Some(hosted) = self.functions.get_mut(&(node, entity)).filter(|_| is_in) {
            hosted.going.is_in(command);
        }
        let id = CommandId(command);
        let input = match went {
            Went::Ended(result) => Input::Committed { id, result },
            Went::In { left } => Input::Joined { id, left },
        };
        self.session(node, entity, input)
    }

    fn on_session_answer(
        &mut self,
        node: NodeIx,
        entity: EntityIx,
        command: u64,
        result: &Result<Action, Error>,
    ) -> Step {
        let hosted = self.functions.get_mut(&(node, entity));
        let Some(given) = hosted.and_then(|hosted| hosted.commands.remove(&command)) else {
            let what = format!("command {command} of entity {entity} is answered twice: {result:?}");
            return Err(broken(Rule::Function, node, what));
        };
        if result.is_ok() && !given.committed {
            let what =
                format!("command {command} of entity {entity} is answered, and nothing was made of it");
            return Err(broken(Rule::Function, node, what));
        }
        let awaited = |waiting: &super::Waiting| waiting.function == Some((entity, command));
        if result.is_ok() && self.waiting.values().any(awaited) {
            let what =
                format!("command {command} of entity {entity} is answered before its level is reached");
            return Err(broken(Rule::Function, node, what));
        }
        let is_early = matches!(result, Err(error) if error.kind() == ErrorKind::Expired);
        if is_early && self.kernel.now() < given.deadline {
            let what = format!("command {command} of entity {entity} expired before its deadline");
            return Err(broken(Rule::Function, node, what));
        }
        Ok(())
    }

    /// Nobody waits for a command longer than it may take.
    pub(super) fn check_functions(&self) -> Step {
        let now = self.kernel.now();
        for (&(node, entity), hosted) in &self.functions {
            let stood_still = self.hosts[node].paused_until + SECOND > now;
            let late = hosted
                .commands
                .iter()
                .find(|(_, given)| given.deadline + SECOND < now && !given.goes_on);
            if let Some((command, given)) = late.filter(|_| !stood_still) {
                let what = format!("command {command} of entity {entity} is not answered: {given:?}");
                return Err(broken(Rule::Progress, node, what));
            }
        }
        Ok(())
    }

    /// A process that stood still goes on: what was due meanwhile is due now.
    pub(super) fn wake_sessions(&mut self, node: NodeIx) -> Step {
        let of_node = (node, EntityIx::MIN)..=(node, EntityIx::MAX);
        let entities: Vec<EntityIx> = self
            .functions
            .range(of_node)
            .map(|((_, entity), _)| *entity)
            .collect();
        for entity in entities {
            self.session(node, entity, Input::Wakeup)?;
        }
        Ok(())
    }

    /// A node died, and its functions with it.
    pub(super) fn forget_functions(&mut self, node: NodeIx) {
        self.functions.retain(|(at, _), _| *at != node);
    }
}
