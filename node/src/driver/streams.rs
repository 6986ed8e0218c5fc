//! Streaming calls between nodes, each on a stream of its own beside the lanes; and frames of calls that are too large for a lane.
//!
//! Contract: a stream ends with its function's last word, with its caller, or with the link; which of them it was the other side
//! knows. A caller that goes away is no caller that has said all.

use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;

use super::calls::{reply, strange, unanswered};
use super::network::NotOpened;
use super::outgoing::Room;
use super::shared::Shared;
use crate::engine::limits::TIMEOUT_MS_MAX;
use crate::error::{Error, ErrorKind};
use crate::function::{BoxFuture, Ended, Messages, Pipe, Streaming};
use crate::session::Call;
use crate::transport::{CutOff, Stream, StreamIn, StreamOut};
use crate::wire::{CallFrame, CallRequest, FRAME_BYTES_MAX, Lane, Token, WireError, WireValue};

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

/// Why one side of a stream has nothing more to do.
enum Over {
    /// It has said all.
    Finished,
    /// The other side has not, and will not.
    Cut(String),
}

impl From<CutOff> for Over {
    fn from(cut: CutOff) -> Over {
        Over::Cut(cut.to_string())
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
        let mut stream = opened.map_err(|why| match why {
            NotOpened::NoLink => no_link(),
            NotOpened::Full => full(),
        })?;
        let encoding = call.payload.encoding;
        let open = CallFrame::Open(call.to_request(0, timeout_ms, Some(&after))).encode();
        if open.len() > FRAME_BYTES_MAX {
            let message = format!(
                "nothing changed: a call of {} bytes is too large for another node",
                open.len()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        tokio::select! {
            opened = begin(peer, open, &mut stream) => opened?,
            _ = self.stopped() => return Err(unanswered(peer, "this node stopped")),
        }
        Streaming::new(encoding, |pipe| {
            Ok(Box::pin(async move {
                tokio::select! {
                    ended = run_there(peer, stream, pipe) => ended,
                    _ = place.shared.stopped() => (Err(unanswered(peer, "this node stopped")), Token::default()),
                }
            }) as BoxFuture<'static, Ended>)
        })
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

    async fn serve_stream(self: &Arc<Self>, request: CallRequest, mut out: StreamOut, mut input: StreamIn) {
        let gone = out.stopped();
        let timeout_ms = request.timeout_ms.min(TIMEOUT_MS_MAX);
        let opened = match Call::from_request(request) {
            Ok((call, token)) => self.open_aside(call, token.unwrap_or_default(), timeout_ms).await,
            Err(error) => Err(error),
        };
        let (messages, replies) = match opened {
            Ok(streaming) => streaming.split(),
            Err(error) => return send_end(&mut out, Err(error), None).await,
        };
        if out.send(CallFrame::Opened.encode()).await.is_err() {
            return;
        }
        let inward = async {
            match take_messages(&mut input, messages).await {
                Over::Finished => std::future::pending().await,
                Over::Cut(why) => why,
            }
        };
        tokio::select! {
            () = send_replies(&mut out, replies) => {}
            // Its caller is not there any more: dropped, the function's part in it ends.
            () = gone => {}
            why = inward => tracing::debug!(why, "a stream's caller has gone"),
        }
    }
}

/// Hands what comes to the function.
async fn take_messages(input: &mut StreamIn, mut messages: Messages) -> Over {
    loop {
        let frame = match input.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                messages.finish();
                return Over::Finished;
            }
            Err(cut) => return cut.into(),
        };
        let message = match CallFrame::decode(&frame) {
            Ok(Some(CallFrame::Message(value))) => value.read(),
            Ok(None) => continue,
            _ => None,
        };
        let Some(message) = message else {
            return Over::Cut("a frame that is no message".into());
        };
        if messages.send_payload(message).await.is_err() {
            // The function takes no more of them; it may still have something to say.
            return Over::Finished;
        }
    }
}

async fn send_replies(out: &mut StreamOut, mut replies: Streaming) {
    loop {
        match replies.next_payload().await {
            Ok(Some(reply)) => {
                let frame = CallFrame::Message(WireValue::of(reply)).encode();
                if out.send(frame).await.is_err() {
                    return;
                }
            }
            Ok(None) => return send_end(out, Ok(()), Some(replies.token())).await,
            Err(error) => return send_end(out, Err(error), Some(replies.token())).await,
        }
    }
}

async fn send_end(out: &mut StreamOut, result: Result<(), Error>, token: Option<&Token>) {
    let nothing = || crate::payload::Payload {
        encoding: crate::payload::Encoding::Postcard,
        bytes: Bytes::new(),
    };
    let end = CallFrame::Reply(reply(0, result.map(|()| nothing()), token.cloned()));
    if out.send(end.encode()).await.is_ok() {
        out.finish();
    }
}

/// Asks for a stream, and waits until its function begins or is known not to.
async fn begin(peer: NodeId, open: Bytes, stream: &mut Stream) -> Result<(), Error> {
    // What stops it here, what comes says better.
    let _ = stream.out.send(open).await;
    let cut = |why: String| unanswered(peer, &why);
    loop {
        let frame = stream.input.next().await.map_err(|e| cut(e.to_string()))?;
        let frame = frame.ok_or_else(|| cut("it broke off".into()))?;
        match CallFrame::decode(&frame) {
            Ok(Some(CallFrame::Opened)) => return Ok(()),
            Ok(Some(CallFrame::Reply(end))) => {
                return Err(end
                    .result
                    .map_or_else(WireError::read, |_| strange(peer, "what it says")));
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(strange(peer, "what it says")),
        }
    }
}

/// The caller's side of a stream.
async fn run_there(peer: NodeId, stream: Stream, pipe: Pipe) -> Ended {
    let Stream { mut out, mut input } = stream;
    let (mut messages, mut replies) = pipe.split();
    let outward = async {
        while let Some(message) = messages.next().await {
            let frame = CallFrame::Message(WireValue::of(message)).encode();
            // What stops it here, what comes says better.
            if out.send(frame).await.is_err() {
                break;
            }
        }
        out.finish();
        std::future::pending::<Ended>().await
    };
    let inward = async {
        match take_replies(peer, &mut input, &mut replies).await {
            Ok((result, token)) => (result, token),
            Err(error) => (Err(error), Token::default()),
        }
    };
    tokio::select! {
        ended = inward => ended,
        ended = outward => ended,
    }
}

async fn take_replies(peer: NodeId, input: &mut StreamIn, replies: &mut Pipe) -> Result<Ended, Error> {
    loop {
        let cut = |why: String| unanswered(peer, &why);
        let frame = input.next().await.map_err(|e| cut(e.to_string()))?;
        let frame = frame.ok_or_else(|| cut("it broke off".into()))?;
        match CallFrame::decode(&frame) {
            Ok(Some(CallFrame::Message(value))) => {
                let reply = value.read().ok_or_else(|| strange(peer, "a reply's encoding"))?;
                if replies.reply(reply).await.is_err() {
                    return Ok((Ok(()), Token::default()));
                }
            }
            Ok(Some(CallFrame::Reply(end))) => {
                let token = match &end.token {
                    Some(bytes) => Token::from_bytes(bytes).map_err(|_| strange(peer, "what it has seen"))?,
                    None => Token::default(),
                };
                return Ok((end.result.map(|_| ()).map_err(WireError::read), token));
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(strange(peer, "what it says")),
        }
    }
}
