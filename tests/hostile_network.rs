//! A port that anybody can send to: garbage and handshakes that never end cost the cluster nothing it notices.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use super::support::cluster::{Cluster, Node};
use super::support::face::agreed;
use super::support::random::Random;
use super::support::stranger::{dialler, endpoint};

/// Datagrams of garbage of each sort.
const GARBAGE: usize = 1_000;
/// Handshakes that never end: more than a node keeps under way.
const HALF_OPEN: usize = 400;
/// Requests that never end: most of what a node takes at a time.
const HALF_ASKED: usize = 200;

#[test]
fn garbage_is_ignored() {
    let cluster = Cluster::start("garbage", 2);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at: SocketAddr = cluster.nodes[0].quic.parse().unwrap();
    let mut random = Random::new(7);
    for _ in 0..GARBAGE {
        let len = random.below(1_500) as usize;
        let mut datagram = random.bytes(len);
        socket.send_to(&datagram, at).unwrap();
        // The beginning of a QUIC version 1 packet of each long type, and garbage behind it.
        let long = [
            0xc0 | (random.below(4) as u8) << 4,
            0,
            0,
            0,
            1,
            random.below(21) as u8,
        ];
        datagram.splice(0..0, long);
        socket.send_to(&datagram, at).unwrap();
        // An unknown version; a short header; an empty datagram.
        datagram[1..5].copy_from_slice(&[0x1a, 0x2a, 0x3a, 0x4a]);
        socket.send_to(&datagram, at).unwrap();
        datagram[0] = 0x40;
        socket.send_to(&datagram, at).unwrap();
        socket.send_to(&[], at).unwrap();
    }
    assert_well(&cluster.nodes);
}

#[test]
fn requests_that_never_end_keep_nobody_out() {
    let cluster = Cluster::start("half-asked", 2);
    let begin = |text: &str| {
        let mut stream = TcpStream::connect(&cluster.nodes[0].http).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let half = [
        "",
        "GET",
        "GET /v1/dump HTTP/1.1\r\nHost: localhost\r\n",
        "POST /v1/updates HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    ];
    let half_asked: Vec<TcpStream> = (0..HALF_ASKED).map(|i| begin(half[i % half.len()])).collect();
    let garbage: Vec<TcpStream> = (0..10).map(|_| begin("\u{1}\u{2}\r\n\r\n")).collect();
    assert_well(&cluster.nodes);
    drop((half_asked, garbage));
}

#[test]
fn handshakes_that_never_end_keep_nobody_out() {
    let mut cluster = Cluster::start("half-open", 2);
    let at: SocketAddr = cluster.nodes[0].quic.parse().unwrap();
    let (mute, first_packets) = mute_relay(at);
    let config = dialler(&cluster.dir.join("ca/ca.pem"), None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let endpoint = endpoint();
    // They go on sending first packets while they are held.
    let connect = |_| {
        endpoint
            .connect_with(config.clone(), mute, anabranch::transport::TLS_NAME)
            .unwrap()
    };
    let half_open: Vec<_> = (0..HALF_OPEN).map(connect).collect();
    for _ in 0..HALF_OPEN {
        first_packets.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    assert_well(&cluster.nodes);
    // A node that comes now is let in, too.
    cluster.nodes[1].kill();
    cluster.nodes[1].start_ready();
    cluster.nodes[1].wait_for_links(1);
    assert_well(&cluster.nodes);
    drop(half_open);
}

/// Forwards to the node and nothing back; tells of each datagram.
fn mute_relay(to: SocketAddr) -> (SocketAddr, mpsc::Receiver<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let out = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (sender, receiver) = mpsc::channel();
    // It ends with the process: nobody waits for it, and it holds nothing that anybody needs.
    std::thread::spawn(move || {
        let mut datagram = [0; 2_048];
        while let Ok((len, _)) = socket.recv_from(&mut datagram) {
            let _ = out.send_to(&datagram[..len], to);
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    (address, receiver)
}

/// All nodes take updates that all others confirm.
#[track_caller]
fn assert_well(nodes: &[Node]) {
    for node in nodes {
        let op = json!({"kind": "count", "key": "a", "op": "incr", "by": 1, "type": "gcounter"});
        let answer = node.updated(&json!({"ops": [op], "level": "all", "timeout_ms": 60_000}));
        assert_eq!(answer["confirmed"], nodes.len(), "{answer}");
    }
    agreed(nodes.iter().map(|node| &**node));
}
