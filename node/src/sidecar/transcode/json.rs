//! Messages to and from the JSON form of Protocol Buffers.
//!
//! Not here: which message, and what is around it; what is written (`write`). Contract: what is read is one message as its text says it,
//! to the last digit (`numbers`, `texts`), and gives each of its fields once (`once`).

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage,
};
use serde::de::IgnoredAny;
use serde_json::Deserializer;

use super::read::Reader;
use super::request::is_leaf;
use super::write::write;
use super::{numbers, once};
use crate::sidecar::datum::is_json;
use crate::sidecar::proto::common::Any;
use crate::sidecar::scan::{Raw, fields};
use crate::sidecar::services::TYPE_URL;
use crate::sidecar::wire_check;

/// A message of any type.
pub(super) const ANY: &str = "google.protobuf.Any";
/// The enum whose one value is JSON's `null`.
pub(super) const NULL: &str = "google.protobuf.NullValue";

/// The message that this JSON is, encoded, with all that it must have.
pub fn json_to_message(of: &MessageDescriptor, json: &[u8]) -> Result<Bytes, String> {
    encoded(&parse(of, json)?)
}

/// A message's bytes: of `proto2`, with all that it must have.
pub(super) fn encoded(message: &DynamicMessage) -> Result<Bytes, String> {
    let bytes = Bytes::from(message.encode_to_vec());
    match wire_check::check(&bytes, &message.descriptor()) {
        Ok(()) => Ok(bytes),
        Err(why) => Err(why.to_string()),
    }
}

/// The JSON of an encoded message.
pub fn message_to_json(of: &MessageDescriptor, message: &[u8]) -> Result<Vec<u8>, String> {
    if of.full_name() == ANY
        && let Some(json) = own_json(message)?
    {
        return Ok(json);
    }
    write(&decode(of, message)?)
}

/// The JSON that an `Any` has in it which is no message, as the SDKs make of what is none.
fn own_json(any: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let any = Any::decode(any).map_err(|e| e.to_string())?;
    if !is_json(&any) {
        return Ok(None);
    }
    let mut json = None;
    for field in fields(&any.value) {
        if let (1, Raw::Bytes(bytes)) = field.map_err(|_| format!("its {} is cut", any.type_url))? {
            json = Some(bytes.to_vec());
        }
    }
    let json = json.unwrap_or_default();
    serde_json::from_slice::<IgnoredAny>(&json).map_err(|e| format!("its {}: {e}", any.type_url))?;
    Ok(Some(json))
}

/// A message in JSON, and nothing behind it.
pub(super) fn parse(of: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, String> {
    let mut from = Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize(of.clone(), &mut from).map_err(|e| e.to_string());
    let message = message.and_then(|message| from.end().map(|()| message).map_err(|e| e.to_string()));
    // What is no JSON at all comes no further.
    let exact = || serde_json::from_slice(&numbers::exact(json)).map_err(|e| e.to_string());
    match message {
        Ok(message) if once::check(of, json)? => Ok(message),
        Ok(_) => Reader::default().message(of, exact()?),
        Err(why) => {
            let message = reread(of, exact()?, why)?;
            once::check(of, json)?;
            Ok(message)
        }
    }
}

/// The same of what was parsed already.
pub(super) fn parse_value(of: &MessageDescriptor, json: serde_json::Value) -> Result<DynamicMessage, String> {
    match DynamicMessage::deserialize(of.clone(), &json) {
        Ok(message) => Ok(message),
        Err(why) => reread(of, json, why.to_string()),
    }
}

/// What the library has refused, if it is right all the same. What it says of it has the place.
fn reread(of: &MessageDescriptor, json: serde_json::Value, why: String) -> Result<DynamicMessage, String> {
    let mut reader = Reader::default();
    match reader.message(of, json) {
        Err(other) if reader.is_apt => Err(other),
        Err(_) => Err(why),
        Ok(message) => Ok(message),
    }
}

pub(super) fn decode(of: &MessageDescriptor, message: &[u8]) -> Result<DynamicMessage, String> {
    let decoded = DynamicMessage::decode(of.clone(), message);
    decoded.map_err(|e| format!("it is no {}: {e}", of.full_name()))
}

/// The type that the URL of an `Any` says.
pub(super) fn type_of(pool: &DescriptorPool, url: &str) -> Result<MessageDescriptor, String> {
    let found = url
        .rsplit_once('/')
        .and_then(|(_, name)| pool.get_message_by_name(name));
    found.ok_or_else(|| {
        format!(
            "there is a {ANY} of the type {url:?}, which none of the function's .proto files defines: one that is known is \
             {TYPE_URL}package.Message"
        )
    })
}

/// The message without fields, whose JSON is an object of none: within an `Any` the libraries of Protocol Buffers leave out `value`, or
/// write it.
pub(super) const EMPTY: &str = "google.protobuf.Empty";

/// Messages whose JSON is no object of their fields; within an `Any` it is called `value`.
pub(super) fn is_own_form(message: &MessageDescriptor) -> bool {
    const OBJECTS: [&str; 4] = ["Any", "ListValue", "Struct", "Value"];
    let name = message.full_name().strip_prefix("google.protobuf.");
    is_leaf(message) || name.is_some_and(|name| OBJECTS.contains(&name))
}

/// Whether a field is one message.
pub(super) fn is_message(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(_)) && !field.is_list() && !field.is_map()
}

