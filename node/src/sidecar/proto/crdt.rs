//! `cloudstate.crdt`, as of version 0.2 of that protocol; what of it the first version has too, the latter uses as well (`early`).

use super::common::{Any, ClientAction, Command, Failure, SideEffect};
use super::early;
use super::entity::{CounterDelta, Delete, RegisterDelta, SetDelta, VoteDelta};

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamIn {
    #[prost(oneof = "In", tags = "1, 2, 3, 4, 5")]
    pub message: Option<In>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum In {
    #[prost(message, tag = "1")]
    Init(Init),
    #[prost(message, tag = "2")]
    Delta(Delta),
    #[prost(message, tag = "3")]
    Delete(Delete),
    #[prost(message, tag = "4")]
    Command(Command),
    #[prost(message, tag = "5")]
    Cancelled(Cancelled),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Init {
    #[prost(string, tag = "1")]
    pub service_name: String,
    #[prost(string, tag = "2")]
    pub entity_id: String,
    #[prost(message, optional, tag = "3")]
    pub delta: Option<Delta>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Cancelled {
    #[prost(string, tag = "1")]
    pub entity_id: String,
    #[prost(int64, tag = "2")]
    pub id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamOut {
    #[prost(oneof = "Out", tags = "1, 2, 3, 4")]
    pub message: Option<Out>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Out {
    #[prost(message, tag = "1")]
    Reply(Reply),
    #[prost(message, tag = "2")]
    Streamed(Streamed),
    #[prost(message, tag = "3")]
    Cancelled(CancelledReply),
    #[prost(message, tag = "4")]
    Failure(Failure),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Reply {
    #[prost(int64, tag = "1")]
    pub command_id: i64,
    #[prost(message, optional, tag = "2")]
    pub client_action: Option<ClientAction>,
    #[prost(message, repeated, tag = "4")]
    pub side_effects: Vec<SideEffect>,
    #[prost(message, optional, tag = "5")]
    pub state_action: Option<StateAction>,
    #[prost(bool, tag = "6")]
    pub streamed: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Streamed {
    #[prost(int64, tag = "1")]
    pub command_id: i64,
    #[prost(message, optional, tag = "2")]
    pub client_action: Option<ClientAction>,
    #[prost(message, repeated, tag = "3")]
    pub side_effects: Vec<SideEffect>,
    #[prost(bool, tag = "4")]
    pub end_stream: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CancelledReply {
    #[prost(int64, tag = "1")]
    pub command_id: i64,
    #[prost(message, repeated, tag = "2")]
    pub side_effects: Vec<SideEffect>,
    #[prost(message, optional, tag = "3")]
    pub state_action: Option<StateAction>,
}

/// As both versions have it: their numbers differ.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateAction {
    #[prost(oneof = "StateChange", tags = "1, 2, 5, 6, 7")]
    pub action: Option<StateChange>,
    #[prost(int32, tag = "3")]
    pub write_consistency: i32,
    #[prost(int32, tag = "8")]
    pub early_write_consistency: i32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StateChange {
    #[prost(message, tag = "1")]
    Update(Delta),
    #[prost(message, tag = "2")]
    Delete(Delete),
    #[prost(message, tag = "5")]
    EarlyCreate(early::State),
    #[prost(message, tag = "6")]
    EarlyUpdate(early::Delta),
    #[prost(message, tag = "7")]
    EarlyDelete(Delete),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Delta {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    #[prost(message, tag = "1")]
    GCounter(GCounterDelta),
    #[prost(message, tag = "2")]
    Counter(CounterDelta),
    #[prost(message, tag = "3")]
    GSet(Items),
    #[prost(message, tag = "4")]
    Set(SetDelta),
    #[prost(message, tag = "5")]
    Register(RegisterDelta),
    #[prost(message, tag = "6")]
    Flag(FlagDelta),
    #[prost(message, tag = "7")]
    Map(MapDelta),
    #[prost(message, tag = "8")]
    Vote(VoteDelta),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GCounterDelta {
    #[prost(uint64, tag = "1")]
    pub increment: u64,
}

/// What is in a set, or came to it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Items {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Any>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct FlagDelta {
    #[prost(bool, tag = "1")]
    pub value: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MapDelta {
    #[prost(bool, tag = "1")]
    pub cleared: bool,
    #[prost(message, repeated, tag = "2")]
    pub removed: Vec<Any>,
    #[prost(message, repeated, tag = "3")]
    pub updated: Vec<MapEntry>,
    #[prost(message, repeated, tag = "4")]
    pub added: Vec<MapEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MapEntry {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Any>,
    #[prost(message, optional, tag = "2")]
    pub delta: Option<Delta>,
}
