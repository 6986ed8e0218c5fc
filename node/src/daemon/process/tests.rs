//! Supervised commands, with a minder and real processes. The minder is this very test program: [`as_minder`] makes it one.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;

use super::outlet::Outlet;
use super::run::{LINE_BYTES_MAX, Minder, forward};
use super::supervisor::{Handle, State, Supervisor};
use super::{Probe, Settings, minder};
use crate::daemon::api::NodeNews;
use crate::daemon::ports;

/// What makes this program a minder.
const MINDER: &str = "ANABRANCH_TEST_MINDER";
/// How long anything may take that should happen at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Listens at its port until it is told to stop, and says so then.
const SERVER: &str = "import os,signal,socket,sys
s=socket.create_server((os.environ['HOST'],int(os.environ['PORT'])))
def bye(*_):
  print('bye',flush=True); sys.exit(0)
signal.signal(signal.SIGTERM,bye)
print('at',s.getsockname()[1],flush=True)
while True: s.accept()[0].close()";

/// No test: what the minders of the tests run as.
#[test]
fn as_minder() {
    if let Ok(command) = env::var(MINDER) {
        let words: Vec<_> = command.split('\u{1f}').map(Into::into).collect();
        let _ = minder::run(&words);
    }
}

fn test_minder(command: &[&str]) -> Minder {
    let mut args = vec![format!("{MINDER}={}", command.join("\u{1f}")).into()];
    args.push(env::current_exe().unwrap().into());
    let name = format!("{}::as_minder", module_path!().split_once("::").unwrap().1);
    args.extend(["--exact".into(), name.into(), "--nocapture".into(), "-q".into()]);
    Minder {
        program: "env".into(),
        args,
    }
}

struct Supervised {
    supervisor: Option<Supervisor>,
    handle: Handle,
    lines: Mutex<mpsc::Receiver<String>>,
    port: u16,
}

/// Says of nothing that it is a function.
fn nowhere() -> Probe {
    Arc::new(|_| Box::pin(std::future::ready(false)))
}

impl Supervised {
    fn start(command: &[&str], directory: PathBuf) -> Supervised {
        Supervised::start_with(command, directory, nowhere())
    }

    fn start_with(command: &[&str], directory: PathBuf, probe: Probe) -> Supervised {
        let (sender, lines) = mpsc::channel();
        let (outlet, _) = Outlet::start(move |news| {
            if let NodeNews::Function { line } = news {
                let _ = sender.send(line);
            }
        });
        let port = ports::take_one().unwrap();
        let settings = Settings {
            // The minder of the tests has it in its environment.
            command: Vec::new(),
            directory,
            port,
        };
        let supervisor = Supervisor::with(test_minder(command), settings, outlet, probe);
        Supervised {
            handle: supervisor.handle(),
            supervisor: Some(supervisor),
            lines: Mutex::new(lines),
            port,
        }
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) -> State {
        timeout(PATIENCE, self.handle.until(is_so))
            .await
            .expect("in time")
    }

    async fn running(&self) -> u32 {
        match self.until(|state| matches!(state, State::Running { .. })).await {
            State::Running { pid, address } => {
                assert_eq!(address.port(), self.port);
                pid
            }
            other => panic!("{other:?}"),
        }
    }

