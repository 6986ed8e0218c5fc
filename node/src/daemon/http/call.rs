//! Calls of functions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use tracing::Instrument;

use super::entities::last_segments;
use super::error::Refusal;
use super::{App, body, session};
use crate::daemon::api::IDEMPOTENT_HEADER;
use crate::driver::spans::{self, span};
use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::sidecar::trace_context;
use crate::wire::EntityId;

/// Calls under way at a time, at most: each has a thread while its function runs.
pub(super) const CALLS_MAX: usize = 128;
/// A function that has not answered so long after its caller's deadline never will.
const GRACE: Duration = Duration::from_millis(500);

/// `POST /v1/call/KIND/KEY/METHOD`: the body is the argument, the answer the reply, both JSON.
pub(super) async fn call(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let (entity, method) = names(&uri)?;
    let after = session::token(&headers)?;
    let timeout = session::timeout(&headers)?;
    let (argument, place) = app.bodies.receive(request).await?;
    let argument = Payload {
        encoding: Encoding::Json,
        bytes: Bytes::from(argument),
    };
    let place_in_trace = trace_context::of(&headers, app.sample);
    let span = span!("http", "server", place_in_trace, entity, method);
    let mut call = Call::new(entity.clone(), method, argument).with_trace(place_in_trace.own);
    call.is_idempotent = is_idempotent(&headers)?;
    drop(place);
    let Ok(permit) = Arc::clone(&app.calls).try_acquire_owned() else {
        let message = format!("nothing changed: {CALLS_MAX} calls are under way already; retry later");
        return Err(Error::new(ErrorKind::Overloaded, message).into());
    };
    let (node, begun) = (app.node.clone(), Instant::now());
    let runtime = tokio::runtime::Handle::current();
    // Dropped with this request: once its client has gone, or was told that there is no answer in time, nobody waits for the call.
    let (_asking, gone) = tokio::sync::oneshot::channel::<()>();
    // Not on a thread that serves others: a function may take its time, or never return.
    let running = tokio::task::spawn_blocking(move || {
        let left = timeout.saturating_sub(begun.elapsed());
        let calling = async {
            tokio::select! {
                biased;
                result = node.call_payload(call, after.as_ref(), left) => result,
                _ = gone => Err(Error::new(ErrorKind::Unanswered, "its caller has gone")),
            }
        };
        let result = runtime.block_on(calling.instrument(span.clone()));
        spans::end(&span, &result);
        drop(permit);
        result
    });
    let Ok(ended) = tokio::time::timeout(timeout + GRACE, running).await else {
        let message =
            format!("{entity} was called and did not answer in time. Whether anything changed is not known");
        return Err(Error::new(ErrorKind::Unanswered, message).into());
    };
    let (reply, token) = ended.map_err(|e| Refusal::internal(e.to_string()))??;
    let text = String::from_utf8(reply.bytes.to_vec()).map_err(|e| Refusal::internal(e.to_string()))?;
    let response = session::with_token(body::line(text), &token);
    Ok(trace_context::with_trace(response, place_in_trace))
}

/// Whether the call may run more than once.
fn is_idempotent(headers: &HeaderMap) -> Result<bool, Refusal> {
    match headers.get(IDEMPOTENT_HEADER).map(HeaderValue::as_bytes) {
        None | Some(b"false") => Ok(false),
        Some(b"true") => Ok(true),
        Some(_) => Err(Refusal::invalid(format!("{IDEMPOTENT_HEADER} is true or false"))),
    }
}

pub(super) fn names(uri: &Uri) -> Result<(EntityId, String), Refusal> {
    let [kind, key, method] = last_segments(uri)?;
    let entity = EntityId::new(&kind, &key).map_err(|e| Refusal::invalid(e.to_string()))?;
    Ok((entity, method))
}
