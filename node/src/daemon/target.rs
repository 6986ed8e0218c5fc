//! Which node a command asks: the one named with `--at`, else the first that answers of the cluster in `--dir`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;

use super::api::{HealthBody, StatusBody};
use super::client::Client;
use super::cluster_dir::{self, ClusterFile, DIR_DEFAULT, NodeEntry};
use super::exit::Failure;

/// How long each remembered node may take to say that it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The address of the node to ask.
pub async fn find(client: &Client, at: Option<&str>, dir: Option<&Path>) -> Result<String, Failure> {
    if let Some(at) = at {
        return Ok(at.to_string());
    }
    let (path, cluster) = remembered(dir)?;
    for node in &cluster.nodes {
        let at = cluster_dir::http_address(&path, node).to_string();
        // Somebody else may listen at a dead node's port: only the node itself knows its id.
        match client.get::<HealthBody>(&at, "/healthz", PROBE_TIMEOUT).await {
            Ok(health) if health.id == node.id => return Ok(at),
            Ok(_) | Err(_) => {}
        }
    }
    Err(Failure::new(
        "unreachable",
        format!(
            "no node of the cluster in {} answers; start it with `up`, or name a node with --at HOST:PORT",
            path.display()
        ),
    ))
}

/// A node of the cluster in a directory.
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its address.
    pub at: String,
}

/// All nodes of the cluster in `dir`, running or not.
pub fn all(dir: Option<&Path>) -> Result<Vec<Known>, Failure> {
    let (path, cluster) = remembered(dir)?;
    let known = |node: &NodeEntry| Known {
        name: node.name.clone(),
        id: node.id.clone(),
        at: cluster_dir::http_address(&path, node).to_string(),
    };
    Ok(cluster.nodes.iter().map(known).collect())
}

/// Parts those that have left for good from these nodes: such a one does not answer, and the others say so. Who stands still is
/// waited for no longer than `patience`.
pub async fn part_left(client: &Client, nodes: Vec<Known>, patience: Duration) -> (Vec<Known>, Vec<Known>) {
    let (mut there, mut said) = (BTreeSet::new(), Vec::new());
    let timeout = patience.min(PROBE_TIMEOUT);
    // All at once: several that stand still take no longer than one.
    let mut asking = JoinSet::new();
    for at in nodes.iter().map(|node| node.at.clone()) {
        let client = client.clone();
        asking.spawn(async move { client.get::<StatusBody>(&at, "/v1/status", timeout).await });
    }
    while let Some(status) = asking.join_next().await {
        if let Ok(Ok(status)) = status {
            there.insert(status.id);
            said.extend(status.members);
        }
    }
    let has_left = |node: &Known| {
        let mut of_it = said.iter().filter(|member| member.id == node.id);
        // One is enough: who was started since knows only that it is not there.
        !there.contains(&node.id) && of_it.any(|member| member.hint == "left" && !member.connected)
    };
    nodes.into_iter().partition(|node| !has_left(node))
}

fn remembered(dir: Option<&Path>) -> Result<(PathBuf, ClusterFile), Failure> {
    let dir = dir.unwrap_or(Path::new(DIR_DEFAULT));
    let path = std::path::absolute(dir).map_err(|e| Failure::io(dir.display(), &e))?;
    match cluster_dir::read(&path)? {
        Some(cluster) => Ok((path, cluster)),
        None => Err(Failure::new(
            "unreachable",
            format!(
                "there is no cluster in {}; start one with `up --nodes 3`, or name a node with --at HOST:PORT",
                path.display()
            ),
        )),
    }
}