#[cfg(test)]
mod tests {
    use super::super::super::protos;
    use super::super::write::{ANY_DEPTH_MAX, write_field};
    use super::*;

    const ALL: &str = r#"syntax = "proto3";
        import "google/protobuf/any.proto"; import "google/protobuf/duration.proto";
        import "google/protobuf/field_mask.proto"; import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
        enum E { ZERO = 0; ONE = 1; }
        message Inner { string s = 1; }
        message All {
          int32 int_32 = 1; int64 int_64 = 2; double d = 3; bool b = 4; string s = 5; bytes by = 6; E e = 7;
          repeated uint64 list = 8; map<int32, Inner> map = 9; Inner inner = 10; optional string maybe = 11;
          oneof o { string x = 12; int32 y = 13; }
          google.protobuf.Any any = 14; google.protobuf.Timestamp at = 15; google.protobuf.Duration for = 16;
          google.protobuf.FieldMask mask = 17; google.protobuf.Struct struct = 18; google.protobuf.Int64Value wrapped = 19;
          google.protobuf.Value value = 20;
        }"#;

    fn all() -> MessageDescriptor {
        protos::pool(ALL).get_message_by_name("All").unwrap()
    }

    #[test]
    fn defaults_are_written() {
        let json = message_to_json(&all(), b"").unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"int32":0,"int64":"0","d":0.0,"b":false,"s":"","by":"","e":"ZERO","list":[],"map":{}}"#
        );
    }

    #[test]
    fn what_was_read_is_written() {
        let json = r#"{"int32":-1,"int64":"9223372036854775807","d":1.5,"b":true,"s":"ä","by":"/w==","e":"ONE","list":["1","2"],"map":{"3":{"s":"t"}},"inner":{"s":""},"maybe":"","y":0,"any":{"@type":"type.googleapis.com/Inner","s":"u"},"at":"2026-11-29T09:31:59.500Z","for":"1.500s","mask":"a.bC","struct":{"a":[1.0,null]},"wrapped":"5","value":null}"#;
        let message = json_to_message(&all(), json.as_bytes()).unwrap();
        let again = message_to_json(&all(), &message).unwrap();
        let text = String::from_utf8(again).unwrap();
        let (found, expected): (serde_json::Value, serde_json::Value) = (
            serde_json::from_str(&text).unwrap(),
            serde_json::from_str(json).unwrap(),
        );
        assert_eq!(found, expected, "{text}");
        assert_eq!(json_to_message(&all(), text.as_bytes()), Ok(message));
        // Either name of a field will do, and numbers for 64-bit integers.
        assert!(json_to_message(&all(), br#"{"int_32": 1, "int64": 2}"#).is_ok());
    }

    #[test]
    fn what_is_no_such_message_is_told() {
        for (bad, why) in [
            ("", "EOF"),
            ("null", "invalid type"),
            ("{} {}", "trailing"),
            ("{\"nothing\": 1}", "unrecognized field name 'nothing'"),
            ("{\"int32\": 2147483648}", "out of range"),
            ("{\"e\": \"TWO\"}", "unrecognized enum value"),
            ("{\"x\": \"\", \"y\": 1}", "oneof"),
        ] {
            let error = json_to_message(&all(), bad.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
        let error = message_to_json(&all(), b"\x0a\x05").unwrap_err();
        assert!(error.contains("no All"), "{error}");
        // A time that JSON has no text for.
        assert!(message_to_json(&all(), b"\x7a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_ok());
        assert!(message_to_json(&all(), b"\x7a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f").is_err());
    }

    #[test]
    fn what_lacks_a_required_field_is_told() {
        let pool = protos::pool(
            r#"syntax = "proto2"; package t; message Old { required string id = 1; optional Old below = 2; }"#,
        );
        let of = pool.get_message_by_name("t.Old").unwrap();
        assert!(json_to_message(&of, br#"{"id":"","below":{"id":""}}"#).is_ok());
        for lacking in ["{}", r#"{"id":null}"#, r#"{"id":"","below":{}}"#] {
            let error = json_to_message(&of, lacking.as_bytes()).unwrap_err();
            let why = "no Protocol Buffers message: field id of t.Old is required, and missing";
            assert_eq!(error, why, "{lacking}");
        }
    }

    #[test]
    fn anys_within_anys_end() {
        let nested = |depth: usize| {
            let mut any = prost_types::Any {
                type_url: "type.googleapis.com/Inner".into(),
                value: Vec::new(),
            };
            for _ in 1..depth {
                any = prost_types::Any {
                    type_url: "type.googleapis.com/google.protobuf.Any".into(),
                    value: any.encode_to_vec(),
                };
            }
            let any = any.encode_to_vec();
            let mut message = vec![0x72];
            prost::encoding::encode_varint(any.len() as u64, &mut message);
            [message, any].concat()
        };
        assert!(message_to_json(&all(), &nested(ANY_DEPTH_MAX)).is_ok());
        let error = message_to_json(&all(), &nested(ANY_DEPTH_MAX + 1)).unwrap_err();
        assert!(error.contains("within one another"), "{error}");
        assert!(message_to_json(&all(), &nested(5_000)).is_err());
        let json = "{\"any\":".to_owned()
            + &"{\"@type\":\"type.googleapis.com/google.protobuf.Any\",\"value\":".repeat(200);
        assert!(json_to_message(&all(), json.as_bytes()).is_err());
    }

    #[test]
    fn messages_within_anys_are_no_deeper_than_messages() {
        let pool = protos::pool(
            r#"syntax = "proto3"; import "google/protobuf/any.proto";
            message M { M m = 1; google.protobuf.Any any = 2; }"#,
        );
        let of = pool.get_message_by_name("M").unwrap();
        let wrap = |number: u32, inner: Vec<u8>| {
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(number, &inner, &mut outer);
            outer
        };
        let within = |inner: Vec<u8>, times: usize| (0..times).fold(inner, |inner, _| wrap(1, inner));
        let any = |value: Vec<u8>| {
            let type_url = "type.googleapis.com/M".into();
            wrap(2, prost_types::Any { type_url, value }.encode_to_vec())
        };
        assert!(message_to_json(&of, &within(Vec::new(), 98)).is_ok());
        assert!(message_to_json(&of, &within(Vec::new(), 200)).is_err());
        let both = |deep: usize| within(any(within(Vec::new(), deep)), 48);
        assert!(message_to_json(&of, &both(48)).is_ok());
        let error = message_to_json(&of, &both(60)).unwrap_err();
        assert!(error.contains("within one another"), "{error}");
    }

    #[test]
    fn a_field_alone_is_written_like_within_its_message() {
        let of = all();
        let message = parse(&of, br#"{"int64": 3, "list": [1], "inner": {"s": "t"}, "y": 4}"#).unwrap();
        for (name, json) in [
            ("int_64", "\"3\""),
            ("list", "[\"1\"]"),
            ("inner", "{\"s\":\"t\"}"),
            ("y", "4"),
            ("x", "null"),
            ("maybe", "null"),
            ("s", "\"\""),
            ("map", "{}"),
            ("wrapped", "null"),
        ] {
            let field = of.get_field_by_name(name).unwrap();
            let written = write_field(&message, &field).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), json, "{name}");
        }
        let inner = of.get_field_by_name("inner").unwrap();
        assert_eq!(
            write_field(&parse(&of, br#"{"inner":{}}"#).unwrap(), &inner).unwrap(),
            br#"{"s":""}"#
        );
    }
}
