//! Streaming calls, whichever way they came in: the messages of one side are handed to the other as they come.
//!
//! Contract: nothing is gathered beyond what the stream itself holds; a caller that goes away ends its stream, and one that breaks
//! off has not said all. A stream that fails before its first reply is answered as a call that fails.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tonic::{Status, Streaming as Incoming};
use tracing::{Instrument, Span};

use super::call::{Caller, Terms, call_of};
use crate::driver::spans;
use crate::error::Error;
use crate::function::{Messages, Streaming};
use crate::sidecar::envelope::Envelope;
use crate::sidecar::failure::status;
use crate::sidecar::proto::common::MetadataEntry;
use crate::sidecar::services::{Method, Service};

/// So many replies may wait for the connection.
const REPLIES_MAX: usize = 16;
/// And so many bytes of them, but for one that is longer.
const REPLIES_BYTES_MAX: usize = 256 << 10;

/// How long the head of an answer waits for the first reply, which may have headers in it, or fail.
const FIRST_REPLY: Duration = Duration::from_secs(10);
/// The same where its caller is still sending: some send nothing before they have the head.
const FIRST_REPLY_BOTH_WAYS: Duration = Duration::from_secs(1);

/// What a caller hears of a stream, one after the other.
type Replies = mpsc::Receiver<Waiting>;

/// What waits for its caller, and its room until he takes it.
#[derive(Debug)]
struct Waiting {
    said: Result<Envelope, Status>,
    _room: Option<OwnedSemaphorePermit>,
}

impl From<Result<Envelope, Status>> for Waiting {
    fn from(said: Result<Envelope, Status>) -> Waiting {
        Waiting { said, _room: None }
    }
}

/// What a caller hears of a stream that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// What was said beside its first reply.
    pub metadata: Vec<MetadataEntry>,
    first: Option<Bytes>,
    replies: Replies,
}

impl Begun {
    /// Once its first reply has come, or has been waited for so long.
    ///
    /// # Errors
    /// It has failed before.
    async fn wait(mut replies: Replies, patience: Option<Duration>) -> Result<Begun, Status> {
        let first = match patience {
            Some(patience) => tokio::time::timeout(patience, replies.recv()).await,
            None => Ok(replies.recv().await),
        };
        let (first, metadata) = match first {
            Ok(Some(reply)) => {
                let envelope = reply.said?;
                (Some(envelope.message), envelope.metadata)
            }
            Ok(None) | Err(_) => (None, Vec::new()),
        };
        Ok(Begun {
            metadata,
            first,
            replies,
        })
    }
}

impl Begun {
    /// Its first reply, however long that takes; none where it ends without one.
    ///
    /// # Errors
    /// It has failed before.
    pub async fn first(&mut self) -> Result<Option<&Bytes>, Status> {
        if self.first.is_none()
            && let Some(reply) = self.replies.recv().await
        {
            let envelope = reply.said?;
            self.metadata = envelope.metadata;
            self.first = Some(envelope.message);
        }
        Ok(self.first.as_ref())
    }
}

#[cfg(test)]
impl Begun {
    /// Of a stream that says these and ends.
    pub async fn of(says: impl IntoIterator<Item = Result<Bytes, Status>>) -> Result<Begun, Status> {
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        for said in says {
            let envelope = |message| Envelope {
                message,
                ..Envelope::default()
            };
            // There is room, and somebody who takes them.
            let _ = sender.send(said.map(envelope).into()).await;
        }
        drop(sender);
        Begun::wait(replies, Some(FIRST_REPLY)).await
    }
}

impl Stream for Begun {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let next = self.replies.poll_recv(cx);
        next.map(|reply| reply.map(|reply| reply.said.map(|envelope| envelope.message)))
    }
}

