//! The ingress: where a function's callers come in, over gRPC, or over HTTP with JSON, at one port.
//!
//! Not here: what a call does (`driver`). Contract: connections and messages are bounded; what is asked of a function that is not
//! here goes to the nearest node where it is.

mod call;
mod grpc;
mod json;
mod streams;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tonic::body::Body;

use self::call::Caller;
use super::discovery::Serving;
use super::{Config, told};
use crate::node::Node;

/// How long calls under way may take to end once the node stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A caller that is not heard of for so long is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
/// After a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Calls on one connection at a time.
const STREAMS_MAX: u32 = 1_000;

/// A running ingress.
#[derive(Debug)]
pub(super) struct Ingress {
    address: SocketAddr,
    accepting: JoinHandle<JoinSet<()>>,
}

impl Ingress {
    /// Serves on this listener from now on.
    pub fn start(
        listener: TcpListener,
        node: Node,
        config: &Config,
        serving: watch::Receiver<Serving>,
        stopped: watch::Receiver<bool>,
    ) -> io::Result<Ingress> {
        let address = listener.local_addr()?;
        let caller = Arc::new(Caller::new(node, config.message_bytes_max, serving));
        let places = Arc::new(Semaphore::new(config.connections_max));
        let accepting = tokio::spawn(accept(listener, caller, places, stopped));
        Ok(Ingress { address, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the calls under way some time to end; it was told to stop before.
    pub async fn stop(self) {
        if let Ok(mut connections) = self.accepting.await {
            let all = async { while connections.join_next().await.is_some() {} };
            // What is still under way then is dropped with the set.
            let _ = tokio::time::timeout(DRAIN, all).await;
        }
    }
}

async fn accept(
    listener: TcpListener,
    caller: Arc<Caller>,
    places: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    loop {
        // Nobody is taken without a place.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = told(&mut stopped) => return connections,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let serving = serve(stream, Arc::clone(&caller), stopped.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the ingress");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, caller: Arc<Caller>, mut stopped: watch::Receiver<bool>) {
    // Small answers must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| answer(Arc::clone(&caller), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(ALIVE_EVERY);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the ingress ended early");
    }
}

async fn answer(caller: Arc<Caller>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    Ok(match is_grpc {
        true => grpc::answer(&caller, request).await,
        false => json::answer(&caller, request).await,
    })
}
