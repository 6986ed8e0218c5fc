//! Streams of functions here that other nodes' callers wait for.

use std::task::Poll;

use anabranch::engine::limits::TIMEOUT_MS_MAX;
use anabranch::wire::CallFrame;
use anabranch::{Call, Error, Streaming, far};
use bytes::Bytes;

use super::super::Apps;
use super::line::{LineIn, LineOut};
use super::{Opener, Who, print_of};
use crate::net::NodeIx;
use crate::world::World;

/// What the function's side of a stream has said.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Its replies.
    pub replies: Vec<u64>,
    /// Whether it ended well, once it has ended.
    pub ended: Option<bool>,
}

impl Log {
    pub fn note(&mut self, frame: &Bytes) {
        match CallFrame::decode(frame) {
            Ok(Some(CallFrame::Message(value))) => self.replies.push(print_of(&value.bytes)),
            Ok(Some(CallFrame::Reply(end))) => self.ended = Some(end.result.is_ok()),
            _ => {}
        }
    }
}

impl Apps {
    /// Another node has opened a stream.
    pub(super) fn serve_stream(
        &mut self,
        world: &mut World,
        node: NodeIx,
        from: (NodeIx, u64),
        stream: u64,
        frame: &Bytes,
    ) {
        // Of one that was open before, the rest may still come.
        let Ok(Some(CallFrame::Open(request))) = CallFrame::decode(frame) else {
            return;
        };
        world.tell(|| {
            format!(
                "n{node} <- n{} opens a stream of {} of {}/{}",
                from.0, request.method, request.kind, request.key
            )
        });
        let (out, input) = self.streams.lines.make((node, stream), from, true);
        let read = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        input.has_read(read);
        let timeout_ms = request.timeout_ms.min(TIMEOUT_MS_MAX);
        match Call::from_request(request) {
            Ok((call, token)) => {
                let opener = Opener::Peer { stream, out, input };
                let own = world.hosts[node].id;
                let after = token.unwrap_or_default();
                self.open_stream(world, node, Some(own), opener, call, after, timeout_ms);
            }
            Err(error) => self.begin_serving(node, stream, Err(error), (out, input)),
        }
    }

    /// The function begins, or is known not to.
    pub(super) fn begin_serving(
        &mut self,
        node: NodeIx,
        stream: u64,
        opened: Result<Streaming, Error>,
        (out, input): (LineOut, LineIn),
    ) {
        let gone = out.stopped();
        let serving = Box::pin(far::serve(opened, out, input, gone));
        self.streams.served.insert((node, stream), serving);
        self.streams.bells.ring(Who::Served(stream));
    }

    pub(super) fn poll_served(&mut self, node: NodeIx, stream: u64) {
        let place = (node, stream);
        let Some(serving) = self.streams.served.get_mut(&place) else {
            return;
        };
        if let Poll::Ready(()) = self.streams.bells.poll(serving.as_mut(), Who::Served(stream)) {
            self.streams.served.remove(&place);
        }
    }
}
