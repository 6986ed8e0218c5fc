//! How a command ends: the failure that people read and the exit code that programs read.
//!
//! Contract: [`CODES`] is the one table of exit codes; the README prints it and a code never changes its meaning.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::api::ErrorBody;
use crate::error::{Error, ErrorKind};

/// The command did what it was asked.
pub const DONE: u8 = 0;
/// The answer is no: not found, they differ.
pub const NO: u8 = 1;
/// Wrong usage of the command line.
pub const USAGE: u8 = 2;

/// One row of the table.
pub struct Code {
    /// What the process ends with.
    pub code: u8,
    /// The failure's name, as in the `error` member of the HTTP API's answers.
    pub name: &'static str,
    /// What it means, for the README.
    pub meaning: &'static str,
}

const fn row(code: u8, name: &'static str, meaning: &'static str) -> Code {
    Code { code, name, meaning }
}

/// Every exit code.
pub const CODES: &[Code] = &[
    row(DONE, "done", "done"),
    row(NO, "no", "the answer is no: not found, the nodes differ"),
    row(USAGE, "usage", "wrong usage of the command line"),
    row(
        3,
        "config",
        "configuration: a bad value, an unknown key, a missing file",
    ),
    row(
        4,
        "identity",
        "certificates or keys are missing, are there already, do not fit together, or are of another cluster",
    ),
    row(5, "in_use", "the directory is in use by another process"),
    row(6, "directory", "the data directory is of another node or cluster"),
    row(
        7,
        "corrupt",
        "stored bytes are damaged; the message names the file and the offset",
    ),
    row(8, "io", "the operating system refused (files, sockets)"),
    row(9, "unreachable", "no node answered at the address"),
    row(10, "invalid", "the request is wrong"),
    row(11, "type_required", "the entity's kind is new and needs a type"),
    row(
        12,
        "wrong_type",
        "the entity has another type, or its type has no such operation",
    ),
    row(
        13,
        "key_reused",
        "the idempotency key was used for a different update",
    ),
    row(
        14,
        "not_ready",
        "the node takes no writes yet, its function is still starting, or it is not linked with the node that the operation names",
    ),
    row(15, "overloaded", "a bounded queue is full"),
    row(16, "disk_full", "the disk is full"),
    row(17, "poisoned", "the node's store failed; it must be restarted"),
    row(
        18,
        "unconfirmed",
        "accepted, but fewer copies than asked for confirmed in time",
    ),
    row(19, "stopping", "the node is stopping"),
    row(
        20,
        "history",
        "a line of the history is bad; the message names it",
    ),
    row(
        21,
        "directory_changed",
        "a node lost its data directory during the replay",
    ),
    row(
        22,
        "unauthorized",
        "the node wants a bearer token, or another one",
    ),
    row(
        23,
        "forbidden",
        "the node refused the Host or the Origin of the request",
    ),
    row(
        24,
        "newer_format",
        "the data directory was written by a newer version",
    ),
    row(25, "address_in_use", "the address is in use by another process"),
    row(
        26,
        "rights",
        "the node does not hold what the operation takes away from a bounded counter",
    ),
    row(
        27,
        "stale",
        "the node has not seen everything that the session has",
    ),
    row(28, "no_function", "no such function, or no such method of it"),
    row(
        29,
        "refused",
        "the function refused the command; its entity is as it was",
    ),
    row(
        30,
        "expired",
        "the deadline passed before the command began; nothing changed",
    ),
    row(
        31,
        "lost",
        "the function did not answer: its entity is as it was, the rest is not known",
    ),
    row(
        32,
        "unanswered",
        "another node was called and did not answer: whether the function ran is not known",
    ),
    row(70, "internal", "a bug in Anabranch"),
];

/// The table, for people.
pub fn table() -> String {
    let rows: Vec<Vec<String>> = CODES
        .iter()
        .map(|row| vec![format!("{:>4}", row.code), row.meaning.to_string()])
        .collect();
    format!("Exit codes:\n{}", super::output::table(&rows))
}

/// Why a command did not do what it was asked. Made from the library's [`Error`], from an HTTP answer, or here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    name: String,
    message: String,
    retry: bool,
    /// Whether it is known that no node was sent anything.
    unsent: bool,
    /// Whether something was (or may have been) changed, as far as that is known.
    changed: Option<bool>,
    /// What a function says of why it refused, for programs.
    details: Option<Value>,
}

/// A failure for programs: the form that errors have in the HTTP API.
#[derive(Serialize)]
struct ForPrograms<'a> {
    error: &'a str,
    message: &'a str,
    retry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
}

