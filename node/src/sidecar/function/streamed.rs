//! Streams of actions: messages in, replies out, in the three shapes that are no single call.
//!
//! Contract: what comes from either side is passed on in order; a caller that goes away breaks the function's stream off, so that it is
//! not taken for one that has said all, unless he has, and it owes him one answer; the end of the function's is the caller's, with the same status.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstEncoder;

use super::{Function, lost, said};
use crate::error::Error;
use crate::function::{Caller, Foreign, Pipe};
use crate::payload::{Encoding, Payload};
use crate::session::{Action, Command};
use crate::sidecar::connection::{Room, Stay, gone, to_its_end};
use crate::sidecar::envelope::Envelope;
use crate::sidecar::proto::action::{ActionCommand, ActionResponse};
use crate::sidecar::read::{Messages as Codes, ReadingDecoder};
use crate::sidecar::services::Method;

/// So many messages may wait for the connection.
const OUT_MAX: usize = 16;

type Messages = Codes<ActionCommand, ActionResponse>;

/// One stream.
pub(super) struct Streamed {
    pub function: Function,
    pub command: Command,
    /// How its caller wants replies.
    pub wants: Encoding,
    pub calls: Arc<dyn Caller>,
}

impl Streamed {
    /// From its caller's first message to the function's last reply.
    pub async fn run(self, pipe: Pipe) -> Result<(), Error> {
        let method = self.function.method(&self.command.method)?.clone();
        let takes = method.descriptor.is_client_streaming();
        let gives = method.descriptor.is_server_streaming();
        let (dialect, paths) = (self.function.all.dialect(), self.function.all.dialect().paths());
        // Of those that take a stream it has no payload; or there is none, where every message says whose it is.
        let first = self.function.question(&self.command, !takes)?;
        let first = Some(first).filter(|_| !takes || !dialect.names_every_message());
        let (mut inward, mut outward) = pipe.split();
        let (sender, messages) = mpsc::channel(OUT_MAX);
        let feeding = async {
            let is_open = match first {
                Some(first) => sender.send(Some(first)).await.is_ok(),
                None => true,
            };
            if is_open && takes {
                self.feed(&method, &mut inward, &sender).await?;
            }
            // Nothing more comes. Where the other direction is over it says why.
            let _ = sender.send(None).await;
            std::future::pending::<Result<(), Error>>().await
        };
        let answering = async {
            let (room, _using) = self.function.all.awake.room(Stay::Call).await?;
            let mut grpc = room.grpc();
            let codec = Breaking(Messages::default());
            grpc.ready().await.map_err(|e| lost(&gone(e)))?;
            let request = Request::new(Outgoing {
                messages,
                is_over: false,
            });
            if gives {
                let path = if takes { paths.streamed } else { paths.streamed_out };
                let path = PathAndQuery::from_static(path);
                let opened = grpc.streaming(request, path, codec).await;
                let replies = opened.map_err(|status| self.failed(&status))?.into_inner();
                return self.pass_on(replies, &room, &mut outward).await;
            }
            let path = PathAndQuery::from_static(paths.streamed_in);
            let asking = to_its_end(async move {
                let answer = grpc.client_streaming(request, path, codec).await;
                answer.inspect_err(|status| room.heard(status))
            });
            let reply = asking.await.map_err(|status| self.failed(&status))?;
            // Where it says nothing its caller is still answered.
            let answered = self.reply(reply.into_inner(), &mut outward).await?;
            match answered {
                true => Ok(()),
                false => {
                    self.hand_over(Envelope::default().to_payload(), &mut outward)
                        .await
                }
            }
        };
        tokio::select! {
            ended = answering => ended,
            ended = feeding => ended,
        }
    }

