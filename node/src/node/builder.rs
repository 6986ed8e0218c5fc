//! What a node is started with, and the checks that need no disk and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anabranch_crdt::{NodeId, Type};

use crate::driver;
use crate::engine::{Limits, limits};
use crate::error::{Error, ErrorKind};
use crate::function::Function;
use crate::node::Node;
use crate::store::limits::SNAPSHOT_BYTES_DEFAULT;
use crate::transport::{Identity, MTU_BYTES_DEFAULT, MTU_BYTES_MAX, MTU_BYTES_MIN};
use crate::trigger::{KEPT, OWN_KINDS, schedules};
use crate::wire::KIND_BYTES_MAX;

/// Shards of a cluster unless said otherwise.
pub const SHARDS_DEFAULT: u32 = 1024;
/// A node's name is at most this long.
pub const NAME_BYTES_MAX: usize = 64;
/// Seeds and advertised addresses, at most of each.
pub const ADDRESSES_MAX: usize = 64;

/// Builds a [`Node`]: set what differs from the defaults, then [`start`](NodeBuilder::start). The data directory and
/// the identity's files must be set.
///
/// ```no_run
/// # async fn example() -> Result<(), anabranch::Error> {
/// use anabranch::{Node, Type};
///
/// let node = Node::builder()
///     .directory("data")
///     .identity_files("pki/ca.pem", "pki/node.pem", "pki/node.key")
///     .listen(([0, 0, 0, 0], 7400).into())
///     .advertise(vec!["node-1.example:7400".into()])
///     .seeds(vec!["node-2.example:7400".into(), "node-3.example:7400".into()])
///     .kind("cart", Type::OrSet)
///     .start()
///     .await?;
/// node.ready().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start` is awaited"]
pub struct NodeBuilder {
    directory: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf, PathBuf)>,
    name: Option<String>,
    listen: SocketAddr,
    advertise: Vec<String>,
    seeds: Vec<String>,
    members: Vec<NodeId>,
    shards: u32,
    kinds: BTreeMap<String, Type>,
    functions: Vec<Arc<Function>>,
    schedules: bool,
    limits: Limits,
    snapshot_bytes: u64,
    mtu_bytes: u16,
}

impl NodeBuilder {
    pub(super) fn new() -> NodeBuilder {
        NodeBuilder {
            directory: None,
            identity: None,
            name: None,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            advertise: Vec::new(),
            seeds: Vec::new(),
            members: Vec::new(),
            shards: SHARDS_DEFAULT,
            kinds: BTreeMap::new(),
            functions: Vec::new(),
            schedules: false,
            limits: Limits::default(),
            snapshot_bytes: SNAPSHOT_BYTES_DEFAULT,
            mtu_bytes: MTU_BYTES_DEFAULT,
        }
    }

    /// The data directory, made if it is missing; one process at a time has it. Required.
    pub fn directory(self, directory: impl Into<PathBuf>) -> NodeBuilder {
        NodeBuilder {
            directory: Some(directory.into()),
            ..self
        }
    }

