//! One entity's dealings with its function at one node, sans I/O.
//!
//! Not here: how a function is reached (a call of Rust, a stream to another process), what its bytes mean, and the entity
//! itself (`engine`). Whoever hosts functions performs the outputs; the simulator does so with functions that misbehave.
//!
//! Contract: the function has one command at a time, and is told nothing of the entity meanwhile. What it did goes into the entity,
//! by what it had seen, before anybody hears of it. Whenever its copy of the state may not be what this side believes, that life of
//! the function ends and the next command begins another, whether or not the former has said that it has ended. No command is given
//! to it twice.

mod call;
mod change;
mod commit;
mod direct;
mod io;
mod life;
pub mod route;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use anabranch_crdt::{Mutation, Reading, planted};

#[cfg(feature = "quic")]
pub(crate) use call::check_reply;
pub(crate) use call::{strange, unanswered};
pub use change::{Change, believe, counts_votes, diff, empty};
use change::{grows, mend, shown, shown_of};
pub use commit::{forward_failed, lost_alone, refused, refused_alone};
pub use direct::Answered;
pub use io::{
    Action, Call, Command, CommandId, Config, Effect, Encoding, Input, Origin, Output, Payload, Reply, Said,
    State, StreamId, Streams, Told,
};
use life::{Busy, Committing, Finishing, Left, Life, Open};
use streams::Streaming;

use crate::error::{Error, ErrorKind};
use crate::terms::Time;
use crate::view::View;

/// Commands of one entity that wait or are being answered, at most, unless configured otherwise.
pub const COMMANDS_MAX_DEFAULT: usize = 100;
/// How long a function may take for a command.
pub const ANSWER_MS_DEFAULT: u64 = 60_000;
/// How long it may go on with one whose caller has gone.
pub const LEFT_MS_DEFAULT: u64 = 5_000;
/// After how long without a command a function is passivated.
pub const IDLE_MS_DEFAULT: u64 = 30_000;
/// How long a function may take to end.
pub const CLOSING_MS_DEFAULT: u64 = 5_000;

/// How an error ends of a function whose answer is lost.
pub(crate) const UNKNOWN_ELSEWHERE: &str =
    ". The entity is as it was; what the function did elsewhere is not known";

/// See the module's front page.
#[derive(Debug)]
pub struct Session {
    config: Config,
    now: Time,
    life: Life,
    streams: u64,
    /// Commands that the function was not given yet.
    queue: VecDeque<(CommandId, Command)>,
    /// The command whose commit is neither accepted nor refused yet: the next one must see what it did.
    committing: Option<Committing>,
    /// Commands that the function has answered and whose callers were not. A few: `commands_max` bounds them.
    finishing: Vec<(CommandId, Finishing)>,
    outputs: VecDeque<Output>,
}

/// How the session looks at its entity as it is now.
type Look<'a> = &'a dyn Fn() -> Result<View, Error>;

