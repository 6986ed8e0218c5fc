//! The key of an entity, out of a method's input message: which fields it is made of, and its text.
//!
//! A field is part of the key where its options have number 1080 (a boolean, or a message whose field 1 is one, as functions of
//! different ages have it) or the boolean 50002. The wire says which it is, so that the descriptors need not define the option.
//!
//! Not here: the rest of the message, which goes on untouched; making up keys. Contract: the text is the same at every node and for
//! every order of fields on the wire; what two readers could take for different keys is an error.

use std::fmt::Write as _;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value};

use super::problem::Problem;
use super::scan::{Malformed, Raw, fields};

/// The option of a field, and of a method.
const KEY_OPTION: u32 = 1080;
/// What marked a field before.
const KEY_OPTION_EARLY: u32 = 50_002;
/// Within the message that the option of a field is.
const ENTITY_KEY: u32 = 1;
/// Within the message that the option of a method is, and within that.
const ENTITY: u32 = 4;
const KEY_GENERATOR: u32 = 1;
/// The only generator there is: a random UUID.
const GENERATOR_UUID: u64 = 1;
/// More fields are no key.
const KEY_FIELDS_MAX: usize = 16;
/// `options` within a field's or a method's descriptor, for places in a file.
const FIELD_OPTIONS: i32 = 8;

/// The fields of an input message that make the key, in the order of their declaration.
#[derive(Clone, Debug)]
pub struct KeyFields {
    fields: Vec<KeyField>,
    warning: Option<Problem>,
}

#[derive(Clone, Debug)]
struct KeyField {
    descriptor: FieldDescriptor,
    number: u32,
    kind: Kind,
    /// Its text where the message does not have it.
    default: String,
    /// The other fields of its `oneof`: one of them on the wire takes it away.
    rivals: Vec<u32>,
}

/// Why a message has no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is nothing to make one of.
    #[error("no field of the message has the entity key option")]
    NoField,
    /// Nothing was given.
    #[error("the entity key is empty: set {0}")]
    Empty(String),
    /// A string that is none.
    #[error("the entity key field {0} is not UTF-8")]
    NotUtf8(String),
    /// The field's number with another kind of value.
    #[error("the entity key field {0} does not have the type that its descriptor says")]
    WrongType(String),
    /// No message at all.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl KeyFields {
    /// The key fields of this input message; none is fine where a method needs no key.
    pub fn of(message: &MessageDescriptor) -> Result<KeyFields, Problem> {
        let declared = message.descriptor_proto().field.iter();
        let declared = declared.filter_map(|field| message.get_field_by_name(field.name()));
        let mut keys = Vec::new();
        for field in declared.filter(is_key) {
            if let Some(why) = unfit(&field) {
                let text = format!(
                    "the entity key field {} of {} {why}: mark a string or an integer",
                    field.name(),
                    message.full_name()
                );
                return Err(Problem::error(text, &message.parent_file(), &places(&field)));
            }
            keys.push(KeyField::new(field));
        }
        if keys.len() > KEY_FIELDS_MAX {
            let text = format!(
                "{} has {} entity key fields, at most {KEY_FIELDS_MAX} make a key",
                message.full_name(),
                keys.len()
            );
            return Err(Problem::error(text, &message.parent_file(), &[message.path()]));
        }
        let warning = ambiguous(message, &keys);
        Ok(KeyFields {
            fields: keys,
            warning,
        })
    }

    /// Whether no field is part of the key.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Their names, in the order of the key.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.descriptor.name())
    }

    /// What whoever wrote the message should know.
    pub fn warning(&self) -> Option<&Problem> {
        self.warning.as_ref()
    }

    /// The key of this message: the texts of its fields, joined with `-`.
    pub fn key(&self, message: &[u8]) -> Result<String, KeyError> {
        if self.fields.is_empty() {
            return Err(KeyError::NoField);
        }
        let mut found: Vec<Option<Raw<'_>>> = vec![None; self.fields.len()];
        for field in fields(message) {
            let (number, raw) = field?;
            for (key, found) in self.fields.iter().zip(&mut found) {
                if key.number == number {
                    *found = Some(raw);
                } else if key.rivals.contains(&number) {
                    *found = None;
                }
            }
        }
        let mut text = String::new();
        let mut is_empty = true;
        for (at, (key, found)) in self.fields.iter().zip(found).enumerate() {
            if at > 0 {
                text.push('-');
            }
            let start = text.len();
            match found {
                Some(raw) => key.write(&mut text, raw)?,
                None => text.push_str(&key.default),
            }
            is_empty &= text.len() == start;
        }
        if is_empty {
            let names: Vec<&str> = self.names().collect();
            return Err(KeyError::Empty(names.join(" or ")));
        }
        Ok(text)
    }
}

