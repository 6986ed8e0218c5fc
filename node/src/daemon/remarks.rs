//! What whoever runs a node should hear unasked: why it takes no writes, which kinds contradict its configuration, and
//! that a certificate ends, its own or its ingress's.
//!
//! Contract: each is said once, and again when it has changed (of a certificate: once a day). Looking costs little and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_crdt::Type;

use super::certificate::Reminder;
use crate::driver::MemberStatus;
use crate::node::Node;

/// Between two looks: neither is an event that anybody reports. An ordinary start is over before the first.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until it is dropped.
pub async fn follow(
    node: Node,
    kinds: BTreeMap<String, Type>,
    seeds: Vec<String>,
    mut certificates: Vec<Reminder>,
) {
    certificates.iter_mut().for_each(Reminder::look);
    let mut remarks = Remarks {
        kinds,
        seeds,
        contradicted: BTreeSet::new(),
        said: None,
    };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    looks.tick().await;
    loop {
        looks.tick().await;
        remarks.on_readiness(&node);
        remarks.on_kinds(&node);
        certificates.iter_mut().for_each(Reminder::look);
    }
}

struct Remarks {
    kinds: BTreeMap<String, Type>,
    seeds: Vec<String>,
    /// Kinds that were warned of.
    contradicted: BTreeSet<String>,
    /// Why the node takes no writes, as it was said last.
    said: Option<String>,
}

impl Remarks {
    fn on_readiness(&mut self, node: &Node) {
        if node.is_ready() {
            if self.said.take().is_some() {
                tracing::info!("this node takes writes now");
            }
            return;
        }
        if node.is_stopping() {
            return;
        }
        let status = node.status();
        let why = why_not_ready(&status.members, &self.seeds, &status.refusals);
        if self.said.as_ref() != Some(&why) {
            tracing::warn!(
                "this node takes no writes yet: its directory is new or older than its peers', and {why}"
            );
            self.said = Some(why);
        }
    }

    fn on_kinds(&mut self, node: &Node) {
        for (kind, declared) in &self.kinds {
            let types = node.kind_types(kind);
            let Some(other) = types.iter().find(|ty| *ty != declared) else {
                continue;
            };
            if self.contradicted.insert(kind.clone()) {
                tracing::warn!(
                    "kind {kind:?} is declared as {declared} here, and another node has written it as {other}: declare it \
                     alike on all nodes. This node will not start again with this declaration if the other type is the \
                     one that is visible"
                );
            }
        }
    }
}

/// Refusals that are named.
const REFUSALS_SHOWN_MAX: usize = 3;

fn why_not_ready(members: &[MemberStatus], seeds: &[String], refusals: &[String]) -> String {
    let named = |member: &MemberStatus| member.name.clone().unwrap_or_else(|| member.node.to_string());
    let linked: Vec<String> = members.iter().filter(|m| m.connected).map(named).collect();
    if !linked.is_empty() {
        return format!("it is catching up with {}", linked.join(", "));
    }
    let away: Vec<String> = members.iter().map(named).collect();
    let why = match (away.is_empty(), seeds.is_empty()) {
        (true, _) if refusals.is_empty() => format!("none of its seeds answers: {}", seeds.join(", ")),
        (true, _) => format!("none of its seeds has a link to it: {}", seeds.join(", ")),
        (false, true) => format!("no other node has a link to it; waiting for {}", away.join(", ")),
        (false, false) => format!(
            "no other node has a link to it; waiting for {}, or one of its seeds {}",
            away.join(", "),
            seeds.join(", ")
        ),
    };
    match refusals.len().min(REFUSALS_SHOWN_MAX) {
        0 => why,
        shown => format!("{why}; refused: {}", refusals[..shown].join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_refuse_are_not_said_to_be_silent() {
        let seeds = ["n1:7411".to_string()];
        let refusals = ["10.0.0.1:7411: the peer refused our certificate".to_string()];
        assert_eq!(
            why_not_ready(&[], &seeds, &[]),
            "none of its seeds answers: n1:7411"
        );
        assert_eq!(
            why_not_ready(&[], &seeds, &refusals),
            "none of its seeds has a link to it: n1:7411; refused: 10.0.0.1:7411: the peer refused our certificate"
        );
    }
}