impl Failure {
    /// A failure that a retry does not mend.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure {
            name: name.into(),
            message: message.into(),
            retry: false,
            unsent: false,
            changed: None,
            details: None,
        }
    }

    /// The same, with what is known about a retry.
    pub fn retry(self, retry: bool) -> Failure {
        Failure { retry, ..self }
    }

    /// The same, with words before the message that say where it happened.
    pub fn at(self, place: impl fmt::Display) -> Failure {
        Failure {
            message: format!("{place}: {}", self.message),
            ..self
        }
    }

    /// The same, with what went wrong besides.
    pub fn and(self, other: Failure) -> Failure {
        Failure {
            message: format!("{}; and {}", self.message, other.message),
            ..self
        }
    }

    /// The same, of a request that no node was sent.
    pub fn unsent(self) -> Failure {
        Failure {
            unsent: true,
            changed: Some(false),
            ..self
        }
    }

    /// The same, of a request that changes something: where nobody answered with what may have happened all the same, unless
    /// nothing was sent.
    pub fn unsent_or(self, may: &str) -> Failure {
        let failure = match (self.name.as_str(), self.unsent) {
            ("unreachable", true) => self.at("nothing was sent"),
            ("unreachable", false) => self.at(may),
            _ => self,
        };
        failure.or_changed(true)
    }

    /// The same, with whether something was (or may have been) changed, where nobody has said so.
    pub fn or_changed(self, changed: bool) -> Failure {
        Failure {
            changed: self.changed.or(Some(changed)),
            ..self
        }
    }

    /// The same of the last of several requests, with whether any of them has (or may have) changed something.
    pub fn changed(self, changed: bool) -> Failure {
        Failure {
            changed: Some(changed),
            ..self
        }
    }

    /// Wrong usage that the parser could not see.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new("usage", message)
    }

    /// The operating system refused `what`.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Failure {
        Failure::new(ErrorKind::Io.name(), format!("{what}: {error}"))
    }

    /// The failure's name, a key of [`CODES`] (or one that a newer node used).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same request may succeed later.
    pub fn may_retry(&self) -> bool {
        self.retry
    }

    /// It as one line of JSON.
    pub fn json(&self) -> String {
        let body = ForPrograms {
            error: &self.name,
            message: &self.message,
            retry: self.retry,
            changed: self.changed,
            details: self.details.as_ref(),
        };
        // Strings, booleans and JSON: that cannot fail.
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The exit code of this failure.
    pub fn code(&self) -> u8 {
        code(&self.name)
    }
}

/// What a failure ends with whose name this version does not know: a newer node refused the request.
const REFUSED: u8 = 10;

fn code(name: &str) -> u8 {
    if name == "not_found" {
        return NO;
    }
    CODES
        .iter()
        .find(|row| row.name == name)
        .map_or(REFUSED, |row| row.code)
}

/// The name for an exit code, as far as a failure has one.
pub fn name_of(code: u8) -> Option<&'static str> {
    CODES.iter().find(|row| row.code == code).map(|row| row.name)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            name: error.kind().name().to_string(),
            message: error.message().to_string(),
            retry: error.may_retry(),
            unsent: false,
            changed: Some(error.changed_state()),
            details: error.details(),
        }
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Failure {
        Failure {
            name: body.error,
            message: body.message,
            retry: body.retry,
            unsent: false,
            changed: Some(body.changed),
            details: body.details,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_name_stands_once_in_the_table() {
        for (i, row) in CODES.iter().enumerate() {
            for other in &CODES[i + 1..] {
                assert_ne!(row.code, other.code, "{} and {}", row.name, other.name);
                assert_ne!(row.name, other.name);
            }
        }
    }

    #[test]
    fn every_kind_of_error_has_a_code_of_its_own() {
        use ErrorKind::*;
        let kinds = [
            Invalid,
            TypeRequired,
            WrongType,
            KeyReused,
            Rights,
            NotReady,
            Stale,
            NoFunction,
            Refused,
            Expired,
            Lost,
            Unanswered,
            Overloaded,
            DiskFull,
            Poisoned,
            Unconfirmed,
            Unreachable,
            Stopping,
            Config,
            Directory,
            NewerFormat,
            InUse,
            Corrupt,
            Io,
            Identity,
            Internal,
        ];
        for kind in kinds {
            // A new kind does not compile here: give it a row in the table and a place in the list.
            match kind {
                Invalid | TypeRequired | WrongType | KeyReused | Rights | NotReady | Stale | NoFunction
                | Refused | Expired | Lost | Unanswered | Overloaded | DiskFull | Poisoned => {}
                Unconfirmed | Unreachable | Stopping | Config | Directory | NewerFormat | InUse | Corrupt
                | Io | Identity | Internal => {}
            }
            let failure = Failure::from(Error::new(kind, "message"));
            assert!(
                CODES
                    .iter()
                    .any(|row| row.name == kind.name() && row.code == failure.code()),
                "{kind:?}"
            );
            assert!(failure.code() > USAGE);
            assert_eq!(
                ErrorKind::from_name(kind.name()),
                Some(kind),
                "other nodes know it by its name"
            );
        }
    }

    #[test]
    fn what_a_node_says_of_a_failure_is_said_to_programs() {
        let body = r#"{"error":"refused","message":"no","retry":false,"changed":false,"details":{"left":2}}"#;
        let failure = Failure::from(serde_json::from_str::<ErrorBody>(body).unwrap());
        assert_eq!(failure.json(), body);
        let unsent = Failure::new("unreachable", "away").unsent().unsent_or("perhaps");
        assert_eq!(
            unsent.json(),
            r#"{"error":"unreachable","message":"nothing was sent: away","retry":false,"changed":false}"#
        );
        let lost = Failure::new("io", "no room").unsent_or("perhaps");
        assert_eq!(
            lost.or_changed(false).json(),
            r#"{"error":"io","message":"no room","retry":false,"changed":true}"#
        );
    }

    #[test]
    fn an_unknown_name_is_a_refusal() {
        assert_eq!(
            Failure::new("from_the_future", "").code(),
            Failure::new("invalid", "").code()
        );
    }
}
