//! A small HTTP client for the commands: JSON in, JSON or lines out, connections kept alive.
//!
//! Contract: every answer is either what was asked for or a [`Failure`] with the node's own words; a node that cannot
//! be reached is the failure `unreachable`, which a retry may mend and which leaves open whether an update was made.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::http::request;
use hyper::{Method, Request, Response, header};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Receiver;

use super::api::{ErrorBody, IDEMPOTENT_HEADER, SESSION_HEADER, TIMEOUT_HEADER};
use super::exit::Failure;
use super::session_file::Session;
use crate::wire::Token;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer, or one line of a streamed one, is at most this long.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long an idle connection is kept; shorter than the server keeps its end.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Who has said nothing for so long hangs, or is gone: an answer that goes on says every 15 s that it does.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The environment variable with the bearer token.
pub const TOKEN_VARIABLE: &str = "ANABRANCH_TOKEN";

/// A request's body: there at once, or as it comes.
type Sent = Either<Full<Bytes>, Channel<Bytes, std::io::Error>>;

/// Asks nodes. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<HttpConnector, Sent>,
    authorization: Option<header::HeaderValue>,
    /// Headers of the session that the requests belong to, and where it is kept.
    session: Option<Session>,
    /// How long the node may take, where it asks.
    timeout: Option<Duration>,
    /// Whether what is asked may be done more than once.
    is_idempotent: bool,
}

impl Client {
    /// A client that shows this bearer token, if any.
    pub fn new(token: Option<&str>) -> Result<Client, Failure> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        let authorization = token
            .map(|token| {
                let mut value = header::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                    Failure::usage(format!(
                        "{TOKEN_VARIABLE} holds characters that HTTP cannot carry"
                    ))
                })?;
                value.set_sensitive(true);
                Ok::<_, Failure>(value)
            })
            .transpose()?;
        Ok(Client {
            inner,
            authorization,
            session: None,
            timeout: None,
            is_idempotent: false,
        })
    }

    /// A client with the token of the environment.
    pub fn from_environment() -> Result<Client, Failure> {
        Client::new(
            std::env::var(TOKEN_VARIABLE)
                .ok()
                .filter(|token| !token.is_empty())
                .as_deref(),
        )
    }

    /// The same client for the requests of a session.
    #[must_use]
    pub fn in_session(self, session: Option<Session>) -> Client {
        Client { session, ..self }
    }

    /// The same client, for requests of which the node is told how long they may take.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Client {
        Client {
            timeout: Some(timeout),
            ..self
        }
    }

    /// The same client, for calls that may run more than once.
    #[must_use]
    pub fn idempotent(self, is_idempotent: bool) -> Client {
        Client {
            is_idempotent,
            ..self
        }
    }

    /// Reads a JSON answer.
    pub async fn get<T: DeserializeOwned>(
        &self,
        at: &str,
        path: &str,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let text = self.text(at, path, timeout).await?;
        parse(at, text.as_bytes())
    }

    /// Reads an answer as text.
    pub async fn text(&self, at: &str, path: &str, timeout: Duration) -> Result<String, Failure> {
        let body = within(at, timeout, self.ask(Method::GET, at, path, Bytes::new())).await?;
        String::from_utf8(body.to_vec()).map_err(|_| strange(at, "it is not UTF-8"))
    }

    /// Sends a JSON body and reads a JSON answer.
    pub async fn post<T: DeserializeOwned>(
        &self,
        at: &str,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let unwritten = |e: serde_json::Error| Failure::new("internal", e.to_string()).unsent();
        let body = serde_json::to_vec(body).map_err(unwritten)?;
        self.post_bytes(at, path, body.into(), timeout).await
    }

    /// Sends a body that is JSON already and reads a JSON answer.
    pub async fn post_bytes<T: DeserializeOwned>(
        &self,
        at: &str,
        path: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let answer = within(at, timeout, self.ask(Method::POST, at, path, body)).await?;
        parse(at, &answer)
    }

    /// Sends a body that is JSON already and reads an answer as text.
    pub async fn post_text(
        &self,
        at: &str,
        path: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<String, Failure> {
        let answer = within(at, timeout, self.ask(Method::POST, at, path, body)).await?;
        String::from_utf8(answer.to_vec()).map_err(|_| strange(at, "it is not UTF-8"))
    }

    /// Reads an answer line by line, however long it goes on.
    pub async fn lines(&self, at: &str, path: &str, timeout: Duration) -> Result<Lines, Failure> {
        let response = within(at, timeout, self.send(Method::GET, at, path, Bytes::new())).await?;
        Ok(lines(at, response))
    }

    /// Sends a body of lines as they come, and reads an answer line by line.
    pub async fn post_lines(
        &self,
        at: &str,
        path: &str,
        mut body: Receiver<std::io::Result<Bytes>>,
        timeout: Duration,
    ) -> Result<Lines, Failure> {
        let (mut sender, sent) = Channel::new(1);
        tokio::spawn(async move {
            while let Some(bytes) = body.recv().await {
                match bytes {
                    Ok(bytes) => match sender.send_data(bytes).await {
                        Ok(()) => {}
                        Err(_gone) => return,
                    },
                    // What was sent is not all: the node must not take it for that.
                    Err(error) => return sender.abort(error),
                }
            }
        });
        let request = self.request(Method::POST, at, path)?;
        let request = request.header(header::CONTENT_TYPE, "application/x-ndjson");
        let response = within(at, timeout, self.answer(at, request, Either::Right(sent))).await?;
        Ok(lines(at, response))
    }

    /// Takes in what a stream's end says that its session has seen.
    pub fn note_end(&self, data: &str) -> Result<(), Failure> {
        let seen = serde_json::from_str::<serde_json::Value>(data).ok();
        let seen = seen.and_then(|end| end["session"].as_str()?.parse::<Token>().ok());
        match (&self.session, seen) {
            (Some(session), Some(seen)) => session.add(&seen).map_err(|failure| failure.at(session.done)),
            _ => Ok(()),
        }
    }

    async fn ask(&self, method: Method, at: &str, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        collect(at, self.send(method, at, path, body).await?).await
    }

    async fn send(
        &self,
        method: Method,
        at: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = self.request(method, at, path)?;
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.answer(at, request, Either::Left(Full::new(body))).await
    }

    /// A request's head.
    fn request(&self, method: Method, at: &str, path: &str) -> Result<request::Builder, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{at}{path}"));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(session) = &self.session {
            // Before anything is sent: what it would change cannot be taken back.
            let seen = session
                .begin()
                .map_err(|failure| failure.at("nothing changed").unsent())?;
            request = request.header(SESSION_HEADER, seen.to_string());
        }
        if self.is_idempotent {
            request = request.header(IDEMPOTENT_HEADER, "true");
        }
        let timeout = self.session.as_ref().map(|session| session.timeout);
        if let Some(timeout) = timeout.or(self.timeout) {
            request = request.header(TIMEOUT_HEADER, timeout.as_millis().to_string());
        }
        Ok(request)
    }

    /// The response if it is a success, else the node's error.
    async fn answer(
        &self,
        at: &str,
        request: request::Builder,
        body: Sent,
    ) -> Result<Response<Incoming>, Failure> {
        let request = request
            .body(body)
            .map_err(|e| Failure::usage(format!("{at:?} is not HOST:PORT of a node ({e})")).unsent())?;
        // Its own words ("client error (Connect)") say less than its cause's.
        let failed = |e: legacy::Error| {
            let failure = unreachable_at(at, &chain(e.source().unwrap_or(&e)));
            if e.is_connect() { failure.unsent() } else { failure }
        };
        let response = self.inner.request(request).await.map_err(failed)?;
        let Some(session) = &self.session else {
            return checked(at, response).await;
        };
        let noted = session.note(response.headers());
        match (checked(at, response).await, noted) {
            (Ok(_), Err(lost)) => Err(lost.at(session.done)),
            (Err(refused), Err(lost)) => Err(refused.and(lost)),
            (answer, Ok(())) => answer,
        }
    }
}

