//! Values from MessagePack.

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};

use super::{DEPTH_MAX, EXT_I128, EXT_U128, Error, marker};

/// Reads one value.
pub(super) struct Reader<'de> {
    rest: &'de [u8],
    /// How many are open.
    depth: u8,
}

/// What stands in front.
enum Next<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    I128(i128),
    U128(u128),
    F32(f32),
    F64(f64),
    Text(&'de str),
    Bytes(&'de [u8]),
    List(usize),
    Map(usize),
}

impl<'de> Reader<'de> {
    pub(super) fn of(bytes: &'de [u8]) -> Reader<'de> {
        Reader {
            rest: bytes,
            depth: 0,
        }
    }

    /// How many bytes are not read yet.
    pub(super) fn rest(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, len: usize) -> Result<&'de [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(ends)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(ends)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Error> {
        let read = self.take(bytes)?.iter();
        Ok(read.fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }

    fn text(&mut self, len: usize) -> Result<Next<'de>, Error> {
        let text = std::str::from_utf8(self.take(len)?);
        text.map(Next::Text).map_err(|e| Error(e.to_string()))
    }

    /// What is in front, and of a list or a map how many follow.
    fn next(&mut self) -> Result<Next<'de>, Error> {
        let [first] = self.array()?;
        Ok(match first {
            ..marker::FIX_MAP => Next::Unsigned(first.into()),
            marker::FIX_NEGATIVE.. => Next::Signed(i8::from_be_bytes([first]).into()),
            marker::FIX_MAP..marker::FIX_ARRAY => Next::Map((first & 0x0f).into()),
            marker::FIX_ARRAY..marker::FIX_STR => Next::List((first & 0x0f).into()),
            marker::FIX_STR..marker::NIL => self.text((first & 0x1f).into())?,
            marker::NIL => Next::Nil,
            marker::FALSE | marker::TRUE => Next::Bool(first == marker::TRUE),
            marker::U8 => Next::Unsigned(u8::from_be_bytes(self.array()?).into()),
            marker::U16 => Next::Unsigned(u16::from_be_bytes(self.array()?).into()),
            marker::U32 => Next::Unsigned(u32::from_be_bytes(self.array()?).into()),
            marker::U64 => Next::Unsigned(u64::from_be_bytes(self.array()?)),
            marker::I8 => Next::Signed(i8::from_be_bytes(self.array()?).into()),
            marker::I16 => Next::Signed(i16::from_be_bytes(self.array()?).into()),
            marker::I32 => Next::Signed(i32::from_be_bytes(self.array()?).into()),
            marker::I64 => Next::Signed(i64::from_be_bytes(self.array()?)),
            marker::F32 => Next::F32(f32::from_be_bytes(self.array()?)),
            marker::F64 => Next::F64(f64::from_be_bytes(self.array()?)),
            marker::FIX_EXT_16 => self.wide()?,
            _ => return self.next_long(first),
        })
    }

    fn next_long(&mut self, first: u8) -> Result<Next<'de>, Error> {
        let bytes = match first {
            marker::BIN_8 | marker::STR_8 => 1,
            marker::BIN_16 | marker::STR_16 | marker::ARRAY_16 | marker::MAP_16 => 2,
            marker::BIN_32 | marker::STR_32 | marker::ARRAY_32 | marker::MAP_32 => 4,
            _ => return Err(Error(format!("0x{first:02x} begins nothing that is known here"))),
        };
        let len = self.length(bytes)?;
        Ok(match first {
            marker::BIN_8..=marker::BIN_32 => Next::Bytes(self.take(len)?),
            marker::STR_8..=marker::STR_32 => self.text(len)?,
            marker::ARRAY_16 | marker::ARRAY_32 => Next::List(len),
            _ => Next::Map(len),
        })
    }

    /// An integer of 128 bits.
    fn wide(&mut self) -> Result<Next<'de>, Error> {
        let [ty] = self.array()?;
        let bytes = self.array()?;
        match ty {
            EXT_I128 => Ok(Next::I128(i128::from_be_bytes(bytes))),
            EXT_U128 => Ok(Next::U128(u128::from_be_bytes(bytes))),
            _ => Err(Error(format!("an extension of type {ty} is not known here"))),
        }
    }

    fn visit<V: Visitor<'de>>(&mut self, next: Next<'de>, visitor: V) -> Result<V::Value, Error> {
        match next {
            Next::Nil => visitor.visit_unit(),
            Next::Bool(value) => visitor.visit_bool(value),
            Next::Unsigned(value) => visitor.visit_u64(value),
            Next::Signed(value) => visitor.visit_i64(value),
            Next::I128(value) => visitor.visit_i128(value),
            Next::U128(value) => visitor.visit_u128(value),
            Next::F32(value) => visitor.visit_f32(value),
            Next::F64(value) => visitor.visit_f64(value),
            Next::Text(text) => visitor.visit_borrowed_str(text),
            Next::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Next::List(len) => self.parts(len, len, |parts| visitor.visit_seq(parts)),
            // A key and a value each.
            Next::Map(len) => self.parts(len, len.saturating_mul(2), |parts| visitor.visit_map(parts)),
        }
    }

    /// Has the parts of a list or a map read: so many, which have so many bytes at least.
    fn parts<T>(
        &mut self,
        len: usize,
        bytes_min: usize,
        read: impl FnOnce(&mut Parts<'_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // Nobody makes room for what cannot be there.
        if bytes_min > self.rest.len() {
            return Err(ends());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::deep());
        }
        let mut parts = Parts {
            from: self,
            left: len,
        };
        let value = read(&mut parts)?;
        match parts.left {
            0 => self.depth -= 1,
            left => return Err(Error(format!("it has {len} parts, {left} more than are wanted"))),
        }
        Ok(value)
    }

    /// As a list: of bytes, too.
    fn list<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.next()? {
            Next::Bytes(bytes) => {
                let mut parts = SeqDeserializer::new(bytes.iter().copied());
                let value = visitor.visit_seq(&mut parts)?;
                parts.end()?;
                Ok(value)
            }
            next => self.visit(next, visitor),
        }
    }
}

