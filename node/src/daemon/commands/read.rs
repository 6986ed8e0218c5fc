//! `get`, `watch`, `dump`: entities' values as one node has them.

use super::super::cli::{Dump, Entity, Get, ReadLevel, Target};
use super::super::client::{Client, Lines};
use super::super::exit::Failure;
use super::super::session_file::Session;
use super::super::{output, target};
use super::update::LEVEL_TIMEOUT;
use super::{ANSWER_TIMEOUT, GRACE, path_of};

/// What has happened once a node has answered.
const DONE: &str = "the node has answered";

/// Prints one value.
pub async fn get(args: &Get) -> Result<(), Failure> {
    let timeout = args.timeout.unwrap_or(LEVEL_TIMEOUT);
    let session = Session::of(args.session.as_ref(), timeout, DONE);
    let level = match args.level {
        ReadLevel::Local => "",
        ReadLevel::Majority => "?level=majority",
    };
    let args = &args.entity;
    let path = path_of("entities", &args.kind, &args.key)? + level;
    let (client, at) = node(&args.target).await?;
    let client = client.in_session(session).with_timeout(timeout);
    let line = client.text(&at, &path, timeout + GRACE).await?;
    print(args, line.trim_end_matches('\n'))
}

/// Prints one value, and again whenever it changes.
pub async fn watch(args: &Entity) -> Result<(), Failure> {
    let path = path_of("watch", &args.kind, &args.key)?;
    let (client, at) = node(&args.target).await?;
    let mut lines = client.lines(&at, &path, ANSWER_TIMEOUT).await?;
    output::while_read(print_changes(args, &mut lines)).await?;
    Err(Failure::new("stopping", format!("{at} has stopped")))
}

/// Prints each value until the end.
async fn print_changes(args: &Entity, lines: &mut Lines) -> Result<(), Failure> {
    let mut absent = false;
    while let Some(line) = lines.next().await? {
        // Server-sent events: a field a line, an empty line after each event.
        match line.split_once(':') {
            Some(("event", name)) => absent = name.trim() == "absent",
            Some(("data", _)) if absent => {
                let entity = output::printable(&format!("{}/{}", args.kind, args.key));
                output::note(&format!("there is no {entity} yet; waiting"));
                absent = false;
            }
            Some(("data", data)) => print(args, data.trim_start())?,
            _ => {}
        }
    }
    Ok(())
}

/// Prints every entity.
pub async fn dump(args: &Dump) -> Result<(), Failure> {
    let timeout = args.timeout.unwrap_or(LEVEL_TIMEOUT);
    let session = Session::of(args.session.as_ref(), timeout, DONE);
    let (client, at) = node(&args.target).await?;
    let client = client.in_session(session);
    let mut lines = client.lines(&at, "/v1/dump", timeout + GRACE).await?;
    if args.session.is_some() && !lines.names_session {
        let message = "everything at once is more than a session's text can name; dump without --session";
        return Err(Failure::new("invalid", message));
    }
    while let Some(line) = lines.next().await? {
        output::line(&line)?;
    }
    Ok(())
}

/// The node that a command asks, and with what. A failure: nothing was asked of any.
pub(super) async fn node(target: &Target) -> Result<(Client, String), Failure> {
    let found = async {
        let client = Client::from_environment()?;
        let at = target::find(&client, target.at.as_deref(), target.dir.as_deref()).await?;
        Ok((client, at))
    };
    found.await.map_err(Failure::unsent)
}

fn print(args: &Entity, line: &str) -> Result<(), Failure> {
    if args.target.json {
        return output::line(line);
    }
    let value = output::value_of(line, &args.kind, &args.key).unwrap_or(line);
    output::line(&output::for_people(value))
}
