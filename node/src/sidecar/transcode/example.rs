//! An example of a message in JSON, for people to try a method with.
//!
//! Contract: it can be read as that message, and is small however large the message may be.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

/// Messages within messages.
const DEPTH_MAX: usize = 3;
/// Fields of all messages.
const FIELDS_MAX: usize = 40;

/// An example without some of its fields, and with some others, however many there are.
pub(super) fn example(
    of: &MessageDescriptor,
    without: &[FieldDescriptor],
    with: &[FieldDescriptor],
) -> Value {
    let mut example = message(of, &[without, with].concat(), 0, &mut FIELDS_MAX.clone());
    if let Value::Object(object) = &mut example {
        let with = with.iter().filter(|field| !without.contains(field));
        object.extend(with.map(|field| (field.json_name().to_owned(), of_field(field))));
    }
    example
}

/// A text of a field, for a path.
pub(super) fn text(field: &FieldDescriptor) -> String {
    match (field.kind(), single(field, DEPTH_MAX, &mut 0)) {
        (Kind::String, _) => "1".to_owned(),
        (_, Value::String(text)) => text,
        (_, other) => other.to_string(),
    }
}

fn message(of: &MessageDescriptor, without: &[FieldDescriptor], depth: usize, left: &mut usize) -> Value {
    if let Some(known) = well_known(of.full_name()) {
        return known;
    }
    let mut object = Map::new();
    if depth >= DEPTH_MAX {
        return object.into();
    }
    for field in of.fields().filter(|field| !without.contains(field)) {
        // Of a oneof there is one: the first, if it is not somewhere else.
        let mut of_oneof = field
            .containing_oneof()
            .into_iter()
            .flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
        if of_oneof.any(|other| without.contains(&other) || other.number() < field.number()) {
            continue;
        }
        let Some(fewer) = left.checked_sub(1) else {
            break;
        };
        *left = fewer;
        object.insert(field.json_name().to_owned(), value(&field, depth, left));
    }
    object.into()
}

/// An example of one field alone.
pub(super) fn of_field(field: &FieldDescriptor) -> Value {
    value(field, 0, &mut FIELDS_MAX.clone())
}

fn value(field: &FieldDescriptor, depth: usize, left: &mut usize) -> Value {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let key = match entry.map_entry_key_field().kind() {
            Kind::String => "key",
            Kind::Bool => "true",
            _ => "1",
        };
        return json!({ key: single(&entry.map_entry_value_field(), depth, left) });
    }
    let single = single(field, depth, left);
    if field.is_list() { json!([single]) } else { single }
}

fn single(field: &FieldDescriptor, depth: usize, left: &mut usize) -> Value {
    match field.kind() {
        Kind::Double | Kind::Float => json!(1.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => json!(1),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => json!("1"),
        Kind::Bool => json!(true),
        Kind::String => json!("text"),
        Kind::Bytes => json!("Ynl0ZXM="),
        Kind::Enum(of) if of.full_name() == "google.protobuf.NullValue" => Value::Null,
        Kind::Enum(of) => {
            let set = of.values().find(|value| value.number() != 0);
            json!(
                set.or_else(|| of.values().next())
                    .map(|value| value.name().to_owned())
            )
        }
        Kind::Message(of) => message(&of, &[], depth + 1, left),
    }
}

fn well_known(name: &str) -> Option<Value> {
    Some(match name.strip_prefix("google.protobuf.")? {
        // What is in it nobody knows, and it is not there where it is null.
        "Any" => Value::Null,
        "Timestamp" => json!("2030-01-01T00:00:00Z"),
        "Duration" => json!("1.500s"),
        "FieldMask" => json!("name"),
        "Struct" | "Empty" => json!({}),
        "ListValue" => json!([]),
        "Value" | "StringValue" => json!("text"),
        "BytesValue" => json!("Ynl0ZXM="),
        "BoolValue" => json!(true),
        "FloatValue" | "DoubleValue" => json!(1.5),
        "Int32Value" | "UInt32Value" => json!(1),
        "Int64Value" | "UInt64Value" => json!("1"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::protos;
    use super::super::json::json_to_message;
    use super::*;

    #[test]
    fn an_example_is_such_a_message() {
        let pool = protos::pool(
            r#"syntax = "proto3";
            import "google/protobuf/any.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/empty.proto";
            import "google/protobuf/field_mask.proto"; import "google/protobuf/struct.proto";
            import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
            enum E { ZERO = 0; ONE = 1; }
            message Known {
              google.protobuf.Any any = 1; google.protobuf.Timestamp at = 2; google.protobuf.Duration for = 3;
              google.protobuf.FieldMask mask = 4; google.protobuf.Struct struct = 5; google.protobuf.Empty empty = 6;
              google.protobuf.ListValue list = 7; google.protobuf.Value value = 8; google.protobuf.NullValue null = 9;
              google.protobuf.StringValue s = 10; google.protobuf.BytesValue by = 11; google.protobuf.BoolValue b = 12;
              google.protobuf.FloatValue f = 13; google.protobuf.UInt32Value u = 14; google.protobuf.Int64Value i = 15;
            }
            message All {
              string id = 1; sint32 n = 2; fixed64 big = 3; float f = 4; bool b = 5; bytes by = 6; E e = 7;
              repeated E es = 8; map<bool, All> m = 9; map<uint64, string> n2 = 10; map<string, Known> k = 11;
              oneof o { string x = 12; int32 y = 13; } optional string maybe = 14; All all = 15; Known known = 16;
            }
            message Small { string id = 1; string product_id = 2; int64 quantity = 3; repeated string tags = 4; }"#,
        );
        for name in ["All", "Known", "Small"] {
            let of = pool.get_message_by_name(name).unwrap();
            let json = example(&of, &[], &[]).to_string();
            assert!(json.len() < 2_000, "{json}");
            assert_eq!(
                json_to_message(&of, json.as_bytes()).map(|_| ()),
                Ok(()),
                "{json}"
            );
        }
        let of = pool.get_message_by_name("Small").unwrap();
        let id = of.get_field_by_name("id").unwrap();
        assert_eq!(
            example(&of, &[id], &[]).to_string(),
            r#"{"productId":"text","quantity":"1","tags":["text"]}"#
        );
    }
}
