//! Commands on which a function ends again and again: they are not given to it for a while, so that one of them does not take the
//! function from everybody else. While a function is away because of one, that goes to no other node's.
//!
//! Contract: a command counts as the same by its entity, method and argument; where there are no entities, by the latter. It is parked
//! after [`CRASHES_MAX`] ends in a row, of an entity without ends on others between them, and given to its function once more when
//! [`PARKED_MS`] have passed, and to another function at once. What counts is a function's ends, and not answers that were lost: all
//! callers with the same message under way lose theirs at one.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::engine::Time;
use crate::error::Error;
use crate::wire::EntityId;

/// A function that has ended so many times in a row on a command is not given it again at once.
const CRASHES_MAX: u32 = 3;
/// For so long, milliseconds.
const PARKED_MS: u64 = 60_000;
/// So many ends are kept at most, one an entity; of the others it is not known.
const ENDS_MAX: usize = 10_000;

/// What functions ended on.
#[derive(Debug, Default)]
pub(super) struct Parked(BTreeMap<Place, Crash>);

/// Where one end is kept: an entity has one, and commands that are of no entity have one each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Entity(EntityId),
    Service(String, u64),
}

/// A command, and where its end is kept.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    place: Place,
    command: u64,
}

impl Slot {
    /// Of a command of this name that is an entity's.
    pub(super) fn of_entity(entity: &EntityId, command: u64) -> Slot {
        Slot {
            place: Place::Entity(entity.clone()),
            command,
        }
    }

    /// Of one that is no entity's.
    pub(super) fn of_service(kind: &str, command: u64) -> Slot {
        Slot {
            place: Place::Service(kind.to_owned(), command),
            command,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Entity(entity) => entity.fmt(f),
            Place::Service(kind, _) => write!(f, "{kind}, with this message,"),
        }
    }
}

impl Place {
    fn kind(&self) -> &str {
        match self {
            Place::Entity(entity) => entity.kind(),
            Place::Service(kind, _) => kind,
        }
    }
}

#[derive(Debug)]
struct Crash {
    command: u64,
    times: u32,
    last: Time,
    /// Which time that its function had come it ended then.
    coming: u64,
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
    /// Whether no function has ended on anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How its function has ended on a command, where that is not long ago.
    fn crash(&self, now: Time, slot: &Slot) -> Option<&Crash> {
        let crash = self.0.get(&slot.place)?;
        let is_it = crash.command == slot.command && crash.last.after_ms(PARKED_MS) > now;
        is_it.then_some(crash)
    }

