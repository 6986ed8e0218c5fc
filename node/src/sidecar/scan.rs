//! The fields of a message in Protocol Buffers' wire format, one by one, without a descriptor and without copying anything.
//!
//! Not here: what they mean. Contract: what is no message ends in an error; nothing is allocated by a number in it, and groups are
//! followed only as deep as `prost` follows them.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Bytes of a varint of 32 bits.
pub const SHORT_BYTES_MAX: usize = 5;

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no Protocol Buffers message: {0}")]
pub struct Malformed(String);

impl Malformed {
    /// What is wrong with it.
    pub fn new(why: String) -> Malformed {
        Malformed(why)
    }
}

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Malformed {
        Malformed(error.to_string())
    }
}

/// A field's value as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw<'a> {
    /// Wire type 0: integers of most kinds, booleans, enums.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: strings, bytes, messages, packed lists.
    Bytes(&'a [u8]),
    /// Wire types 3 and 4: the fields in it.
    Group(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// The fields of a message, by number, in the order of the wire.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    varint_bytes: usize,
}

impl Fields<'_> {
    /// How many bytes the last field's value has, if it is a varint.
    pub fn varint_bytes(&self) -> usize {
        self.varint_bytes
    }
}

/// The fields of this message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields {
        rest: message,
        varint_bytes: 0,
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Raw<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = read(&mut self.rest, &mut self.varint_bytes);
        if read.is_err() {
            // What follows a broken field has no beginning.
            self.rest = &[];
        }
        Some(read)
    }
}

/// How many bytes each of these varints has; an error where they are none.
pub fn varints(mut bytes: &[u8]) -> impl Iterator<Item = Result<usize, Malformed>> {
    std::iter::from_fn(move || {
        let before = bytes.len();
        let read = (before > 0).then(|| decode_varint(&mut bytes))?;
        if read.is_err() {
            bytes = &[];
        }
        Some(read.map(|_| before - bytes.len()).map_err(Malformed::from))
    })
}

fn read<'a>(rest: &mut &'a [u8], varint_bytes: &mut usize) -> Result<(u32, Raw<'a>), Malformed> {
    let (number, wire_type) = short(rest, decode_key)?;
    let raw = match wire_type {
        WireType::Varint => {
            let before = rest.len();
            let value = decode_varint(rest)?;
            *varint_bytes = before - rest.len();
            Raw::Varint(value)
        }
        WireType::SixtyFourBit => Raw::Fixed64(u64::from_le_bytes(take(rest)?)),
        WireType::ThirtyTwoBit => Raw::Fixed32(u32::from_le_bytes(take(rest)?)),
        WireType::LengthDelimited => {
            let len = short(rest, decode_varint)?;
            let split = usize::try_from(len)
                .ok()
                .and_then(|len| rest.split_at_checked(len));
            let (bytes, after) = split.ok_or_else(ends)?;
            *rest = after;
            Raw::Bytes(bytes)
        }
        WireType::StartGroup => Raw::Group(group(number, rest)?),
        WireType::EndGroup => return Err(Malformed("a group ends that has not begun".into())),
    };
    Ok((number, raw))
}

/// What is in a group of this number, which has begun.
fn group<'a>(number: u32, rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let from = *rest;
    loop {
        let (within, _) = from.split_at(from.len() - rest.len());
        let (other, wire_type) = short(rest, decode_key)?;
        match wire_type {
            WireType::EndGroup if other == number => return Ok(within),
            WireType::EndGroup => return Err(Malformed("a group ends that has not begun".into())),
            _ => skip_field(wire_type, other, rest, DecodeContext::default())?,
        }
    }
}

/// A field's number or length: libraries take no more bytes for one than 32 bits need.
fn short<'a, T>(
    rest: &mut &'a [u8],
    read: impl Fn(&mut &'a [u8]) -> Result<T, prost::DecodeError>,
) -> Result<T, Malformed> {
    let before = rest.len();
    let read = read(rest)?;
    match before - rest.len() > SHORT_BYTES_MAX {
        true => Err(Malformed::new(
            "a field's number or length has more than 5 bytes".into(),
        )),
        false => Ok(read),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or_else(ends)?;
    *rest = after;
    Ok(*bytes)
}

fn ends() -> Malformed {
    Malformed("it ends within a field".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u32, Raw<'_>)>, Malformed> {
        fields(bytes).collect()
    }

    #[test]
    fn fields_of_every_wire_type_are_found() {
        let bytes = [
            &[0x08, 0x96, 0x01][..],
            &[0x11, 1, 0, 0, 0, 0, 0, 0, 0x80],
            &[0x1a, 3, b'a', b'b', b'c'],
            &[0x23, 0x08, 1, 0x24],
            // Groups in groups, one of the same number; and its end in more bytes than it needs.
            &[0x23, 0x2b, 0x23, 0x24, 0x2c, 0x24],
            &[0x23, 0xa4, 0],
            &[0x2d, 2, 0, 0, 0],
            &[0x1a, 0],
        ]
        .concat();
        let expected = vec![
            (1, Raw::Varint(150)),
            (2, Raw::Fixed64(0x8000_0000_0000_0001)),
            (3, Raw::Bytes(b"abc")),
            (4, Raw::Group(&[0x08, 1])),
            (4, Raw::Group(&[0x2b, 0x23, 0x24, 0x2c])),
            (4, Raw::Group(b"")),
            (5, Raw::Fixed32(2)),
            (3, Raw::Bytes(b"")),
        ];
        assert_eq!(all(&bytes), Ok(expected));
        assert_eq!(all(b""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_cut_short_or_broken_is_an_error_and_the_end() {
        for bad in [
            &[0x08][..],
            &[0x08, 0x80],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            &[0x11, 1, 2],
            &[0x1a, 3, b'a'],
            &[0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            // A group that does not end, one that ends as another, and one that never began.
            &[0x23, 0x08, 1],
            &[0x23, 0x2c],
            &[0x24],
            &[0x2d, 1],
            // Field 0, and wire type 7.
            &[0x00, 0],
            &[0x0f],
        ] {
            assert!(all(bad).is_err(), "{bad:x?}");
            assert_eq!(fields(bad).filter(Result::is_err).count(), 1, "{bad:x?}");
        }
        let deep = [0x23].repeat(100_000);
        assert!(all(&deep).is_err());
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_it_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let found = fields(&bytes).count();
            prop_assert!(found <= bytes.len());
        }
    }
}
