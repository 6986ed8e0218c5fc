//! Canonical JSON: the one text form of an entity's value, as `get`, `watch` and `dump` print it.
//!
//! One object a line, members in the order kind, key, value; no spaces; UTF-8 as it is, escaping only what JSON
//! must. Counters are integers, sets and the values of a multi-value register are arrays sorted by bytes, a last-writer
//! register is its one value (`null` before it was ever set), flags are booleans, a vote is an object with every node's
//! ballot by node id, a map is an object sorted by key. Bytes that are not UTF-8 are `{"base64":"..."}`; in a key, which must
//! be a string, `"base64:..."`.
//!
//! Contract: two nodes that hold the same state write the same bytes. That is why this is written by hand and does
//! not go through a serialiser whose taste in escapes, floats or member order may change.

use std::fmt::Write as _;

use anabranch_crdt::Reading;

use crate::base64;
use crate::wire::EntityId;

/// The line of one entity, without the line feed.
///
/// ```
/// use anabranch::{EntityId, Reading, json};
/// let id = EntityId::new("lines", "src/lib.rs")?;
/// assert_eq!(json::line(&id, &Reading::Count(-3)), r#"{"kind":"lines","key":"src/lib.rs","value":-3}"#);
/// # Ok::<(), anabranch::NameError>(())
/// ```
#[must_use]
pub fn line(id: &EntityId, reading: &Reading) -> String {
    let mut out = String::new();
    write_line(&mut out, id, reading);
    out
}

/// Appends what [`line()`] returns.
pub fn write_line(out: &mut String, id: &EntityId, reading: &Reading) {
    out.push_str("{\"kind\":");
    write_string(out, id.kind());
    out.push_str(",\"key\":");
    write_string(out, id.key());
    out.push_str(",\"value\":");
    write_reading(out, reading);
    out.push('}');
}

/// Appends a value alone.
pub fn write_reading(out: &mut String, reading: &Reading) {
    match reading {
        Reading::Count(n) => push(out, format_args!("{n}")),
        Reading::Elements(all) | Reading::Values(all) => {
            out.push('[');
            for (i, element) in all.iter().enumerate() {
                comma(out, i);
                write_bytes(out, element);
            }
            out.push(']');
        }
        Reading::Flag(is_enabled) => push(out, format_args!("{is_enabled}")),
        Reading::Ballots(ballots) => {
            out.push('{');
            for (i, (node, yes)) in ballots.iter().enumerate() {
                comma(out, i);
                push(out, format_args!("\"{node}\":{yes}"));
            }
            out.push('}');
        }
        Reading::Map(children) => {
            out.push('{');
            for (i, (key, child)) in children.iter().enumerate() {
                comma(out, i);
                write_key(out, key);
                out.push(':');
                // As deep as maps are nested, which is bounded.
                write_reading(out, child);
            }
            out.push('}');
        }
        Reading::Register(Some(value)) => write_bytes(out, value),
        Reading::Register(None) => out.push_str("null"),
    }
}

/// What a key that is not a string begins with.
const BASE64: &str = "base64:";

/// Appends a map's key, which JSON wants to be a string: bytes that are not UTF-8, or could be taken for such, as
/// `"base64:..."`.
fn write_key(out: &mut String, key: &[u8]) {
    match std::str::from_utf8(key) {
        Ok(text) if !text.starts_with(BASE64) => write_string(out, text),
        _ => {
            out.push('"');
            out.push_str(BASE64);
            base64::encode(out, key);
            out.push('"');
        }
    }
}

fn comma(out: &mut String, i: usize) {
    if i > 0 {
        out.push(',');
    }
}

/// Appends bytes: a string where they are UTF-8, else `{"base64":"..."}`.
pub fn write_bytes(out: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => write_string(out, text),
        Err(_) => {
            out.push_str("{\"base64\":\"");
            base64::encode(out, bytes);
            out.push_str("\"}");
        }
    }
}

/// Appends a string with its quotes, escaping the quote, the backslash and control characters below U+0020.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        // `at` is a character boundary: every escaped character is one ASCII byte.
        out.push_str(&text[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => push(out, format_args!("\\u{control:04x}")),
        }
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let written = out.write_fmt(text);
    assert!(written.is_ok(), "a String refused {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_crdt::NodeId;
    use bytes::Bytes;

    fn string(text: &str) -> String {
        let mut out = String::new();
        write_string(&mut out, text);
        out
    }

    fn reading(reading: &Reading) -> String {
        let mut out = String::new();
        write_reading(&mut out, reading);
        out
    }

    #[test]
    fn strings_escape_what_json_must_and_nothing_else() {
        assert_eq!(
            string("a/b \u{7f} é 漢 😀 \u{2028}"),
            "\"a/b \u{7f} é 漢 😀 \u{2028}\""
        );
        assert_eq!(string("\"\\\u{8}\u{c}\n\r\t"), r#""\"\\\b\f\n\r\t""#);
        assert_eq!(string("\0\u{1}\u{1f}"), r#""\u0000\u0001\u001f""#);
        assert_eq!(string(""), r#""""#);
        assert_eq!(string("é\"é"), r#""é\"é""#);
    }

    #[test]
    fn values_have_one_form_each() {
        assert_eq!(reading(&Reading::Count(i128::MIN)), i128::MIN.to_string());
        assert_eq!(reading(&Reading::Elements(vec![])), "[]");
        let elements = vec![
            Bytes::from_static(b"a"),
            Bytes::from_static(b"\xff"),
            Bytes::from_static("é".as_bytes()),
        ];
        assert_eq!(
            reading(&Reading::Elements(elements)),
            r#"["a",{"base64":"/w=="},"é"]"#
        );
        let values = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        assert_eq!(reading(&Reading::Values(values)), r#"["a","b"]"#);
        assert_eq!(reading(&Reading::Flag(true)), "true");
        let ballots = [(NodeId(255), true), (NodeId(1), false)];
        assert_eq!(
            reading(&Reading::Ballots(ballots.into())),
            r#"{"00000000000000000000000000000001":false,"000000000000000000000000000000ff":true}"#
        );
        let inner = Reading::Map([(Bytes::from_static(b"n"), Reading::Count(-1))].into());
        let children = [
            (Bytes::from_static(b"b"), Reading::Elements(vec![])),
            (Bytes::from_static(b"a"), inner),
            (Bytes::from_static(b"\xff"), Reading::Flag(false)),
            (Bytes::from_static(b"base64:"), Reading::Flag(true)),
        ];
        assert_eq!(
            reading(&Reading::Map(children.into())),
            r#"{"a":{"n":-1},"b":[],"base64:YmFzZTY0Og==":true,"base64:/w==":false}"#
        );
        assert_eq!(reading(&Reading::Register(None)), "null");
        assert_eq!(reading(&Reading::Register(Some(Bytes::new()))), r#""""#);
    }
}
