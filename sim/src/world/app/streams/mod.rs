//! Streams of an application: what the driver does with them in production (`driver::functions::stream`, `driver::streams`), in
//! virtual time.
//!
//! Not here: what a stream's function is, and what its two ends say to each other: both are production's (`Function::open`, `far`).
//! Contract: a stream ends with its function, its caller, its node or its link, and then its function is there no more.

mod bell;
mod client;
mod host;
mod line;
mod opening;
mod serving;
mod steps;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch::{BoxFuture, EntityId};
use bytes::Bytes;

use super::{Apps, Event, Step};
use crate::hash::TraceHash;
use crate::net::NodeIx;
use crate::world::World;

use bell::Bells;
pub(super) use bell::Who;
pub(crate) use client::Stands;
pub(super) use client::{Taking, has_left};
use line::{Does, Lines};
pub(super) use opening::Opener;
use opening::Opening;
use serving::Log;
pub(super) use steps::Running;

/// As in production: streams that are open at one peer, at most.
const OPEN_MAX: usize = 48;

/// All streams of all nodes.
#[derive(Default)]
pub(super) struct Streams {
    pub bells: Bells,
    lines: Lines,
    openings: BTreeMap<u64, Opening>,
    /// Functions that run.
    pub running: BTreeMap<u64, Running>,
    /// The functions' sides of streams with other nodes, by node and stream.
    served: BTreeMap<(NodeIx, u64), BoxFuture<'static, ()>>,
    /// What was said on streams between nodes.
    logs: BTreeMap<u64, Log>,
    /// Those of clients.
    pub taking: BTreeMap<u64, Taking>,
    places: Arc<Mutex<Places>>,
}

/// How many streams a node has open at each other one.
type Places = BTreeMap<(NodeIx, NodeIx), usize>;

/// The place of one of them.
struct Place {
    places: Arc<Mutex<Places>>,
    of: (NodeIx, NodeIx),
}

