//! The listener of the admin API: accepts, bounds and closes connections.
//!
//! Why not `axum::serve`: it bounds neither the connections nor the time a request's head may take.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::middleware;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::super::exit::Failure;
use super::guard::LocalAddress;
use super::impatient::Impatient;
use super::places::{Places, Seat, occupy};
use super::{App, router, told};

/// How long a request's head may take, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// After a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running admin API.
pub struct Server {
    address: SocketAddr,
    app: Arc<App>,
    accepting: JoinHandle<JoinSet<()>>,
}

impl Server {
    /// Serves on this listener from now on.
    pub fn start(listener: TcpListener, app: Arc<App>) -> Result<Server, Failure> {
        let failed = |e| Failure::io("the HTTP listener", &e);
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stopped = app.stop.subscribe();
        let places = Places::new(app.connections_max);
        let serving = Serving {
            router: router(Arc::clone(&app)),
            write_timeout: app.write_timeout,
            stopped: stopped.clone(),
        };
        let accepting = tokio::spawn(accept(listener, serving, places, stopped));
        Ok(Server {
            address,
            app,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and gives those under way so long to end.
    pub async fn stop(self, drain: Duration) {
        self.app.stop.send_replace(true);
        if let Ok(mut connections) = self.accepting.await {
            let all = async { while connections.join_next().await.is_some() {} };
            // What is still under way then is dropped with the set.
            let _ = tokio::time::timeout(drain, all).await;
        }
    }
}

/// What a connection is served with.
#[derive(Clone)]
struct Serving {
    router: Router,
    write_timeout: Duration,
    stopped: watch::Receiver<bool>,
}

async fn accept(
    listener: tokio::net::TcpListener,
    serving: Serving,
    places: Arc<Places>,
    mut stopped: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    loop {
        // Nobody is served without a place; whoever asks nothing makes room for the one that comes.
        let next = async {
            let accepted = listener.accept().await;
            (places.take().await, accepted)
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = told(&mut stopped) => return connections,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            (Some(place), Ok((stream, _))) => {
                connections.spawn(serve(stream, places.seat(place), serving.clone()));
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (None, _) => return connections,
        }
    }
}

async fn serve(stream: TcpStream, seat: Arc<Seat>, serving: Serving) {
    let Serving {
        router,
        write_timeout,
        mut stopped,
    } = serving;
    // Small answers must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let router = router
        .layer(Extension(LocalAddress(local)))
        .layer(middleware::from_fn(occupy))
        .layer(Extension(Arc::clone(&seat)));
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(Impatient::new(stream, write_timeout)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        // Nothing is under way on it that could be waited for.
        () = told(&mut stopped) => if seat.is_idle() { return } else { None },
        () = seat.cut_off() => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
