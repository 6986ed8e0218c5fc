//! The node's task for its function's process: starts it, starts it again after it has crashed, lets it sleep while nobody
//! needs it, and ends it.
//!
//! Contract: what is wanted and what is so are one value behind one lock, so that who wakes it is never told that it runs while
//! it is being stopped. Back-off is waited for only by those who want it to run: an order to stop ends it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Settings;
use super::listening::{Probe, Search};
use super::outlet::Outlet;
use super::run::{Heard, Minder, Run, STOP_TIMEOUT};
use super::words::Ending;
use crate::daemon::exit::Failure;
use crate::error::{Error, ErrorKind};

/// The wait after the first crash; each further one is twice as long,
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
/// up to this,
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// until it has run so long.
const RAN_WELL: Duration = Duration::from_secs(10);
/// Between two looks at whether its port is open: another process' listening is reported to nobody.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A look takes no longer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// After this long without an open port people are told what is awaited.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was started, and does not listen yet.
    Starting,
    /// It listens.
    Running {
        /// The command's process.
        pid: u32,
        /// Where it listens.
        address: SocketAddr,
    },
    /// It is told to stop.
    Stopping,
    /// Nobody needs it: it is started when it is woken.
    Stopped,
    /// It ended by itself.
    Crashed {
        /// How; none where it could not even be started.
        ending: Option<Ending>,
        /// When it is started again.
        again_at: Instant,
    },
    /// It could never be started, and is not tried again.
    Failed {
        /// Why, for people.
        message: String,
    },
    /// The node stops, and nothing of it is left.
    Ended,
}

/// How often it was started until it listened, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// How often.
    pub count: u64,
    /// How long it took the last time.
    pub last: Duration,
    /// How long all of them took.
    pub total: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Run,
    Sleep,
    End,
}

#[derive(Clone, Debug)]
struct Seen {
    wanted: Wanted,
    state: State,
    starts: Starts,
}

/// What the supervisor is asked and told by others; any number of them.
#[derive(Clone)]
pub struct Handle {
    seen: Arc<watch::Sender<Seen>>,
    /// Where it is to listen.
    at: SocketAddr,
}

impl Handle {
    /// What is so now.
    pub fn state(&self) -> State {
        self.seen.borrow().state.clone()
    }

    /// Where it listens; while it does not, where it is to.
    pub fn address(&self) -> SocketAddr {
        match &self.seen.borrow().state {
            State::Running { address, .. } => *address,
            _ => self.at,
        }
    }

    /// Its starts so far.
    pub fn starts(&self) -> Starts {
        self.seen.borrow().starts
    }

    /// Waits until something is true of the state.
    pub async fn until(&self, is_so: impl Fn(&State) -> bool) -> State {
        let mut seen = self.seen.subscribe();
        // Its sender is in this very handle.
        match seen.wait_for(|seen| is_so(&seen.state)).await {
            Ok(seen) => seen.state.clone(),
            Err(_) => State::Ended,
        }
    }

    /// Lets it sleep: returns once nothing of it runs, or somebody has woken it meanwhile.
    pub async fn stop_idle(&self) {
        self.want(Wanted::Run, Wanted::Sleep);
        let is_asleep = |seen: &Seen| match seen.state {
            State::Stopped | State::Failed { .. } | State::Ended => true,
            _ => seen.wanted != Wanted::Sleep,
        };
        let _ = self.seen.subscribe().wait_for(is_asleep).await;
    }

    /// Has it run: returns once it listens. Without bound: a caller has a deadline of its own.
    pub async fn wake(&self) -> Result<(), Error> {
        self.want(Wanted::Sleep, Wanted::Run);
        let settled =
            |state: &State| matches!(state, State::Running { .. } | State::Failed { .. } | State::Ended);
        match self.until(settled).await {
            State::Running { .. } => Ok(()),
            State::Failed { message } => Err(Error::new(ErrorKind::Unreachable, message)),
            _ => Err(Error::new(
                ErrorKind::Stopping,
                "the node stops, and so does its function",
            )),
        }
    }

    /// Wants one thing instead of another, if that was what was wanted.
    fn want(&self, instead_of: Wanted, wanted: Wanted) {
        self.seen.send_if_modified(|seen| {
            let is_new = seen.wanted == instead_of;
            if is_new {
                seen.wanted = wanted;
            }
            is_new
        });
    }

    fn end(&self) {
        self.seen.send_modify(|seen| seen.wanted = Wanted::End);
    }

