//! What a node that leaves hands over of what nobody else could use: its rights to bounded counters.
//!
//! Not here: that the others have it before it goes (`driver`). Contract: what it holds when it begins goes to nodes that it is linked
//! with, by turns; where there is none it keeps it, and what comes in meanwhile.

use anabranch_crdt::{BoundedCounter, NodeId, ReplicaId};

use super::Node;
use crate::entity::Entity;
use crate::error::ErrorKind;
use crate::terms::{Level, Stage};

/// Hands over what this node holds. It leaves all the same where that fails.
pub(super) async fn hand_over(node: &Node) {
    let me = ReplicaId::new(node.id(), node.epoch());
    let linked: Vec<NodeId> = node.handle.peek(|engine| engine.linked().collect());
    let peers: Vec<ReplicaId> = linked
        .into_iter()
        .filter_map(|peer| node.replica_of(peer))
        .collect();
    // What it has accepted is made durable, and had by the others, before it has left.
    let level = Level {
        stage: Stage::Applied,
        ..Level::default()
    };
    let mut turns = peers.iter().cycle();
    for shard in node.handle.peek(|engine| engine.shard_ids()) {
        // No view outlives the look: whoever changes its entity would copy it.
        let held = node.handle.peek(|engine| {
            let shown = engine.shown_in(shard, None).into_iter();
            let held = shown.map(|view| (view.held(me), view));
            let held = held.filter(|(amount, _)| *amount > 0);
            held.map(|(amount, view)| (view.entity().clone(), amount))
                .collect::<Vec<_>>()
        });
        for (id, amount) in held {
            let Some(to) = turns.next() else { return };
            let counter = Entity::<BoundedCounter>::new(node.clone(), id).with_level(level);
            match counter.transfer(*to, amount).await {
                Err(error) if error.kind() == ErrorKind::Stopping => return,
                Err(error) => {
                    tracing::warn!(entity = %counter.id(), %error, "what it holds of this is not handed over");
                }
                Ok(_) => {}
            }
        }
    }
}
