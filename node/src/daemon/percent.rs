//! Percent-encoding of one path segment (RFC 3986), for kinds and keys in the HTTP API's paths.
//!
//! Contract: `decode(encode(s)) == s` for every string, and an encoded segment contains neither `/`, `?`, `#` nor a
//! dot segment. `+` is a plus sign: the rule that it is a space belongs to forms, not to paths.

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

/// Why a segment could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A percent sign without two hexadecimal digits.
    #[error("a % in the path is not followed by two hexadecimal digits")]
    Digits,
    /// The bytes are not UTF-8.
    #[error("the path is not UTF-8 once its percent-encoding is undone")]
    Utf8,
}

/// The text that a segment stands for.
pub fn decode(segment: &str) -> Result<String, DecodeError> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return Err(DecodeError::Digits);
        };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| DecodeError::Utf8)
}

fn digit(ascii: u8) -> Result<u8, DecodeError> {
    match ascii {
        b'0'..=b'9' => Ok(ascii - b'0'),
        b'a'..=b'f' => Ok(ascii - b'a' + 10),
        b'A'..=b'F' => Ok(ascii - b'A' + 10),
        _ => Err(DecodeError::Digits),
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
            assert_eq!(decode(&segment).as_deref(), Ok(text));
        }
        assert_eq!(encode("src/lib.rs"), "src%2Flib.rs");
        assert_eq!(encode(".."), "%2E%2E");
    }

    #[test]
    fn what_is_not_encoded_stands_for_itself() {
        assert_eq!(decode("a+b&c=d%2f%2F").as_deref(), Ok("a+b&c=d//"));
        assert_eq!(decode("%252F").as_deref(), Ok("%2F"));
    }

    #[test]
    fn broken_encodings_are_errors() {
        for bad in ["%", "%2", "%2g", "%g2", "a%", "%+1", "%%41"] {
            assert_eq!(decode(bad), Err(DecodeError::Digits), "{bad}");
        }
        assert_eq!(decode("%ff"), Err(DecodeError::Utf8));
        assert_eq!(decode("%C3%28"), Err(DecodeError::Utf8));
    }
}
