//! Sends what has ended to a collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, header};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::Part;
use super::layer::Parts;
use crate::driver::spans::TARGET;

/// Where a collector takes traces, by OTLP.
pub const TRACES_PATH: &str = "/v1/traces";
/// Parts that wait to be sent, at most.
const WAITING_MAX: usize = 16_384;
/// Parts in one request, at most.
const BATCH_MAX: usize = 512;
/// A part waits for others so long at most.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// A collector has so long for a request.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// What is left when the node ends has so long.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What sends parts; stopped in order, it sends what it has.
pub struct Exporter {
    stop: oneshot::Sender<oneshot::Sender<()>>,
}

impl Exporter {
    /// Sends what it has, if the collector takes it soon.
    pub async fn stop(self) {
        let (done, is_done) = oneshot::channel();
        if self.stop.send(done).is_ok() {
            let _ = timeout(FLUSH_TIMEOUT, is_done).await;
        }
    }
}

/// Sends parts of traces to this collector, as of this node: `http://HOST:PORT`, to which the path is added.
pub fn start<S>(collector: &str, node: &str) -> (Exporter, impl Layer<S> + Send + Sync + use<S>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (queue, parts) = mpsc::channel(WAITING_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = oneshot::channel();
    let sending = Sending {
        client: legacy::Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
        at: format!("{collector}{TRACES_PATH}"),
        node: node.to_owned(),
        lost: Arc::clone(&lost),
        is_failing: false,
    };
    tokio::spawn(sending.run(parts, stopped));
    let layer = Parts { queue, lost }.with_filter(filter_fn(|of| of.target() == TARGET));
    (Exporter { stop }, layer)
}

struct Sending {
    client: legacy::Client<HttpConnector, Full<Bytes>>,
    at: String,
    node: String,
    lost: Arc<AtomicU64>,
    is_failing: bool,
}

impl Sending {
    async fn run(
        mut self,
        mut parts: mpsc::Receiver<Part>,
        mut stopped: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        loop {
            let mut batch = Vec::new();
            let done = tokio::select! {
                _ = gather(&mut parts, &mut batch) => None,
                done = &mut stopped => Some(done),
            };
            let Some(done) = done else {
                self.send(batch).await;
                continue;
            };
            // No more comes: what is there is sent.
            parts.close();
            while let Some(part) = parts.recv().await {
                batch.push(part);
                if batch.len() == BATCH_MAX {
                    self.send(std::mem::take(&mut batch)).await;
                }
            }
            self.send(batch).await;
            return drop(done.map(|done| done.send(())));
        }
    }

    async fn send(&mut self, batch: Vec<Part>) {
        if batch.is_empty() {
            return;
        }
        let parts = batch.len() as u64;
        let sent = timeout(SEND_TIMEOUT, self.post(&batch)).await;
        let why = match sent {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some("it did not answer in time".to_owned()),
        };
        if why.is_some() {
            self.lost.fetch_add(parts, Ordering::Relaxed);
        }
        let lost = self.lost.load(Ordering::Relaxed);
        match (why, std::mem::replace(&mut self.is_failing, false)) {
            (Some(why), was_failing) => {
                self.is_failing = true;
                if !was_failing {
                    tracing::warn!(
                        at = self.at,
                        why,
                        "the collector takes no traces; what it misses is lost"
                    );
                }
            }
            (None, true) => tracing::info!(at = self.at, lost, "the collector takes traces again"),
            (None, false) => {}
        }
    }

    async fn post(&self, batch: &[Part]) -> Result<(), String> {
        let body = serde_json::to_vec(&request(&self.node, batch)).map_err(|e| e.to_string())?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.at)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| e.to_string())?;
        let response = self.client.request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("it answers with status {status}"))
    }
}

/// Waits for parts, and for more of them for a while. Whatever is gathered stays in `batch`.
async fn gather(parts: &mut mpsc::Receiver<Part>, batch: &mut Vec<Part>) {
    match parts.recv().await {
        Some(part) => batch.push(part),
        None => return std::future::pending().await,
    }
    let until = Instant::now() + BATCH_WAIT;
    while batch.len() < BATCH_MAX {
        match timeout_at(until, parts.recv()).await {
            Ok(Some(part)) => batch.push(part),
            Ok(None) | Err(_) => return,
        }
    }
}

/// `ExportTraceServiceRequest`, as JSON.
fn request(node: &str, batch: &[Part]) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let spans: Vec<Value> = batch.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", "anabranch"), text("service.instance.id", node)]},
        "scopeSpans": [{
            "scope": {"name": "anabranch", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

fn span(part: &Part) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let kind = match part.role.as_str() {
        "server" => 2,
        "client" => 3,
        _ => 1,
    };
    // The first part of a trace has none.
    let parent = if part.parent.bytes().all(|digit| digit == b'0') {
        ""
    } else {
        &part.parent
    };
    let status = match &part.error {
        Some(error) => json!({"code": 2, "message": error}),
        None => json!({}),
    };
    json!({
        "traceId": part.trace,
        "spanId": part.span,
        "parentSpanId": parent,
        "name": format!("{} {}", part.name, part.method),
        "kind": kind,
        "startTimeUnixNano": part.began_ns.to_string(),
        "endTimeUnixNano": part.ended_ns.to_string(),
        "attributes": [text("anabranch.entity", &part.entity), text("anabranch.method", &part.method)],
        "status": status,
    })
}
