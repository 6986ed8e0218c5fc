//! `ca init`, `cert issue`: the files that say who belongs to a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch_crdt::NodeId;

use super::super::cli::{Ca, Cert};
use super::super::exit::Failure;
use super::super::output;
use crate::transport::ca::{self, CaError, IssueOptions};

/// `ca ...`.
pub fn ca(command: &Ca) -> Result<(), Failure> {
    let Ca::Init { dir, cluster } = command;
    let dir = absolute(dir)?;
    ca::init(&dir, cluster).map_err(failure)?;
    output::line(&format!(
        "The CA of cluster {cluster} is in {}. Keep ca.key there: who has it can add nodes. Next, for each node:\n  \
         anabranch cert issue --ca {} --out DIR",
        dir.display(),
        dir.display()
    ))
}

/// `cert ...`.
pub fn cert(command: &Cert) -> Result<(), Failure> {
    let Cert::Issue { ca, out, node, days } = command;
    let (ca, out) = (absolute(ca)?, absolute(out)?);
    let node = node.unwrap_or_else(|| NodeId(rand::random()));
    let validity = Duration::from_secs(u64::from(*days) * 24 * 3600);
    ca::issue(
        &ca,
        node,
        &out,
        &IssueOptions {
            validity,
            ..IssueOptions::default()
        },
    )
    .map_err(failure)?;
    output::line(&format!(
        "Node {node}: ca.pem, node.pem and node.key are in {}. Beside them a node.toml (config/node.toml has every key):\n  \
         anabranch node --config {}",
        out.display(),
        out.join("node.toml").display()
    ))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::io(path.display(), &e))
}

fn failure(error: CaError) -> Failure {
    let name = match &error {
        CaError::File { .. } => "io",
        _ => "identity",
    };
    Failure::new(name, error.to_string())
}
