//! Nodes that come and go, and the links between them: made, broken, given up, healed.

use super::pair::{Conn, End};
use super::{BACK_OFF_US_MAX, DIAL_US_MAX, Net, NetEvent, News, NodeIx, Schedule, Told};
use crate::queue::Micros;

/// A link that has taken on more than so much, microseconds, is broken when all is healed.
const CLOGGED_US: Micros = 5_000_000;

/// Nodes and links.
impl Net {
    /// A node runs, in this epoch, and dials everybody.
    pub fn start(&mut self, now: Micros, node: NodeIx, epoch: u64, out: Schedule<'_>) {
        self.running[node] = Some(epoch);
        for peer in (0..self.nodes).filter(|&peer| peer != node) {
            self.dial_soon(now, self.pair_ix(node, peer), DIAL_US_MAX, out);
        }
    }

    /// A node is gone, without a word. Its peers notice when they hear nothing for too long.
    pub fn stop(&mut self, now: Micros, node: NodeIx, out: Schedule<'_>) {
        self.running[node] = None;
        for peer in (0..self.nodes).filter(|&peer| peer != node) {
            let ix = self.pair_ix(node, peer);
            let side = self.pairs[ix].side(node);
            self.pairs[ix].ends[side] = None;
            self.close(now, ix, self.plan.idle_us, None, out);
        }
    }

    /// Whether the link between two nodes is up at both ends.
    pub fn is_up(&self, a: NodeIx, b: NodeIx) -> bool {
        let pair = &self.pairs[self.pair_ix(a, b)];
        pair.conn.is_some_and(|conn| {
            pair.ends
                .iter()
                .all(|end| end.is_some_and(|end| end.conn == conn.id))
        })
    }

    /// Which link to a peer this end believes in.
    pub fn link(&self, node: NodeIx, peer: NodeIx) -> Option<u64> {
        let pair = &self.pairs[self.pair_ix(node, peer)];
        let side = usize::from(pair.nodes[1] == node);
        pair.ends[side].map(|end| end.conn)
    }

    /// When all that is under way between two nodes will have arrived.
    pub fn quiet_from(&self, a: NodeIx, b: NodeIx) -> Micros {
        let arrival = |from, to| self.directions[self.direction_ix(from, to)].last_arrival();
        arrival(a, b).max(arrival(b, a))
    }

    /// Since when a node has had a link to anybody, at its own end.
    pub fn connected_since(&self, node: NodeIx) -> Option<Micros> {
        let ends = self
            .pairs
            .iter()
            .filter(|p| p.nodes.contains(&node))
            .filter_map(|p| p.ends[p.side(node)]);
        ends.map(|end| end.since).min()
    }

    /// A link breaks at once; both ends are told soon, and dial again.
    pub fn reset(&mut self, now: Micros, a: NodeIx, b: NodeIx, out: Schedule<'_>) {
        self.close(now, self.pair_ix(a, b), 1_000, None, out);
    }

    /// One end closes a link on purpose; `fenced` is the newer epoch of the other end that it knows, if that is why.
    pub fn disconnect(
        &mut self,
        now: Micros,
        from: NodeIx,
        to: NodeIx,
        epoch: u64,
        fenced: Option<u64>,
        out: Schedule<'_>,
    ) {
        let ix = self.pair_ix(from, to);
        let side = self.pairs[ix].side(from);
        let Some(end) = self.pairs[ix].ends[side].filter(|end| end.peer_epoch == epoch) else {
            return;
        };
        if self.pairs[ix].conn.is_some_and(|conn| conn.id == end.conn) {
            let direction = &self.directions[self.direction_ix(from, to)];
            // What was said before may still arrive, or be lost with the link.
            let flushed = self.rng("flushed", ix, end.conn).chance(0.5);
            let told_us = if flushed {
                direction.last_arrival().saturating_sub(now) * 4 / 3 + 10
            } else {
                1_000
            };
            self.close(now, ix, told_us, fenced.map(|newest| (1 - side, newest)), out);
        }
        out(
            now,
            NetEvent::Down {
                pair: ix,
                conn: end.conn,
                side,
                fenced: None,
            },
        );
    }

    /// Nothing passes from here to there any more.
    pub fn block(&mut self, now: Micros, from: NodeIx, to: NodeIx, out: Schedule<'_>) {
        let ix = self.direction_ix(from, to);
        let direction = &mut self.directions[ix];
        direction.blocks += 1;
        if direction.blocks == 1 {
            direction.blocked_since = now;
            let pair = self.pair_ix(from, to);
            if let Some(conn) = self.pairs[pair].conn {
                out(
                    now + self.plan.idle_us,
                    NetEvent::Idle {
                        pair,
                        conn: conn.id,
                        direction: ix,
                    },
                );
            }
        }
    }

