//! MessagePack: a value with what it is beside it, so that a number is read as the number that it was, or not at all.
//!
//! Structs go with the names of their fields, enums with those of their variants, and what has a form for people takes it, so that
//! all that goes as JSON goes as this. Beyond JSON: byte strings are bytes, keys of maps are values of any kind, and integers have
//! 128 bits.
//!
//! Not by a crate. `rmp-serde` (1.3) writes each `i128` as 16 bytes, which no `i64` reads, and counters count in `i128`; it reads -1
//! as the `u128` of the same bits, and a number as the variant or the field of that place.
//!
//! Contract: reading takes no more of the stack than [`DEPTH_MAX`] says, and asks for no more memory than what is there could fill.

mod read;
mod write;

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{self, DeserializeOwned};
use serde::ser;

/// Lists, maps and variants within one another: at most so many, as in JSON.
const DEPTH_MAX: u8 = 128;

/// Extensions of ours: integers that 64 bits do not hold, big-endian.
const EXT_I128: u8 = 1;
const EXT_U128: u8 = 2;

/// What these markers begin.
mod marker {
    pub const FIX_MAP: u8 = 0x80;
    pub const FIX_ARRAY: u8 = 0x90;
    pub const FIX_STR: u8 = 0xa0;
    pub const NIL: u8 = 0xc0;
    pub const FALSE: u8 = 0xc2;
    pub const TRUE: u8 = 0xc3;
    pub const BIN_8: u8 = 0xc4;
    pub const BIN_16: u8 = 0xc5;
    pub const BIN_32: u8 = 0xc6;
    pub const F32: u8 = 0xca;
    pub const F64: u8 = 0xcb;
    pub const U8: u8 = 0xcc;
    pub const U16: u8 = 0xcd;
    pub const U32: u8 = 0xce;
    pub const U64: u8 = 0xcf;
    pub const I8: u8 = 0xd0;
    pub const I16: u8 = 0xd1;
    pub const I32: u8 = 0xd2;
    pub const I64: u8 = 0xd3;
    pub const FIX_EXT_16: u8 = 0xd8;
    pub const STR_8: u8 = 0xd9;
    pub const STR_16: u8 = 0xda;
    pub const STR_32: u8 = 0xdb;
    pub const ARRAY_16: u8 = 0xdc;
    pub const ARRAY_32: u8 = 0xdd;
    pub const MAP_16: u8 = 0xde;
    pub const MAP_32: u8 = 0xdf;
    /// From here: the numbers from -32 to -1.
    pub const FIX_NEGATIVE: u8 = 0xe0;
}

/// A value's bytes.
pub(super) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Error> {
    let mut writer = write::Writer::default();
    value.serialize(&mut writer)?;
    Ok(writer.finish())
}

/// The value that these bytes are, all of them.
pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = read::Reader::of(bytes);
    let value = T::deserialize(&mut reader)?;
    match reader.rest() {
        0 => Ok(value),
        rest => Err(Error(format!("{rest} bytes too many"))),
    }
}

/// Why a value cannot be written or read.
#[derive(Debug)]
pub(super) struct Error(String);

impl Error {
    fn of(why: &str) -> Error {
        Error(why.to_owned())
    }

    fn deep() -> Error {
        Error(format!("it is nested more than {DEPTH_MAX} deep"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl ser::Error for Error {
    fn custom<T: fmt::Display>(why: T) -> Error {
        Error(why.to_string())
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(why: T) -> Error {
        Error(why.to_string())
    }
}

#[cfg(test)]
mod tests;
