//! `ca init`, `cert issue`: the files that say who belongs to a cluster.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch_crdt::NodeId;

use super::super::cli::{Ca, Cert};
use super::super::exit::Failure;
use super::super::output::{self, quoted};
use crate::transport::ca::{self, CaError, IssueOptions};
use crate::transport::named_in;

/// Every key at its default, with comments. A test of `config` holds it to that.
const TEMPLATE: &str = include_str!("../../../../config/node.toml");

/// `ca ...`.
pub fn ca(command: &Ca) -> Result<(), Failure> {
    let Ca::Init { dir, cluster } = command;
    let dir = absolute(dir)?;
    ca::init(&dir, cluster).map_err(failure)?;
    output::line(&format!(
        "The CA of cluster {cluster} is in {}. Keep ca.key there: who has it can add nodes. Next, for each node:\n  \
         anabranch cert issue --ca {} --out DIR",
        dir.display(),
        quoted(&dir)
    ))
}

/// `cert ...`.
pub fn cert(command: &Cert) -> Result<(), Failure> {
    let Cert::Issue {
        ca,
        out,
        node,
        force,
        days,
    } = command;
    let (ca, out) = (absolute(ca)?, absolute(out)?);
    check_authority(&ca)?;
    check_apart(&ca, &out)?;
    if !force {
        check_empty(&ca, &out)?;
    }
    let node = match node {
        Some(node) => *node,
        None => found(&out)?.unwrap_or_else(|| NodeId(rand::random())),
    };
    let validity = Duration::from_secs(u64::from(*days) * 24 * 3600);
    let options = IssueOptions {
        validity,
        ..IssueOptions::default()
    };
    ca::issue(&ca, node, &out, &options).map_err(failure)?;
    let config = out.join("node.toml");
    let about = match write_new(&config)? {
        true => {
            ", and a node.toml with every key at its default: say there where it listens and where it finds the others. Then, \
             where that directory is"
        }
        false => {
            "; the node.toml that is there stays as it is. The node takes them when it starts the next time, where that \
             directory is"
        }
    };
    output::line(&format!(
        "Node {node}: ca.pem, node.pem and node.key are in {}{about}:\n  anabranch node --config {}",
        out.display(),
        quoted(&config)
    ))
}

/// The node whose certificate is in a directory, which the next one there is to be of: with another id it would be refused its
/// own data.
fn found(out: &Path) -> Result<Option<NodeId>, Failure> {
    let (certificate, key) = (out.join("node.pem"), out.join("node.key"));
    let unknown = |why: String| {
        let message =
            format!("{why}. Say of which node the new certificate is, with --node ID; nothing was replaced");
        Failure::new("identity", message)
    };
    match (certificate.exists(), key.exists()) {
        (true, _) => named_in(&certificate)
            .map(Some)
            .map_err(|e| unknown(e.to_string())),
        (false, true) => Err(unknown(format!("{} has no node.pem beside it", key.display()))),
        (false, false) => Ok(None),
    }
}

/// Leaves a configuration to begin with where there is none, and says so; one that is there stays.
fn write_new(config: &Path) -> Result<bool, Failure> {
    let failed = |e: io::Error| Failure::io(format_args!("cannot write {}", config.display()), &e);
    match File::create_new(config) {
        Ok(mut file) => file.write_all(TEMPLATE.as_bytes()).map(|()| true).map_err(failed),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(failed(e)),
    }
}

fn check_authority(ca: &Path) -> Result<(), Failure> {
    for name in ["ca.pem", "ca.key"] {
        let path = ca.join(name);
        if !path.is_file() {
            return Err(Failure::new(
                "identity",
                format!(
                    "there is no {}: a node's certificate is issued by its cluster's CA. Name the CA's directory with \
                     --ca, or make a new one with\n  anabranch ca init --dir {} --cluster NAME",
                    path.display(),
                    quoted(ca)
                ),
            ));
        }
    }
    Ok(())
}

/// A node's directory is copied to its machine: the CA's key must not be in it.
fn check_apart(ca: &Path, out: &Path) -> Result<(), Failure> {
    let same = |(a, b): (PathBuf, PathBuf)| a == b;
    if !ca
        .canonicalize()
        .ok()
        .zip(out.canonicalize().ok())
        .is_some_and(same)
    {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--out {} is the CA's own directory: name another one, which is copied to the node's machine without ca.key",
        out.display()
    )))
}

/// Whoever replaces a node's key and certificate makes it another node, or locks it out.
fn check_empty(ca: &Path, out: &Path) -> Result<(), Failure> {
    let read = |path: PathBuf| std::fs::read(path).ok();
    let foreign = read(out.join("ca.pem")).is_some_and(|there| Some(there) != read(ca.join("ca.pem")));
    let found = ["node.key", "node.pem"].map(|name| out.join(name));
    let found = found.into_iter().find(|path| path.exists());
    let Some(found) = found.or_else(|| foreign.then(|| out.join("ca.pem"))) else {
        return Ok(());
    };
    Err(Failure::new(
        "identity",
        format!(
            "{} exists: {} holds an identity already, and nothing was replaced. Name another directory with --out, or \
             say --force to replace it (it stays the same node, unless --node ID names another)",
            found.display(),
            out.display()
        ),
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
