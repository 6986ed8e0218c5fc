//! Schedules, and what must hold of them: every time that has come is called for, under a name of its own, unless its order says that
//! it may be skipped; none is done before that; what was never ordered is not called for.
//!
//! Its times are reckoned here from what was ordered and when; of what a node keeps of a schedule only that is taken, and its last
//! time that is done.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::{Missed, Order, SCHEDULE, Shown, When};

use super::functions::JOURNAL;
use super::ledger::Ledger;
use crate::app::{Answered, Ask, Client, Cluster};
use crate::net::NodeIx;

/// So many are ordered at most, and of them so many that go on.
const ORDERED_MAX: usize = 60;
const REPEATED_MAX: usize = 4;
/// Of every so many minutes of an hour, as crontab(5) says it.
const CRONS: [(&str, u64); 3] = [("* * * * *", 1), ("0-58/2 * * * *", 2), ("*/3 0-23 * * *", 3)];
const MINUTE_MS: u64 = 60_000;
/// Long before every clock.
const PAST_MS: u64 = 1_700_000_000_000;
/// So many are looked at with each answer.
const LOOKED_AT: usize = 4;

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Asked,
    Surely,
    Perhaps,
    Never,
}

/// All that was ordered under one name: one after the other, or at once at several nodes.
#[derive(Debug, Default)]
struct Ordered {
    orders: Vec<(Order, Fate)>,
    is_cancelled: bool,
    /// Its times that a node was seen to take for done.
    done: BTreeSet<u64>,
}

/// What clients have asked for.
#[derive(Clone, Debug)]
pub enum Asked {
    Set { name: String, nth: usize },
    Cancel,
}

/// All schedules of a run.
#[derive(Debug)]
pub struct Schedules {
    ledger: Ledger,
    knows_time: bool,
    ordered: BTreeMap<String, Ordered>,
    /// What is due by now must be called for: the lowest of all clocks when all was healed.
    due_ms: Option<u64>,
    /// Where the next look at what is done begins.
    next: usize,
}

fn is_repeated(order: &Order) -> bool {
    matches!(order.when, When::EveryMs(_) | When::Cron(_))
}

/// Whether its calls leave something behind.
fn notes(order: &Order) -> bool {
    order.method == "note"
}

/// Whether its only time was long over when it was ordered, and is not made good.
fn is_too_late(order: &Order) -> bool {
    matches!(order.when, When::AtMs(_)) && order.missed == Missed::Skip
}

impl Ordered {
    /// Those that may have been taken.
    fn taken(&self) -> impl Iterator<Item = &Order> {
        let taken = self.orders.iter().filter(|(_, fate)| *fate != Fate::Never);
        taken.map(|(order, _)| order)
    }

    /// Whether every call leaves something behind.
    fn notes(&self) -> bool {
        self.taken().all(notes)
    }
}

/// What was seen of a name.
struct Found<'a> {
    called: &'a BTreeSet<u64>,
    noted: &'a BTreeSet<u64>,
    shown: Option<Shown>,
}

/// Its times up to one, of one that goes on.
fn times(shown: &Shown, upto: u64) -> Vec<u64> {
    let (first, apart) = match &shown.order.when {
        When::EveryMs(every) => (shown.since_ms + every, *every),
        When::Cron(_) => (shown.since_ms.next_multiple_of(MINUTE_MS), MINUTE_MS),
        When::AfterMs(_) | When::AtMs(_) => return Vec::new(),
    };
    let minutes = (first..=upto).step_by(apart as usize);
    minutes.filter(|slot| is_time(shown, *slot)).collect()
}

/// Whether one that goes on is to be called for then.
fn is_time(shown: &Shown, slot: u64) -> bool {
    let is_it = match &shown.order.when {
        When::EveryMs(every) => slot.abs_diff(shown.since_ms).is_multiple_of(*every),
        When::Cron(text) => {
            let minutes = CRONS
                .iter()
                .find(|(cron, _)| cron == text)
                .map(|(_, minutes)| *minutes);
            let of_hour = slot / MINUTE_MS % 60;
            slot.is_multiple_of(MINUTE_MS) && minutes.is_some_and(|minutes| of_hour.is_multiple_of(minutes))
        }
        When::AfterMs(_) | When::AtMs(_) => false,
    };
    slot > shown.since_ms && is_it
}

