//! For tests: descriptor sets of .proto files whose text is in the test.
//!
//! The annotations are those that functions bring along, cut down to what is read here.

use prost_reflect::DescriptorPool;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

/// `google/api/http.proto` and those that go with it.
pub const GOOGLE_API: [(&str, &str); 3] = [
    (
        "google/api/http.proto",
        r#"syntax = "proto3";
        package google.api;
        message HttpRule {
          string selector = 1;
          oneof pattern {
            string get = 2;
            string put = 3;
            string post = 4;
            string delete = 5;
            string patch = 6;
            CustomHttpPattern custom = 8;
          }
          string body = 7;
          string response_body = 12;
          repeated HttpRule additional_bindings = 11;
        }
        message CustomHttpPattern { string kind = 1; string path = 2; }"#,
    ),
    (
        "google/api/annotations.proto",
        r#"syntax = "proto3";
        package google.api;
        import "google/api/http.proto";
        import "google/protobuf/descriptor.proto";
        extend google.protobuf.MethodOptions { HttpRule http = 72295728; }"#,
    ),
    (
        "google/api/httpbody.proto",
        r#"syntax = "proto3";
        package google.api;
        import "google/protobuf/any.proto";
        message HttpBody {
          string content_type = 1;
          bytes data = 2;
          repeated google.protobuf.Any extensions = 3;
        }"#,
    ),
];

/// How the functions of each dialect mark keys.
pub const KEYS: [(&str, &str); 3] = [
    (
        "cloudstate/entity_key.proto",
        r#"syntax = "proto3";
        package cloudstate;
        import "google/protobuf/descriptor.proto";
        extend google.protobuf.FieldOptions { bool entity_key = 1080; }"#,
    ),
    (
        "early/entity_key.proto",
        r#"syntax = "proto3";
        package early;
        import "google/protobuf/descriptor.proto";
        extend google.protobuf.FieldOptions { bool entity_key = 50002; }"#,
    ),
    (
        "kalix/annotations.proto",
        r#"syntax = "proto3";
        package kalix;
        import "google/protobuf/descriptor.proto";
        message FieldOptions { bool entity_key = 1; bool other = 2; }
        message Entity { int32 key_generator = 1; }
        message Direct { string service = 1; }
        message Source { oneof source { string topic = 2; string value_entity = 4; Direct direct = 7; } }
        message Destination { string topic = 1; }
        message Eventing { Source in = 1; Destination out = 2; }
        message MethodOptions { Eventing eventing = 1; Entity entity = 4; string note = 9; }
        message Acl { bool deny = 1; }
        message FileOptions { string note = 1; Acl acl = 4; }
        message ServiceOptions { string note = 1; Acl acl = 3; Eventing eventing = 4; }
        extend google.protobuf.FileOptions { FileOptions file = 1080; }
        extend google.protobuf.ServiceOptions { ServiceOptions service = 1080; }
        extend google.protobuf.FieldOptions { FieldOptions field = 1080; }
        extend google.protobuf.MethodOptions { MethodOptions method = 1080; }"#,
    ),
];

struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.iter().find(|(n, _)| n == name);
        let (name, text) = found.ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

/// The serialized descriptor set of these files, with their imports and source info; the annotations are there to import.
pub fn set(files: &[(&str, &str)]) -> Vec<u8> {
    let texts = files.iter().chain(&GOOGLE_API).chain(&KEYS);
    let owned = texts.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(owned.collect()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    for (name, _) in files {
        compiler.open_file(name).unwrap();
    }
    compiler.encode_file_descriptor_set()
}

/// The descriptors of one file, `test.proto`.
pub fn pool(text: &str) -> DescriptorPool {
    super::pool::pool(&set(&[("test.proto", text)])).unwrap()
}
