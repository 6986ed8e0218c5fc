//! What is left of a request's body once its answer is known.
//!
//! Over HTTP/2 an answer to a request that is still being sent is followed by a reset of its stream, which some clients take for the
//! answer: so what is small is read, and thrown away, before it is answered. What is large is answered at once, and read on with for a
//! while beside that: over HTTP/1.1 whoever is hung up on while he sends may never hear why.
//!
//! Not here: bodies that somebody reads (`bodies`). Contract: no more than so many bytes are read, nor for longer; none are kept.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

/// Bytes that are read of what nobody wants.
const REST_BYTES_MAX: u64 = 64 << 10;
/// How long that may take.
const REST_TIMEOUT: Duration = Duration::from_secs(2);

/// The same of what is large, once it is answered. Whoever has more to send, or is slower, may be hung up on.
const LARGE_BYTES_MAX: u64 = 64 << 20;
const LARGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A body that comes back from whoever did not read all of it.
#[derive(Debug)]
pub(super) struct Lent<B> {
    /// None: it has ended.
    body: Option<B>,
    back: Option<oneshot::Sender<B>>,
}

/// Where it comes back to.
#[derive(Debug)]
pub(super) struct Rest<B>(oneshot::Receiver<B>);

/// Lends a body.
pub(super) fn lend<B>(body: B) -> (Lent<B>, Rest<B>) {
    let (back, rest) = oneshot::channel();
    let lent = Lent {
        body: Some(body),
        back: Some(back),
    };
    (lent, Rest(rest))
}

impl<B> Drop for Lent<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Whoever lent it may have gone himself.
            let _ = back.send(body);
        }
    }
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Rest<B> {
    /// Reads what has come back, if that is little; returns it where there is more.
    pub async fn read(mut self) -> Option<B> {
        let mut body = self.0.try_recv().ok().filter(|body| !body.is_end_stream())?;
        if body.size_hint().lower() > REST_BYTES_MAX {
            return Some(body);
        }
        // Who is slower hears it as it comes.
        let reading = tokio::time::timeout(REST_TIMEOUT, throw_away(&mut body, REST_BYTES_MAX));
        let is_read = reading.await.unwrap_or(false);
        (!is_read).then_some(body)
    }
}

/// Reads what there is more of, once that is answered.
pub(super) async fn read_on<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let _ = tokio::time::timeout(LARGE_TIMEOUT, throw_away(&mut body, LARGE_BYTES_MAX)).await;
}

/// Whether there were no more bytes than these.
async fn throw_away<B: Body<Data = Bytes> + Unpin>(body: &mut B, bytes_max: u64) -> bool {
    let mut left = bytes_max;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use http_body_util::channel::Channel;

    use super::*;

    type Sent = Channel<Bytes, std::io::Error>;

    async fn send(sender: &mut http_body_util::channel::Sender<Bytes, std::io::Error>, bytes: usize) -> bool {
        sender.send_data(vec![0; bytes].into()).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_small_is_read_whoever_did_not() {
        let (mut sender, body) = Sent::new(1);
        let (mut lent, rest) = lend(body);
        assert!(send(&mut sender, 1).await);
        assert!(lent.frame().await.unwrap().is_ok());
        drop(lent);
        let sending = async {
            for _ in 0..3 {
                assert!(send(&mut sender, 10_000).await);
            }
            drop(sender);
        };
        let (more, ()) = tokio::join!(rest.read(), sending);
        assert!(more.is_none());
    }

    #[tokio::test]
    async fn what_is_large_or_read_by_somebody_is_not() {
        let (mut sender, body) = Sent::new(1);
        let (lent, rest) = lend(body);
        drop(lent);
        let sending = async {
            let mut sent = 0;
            while sent < 100 && send(&mut sender, 10_000).await {
                sent += 1;
            }
            assert!(sent < 10, "{sent}");
        };
        let reading = async { rest.read().await.map(drop).is_some() };
        assert!(tokio::join!(reading, sending).0);
        // One that is still being read is left to whoever does.
        let (_sender, body) = Sent::new(1);
        let (_lent, rest) = lend(body);
        assert!(rest.read().await.is_none());
    }

    #[tokio::test]
    async fn what_is_large_is_read_on_with_once_it_is_answered() {
        let (mut sender, body) = Sent::new(1);
        let sending = async {
            for _ in 0..100 {
                assert!(send(&mut sender, 10_000).await);
            }
            drop(sender);
        };
        tokio::join!(read_on(body), sending);
        let (mut sender, body) = Sent::new(1);
        let sending = async {
            let mut sent = 0;
            while sent < 100 && send(&mut sender, 1 << 20).await {
                sent += 1;
            }
            assert!((64..70).contains(&sent), "{sent}");
        };
        tokio::join!(read_on(body), sending);
    }
}
