//! Calls over HTTP with JSON, by the routes that the descriptors name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};

use super::bodies::{BODIES_BYTES_MAX, Held, too_long};
use super::call::{Answer, Caller, Terms, is_own, session};
use super::streams::Replies;
use super::{respond, respond_as};
use crate::payload::PAYLOAD_BYTES_MAX;
use crate::sidecar::proto::common::{MetadataEntry, MetadataValue};
use crate::sidecar::services::Service;
use crate::sidecar::status::{error_body, http_status};
use crate::sidecar::transcode::{Match, Missing};
use crate::sidecar::{SESSION_HEADER, TIMEOUT_HEADER};

/// A deadline farther off is as good as none.
const TIMEOUT_MS_MAX: u64 = 86_400_000;
/// What a function says beside its reply to set the status of the response.
const HTTP_CODE: &str = "_kalix-http-code";
/// Streams: an event each, or a line.
const EVENTS: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";
/// Bytes of JSON for each of the message that it is: names and escapes take more.
const JSON_PER_BYTE: usize = 4;
// One as large as can be configured always fits.
const _: () = assert!(JSON_PER_BYTE * PAYLOAD_BYTES_MAX <= BODIES_BYTES_MAX);
/// What a load balancer asks a pod before it sends requests, and wants to hear.
const PROBE_HEADER: &str = "k-network-probe";
const PROBE_ANSWER: &str = "queue";

/// Answers a request, with an error's text where nothing better can be said.
pub(super) async fn answer(caller: &Arc<Caller>, request: Request<Incoming>) -> Response<Body> {
    let headers = request.headers();
    if headers
        .get(PROBE_HEADER)
        .is_some_and(|value| value == PROBE_ANSWER)
    {
        return respond(StatusCode::OK, PROBE_ANSWER);
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let accept = accept.map(str::to_owned);
    match answer_or_status(caller, request).await {
        Ok(response) => response,
        Err(Refused::Status(status)) => refusal(
            http_status(status.code()),
            status.code(),
            status.message(),
            accept.as_deref(),
        ),
        Err(Refused::Missing(missing)) => {
            let code = Code::Unimplemented;
            let mut response = refusal(missing.status(), code, &missing.to_string(), accept.as_deref());
            if let Some(Ok(allow)) = missing.allow().map(HeaderValue::try_from) {
                response.headers_mut().insert(header::ALLOW, allow);
            }
            response
        }
    }
}

enum Refused {
    Status(Status),
    Missing(Missing),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Refused {
        Refused::Status(status)
    }
}

async fn answer_or_status(
    caller: &Arc<Caller>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let services = caller.services()?;
    let (head, body) = request.into_parts();
    let route = services
        .rules
        .find(&head.method, head.uri.path())
        .map_err(Refused::Missing)?;
    let name = route.method().parent_service().full_name().to_owned();
    let found = services.find(&name, route.method().name());
    let (service, method) = found.map_err(|e| Status::unimplemented(e.message()))?;
    if method.descriptor.is_client_streaming() {
        let name = method.descriptor.full_name();
        return Err(
            Status::unimplemented(format!("{name} takes a stream, which comes over gRPC only")).into(),
        );
    }
    let terms = terms(&head.headers, service)?;
    let (body, _held) = receive(caller, body).await?;
    let content_type = head.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let message = route
        .request(head.uri.query(), content_type, &body)
        .map_err(|e| Status::invalid_argument(format!("nothing changed: {e}")))?;
    if message.len() > caller.message_bytes_max {
        return Err(too_long(caller.message_bytes_max).into());
    }
    if method.is_streamed() {
        let is_events = accepts(&head.headers, EVENTS);
        let streaming = caller.open(service, method, message, terms.clone()).await?;
        let replies = caller.run(streaming, None, &terms);
        return Ok(streamed(route, replies, is_events));
    }
    let answer = caller.call(service, method, message, terms).await?;
    Ok(response(&route, answer)?)
}

/// One reply a line, or an event each.
fn streamed(route: Match, replies: Replies, is_events: bool) -> Response<Body> {
    let frames = ReceiverStream::new(replies).map(move |reply| {
        let message = reply?;
        let shown = match is_events {
            true => route.event(&message),
            false => route.json_line(&message),
        };
        // The head is out: after an error the body breaks off.
        shown
            .map(Frame::data)
            .map_err(|e| Status::internal(e.to_string()))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let content_type = if is_events { EVENTS } else { LINES };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn accepts(headers: &HeaderMap, content_type: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|text| text.split(',').any(|one| one.trim().starts_with(content_type)))
}

/// The body whole, and its place.
async fn receive(caller: &Caller, body: Incoming) -> Result<(Bytes, Held), Status> {
    let body = body.map_err(|e| Status::cancelled(format!("nothing changed: the request broke off: {e}")));
    let bytes_max = caller.message_bytes_max * JSON_PER_BYTE;
    let (body, held) = caller.bodies.alone(Body::new(body), bytes_max);
    Ok((body.collect().await?.to_bytes(), held))
}

fn terms(headers: &HeaderMap, service: &Service) -> Result<Terms, Status> {
    let invalid = |what: String| Status::invalid_argument(format!("nothing changed: {what}"));
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let timeout = match text(TIMEOUT_HEADER).map(str::parse::<u64>) {
        None => None,
        Some(Ok(ms)) if ms <= TIMEOUT_MS_MAX => Some(Duration::from_millis(ms)),
        Some(_) => {
            let text =
                format!("{TIMEOUT_HEADER} is a whole number of milliseconds, at most {TIMEOUT_MS_MAX}");
            return Err(invalid(text));
        }
    };
    let heard = headers.iter().filter(|(name, _)| service.hears(name.as_str()));
    let entry = |(name, value): (&HeaderName, &HeaderValue)| {
        Some(MetadataEntry {
            key: name.to_string(),
            value: Some(MetadataValue::Text(value.to_str().ok()?.to_owned())),
        })
    };
    Ok(Terms {
        metadata: heard.filter_map(entry).collect(),
        session: session(headers.get(SESSION_HEADER))?,
        timeout,
    })
}

fn response(route: &Match, answer: Answer) -> Result<Response<Body>, Status> {
    let internal = |e: &dyn std::fmt::Display| {
        Status::internal(format!(
            "the method was answered, and the answer cannot be shown: {e}"
        ))
    };
    let said = route.response(&answer.message).map_err(|e| internal(&e))?;
    let mut response = Response::new(Body::new(Full::new(said.body)));
    let headers = response.headers_mut();
    let mut status = None;
    for entry in &answer.metadata {
        let Some(MetadataValue::Text(text)) = &entry.value else {
            continue;
        };
        if entry.key == HTTP_CODE {
            status = text
                .parse::<u16>()
                .ok()
                .filter(|code| (200..600).contains(code))
                .and_then(|code| StatusCode::from_u16(code).ok());
        } else if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(entry.key.as_str()),
            HeaderValue::try_from(text.as_str()),
        ) && !is_own(&entry.key)
        {
            headers.append(name, value);
        }
    }
    let content_type = HeaderValue::try_from(said.content_type).map_err(|e| internal(&e))?;
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Ok(token) = HeaderValue::try_from(answer.session.to_string()) {
        headers.insert(SESSION_HEADER, token);
    }
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    Ok(response)
}

fn refusal(status: StatusCode, code: Code, description: &str, accept: Option<&str>) -> Response<Body> {
    let said = error_body(code, description, accept);
    respond_as(status, said.content_type, said.body)
}
