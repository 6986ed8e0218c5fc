//! Values into MessagePack.

use bytes::Bytes;
use serde::ser::{self, Serialize, Serializer};

use super::super::written::Written;
use super::{DEPTH_MAX, EXT_I128, EXT_U128, Error, marker};

/// Writes one value.
#[derive(Default)]
pub(super) struct Writer {
    out: Written,
    /// How many are open.
    depth: u8,
}

/// A list, a map or a variant that is being written.
pub(super) struct Parts<'a> {
    to: &'a mut Writer,
    /// How many are open without it.
    depth: u8,
    /// How many it says that it has, and has still to write.
    left: u32,
    /// Where its length is written once it is known.
    length_at: Option<usize>,
}

impl Writer {
    pub(super) fn finish(self) -> Bytes {
        self.out.finish()
    }

    fn marked(&mut self, marker: u8, bytes: &[u8]) {
        self.out.push(marker);
        self.out.extend(bytes);
    }

    fn unsigned(&mut self, value: u64) {
        if let Ok(value) = u8::try_from(value) {
            match value < marker::FIX_MAP {
                true => self.out.push(value),
                false => self.marked(marker::U8, &[value]),
            }
        } else if let Ok(value) = u16::try_from(value) {
            self.marked(marker::U16, &value.to_be_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.marked(marker::U32, &value.to_be_bytes());
        } else {
            self.marked(marker::U64, &value.to_be_bytes());
        }
    }

    fn signed(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            return self.unsigned(value);
        }
        if let Ok(value) = i8::try_from(value) {
            match value >= -32 {
                true => self.out.push(value.to_be_bytes()[0]),
                false => self.marked(marker::I8, &value.to_be_bytes()),
            }
        } else if let Ok(value) = i16::try_from(value) {
            self.marked(marker::I16, &value.to_be_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.marked(marker::I32, &value.to_be_bytes());
        } else {
            self.marked(marker::I64, &value.to_be_bytes());
        }
    }

    fn wide(&mut self, ty: u8, bytes: [u8; 16]) {
        self.marked(marker::FIX_EXT_16, &[ty]);
        self.out.extend(&bytes);
    }

    /// A length behind the marker of its size.
    fn length(&mut self, len: u32, of_8: Option<u8>, [of_16, of_32]: [u8; 2]) {
        match (u8::try_from(len), of_8, u16::try_from(len)) {
            (Ok(len), Some(of_8), _) => self.marked(of_8, &[len]),
            (_, _, Ok(len)) => self.marked(of_16, &len.to_be_bytes()),
            _ => self.marked(of_32, &len.to_be_bytes()),
        }
    }

    fn open(&mut self, len: Option<usize>, fix: u8, markers: [u8; 2]) -> Result<Parts<'_>, Error> {
        let depth = self.depth;
        self.deeper()?;
        let mut length_at = None;
        let left = length(len.unwrap_or(0))?;
        match (len, u8::try_from(left)) {
            (None, _) => {
                // Its length is not known yet, and gets room for any.
                self.marked(markers[1], &[0; 4]);
                length_at = Some(self.out.len() - 4);
            }
            (_, Ok(few @ 0..16)) => self.out.push(fix | few),
            // There is no marker for eight bits.
            _ => self.length(left, None, markers),
        }
        Ok(Parts {
            to: self,
            depth,
            left,
            length_at,
        })
    }

    fn deeper(&mut self) -> Result<(), Error> {
        if self.depth == DEPTH_MAX {
            return Err(Error::deep());
        }
        self.depth += 1;
        Ok(())
    }

    fn list(&mut self, len: Option<usize>) -> Result<Parts<'_>, Error> {
        self.open(len, marker::FIX_ARRAY, [marker::ARRAY_16, marker::ARRAY_32])
    }

    fn map(&mut self, len: Option<usize>) -> Result<Parts<'_>, Error> {
        self.open(len, marker::FIX_MAP, [marker::MAP_16, marker::MAP_32])
    }

    /// What a variant has, once its name is written.
    fn variant(
        &mut self,
        name: &'static str,
        open: impl FnOnce(&mut Writer) -> Result<Parts<'_>, Error>,
    ) -> Result<Parts<'_>, Error> {
        let depth = self.depth;
        self.deeper()?;
        self.out.push(marker::FIX_MAP | 1);
        self.serialize_str(name)?;
        Ok(Parts { depth, ..open(self)? })
    }
}

