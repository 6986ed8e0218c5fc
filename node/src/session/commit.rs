//! What a command did, on its way into the entity; and what is left to do for it then.
//!
//! Contract: its caller hears once that is where its level wants it, and what else it wants done is done; the next command sees it.

use std::collections::BTreeSet;

use anabranch_crdt::{Mutation, Type, planted};

use super::change::{touched, votes_within};
use super::life::Left;
use super::{
    Action, Busy, CommandId, Committing, Effect, Finishing, Life, Output, Session, Streams, UNKNOWN_ELSEWHERE,
};
use crate::error::{Changed, Error, ErrorKind};
use crate::terms::Level;
use crate::view::View;
use crate::wire::EntityId;

/// What there is to say where an entity refused what its function did. Nobody takes it for an error of a command that no function was
/// given, after which another node is asked: the function may have done something elsewhere. See [`refused_alone`].
pub fn refused(entity: &EntityId, error: Error) -> Error {
    if !planted!("refused_has_not_run", false, error.has_not_begun()) {
        return error;
    }
    let message = format!(
        "the function of {entity} has run, and what it did is not in: {error}. The entity is as it was; what the function did \
         elsewhere is not known"
    );
    Error::new(ErrorKind::Lost, message)
}

/// The same where the function waits for nobody, and so has done nothing elsewhere: its caller may call again. Nobody else does so for
/// him: no command is run twice unasked.
pub fn refused_alone(error: Error) -> Error {
    if planted!("refused_has_not_run", true, !error.has_not_begun()) {
        return error;
    }
    let message = format!("nothing changed: what the function did is not in: {error}");
    Error::new(error.kind(), message).with_changed(Changed::Undone)
}

/// What there is to say of one that is lost, likewise.
pub fn lost_alone(error: Error) -> Error {
    if error.kind() != ErrorKind::Lost || error.changed() != Changed::Unknown {
        return error;
    }
    let what = error.message();
    let what = what.strip_suffix(UNKNOWN_ELSEWHERE).unwrap_or(what);
    let message = format!("nothing changed: {what}");
    Error::new(ErrorKind::Lost, message).with_changed(Changed::Undone)
}

/// What there is to say where a forward failed after what forwarded it was in.
pub fn forward_failed(to: &EntityId, error: &Error) -> Error {
    // Along a chain of forwards this is said once, of the last.
    let is_said = error.kind() == ErrorKind::Unanswered && error.changed() == Changed::Yes;
    if is_said || planted!("forward_hides_first_part", true, false) {
        return error.clone();
    }
    let message =
        format!("what was asked for is in, and {to}, which it was forwarded to, has failed: {error}");
    let failed = Error::new(ErrorKind::Unanswered, message).with_changed(Changed::Yes);
    match error.details_payload() {
        Some(details) => failed.with_details(details.clone()),
        None => failed,
    }
}

impl Session {
    pub(super) fn commit(
        &mut self,
        busy: Busy,
        ty: Type,
        mutations: Vec<Mutation>,
        level: Level,
        deletes: bool,
    ) {
        let view = match std::mem::replace(&mut self.life, Life::None) {
            // Nobody but the commit keeps what was seen, so that nothing need be copied.
            Life::Open(open) if !self.config.remembers => open.seen,
            Life::Open(mut open) => {
                let view = open.seen.take();
                self.life = Life::Open(open);
                view
            }
            _ => unreachable!("a function that has answered is open"),
        };
        self.committing = Some(Committing {
            id: busy.id,
            deletes,
            keys: match ty.is_map() {
                true => touched(&mutations),
                false => BTreeSet::new(),
            },
            votes: votes_within(&mutations),
        });
        self.outputs.push_back(Output::Commit {
            id: busy.id,
            ty,
            mutations,
            view,
            level,
            deadline: busy.deadline,
        });
    }

    /// The function has refused: there is nothing to bring in, and what it believes of its entity is not known.
    pub(super) fn refuse(&mut self, busy: Busy, action: Action, effects: Vec<Effect>) {
        let Life::Open(open) = &self.life else { return };
        let finishing = Finishing {
            action,
            effects,
            deadline: busy.deadline,
            deletes: false,
            streams: (Streams::No, open.stream),
        };
        self.finishing.push((busy.id, finishing));
        self.finish(busy.id);
        if self.config.remembers && !self.config.trusts_refusals {
            self.close();
        }
    }

    /// Planted: the caller hears before the entity does.
    #[cfg(planted)]
    pub(super) fn answer_early(&mut self) {
        if let Some(id) = self.committing.as_ref().map(|committing| committing.id) {
            self.finish(id);
        }
    }

    pub(super) fn on_joined(&mut self, id: CommandId, left: Option<View>) {
        let Some(committing) = self.committing.take_if(|committing| committing.id == id) else {
            return;
        };
        if let Life::Open(open) = &mut self.life {
            open.idle_since = self.now;
            // Of what was nothing, or is, its function is told by the long way.
            let goes_on = |view: &View| view.value().is_some() && view.ty() == open.seen.ty();
            let Committing {
                keys, votes, deletes, ..
            } = committing;
            open.left = left.filter(goes_on).map(|view| Box::new(Left { view, keys }));
            open.is_unsure = open.left.is_none() && self.config.remembers;
            open.recounts |= open.is_unsure && votes;
            if deletes {
                open.believes = None;
                self.pass_on();
                self.end_streams(true);
                self.close();
            }
        }
    }

