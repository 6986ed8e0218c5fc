//! CBOR (RFC 8949): a value with what it is beside it, so that a number is read as the number that it was, or not at all. Structs go
//! with the names of their fields, enums with those of their variants.
//!
//! Contract: reading takes no more of the stack than [`DEPTH_MAX`] says, and asks for no more memory than what is there could fill.

use std::fmt::Display;

use bytes::Bytes;
use ciborium::{de, ser};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Written, scalar};

/// Lists and maps within one another: at most so many, which is the decoder's own limit.
const DEPTH_MAX: usize = 256;

/// What messages of at most so many bytes are read by lies on the stack.
const SHORT: usize = 128;

/// A value's bytes.
pub(super) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, String> {
    let mut written = Written::default();
    ser::into_writer(value, &mut written).map_err(|why| match why {
        ser::Error::Io(why) => why.to_string(),
        ser::Error::Value(why) => why,
    })?;
    Ok(written.finish())
}

/// The value that these bytes are, all of them.
pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match scalar::read(bytes) {
        Some(value) => Ok(value),
        None => decode(bytes),
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut rest = bytes;
    // As long as the message, so that every text in it fits. (The decoder's own is of 4 KiB, which it clears for each value.)
    let (mut short, mut long) = ([0; SHORT], vec![]);
    let room = if bytes.len() <= SHORT {
        &mut short[..]
    } else {
        long.resize(bytes.len(), 0);
        &mut long[..]
    };
    let value = de::from_reader_with_buffer(&mut rest, room).map_err(why)?;
    match rest.len() {
        0 => Ok(value),
        more => Err(format!("{more} bytes too many")),
    }
}

