//! Functions while they run: those that answer at once, and those that wait for others.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use anabranch::engine::{Time, View};
use anabranch::session::{Command, CommandId, Input, Said, StreamId};
use anabranch::{Context, EntityId, Epoch, Error, Nodes, Payload, ReplicaId, Token};

use super::calling::Stage;
use super::checks::check_action;
use super::desk::{AtDesk, Desk, Wanted};
use super::{Apps, By, Event, Step, Todo};
use crate::net::NodeIx;
use crate::rng::Rng;
use crate::world::World;

/// A function takes so long for a command at least and at most, microseconds.
const TAKES_US: (f64, f64) = (1.0, 20_000.0);
/// One that wakes itself so often without waiting for anybody never ends.
const POLLS_MAX: usize = 10_000;

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

/// Whether a future has asked to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
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
        let said = poll(future);
        let (seen, deadline) = (run.seen.clone(), calling.deadline);
        if let Poll::Ready(said) = said {
            run.does = Does::Said(Some(Box::new(said)));
            world.plan_ran(node, ix);
        }
        let (wanted, dropped) = desk.take();
        for slot in dropped {
            self.drop_slot(world, ix, slot);
        }
        let is_over = matches!(
            self.callings.get(&ix).map(|calling| &calling.stage),
            Some(Stage::Running(Run {
                does: Does::Said(_),
                ..
            })) | None
        );
        let left_ms = Time(world.kernel.now()).ms_until(deadline);
        // Who does not wait any more was not asked for either.
        for Wanted { slot, on, call } in wanted.into_iter().filter(|_| !is_over) {
            let by = By::Function { of: ix, slot };
            match on {
                Some(peer) if peer != world.hosts[node].id => {
                    self.ask_peer(world, node, (peer, by), call, Some(seen.clone()), left_ms);
                }
                Some(_) => {
                    self.open(world, node, by, call, Some(seen.clone()), left_ms);
                }
                None => {
                    self.call_anywhere(world, node, by, call, Some(seen.clone()), left_ms);
                }
            }
        }
        Ok(())
    }

    /// A function has dropped a call that it had made.
    fn drop_slot(&mut self, world: &mut World, ix: u64, slot: u64) {
        let by = By::Function { of: ix, slot };
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
            desk.answer(slot, result);
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

/// Polls until it waits for somebody else.
fn poll(future: &mut Running) -> Poll<Said> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut task = TaskContext::from_waker(&waker);
    for _ in 0..POLLS_MAX {
        let polled = future.as_mut().poll(&mut task);
        if polled.is_ready() || !woken.0.swap(false, Ordering::Relaxed) {
            return polled;
        }
    }
    // Its deadline ends it.
    Poll::Pending
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
