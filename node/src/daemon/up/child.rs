//! One child process of `up`: started, listened to, told to stop.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::BufReader;
use tokio::process::{self, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};

use super::super::api::{NodeNews, ReadyBody};
use super::super::cluster_dir::NodeEntry;
use super::super::exit::Failure;
use super::super::{lines, output};

/// Lines of a dead child's log that are shown.
const LAST_WORDS_LINES: usize = 12;
/// Bytes at the end of its log in which they are looked for.
const LAST_WORDS_BYTES: u64 = 16 << 10;
/// What a node has to say is at most this long: under `dev`, a line of its function's, with every byte escaped, fits.
const NEWS_BYTES_MAX: u64 = 256 << 10;

/// What is heard of a child.
pub(super) enum News {
    /// It is ready.
    Ready {
        /// Which one.
        name: String,
        /// Its own words.
        ready: ReadyBody,
        /// What its function is, for people; empty where it has none in another process.
        discovered: Vec<String>,
    },
    /// Its function is another one than before.
    Discovered(Vec<String>),
    /// This one has left the cluster: it ends, and is not to be started again.
    Left(String),
    /// Its process has ended.
    Ended {
        /// Which one.
        name: String,
        /// How.
        status: ExitStatus,
        /// The end of its log.
        last_words: Vec<String>,
    },
}

/// A child that has not ended.
pub(super) struct Child {
    name: String,
    /// Dropping it tells the child to stop.
    stdin: Option<ChildStdin>,
    kill: Option<oneshot::Sender<()>>,
}

impl Child {
    /// Starts a node; what becomes of it arrives as news.
    pub(super) fn start(
        program: &Path,
        node: &NodeEntry,
        config: &Path,
        log: &Path,
        dev: bool,
        news: mpsc::Sender<News>,
    ) -> Result<Child, Failure> {
        // The log of the start before stays beside it, so that neither grows for ever.
        let _ = fs::rename(log, log.with_extension("log.old"));
        let stderr = File::create(log).map_err(|e| Failure::io(log.display(), &e))?;
        let how = if dev { "--for-dev" } else { "--json" };
        let mut process = Command::new(program)
            .args(["node", how, "--until-stdin-closes", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // Ctrl-C goes to the terminal's whole foreground group: the children must hear of it from us, in order.
            .process_group(0)
            .spawn()
            .map_err(|e| Failure::io(format_args!("cannot start {}", program.display()), &e))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take();
        let (kill, killed) = oneshot::channel();
        let follow = Follow {
            name: node.name.clone(),
            log: log.to_path_buf(),
            news,
        };
        tokio::spawn(follow.run(process, stdout, killed));
        Ok(Child {
            name: node.name.clone(),
            stdin,
            kill: Some(kill),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn tell_to_stop(&mut self) {
        self.stdin = None;
    }

    pub(super) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            // It may have ended by itself meanwhile.
            let _ = kill.send(());
        }
    }
}

struct Follow {
    name: String,
    log: PathBuf,
    news: mpsc::Sender<News>,
}

impl Follow {
    async fn run(
        self,
        mut process: process::Child,
        stdout: Option<ChildStdout>,
        killed: oneshot::Receiver<()>,
    ) {
        let listening = stdout.map(|stdout| {
            let (name, news) = (self.name.clone(), self.news.clone());
            tokio::spawn(listen(name, stdout, news))
        });
        let status = tokio::select! {
            status = process.wait() => status,
            Ok(()) = killed => {
                let _ = process.start_kill();
                process.wait().await
            }
        };
        if let Some(listening) = listening {
            // What it said before its end comes before the news of its end.
            let _ = listening.await;
        }
        // Waiting for one's own child does not fail; if it did, its end would be all that is known.
        let status = status.unwrap_or_default();
        let last_words = last_words(&self.log);
        let _ = self
            .news
            .send(News::Ended {
                name: self.name,
                status,
                last_words,
            })
            .await;
    }
}

async fn say_ready(news: &mpsc::Sender<News>, name: String, ready: ReadyBody, discovered: Vec<String>) {
    // Whoever started it may be about to end.
    let _ = news
        .send(News::Ready {
            name,
            ready,
            discovered,
        })
        .await;
}

/// To the end: a node may leave, and under `dev` its function print, at any time, and a child must never find its stdout closed.
async fn listen(name: String, stdout: ChildStdout, news: mpsc::Sender<News>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    while lines::next(&mut stdout, NEWS_BYTES_MAX, &mut line).await {
        match serde_json::from_slice(&line) {
            Ok(NodeNews::Function { line }) => output::note_as(&name, &line),
            Ok(NodeNews::Ready { ready, discovered }) => {
                say_ready(&news, name.clone(), ready, discovered).await;
            }
            Ok(NodeNews::Discovered { discovered }) => {
                // Whoever started it may be about to end.
                let _ = news.send(News::Discovered(discovered)).await;
            }
            Ok(NodeNews::Left) => {
                let _ = news.send(News::Left(name.clone())).await;
            }
            // Under `up` a node says that it is ready as it does to anybody.
            Err(_) => {
                if let Ok(ready) = serde_json::from_slice::<ReadyBody>(&line) {
                    say_ready(&news, name.clone(), ready, Vec::new()).await;
                }
            }
        }
    }
}

/// The last lines of a log; empty if it cannot be read.
fn last_words(log: &Path) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_WORDS_LINES)..]
        .iter()
        .map(|line| for_people(line))
        .collect()
}

/// A line of a child's log. It writes for programs: what it ended with is JSON.
fn for_people(line: &str) -> String {
    let failure: Option<Value> = serde_json::from_str(line).ok();
    let message = failure
        .as_ref()
        .filter(|failure| failure["error"].is_string())
        .and_then(|failure| failure["message"].as_str());
    message.map_or_else(|| line.to_owned(), |message| format!("error: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_end_of_the_log() {
        let log = std::env::temp_dir().join(format!("anabranch-log-{}", std::process::id()));
        assert!(last_words(&log).is_empty());
        let lines: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        assert_eq!(last_words(&log), lines[lines.len() - LAST_WORDS_LINES..]);
        // What it ended with is for programs there.
        fs::write(
            &log,
            "short\n{\"error\":\"io\",\"message\":\"no \\\"room\\\"\",\"retry\":false}\n",
        )
        .unwrap();
        assert_eq!(last_words(&log), ["short", "error: no \"room\""]);
        fs::remove_file(&log).unwrap();
    }
}
