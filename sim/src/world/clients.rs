//! Clients: what they ask for, of whom, and when they ask again.

use anabranch::{Copies, ErrorKind, IdempotencyKey, Level, Op, Stage, Update};

use super::waiting::Waiting;
use super::{Event, World};
use crate::model::{Action, EntityIx, Kind};
use crate::names::{DISPUTED, type_of};
use crate::net::NodeIx;
use crate::oracle::{Asked, Failure, Standing};
use crate::plan::{Plan, SECOND};
use crate::rng::Rng;

/// Somebody who writes.
#[derive(Debug)]
pub(crate) struct Client {
    ix: usize,
    home: NodeIx,
    /// Updates so far: names their chances.
    updates: u64,
}

impl Client {
    pub fn new(plan: &Plan, ix: usize) -> Client {
        let home = Rng::stream(plan.seed, "home", ix as u64, 0).below(plan.nodes as u64) as NodeIx;
        Client { ix, home, updates: 0 }
    }
}

impl World {
    /// A client makes an update and thinks about the next.
    pub(crate) fn on_client(&mut self, client: usize) -> Result<(), Failure> {
        if !self.is_chaos() {
            return Ok(());
        }
        let me = &mut self.clients[client];
        me.updates += 1;
        let mut rng = Rng::stream(self.plan.seed, "update", me.ix as u64, me.updates);
        if rng.chance(self.plan.load.roams) {
            me.home = rng.below(self.plan.nodes as u64) as NodeIx;
        }
        let (node, number) = (me.home, (client as u64) << 32 | me.updates);
        self.maybe_read(client, number)?;
        let think = rng.exponential(self.plan.load.think_us) as u64;
        self.kernel.after(1 + think, Event::Client { client });
        let level = level(&mut rng, &self.plan);
        let keyed = rng.chance(self.plan.load.keyed);
        let asked = self.invent(&mut rng, number);
        if self.hosts[node].life.is_none() || self.hosts[node].paused_until > self.kernel.now() {
            return Ok(());
        }
        // Before it knows everybody, a node counts majorities of those it knows.
        let known = self.hosts[node]
            .life
            .as_ref()
            .map_or(0, |life| life.engine.members().len());
        let level = if known < self.hosts.len() {
            Level::default()
        } else {
            level
        };
        let key = keyed.then_some(number);
        if let Some(key) = key {
            self.keys.add(key, node, asked.clone(), level);
        }
        let update = self.update(&asked, level, key, timeout_ms(&mut rng));
        if key.is_none() && self.is_function(number, &asked) {
            return self.command(node, client, number, asked, update);
        }
        self.submit(node, Some(client), asked, update, key, None)
    }

    /// A client asks again under a key it used before.
    pub(crate) fn on_repeat(&mut self, key: u64) -> Result<(), Failure> {
        if !self.is_chaos() {
            return Ok(());
        }
        let Some(entry) = self.keys.get(key).cloned() else {
            return Ok(());
        };
        let node = entry.node;
        if self.hosts[node].life.is_none() || self.hosts[node].paused_until > self.kernel.now() {
            self.kernel.after(SECOND / 2, Event::Repeat { key });
            return Ok(());
        }
        let mut asked = entry.asked;
        let mut rng = Rng::stream(self.plan.seed, "misuse", key, self.kernel.now());
        if self.keys.standing(node, key) == Standing::Made && rng.chance(self.plan.load.misused) {
            let (entity, action) = asked.ops[0].clone();
            match (rng.below(3), action) {
                (0, Action::Increment(n)) => asked.ops[0].1 = Action::Increment(n + 1),
                (0, Action::Set { value, clock }) => {
                    asked.ops[0].1 = Action::Set {
                        value: value + 1,
                        clock,
                    }
                }
                (0, Action::Add(e)) => asked.ops[0].1 = Action::Remove(e),
                (1, Action::Add(mut e)) => {
                    e[0] = (e[0] + 1) % self.plan.load.elements as u32;
                    asked.ops[0].1 = Action::Add(e);
                }
                (_, action) => asked.ops.push((entity, action)),
            }
            asked.misused = true;
        }
        let update = self.update(&asked, entry.level, Some(key), 2_000);
        self.submit(node, None, asked, update, Some(key), None)
    }

