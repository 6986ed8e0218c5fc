//! One life of a function's command: its minder, what that says, and the command's output line by line.
//!
//! Not here: when it begins, and what follows its end (`supervisor`).
//!
//! Contract: dropping it has the command ended, too: the minder's stdin goes with it.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::lines;
use super::minder::GRACE;
use super::outlet::Outlet;
use super::words::{Ending, Word};
use super::{HOST, Settings};

/// A longer line of the function's goes out in pieces of this size.
pub(super) const LINE_BYTES_MAX: u64 = 16 << 10;
/// How long a minder may take once it was told to stop: its own time, and some more for a busy machine.
pub(super) const STOP_TIMEOUT: Duration = GRACE.saturating_mul(2);
/// How long the command's output is awaited after its end: a process that left its group may hold it open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// How a minder is started: this program, with the words that make it one.
#[derive(Clone, Debug)]
pub(super) struct Minder {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
}

impl Minder {
    /// Of the program that runs.
    pub(super) fn of_this_program() -> io::Result<Minder> {
        Ok(Minder {
            program: env::current_exe()?,
            args: vec!["mind-function".into(), "--".into()],
        })
    }
}

/// A command that was started.
pub(super) struct Run {
    minder: Child,
    /// Dropping it tells the minder to stop.
    stdin: Option<OwnedWriteHalf>,
    words: Lines<BufReader<OwnedReadHalf>>,
    forwarding: Vec<JoinHandle<()>>,
    /// The command's process and group, while it may be there.
    pid: Option<u32>,
}

/// What is heard of one.
#[derive(Debug)]
pub(super) enum Heard {
    Started { pid: u32 },
    NotStarted { message: String },
    Ended { ending: Ending },
}

impl Run {
    pub(super) fn start(minder: &Minder, settings: &Settings, outlet: Outlet) -> io::Result<Run> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (words, stdin) = tokio::net::UnixStream::from_std(ours)?.into_split();
        let mut minder = Command::new(&minder.program)
            .args(&minder.args)
            .args(&settings.command)
            .current_dir(&settings.directory)
            .env("HOST", HOST)
            .env("PORT", settings.port.to_string())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C goes to the terminal's whole foreground group: the function must hear of it from the node, in order.
            .process_group(0)
            .spawn()?;
        // Two pipes: in one, a piece of a line on stderr could come between two of a line on stdout.
        let stdout = minder
            .stdout
            .take()
            .map(|out| tokio::spawn(forward(out, outlet.clone())));
        let stderr = minder.stderr.take().map(|out| tokio::spawn(forward(out, outlet)));
        Ok(Run {
            minder,
            stdin: Some(stdin),
            words: BufReader::new(words).lines(),
            forwarding: stdout.into_iter().chain(stderr).collect(),
            pid: None,
        })
    }

    /// What comes next; after the last of it, it waits for ever. May be dropped and called again.
    pub(super) async fn hear(&mut self) -> Heard {
        while let Ok(Some(line)) = self.words.next_line().await {
            match serde_json::from_str(&line) {
                Ok(Word::Started { pid }) => {
                    self.pid = Some(pid);
                    return Heard::Started { pid };
                }
                Ok(Word::NotStarted { message }) => {
                    return Heard::NotStarted { message };
                }
                Ok(Word::Ended { ending }) => {
                    self.pid = None;
                    return Heard::Ended { ending };
                }
                // Of a program that was replaced by another version.
                Err(_) => {}
            }
        }
        // It was killed, or could not say it.
        match self.minder.wait().await {
            Ok(status) => Heard::Ended {
                ending: status.into(),
            },
            Err(e) => Heard::NotStarted {
                message: e.to_string(),
            },
        }
    }

    /// Has the command ended; it is heard of.
    pub(super) fn stop(&mut self) {
        self.stdin = None;
    }

    /// Ends what is left, at once.
    fn kill(&mut self) {
        // Without its minder nobody else would; had it ended, the minder would have said so.
        let group = self.pid.take().and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.minder.start_kill();
    }

    /// After its end was heard of, or in spite of it not having been: nothing is left of it then.
    pub(super) async fn finish(mut self) {
        self.stop();
        let is_over = self.pid.is_none();
        if !is_over || timeout(STOP_TIMEOUT, self.minder.wait()).await.is_err() {
            self.kill();
            let _ = self.minder.wait().await;
        }
        let deadline = Instant::now() + OUTPUT_TIMEOUT;
        for forwarding in &mut self.forwarding {
            if timeout_at(deadline, &mut *forwarding).await.is_err() {
                forwarding.abort();
            }
        }
    }
}

/// Takes output to the outlet, line by line, to its end.
pub(super) async fn forward(output: impl AsyncRead + Unpin, outlet: Outlet) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while lines::next(&mut output, LINE_BYTES_MAX, &mut line).await {
        let text = String::from_utf8_lossy(&line);
        outlet.line(text.trim_end_matches(['\n', '\r'])).await;
    }
}
