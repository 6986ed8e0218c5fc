//! Streams of functions: server-sent events out, lines of JSON in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::watch::Receiver;
use tracing::Instrument;

use super::body::{self, Chunks};
use super::call::names;
use super::entities::{KEEP_ALIVE, place};
use super::error::Refusal;
use super::{App, query, session, told};
use crate::driver::spans::{self, span};
use crate::error::{Error, ErrorKind};
use crate::function::{Messages, Streaming};
use crate::payload::{Encoding, PAYLOAD_BYTES_MAX, Payload};
use crate::percent::{self, Place};
use crate::session::Call;
use crate::sidecar::trace_context;

/// How long the first line of a body of lines may take to come.
const ARGUMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// `/v1/stream/KIND/KEY/METHOD`. `POST`: the body is the argument; as `application/x-ndjson` its first line, and each further line
/// a message. `GET`, which may change nothing: a query, with `?argument=JSON`.
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let (entity, name) = names(&uri)?;
    let after = session::token(&headers)?.unwrap_or_default();
    let timeout = session::timeout(&headers)?;
    let held = place(&app.watches, "watches", "http.watches_max")?;
    let (argument, lines) = if method == Method::GET {
        check_query(&app, entity.kind(), &name)?;
        (argument_of(&uri)?, None)
    } else if is_lines(&headers) {
        let mut lines = Lines::new(request);
        let first = tokio::time::timeout(ARGUMENT_TIMEOUT, lines.next()).await;
        let first =
            first.map_err(|_| Refusal::invalid("the argument, the body's first line, did not come"))?;
        let first = first.map_err(Refusal::invalid)?;
        (first.unwrap_or_default(), Some(lines))
    } else {
        let (argument, _place) = app.bodies.receive(request).await?;
        (Bytes::from(argument), None)
    };
    let place_in_trace = trace_context::of(&headers, app.sample);
    let span = span!("http", "server", place_in_trace, entity, name);
    let call = Call::new(entity, name, json_of(argument)).with_trace(place_in_trace.own);
    let opening = app.node.stream_aside(call, &after, timeout);
    let opened = opening.instrument(span.clone()).await;
    spans::end(&span, &opened);
    let streaming = opened?;
    let (chunks, mut gone, response) = body::stream("text/event-stream");
    let running = run(streaming, lines, chunks, app.stop.subscribe());
    let running = async move {
        tokio::select! {
            () = running => {}
            () = gone.wait() => {}
        }
        drop(held);
    };
    tokio::spawn(running.instrument(span));
    Ok(trace_context::with_trace(response, place_in_trace))
}

/// A page may have a browser send a `GET` from anywhere, and it does not say from where.
fn check_query(app: &App, kind: &str, method: &str) -> Result<(), Refusal> {
    let mut functions = app.node.functions();
    let Some(function) = functions.find(|function| function.kind() == kind) else {
        let message = format!(
            "nothing changed: this node has no function of {kind} whose queries GET could follow; POST opens any stream, at the \
             nearest node that has it"
        );
        return Err(Error::new(ErrorKind::NoFunction, message).into());
    };
    if !function.is_stream(method) && function.is_query(method)? {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "{method} of {kind} is no query of this node: POST opens any stream, GET follows queries"
    )))
}

fn argument_of(uri: &Uri) -> Result<Bytes, Refusal> {
    let Some(query) = query(uri) else {
        return Ok(Bytes::new());
    };
    let Some(text) = query.strip_prefix("argument=") else {
        return Err(Refusal::invalid(format!(
            "{query:?} asks for nothing that there is: argument=JSON"
        )));
    };
    let text = percent::decode(text, Place::Segment).map_err(|e| Refusal::invalid(e.to_string()))?;
    Ok(text.into())
}

fn is_lines(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    value.is_some_and(|value| value.as_bytes().starts_with(b"application/x-ndjson"))
}

fn json_of(bytes: Bytes) -> Payload {
    Payload {
        encoding: Encoding::Json,
        bytes,
    }
}

async fn run(streaming: Streaming, lines: Option<Lines>, mut chunks: Chunks, mut stopped: Receiver<bool>) {
    let (messages, mut streaming) = streaming.split();
    let inward = async {
        match take_messages(lines, messages).await {
            Ok(()) => std::future::pending().await,
            Err(why) => why,
        }
    };
    let outward = async {
        loop {
            let (event, is_last) = match tokio::time::timeout(KEEP_ALIVE, streaming.next_payload()).await {
                Ok(Ok(Some(reply))) => (reply_event(&reply), false),
                Ok(Ok(None)) => {
                    let data = json!({"session": streaming.token().to_string()});
                    (format!("event: end\ndata: {data}\n\n"), true)
                }
                Ok(Err(error)) => (error_event(error), true),
                Err(_) => (":\n\n".to_owned(), false),
            };
            if chunks.send_data(event.into()).await.is_err() || is_last {
                return;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        why = inward => tracing::debug!(why, "a stream's caller has gone"),
        () = told(&mut stopped) => {}
    }
}

/// Hands a body's lines to the function. An error: what was sent is not all.
async fn take_messages(lines: Option<Lines>, mut messages: Messages) -> Result<(), String> {
    let Some(mut lines) = lines else {
        messages.finish();
        return Ok(());
    };
    while let Some(line) = lines.next().await? {
        if messages.send_payload(json_of(line)).await.is_err() {
            // The function takes no more of them; it may still have something to say.
            return Ok(());
        }
    }
    messages.finish();
    Ok(())
}

fn reply_event(reply: &Payload) -> String {
    let text = String::from_utf8_lossy(&reply.bytes);
    let data: Vec<String> = text.lines().map(|line| format!("data: {line}\n")).collect();
    data.concat() + "\n"
}

fn error_event(error: Error) -> String {
    let data = Refusal::from(error).text();
    format!("event: error\ndata: {data}\n\n")
}

/// The lines of a body, as they come; empty ones are none.
struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no line feed.
    searched: usize,
}

impl Lines {
    fn new(body: Body) -> Lines {
        Lines {
            body,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|&b| b == b'\n');
            let line = match end {
                Some(end) => self.buffer.split_to(self.searched + end + 1),
                None if self.body.is_end_stream() => self.buffer.split(),
                None => {
                    self.searched = self.buffer.len();
                    if self.searched > PAYLOAD_BYTES_MAX {
                        return Err(format!(
                            "a line of the body has more than {PAYLOAD_BYTES_MAX} bytes"
                        ));
                    }
                    match self.body.frame().await {
                        Some(Ok(frame)) => {
                            self.buffer.extend(frame.into_data().unwrap_or_default());
                            continue;
                        }
                        Some(Err(e)) => return Err(format!("the body broke off: {e}")),
                        None => self.buffer.split(),
                    }
                }
            };
            self.searched = 0;
            let line = line.freeze();
            let text = line.trim_ascii();
            if !text.is_empty() {
                return Ok(Some(line.slice_ref(text)));
            }
            if end.is_none() {
                return Ok(None);
            }
        }
    }
}
