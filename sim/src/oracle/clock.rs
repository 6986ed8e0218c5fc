//! The hybrid clock of each node: a register written without a clock of the caller's gets a stamp above all that its node
//! has seen and could follow, and not far above.

use super::{Check, Oracle, Rule, broken};
use crate::model::{Action, Draft, Place, Row, Stamps, Stands};
use crate::net::NodeIx;

/// A stamp is wall-clock milliseconds, and a count in so many low bits.
const COUNT_BITS: u32 = 16;
/// How far ahead of the wall clock a stamp may be for a node's own clock to follow it, milliseconds.
const FOLLOWS_MS: u64 = 500;

/// Where a node's clock must be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClockBounds {
    /// At least here.
    least: u64,
    /// At most here.
    most: u64,
}

/// The largest stamp that a clock which shows `wall_ms` follows.
pub(super) fn followed(wall_ms: u64) -> u64 {
    (wall_ms + FOLLOWS_MS) << COUNT_BITS | ((1 << COUNT_BITS) - 1)
}

impl ClockBounds {
    /// Stamps were seen.
    pub fn see(&mut self, stamps: Stamps) {
        self.least = self.least.max(stamps.least);
        self.most = self.most.max(stamps.most);
    }

    /// One stamp was drawn: it is in this range.
    fn tick(&mut self, wall_ms: u64) -> (u64, u64) {
        let wall = wall_ms << COUNT_BITS;
        self.least = wall.max(self.least + 1);
        self.most = wall.max(self.most + 1);
        (self.least, self.most)
    }
}

impl Oracle {
    /// A hybrid clock may choose what it likes within its bounds, as long as what was seen is superseded.
    pub(super) fn check_stamp(
        &mut self,
        node: NodeIx,
        wall_ms: u64,
        row: Option<&Row>,
        action: &Action,
        drafts: &[Draft],
        stamp: u64,
    ) -> Check {
        let (place, stamp) = match action {
            Action::Set { clock: None, .. } => (Some(Place::Root), stamp),
            Action::SetIn(key, _) => (Some(Place::Child(*key)), stamp),
            // It supersedes nothing by its clock.
            Action::SetFirst(_) => (None, u64::MAX - stamp),
            _ => return Ok(()),
        };
        let (least, most) = self.nodes[node].1.clock.tick(wall_ms);
        let live = row.into_iter().flat_map(|row| &row.live);
        let above = live
            .filter(|((at, _), _)| Some(*at) == place)
            .filter_map(|(_, stands)| match stands {
                Stands::Register { clock, .. } => Some(clock.saturating_add(1)),
                _ => None,
            })
            .max()
            .unwrap_or(0);
        let range = least.max(above)..=most.max(above);
        if drafts.is_empty() || range.contains(&stamp) {
            return Ok(());
        }
        let what = format!(
            "a register is stamped {stamp}, must be within {} and {} (at {wall_ms} ms, over {})",
            range.start(),
            range.end(),
            above.saturating_sub(1)
        );
        Err(broken(Rule::Value, node, what))
    }
}
