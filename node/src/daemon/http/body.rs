//! Bodies: requests' read within bounds, answers' written whole or as a stream.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use crate::daemon::output;

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Chunks of a streamed answer that wait for a slow reader.
const CHUNKS_WAITING_MAX: usize = 2;

/// The sending end of a streamed answer; dropped, the answer is complete.
pub(super) type Chunks = Sender<Bytes, std::io::Error>;

/// Reads a JSON body.
pub(super) async fn read<T: DeserializeOwned>(body: Body, bytes_max: usize) -> Result<T, Refusal> {
    let reading = Limited::new(body, bytes_max).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            let message = format!("the body has more than {bytes_max} bytes (http.body_bytes_max)");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid", message));
        }
        Ok(Err(e)) => return Err(Refusal::invalid(format!("the body cannot be read: {e}"))),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "invalid", message));
        }
    };
    serde_json::from_slice(&body).map_err(|e| {
        Refusal::invalid(output::shortened(format!(
            "the body is not what is expected here: {e}"
        )))
    })
}

/// An answer of one JSON object.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(e) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string()).into_response(),
    }
}

/// An answer of one line of JSON.
pub(super) fn line(mut text: String) -> Response {
    text.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// An answer that is written while it is read.
pub(super) fn stream(content_type: &'static str) -> (Chunks, Response) {
    let (sender, body) = Channel::new(CHUNKS_WAITING_MAX);
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (sender, (headers, Body::new(body)).into_response())
}
