//! A walk over every entity that never keeps others waiting for long.

use std::fmt;

use anabranch_crdt::{Reading, Type};

use crate::node::Node;
use crate::view::View;
use crate::wire::{EntityId, Token};

/// Every entity of a node, sorted by kind, then key, bytewise. Made by [`Node::dump`].
///
/// Values are shared with the node, not copied; one that changes before the walk has come by is kept as it was until then.
#[must_use = "a walk does nothing until it is iterated"]
pub struct Dump {
    views: std::vec::IntoIter<View>,
    token: Token,
}

impl Dump {
    /// Of one kind, or of all, in a session that has seen this.
    pub(super) fn of(node: &Node, kind: Option<&str>, after: &Token) -> Dump {
        let (mut views, mut token) = (Vec::new(), after.clone());
        for shard in node.handle.peek(|engine| engine.shard_ids()) {
            // One lock a shard, for no longer than it takes to count references.
            views.extend(node.handle.peek(|engine| {
                engine.add_shards(&mut token, [shard]);
                engine.shown_in(shard, kind)
            }));
        }
        views.sort_unstable_by(|one, other| one.entity().cmp(other.entity()));
        Dump {
            views: views.into_iter(),
            token,
        }
    }

    /// What a session has seen that has seen all of it, and that there was no more: known before the first entity is.
    ///
    /// ```no_run
    /// # async fn example(node: anabranch::Node, other: anabranch::Node) -> Result<(), anabranch::Error> {
    /// let dump = node.dump();
    /// let seen = dump.token().clone();
    /// let carts = dump.filter(|(id, ..)| id.kind() == "cart").count();
    /// let later = other.dump_after(None, &seen, std::time::Duration::from_secs(1)).await?; // shows no less
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl Iterator for Dump {
    type Item = (EntityId, Type, Reading);

    fn next(&mut self) -> Option<(EntityId, Type, Reading)> {
        let view = self.views.next()?;
        let reading = view.read()?;
        Some((view.entity().clone(), view.ty()?, reading))
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dump")
            .field("entities_left", &self.views.len())
            .finish_non_exhaustive()
    }
}
