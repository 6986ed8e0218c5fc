//! One call, whichever way it came in.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;
use tonic::{Code, Status};
use tracing::{Instrument, Span};

use super::bodies::Bodies;
use super::fits;
use crate::browser::{self, Odd};
use crate::driver::spans::{self, Place, span};
use crate::error::{Error, ErrorKind};
use crate::node::Node;
use crate::session::{ANSWER_MS_DEFAULT, Call};
use crate::sidecar::discovery::Serving;
use crate::sidecar::envelope::Envelope;
use crate::sidecar::failure::{refused, status};
use crate::sidecar::problem::Problem;
use crate::sidecar::proto::common::MetadataEntry;
use crate::sidecar::services::{Method, Service};
use crate::sidecar::{SESSION_HEADER, Served, UNDISCOVERED, trace_context};
use crate::wire::{Token, TokenError};

/// What callers hear of a function that cannot be served.
const REFUSED: &str = "nothing changed: the function was refused at discovery: see its output";
/// So many different things are told to authors.
const TOLD_MAX: usize = 1_000;
/// How long a caller waits who does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// By so much a deadline may pass before its time, here: the node counts whole milliseconds, of now and of how long.
const CLOCK_GRAIN: Duration = Duration::from_millis(2);

/// Makes calls.
#[derive(Debug)]
pub(super) struct Caller {
    node: Node,
    pub message_bytes_max: usize,
    pub bodies: Bodies,
    /// Of traces that begin here, how many are recorded: 0 to 1.
    sample: f64,
    serving: watch::Receiver<Serving>,
    /// What authors were told, by method.
    told: Mutex<BTreeSet<String>>,
}

/// What comes with a call beside its message.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub metadata: Vec<MetadataEntry>,
    pub session: Option<Token>,
    /// How long its caller waits, if he says.
    pub timeout: Option<Duration>,
    /// What the call is part of.
    pub place: Place,
}

