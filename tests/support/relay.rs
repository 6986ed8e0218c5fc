//! A network between nodes that a test can cut: one UDP relay in front of each node.
//!
//! A node advertises its relay's address, so whoever dials it sends there. The relay forwards each sender's datagrams
//! from a socket of its own, so that the node sees one steady address a peer and its answers find their way back.
//! Senders are known by the address they listen at, so a relay knows which node a datagram comes from.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::random::Random;

/// How soon a relay's threads notice that the network is gone.
const STOP_WITHIN: Duration = Duration::from_millis(200);
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// The relays of one cluster.
pub struct Network {
    shared: Arc<Shared>,
    relays: Vec<SocketAddr>,
}

struct Shared {
    /// Where the nodes listen.
    nodes: Vec<SocketAddr>,
    /// Which pairs of them are cut, the smaller first.
    cut: Mutex<BTreeSet<(usize, usize)>>,
    /// Whether datagrams are lost, doubled and late.
    rough: AtomicBool,
    dropped: AtomicU64,
    stop: AtomicBool,
}

impl Network {
    /// Relays in front of the nodes that listen at these addresses.
    pub fn between(nodes: &[SocketAddr]) -> Network {
        let shared = Arc::new(Shared {
            nodes: nodes.to_vec(),
            cut: Mutex::new(BTreeSet::new()),
            rough: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let relays = (0..nodes.len()).map(|node| shared.clone().relay(node)).collect();
        Network { shared, relays }
    }

    /// Where peers reach a node.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.relays[node]
    }

    /// Lets nothing through between two nodes any more.
    pub fn cut(&self, a: usize, b: usize) {
        self.shared.cut.lock().unwrap().insert((a.min(b), a.max(b)));
    }

    /// Lets nothing through to or from a node any more.
    pub fn cut_off(&self, node: usize) {
        (0..self.relays.len()).for_each(|other| self.cut(node, other));
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.shared.cut.lock().unwrap().clear();
    }

    /// From now on some datagrams are lost, some come twice, and some late.
    pub fn be_rough(&self) {
        self.shared.rough.store(true, Ordering::SeqCst);
    }

    /// Datagrams that were not let through.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::SeqCst)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    /// Starts the relay in front of a node and returns its address.
    fn relay(self: Arc<Shared>, node: usize) -> SocketAddr {
        let socket = Arc::new(open().unwrap());
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || self.forward(node, &socket));
        address
    }

    /// Takes what senders have for the node to it.
    fn forward(self: Arc<Shared>, node: usize, socket: &Arc<UdpSocket>) {
        let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let mut road = Road::new(node);
        while !self.stop.load(Ordering::SeqCst) {
            let Ok((len, sender)) = socket.recv_from(&mut datagram) else {
                continue;
            };
            let flow = flows.entry(sender).or_insert_with(|| {
                let flow = Arc::new(open().unwrap());
                flow.connect(self.nodes[node]).unwrap();
                let (shared, flow_in, socket) = (Arc::clone(&self), Arc::clone(&flow), Arc::clone(socket));
                std::thread::spawn(move || shared.answer(node, sender, &flow_in, &socket));
                flow
            });
            // A node that is down refuses; the sender finds out by itself.
            let send = |datagram: &[u8]| drop(flow.send(datagram));
            self.pass(node, sender, &mut road, &datagram[..len], send);
        }
    }

    /// Takes the node's answers back to one sender.
    fn answer(&self, node: usize, sender: SocketAddr, flow: &UdpSocket, socket: &UdpSocket) {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let mut road = Road::new(node);
        while !self.stop.load(Ordering::SeqCst) {
            let Ok(len) = flow.recv(&mut datagram) else {
                continue;
            };
            let send = |datagram: &[u8]| drop(socket.send_to(datagram, sender));
            self.pass(node, sender, &mut road, &datagram[..len], send);
        }
    }

    /// Does to one datagram what the network does now.
    fn pass(&self, node: usize, sender: SocketAddr, road: &mut Road, datagram: &[u8], send: impl Fn(&[u8])) {
        let sender = self.nodes.iter().position(|address| *address == sender);
        let pair = sender.map(|sender| (sender.min(node), sender.max(node)));
        if pair.is_some_and(|pair| self.cut.lock().unwrap().contains(&pair)) {
            self.dropped.fetch_add(1, Ordering::SeqCst);
            return;
        }
        match self.rough.load(Ordering::SeqCst).then(|| road.random.below(100)) {
            Some(..3) => drop(self.dropped.fetch_add(1, Ordering::SeqCst)),
            Some(3..6) => {
                send(datagram);
                send(datagram);
            }
            // It goes behind the next one.
            Some(6..9) if road.late.is_none() => road.late = Some(datagram.to_vec()),
            _ => {
                send(datagram);
                road.late.take().iter().for_each(|late| send(late));
            }
        }
    }
}

/// One direction of one flow.
struct Road {
    random: Random,
    late: Option<Vec<u8>>,
}

impl Road {
    fn new(seed: usize) -> Road {
        Road {
            random: Random::new(seed as u64),
            late: None,
        }
    }
}

fn open() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(STOP_WITHIN))?;
    Ok(socket)
}
