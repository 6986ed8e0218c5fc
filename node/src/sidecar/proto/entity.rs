//! `kalix.component.replicatedentity`: the stream of one entity, and what changes it.

use super::common::{Any, ClientAction, Command, Failure, SideEffect};

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamIn {
    #[prost(oneof = "In", tags = "1, 2, 3, 4")]
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
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamOut {
    #[prost(oneof = "Out", tags = "1, 2")]
    pub message: Option<Out>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Out {
    #[prost(message, tag = "1")]
    Reply(EntityReply),
    #[prost(message, tag = "2")]
    Failure(Failure),
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
pub struct EntityReply {
    #[prost(int64, tag = "1")]
    pub command_id: i64,
    #[prost(message, optional, tag = "2")]
    pub client_action: Option<ClientAction>,
    #[prost(message, repeated, tag = "4")]
    pub side_effects: Vec<SideEffect>,
    #[prost(message, optional, tag = "5")]
    pub state_action: Option<StateAction>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StateAction {
    #[prost(oneof = "StateChange", tags = "1, 2")]
    pub action: Option<StateChange>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StateChange {
    #[prost(message, tag = "1")]
    Update(Delta),
    #[prost(message, tag = "2")]
    Delete(Delete),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Delete {}

/// A change of any of the types.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delta {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    #[prost(message, tag = "1")]
    Counter(CounterDelta),
    #[prost(message, tag = "2")]
    Set(SetDelta),
    #[prost(message, tag = "3")]
    Register(RegisterDelta),
    #[prost(message, tag = "4")]
    Map(MapDelta),
    #[prost(message, tag = "5")]
    CounterMap(CounterMapDelta),
    #[prost(message, tag = "6")]
    RegisterMap(RegisterMapDelta),
    #[prost(message, tag = "7")]
    MultiMap(MultiMapDelta),
    #[prost(message, tag = "8")]
    Vote(VoteDelta),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CounterDelta {
    #[prost(sint64, tag = "1")]
    pub change: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SetDelta {
    #[prost(bool, tag = "1")]
    pub cleared: bool,
    #[prost(message, repeated, tag = "2")]
    pub removed: Vec<Any>,
    #[prost(message, repeated, tag = "3")]
    pub added: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterDelta {
    #[prost(message, optional, tag = "1")]
    pub value: Option<Any>,
    #[prost(enumeration = "RegisterClock", tag = "2")]
    pub clock: i32,
    #[prost(int64, tag = "3")]
    pub custom_clock_value: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RegisterClock {
    Default = 0,
    Reverse = 1,
    Custom = 2,
    CustomAutoIncrement = 3,
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

#[derive(Clone, PartialEq, prost::Message)]
pub struct CounterMapDelta {
    #[prost(bool, tag = "1")]
    pub cleared: bool,
    #[prost(message, repeated, tag = "2")]
    pub removed: Vec<Any>,
    #[prost(message, repeated, tag = "3")]
    pub updated: Vec<CounterMapEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CounterMapEntry {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Any>,
    #[prost(message, optional, tag = "2")]
    pub delta: Option<CounterDelta>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterMapDelta {
    #[prost(bool, tag = "1")]
    pub cleared: bool,
    #[prost(message, repeated, tag = "2")]
    pub removed: Vec<Any>,
    #[prost(message, repeated, tag = "3")]
    pub updated: Vec<RegisterMapEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterMapEntry {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Any>,
    #[prost(message, optional, tag = "2")]
    pub delta: Option<RegisterDelta>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MultiMapDelta {
    #[prost(bool, tag = "1")]
    pub cleared: bool,
    #[prost(message, repeated, tag = "2")]
    pub removed: Vec<Any>,
    #[prost(message, repeated, tag = "3")]
    pub updated: Vec<MultiMapEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MultiMapEntry {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Any>,
    #[prost(message, optional, tag = "2")]
    pub delta: Option<SetDelta>,
}

/// The numbers are all there are, not how many came; the function says nothing of them.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct VoteDelta {
    #[prost(bool, tag = "1")]
    pub self_vote: bool,
    #[prost(int32, tag = "2")]
    pub votes_for: i32,
    #[prost(int32, tag = "3")]
    pub total_voters: i32,
}
