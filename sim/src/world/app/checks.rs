//! What a call may be, and what its answer: the same as in production, with the same words.

use anabranch::session::{Action, Call};
use anabranch::{Error, ErrorKind};

use super::Functions;

/// What a call may be, whoever makes it, and that there is a function for it.
pub(super) fn check(functions: &Functions, call: &Call) -> Result<(), Error> {
    let kind = call.entity.kind();
    let Some(function) = functions.get(kind) else {
        let message = format!("nothing changed: there is no function of kind {kind:?}");
        return Err(Error::new(ErrorKind::NoFunction, message));
    };
    function.is_query(&call.method)?;
    call.check()
}

/// What can be known to be wrong with an answer before what the command did is in.
pub(super) fn check_action(functions: &Functions, action: &Action) -> Result<(), Error> {
    action.check(|call| check(functions, call))
}
