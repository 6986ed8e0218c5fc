//! Entities that clients write and read themselves, with a function beside them: updates at every level, commands on any node and on
//! a certain one, deletions, and reads in sessions and of majorities.
//!
//! Every addition to a set is an element of its own. What must hold: one that was answered is there in the end, at every node, unless
//! a deletion may have taken it; what was said to have changed nothing is never seen; a session never sees less than it has seen, and
//! nothing again that it has deleted; and a read of a majority is older than nothing that was at a majority, or that another such read
//! had shown, before it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::state::OrSet;
use anabranch::{
    Context, Copies, EntityId, ErrorKind, Function, Level, Mutation, Op, Reading, Stage, Type, Update,
};
use anabranch_sim::app::{Answered, Application, Ask, Client, Cluster};

use super::Fate;

const KEYS: [&str; 3] = ["bow", "mast", "stern"];

type Tags = OrSet<String>;

#[derive(Clone, Debug)]
struct Addition {
    key: &'static str,
    asked_at: u64,
    fate: Fate,
    /// When more than half of the nodes had it on their disks, or a read of a majority showed it.
    by_majority: Option<u64>,
    /// Whether a loss of power may take it after its answer.
    is_kept: bool,
}

#[derive(Clone, Debug)]
struct Deletion {
    key: &'static str,
    fate: Fate,
    answered_at: u64,
}

#[derive(Clone, Debug)]
enum Asked {
    Add { addition: usize, level: Level },
    Delete { deletion: usize },
    Read,
    Majority,
    Show,
}

/// What a client's session has seen of each set, and what of that it has deleted.
#[derive(Clone, Debug, Default)]
struct Session {
    there: BTreeMap<&'static str, BTreeSet<usize>>,
    gone: BTreeSet<usize>,
    is_stale: bool,
}

/// Clients that write, read and delete entities, and what each of them was told.
#[derive(Default)]
pub struct Entities {
    /// Reads of what a node has itself are taken for a majority's: an error, for the oracle to find.
    reads_locally: bool,
    /// Sessions send no tokens: another.
    sends_nothing: bool,
    additions: Vec<Addition>,
    deletions: Vec<Deletion>,
    asked: BTreeMap<usize, (&'static str, Asked)>,
    sessions: BTreeMap<usize, Session>,
    reads: u64,
}

impl Entities {
    pub fn that_read_locally() -> Entities {
        Entities {
            reads_locally: true,
            ..Entities::default()
        }
    }

    pub fn without_tokens() -> Entities {
        Entities {
            sends_nothing: true,
            ..Entities::default()
        }
    }

    fn add(&mut self, client: &mut Client, key: &'static str) -> (Ask, Asked) {
        let addition = self.additions.len();
        let stage = *client.rng.pick(&[Stage::Durable, Stage::Durable, Stage::Applied]);
        let copies = *client
            .rng
            .pick(&[Copies::Local, Copies::N(2), Copies::Majority, Copies::All]);
        let level = Level { copies, stage };
        self.additions.push(Addition {
            key,
            asked_at: client.now,
            fate: Fate::Asked,
            by_majority: None,
            is_kept: stage == Stage::Durable,
        });
        let asked = Asked::Add { addition, level };
        if client.rng.chance(0.4) {
            let ask = Ask::of("tags", key, "add", &(addition, copies == Copies::Majority));
            let level = Level {
                copies: if copies == Copies::Majority {
                    copies
                } else {
                    Copies::Local
                },
                stage: Stage::Durable,
            };
            self.additions[addition].is_kept = true;
            let ask = if client.rng.chance(0.5) {
                ask.on(client.any_node())
            } else {
                ask
            };
            return (ask, Asked::Add { addition, level });
        }
        let op = Op {
            entity: entity(key),
            ty: Some(Type::OrSet),
            mutation: Mutation::Add(vec![addition.to_string().into()]),
        };
        let update = Update {
            ops: vec![op],
            level,
            ..Update::delete(entity(key))
        };
        (Ask::update(update), asked)
    }

