//! Percent-encoding (RFC 3986): of one segment of a path, and undone there and in a query.
//!
//! Of our own, because the library for it takes a `%` that escapes nothing for itself. Contract: `decode(encode(s)) == s` for every
//! string, and an encoded segment contains neither `/`, `?`, `#` nor a dot segment; what is no encoding of UTF-8 text is an error.

use std::fmt::Write as _;

/// A segment that stands for this text.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    // "." and ".." are the segments that clients and proxies resolve away.
    let dots_only = matches!(text, "." | "..");
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            b'.' if !dots_only => out.push('.'),
            other => {
                let written = write!(out, "%{other:02X}");
                assert!(written.is_ok(), "a String refused a byte");
            }
        }
    }
    out
}

/// Why a text cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// A percent sign without two hexadecimal digits.
    #[error("a % is not followed by two hexadecimal digits (a percent sign is written %25)")]
    Digits,
    /// The bytes are not UTF-8.
    #[error("it is not UTF-8 once its percent-encoding is undone")]
    Utf8,
}

/// What is left as it is, and what means something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A segment of a path that stands alone.
    Segment,
    /// One of several segments: an escaped slash stays escaped, so that it is no end of a segment.
    Segments,
    /// A query: a plus sign is a space.
    Query,
}

/// The text that this stands for.
pub fn decode(text: &str, place: Place) -> Result<String, Undecodable> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' if place == Place::Query => bytes.push(b' '),
            b'%' => {
                let [high, low, tail @ ..] = tail else {
                    return Err(Undecodable::Digits);
                };
                let byte = digit(*high)? << 4 | digit(*low)?;
                if byte == b'/' && place == Place::Segments {
                    bytes.extend([b'%', *high, *low]);
                } else {
                    bytes.push(byte);
                }
                rest = tail;
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| Undecodable::Utf8)
}

fn digit(ascii: u8) -> Result<u8, Undecodable> {
    match ascii {
        b'0'..=b'9' => Ok(ascii - b'0'),
        b'a'..=b'f' => Ok(ascii - b'a' + 10),
        b'A'..=b'F' => Ok(ascii - b'A' + 10),
        _ => Err(Undecodable::Digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        let all: String = (0..=0x250u32).filter_map(char::from_u32).collect();
        for text in [
            "src/lib.rs",
            ".",
            "..",
            "...",
            "a b+c%2F",
            "é/漢?x#y",
            "",
            "%",
            all.as_str(),
        ] {
            let segment = encode(text);
            assert!(!segment.contains(['/', '?', '#', ' ']), "{segment}");
            assert_eq!(decode(&segment, Place::Segment).as_deref(), Ok(text));
        }
        assert_eq!(encode("src/lib.rs"), "src%2Flib.rs");
        assert_eq!(encode(".."), "%2E%2E");
    }

    #[test]
    fn what_is_not_encoded_stands_for_itself() {
        assert_eq!(
            decode("a+b&c=d%2f%2F", Place::Segment).as_deref(),
            Ok("a+b&c=d//")
        );
        assert_eq!(decode("%252F", Place::Segment).as_deref(), Ok("%2F"));
    }

    #[test]
    fn broken_encodings_are_errors_of_a_segment() {
        for bad in ["%", "%2", "%2g", "%g2", "a%", "%+1", "%%41"] {
            assert_eq!(decode(bad, Place::Segment), Err(Undecodable::Digits), "{bad}");
        }
        assert_eq!(decode("%ff", Place::Segment), Err(Undecodable::Utf8));
        assert_eq!(decode("%C3%28", Place::Segment), Err(Undecodable::Utf8));
    }

    #[test]
    fn each_place_has_its_rules() {
        let text = "a+b%20%2F%2f%C3%A4%252F";
        assert_eq!(decode(text, Place::Segment).as_deref(), Ok("a+b //ä%2F"));
        assert_eq!(decode(text, Place::Segments).as_deref(), Ok("a+b %2F%2fä%2F"));
        assert_eq!(decode(text, Place::Query).as_deref(), Ok("a b //ä%2F"));
        assert_eq!(decode("", Place::Query).as_deref(), Ok(""));
    }

    #[test]
    fn broken_encodings_are_errors() {
        for bad in ["%", "%2", "%2g", "%g2", "a%", "%+1", "%%41", "%ä"] {
            assert_eq!(decode(bad, Place::Segment), Err(Undecodable::Digits), "{bad}");
        }
        for bad in ["%ff", "%C3%28", "%C3"] {
            assert_eq!(decode(bad, Place::Query), Err(Undecodable::Utf8), "{bad}");
        }
    }
}
