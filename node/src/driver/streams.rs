//! Streaming calls between nodes, each on a stream of its own beside the lanes; and frames of calls that are too large for a lane.
//!
//! Not here: what the two ends of a stream say to each other (`function::far`).

use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;

use super::network::NotOpened;
use super::outgoing::Room;
use super::shared::Shared;
use crate::engine::limits::TIMEOUT_MS_MAX;
use crate::error::{Error, ErrorKind};
use crate::function::Streaming;
use crate::function::far::{self, FramesIn, FramesOut};
use crate::session::{Call, unanswered};
use crate::transport::{Stream, StreamIn, StreamOut};
use crate::wire::{CallFrame, CallRequest, Lane, Token};

/// A frame of a call larger than this does not hold up the others on the lane.
pub(super) const LANE_FRAME_BYTES_MAX: usize = 16 << 10;

/// The place of a streaming call among those that are open at a peer.
struct Place {
    shared: Arc<Shared>,
    peer: NodeId,
}

impl Place {
    fn take(shared: &Arc<Shared>, peer: NodeId) -> Option<Place> {
        let shared = Arc::clone(shared);
        let has_place = shared.calls.stream_place(peer);
        has_place.then(|| Place { shared, peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.calls.give_stream_place_back(self.peer);
    }
}

impl FramesOut for StreamOut {
    async fn send(&mut self, frame: Bytes) -> Result<(), String> {
        StreamOut::send(self, frame).await.map_err(|cut| cut.to_string())
    }

    fn finish(&mut self) {
        StreamOut::finish(self);
    }
}

impl FramesIn for StreamIn {
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        StreamIn::next(self).await.map_err(|cut| cut.to_string())
    }
}

impl Shared {
    /// Opens a stream of an entity's function at another node.
    pub(crate) async fn open_on(
        self: &Arc<Self>,
        peer: NodeId,
        call: Call,
        after: Token,
        timeout_ms: u64,
    ) -> Result<Streaming, Error> {
        if peer == self.about.node {
            return self.open(call, after, timeout_ms).await;
        }
        call.check()?;
        let timeout_ms = timeout_ms.min(TIMEOUT_MS_MAX);
        let no_link = || {
            let message = format!("nothing changed: there is no link with node {peer}");
            Error::new(ErrorKind::Unreachable, message)
        };
        let epoch = self
            .peek(|engine| engine.linked_epoch(peer))
            .ok_or_else(no_link)?;
        let full = || {
            let message =
                format!("nothing changed: as many streams to node {peer} are open as it takes; retry later");
            Error::new(ErrorKind::Overloaded, message)
        };
        let place = Place::take(self, peer).ok_or_else(full)?;
        let within = Duration::from_millis(timeout_ms);
        let opened = self.network().open_stream(peer, epoch, within).await;
        let Stream { out, input } = opened.map_err(|why| match why {
            NotOpened::NoLink => no_link(),
            NotOpened::Full => full(),
        })?;
        let encoding = call.payload.encoding;
        let asked = far::asked(call, &after, timeout_ms)?;
        let streaming = tokio::select! {
            opened = far::open(peer, asked, encoding, out, input) => opened?,
            _ = self.stopped() => return Err(unanswered(peer, "this node stopped")),
        };
        Ok(streaming.map(|run| {
            Box::pin(async move {
                tokio::select! {
                    ended = run => ended,
                    _ = place.shared.stopped() => (Err(unanswered(peer, "this node stopped")), Token::default()),
                }
            })
        }))
    }

    /// Sends a frame of a call over the link: on the lane of calls, or on a stream of its own where it is large. There is room
    /// for it. What has to wait for a stream longer than this is not sent: nobody waits for it any more.
    pub(super) fn send_call(&self, peer: NodeId, epoch: Epoch, frame: Bytes, room: Room, within: Duration) {
        if frame.len() <= LANE_FRAME_BYTES_MAX {
            return self.send_at_once(peer, epoch, frame, room);
        }
        let opening = self.network().open_stream(peer, epoch, within);
        self.network().spawn(Box::pin(async move {
            // Where the link is gone, so is whoever waits for this.
            if let Ok(Stream { mut out, .. }) = opening.await
                && out.send(frame).await.is_ok()
            {
                out.finish();
                out.stopped().await;
            }
            drop(room);
        }));
    }

    /// The same on the lane of calls.
    pub(super) fn send_at_once(&self, peer: NodeId, epoch: Epoch, frame: Bytes, room: Room) {
        if self.network().send(peer, epoch, Lane::Calls, frame) {
            room.handed_over();
        }
    }

    /// A peer has opened a stream.
    pub(super) fn on_stream(self: &Arc<Self>, peer: NodeId, epoch: Epoch, stream: Stream) {
        let shared = Arc::clone(self);
        self.network().spawn(Box::pin(async move {
            let Stream { out, mut input } = stream;
            // What is cut off here was never asked.
            let Ok(Some(frame)) = input.next().await else {
                return;
            };
            match CallFrame::decode(&frame) {
                Ok(Some(CallFrame::Open(request))) => shared.serve_stream(request, out, input).await,
                _ => shared.on_call_frame(peer, epoch, &frame),
            }
        }));
    }

    async fn serve_stream(self: &Arc<Self>, request: CallRequest, out: StreamOut, input: StreamIn) {
        let gone = out.stopped();
        let timeout_ms = request.timeout_ms.min(TIMEOUT_MS_MAX);
        let opened = match Call::from_request(request) {
            Ok((call, token)) => self.open_aside(call, token.unwrap_or_default(), timeout_ms).await,
            Err(error) => Err(error),
        };
        far::serve(opened, out, input, gone).await;
    }
}
