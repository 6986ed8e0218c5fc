//! The JSON bodies of the admin API, as the server writes and the commands read them.
//!
//! Not here: entities' values, which are canonical JSON (`crate::json`). Numbers that may exceed 2^53 and are names
//! rather than amounts (epochs, ids, fingerprints) are strings, so that no client rounds them.
//!
//! Contract: members are only ever added. A request's unknown member is an error, an answer's is skipped.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::strict;
use crate::base64;
use crate::engine::limits::{SHARDS_MAX, UPDATE_OPS_MAX};

pub use crate::sidecar::{SESSION_HEADER, TIMEOUT_HEADER};

/// The header of a call that may run more than once: `true`.
pub const IDEMPOTENT_HEADER: &str = "anabranch-idempotent";

pub use crate::engine::limits::TIMEOUT_MS_MAX;
const SHARDS_COUNT_MAX: usize = SHARDS_MAX as usize;

/// Bytes in a request: a string stands for its UTF-8, `{"base64":"..."}` for anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Octets(pub Vec<u8>);

impl From<&str> for Octets {
    fn from(text: &str) -> Octets {
        Octets(text.as_bytes().to_vec())
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut text = String::new();
                base64::encode(&mut text, &self.0);
                BTreeMap::from([("base64", text)]).serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Octets, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Octets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or {\"base64\":\"...\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Octets, E> {
                Ok(Octets::from(text))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Octets, A::Error> {
                let refuse = || de::Error::custom("expected a string or {\"base64\":\"...\"}");
                let Some((name, text)) = map.next_entry::<String, String>()? else {
                    return Err(refuse());
                };
                if name != "base64" || map.next_key::<String>()?.is_some() {
                    return Err(refuse());
                }
                base64::decode(&text)
                    .map(Octets)
                    .ok_or_else(|| de::Error::custom("the base64 text is malformed"))
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "an operation's name")]
pub enum OpName {
    /// Adds `by` to a counter.
    Incr,
    /// Adds `elements` to a set.
    Add,
    /// Removes `elements` from a set.
    Remove,
    /// Empties a set.
    Clear,
    /// Sets a register to `value`, with `clock` if the caller orders the values.
    Set,
    /// Makes the entity exist, empty.
    Create,
    /// Enables a flag.
    Enable,
    /// Disables a flag.
    Disable,
    /// Casts the node's ballot: `yes`.
    Vote,
    /// Hands `amount` of a bounded counter over to the node `to`.
    Transfer,
    /// Deletes the entity, whole.
    Delete,
}

/// What a register's `clock` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a clock mode")]
pub enum ClockMode {
    /// The largest clock wins.
    Custom,
    /// The same, but a clock that is not above the one stored becomes one above it.
    AutoIncrement,
    /// The first writer wins; there is no `clock`.
    Reverse,
}

/// A step into a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepBody {
    /// The child's key.
    pub key: Octets,
    /// Its type, where the child is new and the map takes several.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
}

/// One operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpBody {
    /// The entity's kind.
    pub kind: String,
    /// The entity's key.
    pub key: String,
    /// What to do; the members below that it does not use must be absent.
    pub op: OpName,
    /// The type, where the kind is new and not declared.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
    /// By how much (`incr`).
    #[serde(
        default,
        deserialize_with = "strict::whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<i64>,
    /// What (`add`, `remove`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements: Option<Vec<Octets>>,
    /// What (`set`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Octets>,
    /// The value's place in the caller's own order (`set`).
    #[serde(
        default,
        deserialize_with = "strict::whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub clock: Option<u64>,
    /// What the clock means (`set`); without it: custom if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_mode: Option<ClockMode>,
    /// What the ballot says (`vote`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yes: Option<bool>,
    /// How much is handed over (`transfer`).
    #[serde(
        default,
        deserialize_with = "strict::whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub amount: Option<u64>,
    /// To which node, by id or name (`transfer`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The child of a map that the operation is on, outermost step first; without it, on the entity itself.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Vec<StepBody>>,
}

impl OpBody {
    /// An operation without any of the optional members.
    pub fn new(kind: &str, key: &str, op: OpName) -> OpBody {
        let (kind, key) = (kind.to_string(), key.to_string());
        OpBody {
            kind,
            key,
            op,
            ty: None,
            by: None,
            elements: None,
            value: None,
            clock: None,
            clock_mode: None,
            yes: None,
            amount: None,
            to: None,
            within: None,
        }
    }
}

/// Several operations that become visible and durable together at the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateBody {
    /// At least one.
    #[serde(deserialize_with = "strict::objects::<UPDATE_OPS_MAX, _, _>")]
    pub ops: Vec<OpBody>,
    /// The write level; without one: local, durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// How long to wait for the level, milliseconds.
    #[serde(
        default,
        deserialize_with = "strict::whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout_ms: Option<u64>,
    /// The caller's name for this update: a repeat at the same node applies nothing twice. 1 to 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Refuse the update if the node's data directory is not this one: then its idempotency keys are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
}

