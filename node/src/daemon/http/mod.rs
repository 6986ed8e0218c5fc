//! The admin API: JSON over HTTP/1.1 beneath the commands, beside `/healthz`, `/readyz` and `/metrics`.
//!
//! Not here: what a node does; every handler translates between HTTP and the library's public face. No TLS: it binds
//! to loopback unless configured, and beyond it wants a bearer token.
//!
//! Contract: every error is `{"error","message","retry","changed"}`; connections, bodies and waits are bounded.

mod body;
mod call;
mod count;
mod entities;
mod error;
mod guard;
mod impatient;
mod keys;
mod metrics;
mod places;
mod server;
mod session;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod update;
mod verify;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::body::Bodies;
use self::count::Requests;
use self::error::Refusal;
use self::guard::Guard;
pub use self::server::Server;
use super::api::LeaveBody;
use super::config::HttpConfig;
use super::serving::Serving;
use super::{output, process};
use crate::node::Node;
use crate::sidecar::{self, Discovery, Tls};

/// Somebody who asked the node to leave, and waits to hear how that went.
#[derive(Debug)]
pub struct Asked {
    /// How long the node may wait for its peers to have what it has.
    pub within: Duration,
    /// How it went.
    pub answer: oneshot::Sender<LeaveBody>,
}

/// A reader that takes nothing of its answer for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What every handler knows.
pub struct App {
    node: Node,
    cluster_id: String,
    /// When the node's certificate ends.
    certificate_expires_ms: u64,
    guard: Guard,
    bodies: Bodies,
    connections_max: usize,
    /// Places for answers that go on, so that they leave others for everybody else.
    watches: Arc<Semaphore>,
    watches_max: usize,
    dumps: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    /// Of traces that begin here, how many are recorded: 0 to 1.
    sample: f64,
    /// How long an answer waits for a reader who takes nothing.
    write_timeout: Duration,
    /// The function's process, if the node runs one.
    process: OnceLock<process::Handle>,
    /// Whether there is to be one, wherever it runs.
    has_function: bool,
    /// Whether it was found.
    discovery: OnceLock<Discovery>,
    /// What was asked here, and at the ingress, if there is one.
    requests: Requests,
    ingress_requests: OnceLock<Arc<sidecar::Requests>>,
    /// What the function's callers are shown, if they come over TLS.
    ingress_tls: OnceLock<Tls>,
    /// Asks whoever runs the node to make it leave.
    leave: mpsc::Sender<Asked>,
    /// Set once the API is to stop: answers that would go on for ever end then.
    stop: watch::Sender<bool>,
}

impl App {
    /// The API of one node of this cluster.
    pub fn new(
        node: Node,
        cluster_id: &str,
        certificate_expires_ms: u64,
        config: &HttpConfig,
        sample: f64,
        leave: mpsc::Sender<Asked>,
    ) -> App {
        App {
            node,
            cluster_id: cluster_id.to_string(),
            certificate_expires_ms,
            guard: Guard::new(config),
            bodies: Bodies::new(config.body_bytes_max),
            connections_max: config.connections_max,
            watches: Arc::new(Semaphore::new(config.watches_max)),
            watches_max: config.watches_max,
            dumps: Arc::new(Semaphore::new(config.dumps_max)),
            calls: Arc::new(Semaphore::new(call::CALLS_MAX)),
            sample,
            write_timeout: WRITE_TIMEOUT,
            process: OnceLock::new(),
            has_function: false,
            discovery: OnceLock::new(),
            requests: Requests::default(),
            ingress_requests: OnceLock::new(),
            ingress_tls: OnceLock::new(),
            leave,
            stop: watch::Sender::new(false),
        }
    }
}

impl App {
    /// The node is to serve a function, too: until that is found it is not ready.
    pub fn with_function(self, has_function: bool) -> App {
        App { has_function, ..self }
    }

    /// It serves it from now on: its process, where the node runs it, and what its callers are shown, where they come over TLS.
    pub fn serves(&self, serving: &Serving) {
        // One for each node: it is said once.
        let _ = self.discovery.set(serving.discovery());
        let _ = self.ingress_requests.set(serving.requests());
        let (process, tls) = (serving.process(), serving.tls());
        let _ = process.map(|process| self.process.set(process));
        let _ = tls.map(|tls| self.ingress_tls.set(tls));
    }
}

/// Resolves once the API is to stop (or is gone).
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Every route.
fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(status::health))
        .route("/readyz", get(status::ready))
        .route("/readyz/writes", get(status::ready_for_writes))
        .route("/readyz/function", get(status::ready_for_calls))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/status", get(status::status))
        .route(
            "/v1/entities/{kind}/{key}",
            get(entities::read).post(update::one).delete(update::delete),
        )
        .route("/v1/call/{kind}/{key}/{method}", post(call::call))
        .route(
            "/v1/stream/{kind}/{key}/{method}",
            get(stream::stream).post(stream::stream),
        )
        .route("/v1/watch/{kind}/{key}", get(entities::watch))
        .route("/v1/dump", get(entities::dump))
        .route("/v1/updates", post(update::batch))
        .route("/v1/keys/{key}", get(keys::known))
        .route("/v1/shards", get(verify::shards))
        .route("/v1/verify", post(verify::verify))
        .route("/v1/leave", post(status::leave))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(check_form))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::check))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), count::count))
        .with_state(app)
}

/// What a request asks for behind its path. An empty query asks for nothing.
fn query(uri: &Uri) -> Option<&str> {
    uri.query().filter(|query| !query.is_empty())
}

/// Whatever changes something is told how by its body.
async fn check_form(request: Request, next: Next) -> Response {
    let checked = match *request.method() {
        Method::POST | Method::DELETE => {
            check_query(request.method(), request.uri()).and_then(|()| body::check_form(request.headers()))
        }
        _ => Ok(()),
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// What a query asks for would be ignored, and believed to hold.
fn check_query(method: &Method, uri: &Uri) -> Result<(), Refusal> {
    let Some(query) = query(uri) else { return Ok(()) };
    let message =
        format!("{query:?} asks for nothing that there is: {method} takes no query, its body says how");
    Err(Refusal::invalid(output::shortened(message)))
}

async fn no_route(uri: Uri) -> Refusal {
    let path = uri.path();
    if path.starts_with("/v1/call/") || path.starts_with("/v1/stream/") {
        return Refusal::invalid(format!(
            "{path} is not /v1/call/KIND/KEY/METHOD or /v1/stream/KIND/KEY/METHOD: write a slash within one of them as %2F"
        ));
    }
    if path.starts_with("/v1/entities/") || path.starts_with("/v1/watch/") {
        return Refusal::invalid(format!(
            "{path} is not /v1/entities/KIND/KEY or /v1/watch/KIND/KEY: write a slash within a kind or a key as %2F"
        ));
    }
    Refusal::no_route(format!("there is nothing at {path}"))
}

async fn no_method(method: Method, uri: Uri) -> Refusal {
    Refusal::no_method(format!("{} does not take {method}", uri.path()))
}
