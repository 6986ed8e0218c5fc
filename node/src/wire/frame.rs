//! The engine's messages to its peers, one per frame.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::interval::{Interval, WireReplica, WireVector};
use crate::wire::intervals::Intervals;
use crate::wire::shard_part::{Resume, ShardPart};

/// The largest frame. A larger message travels in parts.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Set in the numbers of pulls and of their answers, so that they never meet a batch's.
pub const PULL_ID_BIT: u64 = 1 << 63;

/// Why bytes were refused. Nothing was changed by them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not of the form its kind promises.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Larger than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes, at most {FRAME_BYTES_MAX} are taken")]
    TooLarge(usize),
}

/// All shared shards in one number: what two nodes at rest exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollup {
    /// Sum over the shards of a keyed hash of (shard, version vector, fingerprint).
    pub summary: u64,
    /// Whether everything the sender has applied is durable there.
    pub durable: bool,
    /// How many shards the sender's cluster has.
    pub shards: u32,
}

/// One number per shard that is not empty: sent where roll-ups differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summaries {
    /// Shard and its summary, ascending.
    pub shards: Vec<(u32, u64)>,
    /// Whether the receiver shall send its own: what is equal, both are to know.
    pub reply: bool,
}

/// What a node says of itself in some shards: digest, news and acknowledgement in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The replicas that the vectors index.
    pub replicas: Vec<WireReplica>,
    /// The shards spoken of.
    pub shards: Vec<SaidShard>,
    /// Whether the receiver shall say the same of these shards.
    pub reply: bool,
}

/// One shard in a [`Said`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidShard {
    /// Which shard.
    pub shard: u32,
    /// The sender's version vector; news names only the origins in which there is any.
    pub applied: WireVector,
    /// What of it is durable; absent when all is.
    pub durable: Option<WireVector>,
    /// Below this the sender cannot serve; absent when not told.
    pub base: Option<WireVector>,
    /// The fingerprint of the state at `applied`, when that is the whole vector.
    pub fingerprint: Option<u64>,
    /// Whether the sender counts for majorities: it has caught up since it started.
    pub voting: bool,
}

impl SaidShard {
    /// About how many bytes it takes with its share of the replica table, never less than it does.
    pub fn len_bytes(&self) -> usize {
        let vectors = [Some(&self.applied), self.durable.as_ref(), self.base.as_ref()];
        24 + vectors.into_iter().flatten().map(|v| 40 * v.len()).sum::<usize>()
    }
}

/// "Send me what I lack of this shard."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Which shard.
    pub shard: u32,
    /// The asker's number for it, with [`PULL_ID_BIT`] set; the answer carries it.
    pub id: u64,
    /// The replicas that the vector indexes.
    pub replicas: Vec<WireReplica>,
    /// What the asker has.
    pub vv: WireVector,
}

/// "Send me the next part of this snapshot."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotNext {
    /// Which shard.
    pub shard: u32,
    /// Which session, as named by its parts.
    pub session: u64,
    /// Where the last part ended.
    pub resume: Resume,
}

/// "I serve as many snapshots as I can: ask another, or later."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Which shard was asked for.
    pub shard: u32,
    /// The pull's number.
    pub id: u64,
}

/// "Tell me what you have of these shards, now": the answer is a [`Tell`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The asker's number for it.
    pub id: u64,
    /// Which shards, ascending.
    pub shards: Vec<u32>,
}

/// What an [`Ask`] was about, in one frame with the word that this is it: of two frames one might come first. What does not fit was
/// said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// The asker's number.
    pub id: u64,
    /// What there is.
    pub said: Said,
}

/// What was said last of a node as of one of its epochs: that it is a member, or that it left. Of two such words the one of the
/// later epoch holds, and of one epoch that it left: it comes back under a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Of which node.
    pub node: u128,
    /// As of which of its epochs; 0 where none is known.
    pub epoch: u64,
    /// Whether it left.
    pub has_left: bool,
}

/// A message between two engines.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// See [`Rollup`].
    Rollup(Rollup),
    /// See [`Summaries`].
    Summaries(Summaries),
    /// See [`Said`].
    Said(Said),
    /// See [`Pull`].
    Pull(Pull),
    /// Batches, states, or parts of them: see [`Interval`].
    Intervals(Vec<Interval>),
    /// A part of a snapshot: see [`ShardPart`].
    SnapshotPart(ShardPart),
    /// See [`SnapshotNext`].
    SnapshotNext(SnapshotNext),
    /// See [`Busy`].
    Busy(Busy),
    /// See [`Ask`].
    Ask(Ask),
    /// See [`Tell`].
    Tell(Tell),
    /// Who the members are, as the sender knows it: all of it at first on a link, before anything that the receiver could catch
    /// up by.
    Members(Vec<Standing>),
    /// What the sender's wall clock shows, milliseconds since 1970: said with each comparison of everything, since a clock may jump
    /// long after the link came up.
    Clock(u64),
}

