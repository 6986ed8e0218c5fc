//! What goes into an engine and what comes out of it: values, never effects.

use std::collections::BTreeMap;

use anabranch_crdt::{Epoch, Mutation, NodeId, Type};
use bytes::Bytes;

use crate::engine::limits::{Limits, TIMEOUT_MS_DEFAULT};
use crate::error::Error;
pub use crate::terms::{Copies, Level, Now, Stage, Time};
use crate::view::View;
use crate::wire::{DirectoryId, EntityId, IdempotencyKey, Lane, ShardId, Token};

/// What an engine is made of; fixed for its life.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The cluster's name; keys the hashes, so that all its nodes agree on shards and fingerprints.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// How many shards the cluster was created with.
    pub shards: u32,
    /// The members known at the start, this node among them or not.
    pub members: Vec<NodeId>,
    /// Declared kinds and their types.
    pub kinds: BTreeMap<String, Type>,
    /// Every bound of the engine.
    pub limits: Limits,
}

/// What is known only once the directory has been read: see [`crate::engine::Engine::start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The epoch of this start, durable already: above every earlier one of this node.
    pub epoch: Epoch,
    /// The directory's epoch before it; none if it is new.
    pub before: Option<Epoch>,
    /// The data directory's random id.
    pub directory: DirectoryId,
}

/// Names one update, commit or read until its [`Output::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names one record handed out with [`Output::Persist`]; they count up by one, from 1, in each start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

/// One operation on one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it changes.
    pub entity: EntityId,
    /// The type, needed where the kind is new and not declared; refused where it is not the entity's.
    pub ty: Option<Type>,
    /// The change.
    pub mutation: Mutation,
}

/// Operations that become visible and durable together on this node; per shard, together everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// At least one.
    pub ops: Vec<Op>,
    /// How many copies must confirm before the answer.
    pub level: Level,
    /// Makes a repeat at this node harmless.
    pub key: Option<IdempotencyKey>,
    /// What must be here first, if it is an update of a session.
    pub after: Option<Token>,
    /// How long to wait for that and for the level, milliseconds.
    pub timeout_ms: u64,
}

impl Update {
    /// The deletion of an entity, under whichever type it has, with everything else at its default.
    pub fn delete(entity: EntityId) -> Update {
        let op = Op {
            entity,
            ty: None,
            mutation: Mutation::Delete,
        };
        Update {
            ops: vec![op],
            level: Level::default(),
            key: None,
            after: None,
            timeout_ms: TIMEOUT_MS_DEFAULT,
        }
    }
}

/// Waits until what a session has seen is here: then the entities can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What is to be read.
    pub entities: Vec<EntityId>,
    /// Whether it is everything there is: then all that the session has seen must be here, of whatever.
    pub all: bool,
    /// What the session has seen.
    pub after: Token,
    /// Whether what a majority has must be here too, and kept by one before it is shown; or what this node has is enough.
    pub majority: bool,
    /// How long to wait, milliseconds.
    pub timeout_ms: u64,
}

/// What an update's caller learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The node's data directory. Another one than before: what it knew of idempotency keys is gone.
    pub directory: DirectoryId,
    /// The epoch the update was made in.
    pub epoch: Epoch,
    /// Whether an earlier update with this key is being answered again.
    pub repeated: bool,
    /// How many copies had confirmed at the level's stage when it was answered, this node among them.
    pub confirmed: u32,
    /// The dots it consumed: per shard the first and the last sequence, both included. A shard in which nothing
    /// changed is not listed.
    pub dots: Vec<(ShardId, u64, u64)>,
    /// What its session has seen now, for its next request.
    pub token: Token,
    /// Of a majority read its entities, as they were when it was seen that a majority has that; else none.
    pub shown: Vec<View>,
}

/// Why records could not be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistFailure {
    /// No space. The records are kept and tried again.
    Full,
    /// The system refused a call, and not for want of space. The records are kept and tried again.
    Refused,
    /// A sync failed: nothing more will be durable until the node is restarted.
    Poisoned,
}

