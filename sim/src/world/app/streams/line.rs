//! Streams beside the lanes of a link, as QUIC has them: each frame comes once and in order, whoever reads slowly makes the other
//! one wait, and either side may break off.
//!
//! Not here: the network in which their frames travel (`crate::net`), and what those say (`anabranch::far`).

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use anabranch::far::{FramesIn, FramesOut};
use bytes::{BufMut, Bytes, BytesMut};

use crate::net::NodeIx;

/// So many bytes may be under way or wait for their reader, but for the last frame: few, so that slow readers are waited for.
const WINDOW_BYTES: usize = 400;

/// What one end of a stream says to the other, besides what its users say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Data(Bytes),
    /// That was all.
    Fin,
    /// There would have been more.
    Reset,
    /// Nobody reads any more.
    Stop,
    /// So much was read.
    Read(u32),
}

impl Signal {
    pub fn encode(&self, stream: u64) -> Bytes {
        let mut bytes = BytesMut::new();
        let (kind, body): (u8, Bytes) = match self {
            Signal::Data(frame) => (0, frame.clone()),
            Signal::Fin => (1, Bytes::new()),
            Signal::Reset => (2, Bytes::new()),
            Signal::Stop => (3, Bytes::new()),
            Signal::Read(len) => (4, Bytes::copy_from_slice(&len.to_le_bytes())),
        };
        bytes.put_u8(kind);
        bytes.put_u64_le(stream);
        bytes.put(body);
        bytes.freeze()
    }

    /// Nothing where no end has said that: it comes as it was sent.
    pub fn decode(bytes: &Bytes) -> Option<(u64, Signal)> {
        let (kind, rest) = bytes.split_first()?;
        let (stream, body) = rest.split_first_chunk::<8>()?;
        let signal = match kind {
            0 => Signal::Data(bytes.slice_ref(body)),
            1 => Signal::Fin,
            2 => Signal::Reset,
            3 => Signal::Stop,
            4 => Signal::Read(u32::from_le_bytes(body.try_into().ok()?)),
            _ => return None,
        };
        Some((u64::from_le_bytes(*stream), signal))
    }
}

/// What is to be done with what a node's end of a stream has said.
#[derive(Debug)]
pub(super) enum Does {
    Says(Signal),
    /// One of its two halves is there no more.
    Drops,
}

/// All that ends have said and that is not sent yet: by which node, on which stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<Mutex<VecDeque<(NodeIx, u64, Does)>>>);

impl Outbox {
    pub fn next(&self) -> Option<(NodeIx, u64, Does)> {
        lock(&self.0).pop_front()
    }

    fn put(&self, node: NodeIx, stream: u64, does: Does) {
        lock(&self.0).push_back((node, stream, does));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Half {
    /// What has come and was not read.
    frames: VecDeque<Bytes>,
    has_all: bool,
    /// What was sent and not read.
    under_way: usize,
    is_finished: bool,
    /// Why nothing more comes, or arrives.
    cut: Option<String>,
    wakers: Vec<Waker>,
}

impl Half {
    fn cut(&mut self, why: &str) {
        self.cut.get_or_insert_with(|| why.to_owned());
    }
}

/// A node's end of a stream.
#[derive(Debug)]
pub(super) struct End {
    pub peer: NodeIx,
    /// Over the link with this epoch of the peer.
    pub epoch: u64,
    /// Whether it is the function's.
    pub serves: bool,
    out: Arc<Mutex<Half>>,
    input: Arc<Mutex<Half>>,
    /// Halves that somebody holds.
    held: u8,
}

/// All ends of all streams that go to other nodes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    ends: BTreeMap<(NodeIx, u64), End>,
    pub outbox: Outbox,
}

impl Lines {
    /// A node's end of a stream over its link with a peer.
    pub fn make(
        &mut self,
        (node, stream): (NodeIx, u64),
        (peer, epoch): (NodeIx, u64),
        serves: bool,
    ) -> (LineOut, LineIn) {
        let (out, input): (Arc<Mutex<Half>>, Arc<Mutex<Half>>) = (Arc::default(), Arc::default());
        let of = |half: &Arc<Mutex<Half>>| Line {
            node,
            stream,
            half: Arc::clone(half),
            outbox: self.outbox.clone(),
        };
        let both = (LineOut(of(&out)), LineIn(of(&input)));
        let end = End {
            peer,
            epoch,
            serves,
            out,
            input,
            held: 2,
        };
        self.ends.insert((node, stream), end);
        both
    }

    pub fn end(&self, node: NodeIx, stream: u64) -> Option<&End> {
        self.ends.get(&(node, stream))
    }

    /// A stream that is open at one end only: word of its beginning or its end is under way.
    pub fn half_open(&self) -> Option<String> {
        let mut ends = self.ends.iter();
        let half = ends.find(|((_, stream), end)| !self.ends.contains_key(&(end.peer, *stream)));
        half.map(|((node, _), end)| format!("n{node} has one end of a stream with n{}", end.peer))
    }

    /// One of an end's halves is there no more.
    pub fn drop_half(&mut self, node: NodeIx, stream: u64) {
        if let Some(end) = self.ends.get_mut(&(node, stream)) {
            end.held -= 1;
            if end.held == 0 {
                self.ends.remove(&(node, stream));
            }
        }
    }

