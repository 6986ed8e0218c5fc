//! What a server of gRPC tells of its services: the messages of `grpc.reflection.v1`, which are those of `v1alpha` as well, and the
//! answer to each.
//!
//! Beside the functions' services it describes itself and the health service (`own`).
//!
//! Not here: the stream that requests come by. Contract: every request has one answer. A symbol that is unknown is answered with no
//! files instead of an error, as the functions' own proxies had it; everything else that is unknown is NOT_FOUND.

mod own;

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::{Message, Oneof};
use prost_reflect::{DescriptorPool, FileDescriptor};
use tonic::Code;

/// The full name of the service, as it is now and as it was.
pub const SERVICES: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];
/// The full name of the health service.
pub const HEALTH: &str = "grpc.health.v1.Health";

/// `ServerReflectionRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Which host is meant; it is sent back.
    #[prost(string, tag = "1")]
    pub host: String,
    /// What is asked for.
    #[prost(oneof = "Ask", tags = "3, 4, 5, 6, 7")]
    pub ask: Option<Ask>,
}

/// What a request asks for.
#[derive(Clone, PartialEq, Oneof)]
pub enum Ask {
    /// A file by its name.
    #[prost(string, tag = "3")]
    FileByFilename(String),
    /// The file that has this message, service, method and so on.
    #[prost(string, tag = "4")]
    FileContainingSymbol(String),
    /// The file that has this extension.
    #[prost(message, tag = "5")]
    FileContainingExtension(Extension),
    /// The numbers by which this message is extended.
    #[prost(string, tag = "6")]
    AllExtensionNumbersOfType(String),
    /// Every service; what the text is does not matter.
    #[prost(string, tag = "7")]
    ListServices(String),
}

/// `ExtensionRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Extension {
    /// The full name of the message that is extended.
    #[prost(string, tag = "1")]
    pub containing_type: String,
    /// The number of the extension.
    #[prost(int32, tag = "2")]
    pub extension_number: i32,
}

/// `ServerReflectionResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// The host of the request.
    #[prost(string, tag = "1")]
    pub valid_host: String,
    /// The request.
    #[prost(message, optional, tag = "2")]
    pub original_request: Option<Request>,
    /// The answer.
    #[prost(oneof = "Answer", tags = "4, 5, 6, 7")]
    pub answer: Option<Answer>,
}

/// What a response says.
#[derive(Clone, PartialEq, Oneof)]
pub enum Answer {
    /// Files.
    #[prost(message, tag = "4")]
    Files(Files),
    /// Numbers of extensions.
    #[prost(message, tag = "5")]
    Numbers(Numbers),
    /// Services.
    #[prost(message, tag = "6")]
    Services(Services),
    /// Nothing of the kind.
    #[prost(message, tag = "7")]
    Error(ErrorResponse),
}

/// `FileDescriptorResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Files {
    /// Encoded `google.protobuf.FileDescriptorProto`s: the one asked for, and what it imports.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub file_descriptor_proto: Vec<Bytes>,
}

/// `ExtensionNumberResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Numbers {
    /// The full name of the message that is extended.
    #[prost(string, tag = "1")]
    pub base_type_name: String,
    /// By these numbers.
    #[prost(int32, repeated, tag = "2")]
    pub extension_number: Vec<i32>,
}

/// `ListServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Services {
    /// Every service.
    #[prost(message, repeated, tag = "1")]
    pub service: Vec<Service>,
}

/// `ServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Service {
    /// Its full name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `ErrorResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorResponse {
    /// A status code of gRPC.
    #[prost(int32, tag = "1")]
    pub error_code: i32,
    /// What is wrong.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// What there is to tell of.
#[derive(Clone, Debug)]
pub struct Reflection {
    /// Where things are looked up, in this order; the last has the services that every node has.
    pools: Vec<DescriptorPool>,
    services: BTreeSet<String>,
}

impl Reflection {
    /// Of these services, whose descriptors are in these pools.
    pub fn new(
        pools: impl IntoIterator<Item = DescriptorPool>,
        services: impl IntoIterator<Item = String>,
    ) -> Reflection {
        let own = [SERVICES[0], SERVICES[1], HEALTH].map(str::to_owned);
        Reflection {
            pools: pools.into_iter().chain([own::pool()]).collect(),
            services: services.into_iter().chain(own).collect(),
        }
    }

