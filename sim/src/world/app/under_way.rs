//! What of an application is under way: whether it takes too long, and in words, for whoever reads why a run does not come to its end.

use anabranch::engine::Time;

use super::{Apps, Step};
use crate::net::NodeIx;
use crate::oracle::{Rule, broken};
use crate::plan::SECOND;
use crate::queue::Micros;
use crate::world::World;

/// A call is answered so long after its deadline at the latest, microseconds, whatever happens.
const ANSWER_SLACK_US: Micros = 3 * SECOND;

/// So many calls are named.
const NAMED_MAX: usize = 5;

impl Apps {
    /// Which calls wait for their answers, and how many that nobody waits for are not made yet; nothing where there is neither.
    pub(super) fn under_way(&self) -> Option<String> {
        let calls = self.callings.len() + self.asked.len() + self.directs.len() + self.openings();
        let chains = self.chains.len();
        if calls == 0 && chains == 0 {
            return self.streams.ending();
        }
        let callings = self.callings.values();
        let callings = callings.map(|calling| format!("{} at n{}", calling.call, calling.node));
        let asked = self.asked.values();
        let asked = asked.map(|asked| format!("{} asked of n{} by n{}", asked.name, asked.peer, asked.node));
        let directs = self.directs.values();
        let directs = directs.map(|direct| format!("{} at n{}", direct.wants, direct.node));
        let left = self.chains.values().flat_map(|chain| {
            let calls = chain.rest.iter();
            calls.map(|call| format!("{call}, left at n{}", chain.node))
        });
        let mut all = callings.chain(asked).chain(directs).chain(left);
        let mut names: Vec<String> = all.by_ref().take(NAMED_MAX).collect();
        let more = all.count();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let names = names.join("; ");
        Some(format!(
            "{calls} calls wait, and {chains} that nobody waits for: {names}"
        ))
    }
}

impl World {
    /// What of an application is not done yet.
    pub(in crate::world) fn unanswered(&self) -> Option<String> {
        let apps = self.apps.as_ref()?;
        apps.under_way().or_else(|| self.stale_link())
    }

    /// A node that does not know yet of a link that is up, or in which run its peer is: it stands still, or has just gone on.
    fn stale_link(&self) -> Option<String> {
        let both = self.plan.rest.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
        let is_stale = |&(at, of): &(NodeIx, NodeIx)| {
            let run = |node: NodeIx| self.hosts[node].life.as_ref().map(|life| &life.engine);
            let Some(engine) = run(at) else { return false };
            let known = engine.linked_epoch(self.hosts[of].id);
            known != run(of).map(|engine| engine.status().epoch)
        };
        let mut stale = both.filter(is_stale);
        stale
            .next()
            .map(|(at, of)| format!("n{at} does not know that n{of} is linked with it, or in which run"))
    }

    /// Nobody waits for a call longer than it may take.
    pub(in crate::world) fn check_calls(&self) -> Step {
        let now = self.kernel.now();
        let answer_by = |node: NodeIx, deadline: Time| {
            let by = deadline.0.max(self.hosts[node].paused_until) + ANSWER_SLACK_US;
            (now > by).then_some(by)
        };
        for calling in self.apps.iter().flat_map(|apps| apps.callings.values()) {
            if let Some(by) = answer_by(calling.node, calling.deadline) {
                let what = format!("{} was to be answered by {by}: {calling:?}", calling.call);
                return Err(broken(Rule::Progress, calling.node, what));
            }
        }
        for direct in self.apps.iter().flat_map(|apps| apps.directs.values()) {
            if let Some(by) = answer_by(direct.node, direct.deadline) {
                let what = format!("it was to be answered by {by}: {direct:?}");
                return Err(broken(Rule::Progress, direct.node, what));
            }
        }
        Ok(())
    }
}
