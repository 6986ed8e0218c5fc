//! Where a request stands in what it is part of: the headers of W3C Trace Context.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;

use super::App;
use crate::driver::spans;
use crate::trace::Trace;

const TRACEPARENT: &str = "traceparent";
/// What a request is answered to be part of (Trace Context, Level 2).
const TRACERESPONSE: &str = "traceresponse";

/// The trace that a request is part of; one that begins here if it says none, or says it wrongly, as the standard wants.
pub(super) fn of(app: &App, headers: &HeaderMap) -> Trace {
    let mut said = headers.get_all(TRACEPARENT).iter();
    let first = said.next().and_then(|value| value.to_str().ok()?.parse().ok());
    match first {
        Some(trace) if said.next().is_none() => trace,
        _ => spans::begin(rand::random_bool(app.sample)),
    }
}

/// An answer that says of which trace it is part.
pub(super) fn with_trace(mut response: Response, trace: Trace) -> Response {
    if let Ok(value) = HeaderValue::try_from(trace.to_string()) {
        let name = HeaderName::from_static(TRACERESPONSE);
        response.headers_mut().insert(name, value);
    }
    response
}
