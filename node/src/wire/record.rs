//! What the engine writes to the log and into snapshots. The store keeps these bytes and does not look inside.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::frame::{DecodeError, Standing, open, seal};
use crate::wire::interval::Interval;
use crate::wire::intervals::Intervals;
use crate::wire::shard_part::ShardPart;

/// An idempotency key and the answer it stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRow {
    /// The caller's key.
    pub key: Bytes,
    /// A hash of the update it was used for.
    pub update: u64,
    /// When, wall-clock milliseconds.
    pub at_ms: u64,
    /// The epoch the update was made in.
    pub epoch: u64,
    /// The dots it consumed: shard, first, last.
    pub dots: Vec<(u32, u64, u64)>,
}

/// One atomic step of the engine's state.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Intervals applied together, and the idempotency key they were made under.
    Applied(Vec<Interval>, Option<KeyRow>),
    /// A part of a snapshot; without effect until its `Installed`.
    Staged(ShardPart),
    /// All parts of this session, joined under its view, in one step.
    Installed {
        /// Which shard.
        shard: u32,
        /// Which session.
        session: u64,
    },
    /// Nodes that became members.
    Members(Vec<u128>),
    /// This directory has caught up in every shard: it is not new any more.
    Settled,
    /// A node that is no member any more, until a later [`Record::Members`] names it.
    MemberLeft(u128),
    /// What was said of nodes; it takes the place of [`Record::Members`] and [`Record::MemberLeft`], which knew no epochs.
    Standings(Vec<Standing>),
    /// The run (its epoch) from which on this directory has what its runs did to bounded counters before anybody else.
    KeepsSince(u64),
    /// A piece of a record too large for one; without effect until its last.
    Piece {
        /// Whether it is the first: what an earlier one began is void.
        first: bool,
        /// Whether it is the last: all pieces together are the record.
        last: bool,
        /// The bytes.
        bytes: Bytes,
    },
}

/// One block of a disk snapshot.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageBlock {
    /// A part of a shard.
    Part(ShardPart),
    /// Idempotency keys.
    Keys(Vec<KeyRow>),
    /// The members.
    Members(Vec<u128>),
    /// See [`Record::Settled`].
    Settled,
    /// Nodes that left and are no members, whatever the configuration says.
    Left(Vec<u128>),
    /// What was said last of each node; see [`Record::Standings`].
    Standings(Vec<Standing>),
    /// See [`Record::KeepsSince`].
    KeepsSince(u64),
}

/// Append-only numbers of records and blocks.
pub(super) mod kind {
    pub const APPLIED: u8 = 1;
    pub const STAGED: u8 = 2;
    pub const INSTALLED: u8 = 3;
    pub const MEMBERS: u8 = 4;
    pub const SETTLED: u8 = 5;
    pub const MEMBER_LEFT: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const STANDINGS: u8 = 8;
    pub const KEEPS_SINCE: u8 = 9;
    pub const PART: u8 = 65;
    pub const KEYS: u8 = 66;
    pub const IMAGE_MEMBERS: u8 = 67;
    pub const IMAGE_SETTLED: u8 = 68;
    pub const IMAGE_LEFT: u8 = 69;
    pub const IMAGE_STANDINGS: u8 = 70;
    pub const IMAGE_KEEPS_SINCE: u8 = 71;
}

fn split<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(u8, &'a [u8]), DecodeError> {
    match bytes.split_first() {
        Some((&kind, body)) => Ok((kind, body)),
        None => Err(DecodeError::Malformed {
            what,
            why: "it is empty".into(),
        }),
    }
}

fn unknown(what: &'static str, kind: u8) -> DecodeError {
    // Unlike a frame, a record cannot be skipped: state would be missing.
    DecodeError::Malformed {
        what,
        why: format!("kind {kind} is unknown; was it written by a newer version?"),
    }
}

