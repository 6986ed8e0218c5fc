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

/// Whether the method of a call is here.
pub(super) fn has(functions: &Functions, call: &Call) -> bool {
    let function = functions.get(call.entity.kind());
    function.is_some_and(|function| function.has(&call.method))
}

/// What can be known to be wrong with an answer before what the command did is in. What is not here may be elsewhere, if there is
/// anybody.
pub(super) fn check_action(functions: &Functions, action: &Action, is_alone: bool) -> Result<(), Error> {
    action.check(|call| match has(functions, call) || is_alone {
        true => check(functions, call),
        false => call.check(),
    })
}
