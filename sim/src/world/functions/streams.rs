//! Answers that go on: what functions say as their entities change, and what is heard of it.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::session::{Action, CommandId, Encoding, Input, Payload, Said, StreamId};

use super::act::{Act, Manner, payload};
use super::{Event, Function, Step, World};
use crate::model::EntityIx;
use crate::net::NodeIx;
use crate::oracle::{Rule, broken};
use crate::rng::Rng;

/// What was said at a session that nobody has heard yet, and what was done there.
#[derive(Debug, Default)]
pub(super) struct Going {
    parts: BTreeMap<u64, Part>,
    /// Commands whose changes are in.
    done: BTreeSet<u64>,
}

/// More of an answer.
#[derive(Debug)]
struct Part {
    of: u64,
    /// The command by which the function has what it speaks of.
    by: Option<u64>,
}

impl Going {
    /// What a command did is in.
    pub fn is_in(&mut self, command: u64) {
        self.done.insert(command);
    }
}

fn numbered(number: u64) -> Payload {
    Payload {
        encoding: Encoding::Json,
        bytes: number.to_string().into(),
    }
}

impl World {
    fn number_part(&mut self, node: NodeIx, entity: EntityIx, part: Part) -> Payload {
        let number = self.next_act;
        self.next_act += 1;
        if let Some(hosted) = self.functions.get_mut(&(node, entity)) {
            hosted.going.parts.insert(number, part);
        }
        numbered(number)
    }

    /// The function whose act it is, while that life of it lasts.
    fn who_acts(&mut self, act: &Act) -> Option<&mut Function> {
        let hosted = self.functions.get_mut(&(act.node, act.entity))?;
        let function = hosted.function.as_mut();
        function.filter(|function| function.stream == act.stream)
    }

    /// How its answer begins, if it goes on.
    pub(super) fn begin_part(&mut self, act: &Act) -> Payload {
        let Some(of) = act.command.filter(|_| act.goes_on) else {
            self.forget_turn(act);
            return payload();
        };
        if let Some(function) = self.who_acts(act) {
            function.going.insert(of);
        }
        self.forget_turn(act);
        self.number_part(act.node, act.entity, Part { of, by: Some(of) })
    }

    /// The function has done with what it was told.
    fn forget_turn(&mut self, act: &Act) {
        let Some(hosted) = self.functions.get_mut(&(act.node, act.entity)) else {
            return;
        };
        if let Some(function) = hosted.function.as_mut().filter(|f| f.stream == act.stream) {
            function.has = None;
            if matches!(act.manner, Manner::Ends) {
                hosted.function = None;
            }
        }
    }

    /// It was told what became of the entity, and is about to say so.
    pub(super) fn plan_speech(&mut self, node: NodeIx, entity: EntityIx, stream: StreamId) {
        self.plan(node, entity, stream, None, Manner::Speaks);
    }

    /// It was told that a caller has left.
    pub(super) fn on_told_left(
        &mut self,
        node: NodeIx,
        entity: EntityIx,
        stream: StreamId,
        command: u64,
    ) -> Step {
        let hosted = self.functions.get_mut(&(node, entity));
        let Some(hosted) = hosted.filter(|hosted| hosted.commands.contains_key(&command)) else {
            let what = format!(
                "entity {entity}: a function was told that nobody hears command {command}, which is answered"
            );
            return Err(broken(Rule::Function, node, what));
        };
        if let Some(function) = &mut hosted.function {
            function.going.remove(&command);
            function.has = Some(command);
        }
        let mut rng = Rng::stream(self.plan.seed, "left", node as u64, self.next_act);
        let manner = match Manner::draw(&mut rng) {
            odd @ (Manner::Fails | Manner::Ends | Manner::Silent) => odd,
            _ => Manner::Well,
        };
        self.plan(node, entity, stream, Some(command), manner);
        Ok(())
    }

    fn plan(
        &mut self,
        node: NodeIx,
        entity: EntityIx,
        stream: StreamId,
        command: Option<u64>,
        manner: Manner,
    ) {
        let number = self.next_act;
        self.next_act += 1;
        let mut rng = Rng::stream(self.plan.seed, "speech", node as u64, number);
        let act = Act {
            node,
            lives: self.hosts[node].lives,
            entity,
            stream,
            command,
            manner,
            goes_on: false,
            is_left: manner != Manner::Leaves,
        };
        self.kernel
            .after(rng.log_uniform(1.0, 3e6) as u64, Event::Function { act });
    }

    /// It says more of all that goes on.
    pub(super) fn speak(&mut self, act: &Act) -> Step {
        let Some(going) = self.who_acts(act).map(|function| function.going.clone()) else {
            return Ok(());
        };
        // It has already done what it is about to say that it did.
        let by = act.command.filter(|_| !act.is_left);
        for of in going {
            let payload = self.number_part(act.node, act.entity, Part { of, by });
            let is_last = Rng::stream(self.plan.seed, "last", of, self.next_act).chance(0.1);
            if let Some(function) = self.who_acts(act).filter(|_| is_last) {
                function.going.remove(&of);
            }
            let said = Said::Streamed {
                command: CommandId(of),
                action: Some(Action::Reply(payload)),
                effects: Vec::new(),
                is_last,
            };
            let stream = act.stream;
            self.session(act.node, act.entity, Input::Said { stream, said })?;
        }
        Ok(())
    }

    /// A caller hears more.
    pub(super) fn on_part_heard(
        &mut self,
        node: NodeIx,
        entity: EntityIx,
        command: u64,
        action: Option<&Action>,
    ) -> Step {
        let wrong = |what: String| Err(broken(Rule::Function, node, format!("entity {entity}: {what}")));
        let Some(hosted) = self.functions.get_mut(&(node, entity)) else {
            return wrong(format!("more of command {command}, of which nobody is there"));
        };
        let number = match action {
            Some(Action::Reply(payload)) => std::str::from_utf8(&payload.bytes).ok().map(str::parse),
            _ => None,
        };
        let part = match number {
            Some(Ok(number)) => hosted.going.parts.remove(&number),
            _ => None,
        };
        let Some(part) = part.filter(|part| part.of == command) else {
            return wrong(format!(
                "of command {command} is heard what nobody said: {action:?}"
            ));
        };
        if let Some(by) = part.by.filter(|by| !hosted.going.done.contains(by)) {
            return wrong(format!(
                "of command {command} is heard what command {by} did, before that is in"
            ));
        }
        let Some(given) = hosted.commands.get_mut(&command) else {
            return wrong(format!("command {command} is answered, and more of it is heard"));
        };
        if !std::mem::replace(&mut given.goes_on, true) {
            self.tally.streams += 1;
            self.plan(node, entity, StreamId(0), Some(command), Manner::Leaves);
        }
        Ok(())
    }

    /// A caller leaves, if there is anything left to hear.
    pub(super) fn on_leaves(&mut self, act: Act) -> Step {
        let id = CommandId(act.command.unwrap_or_default());
        self.session(act.node, act.entity, Input::Cancelled { id })
    }
}
