//! Calls over HTTP with JSON, by the routes that the descriptors name.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::{Code, Status};

use super::bodies::{Held, is_too_large, too_large};
use super::call::{Caller, HTTP_CODE, Terms, one, session};
use super::shown;
use super::{respond, respond_as};
use crate::base64;
use crate::driver::spans::{self, Place, span};
use crate::sidecar::failure::may_have_changed;
use crate::sidecar::proto::common::{MetadataEntry, MetadataValue};
use crate::sidecar::services::{self, Service};
use crate::sidecar::status::{error_body, http_status};
use crate::sidecar::transcode::{BadRequest, Match, Missing};
use crate::sidecar::{TIMEOUT_HEADER, media, trace_context};
use crate::wire::Token;

/// A deadline farther off is as good as none.
const TIMEOUT_MS_MAX: u64 = 86_400_000;
/// Characters of a path that are shown in a trace.
const PATH_SHOWN_MAX: usize = 256;
/// What a load balancer asks a pod before it sends requests, and wants to hear.
const PROBE_HEADER: &str = "k-network-probe";
const PROBE_ANSWER: &str = "queue";

/// Answers a request, with an error's text where nothing better can be said.
pub(super) async fn answer(caller: &Arc<Caller>, request: Request<Body>) -> Response<Body> {
    let headers = request.headers();
    if headers
        .get(PROBE_HEADER)
        .is_some_and(|value| value == PROBE_ANSWER)
    {
        return respond(StatusCode::OK, PROBE_ANSWER);
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let accept = accept.map(str::to_owned);
    let (verb, path) = (request.method().clone(), request.uri().path().to_owned());
    let place = caller.place_in_trace(headers);
    let response = match answer_or_refuse(caller, request, place).await {
        Ok(response) => response,
        Err(refused) => {
            refused.record(place, &verb, &path);
            let said = error_body(refused.code(), &refused.to_string(), accept.as_deref());
            let mut response = respond_as(refused.status(), said.content_type, said.body);
            if let Some(Ok(allow)) = refused.allow().map(HeaderValue::try_from) {
                response.headers_mut().insert(header::ALLOW, allow);
            }
            response
        }
    };
    let mut response = trace_context::with_trace(response, place);
    if verb == Method::HEAD {
        // What would be a stream has none, and nothing in it either.
        if let Some(length) = response.body().size_hint().exact() {
            *response.body_mut() = Body::empty();
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
        }
    }
    response
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{}", .0.message())]
    Status(#[from] Status),
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error("nothing changed: {0}")]
    Bad(#[from] BadRequest),
}

impl Refused {
    fn code(&self) -> Code {
        match self {
            Refused::Status(status) => status.code(),
            Refused::Missing(_) => Code::Unimplemented,
            Refused::Bad(_) => Code::InvalidArgument,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Refused::Status(status) if is_too_large(status) => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Status(status) => match http_status(status.code()) {
                // Clients and proxies repeat these, and may have no word against it.
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
                    if may_have_changed(status) =>
                {
                    StatusCode::GATEWAY_TIMEOUT
                }
                http => http,
            },
            Refused::Missing(missing) => missing.status(),
            Refused::Bad(bad) => bad.status(),
        }
    }

    /// Where it is known that nothing was called, that is a part of the request's trace; what was called has one.
    fn record(&self, place: Place, verb: &Method, path: &str) {
        if let Refused::Status(_) = self {
            return;
        }
        let path: String = path.chars().take(PATH_SHOWN_MAX).collect();
        let part = span!("http", "server", place, "", verb);
        spans::end(&part, &Err::<(), _>(format_args!("{path}: {self}")));
    }

    /// The HTTP methods that there are, where it was another.
    fn allow(&self) -> Option<String> {
        match self {
            Refused::Missing(missing) => missing.allow(),
            _ => None,
        }
    }
}

async fn answer_or_refuse(
    caller: &Arc<Caller>,
    request: Request<Body>,
    place: Place,
) -> Result<Response<Body>, Refused> {
    let services = caller.services()?;
    let (head, body) = request.into_parts();
    let route = services.rules.find(&head.method, head.uri.path())?;
    let name = route.method().parent_service().full_name().to_owned();
    let found = services.find(&name, route.method().name());
    let (service, method) = found.map_err(|e| Status::unimplemented(e.message()))?;
    if method.descriptor.is_client_streaming() {
        let name = method.descriptor.full_name();
        return Err(
            Status::unimplemented(format!("{name} takes a stream, which comes over gRPC only")).into(),
        );
    }
    let terms = terms(&head.headers, service, place)?;
    media::check_encoding(&head.headers).map_err(BadRequest::Media)?;
    let is_events = accepts(&head.headers, shown::EVENTS);
    if method.is_streamed() && head.method == Method::HEAD {
        // Nobody would hear what it says.
        return Ok(shown::head_of(&route, is_events));
    }
    let (body, _held) = receive(caller, body).await?;
    let content_type = head.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let message = route.request(head.uri.query(), content_type, &body)?;
    if message.len() > caller.message_bytes_max {
        return Err(too_large(caller.message_bytes_max).into());
    }
    if method.is_streamed() {
        let mut begun = caller.stream(service, method, message, None, terms).await?;
        let content_type = shown::content_type(&route, &mut begun, is_events).await?;
        let metadata = std::mem::take(&mut begun.metadata);
        let encoding = encoding(route.is_raw() && !is_events, &metadata);
        let mut response = shown::response(route, begun, is_events, content_type);
        say(caller, method, &metadata, None, &mut response);
        response.headers_mut().extend(encoding);
        return Ok(response);
    }
    let answer = caller.call(service, method, message, terms).await?;
    let mut response = response(&route, &answer.message)?;
    say(
        caller,
        method,
        &answer.metadata,
        Some(&answer.session),
        &mut response,
    );
    response
        .headers_mut()
        .extend(encoding(route.is_raw(), &answer.metadata));
    Ok(response)
}

fn accepts(headers: &HeaderMap, content_type: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|text| text.split(',').any(|one| one.trim().starts_with(content_type)))
}

/// Why a body is not there whole: it is none, or whoever sent it is not there any more.
fn unread(status: Status) -> Status {
    let mut causes = std::iter::successors(std::error::Error::source(&status), |cause| cause.source());
    let is_wrong = causes.any(|cause| {
        let cause = cause.downcast_ref().map(io::Error::kind);
        matches!(
            cause,
            Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        )
    });
    let why = status.message();
    match is_wrong {
        true => Status::invalid_argument(format!("nothing changed: the body cannot be read: {why}")),
        false => Status::cancelled(format!("nothing changed: the request broke off: {why}")),
    }
}

/// The body whole, and its place.
async fn receive(caller: &Caller, body: Body) -> Result<(Bytes, Held), Status> {
    let (body, held) = caller
        .bodies
        .json(Body::new(body.map_err(unread)), caller.message_bytes_max);
    Ok((body.collect().await?.to_bytes(), held))
}

fn terms(headers: &HeaderMap, service: &Service, place: Place) -> Result<Terms, Status> {
    let invalid = |what: String| Status::invalid_argument(format!("nothing changed: {what}"));
    let text = one(headers, TIMEOUT_HEADER)?.map(|value| value.to_str().unwrap_or_default());
    let timeout = match text.map(str::parse::<u64>) {
        None => None,
        Some(Ok(ms)) if ms <= TIMEOUT_MS_MAX => Some(Duration::from_millis(ms)),
        Some(_) => {
            let text =
                format!("{TIMEOUT_HEADER} is a whole number of milliseconds, at most {TIMEOUT_MS_MAX}");
            return Err(invalid(text));
        }
    };
    Ok(Terms {
        metadata: heard(headers, service)?,
        session: session(headers)?,
        timeout,
        place,
    })
}

/// The headers that a service wants to hear of; those that gRPC has bytes in have the same over HTTP.
fn heard(headers: &HeaderMap, service: &Service) -> Result<Vec<MetadataEntry>, Status> {
    let mut entries = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| service.hears(name.as_str())) {
        let Ok(text) = value.to_str() else { continue };
        let mut add = |value| {
            let key = name.to_string();
            let value = Some(value);
            entries.push(MetadataEntry { key, value });
        };
        if !name.as_str().ends_with("-bin") {
            add(MetadataValue::Text(text.to_owned()));
            continue;
        }
        // Several of one name may be one header.
        for part in text.split(',').map(str::trim) {
            let bytes = unpadded(part).ok_or_else(|| {
                let text = format!("nothing changed: {name} is bytes in base64, and {part:?} is none");
                Status::invalid_argument(text)
            })?;
            add(MetadataValue::Bytes(bytes.into()));
        }
    }
    Ok(entries)
}

