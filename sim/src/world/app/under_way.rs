//! What of an application is under way, in words: for whoever reads why a run does not come to its end.

use super::Apps;

/// So many calls are named.
const NAMED_MAX: usize = 5;

impl Apps {
    /// Which calls wait for their answers, and how many that nobody waits for are not made yet; nothing where there is neither.
    pub(super) fn under_way(&self) -> Option<String> {
        let calls = self.callings.len() + self.asked.len() + self.directs.len();
        let chains = self.chains.len();
        if calls == 0 && chains == 0 {
            return None;
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