impl Terms {
    /// How long an answer is waited for.
    pub fn patience(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    /// Whether what did not come in this time is late, and not lost: its caller's time is over, or its function's.
    fn is_late(&self, waited: Duration) -> bool {
        let most = Duration::from_millis(ANSWER_MS_DEFAULT).min(self.patience());
        waited.saturating_add(CLOCK_GRAIN) >= most
    }
}

/// What a function says beside its reply to set the status of a response over HTTP.
pub(super) const HTTP_CODE: &str = "_kalix-http-code";

/// Whether a header is the protocols' own, or what is said to who writes them: none that goes out as a function says it. How a body is
/// encoded is said of one that the function has made itself alone (`json`).
pub(super) fn is_own(header: &str) -> bool {
    const OWN: [&str; 9] = [
        HTTP_CODE,
        "connection",
        "content-encoding",
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

/// A header of ours that says how a call is to be done: of two nobody knows which was meant.
pub(super) fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a HeaderValue>, Status> {
    if browser::is_twice(headers, name) {
        let odd = Odd::Twice(HeaderName::from_static(name));
        return Err(Status::invalid_argument(format!("nothing changed: {odd}")));
    }
    Ok(headers.get(name))
}

/// What a request's session has seen, by its header. Empty, it begins one, as at the admin API.
pub(super) fn session(headers: &HeaderMap) -> Result<Option<Token>, Status> {
    let invalid =
        |e: &dyn fmt::Display| Status::invalid_argument(format!("nothing changed: {SESSION_HEADER}: {e}"));
    let token = one(headers, SESSION_HEADER)?.map(|value| {
        if value.is_empty() {
            return Ok(Token::default());
        }
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

/// The call that a message is, and the part of its trace that it is at this node.
pub(super) fn call_of(
    service: &Service,
    method: &Method,
    message: Bytes,
    metadata: Vec<MetadataEntry>,
    place: Place,
) -> Result<(Call, Span), Error> {
    let entity = service.entity(method, &message)?;
    let name = method.descriptor.name();
    let span = span!("http", "server", place, entity, name);
    let envelope = Envelope {
        type_url: String::new(),
        message,
        metadata,
    };
    let message_bytes = envelope.message.len();
    let payload = envelope.to_payload();
    let (all, most) = (payload.bytes.len(), payload.bytes_max());
    if all > most {
        let text = format!(
            "nothing changed: the message has {message_bytes} bytes, and the headers that its function hears have {}: together at \
             most {most}",
            all - message_bytes
        );
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    let call = Call::new(entity, name, payload);
    Ok((call.with_trace(place.own), span))
}

impl Caller {
    pub fn new(
        node: Node,
        message_bytes_max: usize,
        sample: f64,
        serving: watch::Receiver<Serving>,
    ) -> Caller {
        Caller {
            node,
            message_bytes_max,
            bodies: Bodies::new(),
            sample,
            serving,
            told: Mutex::default(),
        }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// A request's place in its trace, by its headers.
    pub fn place_in_trace(&self, headers: &HeaderMap) -> Place {
        trace_context::of(headers, self.sample)
    }

    /// What is served now.
    ///
    /// # Errors
    /// Nothing was discovered yet.
    pub fn services(&self) -> Result<Served, Status> {
        let serving = self.serving.borrow();
        serving.services.clone().ok_or_else(|| match serving.is_refused {
            true => Status::unavailable(REFUSED),
            false => Status::unavailable(format!("nothing changed: {UNDISCOVERED}; retry later")),
        })
    }

    /// An error as the caller of a service hears it. `is_late`: his deadline has passed.
    pub fn status(&self, service: &Service, error: &Error, is_late: bool) -> Status {
        let (is_here, is_refused) = {
            let serving = self.serving.borrow();
            (serving.is_here, serving.is_refused)
        };
        match error.kind() {
            ErrorKind::NoFunction if is_here => Status::unavailable(error.message()),
            ErrorKind::NoFunction if is_refused => Status::unavailable(REFUSED),
            ErrorKind::NoFunction => Status::unavailable(format!(
                "nothing changed: the function of {} is away, here and at every node that this one is linked with; retry later",
                service.name
            )),
            _ => status(error, is_late),
        }
    }

    /// What is served, as it changes, until this node stops.
    pub fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.clone()
    }

    /// That what a session has seen fits into the answer of its next call, before that changes anything.
    pub fn check_session(&self, call: &Call, session: Option<&Token>) -> Result<(), Error> {
        let Some(session) = session else { return Ok(()) };
        if !fits::is_full(&self.node.seen_with(session, &call.entity)) {
            return Ok(());
        }
        let message = "nothing changed: this session has seen more than a header holds that clients take (7 KiB: some \
                       thousand entities, or some 600 starts of nodes that wrote); begin another one, without the header anabranch-session";
        Err(refused(Code::FailedPrecondition as u32, message))
    }

    /// What was said beside a reply of a method, as the headers of an answer.
    pub fn said<'a>(
        &self,
        method: &Method,
        metadata: impl IntoIterator<Item = &'a MetadataEntry>,
        session: Option<&Token>,
    ) -> HeaderMap {
        let said = fits::said(metadata, session);
        let service = method.descriptor.parent_service();
        let path = format!("/{}/{}", service.full_name(), method.descriptor.name());
        if let Some(name) = said.left_out {
            let what = format!("says more beside its reply than clients take as headers: {name} is left out");
            self.tell_author(&path, &what);
        }
        if let Some(name) = said.unsayable {
            let what = format!(
                "says beside its reply what is no header: {name:?} is left out, since a name has letters, digits, '-', '_' \
                 and '.', and a text what can be printed in ASCII: encode it, or say its bytes under a name that ends in \"-bin\""
            );
            self.tell_author(&path, &what);
        }
        said.headers
    }

    /// Tells whoever wrote the method of this path what it does wrong, once.
    pub fn tell_author(&self, path: &str, what: &str) {
        let (services, author) = {
            let serving = self.serving.borrow();
            (serving.services.clone(), serving.author.clone())
        };
        let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let (Some(services), Some((service, method))) = (services, parts) else {
            return;
        };
        // What is no method grows nothing here.
        let Ok((_, method)) = services.find(service, method) else {
            return;
        };
        let text = format!("{} {what}", method.descriptor.full_name());
        let is_first = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.len() < TOLD_MAX && told.insert(text.clone())
        };
        if let (true, Some(author)) = (is_first, author) {
            let file = method.descriptor.parent_service().parent_file();
            author.tell(Problem::warning(text, &file, &[method.descriptor.path()]));
        }
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
        let began = Instant::now();
        let asking = async {
            let (call, span) = call_of(service, method, message, terms.metadata.clone(), terms.place)?;
            let calling = async {
                self.check_session(&call, terms.session.as_ref())?;
                let calling = self
                    .node
                    .call_payload(call, terms.session.as_ref(), terms.patience());
                calling.await
            };
            let result = calling.instrument(span.clone()).await;
            spans::end(&span, &result);
            let (reply, session) = result?;
            let envelope =
                Envelope::of(&reply).map_err(|error| Error::new(ErrorKind::Unanswered, error.message()))?;
            Ok::<_, Error>(Answer {
                message: envelope.message,
                metadata: envelope.metadata,
                session,
            })
        };
        let answer = asking.await;
        answer.map_err(|error| self.status(service, &error, terms.is_late(began.elapsed())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_begins_with_an_empty_header() {
        let said = |texts: &[&'static str]| {
            let entry = |text: &&'static str| {
                let name = HeaderName::from_static(SESSION_HEADER);
                (name, HeaderValue::from_static(text))
            };
            session(&texts.iter().map(entry).collect::<HeaderMap>())
        };
        assert_eq!(said(&[""]).unwrap(), Some(Token::default()));
        assert_eq!(said(&[]).unwrap(), None);
        assert_eq!(said(&["no token"]).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn of_two_sessions_the_first_counted() {
        let mut headers = HeaderMap::new();
        for _ in 0..2 {
            headers.append(SESSION_HEADER, HeaderValue::from_static(""));
        }
        let refused = session(&headers).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(SESSION_HEADER), "{refused:?}");
    }

    #[test]
    fn what_does_not_come_in_its_callers_time_or_its_functions_is_late() {
        let ms = Duration::from_millis;
        let terms = |timeout| Terms {
            metadata: Vec::new(),
            session: None,
            timeout,
            place: Place::of(spans::begin(false)),
        };
        // 0.4 ms are no whole one: the node has none to wait.
        assert!(terms(Some(Duration::from_micros(400))).is_late(Duration::ZERO));
        assert!(!terms(Some(ms(300))).is_late(ms(297)));
        assert!(terms(Some(ms(300))).is_late(ms(298)));
        assert!(terms(None).is_late(ms(60_000)));
        assert!(!terms(Some(ms(75_000))).is_late(ms(59_000)));
        assert!(terms(Some(ms(75_000))).is_late(ms(60_000)));
        assert!(terms(Some(Duration::MAX)).is_late(Duration::MAX));
    }
}