    /// As often unblocked as blocked: it passes again.
    pub fn unblock(&mut self, now: Micros, from: NodeIx, to: NodeIx, out: Schedule<'_>) {
        let ix = self.direction_ix(from, to);
        self.directions[ix].blocks = self.directions[ix].blocks.saturating_sub(1);
        if self.directions[ix].blocks == 0 {
            self.release(now, ix, out);
        }
    }

    /// Every partition ends, clogged links break, and from now on only these pairs have one.
    pub fn heal(&mut self, now: Micros, rest: &[(NodeIx, NodeIx)], out: Schedule<'_>) {
        for ix in 0..self.directions.len() {
            self.directions[ix].blocks = 0;
            self.release(now, ix, out);
        }
        for ix in 0..self.pairs.len() {
            let [a, b] = self.pairs[ix].nodes;
            let stays = rest.iter().any(|&(x, y)| (x.min(y), x.max(y)) == (a, b));
            self.pairs[ix].severed = !stays;
            // What a slow wire has taken on for minutes ahead is a fault that would outlast the healing.
            if !stays || self.quiet_from(a, b) > now + CLOGGED_US {
                self.close(now, ix, 1_000, None, out);
            } else if self.pairs[ix].conn.is_none() {
                self.dial_soon(now, ix, DIAL_US_MAX, out);
            }
        }
    }

    fn is_blocked(&self, from: NodeIx, to: NodeIx) -> bool {
        self.directions[self.direction_ix(from, to)].blocks > 0
    }

    /// The transport gives a link up; each living end is told within `told_us`, and one perhaps that it is fenced.
    fn close(
        &mut self,
        now: Micros,
        ix: usize,
        told_us: Micros,
        fenced: Option<(usize, u64)>,
        out: Schedule<'_>,
    ) {
        let [a, b] = self.pairs[ix].nodes;
        if let Some(conn) = self.pairs[ix].conn.take() {
            for side in 0..2 {
                if self.pairs[ix].ends[side].is_some() || conn.up_at[side] > now {
                    let wait = self
                        .rng("told", ix, conn.id * 2 + side as u64)
                        .below(told_us / 4 + 1);
                    out(
                        now + told_us - told_us / 4 + wait,
                        NetEvent::Down {
                            pair: ix,
                            conn: conn.id,
                            side,
                            fenced: fenced
                                .filter(|(which, _)| *which == side)
                                .map(|(_, newest)| newest),
                        },
                    );
                }
            }
            for (from, to) in [(a, b), (b, a)] {
                let direction = self.direction_ix(from, to);
                self.directions[direction].clear();
            }
        }
        self.dial_soon(now, ix, DIAL_US_MAX, out);
    }

    fn dial_soon(&mut self, now: Micros, ix: usize, within: Micros, out: Schedule<'_>) {
        let pair = &mut self.pairs[ix];
        pair.attempt += 1;
        pair.back_off_us = within;
        let attempt = pair.attempt;
        let wait = 1 + self.rng("dial", ix, attempt).below(within);
        out(now + wait, NetEvent::Dial { pair: ix, attempt });
    }

    /// Both directions must pass and both nodes run, for a handshake.
    fn reachable(&self, ix: usize) -> Option<[u64; 2]> {
        let pair = &self.pairs[ix];
        let [a, b] = pair.nodes;
        if pair.severed || self.is_blocked(a, b) || self.is_blocked(b, a) {
            return None;
        }
        Some([self.running[a]?, self.running[b]?])
    }

    fn on_dial(&mut self, now: Micros, ix: usize, attempt: u64, out: Schedule<'_>) {
        if self.pairs[ix].attempt != attempt || self.pairs[ix].conn.is_some() || self.pairs[ix].severed {
            return;
        }
        let mut rng = self.rng("handshake", ix, attempt);
        match self.reachable(ix) {
            Some(epochs) => {
                let rtt = self.plan.latency.draw(&mut rng) + self.plan.latency.draw(&mut rng);
                out(
                    now + rtt,
                    NetEvent::Establish {
                        pair: ix,
                        attempt,
                        epochs,
                    },
                );
            }
            // A node that does not run dials when it starts; a partition does not say when it ends.
            None if self.pairs[ix].nodes.iter().all(|&n| self.running[n].is_some()) => {
                let pair = &mut self.pairs[ix];
                pair.attempt += 1;
                pair.back_off_us = (pair.back_off_us * 2).min(BACK_OFF_US_MAX);
                let wait = pair.back_off_us / 2 + rng.below(pair.back_off_us / 2 + 1);
                out(
                    now + wait,
                    NetEvent::Dial {
                        pair: ix,
                        attempt: pair.attempt,
                    },
                );
            }
            None => {}
        }
    }

