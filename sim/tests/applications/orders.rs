//! An application whose functions call one another in every way there is: wait for an answer, here or at another node, want
//! something done afterwards, waited for or not, and let another answer in their place.
//!
//! What must hold: everything happens at most once; what an answered order waited for has happened; what was said to have
//! changed nothing, and was refused before its function had it, has not; and a session sees at any node all that its orders did.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::state::CounterMap;
use anabranch::{Context, Error, ErrorKind, Function};
use anabranch_sim::app::{Answered, Application, Ask, Client, Cluster};

/// Of each order, how often it happened.
type Times = CounterMap<String>;

/// The kinds whose functions an order comes by, besides its own.
const STEPS: [&str; 4] = ["stock", "peers", "notes", "later"];

fn once(kind: &str) -> Function {
    Function::of::<Times>(kind)
        .command("do", |times: &mut Times, _, order: String| {
            times.increment(&order, 1);
            Ok::<_, String>(times.get(&order))
        })
        .query("times", |times: &Times, _, ()| Ok::<_, String>(times.entries()))
        .into()
}

async fn order(orders: &mut Times, context: &mut Context, order: String, retries: bool) -> Result<(), Error> {
    let _: i128 = context.call("stock", "all", "do", &order).await?;
    let peers = context.peers();
    for _ in 0..=u8::from(retries) {
        // It is asked again, and does without in the end.
        let peer = peers.get(context.random() as usize % peers.len().max(1));
        let Some(peer) = peer else { break };
        let done = context.call_on::<_, i128>(*peer, "peers", "all", "do", &order);
        if done.await.is_ok() {
            break;
        }
    }
    orders.increment(&order, 1);
    context.effect("notes", "all", "do", &order);
    context.effect_later("later", "all", "do", &order);
    context.forward("receipts", "all", "do", &order);
    Ok(())
}

fn functions(retries: bool) -> Vec<Function> {
    let orders = Function::of::<Times>("orders")
        .command_async("order", move |orders, context, number: String| {
            Box::pin(order(orders, context, number, retries))
        })
        .query("times", |times: &Times, _, ()| Ok::<_, String>(times.entries()));
    let mut all: Vec<Function> = STEPS.into_iter().map(once).collect();
    all.extend([orders.into(), once("receipts")]);
    all
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Open,
    /// Its function was not given it.
    Nothing,
}

#[derive(Clone, Debug)]
enum Asked {
    Order(String),
    Look(&'static str),
}

/// Clients that order, and what each order must have done elsewhere.
#[derive(Default)]
pub struct Orders {
    retries: bool,
    next: u64,
    fates: BTreeMap<String, Fate>,
    asked: BTreeMap<usize, Asked>,
    /// By client, orders of its session that were answered.
    seen: BTreeMap<usize, BTreeSet<String>>,
    stale: BTreeSet<usize>,
}

type TimesOf = Vec<(String, i128)>;

impl Orders {
    /// Those that ask again where nobody knows whether they were heard.
    pub fn that_retry() -> Orders {
        Orders {
            retries: true,
            ..Orders::default()
        }
    }

    /// Nothing happened twice.
    fn check_times(kind: &str, times: &TimesOf) -> Result<(), String> {
        let twice = times.iter().find(|(_, times)| !(0..=1).contains(times));
        twice.map_or(Ok(()), |(order, times)| {
            Err(format!("{kind} of order {order} happened {times} times"))
        })
    }

    fn on_look(&self, client: usize, kind: &str, times: &TimesOf) -> Result<(), String> {
        Orders::check_times(kind, times)?;
        let has = |order: &String| times.iter().any(|(other, times)| other == order && *times == 1);
        match self.seen[&client].iter().find(|order| !has(order)) {
            Some(lost) => Err(format!("client {client} does not see order {lost} in {kind}")),
            None => Ok(()),
        }
    }
}

impl Application for Orders {
    fn functions(&self) -> Vec<Function> {
        functions(self.retries)
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        self.next += 1;
        let asked = match client.rng.below(10) {
            0..7 => Asked::Order(self.next.to_string()),
            // The calls that it waited for are in its session, too.
            _ => Asked::Look(client.rng.pick::<&str>(&["orders", "stock", "receipts"])),
        };
        let ask = match &asked {
            Asked::Order(order) => Ask::of("orders", "all", "order", order),
            Asked::Look(kind) => Ask::of(kind, "all", "times", &()),
        };
        let timeout_ms = client.rng.log_uniform(50.0, 10_000.0) as u64;
        self.asked.insert(client.ix, asked);
        let seen = self.seen.entry(client.ix).or_default();
        let ask = ask.at(client.any_node()).within_ms(timeout_ms);
        if self.stale.remove(&client.ix) {
            seen.clear();
            return Some(ask.in_new_session());
        }
        Some(ask.in_session())
    }

    fn on_answer(&mut self, answered: &Answered, _: &Cluster<'_>) -> Result<(), String> {
        let client = answered.client;
        if answered.is_error(ErrorKind::Stale) {
            self.stale.insert(client);
        }
        match self.asked.remove(&client).expect("it asked") {
            Asked::Look(kind) => match answered.reply::<TimesOf>() {
                Ok(times) => self.on_look(client, kind, &times),
                Err(error) if error.kind() == ErrorKind::Refused => Err(format!("{kind}: {error}")),
                Err(_) => Ok(()),
            },
            Asked::Order(order) => {
                let fate = match (answered.reply::<i128>(), &answered.saw) {
                    (Ok(1), Some(_)) => Fate::Answered,
                    (Ok(times), _) => return Err(format!("order {order} has {times} receipts")),
                    (Err(_), Some(_)) => Fate::Open,
                    (Err(_), None) => Fate::Nothing,
                };
                if fate == Fate::Answered {
                    self.seen.entry(client).or_default().insert(order.clone());
                }
                self.fates.insert(order, fate);
                Ok(())
            }
        }
    }

    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
        for node in 0..cluster.nodes() {
            for kind in STEPS.into_iter().chain(["orders", "receipts"]) {
                let times: TimesOf = cluster.query(node, kind, "all", "times", &())?;
                Orders::check_times(kind, &times)?;
                let happened: BTreeSet<&String> = times
                    .iter()
                    .filter(|(_, times)| *times == 1)
                    .map(|(order, _)| order)
                    .collect();
                for (order, fate) in &self.fates {
                    let must = ["orders", "stock", "receipts"].contains(&kind);
                    match (fate, happened.contains(order)) {
                        (Fate::Answered, false) if must => {
                            return Err(format!(
                                "node {node}: order {order} was answered, and has no {kind}"
                            ));
                        }
                        (Fate::Nothing, true) => {
                            return Err(format!(
                                "node {node}: order {order} was never begun, and has {kind}"
                            ));
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}
