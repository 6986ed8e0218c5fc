//! `cloudstate.crdt`, as of the first version of that protocol: where an entity is new to a function, it is told its state.

use super::common::{Any, Command};
use super::crdt::{Cancelled, FlagDelta, GCounterDelta, Items};
use super::entity::{CounterDelta, Delete, RegisterDelta, SetDelta, VoteDelta};

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamIn {
    #[prost(oneof = "In", tags = "1, 2, 3, 4, 5, 6")]
    pub message: Option<In>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum In {
    #[prost(message, tag = "1")]
    Init(Init),
    #[prost(message, tag = "2")]
    State(State),
    #[prost(message, tag = "3")]
    Changed(Delta),
    #[prost(message, tag = "4")]
    Deleted(Delete),
    #[prost(message, tag = "5")]
    Command(Command),
    #[prost(message, tag = "6")]
    Cancelled(Cancelled),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Init {
    #[prost(string, tag = "1")]
    pub service_name: String,
    #[prost(string, tag = "2")]
    pub entity_id: String,
    #[prost(message, optional, tag = "3")]
    pub state: Option<State>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct State {
    #[prost(oneof = "Whole", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub state: Option<Whole>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Whole {
    #[prost(message, tag = "1")]
    GCounter(GCounterDelta),
    #[prost(message, tag = "2")]
    Counter(CounterState),
    #[prost(message, tag = "3")]
    GSet(Items),
    #[prost(message, tag = "4")]
    Set(Items),
    #[prost(message, tag = "5")]
    Register(RegisterDelta),
    #[prost(message, tag = "6")]
    Flag(FlagDelta),
    #[prost(message, tag = "7")]
    Map(MapState),
    #[prost(message, tag = "8")]
    Vote(VoteState),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CounterState {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MapState {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<StateEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StateEntry {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Any>,
    #[prost(message, optional, tag = "2")]
    pub value: Option<State>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct VoteState {
    #[prost(uint32, tag = "1")]
    pub votes_for: u32,
    #[prost(uint32, tag = "2")]
    pub total_voters: u32,
    #[prost(bool, tag = "3")]
    pub self_vote: bool,
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

#[derive(Clone, PartialEq, prost::Message)]
pub struct MapDelta {
    #[prost(bool, tag = "1")]
    pub cleared: bool,
    #[prost(message, repeated, tag = "2")]
    pub removed: Vec<Any>,
    #[prost(message, repeated, tag = "3")]
    pub updated: Vec<DeltaEntry>,
    #[prost(message, repeated, tag = "4")]
    pub added: Vec<StateEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaEntry {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Any>,
    #[prost(message, optional, tag = "2")]
    pub delta: Option<Delta>,
}
