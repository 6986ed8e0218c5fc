//! The application of the profile `retries`: clients call functions that are at some nodes only, some calls at most once, some marked
//! as harmless twice and under a name, and some by way of another function: that calls it, forwards to it, or wants it called.
//!
//! What must hold: a call that may run at most once is run at most once, by whoever makes it; one that is answered well has run and
//! its effect is there; an error after which nothing can have run comes of calls that have not run, then or later, and one
//! after which nothing can have changed of calls without an effect; what runs again under one name has one effect. How often a call
//! was run is counted where it runs.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::state::OrSet;
use anabranch::{Context, Error, ErrorKind, Function};

use super::ledger::Ledger;
use crate::app::{Answered, Application, Ask, Client, Cluster};
use crate::net::NodeIx;

/// Runs at most once for each call.
const ONCE: &str = "once";
/// May run again; keeps the names of its calls.
const AGAIN: &str = "again";
/// Leads to the first, in several ways, and is everywhere.
const RELAY: &str = "relay";
/// Every so manyth node has none of the first two.
const LACKING: NodeIx = 3;

type Lines = OrSet<String>;

/// How a client has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Once,
    Again,
    /// By a function that calls it.
    Relayed,
    /// By one that forwards, and does nothing itself.
    Forwarded,
    /// By one that forwards once it has done its part.
    HandedOn,
    /// By one that wants it called, and waits for that.
    Wanted,
}

/// What became of a call.
#[derive(Debug)]
struct Fate {
    way: Way,
    /// The error, where there was one.
    error: Option<Error>,
}

/// Clients whose calls go to other nodes, and what is known of each call.
#[derive(Debug, Default)]
pub struct Retries {
    ledger: Ledger,
    next: u64,
    asked: BTreeMap<usize, (String, Way)>,
    fates: BTreeMap<String, Fate>,
}

fn lines(kind: &str) -> anabranch::FunctionBuilder<Lines> {
    Function::of::<Lines>(kind).query("show", |lines: &Lines, _, ()| {
        let mut all = lines.elements();
        all.sort();
        Ok::<_, String>(all)
    })
}

fn once(ledger: &Ledger) -> Function {
    let ledger = ledger.clone();
    lines(ONCE)
        .command("do", move |lines: &mut Lines, _: &mut Context, token: String| {
            ledger.open().ran(&token);
            lines.add(&token);
            Ok::<_, String>(())
        })
        .into()
}

fn again(ledger: &Ledger) -> Function {
    let ledger = ledger.clone();
    lines(AGAIN)
        .command(
            "do",
            move |lines: &mut Lines, context: &mut Context, token: String| {
                ledger.open().ran(&token);
                let name = context.call_id().unwrap_or("nobody");
                lines.add(&format!("{name}:{token}"));
                Ok::<_, String>(())
            },
        )
        .into()
}

fn relay() -> Function {
    lines(RELAY)
        .command_async("do", |_: &mut Lines, context: &mut Context, token: String| {
            Box::pin(async move { context.call::<_, ()>(ONCE, "all", "do", &token).await })
        })
        .command(
            "forward",
            |_: &mut Lines, context: &mut Context, token: String| {
                context.forward(ONCE, "all", "do", &token);
                Ok::<_, String>(())
            },
        )
        .command(
            "hand_on",
            |lines: &mut Lines, context: &mut Context, token: String| {
                lines.add(&token);
                context.forward(ONCE, "all", "do", &token);
                Ok::<_, String>(())
            },
        )
        .command(
            "want",
            |lines: &mut Lines, context: &mut Context, token: String| {
                lines.add(&token);
                context.effect(ONCE, "all", "do", &token);
                Ok::<_, String>(())
            },
        )
        .into()
}

/// Whether it says that no function was given the call.
fn never_ran(error: &Error) -> bool {
    // That nothing came of what it did says that it was.
    let has_run = error.message().contains("what the function did is not in");
    !has_run
        && matches!(
            error.kind(),
            ErrorKind::Overloaded
                | ErrorKind::NotReady
                | ErrorKind::NoFunction
                | ErrorKind::Unreachable
                | ErrorKind::Stopping
                | ErrorKind::Expired
                | ErrorKind::Stale
        )
}

impl Retries {
    fn runs(&self, token: &str) -> u64 {
        self.ledger.open().runs.get(token).copied().unwrap_or(0)
    }

    /// What must hold of a call, at any time after it was answered.
    fn check(&self, token: &str, fate: &Fate) -> Result<(), String> {
        let runs = self.runs(token);
        let is_wrong = match (&fate.error, fate.way) {
            (_, way) if way != Way::Again && runs > 1 => true,
            // What is wanted may fail, and nobody is told.
            (None, Way::Wanted) => false,
            (None, _) => runs == 0,
            // Its own function was given it; what that was told of another's is in the message.
            (Some(_), Way::Relayed) => false,
            (Some(error), _) => never_ran(error) && runs > 0,
        };
        match is_wrong {
            true => Err(format!("call {token}, run {runs} times: {fate:?}")),
            false => Ok(()),
        }
    }