    /// The answer to a request.
    pub fn answer(&self, request: Request) -> Response {
        let answer = match &request.ask {
            Some(Ask::FileByFilename(name)) => self
                .find(|pool| pool.get_file_by_name(name))
                .map_or_else(|| missing(&format!("there is no file {name:?}")), files),
            Some(Ask::FileContainingSymbol(symbol)) => self
                .find(|pool| file_of(pool, symbol))
                .map_or_else(|| Answer::Files(Files::default()), files),
            Some(Ask::FileContainingExtension(extension)) => self.extension(extension),
            Some(Ask::AllExtensionNumbersOfType(name)) => self.numbers(name),
            Some(Ask::ListServices(_)) => {
                let services = self.services.iter().cloned();
                let service = services.map(|name| Service { name }).collect();
                Answer::Services(Services { service })
            }
            None => error(Code::InvalidArgument, "the request asks for nothing"),
        };
        Response {
            valid_host: request.host.clone(),
            original_request: Some(request),
            answer: Some(answer),
        }
    }

    fn find<T>(&self, find: impl FnMut(&DescriptorPool) -> Option<T>) -> Option<T> {
        self.pools.iter().find_map(find)
    }

    fn extension(&self, extension: &Extension) -> Answer {
        let Extension {
            containing_type: of,
            extension_number: number,
        } = extension;
        let found = self.find(|pool| {
            let message = pool.get_message_by_name(of)?;
            let extension = message.get_extension(u32::try_from(*number).ok()?)?;
            Some(extension.parent_file())
        });
        found.map_or_else(|| missing(&format!("{of:?} has no extension {number}")), files)
    }

    /// Every pool may extend the same message.
    fn numbers(&self, name: &str) -> Answer {
        let found = self
            .pools
            .iter()
            .filter_map(|pool| pool.get_message_by_name(name));
        let mut found = found.peekable();
        if found.peek().is_none() {
            return missing(&format!("there is no message {name:?}"));
        }
        let numbers: BTreeSet<i32> = found
            .flat_map(|message| message.extensions().map(|e| e.number()).collect::<Vec<_>>())
            .filter_map(|number| i32::try_from(number).ok())
            .collect();
        Answer::Numbers(Numbers {
            base_type_name: name.to_owned(),
            extension_number: numbers.into_iter().collect(),
        })
    }
}

fn missing(what: &str) -> Answer {
    error(Code::NotFound, what)
}

fn error(code: Code, message: &str) -> Answer {
    Answer::Error(ErrorResponse {
        error_code: code as i32,
        error_message: message.to_owned(),
    })
}

/// A file, and behind it all that it imports, each once.
fn files(file: FileDescriptor) -> Answer {
    let mut seen = BTreeSet::from([file.name().to_owned()]);
    let (mut found, mut at) = (vec![file], 0);
    while let Some(file) = found.get(at) {
        let imports: Vec<FileDescriptor> = file.dependencies().collect();
        found.extend(
            imports
                .into_iter()
                .filter(|import| seen.insert(import.name().to_owned())),
        );
        at += 1;
    }
    let encoded = found.iter().map(|file| file.encode_to_vec().into());
    Answer::Files(Files {
        file_descriptor_proto: encoded.collect(),
    })
}

/// The file in which something has this full name.
fn file_of(pool: &DescriptorPool, symbol: &str) -> Option<FileDescriptor> {
    if let Some(service) = pool.get_service_by_name(symbol) {
        return Some(service.parent_file());
    }
    if let Some(message) = pool.get_message_by_name(symbol) {
        return Some(message.parent_file());
    }
    if let Some(found) = pool.get_enum_by_name(symbol) {
        return Some(found.parent_file());
    }
    if let Some(extension) = pool.get_extension_by_name(symbol) {
        return Some(extension.parent_file());
    }
    let (parent, name) = symbol.rsplit_once('.').unwrap_or(("", symbol));
    if let Some(service) = pool.get_service_by_name(parent) {
        let is_there = service.methods().any(|method| method.name() == name);
        return is_there.then(|| service.parent_file());
    }
    if let Some(message) = pool.get_message_by_name(parent) {
        let is_there =
            message.get_field_by_name(name).is_some() || message.oneofs().any(|oneof| oneof.name() == name);
        if is_there {
            return Some(message.parent_file());
        }
    }
    // The values of an enum are beside it, not within.
    let mut enums = pool
        .all_enums()
        .filter(|found| found.get_value_by_name(name).is_some());
    let found = enums.find(|found| {
        let (scope, _) = found.full_name().rsplit_once('.').unwrap_or(("", ""));
        scope == parent
    });
    found.map(|found| found.parent_file())
}

