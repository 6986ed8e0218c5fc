//! A stream whose function is at another node: what its two ends say to each other, frame by frame.
//!
//! Not here: what carries the frames (`transport`; in a simulation its world), and who opens a stream where (`driver`).
//!
//! Contract: a stream ends with its function's last word, with its caller, or with what carries it; which of them it was the other
//! side knows. A caller that goes away is no caller that has said all.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

use anabranch_crdt::{NodeId, planted};
use bytes::Bytes;

use super::stream::{Ended, Messages, Pipe, Streaming};
use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload};
use crate::session::{Call, strange, unanswered};
use crate::wire::{CallFrame, CallReply, FRAME_BYTES_MAX, Token, WireError, WireValue};

/// Where one end of a stream writes its frames: each comes once and in order, or none from some frame on. Dropped before it is
/// finished, it tells the other end that this is not all.
pub trait FramesOut: Send {
    /// Writes a frame; waits while the other end is far behind.
    ///
    /// # Errors
    /// Nothing that is written from here on arrives: why.
    fn send(&mut self, frame: Bytes) -> impl Future<Output = Result<(), String>> + Send;

    /// That is all.
    fn finish(&mut self);
}

/// Where the other end's frames come. Dropped, it tells that end that nobody reads them.
pub trait FramesIn: Send {
    /// The next frame; `None` where the other end has finished.
    ///
    /// # Errors
    /// Nothing more comes: why.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, String>> + Send;
}

/// Why one side of a stream has nothing more to do.
enum Over {
    /// It has said all.
    Finished,
    /// The other side has not, and will not.
    Cut(String),
}

/// The first frame of a stream: what is asked of a peer.
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is too large for another node. Nothing has changed.
pub fn asked(call: Call, after: &Token, timeout_ms: u64) -> Result<Bytes, Error> {
    let open = CallFrame::Open(call.to_request(0, timeout_ms, Some(after))).encode();
    if open.len() > FRAME_BYTES_MAX {
        let message = format!(
            "nothing changed: a call of {} bytes is too large for another node",
            open.len()
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(open)
}

/// Asks a peer for a stream, and waits until its function begins or is known not to.
///
/// # Errors
/// What the peer says; [`ErrorKind::Unanswered`]: what carries the stream was cut.
pub async fn open(
    peer: NodeId,
    asked: Bytes,
    encoding: Encoding,
    mut out: impl FramesOut + 'static,
    mut input: impl FramesIn + 'static,
) -> Result<Streaming, Error> {
    // What stops it here, what comes says better.
    let _ = out.send(asked).await;
    begin(peer, &mut input).await?;
    Streaming::new(encoding, |pipe| Ok(Box::pin(run_there(peer, out, input, pipe))))
}

async fn begin(peer: NodeId, input: &mut impl FramesIn) -> Result<(), Error> {
    loop {
        match next(peer, input).await? {
            Some(CallFrame::Opened) => return Ok(()),
            Some(CallFrame::Reply(end)) => {
                return Err(end
                    .result
                    .map_or_else(WireError::read, |_| strange(peer, "what it says")));
            }
            None => {}
            Some(_) => return Err(strange(peer, "what it says")),
        }
    }
}

/// What the peer says next; nothing where its kind is of a later version.
async fn next(peer: NodeId, input: &mut impl FramesIn) -> Result<Option<CallFrame>, Error> {
    let frame = input.next().await.map_err(|why| unanswered(peer, &why))?;
    let frame = frame.ok_or_else(|| unanswered(peer, "it broke off"))?;
    CallFrame::decode(&frame).map_err(|_| strange(peer, "what it says"))
}

/// The caller's side of a stream.
async fn run_there(peer: NodeId, mut out: impl FramesOut, mut input: impl FramesIn, pipe: Pipe) -> Ended {
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
        // Nobody there takes them any more: whoever still sends hears of it.
        drop(messages);
        pending::<Ended>().await
    };
    let inward = async {
        let taken = take_replies(peer, &mut input, &mut replies).await;
        taken.unwrap_or_else(|error| {
            let result = planted!("cut_taken_for_the_end", Ok(()), Err(error));
            (result, Token::default())
        })
    };
    first_of(inward, outward).await
}

async fn take_replies(peer: NodeId, input: &mut impl FramesIn, replies: &mut Pipe) -> Result<Ended, Error> {
    loop {
        match next(peer, input).await? {
            Some(CallFrame::Message(value)) => {
                let reply = value.read().ok_or_else(|| strange(peer, "a reply's encoding"))?;
                if replies.reply(reply).await.is_err() {
                    return Ok((Ok(()), Token::default()));
                }
            }
            Some(CallFrame::Reply(end)) => {
                let token = match &end.token {
                    Some(bytes) => Token::from_bytes(bytes).map_err(|_| strange(peer, "what it has seen"))?,
                    None => Token::default(),
                };
                return Ok((end.result.map(|_| ()).map_err(WireError::read), token));
            }
            None => {}
            Some(_) => return Err(strange(peer, "what it says")),
        }
    }
}

/// The function's side of a stream, from its beginning, or from what keeps it from one. `gone`: its caller reads no more.
pub async fn serve(
    opened: Result<Streaming, Error>,
    mut out: impl FramesOut,
    mut input: impl FramesIn,
    gone: impl Future<Output = ()> + Send,
) {
    let (messages, replies) = match opened {
        Ok(streaming) => streaming.split(),
        Err(error) => return send_end(&mut out, Err(error), None).await,
    };
    if out.send(CallFrame::Opened.encode()).await.is_err() {
        return;
    }
    let outward = send_replies(&mut out, replies);
    let ended = async {
        let inward = async {
            match take_messages(&mut input, messages).await {
                // It may have finished, or the function takes no more of what comes: the caller, who may wait for room, is told that.
                Over::Finished => {
                    drop(input);
                    pending().await
                }
                Over::Cut(why) => tracing::debug!(why, "a stream's caller has gone"),
            }
        };
        // Its caller is not there any more: dropped, the function's part in it ends.
        first_of(inward, gone).await;
        planted!("stream_outlives_its_caller", pending::<()>().await, ());
    };
    first_of(outward, ended).await;
}

/// Hands what comes to the function.
async fn take_messages(input: &mut impl FramesIn, mut messages: Messages) -> Over {
    loop {
        let frame = match input.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                messages.finish();
                return Over::Finished;
            }
            Err(why) => return Over::Cut(why),
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

async fn send_replies(out: &mut impl FramesOut, mut replies: Streaming) {
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

async fn send_end(out: &mut impl FramesOut, result: Result<(), Error>, token: Option<&Token>) {
    let nothing = || Payload {
        encoding: Encoding::Postcard,
        bytes: Bytes::new(),
    };
    let end = CallFrame::Reply(CallReply {
        id: 0,
        result: result
            .map(|()| WireValue::of(nothing()))
            .map_err(|error| WireError::of(&error)),
        token: token.map(|token| token.to_bytes().into()),
    });
    if out.send(end.encode()).await.is_ok() {
        out.finish();
    }
}

/// Both at once, until one of them is over. The first is looked at first, so that equal beginnings have equal ends.
async fn first_of<T>(first: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut first, mut other) = (pin!(first), pin!(other));
    poll_fn(|task| match first.as_mut().poll(task) {
        Poll::Ready(ended) => Poll::Ready(ended),
        Poll::Pending => other.as_mut().poll(task),
    })
    .await
}