impl KeyField {
    fn new(descriptor: FieldDescriptor) -> KeyField {
        let others = |field: &FieldDescriptor| field.number() != descriptor.number();
        let rivals = descriptor
            .containing_oneof()
            .map(|oneof| oneof.fields().filter(others).map(|f| f.number()).collect());
        KeyField {
            number: descriptor.number(),
            kind: descriptor.kind(),
            default: default(&descriptor),
            rivals: rivals.unwrap_or_default(),
            descriptor,
        }
    }

    /// Appends the text of a value.
    fn write(&self, text: &mut String, raw: Raw<'_>) -> Result<(), KeyError> {
        let name = || self.descriptor.name().to_owned();
        match (&self.kind, raw) {
            (Kind::String, Raw::Bytes(bytes)) => {
                text.push_str(std::str::from_utf8(bytes).map_err(|_| KeyError::NotUtf8(name()))?);
            }
            (Kind::Bytes, Raw::Bytes(bytes)) => escape(text, bytes),
            // Of a varint that is too long for its type, the lower bits count.
            (Kind::Int32, Raw::Varint(n)) => show(text, n as i32),
            (Kind::Int64, Raw::Varint(n)) => show(text, n as i64),
            (Kind::Uint32, Raw::Varint(n)) => show(text, n as u32),
            (Kind::Uint64, Raw::Varint(n)) => show(text, n),
            (Kind::Sint32, Raw::Varint(n)) => show(text, zigzag(u64::from(n as u32)) as i32),
            (Kind::Sint64, Raw::Varint(n)) => show(text, zigzag(n)),
            (Kind::Fixed32, Raw::Fixed32(n)) => show(text, n),
            (Kind::Fixed64, Raw::Fixed64(n)) => show(text, n),
            (Kind::Sfixed32, Raw::Fixed32(n)) => show(text, n as i32),
            (Kind::Sfixed64, Raw::Fixed64(n)) => show(text, n as i64),
            (Kind::Bool, Raw::Varint(n)) => show(text, n != 0),
            (Kind::Enum(of), Raw::Varint(n)) => enumerated(text, of, n as i32),
            _ => return Err(KeyError::WrongType(name())),
        }
        Ok(())
    }
}

/// An enum's value is its name; the first, where it has several, and its number, where it has none.
fn enumerated(text: &mut String, of: &EnumDescriptor, number: i32) {
    // Not `values()`, whose order of those with the same number is another.
    let mut declared = of.enum_descriptor_proto().value.iter();
    match declared.find(|value| value.number() == number) {
        Some(value) => text.push_str(value.name()),
        None => show(text, number),
    }
}

/// Whether a key is generated for commands of this method, because its option says so.
pub fn has_generated_key(method: &MethodDescriptor) -> bool {
    let options = method.options();
    let Ok(bytes) = encoded(&options) else {
        return false;
    };
    let mut generator = 0;
    // Parts of a message that comes in several are one message.
    for option in parts(&bytes, KEY_OPTION) {
        for entity in parts(option, ENTITY) {
            for (number, raw) in fields(entity).flatten() {
                if let (KEY_GENERATOR, Raw::Varint(n)) = (number, raw) {
                    generator = n;
                }
            }
        }
    }
    generator == GENERATOR_UUID
}

fn is_key(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let Ok(bytes) = encoded(&options) else {
        return false;
    };
    let (mut is_key, mut is_early) = (false, false);
    for (number, raw) in fields(&bytes).flatten() {
        match (number, raw) {
            (KEY_OPTION, Raw::Varint(n)) => is_key = n != 0,
            (KEY_OPTION, Raw::Bytes(option)) => {
                for (number, raw) in fields(option).flatten() {
                    if let (ENTITY_KEY, Raw::Varint(n)) = (number, raw) {
                        is_key = n != 0;
                    }
                }
            }
            (KEY_OPTION_EARLY, Raw::Varint(n)) => is_early = n != 0,
            _ => {}
        }
    }
    is_key || is_early
}

