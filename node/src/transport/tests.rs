//! Whole transports over loopback: real sockets on free ports, no sleeps, every wait ends with an event.

mod admission;
mod authority;
mod hostile;
mod links;
mod moves;
mod strangers;
mod streams;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;

use crate::transport::{Event, Identity, Limits, Reason, Sent, Transport, TransportConfig, ca};
use crate::wire::Lane;

/// How long anything may take before a test has failed. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster's authority in a directory of its own, removed at the end.
struct Bed {
    dir: PathBuf,
}

impl Bed {
    fn new(cluster: &str) -> Bed {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("anabranch-transport-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        ca::init(&dir.join("ca"), cluster).unwrap();
        Bed { dir }
    }

    fn identity(&self, node: u128) -> Identity {
        self.identity_as(node, &ca::IssueOptions::default())
    }

    fn identity_as(&self, node: u128, options: &ca::IssueOptions) -> Identity {
        let out = self
            .dir
            .join(format!("{node}-{}", options.cluster.as_deref().unwrap_or("own")));
        ca::issue(&self.dir.join("ca"), NodeId(node), &out, options).unwrap();
        Identity::load(&out.join("ca.pem"), &out.join("node.pem"), &out.join("node.key")).unwrap()
    }

    fn config(&self, node: u128, epoch: u64) -> TransportConfig {
        TransportConfig {
            identity: self.identity(node),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: Vec::new(),
            epoch: Epoch(epoch),
            shards: 16,
            capabilities: 0,
            limits: Limits {
                idle_timeout: Duration::from_secs(5),
                reconnect_min: Duration::from_millis(20),
                reconnect_max: Duration::from_millis(500),
                ..Limits::default()
            },
        }
    }

    fn node(&self, node: u128, epoch: u64) -> Node {
        Node::start(self.config(node, epoch))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A transport and what it has told.
struct Node {
    transport: Transport,
    events: Receiver<Event>,
    /// Events that a wait passed over; later waits see them first.
    passed: RefCell<Vec<Event>>,
}

impl Node {
    fn start(config: TransportConfig) -> Node {
        let (tell, events) = channel();
        let transport = Transport::bind(config, Arc::new(move |event| drop(tell.send(event)))).unwrap();
        Node {
            transport,
            events,
            passed: RefCell::default(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    fn id(&self) -> NodeId {
        self.transport.node()
    }

    fn dial(&self, other: &Node) {
        self.transport
            .set_peer_addresses(other.id(), vec![other.address()]);
    }

    fn send(&self, to: NodeId, epoch: u64, lane: Lane, body: &[u8]) -> Sent {
        self.transport.send(to, Epoch(epoch), lane, frame(body))
    }

    /// The first event that `pick` wants; those before it stay for later waits.
    fn wait<T>(&self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let mut passed = self.passed.borrow_mut();
        if let Some((at, found)) = passed
            .iter()
            .enumerate()
            .find_map(|(at, event)| Some((at, pick(event)?)))
        {
            passed.remove(at);
            return found;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match self
                .events
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(event) => match pick(&event) {
                    Some(found) => return found,
                    None => passed.push(event),
                },
                Err(RecvTimeoutError::Timeout) => panic!("{} waited for {what}; saw {passed:#?}", self.id()),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the transport ended before {what}; saw {passed:#?}")
                }
            }
        }
    }

    fn connected(&self, to: NodeId, to_epoch: u64) {
        self.wait(&format!("a link with {to}/{to_epoch}"), |event| {
            matches!(event, Event::Connected { peer, epoch, .. } if *peer == to && epoch.0 == to_epoch)
                .then_some(())
        });
    }

    fn disconnected(&self, from: NodeId) -> Reason {
        self.wait(&format!("the end of the link with {from}"), |event| match event {
            Event::Disconnected { peer, reason, .. } if *peer == from => Some(reason.clone()),
            _ => None,
        })
    }

    /// The body of the next frame on the lane.
    fn frame(&self, on: Lane) -> Bytes {
        self.wait(&format!("a frame on {on}"), |event| match event {
            Event::Frame { lane, frame, .. } if *lane == on => Some(frame.slice(1..)),
            _ => None,
        })
    }

    fn refused(&self) -> String {
        self.wait("a refusal", |event| match event {
            Event::Refused { reason, .. } => Some(reason.clone()),
            _ => None,
        })
    }
}

/// A frame of the engine's.
fn frame(body: &[u8]) -> Bytes {
    let mut frame = vec![5];
    frame.extend_from_slice(body);
    frame.into()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Two nodes whose link is up, the first having dialled.
fn pair(bed: &Bed) -> (Node, Node) {
    let (a, b) = (bed.node(1, 10), bed.node(2, 20));
    a.dial(&b);
    a.connected(b.id(), 20);
    b.connected(a.id(), 10);
    (a, b)
}