fn length(len: usize) -> Result<u32, Error> {
    u32::try_from(len).map_err(|_| Error(format!("{len} are more than it may have")))
}

impl Parts<'_> {
    /// One more is written.
    fn count(&mut self) -> Result<(), Error> {
        self.left = match self.length_at {
            Some(_) => self.left.checked_add(1),
            None => self.left.checked_sub(1),
        }
        .ok_or_else(|| Error::of("it has more parts than it says"))?;
        Ok(())
    }

    fn close(self) -> Result<(), Error> {
        match self.length_at {
            Some(at) => self.to.out.put(at, &self.left.to_be_bytes()),
            None if self.left > 0 => return Err(Error::of("it has fewer parts than it says")),
            None => {}
        }
        self.to.depth = self.depth;
        Ok(())
    }
}

macro_rules! numbers {
    ($($name:ident($ty:ty) as $how:ident;)*) => {
        $(fn $name(self, value: $ty) -> Result<(), Error> {
            self.$how(value.into());
            Ok(())
        })*
    };
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    // What serde keeps for itself while it reads (tagged enums, flattened fields) reads as for people, whatever the format says.
    fn is_human_readable(&self) -> bool {
        true
    }

    numbers! {
        serialize_i8(i8) as signed;
        serialize_i16(i16) as signed;
        serialize_i32(i32) as signed;
        serialize_i64(i64) as signed;
        serialize_u8(u8) as unsigned;
        serialize_u16(u16) as unsigned;
        serialize_u32(u32) as unsigned;
        serialize_u64(u64) as unsigned;
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.signed(value),
            (_, Ok(value)) => self.unsigned(value),
            _ => self.wide(EXT_I128, value.to_be_bytes()),
        }
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        match i128::try_from(value) {
            Ok(value) => return self.serialize_i128(value),
            Err(_) => self.wide(EXT_U128, value.to_be_bytes()),
        }
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.marked(marker::F32, &value.to_be_bytes());
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.marked(marker::F64, &value.to_be_bytes());
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.out.push(if value { marker::TRUE } else { marker::FALSE });
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        match u8::try_from(text.len()) {
            Ok(few @ 0..32) => self.out.push(marker::FIX_STR | few),
            _ => {
                let len = length(text.len())?;
                self.length(len, Some(marker::STR_8), [marker::STR_16, marker::STR_32]);
            }
        }
        self.out.extend(text.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        let len = length(bytes.len())?;
        self.length(len, Some(marker::BIN_8), [marker::BIN_16, marker::BIN_32]);
        self.out.extend(bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.push(marker::NIL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut of = self.map(Some(1))?;
        ser::SerializeMap::serialize_entry(&mut of, variant, value)?;
        of.close()
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Parts<'a>, Error> {
        self.list(len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Parts<'a>, Error> {
        self.list(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Parts<'a>, Error> {
        self.list(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts<'a>, Error> {
        self.variant(variant, |writer| writer.list(Some(len)))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Parts<'a>, Error> {
        self.map(len)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Parts<'a>, Error> {
        self.map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts<'a>, Error> {
        self.variant(variant, |writer| writer.map(Some(len)))
    }
}

/// The parts of a list.
macro_rules! list {
    ($($of:ident::$part:ident;)*) => {
        $(impl ser::$of for Parts<'_> {
            type Ok = ();
            type Error = Error;

            fn $part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.count()?;
                value.serialize(&mut *self.to)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        })*
    };
}

/// The fields of a struct.
macro_rules! fields {
    ($($of:ident;)*) => {
        $(impl ser::$of for Parts<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
                self.count()?;
                self.to.serialize_str(name)?;
                value.serialize(&mut *self.to)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        })*
    };
}

list! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.count()?;
        key.serialize(&mut *self.to)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}