    /// Passes over lines until one that contains this.
    fn line(&self, part: &str) -> String {
        let lines = self.lines.lock().unwrap();
        loop {
            let line = lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no line with {part:?}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    async fn stop(&mut self) {
        let supervisor = self.supervisor.take().unwrap();
        timeout(PATIENCE, supervisor.stop()).await.expect("in time");
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_started_again_after_a_crash_and_nothing_is_left_when_it_is_stopped() {
    let mut function = Supervised::start(&["python3", "-c", SERVER], "/".into());
    let first = function.running().await;
    assert_eq!(function.line("at "), format!("at {}", function.port));
    kill(first);
    let crashed = function.line("it is started again");
    assert!(
        crashed.contains("signal: 9") && crashed.contains("250 ms"),
        "{crashed}"
    );
    let second = function
        .until(|state| matches!(state, State::Running { pid, .. } if *pid != first))
        .await;
    let State::Running { pid: second, .. } = second else {
        unreachable!()
    };
    let starts = function.handle.starts();
    assert_eq!(starts.count, 2);
    assert!(
        starts.total >= starts.last && starts.last > Duration::ZERO,
        "{starts:?}"
    );
    function.stop().await;
    assert!(!is_there(second));
    function.line("bye");
    assert_eq!(function.handle.state(), State::Ended);
    assert!(function.handle.wake().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sleeps_and_is_woken() {
    let mut function = Supervised::start(&["python3", "-c", SERVER], "/".into());
    let first = function.running().await;
    timeout(PATIENCE, function.handle.stop_idle())
        .await
        .expect("in time");
    assert_eq!(function.handle.state(), State::Stopped);
    assert!(!is_there(first));
    function.line("bye");
    function.line("asleep");
    timeout(PATIENCE, function.handle.wake())
        .await
        .expect("in time")
        .unwrap();
    let second = function.running().await;
    assert_ne!(first, second);
    assert_eq!(function.handle.starts().count, 2);
    // Who wakes it while it is being stopped gets one that runs.
    for _ in 0..5 {
        let asleep = function.handle.stop_idle();
        let awake = function.handle.wake();
        let (_, awake) = timeout(PATIENCE, async { tokio::join!(asleep, awake) })
            .await
            .expect("in time");
        awake.unwrap();
        assert!(is_there(function.running().await));
    }
    timeout(PATIENCE, function.handle.stop_idle())
        .await
        .expect("in time");
    function.stop().await;
    assert_eq!(function.handle.state(), State::Ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_off_grows_and_an_order_to_stop_ends_it() {
    let mut function = Supervised::start(&["sh", "-c", "echo last words; exit 3"], "/".into());
    for wait in ["250 ms", "500 ms", "1000 ms", "2000 ms"] {
        function.line("last words");
        let said = function.line("has ended");
        assert!(said.contains("exit status: 3") && said.contains(wait), "{said}");
    }
    let State::Crashed {
        ending: Some(ending),
        again_at,
    } = function
        .until(|state| matches!(state, State::Crashed { .. }))
        .await
    else {
        unreachable!()
    };
    assert_eq!(ending.code(), 3);
    assert!(again_at > tokio::time::Instant::now());
    function.stop().await;
    assert_eq!(function.handle.starts().count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_started_is_given_up_and_what_may_is_tried_again() {
    let mut function = Supervised::start(&["/no/such/command"], "/".into());
    let State::Failed { message } = function
        .until(|state| matches!(state, State::Failed { .. }))
        .await
    else {
        unreachable!()
    };
    assert!(
        message.contains("/no/such/command") && message.contains("No such file"),
        "{message}"
    );
    assert!(
        function
            .handle
            .wake()
            .await
            .unwrap_err()
            .message()
            .contains("/no/such/command")
    );
    function.stop().await;

    let directory = env::temp_dir().join(format!("anabranch-function-{}", std::process::id()));
    let mut function = Supervised::start(&["python3", "-c", SERVER], directory.clone());
    let said = function.line("cannot be started");
    assert!(said.contains("there is no directory"), "{said}");
    fs::create_dir(&directory).unwrap();
    function.running().await;
    function.stop().await;
    fs::remove_dir(&directory).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_told_and_waited_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (sender, lines) = mpsc::channel();
    let (outlet, _) = Outlet::start(move |news| {
        let _ = sender.send(news);
    });
    let settings = Settings {
        command: Vec::new(),
        directory: "/".into(),
        port: taken.local_addr().unwrap().port(),
    };
    let supervisor = Supervisor::with(
        test_minder(&["python3", "-c", SERVER]),
        settings,
        outlet,
        nowhere(),
    );
    let NodeNews::Function { line } = lines.recv_timeout(PATIENCE).unwrap() else {
        panic!()
    };
    assert!(line.contains("is in use by another process"), "{line}");
    drop(taken);
    let is_running = |state: &State| matches!(state, State::Running { .. });
    timeout(PATIENCE, supervisor.handle().until(is_running))
        .await
        .expect("in time");
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_listens_elsewhere_is_found_where_it_answers() {
    // Two ports, of which one is a function's; the second process of the group has them.
    let [one, two] = [(); 2].map(|()| ports::take_one().unwrap());
    let server = "import socket,sys,time
all=[socket.create_server((host,int(port))) for host,port in zip(['0.0.0.0','127.0.0.1'],sys.argv[1:])]
while True: all[1].accept()[0].close()";
    let command = ["sh", "-c", "python3 -c \"$0\" $1 $2; true", server];
    let [first, second] = [one, two].map(|port| port.to_string());
    let command: Vec<&str> = command.into_iter().chain([first.as_str(), &second]).collect();
    let probe: Probe =
        Arc::new(move |address| Box::pin(std::future::ready(address.port() == two && address.is_ipv4())));
    let mut function = Supervised::start_with(&command, "/".into(), probe);
    let state = function
        .until(|state| matches!(state, State::Running { .. }))
        .await;
    let found = SocketAddr::from(([127, 0, 0, 1], two));
    assert!(
        matches!(state, State::Running { address, .. } if address == found),
        "{state:?}"
    );
    assert_eq!(function.handle.address(), found);
    let said = function.line("was found at");
    assert!(
        said.contains(&found.to_string()) && said.contains(&format!("127.0.0.1:{}", function.port)),
        "{said}"
    );
    function.stop().await;
    assert_ne!(function.handle.address(), found);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minder_that_is_killed_leaves_nothing_behind() {
    let mut function = Supervised::start(&["python3", "-c", SERVER], "/".into());
    let first = function.running().await;
    let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let parent: u32 = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kill(parent);
    let second = function
        .until(|state| matches!(state, State::Running { pid, .. } if *pid != first))
        .await;
    assert!(matches!(second, State::Running { .. }));
    function.stop().await;
}

#[tokio::test]
async fn long_lines_go_out_in_pieces() {
    let long = "x".repeat(LINE_BYTES_MAX as usize + 1);
    let output = format!("short\r\n\n{long}\n\u{1b}[2Jno end");
    let (sender, lines) = mpsc::channel();
    let (outlet, drain) = Outlet::start(move |news| {
        let _ = sender.send(news);
    });
    forward(output.as_bytes(), outlet).await;
    drain.done().await;
    let lines: Vec<String> = lines
        .try_iter()
        .map(|news| match news {
            NodeNews::Function { line } => line,
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = ["short", "", &long[1..], "x", "\u{1b}[2Jno end"];
    assert_eq!(lines, expected);
}
