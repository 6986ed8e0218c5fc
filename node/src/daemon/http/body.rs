//! Bodies: requests' read within bounds, answers' written whole or as a stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::Refusal;
use crate::daemon::config::BODY_BYTES_DEFAULT;
use crate::daemon::strict;
use crate::engine::limits::UPDATE_BYTES_MAX;
use crate::sidecar::media;

/// How long a request's body may take to arrive, and how much of it buys another second.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_BYTES_PER_S_MIN: usize = 1 << 20;
/// Bytes of all bodies that are being read or parsed at a time; one as large as is configured always fits. What a body
/// becomes while it is parsed is larger than its bytes, by less than ten times.
const BODIES_BYTES_MAX: usize = 256 << 20;
/// A body larger than this is parsed where it keeps nobody else waiting.
const ASIDE_BYTES: usize = 256 << 10;
/// Chunks of a streamed answer that wait for a slow reader.
const CHUNKS_WAITING_MAX: usize = 2;

// An update of ordinary names is at most twice its bytes as JSON; one that is all escapes may be refused.
const _: () = assert!(2 * UPDATE_BYTES_MAX <= BODY_BYTES_DEFAULT);
const _: () = assert!(BODY_BYTES_DEFAULT <= BODIES_BYTES_MAX);

/// The sending end of a streamed answer; dropped, the answer is complete.
pub(super) type Chunks = Sender<Bytes, std::io::Error>;

/// Room in memory for requests' bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Bytes of one.
    bytes_max: usize,
    /// Bytes of all.
    room: Arc<Semaphore>,
}

/// A body's place in memory; dropped once what came of the body is small, or somebody else's to bound.
#[derive(Debug, Default)]
pub(super) struct Place(Option<OwnedSemaphorePermit>);

impl Bodies {
    /// Room for bodies of at most so many bytes each.
    pub(super) fn new(bytes_max: usize) -> Bodies {
        Bodies {
            bytes_max,
            room: Arc::new(Semaphore::new(BODIES_BYTES_MAX.max(bytes_max))),
        }
    }

    /// Reads a body that is one JSON object.
    pub(super) async fn read<T>(&self, body: Body) -> Result<(T, Place), Refusal>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let (bytes, place) = self.receive(body).await?;
        let parse = move || strict::object::<T>(&bytes);
        let parsed = if place.bytes() <= ASIDE_BYTES {
            parse()
        } else {
            tokio::task::spawn_blocking(parse)
                .await
                .map_err(|e| Refusal::internal(e.to_string()))?
        };
        match parsed {
            Ok(value) => Ok((value, place)),
            Err(e) => Err(Refusal::invalid(strict::in_words(&format!(
                "the body is not what is expected here: {e}"
            )))),
        }
    }

    /// Reads a body, whatever it is.
    pub(super) async fn receive(&self, mut body: Body) -> Result<(Vec<u8>, Place), Refusal> {
        if body.size_hint().lower() > self.bytes_max as u64 {
            return Err(self.too_large());
        }
        let (mut bytes, mut place) = (Vec::new(), Place::default());
        let start = Instant::now();
        loop {
            let earned = Duration::from_secs((bytes.len() / BODY_BYTES_PER_S_MIN) as u64);
            let data = match timeout_at(start + BODY_TIMEOUT + earned, body.frame()).await {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(None) => return Ok((bytes, place)),
                Ok(Some(Err(e))) => {
                    return Err(Refusal::invalid(format!("the body cannot be read: {e}")));
                }
                Err(_) => {
                    let message = format!("the body did not arrive within {} s", start.elapsed().as_secs());
                    return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "invalid", message));
                }
            };
            if bytes.len() + data.len() > self.bytes_max {
                return Err(self.too_large());
            }
            place.grow(&self.room, data.len())?;
            bytes.extend_from_slice(&data);
        }
    }

    fn too_large(&self) -> Refusal {
        let message = format!(
            "the body has more than {} bytes (http.body_bytes_max)",
            self.bytes_max
        );
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid", message)
    }
}

impl Place {
    fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn grow(&mut self, room: &Arc<Semaphore>, bytes: usize) -> Result<(), Refusal> {
        let permits = u32::try_from(bytes).ok();
        let more = permits.and_then(|n| Arc::clone(room).try_acquire_many_owned(n).ok());
        match (&mut self.0, more) {
            (_, None) => Err(Refusal::overloaded(
                "not accepted, nothing changed: too many bytes of requests are being read; retry later",
            )),
            (Some(place), Some(more)) => {
                place.merge(more);
                Ok(())
            }
            (none, more) => {
                *none = more;
                Ok(())
            }
        }
    }
}

/// That a body is what is read here: UTF-8, as it is. Whatever else its content type says, it is taken for JSON.
pub(super) fn check_form(headers: &HeaderMap) -> Result<(), Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str);
    let content_type = content_type.and_then(Result::ok).unwrap_or_default();
    let checked = match media::foreign_charset(content_type) {
        Some(charset) => Err(media::no_charset(charset)),
        None => media::check_encoding(headers),
    };
    checked.map_err(|why| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid", why))
}

/// An answer of one JSON object.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(e) => Refusal::internal(e.to_string()).into_response(),
    }
}

/// An answer of one line of JSON.
pub(super) fn line(mut text: String) -> Response {
    text.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// An answer that is written while it is read.
pub(super) fn stream(content_type: &'static str) -> (Chunks, Gone, Response) {
    let (sender, body) = Channel::new(CHUNKS_WAITING_MAX);
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let (held, gone) = oneshot::channel::<Infallible>();
    let body = body.map_frame(move |frame| {
        let _ = &held;
        frame
    });
    (sender, Gone(gone), (headers, Body::new(body)).into_response())
}

/// Tells when nobody reads a streamed answer any more, also while there is nothing to write.
pub(super) struct Gone(oneshot::Receiver<Infallible>);

impl Gone {
    pub(super) async fn wait(&mut self) {
        // It is never sent anything: it ends with the answer's body.
        let _ = (&mut self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reading a body of so many bytes of a JSON object gives: its place, or the status of the refusal.
    async fn read(bodies: &Bodies, bytes: usize) -> Result<Place, u16> {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        let read = bodies.read::<serde_json::Value>(Body::from(text)).await;
        read.map(|(_, place)| place)
            .map_err(|refusal| refusal.status().as_u16())
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded() {
        let bodies = Bodies {
            bytes_max: 1_000,
            room: Arc::new(Semaphore::new(2_500)),
        };
        let first = read(&bodies, 1_000).await.unwrap();
        let second = read(&bodies, 1_000).await.unwrap();
        assert_eq!((first.bytes(), second.bytes()), (1_000, 1_000));
        assert_eq!(read(&bodies, 1_000).await.unwrap_err(), 503);
        assert_eq!(read(&bodies, 500).await.unwrap().bytes(), 500);
        // What was refused has taken no room, and what is done with gives its own back.
        drop(first);
        assert_eq!(read(&bodies, 1_000).await.unwrap().bytes(), 1_000);
        assert_eq!(read(&bodies, 1_001).await.unwrap_err(), 413);
    }
}
