//! What callers learn of the services.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::dialect::services;
use crate::ingress::own;
use crate::support::grpc::Grpc;

/// The services are listed, and what nobody knows is answered with no files.
pub fn reflects(ingress: SocketAddr) {
    let mut client = Grpc::connect(ingress, &own());
    let listed = services().map(|service| format!("tck.{service}"));
    let own = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    let mut expected: Vec<String> = listed.chain(own.map(str::to_owned)).collect();
    expected.sort_unstable();
    let asked = [
        json!({"listServices": ""}),
        json!({"listServices": "nowhere."}),
        json!({"fileContainingSymbol": "nowhere.Nothing"}),
        json!({"fileContainingSymbol": "tck.Two"}),
    ];
    let answer = client.ask(
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        &asked,
    );
    assert_eq!((answer.code, answer.messages.len()), (0, 4), "{answer:?}");
    for message in &answer.messages[..2] {
        let services = message["listServicesResponse"]["service"].as_array().unwrap();
        let names: Vec<&str> = services
            .iter()
            .filter_map(|service| service["name"].as_str())
            .collect();
        assert_eq!(names, expected);
    }
    let files = |message: &Value| {
        message["fileDescriptorResponse"]["fileDescriptorProto"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(files(&answer.messages[2]), Some(0), "{answer:?}");
    assert_ne!(files(&answer.messages[3]), Some(0));
}