/// The lines of a streamed answer.
pub struct Lines {
    at: String,
    /// Whether the answer has said what a session has seen with it.
    pub names_session: bool,
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no line feed.
    searched: usize,
}

impl Lines {
    /// The next line; `None` once the answer is complete. An answer that breaks off is a failure.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                let text = String::from_utf8(line[..line.len() - 1].to_vec());
                return text.map(Some).map_err(|_| strange(&self.at, "it is not UTF-8"));
            }
            self.searched = self.buffer.len();
            if self.searched > ANSWER_BYTES_MAX {
                return Err(strange(&self.at, "a line is too long"));
            }
            let Ok(frame) = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await else {
                return Err(unreachable_at(&self.at, &format!("silent for {SILENCE_MAX:?}")));
            };
            match frame {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(e)) => {
                    return Err(unreachable_at(
                        &self.at,
                        &format!("the answer broke off: {}", chain(&e)),
                    ));
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(strange(&self.at, "its last line is cut off")),
            }
        }
    }
}

fn lines(at: &str, response: Response<Incoming>) -> Lines {
    Lines {
        at: at.to_string(),
        names_session: response.headers().contains_key(SESSION_HEADER),
        body: response.into_body(),
        buffer: BytesMut::new(),
        searched: 0,
    }
}

/// The response if it is a success, else the node's error.
async fn checked(at: &str, response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = collect(at, response).await?;
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(error) => Err(error.into()),
        Err(_) => Err(strange(
            at,
            &format!("HTTP status {status} without an error of ours"),
        )),
    }
}

async fn collect(at: &str, response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    body.map(|body| body.to_bytes())
        .map_err(|e| unreachable_at(at, &format!("the answer broke off: {e}")))
}

async fn within<T>(
    at: &str,
    timeout: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(unreachable_at(at, &format!("no answer within {timeout:?}"))),
    }
}

fn parse<T: DeserializeOwned>(at: &str, body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| strange(at, &e.to_string()))
}

/// Nobody (or nothing whole) answered; an update may have been made all the same.
fn unreachable_at(at: &str, why: &str) -> Failure {
    Failure::new("unreachable", format!("{at} cannot be reached: {why}")).retry(true)
}

fn strange(at: &str, why: &str) -> Failure {
    Failure::new(
        "unreachable",
        format!("{at} does not answer like a node of Anabranch: {why}"),
    )
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let written = write!(text, ": {error}");
        assert!(written.is_ok(), "a String refused a text");
        cause = error.source();
    }
    text
}