    /// The client of an update got its answer, or an error.
    pub(crate) fn after_answer(&mut self, waiting: &Waiting, error: Option<ErrorKind>) {
        let Some(key) = waiting
            .key
            .filter(|_| !waiting.asked.wrong && !waiting.asked.misused)
        else {
            return;
        };
        let mut rng = Rng::stream(self.plan.seed, "again", key, self.kernel.now());
        let again = if error.is_some() {
            0.7
        } else {
            self.plan.load.repeats
        };
        if rng.chance(again) {
            let wait = rng.log_uniform(500.0, 5e6) as u64;
            self.kernel.after(wait, Event::Repeat { key });
        }
    }

    /// A node died: its callers hear nothing more, and those with a key ask again.
    pub(crate) fn on_unanswered(&mut self, node: NodeIx) {
        self.reads.retain(|_, reading| reading.node != node);
        self.forget_functions(node);
        let lost: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, w)| w.node == node)
            .map(|(r, _)| *r)
            .collect();
        for request in lost {
            let Some(waiting) = self.waiting.remove(&request) else {
                continue;
            };
            if let Some(key) = waiting.key.filter(|_| !waiting.asked.wrong) {
                let wait = Rng::stream(self.plan.seed, "again", key, request).log_uniform(500.0, 5e6) as u64;
                self.kernel.after(wait, Event::Repeat { key });
            }
        }
    }

    pub(super) fn update(&self, asked: &Asked, level: Level, key: Option<u64>, timeout_ms: u64) -> Update {
        let ops = asked.ops.iter().map(|(entity, action)| {
            let (id, kind) = self.oracle.names.entity(*entity);
            Op {
                entity: id.clone(),
                ty: Some(type_of(kind)).filter(|_| !asked.untyped),
                mutation: self.oracle.names.mutation(kind, action),
            }
        });
        let key = key.and_then(|key| IdempotencyKey::new(&key.to_be_bytes()).ok());
        Update {
            after: None,
            ops: ops.collect(),
            level,
            key,
            timeout_ms,
        }
    }

    fn invent(&self, rng: &mut Rng, number: u64) -> Asked {
        let wrong = rng.chance(self.plan.load.wrong);
        let count = if rng.chance(self.plan.load.batches) {
            rng.between(2, 6)
        } else {
            1
        };
        let mut ops: Vec<(EntityIx, Action)> =
            (0..count).map(|i| self.invent_one(rng, number * 8 + i)).collect();
        if wrong {
            // One bad operation spoils the whole update, wherever it stands.
            let place = rng.below(ops.len() as u64) as usize;
            let (_, kind) = self.oracle.names.entity(ops[place].0);
            ops[place].1 = nonsense(kind);
        }
        let disputed = ops
            .iter()
            .any(|(entity, _)| self.oracle.names.entity(*entity).0.kind() == DISPUTED);
        Asked {
            ops,
            wrong,
            untyped: !disputed && rng.chance(self.plan.load.untyped),
            disputed,
            ..Asked::default()
        }
    }

    /// The hot entity of a type, any one of a type, or now and then one whose type is disputed.
    pub(super) fn choose(&self, rng: &mut Rng) -> EntityIx {
        let load = &self.plan.load;
        let declared = load.kinds.len() as u64 * load.entities;
        let disputed = u64::from(self.oracle.names.entities()) - declared;
        if disputed > 0 && rng.chance(0.1) {
            return (declared + rng.below(disputed)) as EntityIx;
        }
        let kind = rng.below(load.kinds.len() as u64);
        let entity = if rng.chance(load.hot) {
            0
        } else {
            rng.below(load.entities)
        };
        (kind * load.entities + entity) as EntityIx
    }

    /// A run of some node: the one there is, or the last one or none.
    fn somebody(&self, rng: &mut Rng) -> (u128, u64) {
        let host = &self.hosts[rng.below(self.hosts.len() as u64) as usize];
        let epoch = host.life.as_ref().map_or(0, |life| life.engine.status().epoch.0);
        (host.id.0, epoch)
    }

    fn invent_one(&self, rng: &mut Rng, number: u64) -> (EntityIx, Action) {
        let load = &self.plan.load;
        let entity = self.choose(rng);
        let kind = self.oracle.names.entity(entity).1;
        let mut elements = |n: u64| {
            (0..n)
                .map(|_| rng.below(load.elements) as u32)
                .collect::<Vec<_>>()
        };
        let (one, some) = (elements(1), elements(3));
        let action = match (kind, rng.below(100)) {
            (_, 0..3) => Action::Create,
            (_, 3..5) => Action::Delete,
            (Kind::GCounter, 5..10) | (Kind::PnCounter, 5..8) => Action::Increment(0),
            // Far above what 32 bits hold, and never so far that sums reach the end of 64.
            (Kind::GCounter, n) if rng.chance(load.large) => Action::Increment(1 << (n % 46)),
            (Kind::PnCounter, n) if rng.chance(load.large) => Action::Increment(-1 << (n % 46)),
            (Kind::GCounter, n) => Action::Increment(n as i64),
            (Kind::PnCounter, n) => Action::Increment(50 - n as i64),
            (Kind::Register, n) if n < 30 && rng.chance(load.clocks) => Action::SetAbove {
                value: number,
                least: rng.below(40),
            },
            (Kind::Register, n) if n < 36 && rng.chance(load.clocks) => Action::SetFirst(number),
            (Kind::Register, _) => {
                let clock = rng.chance(load.clocks).then(|| rng.below(40));
                Action::Set { value: number, clock }
            }
            (Kind::Set, 5..8) => Action::Clear,
            (Kind::Set, 8..30) => Action::Remove(one),
            (Kind::Set, 30..40) => Action::Remove(some),
            (Kind::Set, 40..55) => Action::Add(some),
            (Kind::Set, _) => Action::Add(one),
            (Kind::GSet, 5..30) => Action::Add(some),
            (Kind::GSet, _) => Action::Add(one),
            (kind, 5..8) if kind.is_map() => Action::Clear,
            (kind, 8..30) if kind.is_map() => Action::Remove(one),
            (kind, 30..35) if kind.is_map() => Action::Remove(some),
            (kind @ (Kind::OrMap | Kind::CounterMap | Kind::RegisterMap | Kind::MultiMap), n) => {
                match kind.child(one[0]) {
                    Kind::Register => Action::SetIn(one[0], number),
                    Kind::Set if n < 60 => Action::RemoveIn(one[0], some),
                    Kind::Set => Action::AddIn(one[0], some),
                    _ => Action::IncrementIn(one[0], 60 - n as i64),
                }
            }
            (Kind::Bounded, 5..20) => Action::Transfer {
                amount: rng.below(40),
                to: self.somebody(rng),
            },
            (Kind::Bounded, n) => Action::Increment(55 - n as i64),
            (Kind::Flag, n) if n % 2 == 0 => Action::Enable,
            (Kind::Flag, _) => Action::Disable,
            (Kind::MvRegister, _) => Action::Write(number),
            (Kind::Vote, n) => Action::Vote(n % 2 == 0),
        };
        (entity, action)
    }
}

