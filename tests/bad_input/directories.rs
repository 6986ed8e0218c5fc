//! Data directories that are not this node's to use.

use std::fs;
use std::path::Path;

use crate::support::cluster::{Cluster, node_id};
use crate::support::command::{anabranch, make_authority, make_certificate};
use crate::support::exit;

/// Where a data directory says whose it is.
const META: &str = "meta";
/// Where that file has its format's number.
const FORMAT_OFFSET: usize = 8;

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let cluster = Cluster::prepare("unwritable", 1);
    let node = &cluster.nodes[0];
    // The user of a test may be one whom no permission stops; a file is no directory for anybody.
    fs::write(node.data(), "in the way").unwrap();
    node.run_to_end()
        .failed(exit::IO, &[node.data().to_str().unwrap()]);
    assert_eq!(fs::read_to_string(node.data()).unwrap(), "in the way");
}

#[test]
fn a_directory_in_use_is_refused() {
    let mut cluster = Cluster::start("directory-in-use", 1);
    let node = &mut cluster.nodes[0];
    let text = fs::read_to_string(&node.config).unwrap();
    let other = text
        .replacen(&node.quic, "127.0.0.1:0", 2)
        .replacen(&node.http, "127.0.0.1:0", 1);
    let other = other.replacen("advertise = [\"127.0.0.1:0\"]", "", 1);
    let config = node.config.with_file_name("second.toml");
    fs::write(&config, other).unwrap();
    let pid = node.process().pid().to_string();
    let second = anabranch(["node", "--config", config.to_str().unwrap()]);
    second.failed(exit::IN_USE, &[node.data().to_str().unwrap(), "in use", &pid]);
    // The first one is not disturbed.
    node.increment("count", "a", 1);
    node.stop();
}

#[test]
fn a_directory_of_another_node_or_cluster_or_version_is_refused_and_left_alone() {
    let mut cluster = Cluster::start("foreign-directory", 2);
    cluster.nodes[0].increment("count", "a", 1);
    cluster.nodes.iter_mut().for_each(|node| node.stop());
    let (owner, node) = (&cluster.nodes[0], &cluster.nodes[1]);
    let before = content(owner.data());

    let text = fs::read_to_string(&node.config).unwrap();
    node.configure("data = \"data\"", &format!("data = {:?}", owner.data()));
    let said = [
        "belongs to node",
        &format!("{:032x}", node_id(0)),
        owner.data().to_str().unwrap(),
    ];
    node.run_to_end().failed(exit::DIRECTORY, &said);
    fs::write(&node.config, text).unwrap();

    // The same node id, in a cluster of another name.
    let home = owner.config.parent().unwrap();
    let ca = cluster.dir.join("other-ca");
    make_authority(&ca, "other");
    let kept = ["ca.pem", "node.pem", "node.key"].map(|name| (name, fs::read(home.join(name)).unwrap()));
    make_certificate(&ca, node_id(0), home);
    owner.configure("cluster = \"foreign-directory\"", "");
    owner.run_to_end().failed(
        exit::DIRECTORY,
        &["belongs to cluster \"foreign-directory\"", "\"other\""],
    );
    for (name, bytes) in kept {
        fs::write(home.join(name), bytes).unwrap();
    }

    let meta = fs::read(owner.data().join(META)).unwrap();
    fs::write(owner.data().join(META), newer(&meta)).unwrap();
    owner.run_to_end().failed(exit::NEWER_FORMAT, &[META, "format"]);
    fs::write(owner.data().join(META), &meta).unwrap();
    assert!(content(owner.data()) == before, "refusing changed the directory");
}

/// The file as a newer version would write it, its checksum right.
fn newer(meta: &[u8]) -> Vec<u8> {
    let mut newer = meta[..meta.len() - 4].to_vec();
    newer[FORMAT_OFFSET] += 1;
    let checksum = crc32c::crc32c(&newer);
    newer.extend(checksum.to_le_bytes());
    newer
}

/// All files of a directory but the lock, which names the process that looked last.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut content: Vec<(String, Vec<u8>)> = files
        .map(|path| {
            (
                path.file_name().unwrap().to_str().unwrap().to_string(),
                fs::read(&path).unwrap(),
            )
        })
        .filter(|(name, _)| name != "lock")
        .collect();
    content.sort();
    content
}
