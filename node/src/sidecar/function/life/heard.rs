//! What a function says in one of its lives, as the session hears it.
//!
//! Contract: what makes no sense here is its fault, and heard by nobody.

use anabranch_crdt::Type;
use bytes::Bytes;

use super::super::end::End;
use super::super::said;
use super::{Conversation, Given, nothing_of};
use crate::error::{Changed, Error, ErrorKind};
use crate::function::unknown_elsewhere;
use crate::session::{Action, Reply, Said, State, Streams};
use crate::sidecar::delta::Delta;
use crate::sidecar::failure::refused;
use crate::sidecar::proto::common::{Action as ClientAction, Failure, SideEffect};
use crate::sidecar::taken::take;
use crate::sidecar::word::{Heard, Reply as Answer, StateChange};
use crate::view::View;

impl Conversation {
    pub(super) fn on_message(&mut self, message: Bytes) -> Result<(), End> {
        self.grown.heard(message.len());
        self.shown = 0;
        let heard = self.function.all.dialect().decode(message);
        let said = match heard.map_err(|why| End::Broke(self.function.broke(&why)))? {
            Heard::Reply(reply) => Some(self.on_reply(reply).map_err(End::Broke)?),
            Heard::Failure(failure) if (self.probe..0).contains(&failure.command_id) => {
                self.on_probe_answered(failure.command_id)
            }
            Heard::Failure(failure) => Some(self.on_failure(&failure)?),
            Heard::Streamed {
                command,
                action,
                effects,
                is_last,
            } => Some(
                self.on_streamed(command, action, effects, is_last)
                    .map_err(End::Broke)?,
            ),
        };
        self.note_rest();
        if let Some(said) = said {
            self.hear.said(said);
        }
        Ok(())
    }

    /// What it had to say to the cancellation before, it has said by now.
    fn on_probe_answered(&mut self, probe: i64) -> Option<Said> {
        // An earlier one's cancellation was answered before it.
        let is_due = self.is_cancelling && probe == self.probe;
        let given = self.command.take_if(|_| is_due)?;
        Some(Said::Reply(nothing_of(given.id)))
    }

    fn on_streamed(
        &mut self,
        command: i64,
        action: Option<ClientAction>,
        effects: Vec<SideEffect>,
        is_last: bool,
    ) -> Result<Said, Error> {
        // It may say more of one before it has answered it.
        let now = self.command.as_ref().filter(|now| now.number == command);
        let Some(given) = self.streams.get(&command).or(now) else {
            let why = format!("it goes on answering command {command}, which is not streamed, or over");
            return Err(self.function.broke(&why));
        };
        let said = Said::Streamed {
            command: given.id,
            effects: said::effects(&self.function, effects, &given.command)?,
            action: match action {
                None => None,
                action => Some(said::action(&self.function, action, &given.command)?),
            },
            is_last,
        };
        if is_last && self.streams.remove(&command).is_none() {
            self.is_all_said = true;
        }
        Ok(said)
    }

