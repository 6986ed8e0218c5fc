//! Requests' bodies while they are read: how many bytes of all of them there may be, and how long a message may take.
//!
//! A message that comes alone holds its place until its call is answered, so that what is in memory of calls under way is bounded;
//! one of a stream until it is there whole, since a stream takes no more messages than it has room for.
//!
//! Not here: what a message is, but for how gRPC says its length. Contract: a body beyond either bound ends with a status, and what it
//! was to call was not called; one whose length says so beforehand is not begun with, so that nobody is invited to send it
//! (`100 Continue`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::payload::PAYLOAD_BYTES_MAX;

/// Bytes of all messages that are being read, or whose calls are under way, at a time.
const BODIES_BYTES_MAX: usize = 64 << 20;
/// Bytes of JSON for each of the message that it is: names and escapes take more.
const JSON_PER_BYTE: usize = 4;
// One as large as can be configured always fits.
const _: () = assert!(JSON_PER_BYTE * PAYLOAD_BYTES_MAX <= BODIES_BYTES_MAX);
/// How long a message may take: one of a stream from its first byte on, one that comes alone from its request on.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// What has become of a message that does not come whole, alone and in a stream.
const UNCHANGED: &str = "nothing changed";
const NOT_TAKEN: &str = "the stream's message was not taken";
/// What stands before each message of gRPC: a flag, and how long the message is.
const PREFIX_BYTES: usize = 5;

/// Room in memory for requests' bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    timeout: Duration,
}

/// A body's place in memory, as long as this is kept.
#[derive(Clone, Debug)]
pub(super) struct Held {
    _place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    room: Arc<Semaphore>,
    bytes: AtomicUsize,
}

