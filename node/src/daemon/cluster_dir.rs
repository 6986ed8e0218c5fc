//! The directory of an `up` cluster: which nodes it has, at which ports, under one lock.
//!
//! `DIR/lock`, `DIR/cluster.json` (the nodes, for the commands and for the next `up`), `DIR/ca/`, and per node
//! `DIR/NAME/` with `node.toml`, `node.pem`, `node.key`, `ca.pem`, `data/` and `node.log`. `dev` has `node.toml` include a
//! `function.toml` and writes that whole at each start, with the function that it was given: so a node that is started by hand
//! serves the same one. `up` empties it.
//!
//! Not here: processes (`up`). Contract: one `up` a directory; what was chosen once (ids, ports) stays.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anabranch_crdt::NodeId;
use serde::{Deserialize, Serialize};

use super::config::{Config, SHARDS_DEFAULT};
use super::exit::Failure;
use super::output::{plural, quoted};
use super::ports;
use crate::transport::ca;

/// The directory commands look at when none is named.
pub const DIR_DEFAULT: &str = ".anabranch";
/// What a node's configuration includes for `dev`.
const FUNCTION_FILE: &str = "function.toml";
/// Nodes of one `up`, at most.
pub const NODES_MAX: usize = 32;
/// The name of the development cluster.
const CLUSTER: &str = "dev";
/// The format of `cluster.json`.
const FORMAT: u32 = 1;

/// `cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFile {
    format: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Its nodes.
    pub nodes: Vec<NodeEntry>,
}

/// What every format of `cluster.json` has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// One node of an `up` cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its name: n1, n2, ...
    pub name: String,
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// Where it listens for peers.
    pub quic: SocketAddr,
    /// Where its admin API listens.
    pub http: SocketAddr,
    /// Where its function's callers come, once it was started by `dev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<SocketAddr>,
    /// Where its function listens, once it was started by `dev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<SocketAddr>,
}

/// What `dev` was given to run beside each node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCommand {
    /// The command and its arguments, never empty.
    pub command: Vec<String>,
    /// Where it runs, absolute.
    pub directory: String,
    /// Origins whose pages may call it.
    pub origins: Vec<String>,
}

/// A locked cluster directory; the lock goes with the value.
pub struct ClusterDir {
    path: PathBuf,
    cluster: ClusterFile,
    /// Whether it was there before.
    resumed: bool,
    /// The ports that were chosen now, which no node has yet.
    _held: Vec<ports::Held>,
    _lock: File,
}

/// Reads which nodes a directory has; `None` if there is no cluster in it.
pub fn read(dir: &Path) -> Result<Option<ClusterFile>, Failure> {
    let path = dir.join("cluster.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::io(path.display(), &e)),
    };
    let bad = |e: serde_json::Error| Failure::new("config", format!("{}: {e}", path.display()));
    // The number first: what else stands in a newer file may be of another form.
    let Head { format } = serde_json::from_str(&text).map_err(bad)?;
    if format != FORMAT {
        return Err(Failure::new(
            "newer_format",
            format!(
                "{}: format {format} is not known here, only {FORMAT}: a newer version of Anabranch wrote it; use that \
                 one, or another --dir. Nothing was changed",
                path.display()
            ),
        ));
    }
    serde_json::from_str(&text).map(Some).map_err(bad)
}