pub(super) fn encoded(options: &prost_reflect::DynamicMessage) -> Result<Vec<u8>, prost::EncodeError> {
    let mut bytes = Vec::new();
    prost::Message::encode(options, &mut bytes)?;
    Ok(bytes)
}

/// The messages under a number.
pub(super) fn parts(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    fields(message).flatten().filter_map(move |(n, raw)| match raw {
        Raw::Bytes(bytes) if n == number => Some(bytes),
        _ => None,
    })
}

/// Why a field cannot be part of a key.
fn unfit(field: &FieldDescriptor) -> Option<&'static str> {
    if field.is_map() {
        return Some("is a map");
    }
    if field.is_list() {
        return Some("is repeated");
    }
    match field.kind() {
        Kind::Message(_) => Some("is a message"),
        // The same number has many texts, and many numbers that are meant to be the same are not.
        Kind::Float | Kind::Double => Some("is a floating-point number"),
        _ => None,
    }
}

/// What the text of a key field may be, as far as it matters where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    /// Anything, also nothing.
    Free,
    /// Without `-` but for the first character; never empty.
    Signed,
    /// Without `-`; never empty. So are enums, but for negative numbers without a name, which nobody means.
    Plain,
}

impl Text {
    fn of(kind: &Kind) -> Text {
        match kind {
            Kind::String | Kind::Bytes => Text::Free,
            Kind::Int32 | Kind::Int64 | Kind::Sint32 | Kind::Sint64 | Kind::Sfixed32 | Kind::Sfixed64 => {
                Text::Signed
            }
            // The others are in no key.
            _ => Text::Plain,
        }
    }
}

/// Two fields of which the key does not say where one ends and the other begins.
///
/// What has no free text in it is read from its beginning: behind a `-` that ends no text a number is negative. With one free text,
/// what is before it is read so, and what is behind it from the end; there a `-` before a number may be its sign or what joins it, which
/// the text before it decides: that of a number does not end in `-`, a free one may. Of two free texts the first may end at any `-`.
fn unclear(keys: &[KeyField]) -> Option<(&KeyField, &KeyField)> {
    let text = |key: &KeyField| Text::of(&key.kind);
    let mut free = keys.iter().filter(|key| text(key) == Text::Free);
    if let (Some(first), Some(second)) = (free.next(), free.next()) {
        return Some((first, second));
    }
    let mut pairs = keys.iter().zip(keys.iter().skip(1));
    pairs.find(|(one, next)| text(one) == Text::Free && text(next) == Text::Signed)
}

/// What is joined may say less than its parts.
fn ambiguous(message: &MessageDescriptor, keys: &[KeyField]) -> Option<Problem> {
    let (first, second) = unclear(keys)?;
    let (one, other) = (first.descriptor.name(), second.descriptor.name());
    let why = match &second.kind {
        Kind::String | Kind::Bytes => {
            "\"a-b\" and \"c\" are the same entity as \"a\" and \"b-c\": use one string, or make sure that there is no \"-\" in them"
                .to_owned()
        }
        _ => format!(
            "\"a-\" and 2 are the same entity as \"a\" and -2: declare {one} behind the other keys, or make sure that there is no \
             \"-\" at its end"
        ),
    };
    let text = format!(
        "the entity keys {one} and {other} of {} are joined with \"-\", so that {why}",
        message.full_name()
    );
    let places = places(&second.descriptor);
    Some(Problem::warning(text, &message.parent_file(), &places))
}

/// Where a field is, best first.
fn places(field: &FieldDescriptor) -> [Vec<i32>; 3] {
    let path = field.path();
    let option = |number: u32| [path, &[FIELD_OPTIONS, number as i32]].concat();
    [option(KEY_OPTION), option(KEY_OPTION_EARLY), path.to_vec()]
}

