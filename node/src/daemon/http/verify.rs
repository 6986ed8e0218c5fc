//! What this node holds in short, and how that compares with what another one does.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;

use super::App;
use super::body;
use super::error::Refusal;
use crate::daemon::agreement::{self, Holding};
use crate::daemon::api::{ShardBody, SummariesBody, VerifyBody};

/// Differences listed in one answer.
const DIFFERENCES_MAX: usize = 100;
/// The engine's counter of peers that had an equal version vector and a different fingerprint.
pub(in crate::daemon) const MISMATCHES: &str = "fingerprint_mismatches";

/// `GET /v1/shards`.
pub(super) async fn shards(State(app): State<Arc<App>>) -> Response {
    body::json(&summaries(&app))
}

/// `POST /v1/verify`, with another node's `/v1/shards` as the body: how the two differ. The caller carries one to the
/// other, so that a node never opens connections on a stranger's behalf.
pub(super) async fn verify(State(app): State<Arc<App>>, request: Body) -> Result<Response, Refusal> {
    let (theirs, _place) = app.bodies.read::<SummariesBody>(request).await?;
    let holding = |address: &str, summaries| Holding {
        address: address.to_string(),
        summaries,
    };
    let holdings = [holding("here", summaries(&app)), holding("sent", theirs)];
    let differences = agreement::compare(&holdings).map_err(|e| Refusal::invalid(e.message()))?;
    Ok(body::json(&VerifyBody {
        agree: differences.is_empty(),
        differences: differences
            .iter()
            .take(DIFFERENCES_MAX)
            .map(ToString::to_string)
            .collect(),
    }))
}

fn summaries(app: &App) -> SummariesBody {
    let status = app.node.status();
    let shard = |summary: crate::engine::ShardSummary| ShardBody {
        shard: summary.shard.0,
        version_vector: summary
            .version_vector
            .iter()
            .map(|(replica, last)| (replica.to_string(), *last))
            .collect(),
        fingerprint: format!("{:016x}", summary.fingerprint),
    };
    SummariesBody {
        node: status.name,
        id: status.id.to_string(),
        cluster: status.cluster,
        cluster_id: app.cluster_id.clone(),
        shards_total: status.shards,
        fingerprint_mismatches: status.counters.get(MISMATCHES).copied().unwrap_or(0),
        shards: app.node.summaries().into_iter().map(shard).collect(),
    }
}
