//! What an application's part of the world hears: events of its own, and what the rest of the world has for it.

use anabranch::engine::Time;
use anabranch::{Answer, EntityId, Error};
use bytes::Bytes;

use super::CallIx;
use super::streams::Who;
use crate::net::NodeIx;
use crate::queue::Micros;

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A client asks.
    Client { client: usize },
    /// A client goes away, if it still waits for this call.
    Leaves { client: usize, call: CallIx },
    /// A call that found its node standing still.
    Arrives { node: NodeIx, call: CallIx },
    /// A function has done with a command.
    Ran { node: NodeIx, call: CallIx },
    /// A session asked to be woken.
    Session {
        node: NodeIx,
        lives: u64,
        entity: EntityId,
        at: Time,
    },
    /// Another node has not answered.
    Overdue { node: NodeIx, id: u64 },
    /// Who was to be polled at a node that stood still.
    Rings { node: NodeIx, who: Who },
    /// A stream's function makes a step.
    Steps { node: NodeIx, number: u64 },
    /// A stream's function has made its last step.
    Ends { node: NodeIx, number: u64 },
    /// A client waits for a stream's next reply.
    Takes { node: NodeIx, number: u64 },
    /// A client sends a stream's next message.
    Sends { node: NodeIx, number: u64 },
    /// A node looks whether it has anything to see to.
    Look { node: NodeIx, lives: u64, at: Micros },
}

/// What the rest of the world has for an application.
#[derive(Debug)]
pub(in crate::world) enum News {
    Event(Event),
    /// An engine has answered.
    Done {
        node: NodeIx,
        request: u64,
        result: Result<Answer, Error>,
    },
    /// A frame on the lane of calls.
    Frame {
        node: NodeIx,
        from: NodeIx,
        epoch: u64,
        bytes: Bytes,
    },
    /// What one end of a stream beside the lanes has said.
    Line {
        node: NodeIx,
        from: NodeIx,
        epoch: u64,
        bytes: Bytes,
    },
    /// An entity shows something else at a node.
    Changed {
        node: NodeIx,
        entity: EntityId,
    },
    /// A node has a link with another.
    Linked(NodeIx),
    /// A node's link with another is gone, or all its links.
    Unlinked {
        node: NodeIx,
        peer: Option<NodeIx>,
    },
    Started(NodeIx),
    Stopped(NodeIx),
    /// A process stood still, and goes on.
    Resumed(NodeIx),
}

impl News {
    /// The process that it is for: one that stands still hears it later, and one that is not there never.
    pub(super) fn of_process(&self) -> Option<NodeIx> {
        match self {
            News::Event(
                Event::Arrives { node, .. }
                | Event::Ran { node, .. }
                | Event::Session { node, .. }
                | Event::Overdue { node, .. }
                | Event::Rings { node, .. }
                | Event::Steps { node, .. }
                | Event::Ends { node, .. }
                | Event::Takes { node, .. }
                | Event::Sends { node, .. }
                | Event::Look { node, .. },
            )
            | News::Line { node, .. }
            | News::Changed { node, .. }
            | News::Linked(node)
            | News::Done { node, .. }
            | News::Frame { node, .. }
            | News::Unlinked { node, .. } => Some(*node),
            News::Event(Event::Client { .. } | Event::Leaves { .. }) => None,
            News::Started(_) | News::Stopped(_) | News::Resumed(_) => None,
        }
    }
}

impl Event {
    /// Its content, for the trace hash.
    pub(in crate::world) fn number(&self) -> u64 {
        match self {
            Event::Client { client } => *client as u64,
            Event::Leaves { call, .. } => 1 << 28 | call,
            Event::Arrives { call, .. } => 2 << 28 | call,
            Event::Ran { call, .. } => 3 << 28 | call,
            Event::Session { node, .. } => 4 << 28 | *node as u64,
            Event::Overdue { id, .. } => 5 << 28 | id,
            Event::Look { node, .. } => 6 << 28 | *node as u64,
            Event::Rings { node, .. } => 7 << 28 | *node as u64,
            Event::Steps { number, .. } => 8 << 28 | number,
            Event::Ends { number, .. } => 11 << 28 | number,
            Event::Takes { number, .. } => 9 << 28 | number,
            Event::Sends { number, .. } => 10 << 28 | number,
        }
    }
}