impl Schedules {
    pub fn new(ledger: Ledger, knows_time: bool) -> Schedules {
        Schedules {
            ledger,
            knows_time,
            ordered: BTreeMap::new(),
            due_ms: None,
            next: 0,
        }
    }

    /// A client orders one, anew perhaps, or takes one back.
    pub fn ask(&mut self, client: &mut Client) -> Option<(Asked, Ask)> {
        let known: Vec<&String> = self.ordered.keys().collect();
        let old = (!known.is_empty()).then(|| (*client.rng.pick(&known)).clone());
        let new = (known.len() < ORDERED_MAX).then(|| format!("s{}", known.len()));
        let name = match old {
            Some(name) if client.rng.chance(0.1) => {
                let ask = Ask::of(SCHEDULE, &name, "cancel", &()).at(client.any_node());
                self.ordered.entry(name).or_default().is_cancelled = true;
                return Some((Asked::Cancel, ask));
            }
            Some(name) if client.rng.chance(0.2) => Some(name),
            _ => new,
        }?;
        let order = self.invent(client);
        let ask = Ask::of(SCHEDULE, &name, "set", &order).at(client.any_node());
        let ordered = self.ordered.entry(name.clone()).or_default();
        let nth = ordered.orders.len();
        ordered.orders.push((order, Fate::Asked));
        Some((Asked::Set { name, nth }, ask))
    }

    fn invent(&self, client: &mut Client) -> Order {
        let orders = self.ordered.values().flat_map(|ordered| &ordered.orders);
        let repeated = orders.filter(|(order, _)| is_repeated(order)).count();
        let when = match client.rng.below(10) {
            0 => When::AtMs(PAST_MS + client.rng.below(1_000)),
            1..4 if repeated < REPEATED_MAX => match client.rng.chance(0.5) {
                true => When::Cron(client.rng.pick(&CRONS).0.to_owned()),
                false => When::EveryMs(client.rng.between(2_000, 5_000)),
            },
            _ => When::AfterMs(client.rng.log_uniform(1.0, 12_000.0) as u64),
        };
        let missed = match client.rng.below(3) {
            // A clock that goes ahead by an hour makes for thousands of them.
            0 if self.knows_time || matches!(when, When::AfterMs(_) | When::AtMs(_)) => Missed::All,
            1 => Missed::Skip,
            _ => Missed::Once,
        };
        let method = if client.rng.chance(0.1) { "refuse" } else { "note" };
        let key = *client.rng.pick(&["x", "y"]);
        Order {
            when,
            kind: JOURNAL.to_owned(),
            key: key.to_owned(),
            method: method.to_owned(),
            argument: anabranch::Json("null".to_owned()),
            missed,
            timeout_ms: client.rng.chance(0.5).then(|| client.rng.between(50, 5_000)),
        }
    }

    pub fn on_answer(&mut self, asked: &Asked, answered: &Answered) {
        let Asked::Set { name, nth } = asked else { return };
        let fate = match &answered.result {
            Ok(_) => Fate::Surely,
            Err(_) if answered.may_have_run() => Fate::Perhaps,
            Err(_) => Fate::Never,
        };
        let ordered = self.ordered.get_mut(name);
        if let Some((_, of)) = ordered.and_then(|ordered| ordered.orders.get_mut(*nth)) {
            *of = fate;
        }
    }

    fn show(cluster: &Cluster<'_>, node: NodeIx, name: &str) -> Result<Option<Shown>, String> {
        cluster.query(node, SCHEDULE, name, "show", &())
    }

    /// What a node takes for done was called for.
    pub fn look(&mut self, cluster: &Cluster<'_>, node: NodeIx) -> Result<(), String> {
        if !cluster.is_up(node) || self.ordered.is_empty() {
            return Ok(());
        }
        for _ in 0..LOOKED_AT {
            self.next = (self.next + 1) % self.ordered.len();
            let Some((name, ordered)) = self.ordered.iter_mut().nth(self.next) else {
                break;
            };
            let Some(shown) = Schedules::show(cluster, node, name)? else {
                continue;
            };
            if let Some(slot) = shown.last_ms {
                ordered.done.insert(slot);
                check_ran(&self.ledger, name, &shown, slot)?;
            }
        }
        Ok(())
    }

