//! A stream of replies as the body of a response: a line of JSON each, or an event; or the bytes of `google.api.HttpBody`s, put
//! together, whose first one says in the head what they are.
//!
//! Contract: all replies before a failure arrive, and then the failure, as a last line or event of its own; only what is put together
//! as raw bytes breaks off, since nothing else could be told from them. Events are never silent for long: what is on the way ends
//! connections on which nothing comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::Stream;
use tonic::Status;
use tonic::body::Body;

use super::streams::Begun;
use crate::sidecar::transcode::Match;

/// An event each.
pub(super) const EVENTS: &str = "text/event-stream";
/// A comment among events, after so long without one: as the admin API has it.
const ALIVE: &str = ":\n\n";
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// A line each.
const LINES: &str = "application/x-ndjson";

/// What a stream is shown as: events where they are asked for, raw bytes as their first reply says, or lines.
///
/// # Errors
/// It has failed before the first reply that says so, or that cannot be shown.
pub(super) async fn content_type(
    route: &Match,
    replies: &mut Begun,
    is_events: bool,
) -> Result<HeaderValue, Status> {
    if is_events || !route.is_raw() {
        return Ok(HeaderValue::from_static(if is_events { EVENTS } else { LINES }));
    }
    let first = replies.first().await?;
    let first = route.response(first.map_or(&[], |first| first));
    let content_type = first.map_err(|e| Status::internal(e.to_string()))?.content_type;
    HeaderValue::try_from(content_type).map_err(|e| Status::internal(e.to_string()))
}

/// The replies as a body: an event each, a line each, or their bytes one behind the other.
pub(super) fn response(
    route: Match,
    replies: Begun,
    is_events: bool,
    content_type: HeaderValue,
) -> Response<Body> {
    let shown = Shown::new(route, replies, is_events, ALIVE_EVERY);
    let mut response = head(Some(content_type));
    *response.body_mut() = Body::new(StreamBody::new(shown));
    response
}

/// The same for whoever asks for no more than the head, which nobody is called for.
pub(super) fn head_of(route: &Match, is_events: bool) -> Response<Body> {
    // What raw bytes are only their first reply could say.
    let content_type = match (is_events, route.is_raw()) {
        (true, _) => Some(EVENTS),
        (false, false) => Some(LINES),
        (false, true) => None,
    };
    let mut response = head(content_type.map(HeaderValue::from_static));
    // Of an empty body it would be said how long it is, and what it stands for is longer.
    let nothing = tokio_stream::empty::<Result<Frame<Bytes>, Status>>();
    *response.body_mut() = Body::new(StreamBody::new(nothing));
    response
}

fn head(content_type: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.extend(content_type.map(|content_type| (header::CONTENT_TYPE, content_type)));
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
    /// When it is said of events that they go on, though there is nothing to say.
    due: Option<Pin<Box<Sleep>>>,
    every: Duration,
}

impl<S: Stream<Item = Result<Bytes, Status>> + Unpin> Shown<S> {
    fn new(route: Match, replies: S, is_events: bool, every: Duration) -> Shown<S> {
        Shown {
            route,
            is_events,
            replies: Some(replies),
            broken: None,
            due: is_events.then(|| Box::pin(sleep(every))),
            every,
        }
    }

    /// That it goes on, where that is to be said.
    fn poll_alive(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let Some(due) = &mut self.due else {
            return Poll::Pending;
        };
        ready!(due.as_mut().poll(cx));
        self.was_said();
        Poll::Ready(Bytes::from_static(ALIVE.as_bytes()))
    }

    fn was_said(&mut self) {
        if let Some(due) = &mut self.due {
            due.as_mut().reset(Instant::now() + self.every);
        }
    }

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
        let reply = match Pin::new(replies).poll_next(cx) {
            Poll::Pending => return self.poll_alive(cx).map(|alive| Some(Ok(Frame::data(alive)))),
            Poll::Ready(None) => {
                self.replies = None;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(reply)) => reply,
        };
        self.was_said();
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
    use tonic::Code;

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
        let route = rules.find(&http::Method::POST, &path).unwrap();
        let replies = tokio_stream::iter(replies).map(|reply| reply.map(Bytes::from_static));
        let shown = Shown::new(route, replies, is_events, ALIVE_EVERY);
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
    async fn what_raw_bytes_are_their_first_reply_says() {
        let pool = protos::pool(FILES);
        let (rules, _) = Rules::new(pool.services());
        let route = |method: &str| {
            let path = format!("/google.api.S/{method}");
            rules.find(&http::Method::POST, &path).unwrap()
        };
        for (method, is_events, first, is) in [
            (
                "Raw",
                false,
                Some(&b"\x0a\x08text/csv\x12\x01a"[..]),
                Ok("text/csv"),
            ),
            ("Raw", false, Some(b"\x12\x01a"), Ok("application/octet-stream")),
            ("Raw", false, None, Ok("application/octet-stream")),
            ("Raw", false, Some(b"\x0a\x03a\nb"), Err(Code::Internal)),
            ("Raw", true, Some(b"\x0a\x08text/csv"), Ok(EVENTS)),
            ("Texts", false, Some(b""), Ok(LINES)),
        ] {
            let replies = first.map(Bytes::from_static).map(Ok);
            let mut begun = Begun::of(replies).await.unwrap();
            let found = content_type(&route(method), &mut begun, is_events).await;
            let found = found.map_err(|status| status.code());
            assert_eq!(found, is.map(HeaderValue::from_static), "{method} {first:?}");
        }
        let head = |method, is_events| head_of(&route(method), is_events).into_parts().0.headers;
        assert_eq!(head("Raw", false).get(header::CONTENT_TYPE), None);
        assert_eq!(head("Raw", true)[header::CONTENT_TYPE], EVENTS);
        assert_eq!(head("Texts", false)[header::CONTENT_TYPE], LINES);
        let body = head_of(&route("Texts"), false).into_body();
        assert_eq!(http_body::Body::size_hint(&body).exact(), None);
    }

    #[tokio::test]
    async fn events_on_which_nothing_came_were_silent_for_ever() {
        let (rules, _) = Rules::new(protos::pool(FILES).services());
        let route = || rules.find(&http::Method::POST, "/google.api.S/Texts").unwrap();
        let (sender, replies) = tokio::sync::mpsc::channel(1);
        let replies = tokio_stream::wrappers::ReceiverStream::new(replies);
        let mut shown = Shown::new(route(), replies, true, Duration::from_millis(1));
        let text = |frame: Option<Result<Frame<Bytes>, Status>>| frame.unwrap().unwrap().into_data().unwrap();
        for _ in 0..3 {
            assert_eq!(text(shown.next().await), ALIVE);
        }
        sender.send(Ok(Bytes::from_static(b"\x0a\x01a"))).await.unwrap();
        assert!(text(shown.next().await).starts_with(b"data: "));
        assert_eq!(text(shown.next().await), ALIVE);
        // Lines have no comments.
        let (_sender, replies) = tokio::sync::mpsc::channel(1);
        let replies = tokio_stream::wrappers::ReceiverStream::new(replies);
        let mut lines = Shown::new(route(), replies, false, Duration::ZERO);
        let mut shown = Shown::new(route(), tokio_stream::pending(), true, Duration::from_millis(1));
        tokio::select! {
            biased;
            line = lines.next() => panic!("{line:?}"),
            alive = shown.next() => assert_eq!(text(alive), ALIVE),
        }
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
