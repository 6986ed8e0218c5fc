//! Why a life of a function ends before its time, and what that is to callers and to whoever wrote it.
//!
//! Contract: only where its process or its connection has ended is its answer lost. What it ended itself is its own doing: its callers
//! hear how, and its author does, once of each way.

use tonic::{Code, Status};

use crate::error::{Error, ErrorKind};
use crate::function::unknown_elsewhere;
use crate::sidecar::connection::{MESSAGE_BYTES_MAX, is_gone, not_begun};
use crate::sidecar::failure::{broke, refused};
use crate::sidecar::proto::common::Failure;
use crate::sidecar::read;
use crate::sidecar::status::{name, of_failure};
use crate::wire::EntityId;

/// No function refuses to be shown less than this because of its size.
const SHOWN_BYTES_LEAST: usize = 1 << 20;

/// Why the stream of an entity ended.
#[derive(Debug)]
pub(super) enum End {
    /// It has not begun: nothing was said.
    NoRoom(Error),
    /// Its server has not begun with what it was sent, and may on another connection.
    NotBegun,
    /// Its process or its connection has ended, or does not run.
    Gone(String),
    /// It has ended the stream itself, as if that were all.
    Closed,
    /// It has ended it itself, or failed at it: this is what its callers hear.
    Failed {
        /// In which way.
        way: &'static str,
        error: Error,
    },
    /// Something cannot be told.
    Cannot(String),
    /// It broke the protocol.
    Broke(Error),
}

impl End {
    /// The stream of this path and of this entity ended with this status. `shown`: with how many bytes it was told of the entity, if it
    /// has said nothing since.
    pub fn of(path: &str, entity: &EntityId, status: &Status, shown: usize) -> End {
        if let Some(what) = read::too_long(status) {
            return End::Broke(broke(&format!("its answer {what}"), true));
        }
        if not_begun(status) {
            return End::NotBegun;
        }
        if is_gone(status) {
            return End::Gone(status.message().to_owned());
        }
        let (code, said) = (name(status.code()), status.message());
        let is_size = matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange);
        if is_size && shown >= SHOWN_BYTES_LEAST {
            let text = format!(
                "nothing changed: the function refuses to be shown {entity}, which has {shown} bytes as a message ({code}: {said}); have \
                 it receive messages of up to {MESSAGE_BYTES_MAX} bytes"
            );
            let error = refused(Code::FailedPrecondition as u32, &text);
            return End::Failed { way: "size", error };
        }
        let unknown = unknown_elsewhere(true);
        let (heard, text) = match status.code() {
            Code::Unimplemented => {
                let text = format!("the function does not implement {path} ({code}: {said}). {unknown}");
                (Code::Unimplemented, text)
            }
            _ => {
                let text =
                    format!("the function ended its stream of {entity} with {code}: {said}. {unknown}");
                (Code::Internal, text)
            }
        };
        End::Failed {
            way: status.code().description(),
            error: refused(heard as u32, &text),
        }
    }

    /// It has failed beside its entity, and at no command.
    pub fn whole(entity: &EntityId, failure: &Failure) -> End {
        let code = match failure.grpc_status_code {
            0 => Code::Internal,
            code => of_failure(i32::try_from(code).unwrap_or(0)),
        };
        let text = format!(
            "the function failed beside {entity}, and not at a command: {}. {}",
            failure.description,
            unknown_elsewhere(true)
        );
        End::Failed {
            way: "failure",
            error: refused(code as u32, &text),
        }
    }

    /// What a command hears that it did not answer before it ended the stream.
    pub fn closed(entity: &EntityId) -> Error {
        let text = format!(
            "the function ended its stream of {entity} before it had answered. {}",
            unknown_elsewhere(true)
        );
        refused(Code::Internal as u32, &text)
    }
}

/// Nothing was said to it.
pub(super) fn away(why: &str) -> Error {
    let message = format!("nothing changed: the function is not there: {why}; retry later");
    Error::new(ErrorKind::Unreachable, message)
}

/// The same, where its server begins with nothing more.
pub(super) fn takes_no_more() -> Error {
    let message = "nothing changed: the function's server refuses every new stream; retry later";
    Error::new(ErrorKind::Overloaded, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::failure;

    /// What a caller hears of a stream that ended so, and with which code; nothing where its process has ended.
    fn heard(status: &Status, shown: usize) -> Option<(Code, String)> {
        let entity = EntityId::new("k", "x").unwrap();
        let error = match End::of("/p.S/Handle", &entity, status, shown) {
            End::Failed { error, .. } | End::Broke(error) => error,
            End::Gone(_) => return None,
            end => panic!("{end:?}"),
        };
        let status = failure::status(&error, false);
        Some((status.code(), status.message().to_owned()))
    }

    #[test]
    fn only_where_its_connection_has_ended_it_is_gone() {
        for said in [
            Status::unavailable("my database is down"),
            Status::cancelled("no"),
        ] {
            let (code, text) = heard(&said, 0).unwrap();
            assert_eq!(code, Code::Internal);
            assert!(text.contains(said.message()), "{text}");
        }
        let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(heard(&Status::from_error(Box::new(cut)), 0), None);
        let (code, text) = heard(&Status::unimplemented("what?"), 0).unwrap();
        assert_eq!(code, Code::Unimplemented);
        assert!(text.contains("/p.S/Handle (UNIMPLEMENTED: what?)"), "{text}");
        let (code, text) = heard(&Status::not_found("no"), 0).unwrap();
        assert_eq!(code, Code::Internal);
        assert!(text.contains("NOT_FOUND: no"), "{text}");
    }

    #[test]
    fn what_it_takes_no_more_of_is_told_apart_from_what_it_has_no_more_of() {
        let size = Status::resource_exhausted("Received message larger than max");
        let (code, text) = heard(&size, 5_400_000).unwrap();
        assert_eq!(code, Code::FailedPrecondition);
        assert!(
            text.starts_with("nothing changed") && text.contains("5400000 bytes"),
            "{text}"
        );
        assert_eq!(heard(&size, 20).unwrap().0, Code::Internal);
    }

    #[test]
    fn a_failure_at_no_command_keeps_its_own_code() {
        let entity = EntityId::new("k", "x").unwrap();
        for (number, code) in [(9, Code::FailedPrecondition), (0, Code::Internal)] {
            let failure = Failure {
                description: "no".to_owned(),
                grpc_status_code: number,
                ..Failure::default()
            };
            let End::Failed { error, .. } = End::whole(&entity, &failure) else {
                panic!("it has failed")
            };
            assert_eq!(failure::status(&error, false).code(), code);
        }
    }
}