    fn wanted(&self) -> Wanted {
        self.seen.borrow().wanted
    }

    async fn until_unwanted(&self) {
        let mut seen = self.seen.subscribe();
        let _ = seen.wait_for(|seen| seen.wanted != Wanted::Run).await;
    }

    fn show(&self, state: State) {
        self.seen.send_modify(|seen| seen.state = state);
    }

    /// Whether it is not wanted to run, and is therefore told to stop: one step, or whoever wakes it at this moment would
    /// see it run.
    fn begin_stop(&self) -> bool {
        self.seen.send_if_modified(|seen| {
            let is_unwanted = seen.wanted != Wanted::Run;
            if is_unwanted {
                seen.state = State::Stopping;
            }
            is_unwanted
        })
    }

    fn started(&self, pid: u32, address: SocketAddr, took: Duration) {
        self.seen.send_modify(|seen| {
            seen.state = State::Running { pid, address };
            seen.starts.count += 1;
            seen.starts.last = took;
            seen.starts.total += took;
        });
    }
}

/// A function's process, looked after.
pub struct Supervisor {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts it; inside a runtime. `probe` asks whether a function is where it should not be.
    pub fn start(settings: Settings, outlet: Outlet, probe: Probe) -> Result<Supervisor, Failure> {
        let minder = Minder::of_this_program().map_err(|e| Failure::io("the path of this program", &e))?;
        Ok(Supervisor::with(minder, settings, outlet, probe))
    }

    pub(super) fn with(minder: Minder, settings: Settings, outlet: Outlet, probe: Probe) -> Supervisor {
        let (seen, _) = watch::channel(Seen {
            wanted: Wanted::Run,
            state: State::Starting,
            starts: Starts::default(),
        });
        let handle = Handle {
            seen: Arc::new(seen),
            at: settings.address(),
        };
        let keeper = Keeper {
            handle: handle.clone(),
            minder,
            settings,
            outlet,
            probe,
            back_off: BACK_OFF_MIN,
            was_started: false,
        };
        let task = tokio::spawn(keeper.run());
        Supervisor { handle, task }
    }

    /// For those who let it sleep and wake it, and who show it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until it is known that it can never be started; why.
    pub async fn failed(&self) -> String {
        match self
            .handle
            .until(|state| matches!(state, State::Failed { .. }))
            .await
        {
            State::Failed { message } => message,
            _ => std::future::pending().await,
        }
    }

    /// Ends it; returns when nothing of it is left.
    pub async fn stop(self) {
        self.handle.end();
        // It ends on its own, however the task does.
        let _ = self.task.await;
        self.handle.show(State::Ended);
    }
}

/// What one life came to.
enum Life {
    /// It ended, having listened so long.
    Ended(Ending, Option<Duration>),
    /// It was told to end.
    AsTold,
    /// It could not begin.
    Not { message: String, ever: bool },
}

