//! Arguments, replies and errors as calls between nodes carry them.
//!
//! Contract: what one node writes here another reads as the same; of what a later version has added it reads that it does not
//! know it.

use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload};
use crate::wire::call::{WireError, WireValue};

impl WireValue {
    /// A payload as it travels.
    ///
    /// ```
    /// use anabranch::wire::WireValue;
    /// use anabranch::{Encoding, Payload};
    ///
    /// let payload = Payload::of(Encoding::Json, "boots")?;
    /// assert_eq!(WireValue::of(payload.clone()).read(), Some(payload));
    /// # Ok::<(), anabranch::PayloadError>(())
    /// ```
    pub fn of(payload: Payload) -> WireValue {
        WireValue {
            encoding: match payload.encoding {
                Encoding::Json => 0,
                Encoding::Postcard => 1,
                Encoding::Protobuf => 2,
                Encoding::Cbor => 3,
            },
            bytes: payload.bytes,
        }
    }

    /// The payload; `None` when its encoding is of a later version.
    pub fn read(self) -> Option<Payload> {
        let encoding = match self.encoding {
            0 => Encoding::Json,
            1 => Encoding::Postcard,
            2 => Encoding::Protobuf,
            3 => Encoding::Cbor,
            _ => return None,
        };
        let bytes = self.bytes;
        Some(Payload { encoding, bytes })
    }
}

impl WireError {
    /// An error as it travels.
    ///
    /// ```
    /// use anabranch::wire::WireError;
    /// use anabranch::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Refused, "no boots are left");
    /// assert_eq!(WireError::of(&error).read(), error);
    /// ```
    pub fn of(error: &Error) -> WireError {
        WireError {
            kind: error.kind().name().to_owned(),
            message: error.carried_message().into_owned(),
            details: error.details_payload().cloned().map(WireValue::of),
        }
    }

    /// The error.
    pub fn read(self) -> Error {
        // A kind of a later version is one that this one has no name for.
        let kind = ErrorKind::from_name(&self.kind).unwrap_or(ErrorKind::Unanswered);
        let read = Error::of_carried(kind, self.message);
        match self.details.and_then(WireValue::read) {
            Some(details) => read.with_details(details),
            None => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_has_added_is_not_taken_for_something_else() {
        let payload = Payload::of(Encoding::Postcard, &7u8).unwrap();
        let value = WireValue::of(payload.clone());
        assert_eq!(value.clone().read(), Some(payload.clone()));
        let later = WireValue { encoding: 9, ..value };
        assert_eq!(later.clone().read(), None);
        let error = Error::new(ErrorKind::Refused, "no").with_details(payload);
        assert_eq!(WireError::of(&error).read(), error);
        let read = WireError {
            kind: "later".into(),
            message: "no".into(),
            details: Some(later),
        }
        .read();
        assert_eq!(read, Error::new(ErrorKind::Unanswered, "no"));
    }
}
