//! That JSON gives each field of a message once: `aString` and `a_string` are one field, of which the library would take the last.
//!
//! Not here: whether it is that message, which is read before. Contract: what is within messages whose JSON is no object of their
//! fields (those of `google.protobuf`) is not looked at.

use std::collections::BTreeSet;
use std::fmt;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// What such messages' names begin with.
const WELL_KNOWN: &str = "google.protobuf.";

/// That a message in JSON gives no field twice.
pub(super) fn check(of: &MessageDescriptor, json: &[u8]) -> Result<(), String> {
    let mut from = serde_json::Deserializer::from_slice(json);
    Shape::of(Some(of.clone()))
        .deserialize(&mut from)
        .map_err(|e| e.to_string())
}

/// What some JSON is.
#[derive(Clone)]
struct Shape {
    /// This message, or several of it; none is anything else.
    message: Option<MessageDescriptor>,
    /// Whether there is one behind each of some keys.
    is_map: bool,
}

impl Shape {
    fn of(message: Option<MessageDescriptor>) -> Shape {
        Shape {
            message: message.filter(|message| !message.full_name().starts_with(WELL_KNOWN)),
            is_map: false,
        }
    }

    fn of_field(field: &FieldDescriptor) -> Shape {
        let message = match field.kind() {
            Kind::Message(entry) if field.is_map() => match entry.map_entry_value_field().kind() {
                Kind::Message(message) => Some(message),
                _ => None,
            },
            Kind::Message(message) => Some(message),
            _ => None,
        };
        Shape {
            is_map: field.is_map(),
            ..Shape::of(message)
        }
    }
}

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
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
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(self.clone())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            let field = match &self.message {
                Some(message) if !self.is_map => message
                    .get_field_by_json_name(&name)
                    .or_else(|| message.get_field_by_name(&name)),
                _ => None,
            };
            let within = match &field {
                Some(field) => Shape::of_field(field),
                None => Shape::of(self.message.clone().filter(|_| self.is_map)),
            };
            let one = field.map_or(name, |field| field.name().to_owned());
            entries.next_value_seed(within)?;
            // What has no message may be anything that somebody understands.
            let is_known = self.is_map || self.message.is_some();
            if is_known && seen.contains(&one) {
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
            r#"syntax = "proto3"; import "google/protobuf/struct.proto";
            message M { string a_string = 1; M inner_m = 2; repeated M many = 3; map<string, M> map = 4; map<string, int32> ns = 5;
              google.protobuf.Struct struct = 6; }"#,
        );
        let of = pool.get_message_by_name("M").unwrap();
        for fine in [
            r#"{}"#,
            r#"{"aString":"a_string","inner_m":{"a_string":"x"},"many":[{"aString":""},{"aString":""},null],"map":{"aString":{},"a_string":{"aString":""}}}"#,
            r#"{"struct":{"a":1,"a":{"b":[1.5,-1,true,null],"b":2}},"ns":{"a":1,"b":2}}"#,
        ] {
            assert_eq!(check(&of, fine.as_bytes()), Ok(()), "{fine}");
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
        ] {
            let error = check(&of, twice.as_bytes()).unwrap_err();
            assert!(
                error.contains(&format!("{name:?} is given twice")),
                "{twice}: {error}"
            );
        }
    }
}
