//! A command that nobody competes with: its session is told, and tells, what is to be done without a queue.
//!
//! Not here: what that is (`session::direct`), and every other command (`turn`).

use super::step::{Commit, Step};
use super::turn::{Made, Turn, is_forward};
use crate::engine::Time;
use crate::session::{Action, Command, Reply, Said, State, StreamId, refused};
use crate::trace::Trace;
use crate::view::View;
use crate::wire::Token;

/// What follows for a command's caller, and what the command did.
pub(super) type Ended = (Option<Step>, Option<Made>);

impl Turn<'_> {
    /// Runs the command, and hands what it did to the engine, where it is nobody's turn before and its function waits for nobody.
    pub(super) fn run_at_once(&self, command: &Command, session: Option<&mut Token>) -> Option<Ended> {
        if self.found.method.is_async() {
            return None;
        }
        let (stream, view) = self.begin(command.deadline)?;
        self.note_seen(session);
        let said = self.run_now(command, view);
        Some(self.say(stream, said, command.origin.trace))
    }

    /// What the function is shown, if nobody's command is before this one.
    fn begin(&self, deadline: Time) -> Option<(StreamId, View)> {
        let (shared, function) = (self.shared, self.found.function);
        let look = || shared.view_to_change(&self.entity, function.ty());
        let mut sessions = shared.functions.sessions(&self.entity);
        let new = || shared.new_session(function, &self.entity);
        let hosted = sessions.open(&self.entity, new);
        let begun = hosted
            .session
            .begin(shared.clock.time(), self.id, deadline, &look);
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
                let (result, made) = self.hand_in(commit, trace, is_forward(&action));
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
}

/// Whether there is nothing to be done for it but to bring in what it changed.
fn is_plain(reply: &Reply) -> bool {
    let refuses = matches!(reply.action, Action::Refuse(_));
    !refuses && reply.state != State::Delete && reply.effects.is_empty()
}
