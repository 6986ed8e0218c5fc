//! What JSON may be by the rules of Protocol Buffers, and the library takes for wrong: an `Any` that is empty, `0` where a
//! `NullValue` is, and an integer as a text with a point or an exponent (`"1e3"`). And what it takes that is wrong: a number that is no
//! integer, or has more than 64 bits, for the nearest that is one.
//!
//! Only what the library has refused, or may have read as something else, comes here, its numbers exact (`numbers`). It is read from the
//! top: each message whose JSON is an object has the library read the fields that have none within them, these in a form that it knows.
//!
//! Not here: whether a name is given twice (`once`); under both its names a field may be, within an `Any`. Contract: what is wrong stays
//! wrong.

use std::collections::{BTreeSet, HashMap};

use prost::Message;
use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use serde_json::{Map, Value as Json, json};

use super::json::{ANY, EMPTY, NULL, is_own_form, type_of};
use super::numbers::{integer, is_integer};
use super::texts;

/// Reads messages.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Whether there was anything that the library does not know, or says less about.
    pub(super) is_apt: bool,
}

/// What a message has under a name.
enum Member {
    Field(FieldDescriptor),
    Extension(ExtensionDescriptor),
}

impl Member {
    fn of(message: &MessageDescriptor, name: &str) -> Option<Member> {
        let field = message
            .get_field_by_json_name(name)
            .or_else(|| message.get_field_by_name(name));
        let extension = || message.get_extension_by_json_name(name).map(Member::Extension);
        field.map(Member::Field).or_else(extension)
    }

    fn name(&self) -> &str {
        match self {
            Member::Field(field) => field.name(),
            Member::Extension(extension) => extension.json_name(),
        }
    }

    fn is_list(&self) -> bool {
        match self {
            Member::Field(field) => field.is_list(),
            Member::Extension(extension) => extension.is_list(),
        }
    }

    /// As what its values have under their keys, if it is a map.
    fn entry(&self) -> Option<MessageDescriptor> {
        match self {
            Member::Field(field) if field.is_map() => field.kind().as_message().cloned(),
            _ => None,
        }
    }

    /// What its values are, alone, in a list or in a map.
    fn kind(&self) -> Kind {
        match (self.entry(), self) {
            (Some(entry), _) => entry.map_entry_value_field().kind(),
            (None, Member::Field(field)) => field.kind(),
            (None, Member::Extension(extension)) => extension.kind(),
        }
    }

    /// The messages of a field in which there may be fields.
    fn within(&self) -> Option<MessageDescriptor> {
        match self.kind() {
            Kind::Message(of) if of.full_name() == ANY || !is_own_form(&of) => Some(of),
            _ => None,
        }
    }

    fn put(&self, message: &mut DynamicMessage, value: Value) -> Result<(), String> {
        let field = match self {
            Member::Extension(extension) => {
                message.set_extension(extension, value);
                return Ok(());
            }
            Member::Field(field) => field,
        };
        let oneof = field.containing_oneof();
        if let Some(oneof) = oneof.filter(|oneof| oneof.fields().any(|one| message.has_field(&one))) {
            let name = oneof.name();
            return Err(format!("multiple fields provided for oneof '{name}'"));
        }
        message.set_field(field, value);
        Ok(())
    }
}