/// Bytes in base64, with or without what fills up its last four digits.
fn unpadded(text: &str) -> Option<Vec<u8>> {
    if text.contains('=') {
        return base64::decode(text);
    }
    let fill = "=".repeat(text.len().wrapping_neg() % 4);
    base64::decode(&format!("{text}{fill}"))
}

fn response(route: &Match, message: &[u8]) -> Result<Response<Body>, Status> {
    let internal = |e: &dyn std::fmt::Display| {
        Status::internal(format!(
            "the method was answered, and the answer cannot be shown: {e}"
        ))
    };
    let said = route.response(message).map_err(|e| internal(&e))?;
    let mut response = Response::new(Body::new(Full::new(said.body)));
    let content_type = HeaderValue::try_from(said.content_type).map_err(|e| internal(&e))?;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// How a body is encoded, as it was said beside a reply: only where the function has made the body itself.
fn encoding(is_raw: bool, metadata: &[MetadataEntry]) -> Option<(HeaderName, HeaderValue)> {
    let is = |entry: &&MetadataEntry| entry.key.eq_ignore_ascii_case(header::CONTENT_ENCODING.as_str());
    let said = metadata.iter().filter(is).find_map(|entry| match &entry.value {
        Some(MetadataValue::Text(text)) => HeaderValue::try_from(text).ok(),
        _ => None,
    });
    said.filter(|_| is_raw)
        .map(|encoding| (header::CONTENT_ENCODING, encoding))
}

/// Adds what was said beside a reply to the head of its answer.
fn say(
    caller: &Caller,
    method: &services::Method,
    metadata: &[MetadataEntry],
    session: Option<&Token>,
    response: &mut Response<Body>,
) {
    let (code, others): (Vec<_>, Vec<_>) = metadata
        .iter()
        .partition(|entry| entry.key.eq_ignore_ascii_case(HTTP_CODE));
    response
        .headers_mut()
        .extend(caller.said(method, others, session));
    let code = code.iter().filter_map(|entry| match &entry.value {
        Some(MetadataValue::Text(text)) => text.parse::<u16>().ok(),
        _ => None,
    });
    let mut code = code.filter(|code| (200..600).contains(code));
    if let Some(Ok(code)) = code.next_back().map(StatusCode::from_u16) {
        *response.status_mut() = code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::sidecar::failure;

    #[test]
    fn json_was_said_to_be_packed_as_its_function_said() {
        let said = |key: &str| MetadataEntry {
            key: key.to_owned(),
            value: Some(MetadataValue::Text("gzip".to_owned())),
        };
        let packed = [said("a"), said("Content-Encoding")];
        assert_eq!(encoding(false, &packed), None);
        let expected = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(encoding(true, &packed), Some(expected));
        assert_eq!(encoding(true, &packed[..1]), None);
    }

    #[test]
    fn what_may_have_changed_something_has_no_status_that_is_repeated() {
        for (kind, text, status) in [
            (ErrorKind::Unconfirmed, "accepted here", 504),
            (ErrorKind::Unanswered, "?", 504),
            (ErrorKind::Lost, "?", 504),
            (ErrorKind::DiskFull, "accepted, and the disk is full", 504),
            (ErrorKind::DiskFull, "nothing changed", 429),
            (ErrorKind::Overloaded, "nothing changed", 429),
            (ErrorKind::Unreachable, "nothing changed", 503),
            (ErrorKind::Stopping, "nothing changed", 503),
        ] {
            let error = Error::of_carried(kind, text.to_owned());
            let refused = Refused::Status(failure::status(&error, false));
            assert_eq!(refused.status().as_u16(), status, "{kind:?}");
        }
        let of_function = failure::refused(Code::Unavailable as u32, "no");
        let refused = Refused::Status(failure::status(&of_function, false));
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