impl Place {
    fn take(places: &Arc<Mutex<Places>>, of: (NodeIx, NodeIx)) -> Option<Place> {
        let mut taken = places.lock().unwrap_or_else(PoisonError::into_inner);
        let open = taken.entry(of).or_default();
        if *open >= OPEN_MAX {
            return None;
        }
        *open += 1;
        drop(taken);
        let places = Arc::clone(places);
        Some(Place { places, of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = taken.get_mut(&self.of) {
            *open -= 1;
            if *open == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

impl Streams {
    /// How many functions of a node answer with streams now.
    pub fn at(&self, node: NodeIx) -> usize {
        self.running
            .values()
            .filter(|running| running.node == node)
            .count()
    }

    /// What is open although nobody waits for it, if anything is: where clients have none open, and no command runs.
    pub fn left_over(&self) -> Option<String> {
        let running = self.running.values().next();
        let running = running.map(|of| format!("n{} runs {} for nobody", of.node, of.name));
        let served = || {
            self.served
                .keys()
                .next()
                .map(|(node, _)| format!("n{node} serves a stream of nobody"))
        };
        let places = || {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let ((node, peer), open) = places.first_key_value()?;
            Some(format!("n{node} takes {open} streams at n{peer} for open"))
        };
        running.or_else(served).or_else(places)
    }

    /// What has ended at one of its ends, and the other does not know yet.
    pub fn ending(&self) -> Option<String> {
        let mut dropped = self.running.values().filter(|running| running.is_dropped());
        let dropped = dropped
            .next()
            .map(|of| format!("n{} is to end {}", of.node, of.name));
        dropped.or_else(|| self.lines.half_open())
    }

    /// Which node has the function of a stream between nodes.
    fn serving_node(&self, stream: u64) -> Option<NodeIx> {
        let mut served = self.served.keys();
        served.find(|(_, of)| *of == stream).map(|(node, _)| *node)
    }

    /// A node has died.
    fn on_stopped(&mut self, node: NodeIx) -> Vec<usize> {
        self.lines.on_stopped(node);
        self.openings.retain(|_, opening| opening.node != node);
        self.served.retain(|(of, _), _| *of != node);
        let clients = self.taking.extract_if(.., |_, taking| taking.node == node);
        let clients = clients.map(|(_, taking)| taking.client).collect();
        self.running.retain(|_, running| running.node != node);
        clients
    }
}

impl Apps {
    /// Somebody wants to be polled.
    pub(super) fn on_bell(&mut self, world: &mut World, who: Who) -> Step {
        let node = match who {
            Who::Call(ix) => self.callings.get(&ix).map(|calling| calling.node),
            Who::Opening(ix) => self.streams.openings.get(&ix).map(|opening| opening.node),
            Who::Served(stream) => self.streams.serving_node(stream),
            Who::Taker(ix) | Who::Sender(ix) => self.streams.taking.get(&ix).map(|taking| taking.node),
            Who::Function(ix) => self.streams.running.get(&ix).map(|running| running.node),
        };
        let Some(node) = node else {
            return Ok(());
        };
        if world.is_still(node) {
            let event = Event::Rings { node, who };
            self.held.push((node, super::News::Event(event)));
            return Ok(());
        }
        match who {
            Who::Call(ix) => return self.poll(world, ix),
            Who::Opening(ix) => self.poll_opening(world, ix),
            Who::Served(stream) => self.poll_served(node, stream),
            Who::Taker(ix) => return self.poll_taker(world, ix),
            Who::Sender(ix) => self.poll_sender(world, ix),
            Who::Function(ix) => self.plan_step(world, ix),
        }
        Ok(())
    }

    /// Sends what one end of a stream has said; whether there was anything.
    pub(super) fn send_line(&mut self, world: &mut World) -> bool {
        let lines = &mut self.streams.lines;
        let Some((node, stream, does)) = lines.outbox.next() else {
            return false;
        };
        match (does, lines.end(node, stream)) {
            (Does::Drops, _) => lines.drop_half(node, stream),
            (Does::Says(signal), Some(end)) => {
                if let line::Signal::Data(frame) = &signal
                    && end.serves
                {
                    self.streams.logs.entry(stream).or_default().note(frame);
                }
                world.send_on_stream((node, end.peer, end.epoch), signal.encode(stream));
            }
            // It died before it could.
            (Does::Says(_), None) => {}
        }
        true
    }

    /// What one end of a stream has said comes to the other.
    pub(super) fn on_line(
        &mut self,
        world: &mut World,
        node: NodeIx,
        (from, epoch): (NodeIx, u64),
        bytes: &Bytes,
    ) {
        let Some((stream, signal)) = line::Signal::decode(bytes) else {
            return;
        };
        let first = match &signal {
            line::Signal::Data(frame) => Some(frame.clone()),
            _ => None,
        };
        if !self.streams.lines.hear(node, from, stream, signal)
            && let Some(frame) = first
        {
            self.serve_stream(world, node, (from, epoch), stream, &frame);
        }
    }

    /// An entity has changed at a node, or who is there has.
    pub(super) fn wake_streams(&self, node: NodeIx, changed: Option<&EntityId>) {
        for running in self
            .streams
            .running
            .values()
            .filter(|running| running.node == node)
        {
            match changed {
                Some(entity) if *entity == running.entity => running.room.change(),
                Some(_) => {}
                None => running.room.change_live(),
            }
        }
    }

    /// A node has lost its link with a peer, or all its links.
    pub(super) fn cut_streams(&mut self, node: NodeIx, peer: Option<NodeIx>) {
        self.streams.lines.on_unlinked(node, peer);
    }

    /// A node has died: its clients hear of it.
    pub(super) fn stop_streams(&mut self, node: NodeIx) {
        for client in self.streams.on_stopped(node) {
            self.tell_of_death(node, super::By::Client(client), Default::default());
        }
    }
}

/// A reply, for comparison.
fn print_of(bytes: &[u8]) -> u64 {
    let mut hash = TraceHash::default();
    hash.absorb_bytes(bytes);
    hash.value()
}
