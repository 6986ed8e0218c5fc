//! What all tasks of the transport share, and the few steps that change who is linked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use quinn::{Connection, Endpoint, SendStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::transport::admit::{Offer, Verdict};
use crate::transport::alarm::Alarm;
use crate::transport::arrivals::Arrivals;
use crate::transport::event::{CloseCode, Event, Reason};
use crate::transport::frame::{KIND_GOSSIP, KIND_HELLO, KIND_TRANSPORT, Reader, seal};
use crate::transport::hello::{Refusal, wall_ms};
use crate::transport::limits::{FRAME_BYTES_MAX, GOSSIP_BYTES_MAX, GOSSIP_QUEUE_BYTES_MAX, Limits};
use crate::transport::link::{self, Link};
use crate::transport::table::Table;
use crate::transport::{Hello, Sent};
use crate::wire::Lane;

/// What is counted since the start.
#[derive(Default)]
pub(super) struct Counting {
    pub(super) connections_refused: AtomicU64,
    pub(super) connections_refused_of_source: AtomicU64,
    pub(super) frames_skipped: AtomicU64,
    pub(super) gossip_dropped: AtomicU64,
    /// Bytes of links that are no more.
    pub(super) udp_bytes_sent: AtomicU64,
    pub(super) udp_bytes_received: AtomicU64,
}

pub(super) struct Net {
    pub(super) me: NodeId,
    pub(super) epoch: Epoch,
    pub(super) local: SocketAddr,
    pub(super) limits: Limits,
    /// Gone when the thread ends, and the socket with it.
    endpoint: Mutex<Option<Endpoint>>,
    pub(super) client: quinn::ClientConfig,
    pub(super) runtime: Handle,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) counters: Counting,
    /// Counts up whenever a link came or went, or the transport began to close.
    pub(super) changes: watch::Sender<u64>,
    pub(super) hello: Hello,
    table: Mutex<Table>,
}