    /// And of its effect, once all is over: its own, and that of the function which led to it.
    fn check_effect(&self, token: &str, fate: &Fate, is_there: bool, led: bool) -> Result<(), String> {
        let leads = matches!(fate.way, Way::HandedOn | Way::Wanted);
        let is_wrong = match (&fate.error, fate.way) {
            _ if led && !leads => true,
            (None, Way::Wanted) => !led,
            (None, _) => !is_there || leads && !led,
            (Some(_), Way::Relayed) => false,
            (Some(error), _) => (is_there || led) && !error.changed_state(),
        };
        match is_wrong {
            true => Err(format!(
                "call {token}, effect {is_there}, that of who led to it {led}: {fate:?}"
            )),
            false => Ok(()),
        }
    }
}

impl Application for Retries {
    fn functions(&self) -> Vec<Function> {
        vec![once(&self.ledger), again(&self.ledger), relay()]
    }

    fn functions_at(&self, node: NodeIx) -> Vec<Function> {
        if node.is_multiple_of(LACKING) {
            return vec![relay()];
        }
        self.functions()
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        self.next += 1;
        let token = format!("t{}", self.next);
        let way = *client.rng.pick(&[
            Way::Once,
            Way::Once,
            Way::Again,
            Way::Again,
            Way::Relayed,
            Way::Forwarded,
            Way::HandedOn,
            Way::Wanted,
        ]);
        let ask = match way {
            Way::Once => Ask::of(ONCE, "all", "do", &token),
            Way::Relayed => Ask::of(RELAY, "all", "do", &token),
            Way::Forwarded => Ask::of(RELAY, "all", "forward", &token),
            Way::HandedOn => Ask::of(RELAY, "all", "hand_on", &token),
            Way::Wanted => Ask::of(RELAY, "all", "want", &token),
            Way::Again => Ask::of(AGAIN, "all", "do", &token).idempotent().named(&token),
        };
        self.asked.insert(client.ix, (token, way));
        let timeout_ms = client.rng.log_uniform(5.0, 5_000.0) as u64;
        Some(ask.at(client.any_node()).within_ms(timeout_ms))
    }

    fn on_answer(&mut self, answered: &Answered, _: &Cluster<'_>) -> Result<(), String> {
        let (token, way) = self
            .asked
            .remove(&answered.client)
            .ok_or("an answer to nothing")?;
        let error = answered.result.as_ref().err().cloned();
        let fate = Fate { way, error };
        self.check(&token, &fate)?;
        self.fates.insert(token, fate);
        Ok(())
    }

    fn marks(&self) -> BTreeMap<&'static str, u64> {
        let count = |is: &dyn Fn(&str, &Fate) -> bool| {
            let all = self.fates.iter();
            all.filter(|(token, fate)| is(token, fate)).count() as u64
        };
        BTreeMap::from([
            ("calls answered", count(&|_, fate| fate.error.is_none())),
            (
                "calls that ran twice or more",
                count(&|token, _| self.runs(token) > 1),
            ),
            (
                "calls that ran though nobody heard of it",
                count(&|token, fate| fate.error.is_some() && self.runs(token) > 0),
            ),
            (
                "forwards that were answered",
                count(&|_, fate| fate.error.is_none() && matches!(fate.way, Way::Forwarded | Way::HandedOn)),
            ),
            (
                "forwards that failed once their first part was in",
                count(&|_, fate| {
                    let error = fate.error.as_ref();
                    fate.way == Way::HandedOn
                        && error.is_some_and(|error| error.message().contains("forwarded to"))
                }),
            ),
            (
                "effects that were waited for, and came",
                count(&|token, fate| fate.error.is_none() && fate.way == Way::Wanted && self.runs(token) > 0),
            ),
            (
                "calls that never ran",
                count(&|token, fate| fate.error.as_ref().is_some_and(never_ran) && self.runs(token) == 0),
            ),
        ])
    }

    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
        // Not every node has the functions, but every node has what they keep.
        let node = 1;
        let once: Vec<String> = cluster.query(node, ONCE, "all", "show", &())?;
        let again: Vec<String> = cluster.query(node, AGAIN, "all", "show", &())?;
        let led: Vec<String> = cluster.query(node, RELAY, "all", "show", &())?;
        let [once, led] = [&once, &led].map(|all| all.iter().map(String::as_str).collect::<BTreeSet<_>>());
        let mut named = BTreeSet::new();
        for line in &again {
            let Some((name, token)) = line.split_once(':').filter(|(name, token)| name == token) else {
                return Err(format!("a call under another name than its own: {line}"));
            };
            named.insert(token);
            if !self.fates.contains_key(name) && !self.asked.values().any(|(token, _)| token == name) {
                return Err(format!("{name} was asked by nobody"));
            }
        }
        for (token, fate) in &self.fates {
            self.check(token, fate)?;
            let set = if fate.way == Way::Again { &named } else { &once };
            let is_in = |set: &BTreeSet<&str>| set.contains(token.as_str());
            self.check_effect(token, fate, is_in(set), is_in(&led))?;
        }
        Ok(())
    }
}
