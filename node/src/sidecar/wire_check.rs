//! Whether a message's bytes are what its descriptor says, all the way down, before a function sees them.
//!
//! Why: Kalix's SDK for JavaScript ends the function's process where it fails to read an action's message, also for want of a `required`
//! field, and goes by a field's number alone, so that one of another wire type is read as what it is not. Nothing is decoded here, and
//! nothing copied.
//!
//! Not here: what is in it. Contract: unknown fields are skipped, as everywhere; what is in an `Any` is not looked at.

use std::collections::BTreeSet;

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor, Syntax};

use super::scan::{Malformed, Raw, SHORT_BYTES_MAX, fields, varints};

/// As deep as Protocol Buffers' own libraries follow messages within messages.
const DEPTH_MAX: usize = 100;
/// Bytes of a varint of 64 bits at most, which a negative number has.
const LONG_BYTES: usize = 10;

/// Whether these are the bytes of a message of this type.
///
/// # Errors
/// They are not; with the field's full name, where it is a known one.
pub fn check(message: &[u8], of: &MessageDescriptor) -> Result<(), Malformed> {
    check_within(message, of, DEPTH_MAX)
}

fn check_within(message: &[u8], of: &MessageDescriptor, depth: usize) -> Result<(), Malformed> {
    let mut missing = required(of);
    let mut fields = fields(message);
    while let Some(field) = fields.next() {
        let (number, raw) = field?;
        let Some(field) = of.get_field(number) else {
            continue;
        };
        check_field(&field, raw, depth)?;
        if matches!(raw, Raw::Varint(_)) && !is_readable(&field.kind(), fields.varint_bytes()) {
            return Err(too_long(&field));
        }
        missing.remove(&number);
    }
    match missing.first().and_then(|number| of.get_field(*number)) {
        None => Ok(()),
        Some(field) => {
            let (name, of) = (field.name(), of.full_name());
            Err(Malformed::new(format!(
                "field {name} of {of} is required, and missing"
            )))
        }
    }
}

/// The numbers of the fields that a message must have. A field that is written in several parts must have its own in each: the SDK for
/// JavaScript reads each as the field.
fn required(of: &MessageDescriptor) -> BTreeSet<u32> {
    if of.parent_file().syntax() == Syntax::Proto3 {
        return BTreeSet::new();
    }
    let required = of
        .fields()
        .filter(|field| field.cardinality() == Cardinality::Required);
    required.map(|field| field.number()).collect()
}

/// Whether a varint of so many bytes is read as what it is: of 32 bits the SDK for JavaScript takes five bytes, or the ten of a
/// negative number, and reads past whatever is between.
fn is_readable(kind: &Kind, bytes: usize) -> bool {
    let is_long = matches!(kind, Kind::Int64 | Kind::Uint64 | Kind::Sint64);
    is_long || bytes <= SHORT_BYTES_MAX || bytes == LONG_BYTES
}

fn too_long(field: &FieldDescriptor) -> Malformed {
    let (name, of) = (field.name(), field.parent_message());
    Malformed::new(format!(
        "field {name} of {} has a number that is too long for it",
        of.full_name()
    ))
}

fn check_field(field: &FieldDescriptor, raw: Raw<'_>, depth: usize) -> Result<(), Malformed> {
    let kind = field.kind();
    let within = match (raw, field.is_group()) {
        (Raw::Bytes(bytes), false) | (Raw::Group(bytes), true) => Some(bytes),
        _ => None,
    };
    match (&kind, raw) {
        (Kind::Message(inner), _) if let Some(bytes) = within => match depth {
            0 => Err(Malformed::new(format!("it is nested more than {DEPTH_MAX} deep"))),
            _ => check_within(bytes, inner, depth - 1),
        },
        (Kind::String | Kind::Bytes, Raw::Bytes(_)) => Ok(()),
        _ if fits(&kind, raw) => Ok(()),
        // Packed or not, both are read, whatever the descriptor prefers.
        (_, Raw::Bytes(bytes)) if field.is_list() && is_packed(&kind, bytes) => Ok(()),
        _ => Err(Malformed::new(format!(
            "field {} of {} is written as something else",
            field.name(),
            field.parent_message().full_name()
        ))),
    }
}

/// Whether a number of this kind is written so.
fn fits(kind: &Kind, raw: Raw<'_>) -> bool {
    match width(kind) {
        Some(Width::Varint) => matches!(raw, Raw::Varint(_)),
        Some(Width::Fixed(4)) => matches!(raw, Raw::Fixed32(_)),
        Some(Width::Fixed(_)) => matches!(raw, Raw::Fixed64(_)),
        None => false,
    }
}