    pub(super) fn on_committed(&mut self, id: CommandId, result: Result<(), Error>) {
        // Of other errors nobody knows for sure whether they changed something: a new life begins with what is there.
        let is_in = result
            .as_ref()
            .err()
            .is_none_or(|error| error.kind() == ErrorKind::Unconfirmed);
        if is_in {
            self.on_joined(id, None);
        } else if self
            .committing
            .take_if(|committing| committing.id == id)
            .is_some()
        {
            // The function believes that it did what was refused.
            let error = result.as_ref().err();
            let is_its_fault = |kind| matches!(kind, ErrorKind::Invalid | ErrorKind::WrongType);
            if let Some(error) = error.filter(|error| is_its_fault(error.kind())) {
                let what = format!("it did to its entity what cannot be done: {error}");
                self.outputs.push_back(Output::Report { what });
            }
            self.reset();
        }
        match result {
            Ok(()) => self.finish(id),
            Err(error) => {
                self.take_finishing(id);
                let error = refused(&self.config.entity, error);
                self.answer(id, Err(error));
            }
        }
    }

    /// It is in, where its level wants it: what else it wants is next, and then its caller.
    pub(super) fn finish(&mut self, id: CommandId) {
        let Some((_, finishing)) = self.finishing.iter_mut().find(|(other, _)| *other == id) else {
            return;
        };
        let effects = std::mem::take(&mut finishing.effects);
        let waits = effects.iter().any(|effect| effect.awaited);
        if !effects.is_empty() {
            let deadline = finishing.deadline;
            self.outputs.push_back(Output::Effects {
                id,
                effects,
                deadline,
            });
        }
        if !waits {
            self.answer_finished(id);
        }
    }

    pub(super) fn answer_finished(&mut self, id: CommandId) {
        match self.take_finishing(id) {
            Some(finishing) if finishing.streams.0 != Streams::No => self.begin_stream(id, finishing),
            Some(finishing) => {
                let result = match finishing.action {
                    Action::Refuse(error) => Err(error),
                    action => Ok(action),
                };
                self.answer(id, result);
            }
            None => {}
        }
    }

    fn take_finishing(&mut self, id: CommandId) -> Option<Finishing> {
        let at = self.finishing.iter().position(|(other, _)| *other == id)?;
        Some(self.finishing.swap_remove(at).1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::route::goes_on;
    use super::*;
    use crate::wire::WireError;

    #[test]
    fn a_refusal_in_the_words_of_a_forward_is_not_taken_for_one() {
        let to = EntityId::new("cart", "b").unwrap();
        let refused = Error::new(ErrorKind::Refused, "what was asked for is in the shop");
        for refused in [WireError::of(&refused).read(), refused] {
            let told = forward_failed(&to, &refused);
            assert_eq!(
                (told.kind(), told.changed()),
                (ErrorKind::Unanswered, Changed::Yes)
            );
        }
        let unanswered = Error::new(ErrorKind::Unanswered, "what was asked for is in its queue");
        let told = forward_failed(&to, &WireError::of(&unanswered).read());
        assert!(told.message().contains("cart/b"), "{told}");
        assert!(told.changed_state());
    }

    #[test]
    fn a_function_that_says_that_nothing_changed_is_not_believed_of_what_it_called() {
        let lost = Error::new(ErrorKind::Lost, "nothing changed: I think");
        for lost in [WireError::of(&lost).read(), lost] {
            assert!(lost.changed_state(), "{lost}");
        }
    }

    #[test]
    fn along_a_chain_of_forwards_a_failure_is_told_once() {
        let entity = |key| EntityId::new("cart", key).unwrap();
        let last = Error::new(ErrorKind::Refused, "no");
        let told = forward_failed(&entity("b"), &last);
        let passed_on = forward_failed(&entity("a"), &told);
        assert_eq!(passed_on.message(), told.message());
        assert!(told.message().ends_with("has failed: no"), "{told}");
    }

    #[test]
    fn a_function_that_has_run_is_not_taken_for_one_that_has_not() {
        let entity = EntityId::new("k", "x").unwrap();
        let of = |kind| {
            refused(
                &entity,
                Error::new(kind, "not accepted, nothing changed: no room"),
            )
        };
        for kind in [ErrorKind::Overloaded, ErrorKind::NotReady, ErrorKind::Stopping] {
            let error = of(kind);
            assert_eq!(error.kind(), ErrorKind::Lost);
            assert!(
                error.message().contains("has run") && error.message().contains("no room"),
                "{error}"
            );
        }
        // What waits for nobody has done nothing elsewhere.
        let overloaded = Error::new(ErrorKind::Overloaded, "not accepted, nothing changed: no room");
        let alone = refused(&entity, refused_alone(overloaded));
        assert_eq!(alone.kind(), ErrorKind::Overloaded);
        assert!(alone.may_retry() && !alone.changed_state(), "{alone}");
        assert!(
            !goes_on(&alone, false) && goes_on(&alone, true),
            "it has run: {alone}"
        );
        for kind in [
            ErrorKind::Rights,
            ErrorKind::DiskFull,
            ErrorKind::WrongType,
            ErrorKind::Poisoned,
        ] {
            assert_eq!(of(kind).kind(), kind);
        }
    }
}
