//! Arguments and replies as bytes.

mod cbor;
mod scalar;
mod written;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::written::Written;

/// An argument, a reply or a message of a stream is at most so long.
pub const PAYLOAD_BYTES_MAX: usize = 768 << 10;
/// Beside a message of protobuf, which alone may be that long, its envelope has so much room for what is said with it: as much as
/// HTTP/2 takes as headers.
pub(crate) const ENVELOPE_BYTES_MAX: usize = 16 << 10;

/// How the bytes of a payload are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON text: what people and web clients send.
    Json,
    /// CBOR: what Rust sends to Rust. A number that does not fit the reader's type is an error, never another number. Structs carry
    /// their field names, so one with a new field that has `#[serde(default)]` can be read as well.
    Cbor,
    /// Postcard: fewer bytes, if both sides have exactly the same types. It does not say what is in it: 2 written as an `i32` reads
    /// as 4 where a `u32` is expected.
    Postcard,
    /// A protobuf message in the envelope of functions behind gRPC, and only for those.
    Protobuf,
}

/// An argument or a reply.
///
/// ```
/// use anabranch::{Encoding, Payload};
///
/// let payload = Payload::of(Encoding::Json, &("umbrella", 2))?;
/// assert_eq!(payload.bytes, r#"["umbrella",2]"#);
/// assert_eq!(payload.read::<(String, u32)>()?, ("umbrella".into(), 2));
/// assert!(payload.read::<bool>().is_err());
///
/// let payload = Payload::of(Encoding::Cbor, &-1)?;
/// assert_eq!(payload.read::<i64>()?, -1);
/// assert!(payload.read::<u32>().is_err());
/// # Ok::<(), anabranch::PayloadError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// How to read it.
    pub encoding: Encoding,
    /// The bytes.
    pub bytes: Bytes,
}

/// A value cannot be written so, or the bytes are not one of the type asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PayloadError(String);

impl PayloadError {
    fn protobuf() -> PayloadError {
        PayloadError("a message of protobuf, which functions in Rust do not take".to_owned())
    }
}

impl Payload {
    /// How long one in this encoding may be.
    pub(crate) fn bytes_max(&self) -> usize {
        match self.encoding {
            Encoding::Json | Encoding::Cbor | Encoding::Postcard => PAYLOAD_BYTES_MAX,
            Encoding::Protobuf => PAYLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX,
        }
    }

    /// What there is to say of one that is too long.
    pub(crate) fn excess(&self) -> Option<String> {
        let (bytes, most) = (self.bytes.len(), self.bytes_max());
        (bytes > most).then(|| format!("{bytes} bytes, at most {most}"))
    }

    /// A value's bytes.
    ///
    /// # Errors
    /// It has something that the encoding has no way to write: for JSON, a map whose keys are no text.
    pub fn of<T: Serialize + ?Sized>(encoding: Encoding, value: &T) -> Result<Payload, PayloadError> {
        let bytes = match encoding {
            Encoding::Json => serde_json::to_vec(value)
                .map_err(|e| PayloadError(e.to_string()))?
                .into(),
            Encoding::Cbor => cbor::to_bytes(value).map_err(PayloadError)?,
            Encoding::Postcard => postcard::serialize_with_flavor(value, Written::default())
                .map_err(|e| PayloadError(e.to_string()))?,
            Encoding::Protobuf => return Err(PayloadError::protobuf()),
        };
        Ok(Payload { encoding, bytes })
    }

    /// The value. JSON of no bytes is `null`.
    ///
    /// # Errors
    /// The bytes are no value of the type, or there are more of them.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        match self.encoding {
            Encoding::Json => {
                let text: &[u8] = if self.bytes.is_empty() {
                    b"null"
                } else {
                    &self.bytes
                };
                serde_json::from_slice(text).map_err(|e| PayloadError(e.to_string()))
            }
            Encoding::Cbor => cbor::from_bytes(&self.bytes).map_err(PayloadError),
            Encoding::Postcard => {
                let (value, rest) =
                    postcard::take_from_bytes(&self.bytes).map_err(|e| PayloadError(e.to_string()))?;
                if !rest.is_empty() {
                    return Err(PayloadError(format!("{} bytes too many", rest.len())));
                }
                Ok(value)
            }
            Encoding::Protobuf => Err(PayloadError::protobuf()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
