//! Functions that answer with streams, step by step.

use std::sync::Arc;

use anabranch::engine::{Time, View};
use anabranch::session::Command;
use anabranch::{
    BoxFuture, Call, Ended, EntityId, Error, ErrorKind, Host, Payload, Streaming, TIMEOUT_MS_DEFAULT, Token,
    Type,
};

use super::super::desk::{Answer, Desk};
use super::super::effects::Chain;
use super::super::running::Waits;
use super::super::{Apps, Event, Todo};
use super::host::{Aside, AtStream, Room, Tie};
use crate::net::NodeIx;
use crate::rng::Rng;
use crate::world::World;

/// A step takes so long to begin at least and at most, microseconds.
const STEP_US: (f64, f64) = (1.0, 3_000.0);
/// The last step of one that nobody waits for any more takes so long, with the calls that it makes.
const LAST_STEP_US: (f64, f64) = (1.0, 50_000.0);

/// A function that answers with a stream.
pub(in crate::world::app) struct Running {
    pub node: NodeIx,
    /// What it was called for.
    pub name: String,
    pub entity: EntityId,
    pub room: Arc<Room>,
    ty: Type,
    desk: Arc<Desk>,
    tie: Arc<Tie>,
    future: BoxFuture<'static, Ended>,
    /// What it has seen by the calls that it made.
    seen: Token,
}

impl Running {
    /// Whether nobody waits for it any more.
    pub fn is_dropped(&self) -> bool {
        self.tie.is_dropped()
    }
}

impl Apps {
    /// Begins a stream of a function that is here; what its caller's session has seen is here, too.
    pub(super) fn begin_stream(
        &mut self,
        world: &World,
        node: NodeIx,
        call: Call,
        after: Token,
    ) -> Result<Streaming, Error> {
        let number = self.number();
        let function = self.functions[node].get(call.entity.kind());
        let Some(function) = function.map(Arc::clone) else {
            let message = format!(
                "nothing changed: there is no function of kind {:?}",
                call.entity.kind()
            );
            return Err(Error::new(ErrorKind::NoFunction, message));
        };
        call.check()?;
        let (room, desk) = (Arc::new(Room::default()), Arc::new(Desk::default()));
        let context = world.context(node, &call.entity, number);
        let context = context.with_nodes(Arc::clone(&room) as _);
        let (name, entity) = (call.to_string(), call.entity.clone());
        let command = Command {
            method: call.method,
            payload: call.payload,
            deadline: Time(u64::MAX),
            origin: call.origin,
        };
        let host: Arc<dyn Host> = Arc::new(AtStream::new(&room, &desk));
        let streaming = function.open(command, context, host)?;
        let tie = Tie::new(number, &self.streams.bells);
        let mut future = None;
        let streaming = streaming.map(|run| {
            future = Some(run);
            Box::pin(Aside(Arc::clone(&tie)))
        });
        let Some(future) = future else {
            unreachable!("a stream that was just opened runs");
        };
        let running = Running {
            node,
            name,
            entity,
            room,
            ty: function.ty(),
            desk,
            tie,
            future,
            seen: after,
        };
        self.counts.streams += 1;
        self.streams.running.insert(number, running);
        Ok(streaming)
    }

    /// A function is to make a step, soon; or nobody waits for it any more.
    pub(super) fn plan_step(&mut self, world: &mut World, number: u64) {
        let Some(running) = self.streams.running.get(&number) else {
            return;
        };
        if running.tie.is_planned() {
            let (node, now) = (running.node, world.kernel.now());
            let mut rng = Rng::stream(world.plan.seed, "step", number, now);
            let wait = rng.log_uniform(STEP_US.0, STEP_US.1) as u64;
            world.plan_event(wait, Event::Steps { node, number });
        } else if running.tie.is_dropped() {
            self.end_stream(world, number);
        }
    }

    /// It makes it.
    pub(in crate::world::app) fn on_step(&mut self, world: &mut World, number: u64) {
        let Some(running) = self.streams.running.get_mut(&number) else {
            return;
        };
        let node = running.node;
        let Some(life) = &world.hosts[node].life else {
            return;
        };
        let view: Result<View, Error> = life.engine.view(&running.entity, running.ty);
        let wall_ms = world.hosts[node].wall_ms(world.kernel.now());
        running.room.enter(view, wall_ms, world.linked_runs(node));
        running.desk.set_peers(world.peers(node));
        let polled = running.tie.step(running.future.as_mut());
        running.room.leave();
        if let std::task::Poll::Ready((result, _)) = polled {
            let token = life.engine.token(&running.seen, [&running.entity]);
            running.tie.end((result, token));
            return self.end_stream(world, number);
        }
        let is_dropped = running.tie.is_dropped();
        let calls = self.make_calls(world, number);
        if is_dropped && calls == 0 {
            self.end_stream(world, number);
        } else if is_dropped {
            // In production calls that wait for nobody are made within the step.
            let mut rng = Rng::stream(world.plan.seed, "last step", number, world.kernel.now());
            let wait = rng.log_uniform(LAST_STEP_US.0, LAST_STEP_US.1) as u64;
            world.plan_event(wait, Event::Ends { node, number });
        }
    }

    /// Makes the calls that it has begun since, and withdraws those that it does not wait for any more.
    fn make_calls(&mut self, world: &mut World, number: u64) -> usize {
        let Some(running) = self.streams.running.get(&number) else {
            return 0;
        };
        let (node, seen) = (running.node, running.seen.clone());
        let (wanted, dropped) = running.desk.take();
        let calls = wanted.len();
        let waits = Waits::Stream(number);
        self.drop_calls(world, waits, dropped);
        self.make_wanted(world, node, waits, wanted, &seen, TIMEOUT_MS_DEFAULT);
        calls
    }

    /// A call of its was answered.
    pub(in crate::world::app) fn on_stream_heard(
        &mut self,
        number: u64,
        slot: u64,
        result: Result<Payload, Error>,
        seen: Option<&Token>,
    ) {
        if let Some(running) = self.streams.running.get_mut(&number) {
            if let Some(seen) = seen {
                running.seen.join(seen);
            }
            running.desk.answer(slot, Answer::Reply(result));
        }
    }

    pub(super) fn on_stream_opened(&mut self, number: u64, slot: u64, opened: Result<Streaming, Error>) {
        if let Some(running) = self.streams.running.get(&number) {
            running.desk.answer(slot, Answer::Opened(opened));
        }
    }

    /// A function has ended, or nobody waits for it any more: what it waits for is withdrawn, and what it wanted called then is.
    pub(in crate::world::app) fn end_stream(&mut self, world: &mut World, number: u64) {
        let Some(running) = self.streams.running.remove(&number) else {
            return;
        };
        let Running {
            node,
            name,
            room,
            desk,
            future,
            ..
        } = running;
        world.tell(|| format!("n{node} the stream of {name} is over"));
        drop(future);
        let (_, dropped) = desk.take();
        self.drop_calls(world, Waits::Stream(number), dropped);
        let calls = room.take_at_end();
        if !calls.is_empty() {
            let chain = self.number();
            let rest = calls.into();
            self.chains.insert(chain, Chain { node, rest });
            self.agenda.push_back(Todo::NextLater(chain));
        }
    }
}
