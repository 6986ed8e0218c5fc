//! Members that break the protocol, and packets that are none.

use std::net::UdpSocket;

use super::*;
use crate::transport::event::{CloseCode, newer_epoch_text};
use crate::transport::frame::{KIND_HELLO, encode, seal};
use crate::transport::hello::{Hello, PROTOCOL_VERSION};
use crate::transport::limits::{
    EPOCH_MAX, HANDSHAKES_BEFORE_RETRY, HANDSHAKES_PER_SOURCE_MAX, HELLO_BYTES_MAX,
};
use crate::transport::{TLS_NAME, tls};

/// A member by certificate that says what it likes.
struct Rogue {
    runtime: tokio::runtime::Runtime,
    connection: quinn::Connection,
    #[expect(dead_code, reason = "the connection lives as long as it")]
    endpoint: quinn::Endpoint,
}

impl Rogue {
    fn dial(bed: &Bed, node: u128, at: SocketAddr) -> Rogue {
        let config = tls::client(&bed.identity(node), &Limits::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (endpoint, connection) = runtime.block_on(async {
            let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
            let connection = endpoint
                .connect_with(config, at, TLS_NAME)
                .unwrap()
                .await
                .unwrap();
            (endpoint, connection)
        });
        Rogue {
            runtime,
            connection,
            endpoint,
        }
    }

    /// Opens a stream and writes on it.
    fn write(&self, bytes: &[u8]) -> quinn::SendStream {
        self.runtime.block_on(async {
            let mut stream = self.connection.open_uni().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream
        })
    }

    /// How the node ends it.
    fn end(&self) -> (Option<CloseCode>, String) {
        let ended = async {
            tokio::time::timeout(PATIENCE, self.connection.closed())
                .await
                .unwrap()
        };
        match self.runtime.block_on(ended) {
            quinn::ConnectionError::ApplicationClosed(closed) => {
                let why = String::from_utf8_lossy(&closed.reason).into_owned();
                (CloseCode::from_wire(closed.error_code.into_inner()), why)
            }
            other => panic!("{other}"),
        }
    }
}

fn hello(node: u128) -> Hello {
    Hello {
        node: NodeId(node),
        epoch: Epoch(1),
        cluster: "shop".into(),
        version: PROTOCOL_VERSION,
        capabilities: 0,
        wall_ms: 0,
        addresses: Vec::new(),
        shards: 16,
    }
}

/// A lane's id and a hello on it, as they stand on the stream.
fn said(lane: u8, body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    encode(vec![seal(KIND_HELLO, body)], &mut chunks);
    [&[lane], &chunks.concat()[..]].concat()
}

/// A hello that is not taken: the code and words the other side sees, and what the node tells.
#[track_caller]
fn check_hello(bytes: &[u8], code: CloseCode, words: &str) {
    let bed = Bed::new("shop");
    let node = bed.node(1, 1);
    let rogue = Rogue::dial(&bed, 3, node.address());
    let _stream = rogue.write(bytes);
    let (ended, why) = rogue.end();
    assert_eq!(ended, Some(code), "{why}");
    assert!(why.contains(words), "{why}");
    if code.is_refusal() {
        assert!(node.refused().contains(words));
    }
    assert!(node.transport.links().is_empty());
}

#[test]
fn a_hello_that_is_not_its_certificates() {
    check_hello(&said(0, &hello(4).encode()), CloseCode::WrongNode, "00000004");
    let bank = Hello {
        cluster: "bank".into(),
        ..hello(3)
    };
    check_hello(&said(0, &bank.encode()), CloseCode::WrongCluster, "bank");
}

#[test]
fn a_hello_of_another_version_or_size() {
    let newer = Hello {
        version: PROTOCOL_VERSION + 1,
        ..hello(3)
    };
    check_hello(
        &said(0, &newer.encode()),
        CloseCode::WrongVersion,
        &format!("version {} met version {PROTOCOL_VERSION}", PROTOCOL_VERSION + 1),
    );
    let wider = Hello {
        shards: 32,
        ..hello(3)
    };
    check_hello(&said(0, &wider.encode()), CloseCode::WrongShards, "has 32");
}

#[test]
fn a_hello_that_is_none() {
    let [low, high] = PROTOCOL_VERSION.to_le_bytes();
    check_hello(&said(0, &[low, high, 255, 255]), CloseCode::Protocol, "malformed");
    check_hello(
        &said(0, &vec![1; HELLO_BYTES_MAX + 1]),
        CloseCode::Protocol,
        "no hello",
    );
    check_hello(&said(1, &hello(3).encode()), CloseCode::Protocol, "no hello");
    check_hello(
        &[0, 255, 255, 255, 255, KIND_HELLO, 0],
        CloseCode::Protocol,
        "a body of 4294967295 bytes",
    );
}

#[test]
fn what_a_later_version_appends_to_the_hello_is_ignored() {
    let mut bytes = hello(3).encode();
    bytes.extend_from_slice(b"and more");
    assert_eq!(Hello::decode(&bytes), Ok(hello(3)));
}

#[test]
fn no_hello_at_all_ends_with_the_timeout() {
    let bed = Bed::new("shop");
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let node = Node::start(TransportConfig {
        limits,
        ..bed.config(1, 1)
    });
    let rogue = Rogue::dial(&bed, 3, node.address());
    assert_eq!(rogue.end().0, Some(CloseCode::Timeout));
}

/// A rogue that is linked with the node.
fn linked(bed: &Bed, node: &Node) -> (Rogue, quinn::SendStream) {
    let rogue = Rogue::dial(bed, 3, node.address());
    let control = rogue.write(&said(0, &hello(3).encode()));
    node.connected(NodeId(3), 1);
    (rogue, control)
}

#[test]
fn an_oversize_frame_ends_the_link() {
    let bed = Bed::new("shop");
    let node = bed.node(1, 1);
    let (rogue, _control) = linked(&bed, &node);
    // One more than the largest.
    let _push = rogue.write(&[1, 0, 0, 16, 0, 5, 0]);
    let (code, why) = rogue.end();
    assert_eq!(code, Some(CloseCode::Protocol));
    assert!(why.contains("1048576"), "{why}");
    assert!(matches!(node.disconnected(NodeId(3)), Reason::Protocol(_)));
}

#[test]
fn an_unknown_lane_or_one_opened_twice_ends_the_link() {
    for (bytes, words) in [(&[9_u8][..], "lane 9"), (&[0], "second stream for lane control")] {
        let bed = Bed::new("shop");
        let node = bed.node(1, 1);
        let (rogue, _control) = linked(&bed, &node);
        let _stream = rogue.write(bytes);
        let (code, why) = rogue.end();
        assert_eq!(code, Some(CloseCode::Protocol));
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn unknown_kinds_are_skipped_by_their_length() {
    let bed = Bed::new("shop");
    let node = bed.node(1, 1);
    let (rogue, _control) = linked(&bed, &node);
    // Lane push; a frame of a transport kind yet to come; a frame of the engine's.
    let _push = rogue.write(&[1, 3, 0, 0, 0, 0xff, 0, 7, 7, 7, 2, 0, 0, 0, 5, 0, 8, 9]);
    assert_eq!(node.frame(Lane::Push)[..], [8, 9]);
    assert_eq!(node.transport.counters().frames_skipped, 1);
}

#[test]
fn garbage_datagrams_disturb_nobody() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1_u64;
    for n in 0..5000_usize {
        let bytes: Vec<u8> = (0..n % 1500)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        // Loopback may refuse when its buffers are full: as good as lost.
        let _ = socket.send_to(&bytes, a.address());
        if n % 500 == 0 {
            assert_eq!(b.send(a.id(), 10, Lane::Calls, &n.to_le_bytes()), Sent::Queued);
            assert_eq!(a.frame(Lane::Calls)[..], n.to_le_bytes());
        }
    }
    assert_eq!(a.transport.links().len(), 1);
}

#[test]
fn half_open_connections_are_bounded_and_end() {
    let bed = Bed::new("shop");
    let limits = Limits {
        handshake_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let a = Node::start(TransportConfig {
        limits,
        ..bed.config(1, 1)
    });
    // First packets reach the node; no answer ever reaches who sent them.
    let (sink, out) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let (mouth, target) = (sink.local_addr().unwrap(), a.address());
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((bytes, _)) = sink.recv_from(&mut buffer) {
            let _ = out.send_to(&buffer[..bytes], target);
        }
    });
    let config = tls::client(&bed.identity(3), &Limits::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let dials: Vec<_> = (0..2 * HANDSHAKES_BEFORE_RETRY)
        .map(|_| endpoint.connect_with(config.clone(), mouth, TLS_NAME).unwrap())
        .collect();
    let open = || a.transport.net.arrivals.open();
    let until = Instant::now() + PATIENCE;
    while open() < HANDSHAKES_BEFORE_RETRY {
        assert!(Instant::now() < until, "{} handshakes are open", open());
        std::thread::yield_now();
    }
    // From here on who cannot be reached gets a Retry and no state; who can be is linked.
    let b = bed.node(2, 1);
    b.dial(&a);
    a.connected(b.id(), 1);
    assert!(
        open() <= HANDSHAKES_BEFORE_RETRY + 1,
        "{} handshakes are open",
        open()
    );
    while open() > 0 {
        assert!(Instant::now() < until, "{} handshakes are still open", open());
        std::thread::yield_now();
    }
    drop(dials);
}

/// A node that dials a rogue which closes for this epoch: what it believes of it.
fn believed(said: u64, late: bool) -> Option<u64> {
    let bed = Bed::new("shop");
    let node = bed.node(1, 50);
    let theirs = bed.identity(3);
    block_on(async {
        let config = tls::server(&theirs, &Limits::default()).unwrap();
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let seed = endpoint.local_addr().unwrap().to_string();
        node.transport.set_seeds(vec![seed]);
        let connection = endpoint.accept().await.unwrap().accept().unwrap().await.unwrap();
        if late {
            let mut control = connection.open_uni().await.unwrap();
            control.write_all(&said_by(3, 1)).await.unwrap();
            // Its hello has come, and on the second lane it opens it shows that the link is up.
            for _ in 0..2 {
                connection.accept_uni().await.unwrap();
            }
        }
        let text = newer_epoch_text(Epoch(said));
        connection.close((CloseCode::NewerEpoch as u32).into(), text.as_bytes());
        endpoint.wait_idle().await;
        // Whatever it made of that, it dials again.
        endpoint.accept().await.unwrap().refuse();
    });
    let mut told = node.events.try_iter().filter_map(|event| match event {
        Event::Outdated { newest, .. } => Some(newest.0),
        _ => None,
    });
    told.next()
}

fn said_by(node: u128, epoch: u64) -> Vec<u8> {
    let hello = Hello {
        epoch: Epoch(epoch),
        ..hello(node)
    };
    said(0, &hello.encode())
}

#[test]
fn a_newer_epoch_is_believed_only_if_it_is_newer_and_somebodys() {
    for late in [false, true] {
        assert_eq!(believed(51, late), Some(51), "late: {late}");
        assert_eq!(believed(EPOCH_MAX - 1, late), Some(EPOCH_MAX - 1), "late: {late}");
        assert_eq!(believed(50, late), None, "late: {late}");
        assert_eq!(believed(EPOCH_MAX, late), None, "late: {late}");
        assert_eq!(believed(u64::MAX, late), None, "late: {late}");
    }
}

#[test]
fn a_hello_of_an_epoch_that_is_nobodys_is_refused() {
    check_hello(&said_by(3, u64::MAX), CloseCode::Protocol, "nobody's");
    check_hello(&said_by(3, 2 * EPOCH_MAX), CloseCode::Protocol, "nobody's");
}

#[test]
fn one_source_of_silent_connections_leaves_room_for_others() {
    let bed = Bed::new("shop");
    // Nobody's time is up before all have come.
    let limits = Limits {
        handshake_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let a = Node::start(TransportConfig {
        limits,
        ..bed.config(1, 1)
    });
    let config = tls::client(&bed.identity(3), &Limits::default()).unwrap();
    let refused = block_on(async {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        // By certificate members: they get through the handshake, and never say hello.
        let most = HANDSHAKES_BEFORE_RETRY + HANDSHAKES_PER_SOURCE_MAX;
        let dial = || {
            endpoint
                .connect_with(config.clone(), a.address(), TLS_NAME)
                .unwrap()
        };
        let mut silent = Vec::new();
        for _ in 0..most {
            silent.push(dial().await.unwrap());
        }
        let refused = dial().await.unwrap_err();
        // Who comes from elsewhere is met and linked.
        let b = Node::start(TransportConfig {
            listen: "127.0.0.2:0".parse().unwrap(),
            ..bed.config(2, 1)
        });
        b.dial(&a);
        a.connected(b.id(), 1);
        refused
    });
    assert!(
        matches!(refused, quinn::ConnectionError::ConnectionClosed(_)),
        "{refused}"
    );
    let counted = a.transport.counters();
    assert_eq!(counted.connections_refused_of_source, 1, "{counted:?}");
}
