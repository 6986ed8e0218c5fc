//! Updates that wait for their answers, as the oracles are told of them.

use anabranch::{DirectoryId, Level};

use crate::model::{EntityIx, Vv};
use crate::net::NodeIx;
use crate::oracle::{Answered, Asked, Issue};
use crate::queue::Micros;

/// An update that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// The client that hears the answer, unless it asks again.
    pub client: Option<usize>,
    pub node: NodeIx,
    pub asked: Asked,
    pub issue: Issue,
    pub level: Level,
    /// What its node covered, in the shards of an update that did nothing, or that took something away.
    pub saw: Vec<(u32, Vv)>,
    /// Whether it must be called a repeat, where that is known.
    pub repeats: Option<bool>,
    pub key: Option<u64>,
    pub answer_by: Micros,
    /// Whether nothing may stand in its way: all was healed.
    pub must: bool,
    /// The entity and the command of the function whose commit it is.
    pub function: Option<(EntityIx, u64)>,
}

impl Waiting {
    /// As the oracle is told of its answer, from a node whose directory is this one.
    pub fn answered(&self, directory: DirectoryId) -> Answered<'_> {
        Answered {
            issue: &self.issue,
            level: self.level,
            saw: &self.saw,
            directory,
            repeats: self.repeats,
        }
    }
}
