//! The minder: a process between a node and its function's command, which ends the command with all it started when the node is
//! gone, however that ended.
//!
//! Why a process: a node that is killed does nothing any more, and a command such as `npm start` has children that nobody but
//! their group's name reaches.
//!
//! Contract: the command has a process group of its own, no stdin, and the minder's stdout and stderr. Once the minder's stdin ends, or it is told to by a signal, or the command has ended, the group gets SIGTERM, [`GRACE`] later SIGKILL; then
//! the minder ends as the command did. It says so to the node (`words`). A process that left the group is not reached.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};
use rustix::process::{kill_process_group, wait, waitid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::words::{Ending, Mouth, Word};
use crate::daemon::stdin;

/// How long a group may take to end by itself once it was told to.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long a killed group's end is awaited: only a process that the kernel holds up takes any time.
const KILLED_TIMEOUT: Duration = Duration::from_secs(2);
/// What a shell ends with when there is no such command, or when it cannot be run.
const NO_COMMAND: u8 = 127;
const NO_START: u8 = 126;

/// Runs the command to its end.
pub fn run(command: &[OsString]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(mind(command));
            runtime.shutdown_background();
            code
        }
        Err(e) => not_started(&mut Mouth::stdin(), "the runtime", &e),
    };
    ExitCode::from(code)
}

fn not_started(mouth: &mut Mouth, what: &str, error: &io::Error) -> u8 {
    let message = format!("{what}: {error}");
    mouth.say(&Word::NotStarted { message });
    if error.kind() == io::ErrorKind::NotFound {
        NO_COMMAND
    } else {
        NO_START
    }
}

async fn mind(command: &[OsString]) -> u8 {
    let mut mouth = Mouth::stdin();
    // Before the command is there: none of its ends may be missed.
    let signals = (|| {
        Ok((
            signal(SignalKind::child())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ))
    })();
    let (mut children, mut terminate, mut interrupt, mut hangup) = match signals {
        Ok(signals) => signals,
        Err(e) => return not_started(&mut mouth, "signals", &e),
    };
    let stdin_end = stdin::end();
    let told = async move {
        tokio::select! {
            _ = stdin_end => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    let mut group = match Group::start(command, &mut mouth) {
        Ok(group) => group,
        Err(e) => {
            let name = command.first().map(|name| name.to_string_lossy());
            return not_started(&mut mouth, &name.unwrap_or_default(), &e);
        }
    };
    group
        .until(&mut children, |group| group.ending.is_some(), told)
        .await;
    group.signal(Signal::TERM);
    let deadline = |after| tokio::time::sleep_until(Instant::now() + after);
    group
        .until(&mut children, |group| group.is_gone, deadline(GRACE))
        .await;
    group.signal(Signal::KILL);
    group
        .until(&mut children, |group| group.is_gone, deadline(KILLED_TIMEOUT))
        .await;
    // Only a command that the kernel does not let go of has not ended.
    let ending = group.ending.unwrap_or(Ending::from_raw(Signal::KILL.as_raw()));
    mouth.say(&Word::Ended { ending });
    ending.code()
}

/// The command's process group.
struct Group {
    id: Pid,
    /// Whether orphans of the group become this process's children, so that their ends are heard of, too.
    adopts: bool,
    /// How the command ended, once it has.
    ending: Option<Ending>,
    /// None of the group is left. Its id may soon be somebody else's: it gets no signal any more.
    is_gone: bool,
}

impl Group {
    fn start(command: &[OsString], mouth: &mut Mouth) -> io::Result<Group> {
        let (program, args) = command
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let adopts = adopt();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        mouth.say(&Word::Started { pid });
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Ok(Group {
            id: id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?,
            adopts,
            ending: None,
            is_gone: false,
        })
    }

    /// Waits until something is true of it, or for `other`.
    async fn until(
        &mut self,
        children: &mut tokio::signal::unix::Signal,
        is_so: fn(&Group) -> bool,
        other: impl Future<Output = ()>,
    ) {
        tokio::pin!(other);
        loop {
            self.reap();
            if is_so(self) {
                return;
            }
            tokio::select! {
                _ = children.recv() => {}
                () = &mut other => return,
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        if !self.is_gone {
            // It may consist of processes that have ended already.
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Takes notice of all that have ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.id {
                self.ending = Some(Ending::from_raw(status.as_raw()));
                if !self.adopts {
                    // Those that are left end unheard of: this is the last moment at which the group's id is surely its own.
                    self.signal(Signal::KILL);
                }
            }
        }
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.is_gone = waitid(WaitId::Pgid(Some(self.id)), look).err() == Some(Errno::CHILD);
    }
}

/// Has orphans of the command's children become this process's own, where the system can do that.
fn adopt() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}
