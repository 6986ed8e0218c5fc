//! Streams that were broken off from this side, of a connection.
//!
//! Breaking one off costs a server more than a client (CVE-2023-44487, "rapid reset"). So servers count, and end the connection, with
//! all that is on it, where there are many: Node.js at a thousand at once, others at 200 in half a minute. Callers that leave, and
//! deadlines that pass, must not come to that: a connection is given no more streams well before it, and what goes on there does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// After so many it is given no more streams. As many as it has at a time may be broken off besides.
pub(super) const RESETS_MAX: usize = 96;

/// A connection's.
#[derive(Debug, Default)]
pub(super) struct Resets {
    count: AtomicUsize,
    /// Whether it is given no more streams, for this or another reason.
    is_shut: AtomicBool,
}

impl Resets {
    pub fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }

    pub fn shut(&self) {
        self.is_shut.store(true, Ordering::Relaxed);
    }

    fn one_more(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 >= RESETS_MAX {
            self.shut();
        }
    }

    /// Both sides of a stream that is about to begin.
    pub fn of_stream(self: &Arc<Resets>) -> [Side; 2] {
        let stream = Arc::new(Stream {
            resets: Arc::clone(self),
            is_counted: AtomicBool::new(false),
        });
        [(); 2].map(|()| Side {
            stream: Arc::clone(&stream),
            has_ended: false,
        })
    }
}

#[derive(Debug)]
struct Stream {
    resets: Arc<Resets>,
    is_counted: AtomicBool,
}

/// What is sent on a stream, or what is heard: let go before its end, it breaks the stream off.
#[derive(Debug)]
pub(super) struct Side {
    stream: Arc<Stream>,
    has_ended: bool,
}

impl Side {
    /// It has come to its end, by whatever the other side said.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    /// The same side with what is said on it.
    pub fn with<B: Body>(mut self, body: B) -> Counted<B> {
        self.has_ended |= body.is_end_stream();
        Counted { body, side: self }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !self.has_ended && !self.stream.is_counted.swap(true, Ordering::Relaxed) {
            self.stream.resets.one_more();
        }
    }
}

/// What is said on one side of a stream.
#[derive(Debug)]
pub struct Counted<B> {
    body: B,
    side: Side,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(task));
        let is_last = match &next {
            None => true,
            Some(Ok(frame)) => frame.is_trailers() || self.body.is_end_stream(),
            Some(Err(_)) => false,
        };
        self.side.has_ended |= is_last;
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
