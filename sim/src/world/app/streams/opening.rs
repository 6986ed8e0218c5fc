//! Streams that are to be opened: here, at another node, or at whichever has the function.

use std::pin::pin;
use std::task::Poll;

use anabranch::engine::limits::TIMEOUT_MS_MAX;
use anabranch::engine::{Input as EngineInput, Read, RequestId, Time};
use anabranch::session::route;
use anabranch::{BoxFuture, Call, Error, ErrorKind, NodeId, Streaming, Token, far};

use super::super::calling::{For, Stage};
use super::super::checks::has;
use super::super::desk::Answer;
use super::super::{Apps, Step};
use super::line::{LineIn, LineOut};
use super::{Place, Who};
use crate::net::NodeIx;
use crate::world::World;

/// Who wants it.
#[derive(Debug)]
pub(in crate::world::app) enum Opener {
    /// What a client takes.
    Client(u64),
    /// Another node, which has this end of it.
    Peer {
        stream: u64,
        out: LineOut,
        input: LineIn,
    },
    /// A command that runs.
    Call { of: u64, slot: u64 },
    /// A stream's function.
    Stream { of: u64, slot: u64 },
}

impl Opener {
    /// Whether it is the same that waits for this.
    fn is(&self, other: &Opener) -> bool {
        match (self, other) {
            (Opener::Client(a), Opener::Client(b)) => a == b,
            (Opener::Call { of, slot }, Opener::Call { of: other, slot: s })
            | (Opener::Stream { of, slot }, Opener::Stream { of: other, slot: s }) => {
                (of, slot) == (other, s)
            }
            _ => false,
        }
    }
}

/// One that is not open yet.
pub(super) struct Opening {
    pub node: NodeIx,
    opener: Opener,
    call: Call,
    after: Token,
    deadline: Time,
    /// Where it may be opened, if that is not said.
    route: Option<route::Opening>,
    /// Another node is asked.
    asking: Option<BoxFuture<'static, Result<Streaming, Error>>>,
    /// The stream with it.
    line: Option<u64>,
}

impl Apps {
    /// Opens a stream of an entity's function, at a certain node or at whichever has it.
    #[expect(clippy::too_many_arguments, reason = "all that a stream is asked for with")]
    pub(in crate::world::app) fn open_stream(
        &mut self,
        world: &mut World,
        node: NodeIx,
        on: Option<NodeId>,
        opener: Opener,
        call: Call,
        after: Token,
        timeout_ms: u64,
    ) {
        let number = self.number();
        let is_here = has(&self.functions[node], &call);
        let (on, route) = match on {
            None if is_here => (Some(world.hosts[node].id), None),
            None => (None, Some(route::Opening::new(world.nearest(node, number)))),
            Some(on) => (Some(on), None),
        };
        let opening = Opening {
            node,
            opener,
            call,
            after,
            deadline: Time(world.kernel.now()).after_ms(timeout_ms),
            route,
            asking: None,
            line: None,
        };
        self.streams.openings.insert(number, opening);
        match on {
            Some(on) => self.open_on(world, number, on),
            None => self.open_next(world, number),
        }
    }

    /// Asks the next node, or says that nobody opens it.
    fn open_next(&mut self, world: &mut World, number: u64) {
        let Some(opening) = self.streams.openings.get_mut(&number) else {
            return;
        };
        let Some(route) = &mut opening.route else {
            return;
        };
        if let Some(next) = route.next_node() {
            return self.open_on(world, number, next);
        }
        let function = self.functions[opening.node].get(opening.call.entity.kind());
        let here = function.map(|function| function.methods().map(str::to_owned).collect());
        if let Some(route) = opening.route.take() {
            let error = route.over(&opening.call, here);
            self.on_opened(world, number, Err(error));
        }
    }

    fn open_on(&mut self, world: &mut World, number: u64, on: NodeId) {
        let Some(opening) = self.streams.openings.get(&number) else {
            return;
        };
        let (node, left_ms) = (opening.node, Time(world.kernel.now()).ms_until(opening.deadline));
        if on != world.hosts[node].id {
            if let Err(error) = self.ask_for_stream(world, number, on, left_ms) {
                self.on_opened(world, number, Err(error));
            }
            return;
        }
        if opening.after.is_empty() {
            return self.open_here(world, number);
        }
        let read = Read {
            entities: vec![opening.call.entity.clone()],
            all: false,
            after: opening.after.clone(),
            majority: false,
            timeout_ms: left_ms,
        };
        let request = world.number_request();
        self.requests.insert(request, (node, For::Open(number)));
        self.agenda.push_back(super::super::Todo::Read {
            node,
            request: RequestId(request),
            read,
        });
    }

