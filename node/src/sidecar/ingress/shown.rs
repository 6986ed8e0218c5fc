//! A stream of replies as the body of a response: a line of JSON each, or an event.
//!
//! Contract: all replies before a failure arrive, and then the failure, as a last line or event of its own; only what is put together
//! as raw bytes breaks off, since nothing else could be told from them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio_stream::Stream;
use tonic::Status;
use tonic::body::Body;

use super::streams::Begun;
use crate::sidecar::transcode::Match;

/// An event each.
pub(super) const EVENTS: &str = "text/event-stream";
/// A line each.
const LINES: &str = "application/x-ndjson";

/// One reply a line, or an event each.
pub(super) fn response(route: Match, replies: Begun, is_events: bool) -> Response<Body> {
    let shown = Shown {
        route,
        is_events,
        replies: Some(replies),
        broken: None,
    };
    let mut response = head(is_events);
    *response.body_mut() = Body::new(StreamBody::new(shown));
    response
}

/// The head of such a response.
pub(super) fn head(is_events: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let content_type = if is_events { EVENTS } else { LINES };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is shown of a stream.
struct Shown<S> {
    route: Match,
    is_events: bool,
    /// None: it is over.
    replies: Option<S>,
    /// What it breaks off with.
    broken: Option<Status>,
}

impl<S: Stream<Item = Result<Bytes, Status>> + Unpin> Shown<S> {
    fn show(&self, reply: Result<Bytes, Status>) -> Result<Bytes, Status> {
        let message = reply?;
        let shown = match self.is_events {
            true => self.route.event(&message),
            false => self.route.json_line(&message),
        };
        shown.map_err(|e| Status::internal(e.to_string()))
    }
}

impl<S: Stream<Item = Result<Bytes, Status>> + Unpin> Stream for Shown<S> {
    type Item = Result<Frame<Bytes>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(status) = self.broken.take() {
            return Poll::Ready(Some(Err(status)));
        }
        let Some(replies) = &mut self.replies else {
            return Poll::Ready(None);
        };
        let Some(reply) = ready!(Pin::new(replies).poll_next(cx)) else {
            self.replies = None;
            return Poll::Ready(None);
        };
        match self.show(reply) {
            Ok(shown) => Poll::Ready(Some(Ok(Frame::data(shown)))),
            Err(status) => {
                // Nothing of it is wanted any more.
                self.replies = None;
                if let Some(shown) = self
                    .route
                    .failure(self.is_events, status.code(), status.message())
                {
                    return Poll::Ready(Some(Ok(Frame::data(shown))));
                }
                // What came before is sent first: whoever sends it does so while there is nothing more.
                self.broken = Some(status);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;
    use crate::sidecar::protos;
    use crate::sidecar::transcode::Rules;

    const FILES: &str = r#"syntax = "proto3";
        package google.api;
        message HttpBody { string content_type = 1; bytes data = 2; }
        message Text { string text = 1; }
        service S { rpc Texts(Text) returns (stream Text); rpc Raw(Text) returns (stream HttpBody); }"#;

    /// What is shown of a stream with a reply and then a failure; none is an error.
    async fn shown(
        method: &str,
        is_events: bool,
        replies: Vec<Result<&'static [u8], Status>>,
    ) -> Vec<Option<String>> {
        let pool = protos::pool(FILES);
        let (rules, problems) = Rules::new(pool.services());
        assert_eq!(problems, []);
        let path = format!("/google.api.S/{method}");
        let shown = Shown {
            route: rules.find(&http::Method::POST, &path).unwrap(),
            is_events,
            replies: Some(tokio_stream::iter(replies).map(|reply| reply.map(Bytes::from_static))),
            broken: None,
        };
        let text = |frame: Frame<Bytes>| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        shown.map(|frame| frame.ok().map(text)).collect().await
    }

    #[tokio::test]
    async fn a_failure_is_the_last_line_or_event() {
        let replies = || {
            vec![
                Ok(&b"\x0a\x01a"[..]),
                Err(Status::permission_denied("no\n\"more\"")),
            ]
        };
        let error = r#"{"error":{"code":7,"message":"no\n\"more\"","status":"PERMISSION_DENIED"}}"#;
        assert_eq!(
            shown("Texts", false, replies()).await,
            [Some("{\"text\":\"a\"}\n".into()), Some(format!("{error}\n"))]
        );
        assert_eq!(
            shown("Texts", true, replies()).await,
            [
                Some("data: {\"text\":\"a\"}\n\n".into()),
                Some(format!("event: error\ndata: {error}\n\n"))
            ]
        );
        // What cannot be shown is a failure, too, and the last of all.
        let wrong = shown("Texts", false, vec![Ok(b"\x0a\x05"), Ok(b"")]).await;
        assert_eq!(wrong.len(), 1);
        assert!(
            wrong[0].as_ref().unwrap().contains(r#""status":"INTERNAL""#),
            "{wrong:?}"
        );
    }

    #[tokio::test]
    async fn raw_bytes_break_off() {
        let replies = || vec![Ok(&b"\x12\x01a"[..]), Err(Status::permission_denied("no"))];
        assert_eq!(shown("Raw", false, replies()).await, [Some("a".into()), None]);
        let events = shown("Raw", true, replies()).await;
        assert!(
            events[1].as_ref().unwrap().starts_with("event: error\n"),
            "{events:?}"
        );
    }
}
