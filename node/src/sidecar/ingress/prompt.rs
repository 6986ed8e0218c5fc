//! A connection to the ingress until it has said which protocol it speaks.
//!
//! Why: whoever is silent, or stops within the words that HTTP/2 begins with, would keep its place for as long as it likes. Each
//! protocol has times of its own from there on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a client of HTTP/2 says first (RFC 9113, section 3.4). What begins in any other way is HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail at a time, unless it has said by then what it speaks.
pub(super) struct Prompt<S> {
    stream: S,
    /// How much of the preface was heard.
    heard: usize,
    /// Until it is known what is spoken.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Prompt<S> {
    pub(super) fn new(stream: S, deadline: Instant) -> Prompt<S> {
        Prompt {
            stream,
            heard: 0,
            deadline: Some(Box::pin(sleep_until(deadline))),
        }
    }

    /// These bytes came, or none: it has ended.
    fn hear(&mut self, bytes: &[u8]) {
        let missing = &PREFACE[self.heard..];
        let is_preface = bytes.len() < missing.len() && missing.starts_with(bytes);
        if is_preface && !bytes.is_empty() {
            self.heard += bytes.len();
        } else {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buffer) {
            if this.deadline.is_some() {
                this.hear(&buffer.filled()[before..]);
            }
            return Poll::Ready(read);
        }
        let Some(deadline) = &mut this.deadline else {
            return Poll::Pending;
        };
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it has not said which protocol it speaks",
        )))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