    fn invent(&mut self, client: &mut Client, key: &'static str) -> (Ask, Asked) {
        match client.rng.below(100) {
            0..45 => self.add(client, key),
            45..53 => {
                let deletion = self.deletions.len();
                self.deletions.push(Deletion {
                    key,
                    fate: Fate::Asked,
                    answered_at: 0,
                });
                let ask = match client.rng.chance(0.5) {
                    true => Ask::delete("tags", key),
                    false => Ask::of("tags", key, "drop", &()),
                };
                (ask, Asked::Delete { deletion })
            }
            53..70 if self.reads_locally => (Ask::read("tags", key), Asked::Majority),
            53..70 => (Ask::read_majority("tags", key), Asked::Majority),
            70..90 => (Ask::read("tags", key), Asked::Read),
            _ => {
                let ask = Ask::of("tags", key, "show", &());
                let ask = if client.rng.chance(0.5) {
                    ask.on(client.any_node())
                } else {
                    ask
                };
                (ask, Asked::Show)
            }
        }
    }

    /// Whether some deletion may have seen it, and taken it.
    fn may_be_gone(&self, addition: usize) -> bool {
        let Addition { key, asked_at, .. } = self.additions[addition];
        let mut deletions = self.deletions.iter().filter(|deletion| deletion.key == key);
        deletions.any(|deletion| match deletion.fate {
            Fate::Nothing => false,
            Fate::Answered => asked_at <= deletion.answered_at,
            Fate::Asked | Fate::Open => true,
        })
    }

    /// Somebody sees a set, whoever it is: nothing is in it that nobody added there.
    fn seen(&self, key: &str, elements: &[String]) -> Result<BTreeSet<usize>, String> {
        let there: BTreeSet<usize> = elements.iter().map(|element| element.parse().unwrap()).collect();
        for &n in &there {
            let addition = self.additions.get(n).filter(|addition| addition.key == key);
            let Some(addition) = addition else {
                return Err(format!("{n} is in {key:?}, and nobody added it there"));
            };
            if addition.fate == Fate::Nothing {
                return Err(format!("{n} is in {key:?}, and was said to have changed nothing"));
            }
        }
        Ok(there)
    }

    fn on_session(
        &mut self,
        client: usize,
        key: &'static str,
        there: &BTreeSet<usize>,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get(&client) else {
            return Ok(());
        };
        if let Some(back) = there.intersection(&session.gone).next() {
            return Err(format!(
                "client {client} sees {back} again, which it deleted or saw gone"
            ));
        }
        let none = BTreeSet::new();
        let had = session.there.get(key).unwrap_or(&none);
        let missing: Vec<usize> = had.difference(there).copied().collect();
        if let Some(lost) = missing.iter().find(|addition| !self.may_be_gone(**addition)) {
            return Err(format!(
                "client {client} has seen {lost} in {key:?}, and now sees {there:?}"
            ));
        }
        let session = self.sessions.entry(client).or_default();
        session.gone.extend(missing);
        session.there.insert(key, there.clone());
        Ok(())
    }

    fn on_majority(
        &mut self,
        asked_at: u64,
        at: u64,
        key: &str,
        there: &BTreeSet<usize>,
    ) -> Result<(), String> {
        self.reads += 1;
        for (n, addition) in self.additions.iter().enumerate() {
            let was_there = addition.by_majority.is_some_and(|by| by < asked_at);
            if addition.key == key && was_there && !there.contains(&n) && !self.may_be_gone(n) {
                return Err(format!(
                    "a majority had {n} of {key:?}, and one is read as {there:?}"
                ));
            }
        }
        for &n in there {
            self.additions[n].by_majority.get_or_insert(at);
        }
        Ok(())
    }

    fn on_done(&mut self, answered: &Answered, key: &'static str, asked: &Asked) -> Result<(), String> {
        let client = answered.client;
        match asked {
            Asked::Add { addition, level } => {
                let is_majority = matches!(level.copies, Copies::Majority | Copies::All);
                if is_majority && level.stage == Stage::Durable {
                    self.additions[*addition].by_majority = Some(answered.answered_at);
                }
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.there.entry(key).or_default().insert(*addition);
                }
                Ok(())
            }
            Asked::Delete { .. } => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    let seen = session.there.remove(key);
                    session.gone.extend(seen.into_iter().flatten());
                }
                Ok(())
            }
            Asked::Show => {
                let shown: Vec<String> = answered.reply().unwrap();
                let there = self.seen(key, &shown)?;
                self.on_session(client, key, &there)
            }
            Asked::Read | Asked::Majority => {
                let there = self.seen(key, &elements(answered.read.as_ref()))?;
                self.on_session(client, key, &there)?;
                if let Asked::Majority = asked {
                    self.on_majority(answered.asked_at, answered.answered_at, key, &there)?;
                }
                Ok(())
            }
        }
    }
}

