//! The one error type of the library, with a kind a program can act on.
//!
//! Each kind's documentation says what is now true and whether to retry. The message is for people: it names
//! the thing that is wrong and what to do about it.

mod changed;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, SerializeStruct, Serializer};

pub use self::changed::Changed;
use crate::payload::{Encoding, Payload, PayloadError};

/// What went wrong, for programs. See each variant for what is now true and whether a retry is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is wrong (an empty key, an operation the type does not have). Nothing changed; the
    /// same request will fail again.
    Invalid,
    /// The entity's kind is new and nothing declares its type. Nothing changed; name a type.
    TypeRequired,
    /// The entity has another type, or its type has no such operation. Nothing changed; the same request will fail
    /// again.
    WrongType,
    /// The idempotency key was used before for a different update. Nothing changed; choose another key.
    KeyReused,
    /// This node does not hold what the operation takes away from a bounded counter, or not yet: what it held before a restart
    /// is its own again once every member has been heard. Nothing changed; retry then, once another node has handed over, or at
    /// a node that holds more.
    Rights,
    /// This node takes no writes yet: its directory is new, or older than what its peers know of it, and it has not caught up. Or a
    /// function is still starting beside it, which may be the one that was called. Nothing changed; retry later or at another node.
    NotReady,
    /// This node has not seen everything that the session has, and what it lacks did not come in time. Nothing changed;
    /// retry later or at another node.
    Stale,
    /// There is no function of this kind here, or it has no such method. Nothing changed; the same call will fail again.
    NoFunction,
    /// The function refused the command; the message is its own. Its entity is as it was. Calls that the function made before it
    /// refused are not undone.
    Refused,
    /// The deadline passed before the function was given the command. Nothing changed; retry later.
    Expired,
    /// The function was given the command and did not answer: it ended, broke its rules, or took too long; or its node had no
    /// room for what it did. Its entity is as it was. What the function did elsewhere is not known: retry only what may safely run
    /// twice. A method that waits for nobody has done nothing elsewhere; [`Error::changed`] says so then.
    Lost,
    /// Another node was called, or a function forwarded the call after a change of its own, and the answer did not come, or was
    /// not what its caller expects. Something may have changed, as the message says: retry only what may safely run twice.
    Unanswered,
    /// A bounded queue is full. Nothing changed; retry later.
    Overloaded,
    /// The disk is full. Nothing changed, or, where [`Error::changed`] says otherwise, the update is visible and becomes durable
    /// once there is space. Retry with the same idempotency key.
    DiskFull,
    /// The store failed and takes no more writes until the node is restarted. Updates that were not
    /// acknowledged may or may not be there afterwards; retry with the same idempotency key.
    Poisoned,
    /// Accepted here, but fewer copies than asked for confirmed it in time. It is not rolled back and goes on
    /// replicating; a retry with the same idempotency key waits again without applying it twice.
    Unconfirmed,
    /// There is no link with the node that was asked. Nothing changed; retry later, or at another node.
    Unreachable,
    /// The node is stopping. Nothing changed; retry at another node.
    Stopping,
    /// Configuration: a bad value, an unknown key, a missing file. Nothing was started.
    Config,
    /// The data directory belongs to another node or cluster. Nothing was changed in it.
    Directory,
    /// The data directory was written by a newer version. Nothing was changed in it.
    NewerFormat,
    /// The data directory or the address is in use by another process. Nothing was changed, unless [`Error::changed`] says
    /// otherwise.
    InUse,
    /// Stored bytes are damaged. Nothing was changed; the message names the file and the offset.
    Corrupt,
    /// The operating system refused (files, sockets). The message says which call on what. Nothing changed, and it may succeed
    /// later or at another node; or, where [`Error::changed`] says that what changed is not known, the update becomes durable
    /// once the system takes it, or the node stopped for this before it could answer: retry with the same idempotency key.
    Io,
    /// Certificates or keys are missing, do not fit together, or are of another cluster. Nothing was started.
    Identity,
    /// A bug in Anabranch. Please report it with the message. Where [`Error::changed`] says that what changed is not known, the node
    /// stopped for this before it could answer: the update may or may not be there afterwards; retry only with the same
    /// idempotency key.
    Internal,
}

