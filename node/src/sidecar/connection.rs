//! A connection to a function's process: HTTP/2 without TLS, one for everything.
//!
//! Contract: it is never made anew behind anybody's back. That it has ended is known at once, and is how a function's end is known.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
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

/// What the SDKs take and give at most.
pub const MESSAGE_BYTES_MAX: usize = 12 << 20;
/// A process that does not answer for so long on a connection is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that may have ended.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Body>,
    origin: http::Uri,
    ended: watch::Receiver<bool>,
    /// Ends the connection with its last user.
    _held: Arc<watch::Sender<()>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("origin", &self.origin)
            .finish()
    }
}

impl Connection {
    /// Connects, within the time that the other side's TCP takes.
    ///
    /// # Errors
    /// Nobody is there.
    pub async fn open(address: SocketAddr) -> Result<Connection, String> {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        // A command must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let origin = format!("http://{address}").parse().map_err(|e| format!("{e}"))?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let (sender, driving) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        let (end, ended) = watch::channel(false);
        let (held, mut let_go) = watch::channel(());
        tokio::spawn(async move {
            tokio::select! {
                result = driving => if let Err(error) = result {
                    tracing::debug!(%error, "the connection to a function ended");
                },
                // Nobody uses it any more.
                _ = let_go.changed() => {}
            }
            end.send_replace(true);
        });
        Ok(Connection {
            sender,
            origin,
            ended,
            _held: Arc::new(held),
        })
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// A client of it.
    pub fn grpc(&self) -> Grpc<Connection> {
        Grpc::with_origin(self.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// One question and its answer.
    ///
    /// # Errors
    /// The status that it ended with.
    pub async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready()
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(tonic::Request::new(question), path, ProstCodec::default());
        Ok(answer.await?.into_inner())
    }
}

impl tower_service::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(task)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
