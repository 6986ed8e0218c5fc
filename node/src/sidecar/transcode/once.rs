//! JSON as a message of its type, once more: that it gives each field once (`aString` and `a_string` are one field, of which the library
//! would take the last), and whether the library has it as it says.
//!
//! Not here: whether it is that message, which is read before; what is to be done where it is not as it says, and which names in an `Any`
//! are one field, as its type may stand behind them (`read`). Contract: no object gives a name twice, whatever it is: of two, another
//! parser may see the other.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::json::{ANY, is_own_form};
use super::{numbers, texts};

/// That a message in JSON gives no field twice, and whether what the library has read is what it says. Where that is not certain, it is
/// to be read by what its numbers say, and with what is in an `Any`.
pub(super) fn check(of: &MessageDescriptor, json: &[u8]) -> Result<bool, String> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let is_certain = Cell::new(true);
    let shape = Shape {
        kind: Some(Kind::Message(of.clone())),
        is_map: false,
        is_certain: &is_certain,
    };
    shape.deserialize(&mut from).map_err(|e| e.to_string())?;
    Ok(is_certain.get())
}

/// What some JSON is.
#[derive(Clone)]
struct Shape<'a> {
    /// This, or several of it; none is what is not known.
    kind: Option<Kind>,
    /// Whether there is one behind each of some keys.
    is_map: bool,
    is_certain: &'a Cell<bool>,
}

impl Shape<'_> {
    /// What is within.
    fn with(&self, kind: Option<Kind>, is_map: bool) -> Self {
        Shape {
            kind,
            is_map,
            ..*self
        }
    }

    fn of_field(&self, field: &FieldDescriptor) -> Self {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                self.with(Some(entry.map_entry_value_field().kind()), true)
            }
            kind => self.with(Some(kind), false),
        }
    }

    /// The message whose JSON is an object of its fields.
    fn message(&self) -> Option<&MessageDescriptor> {
        let message = self.kind.as_ref().and_then(Kind::as_message);
        message.filter(|message| !is_own_form(message))
    }

    fn is_any(&self) -> bool {
        let message = self.kind.as_ref().and_then(Kind::as_message);
        !self.is_map && message.is_some_and(|message| message.full_name() == ANY)
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        if self.kind.as_ref().is_none_or(numbers::is_integer) {
            self.is_certain.set(false);
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let kind = self.kind.as_ref();
        kind.map_or(Ok(()), |kind| texts::check(kind, text))
            .map_err(E::custom)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(self.clone())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if self.is_any() {
            self.is_certain.set(false);
        }
        let message = self.message();
        let mut seen = BTreeSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            let field = message.filter(|_| !self.is_map).and_then(|message| {
                message
                    .get_field_by_json_name(&name)
                    .or_else(|| message.get_field_by_name(&name))
            });
            let within = match &field {
                Some(field) => self.of_field(field),
                None if self.is_map => self.with(self.kind.clone(), false),
                // An extension, or within something of Google's.
                None => self.with(self.kind.clone().filter(|_| message.is_none()), false),
            };
            let one = field.map_or(name, |field| field.name().to_owned());
            entries.next_value_seed(within)?;
            if seen.contains(&one) {
                return Err(A::Error::custom(format!("{one:?} is given twice")));
            }
            seen.insert(one);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::protos;
    use super::*;

    #[test]
    fn a_field_is_given_once_under_either_name() {
        let pool = protos::pool(
            r#"syntax = "proto3"; import "google/protobuf/any.proto"; import "google/protobuf/struct.proto";
            message M { string a_string = 1; M inner_m = 2; repeated M many = 3; map<string, M> map = 4; map<string, int32> ns = 5;
              google.protobuf.Struct struct = 6; google.protobuf.Any any = 7; }"#,
        );
        let of = pool.get_message_by_name("M").unwrap();
        for fine in [
            r#"{}"#,
            r#"{"aString":"a_string","inner_m":{"a_string":"x"},"many":[{"aString":""},{"aString":""},null],"map":{"aString":{},"a_string":{"aString":""}}}"#,
            r#"{"struct":{"a":1,"aString":2,"a_string":{"b":[1.5,-1,true,null,{"a":1}],"a":2}},"ns":{"a":1,"b":2}}"#,
        ] {
            assert_eq!(check(&of, fine.as_bytes()), Ok(true), "{fine}");
        }
        for (twice, name) in [
            (r#"{"aString":"","a_string":""}"#, "a_string"),
            (r#"{"aString":"","aString":""}"#, "a_string"),
            (r#"{"inner_m":null,"innerM":{}}"#, "inner_m"),
            (r#"{"innerM":{"a_string":"","aString":""}}"#, "a_string"),
            (r#"{"many":[{},{"a_string":"","aString":""}]}"#, "a_string"),
            (r#"{"map":{"k":{"a_string":"","aString":""}}}"#, "a_string"),
            (r#"{"map":{"k":{},"k":{}}}"#, "k"),
            (r#"{"ns":{"k":1,"k":2}}"#, "k"),
            (r#"{"struct":{"k":1,"k":2}}"#, "k"),
            (r#"{"struct":{"a":[{"b":{"k":1,"k":2}}]}}"#, "k"),
            (r#"{"any":{"@type":"x/M","@type":"x/N"}}"#, "@type"),
            (r#"{"any":{"@type":"x/M","k":"a","k":"b"}}"#, "k"),
            (
                r#"{"any":{"k":"a","@type":"x/M","innerM":{"k":"a","k":"b"}}}"#,
                "k",
            ),
        ] {
            let error = check(&of, twice.as_bytes()).unwrap_err();
            assert!(
                error.contains(&format!("{name:?} is given twice")),
                "{twice}: {error}"
            );
        }
    }
}
