//! Clusters that a test configures itself, on its own ports: their nodes may be down without anybody taking their
//! place.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ANABRANCH;
use super::command::{make_authority, make_certificate};
use super::face::Face;
use super::ports;
use super::process::{Ended, Process};
use super::relay::Network;
use super::temp::TempDir;

/// The id of a cluster's node of this index.
pub fn node_id(index: usize) -> u128 {
    0xabcd_0000 + index as u128
}

/// Nodes of one cluster.
pub struct Cluster {
    pub nodes: Vec<Node>,
    network: Option<Network>,
    pub dir: TempDir,
}

/// One node, running or not.
pub struct Node {
    face: Face,
    program: PathBuf,
    data: PathBuf,
    process: Option<Process>,
}

impl Deref for Node {
    type Target = Face;
    fn deref(&self) -> &Face {
        &self.face
    }
}

impl Cluster {
    /// So many nodes, running and ready.
    pub fn start(name: &str, count: usize) -> Cluster {
        Cluster::prepare(name, count).started()
    }

    /// The same behind relays.
    pub fn start_relayed(name: &str, count: usize) -> Cluster {
        Cluster::prepare_relayed(name, count).started()
    }

    /// Nodes behind relays, configured and not started.
    pub fn prepare_relayed(name: &str, count: usize) -> Cluster {
        let listen: Vec<_> = (0..count).map(|_| ports::take()).collect();
        let network = Network::between(&listen);
        Cluster::configure(name, &listen, Some(network))
    }

    /// Nodes that are configured and not started.
    pub fn prepare(name: &str, count: usize) -> Cluster {
        let listen: Vec<_> = (0..count).map(|_| ports::take()).collect();
        Cluster::configure(name, &listen, None)
    }

    fn configure(name: &str, listen: &[SocketAddr], network: Option<Network>) -> Cluster {
        let dir = TempDir::new(name);
        let ca = dir.join("ca");
        make_authority(&ca, name);
        let reach = |i: usize| network.as_ref().map_or(listen[i], |network| network.address(i));
        let ids: Vec<String> = (0..listen.len())
            .map(|i| format!("{:032x}", node_id(i)))
            .collect();
        let quoted = |texts: &[String]| {
            texts
                .iter()
                .map(|text| format!("{text:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut nodes = Vec::new();
        for i in 0..listen.len() {
            let node = format!("n{}", i + 1);
            let home = dir.join(&node);
            make_certificate(&ca, node_id(i), &home);
            let seeds: Vec<String> = (0..listen.len())
                .filter(|j| *j != i)
                .map(|j| reach(j).to_string())
                .collect();
            let http = ports::take();
            let config = format!(
                "name = \"{node}\"\ncluster = \"{name}\"\ndata = \"data\"\nlisten = \"{}\"\nadvertise = [\"{}\"]\n\
                 seeds = [{}]\nmembers = [{}]\n[http]\nlisten = \"{http}\"\n",
                listen[i],
                reach(i),
                quoted(&seeds),
                quoted(&ids),
            );
            let config = dir.write(&format!("{node}/node.toml"), config);
            let face = Face {
                name: node,
                quic: listen[i].to_string(),
                http: http.to_string(),
                config,
            };
            nodes.push(Node {
                face,
                program: ANABRANCH.into(),
                data: home.join("data"),
                process: None,
            });
        }
        Cluster { nodes, network, dir }
    }

    /// The same nodes, run by another program.
    pub fn with_program(mut self, program: &Path) -> Cluster {
        self.nodes
            .iter_mut()
            .for_each(|node| node.program = program.into());
        self
    }

    /// Starts all nodes and waits until they are ready.
    pub fn started(mut self) -> Cluster {
        self.start_all();
        self
    }

    /// Starts all nodes that do not run and waits until they are ready.
    pub fn start_all(&mut self) {
        let down = |node: &&mut Node| !node.is_running();
        let started: Vec<&mut Node> = self.nodes.iter_mut().filter(down).map(Node::start).collect();
        started.into_iter().for_each(Node::wait_until_said_ready);
    }

    /// A certificate of this cluster for a node that it does not have otherwise; returns its directory.
    pub fn certify(&self, node: u128) -> PathBuf {
        let out = self.dir.join(format!("guest-{node:x}"));
        make_certificate(&self.dir.join("ca"), node, &out);
        out
    }

    /// What is between the nodes.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("it was started behind relays")
    }

    /// The nodes as their users meet them.
    pub fn faces(&self) -> impl Iterator<Item = &Face> {
        self.nodes.iter().map(|node| &node.face)
    }
}

impl Node {
    /// Starts the process.
    pub fn start(&mut self) -> &mut Node {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = self.command(&["--json"]);
        // However this process ends, the node ends with it.
        command.arg("--until-stdin-closes").stdin(Stdio::piped());
        self.process = Some(Process::start_with_stdin(self.name.clone(), &mut command));
        self
    }

    /// Starts the process and waits until it says that it takes writes.
    pub fn start_ready(&mut self) {
        self.start().wait_until_said_ready();
    }

    /// Waits for the line on stdout.
    pub fn wait_until_said_ready(&mut self) {
        let line = self.process().stdout.next();
        let line = line.unwrap_or_else(|| panic!("{} ended before it was ready", self.face.name));
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(said["node"], self.face.name.as_str());
        assert_eq!(said["http"], self.face.http.as_str());
        assert_eq!(said["quic"], self.face.quic.as_str());
        assert_eq!(said["config"], self.face.config.to_str().unwrap());
        assert_eq!(said["pid"], self.process().pid());
    }

    /// Runs the node to an end that it should find by itself.
    #[track_caller]
    pub fn run_to_end(&self) -> Ended {
        Process::start(self.name.clone(), &mut self.command(&[])).wait()
    }

    /// The same with JSON for what it says.
    #[track_caller]
    pub fn run_to_end_in_json(&self) -> Ended {
        Process::start(self.name.clone(), &mut self.command(&["--json"])).wait()
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Ends it in order and waits until it has ended.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.terminate();
        process.wait().done();
    }

    /// Whether it was started and neither killed nor stopped since.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Replaces a part of its configuration.
    #[track_caller]
    pub fn configure(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{from:?} is not in\n{text}");
        std::fs::write(&self.config, text.replacen(from, to, 1)).unwrap();
    }

    /// Makes it listen for peers elsewhere the next time it starts.
    #[track_caller]
    pub fn move_to(&mut self, quic: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, text.replace(&self.face.quic, quic)).unwrap();
        self.face.quic = quic.to_string();
    }

    fn command(&self, how: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("node").args(how).arg("--config").arg(&self.config);
        command
    }
}