impl Session {
    /// Of an entity nobody has asked anything of yet.
    pub fn new(config: Config) -> Session {
        Session {
            now: Time(0),
            life: Life::None,
            streams: config.streams_from,
            config,
            queue: VecDeque::new(),
            committing: None,
            finishing: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether it can be forgotten: nobody waits, and there is no life of the function.
    pub fn is_vacant(&self) -> bool {
        matches!(self.life, Life::None) && self.commands() == 0 && self.outputs.is_empty()
    }

    /// How many commands wait or are being answered.
    pub fn commands(&self) -> usize {
        let busy = matches!(&self.life, Life::Open(open) if open.busy.is_some());
        self.queue.len() + usize::from(busy) + self.finishing.len()
    }

    /// Whether a command waits or is being answered.
    pub fn has(&self, id: CommandId) -> bool {
        let with_function = match &self.life {
            Life::Open(open) => {
                open.busy.as_ref().is_some_and(|busy| busy.id == id) || open.streaming.has(id)
            }
            _ => false,
        };
        with_function
            || self.queue.iter().any(|(queued, _)| *queued == id)
            || self.finishing.iter().any(|(finishing, _)| *finishing == id)
    }

    /// Takes in one thing that happened; what follows is in [`Session::poll_output`]. `look` shows the entity as it is now.
    pub fn handle(&mut self, now: Time, input: Input, look: Look<'_>) {
        self.now = now;
        // What is said after its time is not heard any more.
        self.on_due();
        match input {
            Input::Command { id, command } => self.on_command(id, command),
            Input::Cancelled { id } => {
                self.queue.retain(|(queued, _)| *queued != id);
                self.on_left(id);
                self.on_stream_left(id);
            }
            Input::Changed => self.on_changed(),
            Input::Recount => self.on_recount(),
            Input::Said { stream, said } => self.on_said(stream, said),
            Input::Joined { id, left } => self.on_joined(id, left),
            Input::Committed { id, result } => self.on_committed(id, result),
            Input::EffectsDone { id } => self.answer_finished(id),
            Input::Wakeup => {}
        }
        self.pass_on();
        self.show_news(look);
        self.begin_next(look);
    }

    /// The next thing to be done, or `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Session::handle`] with [`Input::Wakeup`] at the latest.
    pub fn next_wakeup(&self) -> Option<Time> {
        let queued = self.queue.iter().map(|(_, command)| command.deadline).min();
        let life = match &self.life {
            Life::None => None,
            Life::Closing { until, .. } => Some(*until),
            Life::Open(Open { busy: Some(busy), .. }) => Some(busy.until),
            // As long as somebody hears what it says it is not idle.
            Life::Open(open) if open.streaming.is_any() => None,
            Life::Open(open) => Some(open.idle_since.after_ms(self.config.idle_ms)),
        };
        queued.into_iter().chain(life).min()
    }

    // Commands in.

    fn on_command(&mut self, id: CommandId, command: Command) {
        let most = self.config.commands_max;
        if self.commands() >= most {
            let entity = &self.config.entity;
            let message = format!(
                "nothing changed: {most} commands of {entity} wait or are being answered; retry later"
            );
            return self.answer(id, Err(Error::new(ErrorKind::Overloaded, message)));
        }
        if command.deadline <= self.now {
            return self.answer(id, Err(self.expired()));
        }
        self.queue.push_back((id, command));
    }

    /// Whoever waited for the command that the function has is gone: others are not to wait for it much longer.
    fn on_left(&mut self, id: CommandId) {
        let until = self.now.after_ms(self.config.left_ms);
        if let Life::Open(open) = &mut self.life
            && let Some(busy) = open.busy.as_mut().filter(|busy| busy.id == id)
        {
            (busy.until, busy.is_left) = (busy.until.min(until), true);
        }
    }

    /// Gives the function its next command, if it has none.
    fn begin_next(&mut self, look: Look<'_>) {
        if self.committing.is_none() && self.tell_gone() {
            return;
        }
        while self.committing.is_none() && !self.queue.is_empty() {
            match &self.life {
                Life::Open(Open { busy: Some(_), .. }) => return,
                // What was asked to end has been told so; whether it ever does nobody waits for.
                Life::Closing { .. } => {
                    self.reset();
                    continue;
                }
                Life::None => {
                    if let Err(error) = self.open(look) {
                        return self.answer_queued(&error);
                    }
                }
                Life::Open(_) => {
                    if let Err(error) = self.catch_up(look) {
                        self.lose_sight(&error);
                        return self.answer_queued(&error);
                    }
                }
            }
            let most = self.now.after_ms(self.config.answer_ms);
            // It may have been told that its entity is gone, and be closing.
            let Life::Open(open) = &mut self.life else {
                continue;
            };
            let Some((id, command)) = self.queue.pop_front() else {
                return;
            };
            open.busy = Some(Busy {
                id,
                until: command.deadline.min(most),
                deadline: command.deadline,
                is_left: false,
            });
            let (stream, view) = (open.stream, open.seen.clone());
            self.tell(stream, Told::Command { id, command, view });
        }
        self.let_go();
    }

    fn open(&mut self, look: Look<'_>) -> Result<(), Error> {
        let seen = look()?;
        self.streams += 1;
        let stream = StreamId(self.streams);
        let believes = seen.read().filter(|_| self.config.remembers);
        if self.config.remembers {
            let (view, reading) = (seen.clone(), believes.clone());
            self.tell(stream, Told::Init { view, reading });
        }
        self.life = Life::Open(Open {
            stream,
            seen,
            believes,
            busy: None,
            idle_since: self.now,
            is_changed: false,
            is_unsure: false,
            left: None,
            recounts: false,
            streaming: Streaming::default(),
        });
        Ok(())
    }

    /// Who does not remember is nothing between commands.
    fn let_go(&mut self) {
        let is_idle = matches!(&self.life, Life::Open(open) if open.busy.is_none());
        if is_idle && !self.config.remembers && self.committing.is_none() {
            self.life = Life::None;
        }
    }

    // The entity out.

    fn on_changed(&mut self) {
        if let Life::Open(open) = &mut self.life {
            open.is_changed = self.config.remembers;
        }
    }

    fn on_recount(&mut self) {
        if let Life::Open(open) = &mut self.life {
            open.recounts = self.config.remembers;
        }
    }

    /// Tells a function that has no command what has become of the entity.
    fn show_news(&mut self, look: Look<'_>) {
        let Life::Open(open) = &self.life else { return };
        let waits = open.busy.is_some() || self.committing.is_some();
        let has_news = open.is_changed || open.is_unsure || open.left.is_some() || open.recounts;
        if has_news
            && !planted!("delta_while_busy", false, waits)
            && let Err(error) = self.catch_up(look)
        {
            self.lose_sight(&error);
        }
    }

    /// The entity cannot be shown to its function any more.
    fn lose_sight(&mut self, error: &Error) {
        let Life::Open(open) = &self.life else { return };
        // It was deleted for good; or its type is another one now, which the next command is told.
        match error.kind() == ErrorKind::Refused && self.config.remembers {
            true => self.let_end(open.stream),
            false => self.reset(),
        }
    }

    /// The entity is gone: its function is told so, and is to end.
    fn let_end(&mut self, stream: StreamId) {
        self.pass_on();
        self.tell(stream, Told::Delete);
        self.end_streams(true);
        self.close();
    }

    /// Shows an open function what the entity is now.
    fn catch_up(&mut self, look: Look<'_>) -> Result<(), Error> {
        self.mend_left();
        let remembers = self.config.remembers;
        let Life::Open(open) = &mut self.life else {
            return Ok(());
        };
        let now = look()?;
        open.is_changed = false;
        let was_unsure = std::mem::take(&mut open.is_unsure);
        // Who made it a vote, or one within it, was not told how many there are.
        let recounts = std::mem::take(&mut open.recounts) || open.seen.ty() != now.ty();
        let recounts = recounts && now.ty().is_some_and(counts_votes);
        let stream = open.stream;
        if !remembers {
            open.seen = now;
            return Ok(());
        }
        if !was_unsure && !recounts && open.seen.is_same(&now) {
            return Ok(());
        }
        let after = now.read();
        let is_gone = open.believes.is_some() && after.is_none();
        let changes = match now.ty() {
            Some(ty) if !is_gone => {
                let none = empty(ty);
                let after = after.as_ref().unwrap_or(&none);
                let change = diff(open.believes.as_ref().unwrap_or(&none), after);
                let says_all = matches!(change, Some(Change::Ballots(_)));
                let votes = (recounts && !says_all).then(|| shown(after)).flatten();
                [change, votes]
            }
            _ => [None, None],
        };
        (open.seen, open.believes) = (now, after);
        match is_gone {
            true => self.let_end(stream),
            false => changes.into_iter().for_each(|change| self.show(change)),
        }
        Ok(())
    }

    /// Tells an open function what there is to tell of what it was shown.
    fn show(&mut self, change: Option<Change>) {
        let Life::Open(open) = &self.life else { return };
        let Some(change) = change else { return };
        if open.seen.value().is_some_and(|value| !grows(value, &change)) {
            // It is shown the whole when it begins anew.
            return self.close();
        }
        let (stream, view) = (open.stream, open.seen.clone());
        self.tell(stream, Told::Delta { change, view });
    }

    /// Goes on from what the function's own commit left. What that costs follows what the function did, however large its
    /// entity is.
    fn mend_left(&mut self) {
        let Life::Open(open) = &mut self.life else { return };
        let (Some(left), Some(believes)) = (open.left.take(), &mut open.believes) else {
            return;
        };
        let Left { view, keys } = *left;
        let change = planted!("own_writes_believed", None, mend(believes, &view, &keys));
        // Of a vote that it made within, too, it does not know how many there are.
        let votes = match believes {
            Reading::Map(children) => shown_of(keys.iter().filter_map(|key| children.get_key_value(key))),
            _ => None,
        };
        debug_assert!(
            cfg!(planted) || open.believes == view.read(),
            "what a function did alone it knows"
        );
        open.seen = view;
        self.show(change);
        self.show(votes);
    }

    // What the function says.

    fn on_said(&mut self, stream: StreamId, said: Said) {
        match &self.life {
            Life::Open(open) if open.stream == stream => {}
            Life::Closing { stream: closing, .. } if *closing == stream => {
                if said == Said::Ended {
                    self.life = Life::None;
                }
                return;
            }
            _ => return,
        }
        match said {
            Said::Reply(reply) => self.on_reply(reply),
            Said::Streamed {
                command,
                action,
                effects,
                is_last,
            } => self.on_streamed(command, action, effects, is_last),
            Said::Failed { command, error } => self.on_failed(command, &error),
            Said::Ended => {
                self.life_lost("it ended before it answered");
                self.end_streams(false);
                self.life = Life::None;
            }
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        let config = &self.config;
        let Life::Open(open) = &mut self.life else { return };
        let Some(busy) = open.busy.take_if(|busy| busy.id == reply.command) else {
            let what = format!("it answered command {}, which it does not have", reply.command.0);
            return self.broke(what);
        };
        open.idle_since = self.now;
        if matches!(reply.action, Action::Refuse(_)) {
            // What it did to its entity is not looked at; what it wants of others is done all the same.
            return self.refuse(busy, reply.action, reply.effects);
        }
        let finishing = Finishing {
            action: reply.action,
            effects: reply.effects,
            deadline: busy.deadline,
            deletes: reply.state == State::Delete,
            streams: (reply.streams, open.stream),
        };
        let deletes = finishing.deletes;
        let mutations = match reply.state {
            State::Same => Vec::new(),
            State::Update(mutations) => mutations,
            State::Delete => vec![Mutation::Delete],
        };
        if mutations.is_empty() {
            self.finishing.push((busy.id, finishing));
            return self.finish(busy.id);
        }
        let is = open.seen.ty().or(config.ty);
        let ty = match (is, reply.ty) {
            (Some(is), Some(ty)) if is != ty => {
                let (entity, is, ty) = (&config.entity, is.indefinite(), ty.indefinite());
                open.busy = Some(busy);
                return self.broke(format!("{entity} is {is}, and it changed it as {ty}"));
            }
            (Some(ty), _) | (None, Some(ty)) => ty,
            (None, None) => {
                open.busy = Some(busy);
                return self.broke("it changed an entity without saying as what type".to_owned());
            }
        };
        self.finishing.push((busy.id, finishing));
        if config.remembers {
            let believes = open.believes.get_or_insert_with(|| empty(ty));
            for mutation in &mutations {
                believe(believes, Some(ty), config.node, mutation);
            }
        }
        let level = reply.level.unwrap_or(self.config.level);
        self.commit(busy, ty, mutations, level, deletes);
        planted!("reply_before_commit", self.answer_early(), ());
    }

    fn on_failed(&mut self, command: Option<CommandId>, error: &Error) {
        let Life::Open(open) = &mut self.life else { return };
        match (command, open.busy.as_ref().map(|busy| busy.id)) {
            (Some(command), Some(id)) if command == id => {
                open.busy = None;
                self.answer(id, Err(error.clone()));
                if planted!("memory_kept_after_failure", false, self.config.remembers) {
                    self.close();
                }
            }
            (Some(command), _) => self.broke(format!(
                "it failed at command {}, which it does not have",
                command.0
            )),
            (None, _) => {
                // It may say that the command never came to it, or how it failed it.
                let is_lost = error.kind() == ErrorKind::Lost;
                match open.busy.take_if(|_| !is_lost) {
                    Some(busy) => self.answer(busy.id, Err(error.clone())),
                    None => self.life_lost(error.message()),
                }
                self.reset();
            }
        }
    }

    /// It broke the rules: nothing of this life of it can be trusted.
    fn broke(&mut self, what: String) {
        self.life_lost(&what);
        self.outputs.push_back(Output::Report { what });
        self.reset();
    }

    // Ends.

    fn on_due(&mut self) {
        let now = self.now;
        let expired = |(_, command): &(CommandId, Command)| command.deadline <= now;
        while let Some(at) = self.queue.iter().position(expired) {
            if let Some((id, _)) = self.queue.remove(at) {
                self.answer(id, Err(self.expired()));
            }
        }
        match &self.life {
            Life::Closing { until, .. } if *until <= now => self.reset(),
            Life::Open(Open { busy: Some(busy), .. }) if busy.until <= now => {
                self.life_lost("it did not answer in time");
                self.reset();
            }
            Life::Open(open)
                if open.busy.is_none()
                    && self.committing.is_none()
                    && self.queue.is_empty()
                    && !open.streaming.is_any()
                    && open.idle_since.after_ms(self.config.idle_ms) <= now =>
            {
                self.close();
            }
            _ => {}
        }
    }

    /// Asks the function to end.
    fn close(&mut self) {
        let Life::Open(open) = &self.life else { return };
        let stream = open.stream;
        if !self.config.remembers {
            self.life = Life::None;
            return;
        }
        self.end_streams(false);
        self.tell(stream, Told::End);
        let until = self.now.after_ms(self.config.closing_ms);
        self.life = Life::Closing { stream, until };
    }

    /// Ends this life of the function.
    fn reset(&mut self) {
        self.end_streams(false);
        let (Life::Open(Open { stream, .. }) | Life::Closing { stream, .. }) = self.life else {
            return;
        };
        self.life = Life::None;
        self.outputs.push_back(Output::Reset { stream });
    }

    /// The command that the function had is answered by nobody any more.
    fn life_lost(&mut self, why: &str) {
        let Life::Open(open) = &mut self.life else { return };
        let Some(busy) = open.busy.take() else { return };
        let message = format!(
            "the function of {} was given the command and its answer is lost: {why}{UNKNOWN_ELSEWHERE}",
            self.config.entity
        );
        // Whose caller has gone hears nothing, and that it is slow is not held against it.
        let kind = match busy.is_left {
            true => ErrorKind::Unanswered,
            false => ErrorKind::Lost,
        };
        self.answer(busy.id, Err(Error::new(kind, message)));
    }

    fn expired(&self) -> Error {
        let message = format!(
            "nothing changed: the deadline passed before the function of {} was given the command; retry later",
            self.config.entity
        );
        Error::new(ErrorKind::Expired, message)
    }

    fn answer_queued(&mut self, error: &Error) {
        for (id, _) in std::mem::take(&mut self.queue) {
            self.answer(id, Err(error.clone()));
        }
    }

    fn answer(&mut self, id: CommandId, result: Result<Action, Error>) {
        self.outputs.push_back(Output::Answer { id, result });
    }

    fn tell(&mut self, stream: StreamId, told: Told) {
        self.outputs.push_back(Output::Tell { stream, told });
    }
}
