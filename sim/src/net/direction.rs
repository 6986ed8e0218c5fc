//! One direction of a link: what a frame meets on its way.

use std::collections::VecDeque;

use anabranch::wire::Lane;

use super::{FrameEvent, GHOST_US_MAX, Net, NetEvent, News, Outgoing, Schedule, Told};
use crate::queue::Micros;
use crate::rng::Rng;

/// Lanes of a link, and the streams beside them.
const LANES: usize = 5;
/// Where streams beside the lanes have their frames: like that of calls. None of them is lost while its link lives: no deadline
/// ends what waits for it.
pub(crate) const STREAMS: u8 = 4;
/// The lane whose frames come once and in order, if at all. The others' receivers must bear more than QUIC gives them.
const CALLS: u8 = Lane::Calls as u8;
/// A frame lost and sent again takes at least so much longer, microseconds.
const RESEND_US: Micros = 20_000;

/// From one node to another.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// How many partitions block it.
    pub blocks: u32,
    pub blocked_since: Micros,
    /// Frames given to it, ever: names their fates.
    frames: u64,
    /// When the last frame of each lane arrives.
    last: [Micros; LANES],
    /// When the wire is free.
    busy_until: Micros,
    /// Everything is lost until then.
    burst_until: Micros,
    /// What waits for a partition's end.
    held: Vec<FrameEvent>,
    /// Bytes not yet credited: when they are through, and how many.
    under_way: VecDeque<(Micros, u64)>,
    /// Whether a `Taken` is scheduled.
    crediting: bool,
}

impl Direction {
    /// When all that is under way in order will have arrived.
    pub fn last_arrival(&self) -> Micros {
        self.last.into_iter().max().unwrap_or(0)
    }

    /// The link is gone, and with it what waited.
    pub fn clear(&mut self) {
        self.held.clear();
        self.under_way.clear();
        self.last = [0; LANES];
        self.busy_until = 0;
    }
}

/// Whether its frames come once and in order.
fn is_beside(lane: u8) -> bool {
    matches!(lane, CALLS | STREAMS)
}

/// Frames.
impl Net {
    /// A node sends a frame over the link to that epoch of a peer. Without such a link it is lost.
    pub fn send(&mut self, now: Micros, outgoing: Outgoing, out: Schedule<'_>) {
        let Outgoing {
            from,
            to,
            epoch,
            lane,
            bytes,
        } = outgoing;
        let ix = self.pair_ix(from, to);
        let side = self.pairs[ix].side(from);
        let Some(end) = self.pairs[ix].ends[side].filter(|end| end.peer_epoch == epoch) else {
            return;
        };
        let Some(conn) = self.pairs[ix].conn.filter(|conn| conn.id == end.conn) else {
            return;
        };
        self.counts.sent += 1;
        self.counts.bytes += bytes.len() as u64;
        let direction_ix = self.direction_ix(from, to);
        let len = bytes.len() as u64;
        let frame = FrameEvent {
            from,
            to,
            conn: conn.id,
            epoch: conn.epochs[side],
            lane,
            bytes,
            ghost: false,
        };
        let direction = &mut self.directions[direction_ix];
        direction.frames += 1;
        let mut rng = Rng::stream(self.seed, "fate", direction_ix as u64, direction.frames);
        if direction.blocks > 0 && (!self.plan.partition_vanishes || lane == STREAMS) {
            direction.held.push(frame);
            self.counts.held += 1;
            return;
        }
        let wire_us = (len * 1_000_000).checked_div(self.plan.bytes_per_s).unwrap_or(0);
        direction.busy_until = direction.busy_until.max(now) + wire_us;
        let sent_at = direction.busy_until;
        if !is_beside(lane) {
            direction.under_way.push_back((sent_at, len));
        }
        if !direction.crediting && !direction.under_way.is_empty() {
            direction.crediting = true;
            out(
                sent_at,
                NetEvent::Taken {
                    direction: direction_ix,
                },
            );
        }
        if direction.blocks > 0 {
            self.counts.lost += 1;
            return;
        }
        self.fly(sent_at, direction_ix, frame, conn.up_at[1 - side], &mut rng, out);
    }

