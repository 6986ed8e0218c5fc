//! Calls between nodes, on the lane of that name; on a stream of their own where they are large or stream.
//!
//! Contract: names and ids are not checked here; whoever makes a call of what came checks it as any caller's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::frame::{DecodeError, FRAME_BYTES_MAX, open, seal};

/// A command for an entity's function at the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRequest {
    /// The sender's name for it, never used twice in an epoch of it.
    pub id: u64,
    /// The entity's kind.
    pub kind: String,
    /// The entity's key.
    pub key: String,
    /// Which method.
    pub method: String,
    /// The argument.
    pub argument: WireValue,
    /// How long the caller still waits, milliseconds.
    pub timeout_ms: u64,
    /// How many functions have called one another to get here.
    pub depth: u8,
    /// A name of the call that is the same whenever it is made again.
    pub call_id: Option<String>,
    /// The trace that it is part of: its id, the part that asks, and flags.
    pub trace: Option<(u128, u64, u8)>,
    /// What the caller's session has seen, if it has one.
    pub token: Option<Bytes>,
}

/// A value as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireValue {
    /// Which encoding: 0 JSON, 1 postcard, 2 a message of protobuf, 3 CBOR.
    pub encoding: u8,
    /// The bytes.
    pub bytes: Bytes,
}

/// How a call went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReply {
    /// Which call.
    pub id: u64,
    /// The reply, or why there is none.
    pub result: Result<WireValue, WireError>,
    /// What the caller's session has seen now, if it has one.
    pub token: Option<Bytes>,
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// The name of its kind.
    pub kind: String,
    /// Its message.
    pub message: String,
    /// What a function said of why it refused.
    pub details: Option<WireValue>,
}

/// A frame of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFrame {
    /// A call.
    Request(CallRequest),
    /// Its end.
    Reply(CallReply),
    /// A streaming call: the first frame of a stream of its own. Its id says nothing.
    Open(CallRequest),
    /// The stream's function begins.
    Opened,
    /// A message to a stream's function, or a reply of it. A [`CallFrame::Reply`] without a value is its end.
    Message(WireValue),
    /// Its caller does not wait any more.
    Cancel {
        /// Which call.
        id: u64,
    },
}

mod kind {
    pub const REQUEST: u8 = 0x40;
    pub const REPLY: u8 = 0x41;
    pub const CANCEL: u8 = 0x42;
    pub const OPEN: u8 = 0x43;
    pub const MESSAGE: u8 = 0x44;
    pub const OPENED: u8 = 0x45;
}

impl CallFrame {
    /// Its bytes: a kind and a body.
    pub fn encode(&self) -> Bytes {
        match self {
            CallFrame::Request(request) => seal(kind::REQUEST, request),
            CallFrame::Reply(reply) => seal(kind::REPLY, reply),
            CallFrame::Open(request) => seal(kind::OPEN, request),
            CallFrame::Opened => seal(kind::OPENED, &()),
            CallFrame::Message(value) => seal(kind::MESSAGE, value),
            CallFrame::Cancel { id } => seal(kind::CANCEL, id),
        }
    }

    /// The frame in these bytes; `None` when its kind is of a later version, which is skipped.
    ///
    /// # Errors
    /// The bytes are not of the form that their kind promises, or too many.
    pub fn decode(bytes: &[u8]) -> Result<Option<CallFrame>, DecodeError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(DecodeError::TooLarge(bytes.len()));
        }
        let Some((&kind, body)) = bytes.split_first() else {
            let why = "it is empty".to_owned();
            return Err(DecodeError::Malformed { what: "call", why });
        };
        Ok(Some(match kind {
            kind::REQUEST => CallFrame::Request(open("call", body)?),
            kind::REPLY => CallFrame::Reply(open("reply", body)?),
            kind::OPEN => CallFrame::Open(open("stream", body)?),
            kind::OPENED => {
                let () = open("opening", body)?;
                CallFrame::Opened
            }
            kind::MESSAGE => CallFrame::Message(open("message", body)?),
            kind::CANCEL => CallFrame::Cancel {
                id: open("cancellation", body)?,
            },
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> WireValue {
        WireValue {
            encoding: 1,
            bytes: Bytes::from_static(b"ab"),
        }
    }

    #[test]
    fn frames_are_what_they_always_were() {
        let request = CallRequest {
            id: 300,
            kind: "k".into(),
            key: "x".into(),
            method: "m".into(),
            argument: value(),
            timeout_ms: 5,
            depth: 1,
            call_id: Some("i".into()),
            trace: Some((300, 2, 1)),
            token: None,
        };
        let open = CallFrame::Open(request.clone());
        let request = CallFrame::Request(request);
        let reply = CallFrame::Reply(CallReply {
            id: 1,
            result: Err(WireError {
                kind: "lost".into(),
                message: "no".into(),
                details: Some(value()),
            }),
            token: Some(Bytes::from_static(b"t")),
        });
        let golden: [(CallFrame, &[u8]); 6] = [
            (
                request,
                b"\x40\xac\x02\x01k\x01x\x01m\x01\x02ab\x05\x01\x01\x01i\x01\xac\x02\x02\x01\0",
            ),
            (reply, b"\x41\x01\x01\x04lost\x02no\x01\x01\x02ab\x01\x01t"),
            (CallFrame::Cancel { id: 7 }, b"\x42\x07"),
            (
                open,
                b"\x43\xac\x02\x01k\x01x\x01m\x01\x02ab\x05\x01\x01\x01i\x01\xac\x02\x02\x01\0",
            ),
            (CallFrame::Opened, b"\x45"),
            (CallFrame::Message(value()), b"\x44\x01\x02ab"),
        ];
        for (frame, bytes) in golden {
            assert_eq!(frame.encode(), bytes);
            assert_eq!(CallFrame::decode(bytes).unwrap(), Some(frame));
        }
        assert_eq!(CallFrame::decode(b"\x50later"), Ok(None));
        for bad in [&b""[..], b"\x40", b"\x42\x07\x00", b"\x41\x01\x02"] {
            assert!(CallFrame::decode(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(kind in 0x40u8..0x46, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&[kind], &body[..]].concat();
            if let Ok(Some(frame)) = CallFrame::decode(&bytes) {
                prop_assert_eq!(CallFrame::decode(&frame.encode()).unwrap(), Some(frame));
            }
        }
    }
}