/// Whether these are numbers of this kind, one after the other.
fn is_packed(kind: &Kind, bytes: &[u8]) -> bool {
    match width(kind) {
        Some(Width::Varint) => varints(bytes).all(|bytes| bytes.is_ok_and(|bytes| is_readable(kind, bytes))),
        Some(Width::Fixed(width)) => bytes.len().is_multiple_of(width),
        None => false,
    }
}

enum Width {
    Varint,
    Fixed(usize),
}

fn width(kind: &Kind) -> Option<Width> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Some(Width::Fixed(8)),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Some(Width::Fixed(4)),
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => Some(Width::Varint),
        Kind::String | Kind::Bytes | Kind::Message(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sidecar::protos;

    fn row() -> MessageDescriptor {
        let pool = protos::pool(
            r#"syntax = "proto3"; package t;
            enum Color { RED = 0; }
            message Row {
                string name = 1; int64 count = 2; double share = 3; fixed32 mark = 4; Color color = 5; Row below = 6;
                repeated sint32 steps = 7; repeated float parts = 8; map<string, Row> rows = 9; bytes raw = 10;
                oneof which { bool yes = 11; Row other = 12; }
            }"#,
        );
        pool.get_message_by_name("t.Row").unwrap()
    }

    fn said(bytes: &[u8]) -> String {
        match check(bytes, &row()) {
            Ok(()) => String::new(),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn what_the_descriptor_says_is_taken() {
        for good in [
            &[][..],
            &[
                0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0x10, 0x80, 0x80, 0x80, 0x80,
                0x80, 0,
            ],
            &[
                0x0a, 1, b'a', 0x10, 0x80, 1, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0x28, 9,
            ],
            // Packed, in part; a list that is not; and what comes twice.
            &[
                0x3a, 3, 0x80, 1, 2, 0x38, 5, 0x42, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 0, 0, 0x38, 1,
            ],
            &[
                0x32, 4, 0x32, 2, 0x10, 1, 0x4a, 7, 0x0a, 1, b'k', 0x12, 2, 0x10, 1, 0x58, 1, 0x62, 0,
            ],
            // Whatever bytes are in bytes, and what nobody knows.
            &[
                0x52, 2, 0xff, 0xff, 0xa2, 0x01, 2, 0xff, 0xff, 0xa3, 0x01, 0x08, 1, 0xa4, 0x01,
            ],
        ] {
            assert_eq!(said(good), "", "{good:x?}");
        }
    }

    #[test]
    fn what_it_does_not_say_is_refused_wherever_it_is() {
        let cut = "no Protocol Buffers message: it ends within a field";
        let other =
            |field: &str| format!("no Protocol Buffers message: field {field} is written as something else");
        for (bad, why) in [
            (&[0x0a, 3, b'a'][..], cut.to_owned()),
            (&[0x32, 2, 0x0a, 9], cut.to_owned()),
            (&[0x32, 4, 0x32, 2, 0x0a, 9], cut.to_owned()),
            (&[0x4a, 4, 0x12, 2, 0x0a, 9], cut.to_owned()),
            (&[0x08, 1], other("name of t.Row")),
            (&[0x12, 1, 1], other("count of t.Row")),
            (&[0x1d, 0, 0, 0, 0], other("share of t.Row")),
            (&[0x62, 2, 0x30, 1], other("below of t.Row")),
            (&[0x3a, 2, 1, 0x80], other("steps of t.Row")),
            (&[0x42, 3, 0, 0, 0], other("parts of t.Row")),
            (&[0x4a, 2, 0x08, 1], other("key of t.Row.RowsEntry")),
            (
                &[0x28, 0x87, 0x80, 0x80, 0x80, 0x80, 0x20],
                "no Protocol Buffers message: field color of t.Row has a number that is too long for it"
                    .to_owned(),
            ),
            (
                &[0x3a, 6, 0x87, 0x80, 0x80, 0x80, 0x80, 0],
                other("steps of t.Row"),
            ),
            (
                &[0x0a, 0x81, 0x80, 0x80, 0x80, 0x80, 0, b'a'],
                "no Protocol Buffers message: a field's number or length has more than 5 bytes".to_owned(),
            ),
        ] {
            assert_eq!(said(bad), why, "{bad:x?}");
        }
        assert!(!said(&[0xff, 0xff]).is_empty());
    }

    fn old() -> MessageDescriptor {
        let pool = protos::pool(
            r#"syntax = "proto2"; package t;
            message Old {
                required string id = 1; optional Old below = 2; repeated Old more = 3; map<string, Old> olds = 4;
                optional group Part = 5 { optional string name = 6; required int32 count = 7; optional group Deep = 8 {
                    optional bool yes = 9; } }
                optional Part flat = 10; repeated group Parts = 11 { optional string name = 12; }
            }"#,
        );
        pool.get_message_by_name("t.Old").unwrap()
    }

    #[test]
    fn a_message_without_what_it_must_have_is_refused_wherever_it_is() {
        let missing = |bytes: &[u8]| check(bytes, &old()).map_err(|why| why.to_string());
        for good in [
            &[0x0a, 0][..],
            &[0x0a, 0, 0x12, 2, 0x0a, 0, 0x1a, 2, 0x0a, 0],
            &[0x12, 2, 0x0a, 0, 0x0a, 0],
            &[0x22, 4, 0x12, 2, 0x0a, 0, 0x0a, 0],
            &[0x2b, 0x38, 1, 0x2c, 0x0a, 0],
        ] {
            assert_eq!(missing(good), Ok(()), "{good:x?}");
        }
        for (bad, field) in [
            (&[][..], "id of t.Old"),
            (&[0x12, 2, 0x0a, 0], "id of t.Old"),
            (&[0x0a, 0, 0x12, 0], "id of t.Old"),
            (&[0x0a, 0, 0x1a, 2, 0x0a, 0, 0x1a, 0], "id of t.Old"),
            (&[0x0a, 0, 0x22, 2, 0x12, 0], "id of t.Old"),
            (&[0x0a, 0, 0x2b, 0x2c], "count of t.Old.Part"),
            (&[0x0a, 0, 0x52, 0], "count of t.Old.Part"),
            // In two parts, of which the SDK for JavaScript reads each alone.
            (&[0x0a, 0, 0x12, 2, 0x0a, 0, 0x12, 0], "id of t.Old"),
        ] {
            let why = format!("no Protocol Buffers message: field {field} is required, and missing");
            assert_eq!(missing(bad), Err(why), "{bad:x?}");
        }
    }

    #[test]
    fn what_is_in_a_group_is_looked_at() {
        let said = |group: &[u8]| match check(&[&[0x0a, 0][..], group].concat(), &old()) {
            Ok(()) => String::new(),
            Err(why) => why.to_string(),
        };
        assert_eq!(
            said(&[0x2b, 0x32, 1, b'x', 0x38, 1, 0x43, 0x48, 1, 0x44, 0x2c]),
            ""
        );
        for (bad, why) in [
            (
                &[0x2b, 0x30, 1, 0x38, 1, 0x2c][..],
                "field name of t.Old.Part is written as something else",
            ),
            (
                &[0x2b, 0x38, 1, 0x43, 0x4a, 0, 0x44, 0x2c],
                "field yes of t.Old.Part.Deep is written as something else",
            ),
            (
                &[0x5b, 0x5c, 0x5b, 0x60, 1, 0x5c],
                "field name of t.Old.Parts is written as something else",
            ),
            (
                &[0x2a, 2, 0x38, 1],
                "field part of t.Old is written as something else",
            ),
            (
                &[0x53, 0x38, 1, 0x54],
                "field flat of t.Old is written as something else",
            ),
            (
                &[0x2b, 0x38, 1],
                "failed to decode Protobuf message: invalid varint",
            ),
            (&[0x2b, 0x38, 1, 0x34], "a group ends that has not begun"),
        ] {
            assert_eq!(
                said(bad),
                format!("no Protocol Buffers message: {why}"),
                "{bad:x?}"
            );
        }
    }

    #[test]
    fn a_message_is_followed_only_so_deep() {
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |inner: Vec<u8>, _| {
                let mut outer = vec![0x32];
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                outer.extend(inner);
                outer
            })
        };
        assert_eq!(said(&nested(DEPTH_MAX)), "");
        assert!(said(&nested(DEPTH_MAX + 1)).contains("nested more than 100 deep"));
        assert!(said(&nested(50_000)).contains("nested"));
    }

    proptest! {
        #[test]
        fn what_is_taken_can_be_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let decoded = prost_reflect::DynamicMessage::decode(row(), &*bytes);
            match (check(&bytes, &row()), decoded) {
                // Of strings nothing more is asked than the SDKs do.
                (Ok(()), Err(why)) => prop_assert!(why.to_string().contains("UTF-8"), "{why}"),
                (Err(why), Ok(_)) => {
                    let why = why.to_string();
                    let is_ours = ["nested", "too long", "more than 5 bytes", "written as something else"];
                    prop_assert!(is_ours.iter().any(|ours| why.contains(ours)), "{why}");
                }
                _ => {}
            }
        }
    }
}
