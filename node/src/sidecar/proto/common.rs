//! What all kinds of components have in common: `kalix.component` and `kalix.component.entity`.

use bytes::Bytes;

/// A message of a type that its URL names.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<MetadataEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MetadataEntry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(oneof = "MetadataValue", tags = "2, 3")]
    pub value: Option<MetadataValue>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum MetadataValue {
    #[prost(string, tag = "2")]
    Text(String),
    #[prost(bytes = "bytes", tag = "3")]
    Bytes(Bytes),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Reply {
    #[prost(message, optional, tag = "1")]
    pub payload: Option<Any>,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Forward {
    #[prost(string, tag = "1")]
    pub service_name: String,
    #[prost(string, tag = "2")]
    pub command_name: String,
    #[prost(message, optional, tag = "3")]
    pub payload: Option<Any>,
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SideEffect {
    #[prost(string, tag = "1")]
    pub service_name: String,
    #[prost(string, tag = "2")]
    pub command_name: String,
    #[prost(message, optional, tag = "3")]
    pub payload: Option<Any>,
    #[prost(bool, tag = "4")]
    pub synchronous: bool,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Failure {
    /// 0: not a command's, the whole stream's.
    #[prost(int64, tag = "1")]
    pub command_id: i64,
    #[prost(string, tag = "2")]
    pub description: String,
    /// 0: none was given.
    #[prost(uint32, tag = "4")]
    pub grpc_status_code: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientAction {
    #[prost(oneof = "Action", tags = "1, 2, 3")]
    pub action: Option<Action>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Action {
    #[prost(message, tag = "1")]
    Reply(Reply),
    #[prost(message, tag = "2")]
    Forward(Forward),
    #[prost(message, tag = "3")]
    Failure(Failure),
}

/// A command to an entity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    #[prost(string, tag = "1")]
    pub entity_id: String,
    #[prost(int64, tag = "2")]
    pub id: i64,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(message, optional, tag = "4")]
    pub payload: Option<Any>,
    #[prost(bool, tag = "5")]
    pub streamed: bool,
    #[prost(message, optional, tag = "6")]
    pub metadata: Option<Metadata>,
}