impl ErrorKind {
    /// Every kind.
    const ALL: [ErrorKind; 26] = [
        ErrorKind::Invalid,
        ErrorKind::TypeRequired,
        ErrorKind::WrongType,
        ErrorKind::KeyReused,
        ErrorKind::Rights,
        ErrorKind::NotReady,
        ErrorKind::Stale,
        ErrorKind::NoFunction,
        ErrorKind::Refused,
        ErrorKind::Expired,
        ErrorKind::Lost,
        ErrorKind::Unanswered,
        ErrorKind::Overloaded,
        ErrorKind::DiskFull,
        ErrorKind::Poisoned,
        ErrorKind::Unconfirmed,
        ErrorKind::Unreachable,
        ErrorKind::Stopping,
        ErrorKind::Config,
        ErrorKind::Directory,
        ErrorKind::NewerFormat,
        ErrorKind::InUse,
        ErrorKind::Corrupt,
        ErrorKind::Io,
        ErrorKind::Identity,
        ErrorKind::Internal,
    ];

    /// The kind of this name.
    pub(crate) fn from_name(name: &str) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// A stable lower-case name, used in JSON answers.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Invalid => "invalid",
            ErrorKind::TypeRequired => "type_required",
            ErrorKind::WrongType => "wrong_type",
            ErrorKind::KeyReused => "key_reused",
            ErrorKind::Rights => "rights",
            ErrorKind::NotReady => "not_ready",
            ErrorKind::Stale => "stale",
            ErrorKind::NoFunction => "no_function",
            ErrorKind::Refused => "refused",
            ErrorKind::Expired => "expired",
            ErrorKind::Lost => "lost",
            ErrorKind::Unanswered => "unanswered",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::DiskFull => "disk_full",
            ErrorKind::Poisoned => "poisoned",
            ErrorKind::Unconfirmed => "unconfirmed",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Stopping => "stopping",
            ErrorKind::Config => "config",
            ErrorKind::Directory => "directory",
            ErrorKind::NewerFormat => "newer_format",
            ErrorKind::InUse => "in_use",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Io => "io",
            ErrorKind::Identity => "identity",
            ErrorKind::Internal => "internal",
        }
    }
}

/// Its [`name`](ErrorKind::name).
///
/// ```
/// assert_eq!(anabranch::ErrorKind::NotReady.to_string(), "not_ready");
/// ```
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An error: its kind, and a message that says what is now true and what to do.
///
/// ```
/// use anabranch::{Error, ErrorKind};
/// let e = Error::new(ErrorKind::NotReady, "shard 3 has not caught up; retry at another node");
/// assert!(e.may_retry());
/// assert!(!e.changed_state());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    details: Option<Box<Payload>>,
    /// Made again it counts once: it had an idempotency key.
    is_keyed: bool,
    changed: Changed,
    /// The bytes of the token of what its session has seen, if it has seen more although this came back.
    session: Option<Box<[u8]>>,
}

