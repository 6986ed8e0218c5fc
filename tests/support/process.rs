//! A process that a test started: what it says is awaited line by line, and it ends with its owner.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::PATIENCE;

/// Lines of each process that a failed test prints.
const LAST_WORDS_LINES: usize = 40;

/// A process, its output, and its end.
pub struct Process {
    name: String,
    child: Child,
    /// What it prints.
    pub stdout: Lines,
    /// What it logs.
    pub stderr: Lines,
    stdin: Option<ChildStdin>,
    ended: Option<ExitStatus>,
}

/// How a process ended, and all it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal killed it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    /// Starts it without an input.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Process {
        command.stdin(Stdio::null());
        Process::start_with_stdin(name, command)
    }

    /// Starts it with whatever input the command was given.
    pub fn start_with_stdin(name: impl Into<String>, command: &mut Command) -> Process {
        let name = name.into();
        command
            .env_remove("ANABRANCH_TOKEN")
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {command:?}: {e}"));
        let stdout = Lines::follow(child.stdout.take().unwrap());
        let stderr = Lines::follow(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Process {
            name,
            child,
            stdout,
            stderr,
            stdin,
            ended: None,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with -9 and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// What it reads.
    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().expect("it was given one")
    }

    /// Closes its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end: first for the end of its output, which reports itself.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE * 2;
        let silent = self.stdout.drain(deadline) && self.stderr.drain(deadline);
        assert!(
            silent,
            "{} did not end; its stderr:\n{}",
            self.name,
            self.stderr.text()
        );
        let status = self.ended.unwrap_or_else(|| self.child.wait().unwrap());
        self.ended = Some(status);
        Ended {
            code: status.code(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.ended.is_some() || matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.stderr.text();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines.len().saturating_sub(LAST_WORDS_LINES);
            // A panic tells its reason first, and much else after that.
            let begin = lines
                .iter()
                .position(|line| line.contains(" panicked at "))
                .map_or(end, |at| end.min(at));
            let last = &lines[begin..];
            eprintln!("--- last words of {}:\n{}\n---", self.name, last.join("\n"));
        }
    }
}

/// One stream of a process's output.
pub struct Lines {
    receiver: Receiver<String>,
    all: Arc<Mutex<String>>,
}

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = mpsc::channel();
        let all = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&all);
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while matches!(stream.read_until(b'\n', &mut bytes), Ok(1..)) {
                let line = String::from_utf8_lossy(&bytes).into_owned();
                text.lock().unwrap().push_str(&line);
                // The test may look at no more lines; the process must be able to go on all the same.
                let _ = sender.send(line.trim_end_matches('\n').to_string());
                bytes.clear();
            }
        });
        Lines { receiver, all }
    }

    /// The next line; none once the stream has ended.
    #[track_caller]
    pub fn next(&mut self) -> Option<String> {
        match self.receiver.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {PATIENCE:?} after:\n{}", self.text()),
        }
    }

    /// Waits for a line that contains `part`, passing over others.
    #[track_caller]
    pub fn until(&mut self, part: &str) -> String {
        loop {
            match self.next() {
                Some(line) if line.contains(part) => return line,
                Some(_) => {}
                None => panic!("the output ended without {part:?}:\n{}", self.text()),
            }
        }
    }

    /// Everything said so far.
    pub fn text(&self) -> String {
        self.all.lock().unwrap().clone()
    }

    /// Waits for the stream's end; false if it has not come by then.
    fn drain(&mut self, deadline: Instant) -> bool {
        loop {
            match self
                .receiver
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

/// Sends a signal to a process that may be somebody else's child. A shell does it: the standard library cannot.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .stderr(Stdio::null())
        .status();
    status.unwrap();
}

/// What a process has started, and what that has, with their command lines.
pub fn beneath(pid: u32) -> Vec<(u32, String)> {
    let running = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Some((parent, (pid, line.replace('\0', " "))))
    });
    let running: Vec<(u32, (u32, String))> = running.collect();
    let mut found: Vec<(u32, String)> = Vec::new();
    let mut of = vec![pid];
    while let Some(pid) = of.pop() {
        let children = running.iter().filter(|(parent, _)| *parent == pid);
        for (_, child) in children {
            of.push(child.0);
            found.push(child.clone());
        }
    }
    found
}

/// Whether a process runs. One that has ended and was not waited for does not; one of whose threads some still do does,
/// and still has its sockets.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The fields follow the name, which is in parentheses and may contain anything.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let (state, threads) = (
        fields.first(),
        fields.get(17).and_then(|count| count.parse::<u32>().ok()),
    );
    !matches!(state, Some(&"Z" | &"X") | None) || threads.is_some_and(|count| count > 1)
}