/// What a type does not take.
pub(super) fn nonsense(kind: Kind) -> Action {
    match kind {
        Kind::GCounter => Action::Increment(-1),
        Kind::Set
        | Kind::Flag
        | Kind::Vote
        | Kind::OrMap
        | Kind::CounterMap
        | Kind::RegisterMap
        | Kind::MultiMap => Action::Increment(1),
        Kind::Bounded => Action::Clear,
        Kind::PnCounter | Kind::Register => Action::Add(vec![0]),
        Kind::GSet => Action::Remove(vec![0]),
        Kind::MvRegister => Action::Set {
            value: 0,
            clock: Some(1),
        },
    }
}

fn level(rng: &mut Rng, plan: &Plan) -> Level {
    if !rng.chance(plan.load.levels) {
        return Level::default();
    }
    let copies = match rng.below(5) {
        0 => Copies::Local,
        1 => Copies::N(rng.between(1, plan.nodes as u64) as u8),
        2 => Copies::All,
        _ => Copies::Majority,
    };
    let stage = if rng.chance(0.4) {
        Stage::Applied
    } else {
        Stage::Durable
    };
    Level { copies, stage }
}

fn timeout_ms(rng: &mut Rng) -> u64 {
    rng.log_uniform(10.0, 10_000.0) as u64
}
