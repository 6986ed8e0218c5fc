//! `stream`: what a function of one entity says, as long as it goes on.

use std::io::{self, BufRead};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::api::ErrorBody;
use super::super::cli::Stream;
use super::super::client::{Client, Lines};
use super::super::exit::Failure;
use super::super::output;
use super::super::session_file::Session;
use super::call::check_argument;
use super::read::node;
use super::update::LEVEL_TIMEOUT;
use super::{GRACE, path_of_method};

/// Messages that were read and not sent yet, at most.
const MESSAGES_WAITING_MAX: usize = 16;

/// What has happened once a node has answered.
const DONE: &str = "the stream was opened";

/// Opens it, prints each reply, and sends each line that it is given.
pub async fn run(args: &Stream) -> Result<(), Failure> {
    let args = (&args.call, args.messages);
    let (call, with_messages) = args;
    let argument = call.argument.clone().unwrap_or_default();
    check_argument(&argument)?;
    let argument = in_one_line(&argument);
    let timeout = call.timeout.unwrap_or(LEVEL_TIMEOUT);
    let path = path_of_method("stream", &call.kind, &call.key, &call.method)?;
    let (client, at) = node(&call.target).await?;
    let session = Session::of(call.session.as_ref(), timeout, DONE);
    let client = client.in_session(session).with_timeout(timeout);
    let messages = if with_messages {
        let first = if argument.is_empty() { "null" } else { &argument };
        messages(format!("{first}\n"))?
    } else {
        // All that is sent.
        let (sender, receiver) = mpsc::channel(1);
        let argument = if argument.is_empty() {
            "null".to_owned()
        } else {
            argument
        };
        // There is room for the one.
        let _ = sender.try_send(Ok(Bytes::from(argument)));
        receiver
    };
    let mut lines = client
        .post_lines(&at, &path, messages, timeout + GRACE)
        .await
        .map_err(|failure| failure.unsent_or("the function may or may not have begun"))?;
    // It may have called commands.
    let ended = output::while_read(print(&client, &at, &mut lines)).await;
    ended.map_err(|failure| failure.or_changed(true))
}

/// Prints each reply until the end.
async fn print(client: &Client, at: &str, lines: &mut Lines) -> Result<(), Failure> {
    let mut event = String::new();
    while let Some(line) = lines.next().await? {
        // Server-sent events: a field a line, an empty line after each event.
        match line.split_once(':') {
            Some(("event", name)) => name.trim().clone_into(&mut event),
            Some(("data", data)) => match event.as_str() {
                "error" => return Err(failure(data.trim())),
                "end" => return client.note_end(data.trim()),
                _ => output::line(data.trim_start())?,
            },
            None if line.is_empty() => event.clear(),
            _ => {}
        }
    }
    Err(Failure::new("stopping", format!("{at} has stopped")))
}

/// JSON without line feeds, which would end it here: it has none but between its parts.
fn in_one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

fn failure(data: &str) -> Failure {
    match serde_json::from_str::<ErrorBody>(data) {
        Ok(error) => error.into(),
        Err(e) => Failure::new(
            "unreachable",
            format!("the stream ended with what is no error of ours: {e}"),
        ),
    }
}

/// The argument, and then the lines of the standard input as they come.
fn messages(first: String) -> Result<mpsc::Receiver<io::Result<Bytes>>, Failure> {
    let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
    // There is room for the first.
    let _ = sender.try_send(Ok(Bytes::from(first)));
    // A thread that the end of the program does not wait for: it may wait for a line that never comes.
    let read = move || {
        for line in io::stdin().lock().lines() {
            if let Err(error) = &line {
                output::note(&format!("error: the standard input cannot be read: {error}"));
            }
            let sent = sender.blocking_send(line.map(|line| Bytes::from(line + "\n")));
            if sent.is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("anabranch-stdin".into());
    thread
        .spawn(read)
        .map_err(|e| Failure::io("cannot read messages", &e))?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_one_line_and_says_the_same() {
        let argument = "{\n  \"a\\n\": [1,\r\n 2]\n}\n";
        let line = in_one_line(argument);
        assert!(!line.contains('\n'), "{line}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&line), read(argument));
    }
}