impl Caller {
    /// Opens a stream with what its caller says first, which is his only message, or nothing where he sends these; and runs it beside
    /// everything else until either side has had enough.
    ///
    /// # Errors
    /// It cannot be opened, or has failed before its first reply.
    pub async fn stream(
        self: &Arc<Self>,
        service: &Service,
        method: &Method,
        first: Bytes,
        incoming: Option<Incoming<Bytes>>,
        terms: Terms,
    ) -> Result<Begun, Status> {
        let patience = match (incoming.is_some(), method.descriptor.is_server_streaming()) {
            // There is one reply, which the call is answered with.
            (_, false) => None,
            (true, true) => Some(FIRST_REPLY_BOTH_WAYS),
            (false, true) => Some(FIRST_REPLY),
        };
        let timeout = terms.timeout;
        let (streaming, span) = self.open(service, method, first, terms).await?;
        Begun::wait(run(streaming, incoming, timeout, span), patience).await
    }

    /// The stream, and the part of its trace that it is at this node.
    async fn open(
        &self,
        service: &Service,
        method: &Method,
        message: Bytes,
        terms: Terms,
    ) -> Result<(Streaming, Span), Status> {
        let opening = async {
            let patience = terms.patience();
            let (call, span) = call_of(service, method, message, terms.metadata, terms.place)?;
            let opening = async {
                self.check_session(&call, terms.session.as_ref())?;
                let after = terms.session.unwrap_or_default();
                self.node().stream_payload(None, call, &after, patience).await
            };
            let opened = opening.instrument(span.clone()).await;
            spans::end(&span, &opened);
            Ok((opened?, span))
        };
        opening
            .await
            .map_err(|error: Error| self.status(service, &error, false))
    }
}

/// Runs a stream beside everything else, as long as anybody wants it.
fn run(
    streaming: Streaming,
    incoming: Option<Incoming<Bytes>>,
    timeout: Option<Duration>,
    span: Span,
) -> Replies {
    let (sender, replies) = mpsc::channel(REPLIES_MAX);
    let running = async move {
        let late = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = pass_on(streaming, incoming, &sender) => ended,
            () = late => Err(Status::deadline_exceeded("the stream's deadline has passed")),
            // Its caller is gone.
            () = sender.closed() => Ok(()),
        };
        spans::end(&Span::current(), &ended.as_ref().map_err(Status::message));
        if let Err(status) = ended {
            // He may be gone by now.
            let _ = sender.send(Err(status).into()).await;
        }
    };
    tokio::spawn(running.instrument(span));
    replies
}

/// Passes on what both sides say, until there is no more; why there is not, where that is no end.
async fn pass_on(
    streaming: Streaming,
    incoming: Option<Incoming<Bytes>>,
    sender: &mpsc::Sender<Waiting>,
) -> Result<(), Status> {
    let (messages, mut streaming) = streaming.split();
    let room = Arc::new(Semaphore::new(REPLIES_BYTES_MAX));
    let feeding = feed(messages, incoming);
    let mut feeding = std::pin::pin!(feeding);
    let mut is_fed = false;
    loop {
        let next = tokio::select! {
            next = streaming.next_payload() => next,
            fed = &mut feeding, if !is_fed => {
                is_fed = true;
                fed?;
                continue;
            }
        };
        let told = |error: Error| status(&error, false);
        let Some(reply) = next.map_err(told)? else {
            return Ok(());
        };
        let reply = Envelope::of(&reply).map_err(told)?;
        let bytes = reply.message.len().min(REPLIES_BYTES_MAX);
        let taking = Arc::clone(&room).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        let waiting = Waiting {
            said: Ok(reply),
            // Nobody closes it.
            _room: taking.await.ok(),
        };
        if sender.send(waiting).await.is_err() {
            return Ok(());
        }
    }
}

