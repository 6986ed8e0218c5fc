//! Who hears of a node over a link knows by then all the members that that one knew when they were linked: copies of a majority
//! are counted by it.
//!
//! Not here: what a node does with them. Contract: nobody leaves, so members become more and never fewer; and it is looked at
//! where lanes are what they are over QUIC: nothing on them is lost or overtaken.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::NodeId;
use anabranch::wire::Lane;

use super::World;
use crate::net::{FrameEvent, NodeIx};
use crate::oracle::{Failure, Rule, broken};

/// By a node and its peer: over which link, and whom the node knew when it began.
pub(super) type KnownWhenLinked = BTreeMap<(NodeIx, NodeIx), (u64, BTreeSet<NodeId>)>;

impl World {
    /// A node is told of a link.
    pub(super) fn note_members(&mut self, node: NodeIx, peer: NodeIx) {
        let link = self.net.link(node, peer);
        if let Some((link, life)) = link.zip(self.hosts[node].life.as_ref()) {
            let known = life.engine.members().clone();
            self.known_when_linked.insert((node, peer), (link, known));
        }
    }

    /// A node has been given a frame.
    pub(super) fn check_members(&self, frame: &FrameEvent) -> Result<(), Failure> {
        let node = frame.to;
        let host = &self.hosts[node];
        let waits = host.paused_until > self.kernel.now() || self.late.iter().any(|(late, ..)| *late == node);
        let net = &self.plan.net;
        let is_loose = net.loss_vanishes || net.partition_vanishes || net.reorder > 0.0;
        let tells = frame.lane == Lane::Control as u8 && !frame.ghost && !is_loose;
        let Some(life) = host.life.as_ref().filter(|_| tells && !waits) else {
            return Ok(());
        };
        let Some((link, known)) = self.known_when_linked.get(&(frame.from, node)) else {
            return Ok(());
        };
        let unknown = known
            .iter()
            .find(|member| !life.engine.members().contains(member));
        let Some(unknown) = unknown.filter(|_| *link == frame.conn) else {
            return Ok(());
        };
        let what = format!(
            "has heard n{} and does not know {unknown}, whom that one knew when they were linked",
            frame.from
        );
        Err(broken(Rule::Members, node, what))
    }
}