impl Place {
    fn new(room: &Arc<Semaphore>) -> Place {
        Place {
            room: Arc::clone(room),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Holds so many bytes from now on: more or fewer than before. False where there is no room.
    fn hold(&self, bytes: usize) -> bool {
        // Nobody but the body that is read changes it.
        let before = self.bytes.load(Ordering::Relaxed);
        if let Some(more) = bytes.checked_sub(before) {
            let more = u32::try_from(more).ok();
            let Some(Ok(more)) = more.map(|more| self.room.try_acquire_many(more)) else {
                return false;
            };
            more.forget();
        } else {
            self.room.add_permits(before - bytes);
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.add_permits(*self.bytes.get_mut());
    }
}

impl Bodies {
    pub fn new() -> Bodies {
        Bodies {
            room: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
            timeout: MESSAGE_TIMEOUT,
        }
    }

    /// A body that is the JSON of one message of at most so many bytes; and its place, to be kept as long as the message is.
    pub fn json(&self, body: Body, message_bytes_max: usize) -> (Body, Held) {
        let bytes_max = message_bytes_max.saturating_mul(JSON_PER_BYTE);
        self.held(
            body,
            Shape::Alone {
                bytes_max,
                part: None,
            },
        )
    }

    /// The same of a message of gRPC.
    pub fn message(&self, request: Request<Body>, bytes_max: usize) -> (Request<Body>, Held) {
        let (head, body) = request.into_parts();
        let part = Some(Part::new(bytes_max));
        let bytes_max = bytes_max.saturating_add(PREFIX_BYTES);
        let (body, held) = self.held(body, Shape::Alone { bytes_max, part });
        (Request::from_parts(head, body), held)
    }

    /// A body that is a stream of messages of gRPC, of at most so many bytes each.
    pub fn messages(&self, request: Request<Body>, bytes_max: usize) -> Request<Body> {
        let shape = Shape::Stream(Part::new(bytes_max));
        let place = Arc::new(Place::new(&self.room));
        request.map(|body| Body::new(self.metered(body, place, shape)))
    }

    fn held(&self, body: Body, shape: Shape) -> (Body, Held) {
        let place = Arc::new(Place::new(&self.room));
        let metered = self.metered(body, Arc::clone(&place), shape);
        (Body::new(metered), Held { _place: place })
    }

    fn metered(&self, body: Body, place: Arc<Place>, shape: Shape) -> Metered {
        let due = match shape {
            Shape::Alone { .. } => Some(Box::pin(sleep(self.timeout))),
            Shape::Stream(_) => None,
        };
        Metered {
            body,
            place,
            shape,
            timeout: self.timeout,
            due,
        }
    }
}

/// What a body is.
#[derive(Debug)]
enum Shape {
    /// A message; of gRPC where it has a part, which is all of it.
    Alone {
        bytes_max: usize,
        part: Option<Part>,
    },
    Stream(Part),
}

/// A body that is looked after.
#[derive(Debug)]
struct Metered {
    body: Body,
    place: Arc<Place>,
    shape: Shape,
    timeout: Duration,
    /// When what is on its way is given up.
    due: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    /// That a message is too long by what its request says of the body's length (`content-length`), if it is.
    fn check_declared(&self) -> Result<(), Status> {
        let Shape::Alone { bytes_max, part } = &self.shape else {
            return Ok(());
        };
        let left = usize::try_from(http_body::Body::size_hint(&self.body).lower()).unwrap_or(usize::MAX);
        let all = self.place.bytes.load(Ordering::Relaxed).saturating_add(left);
        if all <= *bytes_max {
            return Ok(());
        }
        let why = match part {
            Some(part) => TooLong::Message(part.bytes_max),
            None => TooLong::Json(*bytes_max),
        };
        Err(too_long(UNCHANGED, why))
    }

    /// Takes bytes that have come.
    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        let bytes = match &mut self.shape {
            Shape::Alone { bytes_max, part } => {
                let bytes = self.place.bytes.load(Ordering::Relaxed) + data.len();
                if let Some(part) = part {
                    // What is longer than it may be is never told to whoever makes room by what a message says.
                    part.take(data).map_err(|why| too_long(UNCHANGED, why))?;
                }
                if bytes > *bytes_max {
                    return Err(too_long(UNCHANGED, TooLong::Json(*bytes_max)));
                }
                bytes
            }
            Shape::Stream(part) => {
                let is_another = part.take(data).map_err(|why| too_long(NOT_TAKEN, why))?;
                match part.bytes {
                    0 => self.due = None,
                    _ if is_another => self.due = Some(Box::pin(sleep(self.timeout))),
                    _ => {}
                }
                part.bytes
            }
        };
        match self.place.hold(bytes) {
            true => Ok(()),
            false => {
                let what = self.what();
                let text = format!(
                    "{what}: of messages that are on their way to functions there are {BODIES_BYTES_MAX} bytes at most at a time; \
                     retry later"
                );
                Err(Status::resource_exhausted(text))
            }
        }
    }

    /// What has become of a message that does not come whole.
    fn what(&self) -> &'static str {
        match self.shape {
            Shape::Alone { .. } => UNCHANGED,
            Shape::Stream(_) => NOT_TAKEN,
        }
    }
}

/// That there are more bytes than these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum TooLong {
    /// Of a message as gRPC has it, which is what is limited.
    #[error(
        "the message has more than {0} bytes, encoded as for gRPC (the node's ingress.message_bytes_max)"
    )]
    Message(usize),
    /// Of its JSON.
    #[error(
        "the body has more than {0} bytes: JSON may have {JSON_PER_BYTE} for each of its message, which has {message} at most, \
         encoded as for gRPC (the node's ingress.message_bytes_max)",
        message = .0 / JSON_PER_BYTE
    )]
    Json(usize),
}

/// That a message has too many bytes, whose end would have been another one.
fn too_long(what: &str, why: TooLong) -> Status {
    let mut status = Status::resource_exhausted(format!("{what}: {why}"));
    status.set_source(Arc::new(why));
    status
}

/// That a message that came alone has too many bytes.
pub(super) fn too_large(bytes_max: usize) -> Status {
    too_long(UNCHANGED, TooLong::Message(bytes_max))
}