    /// All that its session has seen is here, or is not.
    pub(in crate::world::app) fn on_open_read(
        &mut self,
        world: &mut World,
        number: u64,
        read: Result<(), Error>,
    ) {
        match read {
            Ok(()) => self.open_here(world, number),
            Err(error) => self.on_opened(world, number, Err(error)),
        }
    }

    fn open_here(&mut self, world: &mut World, number: u64) {
        let Some(opening) = self.streams.openings.get(&number) else {
            return;
        };
        let (node, call, after) = (opening.node, opening.call.clone(), opening.after.clone());
        let opened = self.begin_stream(world, node, call, after);
        self.on_opened(world, number, opened);
    }

    /// Asks another node for it.
    fn ask_for_stream(
        &mut self,
        world: &mut World,
        number: u64,
        peer: NodeId,
        left_ms: u64,
    ) -> Result<(), Error> {
        let stream = self.number();
        let Some(opening) = self.streams.openings.get_mut(&number) else {
            return Ok(());
        };
        let (node, call) = (opening.node, opening.call.clone());
        call.check()?;
        let life = world.hosts[node].life.as_ref();
        let linked = life.and_then(|life| life.engine.linked_epoch(peer));
        let Some((to, epoch)) = world.find(peer).zip(linked) else {
            let message = format!("nothing changed: there is no link with node {peer}");
            return Err(Error::new(ErrorKind::Unreachable, message));
        };
        let Some(place) = Place::take(&self.streams.places, (node, to)) else {
            let message =
                format!("nothing changed: as many streams to node {peer} are open as it takes; retry later");
            return Err(Error::new(ErrorKind::Overloaded, message));
        };
        let encoding = call.payload.encoding;
        let asked = far::asked(call, &opening.after, left_ms.min(TIMEOUT_MS_MAX))?;
        let (out, input) = self.streams.lines.make((node, stream), (to, epoch.0), false);
        self.counts.remote += 1;
        opening.line = Some(stream);
        opening.asking = Some(Box::pin(async move {
            let streaming = far::open(peer, asked, encoding, out, input).await?;
            Ok(streaming.map(|run| {
                Box::pin(async move {
                    let _place = place;
                    run.await
                })
            }))
        }));
        self.streams.bells.ring(Who::Opening(number));
        Ok(())
    }

    pub(super) fn poll_opening(&mut self, world: &mut World, number: u64) {
        let Some(opening) = self.streams.openings.get_mut(&number) else {
            return;
        };
        let Some(asking) = &mut opening.asking else {
            return;
        };
        if let Poll::Ready(opened) = self.streams.bells.poll(pin!(asking), Who::Opening(number)) {
            opening.asking = None;
            self.on_opened(world, number, opened);
        }
    }

    /// It is open, or will not be at that node.
    fn on_opened(&mut self, world: &mut World, number: u64, mut opened: Result<Streaming, Error>) {
        let Some(opening) = self.streams.openings.get_mut(&number) else {
            return;
        };
        if let Some(route) = &mut opening.route {
            opened = match route.heard(opened) {
                Some(opened) => opened,
                None => return self.open_next(world, number),
            };
        }
        let Some(opening) = self.streams.openings.remove(&number) else {
            return;
        };
        let line = opening.line;
        match opening.opener {
            Opener::Client(taking) => self.on_client_opened(taking, opened, line),
            Opener::Peer { stream, out, input } => {
                self.begin_serving(opening.node, stream, opened, (out, input))
            }
            Opener::Call { of, slot } => {
                if let Some(Stage::Running(run)) = self.callings.get(&of).map(|calling| &calling.stage) {
                    run.answer(slot, Answer::Opened(opened));
                }
            }
            Opener::Stream { of, slot } => self.on_stream_opened(of, slot, opened),
        }
    }

    /// Nobody wants it any more.
    pub(in crate::world::app) fn cancel_opening(&mut self, opener: &Opener) {
        self.streams
            .openings
            .retain(|_, opening| !opening.opener.is(opener));
    }

    /// A command that wanted some is over.
    pub(in crate::world::app) fn cancel_openings_of(&mut self, call: u64) {
        let is_its = |opener: &Opener| matches!(opener, Opener::Call { of, .. } if *of == call);
        self.streams
            .openings
            .retain(|_, opening| !is_its(&opening.opener));
    }

    /// How many are not open yet.
    pub(in crate::world::app) fn openings(&self) -> usize {
        self.streams.openings.len()
    }

    pub(in crate::world::app) fn read_for_stream(
        &mut self,
        world: &mut World,
        node: NodeIx,
        request: RequestId,
        read: Read,
    ) -> Step {
        world.ask_engine(node, EngineInput::Read { request, read })
    }
}
