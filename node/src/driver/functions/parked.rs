//! Commands on which a function ends again and again: they are not given to it for a while, so that one of them does not take the
//! function from everybody else.
//!
//! Contract: a command counts as the same by its entity, method and argument. It is parked after [`CRASHES_MAX`] ends in a row, and
//! given to its function once more when [`PARKED_MS`] have passed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::engine::Time;
use crate::error::{Error, ErrorKind};
use crate::wire::EntityId;

/// A function that has ended so many times in a row on a command is not given it again at once.
const CRASHES_MAX: u32 = 3;
/// For so long, milliseconds.
const PARKED_MS: u64 = 60_000;
/// Of so many entities it is kept what their functions ended on; of the others it is not known.
const ENTITIES_MAX: usize = 10_000;

/// What functions ended on, by entity.
#[derive(Debug, Default)]
pub(super) struct Parked(BTreeMap<EntityId, Crash>);

#[derive(Debug)]
struct Crash {
    command: u64,
    times: u32,
    last: Time,
    /// How it ended the last time.
    why: String,
}

/// Names a command, but for its entity.
pub(super) fn name(method: &str, argument: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (method, argument).hash(&mut hasher);
    hasher.finish()
}

impl Parked {
    /// Whether a function has ended on something of an entity's.
    pub(super) fn knows(&self, entity: &EntityId) -> bool {
        self.0.contains_key(entity)
    }

    /// Whether a command may be given to its function.
    pub(super) fn check(
        &mut self,
        now: Time,
        entity: &EntityId,
        command: u64,
        method: &str,
    ) -> Result<(), Error> {
        let crash = self.0.get(entity).filter(|crash| crash.command == command);
        let Some(crash) = crash.filter(|crash| crash.times >= CRASHES_MAX) else {
            return Ok(());
        };
        let until = crash.last.after_ms(PARKED_MS);
        if until <= now {
            return Ok(());
        }
        let message = format!(
            "nothing changed: {method} of {entity} is parked: its function has ended on it {} times in a row, at last: {}. It is \
             tried again after {} s",
            crash.times,
            crash.why,
            now.ms_until(until).div_ceil(1_000)
        );
        Err(Error::new(ErrorKind::Refused, message))
    }

    /// How a command that was given to its function ended: with its answer, or with the function.
    pub(super) fn note(&mut self, now: Time, entity: &EntityId, command: u64, end: Option<&Error>) {
        if self.0.len() >= ENTITIES_MAX {
            // What is tried again anyway need not be remembered.
            self.0.retain(|_, crash| crash.last.after_ms(PARKED_MS) > now);
        }
        let has_room = self.0.len() < ENTITIES_MAX;
        match (self.0.get_mut(entity), end) {
            (Some(crash), None) if crash.command == command => {
                self.0.remove(entity);
            }
            (Some(crash), Some(error)) => {
                let is_same = crash.command == command;
                crash.times = if is_same { crash.times.saturating_add(1) } else { 1 };
                (crash.command, crash.last) = (command, now);
                error.message().clone_into(&mut crash.why);
            }
            (None, Some(error)) if has_room => {
                let crash = Crash {
                    command,
                    times: 1,
                    last: now,
                    why: error.message().to_owned(),
                };
                self.0.insert(entity.clone(), crash);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_parked_for_its_entity_after_three_ends_in_a_row() {
        let mut parked = Parked::default();
        let entity = |key| EntityId::new("k", key).unwrap();
        let (x, y) = (entity("x"), entity("y"));
        let lost = Error::new(ErrorKind::Lost, "it is gone");
        let at = |ms| Time(0).after_ms(ms);
        for times in 1..=CRASHES_MAX {
            parked.check(at(0), &x, 1, "m").unwrap();
            parked.note(at(u64::from(times)), &x, 1, Some(&lost));
        }
        let refused = parked.check(at(3), &x, 1, "m").unwrap_err();
        assert!(refused.message().contains("it is gone"), "{refused}");
        // Others are not: neither of another entity, nor another command.
        parked.check(at(3), &y, 1, "m").unwrap();
        parked.check(at(3), &x, 2, "m").unwrap();
        parked.note(at(3), &x, 2, None);
        parked.check(at(3), &x, 1, "m").unwrap_err();
        // It is tried once more, and parked again at once.
        parked.check(at(3 + PARKED_MS), &x, 1, "m").unwrap();
        parked.note(at(3 + PARKED_MS), &x, 1, Some(&lost));
        parked.check(at(4 + PARKED_MS), &x, 1, "m").unwrap_err();
        parked.note(at(5 + 2 * PARKED_MS), &x, 1, None);
        parked.check(at(5 + 2 * PARKED_MS), &x, 1, "m").unwrap();
    }

    #[test]
    fn ends_that_are_not_in_a_row_do_not_count() {
        let mut parked = Parked::default();
        let x = EntityId::new("k", "x").unwrap();
        let lost = Error::new(ErrorKind::Lost, "it is gone");
        for command in [1, 1, 2, 1, 1] {
            parked.check(Time(0), &x, command, "m").unwrap();
            parked.note(Time(0), &x, command, Some(&lost));
        }
        parked.check(Time(0), &x, 1, "m").unwrap();
    }
}
