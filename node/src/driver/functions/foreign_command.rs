//! One command of a function in another process, from its host's side: what its session says is done here, one step after the other.
//!
//! Not here: the sessions (`foreign`). Contract: it goes on without its caller, but for one that is no entity's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::Instrument;

use super::deleted;
use super::foreign::{Begin, Ended, stopping};
use super::foreign_attend::{Follows, Parts, left};
use super::later::{Later, note_failure};
use super::parked::{self, Slot};
use super::step::{Commit, Step, step};
use crate::driver::cell::{Submitted, seen_with};
use crate::driver::shared::{Shared, broken, unanswered};
use crate::driver::spans::{self, part};
use crate::engine::{Copies, Time};
use crate::error::{Error, ErrorKind};
use crate::function::{BoxFuture, Foreign, unknown_elsewhere};
use crate::payload::Payload;
use crate::session::{ANSWER_MS_DEFAULT, Action, Call, Command, CommandId, Effect, Input, Output};
use crate::trace::Trace;
use crate::wire::{EntityId, Token};

/// How long what a command did may take to be where its level wants it, on other nodes; it is never rolled back.
const CONFIRM_MS_DEFAULT: u64 = 5_000;

/// A command as it is told from others where a function may end on it.
struct Attempt {
    function: Arc<dyn Foreign>,
    entity: EntityId,
    method: String,
    payload: Payload,
    deadline: Time,
    /// How many times its function had come then.
    comings: u64,
}

impl Attempt {
    fn of(shared: &Shared, function: &Arc<dyn Foreign>, entity: &EntityId, command: &Command) -> Attempt {
        Attempt {
            comings: shared.functions.foreign.comings(entity.kind()),
            function: Arc::clone(function),
            entity: entity.clone(),
            method: command.method.clone(),
            payload: command.payload.clone(),
            deadline: command.deadline,
        }
    }

    /// It takes a look at every byte: for those that have to do with a function's end alone.
    fn slot(&self) -> Slot {
        let name = parked::name(&self.method, &self.function.message(&self.payload));
        match self.function.is_stateless() {
            true => Slot::of_service(self.entity.kind(), name),
            false => Slot::of_entity(&self.entity, name),
        }
    }
}

