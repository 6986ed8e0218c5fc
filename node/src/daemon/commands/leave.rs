//! `leave`: a node stops and tells the others that it does not come back.

use std::time::Duration;

use super::super::api::LeaveBody;
use super::super::cli::{Ask, Target};
use super::super::exit::Failure;
use super::super::output::{self, plural};
use super::read::node;
use crate::node::LEAVE_WITHIN;

/// How much longer than the node waits for its peers it is waited for: what it does after that takes seconds.
const GRACE: Duration = Duration::from_secs(10);

/// Makes a node leave, and says what has become of what it had.
pub async fn run(args: &Ask) -> Result<(), Failure> {
    let timeout = args.timeout.unwrap_or(LEAVE_WITHIN);
    let args = &args.target;
    let (client, at) = node(args).await?;
    let client = client.with_timeout(timeout);
    let body = bytes::Bytes::new();
    let left: LeaveBody = client
        .post_bytes(&at, "/v1/leave", body, timeout + GRACE)
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
        let others = others(left.peers, left.handed_over);
        // Of one that may not have been heard, or have left something behind, the warning says the rest.
        let what = match left.warning {
            None => "left",
            Some(_) => "stopped",
        };
        output::line(&format!("node {} has {what}: {others}", left.id))
    }
}

fn others(peers: usize, handed_over: bool) -> String {
    let (has, was) = match peers {
        1 => ("has", "was"),
        _ => ("have", "were"),
    };
    let nodes = plural(peers as u64, "other node");
    match (peers, handed_over) {
        (0, _) => "no other node was connected".to_string(),
        (_, true) => format!("{nodes} {has} all that it had"),
        (_, false) => format!("{nodes} {was} connected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_has_and_two_have() {
        assert_eq!(others(0, false), "no other node was connected");
        assert_eq!(others(1, true), "1 other node has all that it had");
        assert_eq!(others(2, true), "2 other nodes have all that it had");
        assert_eq!(others(1, false), "1 other node was connected");
    }
}
