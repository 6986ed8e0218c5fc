//! Frames on a lane's stream: `len u32 | kind u8 | flags u8 | body`, little-endian, `len` counting the body alone.
//!
//! A frame in memory is its kind byte and its body. Kinds below [`KIND_TRANSPORT`] are the engine's and are handed
//! on whatever they are: it skips what it does not know. The kinds from there on are the transport's own; those it
//! does not know are skipped by their length. `flags` is 0 and not looked at.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{ReadError, RecvStream};

use crate::transport::limits::{COPY_BYTES_MAX, FRAME_BYTES_MAX};

/// Kinds from here on belong to the transport.
pub const KIND_TRANSPORT: u8 = 0xf0;
/// The first frame of a link, on the control lane.
pub(super) const KIND_HELLO: u8 = 0xf0;
/// A message between the memberships.
pub(super) const KIND_GOSSIP: u8 = 0xf1;

/// Length, kind and flags.
pub(super) const HEADER_BYTES: usize = 6;
/// Bytes asked of the stream at once.
const CHUNK_BYTES: usize = 64 << 10;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) body_bytes: usize,
}

/// Why a lane can no longer be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection or the stream ended; its own error says why.
    Ended,
    /// The peer broke the rules.
    Protocol(String),
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Fault {
        match error {
            ReadError::ConnectionLost(_) => Fault::Ended,
            other => Fault::Protocol(other.to_string()),
        }
    }
}

/// The frames' bytes on the stream, as few chunks as copying small bodies makes them.
pub(super) fn encode(frames: Vec<Bytes>, out: &mut Vec<Bytes>) {
    let copied = frames
        .iter()
        .map(|frame| HEADER_BYTES + frame.len())
        .filter(|bytes| *bytes <= COPY_BYTES_MAX);
    let mut small = BytesMut::with_capacity(copied.sum());
    for mut frame in frames {
        assert!(
            !frame.is_empty() && frame.len() <= FRAME_BYTES_MAX,
            "a frame of {} bytes",
            frame.len()
        );
        let kind = frame[0];
        frame.advance(1);
        small.put_u32_le(frame.len() as u32);
        small.put_u8(kind);
        small.put_u8(0);
        if frame.len() <= COPY_BYTES_MAX {
            small.extend_from_slice(&frame);
        } else {
            out.push(small.split().freeze());
            out.push(frame);
        }
    }
    if !small.is_empty() {
        out.push(small.freeze());
    }
}

/// A frame of the transport's own.
pub(super) fn seal(kind: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(1 + body.len());
    frame.put_u8(kind);
    frame.extend_from_slice(body);
    frame.freeze()
}

/// Reads one lane.
pub(super) struct Reader {
    stream: RecvStream,
    chunk: Bytes,
}

impl Reader {
    pub(super) fn new(stream: RecvStream) -> Reader {
        Reader {
            stream,
            chunk: Bytes::new(),
        }
    }

    /// The byte that opens the stream and names its lane.
    pub(super) async fn lane_id(&mut self) -> Result<u8, Fault> {
        let mut id = [0];
        self.fill(&mut id).await?;
        Ok(id[0])
    }

    /// The next header; `None` where the peer finished the lane between two frames.
    pub(super) async fn header(&mut self) -> Result<Option<Header>, Fault> {
        if self.chunk.is_empty() && !self.more().await? {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        self.fill(&mut bytes).await?;
        let [a, b, c, d, kind, _flags] = bytes;
        let body_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        // A frame is one byte longer than its body; subtracting on our side cannot overflow on theirs.
        if body_bytes > FRAME_BYTES_MAX - 1 {
            return Err(Fault::Protocol(format!(
                "a frame with a body of {body_bytes} bytes; at most {} are taken",
                FRAME_BYTES_MAX - 1
            )));
        }
        Ok(Some(Header { kind, body_bytes }))
    }

    /// The frame under `header`: kind byte and body, in bytes of its own, so that whoever keeps a slice of it
    /// keeps no more than this frame.
    pub(super) async fn frame(&mut self, header: Header) -> Result<Bytes, Fault> {
        self.frame_into(Vec::with_capacity(1 + header.body_bytes), header)
            .await
    }

    /// The same, taking no more memory than has come: for streams, which have no credit for their bytes.
    pub(super) async fn frame_as_it_comes(&mut self, header: Header) -> Result<Bytes, Fault> {
        let frame = Vec::with_capacity(1 + header.body_bytes.min(CHUNK_BYTES));
        self.frame_into(frame, header).await
    }

    async fn frame_into(&mut self, mut frame: Vec<u8>, header: Header) -> Result<Bytes, Fault> {
        frame.push(header.kind);
        while frame.len() <= header.body_bytes {
            if self.chunk.is_empty() && !self.more().await? {
                return Err(cut());
            }
            let now = (1 + header.body_bytes - frame.len()).min(self.chunk.len());
            frame.extend_from_slice(&self.chunk[..now]);
            self.chunk.advance(now);
        }
        Ok(Bytes::from(frame))
    }

    /// The body under `header` alone.
    pub(super) async fn body(&mut self, header: Header) -> Result<Bytes, Fault> {
        let mut frame = self.frame(header).await?;
        Ok(frame.split_off(1))
    }

    /// Passes over the body under `header`.
    pub(super) async fn skip(&mut self, header: Header) -> Result<(), Fault> {
        let mut left = header.body_bytes;
        while left > 0 {
            if self.chunk.is_empty() && !self.more().await? {
                return Err(cut());
            }
            let now = left.min(self.chunk.len());
            self.chunk.advance(now);
            left -= now;
        }
        Ok(())
    }

    async fn fill(&mut self, mut out: &mut [u8]) -> Result<(), Fault> {
        while !out.is_empty() {
            if self.chunk.is_empty() && !self.more().await? {
                return Err(cut());
            }
            let now = out.len().min(self.chunk.len());
            out[..now].copy_from_slice(&self.chunk[..now]);
            self.chunk.advance(now);
            out = &mut out[now..];
        }
        Ok(())
    }

    /// Waits for bytes; false at the stream's end.
    async fn more(&mut self) -> Result<bool, Fault> {
        match self.stream.read_chunk(CHUNK_BYTES, true).await? {
            Some(chunk) => {
                self.chunk = chunk.bytes;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

fn cut() -> Fault {
    Fault::Protocol("the stream ended within a frame".into())
}