impl Application for Entities {
    fn functions(&self) -> Vec<Function> {
        let add = |tags: &mut Tags, context: &mut Context, (n, majority): (usize, bool)| {
            if majority {
                context.confirm(Level {
                    copies: Copies::Majority,
                    stage: Stage::Durable,
                });
            }
            tags.add(&n.to_string());
            Ok::<_, String>(())
        };
        let tags = Function::of::<Tags>("tags")
            .command("add", add)
            .command("drop", |_: &mut Tags, context: &mut Context, ()| {
                context.delete();
                Ok::<_, String>(())
            })
            .query("show", |tags: &Tags, _, ()| Ok::<_, String>(tags.elements()));
        vec![tags.into()]
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        let key = *client.rng.pick(&KEYS);
        let (ask, asked) = self.invent(client, key);
        self.asked.insert(client.ix, (key, asked));
        let timeout_ms = client.rng.log_uniform(20.0, 10_000.0) as u64;
        let ask = ask.at(client.any_node()).within_ms(timeout_ms);
        // Every other client has a session.
        if client.ix % 2 == 1 {
            return Some(ask);
        }
        let session = self.sessions.entry(client.ix).or_default();
        let is_stale = std::mem::take(&mut session.is_stale);
        Some(match (self.sends_nothing, is_stale) {
            (true, _) => ask,
            (false, false) => ask.in_session(),
            (false, true) => {
                *session = Session::default();
                ask.in_new_session()
            }
        })
    }

    fn on_answer(&mut self, answered: &Answered, _: &Cluster<'_>) -> Result<(), String> {
        let (key, asked) = self.asked.remove(&answered.client).expect("it asked");
        let fate = Fate::of(answered);
        match asked {
            Asked::Add { addition, .. } => self.additions[addition].fate = fate,
            Asked::Delete { deletion } => {
                let deletion = &mut self.deletions[deletion];
                (deletion.fate, deletion.answered_at) = (fate, answered.answered_at);
            }
            _ => {}
        }
        if let Some(session) = self.sessions.get_mut(&answered.client) {
            session.is_stale |= answered.is_error(ErrorKind::Stale);
        }
        match fate {
            Fate::Answered => self.on_done(answered, key, &asked),
            _ => Ok(()),
        }
    }

    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
        for (node, key) in (0..cluster.nodes()).flat_map(|node| KEYS.map(|key| (node, key))) {
            let there = self.seen(key, &elements(cluster.read(node, &entity(key)).as_ref()))?;
            let shown: Vec<String> = cluster.query(node, "tags", key, "show", &())?;
            if self.seen(key, &shown)? != there {
                return Err(format!(
                    "node {node} has {there:?} in {key:?} and shows {shown:?}"
                ));
            }
            let of_key = self.additions.iter().enumerate().filter(|(_, of)| of.key == key);
            for (n, addition) in of_key {
                let must = addition.fate == Fate::Answered && addition.is_kept;
                if must && !there.contains(&n) && !self.may_be_gone(n) {
                    return Err(format!("{n} was added to {key:?}, and node {node} has {there:?}"));
                }
            }
        }
        Ok(())
    }

    fn marks(&self) -> BTreeMap<&'static str, u64> {
        let of = |fate| self.deletions.iter().filter(|of| of.fate == fate).count() as u64;
        BTreeMap::from([("deletions", of(Fate::Answered)), ("majority reads", self.reads)])
    }
}

fn entity(key: &str) -> EntityId {
    EntityId::new("tags", key).unwrap()
}

fn elements(read: Option<&(Type, Reading)>) -> Vec<String> {
    match read {
        None => Vec::new(),
        Some((Type::OrSet, Reading::Elements(elements))) => {
            let text = |element: &bytes::Bytes| String::from_utf8(element.to_vec()).unwrap();
            elements.iter().map(text).collect()
        }
        Some(other) => panic!("a set reads {other:?}"),
    }
}
