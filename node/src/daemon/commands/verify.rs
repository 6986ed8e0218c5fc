//! `verify`: all replicas of all shards, compared.

use std::time::Instant;

use serde::Serialize;

use super::super::agreement::{self, ANSWER_TIMEOUT_MIN, Difference, Look};
use super::super::cli::Verify;
use super::super::client::Client;
use super::super::exit::Failure;
use super::super::output::{self, plural};
use super::super::target;

/// Differences that people are shown.
const SHOWN_MAX: usize = 20;

#[derive(Serialize)]
struct Report {
    agree: bool,
    nodes: usize,
    /// Those that were not compared: they have left the cluster.
    left: Vec<String>,
    shards: usize,
    /// Of those, the ones that kept changing.
    changing: usize,
    differences: Vec<Difference>,
}

/// Compares nodes; a difference is the answer no.
pub async fn run(args: &Verify) -> Result<(), Failure> {
    let client = Client::from_environment()?;
    let begun = Instant::now();
    let (addresses, left) = match &args.addresses[..] {
        [] => remembered(&client, args).await?,
        [one] => {
            return Err(Failure::usage(format!(
                "{one} alone cannot be compared: name at least two nodes"
            )));
        }
        several => (several.to_vec(), Vec::new()),
    };
    let wait = args.within.saturating_sub(begun.elapsed());
    let look = agreement::within(&client, &addresses, wait).await?;
    let shards = look
        .holdings
        .iter()
        .map(|holding| holding.summaries.shards.len())
        .max()
        .unwrap_or(0);
    let agree = look.differences.is_empty();
    let summary = summary(addresses.len(), shards, &look);
    if args.json {
        output::object(&Report {
            agree,
            nodes: addresses.len(),
            left,
            shards,
            changing: look.changing,
            differences: look.differences,
        })?;
    } else {
        for difference in look.differences.iter().take(SHOWN_MAX) {
            output::line(&output::tame(&difference.to_string()))?;
        }
        if look.differences.len() > SHOWN_MAX {
            output::line(&format!(
                "... and {} more (--json lists all)",
                look.differences.len() - SHOWN_MAX
            ))?;
        }
        if agree {
            output::line(&summary)?;
        }
    }
    if agree {
        Ok(())
    } else {
        Err(Failure::new("no", summary))
    }
}

/// What was found, in a sentence.
fn summary(nodes: usize, shards: usize, look: &Look) -> String {
    let shards = plural(shards as u64, "shard");
    if !look.differences.is_empty() {
        let nodes = plural(nodes as u64, "node");
        let differences = plural(look.differences.len() as u64, "difference");
        return format!("{nodes} do not agree: {differences}");
    }
    if nodes == 1 {
        return format!("1 node holds {shards}; there is no other to compare it with");
    }
    match look.changing {
        0 => format!("{nodes} nodes agree on {shards}"),
        changing => format!(
            "{nodes} nodes agree on {shards}; {changing} kept changing: each node has what any had {} s before, the states were not \
             compared",
            agreement::KEPT_UP.as_secs()
        ),
    }
}

/// Where the nodes under the directory are, and the names of those among them that have left and are not asked.
async fn remembered(client: &Client, args: &Verify) -> Result<(Vec<String>, Vec<String>), Failure> {
    // Half of the time is left for the comparison.
    let patience = (args.within / 2).max(ANSWER_TIMEOUT_MIN);
    let (members, left) = target::part_left(client, target::all(args.dir.as_deref())?, patience).await;
    let left: Vec<String> = left.into_iter().map(|node| node.name).collect();
    if !args.json {
        for name in &left {
            output::note(&format!("{name} has left the cluster: it is not compared"));
        }
    }
    Ok((members.into_iter().map(|node| node.at).collect(), left))
}