impl Error {
    /// An error of this kind with this message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            details: None,
            is_keyed: false,
            changed: Changed::of(kind),
            session: None,
        }
    }

    /// The same of a session that has seen this with it: `Token::of_error` reads it.
    pub(crate) fn with_session(self, token: Vec<u8>) -> Error {
        let session = Some(token.into_boxed_slice());
        Error { session, ..self }
    }

    pub(crate) fn session(&self) -> Option<&[u8]> {
        self.session.as_deref()
    }

    /// The same of what is known to have changed this.
    pub(crate) fn with_changed(self, changed: Changed) -> Error {
        Error { changed, ..self }
    }

    /// An error as it was written for another node, or by a function into one of its own.
    pub(crate) fn of_carried(kind: ErrorKind, message: String) -> Error {
        let changed = Changed::said(kind, &message);
        Error::new(kind, message).with_changed(changed)
    }

    /// Its message as it is written there: whoever reads it, in whichever version, reads the same of what has changed.
    pub(crate) fn carried_message(&self) -> Cow<'_, str> {
        self.changed.say(self.kind, &self.message)
    }

    /// The same with what a function says of why it refused, for programs.
    pub(crate) fn with_details(self, details: Payload) -> Error {
        Error {
            details: Some(Box::new(details)),
            ..self
        }
    }

    /// The same of an update that had an idempotency key.
    #[cfg(feature = "quic")]
    pub(crate) fn keyed(self) -> Error {
        let is_keyed = true;
        Error { is_keyed, ..self }
    }

    /// The same as one of another kind.
    #[cfg(feature = "quic")]
    pub(crate) fn with_kind(self, kind: ErrorKind) -> Error {
        let changed = Changed::of(kind);
        Error {
            kind,
            changed,
            ..self
        }
    }

    /// What the function said of why it refused, as the type that it refused with; nothing if it said nothing, or something
    /// else.
    pub fn details<T: DeserializeOwned>(&self) -> Option<T> {
        self.details.as_ref()?.read().ok()
    }

    /// The same as bytes.
    pub fn details_payload(&self) -> Option<&Payload> {
        self.details.as_deref()
    }

    /// What went wrong, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same request may succeed later, here or at another node, and counts once then: nothing was changed; or it was
    /// an update with an idempotency key, and is made again with that, at the same node. What was made without one would be made
    /// twice.
    ///
    /// ```
    /// use anabranch::{Error, ErrorKind};
    ///
    /// assert!(Error::new(ErrorKind::Overloaded, "nothing changed: a queue is full").may_retry());
    /// assert!(!Error::new(ErrorKind::Unconfirmed, "accepted here, 1 of 3 copies confirmed").may_retry());
    /// ```
    pub fn may_retry(&self) -> bool {
        if self.changed_state() {
            return self.is_keyed && !matches!(self.kind, ErrorKind::Unanswered | ErrorKind::Lost);
        }
        matches!(
            self.kind,
            ErrorKind::Rights
                | ErrorKind::NotReady
                | ErrorKind::Stale
                | ErrorKind::Expired
                | ErrorKind::Overloaded
                | ErrorKind::DiskFull
                | ErrorKind::Io
                | ErrorKind::Unreachable
                | ErrorKind::Stopping
        )
    }

    /// Whether the same may go another way when it is tried again: it may be retried, or what became of it is not known; or it was
    /// refused with such an error of something else.
    pub(crate) fn is_open(&self) -> bool {
        match self.kind {
            ErrorKind::Refused => self.details::<Passed>().is_some_and(|passed| passed.open),
            ErrorKind::Lost | ErrorKind::Internal => true,
            _ => self.may_retry() || self.changed_state(),
        }
    }

    /// Whether anything has changed although this error came back, here or (by a function) elsewhere.
    ///
    /// ```
    /// use anabranch::{Changed, Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Unconfirmed, "accepted here, 1 of 3 copies confirmed");
    /// assert_eq!(error.changed(), Changed::Yes);
    /// ```
    pub fn changed(&self) -> Changed {
        self.changed
    }

    /// Whether the update is (or may be) visible although this error came back, or the function may have changed something
    /// elsewhere: see [`Error::changed`].
    pub fn changed_state(&self) -> bool {
        matches!(self.changed, Changed::Yes | Changed::Unknown)
    }

    /// Whether it says that no function was given what was asked for.
    pub(crate) fn has_not_begun(&self) -> bool {
        changed::has_not_begun(self.kind) && self.changed == Changed::No
    }
}

/// What an error says of itself where a function has refused with it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Passed {
    error: String,
    message: String,
    open: bool,
}

