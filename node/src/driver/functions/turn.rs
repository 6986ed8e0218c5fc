//! One command, from its caller's side: what the session says is done here, one step after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use super::caller::HostCaller;
use super::direct::Ended;
use super::later::{Later, note_failure};
use super::left::{Called, GoesOn, Unconfirmed, bytes_of_call, bytes_that_follow, forward_of, leave_effects};
use super::step::{Commit, Step};
use super::{Found, nothing};
use crate::driver::calls::Due;
use crate::driver::cell::{After, Outcome, Submitted};
use crate::driver::shared::{Shared, broken, unanswered};
use crate::driver::spans::{self, part};
use crate::engine::Time;
use crate::error::{Error, ErrorKind};
use crate::function::{BoxFuture, Caller, Context};
use crate::session::{
    Action, Call, Command, CommandId, Effect, Input, Said, StreamId, lost_alone, refused_alone,
};
use crate::trace::Trace;
use crate::view::View;
use crate::wire::{EntityId, Token};

/// One command, from its caller's side. Dropped before what it did is in, it leaves nothing behind; dropped behind that, what follows
/// is done all the same.
pub(super) struct Turn<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) found: Found<'a>,
    pub(super) entity: EntityId,
    pub(super) id: CommandId,
    stage: Stage,
    /// The effect that is being made, and its name.
    making: Option<(String, GoesOn<Called>)>,
    /// Effects that are not done yet.
    rest: VecDeque<Call>,
    /// What its session has seen by then, for what goes on without its caller.
    seen: Token,
    /// What the answer is once they are, if that is known.
    answer: Option<Result<Action, Error>>,
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
        /// What the calls take that follow then, if any do: effects, or what answers in its place.
        calls: Option<usize>,
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
            making: None,
            rest: VecDeque::new(),
            seen: Token::default(),
            answer: None,
        }
    }

    /// The command's answer, and whether it changed anything.
    pub(super) async fn run(
        &mut self,
        command: Command,
        mut session: Option<&mut Token>,
    ) -> Result<(Action, bool), Error> {
        let (now, trace) = (self.shared.clock.time(), command.origin.trace);
        let ended = self.run_at_once(&command, session.as_deref_mut(), now);
        self.go_on(ended.ok_or(command), trace, session).await
    }

    /// The same where it was run at once already, or could not be.
    pub(super) async fn go_on(
        &mut self,
        begun: Result<Ended, Command>,
        trace: Option<Trace>,
        mut session: Option<&mut Token>,
    ) -> Result<(Action, bool), Error> {
        let mut changed = false;
        let id = self.id;
        let mut next = match begun {
            Ok((step, made)) => {
                changed = made.is_some();
                match made {
                    Some(made) => self.confirm(made, step, session.as_deref_mut()).await,
                    None => step,
                }
            }
            Err(command) => self.tell(Input::Command { id, command }),
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
                    self.answer = answer;
                    Box::pin(self.effects(effects, deadline, session.as_deref_mut())).await;
                    match self.answer.take() {
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
            return Ok(self.run_now(command, view, self.shared.clock.time()));
        }
        let context = self.shared.context(&self.entity, self.id);
        let said = Box::pin(self.run_async(stream, command, view, context, session)).await?;
        Ok(self.checked(said))
    }

    /// What a function that waits for nobody says.
    pub(super) fn run_now(&self, command: &Command, view: View, now: Time) -> Said {
        let Found { function, method, .. } = self.found;
        let context = self.shared.context_at(&self.entity, self.id, now);
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
        self.seen = session.as_deref().cloned().unwrap_or_default();
        self.rest
            .extend(Later::default().leave(self.shared, effects).await);
        while let Some(call) = self.rest.pop_front() {
            let name = call.to_string();
            let (seen, bytes) = (session.as_deref().cloned(), bytes_of_call(&call));
            let making = make_effect(Arc::clone(self.shared), call, seen, deadline);
            let going_on = GoesOn::new(self.shared, bytes, making);
            let (name, making) = self.making.insert((name, going_on));
            let (done, seen) = making.await;
            note_failure(name, done);
            self.making = None;
            if let (Some(token), Some(seen)) = (session.as_deref_mut(), seen) {
                token.join(&seen);
                self.seen.join(&seen);
            }
        }
        self.stage = Stage::Idle;
    }

    /// The caller has gone: what its command still wants done is done without it, in order.
    fn leave_effects(&mut self) {
        let making = self.making.take();
        let mut rest: Vec<Call> = std::mem::take(&mut self.rest).into();
        let answer = match self.answer.take() {
            Some(result) => Some(Step::Answer(result)),
            None => self.tell(Input::EffectsDone { id: self.id }),
        };
        rest.extend(forward_of(answer));
        leave_effects(self.shared, std::mem::take(&mut self.seen), making, rest);
    }

    /// The caller has gone before what its command did is where its level says: the calls that follow are made once it is.
    fn confirm_later(&mut self, answer: oneshot::Receiver<Outcome>, bytes: usize) {
        let id = self.id;
        let left = Unconfirmed {
            function: Arc::clone(self.found.function),
            entity: self.entity.clone(),
            id,
            answer,
            seen: std::mem::take(&mut self.seen),
            bytes,
        };
        if !left.leave(self.shared) {
            let result = Err(stopping());
            self.tell(Input::Committed { id, result });
            self.tell(Input::Cancelled { id });
        }
    }

    pub(super) fn tell(&self, input: Input) -> Option<Step> {
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
        let calls = match &said {
            Said::Reply(reply) => bytes_that_follow(&reply.effects, &reply.action),
            _ => None,
        };
        let mut made = None;
        let commit = |commit: Commit| {
            let (result, handed) = self.hand_in(commit, trace, calls);
            made = Some(handed);
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
    pub(super) fn hand_in(
        &self,
        commit: Commit,
        trace: Option<Trace>,
        calls: Option<usize>,
    ) -> (Option<Result<(), Error>>, Made) {
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
                calls,
            },
        )
    }

    /// Waits until what the command did is where its level says; returns what follows.
    async fn confirm(&mut self, made: Made, step: Option<Step>, session: Option<&mut Token>) -> Option<Step> {
        let Made {
            answer,
            after,
            span,
            calls,
        } = made;
        self.shared.finish(after);
        let (step, token) = match answer {
            Answered::Now(token) => (step, token),
            Answered::Later(answer) => {
                assert!(step.is_none(), "a command is answered once its commit is");
                if calls.is_some() {
                    self.seen = session.as_deref().cloned().unwrap_or_default();
                }
                self.stage = Stage::Confirming { answer, calls };
                let Stage::Confirming { answer, .. } = &mut self.stage else {
                    unreachable!("it was just set");
                };
                let outcome = answer.instrument(span.clone()).await;
                let outcome = outcome.unwrap_or_else(|_| Err(unanswered(&Err(broken()))));
                spans::end(&span, &outcome);
                self.stage = Stage::Idle;
                let (result, token) = self.heard(outcome);
                (self.committed(result), token)
            }
        };
        if let Some(seen) = session {
            seen.join(&token);
        }
        step
    }

    /// What the session hears of a commit, and its caller's.
    fn heard(&self, outcome: Outcome) -> (Result<(), Error>, Token) {
        let error = match outcome {
            Ok(answer) => return (Ok(()), answer.token),
            Err(error) => error,
        };
        let seen = Token::of_error(&error).unwrap_or_default();
        let is_async = self.found.method.is_async();
        let error = if is_async { error } else { refused_alone(error) };
        (Err(error), seen)
    }

    /// Nothing is left to be done for it, nor told anybody.
    pub(super) fn is_over(&mut self) {
        self.stage = Stage::Over;
    }
}

