//! One thing that a node has found itself to see to: a time of a schedule, or a change that a function is to be told of.
//!
//! Not here: who makes the calls. Contract: a time is noted as done once its call was answered, and not before; what was not
//! answered is due again.

use anabranch_crdt::planted;

use super::changes::{Telling, Trigger};
use super::function::SCHEDULE;
use super::order::Slot;
use super::planner::Fire;
use crate::engine::Engine;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::{Error, ErrorKind};
use crate::function::Change;
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::wire::EntityId;

/// What a node knows that an errand goes by.
pub trait Home {
    /// Whether it has a function of this kind.
    fn has_function(&self, kind: &str) -> bool;

    /// What stands for the state in which an entity is there now: see [`state_of`].
    fn state_of(&self, entity: &EntityId) -> u64;
}

/// What stands for the state in which an entity is: alike at all nodes where the same operations show of it, also after a restart,
/// and another once others do, though they come to the same value. 0 where nothing shows.
pub fn state_of(engine: &Engine, entity: &EntityId) -> u64 {
    let view = engine.view_as_it_is(entity);
    view.value()
        .filter(|value| value.exists())
        .map_or(0, |value| value.digest())
}

/// What was to be done, and whether it was.
#[derive(Clone, Debug)]
pub struct Ended {
    pub(super) of: Of,
    pub(super) was_answered: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Of {
    Fire { name: String, slot: Slot },
    Change(Telling),
}

/// What an errand wants next.
#[derive(Clone, Debug)]
pub enum Next {
    /// This call is to be made at whichever node has the function, within so many milliseconds.
    Anywhere(Call, u64),
    /// This one is to be made here.
    Here(Call, u64),
    /// That is all: whether it was answered.
    Over(bool),
}

/// One call that a schedule or a change makes due, with the steps before and after it: ask [`Next`] what to do until it is over.
#[derive(Debug)]
pub struct Errand {
    of: Of,
    stage: Stage,
    /// What is said of it in the log.
    about: String,
    has_function: bool,
}

#[derive(Debug)]
enum Stage {
    /// A schedule's call, if its time is made good.
    Fire(Option<(Call, u64)>),
    Tell(Trigger),
    /// The function is called: of a schedule, for this time.
    Called {
        slot: Option<Slot>,
    },
    /// The schedule hears that its time is done.
    Noting,
}

impl Errand {
    pub(super) fn of_fire(fire: Fire) -> Errand {
        let Fire { name, slot, call } = fire;
        Errand {
            about: format!("schedule {name} at {}", slot.ms),
            of: Of::Fire { name, slot },
            stage: Stage::Fire(call),
            has_function: true,
        }
    }

    pub(super) fn of_change(telling: Telling, trigger: Trigger) -> Errand {
        Errand {
            about: format!("{}, told of {}", trigger.name, telling.entity),
            of: Of::Change(telling),
            stage: Stage::Tell(trigger),
            has_function: true,
        }
    }

    /// How it ended, to be said once it has: also if nobody came to carry it out.
    pub fn ended(&self, was_answered: bool) -> Ended {
        let of = self.of.clone();
        Ended { of, was_answered }
    }

    /// What is to be done first.
    pub fn begin(&mut self, here: &dyn Home) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Called { slot: None }) {
            Stage::Fire(call) => self.fire(call, here),
            Stage::Tell(trigger) => match tell(&self.of, &trigger, here) {
                Ok(call) => Next::Anywhere(call, TIMEOUT_MS_DEFAULT),
                Err(error) => Next::Over(self.is_answer(&Err(error))),
            },
            begun => {
                self.stage = begun;
                Next::Over(false)
            }
        }
    }

    fn fire(&mut self, call: Option<(Call, u64)>, here: &dyn Home) -> Next {
        let Of::Fire { slot, .. } = &self.of else {
            return Next::Over(false);
        };
        self.stage = Stage::Called { slot: Some(*slot) };
        let Some((call, timeout_ms)) = call else {
            return self.note_done(); // missed, and not made good
        };
        self.has_function = here.has_function(call.entity.kind());
        self.about = format!("{call}, for {}", self.about);
        Next::Anywhere(call, timeout_ms)
    }

    /// What it wanted done was answered so.
    pub fn heard(&mut self, result: &Result<Payload, Error>) -> Next {
        let is_answer = self.is_answer(result);
        match self.stage {
            Stage::Called { slot: Some(_) } => {
                // That those that are there now have no such function is no answer of it.
                let is_nobody = |error: &Error| error.kind() == ErrorKind::NoFunction && !self.has_function;
                let is_answered = is_answer && !result.as_ref().is_err_and(is_nobody);
                if planted!("fire_done_unanswered", true, is_answered) {
                    return self.note_done();
                }
                Next::Over(false)
            }
            Stage::Called { slot: None } | Stage::Noting => Next::Over(is_answer),
            Stage::Fire(_) | Stage::Tell(_) => Next::Over(false),
        }
    }

    fn note_done(&mut self) -> Next {
        self.stage = Stage::Noting;
        let Of::Fire { name, slot } = &self.of else {
            return Next::Over(false);
        };
        match done(name, *slot) {
            Ok(call) => Next::Here(call, TIMEOUT_MS_DEFAULT),
            Err(error) => Next::Over(self.is_answer(&Err(error))),
        }
    }

    /// Whether a function has answered: also that it will not, but not that something which it called could not be done now.
    fn is_answer(&self, result: &Result<Payload, Error>) -> bool {
        let Err(error) = result else { return true };
        tracing::warn!("{}, has failed: {error}", self.about);
        // What fewer nodes have than were to is done.
        !error.is_open() || error.kind() == ErrorKind::Unconfirmed
    }
}

