//! Peers that move, go and come back; seeds.

use std::net::UdpSocket;
use std::sync::atomic::AtomicBool;

use super::*;

#[test]
fn a_peer_that_comes_back_elsewhere_is_found_and_known() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    let before = b.address();
    drop(b);
    assert_eq!(a.disconnected(NodeId(2)), Reason::Stopped);
    let b = bed.node(2, 21);
    assert_ne!(b.address(), before);
    // While a is busy dialling the old address.
    a.dial(&b);
    a.connected(b.id(), 21);
    b.connected(a.id(), 10);
}

#[test]
fn a_peer_that_comes_back_elsewhere_and_dials_is_known() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    drop(b);
    a.disconnected(NodeId(2));
    let b = bed.node(2, 21);
    b.dial(&a);
    a.connected(b.id(), 21);
    assert_eq!(a.transport.links()[0].remote, b.address());
}

#[test]
fn a_peer_that_left_is_dialled_when_its_address_is_named_again() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    block_on(b.transport.leave());
    assert_eq!(a.disconnected(b.id()), Reason::Left);
    let b = bed.node(2, 21);
    a.dial(&b);
    a.connected(b.id(), 21);
}

#[test]
fn seeds_are_names_and_may_name_the_node_itself() {
    let bed = Bed::new("shop");
    let (a, b) = (bed.node(1, 1), bed.node(2, 1));
    let seeds: Vec<String> = [&a, &b]
        .map(|node| format!("localhost:{}", node.address().port()))
        .into();
    a.transport.set_seeds(seeds.clone());
    b.transport.set_seeds(seeds);
    a.connected(b.id(), 1);
    b.connected(a.id(), 1);
    assert!(a.transport.links().iter().all(|link| link.peer == b.id()));
}

#[test]
fn a_seed_that_is_the_node_itself_by_another_name_is_dropped() {
    let bed = Bed::new("shop");
    let relay = Relay::new();
    let config = TransportConfig {
        advertise: vec!["192.0.2.1:1".parse().unwrap()],
        ..bed.config(1, 1)
    };
    let a = Node::start(config);
    let b = bed.node(2, 1);
    relay.to(a.address());
    a.transport
        .set_seeds(vec![relay.address().to_string(), b.address().to_string()]);
    a.connected(b.id(), 1);
    assert_eq!(a.transport.links().len(), 1);
}

#[test]
fn a_link_cut_off_is_lost_and_heals() {
    let bed = Bed::new("shop");
    let short = |config: TransportConfig| TransportConfig {
        limits: Limits {
            idle_timeout: Duration::from_millis(1000),
            ..config.limits.clone()
        },
        ..config
    };
    let (a, b) = (
        Node::start(short(bed.config(1, 1))),
        Node::start(short(bed.config(2, 1))),
    );
    let relay = Relay::new();
    relay.to(b.address());
    a.transport.set_peer_addresses(b.id(), vec![relay.address()]);
    a.connected(b.id(), 1);
    b.connected(a.id(), 1);
    relay.cut(true);
    assert!(matches!(a.disconnected(b.id()), Reason::Lost(_)));
    assert!(matches!(b.disconnected(a.id()), Reason::Lost(_)));
    relay.cut(false);
    a.connected(b.id(), 1);
    b.connected(a.id(), 1);
}

/// Passes datagrams on between whoever speaks to it and one address, unless it is cut.
struct Relay {
    front: Arc<UdpSocket>,
    back: Arc<UdpSocket>,
    is_cut: Arc<AtomicBool>,
}

impl Relay {
    fn new() -> Relay {
        let [front, back] = [(); 2].map(|()| Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap()));
        Relay {
            front,
            back,
            is_cut: Arc::default(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.front.local_addr().unwrap()
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Starts passing on to `target`. The threads end with the test process.
    fn to(&self, target: SocketAddr) {
        let client = Arc::new(std::sync::Mutex::new(None));
        let (front, back, is_cut, told) = (
            self.front.clone(),
            self.back.clone(),
            self.is_cut.clone(),
            client.clone(),
        );
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((bytes, from)) = front.recv_from(&mut buffer) {
                *told.lock().unwrap() = Some(from);
                if !is_cut.load(Ordering::Relaxed) {
                    let _ = back.send_to(&buffer[..bytes], target);
                }
            }
        });
        let (front, back, is_cut) = (self.front.clone(), self.back.clone(), self.is_cut.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((bytes, _)) = back.recv_from(&mut buffer) {
                let client = *client.lock().unwrap();
                if let Some(client) = client.filter(|_| !is_cut.load(Ordering::Relaxed)) {
                    let _ = front.send_to(&buffer[..bytes], client);
                }
            }
        });
    }
}
