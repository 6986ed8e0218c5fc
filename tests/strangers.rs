//! Whoever is not of the cluster gets nothing past the handshake: not one byte on any stream.
//!
//! In TLS 1.3 a dialler is done before the other side has judged its certificate, so a stranger may believe for a
//! moment that it is connected: the tests wait for the close and count what came before it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::support::cluster::Cluster;
use super::support::command::{make_authority, make_certificate};
use super::support::face::agreed;
use super::support::http;
use super::support::stranger::{self, Got, dialler, hello};
use super::support::wait_for;

/// A node id that no cluster of these tests has otherwise.
const STRANGER: u128 = 0x5742;

#[test]
fn strangers_get_nothing() {
    let cluster = Cluster::start("strangers", 2);
    let at: SocketAddr = cluster.nodes[0].quic.parse().unwrap();
    let ca = cluster.dir.join("ca/ca.pem");
    let words = hello(STRANGER, "strangers", 0);

    let none = stranger::dial(at, dialler(&ca, None), &words);
    assert_nothing(&none, "certificate");

    // An authority of the same name, and a node of the same id: only the key differs.
    let other = issue(&cluster.dir.join("other"), "strangers", STRANGER);
    assert_nothing(
        &stranger::dial(at, dialler(&ca, Some(&other)), &words),
        "UnknownIssuer",
    );
    let bank = issue(&cluster.dir.join("bank"), "bank", STRANGER);
    assert_nothing(
        &stranger::dial(at, dialler(&ca, Some(&bank)), &words),
        "UnknownIssuer",
    );

    // The same words are answered where the certificate is the cluster's: the count above counts.
    let own = cluster.certify(STRANGER);
    let claims_another = stranger::dial(at, dialler(&ca, Some(&own)), &hello(7, "strangers", 0));
    assert_nothing(&claims_another, "certificate");

    // Nobody noticed.
    for node in cluster.faces() {
        node.increment("count", "a", 1);
    }
    agreed(cluster.faces());
    assert_eq!(cluster.nodes[1].count("count", "a"), 2);
}

#[test]
fn nodes_of_two_clusters_do_not_mix() {
    let ours = Cluster::start("ours", 2);
    let mut theirs = Cluster::prepare("theirs", 2);
    theirs.nodes[0].configure("seeds = [", &format!("seeds = [{:?}, ", ours.nodes[0].quic));
    theirs.start_all();
    ours.nodes[0].increment("count", "a", 1);
    theirs.nodes[0].increment("count", "b", 1);
    // It says why there is no link.
    theirs.nodes[0].process().stderr.until("not valid here");
    // It tries again and again, and does not say so each time.
    wait_for("the third attempt", || {
        let text = http::get(&ours.nodes[0].http, "/metrics").ok()?.body;
        let refused = text
            .lines()
            .find_map(|line| line.strip_prefix("anabranch_connections_refused_total "))?;
        (refused.parse::<u64>().unwrap() >= 3).then_some(())
    });
    let log = theirs.nodes[0].process().stderr.text();
    let at = format!("address={} ", ours.nodes[0].quic);
    assert_eq!(log.lines().filter(|line| line.contains(&at)).count(), 1, "{log}");
    agreed(ours.faces());
    agreed(theirs.faces());
    assert_eq!(theirs.nodes[0].value("count", "a"), None);
    assert_eq!(ours.nodes[0].value("count", "b"), None);
    for cluster in [&ours, &theirs] {
        assert_eq!(cluster.nodes[0].status()["members"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_member_is_answered_with_the_same_client() {
    let cluster = Cluster::start("members", 1);
    let at: SocketAddr = cluster.nodes[0].quic.parse().unwrap();
    let (ca, own) = (cluster.dir.join("ca/ca.pem"), cluster.certify(STRANGER));
    let bytes = stranger::block_on(async {
        let connecting =
            stranger::endpoint().connect_with(dialler(&ca, Some(&own)), at, anabranch::transport::TLS_NAME);
        let connection = connecting.unwrap().await.unwrap();
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&hello(STRANGER, "members", 0)).await.unwrap();
        let mut answer = connection.accept_uni().await.unwrap();
        answer
            .read_chunk(1 << 16, true)
            .await
            .unwrap()
            .unwrap()
            .bytes
            .len()
    });
    assert!(bytes > 0);
}

#[track_caller]
fn assert_nothing(got: &Got, end: &str) {
    assert_eq!((got.bytes, got.frames), (0, 0), "{got:?}");
    assert!(got.end.contains(end), "{end:?} is missing in {got:?}");
}

/// A certificate of a new authority.
fn issue(dir: &Path, cluster: &str, node: u128) -> PathBuf {
    let (ca, out) = (dir.join("ca"), dir.join("node"));
    make_authority(&ca, cluster);
    make_certificate(&ca, node, &out);
    out
}
