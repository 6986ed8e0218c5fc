//! What JSON may be by the rules of Protocol Buffers, and the library takes for wrong: an `Any` that is empty, `0` where a
//! `NullValue` is, and an integer as a text with a point or an exponent (`"1e3"`).
//!
//! Only what the library has refused comes here. It is read from the top: each message whose JSON is an object has the library read
//! the fields that have none within them, these in a form that it knows.
//!
//! Not here: whether a field is given twice (`once`). Contract: what is wrong stays wrong.

use std::collections::HashMap;

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde_json::{Map, Value as Json, json};

use super::json::{ANY, NULL, is_own_form, type_of};

/// Digits of an integer.
const DIGITS_MAX: usize = 20;

/// Reads messages.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Whether there was anything that the library does not know, or says less about.
    pub(super) is_apt: bool,
}

impl Reader {
    /// A message in JSON.
    pub(super) fn message(&mut self, of: &MessageDescriptor, json: Json) -> Result<DynamicMessage, String> {
        if of.full_name() == ANY {
            return self.any(of, json);
        }
        if is_own_form(of) {
            let mut json = json;
            self.value(&Kind::Message(of.clone()), &mut json);
            return by_library(of, json);
        }
        let object = object(of, json)?;
        let (mut plain, mut others) = (Map::new(), Vec::new());
        for (name, json) in object {
            let field = of
                .get_field_by_json_name(&name)
                .or_else(|| of.get_field_by_name(&name));
            match field {
                Some(field) if within(&field).is_some() && !json.is_null() => {
                    others.push((self.field(&field, json)?, field))
                }
                Some(field) => {
                    plain.insert(name, self.values(&field, json));
                }
                None => {
                    plain.insert(name, json);
                }
            }
        }
        let mut message = by_library(of, plain.into())?;
        for (value, field) in others {
            let oneof = field.containing_oneof();
            if let Some(oneof) = oneof.filter(|oneof| oneof.fields().any(|one| message.has_field(&one))) {
                let name = oneof.name();
                return Err(format!("multiple fields provided for oneof '{name}'"));
            }
            message.set_field(&field, value);
        }
        Ok(message)
    }
}

impl Reader {
    fn any(&mut self, of: &MessageDescriptor, json: Json) -> Result<DynamicMessage, String> {
        let mut message = DynamicMessage::new(of.clone());
        let mut members = object(of, json)?;
        if members.is_empty() {
            self.is_apt = true;
            return Ok(message);
        }
        let Some(Json::String(type_url)) = members.remove("@type") else {
            return Err(format!("a {ANY} says its type as \"@type\""));
        };
        let found = type_of(of.parent_pool(), &type_url);
        self.is_apt |= found.is_err();
        let inner = found?;
        let json = match is_own_form(&inner) {
            false => members.into(),
            true => {
                let value = members.remove("value");
                if let Some(name) = members.keys().next() {
                    return Err(format!("unrecognized field name '{name}'"));
                }
                value.ok_or_else(|| format!("a {ANY} of {} has it as \"value\"", inner.full_name()))?
            }
        };
        let value = self.message(&inner, json)?.encode_to_vec();
        let any = prost_types::Any { type_url, value };
        message.transcode_from(&any).map_err(|e| e.to_string())?;
        Ok(message)
    }

    /// A field that has messages within it.
    fn field(&mut self, field: &FieldDescriptor, json: Json) -> Result<Value, String> {
        let Some(of) = within(field) else {
            return Err(format!("{} is no message", field.name()));
        };
        match json {
            Json::Array(values) if field.is_list() => {
                let values = values
                    .into_iter()
                    .map(|value| self.message(&of, value).map(Value::Message));
                Ok(Value::List(values.collect::<Result<_, _>>()?))
            }
            _ if field.is_list() => Err(format!("{} is a list", field.name())),
            Json::Object(entries) if field.is_map() => {
                let mut map = HashMap::new();
                for (name, value) in entries {
                    map.insert(key(field, &name)?, Value::Message(self.message(&of, value)?));
                }
                Ok(Value::Map(map))
            }
            json if !field.is_map() => self.message(&of, json).map(Value::Message),
            _ => Err(format!("{} is a map", field.name())),
        }
    }

    /// All values of a field that has no messages within it, as the library knows them.
    fn values(&mut self, field: &FieldDescriptor, json: Json) -> Json {
        let kind = match field.kind() {
            Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
            kind => kind,
        };
        match json {
            Json::Array(mut values) if field.is_list() => {
                values.iter_mut().for_each(|value| self.value(&kind, value));
                values.into()
            }
            Json::Object(mut values) if field.is_map() => {
                values.values_mut().for_each(|value| self.value(&kind, value));
                values.into()
            }
            mut json => {
                self.value(&kind, &mut json);
                json
            }
        }
    }