#[cfg(test)]
mod tests {
    use prost_types::FileDescriptorProto;

    use super::super::protos;
    use super::*;

    const REFLECTION: &str = r#"
        service ServerReflection {
          rpc ServerReflectionInfo(stream ServerReflectionRequest) returns (stream ServerReflectionResponse);
        }
        message ServerReflectionRequest {
          string host = 1;
          oneof message_request {
            string file_by_filename = 3; string file_containing_symbol = 4;
            ExtensionRequest file_containing_extension = 5; string all_extension_numbers_of_type = 6;
            string list_services = 7;
          }
        }
        message ExtensionRequest { string containing_type = 1; int32 extension_number = 2; }
        message ServerReflectionResponse {
          string valid_host = 1;
          ServerReflectionRequest original_request = 2;
          oneof message_response {
            FileDescriptorResponse file_descriptor_response = 4;
            ExtensionNumberResponse all_extension_numbers_response = 5;
            ListServiceResponse list_services_response = 6; ErrorResponse error_response = 7;
          }
        }
        message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
        message ExtensionNumberResponse { string base_type_name = 1; repeated int32 extension_number = 2; }
        message ListServiceResponse { repeated ServiceResponse service = 1; }
        message ServiceResponse { string name = 1; }
        message ErrorResponse { int32 error_code = 1; string error_message = 2; }"#;

    const HEALTH_TEXT: &str = r#"
        message HealthCheckRequest { string service = 1; }
        message HealthCheckResponse {
          enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
          ServingStatus status = 1;
        }
        service Health {
          rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
          rpc Watch(HealthCheckRequest) returns (stream HealthCheckResponse);
        }"#;

    fn reflection() -> Reflection {
        let one = r#"syntax = "proto3"; package one;
            import "google/api/annotations.proto"; import "two.proto";
            message M { oneof o { string f = 1; } enum E { A = 0; } message N {} }
            enum F { B = 0; }
            service S { rpc R(M) returns (two.T) { option (google.api.http).get = "/"; } }"#;
        let two = r#"syntax = "proto2"; package two;
            message T { extensions 100 to 200; }
            extend T { optional int32 later = 120; optional int32 sooner = 110; }"#;
        let set = protos::set(&[("one.proto", one), ("two.proto", two)]);
        let pool = super::super::pool::pool(&set).unwrap();
        Reflection::new([pool], ["one.S".to_owned()])
    }

    fn answer(ask: Ask) -> Answer {
        let request = Request {
            host: "h".into(),
            ask: Some(ask),
        };
        let response = reflection().answer(request.clone());
        assert_eq!(
            (response.valid_host.as_str(), response.original_request.as_ref()),
            ("h", Some(&request))
        );
        // What is sent can be read.
        let read = Response::decode(&response.encode_to_vec()[..]).unwrap();
        assert_eq!(read, response);
        response.answer.unwrap()
    }

    /// The names of the files of an answer.
    fn names(answer: Answer) -> Vec<String> {
        let Answer::Files(files) = answer else {
            panic!("{answer:?}");
        };
        let files = files.file_descriptor_proto.iter();
        let decoded = files.map(|file| FileDescriptorProto::decode(&file[..]).unwrap());
        decoded.map(|file| file.name().to_owned()).collect()
    }

