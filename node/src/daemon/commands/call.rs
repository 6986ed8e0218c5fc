//! `call`: a function of one entity.

use bytes::Bytes;

use super::super::cli::Call;
use super::super::exit::Failure;
use super::super::output;
use super::super::session_file::Session;
use super::read::node;
use super::update::LEVEL_TIMEOUT;
use super::{GRACE, path_of_method};

/// What has happened once a node has answered.
const DONE: &str = "the function has run";

/// Calls it and prints its reply.
pub async fn run(args: &Call) -> Result<(), Failure> {
    let argument = args.argument.clone().unwrap_or_default();
    check_argument(&argument)?;
    let timeout = args.timeout.unwrap_or(LEVEL_TIMEOUT);
    let path = path_of_method("call", &args.kind, &args.key, &args.method)?;
    let (client, at) = node(&args.target).await?;
    let client = client
        .in_session(Session::of(args.session.as_ref(), timeout, DONE))
        .with_timeout(timeout)
        .idempotent(args.idempotent);
    let reply = client
        .post_text(&at, &path, Bytes::from(argument), timeout + GRACE)
        .await;
    let reply = reply.map_err(|failure| failure.unsent_or("the function may or may not have run"))?;
    output::line(reply.trim_end_matches('\n')).map_err(|failure| failure.or_changed(true))
}

/// An argument is JSON, or nothing.
pub(super) fn check_argument(argument: &str) -> Result<(), Failure> {
    if argument.is_empty() {
        return Ok(());
    }
    let read = serde_json::from_str::<serde::de::IgnoredAny>(argument);
    read.map(|_| ()).map_err(|error| {
        Failure::usage(format!(
            "the argument is no JSON ({error}); a text is written \"text\", quotes and all"
        ))
        .unsent()
    })
}
