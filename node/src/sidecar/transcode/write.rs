//! Messages as the JSON form of Protocol Buffers: names in lowerCamelCase, 64-bit integers as strings, fields that have their default
//! are there as well.
//!
//! The library writes those messages whose JSON is no object of their fields; but not an `Any`, since it knows none that is empty and
//! follows others until its stack ends, nor the wrappers of floating point numbers, since it writes `null` for what is no number.
//!
//! Not here: which message, and what is around it. Contract: whatever the message, writing it ends; fields are in the order of their
//! numbers.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, SerializeOptions, Value};
use serde::ser::{Error, Serialize, SerializeMap, Serializer};

use super::json::{ANY, NULL, decode, is_own_form, type_of};
use crate::base64;

/// Messages within messages, also within `Any`s; without these, none that can be decoded is deeper.
const DEPTH_MAX: usize = 100;
/// `Any`s within one another: each is decoded again, with all that is in it.
pub(super) const ANY_DEPTH_MAX: usize = 16;

/// A message as JSON.
pub(super) fn write(message: &DynamicMessage) -> Result<Vec<u8>, String> {
    let depth = Depth::default();
    serde_json::to_vec(&Message { message, depth }).map_err(|e| e.to_string())
}

/// One field of a message, as JSON: where it is not there `null`, if it can be told to be absent, and its default otherwise.
pub(super) fn write_field(message: &DynamicMessage, field: &FieldDescriptor) -> Result<Vec<u8>, String> {
    // Within its message it would be left out. Alone, a default would be read as one that is there.
    if field.supports_presence() && !message.has_field(field) {
        return Ok(b"null".to_vec());
    }
    let value = message.get_field(field);
    let field = Field {
        value: value.as_ref(),
        kind: &field.kind(),
        depth: Depth::default(),
    };
    serde_json::to_vec(&field).map_err(|e| e.to_string())
}

/// How deep something is within what is written.
#[derive(Clone, Copy, Default)]
struct Depth {
    messages: usize,
    anys: usize,
}

/// A message to be written.
struct Message<'a> {
    message: &'a DynamicMessage,
    depth: Depth,
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        self.check()?;
        let of = self.message.descriptor();
        match of.full_name() {
            ANY => self.any(into),
            "google.protobuf.DoubleValue" => double(self.transcoded()?, into),
            "google.protobuf.FloatValue" => float(self.transcoded()?, into),
            _ if is_own_form(&of) => self
                .message
                .serialize_with_options(into, &SerializeOptions::new()),
            _ => {
                let mut object = into.serialize_map(None)?;
                self.fields(&mut object)?;
                object.end()
            }
        }
    }
}

impl Message<'_> {
    fn check<E: Error>(&self) -> Result<(), E> {
        match self.depth.messages > DEPTH_MAX || self.depth.anys > ANY_DEPTH_MAX {
            false => Ok(()),
            true => Err(E::custom(format!(
                "it has more than {DEPTH_MAX} messages, or {ANY_DEPTH_MAX} {ANY}, within one another"
            ))),
        }
    }

    /// The same as one of the types that are known here.
    fn transcoded<T: prost::Message + Default, E: Error>(&self) -> Result<T, E> {
        self.message.transcode_to().map_err(E::custom)
    }

    fn fields<M: SerializeMap>(&self, object: &mut M) -> Result<(), M::Error> {
        let of = self.message.descriptor();
        let depth = Depth {
            messages: self.depth.messages + 1,
            ..self.depth
        };
        for field in of.fields() {
            // Where a field can be told to be absent, it is.
            if field.supports_presence() && !self.message.has_field(&field) {
                continue;
            }
            let value = self.message.get_field(&field);
            let (value, kind) = (value.as_ref(), &field.kind());
            object.serialize_entry(field.json_name(), &Field { value, kind, depth })?;
        }
        for (extension, value) in self.message.extensions() {
            let kind = &extension.kind();
            object.serialize_entry(extension.json_name(), &Field { value, kind, depth })?;
        }
        Ok(())
    }

    fn any<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        let any: prost_types::Any = self.transcoded()?;
        let mut object = into.serialize_map(None)?;
        if any.type_url.is_empty() && any.value.is_empty() {
            return object.end();
        }
        let own = self.message.descriptor();
        let of = type_of(own.parent_pool(), &any.type_url).map_err(S::Error::custom)?;
        let within = Message {
            message: &decode(&of, &any.value).map_err(S::Error::custom)?,
            depth: Depth {
                messages: self.depth.messages + 1,
                anys: self.depth.anys + 1,
            },
        };
        within.check()?;
        object.serialize_entry("@type", &any.type_url)?;
        match is_own_form(&of) {
            true => object.serialize_entry("value", &within)?,
            false => within.fields(&mut object)?,
        }
        object.end()
    }
}