    /// What is still to be called for.
    pub fn awaits(&mut self, cluster: &Cluster<'_>) -> Option<String> {
        let walls = (0..cluster.nodes()).map(|node| cluster.wall_ms(node));
        let due = *self.due_ms.get_or_insert(walls.min().unwrap_or(0));
        for name in self.ordered.keys() {
            let Ok(Some(shown)) = Schedules::show(cluster, 0, name) else {
                continue;
            };
            let is_due = match shown.order.when {
                When::AfterMs(ms) => shown.since_ms + ms <= due,
                When::AtMs(_) => true,
                _ if self.may_skip(&shown.order) => false,
                _ => times(&shown, due).last() > shown.last_ms.as_ref(),
            };
            if is_due {
                return Some(format!("schedule {name} was due by {due}, and is {shown:?}"));
            }
        }
        None
    }

    pub fn at_rest(&self, cluster: &Cluster<'_>) -> Result<(), String> {
        let mut noted = BTreeSet::new();
        for key in ["x", "y"] {
            noted.extend(cluster.query::<_, Vec<String>>(0, JOURNAL, key, "show", &())?);
        }
        let runs: Vec<String> = self.ledger.open().runs.keys().cloned().collect();
        let stray = noted.iter().find(|name| !runs.contains(name));
        if let Some(name) = stray {
            return Err(format!("{name} was noted by nobody"));
        }
        let is_ordered = |run: &String| {
            let name = run.rsplit_once('@').map(|(name, _)| name);
            name.is_some_and(|name| self.ordered.contains_key(name))
        };
        if let Some(run) = runs.iter().find(|run| !is_ordered(run)) {
            return Err(format!("called for {run}, which is no time of what was ordered"));
        }
        for (name, ordered) in &self.ordered {
            let begins = format!("{name}@");
            let called: BTreeSet<u64> = runs
                .iter()
                .filter_map(|run| run.strip_prefix(&begins)?.parse().ok())
                .collect();
            let noted: BTreeSet<u64> = noted
                .iter()
                .filter_map(|run| run.strip_prefix(&begins)?.parse().ok())
                .collect();
            let shown = Schedules::show(cluster, 0, name)?;
            let (called, noted) = (&called, &noted);
            let found = Found { called, noted, shown };
            self.check(ordered, &found)
                .map_err(|why| format!("schedule {name}, {ordered:?}, called for {called:?}: {why}"))?;
        }
        Ok(())
    }

    /// Whether some of an order's times may be left out, however late.
    fn may_skip(&self, order: &Order) -> bool {
        order.missed == Missed::Skip && !self.knows_time
    }

    fn check(&self, ordered: &Ordered, found: &Found<'_>) -> Result<(), String> {
        let Found { called, noted, shown } = found;
        if ordered.taken().next().is_none() && !(called.is_empty() && shown.is_none()) {
            return Err("it was said that it was not ordered".to_owned());
        }
        let mut done = ordered.done.iter();
        let is_lost = |slot: &&u64| !called.contains(slot) || ordered.notes() && !noted.contains(slot);
        if let Some(slot) = done.find(is_lost) {
            return Err(format!("{slot} is done, and nothing of it is there"));
        }
        if ordered.is_cancelled {
            return Ok(());
        }
        match (&ordered.orders[..], shown) {
            (_, Some(shown)) if !ordered.taken().any(|order| *order == shown.order) => {
                Err(format!("it is {shown:?}"))
            }
            ([(order, _)], _) if !is_repeated(order) => self.check_once(order, ordered, found),
            (orders, Some(shown)) if is_repeated(&shown.order) => {
                let is_alone = orders.len() == 1;
                self.check_repeated(shown, found, is_alone)
            }
            (_, Some(_)) => Ok(()),
            (_, None) => self.check_gone(ordered, called),
        }
    }

