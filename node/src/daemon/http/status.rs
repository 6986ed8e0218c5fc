//! How the node is: alive, ready, and its view of the cluster.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::body;
use super::error::Refusal;
use super::session;
use super::{App, Asked};
use crate::daemon::api::{CertificateBody, HealthBody, MemberBody, ReadinessBody, StatusBody};
use crate::driver::{DiskState, MemberStatus};
use crate::error::{Error, ErrorKind};
use crate::node::{LEAVE_WITHIN, Node, NodeStatus};
use crate::sidecar;
use crate::transport::Validity;

/// `GET /healthz`: the process answers.
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    body::json(&health_body(&app.node))
}

/// `GET /readyz`: 200 only when all is done that the node is there for.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    readiness(&app, no_writes(&app.node).or_else(|| no_function(&app)))
}

/// `GET /readyz/writes`: 200 only when writes are taken, whatever has become of the function.
pub(super) async fn ready_for_writes(State(app): State<Arc<App>>) -> Response {
    readiness(&app, no_writes(&app.node))
}

/// `GET /readyz/function`: 200 only when the function's callers are not refused for want of one.
pub(super) async fn ready_for_calls(State(app): State<Arc<App>>) -> Response {
    readiness(&app, no_function(&app))
}

fn readiness(app: &App, reason: Option<&str>) -> Response {
    let ready = ReadinessBody {
        id: app.node.id().to_string(),
        ready: reason.is_none(),
        reason: reason.map(str::to_owned),
    };
    let status = match ready.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, body::json(&ready)).into_response()
}

fn no_writes(node: &Node) -> Option<&'static str> {
    match node.disk() {
        DiskState::Fine if node.is_ready() => None,
        DiskState::Fine if node.is_stopping() => Some("this node takes no writes any more: it stops"),
        DiskState::Fine => Some("this node does not take writes yet: it catches up"),
        _ => Some("this node takes no writes: /v1/status says what is wrong with its disk"),
    }
}

fn no_function(app: &App) -> Option<&'static str> {
    match app.discovery.get() {
        Some(discovery) => discovery.missing(),
        // It is about to be looked for.
        None if app.has_function => Some(sidecar::UNDISCOVERED),
        None => None,
    }
}

/// `GET /v1/status`.
pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    body::json(&status_body(&app, app.node.status()))
}

/// `POST /v1/leave`: the node says that it does not come back, and stops. Answered when it has left.
pub(super) async fn leave(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let within = session::timeout_or(&headers, LEAVE_WITHIN)?;
    let (sender, answer) = oneshot::channel();
    let asked = Asked {
        within,
        answer: sender,
    };
    // The node stops already, on somebody else's word.
    let stopping = || Refusal::from(Error::new(ErrorKind::Stopping, "this node is stopping"));
    app.leave.try_send(asked).map_err(|_| stopping())?;
    let left = answer.await.map_err(|_| stopping())?;
    Ok(body::json(&left))
}

fn health_body(node: &Node) -> HealthBody {
    HealthBody {
        id: node.id().to_string(),
        ready: no_writes(node).is_none(),
    }
}

fn status_body(app: &App, status: NodeStatus) -> StatusBody {
    let takes_writes = status.takes_writes();
    let (store, store_reason) = match status.disk {
        DiskState::Fine => ("ok", None),
        DiskState::Full { reason } => ("full", Some(reason)),
        DiskState::Refused { reason } => ("refused", Some(reason)),
        DiskState::Failed { reason } => ("poisoned", Some(reason)),
    };
    StatusBody {
        node: status.name,
        id: status.id.to_string(),
        cluster: status.cluster,
        cluster_id: app.cluster_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        certificate_expires_ms: Some(app.certificate_expires_ms),
        ingress_certificate: app.ingress_tls.get().map(|tls| {
            let Validity { from_ms, until_ms } = tls.validity();
            CertificateBody {
                valid_from_ms: from_ms,
                expires_ms: until_ms,
            }
        }),
        epoch: status.epoch.to_string(),
        directory: status.directory.to_string(),
        data: status.data_directory.display().to_string(),
        pid: std::process::id(),
        quic: status.quic_address.to_string(),
        ready: takes_writes,
        shards: status.shards,
        entities: status.entities,
        store: store.to_string(),
        store_reason,
        log_bytes: status.log_bytes,
        snapshot_error: status.snapshot_error,
        members: status.members.into_iter().map(member_body).collect(),
        counters: status
            .counters
            .into_iter()
            .map(|(name, count)| (name.to_string(), count))
            .collect(),
    }
}

fn member_body(member: MemberStatus) -> MemberBody {
    MemberBody {
        id: member.node.to_string(),
        name: member.name,
        epoch: member.epoch.map(|epoch| epoch.to_string()),
        addresses: member.addresses,
        connected: member.connected,
        hint: member.hint.name().to_string(),
        clock_skew_ms: member.clock_skew_ms,
        bytes_sent: member.bytes_sent,
        bytes_received: member.bytes_received,
    }
}
