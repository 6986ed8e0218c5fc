//! Elements, keys and register values of functions behind gRPC, as bytes of our entities.
//!
//! Text and byte strings stand for themselves, as they do for the command line and for functions in Rust: so all of them can share an
//! entity. Anything else is an `Any` behind a byte that no text begins with; so are byte strings that would be taken for another thing.
//!
//! Contract: one value has one form, whichever SDK wrote it: what is known to be a primitive is written anew, its default as no
//! bytes at all. Bytes of another message are never touched. Whatever bytes there are, the value that they are shown as is them.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::proto::common::Any;
use super::scan::{Raw, fields};

/// Begins what is not text: no UTF-8 has it.
const ANY: u8 = 0xff;
/// What URLs of primitives begin with.
const PRIMITIVES: [&str; 2] = ["type.kalix.io/", "p.cloudstate.io/"];

/// What URLs of JSON begin with: its text is field 1.
const JSON: [&str; 2] = ["json.kalix.io/", "json.cloudstate.io/"];

/// How a dialect names primitives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primitives {
    /// As Kalix does.
    Kalix,
    /// As Cloudstate does.
    Cloudstate,
}

impl Primitives {
    fn prefix(self) -> &'static str {
        match self {
            Primitives::Kalix => PRIMITIVES[0],
            Primitives::Cloudstate => PRIMITIVES[1],
        }
    }
}

/// A value's bytes in an entity.
pub fn encode(any: &Any) -> Bytes {
    match primitive(any) {
        Some(("string", value)) => match text(&value) {
            Some(text) => text,
            None => tagged("string", value),
        },
        Some(("bytes", value)) => {
            let is_other = |bytes: &Bytes| std::str::from_utf8(bytes).is_ok() || is_typed(bytes);
            let itself = only_field(&value).filter(|bytes| !is_other(bytes));
            itself.unwrap_or_else(|| tagged("bytes", value))
        }
        Some((name, value)) => tagged(name, value),
        None => behind_tag(any),
    }
}

/// The value of which these are the bytes; text, where somebody else wrote them who has no types.
pub fn decode(bytes: &Bytes, primitives: Primitives) -> Any {
    if let Some(any) = typed(bytes) {
        return match primitive_name(&any.type_url) {
            Some(name) => Any {
                type_url: format!("{}{name}", primitives.prefix()),
                ..any
            },
            None => any,
        };
    }
    let name = match std::str::from_utf8(bytes) {
        Ok(_) => "string",
        Err(_) => "bytes",
    };
    Any {
        type_url: format!("{}{name}", primitives.prefix()),
        value: in_field(bytes),
    }
}

/// What is behind the tag, if these bytes are of a value that has a type.
fn typed(bytes: &Bytes) -> Option<Any> {
    is_typed(bytes).then(|| Any::decode(bytes.slice(1..)).ok())?
}

/// Whether they are as [`encode`] writes a value that has a type. Others may begin with the tag too, and be no less themselves.
fn is_typed(mut bytes: &[u8]) -> bool {
    // A byte string has a tag where it would be taken for another thing: for text, or for what has a tag itself.
    while let Some(within) = byte_string(bytes) {
        if std::str::from_utf8(within).is_ok() {
            return true;
        }
        bytes = within;
    }
    let [ANY, any @ ..] = bytes else { return false };
    let is_written = |any: &Any| {
        let is_byte_string = matches!(primitive(any), Some(("bytes", _)));
        !any.type_url.is_empty() && !is_byte_string && encode(any) == bytes
    };
    Any::decode(any).is_ok_and(|any| is_written(&any))
}

/// The byte string behind the tag, if one is there, in its one form. Nothing is read but what stands before it.
fn byte_string(bytes: &[u8]) -> Option<&[u8]> {
    let [ANY, any @ ..] = bytes else { return None };
    let mut any = fields(any);
    let Some(Ok((1, Raw::Bytes(url)))) = any.next() else {
        return None;
    };
    if url.strip_prefix(PRIMITIVES[0].as_bytes()) != Some(b"bytes") {
        return None;
    }
    let within = match any.next() {
        None => &[][..],
        Some(Ok((2, Raw::Bytes(value)))) => match fields(value).next() {
            Some(Ok((1, Raw::Bytes(within)))) => within,
            _ => return None,
        },
        Some(_) => return None,
    };
    let in_field = |bytes: usize| match bytes {
        0 => 0,
        bytes => 1 + prost::encoding::encoded_len_varint(bytes as u64) + bytes,
    };
    let shortest = 1 + in_field(url.len()) + in_field(in_field(within.len()));
    (bytes.len() == shortest).then_some(within)
}

fn behind_tag(any: &Any) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + any.encoded_len());
    bytes.put_u8(ANY);
    bytes.extend_from_slice(&any.encode_to_vec());
    bytes.freeze()
}

/// Under one of the two names that it has.
fn tagged(name: &str, value: Bytes) -> Bytes {
    let type_url = format!("{}{name}", PRIMITIVES[0]);
    behind_tag(&Any { type_url, value })
}

