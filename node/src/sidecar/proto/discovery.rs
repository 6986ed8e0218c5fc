//! `kalix.protocol.Discovery` and `cloudstate.EntityDiscovery`: what a function is.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The type of a component that is entities, and of one that is commands to nobody in particular.
pub const ENTITIES: &str = "kalix.component.replicatedentity.ReplicatedEntities";
pub const ACTIONS: &str = "kalix.component.action.Actions";

#[derive(Clone, PartialEq, prost::Message)]
pub struct ProxyInfo {
    #[prost(int32, tag = "1")]
    pub protocol_major_version: i32,
    #[prost(int32, tag = "2")]
    pub protocol_minor_version: i32,
    #[prost(string, tag = "3")]
    pub proxy_name: String,
    #[prost(string, tag = "4")]
    pub proxy_version: String,
    #[prost(string, repeated, tag = "5")]
    pub supported_entity_types: Vec<String>,
    #[prost(bool, tag = "6")]
    pub dev_mode: bool,
    #[prost(string, tag = "7")]
    pub proxy_hostname: String,
    #[prost(message, optional, tag = "8")]
    pub identification_info: Option<IdentificationInfo>,
    #[prost(string, tag = "9")]
    pub internal_proxy_hostname: String,
    #[prost(int32, tag = "10")]
    pub proxy_port: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct IdentificationInfo {
    #[prost(string, tag = "1")]
    pub self_identification_header: String,
    #[prost(string, tag = "2")]
    pub self_identification_token: String,
    #[prost(string, tag = "3")]
    pub service_identification_header: String,
    #[prost(string, tag = "4")]
    pub self_deployment_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Spec {
    /// A `FileDescriptorSet`.
    #[prost(bytes = "bytes", tag = "1")]
    pub proto: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub components: Vec<Component>,
    #[prost(message, optional, tag = "3")]
    pub service_info: Option<ServiceInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceInfo {
    #[prost(string, tag = "1")]
    pub service_name: String,
    #[prost(string, tag = "2")]
    pub service_version: String,
    #[prost(string, tag = "3")]
    pub service_runtime: String,
    #[prost(string, tag = "4")]
    pub support_library_name: String,
    #[prost(string, tag = "5")]
    pub support_library_version: String,
    #[prost(int32, tag = "6")]
    pub protocol_major_version: i32,
    #[prost(int32, tag = "7")]
    pub protocol_minor_version: i32,
    #[prost(btree_map = "string, string", tag = "8")]
    pub env: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Component {
    #[prost(string, tag = "1")]
    pub component_type: String,
    #[prost(string, tag = "2")]
    pub service_name: String,
    #[prost(oneof = "ComponentSettings", tags = "3, 4")]
    pub settings: Option<ComponentSettings>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ComponentSettings {
    #[prost(message, tag = "3")]
    Entity(EntitySettings),
    #[prost(message, tag = "4")]
    Component(GenericComponentSettings),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GenericComponentSettings {
    #[prost(string, repeated, tag = "1")]
    pub forward_headers: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EntitySettings {
    #[prost(string, tag = "3")]
    pub entity_type: String,
    #[prost(message, optional, tag = "4")]
    pub passivation_strategy: Option<PassivationStrategy>,
    #[prost(string, repeated, tag = "5")]
    pub forward_headers: Vec<String>,
    #[prost(message, optional, tag = "6")]
    pub replicated_entity: Option<ReplicatedEntitySettings>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PassivationStrategy {
    #[prost(message, optional, tag = "1")]
    pub timeout: Option<TimeoutPassivationStrategy>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeoutPassivationStrategy {
    /// Milliseconds.
    #[prost(int64, tag = "1")]
    pub timeout: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicatedEntitySettings {
    #[prost(int32, tag = "1")]
    pub write_consistency: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct UserFunctionError {
    #[prost(string, tag = "1")]
    pub message: String,
    #[prost(string, tag = "2")]
    pub code: String,
    #[prost(string, tag = "3")]
    pub detail: String,
    #[prost(message, repeated, tag = "4")]
    pub source_locations: Vec<SourceLocation>,
    #[prost(enumeration = "Severity", tag = "7")]
    pub severity: i32,
}

/// Lines and columns count from 0.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SourceLocation {
    #[prost(string, tag = "1")]
    pub file_name: String,
    #[prost(int32, tag = "2")]
    pub start_line: i32,
    #[prost(int32, tag = "3")]
    pub start_col: i32,
    #[prost(int32, tag = "4")]
    pub end_line: i32,
    #[prost(int32, tag = "5")]
    pub end_col: i32,
    #[prost(int32, repeated, tag = "6")]
    pub proto_path: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Severity {
    Unspecified = 0,
    Error = 1,
    Warning = 2,
    Info = 3,
}

/// Cloudstate's; its services' information is Kalix's, without an environment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntitySpec {
    #[prost(bytes = "bytes", tag = "1")]
    pub proto: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub entities: Vec<Entity>,
    #[prost(message, optional, tag = "3")]
    pub service_info: Option<ServiceInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Entity {
    #[prost(string, tag = "1")]
    pub entity_type: String,
    #[prost(string, tag = "2")]
    pub service_name: String,
    #[prost(string, tag = "3")]
    pub persistence_id: String,
    #[prost(message, optional, tag = "4")]
    pub passivation_strategy: Option<PassivationStrategy>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}
