//! The descriptors of a function: out of the set that it sends, a pool to look them up in, and where in its files they are.
//!
//! Not here: what of them is served. Contract: whatever the bytes, the answer is a pool that its library can be trusted with, or an
//! error that says which file it is about (`check` has what the library takes for granted). Files may come in any order and more
//! than once, where the first counts; Google's own (`google/protobuf/*.proto`) need not come, and are always those of the library.

mod check;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, FileDescriptor};
use prost_types::FileDescriptorProto;

use super::problem::Problem;

/// Bytes of a descriptor set. One of ten services with all comments has an eighth of a megabyte.
pub const SET_BYTES_MAX: usize = 8 << 20;
/// Files in a set, Google's own among them.
pub const FILES_MAX: usize = 2_000;

/// Why there is no pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// More than a bound of [`pool`] allows.
    #[error(
        "the function's descriptor set {0}: leave out what it does not serve, or the comments (--include_source_info)"
    )]
    TooMuch(String),
    /// Something that is no descriptor set.
    #[error("the function's descriptor set cannot be read: {0}")]
    Unreadable(String),
    /// Files that others import did not come.
    #[error(
        "files are missing in the function's descriptor set: {0}; make it with protoc --include_imports --descriptor_set_out"
    )]
    Missing(String),
    /// A file that no compiler makes.
    #[error("{file}: {why}")]
    Invalid {
        /// Which.
        file: String,
        /// What is wrong with it.
        why: String,
        /// Where.
        location: Option<Location>,
    },
}

impl PoolError {
    fn invalid(file: &str, why: impl Into<String>) -> PoolError {
        PoolError::Invalid {
            file: file.to_owned(),
            why: why.into(),
            location: None,
        }
    }
}

impl From<PoolError> for Problem {
    fn from(error: PoolError) -> Problem {
        let message = error.to_string();
        let location = match error {
            PoolError::Invalid { location, .. } => location,
            _ => None,
        };
        Problem {
            location,
            ..Problem::nowhere(message)
        }
    }
}

/// A place in a .proto file; lines and columns count from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its name.
    pub file: String,
    /// Where it begins.
    pub start_line: i32,
    /// Where it begins.
    pub start_col: i32,
    /// Where it ends.
    pub end_line: i32,
    /// Where it ends.
    pub end_col: i32,
    /// Which descriptor it is, as `google.protobuf.SourceCodeInfo` has it.
    pub path: Vec<i32>,
}

impl fmt::Display for Location {
    /// As people count: from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, col) = (i64::from(self.start_line) + 1, i64::from(self.start_col) + 1);
        write!(f, "{}:{line}:{col}", self.file)
    }
}

/// Where the descriptor with this path (`path()` of any descriptor) is in its file, if the set came with source info.
pub fn location(file: &FileDescriptor, path: &[i32]) -> Option<Location> {
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    let found = info.location.iter().find(|location| location.path == path)?;
    let (start_line, start_col, end_line, end_col) = match found.span[..] {
        // An end on the same line is not said.
        [line, start, end] => (line, start, line, end),
        [line, start, end_line, end] => (line, start, end_line, end),
        _ => return None,
    };
    Some(Location {
        file: file.name().to_owned(),
        start_line,
        start_col,
        end_line,
        end_col,
        path: path.to_vec(),
    })
}

/// A descriptor set whose files are still bytes: options that nobody here has a descriptor for are not lost.
#[derive(Clone, PartialEq, Message)]
struct RawSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

/// The descriptors of this serialized `google.protobuf.FileDescriptorSet`.
pub fn pool(set: &[u8]) -> Result<DescriptorPool, PoolError> {
    if set.len() > SET_BYTES_MAX {
        let text = format!("has {} bytes, at most {SET_BYTES_MAX} are read", set.len());
        return Err(PoolError::TooMuch(text));
    }
    let unreadable = |e: prost::DecodeError| PoolError::Unreadable(e.to_string());
    let set = RawSet::decode(set).map_err(unreadable)?;
    if set.file.len() > FILES_MAX {
        let text = format!("has {} files, at most {FILES_MAX} are read", set.file.len());
        return Err(PoolError::TooMuch(text));
    }
    check::count(&set.file)?;
    let mut pool = DescriptorPool::global();
    let (mut files, mut taken, mut extensions) = (BTreeMap::new(), Vec::new(), check::Extensions::new());
    for bytes in set.file {
        let file = FileDescriptorProto::decode(&bytes[..]).map_err(unreadable)?;
        let name = file.name().to_owned();
        if pool.get_file_by_name(&name).is_some() || files.contains_key(&name) {
            continue;
        }
        check::file(&file, &mut extensions)?;
        files.insert(name, file);
        taken.push(bytes);
    }
    check::imports(&files, |name| pool.get_file_by_name(name).is_some())?;
    drop(files);
    let set = RawSet { file: taken }.encode_to_vec();
    // What `check` does not know of the library must not cost more than these descriptors: the pool is dropped then.
    let built = catch_unwind(AssertUnwindSafe(|| pool.decode_file_descriptor_set(&set[..])));
    match built {
        Ok(built) => built.map_err(invalid)?,
        Err(_) => return Err(PoolError::Unreadable("no compiler made it".into())),
    }
    Ok(pool)
}