/// One operation on the entity that the path names, with the settings of its update.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneBody {
    op: OpName,
    #[serde(rename = "type", default)]
    ty: Option<String>,
    #[serde(default, deserialize_with = "strict::whole")]
    by: Option<i64>,
    #[serde(default)]
    elements: Option<Vec<Octets>>,
    #[serde(default)]
    value: Option<Octets>,
    #[serde(default, deserialize_with = "strict::whole")]
    clock: Option<u64>,
    #[serde(default)]
    clock_mode: Option<ClockMode>,
    #[serde(default)]
    yes: Option<bool>,
    #[serde(default, deserialize_with = "strict::whole")]
    amount: Option<u64>,
    #[serde(default)]
    to: Option<String>,
    #[serde(rename = "in", default)]
    within: Option<Vec<StepBody>>,
    #[serde(default)]
    level: Option<String>,
    #[serde(default, deserialize_with = "strict::whole")]
    timeout_ms: Option<u64>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    directory: Option<String>,
}

impl OneBody {
    /// The same as a batch of one.
    pub fn into_update(self, kind: String, key: String) -> UpdateBody {
        let OneBody {
            op,
            ty,
            by,
            elements,
            value,
            clock,
            clock_mode,
            yes,
            amount,
            to,
            within,
            level,
            timeout_ms,
            idempotency_key,
            directory,
        } = self;
        let ops = vec![OpBody {
            kind,
            key,
            op,
            ty,
            by,
            elements,
            value,
            clock,
            clock_mode,
            yes,
            amount,
            to,
            within,
        }];
        UpdateBody {
            ops,
            level,
            timeout_ms,
            idempotency_key,
            directory,
        }
    }
}

/// How the entity that the path names is deleted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteBody {
    #[serde(rename = "type", default)]
    ty: Option<String>,
    #[serde(default)]
    level: Option<String>,
    #[serde(default, deserialize_with = "strict::whole")]
    timeout_ms: Option<u64>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    directory: Option<String>,
}

impl DeleteBody {
    /// The same as a batch of one.
    pub fn into_update(self, kind: &str, key: &str) -> UpdateBody {
        let DeleteBody {
            ty,
            level,
            timeout_ms,
            idempotency_key,
            directory,
        } = self;
        let op = OpBody {
            ty,
            ..OpBody::new(kind, key, OpName::Delete)
        };
        UpdateBody {
            ops: vec![op],
            level,
            timeout_ms,
            idempotency_key,
            directory,
        }
    }
}

/// What an update's caller learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerBody {
    /// The node's data directory. Another one than before: what it knew of idempotency keys is gone.
    pub directory: String,
    /// The epoch the update was made in.
    pub epoch: String,
    /// Whether an earlier update with this key is being answered again.
    pub repeated: bool,
    /// How many copies had confirmed, this node among them.
    pub confirmed: u32,
    /// What it consumed: shard, first and last sequence.
    pub dots: Vec<(u32, u64, u64)>,
}

/// What a node remembers of one idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBody {
    /// Whether an update under this key was taken.
    pub known: bool,
    /// The node's data directory, whose memory that is.
    pub directory: String,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The failure's name.
    pub error: String,
    /// What is wrong, what is now true, what to do.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retry: bool,
    /// Whether something was (or may have been) changed.
    pub changed: bool,
    /// What the function says of why it refused, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateBody {
    /// From then on, milliseconds since 1970.
    pub valid_from_ms: u64,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: u64,
}

/// A node and what it knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusBody {
    /// The node's name for people.
    pub node: String,
    /// Its id.
    pub id: String,
    /// Its cluster.
    pub cluster: String,
    /// What tells clusters of one name apart: it follows from the CA's key.
    #[serde(default)]
    pub cluster_id: String,
    /// The program's version.
    pub version: String,
    /// When its certificate ends, milliseconds since 1970; absent where the node is too old to say.
    #[serde(default)]
    pub certificate_expires_ms: Option<u64>,
    /// What its ingress shows; absent where that does not speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_certificate: Option<CertificateBody>,
    /// The epoch of this start.
    pub epoch: String,
    /// The data directory's id.
    pub directory: String,
    /// Where it is.
    pub data: String,
    /// The process.
    pub pid: u32,
    /// Where it listens for peers.
    pub quic: String,
    /// Whether it takes writes.
    pub ready: bool,
    /// Shards of the cluster.
    pub shards: u32,
    /// Entities held here.
    pub entities: u64,
    /// The disk: "ok", "full", "refused" (by the system, and not for want of space) or "poisoned".
    pub store: String,
    /// Why the disk is not "ok".
    pub store_reason: Option<String>,
    /// Bytes of log on disk.
    pub log_bytes: u64,
    /// Why the last snapshot that was tried has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_error: Option<String>,
    /// The other nodes.
    pub members: Vec<MemberBody>,
    /// The engine's counters.
    pub counters: BTreeMap<String, u64>,
}

/// Another node, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberBody {
    /// Its id.
    pub id: String,
    /// Its name, once gossip has brought it.
    pub name: Option<String>,
    /// Its epoch, as far as known.
    pub epoch: Option<String>,
    /// Where it says it can be reached.
    pub addresses: Vec<String>,
    /// Whether there is a link to it.
    pub connected: bool,
    /// What membership believes: "up", "down", "left".
    pub hint: String,
    /// How far its clock is ahead of ours, milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// Bytes sent to it over QUIC since this start.
    pub bytes_sent: u64,
    /// Bytes received from it over QUIC since this start.
    pub bytes_received: u64,
}