fn default(field: &FieldDescriptor) -> String {
    let mut text = String::new();
    match field.default_value() {
        Value::Bool(value) => show(&mut text, value),
        Value::I32(value) => show(&mut text, value),
        Value::I64(value) => show(&mut text, value),
        Value::U32(value) => show(&mut text, value),
        Value::U64(value) => show(&mut text, value),
        Value::String(value) => text = value,
        Value::Bytes(value) => escape(&mut text, &value),
        Value::EnumNumber(number) => {
            if let Kind::Enum(of) = field.kind() {
                enumerated(&mut text, &of, number);
            }
        }
        // No key has them.
        Value::F32(_) | Value::F64(_) | Value::Message(_) | Value::List(_) | Value::Map(_) => {}
    }
    text
}

fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn show(text: &mut String, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(text, "{value}");
}

/// Bytes as the text format of Protocol Buffers has them, without its quotes.
fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'"' | b'\'' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b' '..=b'~' => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "\\{other:03o}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DynamicMessage;
    use prost_reflect::prost::Message;

    use super::super::problem::Severity;
    use super::super::protos;
    use super::*;

    /// The message M of a file with this body.
    fn message(body: &str) -> MessageDescriptor {
        // Never with Cloudstate's, whose option has the same number.
        let head = "syntax = \"proto3\";\nimport \"kalix/annotations.proto\";\nimport \"early/entity_key.proto\";\n\n";
        let pool = protos::pool(&format!("{head}{body}"));
        pool.get_message_by_name("M").unwrap()
    }

    /// The key of a message in JSON.
    fn key(message: &MessageDescriptor, json: &str) -> Result<String, KeyError> {
        let mut json = serde_json::Deserializer::from_str(json);
        let decoded = DynamicMessage::deserialize(message.clone(), &mut json).unwrap();
        let bytes = decoded.encode_to_vec();
        KeyFields::of(message).unwrap().key(&bytes)
    }

    const KALIX: &str = "[(kalix.field).entity_key = true]";

    #[test]
    fn every_way_to_mark_a_field_is_read() {
        for (option, is_key) in [
            (KALIX, true),
            ("[(kalix.field) = { other: true entity_key: true }]", true),
            ("[(kalix.field).other = true]", false),
            ("[(kalix.field).entity_key = false]", false),
            ("[(early.entity_key) = true]", true),
            ("[(early.entity_key) = false]", false),
            ("[deprecated = true]", false),
            ("", false),
        ] {
            let m = message(&format!("message M {{ string a = 1; string b = 2 {option}; }}"));
            let keys = KeyFields::of(&m).unwrap();
            assert_eq!(
                keys.names().collect::<Vec<_>>(),
                ["b"][..usize::from(is_key)],
                "{option}"
            );
            assert_eq!(keys.is_empty(), !is_key);
        }
        let text = r#"syntax = "proto3"; import "cloudstate/entity_key.proto";
            message M { string a = 1 [(cloudstate.entity_key) = true]; string b = 2 [(cloudstate.entity_key) = false]; }"#;
        let m = protos::pool(text).get_message_by_name("M").unwrap();
        assert!(KeyFields::of(&m).unwrap().names().eq(["a"]));
    }

    #[test]
    fn an_option_that_nothing_describes_is_read_as_well() {
        let text = r#"syntax = "proto3"; message M { string id = 3; }"#;
        let mut set = prost_types::FileDescriptorSet::decode(&protos::set(&[("m.proto", text)])[..]).unwrap();
        set.file[0].message_type[0].field[0].options = Some(prost_types::FieldOptions::default());
        // The empty options are two bytes at the end of the field, which is at the end of its message.
        for option in [&b"\xc0\x43\x01"[..], b"\xc2\x43\x02\x08\x01", b"\x90\xb5\x18\x01"] {
            let mut field = set.file[0].message_type[0].field[0].encode_to_vec();
            let at = field.len() - 2;
            let place = field.windows(2).rposition(|w| w == [0x42, 0]).unwrap_or(at);
            field.splice(
                place..place + 2,
                [&[0x42, option.len() as u8][..], option].concat(),
            );
            let message = [&[0x0a, 1, b'M', 0x12, field.len() as u8][..], &field].concat();
            let file = [
                &[0x0a, 1, b'f', 0x62, 6][..],
                b"proto3",
                &[0x22, message.len() as u8],
                &message,
            ]
            .concat();
            let pool = super::super::pool::pool(&[&[0x0a, file.len() as u8][..], &file].concat()).unwrap();
            let m = pool.get_message_by_name("M").unwrap();
            assert!(KeyFields::of(&m).unwrap().names().eq(["id"]), "{option:x?}");
        }
    }

    #[test]
    fn a_key_is_the_text_of_its_field() {
        for (kind, json, text) in [
            ("string", r#""a-ä/ b""#, "a-ä/ b"),
            ("int32", "-5", "-5"),
            ("int64", "\"-9223372036854775808\"", "-9223372036854775808"),
            ("uint32", "4294967295", "4294967295"),
            ("uint64", "\"18446744073709551615\"", "18446744073709551615"),
            ("sint32", "-2147483648", "-2147483648"),
            ("sint64", "\"-9223372036854775808\"", "-9223372036854775808"),
            ("sint64", "3", "3"),
            ("fixed32", "7", "7"),
            ("fixed64", "\"8\"", "8"),
            ("sfixed32", "-9", "-9"),
            ("sfixed64", "\"-10\"", "-10"),
            ("bool", "true", "true"),
            ("E", "\"ONE\"", "ONE"),
            ("E", "\"UNO\"", "ONE"),
            ("E", "-77", "-77"),
            ("bytes", "\"YQAKDQkiJ1z/fg==\"", r#"a\000\n\r\t\"\'\\\377~"#),
        ] {
            let m = message(&format!(
                "enum E {{ option allow_alias = true; ZERO = 0; ONE = 1; UNO = 1; }} message M {{ {kind} k = 2 {KALIX}; string x = 1; }}"
            ));
            let json = format!(r#"{{"x": "other", "k": {json}}}"#);
            assert_eq!(key(&m, &json).as_deref(), Ok(text), "{kind}");
        }
    }

    #[test]
    fn what_is_absent_has_its_default() {
        for (kind, text) in [
            ("int32", "0"),
            ("sint64", "0"),
            ("fixed64", "0"),
            ("uint32", "0"),
            ("bool", "false"),
            ("E", "ZERO"),
        ] {
            let m = message(&format!(
                "enum E {{ ZERO = 0; }} message M {{ {kind} k = 1 {KALIX}; }}"
            ));
            assert_eq!(key(&m, "{}").as_deref(), Ok(text));
        }
        for (kind, default, text) in [
            ("string", "\"no-one\"", "no-one"),
            ("bytes", "\"\\001\"", "\\001"),
            ("int64", "-4", "-4"),
            ("bool", "true", "true"),
            ("E", "TWO", "TWO"),
        ] {
            let pool = protos::pool(&format!(
                "syntax = \"proto2\"; import \"kalix/annotations.proto\"; enum E {{ ONE = 1; TWO = 2; }}
                message M {{ optional {kind} k = 1 [default = {default}, (kalix.field).entity_key = true]; }}"
            ));
            let m = pool.get_message_by_name("M").unwrap();
            assert_eq!(key(&m, "{}").as_deref(), Ok(text));
        }
    }

    #[test]
    fn several_fields_are_joined_as_declared() {
        let m = message(&format!(
            "message M {{ int32 b = 9 {KALIX}; string x = 2; string a = 1 {KALIX}; bool c = 4 {KALIX}; }}"
        ));
        assert_eq!(key(&m, r#"{"a": "q", "b": 3}"#).as_deref(), Ok("3-q-false"));
        assert_eq!(key(&m, "{}").as_deref(), Ok("0--false"));
        assert_eq!(KeyFields::of(&m).unwrap().warning(), None);
        let m = message(&format!(
            "message M {{\n  string a = 1 {KALIX};\n  string b = 2 {KALIX};\n}}"
        ));
        let warning = KeyFields::of(&m).unwrap().warning().cloned().unwrap();
        assert_eq!(warning.severity, Severity::Warning);
        assert!(warning.message.contains("a and b of M"), "{warning}");
        assert_eq!(warning.location.unwrap().start_line, 6);
        assert_eq!(key(&m, r#"{"b": "q"}"#).as_deref(), Ok("-q"));
        assert_eq!(key(&m, "{}"), Err(KeyError::Empty("a or b".into())));
    }

    /// The wire bytes of a field's values: of numbers some of either sign, of texts all that are short, made of what may be between two.
    fn values(kind: &str, number: u32, tokens: &[&str]) -> Vec<Vec<u8>> {
        let mut texts = vec![String::new()];
        for _ in 0..3 {
            let ends = tokens.iter().chain(&[""]);
            let longer = ends.flat_map(|end| texts.iter().map(move |text| format!("{text}{end}")));
            texts = longer.collect();
            texts.sort();
            texts.dedup();
        }
        let mut all = Vec::new();
        let numbers = if matches!(kind, "uint32" | "bool" | "E") {
            &[0, 1][..]
        } else {
            &[0, 1, -1, 11]
        };
        match kind {
            "string" | "bytes" => all.extend(texts.iter().map(|text| {
                let mut bytes = Vec::new();
                prost::encoding::string::encode(number, text, &mut bytes);
                bytes
            })),
            _ => all.extend(numbers.iter().map(|n| {
                let mut bytes = Vec::new();
                match kind {
                    "sint32" => prost::encoding::sint32::encode(number, n, &mut bytes),
                    _ => prost::encoding::int32::encode(number, n, &mut bytes),
                }
                bytes
            })),
        }
        all
    }

    /// Whether two messages of these fields have one key.
    fn is_shared(keys: &KeyFields, kinds: &[&str]) -> bool {
        let tokens = if kinds.len() < 4 {
            &["-", "1", "true"][..]
        } else {
            &["-", "1"]
        };
        let mut messages = vec![Vec::new()];
        for (kind, number) in kinds.iter().zip(1..) {
            let values = values(kind, number, tokens);
            let with = |value: &Vec<u8>| -> Vec<Vec<u8>> {
                messages
                    .iter()
                    .map(|message| [&message[..], value].concat())
                    .collect()
            };
            messages = values.iter().flat_map(with).collect();
        }
        let mut seen = std::collections::HashSet::new();
        // What has no key at all is no entity.
        let mut texts = messages.iter().filter_map(|message| keys.key(message).ok());
        texts.any(|text| !seen.insert(text))
    }

    #[test]
    fn a_string_before_a_number_shares_its_key_with_another_and_nobody_is_warned() {
        let mut all = vec![vec![]];
        // All kinds in one, two and three fields; in four, one of each that are alike.
        for (fields, kinds) in [
            (
                1..=3,
                &["string", "bytes", "sint32", "int64", "E", "uint32", "bool"][..],
            ),
            (4..=4, &["string", "sint32", "uint32"]),
        ] {
            for count in fields {
                let shorter = all.clone().into_iter().filter(|one| one.len() + 1 == count);
                let shorter = shorter.filter(|one| one.iter().all(|kind| kinds.contains(kind)));
                all.extend(
                    shorter.flat_map(|one| kinds.iter().map(move |kind| [&one[..], &[*kind]].concat())),
                );
            }
        }
        let mut body = "enum E { ZERO = 0; } message M {}".to_owned();
        for (at, kinds) in all.iter().enumerate() {
            let fields = kinds.iter().zip(1..);
            let fields = fields.map(|(kind, number)| format!("{kind} f{number} = {number} {KALIX}; "));
            body += &format!("message M{at} {{ {} }}\n", fields.collect::<String>());
        }
        let pool = message(&body).parent_pool().clone();
        for (at, kinds) in all.iter().enumerate() {
            let of = pool.get_message_by_name(&format!("M{at}")).unwrap();
            let keys = KeyFields::of(&of).unwrap();
            let warning = keys.warning();
            assert_eq!(
                warning.is_some(),
                is_shared(&keys, kinds),
                "{kinds:?}: {warning:?}"
            );
        }
    }

    #[test]
    fn who_is_warned_of_a_string_before_a_number_is_told_which_and_what_to_do() {
        let m = message(&format!(
            "enum E {{ ZERO = 0; }} message M {{ string tenant = 1 {KALIX}; int64 site = 2 {KALIX}; E kind = 3 {KALIX}; }}"
        ));
        let told = KeyFields::of(&m).unwrap().warning().unwrap().to_string();
        assert!(
            told.contains("tenant and site of M") && told.contains("declare tenant behind"),
            "{told}"
        );
        let m = message(&format!(
            "enum E {{ ZERO = 0; }} message M {{ int64 site = 2 {KALIX}; string tenant = 1 {KALIX}; E kind = 3 {KALIX}; bool b = 4 {KALIX}; }}"
        ));
        assert!(KeyFields::of(&m).unwrap().warning().is_none());
    }

    #[test]
    fn the_last_on_the_wire_counts() {
        let m = message(&format!(
            "message M {{ oneof which {{ string a = 1 {KALIX}; string b = 2; }} optional int32 n = 3 {KALIX}; }}"
        ));
        let keys = KeyFields::of(&m).unwrap();
        let key = |bytes: &[u8]| keys.key(bytes).unwrap();
        assert_eq!(key(b"\x0a\x01x\x18\x05\x0a\x01y\x18\x06"), "y-6");
        // Another of the oneof takes it away, and it comes back.
        assert_eq!(key(b"\x0a\x01x\x12\x01y"), "-0");
        assert_eq!(key(b"\x12\x01y\x0a\x01x"), "x-0");
        // Fields and groups that nobody knows are passed over, whatever is in them.
        assert_eq!(key(b"\x0a\x01x\x23\x0a\x01z\x24\x2d\x01\x02\x03\x04"), "x-0");
        // Negative numbers have ten bytes; what is more than 32 bits is cut off.
        assert_eq!(
            key(b"\x0a\x01x\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            "x--1"
        );
        assert_eq!(key(b"\x0a\x01x\x18\x81\x80\x80\x80\x10"), "x-1");
    }

    #[test]
    fn what_is_no_key_is_an_error() {
        let m = message(&format!("message M {{ string a = 1 {KALIX}; int32 n = 2; }}"));
        let keys = KeyFields::of(&m).unwrap();
        assert_eq!(keys.key(b""), Err(KeyError::Empty("a".into())));
        assert_eq!(keys.key(b"\x0a\x00"), Err(KeyError::Empty("a".into())));
        assert_eq!(keys.key(b"\x0a\x02\xc3\x28"), Err(KeyError::NotUtf8("a".into())));
        assert_eq!(keys.key(b"\x08\x01"), Err(KeyError::WrongType("a".into())));
        assert!(matches!(keys.key(b"\x0a\x05x"), Err(KeyError::Malformed(_))));
        assert!(matches!(keys.key(b"\x0a\x01x\x10"), Err(KeyError::Malformed(_))));
        assert!(matches!(keys.key(b"\x0a\x01x\x07"), Err(KeyError::Malformed(_))));
        let none = message("message M { string a = 1; }");
        assert_eq!(KeyFields::of(&none).unwrap().key(b""), Err(KeyError::NoField));
    }

    #[test]
    fn fields_that_make_no_key_are_told_with_their_place() {
        for (field, why) in [
            ("repeated string k = 1", "is repeated"),
            ("map<string, string> k = 1", "is a map"),
            ("M k = 1", "is a message"),
            ("double k = 1", "is a floating-point number"),
            ("float k = 1", "is a floating-point number"),
        ] {
            let m = message(&format!("message M {{\n  {field} {KALIX};\n}}"));
            let problem = KeyFields::of(&m).unwrap_err();
            assert_eq!(problem.severity, Severity::Error);
            assert!(problem.message.contains("field k of M"), "{problem}");
            assert!(problem.message.contains(why), "{problem}");
            assert_eq!(problem.location.unwrap().start_line, 5);
        }
        let many: String = (1..=KEY_FIELDS_MAX + 1)
            .map(|n| format!("int32 f{n} = {n} {KALIX};"))
            .collect();
        let m = message(&format!("message M {{ {many} }}"));
        assert!(KeyFields::of(&m).is_err());
    }

    #[test]
    fn methods_say_whether_their_key_is_generated() {
        let pool = protos::pool(
            r#"syntax = "proto3"; import "kalix/annotations.proto";
            message M {}
            service S {
              rpc A(M) returns (M) { option (kalix.method).entity.key_generator = 1; }
              rpc B(M) returns (M) { option (kalix.method).entity.key_generator = 2; }
              rpc C(M) returns (M) { option (kalix.method).note = "x"; }
              rpc D(M) returns (M);
            }"#,
        );
        let service = pool.get_service_by_name("S").unwrap();
        let generated: Vec<bool> = service.methods().map(|m| has_generated_key(&m)).collect();
        assert_eq!(generated, [true, false, false, false]);
    }
}
