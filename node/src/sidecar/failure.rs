//! Failures as gRPC has them: a number and a description.
//!
//! Not here: HTTP's numbers. Contract: what a function gave as the number of its failure is what its caller hears, wherever the two
//! are, and whoever forwarded to it. A client that repeats by itself what is unavailable is told not to where something may have
//! changed.

use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::status::of_failure;
use crate::error::{Error, ErrorKind};
use crate::function::unknown_elsewhere;
use crate::payload::{Encoding, Payload};

/// What a function's failure says to programs beside its description.
#[derive(Debug, Serialize, Deserialize)]
struct Details {
    grpc_status: i32,
    /// In the function's own words, whatever else is said where these are passed on.
    description: String,
}

/// A trailer by which clients take a server's word for when they are to retry; below 0, not at all (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A function's own failure: 0 where it gave no number.
pub fn refused(code: u32, description: &str) -> Error {
    let code = of_failure(i32::try_from(code).unwrap_or(0));
    let details = Details {
        grpc_status: code as i32,
        description: description.to_owned(),
    };
    let error = Error::new(ErrorKind::Refused, description);
    match Payload::of(Encoding::Json, &details) {
        Ok(details) => error.with_details(details),
        Err(_) => error,
    }
}

/// That a function broke the protocol, beside an entity or as what has none.
pub fn broke(why: &str, has_entity: bool) -> Error {
    let message = format!(
        "the function broke its protocol: {why}. {}",
        unknown_elsewhere(has_entity)
    );
    refused(Code::Internal as u32, &message)
}

/// An error as its caller hears it over gRPC. `is_late`: his deadline has passed.
pub fn status(error: &Error, is_late: bool) -> Status {
    let kind = error.kind();
    let mut status = match (kind, error.details::<Details>()) {
        // A forward's answer is its target's.
        (ErrorKind::Refused | ErrorKind::Unanswered, Some(details)) => {
            // But who forwarded has changed his own entity by then.
            let said = match kind {
                ErrorKind::Unanswered => details
                    .description
                    .replace(unknown_elsewhere(true), unknown_elsewhere(false)),
                _ => details.description,
            };
            Status::new(of_failure(details.grpc_status), said)
        }
        _ => Status::new(code(kind, is_late), error.message()),
    };
    if error.changed_state() {
        let never = MetadataValue::from_static("-1");
        status.metadata_mut().insert(PUSHBACK, never);
    }
    status
}

/// Whether something may have changed although this came of it, so that nobody should repeat it unasked.
pub fn may_have_changed(status: &Status) -> bool {
    status.metadata().contains_key(PUSHBACK)
}

fn code(kind: ErrorKind, is_late: bool) -> Code {
    match kind {
        ErrorKind::Refused => Code::Unknown,
        ErrorKind::Expired | ErrorKind::Stale => Code::DeadlineExceeded,
        ErrorKind::Lost | ErrorKind::Unanswered if is_late => Code::DeadlineExceeded,
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::TypeRequired | ErrorKind::WrongType | ErrorKind::KeyReused | ErrorKind::Rights => {
            Code::FailedPrecondition
        }
        ErrorKind::Overloaded | ErrorKind::DiskFull => Code::ResourceExhausted,
        ErrorKind::Internal | ErrorKind::Corrupt => Code::Internal,
        _ => Code::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::forward_failed;
    use crate::wire::EntityId;

    #[test]
    fn a_functions_number_is_what_its_caller_hears() {
        let no = status(&refused(9, "no"), false);
        assert_eq!((no.code(), no.message()), (Code::FailedPrecondition, "no"));
        assert_eq!(status(&refused(0, "no"), false).code(), Code::Unknown);
        assert_eq!(status(&refused(4711, "no"), false).code(), Code::Unknown);
        assert_eq!(status(&broke("it lied", true), false).code(), Code::Internal);
        let other = Error::new(ErrorKind::Refused, "no");
        assert_eq!(status(&other, false).code(), Code::Unknown);
    }

    #[test]
    fn a_forwards_answer_is_its_targets() {
        let to = EntityId::new("k", "x").unwrap();
        let told = status(&forward_failed(&to, &refused(9, "no")), false);
        assert_eq!((told.code(), told.message()), (Code::FailedPrecondition, "no"));
        let away = Error::new(ErrorKind::Unreachable, "nothing changed: it is away");
        let told = status(&forward_failed(&to, &away), false);
        assert_eq!(told.code(), Code::Unavailable);
        assert!(
            told.message().ends_with("nothing changed: it is away"),
            "{told:?}"
        );
    }

    #[test]
    fn an_entity_was_said_to_be_as_it_was_whose_change_was_in_when_its_forward_failed() {
        let to = EntityId::new("k", "x").unwrap();
        let told = status(&forward_failed(&to, &broke("it lied", true)), false);
        assert!(!told.message().contains("as it was"), "{told:?}");
        assert!(told.message().ends_with("elsewhere is not known"), "{told:?}");
        assert!(
            status(&broke("it lied", true), false)
                .message()
                .contains("as it was")
        );
    }

    #[test]
    fn what_may_have_changed_something_is_not_repeated_by_itself() {
        for (kind, may_be_repeated) in [
            (ErrorKind::Lost, false),
            (ErrorKind::Unanswered, false),
            (ErrorKind::Unconfirmed, false),
            (ErrorKind::Unreachable, true),
            (ErrorKind::Overloaded, true),
        ] {
            let told = status(&Error::new(kind, "?"), false);
            assert_eq!(
                told.metadata().get(PUSHBACK).is_none(),
                may_be_repeated,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn who_is_too_late_hears_that() {
        let lost = Error::new(ErrorKind::Lost, "gone");
        assert_eq!(status(&lost, false).code(), Code::Unavailable);
        assert_eq!(status(&lost, true).code(), Code::DeadlineExceeded);
        let invalid = Error::new(ErrorKind::Invalid, "what?");
        assert_eq!(status(&invalid, true).code(), Code::InvalidArgument);
    }
}