    /// Decides a frame's fate.
    fn fly(
        &mut self,
        at: Micros,
        ix: usize,
        frame: FrameEvent,
        not_before: Micros,
        rng: &mut Rng,
        out: Schedule<'_>,
    ) {
        let plan = &self.plan;
        let direction = &mut self.directions[ix];
        let mut arrives = (at + plan.latency.draw(rng)).max(not_before + 1);
        let is_call = is_beside(frame.lane);
        if plan.ghost > 0.0 && rng.chance(plan.ghost) && !is_call {
            let late = at + 500_000 + rng.below(GHOST_US_MAX);
            self.counts.ghosts += 1;
            out(
                late,
                NetEvent::Frame(FrameEvent {
                    ghost: true,
                    ..frame.clone()
                }),
            );
        }
        if plan.burst > 0.0 && at >= direction.burst_until && rng.chance(plan.burst) {
            direction.burst_until = at + rng.exponential(plan.burst_us) as Micros;
        }
        let in_burst = at < direction.burst_until;
        if in_burst || (plan.loss > 0.0 && rng.chance(plan.loss)) {
            if plan.loss_vanishes && frame.lane != STREAMS {
                self.counts.lost += 1;
                return;
            }
            arrives = arrives.max(direction.burst_until) + RESEND_US + plan.latency.draw(rng);
        }
        let lane = usize::from(frame.lane) % LANES;
        if plan.reorder > 0.0 && rng.chance(plan.reorder) && !is_call {
            self.counts.reordered += 1;
            arrives += rng.below(4 * (arrives - at) + 1);
        } else {
            arrives = arrives.max(direction.last[lane] + 1);
            direction.last[lane] = arrives;
        }
        if plan.duplicate > 0.0 && rng.chance(plan.duplicate) && !is_call {
            self.counts.doubled += 1;
            out(arrives + plan.latency.draw(rng), NetEvent::Frame(frame.clone()));
        }
        out(arrives, NetEvent::Frame(frame));
    }

    /// A partition is over: what waited goes on.
    pub(super) fn release(&mut self, now: Micros, ix: usize, out: Schedule<'_>) {
        let held = std::mem::take(&mut self.directions[ix].held);
        let (from, to) = (ix / self.nodes, ix % self.nodes);
        if held.is_empty() || from == to {
            return;
        }
        let pair = self.pair_ix(from, to);
        let Some(conn) = self.pairs[pair].conn else { return };
        let not_before = conn.up_at[self.pairs[pair].side(to)];
        for frame in held {
            let direction = &mut self.directions[ix];
            direction.frames += 1;
            let mut rng = Rng::stream(self.seed, "fate", ix as u64, direction.frames);
            if !is_beside(frame.lane) {
                direction.under_way.push_back((now, frame.bytes.len() as u64));
            }
            self.fly(now, ix, frame, not_before, &mut rng, out);
        }
        if !self.directions[ix].crediting && !self.directions[ix].under_way.is_empty() {
            self.directions[ix].crediting = true;
            out(now, NetEvent::Taken { direction: ix });
        }
    }

    /// Whether a frame that arrives is handed to its receiver.
    pub fn arrives(&self, frame: &FrameEvent) -> bool {
        if self.running[frame.to].is_none() {
            return false;
        }
        let pair = &self.pairs[self.pair_ix(frame.from, frame.to)];
        let end = pair.ends[pair.side(frame.to)];
        frame.ghost || end.is_some_and(|end| end.conn == frame.conn)
    }

    pub(super) fn on_taken(&mut self, now: Micros, ix: usize, out: Schedule<'_>) -> Vec<Told> {
        let direction = &mut self.directions[ix];
        direction.crediting = false;
        let mut bytes = 0;
        while let Some(&(at, len)) = direction.under_way.front().filter(|(at, _)| *at <= now) {
            debug_assert!(at <= now, "credited before it was through");
            direction.under_way.pop_front();
            bytes += len;
        }
        if let Some(&(at, _)) = direction.under_way.front() {
            direction.crediting = true;
            out(at, NetEvent::Taken { direction: ix });
        }
        let (node, peer) = (ix / self.nodes, ix % self.nodes);
        let pair = &self.pairs[self.pair_ix(node, peer)];
        match pair.ends[pair.side(node)] {
            Some(end) if bytes > 0 => {
                vec![Told {
                    node,
                    peer,
                    epoch: end.peer_epoch,
                    news: News::Writable(bytes),
                }]
            }
            _ => Vec::new(),
        }
    }
}
