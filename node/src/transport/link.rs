//! One link: a connection whose hellos were exchanged, its lanes, and its end.
//!
//! Each side opens one stream per lane and writes on it alone. A lane has a task for each direction; the link has
//! one that waits for its end. All run on the transport's thread.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use quinn::{Connection, ConnectionError, SendStream, VarInt, WriteError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::transport::Hello;
use crate::transport::admit::Offer;
use crate::transport::event::{CloseCode, Credit, Event, Reason, newer_epoch_in, newer_epoch_text};
use crate::transport::frame::{Fault, KIND_GOSSIP, KIND_TRANSPORT, Reader, encode};
use crate::transport::limits::{
    DRAIN_TIMEOUT, GOSSIP_BYTES_MAX, INBOUND_BYTES_MAX, LEAVE_TIMEOUT, WRITE_BYTES,
};
use crate::transport::net::Net;
use crate::transport::queue::Queue;
use crate::transport::stream::Stream;
use crate::wire::Lane;

pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) offer: Offer,
    pub(super) hello: Arc<Hello>,
    pub(super) queues: [Queue; Lane::COUNT],
    connection: Connection,
    inbound: [Arc<Semaphore>; Lane::COUNT],
    /// Lanes whose stream the peer has opened, a bit each.
    opened: AtomicU8,
    /// Whether its frames are still wanted.
    is_current: AtomicBool,
    /// Why this side ended it; the first reason stays.
    ended: Mutex<Option<Reason>>,
}

impl Link {
    pub(super) fn new(peer: NodeId, offer: Offer, hello: Hello, connection: Connection) -> Link {
        Link {
            peer,
            offer,
            hello: Arc::new(hello),
            queues: Default::default(),
            connection,
            inbound: std::array::from_fn(|_| Arc::new(Semaphore::new(INBOUND_BYTES_MAX))),
            opened: AtomicU8::new(1 << Lane::Control.id()),
            is_current: AtomicBool::new(true),
            ended: Mutex::new(None),
        }
    }

    pub(super) fn remote(&self) -> SocketAddr {
        canonical(self.connection.remote_address())
    }

    pub(super) fn stats(&self) -> quinn::ConnectionStats {
        self.connection.stats()
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Opens a stream beside the lanes.
    pub(super) fn open_stream(&self) -> impl Future<Output = Option<Stream>> + Send + use<> {
        Stream::open(self.connection.clone())
    }

    /// Ends the link from this side and tells the peer why. Only the first call counts.
    pub(super) fn end(&self, reason: Reason, code: CloseCode) {
        let why = reason.to_string();
        self.end_with(reason, code, &why);
    }

    /// Ends the link because a connection with the peer's epoch `newest` took its place.
    pub(super) fn replace(&self, newest: Epoch, reason: Reason, code: CloseCode) {
        let why = match code {
            CloseCode::NewerEpoch => newer_epoch_text(newest),
            _ => reason.to_string(),
        };
        self.end_with(reason, code, &why);
    }

    fn end_with(&self, reason: Reason, code: CloseCode, why: &str) {
        {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.is_some() {
                return;
            }
            *ended = Some(reason);
        }
        close(&self.connection, code, why);
    }

    /// Frames that still come are dropped unread.
    pub(super) fn forget(&self) {
        self.is_current.store(false, Ordering::Relaxed);
    }

    /// Why it ended, if it is closed already and only its last frames are still being handed on.
    pub(super) fn closed_for(&self) -> Option<Reason> {
        self.connection.close_reason().map(|error| self.end_reason(error))
    }

    fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Relaxed)
    }

    fn end_reason(&self, error: ConnectionError) -> Reason {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ended.unwrap_or_else(|| reason_of(error))
    }
}

