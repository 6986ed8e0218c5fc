//! A peer whose clock is far off: that ends nothing; it is logged, counted and shown.
//!
//! The peer is the test itself, with a certificate of the cluster: processes on one machine share a clock.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::support::cluster::Cluster;
use super::support::stranger::{block_on, dialler, endpoint, hello};
use super::support::{http, wait_for};

/// How far off the peer's clock is.
const HOUR_MS: u64 = 3_600_000;
/// How long a hello may take to arrive.
const TRANSIT_MS: i64 = 60_000;
const PEER: u128 = 0xc10c;

#[test]
fn a_peer_whose_clock_is_an_hour_ahead_is_shown_and_linked() {
    let mut cluster = Cluster::start("clock-skew", 2);
    let own = cluster.certify(PEER);
    let at: SocketAddr = cluster.nodes[0].quic.parse().unwrap();
    let config = dialler(&own.join("ca.pem"), Some(&own));
    block_on(async {
        let connecting = endpoint()
            .connect_with(config, at, anabranch::transport::TLS_NAME)
            .unwrap();
        let connection = connecting.await.unwrap();
        let mut stream = connection.open_uni().await.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        stream
            .write_all(&hello(PEER, "clock-skew", now + HOUR_MS))
            .await
            .unwrap();
        // The node's own hello: the link is up.
        let mut answer = connection.accept_uni().await.unwrap();
        assert!(answer.read_chunk(1 << 16, true).await.unwrap().is_some());

        let node = &cluster.nodes[0];
        let member = wait_for("the member", || {
            let members = node.status()["members"].as_array().unwrap().clone();
            members
                .into_iter()
                .find(|member| member["id"] == format!("{PEER:032x}") && member["connected"] == true)
        });
        let skew = member["clock_skew_ms"].as_i64().unwrap();
        assert!(
            (HOUR_MS as i64 - TRANSIT_MS..=HOUR_MS as i64 + 1_000).contains(&skew),
            "{member}"
        );
        let people = node.run(["status"]).done();
        assert!(
            people.contains("the clock of") && people.contains("ms ahead"),
            "{people}"
        );
        let metrics = http::get(&node.http, "/metrics").unwrap().body;
        assert!(
            metrics.contains("anabranch_clock_skew_links_total 1"),
            "{metrics}"
        );
        let seconds = format!(
            "\nanabranch_peer_clock_skew_seconds{{peer=\"{PEER:032x}\"}} {}\n",
            skew as f64 / 1_000.0
        );
        assert!(metrics.contains(&seconds), "{seconds} in {metrics}");
        node.increment("count", "a", 1);
    });
    cluster.nodes[0].process().stderr.until("clock");
}