impl Net {
    pub(super) fn new(
        hello: Hello,
        local: SocketAddr,
        limits: Limits,
        endpoint: Endpoint,
        client: quinn::ClientConfig,
        runtime: Handle,
        alarm: Arc<Alarm>,
    ) -> Net {
        Net {
            me: hello.node,
            epoch: hello.epoch,
            local,
            limits,
            endpoint: Mutex::new(Some(endpoint)),
            client,
            runtime,
            arrivals: Arc::default(),
            alarm,
            counters: Counting::default(),
            changes: watch::Sender::new(0),
            hello,
            table: Mutex::default(),
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // Every change of the table is one insertion or removal: a panic elsewhere leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where connections come from and go to; none once the transport has ended.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets go of everything that keeps the socket open. Called last, when no task is left.
    pub(super) fn release(&self) {
        let endpoint = self
            .endpoint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let links = std::mem::take(&mut self.table().links);
        drop((endpoint, links));
        self.changed();
    }

    /// Tells the event. Never called with the table locked: the handler may send.
    pub(super) fn emit(&self, event: Event) {
        self.alarm.tell(event);
    }

    /// Our hello, with the time as it is now.
    pub(super) fn hello_now(&self) -> Hello {
        Hello {
            wall_ms: wall_ms(),
            ..self.hello.clone()
        }
    }

    pub(super) fn is_linked(&self, peer: NodeId) -> bool {
        self.table().links.contains_key(&peer)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.table().closing
    }

    /// Makes a connection whose hello has come the link, or refuses it.
    pub(super) fn admit(
        &self,
        offer: Offer,
        hello: Hello,
        connection: &Connection,
    ) -> Result<Arc<Link>, Refusal> {
        let peer = hello.node;
        let wall_ms = hello.wall_ms;
        let link = Arc::new(Link::new(peer, offer, hello, connection.clone()));
        if offer.dialler == peer {
            // Who accepts answers when it has admitted: the first frame of the control lane, before any other.
            let hello = seal(KIND_HELLO, &self.hello_now().encode());
            let queued = link.queues[Lane::Control.index()].push(hello, FRAME_BYTES_MAX);
            assert!(queued.is_ok(), "the hello did not fit an empty queue");
        }
        let (reason, code, old) = {
            let mut table = self.table();
            let (reason, code) = match table.decide(self.me, peer, offer) {
                Verdict::Admit => (Reason::Replaced, CloseCode::Duplicate),
                Verdict::Replace(reason, code) => (reason, code),
                Verdict::Refuse(code) => return Err(Refusal::new(code, table.why_refused(peer, code))),
            };
            if let Some(dial) = table.dials.get(&peer) {
                dial.resume();
            }
            (reason, code, table.insert(link.clone()))
        };
        if let Some(old) = old {
            let reason = old.closed_for().unwrap_or(reason);
            old.forget();
            old.replace(offer.epoch, reason.clone(), code);
            self.account(&old);
            tracing::debug!(%peer, epoch = %old.offer.epoch, %reason, "link replaced");
            self.emit(Event::Disconnected {
                peer,
                epoch: old.offer.epoch,
                reason,
            });
        }
        self.changed();
        tracing::info!(%peer, epoch = %offer.epoch, remote = %link.remote(), "link up");
        self.emit(Event::Connected {
            peer,
            epoch: offer.epoch,
            wall_ms,
            hello: link.hello.clone(),
        });
        Ok(link)
    }

    /// Starts a task on the transport's thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(self.alarm.over(task)).abort_handle()
    }

    /// Lets an admitted link run.
    pub(super) fn run(self: &Arc<Net>, link: Arc<Link>, control_out: Option<SendStream>, control_in: Reader) {
        self.spawn(link::run(self.clone(), link, control_out, control_in));
    }

    /// A link's connection is closed.
    pub(super) fn ended(&self, link: &Arc<Link>, reason: Reason) {
        {
            let mut table = self.table();
            if !table.remove(link) {
                return;
            }
            if let Some(dial) = table.dials.get(&link.peer)
                && reason == Reason::Left
            {
                dial.pause();
            }
        }
        self.account(link);
        let (peer, epoch) = (link.peer, link.offer.epoch);
        tracing::info!(%peer, %epoch, %reason, "link down");
        let outdated = match reason {
            Reason::Outdated(newest) if newest > self.epoch => Some(newest),
            _ => None,
        };
        self.emit(Event::Disconnected { peer, epoch, reason });
        if let Some(newest) = outdated {
            self.emit(Event::Outdated { by: peer, newest });
        }
        self.changed();
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// See `Transport::send`.
    pub(super) fn send(&self, peer: NodeId, epoch: Epoch, lane: Lane, frame: Bytes) -> Sent {
        assert!(
            !frame.is_empty() && frame.len() <= FRAME_BYTES_MAX,
            "a frame of {} bytes",
            frame.len()
        );
        assert!(
            frame[0] < KIND_TRANSPORT,
            "frame kind {:#x} belongs to the transport",
            frame[0]
        );
        let Some(link) = self.table().link(peer, epoch).cloned() else {
            return Sent::NoLink;
        };
        let bound = self.limits.queue_bytes[lane.index()];
        if link.queues[lane.index()].push(frame, bound).is_err() {
            link.end(Reason::Overflow(lane), CloseCode::Overflow);
            return Sent::Overflow;
        }
        Sent::Queued
    }

    /// See `Transport::send_gossip`.
    pub(super) fn send_gossip(&self, to: NodeId, message: &[u8]) -> Sent {
        let link = self.table().links.get(&to).cloned();
        let sent = match link {
            _ if message.len() > GOSSIP_BYTES_MAX => Sent::Overflow,
            None => Sent::NoLink,
            Some(link) => {
                let frame = seal(KIND_GOSSIP, message);
                match link.queues[Lane::Control.index()].push(frame, GOSSIP_QUEUE_BYTES_MAX) {
                    Ok(()) => Sent::Queued,
                    Err(_full) => Sent::Overflow,
                }
            }
        };
        if sent != Sent::Queued {
            self.counters.gossip_dropped.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(peer = %to, bytes = message.len(), ?sent, "gossip dropped");
        }
        sent
    }

    fn account(&self, link: &Link) {
        let stats = link.stats();
        self.counters
            .udp_bytes_sent
            .fetch_add(stats.udp_tx.bytes, Ordering::Relaxed);
        self.counters
            .udp_bytes_received
            .fetch_add(stats.udp_rx.bytes, Ordering::Relaxed);
    }
}
