//! Clients of rooms, and what must hold of who is shown there.
//!
//! What must hold in the end: every node shows whoever came in by a run of a node that still goes on and has not left, and nobody
//! else: no ghost of a run that has ended, whoever saw it end, and nobody less because his node was thought to be gone for a
//! while. Meanwhile nobody is shown who has not come in, nor at his own node once he has left.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::state::Flag;
use anabranch::{Function, ReplicaId};
use anabranch_sim::app::{Answered, Application, Ask, Client, Cluster};

use super::presence::Seat;

const ROOMS: [&str; 2] = ["lobby", "attic"];

/// What is known of one who was to come in; each has a name of his own.
#[derive(Debug)]
struct Guest {
    room: &'static str,
    seat: Seat,
    node: usize,
    /// By which run of the node he is in, once that is answered.
    run: Option<ReplicaId>,
    /// Whether he came in; not known where nobody can say.
    is_in: Option<bool>,
    /// Whether he has left; not known where nobody can say.
    has_left: Option<bool>,
}

#[derive(Clone, Debug)]
enum Asked {
    Enter(String),
    Leave(String),
    Who(&'static str),
}

/// Clients that enter and leave rooms, and who must be shown there.
pub struct Presences {
    functions: fn() -> Vec<Function>,
    guests: BTreeMap<String, Guest>,
    asked: BTreeMap<usize, Asked>,
}

impl Presences {
    pub fn of(functions: fn() -> Vec<Function>) -> Presences {
        Presences {
            functions,
            guests: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    fn check_shown(&self, room: &str, shown: &[String]) -> Result<(), String> {
        let stranger = shown.iter().find(|who| {
            self.guests
                .get(*who)
                .is_none_or(|guest| guest.room != room || guest.is_in == Some(false))
        });
        stranger.map_or(Ok(()), |who| {
            Err(format!("{who} is shown in the {room}, and never came in"))
        })
    }
}

/// Says in which run a node is.
pub fn runs() -> Function {
    Function::of::<Flag>("runs")
        .query("mine", |_, context, ()| {
            let run = context.replica();
            Ok::<_, String>((run.node.0, run.epoch.0))
        })
        .into()
}

impl Application for Presences {
    fn functions(&self) -> Vec<Function> {
        let mut functions = (self.functions)();
        functions.push(runs());
        functions
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        let room = *client.rng.pick(&ROOMS);
        let mut here = self
            .guests
            .values()
            .filter(|guest| guest.is_in == Some(true) && guest.has_left == Some(false));
        let leaves = here
            .nth(client.rng.below(8) as usize)
            .map(|guest| guest.seat.who.clone());
        let (asked, ask) = match (client.rng.below(100), leaves) {
            (0..30, Some(who)) => {
                let guest = self.guests.get_mut(&who)?;
                guest.has_left = None;
                let ask = Ask::of("presence", guest.room, "leave", &guest.seat).at(guest.node);
                (Asked::Leave(who), ask)
            }
            (0..60, _) => {
                let number = self.guests.len() as u64;
                let who = format!("guest {number}");
                let node = client.any_node();
                let seat = Seat {
                    who: who.clone(),
                    number,
                };
                let ask = Ask::of("presence", room, "enter", &seat).at(node);
                let guest = Guest {
                    room,
                    seat,
                    node,
                    run: None,
                    is_in: None,
                    has_left: Some(false),
                };
                self.guests.insert(who.clone(), guest);
                (Asked::Enter(who), ask)
            }
            _ => (
                Asked::Who(room),
                Ask::of("presence", room, "who", &()).at(client.any_node()),
            ),
        };
        self.asked.insert(client.ix, asked);
        Some(ask.within_ms(client.rng.log_uniform(20.0, 10_000.0) as u64))
    }

    fn on_answer(&mut self, answered: &Answered, _: &Cluster<'_>) -> Result<(), String> {
        let asked = self.asked.remove(&answered.client).expect("it asked");
        if answered.is_refused() {
            return Err(format!("{asked:?} was refused: {:?}", answered.result));
        }
        let run = answered.saw.as_ref().map(|(run, _)| *run);
        match asked {
            Asked::Enter(who) => {
                let guest = self.guests.get_mut(&who).expect("he was to come in");
                guest.run = run;
                guest.is_in = match answered.result {
                    Ok(_) => Some(true),
                    Err(_) if answered.may_have_run() => None,
                    Err(_) => Some(false),
                };
            }
            Asked::Leave(who) => {
                let guest = self.guests.get_mut(&who).expect("he was to leave");
                // A later run of his node has nothing of his to take away.
                guest.has_left = match answered.result {
                    Ok(_) => Some(run == guest.run),
                    Err(_) if answered.may_have_run() => None,
                    Err(_) => Some(false),
                };
            }
            Asked::Who(room) if answered.result.is_ok() => {
                let shown: Vec<String> = answered.reply().expect("it was answered");
                self.check_shown(room, &shown)?;
            }
            Asked::Who(_) => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
        let mut runs = BTreeSet::new();
        for node in 0..cluster.nodes() {
            runs.insert(cluster.query::<_, (u128, u64)>(node, "runs", "a", "mine", &())?);
        }
        let goes_on = |run: &ReplicaId| runs.contains(&(run.node.0, run.epoch.0));
        for room in ROOMS {
            for node in 0..cluster.nodes() {
                let shown: Vec<String> = cluster.query(node, "presence", room, "who", &())?;
                self.check_shown(room, &shown)?;
                for guest in self.guests.values().filter(|guest| guest.room == room) {
                    let is_shown = shown.contains(&guest.seat.who);
                    let is_there = guest.run.as_ref().map(goes_on);
                    let may =
                        is_there != Some(false) && guest.is_in != Some(false) && guest.has_left != Some(true);
                    let must =
                        is_there == Some(true) && guest.is_in == Some(true) && guest.has_left == Some(false);
                    if is_shown && !may || !is_shown && must {
                        return Err(format!(
                            "node {node} shows {shown:?} in the {room}, and {guest:?}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
