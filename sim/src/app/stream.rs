//! Streams that clients open, and what they take of them.

use std::fmt;

use anabranch::{Call, Encoding, Payload, TIMEOUT_MS_DEFAULT};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Ask, What, call, message};
use crate::net::NodeIx;
use crate::queue::Micros;

/// What a client opens.
#[derive(Clone, Debug)]
pub(crate) struct Streamed {
    pub call: Call,
    /// The only node that may run its function, where there is one.
    pub on: Option<NodeIx>,
    pub messages: Vec<Payload>,
    /// Whether it is said that there are no more.
    pub finishes: bool,
    pub lasts_us: Option<Micros>,
    /// Whether a test takes its replies one by one.
    pub by_hand: bool,
}

impl fmt::Display for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.on {
            None => write!(f, "the stream {}", self.call),
            Some(on) => write!(f, "the stream {} on n{on}", self.call),
        }
    }
}

impl Ask {
    /// A stream of an entity's function, as [`Node::stream`](anabranch::Node::stream) opens it: of a method that streams, or of a query,
    /// which is followed. Its client takes [replies](super::Application::on_reply), each after a while, until it ends; that is its
    /// answer then: a reply of `()` where its function has ended well. At most so much time as is [given](Ask::within_ms) passes before it
    /// is open, and as much as one likes then. A client whose stream has not ended by itself goes away once all nodes have agreed, and
    /// not before it has heard what a query that it follows answers then.
    ///
    /// ```
    /// use anabranch_sim::app::Ask;
    /// let follows = Ask::stream("cart", "alice", "show", &()).at(1).lasting_us(2_000_000);
    /// let fills = Ask::stream("cart", "alice", "fill", &()).on(0).sending(&[("boots", 2), ("socks", 1)]);
    /// assert_eq!(fills.to_string(), "the stream fill of cart/alice on n0");
    /// # let _ = follows;
    /// ```
    ///
    /// # Panics
    /// The name is no entity's, or the argument cannot be written.
    pub fn stream<A: Serialize + ?Sized>(kind: &str, key: &str, method: &str, argument: &A) -> Ask {
        let streamed = Streamed {
            call: call(Encoding::Cbor, kind, key, method, argument),
            on: None,
            messages: Vec::new(),
            finishes: false,
            lasts_us: None,
            by_hand: false,
        };
        Ask::what(What::Stream(streamed), TIMEOUT_MS_DEFAULT)
    }

    /// The client sends these, one after the other, and says then that there are no more.
    ///
    /// # Panics
    /// It opens no stream, or a message cannot be written.
    #[must_use]
    pub fn sending<M: Serialize>(mut self, messages: &[M]) -> Ask {
        let streamed = self.stream_mut();
        let encoding = streamed.call.payload.encoding;
        streamed.messages = messages.iter().map(|one| message(encoding, one)).collect();
        streamed.finishes = true;
        self
    }

    /// The client goes away after so long, microseconds, if it has not ended before.
    ///
    /// # Panics
    /// It opens no stream.
    #[must_use]
    pub fn lasting_us(mut self, us: Micros) -> Ask {
        self.stream_mut().lasts_us = Some(us);
        self
    }

    /// Replies are taken one by one.
    pub(super) fn by_hand(mut self) -> Ask {
        self.stream_mut().by_hand = true;
        self
    }
}

/// A reply of a stream that its client has taken.
#[derive(Clone, Debug)]
pub struct Replied {
    /// Whose stream it is.
    pub client: usize,
    /// What was asked.
    pub ask: Ask,
    /// The node that was asked.
    pub node: NodeIx,
    /// The stream's number: no two have the same.
    pub stream: u64,
    /// Which reply of it this is, from 1.
    pub nth: u64,
    /// When it was taken, microseconds.
    pub at: Micros,
    /// The reply.
    pub payload: Payload,
}

impl Replied {
    /// The same as a value.
    ///
    /// # Panics
    /// It is none of this type.
    pub fn reply<R: DeserializeOwned>(&self) -> R {
        let read = self.payload.read();
        read.unwrap_or_else(|e| panic!("a reply of {}: {e}", self.ask))
    }
}