impl<'de> Next<'de> {
    /// For whoever wanted something else.
    fn is(&self) -> Unexpected<'de> {
        match *self {
            Next::Nil => Unexpected::Unit,
            Next::Bool(value) => Unexpected::Bool(value),
            Next::Unsigned(value) => Unexpected::Unsigned(value),
            Next::Signed(value) => Unexpected::Signed(value),
            Next::I128(_) | Next::U128(_) => Unexpected::Other("integer of more than 64 bits"),
            Next::F32(value) => Unexpected::Float(value.into()),
            Next::F64(value) => Unexpected::Float(value),
            Next::Text(text) => Unexpected::Str(text),
            Next::Bytes(bytes) => Unexpected::Bytes(bytes),
            Next::List(_) => Unexpected::Seq,
            Next::Map(_) => Unexpected::Map,
        }
    }
}

fn ends() -> Error {
    Error::of("it ends before it is whole")
}

macro_rules! as_list {
    ($($name:ident($($ty:ty),*);)*) => {
        $(fn $name<V: Visitor<'de>>(self, $(_: $ty,)* visitor: V) -> Result<V::Value, Error> {
            self.list(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        true
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let next = self.next()?;
        self.visit(next, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.rest.split_first() {
            Some((&marker::NIL, rest)) => {
                self.rest = rest;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    as_list! {
        deserialize_seq();
        deserialize_tuple(usize);
        deserialize_tuple_struct(&'static str, usize);
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.next()? {
            Next::Text(name) => visitor.visit_enum(BorrowedStrDeserializer::new(name)),
            Next::Map(1) => self.parts(1, 2, |parts| visitor.visit_enum(parts)),
            next => Err(Error::invalid_type(
                next.is(),
                &"the name of a variant, or one with what it has",
            )),
        }
    }

    // By its name alone: by its place it would be another one to whoever has more or fewer of them.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.next()? {
            Next::Text(name) => visitor.visit_borrowed_str(name),
            next => Err(Error::invalid_type(next.is(), &"a name")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct map struct
        ignored_any
    }
}

/// What is left of a list or a map that is being read.
struct Parts<'a, 'de> {
    from: &'a mut Reader<'de>,
    left: usize,
}

impl<'de> Parts<'_, 'de> {
    fn part<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.from).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.part(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.part(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.from)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'a, 'de> EnumAccess<'de> for &'a mut Parts<'_, 'de> {
    type Error = Error;
    type Variant = &'a mut Reader<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), Error> {
        self.left = 0;
        Ok((seed.deserialize(&mut *self.from)?, self.from))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        serde::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.list(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}