/// Runs a link that was just put in the table, until it ends. The dialler has opened the control lane already.
pub(super) async fn run(
    net: Arc<Net>,
    link: Arc<Link>,
    mut control_out: Option<SendStream>,
    control_in: Reader,
) {
    let mut writers = JoinSet::new();
    for lane in Lane::ALL {
        let opened = match control_out.take() {
            Some(stream) => Ok(stream),
            // In order: the peer expects its hello on the first stream.
            None => open_lane(&link.connection, lane).await,
        };
        match opened {
            Ok(stream) => {
                let writer = write_lane(net.clone(), link.clone(), lane, stream);
                writers.spawn(net.alarm.over(writer));
            }
            // The connection is closed, which is handled below.
            Err(error) => tracing::debug!(peer = %link.peer, %lane, %error, "lane not opened"),
        }
    }
    let mut readers = JoinSet::new();
    let control = read_lane(net.clone(), link.clone(), Lane::Control, control_in);
    readers.spawn(net.alarm.over(control));
    readers.spawn(net.alarm.over(accept_lanes(net.clone(), link.clone())));
    readers.spawn(net.alarm.over(accept_streams(net.clone(), link.clone())));

    let error = link.connection.closed().await;
    // What came before the close is still handed on, as far as it is whole.
    let drained = timeout(DRAIN_TIMEOUT, async {
        while readers.join_next().await.is_some() {}
    })
    .await;
    if drained.is_err() {
        tracing::debug!(peer = %link.peer, "frames of a closed link were dropped");
    }
    link.forget();
    drop((readers, writers));
    for queue in &link.queues {
        queue.confirm();
    }
    net.ended(&link, link.end_reason(error));
}

/// Sends what is queued, lets the peer's transport confirm it, and closes. Whether the peer was there to confirm it.
pub(super) async fn drain(link: Arc<Link>, code: CloseCode) -> bool {
    for queue in &link.queues {
        queue.finish();
    }
    // The peer closes when it has seen the end of every lane, or we do when it takes too long.
    let confirmed = timeout(LEAVE_TIMEOUT, async {
        for queue in &link.queues {
            queue.confirmed().await;
        }
    })
    .await;
    link.end(Reason::Shutdown, code);
    confirmed.is_ok()
}

/// What quinn goes by when several streams have something to send.
pub(super) fn urgency(lane: Lane) -> i32 {
    (Lane::COUNT - lane.index()) as i32
}

/// Opens the stream of a lane, the most urgent of those with something to send first.
pub(super) async fn open_lane(connection: &Connection, lane: Lane) -> Result<SendStream, WriteError> {
    let mut stream = connection.open_uni().await?;
    stream.set_priority(urgency(lane))?;
    stream.write_all(&[lane.id()]).await?;
    Ok(stream)
}

async fn write_lane(net: Arc<Net>, link: Arc<Link>, lane: Lane, mut stream: SendStream) {
    if write_frames(&net, &link, lane, &mut stream).await.is_ok() && stream.finish().is_ok() {
        // `Ok(None)`: the peer has everything. Any other answer comes with the link's end.
        let _ = stream.stopped().await;
    }
    link.queues[lane.index()].confirm();
}

async fn write_frames(net: &Net, link: &Link, lane: Lane, stream: &mut SendStream) -> Result<(), WriteError> {
    let mut chunks = Vec::new();
    while let Some(frames) = link.queues[lane.index()].take(WRITE_BYTES).await {
        let bytes: usize = frames
            .iter()
            .filter(|frame| frame[0] < KIND_TRANSPORT)
            .map(Bytes::len)
            .sum();
        encode(frames, &mut chunks);
        stream.write_all_chunks(&mut chunks).await?;
        chunks.clear();
        if bytes > 0 && link.is_current() {
            net.emit(Event::Taken {
                peer: link.peer,
                epoch: link.offer.epoch,
                lane,
                bytes: bytes as u64,
            });
        }
    }
    Ok(())
}

async fn accept_lanes(net: Arc<Net>, link: Arc<Link>) {
    let mut readers = JoinSet::new();
    while let Ok(stream) = link.connection.accept_uni().await {
        let reader = accept_lane(net.clone(), link.clone(), Reader::new(stream));
        readers.spawn(net.alarm.over(reader));
        // Finished lanes make room for new streams, which are then refused: nothing gathers here.
        while readers.try_join_next().is_some() {}
    }
    while readers.join_next().await.is_some() {}
}

