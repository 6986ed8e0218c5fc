//! `verify`: all replicas of all shards, compared.

use serde::Serialize;

use super::super::agreement::{self, Difference};
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
    shards: usize,
    differences: Vec<Difference>,
}

/// Compares nodes; a difference is the answer no.
pub async fn run(args: &Verify) -> Result<(), Failure> {
    let client = Client::from_environment()?;
    let addresses = match &args.addresses[..] {
        [] => target::all(args.dir.as_deref())?,
        [one] => {
            return Err(Failure::usage(format!(
                "{one} alone cannot be compared: name at least two nodes"
            )));
        }
        several => several.to_vec(),
    };
    let look = agreement::within(&client, &addresses, args.within).await?;
    let shards = look
        .holdings
        .iter()
        .map(|holding| holding.summaries.shards.len())
        .max()
        .unwrap_or(0);
    let agree = look.differences.is_empty();
    let summary = if agree {
        match addresses.len() {
            1 => format!(
                "1 node holds {}; there is no other to compare it with",
                plural(shards as u64, "shard")
            ),
            nodes => format!("{nodes} nodes agree on {}", plural(shards as u64, "shard")),
        }
    } else {
        format!(
            "{} do not agree: {}",
            plural(addresses.len() as u64, "node"),
            plural(look.differences.len() as u64, "difference")
        )
    };
    if args.json {
        output::object(&Report {
            agree,
            nodes: addresses.len(),
            shards,
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