/// What one node holds, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummariesBody {
    /// The node's name.
    pub node: String,
    /// Its id.
    pub id: String,
    /// Its cluster.
    pub cluster: String,
    /// What tells clusters of one name apart: it follows from the CA's key.
    #[serde(default)]
    pub cluster_id: String,
    /// Shards of the cluster.
    pub shards_total: u32,
    /// How often a peer's fingerprint differed at an equal version vector since this start: damage.
    pub fingerprint_mismatches: u64,
    /// The shards that are not empty, ascending.
    #[serde(deserialize_with = "strict::objects::<SHARDS_COUNT_MAX, _, _>")]
    pub shards: Vec<ShardBody>,
}

/// One shard, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardBody {
    /// Its number.
    pub shard: u32,
    /// The last operation seen, per replica ("NODE/EPOCH").
    pub version_vector: BTreeMap<String, u64>,
    /// The fingerprint of its state, 16 hexadecimal digits.
    pub fingerprint: String,
}

/// How a node has left its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveBody {
    /// The node's id.
    pub id: String,
    /// How many other nodes were connected when it was asked to leave.
    pub peers: usize,
    /// Whether they are known to have all that it had.
    pub handed_over: bool,
    /// What is true and what to do, where they are not.
    pub warning: Option<String>,
}

/// How what one node holds compares with what another one does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyBody {
    /// Whether they hold the same.
    pub agree: bool,
    /// In what they differ, for people; the first ones.
    pub differences: Vec<String>,
}

/// What `up` and `node` say once a node is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyBody {
    /// The node's name.
    pub node: String,
    /// Its process.
    pub pid: u32,
    /// Where it listens for peers, HOST:PORT.
    pub quic: String,
    /// Where its admin API listens, HOST:PORT.
    pub http: String,
    /// Its configuration file, absolute.
    pub config: String,
    /// Where its function's callers come, HOST:PORT, if it has one in another process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
}

impl fmt::Display for ReadyBody {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReadyBody {
            node,
            pid,
            quic,
            http,
            ..
        } = self;
        write!(f, "{node} is ready: process {pid}, QUIC {quic}, HTTP {http}")?;
        match &self.ingress {
            Some(ingress) => write!(f, ", ingress {ingress}"),
            None => Ok(()),
        }
    }
}

/// What a node that `dev` has started says on its stdout, one object a line. Of these only that it has left to `up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeNews {
    /// It takes writes, and its ingress serves what was discovered.
    Ready {
        /// Its own words.
        ready: ReadyBody,
        /// What was discovered, lines for people.
        discovered: Vec<String>,
    },
    /// Its function was started again, and is another one.
    Discovered {
        /// What was discovered, lines for people.
        discovered: Vec<String>,
    },
    /// Its function has printed something.
    Function {
        /// A line of it.
        line: String,
    },
    /// It was asked to leave the cluster, and has left nothing behind: it ends, and is not to come back.
    Left,
}

/// The answer of `/readyz` and of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessBody {
    /// The node's id.
    pub id: String,
    /// Whether it does what was asked for.
    pub ready: bool,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer of `/healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthBody {
    /// The node's id.
    pub id: String,
    /// Whether it takes writes.
    pub ready: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(text: &str) -> Result<UpdateBody, String> {
        strict::object(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn bytes_are_strings_or_base64() {
        let read = |text: &str| serde_json::from_str::<Octets>(text).map_err(|e| e.to_string());
        assert_eq!(read(r#""é""#), Ok(Octets::from("é")));
        assert_eq!(read(r#"{"base64":"/w=="}"#), Ok(Octets(vec![0xff])));
        assert_eq!(
            serde_json::to_string(&Octets(vec![0xff])).unwrap(),
            r#"{"base64":"/w=="}"#
        );
        for bad in [
            "1",
            "{}",
            r#"{"base64":"/w="}"#,
            r#"{"b":"/w=="}"#,
            r#"{"base64":"","x":""}"#,
            "null",
            "[1]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_member_of_a_request_is_an_error() {
        let good = r#"{"ops":[{"kind":"k","key":"a","op":"incr","by":-2,"type":"pncounter"}],"level":"all"}"#;
        let body = update(good).unwrap();
        assert_eq!(body.ops[0].by, Some(-2));
        assert_eq!(
            serde_json::from_str::<UpdateBody>(&serde_json::to_string(&body).unwrap()).unwrap(),
            body
        );
        assert!(
            update(&good.replace("level", "levle"))
                .unwrap_err()
                .contains("unknown field `levle`")
        );
        assert!(
            update(&good.replace("\"by\"", "\"buy\""))
                .unwrap_err()
                .contains("unknown field `buy`")
        );
        assert!(
            update(&good.replace("incr", "inc"))
                .unwrap_err()
                .contains("unknown variant `inc`")
        );
    }
}
