//! The descriptors of the services that every node has, from what is known of their public files: reflection and health.
//!
//! Written here as tables, so that nothing has to be compiled for them; a test compares them with their text.

use prost_reflect::DescriptorPool;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
};

/// Name, number and type of a field; a type that is none of the language's is a message of the same file.
type Field = (&'static str, i32, &'static str);

/// A message: its name, its fields, and the name and fields of its only `oneof`.
type MessageOf = (
    &'static str,
    &'static [Field],
    Option<(&'static str, &'static [Field])>,
);

const REFLECTION: [MessageOf; 8] = [
    (
        "ServerReflectionRequest",
        &[("host", 1, "string")],
        Some((
            "message_request",
            &[
                ("file_by_filename", 3, "string"),
                ("file_containing_symbol", 4, "string"),
                ("file_containing_extension", 5, "ExtensionRequest"),
                ("all_extension_numbers_of_type", 6, "string"),
                ("list_services", 7, "string"),
            ],
        )),
    ),
    (
        "ExtensionRequest",
        &[("containing_type", 1, "string"), ("extension_number", 2, "int32")],
        None,
    ),
    (
        "ServerReflectionResponse",
        &[
            ("valid_host", 1, "string"),
            ("original_request", 2, "ServerReflectionRequest"),
        ],
        Some((
            "message_response",
            &[
                ("file_descriptor_response", 4, "FileDescriptorResponse"),
                ("all_extension_numbers_response", 5, "ExtensionNumberResponse"),
                ("list_services_response", 6, "ListServiceResponse"),
                ("error_response", 7, "ErrorResponse"),
            ],
        )),
    ),
    (
        "FileDescriptorResponse",
        &[("file_descriptor_proto", 1, "repeated bytes")],
        None,
    ),
    (
        "ExtensionNumberResponse",
        &[
            ("base_type_name", 1, "string"),
            ("extension_number", 2, "repeated int32"),
        ],
        None,
    ),
    (
        "ListServiceResponse",
        &[("service", 1, "repeated ServiceResponse")],
        None,
    ),
    ("ServiceResponse", &[("name", 1, "string")], None),
    (
        "ErrorResponse",
        &[("error_code", 1, "int32"), ("error_message", 2, "string")],
        None,
    ),
];

const SERVING: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Their pool, with Google's own files.
pub(super) fn pool() -> DescriptorPool {
    let mut pool = DescriptorPool::global();
    let added = pool.add_file_descriptor_protos([reflection("v1"), reflection("v1alpha"), health()]);
    // They do not depend on anything that comes from elsewhere, and the test has seen them.
    debug_assert!(added.is_ok(), "{added:?}");
    pool
}

fn reflection(version: &str) -> FileDescriptorProto {
    let package = format!("grpc.reflection.{version}");
    let messages = REFLECTION.iter().map(|of| message(&package, of)).collect();
    let info = method(
        &package,
        "ServerReflectionInfo",
        ["ServerReflectionRequest", "ServerReflectionResponse"],
        [true, true],
    );
    let service = service("ServerReflection", vec![info]);
    file(
        format!("grpc/reflection/{version}/reflection.proto"),
        package,
        messages,
        service,
    )
}

fn health() -> FileDescriptorProto {
    let package = "grpc.health.v1";
    let request = message(
        package,
        &("HealthCheckRequest", &[("service", 1, "string")], None),
    );
    let mut response = message(package, &("HealthCheckResponse", &[], None));
    let values = SERVING
        .iter()
        .zip(0..)
        .map(|(name, number)| EnumValueDescriptorProto {
            name: Some((*name).to_owned()),
            number: Some(number),
            options: None,
        });
    response.enum_type.push(EnumDescriptorProto {
        name: Some("ServingStatus".to_owned()),
        value: values.collect(),
        ..EnumDescriptorProto::default()
    });
    let mut status = field(package, &("status", 1, "HealthCheckResponse.ServingStatus"));
    status.set_type(Type::Enum);
    response.field.push(status);
    let of = ["HealthCheckRequest", "HealthCheckResponse"];
    let methods = vec![
        method(package, "Check", of, [false, false]),
        method(package, "Watch", of, [false, true]),
    ];
    file(
        "grpc/health/v1/health.proto".to_owned(),
        package.to_owned(),
        vec![request, response],
        service("Health", methods),
    )
}

fn file(
    name: String,
    package: String,
    messages: Vec<DescriptorProto>,
    service: ServiceDescriptorProto,
) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name),
        package: Some(package),
        message_type: messages,
        service: vec![service],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn message(package: &str, (name, fields, oneof): &MessageOf) -> DescriptorProto {
    let mut message = DescriptorProto {
        name: Some((*name).to_owned()),
        field: fields.iter().map(|of| field(package, of)).collect(),
        ..DescriptorProto::default()
    };
    if let Some((name, fields)) = oneof {
        message.oneof_decl.push(OneofDescriptorProto {
            name: Some((*name).to_owned()),
            options: None,
        });
        message.field.extend(fields.iter().map(|of| FieldDescriptorProto {
            oneof_index: Some(0),
            ..field(package, of)
        }));
    }
    message
}

fn field(package: &str, (name, number, of): &Field) -> FieldDescriptorProto {
    let (label, of) = match of.strip_prefix("repeated ") {
        Some(of) => (Label::Repeated, of),
        None => (Label::Optional, *of),
    };
    let (kind, type_name) = match of {
        "string" => (Type::String, None),
        "bytes" => (Type::Bytes, None),
        "int32" => (Type::Int32, None),
        of => (Type::Message, Some(format!(".{package}.{of}"))),
    };
    FieldDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(*number),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        type_name,
        json_name: Some(json_name(name)),
        ..FieldDescriptorProto::default()
    }
}

fn json_name(name: &str) -> String {
    let mut parts = name.split('_');
    let mut json = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (first, rest) = part.split_at(1.min(part.len()));
        json.push_str(&first.to_ascii_uppercase());
        json.push_str(rest);
    }
    json
}

fn service(name: &str, method: Vec<MethodDescriptorProto>) -> ServiceDescriptorProto {
    ServiceDescriptorProto {
        name: Some(name.to_owned()),
        method,
        options: None,
    }
}

fn method(package: &str, name: &str, of: [&str; 2], streams: [bool; 2]) -> MethodDescriptorProto {
    let [input, output] = of.map(|of| format!(".{package}.{of}"));
    let [client, server] = streams;
    MethodDescriptorProto {
        name: Some(name.to_owned()),
        input_type: Some(input),
        output_type: Some(output),
        options: None,
        client_streaming: Some(client),
        server_streaming: Some(server),
    }
}
