//! What a minder says of its function to the node, one JSON object a line, and how an end is described.
//!
//! Not here: what the function itself prints, which goes straight to the node.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde::{Deserialize, Serialize};

/// One statement of a minder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// The command runs; its process, which is its group, too.
    Started {
        /// The process.
        pid: u32,
    },
    /// The operating system did not start the command.
    NotStarted {
        /// Why, for people.
        message: String,
    },
    /// The command and its group have ended.
    Ended {
        /// How the command ended.
        ending: Ending,
    },
}

/// Where a minder says them: back through its stdin, a socket whose other end only the node has. Its stdout and stderr are
/// the function's.
pub(super) struct Mouth(Option<UnixStream>);

impl Mouth {
    /// Of this process.
    pub(super) fn stdin() -> Mouth {
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        Mouth(stdin.ok().map(UnixStream::from))
    }

    /// Says it. The node may be gone, or somebody may have started the minder by hand: then nobody wants to know.
    pub(super) fn say(&mut self, word: &Word) {
        if let (Some(node), Ok(mut line)) = (&mut self.0, serde_json::to_string(word)) {
            line.push('\n');
            let _ = node.write_all(line.as_bytes());
        }
    }
}

/// How a function's process ended: the system's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending(i32);

/// What a shell adds to a signal's number for an exit code.
const SIGNAL_CODE_BASE: i32 = 128;

impl Ending {
    /// From what waiting for a process gave.
    pub(super) fn from_raw(raw: i32) -> Ending {
        Ending(raw)
    }

    fn status(self) -> ExitStatus {
        ExitStatus::from_raw(self.0)
    }

    /// The exit code of whoever ends as it did: a signal is told as shells do.
    pub(super) fn code(self) -> u8 {
        let status = self.status();
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| SIGNAL_CODE_BASE + signal));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
    }
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Ending {
        Ending(status.into_raw())
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_shells_do() {
        let exited = Ending::from_raw(3 << 8);
        assert_eq!(
            (exited.code(), exited.to_string()),
            (3, "exit status: 3".to_string())
        );
        let killed = Ending::from_raw(9);
        assert_eq!(killed.code(), 137);
        assert!(killed.to_string().contains("signal: 9"), "{killed}");
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in [
            Word::Started { pid: 7 },
            Word::NotStarted {
                message: "no\nsuch".into(),
            },
            Word::Ended {
                ending: Ending::from_raw(9),
            },
        ] {
            let line = serde_json::to_string(&word).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Word>(&line).unwrap(), word);
        }
    }
}
