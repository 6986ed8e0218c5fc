//! The live state of a shard, in bounded parts: snapshots between nodes and on disk.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::interval::{WireEntity, WireReplica, WireVector};

/// Where a walk over a shard stands: after the first `puts` puts of `entity`; `None` at its beginning.
pub type Resume = Option<(WireEntity, u64)>;

/// A complete range of a shard's live state under one version vector: what it does not list in its range, and the
/// vector covers, is dead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardPart {
    /// Which shard.
    pub shard: u32,
    /// Names the transfer, so that parts of two are never mixed.
    pub session: u64,
    /// The replicas that everything below indexes.
    pub replicas: Vec<WireReplica>,
    /// The version vector the whole transfer shows.
    pub view: WireVector,
    /// Where the part before this one ended.
    pub after: Resume,
    /// The rows, ascending by entity; the first may go on with the last entity of the part before.
    #[serde(with = "super::front::rows")]
    pub rows: Vec<WireRow>,
    /// Whether this is the last part.
    pub last: bool,
}

impl ShardPart {
    /// About how many bytes it takes, never less than it does.
    pub fn len_bytes(&self) -> usize {
        let rows: usize = self.rows.iter().map(WireRow::len_bytes).sum();
        24 * (self.replicas.len() + self.view.len()) + rows
    }
}

/// Live puts of one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct WireRow {
    /// Whose.
    pub entity: WireEntity,
    /// How many.
    pub count: u64,
    /// The puts, as [`anabranch_crdt::encode_puts`] writes them under the part's table of replicas.
    pub puts: Bytes,
}

impl WireRow {
    fn len_bytes(&self) -> usize {
        self.entity.len_bytes() + 20 + self.puts.len()
    }
}
