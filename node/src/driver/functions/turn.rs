//! One command, from its caller's side: what the session says is done here, one step after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use super::caller::{HostCaller, has_own_stack};
use super::direct::Ended;
use super::later::{Later, attend, call_later, call_now, note_failure};
use super::step::{Commit, Step};
use super::{Found, nothing};
use crate::driver::calls::Due;
use crate::driver::cell::{After, Outcome, Submitted, seen_with};
use crate::driver::quic::block_on;
use crate::driver::shared::{Shared, broken, unanswered};
use crate::driver::spans::{self, part};
use crate::engine::Time;
use crate::error::{Error, ErrorKind};
use crate::function::{Caller, Context};
use crate::session::{
    Action, Call, Command, CommandId, Effect, Input, Said, StreamId, lost_alone, refused_alone,
};
use crate::trace::Trace;
use crate::view::View;
use crate::wire::{EntityId, Token};

/// One command, from its caller's side. Dropped before its end, it leaves nothing behind.
pub(super) struct Turn<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) found: Found<'a>,
    pub(super) entity: EntityId,
    pub(super) id: CommandId,
    stage: Stage,
    /// Effects that are not done yet.
    rest: VecDeque<Call>,
}

enum Stage {
    /// With the session, or not begun.
    Idle,
    Waiting(oneshot::Receiver<Step>),
    /// In a function that waits for others.
    Running(StreamId),
    /// What it did is in, and not yet where its level says.
    Confirming {
        answer: oneshot::Receiver<Outcome>,
        /// Whether calls follow then.
        has_effects: bool,
    },
    /// Its effects are being waited for.
    Effecting,
    Over,
}