    fn value(&mut self, kind: &Kind, json: &mut Json) {
        let known = match (kind, &*json) {
            (Kind::Enum(of), Json::Number(number)) if of.full_name() == NULL => {
                (number.as_i64() == Some(0)).then(|| json!("NULL_VALUE"))
            }
            (kind, Json::String(text)) if is_integer(kind) => integer(text).map(Json::String),
            _ => None,
        };
        if let Some(known) = known {
            self.is_apt = true;
            *json = known;
        }
    }
}

fn by_library(of: &MessageDescriptor, json: Json) -> Result<DynamicMessage, String> {
    DynamicMessage::deserialize(of.clone(), json).map_err(|e| e.to_string())
}

fn object(of: &MessageDescriptor, json: Json) -> Result<Map<String, Json>, String> {
    match json {
        Json::Object(object) => Ok(object),
        _ => Err(format!("a {} is an object", of.full_name())),
    }
}

/// The messages of a field, alone, in a list or in a map, in which there may be fields.
fn within(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    match kind {
        Kind::Message(of) if of.full_name() == ANY || !is_own_form(&of) => Some(of),
        _ => None,
    }
}

fn key(field: &FieldDescriptor, name: &str) -> Result<MapKey, String> {
    let Kind::Message(entry) = field.kind() else {
        return Err(format!("{} is no map", field.name()));
    };
    let key = match entry.map_entry_key_field().kind() {
        Kind::String => Some(MapKey::String(name.to_owned())),
        Kind::Bool => name.parse().ok().map(MapKey::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => name.parse().ok().map(MapKey::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => name.parse().ok().map(MapKey::I64),
        Kind::Uint32 | Kind::Fixed32 => name.parse().ok().map(MapKey::U32),
        Kind::Uint64 | Kind::Fixed64 => name.parse().ok().map(MapKey::U64),
        _ => None,
    };
    key.ok_or_else(|| format!("{name:?} is no key of {}", field.name()))
}

fn is_integer(kind: &Kind) -> bool {
    const WRAPPERS: [&str; 4] = ["Int32Value", "Int64Value", "UInt32Value", "UInt64Value"];
    match kind {
        Kind::Message(of) => {
            let name = of.full_name().strip_prefix("google.protobuf.");
            name.is_some_and(|name| WRAPPERS.contains(&name))
        }
        Kind::Double | Kind::Float | Kind::Bool | Kind::String | Kind::Bytes | Kind::Enum(_) => false,
        _ => true,
    }
}

/// The digits of an integer that a number with a point or an exponent is, exactly.
fn integer(text: &str) -> Option<String> {
    // What JSON takes for a number: an integer with a sign only where there has to be one, and so on.
    serde_json::from_str::<serde_json::Number>(text).ok()?;
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().ok()?;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    // How many zeros are behind what is significant; before the point there is nothing but that.
    let fraction = i64::try_from(fraction.len()).ok()?;
    let behind = i64::try_from(digits.len() - significant.len()).ok()?;
    let zeros = exponent.checked_sub(fraction)?.checked_add(behind)?;
    let zeros = usize::try_from(zeros).ok().filter(|zeros| *zeros <= DIGITS_MAX)?;
    Some(format!("{sign}{significant}{}", "0".repeat(zeros)))
}

#[cfg(test)]
mod tests {
    use super::super::super::protos;
    use super::super::json::{json_to_message, message_to_json};
    use super::*;

    fn of(name: &str) -> MessageDescriptor {
        protos::pool(
            r#"syntax = "proto3";
            import "google/protobuf/any.proto"; import "google/protobuf/struct.proto"; import "google/protobuf/wrappers.proto";
            message Inner { int64 n = 1; google.protobuf.NullValue null = 2; google.protobuf.Any any = 3; }
            message All {
              optional int32 i = 1; optional uint64 u = 2; repeated sint64 list = 3; map<string, fixed32> map = 4;
              google.protobuf.Int64Value wrapped = 5; repeated google.protobuf.UInt32Value wraps = 6;
              optional google.protobuf.NullValue null = 7; repeated google.protobuf.NullValue nulls = 8; Inner inner = 9;
              map<sint32, Inner> inners = 10; map<bool, google.protobuf.Any> bools = 11; repeated google.protobuf.Any anys = 12;
              google.protobuf.Any any = 13; oneof o { Inner a = 14; Inner b = 15; string c = 16; } double d = 17;
              google.protobuf.Value value = 18;
            }"#,
        )
        .get_message_by_name(name)
        .unwrap()
    }

    fn read(json: &str) -> Result<prost::bytes::Bytes, String> {
        json_to_message(&of("All"), json.as_bytes())
    }

    #[test]
    fn what_may_be_said_in_two_ways_is_the_same() {
        for (one, other) in [
            (r#"{"i":"1e5"}"#, r#"{"i":100000}"#),
            (r#"{"i":"-1.20E1"}"#, r#"{"i":-12}"#),
            (r#"{"i":"0e99999"}"#, r#"{"i":0}"#),
            (
                r#"{"u":"18446744073709551615.0"}"#,
                r#"{"u":"18446744073709551615"}"#,
            ),
            (
                r#"{"u":"1.8446744073709551615e19"}"#,
                r#"{"u":"18446744073709551615"}"#,
            ),
            (
                r#"{"u":"18446744073709551610e0"}"#,
                r#"{"u":"18446744073709551610"}"#,
            ),
            (r#"{"u":"5000e-3"}"#, r#"{"u":"5"}"#),
            (r#"{"list":["1e3",2,"3"]}"#, r#"{"list":[1000,2,3]}"#),
            (r#"{"map":{"1e3":"1e3"}}"#, r#"{"map":{"1e3":1000}}"#),
            (
                r#"{"wrapped":"1e3","wraps":["1e3"]}"#,
                r#"{"wrapped":1000,"wraps":[1000]}"#,
            ),
            (
                r#"{"null":0,"nulls":[0,"NULL_VALUE"]}"#,
                r#"{"null":null,"nulls":[null,null]}"#,
            ),
            (
                r#"{"inner":{"n":"1e3","null":0},"inners":{"-1":{"n":"1e3"}}}"#,
                r#"{"inner":{"n":1000},"inners":{"-1":{"n":1000}}}"#,
            ),
            (r#"{"inner":null,"a":null,"i":"1e3"}"#, r#"{"i":1000}"#),
            (
                r#"{"any":{"n":"1e3","@type":"x/Inner","any":{}},"value":{"1e3":"1e3"}}"#,
                r#"{"any":{"@type":"x/Inner","n":1000,"any":{}},"value":{"1e3":"1e3"}}"#,
            ),
        ] {
            assert!(read(one).is_ok(), "{one}: {:?}", read(one));
            assert_eq!(read(one), read(other), "{one}");
        }
    }

    #[test]
    fn an_any_may_be_empty_wherever_it_is() {
        let json = r#"{"any":{},"anys":[{},{"@type":"x/google.protobuf.Any","value":{}},{"@type":"x/Inner","any":{}}],"bools":{"true":{}},"inner":{"any":{}}}"#;
        let message = read(json).unwrap();
        let again = message_to_json(&of("All"), &message).unwrap();
        let again: Json = serde_json::from_slice(&again).unwrap();
        for (pointer, is) in [
            ("/any", json!({})),
            ("/anys/0", json!({})),
            ("/anys/1", json!({"@type": "x/google.protobuf.Any", "value": {}})),
            ("/anys/2/any", json!({})),
            ("/bools", json!({"true": {}})),
            ("/inner/any", json!({})),
        ] {
            assert_eq!(again.pointer(pointer), Some(&is), "{pointer}: {again}");
        }
        let any = of("All").get_field_by_name("any").unwrap();
        let Kind::Message(any) = any.kind() else {
            panic!("{any:?}");
        };
        assert_eq!(json_to_message(&any, b"{}").as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn what_is_wrong_stays_wrong_and_is_named() {
        for (wrong, why) in [
            (r#"{"i":"1e10"}"#, "too large"),
            (r#"{"i":"1.5"}"#, "invalid digit"),
            (r#"{"i":"15e-1"}"#, "invalid digit"),
            (r#"{"i":"1e"}"#, "invalid digit"),
            (r#"{"i":"1e99999999999999999999"}"#, "invalid digit"),
            (r#"{"u":"1e999"}"#, "invalid digit"),
            (r#"{"u":"-1e1"}"#, "invalid digit"),
            (r#"{"i":" 1e1"}"#, "invalid digit"),
            (r#"{"i":"0x1e1"}"#, "invalid digit"),
            (r#"{"i":"1e1","d":"1,5"}"#, "invalid float"),
            (r#"{"null":1}"#, "expected null"),
            (r#"{"null":0.5}"#, "expected null"),
            (r#"{"any":{},"nothing":1}"#, "unrecognized field name 'nothing'"),
            (
                r#"{"any":{},"anys":[null]}"#,
                "a google.protobuf.Any is an object",
            ),
            (r#"{"any":{},"anys":{}}"#, "anys is a list"),
            (r#"{"any":{},"bools":[]}"#, "bools is a map"),
            (r#"{"any":{},"bools":{"1":{}}}"#, "\"1\" is no key of bools"),
            (r#"{"any":{},"any":{}}"#, "given twice"),
            (r#"{"any":{},"a":{},"b":{}}"#, "oneof 'o'"),
            (r#"{"any":{},"a":{},"c":""}"#, "oneof 'o'"),
            (r#"{"any":{"n":1}}"#, "expected '@type'"),
            (r#"{"any":{"@type":"x/Nothing"}}"#, "of the type \"x/Nothing\""),
            (r#"{"any":{"@type":"Inner"}}"#, "of the type \"Inner\""),
            (
                r#"{"any":{"@type":"x/Inner","no":1}}"#,
                "unrecognized field name 'no'",
            ),
            (
                r#"{"anys":[{},{"@type":"x/google.protobuf.Any","value":{},"no":1}]}"#,
                "unrecognized field name 'no'",
            ),
            (r#"{"i":"1e1"} x"#, "trailing"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
