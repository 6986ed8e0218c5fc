//! `leave`: a node stops and tells the others that it does not come back.

use super::super::api::LeaveBody;
use super::super::cli::Target;
use super::super::exit::Failure;
use super::super::output::{self, plural};
use super::ANSWER_TIMEOUT;
use super::read::node;

/// Makes a node leave, and says what has become of what it had.
pub async fn run(args: &Target) -> Result<(), Failure> {
    let (client, at) = node(args).await?;
    let body = bytes::Bytes::new();
    let left: LeaveBody = client
        .post_bytes(&at, "/v1/leave", body, ANSWER_TIMEOUT)
        .await
        .map_err(|failure| {
            failure.unsent_or("the node may or may not have left; its log says what became of it")
        })?;
    tell(args, &left).map_err(|failure| failure.or_changed(true))?;
    match left.warning {
        None => Ok(()),
        Some(warning) => Err(Failure::new("unconfirmed", warning).changed(true)),
    }
}

fn tell(args: &Target, left: &LeaveBody) -> Result<(), Failure> {
    if args.json {
        output::object(left)
    } else {
        let others = match left.peers {
            0 => "no other node was connected".to_string(),
            peers if left.handed_over => {
                format!("{} have all that it had", plural(peers as u64, "other node"))
            }
            peers => format!("{} were connected", plural(peers as u64, "other node")),
        };
        output::line(&format!("node {} has left: {others}", left.id))
    }
}
