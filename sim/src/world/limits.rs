//! What nodes are started with; and the engine's limits as a plan sets them: small, ordinary, large.

use anabranch::Limits;
use anabranch::engine::EngineConfig;
use anabranch::store::Options;

use super::host::Host;
use crate::names::{kind_name, type_of};
use crate::net::NodeIx;
use crate::plan::{Choice, Family, Plan};

/// The limits of every node.
pub(super) fn limits(plan: &Plan) -> Limits {
    let s = plan.settings;
    let defaults = Limits::default();
    // By a clock that jumps an hour ahead few keys would be too old at once.
    let jumps = plan.families.contains(&Family::Clock);
    let keys = if jumps { Choice::Default } else { s.keys };
    Limits {
        ring_slots_max: s.ring.of(4, 256, 1 << 20),
        ring_bytes_max: if s.ring == Choice::Default
            && plan.families.contains(&Family::Limits)
            && plan.seed.is_multiple_of(2)
        {
            6_000
        } else {
            defaults.ring_bytes_max
        },
        part_bytes: s.part.of(64, defaults.part_bytes, 512 << 10),
        push_window_bytes: s.window.of(256, defaults.push_window_bytes, 64 << 20),
        push_delay_ms: s.delays.of(0, defaults.push_delay_ms, 50),
        hold_ms: s.delays.of(1, defaults.hold_ms, 1_000),
        pull_grace_ms: s.delays.of(0, defaults.pull_grace_ms, 1_000),
        pull_timeout_ms: s.delays.of(200, defaults.pull_timeout_ms, 4_000),
        said_delay_ms: s.delays.of(1, defaults.said_delay_ms, 1_000),
        digest_every_ms: s.digest.of(500, defaults.digest_every_ms, 5_000),
        held_max: s.slots.of(1, defaults.held_max, 1_024),
        pulls_max: s.slots.of(1, defaults.pulls_max, 1_024),
        sessions_max: s.slots.of(1, defaults.sessions_max, 256),
        staged_transfers_max: s.slots.of(1, defaults.staged_transfers_max, 1_024),
        staged_bytes_max: s.slots.of(8 << 20, defaults.staged_bytes_max, 1 << 30),
        unpersisted_bytes_max: s.unpersisted.of(2_000, defaults.unpersisted_bytes_max, 1 << 30),
        requests_max: s.requests.of(2, defaults.requests_max, 1 << 20),
        keys_kept: keys.of(5, defaults.keys_kept, defaults.keys_kept),
        keys_max: keys.of(40, defaults.keys_max, defaults.keys_max),
        ..defaults
    }
}

/// An engine's configuration, but for the kinds of functions.
pub(super) fn config(plan: &Plan, hosts: &[Host], node: NodeIx, limits: &Limits) -> EngineConfig {
    // Half of the kinds are declared, the others fixed by their first write.
    let declared = plan
        .load
        .kinds
        .iter()
        .filter(|&&kind| kind as u64 % 2 == plan.seed % 2);
    EngineConfig {
        cluster: "sim".to_owned(),
        node: hosts[node].id,
        shards: plan.shards,
        members: if plan.discovered {
            Vec::new()
        } else {
            hosts.iter().map(|host| host.id).collect()
        },
        kinds: declared
            .map(|&kind| (kind_name(kind).to_owned(), type_of(kind)))
            .collect(),
        limits: limits.clone(),
    }
}

/// Its store's.
pub(super) fn options(plan: &Plan) -> Options {
    Options {
        segment_bytes: plan.settings.segment_bytes,
        snapshot_bytes: plan.settings.snapshot_bytes,
        fill_bytes: 4_096,
    }
}
