//! Two nodes in one program, on the library alone: no daemon, no configuration files, no HTTP.
//!
//! ```text
//! cargo run -p anabranch --no-default-features --features quic --example two_nodes
//! ```
//!
//! Makes a development CA in a temporary directory, starts a node, then a second one that finds the first by its
//! address, updates one counter at both, watches it until both agree, and leaves. Ends by itself; exit code 0 means
//! that both nodes saw everything.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch::{Level, Node, NodeId, PnCounter, Reading, ca};

/// More than this means that something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = Scratch::new()?;
    let finished = tokio::time::timeout(PATIENCE, run(&dir.0)).await;
    finished.map_err(|_| format!("not done after {PATIENCE:?}"))?
}

async fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    println!(
        "a development CA, and a certificate for each node, in {}",
        dir.display()
    );
    ca::init(&dir.join("ca"), "example")?;
    let first = start(dir, "first", NodeId(1), Vec::new()).await?;
    let second = start(dir, "second", NodeId(2), vec![first.quic_address().to_string()]).await?;

    // A handle names an entity; nothing has to be there yet. Kind and type belong together for good.
    let here = first.entity::<PnCounter>("stock", "umbrellas")?;
    let there = second.entity::<PnCounter>("stock", "umbrellas")?;
    let mut changes = there.watch();

    here.increment(5).await?;
    println!("first:  +5, on disk here; reads {:?} at once", here.get());

    // The second node takes writes once it has caught up with a peer.
    second.ready().await;
    there.increment(-2).await?;
    println!("second: -2, on disk there");

    println!("second watches until it has seen both:");
    while let Some(value) = changes.next().await {
        match value {
            Some((_, Reading::Count(count))) => println!("  {count}"),
            other => println!("  {other:?}"),
        }
        if there.get() == Some(3) {
            break;
        }
    }

    // A write level: this one returns when two nodes have it on disk.
    let both: Level = "2".parse()?;
    let answer = here.clone().with_level(both).increment(4).await?;
    println!("first:  +4, on {} disks when the call returned", answer.confirmed);
    assert_eq!((here.get(), there.get()), (Some(7), Some(7)), "both nodes agree");
    println!("both read 7");

    second.leave().await?;
    println!("second has left");
    first.shutdown().await?;
    println!("first has stopped");
    Ok(())
}

/// Starts one node on loopback, with data and certificate under `dir`.
async fn start(dir: &Path, name: &str, id: NodeId, seeds: Vec<String>) -> Result<Node, Box<dyn Error>> {
    let home = dir.join(name);
    ca::issue(&dir.join("ca"), id, &home, &ca::IssueOptions::default())?;
    let node = Node::builder()
        .name(name)
        .directory(home.join("data"))
        .identity_files(home.join("ca.pem"), home.join("node.pem"), home.join("node.key"))
        .seeds(seeds)
        .start()
        .await?;
    println!("{name} ({}) listens at {}", node.id(), node.quic_address());
    Ok(node)
}

/// A directory that goes with the program.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        let dir = std::env::temp_dir().join(format!("anabranch-two-nodes-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