/// What a field has, or one of several that it has.
struct Field<'a> {
    value: &'a Value,
    kind: &'a Kind,
    depth: Depth,
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => into.serialize_bool(*value),
            Value::I32(value) => into.serialize_i32(*value),
            Value::U32(value) => into.serialize_u32(*value),
            Value::I64(value) => into.collect_str(value),
            Value::U64(value) => into.collect_str(value),
            Value::F32(value) => float(*value, into),
            Value::F64(value) => double(*value, into),
            Value::String(value) => into.serialize_str(value),
            Value::Bytes(value) => {
                let mut text = String::new();
                base64::encode(&mut text, value);
                into.serialize_str(&text)
            }
            Value::EnumNumber(number) => self.number(*number, into),
            Value::Message(message) => {
                let depth = self.depth;
                Message { message, depth }.serialize(into)
            }
            Value::List(values) => into.collect_seq(values.iter().map(|value| Field { value, ..*self })),
            Value::Map(values) => {
                let of = self.kind.as_message();
                let kind = &of.map_or(self.kind.clone(), |entry| entry.map_entry_value_field().kind());
                let depth = self.depth;
                let entries = values.iter();
                into.collect_map(entries.map(|(key, value)| (Key(key), Field { value, kind, depth })))
            }
        }
    }
}

impl Field<'_> {
    /// A number of an enum: its name where it has one.
    fn number<S: Serializer>(&self, number: i32, into: S) -> Result<S::Ok, S::Error> {
        let of = self.kind.as_enum();
        if of.is_some_and(|of| of.full_name() == NULL) {
            return into.serialize_unit();
        }
        match of.and_then(|of| of.get_value(number)) {
            Some(value) => into.serialize_str(value.name()),
            None => into.serialize_i32(number),
        }
    }
}

/// A key of a map.
struct Key<'a>(&'a MapKey);

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            MapKey::Bool(key) => into.collect_str(key),
            MapKey::I32(key) => into.collect_str(key),
            MapKey::I64(key) => into.collect_str(key),
            MapKey::U32(key) => into.collect_str(key),
            MapKey::U64(key) => into.collect_str(key),
            MapKey::String(key) => into.serialize_str(key),
        }
    }
}

fn double<S: Serializer>(number: f64, into: S) -> Result<S::Ok, S::Error> {
    match special(number) {
        Some(name) => into.serialize_str(name),
        None => into.serialize_f64(number),
    }
}

/// As short as it is: as a double it would have digits that nobody has written.
fn float<S: Serializer>(number: f32, into: S) -> Result<S::Ok, S::Error> {
    match special(number.into()) {
        Some(name) => into.serialize_str(name),
        None => into.serialize_f32(number),
    }
}

