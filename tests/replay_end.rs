//! The end of a replay: what was measured is reported, whatever happens to the last questions.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::support::cluster::Cluster;
use super::support::command::anabranch;
use super::support::{exit, history};

/// Stands before a node's admin API and breaks off connections, as a proxy or a restart would.
struct Proxy {
    address: String,
    broken: Arc<AtomicUsize>,
}

impl Proxy {
    /// Breaks off those requests that begin so, from the one of number `from` (from 0) on, `count` of them.
    fn before(node: &str, begin: &'static str, from: usize, count: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (node, broken) = (node.to_string(), Arc::new(AtomicUsize::new(0)));
        let (seen, counted) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&broken));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (seen, broken) = (Arc::clone(&seen), Arc::clone(&counted));
                let server = TcpStream::connect(&node).unwrap();
                let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pump(back, forth, |_| true));
                thread::spawn(move || {
                    pump(client, server, |bytes| {
                        let breaks = bytes.starts_with(begin.as_bytes())
                            && (from..from.saturating_add(count))
                                .contains(&seen.fetch_add(1, Ordering::SeqCst));
                        broken.fetch_add(usize::from(breaks), Ordering::SeqCst);
                        !breaks
                    })
                });
            }
        });
        Proxy { address, broken }
    }
}

/// Copies until the end, or until `passes` says no.
fn pump(mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !passes(&buffer[..read]) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn small(cluster: &Cluster) -> String {
    let text = history::write(&history::read(&history::real(), 30));
    cluster
        .dir
        .write("small.jsonl", text)
        .to_str()
        .unwrap()
        .to_string()
}

#[test]
fn a_question_that_breaks_off_at_the_end_is_asked_again() {
    let cluster = Cluster::start("last-question", 1);
    let proxy = Proxy::before(&cluster.nodes[0].http, "GET /v1/status", 1, 2);
    let report = anabranch(["replay", &small(&cluster), "--to", &proxy.address, "--json"]).done();
    assert_eq!(proxy.broken.load(Ordering::SeqCst), 2, "nothing broke");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["events"], 30, "{report}");
    assert!(report["agreed_after_ms"].is_number(), "{report}");
}

#[test]
fn the_report_is_printed_even_if_the_nodes_cannot_be_compared() {
    let cluster = Cluster::start("no-last-answer", 1);
    let proxy = Proxy::before(&cluster.nodes[0].http, "GET /v1/shards", 0, usize::MAX);
    let args = [
        "replay",
        &small(&cluster),
        "--to",
        &proxy.address,
        "--wait",
        "300ms",
    ];
    let ended = anabranch(args);
    assert_eq!(ended.code, Some(exit::UNREACHABLE), "{ended}");
    assert!(
        ended.stderr.contains("every event was sent and acknowledged"),
        "{ended}"
    );
    let last = ended.stdout.lines().last().unwrap();
    assert!(
        last.starts_with("30 events (") && last.contains("could not be compared"),
        "{ended}"
    );
}