/// Where a node's admin API is: as its own configuration says, which may have been edited since the file beside it was
/// written.
pub fn http_address(dir: &Path, node: &NodeEntry) -> SocketAddr {
    let mut address = configured(dir, node).map_or(node.http, |config| config.http.listen);
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// A node's own configuration; `None` where it cannot be used, which the node itself will complain about.
fn configured(dir: &Path, node: &NodeEntry) -> Option<Config> {
    Config::load(&dir.join(&node.name).join("node.toml")).ok()
}

impl ClusterDir {
    /// Locks the directory, made if need be, and finds or chooses its nodes.
    pub fn open(dir: &Path, nodes: usize, function: Option<&FunctionCommand>) -> Result<ClusterDir, Failure> {
        let path = std::path::absolute(dir).map_err(|e| Failure::io(dir.display(), &e))?;
        // It stands in configuration files and in commands to type, each of which ends with its line.
        if path.to_string_lossy().chars().any(char::is_control) {
            let message = format!("--dir {path:?} has control characters: choose another directory");
            return Err(Failure::usage(message));
        }
        make_dir(&path)?;
        let lock = lock(&path)?;
        let (mut cluster, held) = match read(&path)? {
            Some(cluster) if cluster.nodes.len() != nodes => {
                return Err(Failure::usage(format!(
                    "{} holds a cluster of {}, so --nodes {nodes} does not fit; say --nodes {}, or another --dir",
                    path.display(),
                    plural(cluster.nodes.len() as u64, "node"),
                    cluster.nodes.len(),
                )));
            }
            Some(cluster) => {
                check_free(&path, &cluster, function.is_some())?;
                (cluster, None)
            }
            None => {
                refuse_orphans(&path, nodes)?;
                let held = ports::take(nodes)?;
                (choose(&held)?, Some(held))
            }
        };
        let resumed = held.is_none();
        let has_more = function.is_some() && choose_for_functions(&mut cluster)?;
        let dir = ClusterDir {
            path,
            cluster,
            resumed,
            _held: held.unwrap_or_default(),
            _lock: lock,
        };
        if !resumed || has_more {
            dir.write()?;
        }
        dir.prepare(function)?;
        Ok(dir)
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[NodeEntry] {
        &self.cluster.nodes
    }

    /// Whether it was there before.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// A node's configuration file.
    pub fn config(&self, node: &NodeEntry) -> PathBuf {
        self.path.join(&node.name).join("node.toml")
    }

    /// Where a node's log goes.
    pub fn log(&self, node: &NodeEntry) -> PathBuf {
        self.path.join(&node.name).join("node.log")
    }

    fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.cluster)
            .map_err(|e| Failure::new("internal", e.to_string()))?;
        write_whole(&self.path.join("cluster.json"), &text)
    }

    /// Makes what the nodes need: a CA if there is none, certificates anew, configurations where there are none (one
    /// that was edited stays).
    fn prepare(&self, function: Option<&FunctionCommand>) -> Result<(), Failure> {
        let failed = |e: ca::CaError| Failure::new("identity", e.to_string());
        let ca_dir = self.path.join("ca");
        if !ca_dir.join("ca.pem").exists() {
            ca::init(&ca_dir, &self.cluster.cluster).map_err(failed)?;
        }
        for node in &self.cluster.nodes {
            let id: NodeId = node.id.parse().map_err(|e| {
                Failure::new(
                    "config",
                    format!(
                        "{}: node {}: {e}",
                        self.path.join("cluster.json").display(),
                        node.name
                    ),
                )
            })?;
            let home = self.path.join(&node.name);
            make_dir(&home)?;
            ca::issue(&ca_dir, id, &home, &ca::IssueOptions::default()).map_err(failed)?;
            let config = self.config(node);
            if !config.exists() {
                write_whole(&config, &self.toml(node))?;
            }
            self.hand_over(node, function)?;
        }
        Ok(())
    }

    /// Has a node's configuration include the function, or, where there is none, has what it includes be empty.
    fn hand_over(&self, node: &NodeEntry, function: Option<&FunctionCommand>) -> Result<(), Failure> {
        let config = self.config(node);
        let file = config.with_file_name(FUNCTION_FILE);
        match function {
            Some(function) => {
                write_whole(&file, &function_toml(node, function))?;
                include(&config)
            }
            None if file.exists() => write_whole(&file, EMPTIED),
            None => Ok(()),
        }
    }

    /// A node's configuration: what differs from the defaults, with the keys a developer is likely to want.
    fn toml(&self, node: &NodeEntry) -> String {
        let listed = |texts: Vec<String>| {
            texts
                .iter()
                .map(|text| format!("{text:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let others = self.cluster.nodes.iter().filter(|other| other.name != node.name);
        let seeds = listed(others.map(|other| other.quic.to_string()).collect());
        let members = listed(
            self.cluster
                .nodes
                .iter()
                .map(|member| member.id.clone())
                .collect(),
        );
        let NodeEntry { name, quic, http, .. } = node;
        let cluster = &self.cluster.cluster;
        format!(
            "# Written by `anabranch up`, which keeps what you change here. If this node is not running:\n\
             #   anabranch node --config {}\n\
             # config/node.toml in the sources has every key with its default.\n\
             name = {name:?}\ncluster = {cluster:?}\ndata = \"data\"\nlog = \"info\"\n\
             listen = \"{quic}\"\nadvertise = []\nseeds = [{seeds}]\nmembers = [{members}]\nshards = {SHARDS_DEFAULT}\n\n\
             [identity]\nca = \"ca.pem\"\ncertificate = \"node.pem\"\nkey = \"node.key\"\n\n\
             [http]\nlisten = \"{http}\"\n\n\
             [kinds]\n# cart = \"orset\"\n",
            quoted(&self.config(node)),
        )
    }
}

/// What `up` leaves of a function.
const EMPTIED: &str = "# Emptied by `anabranch up`; `anabranch dev` writes it anew.\n";

fn function_toml(node: &NodeEntry, function: &FunctionCommand) -> String {
    let quoted = |text: &String| toml::Value::String(text.clone()).to_string();
    let list = |texts: &[String]| texts.iter().map(quoted).collect::<Vec<_>>().join(", ");
    let port = node.function.map_or(0, |address| address.port());
    let listen = node
        .ingress
        .map(|address| address.to_string())
        .unwrap_or_default();
    format!(
        "# Written by `anabranch dev` at each start, and emptied by `anabranch up`: what you change here is lost.\n\
         [function]\ncommand = [{}]\ndirectory = {}\nport = {port}\n\n[ingress]\nlisten = \"{listen}\"\n\
         origins = [{}]\n",
        list(&function.command),
        quoted(&function.directory),
        list(&function.origins),
    )
}

/// Has a configuration include the function's file; the rest of it is its user's and stays.
fn include(config: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(config).map_err(|e| Failure::io(config.display(), &e))?;
    // One that cannot be read the node itself will complain about.
    let Ok(table) = text.parse::<toml::Table>() else {
        return Ok(());
    };
    let wanted = format!("include = \"{FUNCTION_FILE}\"");
    match table.get("include") {
        Some(value) if value.as_str() == Some(FUNCTION_FILE) => Ok(()),
        Some(value) => {
            let place = config.display();
            let message = format!(
                "{place}: include = {value}, but `dev` keeps its function in another file: say {wanted}"
            );
            Err(Failure::new("config", message))
        }
        None => {
            // Before all keys, or it would stand in a section.
            let is_key = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
            let before: usize = text
                .split_inclusive('\n')
                .take_while(|line| !is_key(line))
                .map(str::len)
                .sum();
            let (head, rest) = text.split_at(before);
            let gap = if head.is_empty() || head.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            write_whole(config, &format!("{head}{gap}{wanted}\n{rest}"))
        }
    }
}

/// Chooses what `dev` needs besides for nodes that lack it; whether any did.
fn choose_for_functions(cluster: &mut ClusterFile) -> Result<bool, Failure> {
    let lacking = |node: &&mut NodeEntry| node.ingress.is_none() || node.function.is_none();
    let nodes: Vec<&mut NodeEntry> = cluster.nodes.iter_mut().filter(lacking).collect();
    let mut addresses = ports::take_tcp(nodes.len() * 2)?.into_iter();
    let has_more = !nodes.is_empty();
    for node in nodes {
        (node.ingress, node.function) = (addresses.next(), addresses.next());
    }
    Ok(has_more)
}

/// What the so manyth node is called, from 1 on.
fn name_of(n: usize) -> String {
    format!("n{n}")
}

/// Nodes that are there without the file that says which they are would be given other identities than their data has.
fn refuse_orphans(path: &Path, nodes: usize) -> Result<(), Failure> {
    let keys = (1..=nodes).map(|n| path.join(name_of(n)).join("node.key"));
    match keys.into_iter().find(|key| key.exists()) {
        Some(key) => Err(Failure::new(
            "config",
            format!(
                "{} is missing, though there is {}: put it back, start the nodes by themselves (`anabranch node --config`), or \
                 choose another --dir; nothing was changed",
                path.join("cluster.json").display(),
                key.display()
            ),
        )),
        None => Ok(()),
    }
}

fn choose(held: &[ports::Held]) -> Result<ClusterFile, Failure> {
    let entry = |(i, held): (usize, &ports::Held)| {
        let (quic, http) = held
            .addresses()
            .map_err(|e| Failure::io("a port on 127.0.0.1", &e))?;
        Ok(NodeEntry {
            name: name_of(i + 1),
            id: NodeId(rand::random()).to_string(),
            quic,
            http,
            ingress: None,
            function: None,
        })
    };
    let nodes = held
        .iter()
        .enumerate()
        .map(entry)
        .collect::<Result<_, Failure>>()?;
    Ok(ClusterFile {
        format: FORMAT,
        cluster: CLUSTER.to_string(),
        nodes,
    })
}

/// What the nodes need must be free, or they would be looked for where somebody else answers. A retry may find it so: the
/// nodes of an `up` that was killed end by themselves.
fn check_free(dir: &Path, cluster: &ClusterFile, dev: bool) -> Result<(), Failure> {
    for node in &cluster.nodes {
        let config = configured(dir, node);
        let (quic, http) = config.as_ref().map_or((node.quic, node.http), |config| {
            (config.listen, config.http.listen)
        });
        let tcp = |address: SocketAddr| TcpListener::bind(address).err();
        let of_functions = [("ingress", node.ingress), ("function", node.function)];
        let of_functions = of_functions
            .into_iter()
            .filter_map(|(what, address)| Some((what, address.filter(|_| dev)?)))
            .map(|(what, address)| (what, address, tcp(address)));
        let of_nodes = [
            ("QUIC", quic, UdpSocket::bind(quic).err()),
            ("HTTP", http, tcp(http)),
        ];
        for (what, address, taken) in of_nodes.into_iter().chain(of_functions) {
            if let Some(error) = taken {
                let message = format!(
                    "{address}, the {what} address that this cluster remembers for node {}, cannot be had: {error}. \
                     Stop the process that has it (the node itself, if it was started by hand), or use another --dir",
                    node.name
                );
                return Err(Failure::new("address_in_use", message).retry(true));
            }
        }
        let data = config.map_or_else(|| dir.join(&node.name).join("data"), |config| config.data);
        check_unlocked(&data, &node.name)?;
    }
    Ok(())
}

/// A node lets go of its ports before it lets go of its data.
fn check_unlocked(data: &Path, node: &str) -> Result<(), Failure> {
    // No file, no lock; one that cannot be opened the node itself will complain about.
    let Ok(file) = File::open(data.join("lock")) else {
        return Ok(());
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "{} is in use by another process: stop node {node}, which may have been started by hand",
                data.display()
            );
            Err(Failure::new("in_use", message).retry(true))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|e| Failure::io(path.display(), &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            "in_use",
            format!(
                "{} is in use by another `anabranch up` or `dev`; stop that one, or use another --dir",
                dir.display()
            ),
        )),
        Err(TryLockError::Error(e)) => Err(Failure::io(path.display(), &e)),
    }
}

fn make_dir(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Failure::io(format_args!("cannot make directory {}", path.display()), &e))
}