    /// A node hears something of the other end. Whether it has that stream.
    pub fn hear(&mut self, node: NodeIx, from: NodeIx, stream: u64, signal: Signal) -> bool {
        let Some(end) = self.ends.get(&(node, stream)).filter(|end| end.peer == from) else {
            return false;
        };
        let half = match signal {
            Signal::Data(_) | Signal::Fin | Signal::Reset => &end.input,
            Signal::Stop | Signal::Read(_) => &end.out,
        };
        let wakers = {
            let mut half = lock(half);
            match signal {
                Signal::Data(frame) => half.frames.push_back(frame),
                Signal::Fin => half.has_all = true,
                Signal::Reset => {
                    // As in QUIC, what was not read goes with it.
                    half.frames.clear();
                    half.cut("it was reset");
                }
                Signal::Stop => half.cut("the other side has stopped it"),
                Signal::Read(len) => half.under_way = half.under_way.saturating_sub(len as usize),
            }
            std::mem::take(&mut half.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// A node's links have ended, or that with one peer, and all streams over them.
    pub fn on_unlinked(&mut self, node: NodeIx, peer: Option<NodeIx>) {
        let ends = self
            .ends
            .iter()
            .filter(|((at, _), end)| *at == node && peer.is_none_or(|peer| peer == end.peer));
        let mut wakers = Vec::new();
        for half in ends.flat_map(|(_, end)| [&end.out, &end.input]) {
            let mut half = lock(half);
            half.cut("the link ended");
            wakers.append(&mut half.wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A node has died. Nothing is said of that by whatever it had open.
    pub fn on_stopped(&mut self, node: NodeIx) {
        self.ends.retain(|(of, _), _| *of != node);
    }
}

#[derive(Debug)]
struct Line {
    node: NodeIx,
    stream: u64,
    half: Arc<Mutex<Half>>,
    outbox: Outbox,
}

impl Line {
    fn say(&self, signal: Signal) {
        self.outbox.put(self.node, self.stream, Does::Says(signal));
    }
}

/// What goes to the other end.
#[derive(Debug)]
pub(crate) struct LineOut(Line);

/// What comes from it.
#[derive(Debug)]
pub(crate) struct LineIn(Line);

impl LineOut {
    /// Waits until the other end reads no more.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let half = Arc::clone(&self.0.half);
        poll_fn(move |task| {
            let mut half = lock(&half);
            if half.cut.is_some() {
                return Poll::Ready(());
            }
            half.wakers.push(task.waker().clone());
            Poll::Pending
        })
    }
}

impl LineIn {
    /// The other end may send so much more.
    pub fn has_read(&self, len: u32) {
        self.0.say(Signal::Read(len));
    }
}

impl FramesOut for LineOut {
    async fn send(&mut self, frame: Bytes) -> Result<(), String> {
        poll_fn(|task| {
            let mut half = lock(&self.0.half);
            if let Some(why) = &half.cut {
                return Poll::Ready(Err(why.clone()));
            }
            if half.under_way >= WINDOW_BYTES {
                half.wakers.push(task.waker().clone());
                return Poll::Pending;
            }
            half.under_way += frame.len();
            Poll::Ready(Ok(()))
        })
        .await?;
        self.0.say(Signal::Data(frame));
        Ok(())
    }

    fn finish(&mut self) {
        let is_first = !std::mem::replace(&mut lock(&self.0.half).is_finished, true);
        if is_first {
            self.0.say(Signal::Fin);
        }
    }
}

impl FramesIn for LineIn {
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let next = poll_fn(|task| {
            let mut half = lock(&self.0.half);
            if let Some(frame) = half.frames.pop_front() {
                return Poll::Ready(Ok(Some(frame)));
            }
            if half.has_all {
                return Poll::Ready(Ok(None));
            }
            if let Some(why) = &half.cut {
                return Poll::Ready(Err(why.clone()));
            }
            half.wakers.push(task.waker().clone());
            Poll::Pending
        });
        let next = next.await;
        if let Ok(Some(frame)) = &next {
            let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            self.has_read(len);
        }
        next
    }
}

impl Drop for LineOut {
    fn drop(&mut self) {
        if !lock(&self.0.half).is_finished {
            self.0.say(Signal::Reset);
        }
        self.0.outbox.put(self.0.node, self.0.stream, Does::Drops);
    }
}

impl Drop for LineIn {
    fn drop(&mut self) {
        let half = lock(&self.0.half);
        let is_read = half.has_all && half.frames.is_empty();
        drop(half);
        if !is_read {
            self.0.say(Signal::Stop);
        }
        self.0.outbox.put(self.0.node, self.0.stream, Does::Drops);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_as_it_was_said() {
        let frame = Bytes::from_static(b"frame");
        for signal in [
            Signal::Data(frame),
            Signal::Fin,
            Signal::Reset,
            Signal::Stop,
            Signal::Read(7),
        ] {
            assert_eq!(Signal::decode(&signal.encode(9)), Some((9, signal)));
        }
        assert_eq!(Signal::decode(&Bytes::from_static(b"\x09")), None);
    }
}