fn why(error: de::Error<impl Display>) -> String {
    match error {
        de::Error::Io(_) => "it ends before its value does".to_owned(),
        de::Error::Syntax(at) => format!("it is no CBOR at byte {at}"),
        de::Error::Semantic(_, why) => why,
        de::Error::RecursionLimitExceeded => format!("it is nested more than {DEPTH_MAX} deep"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Newtype(i64);

    /// Whether it is read as the decoder reads it, as whichever type.
    fn is_read_alike(bytes: &[u8]) {
        fn one<T: DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
            assert_eq!(from_bytes::<T>(bytes), decode::<T>(bytes), "{bytes:x?}");
        }
        let of_numbers = [one::<i8>, one::<i16>, one::<i32>, one::<i64>, one::<i128>];
        let of_positives = [one::<u8>, one::<u16>, one::<u32>, one::<u64>, one::<u128>];
        let of_others = [one::<()>, one::<bool>, one::<char>, one::<String>, one::<Value>];
        let of_more = [one::<Option<i64>>, one::<Newtype>, one::<Said>, one::<Vec<u8>>];
        let all = of_numbers
            .into_iter()
            .chain(of_positives)
            .chain(of_others)
            .chain(of_more);
        let bits = |read: Result<f64, String>| read.map(f64::to_bits);
        assert_eq!(bits(from_bytes(bytes)), bits(decode(bytes)), "{bytes:x?}");
        all.for_each(|one| one(bytes));
    }

    #[test]
    fn every_message_of_three_bytes_that_begins_like_a_number_or_nothing_is_read_alike() {
        for first in (0..0x40).chain(0xe0..=0xff) {
            is_read_alike(&[first]);
            for second in 0..=0xff {
                is_read_alike(&[first, second]);
                is_read_alike(&[first, second, 0xff]);
            }
        }
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_the_decoder_reads_it(
            major in 0u8..8, width in 0usize..4, bytes in any::<[u8; 8]>(), more in 0usize..3,
        ) {
            let first = (major << 5) | [24, 25, 26, 27][width];
            let rest = &bytes[..((1 << width) + more).saturating_sub(1).min(8)];
            is_read_alike(&[&[first][..], rest].concat());
        }
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Said {
        Nothing,
        Word(String),
        Pair(u8, i8),
        Both { left: u32, right: Option<i64> },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Off,
        On { from: String },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        said: Vec<Said>,
        tagged: Tagged,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        note: Option<String>,
        #[serde(flatten)]
        more: BTreeMap<String, Value>,
        bytes: Bytes,
        numbers: BTreeMap<i32, (u128, i128)>,
        unit: (),
    }

    fn all() -> All {
        All {
            said: vec![
                Said::Nothing,
                Said::Word("umbrella".into()),
                Said::Pair(200, -100),
                Said::Both {
                    left: 70_000,
                    right: None,
                },
            ],
            tagged: Tagged::On { from: "here".into() },
            note: None,
            more: BTreeMap::from([("x".to_owned(), json!({"deep": [1, -1, 0.5, null, true]}))]),
            bytes: Bytes::from_static(b"\0\xff"),
            numbers: BTreeMap::from([(-7, (u128::MAX, i128::MIN)), (300, (5, -5))]),
            unit: (),
        }
    }

    fn again<T: DeserializeOwned>(value: &(impl Serialize + ?Sized)) -> Result<T, String> {
        from_bytes(&to_bytes(value).unwrap())
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(again::<All>(&all()), Ok(all()));
        for len in [0, 1, 62, 63, 64, 65, 70_000] {
            let text = "a".repeat(len);
            assert_eq!(again::<String>(&text), Ok(text));
            let bytes = Bytes::from(vec![7; len]);
            assert_eq!(again::<Bytes>(&bytes), Ok(bytes));
        }
    }

    #[test]
    fn a_number_is_read_as_the_number_that_it_was_or_not_at_all() {
        assert_eq!(
            again::<(String, u32)>(&("umbrella", 2)),
            Ok(("umbrella".into(), 2))
        );
        assert_eq!(again::<u64>(&10_i64), Ok(10));
        assert_eq!(again::<i64>(&10_i128), Ok(10));
        assert_eq!(again::<u128>(&10_u8), Ok(10));
        assert!(again::<u32>(&-1).is_err());
        assert!(again::<u32>(&(1_u64 << 32)).is_err());
        assert!(again::<u32>(&1.5).is_err());
        assert!(again::<u128>(&-1).is_err(), "as its bits");
        assert!(again::<i128>(&u128::MAX).is_err(), "as its bits");
        assert!(again::<bool>(&1).is_err());
        assert!(again::<i64>(&true).is_err());
        assert!(again::<Said>(&0).is_err(), "a variant by its place");
        assert!(
            again::<All>(&BTreeMap::from([(0, "x")])).is_err(),
            "a field by its place"
        );
    }

    #[test]
    fn messages_may_grow() {
        #[derive(Serialize)]
        struct Newer {
            quantity: i64,
            product: String,
            gift: bool,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Older {
            product: String,
            #[serde(default)]
            note: String,
            quantity: u8,
        }
        let newer = Newer {
            quantity: 2,
            product: "boots".into(),
            gift: true,
        };
        let older = Older {
            product: "boots".into(),
            note: String::new(),
            quantity: 2,
        };
        assert_eq!(again(&newer), Ok(older));
    }

    #[test]
    fn a_text_of_any_length_is_read_by_who_wants_to_see_it_whole() {
        struct Whole(usize);
        impl<'de> Deserialize<'de> for Whole {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Length;
                impl serde::de::Visitor<'_> for Length {
                    type Value = usize;
                    fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        text.write_str("a text")
                    }
                    fn visit_str<E>(self, text: &str) -> Result<usize, E> {
                        Ok(text.len())
                    }
                }
                from.deserialize_str(Length).map(Whole)
            }
        }
        for len in [0, 126, 127, 128, 129, 4096, 4097, 70_000] {
            let read = again::<(Whole, u8)>(&("a".repeat(len), 7)).unwrap();
            assert_eq!((read.0.0, read.1), (len, 7));
        }
    }

    #[test]
    fn bytes_that_are_none_take_neither_the_stack_nor_memory() {
        let deep = |byte: u8| from_bytes::<IgnoredAny>(&vec![byte; 1 << 20]).unwrap_err();
        for byte in [0x81, 0xa1, 0xc1, 0x9f] {
            assert_eq!(deep(byte), "it is nested more than 256 deep");
        }
        for first in [0x9b, 0xbb, 0x7b, 0x5b] {
            let lie = [first, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
            assert!(from_bytes::<Vec<[u64; 16]>>(&lie).is_err());
            assert!(from_bytes::<String>(&lie).is_err());
            assert!(from_bytes::<Bytes>(&lie).is_err());
        }
        assert!(from_bytes::<()>(b"").is_err());
        assert!(from_bytes::<u8>(&[1, 2]).is_err_and(|why| why == "1 bytes too many"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let _ = from_bytes::<Value>(&bytes);
            let _ = from_bytes::<All>(&bytes);
            let whole = to_bytes(&all()).unwrap();
            let cut = cut.index(whole.len());
            prop_assert!(from_bytes::<All>(&whole[..cut]).is_err());
            let mut bent = whole.to_vec();
            let at = at.index(bent.len());
            bent[at] = bytes.first().copied().unwrap_or(0xc1);
            let _ = from_bytes::<All>(&bent);
            let _ = from_bytes::<Value>(&bent);
        }
    }
}
