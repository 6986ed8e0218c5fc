//! The processes that are measured: a node with its ingress, the function, and the plain service. They end with this one.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anabranch::transport::ca::IssueOptions;
use anabranch::{NodeId, ca};

/// Where all of them listen.
pub const HOST: &str = "127.0.0.1";
/// Between two looks at whether somebody listens.
const PAUSE: Duration = Duration::from_millis(1);

/// A process and the port at which it is called.
pub struct Process {
    child: Child,
    signal: &'static str,
    pub port: u16,
}

/// How a node ends: in order, with what it has started itself.
const IN_ORDER: &str = "TERM";
/// How all others do: the function would wait for the node to end first.
const AT_ONCE: &str = "KILL";

impl Process {
    /// Starts it; what it says goes to a file of its own beside the others'. It ends when the thread that starts it does.
    fn start(dir: &Path, name: &str, port: u16, command: &mut Command, signal: &'static str) -> Process {
        let log = File::create(dir.join(format!("{name}.log"))).unwrap();
        let mut bound = Command::new("setpriv");
        bound.args(["--pdeathsig", signal]);
        bound.arg(command.get_program()).args(command.get_args());
        if let Some(place) = command.get_current_dir() {
            bound.current_dir(place);
        }
        bound.env("HOST", HOST).env("PORT", port.to_string());
        bound
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        let child = bound.spawn();
        let child = child.expect("setpriv, of the package util-linux, is needed");
        Process { child, signal, port }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has in memory, bytes.
    pub fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<f64>().unwrap() * 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let (signal, id) = (self.signal, self.id().to_string());
        let told = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(told.unwrap().success(), "process {id} cannot be told to end");
        self.child.wait().unwrap();
    }
}

/// Nobody listens at it.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind((HOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

pub fn is_listening(port: u16) -> bool {
    TcpStream::connect((HOST, port)).is_ok()
}

/// Waits until somebody listens at a port, or nobody does.
pub fn until_listening(port: u16, listening: bool) {
    while is_listening(port) != listening {
        std::thread::sleep(PAUSE);
    }
}

/// What the script has prepared.
pub struct Prepared<'a> {
    /// Where there is room for files.
    pub dir: &'a Path,
    /// The program.
    pub anabranch: &'a str,
    /// The function on Kalix's SDK, installed.
    pub function: &'a Path,
    /// The plain service, installed.
    pub plain: &'a Path,
}

impl Prepared<'_> {
    /// The function, once it listens.
    pub fn function(&self) -> Process {
        let function = self.starting_function();
        until_listening(function.port, true);
        function
    }

    /// The same without waiting.
    pub fn starting_function(&self) -> Process {
        let mut command = Command::new("node");
        command.arg("index.js").current_dir(self.function);
        Process::start(self.dir, "function", free_port(), &mut command, AT_ONCE)
    }

    /// The plain service with this Redis, or alone.
    pub fn plain(&self, with: &str) -> Process {
        let plain = self.starting_plain(with);
        until_listening(plain.port, true);
        plain
    }

    /// The same without waiting.
    pub fn starting_plain(&self, with: &str) -> Process {
        let mut command = Command::new("node");
        command.args(["plain.js", with]).current_dir(self.plain);
        let name = format!("plain-{}", with.rsplit(':').next().unwrap());
        Process::start(self.dir, &name, free_port(), &mut command, AT_ONCE)
    }

    /// A node of its own cluster, configured and not started.
    pub fn node(&self, name: &str, data: &Path, function: &str) -> Prepare {
        let dir = self.dir.join(name);
        fs::create_dir(&dir).unwrap();
        ca::init(&dir.join("ca"), "compare").unwrap();
        ca::issue(&dir.join("ca"), NodeId(1), &dir, &IssueOptions::default()).unwrap();
        let (ingress, http, quic) = (free_port(), free_port(), free_udp_port());
        let config = format!(
            "listen = \"{HOST}:{quic}\"\ndata = {data:?}\n[http]\nlisten = \"{HOST}:{http}\"\n\
             [ingress]\nlisten = \"{HOST}:{ingress}\"\n[function]\n{function}\n"
        );
        fs::write(dir.join("node.toml"), config).unwrap();
        Prepare {
            anabranch: self.anabranch.to_owned(),
            dir,
            ingress,
        }
    }
}

/// A node to be started, as often as one likes.
pub struct Prepare {
    anabranch: String,
    dir: PathBuf,
    ingress: u16,
}

impl Prepare {
    /// Starts it, without waiting for anything; its port is the ingress's.
    pub fn start(&self) -> Process {
        let mut command = Command::new(&self.anabranch);
        command.args(["node", "--config"]).arg(self.dir.join("node.toml"));
        Process::start(&self.dir, "node", self.ingress, &mut command, IN_ORDER)
    }
}

/// What a node is told of a function that runs already.
pub fn at(function: &Process) -> String {
    format!("address = \"{HOST}:{}\"", function.port)
}
