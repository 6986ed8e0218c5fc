//! What follows for a caller from what a session says.

use anabranch_crdt::{Mutation, Type};

use crate::driver::cell::{After, Submitted};
use crate::driver::shared::Shared;
use crate::engine::{Input, Level, Op, Time, Update};
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
        let Commit {
            ty,
            mutations,
            view,
            level,
            deadline,
            also,
        } = self;
        let op = |mutation| Op {
            entity: view.entity().clone(),
            ty: Some(ty),
            mutation,
        };
        let ops = mutations.into_iter().map(op).chain(also).collect();
        let commit = |request, now: Time| Input::Commit {
            request,
            update: Update {
                ops,
                level,
                key: None,
                after: None,
                timeout_ms: now.ms_until(deadline),
            },
            view,
        };
        shared.with_cell(|cell| cell.submit(shared, commit))
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
