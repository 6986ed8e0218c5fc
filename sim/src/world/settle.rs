//! The end of every run: all that the plan allows is healed, and everybody must agree, in time, and stay at rest.

use anabranch::engine::Input;

use super::probe::PROBES;
use super::{Event, Phase, World};
use crate::net::{NetPlan, NodeIx};
use crate::oracle::{Failure, Rule, broken};
use crate::plan::{APPLICATION_SETTLE_US_MAX, REST_US, SECOND, SETTLE_US_MAX};
use crate::queue::Micros;

/// The oracles look so often, microseconds.
const LOOK_US: Micros = SECOND / 4;
/// A node with a link must be heard of within so many digest periods and a second.
const SILENT_PERIODS: u64 = 3;
/// An answer may be late by so much, microseconds.
const ANSWER_SLACK_US: Micros = 2 * SECOND;
/// Bytes a second that a link may cost at rest.
const REST_BYTES_PER_LINK_S: u64 = 2_000;

impl World {
    pub(crate) fn on_look(&mut self) -> Result<(), Failure> {
        self.kernel.after(LOOK_US, Event::Look);
        self.budget = super::EVENTS_MAX;
        for node in 0..self.hosts.len() {
            self.check_progress(node)?;
        }
        self.check_answers()?;
        self.check_functions()?;
        self.check_calls()?;
        self.spread_hints()?;
        match self.phase {
            Phase::Chaos if self.kernel.now() >= self.plan.chaos_us => {
                self.heal();
                Ok(())
            }
            Phase::Chaos | Phase::Over => Ok(()),
            Phase::Settling => self.check_settled(),
            Phase::Rest => self.check_rest(),
        }
    }

    /// Membership: where links reach, over however many nodes, everybody hears of everybody.
    fn spread_hints(&mut self) -> Result<(), Failure> {
        let nodes = self.hosts.len();
        if !self.plan.discovered || !self.kernel.now().is_multiple_of(SECOND) {
            return Ok(());
        }
        let mut group: Vec<NodeIx> = (0..nodes).collect();
        for a in 0..nodes {
            for b in a + 1..nodes {
                if self.net.is_up(a, b) {
                    let (from, to) = (group[a].max(group[b]), group[a].min(group[b]));
                    group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
                }
            }
        }
        for a in 0..nodes {
            for b in (0..nodes).filter(|&b| b != a && group[a] == group[b]) {
                let node = self.hosts[b].id;
                let known = |life: &super::host::Life| life.engine.members().contains(&node);
                if self.hosts[a].life.as_ref().is_some_and(|life| !known(life)) {
                    self.give(a, Input::MemberSeen { node })?;
                }
            }
        }
        Ok(())
    }

    /// All faults end; every node comes up; the links of the plan's last topology are the only ones left.
    fn heal(&mut self) {
        self.tell(|| "-- all is healed".to_owned());
        let now = self.kernel.now();
        self.phase = Phase::Settling;
        self.healed_at = now;
        self.net.set_plan(NetPlan {
            idle_us: self.plan.net.idle_us.min(10 * SECOND),
            ..NetPlan::benign()
        });
        self.heal_links();
        for node in 0..self.hosts.len() {
            let host = &mut self.hosts[node];
            host.disk.set_capacity(None);
            host.disk.fail_syncs(0);
            host.disk.fail_writes(0);
            host.disk.fail_reads(0);
            host.disk.halt_after(u64::MAX / 2);
            host.slow_us = 0;
            host.doom = None;
            host.paused_until = host.paused_until.min(now + SECOND);
            let (life, down) = (host.lives, host.life.is_none());
            if down {
                self.boot_after(node, SECOND / 100, None);
            } else {
                let at = self.hosts[node].paused_until;
                self.kernel.at(at, Event::Resume { node, life });
            }
        }
    }

    /// Nobody is split from anybody any more, and the links of the plan's last topology are the only ones left.
    pub(crate) fn heal_links(&mut self) {
        let (now, rest) = (self.kernel.now(), self.plan.rest.clone());
        let kernel = &mut self.kernel;
        self.net
            .heal(now, &rest, &mut |at, event| kernel.at(at, Event::Net(event)));
    }