/// Files appear whole: whoever reads one meanwhile sees the old or the new text.
fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, path)
    });
    written.map_err(|e| Failure::io(format_args!("cannot write {}", path.display()), &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::{Config, FunctionAt};

    fn temp(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("anabranch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn a_directory_keeps_its_nodes_and_fits_only_their_number() {
        let dir = temp("cluster-dir");
        let first = ClusterDir::open(&dir, 2, None).unwrap();
        let (nodes, configs) = (
            first.nodes().to_vec(),
            first.nodes().iter().map(|n| first.config(n)),
        );
        for (node, path) in nodes.iter().zip(configs) {
            let config = Config::load(&path).unwrap();
            config.check_files().unwrap();
            assert_eq!(config.name.as_deref(), Some(node.name.as_str()));
            assert_eq!((config.listen, config.http.listen), (node.quic, node.http));
            assert_eq!((config.seeds.len(), config.members.len()), (1, 2));
        }
        let failure = ClusterDir::open(&dir, 2, None).err().unwrap();
        assert_eq!(failure.name(), "in_use");
        drop(first);

        let failure = ClusterDir::open(&dir, 3, None).err().unwrap();
        assert_eq!(failure.name(), "usage");
        assert!(failure.message().contains("--nodes 2"), "{failure}");
        let again = ClusterDir::open(&dir, 2, None).unwrap();
        assert!(again.resumed());
        assert_eq!(again.nodes(), nodes);
        drop(again);

        let taken = TcpListener::bind(nodes[1].http).unwrap();
        let failure = ClusterDir::open(&dir, 2, None).err().unwrap();
        assert_eq!(failure.name(), "address_in_use");
        assert!(
            failure.message().contains(&nodes[1].http.to_string()),
            "{failure}"
        );
        drop(taken);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_nodes_own_configuration_says_where_it_is() {
        let dir = temp("cluster-http");
        let cluster = ClusterDir::open(&dir, 1, None).unwrap();
        let node = cluster.nodes()[0].clone();
        assert_eq!(http_address(&dir, &node), node.http);
        let config = cluster.config(&node);
        let text = fs::read_to_string(&config).unwrap();
        let moved = |listen: &str| {
            fs::write(&config, text.replace(&node.http.to_string(), listen)).unwrap();
            http_address(&dir, &node).to_string()
        };
        assert_eq!(moved("127.0.0.1:9"), "127.0.0.1:9");
        assert_eq!(moved("0.0.0.0:9\"\ntoken = \"0123456789abcdef"), "127.0.0.1:9");
        assert_eq!(moved("nowhere"), node.http.to_string());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let dir = temp("cluster-newer");
        drop(ClusterDir::open(&dir, 1, None).unwrap());
        let file = dir.join("cluster.json");
        fs::write(&file, r#"{"format":2,"members":{}}"#).unwrap();
        for failure in [read(&dir).err(), ClusterDir::open(&dir, 1, None).err()] {
            let failure = failure.unwrap();
            assert_eq!(failure.name(), "newer_format");
            assert!(failure.message().contains("cluster.json: format 2"), "{failure}");
        }
        assert!(fs::read_to_string(&file).unwrap().contains("members"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_function_is_handed_to_nodes_that_are_started_in_whichever_way() {
        let dir = temp("cluster-function");
        let up = ClusterDir::open(&dir, 2, None).unwrap();
        let (config, before) = (up.config(&up.nodes()[0]), up.nodes().to_vec());
        drop(up);
        let mine = fs::read_to_string(&config).unwrap() + "x = \"mine\"\n";
        fs::write(&config, &mine).unwrap();

        let odd = FunctionCommand {
            command: vec!["sh".into(), "-c".into(), "a \"b\" \\ \u{1b} '$PORT'\n".into()],
            directory: "/tmp/my \"own\"".into(),
            origins: vec!["http://localhost:5173".into(), "*".into()],
        };
        let dev = ClusterDir::open(&dir, 2, Some(&odd)).unwrap();
        let nodes = dev.nodes().to_vec();
        for (node, before) in nodes.iter().zip(&before) {
            assert_eq!(
                (&node.id, node.quic, node.http),
                (&before.id, before.quic, before.http)
            );
            assert_ne!(node.ingress, node.function);
        }
        drop(dev);
        let text = fs::read_to_string(&config).unwrap();
        assert_eq!(text.replacen("include = \"function.toml\"\n", "", 1), mine);
        let second = || Config::load(&dir.join("n2/node.toml")).unwrap().function;
        let function = second().unwrap();
        let FunctionAt::Command(command) = &function.at else {
            panic!("{function:?}")
        };
        assert_eq!(
            (&command.command, command.directory.to_str()),
            (&odd.command, Some("/tmp/my \"own\""))
        );
        assert_eq!(command.port, nodes[1].function.map(|address| address.port()));
        assert_eq!(Some(function.ingress.listen), nodes[1].ingress);
        assert_eq!(function.ingress.origins, odd.origins);

        // Again: the same places, and nothing is included twice.
        assert_eq!(ClusterDir::open(&dir, 2, Some(&odd)).unwrap().nodes(), nodes);
        assert_eq!(fs::read_to_string(&config).unwrap(), text);
        let taken = TcpListener::bind(nodes[1].function.unwrap()).unwrap();
        let failure = ClusterDir::open(&dir, 2, Some(&odd)).err().unwrap();
        assert_eq!(failure.name(), "address_in_use");
        assert!(failure.message().contains("the function address"), "{failure}");
        // Who wants no function has no use for its port.
        drop(ClusterDir::open(&dir, 2, None).unwrap());
        assert_eq!(second(), None);
        drop(taken);

        fs::write(&config, format!("include = \"mine.toml\"\n{mine}")).unwrap();
        let failure = ClusterDir::open(&dir, 2, Some(&odd)).err().unwrap();
        assert_eq!(failure.name(), "config");
        assert!(failure.message().contains("mine.toml"), "{failure}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_without_places_for_functions_is_read() {
        let node = r#"{"name":"n1","id":"00","quic":"127.0.0.1:1","http":"127.0.0.1:2"}"#;
        let entry: NodeEntry = serde_json::from_str(node).unwrap();
        assert_eq!((entry.ingress, entry.function), (None, None));
        assert_eq!(serde_json::to_string(&entry).unwrap(), node);
    }
}