impl Reader {
    /// A message in JSON.
    pub(super) fn message(&mut self, of: &MessageDescriptor, json: Json) -> Result<DynamicMessage, String> {
        if of.full_name() == ANY {
            return self.any(of, json);
        }
        if is_own_form(of) {
            let mut json = json;
            let kind = Kind::Message(of.clone());
            self.value(&kind, &mut json).map_err(|why| format!("it {why}"))?;
            return by_library(of, json);
        }
        let object = object(of, json)?;
        let (mut plain, mut others) = (Map::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for (name, json) in object {
            let member = Member::of(of, &name);
            if let Some(twice) = member.as_ref().filter(|one| !seen.insert(one.name().to_owned())) {
                self.is_apt = true;
                return Err(format!("{:?} is given twice", twice.name()));
            }
            match member {
                Some(member) => match member.within() {
                    Some(within) if !json.is_null() => {
                        others.push((self.messages(&member, &within, json)?, member));
                    }
                    _ => {
                        let json = self.values(&member, json);
                        plain.insert(name, json.map_err(|why| format!("{} {why}", member.name()))?);
                    }
                },
                None => {
                    plain.insert(name, json);
                }
            }
        }
        let mut message = by_library(of, plain.into())?;
        for (value, member) in others {
            member.put(&mut message, value)?;
        }
        Ok(message)
    }

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
        let is_named = inner.full_name() == EMPTY && members.contains_key("value");
        let json = match is_own_form(&inner) || is_named {
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
    fn messages(&mut self, member: &Member, of: &MessageDescriptor, json: Json) -> Result<Value, String> {
        let name = member.name();
        match (json, member.entry()) {
            (Json::Array(values), _) if member.is_list() => {
                let values = values
                    .into_iter()
                    .map(|value| self.message(of, value).map(Value::Message));
                Ok(Value::List(values.collect::<Result<_, _>>()?))
            }
            _ if member.is_list() => Err(format!("{name} is a list")),
            (Json::Object(entries), Some(entry)) => {
                let mut map = HashMap::new();
                for (key, value) in entries {
                    let read =
                        read_key(&entry, &key).ok_or_else(|| format!("{key:?} is no key of {name}"))?;
                    map.insert(read, Value::Message(self.message(of, value)?));
                }
                Ok(Value::Map(map))
            }
            (_, Some(_)) => Err(format!("{name} is a map")),
            (json, None) => self.message(of, json).map(Value::Message),
        }
    }

    /// All values of a field that has no messages within it, as the library knows them.
    fn values(&mut self, member: &Member, mut json: Json) -> Result<Json, String> {
        let kind = member.kind();
        let is_map = member.entry().is_some();
        match &mut json {
            Json::Array(values) if member.is_list() => {
                values.iter_mut().try_for_each(|value| self.value(&kind, value))?;
            }
            Json::Object(values) if is_map => {
                values
                    .values_mut()
                    .try_for_each(|value| self.value(&kind, value))?;
            }
            alone => self.value(&kind, alone)?,
        }
        Ok(json)
    }

    fn value(&mut self, kind: &Kind, json: &mut Json) -> Result<(), String> {
        let known = match (kind, &*json) {
            (Kind::Enum(of), Json::Number(number)) if of.full_name() == NULL => {
                (number.as_i64() == Some(0)).then(|| json!("NULL_VALUE"))
            }
            (kind, Json::String(text)) if is_integer(kind) => integer(text).map(Json::String),
            // What is one is no longer a floating point number, but for -0.0.
            (kind, Json::Number(number)) if number.is_f64() && is_integer(kind) => match number.as_f64() {
                Some(zero) if zero == 0.0 && zero.is_sign_negative() => Some(json!(0)),
                _ => return Err("is given a number that is no integer, or out of range".to_owned()),
            },
            (kind, Json::String(text)) => {
                let checked = texts::check(kind, text);
                self.is_apt |= checked.is_err();
                checked?;
                None
            }
            _ => None,
        };
        if let Some(known) = known {
            self.is_apt = true;
            *json = known;
        }
        Ok(())
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

fn read_key(entry: &MessageDescriptor, key: &str) -> Option<MapKey> {
    match entry.map_entry_key_field().kind() {
        Kind::String => Some(MapKey::String(key.to_owned())),
        Kind::Bool => key.parse().ok().map(MapKey::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => key.parse().ok().map(MapKey::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => key.parse().ok().map(MapKey::I64),
        Kind::Uint32 | Kind::Fixed32 => key.parse().ok().map(MapKey::U32),
        Kind::Uint64 | Kind::Fixed64 => key.parse().ok().map(MapKey::U64),
        _ => None,
    }
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

    /// Numbers of one field each, of every kind of integer, in every place.
    fn integers() -> MessageDescriptor {
        protos::pool(
            r#"syntax = "proto2"; import "google/protobuf/any.proto"; import "google/protobuf/type.proto";
            import "google/protobuf/wrappers.proto";
            message N {
              optional google.protobuf.Field field = 17; optional int64 i = 1; optional uint64 u = 2; optional sint32 s = 3; optional fixed32 f = 4; repeated sfixed64 is = 5;
              repeated fixed64 us = 6; map<string, uint64> map = 7; optional google.protobuf.Int64Value wi = 8;
              optional google.protobuf.UInt64Value wu = 9; repeated google.protobuf.UInt64Value ws = 10; optional N n = 11;
              optional google.protobuf.Any any = 12; optional double d = 13; optional float r = 14; extensions 100 to 200;
              map<string, N> ns = 15; optional google.protobuf.DoubleValue wd = 16;
            }
            extend N { optional uint64 eu = 100; repeated N en = 101; }"#,
        )
        .get_message_by_name("N")
        .unwrap()
    }

    #[test]
    fn an_integer_of_more_than_its_bits_becomes_no_other() {
        let of = integers();
        for wrong in [
            r#"{"u":18446744073709551616}"#,
            r#"{"u":18446744073709551616.0}"#,
            r#"{"u":1.8446744073709551616e19}"#,
            r#"{"us":[1,18446744073709551616]}"#,
            r#"{"map":{"k":18446744073709551616}}"#,
            r#"{"wu":18446744073709551616}"#,
            r#"{"ws":[18446744073709551616]}"#,
            r#"{"n":{"ns":{"k":{"u":18446744073709551616}}}}"#,
            r#"{"any":{"@type":"x/N","u":18446744073709551616}}"#,
            r#"{"any":{"u":18446744073709551616,"@type":"x/N"}}"#,
            r#"{"any":{"value":18446744073709551616,"@type":"x/google.protobuf.UInt64Value"}}"#,
            r#"{"[eu]":18446744073709551616}"#,
            r#"{"[en]":[{"u":18446744073709551616}]}"#,
            r#"{"i":-9223372036854775809}"#,
            r#"{"i":9223372036854775808}"#,
            r#"{"i":9223372036854775808.0}"#,
            r#"{"i":9223372036854775809.0}"#,
            r#"{"i":9.223372036854775808e18}"#,
            r#"{"is":[-9223372036854775809.0]}"#,
            r#"{"wi":9223372036854775808.0}"#,
            r#"{"i":9007199254740993.5}"#,
            r#"{"i":1.00000000000000000000001}"#,
            r#"{"i":1e-400}"#,
            r#"{"u":-1.0}"#,
            r#"{"s":2147483648.0}"#,
            r#"{"s":2147483647.00000001}"#,
            r#"{"f":4294967296.0}"#,
            r#"{"f":4.294967296e9}"#,
            // One of Google's whose JSON is an object of its fields.
            r#"{"field":{"number":2147483647.00000001}}"#,
        ] {
            let read = json_to_message(&of, wrong.as_bytes());
            assert!(read.is_err(), "{wrong}: {read:?}");
        }
        let error = json_to_message(&of, br#"{"n":{"us":[18446744073709551616]}}"#).unwrap_err();
        assert_eq!(error, "us is given a number that is no integer, or out of range");
    }

    #[test]
    fn an_integer_with_a_point_or_an_exponent_is_that_integer() {
        let of = integers();
        let read = |json: &str| json_to_message(&of, json.as_bytes());
        for (one, other) in [
            (r#"{"i":9007199254740993.0}"#, r#"{"i":"9007199254740993"}"#),
            (r#"{"i":1234567890123456789e0}"#, r#"{"i":"1234567890123456789"}"#),
            (
                r#"{"i":9.223372036854775807e18}"#,
                r#"{"i":"9223372036854775807"}"#,
            ),
            (
                r#"{"is":[-9223372036854775808.0,1e18]}"#,
                r#"{"is":["-9223372036854775808","1000000000000000000"]}"#,
            ),
            (
                r#"{"u":18446744073709551615.0}"#,
                r#"{"u":"18446744073709551615"}"#,
            ),
            (
                r#"{"any":{"u":18446744073709551615.0,"@type":"x/N"}}"#,
                r#"{"any":{"@type":"x/N","u":"18446744073709551615"}}"#,
            ),
            (
                r#"{"[eu]":1e19,"[en]":[{"u":1e19}]}"#,
                r#"{"[eu]":"10000000000000000000","[en]":[{"u":"10000000000000000000"}]}"#,
            ),
            (
                r#"{"wu":1e3,"ws":[1.0],"map":{"1e3":1e3},"s":2.147483647e9,"f":0.0,"u":-0.0}"#,
                r#"{"wu":1000,"ws":[1],"map":{"1e3":1000},"s":2147483647,"f":0,"u":0}"#,
            ),
        ] {
            assert!(read(one).is_ok(), "{one}: {:?}", read(one));
            assert_eq!(read(one), read(other), "{one}");
        }
        // What is no integer is what it was.
        let floats = read(r#"{"i":1e0,"d":-0.0,"r":0.1,"any":{"@type":"x/N","d":1e300}}"#).unwrap();
        assert_eq!(
            read(r#"{"i":1,"d":-0.0,"r":0.1,"any":{"@type":"x/N","d":1e300}}"#),
            Ok(floats)
        );
    }

    #[test]
    fn of_a_member_given_twice_within_an_any_or_a_struct_the_last_was_taken() {
        let of = protos::pool(
            r#"syntax = "proto3"; import "google/protobuf/any.proto"; import "google/protobuf/struct.proto";
            message Step { string step_id = 1; Step next_step = 2; google.protobuf.Any any = 3; int64 n = 4; }
            message M { google.protobuf.Any any = 1; google.protobuf.Struct struct = 2; google.protobuf.Value value = 3;
              repeated google.protobuf.Any anys = 4; google.protobuf.ListValue list = 5; }"#,
        );
        let of = of.get_message_by_name("M").unwrap();
        for (twice, name) in [
            (
                r#"{"any":{"@type":"x/M","stepId":"a","@type":"x/Step"}}"#,
                "@type",
            ),
            (
                r#"{"any":{"@type":"x/Step","stepId":"a","stepId":"b"}}"#,
                "stepId",
            ),
            (
                r#"{"any":{"@type":"x/Step","stepId":"a","step_id":"b"}}"#,
                "step_id",
            ),
            (
                r#"{"any":{"step_id":"a","stepId":"b","@type":"x/Step","n":"1e3"}}"#,
                "step_id",
            ),
            (
                r#"{"any":{"@type":"x/Step","nextStep":{},"next_step":{}}}"#,
                "next_step",
            ),
            (
                r#"{"any":{"@type":"x/Step","nextStep":null,"next_step":{}}}"#,
                "next_step",
            ),
            (
                r#"{"any":{"@type":"x/Step","nextStep":{"stepId":"","step_id":""}}}"#,
                "step_id",
            ),
            (
                r#"{"anys":[{},{"@type":"x/Step","any":{"@type":"x/Step","stepId":"","step_id":""}}]}"#,
                "step_id",
            ),
            (
                r#"{"any":{"@type":"x/google.protobuf.Struct","value":{"k":1,"k":2}}}"#,
                "k",
            ),
            (r#"{"struct":{"k":1,"k":2}}"#, "k"),
            (r#"{"value":{"a":[{"k":1,"k":2}]}}"#, "k"),
            (r#"{"list":[{"k":1,"k":1}]}"#, "k"),
        ] {
            let error = json_to_message(&of, twice.as_bytes()).unwrap_err();
            assert!(
                error.contains(&format!("{name:?} is given twice")),
                "{twice}: {error}"
            );
        }
        let fine = r#"{"any":{"@type":"x/Step","stepId":"a","nextStep":{"stepId":"a"}},"struct":{"k":1,"a":{"k":1,"stepId":1,"step_id":1}}}"#;
        json_to_message(&of, fine.as_bytes()).unwrap();
    }

    #[test]
    fn texts_that_are_no_numbers_times_or_names_are_not_made_some() {
        let of = protos::pool(
            r#"syntax = "proto3"; import "google/protobuf/any.proto"; import "google/protobuf/duration.proto";
            import "google/protobuf/field_mask.proto"; import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
            message M {
              double d = 1; float f = 2; google.protobuf.DoubleValue wd = 3; repeated google.protobuf.FloatValue wf = 4;
              google.protobuf.Timestamp at = 5; google.protobuf.Duration for = 6; google.protobuf.FieldMask mask = 7;
              google.protobuf.Any any = 8; string s = 9;
            }"#,
        );
        let of = of.get_message_by_name("M").unwrap();
        let within = |member: &str| {
            let any = format!(r#"{{"any":{{{member},"@type":"x/M"}}}}"#);
            [format!("{{{member}}}"), any]
        };
        for wrong in [
            r#""d":"nan""#,
            r#""d":"INF""#,
            r#""d":"-inf""#,
            r#""d":"infinity""#,
            r#""d":"1e999""#,
            r#""f":"1e39""#,
            r#""f":"NAN""#,
            r#""wd":"inf""#,
            r#""wf":["nan"]"#,
            r#""at":"2016-12-31T23:59:60Z""#,
            r#""at":"2026-11-29T09:31:59.1234567891Z""#,
            r#""for":"1.0000000001s""#,
            r#""mask":"a,,b""#,
            r#""mask":"a b""#,
            r#""mask":"a,""#,
            r#""mask":"a..b""#,
        ] {
            for json in within(wrong) {
                let read = json_to_message(&of, json.as_bytes());
                assert!(
                    read.as_ref().is_err_and(|why| why.contains("is no ")),
                    "{json}: {read:?}"
                );
            }
        }
        for fine in [
            r#""d":"NaN","f":"-Infinity","wd":"Infinity","wf":["1e3","NaN"],"s":"nan""#,
            r#""at":"2026-11-29T09:31:59.123456789+01:00","for":"-1.000000001s","mask":"a,bC.d1""#,
            r#""mask":"""#,
        ] {
            for json in within(fine) {
                let read = json_to_message(&of, json.as_bytes());
                assert!(read.is_ok(), "{json}: {read:?}");
            }
        }
    }

    #[test]
    fn an_any_of_nothing_is_read_with_a_value_and_without_one() {
        let of = protos::pool(
            r#"syntax = "proto3"; import "google/protobuf/any.proto"; import "google/protobuf/empty.proto";
            message M { google.protobuf.Any any = 1; google.protobuf.Empty empty = 2; repeated google.protobuf.Any anys = 3; }"#,
        );
        let of = of.get_message_by_name("M").unwrap();
        let read = |json: &str| json_to_message(&of, json.as_bytes());
        let short = r#"{"@type":"type.googleapis.com/google.protobuf.Empty"}"#;
        let long = r#"{"value":{},"@type":"type.googleapis.com/google.protobuf.Empty"}"#;
        let anys = |one: &str| format!(r#"{{"any":{one},"empty":{{}},"anys":[{one}]}}"#);
        let message = read(&anys(short)).unwrap();
        assert_eq!(read(&anys(long)), Ok(message.clone()));
        // Which is what Python's parser takes.
        let written = message_to_json(&of, &message).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), anys(short));
        for wrong in [
            r#"{"any":{"@type":"x/google.protobuf.Empty","value":{"a":1}}}"#,
            r#"{"any":{"@type":"x/google.protobuf.Empty","value":1}}"#,
            r#"{"any":{"@type":"x/google.protobuf.Empty","a":1}}"#,
            r#"{"any":{"@type":"x/google.protobuf.Empty","value":{},"a":1}}"#,
            r#"{"empty":{"value":{}}}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
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
            (r#"{"i":"1e1","d":"1,5"}"#, "d \"1,5\" is no number"),
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
