//! One call, whichever way it came in.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;
use tonic::Status;

use super::bodies::Bodies;
use crate::error::{Error, ErrorKind};
use crate::node::Node;
use crate::session::Call;
use crate::sidecar::discovery::Serving;
use crate::sidecar::envelope::Envelope;
use crate::sidecar::failure::status;
use crate::sidecar::proto::common::MetadataEntry;
use crate::sidecar::services::{Method, Service};
use crate::sidecar::{SESSION_HEADER, Served};
use crate::wire::{Token, TokenError};

/// How long a caller waits who does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Makes calls.
#[derive(Debug)]
pub(super) struct Caller {
    node: Node,
    pub message_bytes_max: usize,
    pub bodies: Bodies,
    serving: watch::Receiver<Serving>,
}

/// What comes with a call beside its message.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub metadata: Vec<MetadataEntry>,
    pub session: Option<Token>,
    /// How long its caller waits, if he says.
    pub timeout: Option<Duration>,
}

impl Terms {
    /// How long an answer is waited for.
    pub fn patience(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }
}

/// Whether a header is the protocols' own: none that a function says.
pub(super) fn is_own(header: &str) -> bool {
    const OWN: [&str; 7] = [
        "connection",
        "content-length",
        "content-type",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let header = header.to_ascii_lowercase();
    header.starts_with("grpc-") || OWN.contains(&header.as_str())
}

/// What a request's session has seen, by its header.
pub(super) fn session(header: Option<&HeaderValue>) -> Result<Option<Token>, Status> {
    let invalid =
        |e: &dyn fmt::Display| Status::invalid_argument(format!("nothing changed: {SESSION_HEADER}: {e}"));
    let token = header.map(|value| {
        let text = value.to_str().map_err(|e| invalid(&e))?;
        text.parse().map_err(|e: TokenError| invalid(&e))
    });
    token.transpose()
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub message: Bytes,
    pub metadata: Vec<MetadataEntry>,
    pub session: Token,
}

/// The call that a message is.
pub(super) fn call_of(
    service: &Service,
    method: &Method,
    message: Bytes,
    metadata: Vec<MetadataEntry>,
) -> Result<Call, Error> {
    let entity = service.entity(method, &message)?;
    let envelope = Envelope {
        type_url: String::new(),
        message,
        metadata,
    };
    Ok(Call::new(entity, method.descriptor.name(), envelope.to_payload()))
}

impl Caller {
    pub fn new(node: Node, message_bytes_max: usize, serving: watch::Receiver<Serving>) -> Caller {
        Caller {
            node,
            message_bytes_max,
            bodies: Bodies::new(),
            serving,
        }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What is served now.
    ///
    /// # Errors
    /// Nothing was discovered yet.
    pub fn services(&self) -> Result<Served, Status> {
        let services = self.serving.borrow().services.clone();
        services.ok_or_else(|| {
            Status::unavailable("nothing changed: no function was discovered yet; retry later")
        })
    }

    /// What is served, as it changes, until this node stops.
    pub fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.clone()
    }

    /// Calls a method with a message of its input's type.
    ///
    /// # Errors
    /// What came of it.
    pub async fn call(
        &self,
        service: &Service,
        method: &Method,
        message: Bytes,
        terms: Terms,
    ) -> Result<Answer, Status> {
        let (began, patience) = (Instant::now(), terms.patience());
        let asking = async {
            let call = call_of(service, method, message, terms.metadata)?;
            let (reply, session) = self
                .node
                .call_payload(call, terms.session.as_ref(), patience)
                .await?;
            let envelope =
                Envelope::of(&reply).map_err(|error| Error::new(ErrorKind::Unanswered, error.message()))?;
            Ok::<_, Error>(Answer {
                message: envelope.message,
                metadata: envelope.metadata,
                session,
            })
        };
        let answer = asking.await;
        answer.map_err(|error| {
            let is_gone = error.kind() == ErrorKind::NoFunction;
            match is_gone {
                true => Status::unavailable(error.message()),
                false => status(&error, began.elapsed() >= patience),
            }
        })
    }
}
