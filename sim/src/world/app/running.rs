//! Functions while they run: those that answer at once, and those that wait for others.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use anabranch::engine::{Time, View};
use anabranch::session::{Command, CommandId, Input, Said, StreamId};
use anabranch::{Call, Context, EntityId, Epoch, Error, NodeId, Nodes, Payload, ReplicaId, Token};

use super::calling::Stage;
use super::checks::check_action;
use super::desk::{Answer, AtDesk, Desk, Wanted};
use super::streams::{Opener, Who};
use super::{Apps, By, CallIx, Event, Step, Todo};
use crate::net::NodeIx;
use crate::rng::Rng;
use crate::world::World;

/// A function takes so long for a command at least and at most, microseconds.
const TAKES_US: (f64, f64) = (1.0, 20_000.0);

type Running = Pin<Box<dyn Future<Output = Said> + Send>>;

/// A function that has a command.
pub(super) struct Run {
    /// Which life of it.
    pub stream: StreamId,
    /// What it has seen by the calls that it made.
    pub seen: Token,
    does: Does,
}

enum Does {
    /// It waits for others.
    Waits { future: Running, desk: Arc<Desk> },
    /// It has done, and takes its time to say so.
    Said(Option<Box<Said>>),
}

/// Whom a node believes to be up: here those that it is linked with.
struct Linked(Vec<ReplicaId>);

impl Nodes for Linked {
    fn live(&self) -> Vec<ReplicaId> {
        self.0.clone()
    }
}

impl Run {
    /// What it has asked for is there.
    pub fn answer(&self, slot: u64, answer: Answer) {
        if let Does::Waits { desk, .. } = &self.does {
            desk.answer(slot, answer);
        }
    }
}

/// A function that waits for what it calls.
#[derive(Clone, Copy)]
pub(super) enum Waits {
    /// A command's.
    Call(CallIx),
    /// A stream's.
    Stream(u64),
}

impl Waits {
    fn by(self, slot: u64) -> By {
        match self {
            Waits::Call(of) => By::Function { of, slot },
            Waits::Stream(of) => By::Stream { of, slot },
        }
    }

    fn opener(self, slot: u64) -> Opener {
        match self {
            Waits::Call(of) => Opener::Call { of, slot },
            Waits::Stream(of) => Opener::Stream { of, slot },
        }
    }
}