/// What the library finds wrong.
fn invalid(error: prost_reflect::DescriptorError) -> PoolError {
    let file = error.file().unwrap_or("the function's descriptor set").to_owned();
    let place = error.line().zip(error.column());
    let location = place.and_then(|(line, col)| {
        let (line, col) = (i32::try_from(line).ok()?, i32::try_from(col).ok()?);
        Some(Location {
            file: file.clone(),
            start_line: line,
            start_col: col,
            end_line: line,
            end_col: col,
            path: error.path().unwrap_or_default().to_vec(),
        })
    });
    PoolError::Invalid {
        why: error.to_string(),
        file,
        location,
    }
}

#[cfg(test)]
mod tests {
    use prost_types::FileDescriptorSet;

    use super::super::protos;
    use super::*;

    const ONE: &str = r#"syntax = "proto3";
package one;
import "google/protobuf/timestamp.proto";
import "two.proto";
message Ask { google.protobuf.Timestamp at = 1; two.Two two = 2; map<string, int32> counts = 3; }
service Asked {
  rpc Do(Ask) returns (two.Two);
}
"#;
    const TWO: &str = r#"syntax = "proto3";
package two;
message Two { string text = 1; }"#;

    fn set() -> FileDescriptorSet {
        let bytes = protos::set(&[("one.proto", ONE), ("two.proto", TWO)]);
        FileDescriptorSet::decode(&bytes[..]).unwrap()
    }

    fn build(files: Vec<FileDescriptorProto>) -> Result<DescriptorPool, PoolError> {
        pool(&FileDescriptorSet { file: files }.encode_to_vec())
    }

    /// The text of the error once the set was changed.
    fn error(change: impl FnOnce(&mut FileDescriptorProto)) -> String {
        let mut files = set().file;
        let one = files.iter_mut().find(|file| file.name() == "one.proto").unwrap();
        change(one);
        build(files).unwrap_err().to_string()
    }

    #[test]
    fn files_come_in_any_order_and_more_than_once_and_googles_not_at_all() {
        let mut files = set().file;
        files.retain(|file| !file.name().starts_with("google/"));
        assert_eq!(files.len(), 2);
        for _ in 0..2 {
            files.reverse();
            let pool = build(files.clone()).unwrap();
            let service = pool.get_service_by_name("one.Asked").unwrap();
            assert_eq!(service.methods().len(), 1);
        }
        files.extend(files.clone());
        files.extend(set().file);
        assert!(build(files).is_ok());
        assert!(pool(b"").is_ok());
    }

    #[test]
    fn a_second_file_of_a_name_does_not_count_nor_do_googles_own() {
        let mut files = set().file;
        let mut other = files.iter().find(|f| f.name() == "two.proto").unwrap().clone();
        other.message_type.clear();
        files.push(other);
        let mut time = FileDescriptorProto {
            name: Some("google/protobuf/timestamp.proto".into()),
            ..FileDescriptorProto::default()
        };
        time.message_type.clear();
        files.insert(0, time);
        let pool = build(files).unwrap();
        assert!(pool.get_message_by_name("two.Two").is_some());
        assert!(pool.get_message_by_name("google.protobuf.Timestamp").is_some());
    }

    #[test]
    fn options_without_a_descriptor_are_kept() {
        let text = r#"syntax = "proto3";
            import "kalix/annotations.proto";
            message A { string id = 1 [(kalix.field).entity_key = true]; }"#;
        let whole = protos::set(&[("a.proto", text)]);
        let mut raw = RawSet::decode(&whole[..]).unwrap();
        let name = |bytes: &Bytes| FileDescriptorProto::decode(&bytes[..]).unwrap().name().to_owned();
        raw.file.retain(|file| name(file) == "a.proto");
        // Its imports are gone; so that it can go without them, the line that imports goes as well.
        let file = raw.file[0].to_vec();
        let import = b"\x1a\x17kalix/annotations.proto";
        let at = file.windows(import.len()).position(|w| w == import).unwrap();
        let file = [&file[..at], &file[at + import.len()..]].concat();
        let pool = pool(
            &RawSet {
                file: vec![file.into()],
            }
            .encode_to_vec(),
        )
        .unwrap();
        let message = pool.get_message_by_name("A").unwrap();
        let options = message.get_field(1).unwrap().options();
        assert_eq!(options.encode_to_vec(), b"\xc2\x43\x02\x08\x01");
    }

