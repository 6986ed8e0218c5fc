//! One connection to a function's process: HTTP/2 without TLS.
//!
//! Contract: how a stream ended that its server did not begin with is told apart from every other end: of that nothing was said.
//! A connection whose server has refused a stream is given no more of them: some count what they have not yet written against all
//! that comes later, and some never stop counting what was broken off. Nor is one on which many were broken off (`resets`). What
//! nobody reads of a stream is in the way of no other.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

use super::resets::{Counted, Resets};

/// What the SDKs take and give at most.
pub const MESSAGE_BYTES_MAX: usize = 12 << 20;
/// Streams of a connection at a time: no server should take fewer (RFC 9113, 6.5.2), and some take no more than a few times that.
pub(super) const STREAMS_MAX: usize = 100;
/// What a stream's reader has not read yet, at most: so much memory, for each that nobody reads.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// And of all streams of a connection together: no bound (RFC 9113, 6.9.1), or a few that nobody reads would hold up the others.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// A process that does not answer for so long on the main connection is gone. Many servers end a connection on which nothing but such
/// questions comes: on the main one something is said every few seconds (`pulse`), and those beside it end with it.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no answer's head.
#[derive(Debug, thiserror::Error)]
pub enum Headless {
    /// The server did not begin with it.
    #[error("the function's server takes no more streams of this connection: {0}")]
    NotBegun(#[source] hyper::Error),
    /// Everything else.
    #[error("{0}")]
    Other(#[source] hyper::Error),
}

impl Headless {
    /// A server refuses before it has begun (RFC 9113, 8.7); that of Node.js asks for calm, where one connection would take too much
    /// of its memory.
    fn of(error: hyper::Error) -> Headless {
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<h2::Error>());
        let refused = [h2::Reason::REFUSED_STREAM, h2::Reason::ENHANCE_YOUR_CALM];
        let is_refused = |cause: &h2::Error| {
            let reason = cause.reason();
            cause.is_reset() && cause.is_remote() && reason.is_some_and(|reason| refused.contains(&reason))
        };
        match cause.is_some_and(is_refused) {
            true => Headless::NotBegun(error),
            false => Headless::Other(error),
        }
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |cause| cause.source())
}

/// Whether a call or a stream ended so because its server did not begin with it: nothing was said.
pub fn not_begun(status: &Status) -> bool {
    causes(status).any(|cause| matches!(cause.downcast_ref(), Some(Headless::NotBegun(_))))
}

/// Whether a call or a stream ended so because there is nobody who could have answered. What has a cause here the function did not say;
/// what it said itself has none, whatever the code: also UNAVAILABLE may be its own word for what it needs itself.
pub fn is_gone(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// That there is nobody who could have answered, for that reason.
pub fn gone(why: impl std::error::Error + Send + Sync + 'static) -> Status {
    let mut status = Status::unavailable(why.to_string());
    status.set_source(Arc::new(why));
    status
}

/// Whether it ended so because its connection did, and not because of what came over it.
pub fn was_cut(status: &Status) -> bool {
    causes(status).any(|cause| {
        let is_canceled = |error: &hyper::Error| error.is_canceled() || error.is_closed();
        cause.is::<std::io::Error>() || cause.downcast_ref().is_some_and(is_canceled)
    })
}

/// One connection.
#[derive(Clone)]
pub struct Lane {
    sender: SendRequest<Body>,
    origin: http::Uri,
    ended: watch::Receiver<bool>,
    /// How many streams have room on it.
    taken: Arc<AtomicUsize>,
    /// How many its server takes, as it was when something was asked last.
    takes: Arc<AtomicUsize>,
    /// Whether all end with it.
    is_main: Arc<AtomicBool>,
    resets: Arc<Resets>,
    /// Ends the connection with its last user.
    _held: Arc<watch::Sender<()>>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("origin", &self.origin).finish()
    }
}

impl Lane {
    /// One with which all others end, or one that ends when `over` says so.
    pub(super) async fn open(
        address: SocketAddr,
        is_main: bool,
        over: &Arc<watch::Sender<bool>>,
    ) -> Result<Lane, String> {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        // A command must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let origin = format!("http://{address}").parse().map_err(|e| format!("{e}"))?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if is_main {
            builder
                .keep_alive_interval(ALIVE_EVERY)
                .keep_alive_timeout(ALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
        }
        let (sender, mut driving) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        let takes = Arc::new(AtomicUsize::new(STREAMS_MAX));
        let said = Arc::clone(&takes);
        let driving = poll_fn(move |task| {
            let ended = Pin::new(&mut driving).poll(task);
            said.store(driving.current_max_send_streams(), Ordering::Relaxed);
            ended
        });
        let (end, ended) = watch::channel(false);
        let (held, mut let_go) = watch::channel(());
        let is_main = Arc::new(AtomicBool::new(is_main));
        let (over, was_main) = (Arc::clone(over), Arc::clone(&is_main));
        tokio::spawn(async move {
            let mut all = over.subscribe();
            tokio::select! {
                result = driving => if let Err(error) = result {
                    tracing::debug!(%error, "a connection to a function ended");
                },
                // Nobody uses it any more.
                _ = let_go.changed() => {}
                _ = all.wait_for(|over| *over) => {}
            }
            end.send_replace(true);
            if was_main.load(Ordering::Acquire) {
                over.send_replace(true);
            }
        });
        Ok(Lane {
            sender,
            origin,
            ended,
            taken: Arc::default(),
            takes,
            is_main,
            resets: Arc::default(),
            _held: Arc::new(held),
        })
    }

    #[cfg(test)]
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    #[cfg(test)]
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn takes(&self) -> usize {
        self.takes.load(Ordering::Relaxed)
    }

    /// The others do not end with it any more.
    pub(super) fn succeeded(&self) {
        self.is_main.store(false, Ordering::Release);
    }

    pub(super) fn is_shut(&self) -> bool {
        self.resets.is_shut()
    }

    /// It is given no more streams; what goes on there does.
    pub(super) fn shut(&self) {
        self.resets.shut();
    }

    /// Takes one more of so many streams, if it may be given one.
    pub(super) fn take(&self, most: usize) -> bool {
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        let taking = || {
            self.taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        };
        !self.is_shut() && taking().is_ok()
    }

    /// A stream has ended.
    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn grpc(&self) -> Grpc<Lane> {
        Grpc::with_origin(self.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) async fn ready(&self) -> Result<Grpc<Lane>, Status> {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(gone)?;
        Ok(grpc)
    }

    pub(super) async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(tonic::Request::new(question), path, ProstCodec::default());
        Ok(answer.await?.into_inner())
    }
}

impl tower_service::Service<http::Request<Body>> for Lane {
    type Response = http::Response<Counted<Incoming>>;
    type Error = Headless;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Headless>> {
        self.sender.poll_ready(task).map_err(Headless::Other)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let [sent, mut heard] = self.resets.of_stream();
        let request = request.map(|body| Body::new(sent.with(body)));
        let answering = self.sender.send_request(request);
        let resets = Arc::clone(&self.resets);
        Box::pin(async move {
            match answering.await.map_err(Headless::of) {
                Ok(answer) => Ok(answer.map(|body| heard.with(body))),
                Err(error) => {
                    heard.end();
                    if let Headless::NotBegun(_) = error {
                        resets.shut();
                    }
                    Err(error)
                }
            }
        })
    }
}
