//! Messages of CBOR that are one number, or nothing: as most arguments and replies of commands are. They need no decoder.
//!
//! Contract: what is read here is what the decoder reads. What it reads otherwise, or not at all, is left to it.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

/// A message that is one number, or nothing.
#[derive(Clone, Copy, Debug)]
enum Scalar {
    Null,
    Positive(u64),
    Negative(i64),
}

/// The value that these bytes are, all of them, where that is so simple that it is read here.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    T::deserialize(Scalar::of(bytes)?).ok()
}

impl Scalar {
    fn of(bytes: &[u8]) -> Option<Scalar> {
        let (&first, rest) = bytes.split_first()?;
        let number = match (first & 0x1f, rest) {
            (few @ 0..24, []) => u64::from(few),
            (24, [one]) => u64::from(*one),
            (25, rest) => u64::from(u16::from_be_bytes(rest.try_into().ok()?)),
            (26, rest) => u64::from(u32::from_be_bytes(rest.try_into().ok()?)),
            (27, rest) => u64::from_be_bytes(rest.try_into().ok()?),
            _ => return None,
        };
        match first >> 5 {
            0 => Some(Scalar::Positive(number)),
            1 => i64::try_from(number).ok().map(|number| Scalar::Negative(!number)),
            7 if first == 0xf6 => Some(Scalar::Null),
            _ => None,
        }
    }

    fn signed<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Otherwise> {
        match self {
            Scalar::Positive(number) => visitor.visit_i64(i64::try_from(number).map_err(|_| Otherwise)?),
            Scalar::Negative(number) => visitor.visit_i64(number),
            Scalar::Null => Err(Otherwise),
        }
    }

    fn unsigned<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Otherwise> {
        match self {
            Scalar::Positive(number) => visitor.visit_u64(number),
            Scalar::Negative(_) | Scalar::Null => Err(Otherwise),
        }
    }
}

/// It is to be read by the decoder, which says what is wrong with it if something is.
#[derive(Debug)]
struct Otherwise;

impl fmt::Display for Otherwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such number")
    }
}

impl std::error::Error for Otherwise {}

impl Error for Otherwise {
    fn custom<T: fmt::Display>(_: T) -> Otherwise {
        Otherwise
    }
}

/// Kinds that are read in one way, `kinds!(how: method ...)`, and those that the decoder reads: `kinds!(method(what it is told) ...)`.
macro_rules! kinds {
    ($how:ident: $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Otherwise> {
            self.$how(visitor)
        }
    )*};
    ($($method:ident($($kind:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $kind,)* _: V) -> Result<V::Value, Otherwise> {
            Err(Otherwise)
        }
    )*};
}

impl<'de> Deserializer<'de> for Scalar {
    type Error = Otherwise;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Otherwise> {
        match self {
            Scalar::Negative(_) => self.signed(visitor),
            _ => self.unsigned(visitor),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Otherwise> {
        match self {
            Scalar::Null => visitor.visit_unit(),
            _ => Err(Otherwise),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Otherwise> {
        visitor.visit_newtype_struct(self)
    }

    kinds!(signed: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);
    kinds!(unsigned: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);
    kinds!(
        deserialize_i128() deserialize_u128() deserialize_f32() deserialize_f64() deserialize_bool() deserialize_char()
        deserialize_str() deserialize_string() deserialize_bytes() deserialize_byte_buf() deserialize_option()
        deserialize_seq() deserialize_map() deserialize_identifier() deserialize_ignored_any()
        deserialize_unit_struct(&'static str) deserialize_tuple(usize) deserialize_tuple_struct(&'static str, usize)
        deserialize_struct(&'static str, &'static [&'static str]) deserialize_enum(&'static str, &'static [&'static str])
    );
}
