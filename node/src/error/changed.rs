//! Whether what failed has changed anything, as a program can read it.
//!
//! Not here: what else an error says. Contract: no text of a user's decides it. Between nodes, and within an application's own error,
//! there is no field for it: earlier versions have none, and go by how a message begins. So it is written there, and read from there,
//! in their words, and nowhere else.

use std::borrow::Cow;

use super::ErrorKind;

/// How a message begins of what failed after what was asked for was in.
const IS_IN: &str = "what was asked for is in";
/// Of what a function did, has left nothing, and could go in nowhere.
const IS_NOT_IN: &str = "nothing changed: what the function did is not in";
/// Of nothing.
const NOTHING: &str = "nothing changed";
/// Of what may be there although its node could not say so.
const ACCEPTED: &str = "accepted";

/// Whether a request that failed has changed anything, as far as is known. See [`Error::changed`](crate::Error::changed).
///
/// ```
/// use anabranch::{Changed, Error, ErrorKind};
///
/// assert_eq!(Error::new(ErrorKind::Overloaded, "a queue is full").changed(), Changed::No);
/// assert_eq!(Error::new(ErrorKind::Unanswered, "the link ended").changed(), Changed::Unknown);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Changed {
    /// Nothing: it was given to nobody, or whoever was given it refused.
    No,
    /// Nothing: a function was given it, and has left nothing, here or elsewhere.
    Undone,
    /// That is not known.
    Unknown,
    /// It is in, or the first part of it is.
    Yes,
}

impl Changed {
    /// Of an error of this kind of which nothing else is said.
    pub(super) fn of(kind: ErrorKind) -> Changed {
        match kind {
            ErrorKind::Unconfirmed => Changed::Yes,
            ErrorKind::Lost | ErrorKind::Unanswered | ErrorKind::Poisoned => Changed::Unknown,
            _ => Changed::No,
        }
    }

    /// What an error says by how its message begins, as every version reads it.
    pub(super) fn said(kind: ErrorKind, message: &str) -> Changed {
        let says = |beginning| message.starts_with(beginning);
        match kind {
            ErrorKind::Lost if says(NOTHING) => Changed::Undone,
            ErrorKind::Unanswered if says(IS_IN) => Changed::Yes,
            // What may end a node; those that wait for an answer then are told so.
            ErrorKind::DiskFull | ErrorKind::InUse | ErrorKind::Io | ErrorKind::Internal
                if says(ACCEPTED) =>
            {
                Changed::Unknown
            }
            kind if has_not_begun(kind) && says(IS_NOT_IN) => Changed::Undone,
            kind => Changed::of(kind),
        }
    }

    /// The message of an error that says this of itself, so that every version reads it there.
    pub(super) fn say(self, kind: ErrorKind, message: &str) -> Cow<'_, str> {
        if Changed::said(kind, message) == self || !self.is_said_of(kind) {
            return Cow::Borrowed(message);
        }
        let beginning = match self {
            Changed::No => NOTHING,
            Changed::Undone if kind == ErrorKind::Lost => NOTHING,
            Changed::Undone => IS_NOT_IN,
            Changed::Yes => IS_IN,
            Changed::Unknown if matches!(kind, ErrorKind::Lost | ErrorKind::Unanswered) => {
                "what has changed is not known"
            }
            Changed::Unknown => ACCEPTED,
        };
        Cow::Owned(format!("{beginning}: {message}"))
    }

    /// Whether errors of this kind differ in that this is so: of all others the kind says it.
    fn is_said_of(self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::Lost => matches!(self, Changed::Undone | Changed::Unknown),
            ErrorKind::Unanswered => matches!(self, Changed::Yes | Changed::Unknown),
            ErrorKind::DiskFull | ErrorKind::InUse | ErrorKind::Io | ErrorKind::Internal => {
                matches!(self, Changed::No | Changed::Unknown)
            }
            kind => has_not_begun(kind) && matches!(self, Changed::No | Changed::Undone),
        }
    }
}

/// Whether errors of this kind say that no function was given what was asked for, unless they say that it has left nothing.
pub(super) fn has_not_begun(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NoFunction
            | ErrorKind::Unreachable
            | ErrorKind::Overloaded
            | ErrorKind::NotReady
            | ErrorKind::Stopping
            | ErrorKind::Expired
            | ErrorKind::Stale
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_read_as_it_was_written_whatever_a_message_says() {
        let all = [Changed::No, Changed::Undone, Changed::Unknown, Changed::Yes];
        let mut said = 0;
        for kind in ErrorKind::ALL {
            let of_it = all.into_iter().filter(|changed| changed.is_said_of(kind));
            for changed in of_it.chain([Changed::of(kind)]) {
                for message in ["no", NOTHING, ACCEPTED, IS_IN, IS_NOT_IN] {
                    let written = changed.say(kind, message);
                    assert_eq!(Changed::said(kind, &written), changed, "{kind:?}: {written}");
                    assert!(written.ends_with(message), "{written}");
                    // It was carried before.
                    assert_eq!(changed.say(kind, &written), written);
                    said += 1;
                }
            }
        }
        assert!(said > 200, "{said}");
    }

    /// Earlier versions read these words.
    #[test]
    fn what_has_changed_is_written_in_the_words_it_always_was() {
        for (kind, changed, written) in [
            (ErrorKind::Lost, Changed::Undone, "nothing changed: no"),
            (ErrorKind::Lost, Changed::Unknown, "no"),
            (
                ErrorKind::Unanswered,
                Changed::Yes,
                "what was asked for is in: no",
            ),
            (ErrorKind::DiskFull, Changed::Unknown, "accepted: no"),
            (ErrorKind::Io, Changed::No, "no"),
            (
                ErrorKind::Overloaded,
                Changed::Undone,
                "nothing changed: what the function did is not in: no",
            ),
            (ErrorKind::Refused, Changed::No, "no"),
            (ErrorKind::Unconfirmed, Changed::Unknown, "no"),
        ] {
            assert_eq!(changed.say(kind, "no"), written, "{kind:?}");
        }
    }
}
