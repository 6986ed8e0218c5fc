//! Arguments and replies as bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    /// Postcard: what Rust sends to Rust.
    Postcard,
    /// A message of protobuf in the envelope in which functions behind gRPC take and give them: for those alone.
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
            Encoding::Json | Encoding::Postcard => PAYLOAD_BYTES_MAX,
            Encoding::Protobuf => PAYLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX,
        }
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

/// As many bytes as most arguments and replies take.
const FEW: usize = 64;

/// Bytes as they are written: on the stack while they are few, so that they are put into memory once, and at their length.
struct Written {
    few: [u8; FEW],
    len: usize,
    /// All of them, once they are more.
    many: Vec<u8>,
}

impl Default for Written {
    fn default() -> Written {
        Written {
            few: [0; FEW],
            len: 0,
            many: Vec::new(),
        }
    }
}

impl postcard::ser_flavors::Flavor for Written {
    type Output = Bytes;

    // An array of bytes comes byte by byte.
    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        let Some(room) = self.few.get_mut(self.len) else {
            return self.try_extend(&[byte]);
        };
        *room = byte;
        self.len += 1;
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let len = self.len + bytes.len();
        match self.few.get_mut(self.len..len) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                if self.many.is_empty() {
                    self.many.extend_from_slice(&self.few[..self.len]);
                }
                self.many.extend_from_slice(bytes);
            }
        }
        self.len = len;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Bytes> {
        Ok(if self.len <= FEW {
            Bytes::copy_from_slice(&self.few[..self.len])
        } else {
            self.many.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_and_many_are_written_alike() {
        for len in [0, 1, 61, 62, 63, 64, 65, 127, 1_000] {
            let value = ("n", vec![7_u8; len], len);
            let payload = Payload::of(Encoding::Postcard, &value).unwrap();
            assert_eq!(payload.bytes, postcard::to_allocvec(&value).unwrap(), "{len}");
        }
    }
}
