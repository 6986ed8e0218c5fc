//! The envelope in which messages for and from functions travel through the mesh: bytes that nobody on the way looks into, what
//! type they are of, and what was said beside them.
//!
//! Contract: a payload in another encoding is none of these; the bytes within are those that came in, untouched.

use bytes::Bytes;
use prost::Message;

use super::proto::common::{Any, Metadata, MetadataEntry, MetadataValue};
use super::trace_context::TRACEPARENT;
use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload};
use crate::trace::Trace;

/// A message on its way.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// What it is, where that is not what its method takes or gives.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub message: Bytes,
    /// Headers, or what a function said beside its reply.
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<MetadataEntry>,
}

impl Envelope {
    /// As it travels.
    pub fn to_payload(&self) -> Payload {
        Payload {
            encoding: Encoding::Protobuf,
            bytes: self.encode_to_vec().into(),
        }
    }

    /// Of a payload.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: there is none in it.
    pub fn of(payload: &Payload) -> Result<Envelope, Error> {
        let invalid = |why: String| {
            let message = format!("nothing changed: the message for a function behind gRPC {why}");
            Error::new(ErrorKind::Invalid, message)
        };
        if payload.encoding != Encoding::Protobuf {
            return Err(invalid(format!("came as {:?}", payload.encoding)));
        }
        Envelope::decode(payload.bytes.clone()).map_err(|e| invalid(format!("cannot be read: {e}")))
    }

    /// Of what a function gives.
    pub fn from_any(any: Option<Any>, metadata: Option<Metadata>) -> Envelope {
        let any = any.unwrap_or_default();
        Envelope {
            type_url: any.type_url,
            message: any.value,
            metadata: metadata.unwrap_or_default().entries,
        }
    }

    /// As a function takes it, whose method takes messages of this type; of what was said beside it, what it wants to hear. If that
    /// is where it stands in its trace, it hears of its own part, and of no other's.
    pub fn into_any(
        self,
        type_url: &str,
        trace: Option<Trace>,
        heard: impl Fn(&str) -> bool,
    ) -> (Any, Metadata) {
        let type_url = match self.type_url.is_empty() {
            true => type_url.to_owned(),
            false => self.type_url,
        };
        let entries = self.metadata.into_iter();
        let mut entries: Vec<_> = entries.filter(|entry| heard(&entry.key)).collect();
        if let Some(trace) = trace.filter(|_| heard(TRACEPARENT)) {
            let before = entries.len();
            entries.retain(|entry| !entry.key.eq_ignore_ascii_case(TRACEPARENT));
            // Of what nobody records, and nobody asked about, nobody hears.
            if trace.is_sampled() || entries.len() < before {
                let value = Some(MetadataValue::Text(trace.to_string()));
                let key = TRACEPARENT.to_owned();
                entries.push(MetadataEntry { key, value });
            }
        }
        let value = self.message;
        (Any { type_url, value }, Metadata { entries })
    }
}