    /// Whether a command may be given to its function.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, now: Time, slot: &Slot, method: &str) -> Result<(), String> {
        let crash = self.crash(now, slot);
        let Some(crash) = crash.filter(|crash| crash.times >= CRASHES_MAX) else {
            return Ok(());
        };
        let until = crash.last.after_ms(PARKED_MS);
        let message = format!(
            "nothing changed: {method} of {slot} is parked: its function has ended on it {} times in a row, at last: {}. It is \
             tried again after {} s",
            crash.times,
            crash.why,
            now.ms_until(until).div_ceil(1_000)
        );
        Err(message)
    }

    /// Whether its function may be away because of it.
    pub(super) fn is_suspect(&self, now: Time, slot: &Slot) -> bool {
        self.crash(now, slot).is_some()
    }

    /// The function of a kind is another: what the one before it ended on it may not.
    #[cfg_attr(not(feature = "sidecar"), allow(dead_code, reason = "nobody is discovered"))]
    pub(super) fn forget(&mut self, kind: &str) {
        self.0.retain(|place, _| place.kind() != kind);
    }

    /// How a command that was given to its function ended: with its answer, or with the function, which had come this many times.
    pub(super) fn note(&mut self, now: Time, slot: Slot, coming: u64, end: Option<&Error>) {
        if self.0.len() >= ENDS_MAX {
            // What is tried again anyway need not be remembered.
            self.0.retain(|_, crash| crash.last.after_ms(PARKED_MS) > now);
        }
        let has_room = self.0.len() < ENDS_MAX;
        let Slot { place, command } = slot;
        match (self.0.get_mut(&place), end) {
            (Some(crash), None) if crash.command == command => {
                self.0.remove(&place);
            }
            // Another caller's answer was lost with that.
            (Some(crash), Some(_)) if (crash.command, crash.coming) == (command, coming) => {}
            (Some(crash), Some(error)) => {
                let is_same = crash.command == command;
                crash.times = if is_same { crash.times.saturating_add(1) } else { 1 };
                (crash.command, crash.last, crash.coming) = (command, now, coming);
                error.message().clone_into(&mut crash.why);
            }
            (None, Some(error)) if has_room => {
                let crash = Crash {
                    command,
                    times: 1,
                    last: now,
                    coming,
                    why: error.message().to_owned(),
                };
                self.0.insert(place, crash);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn slot(key: &str, command: u64) -> Slot {
        Slot::of_entity(&EntityId::new("k", key).unwrap(), command)
    }

    fn lost() -> Error {
        Error::new(ErrorKind::Lost, "it is gone")
    }

    #[test]
    fn a_command_is_parked_for_its_entity_after_three_ends_in_a_row() {
        let mut parked = Parked::default();
        let (x1, x2, y1, lost) = (slot("x", 1), slot("x", 2), slot("y", 1), lost());
        let at = |ms| Time(0).after_ms(ms);
        for times in 1..=CRASHES_MAX {
            parked.check(at(0), &x1, "m").unwrap();
            parked.note(at(u64::from(times)), x1.clone(), times.into(), Some(&lost));
        }
        let refused = parked.check(at(3), &x1, "m").unwrap_err();
        assert!(refused.contains("it is gone"), "{refused}");
        // Others are not: neither of another entity, nor another command.
        parked.check(at(3), &y1, "m").unwrap();
        parked.check(at(3), &x2, "m").unwrap();
        parked.note(at(3), x2, 4, None);
        parked.check(at(3), &x1, "m").unwrap_err();
        // It is tried once more, and parked again at once.
        parked.check(at(3 + PARKED_MS), &x1, "m").unwrap();
        parked.note(at(3 + PARKED_MS), x1.clone(), 4, Some(&lost));
        parked.check(at(4 + PARKED_MS), &x1, "m").unwrap_err();
        parked.note(at(5 + 2 * PARKED_MS), x1.clone(), 5, None);
        parked.check(at(5 + 2 * PARKED_MS), &x1, "m").unwrap();
        assert!(parked.is_empty());
    }

    #[test]
    fn a_command_is_a_suspect_from_the_first_end_on_it() {
        let mut parked = Parked::default();
        let (x1, x2) = (slot("x", 1), slot("x", 2));
        assert!(!parked.is_suspect(Time(0), &x1));
        parked.note(Time(0), x1.clone(), 1, Some(&lost()));
        assert!(parked.is_suspect(Time(1), &x1) && !parked.is_suspect(Time(1), &x2));
        assert!(!parked.is_suspect(Time(0).after_ms(PARKED_MS), &x1));
    }

    #[test]
    fn a_command_stayed_parked_when_its_function_was_mended() {
        let mut parked = Parked::default();
        let slots = [slot("x", 1), Slot::of_service("s", 1), Slot::of_service("t", 1)];
        for slot in &slots {
            for coming in 1..=u64::from(CRASHES_MAX) {
                parked.note(Time(0), slot.clone(), coming, Some(&lost()));
            }
            parked.check(Time(0), slot, "m").unwrap_err();
        }
        parked.forget("k");
        parked.check(Time(0), &slots[0], "m").unwrap();
        assert!(!parked.is_suspect(Time(0), &slots[0]));
        parked.check(Time(0), &slots[1], "m").unwrap_err();
        parked.forget("s");
        parked.check(Time(0), &slots[1], "m").unwrap();
        parked.check(Time(0), &slots[2], "m").unwrap_err();
    }

    #[test]
    fn ends_that_are_not_in_a_row_do_not_count() {
        let mut parked = Parked::default();
        for (coming, command) in (1..).zip([1, 1, 2, 1, 1]) {
            parked.check(Time(0), &slot("x", command), "m").unwrap();
            parked.note(Time(0), slot("x", command), coming, Some(&lost()));
        }
        parked.check(Time(0), &slot("x", 1), "m").unwrap();
    }

    #[test]
    fn one_end_with_three_callers_of_the_same_message_parked_it() {
        let mut parked = Parked::default();
        let slot = || Slot::of_service("s", 1);
        for coming in 1..=u64::from(CRASHES_MAX) {
            for _ in 0..5 {
                parked.check(Time(0), &slot(), "m").unwrap();
            }
            for _ in 0..5 {
                parked.note(Time(0), slot(), coming, Some(&lost()));
            }
        }
        parked.check(Time(0), &slot(), "m").unwrap_err();
    }

    #[test]
    fn what_is_no_entitys_is_parked_each_by_itself() {
        let mut parked = Parked::default();
        let slot = |command| Slot::of_service("s", command);
        for (coming, command) in (1..).zip([1, 2, 1, 2, 1]) {
            parked.check(Time(0), &slot(command), "m").unwrap();
            parked.note(Time(0), slot(command), coming, Some(&lost()));
        }
        let refused = parked.check(Time(0), &slot(1), "m").unwrap_err();
        assert!(
            refused.starts_with("nothing changed: m of s, with this message, is parked"),
            "{refused}"
        );
        parked.check(Time(0), &slot(2), "m").unwrap();
        parked.check(Time(0), &slot(3), "m").unwrap();
    }
}
