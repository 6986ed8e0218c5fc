//! A walk over every entity that never keeps others waiting for long.

use std::collections::VecDeque;
use std::fmt;

use anabranch_crdt::{Reading, Type};

use crate::node::Node;
use crate::wire::EntityId;

/// Entities read under one lock.
const SLICE_ENTITIES: usize = 256;

/// Every entity of a node, sorted by kind, then key, bytewise. Made by [`Node::dump`].
#[must_use = "a walk does nothing until it is iterated"]
pub struct Dump {
    node: Node,
    /// Those that existed when the walk began and are still to come.
    ids: std::vec::IntoIter<EntityId>,
    slice: VecDeque<(EntityId, Type, Reading)>,
}

impl Dump {
    pub(super) fn new(node: Node) -> Dump {
        let ids = node.handle.peek(|engine| engine.entity_ids()).into_iter();
        Dump {
            node,
            ids,
            slice: VecDeque::new(),
        }
    }

    /// Those of one kind.
    pub(super) fn of_kind(node: Node, kind: &str) -> Dump {
        let mut ids = node.handle.peek(|engine| engine.entities_of(kind));
        ids.sort();
        ids.dedup();
        Dump {
            node,
            ids: ids.into_iter(),
            slice: VecDeque::new(),
        }
    }

    fn refill(&mut self) {
        let ids = self.ids.by_ref().take(SLICE_ENTITIES);
        self.slice = self.node.handle.peek(|engine| {
            // One that has gone meanwhile is left out.
            ids.filter_map(|id| engine.read(&id).map(|(ty, reading)| (id, ty, reading)))
                .collect()
        });
    }
}

impl Iterator for Dump {
    type Item = (EntityId, Type, Reading);

    fn next(&mut self) -> Option<(EntityId, Type, Reading)> {
        while self.slice.is_empty() && self.ids.len() > 0 {
            self.refill();
        }
        self.slice.pop_front()
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dump")
            .field("ids_left", &self.ids.len())
            .finish_non_exhaustive()
    }
}
