//! What a request says its body is, where that is not what is read: packed, or in another charset.

use http::{HeaderMap, header};

/// The charset that a content type names, unless that is what JSON is in.
pub fn foreign_charset(content_type: &str) -> Option<&str> {
    let parameters = content_type.split(';').skip(1);
    let mut parameters = parameters.filter_map(|part| part.split_once('='));
    let charset = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let charset = charset.map(|(_, charset)| charset.trim().trim_matches('"'));
    // What else utf-8 is called, and what is a part of it.
    let is_ours = |charset: &str| {
        let names = ["utf-8", "utf8", "us-ascii", ""];
        names.iter().any(|name| charset.eq_ignore_ascii_case(name))
    };
    charset.filter(|charset| !is_ours(charset))
}

/// That a body is as it is: nothing here unpacks it.
///
/// # Errors
/// What it is said to be.
pub fn check_encoding(headers: &HeaderMap) -> Result<(), String> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match encodings.find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(encoding) => Err(format!(
            "the content encoding of the body is {encoding:?}: send it as it is"
        )),
    }
}

/// Why a body of JSON is in a charset that JSON is not in.
pub fn no_charset(charset: &str) -> String {
    let shown: String = charset.chars().take(80).collect();
    format!("the charset of the body is {shown:?}: JSON is utf-8")
}