impl Apps {
    /// A session gives the function a command.
    pub(super) fn run(
        &mut self,
        world: &mut World,
        ix: u64,
        stream: StreamId,
        command: Command,
        view: View,
    ) -> Step {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return Ok(());
        };
        let (node, entity) = (calling.node, calling.call.entity.clone());
        let (Some(function), Some(id)) = (self.functions[node].get(entity.kind()), calling.command) else {
            return Ok(());
        };
        let (function, id) = (Arc::clone(function), CommandId(id));
        self.counts.commands += 1;
        let context = world.context(node, &entity, id.0);
        world.tell(|| format!("n{node} runs {} of {entity}, call {ix}", command.method));
        let saw = &mut calling.witness.saw;
        saw.get_or_insert((context.replica(), view.clone()));
        // Its reply goes by what it is shown, also where it changes something.
        if let (Some(token), Some(life)) = (&mut calling.session, &world.hosts[node].life) {
            *token = life.engine.token(token, [&entity]);
        }
        let waits = function.is_async(&command.method);
        let does = if waits {
            let desk = Arc::new(Desk::default());
            let context = context.with_caller(Arc::new(AtDesk(Arc::clone(&desk))));
            let future = async move { function.run_async(id, &command, view, context).await };
            Does::Waits {
                future: Box::pin(future),
                desk,
            }
        } else {
            Does::Said(Some(Box::new(function.run(id, &command, view, context))))
        };
        calling.stage = Stage::Running(Run {
            stream,
            seen: calling.session.clone().unwrap_or_default(),
            does,
        });
        if waits {
            self.agenda.push_back(Todo::Poll(ix));
        } else {
            world.plan_ran(node, ix);
        }
        Ok(())
    }

    /// A function that waits for others is looked after.
    pub(super) fn poll(&mut self, world: &mut World, ix: u64) -> Step {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return Ok(());
        };
        let Stage::Running(run) = &mut calling.stage else {
            return Ok(());
        };
        let Does::Waits { future, desk } = &mut run.does else {
            return Ok(());
        };
        let (node, desk) = (calling.node, Arc::clone(desk));
        desk.set_peers(world.peers(node));
        // One that never ends is ended by its deadline.
        let said = self.streams.bells.poll(future.as_mut(), Who::Call(ix));
        let (seen, deadline) = (run.seen.clone(), calling.deadline);
        if let Poll::Ready(said) = said {
            run.does = Does::Said(Some(Box::new(said)));
            world.plan_ran(node, ix);
        }
        let (wanted, dropped) = desk.take();
        self.drop_calls(world, Waits::Call(ix), dropped);
        let is_over = matches!(
            self.callings.get(&ix).map(|calling| &calling.stage),
            Some(Stage::Running(Run {
                does: Does::Said(_),
                ..
            })) | None
        );
        let left_ms = Time(world.kernel.now()).ms_until(deadline);
        // Who does not wait any more was not asked for either.
        if !is_over {
            self.make_wanted(world, node, Waits::Call(ix), wanted, &seen, left_ms);
        }
        Ok(())
    }

    /// Makes a call of a function that waits for it.
    #[expect(clippy::too_many_arguments, reason = "all that a call is made with")]
    pub(super) fn call_of(
        &mut self,
        world: &mut World,
        node: NodeIx,
        on: Option<NodeId>,
        by: By,
        call: Call,
        seen: Token,
        left_ms: u64,
    ) {
        match on {
            Some(peer) if peer != world.hosts[node].id => {
                self.ask_peer(world, node, (peer, by), call, Some(seen), left_ms);
            }
            Some(_) => {
                self.open(world, node, by, call, Some(seen), left_ms);
            }
            None => {
                self.call_anywhere(world, node, by, call, Some(seen), left_ms);
            }
        }
    }

    /// Makes the calls that a function wants made, and opens what it wants opened.
    pub(super) fn make_wanted(
        &mut self,
        world: &mut World,
        node: NodeIx,
        waits: Waits,
        wanted: Vec<Wanted>,
        seen: &Token,
        left_ms: u64,
    ) {
        for Wanted {
            slot,
            on,
            call,
            opens,
        } in wanted
        {
            if opens {
                self.open_stream(world, node, on, waits.opener(slot), call, seen.clone(), left_ms);
            } else {
                self.call_of(world, node, on, waits.by(slot), call, seen.clone(), left_ms);
            }
        }
    }

    /// A function waits no more for what it had wanted.
    pub(super) fn drop_calls(&mut self, world: &mut World, waits: Waits, slots: Vec<u64>) {
        for slot in slots {
            self.drop_call(world, waits.by(slot), waits.opener(slot));
        }
    }

    /// A function has dropped a call that it had made, or a stream that it had wanted opened.
    fn drop_call(&mut self, world: &mut World, by: By, opener: Opener) {
        self.cancel_opening(&opener);
        let here = self.callings.iter().find(|(_, calling)| calling.by == by);
        let routed = self.routes.iter().find(|(_, routing)| routing.by == by);
        let child = here.map(|(child, _)| child).or(routed.map(|(child, _)| child));
        if let Some(child) = child.copied() {
            return self.cancel(world, child);
        }
        let elsewhere = self.asked.iter().find(|(_, asked)| asked.by == by);
        if let Some(id) = elsewhere.map(|(id, _)| *id) {
            self.withdraw(world, id);
        }
    }

    /// A function's call was answered.
    pub(super) fn on_heard(
        &mut self,
        ix: u64,
        slot: u64,
        result: Result<Payload, Error>,
        seen: Option<&Token>,
    ) {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return;
        };
        let Stage::Running(run) = &mut calling.stage else {
            return;
        };
        if let Some(seen) = seen {
            run.seen.join(seen);
        }
        if let Does::Waits { desk, .. } = &run.does {
            desk.answer(slot, Answer::Reply(result));
            self.agenda.push_back(Todo::Poll(ix));
        }
    }

    /// A function says what it did.
    pub(super) fn on_ran(&mut self, world: &mut World, ix: u64) -> Step {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return Ok(());
        };
        let Stage::Running(run) = &mut calling.stage else {
            return Ok(());
        };
        let Does::Said(said) = &mut run.does else {
            return Ok(());
        };
        let Some(said) = said.take() else {
            return Ok(());
        };
        let (node, stream, seen) = (calling.node, run.stream, run.seen.clone());
        calling.learn(&seen);
        let entity = calling.call.entity.clone();
        let said = match *said {
            Said::Reply(reply) => {
                match check_action(&self.functions[node], &reply.action, world.peers(node).is_empty()) {
                    Ok(()) => Said::Reply(reply),
                    Err(error) => Said::Failed {
                        command: Some(reply.command),
                        error,
                    },
                }
            }
            said => said,
        };
        calling.stage = Stage::Queued;
        self.tell(world, node, &entity, Input::Said { stream, said })
    }
}

impl World {
    /// What a function may know besides its entity and its argument.
    pub(super) fn context(&self, node: NodeIx, entity: &EntityId, id: u64) -> Context {
        let host = &self.hosts[node];
        let epoch = host
            .life
            .as_ref()
            .map_or(Epoch(0), |life| life.engine.status().epoch);
        let seed = Rng::stream(self.plan.seed, "context", node as u64, id).next_u64();
        let wall_ms = host.wall_ms(self.kernel.now());
        let context = Context::new(entity.clone(), ReplicaId::new(host.id, epoch), wall_ms, seed);
        context.with_nodes(Arc::new(Linked(self.linked_runs(node))))
    }

    /// The runs of others that a node is linked with.
    pub(super) fn linked_runs(&self, node: NodeIx) -> Vec<ReplicaId> {
        let Some(life) = &self.hosts[node].life else {
            return Vec::new();
        };
        let run = |peer| Some(ReplicaId::new(peer, life.engine.linked_epoch(peer)?));
        life.engine.linked().filter_map(run).collect()
    }

    /// A function has done, and says so after a while.
    fn plan_ran(&mut self, node: NodeIx, call: u64) {
        let mut rng = Rng::stream(self.plan.seed, "ran", node as u64, call ^ self.kernel.now());
        let takes = rng.log_uniform(TAKES_US.0, TAKES_US.1) as u64;
        self.plan_event(takes, Event::Ran { node, call });
    }

    /// The nodes that one is linked with.
    pub(super) fn peers(&self, node: NodeIx) -> Vec<anabranch::NodeId> {
        let life = self.hosts[node].life.as_ref();
        life.map_or_else(Vec::new, |life| life.engine.linked().collect())
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = match &self.does {
            Does::Waits { .. } => "waits for others",
            Does::Said(_) => "has done",
        };
        f.debug_struct("Run")
            .field("stream", &self.stream)
            .field("does", &does)
            .finish()
    }
}
