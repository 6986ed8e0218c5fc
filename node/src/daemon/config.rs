//! The configuration file of one node: TOML, read whole, checked whole, before anything is started.
//!
//! Not here: what the values do. Every key, with its default and a comment, stands in `config/node.toml`; a test
//! reads that file and compares.
//!
//! Contract: an unknown key, a bad value and a missing file are errors that name the file and the line. Paths are
//! relative to the file they stand in, not to the working directory.

mod function;
mod source;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anabranch_crdt::{NodeId, Type};
use serde::Deserialize;
use toml::Spanned;

pub use self::function::{Deletion, FunctionAt, FunctionConfig, any_origin};
use self::function::{FunctionSection, Included, IngressSection};
use self::source::Source;
pub use self::source::host_port;
pub use self::trace::TraceConfig;
use self::trace::TraceSection;
use super::exit::Failure;
use super::output::quoted;
use crate::engine::limits::{Limits, MEMBERS_MAX, SHARDS_MAX, UPDATE_OPS_MAX};
use crate::transport::{MTU_BYTES_DEFAULT, MTU_BYTES_MAX, MTU_BYTES_MIN};
use crate::trigger::OWN_KINDS;

/// Where a node listens for its peers when nothing else is configured.
pub const QUIC_PORT_DEFAULT: u16 = 7411;
/// Where the admin API listens when nothing else is configured.
pub const HTTP_PORT_DEFAULT: u16 = 7412;
/// Shards of a new cluster when nothing else is configured.
pub const SHARDS_DEFAULT: u32 = 1024;
/// Log bytes after which a snapshot is written when nothing else is configured.
pub const SNAPSHOT_BYTES_DEFAULT: u64 = 64 << 20;
/// Connections of the admin API when nothing else is configured, and at least.
pub const CONNECTIONS_DEFAULT: usize = 256;
pub const CONNECTIONS_MIN: usize = 16;
/// Connections that neither watches nor dumps may take, at least.
pub const CONNECTIONS_OTHERS_MIN: usize = 4;
/// Watches when nothing else is configured, and the part of all connections that they are at most then.
pub const WATCHES_DEFAULT: usize = 128;
const WATCHES_PART: usize = 2;
/// The same for dumps. Each holds the names of all entities in memory, and what changes before it has come by as it was.
pub const DUMPS_DEFAULT: usize = 8;
const DUMPS_PART: usize = 4;
/// Bytes of a request's body when nothing else is configured.
pub const BODY_BYTES_DEFAULT: usize = 128 << 20;
/// A node's name is at most this long.
pub const NAME_BYTES_MAX: usize = 64;
/// A cluster's name is at most this long.
pub const CLUSTER_BYTES_MAX: usize = 255;
/// Seeds, advertised addresses, hosts and origins, at most of each.
pub const ADDRESSES_MAX: usize = 64;
/// How often nodes may compare all they have, milliseconds: more often is nothing but load, more seldom leaves nodes behind.
const DIGEST_EVERY_MS: RangeInclusive<u64> = 10..=3_600_000;
/// A configuration file is at most this long.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A bearer token is at least this long.
pub const TOKEN_BYTES_MIN: usize = 16;

/// One node's configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it came from, absolute.
    pub file: PathBuf,
    /// The node's name for people; without one, the start of its id.
    pub name: Option<String>,
    /// The cluster that the certificate must be of, if it is said.
    pub cluster: Option<String>,
    /// The data directory.
    pub data: PathBuf,
    /// The log filter.
    pub log: String,
    /// Where to listen for peers (UDP).
    pub listen: SocketAddr,
    /// Under which addresses peers reach this node; empty: the one it listens at.
    pub advertise: Vec<String>,
    /// Where to look for peers first.
    pub seeds: Vec<String>,
    /// Members of the cluster known from the start.
    pub members: Vec<NodeId>,
    /// Shards of a new cluster.
    pub shards: u32,
    /// Log bytes after which a snapshot is written.
    pub snapshot_bytes: u64,
    /// The largest UDP packet tried between nodes.
    pub mtu: u16,
    /// Certificate files.
    pub identity: IdentityFiles,
    /// The admin API.
    pub http: HttpConfig,
    /// Where parts of traces go.
    pub trace: TraceConfig,
    /// The function in another process, if there is one, and where its callers come.
    pub function: Option<FunctionConfig>,
    /// Declared kinds.
    pub kinds: BTreeMap<String, Type>,
    /// The engine's bounds.
    pub limits: Limits,
}