impl<'a> Turn<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, found: Found<'a>, entity: EntityId) -> Turn<'a> {
        Turn {
            shared,
            found,
            entity,
            id: CommandId(shared.functions.next.fetch_add(1, Ordering::Relaxed)),
            stage: Stage::Idle,
            rest: VecDeque::new(),
        }
    }

    /// The command's answer, and whether it changed anything.
    pub(super) async fn run(
        &mut self,
        command: Command,
        mut session: Option<&mut Token>,
    ) -> Result<(Action, bool), Error> {
        let mut changed = false;
        let (id, trace) = (self.id, command.origin.trace);
        let mut next = match self.run_at_once(&command, session.as_deref_mut()) {
            Some((step, made)) => {
                changed = made.is_some();
                match made {
                    Some(made) => self.confirm(made, step, session.as_deref_mut()).await,
                    None => step,
                }
            }
            None => self.tell(Input::Command { id, command }),
        };
        loop {
            let step = match next.take() {
                Some(step) => step,
                None => self.wait().await?,
            };
            next = match step {
                Step::Run {
                    stream,
                    command,
                    view,
                } => {
                    let mut seen = session.as_deref_mut();
                    self.note_seen(seen.as_deref_mut());
                    match self.run_function(stream, &command, view, seen).await {
                        Ok(said) => {
                            let (step, made) = self.say(stream, said, trace);
                            changed |= made.is_some();
                            match made {
                                Some(made) => self.confirm(made, step, session.as_deref_mut()).await,
                                None => step,
                            }
                        }
                        Err(step) => Some(step),
                    }
                }
                Step::Commit(_) => unreachable!("it went in when it was said"),
                Step::Effects {
                    effects,
                    deadline,
                    answer,
                } => {
                    Box::pin(self.effects(effects, deadline, session.as_deref_mut())).await;
                    match answer {
                        Some(result) => Some(Step::Answer(result)),
                        None => self.tell(Input::EffectsDone { id }),
                    }
                }
                Step::Answer(result) => {
                    self.stage = Stage::Over;
                    let is_alone = !self.found.method.is_async();
                    let result = result.map_err(|e| if is_alone { lost_alone(e) } else { e });
                    return result.map(|action| (action, changed));
                }
            };
        }
    }

    /// What the function says; or what its session says of it meanwhile.
    async fn run_function(
        &mut self,
        stream: StreamId,
        command: &Command,
        view: View,
        session: Option<&mut Token>,
    ) -> Result<Said, Step> {
        if !self.found.method.is_async() {
            return Ok(self.run_now(command, view));
        }
        let context = self.shared.context(&self.entity, self.id);
        let said = Box::pin(self.run_async(stream, command, view, context, session)).await?;
        Ok(self.checked(said))
    }

    /// What a function that waits for nobody says.
    pub(super) fn run_now(&self, command: &Command, view: View) -> Said {
        let Found { function, method, .. } = self.found;
        let context = self.shared.context(&self.entity, self.id);
        self.checked(function.run_method(method, self.id, command, view, context))
    }

    /// What can be known to be wrong with it is, before what it did is in.
    fn checked(&self, said: Said) -> Said {
        let wrong = match &said {
            Said::Reply(reply) => self.shared.check_action(&reply.action).err(),
            _ => None,
        };
        match wrong {
            Some(error) => Said::Failed {
                command: Some(self.id),
                error,
            },
            None => said,
        }
    }

    /// Its reply goes by what the function is shown now, also where it changes something.
    pub(super) fn note_seen(&self, session: Option<&mut Token>) {
        if let Some(token) = session {
            *token = self.shared.peek(|engine| engine.token(token, [&self.entity]));
        }
    }

    async fn run_async(
        &mut self,
        stream: StreamId,
        command: &Command,
        view: View,
        context: Context,
        session: Option<&mut Token>,
    ) -> Result<Said, Step> {
        let mut otherwise = self.listen().map_err(|step| *step)?;
        self.stage = Stage::Running(stream);
        let seen = session.as_deref().cloned().unwrap_or_default();
        let caller = Arc::new(HostCaller::new(self.shared, Some(command.deadline), seen));
        let context = context.with_caller(Arc::clone(&caller) as Arc<dyn Caller>);
        let cut_off = || {
            let message = format!(
                "the node stopped while the function of {} ran: its entity is as it was, what it did elsewhere is not known",
                self.entity
            );
            Step::Answer(Err(Error::new(ErrorKind::Lost, message)))
        };
        let running = self.found.function.run_async(self.id, command, view, context);
        let outcome = tokio::select! {
            said = self.shared.functions.reactor.around(running) => Ok(said),
            step = &mut otherwise => Err(step.unwrap_or_else(|_| cut_off())),
            _ = self.shared.stopped() => Err(cut_off()),
        };
        if let Some(token) = session {
            token.join(&caller.seen());
        }
        self.stage = Stage::Idle;
        self.do_not_listen();
        // What its session said is so, whatever it came to say in the same moment.
        match otherwise.try_recv() {
            Ok(step) => Err(step),
            Err(_) => outcome,
        }
    }

    /// Makes the calls that the command wants: those that are waited for in order, the others meanwhile.
    async fn effects(&mut self, effects: Vec<Effect>, deadline: Time, mut session: Option<&mut Token>) {
        self.stage = Stage::Effecting;
        self.rest
            .extend(Later::default().leave(self.shared, effects).await);
        while let Some(call) = self.rest.pop_front() {
            let left_ms = self.shared.clock.time().ms_until(deadline);
            let name = call.to_string();
            let is_here = self.shared.functions.has_method(&call);
            let done = if is_here && !has_own_stack(call.origin.depth) {
                // A call within a call: its future would contain itself.
                Box::pin(self.shared.call(call, session.as_deref_mut(), left_ms)).await
            } else {
                let seen = session.as_deref().cloned().unwrap_or_default();
                let caller = HostCaller::new(self.shared, Some(deadline), seen);
                let done = caller.call(None, call).await;
                if let Some(token) = session.as_deref_mut() {
                    token.join(&caller.seen());
                }
                done
            };
            note_failure(&name, done);
        }
        self.stage = Stage::Idle;
    }

    /// The caller has gone: what its command still wants done is done without it.
    fn leave_effects(&mut self) {
        let rest: Vec<Call> = std::mem::take(&mut self.rest).into();
        if !rest.is_empty()
            && let Err(rest) = call_later(self.shared, rest)
        {
            tracing::warn!(
                "{} effects of {} are not done: too many run already",
                rest.len(),
                self.entity
            );
        }
        self.tell(Input::EffectsDone { id: self.id });
    }

    /// The caller has gone before what its command did is where its level says: its effects are made once it is, and not if it does
    /// not come to that.
    fn confirm_later(&self, answer: oneshot::Receiver<Outcome>) {
        let (at, function) = (Arc::clone(self.shared), Arc::clone(self.found.function));
        let (entity, id) = (self.entity.clone(), self.id);
        let has_begun = attend(self.shared, move || {
            let tell = |input| at.tell_session(&function, &entity, input, Some(id), nothing);
            let outcome = block_on(answer).unwrap_or_else(|_| Err(unanswered(&Err(broken()))));
            let result = outcome.map(|_| ());
            if let Some(Step::Effects { effects, .. }) = tell(Input::Committed { id, result }) {
                effects.into_iter().for_each(|effect| call_now(&at, effect.call));
                tell(Input::EffectsDone { id });
            }
            tell(Input::Cancelled { id });
        });
        if !has_begun {
            tracing::warn!(
                "the effects of a command of {} are not done: too many run already",
                self.entity
            );
            let result = Err(stopping());
            self.tell(Input::Committed { id, result });
            self.tell(Input::Cancelled { id });
        }
    }

    fn tell(&self, input: Input) -> Option<Step> {
        let (function, own) = (self.found.function, Some(self.id));
        self.shared
            .tell_session(function, &self.entity, input, own, nothing)
    }

    /// What the function said goes to its session, and what it did to the engine, in one turn.
    pub(super) fn say(&self, stream: StreamId, said: Said, trace: Option<Trace>) -> Ended {
        let said = match self.end(stream, said, trace) {
            Ok(ended) => return ended,
            Err(said) => *said,
        };
        let (function, id) = (self.found.function, self.id);
        let has_effects = matches!(&said, Said::Reply(reply) if !reply.effects.is_empty());
        let mut made = None;
        let commit = |commit: Commit| {
            let (result, handed) = self.hand_in(commit, trace);
            made = Some(Made {
                has_effects,
                ..handed
            });
            match result {
                Some(result) => Input::Committed { id, result },
                None => Input::Joined { id, left: None },
            }
        };
        let said = Input::Said { stream, said };
        let step = self
            .shared
            .tell_session(function, &self.entity, said, Some(id), commit);
        (step, made)
    }

    /// Waits for what the session says next.
    async fn wait(&mut self) -> Result<Step, Error> {
        let receiver = match self.listen() {
            Ok(receiver) => receiver,
            Err(step) => return Ok(*step),
        };
        self.stage = Stage::Waiting(receiver);
        let Stage::Waiting(receiver) = &mut self.stage else {
            unreachable!("it was just set");
        };
        let stopped = self.shared.stopped();
        let step = tokio::select! {
            step = receiver => step.map_err(|_| stopping()),
            _ = stopped => Err(stopping()),
        };
        self.stage = Stage::Idle;
        step
    }

    /// Where the session's next word comes; or that word, if it was said already.
    fn listen(&self) -> Result<oneshot::Receiver<Step>, Box<Step>> {
        let (sender, receiver) = oneshot::channel();
        let mut sessions = self.shared.functions.sessions(&self.entity);
        let Some(hosted) = sessions.get_mut(&self.entity) else {
            unreachable!("a session with a command is kept");
        };
        if let Some(step) = hosted.late.remove(&self.id) {
            return Err(Box::new(step));
        }
        hosted.waiting.insert(self.id, sender);
        let next = hosted.next_due();
        drop(sessions);
        if let Some(at) = next {
            self.shared.wake_at(at, Due::Session(self.entity.clone()));
        }
        Ok(receiver)
    }

    fn do_not_listen(&self) {
        let mut sessions = self.shared.functions.sessions(&self.entity);
        if let Some(hosted) = sessions.get_mut(&self.entity) {
            hosted.waiting.remove(&self.id);
        }
    }

    /// Hands what the command did to the engine. How it went, if that is known at once.
    pub(super) fn hand_in(&self, commit: Commit, trace: Option<Trace>) -> (Option<Result<(), Error>>, Made) {
        let (span, _) = part!("commit", "internal", trace, self.entity, commit.level);
        let submitted = span.in_scope(|| commit.submit(self.shared));
        let broken = |error| (Submitted::Done(Err(error)), After::default());
        let (submitted, after) = submitted.unwrap_or_else(broken);
        let (result, answer) = match submitted {
            Submitted::Done(outcome) => {
                spans::end(&span, &outcome);
                let (result, token) = self.heard(outcome);
                (Some(result), Answered::Now(token))
            }
            Submitted::Waiting(answer) => (None, Answered::Later(answer)),
        };
        (
            result,
            Made {
                answer,
                after,
                span,
                has_effects: false,
            },
        )
    }

    /// Waits until what the command did is where its level says; returns what follows.
    async fn confirm(&mut self, made: Made, step: Option<Step>, session: Option<&mut Token>) -> Option<Step> {
        let Made {
            answer,
            after,
            span,
            has_effects,
        } = made;
        self.shared.finish(after);
        let (step, token) = match answer {
            Answered::Now(token) => (step, token),
            Answered::Later(answer) => {
                assert!(step.is_none(), "a command is answered once its commit is");
                self.stage = Stage::Confirming { answer, has_effects };
                let Stage::Confirming { answer, .. } = &mut self.stage else {
                    unreachable!("it was just set");
                };
                let outcome = answer.instrument(span.clone()).await;
                let outcome = outcome.unwrap_or_else(|_| Err(unanswered(&Err(broken()))));
                spans::end(&span, &outcome);
                self.stage = Stage::Idle;
                let (result, token) = self.heard(outcome);
                (self.tell(Input::Committed { id: self.id, result }), token)
            }
        };
        if let Some(seen) = session {
            seen.join(&token);
        }
        step
    }

    /// What the session hears of a commit, and its caller's.
    fn heard(&self, outcome: Outcome) -> (Result<(), Error>, Token) {
        let seen = seen_with(&outcome);
        let is_async = self.found.method.is_async();
        let result = outcome.map_err(|error| if is_async { error } else { refused_alone(error) });
        (result.map(|_| ()), seen)
    }
}