    fn on_establish(&mut self, now: Micros, ix: usize, attempt: u64, epochs: [u64; 2], out: Schedule<'_>) {
        if self.pairs[ix].attempt != attempt || self.pairs[ix].conn.is_some() {
            return;
        }
        if self.reachable(ix) != Some(epochs) {
            self.dial_soon(now, ix, BACK_OFF_US_MAX / 4, out);
            return;
        }
        let id = self.next_conn;
        self.next_conn += 1;
        self.counts.links += 1;
        let mut rng = self.rng("established", ix, id);
        let mut up_at = [now, now + self.plan.latency.draw(&mut rng)];
        if rng.chance(0.5) {
            up_at.swap(0, 1);
        }
        self.pairs[ix].conn = Some(Conn { id, epochs, up_at });
        for (side, at) in up_at.into_iter().enumerate() {
            out(
                at,
                NetEvent::Up {
                    pair: ix,
                    conn: id,
                    side,
                },
            );
        }
    }

    /// One end learns of a link. If it still believed in an older one, it learns of that one's end as well: before,
    /// or, if the peer has restarted, perhaps after.
    fn on_up(&mut self, now: Micros, ix: usize, conn: u64, side: usize) -> Vec<Told> {
        let pair = &mut self.pairs[ix];
        let (node, peer) = (pair.nodes[side], pair.nodes[1 - side]);
        let Some(open) = pair.conn.filter(|open| open.id == conn) else {
            return Vec::new();
        };
        let epoch = open.epochs[1 - side];
        let old = pair.ends[side].replace(End {
            conn,
            peer_epoch: epoch,
            since: now,
        });
        let mut told = vec![Told {
            node,
            peer,
            epoch,
            news: News::Connected,
        }];
        if let Some(old) = old {
            let gone = Told {
                node,
                peer,
                epoch: old.peer_epoch,
                news: News::Disconnected,
            };
            let first = old.peer_epoch == epoch || self.rng("replaced", ix, conn).chance(0.5);
            told.insert(if first { 0 } else { 1 }, gone);
        }
        told
    }

    fn on_down(&mut self, ix: usize, conn: u64, side: usize, fenced: Option<u64>) -> Vec<Told> {
        let pair = &mut self.pairs[ix];
        let (node, peer) = (pair.nodes[side], pair.nodes[1 - side]);
        let fence = fenced.map(|newest| Told {
            node,
            peer,
            epoch: 0,
            news: News::Fenced(newest),
        });
        let gone = match pair.ends[side] {
            Some(end) if end.conn == conn => {
                pair.ends[side] = None;
                self.counts.link_ends += 1;
                Some(Told {
                    node,
                    peer,
                    epoch: end.peer_epoch,
                    news: News::Disconnected,
                })
            }
            _ => None,
        };
        gone.into_iter().chain(fence).collect()
    }

    fn on_idle(&mut self, now: Micros, ix: usize, conn: u64, direction: usize, out: Schedule<'_>) {
        let blocked = &self.directions[direction];
        let silent = blocked.blocks > 0 && now.saturating_sub(blocked.blocked_since) >= self.plan.idle_us;
        if silent && self.pairs[ix].conn.is_some_and(|open| open.id == conn) {
            self.close(now, ix, self.plan.idle_us / 4 + 1, None, out);
        }
    }

    /// Performs an event; returns whom to tell what. Frames go through [`Net::arrives`].
    pub fn on_event(&mut self, now: Micros, event: &NetEvent, out: Schedule<'_>) -> Vec<Told> {
        match *event {
            NetEvent::Dial { pair, attempt } => self.on_dial(now, pair, attempt, out),
            NetEvent::Establish {
                pair,
                attempt,
                epochs,
            } => self.on_establish(now, pair, attempt, epochs, out),
            NetEvent::Up { pair, conn, side } => return self.on_up(now, pair, conn, side),
            NetEvent::Down {
                pair,
                conn,
                side,
                fenced,
            } => return self.on_down(pair, conn, side, fenced),
            NetEvent::Idle {
                pair,
                conn,
                direction,
            } => self.on_idle(now, pair, conn, direction, out),
            NetEvent::Taken { direction } => return self.on_taken(now, direction, out),
            NetEvent::Frame(_) => {}
        }
        Vec::new()
    }
}
