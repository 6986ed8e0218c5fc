//! What follows for a caller from what a session says.

use anabranch_crdt::{Mutation, Type};

use crate::driver::cell::{After, Submitted};
use crate::driver::shared::Shared;
use crate::engine::{Input, Level, Op, RequestId, Time, Update};
use crate::error::Error;
use crate::session::{Action, Command, CommandId, Effect, Output, StreamId, Told};
use crate::view::View;

/// What a caller has to do next for its command.
#[derive(Debug)]
pub(super) enum Step {
    Run {
        stream: StreamId,
        command: Command,
        view: View,
    },
    Commit(Commit),
    Effects {
        effects: Vec<Effect>,
        deadline: Time,
        /// The answer, if nothing of them is waited for.
        answer: Option<Result<Action, Error>>,
    },
    Answer(Result<Action, Error>),
}

/// What a function did, on its way into the engine.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) ty: Type,
    pub(super) mutations: Vec<Mutation>,
    pub(super) view: View,
    pub(super) level: Level,
    pub(super) deadline: Time,
    /// What is to be done with it, elsewhere.
    pub(super) also: Option<Op>,
}

impl Commit {
    /// Hands it to the engine.
    pub(super) fn submit(self, shared: &Shared) -> Result<(Submitted, After), Error> {
        let input = self.into_input();
        shared.with_cell(|cell| cell.submit(shared, input))
    }

    /// The same, and how it leaves its entity, where nobody else has changed that since its function saw it.
    pub(super) fn submit_and_look(self, shared: &Shared) -> Result<(Submitted, After, Option<View>), Error> {
        shared.with_cell(|cell| {
            let entity = self.view.entity().clone();
            let is_present = cell.engine.is_present(&self.view);
            let (submitted, after) = cell.submit(shared, self.into_input());
            let left = is_present.then(|| cell.engine.view_as_it_is(&entity));
            (submitted, after, left)
        })
    }

    fn into_input(self) -> impl FnOnce(RequestId, Time) -> Input {
        let Commit {
            ty,
            mutations,
            view,
            level,
            deadline,
            also,
        } = self;
        let mut ops = Vec::with_capacity(mutations.len() + usize::from(also.is_some()));
        for mutation in mutations {
            let (entity, ty) = (view.entity().clone(), Some(ty));
            ops.push(Op { entity, ty, mutation });
        }
        ops.extend(also);
        move |request, now: Time| Input::Commit {
            request,
            update: Update {
                ops,
                level,
                key: None,
                after: None,
                timeout_ms: now.ms_until(deadline),
            },
            view,
        }
    }
}

impl Step {
    /// Makes it what is next; both, where an answer follows effects.
    pub(super) fn follow(self, earlier: &mut Option<Step>) {
        match (earlier, self) {
            (Some(Step::Effects { answer, .. }), Step::Answer(result)) => *answer = Some(result),
            (next, step) => *next = Some(step),
        }
    }
}

/// Whose step an output is.
pub(super) fn step(output: Output) -> Option<(CommandId, Step)> {
    match output {
        Output::Tell {
            stream,
            told: Told::Command { id, command, view },
        } => Some((
            id,
            Step::Run {
                stream,
                command,
                view,
            },
        )),
        Output::Commit {
            id,
            ty,
            mutations,
            view,
            level,
            deadline,
        } => Some((
            id,
            Step::Commit(Commit {
                ty,
                mutations,
                view,
                level,
                deadline,
                also: None,
            }),
        )),
        Output::Effects {
            id,
            effects,
            deadline,
        } => Some((
            id,
            Step::Effects {
                effects,
                deadline,
                answer: None,
            },
        )),
        Output::Answer { id, result } => Some((id, Step::Answer(result))),
        Output::Report { what } => {
            tracing::warn!("a function broke the rules: {what}");
            None
        }
        // Who remembers nothing is told nothing else, and does not go on.
        Output::Tell { .. } | Output::Reset { .. } | Output::Streamed { .. } => None,
    }
}