    async fn feed(
        &self,
        method: &Method,
        inward: &mut Pipe,
        sender: &mpsc::Sender<Option<ActionCommand>>,
    ) -> Result<(), Error> {
        let named = match self.function.all.dialect().names_every_message() {
            true => self.function.question(&self.command, false)?,
            false => ActionCommand::default(),
        };
        while let Some(message) = inward.next().await {
            let envelope = self.function.taken(method, message)?;
            let (payload, _) = Envelope::of(&envelope)?.into_any(&method.input_url, None, |_| false);
            let message = ActionCommand {
                payload: Some(payload),
                ..named.clone()
            };
            if sender.send(Some(message)).await.is_err() {
                // The other direction says why.
                break;
            }
        }
        Ok(())
    }

    async fn pass_on(
        &self,
        mut replies: Streaming<ActionResponse>,
        room: &Room,
        outward: &mut Pipe,
    ) -> Result<(), Error> {
        loop {
            let reply = replies.message().await.inspect_err(|status| room.heard(status));
            match reply.map_err(|status| self.failed(&status))? {
                Some(reply) => self.reply(reply, outward).await?,
                None => return Ok(()),
            };
        }
    }

    fn failed(&self, status: &Status) -> Error {
        self.function.failed(&self.command.method, status)
    }

    /// Whether there was anything in it for the caller.
    async fn reply(&self, response: ActionResponse, outward: &mut Pipe) -> Result<bool, Error> {
        let function = &self.function;
        let effects = said::effects(function, response.side_effects, &self.command)?;
        self.calls.make(effects).await;
        let Some(response) = response.response else {
            return Ok(false);
        };
        let reply = match said::action(function, Some(response.into()), &self.command)? {
            Action::Reply(reply) => reply,
            Action::Forward(call) => self.calls.call(None, call).await?,
            Action::Refuse(error) => return Err(error),
        };
        self.hand_over(reply, outward).await?;
        Ok(true)
    }

    async fn hand_over(&self, reply: Payload, outward: &mut Pipe) -> Result<(), Error> {
        let shown = self.function.give(&self.command.method, self.wants, reply)?;
        // A caller that is gone drops all of this.
        let _ = outward.reply(shown).await;
        Ok(())
    }
}

/// What a function is sent: it ends by a word for that, and breaks off where nobody says it.
struct Outgoing {
    messages: mpsc::Receiver<Option<ActionCommand>>,
    is_over: bool,
}

impl Stream for Outgoing {
    type Item = Result<ActionCommand, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = ready!(self.messages.poll_recv(cx));
        self.is_over = !matches!(next, Some(Some(_)));
        Poll::Ready(match next {
            Some(next) => next.map(Ok),
            None => Some(Err(Status::cancelled("its caller has gone"))),
        })
    }
}

/// The messages' codec; what cannot be said, since there is nobody to say it, resets the stream.
struct Breaking(Messages);

struct BreakingEncoder(ProstEncoder<ActionCommand>);

impl Codec for Breaking {
    type Encode = Result<ActionCommand, Status>;
    type Decode = ActionResponse;
    type Encoder = BreakingEncoder;
    type Decoder = ReadingDecoder<ActionResponse>;

    fn encoder(&mut self) -> BreakingEncoder {
        BreakingEncoder(self.0.encoder())
    }

    fn decoder(&mut self) -> ReadingDecoder<ActionResponse> {
        self.0.decoder()
    }
}

impl Encoder for BreakingEncoder {
    type Item = Result<ActionCommand, Status>;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.0.encode(item?, to)
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    /// What is sent, and how it ends, where its sender says these and goes.
    async fn sent(says: impl IntoIterator<Item = Option<ActionCommand>>) -> Vec<bool> {
        let (sender, messages) = mpsc::channel(OUT_MAX);
        for said in says {
            sender.send(said).await.unwrap();
        }
        drop(sender);
        let outgoing = Outgoing {
            messages,
            is_over: false,
        };
        outgoing.map(|sent| sent.is_ok()).collect().await
    }

    #[tokio::test]
    async fn who_goes_before_all_is_said_breaks_off() {
        let said = || Some(ActionCommand::default());
        assert_eq!(sent([said(), said(), None]).await, [true, true]);
        assert_eq!(sent([said()]).await, [true, false]);
        assert_eq!(sent([]).await, [false]);
    }
}
