//! What fits into the head and the tail of an answer.
//!
//! Clients of gRPC take a few KiB of headers: beyond that they lose the call's code, or the connection with every other call on it.
//! So a description is cut, and what a function says beside its reply is left out where there is no more room for it.
//!
//! Not here: bodies, which may be long. Contract: a code always arrives; a cut is seen, and falls between two characters.

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::metadata::{Ascii, Binary, MetadataKey, MetadataMap, MetadataValue};

use super::call::is_own;
use crate::sidecar::SESSION_HEADER;
use crate::sidecar::proto::common::{MetadataEntry, MetadataValue as Entry};
use crate::wire::Token;

/// Bytes of the headers that are said beside a reply, as HTTP/2 counts them. Clients on gRPC's C core take 8 KiB of all.
const HEADERS_BYTES_MAX: usize = 7 << 10;
/// What HTTP/2 counts for a header beside its name and its value.
const HEADER_BYTES: usize = 32;
/// Bytes of a description, percent-encoded.
const DESCRIPTION_BYTES_MAX: usize = 4 << 10;
const DESCRIPTION: HeaderName = HeaderName::from_static("grpc-message");
/// What a description ends with that was cut: percent-encoded, " ... (cut)".
const CUT: &str = "%20...%20(cut)";

/// What else a session may have seen by the time that a call is answered: runs of nodes in the shards that it touched.
const SPARE_BYTES: usize = 256;

/// Whether a session that has seen this might not fit behind a call any more.
pub(super) fn is_full(session: &Token) -> bool {
    let bytes = SESSION_HEADER.len() + session.to_string().len() + HEADER_BYTES;
    bytes + SPARE_BYTES > HEADERS_BYTES_MAX
}

/// What was said beside a reply, as headers.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub headers: HeaderMap,
    /// The name of the first of what was left out for want of room.
    pub left_out: Option<String>,
    /// The same of what is no header, by its name or its text.
    pub unsayable: Option<String>,
}

