//! Elements, keys and register values as bytes: text and byte strings stand for themselves, anything else is postcard. So a
//! function reads what the command line wrote.

use bytes::Bytes;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::ser::{self, Impossible, Serialize, Serializer};

/// A value's bytes.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, String> {
    match value.serialize(Plain) {
        Ok(bytes) => Ok(bytes),
        Err(NotPlain) => {
            let bytes = postcard::to_extend(value, Vec::new()).map_err(|e| e.to_string())?;
            Ok(bytes.into())
        }
    }
}

/// The value of which these are the bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    T::deserialize(Octets(bytes)).map_err(|e| e.0)
}

/// Takes text and byte strings only.
struct Plain;

/// It is neither.
#[derive(Debug, thiserror::Error)]
#[error("neither text nor a byte string")]
struct NotPlain;

impl ser::Error for NotPlain {
    fn custom<T: std::fmt::Display>(_: T) -> NotPlain {
        NotPlain
    }
}

type No = Impossible<Bytes, NotPlain>;

/// All that is not plain.
macro_rules! not_plain {
    ($($name:ident($($ty:ty),*);)*) => {
        $(fn $name(self, $(_: $ty),*) -> Result<Bytes, NotPlain> {
            Err(NotPlain)
        })*
    };
    (@ $($name:ident($($ty:ty),*) -> $what:ident;)*) => {
        $(fn $name(self, $(_: $ty),*) -> Result<No, NotPlain> {
            Err(NotPlain)
        })*
    };
}

impl Serializer for Plain {
    type Ok = Bytes;
    type Error = NotPlain;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    /// As who reads them, and as postcard: what is text only for people, as an address is, is kept in its short form.
    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_str(self, text: &str) -> Result<Bytes, NotPlain> {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Bytes, NotPlain> {
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Bytes, NotPlain> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Bytes, NotPlain> {
        Err(NotPlain)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Bytes, NotPlain> {
        Err(NotPlain)
    }

    not_plain! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    not_plain! { @
        serialize_seq(Option<usize>) -> No;
        serialize_tuple(usize) -> No;
        serialize_tuple_struct(&'static str, usize) -> No;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No;
        serialize_map(Option<usize>) -> No;
        serialize_struct(&'static str, usize) -> No;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> No;
    }
}

/// Bytes that are what who asks for them takes them for.
struct Octets<'a>(&'a [u8]);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoValue(String);

impl de::Error for NoValue {
    fn custom<T: std::fmt::Display>(message: T) -> NoValue {
        NoValue(message.to_string())
    }
}

/// Reads the rest of the types as postcard.
struct Whole<'a, V>(&'a [u8], V);

macro_rules! as_postcard {
    ($($name:ident($($arg:ident: $ty:ty),*);)*) => {
        $(fn $name<V: Visitor<'de>>(self, $($arg: $ty,)* visitor: V) -> Result<V::Value, NoValue> {
            Whole(self.0, visitor).read(|deserializer, visitor| deserializer.$name($($arg,)* visitor))
        })*
    };
}

type Postcard<'de> = postcard::Deserializer<'de, postcard::de_flavors::Slice<'de>>;

impl<'de, V: Visitor<'de>> Whole<'de, V> {
    fn read(
        self,
        f: impl FnOnce(&mut Postcard<'de>, V) -> Result<V::Value, postcard::Error>,
    ) -> Result<V::Value, NoValue> {
        let mut deserializer = Postcard::from_bytes(self.0);
        let value = f(&mut deserializer, self.1).map_err(|e| NoValue(e.to_string()))?;
        match deserializer.finalize() {
            Ok([]) => Ok(value),
            Ok(rest) => Err(NoValue(format!("{} bytes too many", rest.len()))),
            Err(e) => Err(NoValue(e.to_string())),
        }
    }
}

impl<'de> Deserializer<'de> for Octets<'de> {
    type Error = NoValue;

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        let text = std::str::from_utf8(self.0).map_err(|e| NoValue(e.to_string()))?;
        visitor.visit_borrowed_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        visitor.visit_newtype_struct(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    as_postcard! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sku(String);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line {
        sku: Sku,
        price: Option<u32>,
    }

    fn reads_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T, bytes: &[u8]) {
        let encoded = encode(&value).unwrap();
        assert_eq!(encoded, bytes);
        assert_eq!(decode::<T>(&encoded).unwrap(), value);
    }

    #[test]
    fn text_and_bytes_stand_for_themselves_and_the_rest_is_postcard() {
        reads_back("umbrella".to_owned(), b"umbrella");
        reads_back(Bytes::from_static(b"\xff\0"), b"\xff\0");
        reads_back(Sku("a".into()), b"a");
        reads_back(300u32, &[0xac, 2]);
        let line = |price| Line {
            sku: Sku("a".into()),
            price,
        };
        reads_back(line(Some(3)), &[1, b'a', 1, 3]);
        reads_back((true, line(None)), &[1, 1, b'a', 0]);
        reads_back(vec![1u8, 2], &[2, 1, 2]);
        reads_back(IpAddr::from([10, 0, 0, 1]), &[0, 10, 0, 0, 1]);
        reads_back(SocketAddr::from(([10, 0, 0, 1], 300)), &[0, 10, 0, 0, 1, 0xac, 2]);
        assert_eq!(encode("umbrella").unwrap(), "umbrella");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert!(decode::<String>(b"\xff").is_err());
        assert!(decode::<u32>(b"").is_err());
        assert!(decode::<bool>(b"\x01\x01").is_err(), "bytes too many");
        assert!(decode::<Line>(b"umbrella").is_err());
        assert!(decode::<Sku>(b"\xff").is_err());
    }
}
