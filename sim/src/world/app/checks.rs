//! What a call may be, and what its answer: the same as in production, with the same words.

use anabranch::session::{Action, Call};
use anabranch::{EntityId, Error, ErrorKind};

use super::Functions;

/// As in production: an argument or a reply is at most so long.
const PAYLOAD_BYTES_MAX: usize = 768 << 10;
/// And functions call one another at most so deep.
const DEPTH_MAX: u8 = 32;

/// What a call may be, whoever makes it, and that there is a function for it.
pub(super) fn check(functions: &Functions, call: &Call) -> Result<(), Error> {
    let kind = call.entity.kind();
    let Some(function) = functions.get(kind) else {
        let message = format!("nothing changed: there is no function of kind {kind:?}");
        return Err(Error::new(ErrorKind::NoFunction, message));
    };
    function.is_query(&call.method)?;
    check_call(call)
}

pub(super) fn check_call(call: &Call) -> Result<(), Error> {
    let bytes = call.payload.bytes.len();
    if bytes > PAYLOAD_BYTES_MAX {
        let message = format!("nothing changed: an argument of {bytes} bytes, at most {PAYLOAD_BYTES_MAX}");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    if call.origin.depth > DEPTH_MAX {
        let message =
            format!("nothing changed: functions have called one another {DEPTH_MAX} deep, at last {call}");
        return Err(Error::new(ErrorKind::Refused, message));
    }
    Ok(())
}

/// What can be known to be wrong with an answer before what the command did is in.
pub(super) fn check_action(functions: &Functions, action: &Action) -> Result<(), Error> {
    match action {
        Action::Reply(payload) if payload.bytes.len() > PAYLOAD_BYTES_MAX => {
            let message = format!(
                "nothing changed: the function's reply has {} bytes, at most {PAYLOAD_BYTES_MAX}",
                payload.bytes.len()
            );
            Err(Error::new(ErrorKind::Refused, message))
        }
        Action::Forward(call) => check(functions, call),
        Action::Reply(_) | Action::Refuse(_) => Ok(()),
    }
}

/// A forward that failed after what forwarded it was in.
pub(super) fn forward_failed(to: &EntityId, error: &Error) -> Error {
    let message =
        format!("what was asked for is in, and {to}, which it was forwarded to, has failed: {error}");
    Error::new(ErrorKind::Unanswered, message)
}
