//! A byte of the log that changed on the disk while its node was down: the node refuses to start, names the place,
//! and nothing else is affected.

use std::fs;
use std::path::PathBuf;

use super::support::cluster::{Cluster, Node};
use super::support::exit;
use super::support::face::agreed;

/// Where the first record's payload begins: behind the segment's header and the record's.
const PAYLOAD_OFFSET: usize = 64 + 20;
/// Where that record begins.
const RECORD_OFFSET: &str = "offset 64";

#[test]
fn a_damaged_segment_is_refused_with_its_name_and_offset() {
    let mut cluster = Cluster::start("damaged-segment", 2);
    // Each is a commit of its own, and says that the one before was durable.
    for number in 1..=20 {
        cluster.nodes[1].increment("count", "a", number);
    }
    let before = agreed(cluster.faces());
    cluster.nodes[1].kill();
    let segment = first_segment(&cluster.nodes[1]);
    flip(&segment);

    let started = cluster.nodes[1].run_to_end();
    started.failed(
        exit::CORRUPT,
        &[segment.to_str().unwrap(), RECORD_OFFSET, "damaged"],
    );
    // It changed nothing, so the second attempt fails the same way.
    cluster.nodes[1]
        .run_to_end()
        .failed(exit::CORRUPT, &[segment.to_str().unwrap(), RECORD_OFFSET]);
    cluster.nodes[0].increment("count", "b", 1);
    assert!(cluster.nodes[0].dump().contains(before.trim_end()));

    // Mended by hand, it is as if nothing had been.
    flip(&segment);
    cluster.nodes[1].start_ready();
    agreed(cluster.faces());
    assert_eq!(cluster.nodes[1].count("count", "a"), 210);
    assert_eq!(cluster.nodes[1].count("count", "b"), 1);
}

fn first_segment(node: &Node) -> PathBuf {
    let files = fs::read_dir(node.data())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("log-");
    files.filter(is_segment).min().expect("a segment")
}

fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    bytes[PAYLOAD_OFFSET] ^= 0x10;
    fs::write(path, bytes).unwrap();
}
