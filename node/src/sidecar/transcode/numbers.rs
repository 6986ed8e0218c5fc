//! Numbers in JSON as their text says them.
//!
//! Why: JSON's parser has an integer with a point or an exponent, or of more than 64 bits, as a floating point number, and the library
//! takes that for the nearest integer there is: 2^64 for 2^64 - 1. Here what is an integer of 64 bits is written as one first, so that
//! whatever still is a floating point number is none.
//!
//! Not here: which fields are integers (`read`). Contract: the same JSON, but for how its numbers are written; no number becomes longer
//! than [`DIGITS_MAX`] and a sign.

use prost_reflect::Kind;

/// Digits of an integer.
const DIGITS_MAX: usize = 20;

/// Whether a field is an integer, or several.
pub(super) fn is_integer(kind: &Kind) -> bool {
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

/// JSON in which each number that is an integer of 64 bits is written as one. What is no JSON stays what it is.
pub(super) fn exact(json: &[u8]) -> Vec<u8> {
    let mut exact = Vec::with_capacity(json.len());
    let mut rest = json;
    let begins = |byte: &u8| matches!(byte, b'"' | b'-' | b'0'..=b'9');
    while let Some(at) = rest.iter().position(begins) {
        let (before, token) = rest.split_at(at);
        exact.extend_from_slice(before);
        let is_text = token.first() == Some(&b'"');
        let len = if is_text {
            text_len(token)
        } else {
            number_len(token)
        };
        let (token, after) = token.split_at(len);
        match (!is_text).then(|| written(token)).flatten() {
            Some(digits) => exact.extend_from_slice(digits.as_bytes()),
            None => exact.extend_from_slice(token),
        }
        rest = after;
    }
    exact.extend_from_slice(rest);
    exact
}

/// Bytes of a text with its quotes; all there are where it does not end.
fn text_len(from: &[u8]) -> usize {
    let mut is_escaped = false;
    let ends = |byte: &u8| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    };
    from.iter().skip(1).position(ends).map_or(from.len(), |at| at + 2)
}

fn number_len(from: &[u8]) -> usize {
    let is_of = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    from.iter().take_while(|byte| is_of(byte)).count()
}

/// A number as an integer, where it is one of 64 bits and not written so.
fn written(number: &[u8]) -> Option<String> {
    if !number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return None;
    }
    let digits = integer(std::str::from_utf8(number).ok()?)?;
    // Of 0 a floating point number has two, and -0.0 is not to become the other.
    let is_kept = digits == "0" && number.starts_with(b"-");
    let is_of_64_bits = digits.parse::<i64>().is_ok() || digits.parse::<u64>().is_ok();
    (is_of_64_bits && !is_kept).then_some(digits)
}

/// The digits of an integer that a number with a point or an exponent is, exactly.
pub(super) fn integer(text: &str) -> Option<String> {
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
    use super::*;

    #[test]
    fn what_is_an_integer_is_written_as_one_and_all_else_stays() {
        for (json, is) in [
            ("1e3", "1000"),
            (
                r#"{"a":1.0,"b":[-1.20E1,18446744073709551615.0],"1e3":"1e3"}"#,
                r#"{"a":1,"b":[-12,18446744073709551615],"1e3":"1e3"}"#,
            ),
            (r#"["\"1e3", "\\",1e3]"#, r#"["\"1e3", "\\",1000]"#),
            (
                "[9007199254740993.0,9.223372036854775808e18]",
                "[9007199254740993,9223372036854775808]",
            ),
            ("[0.0,0e9,-0.0,-0e1,0,-0]", "[0,0,-0.0,-0e1,0,-0]"),
        ] {
            assert_eq!(String::from_utf8(exact(json.as_bytes())).unwrap(), is);
        }
        for same in [
            "",
            "{}",
            "[1.5,1e-3,18446744073709551616,18446744073709551616.0,-9223372036854775809.0,1e20,1e999]",
            "\"1.0",
            "\"\\",
            "1e",
            "1.0.0",
            "-",
        ] {
            assert_eq!(String::from_utf8(exact(same.as_bytes())).unwrap(), same);
        }
    }
}
