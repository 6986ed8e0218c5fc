//! The headers of sessions: what a request's caller has seen, and what it has seen with the answer.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;

use super::error::Refusal;
use crate::daemon::api::{SESSION_HEADER, TIMEOUT_HEADER, TIMEOUT_MS_MAX};
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::wire::{TOKEN_TEXT_BYTES_MAX, Token};

/// The header in which a browser sends back what came as an event's id.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// The token that a request carries.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<Token>, Refusal> {
    let Some(value) = headers.get(SESSION_HEADER) else {
        return Ok(None);
    };
    // One that begins with this request.
    if value.is_empty() {
        return Ok(Some(Token::default()));
    }
    parse(SESSION_HEADER, value).map(Some)
}

/// The token that a browser sends back, once it has been cut off from server-sent events.
pub(super) fn last_event(headers: &HeaderMap) -> Result<Option<Token>, Refusal> {
    let value = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
    value.map(|value| parse(LAST_EVENT_ID, value)).transpose()
}

fn parse(name: &str, value: &HeaderValue) -> Result<Token, Refusal> {
    let token = value.to_str().unwrap_or_default().parse::<Token>();
    token.map_err(|e| Refusal::invalid(format!("{name}: {e}")))
}

/// How long a read waits for what its session has seen.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Duration, Refusal> {
    timeout_or(headers, Duration::from_millis(TIMEOUT_MS_DEFAULT))
}

/// How long a request says that it may take, or what holds where it says nothing.
pub(super) fn timeout_or(headers: &HeaderMap, default: Duration) -> Result<Duration, Refusal> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else {
        return Ok(default);
    };
    let ms = value.to_str().ok().and_then(|text| text.parse().ok());
    match ms.filter(|ms| *ms <= TIMEOUT_MS_MAX) {
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(Refusal::invalid(format!(
            "{TIMEOUT_HEADER} is a whole number of milliseconds, at most {TIMEOUT_MS_MAX}"
        ))),
    }
}

/// An answer with what its caller has seen now; without, where that is more than a token may hold.
pub(super) fn with_token(mut response: Response, token: &Token) -> Response {
    let text = token.to_string();
    if text.len() <= TOKEN_TEXT_BYTES_MAX
        && let Ok(value) = HeaderValue::try_from(text)
    {
        let name = HeaderName::from_static(SESSION_HEADER);
        response.headers_mut().insert(name, value);
    }
    response
}