    fn error_code(answer: Answer) -> i32 {
        match answer {
            Answer::Error(error) => error.error_code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn services_are_listed_in_order_with_its_own() {
        let Answer::Services(services) = answer(Ask::ListServices("*".into())) else {
            panic!();
        };
        let names: Vec<&str> = services.service.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, [HEALTH, SERVICES[0], SERVICES[1], "one.S"]);
    }

    #[test]
    fn a_file_comes_with_what_it_imports() {
        let one = [
            "one.proto",
            "google/api/annotations.proto",
            "two.proto",
            "google/api/http.proto",
            "google/protobuf/descriptor.proto",
        ];
        assert_eq!(names(answer(Ask::FileByFilename("one.proto".into()))), one);
        assert_eq!(
            names(answer(Ask::FileByFilename("two.proto".into()))),
            ["two.proto"]
        );
        for symbol in [
            "one.S", "one.S.R", "one.M", "one.M.f", "one.M.o", "one.M.E", "one.M.A", "one.M.N", "one.F",
            "one.B",
        ] {
            assert_eq!(
                names(answer(Ask::FileContainingSymbol(symbol.into()))),
                one,
                "{symbol}"
            );
        }
        assert_eq!(
            names(answer(Ask::FileContainingSymbol("two.later".into()))),
            ["two.proto"]
        );
        // A set made of it is whole, with the options of methods.
        let Answer::Files(files) = answer(Ask::FileByFilename("one.proto".into())) else {
            panic!();
        };
        let pool = super::super::pool::pool(&files.encode_to_vec()).unwrap();
        let method = pool
            .get_service_by_name("one.S")
            .unwrap()
            .methods()
            .next()
            .unwrap();
        assert!(!method.options().encode_to_vec().is_empty());
    }

    #[test]
    fn an_unknown_symbol_has_no_files_and_all_else_is_not_found() {
        for symbol in [
            "", "one", "one.X", "one.S.X", "one.M.X", "one.E.A", "one.F.B", "two.B", ".", "..one.S",
        ] {
            assert_eq!(
                names(answer(Ask::FileContainingSymbol(symbol.into()))),
                [""; 0],
                "{symbol}"
            );
        }
        let extension = |of: &str, number| {
            Ask::FileContainingExtension(Extension {
                containing_type: of.into(),
                extension_number: number,
            })
        };
        assert_eq!(error_code(answer(Ask::FileByFilename("x.proto".into()))), 5);
        for (of, number) in [("two.T", 111), ("two.T", -1), ("two.X", 110)] {
            assert_eq!(error_code(answer(extension(of, number))), 5);
        }
        assert_eq!(names(answer(extension("two.T", 110))), ["two.proto"]);
        assert_eq!(
            error_code(answer(Ask::AllExtensionNumbersOfType("two.X".into()))),
            5
        );
        let nothing = reflection().answer(Request::default());
        assert_eq!(error_code(nothing.answer.unwrap()), 3);
    }

    #[test]
    fn extensions_are_listed_in_order() {
        for (of, numbers) in [
            ("two.T", &[110, 120][..]),
            ("one.M", &[]),
            ("google.protobuf.MethodOptions", &[72_295_728]),
        ] {
            let expected = Numbers {
                base_type_name: of.into(),
                extension_number: numbers.to_vec(),
            };
            assert_eq!(
                answer(Ask::AllExtensionNumbersOfType(of.into())),
                Answer::Numbers(expected)
            );
        }
    }

    #[test]
    fn it_describes_itself_as_its_files_do() {
        for (name, package, text) in [
            (
                "grpc/reflection/v1/reflection.proto",
                "grpc.reflection.v1",
                REFLECTION,
            ),
            (
                "grpc/reflection/v1alpha/reflection.proto",
                "grpc.reflection.v1alpha",
                REFLECTION,
            ),
            ("grpc/health/v1/health.proto", "grpc.health.v1", HEALTH_TEXT),
        ] {
            let text = format!("syntax = \"proto3\"; package {package}; {text}");
            let set = protos::set(&[(name, &text)]);
            let set = prost_types::FileDescriptorSet::decode(&set[..]).unwrap();
            let mut expected = set.file.into_iter().find(|file| file.name() == name).unwrap();
            expected.source_code_info = None;
            let found = own::pool().get_file_by_name(name).unwrap();
            let mut found = found.file_descriptor_proto().clone();
            // Which is only how streaming methods are written.
            for method in found
                .service
                .iter_mut()
                .chain(&mut expected.service)
                .flat_map(|s| &mut s.method)
            {
                method.client_streaming = Some(method.client_streaming());
                method.server_streaming = Some(method.server_streaming());
            }
            assert_eq!(found, expected);
        }
        for symbol in [SERVICES[0], SERVICES[1], HEALTH] {
            assert_eq!(
                names(answer(Ask::FileContainingSymbol(symbol.into()))).len(),
                1,
                "{symbol}"
            );
        }
    }
}