/// A setting whose place in the file is worth telling after it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting<'a> {
    /// `cluster`
    Cluster,
    /// `listen`
    Listen,
    /// `http.listen`
    HttpListen,
    /// `identity.ca`
    Ca,
    /// `identity.certificate`
    Certificate,
    /// `identity.key`
    PrivateKey,
    /// `kinds.KIND`
    Kind(&'a str),
}

/// The three PEM files that say who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The cluster's CA certificate.
    pub ca: PathBuf,
    /// This node's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the admin API listens at, whom it believes, how much it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens (TCP).
    pub listen: SocketAddr,
    /// What clients must show; needed beyond loopback.
    pub token: Option<Secret>,
    /// Names that the Host header may have, beside loopback ones and the address itself.
    pub hosts: Vec<String>,
    /// Origins from which a browser's page may ask.
    pub origins: Vec<String>,
    /// Connections at a time.
    pub connections_max: usize,
    /// Watches at a time.
    pub watches_max: usize,
    /// Dumps at a time.
    pub dumps_max: usize,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    include: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    cluster: Option<Spanned<String>>,
    data: Option<Spanned<String>>,
    log: Option<Spanned<String>>,
    listen: Option<Spanned<String>>,
    advertise: Option<Vec<Spanned<String>>>,
    seeds: Option<Vec<Spanned<String>>>,
    members: Option<Vec<Spanned<String>>>,
    shards: Option<Spanned<u64>>,
    snapshot_bytes: Option<Spanned<u64>>,
    mtu: Option<Spanned<u64>>,
    #[serde(default)]
    identity: IdentitySection,
    #[serde(default)]
    http: HttpSection,
    #[serde(default)]
    trace: TraceSection,
    #[serde(default)]
    function: FunctionSection,
    #[serde(default)]
    ingress: IngressSection,
    #[serde(default)]
    kinds: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    limits: LimitsSection,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentitySection {
    ca: Option<Spanned<String>>,
    certificate: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpSection {
    listen: Option<Spanned<String>>,
    token: Option<Spanned<String>>,
    hosts: Option<Vec<Spanned<String>>>,
    origins: Option<Vec<Spanned<String>>>,
    connections_max: Option<Spanned<u64>>,
    watches_max: Option<Spanned<u64>>,
    dumps_max: Option<Spanned<u64>>,
    body_bytes_max: Option<Spanned<u64>>,
}

/// The bounds that a file may set: those an operator has a reason to change.
macro_rules! limits_section {
    ($($field:ident: $range:expr),* $(,)?) => {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct LimitsSection { $($field: Option<Spanned<u64>>,)* }

        impl LimitsSection {
            fn checked(self, source: &Source<'_>) -> Result<Limits, Failure> {
                let mut limits = Limits::default();
                let keys = [&self.keys_max, &self.keys_kept].into_iter().flatten().map(Spanned::span).next();
                $(if let Some(value) = self.$field {
                    let number = source.number(concat!("limits.", stringify!($field)), &value, $range)?;
                    limits.$field = number.try_into().map_err(|_| {
                        source.at(value.span(), format_args!("{number} is more than this machine can count"))
                    })?;
                })*
                if limits.keys_max < limits.keys_kept {
                    let (max, kept) = (limits.keys_max, limits.keys_kept);
                    let message = format_args!("limits.keys_max is {max}, it must be at least limits.keys_kept ({kept})");
                    return Err(source.at(keys.unwrap_or(0..0), message));
                }
                Ok(limits)
            }
        }
    };
}
limits_section! {
    update_ops_max: 1..=UPDATE_OPS_MAX as u64,
    requests_max: 1..=u64::MAX,
    unpersisted_bytes_max: 1..=u64::MAX,
    ring_slots_max: 1..=u64::MAX,
    push_window_bytes: 1..=u64::MAX,
    push_delay_ms: 1..=60_000,
    staged_bytes_max: 1..=u64::MAX,
    sessions_max: 1..=u64::MAX,
    digest_every_ms: DIGEST_EVERY_MS,
    keys_kept: 1..=u64::MAX,
    keys_max: 1..=u64::MAX,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Config, Failure> {
        let file = std::path::absolute(path).map_err(|e| Failure::io(path.display(), &e))?;
        Config::parse(&file, &read(&file)?)
    }

    /// Checks a file's text; `file` gives errors their place and paths their base.
    pub fn parse(file: &Path, text: &str) -> Result<Config, Failure> {
        let source = Source::new(file, text);
        let raw: File = source.read()?;
        let listen = source.parsed("listen", raw.listen.as_ref(), loopback(QUIC_PORT_DEFAULT))?;
        let advertise = source.addresses("advertise", raw.advertise)?;
        if listen.ip().is_unspecified() && advertise.is_empty() {
            return Err(source.at_value(
                raw.listen.as_ref(),
                format_args!("listening at every address of the machine ({listen}) needs `advertise`: where peers reach it"),
            ));
        }
        let members = source.each("members", raw.members, MEMBERS_MAX, |text| {
            text.parse::<NodeId>().map_err(|e| e.to_string())
        })?;
        Ok(Config {
            file: file.to_path_buf(),
            name: source.text("name", raw.name, NAME_BYTES_MAX)?,
            cluster: source.text("cluster", raw.cluster, CLUSTER_BYTES_MAX)?,
            data: source.path("data", raw.data.as_ref(), "data")?,
            log: source.filter(raw.log.as_ref())?,
            listen,
            advertise,
            seeds: source.addresses("seeds", raw.seeds)?,
            members,
            shards: source.number_or("shards", raw.shards, SHARDS_DEFAULT, 1..=u64::from(SHARDS_MAX))?,
            snapshot_bytes: source.number_or(
                "snapshot_bytes",
                raw.snapshot_bytes,
                SNAPSHOT_BYTES_DEFAULT,
                1 << 16..=1 << 50,
            )?,
            mtu: source.number_or(
                "mtu",
                raw.mtu,
                MTU_BYTES_DEFAULT,
                u64::from(MTU_BYTES_MIN)..=u64::from(MTU_BYTES_MAX),
            )?,
            identity: IdentityFiles {
                ca: source.path("identity.ca", raw.identity.ca.as_ref(), "ca.pem")?,
                certificate: source.path(
                    "identity.certificate",
                    raw.identity.certificate.as_ref(),
                    "node.pem",
                )?,
                key: source.path("identity.key", raw.identity.key.as_ref(), "node.key")?,
            },
            http: raw.http.checked(&source)?,
            trace: raw.trace.checked(&source)?,
            function: Included::load(&source, raw.include)?.checked(&source, raw.function, raw.ingress)?,
            kinds: kinds(&source, raw.kinds)?,
            limits: raw.limits.checked(&source)?,
        })
    }

    /// `FILE:LINE` where a key stands, or `FILE` if its default is used: for complaints about what its value leads to.
    pub fn line_of(&self, key: Setting<'_>) -> String {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let raw = toml::from_str::<File>(&text).ok();
        let value = raw.as_ref().and_then(|raw| {
            match key {
                Setting::Cluster => &raw.cluster,
                Setting::Listen => &raw.listen,
                Setting::HttpListen => &raw.http.listen,
                Setting::Ca => &raw.identity.ca,
                Setting::Certificate => &raw.identity.certificate,
                Setting::PrivateKey => &raw.identity.key,
                Setting::Kind(name) => {
                    return raw
                        .kinds
                        .iter()
                        .find(|(kind, _)| kind.get_ref() == name)
                        .map(|(_, ty)| ty);
                }
            }
            .as_ref()
        });
        Source::new(&self.file, &text).place(value.map(Spanned::span))
    }

    /// Fails when there is no such function to run, or when a certificate file is not there, naming the file's line and the two commands that make one.
    pub fn check_files(&self) -> Result<(), Failure> {
        let IdentityFiles { ca, certificate, key } = &self.identity;
        if let Some(function) = &self.function {
            function.check()?;
        }
        for (key, name, path) in [
            (Setting::Ca, "ca", ca),
            (Setting::Certificate, "certificate", certificate),
            (Setting::PrivateKey, "key", key),
        ] {
            if path.is_file() {
                continue;
            }
            let place = self.line_of(key);
            let how = match ca.is_file() {
                true => self.how_to_issue(),
                false => self.how_to_begin(),
            };
            let message = format!(
                "{place}: identity.{name}: there is no file {}. {how}",
                path.display()
            );
            return Err(Failure::new("identity", message));
        }
        Ok(())
    }

    fn base(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    fn how_to_begin(&self) -> String {
        let (ca, base) = (self.base().join("ca"), self.base());
        format!(
            "A node needs a certificate of its cluster. To make a CA (once) and a certificate for this node:\n  anabranch ca init --dir \
             {} --cluster {}\n  anabranch cert issue --ca {} --out {}",
            quoted(&ca),
            self.cluster.as_deref().unwrap_or("NAME"),
            quoted(&ca),
            quoted(base),
        )
    }

    /// A CA's certificate is there: the cluster is, and another CA would be another cluster.
    fn how_to_issue(&self) -> String {
        format!(
            "Have the cluster's CA issue the node's certificate and key again. --force replaces what is left of them, and --node ID keeps the \
             id, which the data directory is tied to and `anabranch status` shows at the other nodes:\n  anabranch cert issue --ca CA_DIR --out {} \
             --force --node ID",
            quoted(self.base()),
        )
    }
}

impl HttpSection {
    fn checked(self, source: &Source<'_>) -> Result<HttpConfig, Failure> {
        let listen = source.parsed("http.listen", self.listen.as_ref(), loopback(HTTP_PORT_DEFAULT))?;
        let token = match self.token {
            Some(token) if token.get_ref().is_empty() => None,
            Some(token) if token.get_ref().len() < TOKEN_BYTES_MIN => {
                let message = format_args!(
                    "http.token must have at least {TOKEN_BYTES_MIN} bytes, or be empty for none"
                );
                return Err(source.at(token.span(), message));
            }
            // What a header can carry and nobody can misread; the message does not repeat it.
            Some(token) if !token.get_ref().bytes().all(|b| b.is_ascii_graphic()) => {
                let message = format_args!("http.token must be visible ASCII characters without spaces");
                return Err(source.at(token.span(), message));
            }
            Some(token) => Some(Secret(token.into_inner())),
            None => None,
        };
        if token.is_none() && !listen.ip().is_loopback() {
            return Err(source.at_value(
                self.listen.as_ref(),
                format_args!(
                    "http.listen is {listen}: beyond loopback the admin API wants http.token, a bearer token"
                ),
            ));
        }
        let Readers {
            connections_max,
            watches_max,
            dumps_max,
        } = readers(source, self.connections_max, self.watches_max, self.dumps_max)?;
        Ok(HttpConfig {
            listen,
            token,
            hosts: source.each("http.hosts", self.hosts, ADDRESSES_MAX, host)?,
            origins: source.each("http.origins", self.origins, ADDRESSES_MAX, origin)?,
            connections_max,
            watches_max,
            dumps_max,
            body_bytes_max: source.number_or(
                "http.body_bytes_max",
                self.body_bytes_max,
                BODY_BYTES_DEFAULT,
                1024..=1 << 30,
            )?,
        })
    }
}

/// How many may be connected, and for long.
struct Readers {
    connections_max: usize,
    watches_max: usize,
    dumps_max: usize,
}

fn readers(
    source: &Source<'_>,
    connections: Option<Spanned<u64>>,
    watches: Option<Spanned<u64>>,
    dumps: Option<Spanned<u64>>,
) -> Result<Readers, Failure> {
    let range = CONNECTIONS_MIN as u64..=65_536;
    let span = [&dumps, &watches, &connections]
        .into_iter()
        .flatten()
        .map(Spanned::span)
        .next();
    let connections_max =
        source.number_or("http.connections_max", connections, CONNECTIONS_DEFAULT, range)?;
    let part = |default: usize, part: usize| default.min(connections_max / part);
    let watches_default = part(WATCHES_DEFAULT, WATCHES_PART);
    let watches_max = source.number_or("http.watches_max", watches, watches_default, 1..=65_536)?;
    let dumps_default = part(DUMPS_DEFAULT, DUMPS_PART);
    let dumps_max = source.number_or("http.dumps_max", dumps, dumps_default, 1..=65_536)?;
    if watches_max + dumps_max + CONNECTIONS_OTHERS_MIN > connections_max {
        return Err(source.at(
            span.unwrap_or(0..0),
            format_args!(
                "http.watches_max ({watches_max}) and http.dumps_max ({dumps_max}) must leave at least \
                 {CONNECTIONS_OTHERS_MIN} of http.connections_max ({connections_max}) to other requests"
            ),
        ));
    }
    Ok(Readers {
        connections_max,
        watches_max,
        dumps_max,
    })
}

/// Reads a file whose bytes are text.
fn read(file: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new("config", format!("cannot read {}: {e}", file.display()));
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(failed)?;
    opened
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!(
            "{} has more than {FILE_BYTES_MAX} bytes: it is no configuration",
            file.display()
        );
        return Err(Failure::new("config", message));
    }
    String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..offset].iter().filter(|&&b| b == b'\n').count();
        let message = format!(
            "{}:{line}: not UTF-8 at byte {} of the file",
            file.display(),
            offset + 1
        );
        Failure::new("config", message)
    })
}

