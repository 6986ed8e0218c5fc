//! Functions: they are shown an entity, take their time, and what they then do goes by what they were shown.

use anabranch::Update;
use anabranch::engine::View;

use super::{Event, World};
use crate::names::type_of;
use crate::net::NodeIx;
use crate::oracle::{Asked, Failure};
use crate::rng::Rng;

/// A function that has been given a command.
#[derive(Debug)]
pub(crate) struct Function {
    client: usize,
    node: NodeIx,
    /// The process it runs beside.
    lives: u64,
    asked: Asked,
    update: Update,
    view: View,
}

impl World {
    /// Whether this update is a function's.
    pub(super) fn is_function(&self, number: u64, asked: &Asked) -> bool {
        let mut rng = Rng::stream(self.plan.seed, "function", number, 0);
        rng.chance(self.plan.load.commits) && !asked.wrong && !asked.disputed
    }

    /// A function is shown the first entity of an update, and is to make of the update what is about that.
    pub(super) fn begin_function(
        &mut self,
        node: NodeIx,
        client: usize,
        number: u64,
        mut asked: Asked,
        update: Update,
    ) -> Result<(), Failure> {
        let entity = asked.ops[0].0;
        let (id, kind) = self.oracle.names.entity(entity);
        let Some(life) = &self.hosts[node].life else {
            return Ok(());
        };
        let Ok(view) = life.engine.view(id, type_of(kind)) else {
            return Ok(());
        };
        let is_its = |of: &anabranch::EntityId| of == id;
        let mut ops = update.ops;
        ops.retain(|op| is_its(&op.entity));
        let update = Update { ops, ..update };
        asked.ops.retain(|(of, _)| *of == entity);
        // It knows its entity's type.
        asked.untyped = false;
        asked.seen = Some((entity, self.oracle.row(node, entity)));
        self.tell(|| format!("n{node} runs function {number}, which sees {}", view.entity()));
        let function = Function {
            client,
            node,
            lives: self.hosts[node].lives,
            asked,
            update,
            view,
        };
        self.functions.insert(number, function);
        let takes = Rng::stream(self.plan.seed, "function", number, 1).log_uniform(1.0, 3e6) as u64;
        self.kernel.after(takes, Event::Function { function: number });
        Ok(())
    }

    /// It has done with its command.
    pub(super) fn on_function(&mut self, function: u64) -> Result<(), Failure> {
        let Some(function) = self.functions.remove(&function) else {
            return Ok(());
        };
        let Function {
            client,
            node,
            lives,
            asked,
            update,
            view,
        } = function;
        let host = &self.hosts[node];
        let is_there = host.life.is_some() && host.lives == lives && host.paused_until <= self.kernel.now();
        if !is_there || !self.is_chaos() {
            return Ok(());
        }
        self.tally.committed += 1;
        self.submit(node, Some(client), asked, update, None, Some(view))
    }
}