/// What a command did, handed to the engine.
pub(super) struct Made {
    answer: Answered,
    /// What the engine left to do without locks.
    after: After,
    span: Span,
    /// What the calls take that follow once it is where its level says, if any do: effects, or what answers in its place.
    calls: Option<usize>,
}

impl Made {
    /// Whether it is where its level says, or refused.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.answer, Answered::Now(_))
    }

    /// Does what the engine left to do of one that is; says what its caller's session has seen with it.
    pub(super) fn settle(self, shared: &Shared) -> Token {
        shared.finish(self.after);
        match self.answer {
            Answered::Now(token) => token,
            Answered::Later(_) => unreachable!("who settles has looked whether it is"),
        }
    }
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
                calls: Some(bytes),
            } => return self.confirm_later(answer, bytes),
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

/// Makes an effect.
fn make_effect(
    shared: Arc<Shared>,
    call: Call,
    mut seen: Option<Token>,
    deadline: Time,
) -> BoxFuture<'static, Called> {
    Box::pin(async move {
        let left_ms = shared.clock.time().ms_until(deadline);
        let done = shared.call_within(None, call, seen.as_mut(), left_ms).await;
        (done, seen)
    })
}

fn stopping() -> Error {
    Error::new(
        ErrorKind::Stopping,
        "nothing changed: the node stopped before the function was given the command; retry at another node",
    )
}