/// What a command did, handed to the engine.
pub(super) struct Made {
    answer: Answered,
    /// What the engine left to do without locks.
    after: After,
    span: Span,
    /// Whether calls follow once it is where its level says.
    has_effects: bool,
}

enum Answered {
    /// It is where its level says, or refused.
    Now(Token),
    Later(oneshot::Receiver<Outcome>),
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let id = self.id;
        let ended = |stream| Input::Said {
            stream,
            said: Said::Ended,
        };
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return,
            Stage::Idle => {}
            Stage::Confirming {
                answer,
                has_effects: true,
            } => return self.confirm_later(answer),
            Stage::Confirming { .. } => {
                self.tell(Input::Committed { id, result: Ok(()) });
            }
            Stage::Effecting => self.leave_effects(),
            Stage::Running(stream) => {
                self.do_not_listen();
                self.tell(ended(stream));
            }
            Stage::Waiting(mut receiver) => {
                self.do_not_listen();
                if let Ok(Step::Run { stream, .. }) = receiver.try_recv() {
                    self.tell(ended(stream));
                }
            }
        }
        // Between the two it may have been given the function after all.
        if let Some(Step::Run { stream, .. }) = self.tell(Input::Cancelled { id }) {
            self.tell(ended(stream));
        }
    }
}

fn stopping() -> Error {
    Error::new(
        ErrorKind::Stopping,
        "nothing changed: the node stopped before the function was given the command; retry at another node",
    )
}
