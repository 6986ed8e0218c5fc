//! Calls that commands want made once they are in.

use std::collections::VecDeque;

use anabranch::engine::Time;
use anabranch::session::{Action, CommandId, Effect, Input};
use anabranch::{Call, EntityId, Error, Payload, TIMEOUT_MS_DEFAULT, Token};

use super::calling::Stage;
use super::checks::has;
use super::{Apps, By, Step, Todo};
use crate::net::NodeIx;
use crate::world::World;

/// As in production: so many commands' effects that nobody waits for run at once at a node; those of the next are waited for.
const LATER_MAX: usize = 64;

/// Effects that their command waits for.
#[derive(Debug)]
pub(super) struct Effects {
    pub rest: VecDeque<Call>,
    pub deadline: Time,
    /// What the command is answered then, where its session has said so already.
    pub answer: Option<Result<Action, Error>>,
}

/// Effects that nobody waits for, one after the other.
#[derive(Debug)]
pub(super) struct Chain {
    pub node: NodeIx,
    pub rest: VecDeque<Call>,
}

impl Apps {
    /// A command is in, and wants this.
    pub(super) fn on_effects(
        &mut self,
        node: NodeIx,
        entity: &EntityId,
        id: CommandId,
        effects: Vec<Effect>,
        deadline: Time,
    ) {
        let calls = |effects: Vec<Effect>| effects.into_iter().map(|effect| effect.call).collect::<Vec<_>>();
        let Some(ix) = self.commands.get(&id.0).copied() else {
            // Its caller has gone, and waits for nothing.
            self.begin_chain(node, calls(effects));
            return self.later_tell(node, entity, Input::EffectsDone { id });
        };
        let (awaited, later): (Vec<_>, Vec<_>) = effects.into_iter().partition(|effect| effect.awaited);
        let mut rest: VecDeque<Call> = calls(awaited).into();
        rest.extend(self.begin_chain(node, calls(later)));
        if rest.is_empty() {
            return;
        }
        if let Some(calling) = self.callings.get_mut(&ix) {
            calling.stage = Stage::Effecting(Effects {
                rest,
                deadline,
                answer: None,
            });
            self.agenda.push_back(Todo::NextEffect(ix));
        }
    }

    /// A command's next effect; or its end, after the last.
    pub(super) fn next_effect(&mut self, world: &mut World, ix: u64) -> Step {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return Ok(());
        };
        let Stage::Effecting(effects) = &mut calling.stage else {
            return Ok(());
        };
        let (node, session) = (calling.node, calling.session.clone());
        if let Some(call) = effects.rest.pop_front() {
            let left_ms = Time(world.kernel.now()).ms_until(effects.deadline);
            let by = By::Effect { of: ix };
            if has(&self.functions[node], &call) {
                self.open(world, node, by, call, session, left_ms);
            } else {
                self.call_anywhere(world, node, by, call, session, left_ms);
            }
            return Ok(());
        }
        let answer = effects.answer.take();
        let (entity, command) = (calling.call.entity.clone(), calling.command);
        calling.stage = Stage::Confirming;
        match (answer, command) {
            (Some(result), _) => self.end_command(world, ix, result),
            (None, Some(command)) => {
                let id = CommandId(command);
                self.later_tell(node, &entity, Input::EffectsDone { id });
            }
            (None, None) => unreachable!("a command with effects has a name"),
        }
        Ok(())
    }

    pub(super) fn on_effect_done(
        &mut self,
        world: &mut World,
        ix: u64,
        result: &Result<Payload, Error>,
        seen: Option<&Token>,
    ) {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return;
        };
        world.note_effect(calling.node, result);
        if let Some(seen) = seen {
            calling.learn(seen);
        }
        self.agenda.push_back(Todo::NextEffect(ix));
    }

    /// Begins effects that nobody waits for; gives them back where too many do so already.
    pub(super) fn begin_chain(&mut self, node: NodeIx, calls: Vec<Call>) -> Vec<Call> {
        let running = self.chains.values().filter(|chain| chain.node == node).count();
        if calls.is_empty() || running >= LATER_MAX {
            return calls;
        }
        let number = self.number();
        let rest = calls.into();
        self.chains.insert(number, Chain { node, rest });
        self.agenda.push_back(Todo::NextLater(number));
        Vec::new()
    }

    pub(super) fn next_later(&mut self, world: &mut World, number: u64) {
        let Some(chain) = self.chains.get_mut(&number) else {
            return;
        };
        let node = chain.node;
        let Some(call) = chain.rest.pop_front() else {
            self.chains.remove(&number);
            return;
        };
        let by = By::Later { chain: number };
        self.call_anywhere(world, node, by, call, None, TIMEOUT_MS_DEFAULT);
    }
}