    /// What the nodes that run do not agree on yet, of all that they hold, or what is under way.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let is_running = |node: NodeIx| self.hosts[node].life.is_some();
        let mut links = self.plan.rest.iter();
        let unlinked = links.find(|&&(a, b)| is_running(a) && is_running(b) && !self.net.is_up(a, b));
        let engines = World::engines(&self.hosts);
        unlinked
            .map(|(a, b)| format!("n{a} has no link with n{b}"))
            .or_else(|| self.unanswered())
            .or_else(|| self.oracle.agreement(&engines).err().map(|unsettled| unsettled.0))
    }

    /// A running node with a link is heard of.
    fn check_progress(&self, node: NodeIx) -> Result<(), Failure> {
        let now = self.kernel.now();
        let host = &self.hosts[node];
        let Some(life) = &host.life else { return Ok(()) };
        let limit = SILENT_PERIODS * self.limits.digest_every_ms * 1_000 + SECOND;
        let Some(linked) = self.net.connected_since(node) else {
            return Ok(());
        };
        let since = linked.max(life.since).max(host.paused_until);
        let last = life.sent_at.min(life.woke_at).max(since);
        if now >= host.paused_until && now.saturating_sub(last) > limit {
            let what = format!(
                "it has a link and was last awake at {} ms, last sent at {} ms",
                life.woke_at / 1_000,
                life.sent_at / 1_000
            );
            return Err(broken(Rule::Progress, node, what));
        }
        Ok(())
    }

    /// Whoever asked gets an answer in the time it gave.
    fn check_answers(&self) -> Result<(), Failure> {
        let now = self.kernel.now();
        for (request, waiting) in &self.waiting {
            let host = &self.hosts[waiting.node];
            let by = waiting.answer_by.max(host.paused_until) + ANSWER_SLACK_US;
            if now > by {
                let what = format!(
                    "#{request} {:?} was to be answered by {} ms",
                    waiting.asked,
                    waiting.answer_by / 1_000
                );
                return Err(broken(Rule::Progress, waiting.node, what));
            }
        }
        Ok(())
    }

    fn check_settled(&mut self) -> Result<(), Failure> {
        let now = self.kernel.now();
        let unsettled = if self.hosts.iter().any(|host| host.life.is_none()) {
            Some("a node is still down".to_owned())
        } else if !self.waiting.is_empty() {
            Some(format!("{} updates wait for their answers", self.waiting.len()))
        } else if self.reads.len() + PROBES > self.limits.requests_max {
            // Some wait for what a crash took with it, as long as they were given, and take the room of what is asked next.
            Some(format!("{} reads wait for their answers", self.reads.len()))
        } else {
            self.unsettled()
        };
        let unsettled = unsettled.or_else(|| self.awaited());
        let unsettled = match unsettled {
            None => self.settle_streams()?,
            unsettled => unsettled,
        };
        let settle_us_max = match self.is_application() {
            true => APPLICATION_SETTLE_US_MAX,
            false => SETTLE_US_MAX,
        };
        let engines = World::engines(&self.hosts);
        match unsettled {
            None if self.is_application() => {
                self.tally.settled_us = now - self.healed_at;
                self.oracle.check_rest(&engines)?;
                self.phase = Phase::Over;
                self.rest_application()
            }
            None if !self.is_probed() => {
                if self.tally.settled_us == 0 {
                    self.tally.settled_us = now - self.healed_at;
                    self.oracle.check_rest(&engines)?;
                }
                self.plan_probe();
                Ok(())
            }
            None => {
                self.oracle.check_rest(&engines)?;
                self.agreed_at = now;
                self.phase = Phase::Rest;
                self.tell(|| "-- all agree".to_owned());
                Ok(())
            }
            Some(why) if now.saturating_sub(self.healed_at) > settle_us_max => {
                let seconds = settle_us_max / SECOND;
                Err(broken(
                    Rule::Convergence,
                    None,
                    format!("{seconds} s after all was healed: {why}"),
                ))
            }
            Some(why) => {
                // Once: what goes before is what one reads a story's end for.
                if self.why_unsettled.as_ref() != Some(&why) {
                    self.tell(|| format!("-- not settled yet: {why}"));
                    self.why_unsettled = Some(why);
                }
                Ok(())
            }
        }
    }

    /// Everybody still agrees, and nobody does much.
    fn check_rest(&mut self) -> Result<(), Failure> {
        let now = self.kernel.now();
        let engines = World::engines(&self.hosts);
        if let Err(unsettled) = self.oracle.agreement(&engines) {
            // A digest may be under way that began before; but vectors may not differ again.
            if !unsettled.0.contains("busy") {
                return Err(broken(
                    Rule::Convergence,
                    None,
                    format!("they agreed, and no more: {}", unsettled.0),
                ));
            }
        }
        if now - self.agreed_at >= REST_US / 2 && self.rest_from.is_none() {
            self.rest_from = Some((now, self.net.counts()));
        }
        if now - self.agreed_at < REST_US {
            return Ok(());
        }
        self.oracle.check_rest(&engines)?;
        if let Some((key, entry)) = self.keys.doubled(0, &self.oracle) {
            return Err(broken(
                Rule::Once,
                entry.node,
                format!("key {key:x} had more than one effect: {:?}", entry.issues),
            ));
        }
        self.check_rest_traffic()?;
        self.phase = Phase::Over;
        Ok(())
    }

    /// Whether all have agreed for so long that only digests are said any more.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Rest && self.kernel.now() - self.agreed_at > REST_US / 2
    }

    fn check_rest_traffic(&mut self) -> Result<(), Failure> {
        let Some((from, counts)) = self.rest_from else {
            return Ok(());
        };
        let seconds = ((self.kernel.now() - from) / SECOND).max(1);
        let bytes = self.net.counts().bytes - counts.bytes;
        let links = 2 * self.plan.rest.len() as u64;
        self.tally.rest_bytes = bytes / seconds / links;
        if self.tally.rest_bytes > REST_BYTES_PER_LINK_S {
            let what = format!("{} bytes a second on each link at rest", self.tally.rest_bytes);
            return Err(broken(Rule::Bounds, None, what));
        }
        Ok(())
    }
}