impl Shared {
    /// A task of its own: a future of this type, as calls are made within calls.
    pub(super) fn answer_foreign(
        self: Arc<Self>,
        function: Arc<dyn Foreign>,
        entity: EntityId,
        id: CommandId,
        command: Command,
        token: Token,
        gone: oneshot::Receiver<()>,
    ) -> BoxFuture<'static, Ended> {
        match function.is_stateless() {
            true => Box::pin(self.act_foreign(function, entity, command, token, gone)),
            false => Box::pin(self.run_foreign(function, entity, id, command, token, None)),
        }
    }

    /// A command of what has no entities.
    async fn act_foreign(
        self: Arc<Self>,
        function: Arc<dyn Foreign>,
        entity: EntityId,
        command: Command,
        token: Token,
        gone: oneshot::Receiver<()>,
    ) -> Ended {
        // Behind this it is not known whether the function has it.
        if self.clock.time() >= command.deadline {
            let message = format!(
                "nothing changed: the deadline passed before the function of {} was given the command; retry later",
                entity.kind()
            );
            return (Err(Error::new(ErrorKind::Expired, message)), token);
        }
        let attempt = Attempt::of(&self, &function, &entity, &command);
        if let Err(error) = self.check_parked(&attempt) {
            return (Err(error), token);
        }
        let (result, token, is_answered) = self.act(function, command, token, gone).await;
        // Whose caller has gone, or waits no longer, is only slow.
        if is_answered {
            self.note_end(&attempt, &result);
        }
        (result, token)
    }

    /// Besides, whether its function has answered, or is known not to.
    async fn act(
        self: &Arc<Self>,
        function: Arc<dyn Foreign>,
        command: Command,
        mut token: Token,
        gone: oneshot::Receiver<()>,
    ) -> (Result<(Action, bool), Error>, Token, bool) {
        let deadline = command.deadline;
        let left = self.clock.time().ms_until(deadline).min(ANSWER_MS_DEFAULT);
        let acting = function.act(command);
        let answered = tokio::select! {
            answered = tokio::time::timeout(Duration::from_millis(left), acting) => answered.ok(),
            _ = gone => None,
        };
        let Some((action, effects)) = answered else {
            let message = format!(
                "the function was given the command and did not answer in time. {}",
                unknown_elsewhere(false)
            );
            return (Err(Error::new(ErrorKind::Lost, message)), token, false);
        };
        let action = action.and_then(|action| self.check_foreign(&*function, &action).map(|()| action));
        // What it wants done elsewhere is what it changes: a call that failed behind that must not be made anew.
        let changes = !effects.is_empty();
        self.make_effects(&Later::default(), effects, deadline, &mut token)
            .await;
        let result = action
            .map(|action| (action, changes))
            .map_err(|error| match changes {
                true => error.with_kind(ErrorKind::Unanswered),
                false => error,
            });
        (result, token, true)
    }

    /// A command of an entity, to its end; where its answer may go on, to that.
    pub(super) async fn run_foreign(
        self: Arc<Self>,
        function: Arc<dyn Foreign>,
        entity: EntityId,
        id: CommandId,
        command: Command,
        token: Token,
        parts: Option<Parts>,
    ) -> Ended {
        let attempt = Attempt::of(&self, &function, &entity, &command);
        if let Err(error) = self.check_parked(&attempt) {
            return (Err(error), token);
        }
        let giving = self.give_foreign(function, &entity, id, command, token, parts);
        let (result, token) = giving.await;
        self.note_end(&attempt, &result);
        (result, token)
    }

    /// Whether a command may be given to its function.
    fn check_parked(&self, attempt: &Attempt) -> Result<(), Error> {
        let parked = self.functions.foreign.parked();
        if parked.is_empty() {
            return Ok(());
        }
        let checked = parked.check(self.clock.time(), &attempt.slot(), &attempt.method);
        checked.map_err(|why| attempt.function.parked(&why))
    }

    /// Whether a command whose function is not here may be taken to another node's: not one that it may be away because of.
    pub(in crate::driver) fn check_suspect(&self, call: &Call) -> Result<(), Error> {
        if self.functions.foreign.parked().is_empty() {
            return Ok(());
        }
        let Some(attempt) = self.attempt_away(call, Time(u64::MAX)) else {
            return Ok(());
        };
        self.check_parked(&attempt)?;
        let (now, slot) = (self.clock.time(), attempt.slot());
        if !self.functions.foreign.parked().is_suspect(now, &slot) {
            return Ok(());
        }
        let message = format!(
            "nothing changed: {} of {slot} is taken to no other node: its function is away, and has ended on it; retry later",
            call.method
        );
        Err(Error::new(ErrorKind::Unreachable, message))
    }

    /// A command whose function is away was taken to another node: whether its function has ended on it there.
    pub(in crate::driver) fn note_elsewhere(&self, call: &Call, deadline: Time, error: &Error) {
        if error.kind() == ErrorKind::Lost
            && let Some(attempt) = self.attempt_away(call, deadline)
        {
            self.note_end(&attempt, &Err(error.clone()));
        }
    }

    /// A call of a function that was here, and is away.
    fn attempt_away(&self, call: &Call, deadline: Time) -> Option<Attempt> {
        let function = self.functions.foreign.away(call.entity.kind())?;
        // What it does not take ends nobody.
        let taken = function.take(call.clone()).ok()?;
        Some(Attempt {
            comings: self.functions.foreign.comings(taken.entity.kind()),
            function,
            entity: taken.entity,
            method: taken.method,
            payload: taken.payload,
            deadline,
        })
    }

    /// What there is to know of how a command ended that was given to its function.
    fn note_end(&self, attempt: &Attempt, result: &Result<(Action, bool), Error>) {
        let now = self.clock.time();
        let has_ends = !self.functions.foreign.parked().is_empty();
        let end = match result {
            // Whose caller gave up first was only slow.
            Err(error) if error.kind() == ErrorKind::Lost && now < attempt.deadline => Some(error),
            Ok(_) if has_ends => None,
            Err(error) if has_ends && error.kind() == ErrorKind::Refused => None,
            // Its function was not given it; or none has ever ended on anything.
            _ => return,
        };
        let coming = match attempt.function.is_stateless() {
            true => attempt.comings,
            // It may have waited for others of its entity, of which no two are with a function as it ends.
            false => self.functions.foreign.comings(attempt.entity.kind()),
        };
        let mut parked = self.functions.foreign.parked();
        parked.note(now, attempt.slot(), coming, end);
    }

    async fn give_foreign(
        self: &Arc<Self>,
        function: Arc<dyn Foreign>,
        entity: &EntityId,
        id: CommandId,
        command: Command,
        mut token: Token,
        mut parts: Option<Parts>,
    ) -> Ended {
        let trace = command.origin.trace;
        let (follows, mut next, load) = Follows::new();
        let begin = Begin {
            function: Arc::clone(&function),
            follows,
        };
        self.tell_foreign(entity, Input::Command { id, command }, Some(begin));
        let (mut changed, mut failed, later) = (false, None, Later::default());
        loop {
            let output = tokio::select! {
                biased;
                () = left(&parts) => {
                    parts = None;
                    self.tell_foreign(entity, Input::Cancelled { id }, None);
                    continue;
                }
                output = next.recv() => output,
            };
            let Some(output) = output else {
                return (Err(stopping()), token);
            };
            match output {
                output @ Output::Commit { .. } => {
                    changed = true;
                    let result = self.commit_foreign(&*function, output, trace, &mut token).await;
                    failed = fault(&*function, entity, result.as_ref().err()).or(failed);
                    self.tell_foreign(entity, Input::Committed { id, result }, None);
                }
                Output::Effects {
                    effects, deadline, ..
                } => {
                    changed = true;
                    self.make_effects(&later, effects, deadline, &mut token).await;
                    self.tell_foreign(entity, Input::EffectsDone { id }, None);
                }
                Output::Streamed { action, effects, .. } => {
                    let passed = self.pass_on(&parts, &later, action, effects, &mut token).await;
                    if let Err(error) = load.passed().and(passed) {
                        (parts, failed) = (None, Some(error));
                        self.tell_foreign(entity, Input::Cancelled { id }, None);
                    }
                }
                Output::Answer { result, .. } => {
                    // Its function was shown no more than is here now.
                    token = self.peek(|engine| engine.token(&token, [entity]));
                    let result = failed.map_or(result, Err);
                    return (result.map(|action| (action, changed)), token);
                }
                Output::Tell { .. } | Output::Reset { .. } | Output::Report { .. } => {}
            }
        }
    }

    /// Brings in what a command did.
    async fn commit_foreign(
        self: &Arc<Self>,
        function: &dyn Foreign,
        output: Output,
        trace: Option<Trace>,
        token: &mut Token,
    ) -> Result<(), Error> {
        let Some((id, Step::Commit(mut commit))) = step(output) else {
            unreachable!("who commits has a commit");
        };
        let (entity, level) = (commit.view.entity().clone(), commit.level);
        if level.copies != Copies::Local {
            let most = self.clock.time().after_ms(CONFIRM_MS_DEFAULT);
            commit.deadline = commit.deadline.min(most);
        }
        commit.also = deleted::with_deletion(function, &entity, &commit.mutations)?;
        let (span, _) = part!("commit", "internal", trace, entity, level);
        let committing = self.bring_in(&entity, id, commit, token);
        let result = committing.instrument(span.clone()).await;
        spans::end(&span, &result);
        result
    }

    async fn bring_in(
        self: &Arc<Self>,
        entity: &EntityId,
        id: CommandId,
        commit: Commit,
        token: &mut Token,
    ) -> Result<(), Error> {
        let (submitted, after, left) = commit.submit_and_look(self)?;
        self.finish(after);
        let outcome = match submitted {
            Submitted::Done(outcome) => outcome,
            Submitted::Waiting(answer) => {
                self.tell_foreign(entity, Input::Joined { id, left }, None);
                answer.await.unwrap_or_else(|_| Err(unanswered(&Err(broken()))))
            }
        };
        token.join(&seen_with(&outcome));
        outcome.map(|_| ())
    }

    /// Makes the calls that a command wants: those that are waited for in order, the others meanwhile.
    pub(super) async fn make_effects(
        self: &Arc<Self>,
        later: &Later,
        effects: Vec<Effect>,
        deadline: Time,
        token: &mut Token,
    ) {
        for call in later.leave(self, effects).await {
            let left_ms = self.clock.time().ms_until(deadline);
            let name = call.to_string();
            note_failure(&name, self.call_within(None, call, Some(token), left_ms).await);
        }
    }

    /// What a caller hears who waits for the one reply: a forward's is its target's.
    pub(super) async fn reply_of(
        self: &Arc<Self>,
        action: Action,
        token: &mut Token,
        left_ms: u64,
    ) -> Result<Payload, Error> {
        match action {
            Action::Reply(reply) => Ok(reply),
            Action::Forward(call) => self.call_within(None, call, Some(token), left_ms).await,
            Action::Refuse(error) => Err(error),
        }
    }
}

/// What a caller hears of what his entity did not take: the function did that, whatever he asked of it.
fn fault(function: &dyn Foreign, entity: &EntityId, error: Option<&Error>) -> Option<Error> {
    // What is too long may be what the caller asked for.
    let error = error.filter(|error| error.kind() == ErrorKind::WrongType)?;
    let what = format!(
        "the function of {entity} did to its entity what cannot be done: {error}. {}",
        unknown_elsewhere(true)
    );
    Some(function.fault(&what))
}