fn primitive_name(type_url: &str) -> Option<&'static str> {
    let name = PRIMITIVES
        .iter()
        .find_map(|prefix| type_url.strip_prefix(prefix))?;
    ["string", "bytes", "int64", "bool", "double"]
        .into_iter()
        .find(|known| *known == name)
}

/// The name and the canonical value of a primitive, if it is one and nothing else.
fn primitive(any: &Any) -> Option<(&'static str, Bytes)> {
    let name = primitive_name(&any.type_url)?;
    let mut last = None;
    for field in fields(&any.value) {
        match field.ok()? {
            (1, raw) => last = Some(raw),
            _ => return None,
        }
    }
    let mut value = BytesMut::new();
    match (name, last) {
        (_, None) => {}
        ("string" | "bytes", Some(Raw::Bytes(bytes))) => return Some((name, in_field(bytes))),
        ("int64", Some(Raw::Varint(number))) => {
            if number != 0 {
                prost::encoding::int64::encode(1, &number.cast_signed(), &mut value);
            }
        }
        ("bool", Some(Raw::Varint(number))) => {
            if number != 0 {
                prost::encoding::bool::encode(1, &true, &mut value);
            }
        }
        ("double", Some(Raw::Fixed64(bits))) => {
            if bits != 0 {
                prost::encoding::double::encode(1, &f64::from_bits(bits), &mut value);
            }
        }
        _ => return None,
    }
    Some((name, value.freeze()))
}

/// A string or bytes as field 1, where there are any.
fn in_field(bytes: &[u8]) -> Bytes {
    let mut value = BytesMut::new();
    if !bytes.is_empty() {
        prost::encoding::bytes::encode(1, &Bytes::copy_from_slice(bytes), &mut value);
    }
    value.freeze()
}

/// The text of a canonical string.
fn text(value: &Bytes) -> Option<Bytes> {
    only_field(value).filter(|text| std::str::from_utf8(text).is_ok())
}

/// What a canonical string or byte string holds.
fn only_field(value: &Bytes) -> Option<Bytes> {
    match fields(value).next() {
        None => Some(Bytes::new()),
        Some(Ok((1, Raw::Bytes(bytes)))) => Some(Bytes::copy_from_slice(bytes)),
        Some(_) => None,
    }
}

/// Whether it is JSON.
pub fn is_json(any: &Any) -> bool {
    JSON.iter().any(|prefix| any.type_url.starts_with(prefix))
}

