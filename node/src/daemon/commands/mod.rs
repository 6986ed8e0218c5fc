//! The commands that ask nodes and print what they say. One file each; `up`, `node` and `replay` have modules of
//! their own.

pub mod ca;
pub mod call;
pub mod leave;
pub mod read;
pub mod schedule;
pub mod status;
pub mod stream;
pub mod update;
pub mod verify;

use std::time::Duration;

use super::exit::Failure;
use crate::percent;
use crate::wire::EntityId;

/// How long an answer may take that needs no other node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How much later than it was told to a node may answer: there and back, and a disk that is slow. Later than that it hangs.
const GRACE: Duration = Duration::from_secs(2);

/// Names that none can have are not sent: an empty one would make another path.
fn check_names(kind: &str, key: &str) -> Result<(), Failure> {
    EntityId::new(kind, key)
        .map(|_| ())
        .map_err(|wrong| invalid(&wrong.to_string()))
}

/// Where an entity is under one of the API's routes.
fn path_of(route: &str, kind: &str, key: &str) -> Result<String, Failure> {
    check_names(kind, key)?;
    let [kind, key] = [kind, key].map(percent::encode);
    Ok(format!("/v1/{route}/{kind}/{key}"))
}

/// The same of one of its function's methods.
fn path_of_method(route: &str, kind: &str, key: &str, method: &str) -> Result<String, Failure> {
    let entity = path_of(route, kind, key)?;
    match method {
        "" => Err(invalid("a method's name is never empty")),
        _ => Ok(format!("{entity}/{}", percent::encode(method))),
    }
}

/// What a node would say, had it been asked.
fn invalid(why: &str) -> Failure {
    Failure::new("invalid", why).unsent()
}