/// Whether it says that a message has too many bytes; what is exhausted is something else otherwise.
pub(super) fn is_too_large(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<TooLong>())
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Err(status) = this.check_declared() {
            return Poll::Ready(Some(Err(status)));
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.data_ref().map(Bytes::as_ref);
                let taken = this.take(data.unwrap_or_default());
                Poll::Ready(Some(taken.map(|()| frame)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => {
                let Some(due) = &mut this.due else {
                    return Poll::Pending;
                };
                ready!(due.as_mut().poll(cx));
                let (what, seconds) = (this.what(), this.timeout.as_secs());
                let text = format!("{what}: it did not come within {seconds} s");
                Poll::Ready(Some(Err(Status::deadline_exceeded(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What has come of a stream's message that is not there whole yet.
#[derive(Debug)]
struct Part {
    /// Bytes of a message at most, without its prefix.
    bytes_max: usize,
    /// Bytes of it, its prefix among them; none between two messages.
    bytes: usize,
    /// Its prefix, as far as it has come.
    prefix: [u8; PREFIX_BYTES],
}

impl Part {
    fn new(bytes_max: usize) -> Part {
        Part {
            bytes_max,
            bytes: 0,
            prefix: [0; PREFIX_BYTES],
        }
    }

    /// Takes bytes of the stream. Whether another message has begun in them.
    fn take(&mut self, mut data: &[u8]) -> Result<bool, TooLong> {
        let mut is_another = false;
        while !data.is_empty() {
            is_another |= self.bytes == 0;
            // As much as this message still wants, as far as that is known.
            let wants = match self.length() {
                Some(length) => length - self.bytes,
                None => PREFIX_BYTES - self.bytes,
            };
            let (now, later) = data.split_at(wants.min(data.len()));
            for (to, from) in self.prefix.iter_mut().skip(self.bytes).zip(now) {
                *to = *from;
            }
            self.bytes += now.len();
            data = later;
            match self.length() {
                Some(length) if length - PREFIX_BYTES > self.bytes_max => {
                    return Err(TooLong::Message(self.bytes_max));
                }
                Some(length) if length == self.bytes => self.bytes = 0,
                _ => {}
            }
        }
        Ok(is_another)
    }

    /// How long it is, prefix and all, once it has said so.
    fn length(&self) -> Option<usize> {
        let [_, length @ ..] = self.prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        (self.bytes >= PREFIX_BYTES).then(|| length.saturating_add(PREFIX_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use http_body_util::channel::{Channel, Sender};
    use tonic::Code;

    use super::*;

    fn bodies(room: usize, timeout: Duration) -> Bodies {
        Bodies {
            room: Arc::new(Semaphore::new(room)),
            timeout,
        }
    }

    fn channel() -> (Sender<Bytes, Status>, Body) {
        let (sender, body) = Channel::new(8);
        (sender, Body::new(body))
    }

    async fn send(sender: &mut Sender<Bytes, Status>, bytes: &[u8]) {
        sender.send_data(Bytes::copy_from_slice(bytes)).await.unwrap();
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_until_their_calls_are_answered() {
        let bodies = bodies(100, MESSAGE_TIMEOUT);
        let read = async |bytes: usize| {
            let (body, held) = bodies.json(Body::new(http_body_util::Full::from(vec![0; bytes])), 20);
            let read = body.collect().await;
            read.map(|body| (body.to_bytes().len(), held))
        };
        let (read_bytes, first) = read(60).await.unwrap();
        assert_eq!(read_bytes, 60);
        let refused = read(41).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().starts_with("nothing changed"), "{refused}");
        // What was refused has taken no room.
        let (_, second) = read(40).await.unwrap();
        drop((first.clone(), second));
        assert!(read(41).await.is_err(), "somebody still has the first");
        drop(first);
        assert!(read(80).await.is_ok());
        // What is said is what is limited, and by which setting.
        let refused = read(81).await.unwrap_err();
        for what in [
            "more than 80 bytes",
            "4 for each",
            "has 20 at most",
            "ingress.message_bytes_max",
        ] {
            assert!(refused.message().contains(what), "{refused}");
        }
        assert!(is_too_large(&refused));
        let refused = too_large(20);
        for what in [
            "more than 20 bytes, encoded as for gRPC",
            "ingress.message_bytes_max",
        ] {
            assert!(refused.message().contains(what), "{refused}");
        }
        assert_eq!(bodies.room.available_permits(), 100);
    }

    /// A body of this length that nobody may look at.
    struct Unread(u64);

    impl http_body::Body for Unread {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            panic!("it was begun with")
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test]
    async fn what_is_too_long_by_its_own_word_is_not_begun_with() {
        let bodies = bodies(100, MESSAGE_TIMEOUT);
        let (json, _held) = bodies.json(Body::new(Unread(81)), 20);
        let refused = json.collect().await.unwrap_err();
        assert!(is_too_large(&refused));
        assert!(refused.message().contains("more than 80 bytes"), "{refused}");
        let (message, _held) = bodies.message(Request::new(Body::new(Unread(26))), 20);
        let refused = message.into_body().collect().await.unwrap_err();
        assert!(is_too_large(&refused));
        assert!(refused.message().contains("more than 20 bytes"), "{refused}");
        assert_eq!(bodies.room.available_permits(), 100);
    }

    #[tokio::test]
    async fn who_does_not_send_on_is_let_go() {
        let bodies = bodies(100, Duration::from_millis(1));
        let (mut sender, body) = channel();
        send(&mut sender, b"half of").await;
        let (body, held) = bodies.json(body, 25);
        let late = body.collect().await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        drop(held);
        let (mut sender, body) = channel();
        let mut stream = bodies.messages(Request::new(body), usize::MAX).into_body();
        send(&mut sender, &[0, 0, 0, 0, 1, 7, 0, 0]).await;
        stream.frame().await.unwrap().unwrap();
        let late = stream.frame().await.unwrap().unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert!(!late.message().contains("nothing changed"), "{late}");
        drop(stream);
        assert_eq!(bodies.room.available_permits(), 100);
    }

    #[tokio::test]
    async fn a_stream_may_be_idle_between_messages_and_holds_what_is_not_whole_yet() {
        let bodies = bodies(100, MESSAGE_TIMEOUT);
        let (mut sender, body) = channel();
        let shape = Shape::Stream(Part::new(usize::MAX));
        let mut stream = bodies.metered(body, Arc::new(Place::new(&bodies.room)), shape);
        // Two messages of three bytes and none, cut anywhere: what is held then.
        for (part, held) in [
            (&[0, 0][..], 2),
            (&[0, 0, 3], 5),
            (&[1, 1], 7),
            (&[1], 0),
            (&[0, 0, 0, 0, 0], 0),
            (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 1, 1, 0], 1),
        ] {
            send(&mut sender, part).await;
            stream.frame().await.unwrap().unwrap();
            assert_eq!(bodies.room.available_permits(), 100 - held, "{part:?}");
            assert_eq!(stream.due.is_some(), held > 0, "{part:?}");
        }
        drop(sender);
        assert!(stream.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_message_that_says_it_is_too_long_is_refused_before_it_comes() {
        let bodies = bodies(100, MESSAGE_TIMEOUT);
        for is_alone in [true, false] {
            for (sent, is_refused) in [
                (&[0, 0, 0, 0, 3, 1, 1, 1][..], false),
                (&[0, 0, 0, 0, 4], true),
                (&[0, 255, 255, 255, 255], true),
            ] {
                let (mut sender, body) = channel();
                let mut held = None;
                let body = match is_alone {
                    true => {
                        let (request, place) = bodies.message(Request::new(body), 3);
                        held = Some(place);
                        request.into_body()
                    }
                    false => bodies.messages(Request::new(body), 3).into_body(),
                };
                send(&mut sender, sent).await;
                drop(sender);
                let read = body.collect().await;
                assert_eq!(read.is_err(), is_refused, "{sent:?}");
                if let Err(status) = read {
                    assert!(is_too_large(&status));
                    assert_eq!(status.code(), Code::ResourceExhausted);
                }
                drop(held);
            }
        }
        let full = Status::resource_exhausted("there is no room");
        assert!(!is_too_large(&full));
    }
}