/// Whether a value is what one of its type is before anything was set: no bytes, or fields that have their defaults.
pub fn is_blank(any: &Any) -> bool {
    fn blank(message: &[u8], depth: u8) -> bool {
        fields(message).all(|field| match field {
            Ok((_, Raw::Varint(number))) => number == 0,
            Ok((_, Raw::Fixed32(bits))) => bits == 0,
            Ok((_, Raw::Fixed64(bits))) => bits == 0,
            Ok((_, Raw::Bytes(bytes))) => bytes.is_empty() || (depth > 0 && blank(bytes, depth - 1)),
            Ok((_, Raw::Group(_))) | Err(_) => false,
        })
    }
    if is_json(any) {
        let blanks = ["", "\"\"", "0", "false", "null", "{}", "[]"];
        return blanks.iter().any(|blank| in_field(blank.as_bytes()) == any.value);
    }
    // What is within is taken for a message, or for none, by its bytes alone: text is none that has only defaults.
    blank(&any.value, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: &[u8]) -> Any {
        Any {
            type_url: type_url.to_owned(),
            value: Bytes::copy_from_slice(value),
        }
    }

    #[test]
    fn text_stands_for_itself_whoever_wrote_it() {
        for prefix in PRIMITIVES {
            let apple = any(&format!("{prefix}string"), b"\x0a\x05apple");
            assert_eq!(encode(&apple), "apple");
            let empty = [
                any(&format!("{prefix}string"), b""),
                any(&format!("{prefix}string"), b"\x0a\x00"),
            ];
            assert_eq!(empty.map(|any| encode(&any)), ["", ""]);
        }
        let read = decode(&Bytes::from("apple"), Primitives::Cloudstate);
        assert_eq!(read, any("p.cloudstate.io/string", b"\x0a\x05apple"));
        assert_eq!(
            decode(&Bytes::new(), Primitives::Kalix),
            any("type.kalix.io/string", b"")
        );
    }

    #[test]
    fn one_value_has_one_form() {
        let same = [
            (("int64", &b""[..]), ("int64", &b"\x08\x00"[..])),
            (("int64", b"\x08\x05"), ("int64", b"\x08\x03\x08\x85\x00")),
            (("bool", b"\x08\x01"), ("bool", b"\x08\x02")),
            (("double", b""), ("double", b"\x09\0\0\0\0\0\0\0\0")),
            (("bytes", b"\x0a\x00"), ("bytes", b"")),
        ];
        for ((one, value), (other, others)) in same {
            let kalix = encode(&any(&format!("type.kalix.io/{one}"), value));
            let cloudstate = encode(&any(&format!("p.cloudstate.io/{other}"), others));
            assert_eq!(kalix, cloudstate, "{one} {value:?} {others:?}");
        }
        let negative_zero = any("type.kalix.io/double", b"\x09\0\0\0\0\0\0\0\x80");
        assert_ne!(encode(&negative_zero), encode(&any("type.kalix.io/double", b"")));
        let long = any("type.kalix.io/int64", b"\x08\x01");
        assert_ne!(
            encode(&long),
            encode(&any("type.kalix.io/double", b"\x09\0\0\0\0\0\0\xf0\x3f"))
        );
    }

    #[test]
    fn what_is_no_primitive_is_never_touched() {
        for value in [
            any("type.googleapis.com/shop.Item", b"\x0a\x00"),
            any("json.kalix.io/Item", b"\x0a\x02{}"),
            any("type.kalix.io/string", b"\x12\x01a"),
            any("type.kalix.io/int64", b"\x0a\x01a"),
            any("type.kalix.io/other", b"\x08\x00"),
        ] {
            assert_eq!(decode(&encode(&value), Primitives::Kalix), value);
        }
        let not_text = any("type.kalix.io/string", b"\x0a\x01\xff");
        assert_eq!(decode(&encode(&not_text), Primitives::Kalix), not_text);
    }

    #[test]
    fn bytes_that_nobody_gave_a_type_are_shown_as_bytes() {
        let raw = Bytes::from_static(&[0xfe, 1]);
        assert_eq!(
            decode(&raw, Primitives::Kalix),
            any("type.kalix.io/bytes", b"\x0a\x02\xfe\x01")
        );
        let cut = Bytes::from_static(&[ANY, 0x0a, 9, b'x']);
        assert_eq!(decode(&cut, Primitives::Kalix).type_url, "type.kalix.io/bytes");
    }

    /// Removed by a function that was shown it, it must be gone: also what is nobody's `Any` and begins like one.
    #[test]
    fn what_bytes_are_shown_as_is_written_as_the_same_bytes() {
        let picture = b"\xff\xd8\xff\xe0\x00\x10".as_slice();
        let item = any("type.googleapis.com/shop.Item", b"\x0a\x00");
        let item = encode(&item);
        let with_more = [&item[..], b"\x18\x01"].concat();
        let cloudstate = [&[ANY][..], &any("p.cloudstate.io/bool", b"").encode_to_vec()].concat();
        let not_text = [
            &[ANY][..],
            &any("type.kalix.io/bytes", b"\x0a\x01\xfe").encode_to_vec(),
        ]
        .concat();
        let twice = encode(&any(
            "type.kalix.io/bytes",
            &in_field(&encode(&any("type.kalix.io/bytes", b"\x0a\x01a"))),
        ));
        let text_behind_tag = [
            &[ANY][..],
            &any("type.kalix.io/string", b"\x0a\x01a").encode_to_vec(),
        ]
        .concat();
        for bytes in [
            &b"\xfe\x01"[..],
            picture,
            b"\xff",
            b"\xff\x18\x01",
            &with_more,
            &cloudstate,
            &text_behind_tag,
            &not_text,
            &twice,
            &item,
            b"",
            b"text",
            &encode(&any("type.kalix.io/bytes", b"\x0a\x04text")),
        ] {
            let bytes = Bytes::copy_from_slice(bytes);
            for primitives in [Primitives::Kalix, Primitives::Cloudstate] {
                let shown = decode(&bytes, primitives);
                assert!(!shown.type_url.is_empty(), "{bytes:?}");
                assert_eq!(encode(&shown), bytes, "{shown:?}");
            }
        }
        // And the other way: a function's bytes are shown as they were, whatever they look like.
        for bytes in [
            &b"\xfe"[..],
            picture,
            b"text",
            b"",
            &item,
            &cloudstate,
            &not_text,
            &twice,
            &encode(&any("type.kalix.io/bytes", b"\x0a\x01a")),
        ] {
            let value = any("type.kalix.io/bytes", &in_field(bytes));
            assert_eq!(decode(&encode(&value), Primitives::Kalix), value, "{bytes:?}");
        }
    }

    #[test]
    fn byte_strings_in_one_another_are_looked_into_as_deep_as_they_are() {
        let mut bytes = Bytes::from_static(b"text");
        for _ in 0..4_000 {
            bytes = tagged("bytes", in_field(&bytes));
        }
        assert_eq!(encode(&decode(&bytes, Primitives::Kalix)), bytes);
        let other = Bytes::from([&bytes[..], b"."].concat());
        assert_eq!(encode(&decode(&other, Primitives::Kalix)), other);
    }

    #[test]
    fn blank_is_what_has_only_defaults() {
        for value in [&b""[..], b"\x0a\x00", b"\x08\x00\x12\x02\x08\x00"] {
            assert!(is_blank(&any("x/y", value)), "{value:?}");
        }
        assert!(is_blank(&any("json.kalix.io/T", b"\x0a\x02{}")));
        assert!(!is_blank(&any("json.kalix.io/T", b"\x0a\x017")));
        for value in [&b"\x0a\x01a"[..], b"\x08\x01", b"\x12\x02\x08\x01", b"\x0a\x05"] {
            assert!(!is_blank(&any("x/y", value)), "{value:?}");
        }
    }
}