/// A Host header's name: its port is not compared.
fn host(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && !text.contains([':', '/', '@', ' ', '[', ']']);
    if is_name || text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "{text:?} is not a host's name without a port, such as db.internal"
    ))
}

fn origin(text: &str) -> Result<String, String> {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .unwrap_or_default();
    if host.is_empty() || host.contains('/') {
        return Err(format!(
            "{text:?} is not an origin such as https://ops.example.org"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

fn kinds(
    source: &Source<'_>,
    raw: BTreeMap<Spanned<String>, Spanned<String>>,
) -> Result<BTreeMap<String, Type>, Failure> {
    let mut kinds = BTreeMap::new();
    for (kind, ty) in raw {
        crate::wire::EntityId::new(kind.get_ref(), "key").map_err(|e| source.at(kind.span(), e))?;
        if kind.get_ref().starts_with(OWN_KINDS) {
            let message = format_args!(
                "kind {:?} is one of Anabranch's own, whose types are not declared",
                kind.get_ref()
            );
            return Err(source.at(kind.span(), message));
        }
        let parsed = ty.get_ref().parse::<Type>().map_err(|_| {
            let types = types();
            source.at(
                ty.span(),
                format_args!("{:?} is none of the types {types}", ty.get_ref()),
            )
        })?;
        kinds.insert(kind.into_inner(), parsed);
    }
    Ok(kinds)
}

/// The names of all types, for people.
pub fn types() -> String {
    Type::ALL
        .iter()
        .map(|ty| ty.name())
        .collect::<Vec<_>>()
        .join(", ")
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