/// Kinds are append-only: a number is never used for anything else.
mod kind {
    pub const ROLLUP: u8 = 1;
    pub const SUMMARIES: u8 = 2;
    pub const SAID: u8 = 3;
    pub const PULL: u8 = 4;
    pub const INTERVALS: u8 = 5;
    pub const SNAPSHOT_PART: u8 = 6;
    pub const SNAPSHOT_NEXT: u8 = 7;
    // 8 was a fence, which the end of the link now says.
    pub const BUSY: u8 = 9;
    pub const ASK: u8 = 10;
    // 11 said that an ask was answered, behind the answer.
    pub const MEMBERS: u8 = 12;
    pub const TELL: u8 = 13;
    pub const CLOCK: u8 = 14;
}

impl Frame {
    /// The frame's bytes, where nobody needs it any more: nothing in it is copied.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Frame::Intervals(m) => seal(kind::INTERVALS, &Intervals::pack(m)),
            other => other.encode(),
        }
    }

    /// The frame's bytes: a kind and its body.
    pub fn encode(&self) -> Bytes {
        match self {
            Frame::Rollup(m) => seal(kind::ROLLUP, m),
            Frame::Summaries(m) => seal(kind::SUMMARIES, m),
            Frame::Said(m) => seal(kind::SAID, m),
            Frame::Pull(m) => seal(kind::PULL, m),
            Frame::Intervals(_) => self.clone().into_bytes(),
            Frame::SnapshotPart(m) => seal(kind::SNAPSHOT_PART, m),
            Frame::SnapshotNext(m) => seal(kind::SNAPSHOT_NEXT, m),
            Frame::Busy(m) => seal(kind::BUSY, m),
            Frame::Ask(m) => seal(kind::ASK, m),
            Frame::Tell(m) => seal(kind::TELL, m),
            Frame::Members(members) => seal(kind::MEMBERS, members),
            Frame::Clock(wall_ms) => seal(kind::CLOCK, wall_ms),
        }
    }

    /// The frame in these bytes; `None` when its kind is of a later version, which is skipped.
    pub fn decode(bytes: &[u8]) -> Result<Option<Frame>, DecodeError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(DecodeError::TooLarge(bytes.len()));
        }
        let Some((&kind, body)) = bytes.split_first() else {
            return Err(DecodeError::Malformed {
                what: "frame",
                why: "it is empty".into(),
            });
        };
        let frame = match kind {
            kind::ROLLUP => Frame::Rollup(open("roll-up", body)?),
            kind::SUMMARIES => Frame::Summaries(open("summaries", body)?),
            kind::SAID => Frame::Said(open("said", body)?),
            kind::PULL => Frame::Pull(open("pull", body)?),
            kind::INTERVALS => Frame::Intervals(open::<Intervals>("intervals", body)?.unpack()?),
            kind::SNAPSHOT_PART => Frame::SnapshotPart(open("snapshot part", body)?),
            kind::SNAPSHOT_NEXT => Frame::SnapshotNext(open("snapshot request", body)?),
            kind::BUSY => Frame::Busy(open("busy", body)?),
            kind::ASK => Frame::Ask(open("ask", body)?),
            kind::TELL => Frame::Tell(open("answer to an ask", body)?),
            kind::MEMBERS => Frame::Members(open("members", body)?),
            kind::CLOCK => Frame::Clock(open("clock", body)?),
            _ => return Ok(None),
        };
        Ok(Some(frame))
    }
}

/// A kind byte and a postcard body.
pub(super) fn seal<T: Serialize>(kind: u8, body: &T) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.push(kind);
    match postcard::to_extend(body, out) {
        Ok(out) => out.into(),
        // It is written into memory; serde only fails for types without a form, and ours all have one.
        Err(error) => unreachable!("a wire type could not be written: {error}"),
    }
}

/// The body of a message, whole: bytes left over are an error too.
pub(super) fn open<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, DecodeError> {
    let (value, rest) = postcard::take_from_bytes::<T>(body).map_err(|e| DecodeError::Malformed {
        what,
        why: e.to_string(),
    })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Malformed {
            what,
            why: format!("{} bytes too many", rest.len()),
        })
    }
}
