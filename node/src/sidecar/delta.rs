//! What becomes of an entity, in no dialect's words.
//!
//! Not here: what it does to the entity (`taken`), how it comes about (`shown`), and its bytes (`dialect`).

use anabranch_crdt::Type;

use super::proto::common::Any;
pub use super::proto::entity::{RegisterClock, RegisterDelta, SetDelta, VoteDelta};

/// A change: of the empty entity, where it is a whole one.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// A counter that only grows, by so much.
    GCounter(u64),
    /// A counter, by so much.
    Counter(i64),
    /// Elements of a set that only grows.
    GSet(Vec<Any>),
    /// A set.
    Set(SetDelta),
    /// A register's new value.
    Register(RegisterDelta),
    /// A flag; not enabled, if it is only made.
    Flag(bool),
    /// A map, of any type.
    Map(MapDelta),
    /// A vote.
    Vote(VoteDelta),
}

/// What becomes of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct MapDelta {
    /// Which type of map.
    pub ty: Type,
    /// It has lost all its children.
    pub cleared: bool,
    /// It has lost these.
    pub removed: Vec<Any>,
    /// What became of some that it had.
    pub updated: Vec<(Any, Delta)>,
    /// Its new ones, whole; among those above in a map whose children are of one type.
    pub added: Vec<(Any, Delta)>,
}

impl Delta {
    /// The type of what it is a change of.
    pub fn ty(&self) -> Type {
        match self {
            Delta::GCounter(_) => Type::GCounter,
            Delta::Counter(_) => Type::PnCounter,
            Delta::GSet(_) => Type::GSet,
            Delta::Set(_) => Type::OrSet,
            Delta::Register(_) => Type::LwwRegister,
            Delta::Flag(_) => Type::Flag,
            Delta::Map(map) => map.ty,
            Delta::Vote(_) => Type::Vote,
        }
    }
}