    /// The PEM files of the cluster's CA certificate and of this node's certificate and key. The certificate names
    /// the cluster and the node. Required.
    pub fn identity_files(
        self,
        ca: impl Into<PathBuf>,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> NodeBuilder {
        NodeBuilder {
            identity: Some((ca.into(), cert.into(), key.into())),
            ..self
        }
    }

    /// A name for people; the first eight digits of the node's id by default.
    pub fn name(self, name: impl Into<String>) -> NodeBuilder {
        NodeBuilder {
            name: Some(name.into()),
            ..self
        }
    }

    /// The UDP address to listen at; 127.0.0.1 and a free port by default.
    pub fn listen(self, address: SocketAddr) -> NodeBuilder {
        NodeBuilder {
            listen: address,
            ..self
        }
    }

    /// Where others reach this node, HOST:PORT; where it listens by default.
    pub fn advertise(self, addresses: Vec<String>) -> NodeBuilder {
        NodeBuilder {
            advertise: addresses,
            ..self
        }
    }

    /// Nodes to find the cluster through, HOST:PORT; a host may be a name that stands for several.
    pub fn seeds(self, seeds: Vec<String>) -> NodeBuilder {
        NodeBuilder { seeds, ..self }
    }

    /// Members of the cluster that are known from the start; others become members when they are first met. Name all of them if
    /// a majority must be counted correctly from the first start.
    pub fn members(self, members: Vec<NodeId>) -> NodeBuilder {
        NodeBuilder { members, ..self }
    }

    /// How many shards the cluster has; 1024 by default. The number is fixed when the data directory is made and must be the same
    /// on all nodes.
    pub fn shards(self, shards: u32) -> NodeBuilder {
        NodeBuilder { shards, ..self }
    }

    /// Declares the types of kinds, in place of what was declared before.
    pub fn kinds(self, kinds: BTreeMap<String, Type>) -> NodeBuilder {
        NodeBuilder { kinds, ..self }
    }

    /// Declares one more kind's type.
    pub fn kind(mut self, kind: &str, ty: Type) -> NodeBuilder {
        self.kinds.insert(kind.to_owned(), ty);
        self
    }

    /// Runs this function at the node, and declares the type of its kind. Give it to every node that is to run it itself; a call
    /// at any other goes on to the nearest that has it. Versions may differ while a cluster is upgraded node by node.
    pub fn function(self, function: impl Into<Function>) -> NodeBuilder {
        let function: Function = function.into();
        self.functions([function])
    }

    /// The same for several.
    pub fn functions(mut self, functions: impl IntoIterator<Item = impl Into<Arc<Function>>>) -> NodeBuilder {
        self.functions.extend(functions.into_iter().map(Into::into));
        self
    }

    /// Accepts schedules and makes their calls even if this node has no function of its own: the functions may be in another
    /// process or at another node. A node with functions does so in any case.
    pub fn schedules(self, schedules: bool) -> NodeBuilder {
        NodeBuilder { schedules, ..self }
    }

    /// Bounds and delays of the engine.
    pub fn limits(self, limits: Limits) -> NodeBuilder {
        NodeBuilder { limits, ..self }
    }

    /// The size of the log after which a snapshot is written; 64 MiB by default.
    pub fn snapshot_bytes(self, bytes: u64) -> NodeBuilder {
        NodeBuilder {
            snapshot_bytes: bytes,
            ..self
        }
    }

    /// The largest UDP packet to try between nodes, 1200 to 6550 bytes; 1452 by default. A value above what the path carries
    /// costs only the attempts.
    pub fn mtu(self, bytes: u16) -> NodeBuilder {
        NodeBuilder {
            mtu_bytes: bytes,
            ..self
        }
    }

    /// Starts the node: opens its directory and recovers what is in it, begins a new epoch, binds, gossips.
    /// Dropping the future before it resolves stops the node again, which takes a moment: until then the directory and the port are
    /// in use ([`ErrorKind::InUse`]), so try again until they are not.
    ///
    /// # Errors
    /// Nothing runs then. [`ErrorKind::Config`]: something required is missing or a value cannot be.
    /// [`ErrorKind::Identity`]: the certificate files. [`ErrorKind::InUse`]: another process has the directory or the
    /// port, or a node of this one that has not ended yet. [`ErrorKind::Directory`]: the directory belongs to another node or cluster. [`ErrorKind::NewerFormat`]: a newer
    /// version wrote it. [`ErrorKind::Corrupt`]: what is in it is damaged. [`ErrorKind::Io`], [`ErrorKind::DiskFull`]: the
    /// system refused.
    pub async fn start(self) -> Result<Node, Error> {
        let handle = driver::start(self.check()?).await?;
        Ok(Node {
            handle: Arc::new(handle),
        })
    }

    /// Each function's kind has its type, and one function.
    fn kinds_of_functions(&self) -> Result<BTreeMap<String, Type>, Error> {
        let mut kinds = self.kinds.clone();
        let mut seen = BTreeSet::new();
        for function in &self.functions {
            if let Some(problem) = function.problem() {
                return Err(config(problem));
            }
            let (kind, ty) = (function.kind(), function.ty());
            if !seen.insert(kind) {
                return Err(config(format!("kind {kind:?} has two functions")));
            }
            match kinds.insert(kind.to_owned(), ty) {
                Some(declared) if declared != ty => {
                    return Err(config(format!(
                        "kind {kind:?} is declared to be of {declared}, and its function has it as {ty}"
                    )));
                }
                _ => {}
            }
        }
        Ok(kinds)
    }

    fn check_declared(&self) -> Result<(), Error> {
        match self.kinds.keys().find(|kind| kind.starts_with(OWN_KINDS)) {
            Some(own) => Err(config(format!(
                "kind {own:?} is one of Anabranch's own, whose types are not declared"
            ))),
            None => Ok(()),
        }
    }

    fn check(mut self) -> Result<driver::Config, Error> {
        self.check_declared()?;
        if self.schedules || !self.functions.is_empty() {
            self.functions.push(Arc::new(schedules()));
            self.kinds.insert(KEPT.to_owned(), Type::RegisterMap);
        }
        let kinds = self.kinds_of_functions()?;
        let Some(directory) = self.directory else {
            return Err(config("no data directory is set"));
        };
        let Some((ca, cert, key)) = self.identity else {
            return Err(config(
                "no identity files are set: the CA's certificate, the node's certificate and key",
            ));
        };
        if self.shards == 0 || self.shards > limits::SHARDS_MAX {
            return Err(config(format!(
                "{} shards: 1 to {} are possible",
                self.shards,
                limits::SHARDS_MAX
            )));
        }
        if !(MTU_BYTES_MIN..=MTU_BYTES_MAX).contains(&self.mtu_bytes) {
            return Err(config(format!(
                "an MTU of {} bytes: {MTU_BYTES_MIN} to {MTU_BYTES_MAX} are possible",
                self.mtu_bytes
            )));
        }
        if self.members.len() > limits::MEMBERS_MAX {
            let (got, max) = (self.members.len(), limits::MEMBERS_MAX);
            return Err(config(format!("{got} members: at most {max} are possible")));
        }
        if let Some(kind) = kinds
            .keys()
            .find(|kind| kind.is_empty() || kind.len() > KIND_BYTES_MAX)
        {
            return Err(config(format!(
                "kind {kind:?} must have 1 to {KIND_BYTES_MAX} bytes"
            )));
        }
        check_addresses("seed", &self.seeds)?;
        check_addresses("advertised address", &self.advertise)?;
        let identity =
            Identity::load(&ca, &cert, &key).map_err(|e| Error::new(ErrorKind::Identity, e.to_string()))?;
        let name = self
            .name
            .unwrap_or_else(|| identity.node().to_string().chars().take(8).collect());
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(config(format!(
                "name {name:?} must have 1 to {NAME_BYTES_MAX} bytes and no control characters"
            )));
        }
        Ok(driver::Config {
            directory,
            identity,
            name,
            listen: self.listen,
            advertise: self.advertise,
            seeds: self.seeds,
            members: self.members,
            shards: self.shards,
            kinds,
            functions: self.functions,
            limits: self.limits,
            snapshot_bytes: self.snapshot_bytes,
            mtu_bytes: self.mtu_bytes,
        })
    }
}

/// Whether each is HOST:PORT, as far as one can tell without asking a name server.
fn check_addresses(what: &str, addresses: &[String]) -> Result<(), Error> {
    if addresses.len() > ADDRESSES_MAX {
        return Err(config(format!(
            "{} of {what}: at most {ADDRESSES_MAX} are possible",
            addresses.len()
        )));
    }
    for address in addresses {
        let port = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(config(format!("{what} {address:?} is not HOST:PORT")));
        }
    }
    Ok(())
}

fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}