struct Keeper {
    handle: Handle,
    minder: Minder,
    settings: Settings,
    outlet: Outlet,
    probe: Probe,
    /// The next wait after a crash.
    back_off: Duration,
    /// Whether the command was ever there.
    was_started: bool,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            match self.handle.wanted() {
                Wanted::End => return,
                Wanted::Sleep => self.sleep().await,
                Wanted::Run => {
                    let life = self.live().await;
                    if !self.recover(life).await {
                        return;
                    }
                }
            }
        }
    }

    async fn sleep(&self) {
        self.handle.show(State::Stopped);
        self.outlet.line("(asleep: no call needs it)").await;
        let mut seen = self.handle.seen.subscribe();
        let _ = seen.wait_for(|seen| seen.wanted != Wanted::Sleep).await;
    }

    /// Says what has happened and waits before the next start; false if there is to be none.
    async fn recover(&mut self, life: Life) -> bool {
        let (ending, ran, what) = match life {
            Life::AsTold => return true,
            Life::Ended(ending, None) => {
                // Perhaps since somebody else has the port that it insists on.
                let at = self.settings.address();
                let what = format!("has ended: {ending}, before it listened at HOST and PORT, here {at}");
                (Some(ending), None, what)
            }
            Life::Ended(ending, ran) => (Some(ending), ran, format!("has ended: {ending}")),
            Life::Not { message, ever: false } => {
                self.remark(&format!("cannot be started: {message}")).await;
                self.handle.show(State::Failed { message });
                return false;
            }
            Life::Not { message, .. } => (None, None, format!("cannot be started: {message}")),
        };
        if ran.is_some_and(|ran| ran >= RAN_WELL) {
            self.back_off = BACK_OFF_MIN;
        }
        let wait = self.back_off;
        self.back_off = (wait * 2).min(BACK_OFF_MAX);
        let again_at = Instant::now() + wait;
        self.handle.show(State::Crashed { ending, again_at });
        self.remark(&format!("{what}; it is started again in {} ms", wait.as_millis()))
            .await;
        tokio::select! {
            () = sleep_until(again_at) => {}
            () = self.handle.until_unwanted() => {}
        }
        true
    }

    /// What the supervisor says itself, among the function's own lines and in the node's log.
    async fn remark(&self, what: &str) {
        tracing::warn!("the function {what}");
        self.outlet.line(format!("(the function {what})")).await;
    }

    /// From a start to the end of what was started.
    async fn live(&mut self) -> Life {
        self.handle.show(State::Starting);
        let refused = |message: String, ever| Life::Not { message, ever };
        if let Err(message) = check(&self.settings) {
            // It may become free, or be made, at any time.
            return refused(message, true);
        }
        let begun = Instant::now();
        let mut run = match Run::start(&self.minder, &self.settings, self.outlet.clone()) {
            Ok(run) => run,
            Err(e) => return refused(e.to_string(), true),
        };
        let life = self.follow(&mut run, begun).await;
        run.finish().await;
        life
    }

    async fn follow(&mut self, run: &mut Run, begun: Instant) -> Life {
        let at = self.settings.address();
        let (handle, mut search) = (self.handle.clone(), Search::new(Arc::clone(&self.probe)));
        let (mut pid, mut running_since, mut is_late, mut give_up) = (None, None, false, None);
        loop {
            tokio::select! {
                heard = run.hear() => match heard {
                    Heard::Started { pid: its } => {
                        self.was_started = true;
                        pid = Some(its);
                    }
                    Heard::NotStarted { message } => return Life::Not { message, ever: self.was_started },
                    Heard::Ended { .. } if give_up.is_some() => return Life::AsTold,
                    Heard::Ended { ending } => {
                        return Life::Ended(ending, running_since.map(|since: Instant| since.elapsed()));
                    }
                },
                () = handle.until_unwanted(), if give_up.is_none() => if handle.begin_stop() {
                    run.stop();
                    give_up = Some(Instant::now() + STOP_TIMEOUT);
                },
                address = opened(at, pid, &mut search), if pid.is_some() && running_since.is_none() && give_up.is_none() => {
                    running_since = Some(Instant::now());
                    handle.started(pid.unwrap_or_default(), address, begun.elapsed());
                    if address != at {
                        self.remark(&format!("does not listen at HOST and PORT, here {at}, and was found at {address}: of several nodes' functions only one can be there")).await;
                    }
                }
                () = sleep_until(begun + PATIENCE), if !is_late && running_since.is_none() && give_up.is_none() => {
                    is_late = true;
                    let seconds = PATIENCE.as_secs();
                    self.remark(&format!("has not opened its port after {seconds} s: it must listen at HOST and PORT, here {at}{}", search.in_vain())).await;
                }
                () = sleep_until(give_up.unwrap_or(begun)), if give_up.is_some() => {
                    tracing::warn!("the function's end was not heard of");
                    return Life::AsTold;
                }
            }
        }
    }
}

/// What must be so before a start.
fn check(settings: &Settings) -> Result<(), String> {
    let (directory, address) = (&settings.directory, settings.address());
    if !Path::is_dir(directory) {
        return Err(format!("there is no directory {}", directory.display()));
    }
    // Taken and let go: whoever has it is named before the function would fail in words of its own.
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            Err(format!("its port, {address}, is in use by another process"))
        }
        Err(e) => Err(format!("its port, {address}: {e}")),
    }
}

/// Returns when it listens: where it is to, or elsewhere.
async fn opened(at: SocketAddr, group: Option<u32>, search: &mut Search) -> SocketAddr {
    tokio::select! {
        biased;
        () = open(at) => at,
        found = search.find(group.unwrap_or_default()) => found,
    }
}

/// Returns when somebody listens there.
async fn open(address: SocketAddr) {
    while !matches!(
        timeout(LOOK_TIMEOUT, TcpStream::connect(address)).await,
        Ok(Ok(_))
    ) {
        sleep(LOOK_EVERY).await;
    }
}
