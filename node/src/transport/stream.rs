//! Streams of frames beside the lanes: one for whatever would hold up the small frames of a lane, or goes on for long.
//!
//! Either side opens one; both write frames on it, as on a lane, and whoever reads slowly makes the other one wait, on that stream
//! alone. It ends with its link at the latest.

use std::fmt;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt, WriteError};

use crate::transport::frame::{Fault, KIND_TRANSPORT, Reader, encode};
use crate::transport::limits::FRAME_BYTES_MAX;
use crate::transport::link::urgency;
use crate::wire::Lane;

/// What a stream that is dropped says to the other side.
const DROPPED: u32 = 0;

/// A stream with a peer, both ways.
#[derive(Debug)]
pub struct Stream {
    /// To the peer.
    pub out: StreamOut,
    /// From the peer.
    pub input: StreamIn,
}

/// What goes to the peer. Dropped before it is finished, it tells the peer that this is not all.
pub struct StreamOut {
    stream: SendStream,
    is_finished: bool,
}

/// What comes from the peer. Dropped, it tells the peer that nobody reads it.
pub struct StreamIn(Reader);

/// A stream was cut off: by its link, by the other side, or by what it may not carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream was cut off: {0}")]
pub struct CutOff(String);

impl Stream {
    /// Opens one. Waits while the peer has as many as it takes.
    pub(super) async fn open(connection: Connection) -> Option<Stream> {
        let (out, input) = connection.open_bi().await.ok()?;
        Some(Stream::new(out, input))
    }

    pub(super) fn new(out: SendStream, input: RecvStream) -> Stream {
        // Beside the calls; above what is sent in bulk. An error means that it is closed, which its user will see.
        let _ = out.set_priority(urgency(Lane::Calls));
        Stream {
            out: StreamOut {
                stream: out,
                is_finished: false,
            },
            input: StreamIn(Reader::new(input)),
        }
    }
}

impl StreamOut {
    /// Writes a frame; waits while the peer does not read. Not to be dropped half-way: the frame would be cut.
    ///
    /// # Errors
    /// Nothing that is written from here on arrives.
    ///
    /// # Panics
    /// On a frame that no lane would take.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), CutOff> {
        assert!(
            !frame.is_empty() && frame.len() <= FRAME_BYTES_MAX && frame[0] < KIND_TRANSPORT,
            "a frame of {} bytes",
            frame.len()
        );
        let mut chunks = Vec::new();
        encode(vec![frame], &mut chunks);
        let written = self.stream.write_all_chunks(&mut chunks).await;
        written.map_err(|error: WriteError| CutOff(error.to_string()))
    }

    /// That is all. The peer has it once it confirms.
    pub fn finish(&mut self) {
        self.is_finished = true;
        // An error means that the peer has stopped reading.
        let _ = self.stream.finish();
    }

    /// Waits until the peer wants no more of it: it has all, or has gone away.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }
}

impl StreamIn {
    /// The next frame; `None` where the peer has finished.
    ///
    /// # Errors
    /// Nothing more comes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CutOff> {
        let read = async {
            match self.0.header().await? {
                None => Ok(None),
                Some(header) if header.kind >= KIND_TRANSPORT => {
                    Err(Fault::Protocol(format!("a frame of kind {:#x}", header.kind)))
                }
                Some(header) => self.0.frame_as_it_comes(header).await.map(Some),
            }
        };
        read.await.map_err(|fault| match fault {
            Fault::Ended => CutOff("the link ended".into()),
            Fault::Protocol(why) => CutOff(why),
        })
    }
}

impl Drop for StreamOut {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = self.stream.reset(VarInt::from_u32(DROPPED));
        }
    }
}

impl fmt::Debug for StreamOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamOut")
    }
}

impl fmt::Debug for StreamIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamIn")
    }
}