/// One thing that happened, for [`crate::engine::Engine::handle`].
#[derive(Clone, Debug)]
pub enum Input {
    /// A caller wants an update made; answered by exactly one [`Output::Done`].
    Submit {
        /// The caller's name for it, never used twice.
        request: RequestId,
        /// What to do.
        update: Update,
    },
    /// The same for what a function did to its entity. What it removes or supersedes is what it saw there.
    Commit {
        /// The caller's name for it, never used twice, for other updates neither.
        request: RequestId,
        /// What to do. A session token in it is not looked at: whoever gave the function its command has.
        update: Update,
        /// What the function saw.
        view: View,
    },
    /// A caller wants to read what is not older than its session; answered by exactly one [`Output::Done`], whose
    /// [`Answer`] has no dots. In the same step the entities can be read.
    Read {
        /// The caller's name for it, never used twice, for updates neither.
        request: RequestId,
        /// What to read.
        read: Read,
    },
    /// A link to a peer is up: its hello has come.
    Connected {
        /// The peer.
        peer: NodeId,
        /// The peer's epoch.
        epoch: Epoch,
        /// The peer's wall clock at its hello, milliseconds: only compared and reported.
        wall_ms: u64,
    },
    /// That link is gone. What was under way on it may or may not have arrived.
    Disconnected {
        /// The peer.
        peer: NodeId,
        /// The epoch of the link.
        epoch: Epoch,
    },
    /// A frame arrived on a link.
    Received {
        /// From whom.
        peer: NodeId,
        /// The epoch of the link it came over.
        epoch: Epoch,
        /// The bytes of one [`Output::Send`].
        frame: Bytes,
    },
    /// The transport has taken this many bytes of what was sent to a peer: room for more.
    Writable {
        /// The peer.
        peer: NodeId,
        /// The epoch of the link.
        epoch: Epoch,
        /// How many bytes of frames.
        bytes: u64,
    },
    /// Every record up to and including this one is durable.
    Persisted {
        /// The last durable one.
        upto: RecordId,
    },
    /// Records could not be made durable.
    PersistFailed {
        /// What kind of failure.
        failure: PersistFailure,
        /// The store's words, for the caller's message.
        reason: String,
    },
    /// A peer has ended the link, or never let it come up, because it knows this epoch of this node, which is higher
    /// than the link's.
    Fenced {
        /// The peer.
        by: NodeId,
        /// The epoch it knows.
        newest: Epoch,
    },
    /// Answer to [`Output::AdoptEpoch`]: this start goes on under a higher epoch, already durable.
    EpochAdopted {
        /// The new epoch.
        epoch: Epoch,
    },
    /// Membership has seen this node (a hint): it becomes a member if it is not one yet.
    MemberSeen {
        /// The node.
        node: NodeId,
    },
    /// A node has said that it leaves the cluster, or membership says so of one without a link (a hint): it is no member
    /// any more until it is linked again. What it wrote stays.
    MemberLeft {
        /// The node.
        node: NodeId,
    },
    /// Time has passed; sent at or after [`crate::engine::Engine::next_wakeup`].
    Wakeup,
}

/// One thing to be done by whoever drives the engine, in the order they come.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send these bytes to a peer, in order within a lane. Lost when the link is.
    Send {
        /// To whom.
        peer: NodeId,
        /// The epoch of the link.
        epoch: Epoch,
        /// On which lane.
        lane: Lane,
        /// The frame.
        frame: Bytes,
    },
    /// Append this record to the log, in order; say [`Input::Persisted`] once it is synced.
    Persist {
        /// Its id.
        id: RecordId,
        /// Its bytes.
        payload: Bytes,
    },
    /// The answer to an [`Input::Submit`], [`Input::Commit`] or [`Input::Read`].
    Done {
        /// Which one.
        request: RequestId,
        /// How it went.
        result: Result<Answer, Error>,
    },
    /// A value changed here, by a local or a remote operation.
    Changed {
        /// Which one.
        entity: EntityId,
    },
    /// Close the link: the peer broke the protocol, or this epoch of it is over.
    Disconnect {
        /// The peer.
        peer: NodeId,
        /// The epoch of the link.
        epoch: Epoch,
        /// For the log of both sides.
        reason: String,
    },
    /// Close the link: the peer runs under an epoch that is over. It must hear which one is known, as [`Input::Fenced`],
    /// now or when it dials again.
    Fence {
        /// The peer.
        peer: NodeId,
        /// The epoch of the link.
        epoch: Epoch,
        /// The highest epoch of the peer that is known here.
        newest: Epoch,
    },
    /// A peer knows a higher epoch of this node: take one above it, durably, and say [`Input::EpochAdopted`].
    AdoptEpoch {
        /// The new epoch must be above this one.
        above: Epoch,
    },
}
