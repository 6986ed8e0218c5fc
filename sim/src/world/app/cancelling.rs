//! Calls that nobody waits for any more, and what is called for them.

use anabranch::session::{CommandId, Input, Said};

use super::calling::Stage;
use super::{Apps, By};
use crate::world::World;

impl Apps {
    /// Nobody waits for a call any more: what has not begun never does, and what its function did stays.
    pub(super) fn cancel(&mut self, world: &mut World, ix: u64) {
        if self.routes.remove(&ix).is_some() {
            return self.cancel_children(world, ix);
        }
        // What its engine was asked for goes on.
        if self.directs.remove(&ix).is_some() {
            return;
        }
        if self.asked.contains_key(&ix) {
            return self.withdraw(world, ix);
        }
        let Some(calling) = self.callings.remove(&ix) else {
            return;
        };
        self.cancel_children(world, ix);
        let Some(command) = calling.command else {
            return;
        };
        self.commands.remove(&command);
        let id = CommandId(command);
        let (node, entity) = (calling.node, &calling.call.entity);
        match calling.stage {
            Stage::Beginning | Stage::Reading | Stage::Elsewhere => {}
            Stage::Queued => self.later_tell(node, entity, Input::Cancelled { id }),
            Stage::Running(run) => {
                let (stream, said) = (run.stream, Said::Ended);
                self.later_tell(node, entity, Input::Said { stream, said });
            }
            // What it wants done then is done without it.
            Stage::Confirming => self.later_tell(node, entity, Input::Committed { id, result: Ok(()) }),
            Stage::Effecting(effects) => {
                self.begin_chain(node, effects.rest.into());
                self.later_tell(node, entity, Input::EffectsDone { id });
            }
        }
    }

    /// Calls that a function or a command waits for are waited for no more.
    pub(super) fn cancel_children(&mut self, world: &mut World, ix: u64) {
        self.cancel_openings_of(ix);
        let is_child = |by: &By| match by {
            By::Function { of, .. } | By::Effect { of } | By::Forward { of } => *of == ix,
            By::Routed { number } => *number == ix,
            _ => false,
        };
        let routes = self.routes.iter();
        let routes = routes
            .filter(|(_, routing)| is_child(&routing.by))
            .map(|(ix, _)| *ix);
        let here: Vec<u64> = self
            .callings
            .iter()
            .filter(|(_, calling)| is_child(&calling.by))
            .map(|(ix, _)| *ix)
            .chain(routes)
            .collect();
        for child in here {
            self.cancel(world, child);
        }
        let elsewhere: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| is_child(&asked.by))
            .map(|(id, _)| *id)
            .collect();
        for id in elsewhere {
            self.withdraw(world, id);
        }
    }
}
