//! A command that nobody competes with: its session is told, and tells, what is to be done without a queue.
//!
//! Not here: what that is (`session::direct`), and every other command (`turn`).

use std::sync::Arc;

use super::Found;
use super::left::bytes_that_follow;
use super::step::{Commit, Step};
use super::turn::{Made, Turn};
use crate::driver::shared::Shared;
use crate::engine::Time;
use crate::error::Error;
use crate::payload::Payload;
use crate::session::{Action, Call, Command, Input, Reply, Said, State, StreamId, lost_alone, refused};
use crate::trace::Trace;
use crate::view::View;
use crate::wire::Token;

/// What follows for a command's caller, and what the command did.
pub(super) type Ended = (Option<Step>, Option<Made>);

impl Turn<'_> {
    /// Runs the command, and hands what it did to the engine, where it is nobody's turn before and its function waits for nobody.
    pub(super) fn run_at_once(
        &self,
        command: &Command,
        session: Option<&mut Token>,
        now: Time,
    ) -> Option<Ended> {
        if self.found.method.is_async() {
            return None;
        }
        let (stream, view) = self.begin(command.deadline, now)?;
        self.note_seen(session);
        let said = self.run_now(command, view, now);
        Some(self.say(stream, said, command.origin.trace))
    }

    /// What the function is shown, if nobody's command is before this one.
    fn begin(&self, deadline: Time, now: Time) -> Option<(StreamId, View)> {
        let (shared, function) = (self.shared, self.found.function);
        let look = || shared.view_to_change(&self.entity, function.ty());
        let mut sessions = shared.functions.sessions(&self.entity);
        let new = || shared.new_session(function, &self.entity);
        let hosted = sessions.open(&self.entity, new);
        let begun = hosted.session.begin(now, self.id, deadline, &look);
        if begun.is_none() && hosted.is_left() {
            sessions.keep_one_more();
        }
        begun
    }

    /// What follows for its caller from what the function said, and what it changed, handed to the engine; or what it said, where
    /// others wait or more is to be done.
    pub(super) fn end(&self, stream: StreamId, said: Said, trace: Option<Trace>) -> Result<Ended, Box<Said>> {
        let reply = match said {
            Said::Reply(reply) if is_plain(&reply) && reply.command == self.id => reply,
            said => return Err(Box::new(said)),
        };
        let mut sessions = self.shared.functions.sessions(&self.entity);
        let Some(hosted) = sessions.get_mut(&self.entity) else {
            unreachable!("a session with a command is kept");
        };
        let now = self.shared.clock.time();
        let Some(answered) = hosted.session.end(now, stream, self.id) else {
            return Err(Box::new(Said::Reply(reply)));
        };
        let action = reply.action;
        let ended = match reply.state {
            State::Update(mutations) if !mutations.is_empty() => {
                let commit = Commit {
                    ty: self.found.function.ty(),
                    mutations,
                    view: answered.view,
                    level: reply.level.unwrap_or(answered.level),
                    deadline: answered.deadline,
                    also: None,
                };
                let (result, made) = self.hand_in(commit, trace, bytes_that_follow(&[], &action));
                let step = match result {
                    Some(result) => {
                        let result = result.map_err(|error| refused(&self.entity, error));
                        Some(Step::Answer(result.map(|()| action)))
                    }
                    None => {
                        hosted.session.finishes(self.id, action, answered.deadline);
                        None
                    }
                };
                (step, Some(made))
            }
            _ => (Some(Step::Answer(Ok(action))), None),
        };
        if hosted.is_left() {
            sessions.keep_one_more();
        }
        Ok(ended)
    }

    /// What follows once it is known how the commit went.
    pub(super) fn committed(&self, result: Result<(), Error>) -> Option<Step> {
        let finished = result.is_ok().then(|| self.finish()).flatten();
        match finished {
            Some(action) => Some(Step::Answer(Ok(action))),
            None => self.tell(Input::Committed { id: self.id, result }),
        }
    }

    /// The answer of what is where its level says, if nothing else comes of that.
    fn finish(&self) -> Option<Action> {
        let mut sessions = self.shared.functions.sessions(&self.entity);
        let hosted = sessions.get_mut(&self.entity)?;
        let action = hosted.session.finish_alone(self.shared.clock.time(), self.id)?;
        if hosted.is_left() {
            sessions.keep_one_more();
        }
        Some(action)
    }
}

