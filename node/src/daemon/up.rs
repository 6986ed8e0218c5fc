//! `up`, and `dev` on top of it: a development cluster as child processes, started together and ended together.
//!
//! Not here: what a node does (`node_command`), what the directory holds (`cluster_dir`).
//!
//! Contract: what a node's function prints is on stderr with the node's name in front. The children end with this process, however it ends: each watches its stdin, whose other end only this
//! process holds. A child that dies is reported and not restarted; the others go on.

mod child;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use self::child::{Child, News};
use super::api::ReadyBody;
use super::cli;
use super::cluster_dir::{ClusterDir, DIR_DEFAULT, FunctionCommand};
use super::exit::{self, Failure};
use super::output::{self, plural, quoted};
use super::process::minder::GRACE;
use crate::function::Function;

/// A child that has not stopped this long after it was told to is killed: its function has had its grace by then, too.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// After this long, people are told which nodes are still awaited.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the nodes of an `up` that was killed may take to end: they notice at once, and finish what they took.
const LAST_RUN_TIMEOUT: Duration = Duration::from_secs(5).saturating_add(GRACE);
/// Between two looks at whether they have: other processes' ends are reported to nobody here.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is to be started.
pub struct Wanted {
    /// How many nodes.
    pub nodes: usize,
    /// Where their data goes.
    pub dir: PathBuf,
    /// JSON on stdout.
    pub json: bool,
    /// The function beside each, for `dev`.
    pub function: Option<FunctionCommand>,
}

impl From<cli::Up> for Wanted {
    fn from(args: cli::Up) -> Wanted {
        Wanted {
            nodes: args.nodes.into(),
            dir: args.dir,
            json: args.json,
            function: None,
        }
    }
}

/// Runs `up` until it is told to stop or has no child left.
pub async fn run(wanted: Wanted, functions: Vec<Arc<Function>>) -> Result<(), Failure> {
    // Before anything is started: a signal must not find it half done.
    let stop = |kind| signal(kind).map_err(|e| Failure::io("signals", &e));
    let mut stop = Stop {
        interrupt: stop(SignalKind::interrupt())?,
        terminate: stop(SignalKind::terminate())?,
    };
    let dir = tokio::select! {
        dir = open(&wanted) => dir?,
        () = stop.told() => return Ok(()),
    };
    let (sender, mut news) = mpsc::channel(64);
    let mut cluster = Cluster {
        dir,
        json: wanted.json,
        dev: wanted.function.is_some(),
        functions,
        children: Vec::new(),
        awaited: Vec::new(),
        left: Vec::new(),
        was_up: false,
        first_end: None,
        unheard: false,
        found: Vec::new(),
    };
    let outcome = match cluster.start(&sender) {
        Ok(()) => cluster.stay(&mut stop, &mut news).await,
        Err(failure) => Err(failure),
    };
    // Whichever way it ends, it ends after its children.
    cluster.stop(&mut news).await;
    outcome
}