/// Its kind's name, its message, and whether it leaves open what a repeat comes to (of a kind that no node has a function of, one
/// may have it then): so that a function can refuse with an error of a call that it made.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Error", 3)?;
        fields.serialize_field("error", self.kind.name())?;
        fields.serialize_field("message", &self.carried_message())?;
        fields.serialize_field("open", &(self.is_open() || self.kind == ErrorKind::NoFunction))?;
        fields.end()
    }
}

/// What [`Error`] writes: so that a type that has one in it can be read by whoever is refused with it. Of a kind that only a later
/// version has it is [`ErrorKind::Unanswered`], as when it is heard from a node. What a function said of its refusal is not in it,
/// but whether it left anything open is.
impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Error, D::Error> {
        let passed = Passed::deserialize(deserializer)?;
        let kind = ErrorKind::from_name(&passed.error).unwrap_or(ErrorKind::Unanswered);
        let error = Error::of_carried(kind, passed.message.clone());
        if kind != ErrorKind::Refused || !passed.open {
            return Ok(error);
        }
        // The others' kinds say it.
        let details = Payload::of(Encoding::Cbor, &passed).map_err(serde::de::Error::custom)?;
        Ok(error.with_details(details))
    }
}

/// An argument that cannot be written is wrong.
impl From<PayloadError> for Error {
    fn from(error: PayloadError) -> Error {
        Error::new(ErrorKind::Invalid, error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As applications have them.
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum OrderError {
        SoldOut { left: u32 },
        Stock(Error),
    }

    const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::Cbor, Encoding::Postcard];

    fn read_back(error: &Error, encoding: Encoding) -> Error {
        let written = Payload::of(encoding, &OrderError::Stock(error.clone())).unwrap();
        match written.read() {
            Ok(OrderError::Stock(read)) => read,
            other => panic!("{error:?}: {other:?}"),
        }
    }

    #[test]
    fn an_error_within_an_applications_own_is_read_as_what_it_was() {
        for encoding in ENCODINGS {
            for kind in ErrorKind::ALL {
                for message in ["that is so", "accepted here", "nothing changed: no"] {
                    let error = Error::new(kind, message);
                    let read = read_back(&error, encoding);
                    assert_eq!(read.kind(), kind);
                    // In the words that every version reads.
                    assert!(read.message().ends_with(message), "{read}");
                    assert_eq!(read.changed(), error.changed(), "{kind:?}");
                    assert_eq!(read.is_open(), error.is_open(), "{kind:?}");
                    assert_eq!(read.may_retry(), error.may_retry(), "{kind:?}");
                    assert_eq!(read.changed_state(), error.changed_state(), "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_that_left_something_open_does_so_however_often_it_is_read() {
        for encoding in ENCODINGS {
            let cause = Payload::of(encoding, &Error::new(ErrorKind::Overloaded, "a queue is full")).unwrap();
            let open = Error::new(ErrorKind::Refused, "no").with_details(cause);
            assert!(open.is_open());
            for again in ENCODINGS {
                let read = read_back(&read_back(&open, encoding), again);
                assert_eq!((read.kind(), read.message()), (ErrorKind::Refused, "no"));
                assert!(read.is_open(), "{encoding:?} {again:?}");
            }
        }
    }

    #[test]
    fn what_is_no_error_is_not_read_as_one() {
        for text in [
            "null",
            "5",
            "\"io\"",
            "{}",
            "{\"error\":\"io\",\"message\":\"x\"}",
            "{\"error\":7,\"message\":\"x\",\"open\":true}",
        ] {
            assert!(serde_json::from_str::<Error>(text).is_err(), "{text}");
        }
        let whole = Payload::of(Encoding::Postcard, &Error::new(ErrorKind::Io, "a disk")).unwrap();
        for end in 0..whole.bytes.len() {
            assert!(postcard::from_bytes::<Error>(&whole.bytes[..end]).is_err());
        }
        let later = "{\"error\":\"of_a_later_version\",\"message\":\"x\",\"open\":false}";
        let later: Error = serde_json::from_str(later).unwrap();
        assert_eq!((later.kind(), later.message()), (ErrorKind::Unanswered, "x"));
    }
}
