//! A field by itself: by its JSON, where it is the body of a request, and by a text, where it is in its path or query.
//!
//! Its message has no part in it, whose JSON may be no object of its fields: a `google.protobuf.StringValue` is the bare text.
//!
//! Not here: which field it is, and whether it may be given. Contract: what is read is that field's, to the last digit.

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};
use serde::de::IgnoredAny;
use serde_json::json;

use super::json::{self, NULL, is_own_form};
use super::request::is_leaf;
use super::texts;

/// What is a number with a fraction, or null.
const FLOATS: [&str; 2] = ["google.protobuf.DoubleValue", "google.protobuf.FloatValue"];
const MASK: &str = "google.protobuf.FieldMask";

/// The value of a field by its JSON; none where that is `null`, as which a field is not there.
pub(super) fn parse(field: &FieldDescriptor, json: &[u8]) -> Result<Option<Value>, String> {
    let is_alone = !field.is_list() && !field.is_map();
    let parent = field.parent_message();
    if serde_json::from_slice::<()>(json).is_ok() && !(is_alone && has_null(&field.kind())) {
        return Ok(None);
    }
    let value = match field.kind() {
        Kind::Message(of) if is_alone => Value::Message(json::parse(&of, json)?),
        Kind::Enum(of) if is_alone && of.full_name() == NULL => null(json)?,
        kind if is_alone && let Some(wrapper) = wrapper(&kind) => unwrapped(&json::parse(&wrapper, json)?)?,
        _ if parent.full_name() == MASK => {
            let texts: Vec<String> = serde_json::from_slice(json).map_err(|e| e.to_string())?;
            Value::List(texts.into_iter().map(Value::String).collect())
        }
        // All of a `Struct` is its map, and all of a `ListValue` its list.
        _ if is_own_form(parent) => json::parse(parent, json)?.get_field(field).into_owned(),
        _ => alone(field, json)?.get_field(field).into_owned(),
    };
    Ok(Some(value))
}

/// A message that has nothing but this field.
fn alone(field: &FieldDescriptor, json: &[u8]) -> Result<DynamicMessage, String> {
    // What is around it makes one value of it only if it is one.
    serde_json::from_slice::<IgnoredAny>(json).map_err(|e| e.to_string())?;
    let name = json!(field.json_name()).to_string();
    let object = [b"{", name.as_bytes(), b":", json, b"}"].concat();
    json::parse(field.parent_message(), &object).map_err(|why| {
        // The place is one of the object.
        let place = why.rfind(" at line ").unwrap_or(why.len());
        why[..place].to_owned()
    })
}

/// Whether `null` is a value of it.
fn has_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(of) => of.full_name() == "google.protobuf.Value",
        Kind::Enum(of) => of.full_name() == NULL,
        _ => false,
    }
}

fn null(json: &[u8]) -> Result<Value, String> {
    match serde_json::from_slice::<serde_json::Value>(json) {
        Ok(value) if [json!(null), json!(0), json!("NULL_VALUE")].contains(&value) => {
            Ok(Value::EnumNumber(0))
        }
        Ok(_) => Err("expected null".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The message whose JSON is that of a value of this kind, alone.
fn wrapper(kind: &Kind) -> Option<MessageDescriptor> {
    Some(match kind {
        Kind::Double => f64::default().descriptor(),
        Kind::Float => f32::default().descriptor(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::default().descriptor(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => i64::default().descriptor(),
        Kind::Uint32 | Kind::Fixed32 => u32::default().descriptor(),
        Kind::Uint64 | Kind::Fixed64 => u64::default().descriptor(),
        Kind::Bool => bool::default().descriptor(),
        Kind::String => String::new().descriptor(),
        Kind::Bytes => Vec::<u8>::new().descriptor(),
        Kind::Message(_) | Kind::Enum(_) => return None,
    })
}

fn unwrapped(wrapper: &DynamicMessage) -> Result<Value, String> {
    let value = wrapper.get_field_by_name("value");
    Ok(value.ok_or("it has no value")?.into_owned())
}

/// The value that a text is: of a repeated field, one of its values.
pub(super) fn of_text(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    if field.is_map() {
        return Err("is a map, which only a body can have".into());
    }
    let kind = field.kind();
    let json = match &kind {
        Kind::Message(of) if !is_leaf(of) => {
            return Err("is a message: name a field of it, behind a dot".into());
        }
        Kind::Bool => boolean(text)?,
        Kind::Message(of) if of.full_name() == "google.protobuf.BoolValue" => boolean(text)?,
        Kind::Message(of) if of.full_name() == MASK => return mask(of, text),
        Kind::Float | Kind::Double => number(text)?,
        Kind::Message(of) if FLOATS.contains(&of.full_name()) => number(text)?,
        Kind::Enum(of) => return one_of(of, text).map_err(|why| format!("is {text:?}: {why}")),
        kind => {
            texts::check(kind, text).map_err(|why| format!("is wrong: {why}"))?;
            json!(text)
        }
    };
    let value = match (kind.as_message(), wrapper(&kind)) {
        (Some(of), _) => json::parse_value(of, json).map(Value::Message),
        (None, Some(wrapper)) => json::parse_value(&wrapper, json).and_then(|value| unwrapped(&value)),
        (None, None) => Err("it is no text".to_owned()),
    };
    value.map_err(|why| format!("is {text:?}: {why}"))
}

/// A value of an enum, by its name or its number.
fn one_of(of: &EnumDescriptor, text: &str) -> Result<Value, String> {
    let number = match text.parse::<i32>() {
        Ok(number) => number,
        Err(_) => match of.get_value_by_name(text) {
            Some(value) => value.number(),
            None => return Err(format!("unrecognized enum value '{text}'")),
        },
    };
    match of.full_name() == NULL && number != 0 {
        true => Err("expected null".to_owned()),
        false => Ok(Value::EnumNumber(number)),
    }
}

/// The fields that a text names, with commas between: as JSON has them (`aField.b`), or, as Google's clients do, as the messages have
/// them (`a_field.b`).
fn mask(of: &MessageDescriptor, text: &str) -> Result<Value, String> {
    let is_name = |part: &str| {
        let mut letters = part.bytes();
        !part.is_empty() && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
    };
    let paths = text.split(',').filter(|path| !path.is_empty());
    let paths = paths.map(|path| match path.split('.').all(is_name) {
        true => Ok(in_snake_case(path)),
        false => Err(format!("is {text:?}: it is names of fields, with commas between, and with dots where one is within another")),
    });
    let mask = prost_types::FieldMask {
        paths: paths.collect::<Result<_, _>>()?,
    };
    let mut message = DynamicMessage::new(of.clone());
    message.transcode_from(&mask).map_err(|e| e.to_string())?;
    Ok(Value::Message(message))
}

fn in_snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn boolean(text: &str) -> Result<serde_json::Value, String> {
    match text {
        "true" => Ok(json!(true)),
        "false" => Ok(json!(false)),
        _ => Err(format!("is {text:?}: it is true or false")),
    }
}

fn number(text: &str) -> Result<serde_json::Value, String> {
    match text.parse::<f64>() {
        // JSON has no such numbers: they are these texts there.
        _ if matches!(text, "NaN" | "Infinity" | "-Infinity") => Ok(json!(text)),
        Ok(number) if number.is_finite() => Ok(json!(number)),
        _ => Err(format!("is {text:?}: it is a number, NaN, Infinity or -Infinity")),
    }
}