/// The directory, once the nodes of an `up` that was killed are out of the way.
async fn open(wanted: &Wanted) -> Result<ClusterDir, Failure> {
    let deadline = Instant::now() + LAST_RUN_TIMEOUT;
    let mut told = false;
    loop {
        match ClusterDir::open(&wanted.dir, wanted.nodes, wanted.function.as_ref()) {
            Err(failure) if failure.may_retry() && Instant::now() < deadline => {
                if !told {
                    output::note("waiting for what is left of the run before");
                    told = true;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            other => return other,
        }
    }
}

/// What tells `up` to stop.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

enum Event {
    News(News),
    Late,
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The running nodes.
struct Cluster {
    dir: ClusterDir,
    json: bool,
    /// Whether a function runs beside each node.
    dev: bool,
    /// What its nodes run.
    functions: Vec<Arc<Function>>,
    /// Those that have not ended.
    children: Vec<Child>,
    /// Those that were not ready yet.
    awaited: Vec<String>,
    /// Those that have said that they have left the cluster.
    left: Vec<String>,
    /// Whether any of them was ever ready.
    was_up: bool,
    /// What the failure of the first one that ended is called.
    first_end: Option<String>,
    /// Nobody reads stdout any more.
    unheard: bool,
    /// What was said of what the function is: its services and routes.
    found: Vec<String>,
}

impl Cluster {
    fn start(&mut self, news: &mpsc::Sender<News>) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::io("the path of this program", &e))?;
        let what = if self.dir.resumed() {
            "resuming"
        } else {
            "starting"
        };
        let nodes = plural(self.dir.nodes().len() as u64, "node");
        output::note(&format!("{what} {nodes} in {}", self.dir.path().display()));
        for node in self.dir.nodes() {
            let child = Child::start(
                &program,
                node,
                &self.dir.config(node),
                &self.dir.log(node),
                self.dev,
                news.clone(),
            )?;
            self.awaited.push(node.name.clone());
            self.children.push(child);
        }
        Ok(())
    }

    /// Hears what becomes of the children until it is told to stop, or there are none to stay for.
    async fn stay(&mut self, stop: &mut Stop, news: &mut mpsc::Receiver<News>) -> Result<(), Failure> {
        let mut patience = Some(Instant::now() + PATIENCE);
        loop {
            let event = tokio::select! {
                () = stop.told() => return Ok(()),
                Some(news) = news.recv() => Event::News(news),
                () = sleep_until(patience) => Event::Late,
            };
            match event {
                Event::News(News::Ready {
                    name,
                    ready,
                    discovered,
                }) => self.on_ready(&name, &ready, &discovered),
                Event::News(News::Discovered(discovered)) => self.say_found(&discovered),
                Event::News(News::Left(name)) => self.left.push(name),
                Event::News(News::Ended {
                    name,
                    status,
                    last_words,
                }) => self.on_ended(&name, status, &last_words),
                Event::Late => {
                    patience = None;
                    self.on_late();
                }
            }
            if self.children.is_empty() && !self.was_up {
                return Err(self.none_started());
            }
        }
    }

    /// Says something on stdout. That nobody can read it is no reason to end the cluster.
    fn say(&mut self, text: &str) {
        if self.unheard {
            return;
        }
        if let Err(failure) = output::line(text) {
            self.unheard = true;
            let why = match failure.message() {
                "" => "nobody reads stdout any more",
                message => message,
            };
            output::note(&format!(
                "{why}; the cluster goes on, and Ctrl-C or SIGTERM stops it"
            ));
        }
    }

    fn on_ready(&mut self, name: &str, ready: &ReadyBody, discovered: &[String]) {
        self.was_up = true;
        self.awaited.retain(|awaited| awaited != name);
        if self.json {
            match serde_json::to_string(ready) {
                Ok(text) => self.say(&text),
                Err(e) => output::note(&format!("{name} is ready, which JSON cannot say: {e}")),
            }
        } else {
            self.say(&ready.to_string());
        }
        self.say_found(discovered);
        self.say_what_next();
    }

    /// Says what was discovered, unless that was said before.
    fn say_found(&mut self, discovered: &[String]) {
        // Every node finds the same, at an address of its own, which is in the other lines.
        let is_route = |line: &&String| line.starts_with(' ');
        let found: Vec<String> = discovered.iter().filter(is_route).cloned().collect();
        if discovered.is_empty() || self.found == found {
            return;
        }
        self.found = found;
        let lines = output::tame(&discovered.join("\n"));
        if self.json {
            output::note(&lines);
        } else {
            self.say(&lines);
        }
    }

    fn on_ended(&mut self, name: &str, status: ExitStatus, last_words: &[String]) {
        self.children.retain(|child| child.name() != name);
        let was_ready = !self.awaited.iter().any(|awaited| awaited == name);
        self.awaited.retain(|awaited| awaited != name);
        self.first_end
            .get_or_insert_with(|| failure_of(status).unwrap_or("internal").to_string());
        let has_left = self.left.iter().any(|left| left == name);
        match has_left && status.success() {
            true => output::note(&format!(
                "{name} has left the cluster, as it was asked to. It would be a member again if it were started again, also by \
                 the next `up` here."
            )),
            false => self.say_end(name, was_ready, status, last_words),
        }
        if !self.children.is_empty() {
            // It is not waited for any more: those that are ready may be all there will be.
            if !was_ready {
                self.say_what_next();
            }
        } else if self.was_up {
            output::note("No node is left. Ctrl-C ends this; the same command then resumes the cluster.");
        }
    }

    /// Says of a node that nobody has asked to end how it did, and how it is started again.
    fn say_end(&self, name: &str, was_ready: bool, status: ExitStatus, last_words: &[String]) {
        let what = if was_ready { "has ended" } else { "did not start" };
        output::note(&format!("{name} {what}: {}", describe(status)));
        for line in last_words {
            output::note(&format!("  {name}: {line}"));
        }
        if let Some(node) = self.dir.nodes().iter().find(|node| node.name == name) {
            let (log, config) = (self.dir.log(node), self.dir.config(node));
            output::note(&format!(
                "The whole log of {name}: {}. To start it again: {} node --config {}",
                log.display(),
                program_name(),
                quoted(&config)
            ));
        }
    }

    fn on_late(&self) {
        if !self.awaited.is_empty() {
            let names = self.awaited.join(", ");
            let seconds = PATIENCE.as_secs();
            let who = if self.dev {
                "what their functions say, or their logs,"
            } else {
                "their logs"
            };
            output::note(&format!(
                "still waiting for {names} after {seconds} s; {who} may say why"
            ));
        }
    }

    /// Once nobody is awaited any more: what to type, for people.
    fn say_what_next(&mut self) {
        if self.json || !self.awaited.is_empty() {
            return;
        }
        let program = program_name();
        let default = std::path::absolute(DIR_DEFAULT).is_ok_and(|path| path == self.dir.path());
        let dir = if default {
            String::new()
        } else {
            format!(" --dir {}", quoted(self.dir.path()))
        };
        self.say(&format!(
            "\nThe cluster is up; its data is in {}. Type in another terminal:\n\
             {}\
             \x20 {program} status{dir}\n\
             Ctrl-C stops it; the same command resumes it.",
            self.dir.path().display(),
            self.what_to_try(&program, &dir),
        ));
    }

    fn what_to_try(&self, program: &str, dir: &str) -> String {
        if self.dev {
            // What was found says how it is called.
            return String::new();
        }
        if self.functions.is_empty() {
            return format!(
                "\x20 {program} update wishes alice add apples pears --type orset{dir}\n\x20 {program} get wishes alice{dir}\n"
            );
        }
        // A line for each, that does something as it stands.
        let calls = |function: &Arc<Function>| {
            let line = |method: &str| {
                let command = if function.is_stream(method) {
                    "stream"
                } else {
                    "call"
                };
                format!("\x20 {program} {command} {} k {method}{dir}\n", function.kind())
            };
            function.methods().map(line).collect::<String>()
        };
        let calls: String = self.functions.iter().map(calls).collect();
        calls + "(k is a key; an argument is JSON and stands behind the method.)\n"
    }

    /// Tells all children to stop and waits for them, killing those that do not.
    async fn stop(&mut self, news: &mut mpsc::Receiver<News>) {
        if self.children.is_empty() {
            return;
        }
        output::note("stopping");
        self.children.iter_mut().for_each(Child::tell_to_stop);
        self.await_ends(news, Instant::now() + STOP_TIMEOUT).await;
        for child in &mut self.children {
            output::note(&format!("{} does not stop: killing it", child.name()));
            child.kill();
        }
        self.await_ends(news, Instant::now() + STOP_TIMEOUT).await;
    }

    async fn await_ends(&mut self, news: &mut mpsc::Receiver<News>, deadline: Instant) {
        while !self.children.is_empty() {
            match timeout_at(deadline, news.recv()).await {
                Ok(Some(News::Ended { name, status, .. })) => {
                    self.children.retain(|child| child.name() != name);
                    if !status.success() {
                        output::note(&format!("{name} {}", describe(status)));
                    }
                }
                Ok(Some(News::Ready { .. } | News::Discovered(_) | News::Left(_))) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn none_started(&self) -> Failure {
        Failure::new(
            self.first_end.as_deref().unwrap_or("internal"),
            "no node could be started: all nodes have ended",
        )
    }
}

fn describe(status: ExitStatus) -> String {
    match failure_of(status) {
        Some(name) => format!("{status} ({name})"),
        None => status.to_string(),
    }
}

/// What the failure is called that a child ended with.
fn failure_of(status: ExitStatus) -> Option<&'static str> {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .and_then(exit::name_of)
}

/// How this program was called, so that what is printed can be typed.
fn program_name() -> String {
    let name = std::env::args_os().next();
    quoted(Path::new(&name.unwrap_or_else(|| "anabranch".into())))
}
