//! What calls functions besides callers: each node looks after schedules and changes as in production, where a thread does it.
//!
//! Not here: what is due, and what is done about it (`anabranch::trigger`). Contract: what has changed at an engine is noted before
//! anything looks at that engine again.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch::engine::{Engine, Input as EngineInput, RequestId};
use anabranch::trigger::{Errand, Home, Interest, Moment, News as Noted, Next, Runner, state_of};
use anabranch::{EntityId, Error, Payload, ReplicaId};

use super::{Apps, By, Event, Functions, Step};
use crate::net::NodeIx;
use crate::plan::SECOND;
use crate::queue::Micros;
use crate::rng::Rng;
use crate::world::World;

/// A node's thread takes so long to begin a look at least and at most, microseconds.
const WAKES_US: (f64, f64) = (10.0, 5_000.0);
/// Nothing tells here that a node takes writes now: it is looked so often.
const READY_US: Micros = SECOND / 10;

/// What a node's run has to look after.
#[derive(Debug)]
pub(super) struct Triggers {
    interest: Interest,
    runner: Runner,
    noted: Noted,
    /// The look that is planned.
    wake_at: Option<Micros>,
    /// What is being seen to, by its number.
    errands: BTreeMap<u64, Errand>,
}

/// A node, as an errand sees it.
struct AtNode<'a> {
    functions: &'a Functions,
    engine: &'a Engine,
}

impl Home for AtNode<'_> {
    fn has_function(&self, kind: &str) -> bool {
        self.functions.contains_key(kind)
    }

    fn state_of(&self, entity: &EntityId) -> u64 {
        state_of(self.engine, entity)
    }
}

impl Apps {
    /// A node's run begins to look after what its functions want.
    pub(super) fn begin_triggers(&mut self, world: &mut World, node: NodeIx) {
        let functions: Vec<_> = self.functions[node].values().map(Arc::clone).collect();
        let interest = Interest::of(&functions);
        self.triggers[node] = interest.is_any().then(|| Triggers {
            runner: Runner::new(
                &interest,
                world.hosts[node].id,
                world.plan.shards,
                world.moment(node),
            ),
            interest,
            noted: Noted::default(),
            wake_at: None,
            errands: BTreeMap::new(),
        });
        self.wake_triggers(world, node);
    }

    pub(super) fn on_changed(&mut self, world: &mut World, node: NodeIx, entity: &EntityId) {
        let triggers = self.triggers[node].as_mut();
        if let Some(triggers) = triggers.filter(|triggers| triggers.interest.is_about(entity)) {
            triggers.noted.note(entity);
            self.wake_triggers(world, node);
        }
    }

    /// Who is there may be others than before.
    pub(super) fn look_around(&mut self, world: &mut World, node: NodeIx) {
        if let Some(triggers) = &mut self.triggers[node] {
            triggers.noted.look_around();
            self.wake_triggers(world, node);
        }
    }

    fn wake_triggers(&mut self, world: &mut World, node: NodeIx) {
        let now = world.kernel.now();
        let mut rng = Rng::stream(world.plan.seed, "wakes", node as u64, now);
        let wait = rng.log_uniform(WAKES_US.0, WAKES_US.1) as Micros;
        self.plan_look(world, node, now + wait);
    }

    fn plan_look(&mut self, world: &mut World, node: NodeIx, at: Micros) {
        let Some(triggers) = &mut self.triggers[node] else {
            return;
        };
        if triggers.wake_at.is_none_or(|planned| at < planned) {
            triggers.wake_at = Some(at);
            let lives = world.hosts[node].lives;
            let wait = at.saturating_sub(world.kernel.now());
            world.plan_event(wait, Event::Look { node, lives, at });
        }
    }

    /// A node looks at what there is to see to.
    pub(super) fn on_look(&mut self, world: &mut World, node: NodeIx, lives: u64, at: Micros) -> Step {
        let (Some(triggers), Some(life)) = (&mut self.triggers[node], &world.hosts[node].life) else {
            return Ok(());
        };
        if world.hosts[node].lives != lives || triggers.wake_at != Some(at) {
            return Ok(());
        }
        triggers.wake_at = None;
        let (moment, live) = (world.moment(node), world.believed(node, self.pace.doubts));
        let noted = std::mem::take(&mut triggers.noted);
        let live = live.into_iter().collect();
        let work = triggers.runner.look(&life.engine, noted, &live, moment);
        let wait_us = match triggers.runner.next_ms(moment, moment) {
            Some(ms) => Some((ms * 1_000).max(1)),
            None => (!life.engine.is_ready()).then_some(READY_US),
        };
        for update in work.updates {
            let request = RequestId(world.number_request());
            world.oracle.note_surely(node);
            world.ask_engine(node, EngineInput::Submit { request, update })?;
        }
        // It may have died of that.
        if world.hosts[node].lives != lives || world.hosts[node].life.is_none() {
            return Ok(());
        }
        for errand in work.errands {
            let number = self.number();
            let Some(triggers) = &mut self.triggers[node] else {
                return Ok(());
            };
            triggers.errands.insert(number, errand);
            self.go_on(world, node, number, |errand, home| errand.begin(home));
        }
        // The wall clock may be set: production looks every ten seconds whatever it was told.
        let wait_us = wait_us.unwrap_or(10 * SECOND).min(10 * SECOND);
        self.plan_look(world, node, world.kernel.now() + wait_us);
        Ok(())
    }

    /// A call of an errand was answered.
    pub(super) fn on_errand_heard(
        &mut self,
        world: &mut World,
        node: NodeIx,
        number: u64,
        result: &Result<Payload, Error>,
    ) {
        self.go_on(world, node, number, |errand, _| errand.heard(result));
    }

    fn go_on(
        &mut self,
        world: &mut World,
        node: NodeIx,
        number: u64,
        step: impl FnOnce(&mut Errand, &dyn Home) -> Next,
    ) {
        let (Some(triggers), Some(life)) = (&mut self.triggers[node], &world.hosts[node].life) else {
            return;
        };
        let Some(errand) = triggers.errands.get_mut(&number) else {
            return;
        };
        let home = AtNode {
            functions: &self.functions[node],
            engine: &life.engine,
        };
        let by = By::Errand { number };
        match step(errand, &home) {
            Next::Anywhere(call, timeout_ms) => {
                world.tell(|| format!("n{node} sees to {call}, errand {number}"));
                self.call_anywhere(world, node, by, call, None, timeout_ms);
            }
            Next::Here(call, timeout_ms) => {
                self.open(world, node, by, call, None, timeout_ms);
            }
            Next::Over(was_answered) => {
                let ended = errand.ended(was_answered);
                triggers.errands.remove(&number);
                triggers.noted.ended(ended);
                self.wake_triggers(world, node);
            }
        }
    }
}

impl World {
    fn moment(&self, node: NodeIx) -> Moment {
        let now = self.kernel.now();
        Moment {
            wall_ms: self.hosts[node].wall_ms(now),
            ms: now / 1_000,
        }
    }

    /// Whom a node believes to be there: mostly whom it is linked with. Membership is a hint.
    fn believed(&self, node: NodeIx, doubts: f64) -> Vec<ReplicaId> {
        let now = self.kernel.now();
        let mut live = self.linked_runs(node);
        if self.is_chaos() {
            let mut rng = Rng::stream(self.plan.seed, "believes", node as u64, now);
            live.retain(|_| !rng.chance(doubts));
        }
        live
    }
}
