//! Texts that JSON has for what is no text, and that the library takes for more, or for something else, than they say.
//!
//! Not here: how they are read, which is the library's. Contract: what the rules of Protocol Buffers allow is taken.

use prost_reflect::Kind;

const DOUBLE: &str = "DoubleValue";
const FLOAT: &str = "FloatValue";
/// Digits behind a second's point.
const NANOS_DIGITS_MAX: usize = 9;

/// That the text is one that such a field may have, as far as the library does not look itself.
pub(super) fn check(kind: &Kind, text: &str) -> Result<(), String> {
    let name = match kind {
        Kind::Double => DOUBLE,
        Kind::Float => FLOAT,
        Kind::Message(of) => match of.full_name().strip_prefix("google.protobuf.") {
            Some(name) => name,
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let why = match name {
        DOUBLE => number(text.parse::<f64>().is_ok_and(f64::is_finite), text),
        FLOAT => number(text.parse::<f32>().is_ok_and(f32::is_finite), text),
        "Timestamp" if text.get(17..19) == Some("60") => Some("it has no leap seconds"),
        "Timestamp" | "Duration" => nanos(text),
        "FieldMask" => mask(text),
        _ => None,
    };
    let name = if [DOUBLE, FLOAT].contains(&name) {
        "number"
    } else {
        name
    };
    match why {
        None => Ok(()),
        Some(why) => Err(format!("{text:?} is no {name}: {why}")),
    }
}

/// The library takes `nan` and `INF`, too, and what is too large for infinite.
fn number(is_finite: bool, text: &str) -> Option<&'static str> {
    let is_fine = is_finite || matches!(text, "NaN" | "Infinity" | "-Infinity");
    (!is_fine).then_some("such are NaN, Infinity and -Infinity beside those with digits")
}

/// Further digits the library drops.
fn nanos(text: &str) -> Option<&'static str> {
    let (_, fraction) = text.split_once('.')?;
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    (digits > NANOS_DIGITS_MAX).then_some("it has nanoseconds at most, nine digits behind the point")
}

/// The library takes what is between commas for a name, whatever that is, unless it is nothing.
fn mask(text: &str) -> Option<&'static str> {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let is_path = |path: &str| path.split('.').all(is_name);
    let is_fine = text.is_empty() || text.split(',').all(is_path);
    (!is_fine)
        .then_some("it is names of fields, with commas between, and with dots where one is within another")
}
