//! How many requests came to the admin API, by what they asked for and how they were answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::App;

/// What is asked for, as the metrics name it; the last is everything else.
const OPERATIONS: [&str; 9] = [
    "read", "update", "delete", "call", "stream", "watch", "dump", "probe", "other",
];
/// How an answer's status begins.
const STATUSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// Requests that were answered; of a watch or a stream, how it began.
#[derive(Debug, Default)]
pub(super) struct Requests([[AtomicU64; STATUSES.len()]; OPERATIONS.len()]);

impl Requests {
    /// Each operation and status, with how many there were.
    pub(super) fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut all = Vec::new();
        for (operation, counts) in OPERATIONS.into_iter().zip(&self.0) {
            for (status, count) in STATUSES.into_iter().zip(counts) {
                all.push((operation, status, count.load(Ordering::Relaxed)));
            }
        }
        all
    }

    fn note(&self, operation: &str, status: StatusCode) {
        let operation = OPERATIONS.iter().position(|known| *known == operation);
        let status = match status {
            _ if status.is_client_error() => 1,
            _ if status.is_server_error() => 2,
            _ => 0,
        };
        self.0[operation.unwrap_or(OPERATIONS.len() - 1)][status].fetch_add(1, Ordering::Relaxed);
    }
}

/// Around everything else: what is refused at the door is answered, too.
pub(super) async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let operation = operation(request.method(), request.uri().path());
    let response = next.run(request).await;
    app.requests.note(operation, response.status());
    response
}

/// What a request asks for. A path that is none of them is counted with the others: anybody may make them up.
fn operation(method: &Method, path: &str) -> &'static str {
    const OF_MANY: [(&str, &str); 4] = [
        ("/v1/call/", "call"),
        ("/v1/stream/", "stream"),
        ("/v1/watch/", "watch"),
        ("/readyz/", "probe"),
    ];
    match path {
        "/v1/updates" => "update",
        "/v1/dump" => "dump",
        "/healthz" | "/readyz" => "probe",
        _ if path.starts_with("/v1/entities/") => match *method {
            Method::POST => "update",
            Method::DELETE => "delete",
            _ => "read",
        },
        _ => {
            let found = OF_MANY.iter().find(|(begin, _)| path.starts_with(begin));
            found.map_or("other", |(_, operation)| operation)
        }
    }
}
