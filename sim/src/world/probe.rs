//! On a cluster that has healed and agrees, each node in turn takes one more update: now that nothing is in its way it must
//! go the fast way. A push that never leaves, or an acknowledgement that nobody sends, is made good by digests and hides
//! from every rule but this.

use anabranch::{Copies, Level, Limits, ShardId, Stage};

use super::{Event, World};
use crate::latency::Latency;
use crate::model::{Action, Kind};
use crate::net::NodeIx;
use crate::oracle::{Asked, Failure, Rule, broken};
use crate::plan::SECOND;
use crate::queue::Micros;

/// So many updates are asked of a node.
pub(crate) const PROBES: usize = 2;
/// Whoever has a quiet link to a node sees its update within this, microseconds: sooner than any news or digest.
const SEEN_US: Micros = 20_000;
/// Acknowledgements take so long at most beside the disks, microseconds.
const ACKNOWLEDGED_US: Micros = 100_000;
/// And so many times the median of a sync for the two syncs they wait for.
const SYNCS: f64 = 60.0;

type Step = Result<(), Failure>;

impl World {
    /// All agree: the next node is asked once every digest has said so, and everybody knows how far everybody is.
    pub(crate) fn plan_probe(&mut self) {
        let node = self.probed;
        if std::mem::replace(&mut self.planned, node + 1) == node + 1 {
            return;
        }
        self.tell(|| format!("-- all agree, and n{node} is asked for one more update"));
        let known = self.limits.digest_every_ms * 1_200 + SECOND;
        self.healed_at = self.kernel.now() + known;
        self.kernel.after(known, Event::Probe { node });
    }

    /// Whether all nodes have been probed.
    pub(crate) fn is_probed(&self) -> bool {
        self.probed >= self.hosts.len()
    }

    pub(crate) fn on_probe(&mut self, node: NodeIx) -> Step {
        let now = self.kernel.now();
        let quiet = self.plan.rest.iter().map(|&(a, b)| self.net.quiet_from(a, b));
        let quiet = quiet.max().unwrap_or(0);
        if quiet > now {
            // What the faults of before held up is still under way, and what is said next stands behind it.
            self.kernel.after(quiet - now, Event::Probe { node });
            return Ok(());
        }
        self.probed = node + 1;
        let everybody = Copies::N(1 + self.linked(node).len() as u8);
        self.ask_for_more(node, 0, everybody)?;
        self.kernel.after(150, Event::ProbeAgain { node });
        self.kernel.after(self.seen_within(), Event::Seen { node });
        Ok(())
    }

    /// An update of the first entity that changes it whatever stands there; `round` tells one from another.
    fn probe_action(&self, node: NodeIx, round: usize) -> Action {
        let own = round * self.hosts.len() + node;
        match self.oracle.names.entity(0).1 {
            Kind::GCounter | Kind::PnCounter | Kind::Bounded => Action::Increment(1),
            Kind::Set => Action::Add(vec![0]),
            // An element that is there already would be no update: this one no client adds.
            Kind::GSet => Action::Add(vec![(self.plan.load.elements as usize + own) as u32]),
            Kind::CounterMap | Kind::OrMap => Action::IncrementIn(0, 1),
            Kind::RegisterMap => Action::SetIn(0, own as u64),
            Kind::MultiMap => Action::AddIn(0, vec![0]),
            Kind::Flag => Action::Enable,
            Kind::MvRegister => Action::Write(own as u64),
            Kind::Vote => Action::Vote(true),
            Kind::Register => Action::Set {
                value: own as u64,
                clock: None,
            },
        }
    }

    /// One more, close behind: its record is not the one the peers are syncing.
    pub(crate) fn on_probe_again(&mut self, node: NodeIx) -> Step {
        let copies = 1 + self.linked(node).len();
        let copies = if copies * 2 > self.hosts.len() {
            Copies::Majority
        } else {
            Copies::N(copies as u8)
        };
        self.ask_for_more(node, 1, copies)
    }

    fn ask_for_more(&mut self, node: NodeIx, round: usize, copies: Copies) -> Step {
        let asked = Asked {
            ops: vec![(0, self.probe_action(node, round))],
            ..Asked::default()
        };
        let level = Level {
            copies,
            stage: Stage::Durable,
        };
        let wait = self.acknowledged_within();
        let update = self.update(&asked, level, None, wait / 1_000);
        self.submit(node, None, asked, update, None, None)
    }

    /// Everything of a node's own has arrived at the other ends of its links.
    pub(crate) fn on_seen(&mut self, node: NodeIx) -> Step {
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        let me = life.engine.status().epoch;
        for peer in self.linked(node) {
            let Some(other) = &self.hosts[peer].life else {
                continue;
            };
            for shard in (0..self.plan.shards).map(ShardId) {
                let own = |vv: Vec<(anabranch::ReplicaId, u64)>| {
                    let mine = vv
                        .into_iter()
                        .find(|(r, _)| r.node == self.hosts[node].id && r.epoch == me);
                    mine.map_or(0, |(_, seq)| seq)
                };
                let made = own(life.engine.version_vector(shard));
                let seen = own(other.engine.version_vector(shard));
                // What a full ring had to let go of before it was sent is heard of in the next digest, and pulled.
                let is_kept = own(life.engine.base(shard)) <= seen;
                if seen < made && is_kept {
                    let what = format!(
                        "{} ms after n{node} made {made} in shard {}, and with a quiet link to it, it covers {seen}",
                        self.seen_within() / 1_000,
                        shard.0
                    );
                    return Err(broken(Rule::Progress, peer, what));
                }
            }
        }
        Ok(())
    }

    /// What was written while a frame was under way waits for more, as long as the plan says.
    fn seen_within(&self) -> Micros {
        SEEN_US + self.limits.push_delay_ms * 1_000
    }

    fn linked(&self, node: NodeIx) -> Vec<NodeIx> {
        let rest = self.plan.rest.iter();
        rest.filter_map(|&(a, b)| match node {
            _ if node == a => Some(b),
            _ if node == b => Some(a),
            _ => None,
        })
        .collect()
    }

    fn acknowledged_within(&self) -> Micros {
        let median = match self.plan.sync {
            Latency::LogNormal { median_us, .. } => median_us,
            _ => 0.0,
        };
        // Rings by bytes may be so full that they let go of an operation before it was sent: it is heard of in the next
        // digest, and pulled.
        let limits = &self.limits;
        let by_digest = if limits.ring_bytes_max < Limits::default().ring_bytes_max {
            limits.digest_every_ms + limits.said_delay_ms + limits.pull_grace_ms
        } else {
            0
        };
        ACKNOWLEDGED_US + (median * SYNCS) as Micros + by_digest * 1_000
    }
}