    #[test]
    fn places_are_those_of_the_text() {
        let pool = build(set().file).unwrap();
        let service = pool.get_service_by_name("one.Asked").unwrap();
        let method = service.methods().next().unwrap();
        let found = location(&service.parent_file(), method.path()).unwrap();
        assert_eq!(found.to_string(), "one.proto:7:3");
        assert_eq!((found.start_line, found.start_col), (6, 2));
        assert_eq!((found.end_line, found.end_col), (6, 32));
        assert_eq!(found.path, [6, 0, 2, 0]);
        assert_eq!(location(&service.parent_file(), &[6, 7]), None);
        let mut files = set().file;
        for file in &mut files {
            file.source_code_info = None;
        }
        let pool = build(files).unwrap();
        let service = pool.get_service_by_name("one.Asked").unwrap();
        assert_eq!(location(&service.parent_file(), service.path()), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut files = set().file;
        files.retain(|file| file.name() != "two.proto");
        let error = build(files).unwrap_err().to_string();
        assert!(error.contains("two.proto (imported by one.proto)"), "{error}");
        assert!(error.contains("--include_imports"), "{error}");
        let mut unnamed = set().file;
        unnamed[0].name = None;
        let error = build(unnamed).unwrap_err().to_string();
        assert!(error.contains("no name"), "{error}");
    }

    #[test]
    fn what_the_library_finds_wrong_has_its_place() {
        let mut files = set().file;
        let one = files.iter_mut().find(|file| file.name() == "one.proto").unwrap();
        one.message_type[0].field[1].type_name = Some(".two.Gone".into());
        let error = build(files).unwrap_err();
        let PoolError::Invalid { file, why, location } = &error else {
            panic!("{error}");
        };
        assert_eq!(file, "one.proto");
        assert!(why.contains("two.Gone"), "{why}");
        assert_eq!(location.as_ref().unwrap().start_line, 4);
        let problem = Problem::from(error);
        assert!(problem.to_string().starts_with("one.proto:5:"), "{problem}");
    }

    #[test]
    fn more_than_a_bound_is_refused() {
        let large = vec![0x0a; SET_BYTES_MAX + 1];
        assert!(matches!(pool(&large), Err(PoolError::TooMuch(_))));
        let files = vec![FileDescriptorProto::default(); FILES_MAX + 1];
        assert!(matches!(build(files), Err(PoolError::TooMuch(_))));
        let error = pool(b"\x0a\x05abc").unwrap_err();
        assert!(matches!(error, PoolError::Unreadable(_)), "{error}");
        // Two bytes each, and a thousand times as many once they are descriptors.
        let text = error_of_many(4);
        assert!(text.contains("descriptors"), "{text}");
    }

    fn error_of_many(number: u8) -> String {
        let file: Vec<u8> = [number << 3 | 2, 0].repeat(SET_BYTES_MAX / 4);
        pool(
            &RawSet {
                file: vec![file.into()],
            }
            .encode_to_vec(),
        )
        .unwrap_err()
        .to_string()
    }

    #[test]
    fn names_are_names() {
        for bad in ["", ".Ask", "A.b", "A b", "1a", "é", "a-b"] {
            let text = error(|one| one.message_type[0].name = Some(bad.into()));
            assert!(text.contains(&format!("{bad:?}")), "{text}");
            error(|one| one.message_type[0].field[0].name = Some(bad.into()));
            error(|one| one.service[0].name = Some(bad.into()));
            error(|one| one.service[0].method[0].name = Some(bad.into()));
        }
        error(|one| one.package = Some(".one".into()));
        error(|one| one.package = Some("one..b".into()));
        let text = error(|one| one.syntax = Some("editions".into()));
        assert!(text.contains("\"editions\": write it in proto3"), "{text}");
    }

    #[test]
    fn entries_of_maps_are_entries() {
        let entry = |one: &mut FileDescriptorProto| {
            assert_eq!(one.message_type[0].nested_type[0].name(), "CountsEntry");
            one.message_type[0].nested_type[0].clone()
        };
        let change = |field: usize, change: fn(&mut prost_types::FieldDescriptorProto)| {
            error(|one| {
                let mut entry = entry(one);
                change(&mut entry.field[field]);
                one.message_type[0].nested_type[0] = entry;
            })
        };
        for text in [
            change(0, |key| key.number = Some(3)),
            change(1, |value| value.number = Some(3)),
            change(0, |key| {
                key.set_type(prost_types::field_descriptor_proto::Type::Double)
            }),
            change(0, |key| {
                key.set_type(prost_types::field_descriptor_proto::Type::Bytes)
            }),
            change(0, |key| {
                key.set_label(prost_types::field_descriptor_proto::Label::Repeated)
            }),
            change(1, |value| {
                value.set_label(prost_types::field_descriptor_proto::Label::Repeated)
            }),
        ] {
            assert!(text.contains("map"), "{text}");
        }
    }

    #[test]
    fn no_two_extensions_are_the_same() {
        let files = protos::KEYS.map(|(name, _)| name);
        // Two that a compiler refuses together, and the library does not survive.
        let sets = [files[0], files[2]].map(|name| {
            let text = format!(
                "syntax = \"proto3\"; import \"{name}\"; message A {{ string id = 1 [(OPTION) = X]; }}"
            );
            let text = match name {
                "cloudstate/entity_key.proto" => text
                    .replace("OPTION", "cloudstate.entity_key")
                    .replace('X', "true"),
                _ => text
                    .replace("OPTION", "kalix.field")
                    .replace('X', "{ entity_key: true }"),
            };
            protos::set(&[(
                &format!("{}.test", name.len()),
                &text.replace("message A", &format!("message A{}", name.len())),
            )])
        });
        assert!(sets.iter().all(|set| pool(set).is_ok()));
        let error = pool(&sets.concat()).unwrap_err().to_string();
        assert!(
            error.contains("the extension 1080 of google.protobuf.FieldOptions"),
            "{error}"
        );
    }

    #[test]
    fn imports_neither_go_round_nor_branch_without_end() {
        let import = |from: &str, to: &[&str]| FileDescriptorProto {
            name: Some(from.into()),
            syntax: Some("proto3".into()),
            dependency: to.iter().map(|to| (*to).to_owned()).collect(),
            public_dependency: (0..).take(to.len()).collect(),
            ..FileDescriptorProto::default()
        };
        let round = vec![import("a", &["b"]), import("b", &["c"]), import("c", &["b"])];
        let error = build(round).unwrap_err().to_string();
        assert!(
            error.contains("b imports itself") || error.contains("c imports itself"),
            "{error}"
        );
        assert!(build(vec![import("a", &["a"])]).is_err());
        assert!(build(vec![import("a", &["b", "b"]), import("b", &[])]).is_err());
        // Each imports both of the next two: twice as many ways with each.
        let names: Vec<String> = (0..120).map(|n| format!("f{n:03}")).collect();
        let mut files = Vec::new();
        for pair in names.chunks(2).collect::<Vec<_>>().windows(2) {
            for from in pair[0] {
                let to: Vec<&str> = pair[1].iter().map(String::as_str).collect();
                files.push(import(from, &to));
            }
        }
        files.push(import(&names[118], &[]));
        files.push(import(&names[119], &[]));
        let error = build(files).unwrap_err().to_string();
        assert!(error.contains("import public"), "{error}");
        // One line of files, each importing the next, is fine.
        let mut line: Vec<_> = (0..FILES_MAX - 1)
            .map(|n| import(&format!("f{n}"), &[format!("f{}", n + 1).as_str()]))
            .collect();
        line.push(import(&format!("f{}", FILES_MAX - 1), &[]));
        assert!(build(line[FILES_MAX - 500..].to_vec()).is_ok());
        assert!(
            build(line).is_err(),
            "as many ways as half the square of their number"
        );
    }

    #[test]
    fn whatever_the_bytes_there_is_an_answer() {
        use proptest::prelude::*;
        let text = r#"syntax = "proto2"; package three;
            import "one.proto"; import "kalix/annotations.proto"; import "google/api/annotations.proto";
            enum E { A = 1; B = -2; }
            message Three {
              extensions 100 to 200; reserved 5 to 9, 22; reserved "x";
              optional string id = 1 [(kalix.field).entity_key = true, default = "a"];
              oneof o { E e = 2 [default = B]; bytes b = 3 [default = "\001"]; }
              map<sint32, one.Ask> m = 4; repeated double d = 10 [packed = true];
              optional group G = 11 { optional Three three = 1; }
            }
            extend Three { repeated int32 more = 100; }
            service S { rpc R(Three) returns (stream one.Ask) { option (google.api.http) = { get: "/{id}" }; } }"#;
        let whole = protos::set(&[("one.proto", ONE), ("two.proto", TWO), ("three.proto", text)]);
        let at = (0..whole.len(), any::<u8>());
        proptest!(|(changes in proptest::collection::vec(at, 1..6))| {
            let mut bytes = whole.clone();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(pool) = pool(&bytes) {
                for message in pool.all_messages() {
                    let _ = super::super::key::KeyFields::of(&message);
                    let mut empty = prost_reflect::DynamicMessage::new(message);
                    let _ = prost::Message::merge(&mut empty, &bytes[..100]);
                    let _ = serde_json::to_string(&empty);
                }
                for service in pool.services() {
                    service.methods().for_each(|method| drop(method.options()));
                }
            }
        });
    }
}
