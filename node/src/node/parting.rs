//! What a node that leaves hands over of what nobody else could use: its rights to bounded counters.
//!
//! Not here: that the others have it before it goes (`driver`). Contract: what it holds when it begins goes to nodes that it is linked
//! with, by turns; where there is none it keeps it, and what comes in meanwhile.

use anabranch_crdt::{Mutation, NodeId, ReplicaId, Value};

use super::Node;
use crate::engine::{Op, Update};
use crate::error::{Error, ErrorKind};
use crate::terms::{Level, Stage};
use crate::view::View;

/// Hands over what this node holds. It leaves all the same where that fails.
pub(super) async fn hand_over(node: &Node) {
    let me = ReplicaId::new(node.id(), node.epoch());
    let peers = node.handle.peek(|engine| {
        let linked = engine.linked();
        let runs = linked.filter_map(|peer: NodeId| Some(ReplicaId::new(peer, engine.linked_epoch(peer)?)));
        runs.collect::<Vec<ReplicaId>>()
    });
    let mut turns = peers.iter().cycle();
    for shard in node.handle.peek(|engine| engine.shard_ids()) {
        let views = node.handle.peek(|engine| engine.shown_in(shard, None));
        for view in views {
            let Some(to) = turns.next() else { return };
            match give(node, &view, me, *to).await {
                Err(error) if error.kind() == ErrorKind::Stopping => return,
                Err(error) => {
                    tracing::warn!(entity = %view.entity(), %error, "what it holds of this is not handed over");
                }
                Ok(()) => {}
            }
        }
    }
}

async fn give(node: &Node, view: &View, me: ReplicaId, to: ReplicaId) -> Result<(), Error> {
    // No map holds one.
    let Some(Value::BoundedCounter(counter)) = view.value() else {
        return Ok(());
    };
    let held = counter.rights(view.replicas()).remove(&me).unwrap_or(0);
    let amount = u64::try_from(held).unwrap_or(u64::MAX);
    if amount == 0 {
        return Ok(());
    }
    let op = Op {
        entity: view.entity().clone(),
        ty: view.ty(),
        mutation: Mutation::Transfer { to, amount },
    };
    // What it has accepted is made durable, and had by the others, before it has left.
    let level = Level {
        stage: Stage::Applied,
        ..Level::default()
    };
    let update = Update {
        ops: vec![op],
        level,
        ..Update::delete(view.entity().clone())
    };
    node.update(update).await.map(|_| ())
}
