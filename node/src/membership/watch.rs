//! From what chitchat knows to hints: what changed between two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use tokio::time::Instant;

use crate::membership::{Announcement, Hint};

/// How long a node that was only heard of may take to be heard itself.
pub(super) const HEARSAY: Duration = Duration::from_secs(10);

/// One node as chitchat sees it now: its newest epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) epoch: Epoch,
    /// `None` while only its existence is known.
    pub(super) about: Option<Announcement>,
    pub(super) has_left: bool,
    pub(super) is_live: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// Told by others; no second heartbeat yet.
    HeardOf(Instant),
    Live,
    Down,
    Left,
}

struct Known {
    epoch: Epoch,
    about: Announcement,
    belief: Belief,
    /// It was said to have left, and came back in the very same life: it had not.
    left_disproved: bool,
}

/// What was hinted so far.
#[derive(Default)]
pub(super) struct Watch {
    known: BTreeMap<NodeId, Known>,
}

impl Watch {
    /// There is a link to this node: whatever was believed of it, it is there.
    pub(super) fn link_up(&mut self, now: Instant, node: NodeId) {
        if let Some(known) = self
            .known
            .get_mut(&node)
            .filter(|known| known.belief == Belief::Left)
        {
            known.belief = Belief::HeardOf(now);
            known.left_disproved = true;
        }
    }

    /// Takes a look and says what is new. Nobody leaves who has a link: it would say so itself.
    pub(super) fn look(
        &mut self,
        now: Instant,
        sights: &BTreeMap<NodeId, Sight>,
        linked: &BTreeSet<NodeId>,
    ) -> Vec<Hint> {
        // Forgotten after its grace: if it comes back, it is news.
        self.known.retain(|node, _| sights.contains_key(node));
        sights
            .iter()
            .filter_map(|(node, sight)| self.look_at(now, *node, sight, linked.contains(node)))
            .collect()
    }

    fn look_at(&mut self, now: Instant, node: NodeId, sight: &Sight, is_linked: bool) -> Option<Hint> {
        let known = self.known.get_mut(&node);
        let disproved = known
            .as_ref()
            .is_some_and(|known| known.left_disproved && known.epoch == sight.epoch);
        let has_left = sight.has_left && !is_linked && !disproved;
        if let Some(known) = &known
            && (sight.epoch < known.epoch || (sight.epoch == known.epoch && known.belief == Belief::Left))
        {
            return None;
        }
        let about = sight.about.clone();
        let is_news = known.as_ref().is_none_or(|known| known.epoch < sight.epoch);
        if is_news {
            // Left before it was known: nobody dials it, nobody needs to hear of it; but its next life is news.
            let about = if has_left {
                about.unwrap_or_default()
            } else {
                about?
            };
            let belief = match sight {
                _ if has_left => Belief::Left,
                Sight { is_live: true, .. } => Belief::Live,
                _ => Belief::HeardOf(now),
            };
            let was_known = self.known.insert(
                node,
                Known {
                    epoch: sight.epoch,
                    about: about.clone(),
                    belief,
                    left_disproved: false,
                },
            );
            return match belief {
                Belief::Left => was_known.map(|_| Hint::Left { node }),
                _ => Some(Hint::Up {
                    node,
                    epoch: sight.epoch,
                    about,
                }),
            };
        }
        let Some(known) = known else {
            unreachable!("a node that is no news is known")
        };
        if has_left {
            known.belief = Belief::Left;
            return Some(Hint::Left { node });
        }
        let about_changed = about.filter(|about| *about != known.about);
        let was = known.belief;
        known.belief = next(was, now, sight.is_live);
        if was != Belief::Down && known.belief == Belief::Down {
            return Some(Hint::Down { node });
        }
        let is_back = was == Belief::Down && known.belief == Belief::Live;
        if about_changed.is_none() && !is_back {
            return None;
        }
        if let Some(about) = about_changed {
            known.about = about;
        }
        Some(Hint::Up {
            node,
            epoch: known.epoch,
            about: known.about.clone(),
        })
    }
}

fn next(was: Belief, now: Instant, is_live: bool) -> Belief {
    match was {
        _ if is_live => Belief::Live,
        Belief::HeardOf(since) if now.duration_since(since) < HEARSAY => was,
        _ => Belief::Down,
    }
}