/// What tells a function of a change. Its name is the same while the entity is.
fn tell(of: &Of, trigger: &Trigger, here: &dyn Home) -> Result<Call, Error> {
    let Of::Change(Telling { entity, .. }) = of else {
        return Err(Error::new(ErrorKind::Invalid, "no change"));
    };
    let target = EntityId::new(&trigger.function, entity.key())?;
    let change = Change {
        kind: entity.kind().to_owned(),
        key: entity.key().to_owned(),
    };
    let argument = Payload::of(Encoding::Cbor, &change)?;
    let state = here.state_of(entity);
    let call = Call::new(target, trigger.method.clone(), argument);
    Ok(call.with_id(format!("{entity}#{state:x}")))
}

/// What a schedule is told of its time.
fn done(name: &str, slot: Slot) -> Result<Call, Error> {
    let entity = EntityId::new(SCHEDULE, name)?;
    let slot = Payload::of(Encoding::Cbor, &slot)?;
    Ok(Call::new(entity, "done", slot))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::Arc;

    use anabranch_crdt::ReplicaId;
    use serde::Serialize;

    use super::*;
    use crate::function::state::PnCounter;
    use crate::function::{Context, Function};
    use crate::session::{Action, Command, CommandId, Origin, Said};
    use crate::terms::Time;
    use crate::trigger::changes::Changes;
    use crate::view::View;
    use crate::wire::{ShardId, WireError};

    struct Nobody;

    impl Home for Nobody {
        fn has_function(&self, _: &str) -> bool {
            true
        }

        fn state_of(&self, _: &EntityId) -> u64 {
            0
        }
    }

    /// What a caller hears of a command that fails with this, as it comes from another node.
    fn refused<E: std::fmt::Display + Serialize + Clone + Send + Sync + 'static>(
        with: &E,
        encoding: Encoding,
    ) -> Error {
        let with = with.clone();
        let function: Function = Function::of::<PnCounter>("n")
            .command("note", move |_, _, ()| Err::<(), E>(with.clone()))
            .into();
        let entity = EntityId::new("n", "a").unwrap();
        let command = Command {
            method: "note".into(),
            payload: Payload::of(encoding, &()).unwrap(),
            deadline: Time(u64::MAX),
            origin: Origin::default(),
        };
        let view = View {
            entity: entity.clone(),
            shard: ShardId(0),
            ty: None,
            value: None,
            replicas: Arc::default(),
            heir: None,
        };
        let context = Context::new(entity, ReplicaId::default(), 0, 0);
        let said = function.run(CommandId(1), &command, view, context);
        let Said::Reply(reply) = said else {
            panic!("{said:?}")
        };
        let Action::Refuse(error) = reply.action else {
            panic!("it is refused");
        };
        WireError::of(&error).read()
    }

    fn is_over(error: Error) -> bool {
        let trigger = Trigger {
            name: "cart n note".into(),
            kind: "cart".into(),
            key: None,
            function: "n".into(),
            method: "note".into(),
        };
        let mut changes = Changes::new(vec![trigger.clone()]);
        changes.see_to(1, &|_, _| true);
        changes.changed(&EntityId::new("cart", "a").unwrap(), 0);
        let telling = changes.poll(0).remove(0);
        let mut told = Errand::of_change(telling, trigger);
        let Next::Anywhere(..) = told.begin(&Nobody) else {
            panic!("it calls");
        };
        matches!(told.heard(&Err(error)), Next::Over(true))
    }

    #[test]
    fn a_change_is_told_again_when_its_function_failed_with_what_it_called() {
        for encoding in [Encoding::Cbor, Encoding::Json, Encoding::Postcard] {
            let refused = |kind| refused(&Error::new(kind, "that"), encoding);
            for kind in [
                ErrorKind::Overloaded,
                ErrorKind::Lost,
                ErrorKind::Unanswered,
                ErrorKind::Unconfirmed,
                ErrorKind::Stopping,
                ErrorKind::NoFunction,
            ] {
                let error = refused(kind);
                assert_eq!(error.kind(), ErrorKind::Refused, "other nodes would be asked");
                assert!(!is_over(error), "{kind:?} {encoding:?}");
            }
            for kind in [ErrorKind::Refused, ErrorKind::Invalid, ErrorKind::WrongType] {
                assert!(is_over(refused(kind)), "{kind:?} {encoding:?}");
            }
        }
    }

    #[test]
    fn a_change_is_told_again_however_many_functions_have_failed_one_after_the_other() {
        let inner = refused(&Error::new(ErrorKind::Overloaded, "that"), Encoding::Cbor);
        assert!(!is_over(refused(&inner, Encoding::Json)));
        let own = refused(&"no".to_owned(), Encoding::Cbor);
        assert!(is_over(refused(&own, Encoding::Json)));
    }
}