async fn accept_streams(net: Arc<Net>, link: Arc<Link>) {
    while let Ok((out, input)) = link.connection.accept_bi().await {
        if link.is_current() {
            net.emit(Event::Stream {
                peer: link.peer,
                epoch: link.offer.epoch,
                stream: Stream::new(out, input),
            });
        }
    }
}

async fn accept_lane(net: Arc<Net>, link: Arc<Link>, mut reader: Reader) {
    let id = match reader.lane_id().await {
        Ok(id) => id,
        Err(fault) => return fail(&link, fault),
    };
    let Some(lane) = Lane::from_id(id) else {
        return fail(
            &link,
            Fault::Protocol(format!("a stream for lane {id}, which there is not")),
        );
    };
    let bit = 1 << lane.id();
    if link.opened.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return fail(&link, Fault::Protocol(format!("a second stream for lane {lane}")));
    }
    read_lane(net, link, lane, reader).await;
}

async fn read_lane(net: Arc<Net>, link: Arc<Link>, lane: Lane, mut reader: Reader) {
    if let Err(fault) = read_frames(&net, &link, lane, &mut reader).await {
        fail(&link, fault);
    }
}

async fn read_frames(net: &Net, link: &Link, lane: Lane, reader: &mut Reader) -> Result<(), Fault> {
    let (peer, epoch) = (link.peer, link.offer.epoch);
    while let Some(header) = reader.header().await? {
        if header.kind < KIND_TRANSPORT {
            let bytes = header.body_bytes as u32 + 1;
            let inbound = &link.inbound[lane.index()];
            // There is room, nearly always.
            let permit = match inbound.clone().try_acquire_many_owned(bytes) {
                Ok(permit) => permit,
                Err(_) => match inbound.clone().acquire_many_owned(bytes).await {
                    Ok(permit) => permit,
                    Err(_) => unreachable!("the semaphore is never closed"),
                },
            };
            let frame = reader.frame(header).await?;
            if !link.is_current() {
                return Ok(());
            }
            net.emit(Event::Frame {
                peer,
                epoch,
                lane,
                frame,
                credit: Credit::new(permit),
            });
        } else if header.kind == KIND_GOSSIP && header.body_bytes <= GOSSIP_BYTES_MAX {
            let message = reader.body(header).await?;
            if link.is_current() {
                net.emit(Event::Gossip { from: peer, message });
            }
        } else {
            net.counters.frames_skipped.fetch_add(1, Ordering::Relaxed);
            reader.skip(header).await?;
        }
    }
    Ok(())
}

fn fail(link: &Link, fault: Fault) {
    if let Fault::Protocol(why) = fault {
        link.end(Reason::Protocol(why), CloseCode::Protocol);
    }
}

/// Closes a connection with a code and its reason in words.
pub(super) fn close(connection: &Connection, code: CloseCode, why: &str) {
    connection.close(VarInt::from_u32(code as u32), why.as_bytes());
}

/// What the end of a connection means when this side did not end it.
fn reason_of(error: ConnectionError) -> Reason {
    let ConnectionError::ApplicationClosed(closed) = &error else {
        return Reason::Lost(error.to_string());
    };
    let why = || String::from_utf8_lossy(&closed.reason).into_owned();
    match CloseCode::from_wire(closed.error_code.into_inner()) {
        Some(CloseCode::NewerEpoch) if let Some(newest) = newer_epoch_in(&why()) => Reason::Outdated(newest),
        Some(CloseCode::Leaving) => Reason::Left,
        Some(CloseCode::Stopping) => Reason::Stopped,
        Some(CloseCode::Duplicate) => Reason::Replaced,
        Some(_) => Reason::ClosedByPeer(why()),
        None => Reason::ClosedByPeer(format!("code {}: {}", closed.error_code, why())),
    }
}

/// An IPv4 address as such, also where the socket speaks both families.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