/// A command that has been run, or waits for that, and is not answered yet.
pub(in crate::driver) struct Begun<'a> {
    turn: Turn<'a>,
    ended: Result<Ended, Command>,
    began: Time,
    deadline: Time,
}

impl Shared {
    /// What a call of a [plain](Found::is_plain) method answers, where it waits for nothing, for which no future is made; or what is
    /// to be waited for.
    pub(in crate::driver) fn call_at_once<'a>(
        self: &'a Arc<Self>,
        found: Found<'a>,
        call: Call,
        session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Result<Payload, Error>, Box<Begun<'a>>> {
        match found.method.is_query() {
            true => Ok(self.look_at_once(found, call, session, timeout_ms)),
            false => self.run_at_once(found, call, session, timeout_ms),
        }
    }

    /// The same of a command.
    fn run_at_once<'a>(
        self: &'a Arc<Self>,
        found: Found<'a>,
        call: Call,
        mut session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Result<Payload, Error>, Box<Begun<'a>>> {
        let began = self.clock.time();
        let deadline = began.after_ms(timeout_ms);
        if let Err(error) = call.check() {
            found.stats.note(began, self.clock.time(), true);
            return Ok(Err(error));
        }
        let mut turn = Turn::new(self, found, call.entity);
        let command = Command {
            method: call.method,
            payload: call.payload,
            deadline,
            origin: call.origin,
        };
        let ended = turn.run_at_once(&command, session.as_deref_mut(), began);
        let (result, made) = match ended {
            Some((Some(Step::Answer(result)), made)) if is_all(&result, made.as_ref()) => (result, made),
            ended => {
                let ended = ended.ok_or(command);
                return Err(Box::new(Begun {
                    turn,
                    ended,
                    began,
                    deadline,
                }));
            }
        };
        turn.is_over();
        if let Some(made) = made {
            let token = made.settle(self);
            if let Some(seen) = session {
                seen.join(&token);
            }
        }
        let reply = match result {
            Ok(Action::Reply(payload)) => Ok(payload),
            Ok(_) => unreachable!("it was just looked at"),
            Err(error) => Err(lost_alone(error)),
        };
        found.stats.note(began, self.clock.time(), reply.is_err());
        Ok(reply)
    }
}

impl Begun<'_> {
    /// The command's answer, once it is there.
    pub(in crate::driver) async fn answer(
        mut self: Box<Self>,
        mut session: Option<&mut Token>,
    ) -> Result<Payload, Error> {
        let (shared, found) = (self.turn.shared, self.turn.found);
        let (began, deadline) = (self.began, self.deadline);
        let Begun { turn, ended, .. } = &mut *self;
        let ended = std::mem::replace(ended, Ok((None, None)));
        let ended = turn.go_on(ended, None, session.as_deref_mut()).await;
        let is_error = !matches!(ended, Ok((Action::Reply(_) | Action::Forward(_), _)));
        found.stats.note(began, shared.clock.time(), is_error);
        match ended? {
            (Action::Reply(payload), _) => Ok(payload),
            (Action::Refuse(error), _) => Err(error),
            (Action::Forward(next), true) => Box::pin(shared.call_forwarded(next, session, deadline)).await,
            (Action::Forward(next), false) => {
                Box::pin(shared.call_beyond(next, session, deadline, false)).await
            }
        }
    }
}

/// Whether there is nothing to wait for, nor to be done, behind such an end.
fn is_all(result: &Result<Action, Error>, made: Option<&Made>) -> bool {
    matches!(result, Ok(Action::Reply(_)) | Err(_)) && made.is_none_or(Made::is_settled)
}

/// Whether there is nothing to be done for it but to bring in what it changed.
fn is_plain(reply: &Reply) -> bool {
    let refuses = matches!(reply.action, Action::Refuse(_));
    !refuses && reply.state != State::Delete && reply.effects.is_empty()
}