/// What was said beside a reply, and what its caller has seen then, as far as it fits.
pub(super) fn said<'a>(
    metadata: impl IntoIterator<Item = &'a MetadataEntry>,
    session: Option<&Token>,
) -> Said {
    let mut headers = MetadataMap::new();
    let mut left = HEADERS_BYTES_MAX;
    let mut has_room = |name: &str, value: usize| {
        let rest = left.checked_sub(name.len() + value + HEADER_BYTES);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    // Of a session there is one that fits, or it was refused before the call; without one nothing was promised.
    if let Some(token) = session.map(Token::to_string)
        && has_room(SESSION_HEADER, token.len())
        && let Ok(value) = token.parse()
    {
        headers.insert(SESSION_HEADER, value);
    }
    let (mut left_out, mut unsayable) = (None, None);
    let is_others =
        |entry: &&MetadataEntry| !is_own(&entry.key) && !entry.key.eq_ignore_ascii_case(SESSION_HEADER);
    for entry in metadata.into_iter().filter(is_others) {
        if entry.value.is_none() {
            continue;
        }
        let Some(header) = Header::of(entry) else {
            unsayable.get_or_insert_with(|| entry.key.clone());
            continue;
        };
        if !has_room(&entry.key, header.value_bytes()) {
            left_out.get_or_insert_with(|| entry.key.clone());
            continue;
        }
        match header {
            Header::Text(key, value) => _ = headers.append(key, value),
            Header::Bytes(key, value) => _ = headers.append_bin(key, value),
        }
    }
    Said {
        headers: headers.into_headers(),
        left_out,
        unsayable,
    }
}

/// A header of gRPC's.
enum Header {
    Text(MetadataKey<Ascii>, MetadataValue<Ascii>),
    Bytes(MetadataKey<Binary>, MetadataValue<Binary>),
}

impl Header {
    /// None: what was said cannot be one.
    fn of(entry: &MetadataEntry) -> Option<Header> {
        let name = entry.key.as_bytes();
        match entry.value.as_ref()? {
            // The library lets bytes beyond ASCII through, and gRPC's clients do not agree on what they are, or drop the answer.
            Entry::Text(text) if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => None,
            Entry::Text(text) => Some(Header::Text(
                MetadataKey::from_bytes(name).ok()?,
                text.parse().ok()?,
            )),
            Entry::Bytes(bytes) => {
                let value = MetadataValue::from_bytes(bytes);
                Some(Header::Bytes(MetadataKey::from_bytes(name).ok()?, value))
            }
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Header::Text(_, value) => value.as_encoded_bytes().len(),
            Header::Bytes(_, value) => value.as_encoded_bytes().len(),
        }
    }
}

/// An answer over gRPC whose description fits, wherever it is; `on_cut` hears if it did not.
pub(super) fn described(mut response: Response<Body>, on_cut: impl Fn() + Send + 'static) -> Response<Body> {
    if cut_description(response.headers_mut()) {
        on_cut();
    }
    response.map(|body| {
        Body::new(body.map_frame(move |mut frame| {
            if frame.trailers_mut().is_some_and(cut_description) {
                on_cut();
            }
            frame
        }))
    })
}

/// Whether it had to be cut.
fn cut_description(headers: &mut HeaderMap) -> bool {
    let cut = headers.get(DESCRIPTION).and_then(|value| cut(value.as_bytes()));
    let Some(Ok(value)) = cut.map(HeaderValue::try_from) else {
        return false;
    };
    headers.insert(DESCRIPTION, value);
    true
}

/// The beginning of a text that is percent-encoded, where it is too long.
fn cut(encoded: &[u8]) -> Option<Vec<u8>> {
    if encoded.len() <= DESCRIPTION_BYTES_MAX {
        return None;
    }
    let mut end = DESCRIPTION_BYTES_MAX - CUT.len();
    while !is_boundary(encoded, end) {
        end -= 1;
    }
    Some([&encoded[..end], CUT.as_bytes()].concat())
}

/// Whether a character begins there.
fn is_boundary(encoded: &[u8], at: usize) -> bool {
    let is_escape = |at: usize| encoded.get(at) == Some(&b'%');
    // Within an escape.
    if at > 0 && (is_escape(at - 1) || (at > 1 && is_escape(at - 2))) {
        return false;
    }
    // The further bytes of a character are 0x80 to 0xBF.
    let continues = |digit: &u8| matches!(digit, b'8' | b'9' | b'A' | b'B' | b'a' | b'b');
    !(is_escape(at) && encoded.get(at + 1).is_some_and(continues))
}

#[cfg(test)]
mod tests {
    use anabranch_crdt::{Epoch, NodeId, ReplicaId};
    use tonic::Status;

    use super::*;
    use crate::wire::ShardId;

    fn entry(key: &str, value: &str) -> MetadataEntry {
        MetadataEntry {
            key: key.to_owned(),
            value: Some(Entry::Text(value.to_owned())),
        }
    }

    /// What a client reads of this description.
    fn read(text: &str) -> (usize, String, bool) {
        let status = Status::not_found(text);
        let mut headers = status.into_http::<Body>().into_parts().0.headers;
        let is_cut = cut_description(&mut headers);
        let encoded = headers[DESCRIPTION].len();
        let read = Status::from_header_map(&headers).unwrap();
        assert_eq!(read.code(), tonic::Code::NotFound);
        (encoded, read.message().to_owned(), is_cut)
    }

    #[test]
    fn a_description_is_cut_between_characters_and_says_so() {
        let whole = "x".repeat(DESCRIPTION_BYTES_MAX);
        assert_eq!(read(&whole), (whole.len(), whole.clone(), false));
        for unit in ["x", "é", "€", "🦀", " ", "%", "%41", "a\n🦀"] {
            for before in ["", "y", "yy", "%"] {
                let text = before.to_owned() + &unit.repeat(DESCRIPTION_BYTES_MAX + 1);
                let (encoded, message, is_cut) = read(&text);
                assert!(is_cut && encoded <= DESCRIPTION_BYTES_MAX, "{unit}: {encoded}");
                assert!(
                    encoded > DESCRIPTION_BYTES_MAX - CUT.len() - 12,
                    "{unit}: {encoded}"
                );
                let beginning = message.strip_suffix(" ... (cut)").expect(unit);
                assert!(text.starts_with(beginning), "{unit}: {beginning}");
            }
        }
    }

    #[test]
    fn a_session_is_full_before_what_it_has_seen_does_not_fit() {
        let mut session = Token::default();
        for shard in 0..u32::MAX {
            let fits = said([], Some(&session)).headers.contains_key(SESSION_HEADER);
            assert!(fits, "it has seen {shard} shards");
            if is_full(&session) {
                assert!(shard > 100);
                return;
            }
            let replica = ReplicaId::new(NodeId(u128::from(shard % 3) << 100), Epoch(1 << 60));
            session.insert(ShardId(shard), replica, u64::MAX);
        }
    }

    #[test]
    fn what_does_not_fit_beside_a_reply_is_left_out() {
        let (long, full) = (
            "x".repeat(HEADERS_BYTES_MAX),
            "y".repeat(HEADERS_BYTES_MAX - 2 * (HEADER_BYTES + 1) - 1),
        );
        let all = [
            entry("a", "1"),
            entry("b", &long),
            entry("c", &full),
            entry("d", ""),
        ];
        let said = said(&all, None);
        let names: Vec<&str> = said.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(said.left_out.as_deref(), Some("b"));
        let bytes =
            |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + HEADER_BYTES;
        assert_eq!(said.headers.iter().map(bytes).sum::<usize>(), HEADERS_BYTES_MAX);
    }

    #[test]
    fn what_fits_is_said_but_for_what_is_the_protocols() {
        let bytes = MetadataEntry {
            key: "x-bin".to_owned(),
            value: Some(Entry::Bytes(bytes::Bytes::from_static(b"\0\xff"))),
        };
        let all = [
            entry("X-A", "1"),
            entry("x-a", "2"),
            bytes,
            entry("grpc-status", "0"),
            // Nothing of what goes out beside it is packed.
            entry("Content-Encoding", "gzip"),
            entry(SESSION_HEADER, "mine"),
            entry("_kalix-http-code", "203"),
            entry("_Kalix-Http-Code", "203"),
        ];
        let said = said(&all, Some(&Token::default()));
        assert_eq!((said.left_out, said.unsayable), (None, None));
        let all: Vec<_> = said.headers.get_all("x-a").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(said.headers["x-bin"], "AP8");
        assert_eq!(said.headers[SESSION_HEADER], Token::default().to_string());
        assert_eq!(said.headers.len(), 4);
    }

    #[test]
    fn what_is_no_header_is_left_out_and_named() {
        for (name, text) in [
            ("x b", "1"),
            ("é", "1"),
            ("x-c", "a\nb"),
            ("x-c", "a\tb"),
            ("x-c", "caf\u{e9}"),
            ("x-c", "\u{7f}"),
            ("x-bin", "1"),
        ] {
            let all = [entry("a", "1"), entry(name, text), entry("b", " ~")];
            let said = said(&all, None);
            assert_eq!(said.unsayable.as_deref(), Some(name), "{text:?}");
            assert_eq!(said.left_out, None);
            let names: Vec<&str> = said.headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["a", "b"]);
        }
        // What says nothing is nothing.
        let nothing = MetadataEntry {
            key: "a".to_owned(),
            value: None,
        };
        assert_eq!(said(&[nothing], None).unsayable, None);
    }
}