    fn on_reply(&mut self, reply: Answer) -> Result<Said, Error> {
        // Whoever brings in what it did changes the entity: nobody must keep it then.
        let seen = self.grown.answered();
        let given = self.command.as_ref();
        // It has the command until it is seen that nothing is wrong with the answer: that would be the command's failure.
        let Some(given) = given.filter(|given| given.number == reply.command).cloned() else {
            let why = format!("it answered command {}, which it does not have", reply.command);
            return Err(self.function.broke(&why));
        };
        let Given { number, id, command } = given;
        if reply.is_to_cancelled && !self.is_cancelling {
            let why = format!(
                "it answers that command {} was cancelled, which was not",
                reply.command
            );
            return Err(self.function.broke(&why));
        }
        let streams = match (reply.is_streamed && !self.is_cancelling, &reply.action) {
            (false, _) => Streams::No,
            (true, Some(_)) => Streams::Begun,
            (true, None) => Streams::Silent,
        };
        if streams != Streams::No && !self.function.goes_on_answering(&command.method) {
            let why = format!(
                "it streams its answer to {}, which is not streamed",
                command.method
            );
            return Err(self.function.broke(&why));
        }
        let action = said::action(&self.function, reply.action, &command)?;
        let effects = said::effects(&self.function, reply.effects, &command)?;
        let (state, ty) = match reply.state {
            None => (State::Same, None),
            Some(StateChange::Delete) => {
                (self.is_shown, self.is_on) = (false, false);
                (State::Delete, None)
            }
            Some(StateChange::Update(delta)) => self.on_update(delta, seen)?,
        };
        self.command = None;
        if streams != Streams::No && !self.is_all_said {
            self.streams.insert(number, Given { number, id, command });
        }
        Ok(Said::Reply(Reply {
            command: id,
            action,
            state,
            effects,
            level: reply.level,
            ty,
            streams,
        }))
    }

    /// What it did to its entity, and as what type.
    fn on_update(&mut self, delta: Delta, seen: Option<View>) -> Result<(State, Option<Type>), Error> {
        let broke = |why: &str| self.function.broke(why);
        self.function.all.dialect().can_show(&delta).map_err(|why| {
            broke(&format!(
                "it did to its entity what it could not be shown again: {why}"
            ))
        })?;
        let mutations = take(&delta, !self.is_shown).map_err(|why| broke(&why))?;
        let ty = delta.ty();
        if let Some(is) = self.ty.filter(|is| *is != ty) {
            return Err(said::another_type(
                &self.function,
                &self.entity,
                self.is_shown,
                [is, ty],
            ));
        }
        if self.is_on && delta == Delta::Flag(false) {
            let why = format!("it switched {} off, and a flag that is on stays on", self.entity);
            return Err(broke(&why));
        }
        let to = (self.function.all.me, self.function.all.dialect());
        let grown = self.grown.did(seen, ty, to, &mutations);
        grown.map_err(|why| broke(&why))?;
        self.is_on |= delta == Delta::Flag(true);
        if let Delta::Vote(own) = delta {
            // It counts its own itself.
            self.votes.votes_for += i32::from(own.self_vote) - i32::from(self.votes.self_vote);
            self.votes.self_vote = own.self_vote;
        }
        (self.ty, self.is_shown) = (Some(ty), true);
        Ok((State::Update(mutations), Some(ty)))
    }

    fn on_failure(&mut self, failure: &Failure) -> Result<Said, End> {
        let error = refused(failure.grpc_status_code, &failure.description);
        let command = self.command.as_ref().map(|given| (given.number, given.id));
        if let Some(given) = self.streams.remove(&failure.command_id) {
            // What goes on has failed: its caller hears that, and the life ends. So does what the function had to answer beside it: it
            // was not its failure, and no end of its process.
            let text = format!(
                "the function failed at a stream of {}, and not at a command: {}. {}",
                self.entity,
                failure.description,
                unknown_elsewhere(true)
            );
            self.hear.said(Said::Streamed {
                command: given.id,
                action: Some(Action::Refuse(error)),
                effects: Vec::new(),
                is_last: true,
            });
            return Ok(Said::Failed {
                command: None,
                // Not that it has answered: what it did elsewhere is not known, and a schedule tries again.
                error: Error::new(ErrorKind::Internal, text).with_changed(Changed::Unknown),
            });
        }
        match (failure.command_id, command) {
            (number, Some((has, id))) if has == number => Ok(Said::Failed {
                command: Some(id),
                error,
            }),
            (0, _) => Err(End::whole(&self.entity, failure)),
            (number, _) => {
                let text = &failure.description;
                let why = format!("it failed at command {number}, which it does not have: {text}");
                Err(End::Broke(self.function.broke(&why)))
            }
        }
    }
}
