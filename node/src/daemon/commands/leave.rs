//! `leave`: a node stops and tells the others that it does not come back.

use super::super::api::HealthBody;
use super::super::cli::Leave;
use super::super::client::Client;
use super::super::exit::Failure;
use super::super::output;
use super::ANSWER_TIMEOUT;

/// Makes a node leave.
pub async fn run(args: &Leave) -> Result<(), Failure> {
    let client = Client::from_environment()?;
    let body = bytes::Bytes::new();
    let health = client
        .post_bytes::<HealthBody>(&args.at, "/v1/leave", body, ANSWER_TIMEOUT)
        .await?;
    output::line(&format!("node {} is leaving", health.id))
}
