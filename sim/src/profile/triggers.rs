//! The application of the profile `triggers`: clients order schedules and change items, and functions are called by nobody but what
//! nodes see to of their own accord.
//!
//! What must hold is said by `schedules` and `changes`; nothing of it is taken from `anabranch::trigger`.

use std::collections::BTreeMap;

use anabranch::Function;

use super::changes::{self, Changes};
use super::functions;
use super::ledger::Ledger;
use super::schedules::{self, Schedules};
use crate::app::{Answered, Application, Ask, Client, Cluster};

#[derive(Debug)]
enum Asked {
    Schedule(schedules::Asked),
    Change(changes::Asked),
}

/// Clients that order schedules and change items, and what is awaited of both.
#[derive(Debug)]
pub struct Triggers {
    knows_time: bool,
    ledger: Ledger,
    schedules: Schedules,
    changes: Changes,
    asked: BTreeMap<usize, Asked>,
}

impl Triggers {
    /// With clocks that are well, or not.
    pub fn new(knows_time: bool) -> Triggers {
        let ledger = Ledger::default();
        Triggers {
            knows_time,
            schedules: Schedules::new(ledger.clone(), knows_time),
            changes: Changes::new(ledger.clone()),
            ledger,
            asked: BTreeMap::new(),
        }
    }
}

impl Application for Triggers {
    fn functions(&self) -> Vec<Function> {
        functions::all(&self.ledger, self.knows_time)
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        let schedule = client
            .rng
            .chance(0.4)
            .then(|| self.schedules.ask(client))
            .flatten();
        let (asked, ask) = match schedule {
            Some((asked, ask)) => (Asked::Schedule(asked), ask),
            None => {
                let (asked, ask) = self.changes.ask(client);
                (Asked::Change(asked), ask)
            }
        };
        self.asked.insert(client.ix, asked);
        Some(ask)
    }

    fn on_answer(&mut self, answered: &Answered, cluster: &Cluster<'_>) -> Result<(), String> {
        match self.asked.remove(&answered.client) {
            Some(Asked::Schedule(asked)) => self.schedules.on_answer(&asked, answered),
            Some(Asked::Change(asked)) => self.changes.on_answer(asked, answered),
            None => return Err("an answer to nothing".to_owned()),
        }
        self.ledger.open().check()?;
        self.schedules.look(cluster, answered.node)?;
        self.changes.look(cluster, answered.node)
    }

    fn awaits(&mut self, cluster: &Cluster<'_>) -> Option<String> {
        let schedule = self.schedules.awaits(cluster);
        schedule.or_else(|| self.changes.awaits(cluster))
    }

    fn marks(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("calls of schedules", self.schedules.calls()),
            ("times of cron expressions called for", self.schedules.crons()),
            ("calls of schedules made again", self.schedules.repeats()),
            ("schedules ordered anew", self.schedules.anew()),
            ("calls that tell of changes", self.changes.told()),
            ("cursors looked at", self.changes.looks()),
        ])
    }

    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
        self.ledger.open().check()?;
        for node in 0..cluster.nodes() {
            self.changes.look(cluster, node)?;
        }
        self.schedules.at_rest(cluster)
    }
}
