//! What a node that leaves hands over of what nobody else could use: its rights to bounded counters.
//!
//! Not here: that the others have it before it goes (`driver`). Contract: what it holds when it begins goes to nodes that it is linked
//! with, by turns; where there is none it keeps it, and what comes in meanwhile.

use anabranch_crdt::{BoundedCounter, NodeId, ReplicaId};

use super::Node;
use crate::entity::Entity;
use crate::error::{Error, ErrorKind};
use crate::terms::{Level, Stage};

/// Hands over what this node holds while `may_go_on`. It leaves all the same where that fails. Returns of how many counters
/// something stays here though there was a node to take it.
pub(super) async fn hand_over(node: &Node, may_go_on: impl Fn() -> bool) -> usize {
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
    let mut kept = 0;
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
            let Some(to) = turns.next() else { return 0 };
            if node.handle.shared().is_stopping() || !may_go_on() {
                kept += 1;
                continue;
            }
            let counter = Entity::<BoundedCounter>::new(node.clone(), id).with_level(level);
            if let Err(error) = counter.transfer(*to, amount).await {
                tracing::warn!(entity = %counter.id(), %error, "what it holds of this is not handed over");
                kept += 1;
            }
        }
    }
    kept
}

/// What a node that left says when it still holds something that nobody else can use.
pub(super) fn kept(counters: usize) -> Error {
    let counters = match counters {
        1 => "1 bounded counter".to_owned(),
        more => format!("{more} bounded counters"),
    };
    Error::new(
        ErrorKind::Unconfirmed,
        format!(
            "the node has left the cluster, but what it held of {counters} was not handed over, and nobody else can take that \
             away. Start it again on the same directory, let it meet its peers, and have it leave then"
        ),
    )
}
