//! Streaming calls, whichever way they came in: the messages of one side are handed to the other as they come.
//!
//! Contract: nothing is gathered beyond what the stream itself holds; a caller that goes away ends its stream, and one that breaks
//! off has not said all.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Status, Streaming as Incoming};

use super::call::{Caller, Terms, call_of};
use crate::error::Error;
use crate::function::{Messages, Streaming};
use crate::sidecar::envelope::Envelope;
use crate::sidecar::failure::status;
use crate::sidecar::services::{Method, Service};

/// So many replies may wait for the connection.
const REPLIES_MAX: usize = 16;

/// What a caller hears of a stream, one after the other.
pub(super) type Replies = mpsc::Receiver<Result<Bytes, Status>>;

impl Caller {
    /// Opens a stream with what its caller says first: his only message, or nothing where he sends many.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn open(
        &self,
        service: &Service,
        method: &Method,
        message: Bytes,
        terms: Terms,
    ) -> Result<Streaming, Status> {
        let opening = async {
            let patience = terms.patience();
            let call = call_of(service, method, message, terms.metadata)?;
            let after = terms.session.unwrap_or_default();
            self.node().stream_payload(None, call, &after, patience).await
        };
        opening.await.map_err(|error: Error| status(&error, false))
    }

    /// Runs a stream beside everything else, until either side has had enough.
    pub fn run(
        self: &Arc<Self>,
        streaming: Streaming,
        incoming: Option<Incoming<Bytes>>,
        terms: &Terms,
    ) -> Replies {
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        let timeout = terms.timeout;
        tokio::spawn(async move {
            let late = async {
                match timeout {
                    Some(timeout) => tokio::time::sleep(timeout).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pass_on(streaming, incoming, &sender) => {}
                () = late => {
                    let status = Status::deadline_exceeded("the stream's deadline has passed");
                    let _ = sender.send(Err(status)).await;
                }
                // Its caller is gone.
                () = sender.closed() => {}
            }
        });
        replies
    }
}

async fn pass_on(
    streaming: Streaming,
    incoming: Option<Incoming<Bytes>>,
    sender: &mpsc::Sender<Result<Bytes, Status>>,
) {
    let (messages, mut streaming) = streaming.split();
    let feeding = feed(messages, incoming);
    let mut feeding = std::pin::pin!(feeding);
    let mut is_fed = false;
    loop {
        let next = tokio::select! {
            next = streaming.next_payload() => next,
            broken = &mut feeding, if !is_fed => {
                is_fed = true;
                match broken {
                    Ok(()) => continue,
                    Err(status) => {
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                }
            }
        };
        let reply = match next {
            Ok(Some(reply)) => Envelope::of(&reply).map(|envelope| envelope.message),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let is_last = reply.is_err();
        let reply = reply.map_err(|error| status(&error, false));
        if sender.send(reply).await.is_err() || is_last {
            return;
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
