//! The entities of a plan.

use std::collections::BTreeMap;

use anabranch::EntityId;
use anabranch::engine::{Engine, Limits};

use super::host::Host;
use super::limits::config;
use crate::model::EntityIx;
use crate::names::{DISPUTED, kind_name};
use crate::oracle::Oracle;
use crate::plan::Plan;

/// Numbers the plan's entities. Where each lives, the engine's own placement says: a throw-away one is asked.
pub(super) fn name_entities(oracle: &mut Oracle, plan: &Plan, hosts: &[Host], limits: &Limits) {
    let engine = Engine::new(config(plan, hosts, 0, limits), hosts[0].now(0));
    let declared = plan
        .load
        .kinds
        .iter()
        .flat_map(|&kind| (0..plan.load.entities).map(move |n| (kind_name(kind), kind, n)));
    let disputed = (0..plan.load.disputed).flat_map(|n| {
        plan.load
            .kinds
            .iter()
            .take(2)
            .map(move |&kind| (DISPUTED, kind, n))
    });
    let mut groups: BTreeMap<String, u32> = BTreeMap::new();
    for (name, kind, n) in declared.chain(disputed) {
        // Every third pair of keys belongs together, across kinds.
        let key = match n % 6 {
            4 | 5 => format!("together{}#k{n}", n / 6),
            _ => format!("k{n}"),
        };
        let Ok(id) = EntityId::new(name, &key) else {
            unreachable!("a workload's names are short and not empty")
        };
        let shard = engine.shard_of(&id).0;
        let group = key
            .split_once('#')
            .map_or(String::new(), |(group, _)| group.to_owned());
        let place = *groups.entry(group.clone()).or_insert(shard);
        assert!(
            group.is_empty() || place == shard,
            "{id} is not where its group is"
        );
        let named: EntityIx = oracle.names.add(id, kind);
        let numbered = oracle.ledger.add_entity(kind, shard);
        assert!(named == numbered, "the two vocabularies count alike");
    }
}