impl Record {
    /// Whether a record begins like this that only a newer version knows.
    pub fn is_newer(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|kind| *kind > kind::KEEPS_SINCE)
    }

    /// The record's bytes, where nobody needs it any more: nothing in it is copied.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Record::Applied(intervals, key) => seal(kind::APPLIED, &(Intervals::pack(intervals), key)),
            other => other.encode(),
        }
    }

    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        match self {
            Record::Applied(..) => self.clone().into_bytes(),
            Record::Staged(part) => seal(kind::STAGED, part),
            Record::Installed { shard, session } => seal(kind::INSTALLED, &(shard, session)),
            Record::Members(members) => seal(kind::MEMBERS, members),
            Record::Settled => seal(kind::SETTLED, &()),
            Record::MemberLeft(node) => seal(kind::MEMBER_LEFT, node),
            Record::Standings(said) => seal(kind::STANDINGS, said),
            Record::KeepsSince(epoch) => seal(kind::KEEPS_SINCE, epoch),
            Record::Piece { first, last, bytes } => seal(kind::PIECE, &(first, last, bytes)),
        }
    }

    /// The record in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        const WHAT: &str = "log record";
        let (kind, body) = split(WHAT, bytes)?;
        match kind {
            kind::APPLIED => {
                let (intervals, key) = open::<(Intervals, Option<KeyRow>)>(WHAT, body)?;
                Ok(Record::Applied(intervals.unpack()?, key))
            }
            kind::STAGED => open(WHAT, body).map(Record::Staged),
            kind::INSTALLED => open(WHAT, body).map(|(shard, session)| Record::Installed { shard, session }),
            kind::MEMBERS => open(WHAT, body).map(Record::Members),
            kind::SETTLED => open(WHAT, body).map(|()| Record::Settled),
            kind::MEMBER_LEFT => open(WHAT, body).map(Record::MemberLeft),
            kind::STANDINGS => open(WHAT, body).map(Record::Standings),
            kind::KEEPS_SINCE => open(WHAT, body).map(Record::KeepsSince),
            kind::PIECE => open(WHAT, body).map(|(first, last, bytes)| Record::Piece { first, last, bytes }),
            kind => Err(unknown(WHAT, kind)),
        }
    }
}

impl ImageBlock {
    /// Whether a block begins like this that only a newer version knows.
    pub fn is_newer(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|kind| *kind > kind::IMAGE_KEEPS_SINCE)
    }

    /// The block's bytes.
    pub fn encode(&self) -> Bytes {
        match self {
            ImageBlock::Part(part) => seal(kind::PART, part),
            ImageBlock::Keys(keys) => seal(kind::KEYS, keys),
            ImageBlock::Members(members) => seal(kind::IMAGE_MEMBERS, members),
            ImageBlock::Settled => seal(kind::IMAGE_SETTLED, &()),
            ImageBlock::Left(nodes) => seal(kind::IMAGE_LEFT, nodes),
            ImageBlock::Standings(said) => seal(kind::IMAGE_STANDINGS, said),
            ImageBlock::KeepsSince(epoch) => seal(kind::IMAGE_KEEPS_SINCE, epoch),
        }
    }

    /// The block in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<ImageBlock, DecodeError> {
        const WHAT: &str = "snapshot block";
        let (kind, body) = split(WHAT, bytes)?;
        match kind {
            kind::PART => open(WHAT, body).map(ImageBlock::Part),
            kind::KEYS => open(WHAT, body).map(ImageBlock::Keys),
            kind::IMAGE_MEMBERS => open(WHAT, body).map(ImageBlock::Members),
            kind::IMAGE_SETTLED => open(WHAT, body).map(|()| ImageBlock::Settled),
            kind::IMAGE_LEFT => open(WHAT, body).map(ImageBlock::Left),
            kind::IMAGE_STANDINGS => open(WHAT, body).map(ImageBlock::Standings),
            kind::IMAGE_KEEPS_SINCE => open(WHAT, body).map(ImageBlock::KeepsSince),
            kind => Err(unknown(WHAT, kind)),
        }
    }
}