/// The names of what JSON has no number for.
fn special(number: f64) -> Option<&'static str> {
    match number {
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        number if number.is_nan() => Some("NaN"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::protos;
    use super::super::json::{message_to_json, parse};
    use super::*;

    const ALL: &str = r#"syntax = "proto3";
        import "google/protobuf/any.proto"; import "google/protobuf/struct.proto"; import "google/protobuf/wrappers.proto";
        message Inner { string zebra = 1; int64 ape = 2; }
        message All {
          double d = 1; float f = 2;
          google.protobuf.DoubleValue dv = 3; google.protobuf.FloatValue fv = 4;
          repeated google.protobuf.DoubleValue dvs = 5; map<string, google.protobuf.FloatValue> fvs = 6;
          google.protobuf.Any any = 7; repeated google.protobuf.Any anys = 8; map<int32, google.protobuf.Any> map = 9;
          repeated Inner inners = 10; google.protobuf.NullValue null = 11; bytes by = 12;
        }"#;

    fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (number, bytes) in fields {
            prost::encoding::bytes::encode(*number, &bytes.to_vec(), &mut message);
        }
        message
    }

    fn any(type_url: &str, value: &[u8]) -> Vec<u8> {
        match value {
            [] => message(&[(1, type_url.as_bytes())]),
            _ => message(&[(1, type_url.as_bytes()), (2, value)]),
        }
    }

    /// What is written of a message, but for fields with their defaults.
    fn written(bytes: &[u8]) -> Result<String, String> {
        let of = protos::pool(ALL).get_message_by_name("All").unwrap();
        let text = String::from_utf8(message_to_json(&of, bytes)?).unwrap();
        let defaults =
            r#""d":0.0 "f":0.0 "dvs":[] "fvs":{} "anys":[] "map":{} "inners":[] "null":null "by":"""#;
        let mut short = text.clone();
        for default in defaults.split(' ') {
            short = short.replace(&format!(",{default}"), "").replace(default, "");
        }
        Ok(short.replace("{,", "{"))
    }

    #[test]
    fn what_is_no_number_has_a_name_within_wrappers_as_well() {
        for (double, float, name) in [
            (f64::NAN, f32::NAN, "NaN"),
            (f64::INFINITY, f32::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, f32::NEG_INFINITY, "-Infinity"),
        ] {
            let of_double = [&[0x09][..], &double.to_le_bytes()].concat();
            let of_float = [&[0x0d][..], &float.to_le_bytes()].concat();
            let entry = message(&[(1, b"k"), (2, &of_float)]);
            let wrapped = message(&[(3, &of_double), (4, &of_float), (5, &of_double), (6, &entry)]);
            let all = [&of_double[..], &[0x15], &float.to_le_bytes(), &wrapped].concat();
            assert_eq!(
                written(&all),
                Ok(format!(
                    r#"{{"d":"{name}","f":"{name}","dv":"{name}","fv":"{name}","dvs":["{name}"],"fvs":{{"k":"{name}"}}}}"#
                ))
            );
            let within = any("x/google.protobuf.DoubleValue", &of_double);
            assert_eq!(
                written(&message(&[(7, &within)])),
                Ok(format!(
                    r#"{{"any":{{"@type":"x/google.protobuf.DoubleValue","value":"{name}"}}}}"#
                ))
            );
        }
        assert_eq!(
            written(b"\x22\x05\x0d\xcd\xcc\xcc\x3d").as_deref(),
            Ok(r#"{"fv":0.1}"#)
        );
    }

    #[test]
    fn an_any_that_is_empty_is_an_empty_object_wherever_it_is() {
        let entry = b"\x08\x05\x12\x00";
        let within = any("x/google.protobuf.Any", b"");
        let deep = any("x/All", &message(&[(8, b""), (8, &within)]));
        let deep = message(&[(7, &deep), (8, b""), (8, &within), (9, entry)]);
        assert_eq!(
            written(&deep).map(|text| text.replace(r#""@type":"x/"#, "")),
            Ok([
                r#"{"any":{All","anys":[{},{google.protobuf.Any","value":{}}]},"#,
                r#""anys":[{},{google.protobuf.Any","value":{}}],"map":{"5":{}}}"#
            ]
            .concat())
        );
        let of = protos::pool(ALL).get_message_by_name(ANY).unwrap();
        assert_eq!(message_to_json(&of, b"").as_deref(), Ok(&b"{}"[..]));
    }

    #[test]
    fn an_any_of_a_type_that_is_not_known_is_named() {
        for (url, value) in [("x/p.Nothing", &b""[..]), ("Inner", b""), ("", b"\x0a\x00")] {
            let error = written(&message(&[(7, &any(url, value))])).unwrap_err();
            assert!(error.contains(&format!("of the type {url:?}")), "{error}");
            assert!(error.contains("type.googleapis.com/package.Message"), "{error}");
        }
        let wrong = written(&message(&[(7, &any("x/Inner", b"\x0a\x05"))])).unwrap_err();
        assert!(wrong.contains("it is no Inner"), "{wrong}");
    }

    #[test]
    fn a_field_alone_that_is_absent_looked_like_one_that_is_empty() {
        let of = protos::pool(
            r#"syntax = "proto3"; import "google/protobuf/wrappers.proto"; import "google/protobuf/timestamp.proto";
            message M { google.protobuf.StringValue text = 1; google.protobuf.Int64Value n = 2; M inner = 3; google.protobuf.Timestamp at = 4;
              optional string maybe = 5; oneof o { string one = 6; M other = 7; } string plain = 8; int64 number = 9; repeated M many = 10; }"#,
        );
        let of = of.get_message_by_name("M").unwrap();
        let read = |json: &str| parse(&of, json.as_bytes()).unwrap();
        let (absent, present) = (
            read("{}"),
            read(r#"{"text":"","n":"0","maybe":"","one":"","at":"1970-01-01T00:00:00Z","inner":{}}"#),
        );
        let alone = |message, name| {
            let field = of.get_field_by_name(name).unwrap();
            String::from_utf8(write_field(message, &field).unwrap()).unwrap()
        };
        for (name, of_absent, of_present) in [
            ("text", "null", r#""""#),
            ("n", "null", r#""0""#),
            ("inner", "null", r#"{"plain":"","number":"0","many":[]}"#),
            ("at", "null", r#""1970-01-01T00:00:00Z""#),
            ("maybe", "null", r#""""#),
            ("one", "null", r#""""#),
            ("other", "null", "null"),
            ("plain", r#""""#, r#""""#),
            ("number", r#""0""#, r#""0""#),
            ("many", "[]", "[]"),
        ] {
            assert_eq!(alone(&absent, name), of_absent, "{name}");
            assert_eq!(alone(&present, name), of_present, "{name}");
        }
    }

    #[test]
    fn a_field_alone_has_the_order_of_its_message() {
        let of = protos::pool(ALL).get_message_by_name("All").unwrap();
        let message = parse(
            &of,
            br#"{"inners":[{"ape":1,"zebra":"z"},{}],"by":"/w==","fvs":{"k":"NaN"}}"#,
        );
        for (name, json) in [
            ("inners", r#"[{"zebra":"z","ape":"1"},{"zebra":"","ape":"0"}]"#),
            ("by", r#""/w==""#),
            ("fvs", r#"{"k":"NaN"}"#),
            ("null", "null"),
        ] {
            let field = of.get_field_by_name(name).unwrap();
            let written = write_field(message.as_ref().unwrap(), &field).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), json, "{name}");
        }
    }
}