/// Hands the messages over. What their caller broke off is no end of them.
async fn feed(mut messages: Messages, incoming: Option<Incoming<Bytes>>) -> Result<(), Status> {
    if let Some(mut incoming) = incoming {
        while let Some(message) = incoming.message().await? {
            let envelope = Envelope {
                message,
                ..Envelope::default()
            };
            if messages.send_payload(envelope.to_payload()).await.is_err() {
                // The function takes no more: what it says is heard on the other side.
                return Ok(());
            }
        }
    }
    messages.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;
    use tonic::Code;

    use super::*;
    use crate::payload::Encoding;
    use crate::wire::Token;

    /// What becomes of a stream that says these and ends.
    async fn begun(says: impl IntoIterator<Item = Result<&'static str, Status>>) -> Result<Begun, Status> {
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        for said in says {
            let entry = |text: &str| MetadataEntry {
                key: text.to_owned(),
                value: None,
            };
            let envelope = |text: &'static str| Envelope {
                message: Bytes::from_static(text.as_bytes()),
                metadata: vec![entry(text)],
                ..Envelope::default()
            };
            sender.send(said.map(envelope).into()).await.unwrap();
        }
        drop(sender);
        Begun::wait(replies, Some(FIRST_REPLY)).await
    }

    #[tokio::test]
    async fn a_stream_begins_with_its_first_reply_or_fails() {
        let begun_with = begun([Ok("a"), Ok("b"), Err(Status::not_found("no"))])
            .await
            .unwrap();
        assert_eq!(begun_with.metadata[0].key, "a");
        assert_eq!(begun_with.metadata.len(), 1);
        let all: Vec<_> = begun_with
            .map(|reply| reply.map_err(|status| status.code()))
            .collect()
            .await;
        assert_eq!(all, [Ok("a".into()), Ok("b".into()), Err(Code::NotFound)]);
        let failed = begun([Err(Status::not_found("no"))]).await.unwrap_err();
        assert_eq!(failed.code(), Code::NotFound);
        assert!(begun([]).await.unwrap().next().await.is_none());
    }

    #[tokio::test]
    async fn long_replies_that_nobody_read_were_kept_by_their_number() {
        for (bytes, waiting) in [(700_000, 1), (100_000, 2), (10, REPLIES_MAX)] {
            let streaming = Streaming::new(Encoding::Protobuf, |mut pipe| {
                Ok(Box::pin(async move {
                    let envelope = Envelope {
                        message: vec![0; bytes].into(),
                        ..Envelope::default()
                    };
                    while pipe.reply(envelope.clone().to_payload()).await.is_ok() {}
                    (Ok(()), Token::default())
                }))
            });
            let (sender, mut replies) = mpsc::channel(REPLIES_MAX);
            let looking = async {
                for _ in 0..1_000 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(replies.len(), waiting, "{bytes}");
                // As soon as he reads them, others come.
                for _ in 0..2 * REPLIES_MAX {
                    replies.recv().await.unwrap();
                }
            };
            tokio::select! {
                ended = pass_on(streaming.unwrap(), None, &sender) => panic!("{ended:?}"),
                () = looking => {}
            }
        }
    }

    #[tokio::test]
    async fn a_head_waits_only_so_long() {
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        let begun = Begun::wait(replies, Some(Duration::from_millis(1)))
            .await
            .unwrap();
        assert!(begun.metadata.is_empty());
        sender.send(Ok(Envelope::default()).into()).await.unwrap();
        drop(sender);
        assert_eq!(begun.collect::<Vec<_>>().await.len(), 1);
    }

    #[tokio::test]
    async fn the_first_reply_is_waited_for_where_the_head_is_in_it() {
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        let waited = Begun::wait(replies, Some(Duration::from_millis(1))).await;
        let mut begun = waited.unwrap();
        let said = MetadataEntry {
            key: "k".to_owned(),
            value: None,
        };
        let late = Envelope {
            message: Bytes::from_static(b"a"),
            metadata: vec![said],
            ..Envelope::default()
        };
        sender.send(Ok(late).into()).await.unwrap();
        assert_eq!(begun.first().await.unwrap(), Some(&Bytes::from_static(b"a")));
        assert_eq!(begun.first().await.unwrap(), Some(&Bytes::from_static(b"a")));
        assert_eq!(begun.metadata.len(), 1);
        drop(sender);
        assert_eq!(begun.collect::<Vec<_>>().await.len(), 1);
        // One that fails instead has no head, and one that ends has nothing in it.
        for (last, is) in [
            (Some(Status::not_found("no")), Err(Code::NotFound)),
            (None, Ok(None)),
        ] {
            let (sender, replies) = mpsc::channel(REPLIES_MAX);
            let waited = Begun::wait(replies, Some(Duration::from_millis(1))).await;
            if let Some(status) = last {
                sender.send(Err(status).into()).await.unwrap();
            }
            drop(sender);
            let mut begun = waited.unwrap();
            assert_eq!(begun.first().await.map_err(|status| status.code()), is);
        }
    }
}
