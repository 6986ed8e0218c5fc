//! What `status` shows of a node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anabranch_crdt::{Epoch, NodeId};

use crate::driver::{DiskState, MemberStatus, MethodStatus, Shared};
use crate::wire::DirectoryId;

/// A node, and its cluster as seen from it, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The node's id.
    pub id: NodeId,
    /// Its name for people.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its data directory's random id.
    pub directory: DirectoryId,
    /// Its data directory.
    pub data_directory: PathBuf,
    /// Where it listens for peers.
    pub quic_address: SocketAddr,
    /// Whether it takes writes; not any more once it stops.
    pub ready: bool,
    /// How its store is doing.
    pub disk: DiskState,
    /// How many shards its cluster has.
    pub shards: u32,
    /// How many entities exist here.
    pub entities: u64,
    /// The other members, sorted by id.
    pub members: Vec<MemberStatus>,
    /// Links that one of their two sides refuses now, as ADDRESS: REASON.
    pub refusals: Vec<String>,
    /// How many entities there are of each kind that has a function here.
    pub function_entities: BTreeMap<String, u64>,
    /// The methods of its functions, by kind and name.
    pub methods: Vec<MethodStatus>,
    /// What engine, network and driver count, by name, since this start.
    pub counters: BTreeMap<&'static str, u64>,
    /// Bytes of the log's files on disk: what no snapshot covers yet, and what is filled ahead.
    pub log_bytes: u64,
    /// Why the last snapshot that was tried has failed: the log grows until one succeeds.
    pub snapshot_error: Option<String>,
}

impl NodeStatus {
    /// Whether writes are taken: it is ready, and so is its disk.
    #[cfg(feature = "daemon")]
    pub(crate) fn takes_writes(&self) -> bool {
        self.ready && self.disk == DiskState::Fine
    }

    pub(super) fn of(node: &Shared) -> NodeStatus {
        let (engine, clocks) = node.peek(|engine| (engine.status(), engine.clock_skews()));
        let mut members: BTreeMap<NodeId, MemberStatus> = engine
            .members
            .into_iter()
            .map(|id| (id, MemberStatus::unknown(id)))
            .collect();
        members.extend(
            node.network()
                .members()
                .into_iter()
                .map(|member| (member.node, member)),
        );
        members.remove(&node.about.node);
        for (peer, skew_ms) in clocks {
            if let Some(member) = members.get_mut(&peer) {
                member.clock_skew_ms = Some(skew_ms);
            }
        }
        let (left, left_refused) = node.functions.left();
        let mut counters: BTreeMap<&'static str, u64> = engine.counters.iter().collect();
        counters.extend([
            ("idempotency_keys", engine.idempotency_keys),
            ("ring_slots", engine.ring_slots),
            ("waiting_slots", engine.waiting_slots),
            ("shards_used", u64::from(engine.shards_used)),
            ("unpersisted_bytes", engine.unpersisted_bytes),
            ("requests_waiting_for_session", engine.requests_parked),
            ("updates_waiting", engine.updates_waiting),
            ("commands_waiting", node.functions.commands() as u64),
            ("streams_open", node.functions.streams() as u64),
            ("left_waiting", left as u64),
            ("left_refused", left_refused),
            ("function_cold_starts", node.functions.begun()),
        ]);
        counters.extend(node.trigger_counters());
        counters.extend(node.network().counters());
        NodeStatus {
            id: node.about.node,
            name: node.about.name.clone(),
            cluster: node.about.cluster.clone(),
            epoch: node.epoch(),
            directory: node.about.directory,
            data_directory: node.about.path.clone(),
            quic_address: node.network().local_address(),
            ready: node.is_ready(),
            disk: node.disk(),
            shards: node.about.shards,
            entities: engine.entities,
            members: members.into_values().collect(),
            refusals: node.network().refusals(),
            function_entities: functions_entities(node),
            methods: node.functions.methods(),
            counters,
            log_bytes: node.log_bytes(),
            snapshot_error: node.snapshot_error(),
        }
    }
}

fn functions_entities(node: &Shared) -> BTreeMap<String, u64> {
    let kinds = node.functions.iter().map(|function| function.kind().to_owned());
    node.peek(|engine| {
        kinds
            .map(|kind| (kind.clone(), engine.kind_entities(&kind)))
            .collect()
    })
}
