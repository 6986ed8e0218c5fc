//! What a node remembers of idempotency keys.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::App;
use super::body;
use super::error::Refusal;
use crate::daemon::api::KeyBody;
use crate::percent::{self, Place};
use crate::wire::IdempotencyKey;

/// `GET /v1/keys/KEY`: whether an update under this key was taken. Asking changes nothing, so that a caller who is not
/// sure whether it may go on can look before it writes.
pub(super) async fn known(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Refusal> {
    let segment = uri.path().rsplit('/').next().unwrap_or_default();
    let key = percent::decode(segment, Place::Segment).map_err(|e| Refusal::invalid(e.to_string()))?;
    let key = IdempotencyKey::new(key.as_bytes()).map_err(|e| Refusal::invalid(e.to_string()))?;
    Ok(body::json(&KeyBody {
        known: app.node.knows_key(&key),
        directory: app.node.directory_id().to_string(),
    }))
}
