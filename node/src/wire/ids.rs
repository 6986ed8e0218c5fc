//! The names things travel under: entities, shards, directories.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// A kind's name is at most this long.
pub const KIND_BYTES_MAX: usize = 128;
/// An entity's key is at most this long.
pub const KEY_BYTES_MAX: usize = 1024;
/// An idempotency key is at most this long.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;

/// Most entities' names are no longer than this, together.
const NAMES_FEW: usize = 64;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must have 1 to {max} bytes, this one has {got}")]
pub struct NameError {
    what: &'static str,
    max: usize,
    got: usize,
}

/// What asks for something of such a name is wrong.
impl From<NameError> for Error {
    fn from(error: NameError) -> Error {
        Error::new(ErrorKind::Invalid, error.to_string())
    }
}

fn check_name(what: &'static str, len: usize, max: usize) -> Result<(), NameError> {
    if len == 0 || len > max {
        Err(NameError { what, max, got: len })
    } else {
        Ok(())
    }
}

/// The address of one piece of state: its kind (the entity type's name) and its key. Cheap to clone; ordered by
/// kind, then key, bytewise.
///
/// ```
/// use anabranch::EntityId;
/// let id = EntityId::new("cart", "alice")?;
/// assert_eq!((id.kind(), id.key()), ("cart", "alice"));
/// assert!(EntityId::new("", "alice").is_err());
/// # Ok::<(), anabranch::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntityId {
    /// Kind and key in one piece, so that a clone counts one reference.
    names: Arc<str>,
    kind_len: u8,
}

const _: () = assert!(KIND_BYTES_MAX <= u8::MAX as usize);

impl EntityId {
    /// An entity's address. Both names must be non-empty; at most 128 and 1,024 bytes.
    pub fn new(kind: &str, key: &str) -> Result<EntityId, NameError> {
        check_name("a kind", kind.len(), KIND_BYTES_MAX)?;
        check_name("a key", key.len(), KEY_BYTES_MAX)?;
        let (kind_len, len) = (kind.len(), kind.len() + key.len());
        // Most names are short: they are put together on the stack, and into memory once.
        let mut few = [0; NAMES_FEW];
        let few = few.get_mut(..len).and_then(|few| {
            few[..kind_len].copy_from_slice(kind.as_bytes());
            few[kind_len..].copy_from_slice(key.as_bytes());
            std::str::from_utf8(few).ok()
        });
        let names = few.map_or_else(|| [kind, key].concat().into(), Arc::from);
        Ok(EntityId {
            names,
            kind_len: kind_len as u8,
        })
    }

    /// The entity type's name.
    pub fn kind(&self) -> &str {
        &self.names[..usize::from(self.kind_len)]
    }

    /// Which one of its kind.
    pub fn key(&self) -> &str {
        &self.names[usize::from(self.kind_len)..]
    }

    fn split(&self) -> (&[u8], &[u8]) {
        self.names.as_bytes().split_at(usize::from(self.kind_len))
    }

    /// Bytes this id takes in memory and, about, on the wire.
    pub fn len_bytes(&self) -> usize {
        self.names.len()
    }
}

impl Ord for EntityId {
    fn cmp(&self, other: &EntityId) -> Ordering {
        if Arc::ptr_eq(&self.names, &other.names) && self.kind_len == other.kind_len {
            return Ordering::Equal;
        }
        if self.kind_len == other.kind_len {
            // Both split at the same place, so the whole tells.
            return self.names.as_bytes().cmp(other.names.as_bytes());
        }
        self.split().cmp(&other.split())
    }
}

impl PartialOrd for EntityId {
    fn partial_cmp(&self, other: &EntityId) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind(), self.key())
    }
}

/// `KIND/KEY`, as it is shown: the key is everything after the first slash. A kind that has a slash itself cannot be written so; see
/// [`EntityId::new`].
///
/// ```
/// use anabranch::EntityId;
/// let id: EntityId = "cart/alice/2026".parse()?;
/// assert_eq!((id.kind(), id.key()), ("cart", "alice/2026"));
/// assert!("cart".parse::<EntityId>().is_err());
/// # Ok::<(), anabranch::NameError>(())
/// ```
impl FromStr for EntityId {
    type Err = NameError;

    fn from_str(s: &str) -> Result<EntityId, NameError> {
        let (kind, key) = s.split_once('/').unwrap_or((s, ""));
        EntityId::new(kind, key)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A slice of the key space: the unit of causality, replication and placement. From 0 to the cluster's shard
/// count, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The random id of one data directory. Every answer to an update names it: a client that sees another one knows
/// that this node has lost what it remembered of idempotency keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub u128);

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DirectoryId {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<DirectoryId, Self::Err> {
        u128::from_str_radix(s, 16).map(DirectoryId)
    }
}

/// A caller's name for one update, so that a repeat applies nothing twice: 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Box<[u8]>);

impl IdempotencyKey {
    /// A key of 1 to 64 bytes.
    pub fn new(bytes: &[u8]) -> Result<IdempotencyKey, NameError> {
        check_name("an idempotency key", bytes.len(), IDEMPOTENCY_KEY_BYTES_MAX)?;
        Ok(IdempotencyKey(bytes.into()))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes of a text.
///
/// ```
/// use anabranch::IdempotencyKey;
/// let key: IdempotencyKey = "transfer 4711".parse()?;
/// assert_eq!(key.as_bytes(), b"transfer 4711");
/// # Ok::<(), anabranch::NameError>(())
/// ```
impl FromStr for IdempotencyKey {
    type Err = NameError;

    fn from_str(s: &str) -> Result<IdempotencyKey, NameError> {
        IdempotencyKey::new(s.as_bytes())
    }
}