    /// One that is for once is called for under one name, and then gone.
    fn check_once(&self, order: &Order, ordered: &Ordered, found: &Found<'_>) -> Result<(), String> {
        if found.called.len() > 1 {
            return Err("under several names".to_owned());
        }
        let is_sure = ordered.orders.iter().all(|(_, fate)| *fate == Fate::Surely);
        if !is_sure {
            return Ok(());
        }
        let is_left = found.shown.is_some();
        if is_too_late(order) {
            return match found.called.is_empty() && !is_left {
                true => Ok(()),
                false => Err("it was too late for it".to_owned()),
            };
        }
        if is_left || self.may_skip(order) {
            return Ok(());
        }
        if found.called.is_empty() || notes(order) && found.noted.is_empty() {
            return Err("it is over, and nothing of it is there".to_owned());
        }
        Ok(())
    }

    /// One that goes on was called for as often as its order says, however often it was ordered anew before.
    fn check_repeated(&self, shown: &Shown, found: &Found<'_>, is_alone: bool) -> Result<(), String> {
        let mut called = found.called.iter();
        if let Some(slot) = called.find(|slot| is_alone && !is_time(shown, **slot)) {
            return Err(format!("{slot} is none of its times"));
        }
        if shown.order.missed != Missed::All {
            return Ok(());
        }
        let notes = notes(&shown.order);
        let is_there = |slot: &u64| found.called.contains(slot) && (!notes || found.noted.contains(slot));
        let upto = self.due_ms.unwrap_or(0);
        match times(shown, upto).into_iter().find(|slot| !is_there(slot)) {
            Some(slot) => Err(format!("{slot} was left out of {shown:?}")),
            None => Ok(()),
        }
    }

    /// What is gone of its own accord was for once, and was called for.
    fn check_gone(&self, ordered: &Ordered, called: &BTreeSet<u64>) -> Result<(), String> {
        let is_sure = ordered.orders.iter().any(|(_, fate)| *fate == Fate::Surely);
        let mut once = ordered.taken().filter(|order| !is_repeated(order)).peekable();
        if once.peek().is_none() && is_sure {
            return Err("it is gone".to_owned());
        }
        let may_skip = once.any(|order| is_too_late(order) || self.may_skip(order));
        match is_sure && !may_skip && called.is_empty() {
            true => Err("it is over, and nothing of it is there".to_owned()),
            false => Ok(()),
        }
    }

    /// How often anything was called for.
    pub fn calls(&self) -> u64 {
        self.ledger.open().runs.values().sum()
    }

    /// For how many times of what goes by a cron expression.
    pub fn crons(&self) -> u64 {
        let is_cron = |ordered: &Ordered| {
            let mut orders = ordered.taken();
            orders.any(|order| matches!(order.when, When::Cron(_)))
        };
        let seen = self.ledger.open();
        let runs = seen.runs.keys().filter_map(|run| run.rsplit_once('@'));
        // Of other orders under its name hardly a time falls on a minute.
        let on_minute = |slot: &str| slot.parse().is_ok_and(|ms: u64| ms.is_multiple_of(MINUTE_MS));
        let crons =
            runs.filter(|(name, slot)| on_minute(slot) && self.ordered.get(*name).is_some_and(is_cron));
        crons.count() as u64
    }

    /// How often a schedule was ordered anew.
    pub fn anew(&self) -> u64 {
        let orders = self.ordered.values().map(|ordered| ordered.orders.len() as u64);
        orders.map(|orders| orders.saturating_sub(1)).sum()
    }

    /// And how often again for the same time.
    pub fn repeats(&self) -> u64 {
        self.ledger.open().runs.values().map(|runs| runs - 1).sum()
    }
}

/// What a node takes for done was called for, and is a time of the order that is there.
fn check_ran(ledger: &Ledger, name: &str, shown: &Shown, slot: u64) -> Result<(), String> {
    let run = format!("{name}@{slot}");
    if !ledger.open().runs.contains_key(&run) {
        return Err(format!("{run} is done, and was not called for"));
    }
    match is_repeated(&shown.order) && !is_time(shown, slot) {
        true => Err(format!("{run} is done, and is no time of {shown:?}")),
        false => Ok(()),
    }
}
