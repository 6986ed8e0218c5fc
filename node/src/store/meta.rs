//! The meta file: whose directory this is, the last epoch started in it, and how far the log was known
//! durable then.
//!
//! `"anabmeta" | version u8 | cluster len u8 | cluster | node u128 | directory u128 | salt u128 | has epoch u8 |
//! epoch u64 | synced lsn u64 | crc32c u32`, little-endian. Every version keeps magic and version first and the
//! checksum of all before it last. Its version is the directory's: a change that older versions must not
//! touch raises it. It is never changed in place, but replaced by a rename.

use std::fmt;

use anabranch_crdt::{Epoch, NodeId};

use super::disk::{Disk, DiskFile, publish};
use super::error::StoreError;
use super::limits::{CLUSTER_BYTES_MAX, META_BYTES_MAX};
use super::window::read_full;
use super::{Identity, Lsn, u32_at, u64_at, u128_at};

/// Newest format written and read here. Format 1 had no salt, format 2 counters that could not be reset, format 3 puts
/// one by one in its snapshots, format 4 whole places in its operations; none of them was ever released.
pub(super) const VERSION: u8 = 7;
/// Oldest format read here: it has no word of since when a node keeps what its runs hold of bounded counters, and its first start
/// makes it the newest.
const OLDEST: u8 = 5;
/// The first format in which a segment of the log is there before an epoch is, even if nothing was ever appended.
const LOG_FIRST: u8 = 7;
/// The meta file's name.
pub(super) const NAME: &str = "meta";
/// Its name while it is not whole yet.
pub(super) const TEMP: &str = "meta.tmp";

const MAGIC: [u8; 8] = *b"anabmeta";
/// Bytes beside the cluster's name.
const FIXED_BYTES: usize = 8 + 1 + 1 + 16 + 16 + 16 + 1 + 8 + 8 + 4;

/// What the meta file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) format: u8,
    pub(super) cluster: String,
    pub(super) node: NodeId,
    pub(super) ties: Ties,
    pub(super) epoch: Option<Epoch>,
    /// Every record up to this lsn was synced before this file was written: a mark like those of the commits.
    pub(super) synced: Lsn,
}

/// What ties the other files to their directory: its id, which stands in their headers and is no secret, and a number that
/// nobody learns, which their checksums start from. So nobody who can choose what is stored can make bytes that would be
/// taken for a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ties {
    pub(super) directory: u128,
    pub(super) salt: u128,
}

impl fmt::Debug for Ties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ties")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Meta {
    /// The meta of a directory nobody has used yet.
    pub(super) fn of_new(identity: &Identity, salt: u128) -> Result<Meta, StoreError> {
        let bytes = identity.cluster.len();
        if bytes > CLUSTER_BYTES_MAX {
            return Err(StoreError::TooLarge {
                what: "a cluster's name",
                bytes,
                max: CLUSTER_BYTES_MAX,
            });
        }
        Ok(Meta {
            format: VERSION,
            cluster: identity.cluster.clone(),
            node: identity.node,
            ties: Ties {
                directory: identity.directory,
                salt,
            },
            epoch: None,
            synced: Lsn(0),
        })
    }

    /// Reads and checks the meta file.
    pub(super) fn read<D: Disk>(disk: &D) -> Result<Meta, StoreError> {
        let file = disk.locate(NAME);
        let failed = |e| StoreError::io("reading the meta file", disk.locate(NAME), e);
        let mut input = disk.open(NAME).map_err(failed)?;
        let len = input.len().map_err(failed)?;
        if len > META_BYTES_MAX {
            return Err(StoreError::corrupt(
                &file,
                0,
                format!("{len} bytes are no meta file"),
            ));
        }
        let mut bytes = vec![0; len as usize];
        let read = read_full(&mut input, 0, &mut bytes).map_err(failed)?;
        Meta::decode(&file, &bytes[..read])
    }

    /// Replaces the meta file durably.
    pub(super) fn write<D: Disk>(&self, disk: &D) -> Result<(), StoreError> {
        let bytes = self.encode();
        publish(disk, TEMP, NAME, "the meta file", &mut |out| {
            out.write_at(0, &bytes)
                .map_err(|e| StoreError::io("the meta file", disk.locate(NAME), e))
        })?;
        Ok(())
    }

    /// Whether there was a segment to hold the record after `synced` when this was written.
    pub(super) fn has_log(&self) -> bool {
        self.epoch.is_some() && self.format >= LOG_FIRST
    }

    /// Refuses a directory of another cluster or node.
    pub(super) fn check_identity(&self, file: &str, identity: &Identity) -> Result<(), StoreError> {
        let file = file.to_owned();
        if self.cluster != identity.cluster {
            let (found, expected) = (self.cluster.clone(), identity.cluster.clone());
            return Err(StoreError::OtherCluster {
                file,
                found,
                expected,
            });
        }
        if self.node != identity.node {
            return Err(StoreError::OtherNode {
                file,
                found: self.node,
                expected: identity.node,
            });
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        assert!(
            self.cluster.len() <= CLUSTER_BYTES_MAX,
            "a cluster name of {} bytes",
            self.cluster.len()
        );
        let mut out = Vec::with_capacity(FIXED_BYTES + self.cluster.len());
        out.extend_from_slice(&MAGIC);
        out.push(self.format);
        out.push(self.cluster.len() as u8);
        out.extend_from_slice(self.cluster.as_bytes());
        out.extend_from_slice(&self.node.0.to_le_bytes());
        out.extend_from_slice(&self.ties.directory.to_le_bytes());
        out.extend_from_slice(&self.ties.salt.to_le_bytes());
        out.push(u8::from(self.epoch.is_some()));
        out.extend_from_slice(&self.epoch.map_or(0, |epoch| epoch.0).to_le_bytes());
        out.extend_from_slice(&self.synced.0.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(file: &str, bytes: &[u8]) -> Result<Meta, StoreError> {
        let bad = |what: &str| StoreError::corrupt(file, 0, what);
        if bytes.len() < MAGIC.len() + 1 + 4 || bytes[..8] != MAGIC {
            return Err(bad("this is not a meta file"));
        }
        let (body, crc) = bytes.split_at(bytes.len() - 4);
        if u32_at(crc, 0) != crc32c::crc32c(body) {
            return Err(bad("the checksum is wrong"));
        }
        match body[8] {
            OLDEST..=VERSION => {}
            0 => return Err(bad("it names a format that never was")),
            found @ 1..OLDEST => {
                return Err(StoreError::OlderFormat {
                    file: file.to_owned(),
                    found,
                    known: VERSION,
                });
            }
            found => {
                return Err(StoreError::NewerFormat {
                    file: file.to_owned(),
                    found,
                    known: VERSION,
                });
            }
        }
        let name_bytes = usize::from(*body.get(9).unwrap_or(&0));
        if bytes.len() != FIXED_BYTES + name_bytes {
            return Err(bad("its length does not fit its content"));
        }
        let (name, rest) = body[10..].split_at(name_bytes);
        let cluster = std::str::from_utf8(name).map_err(|_| bad("the cluster's name is not UTF-8"))?;
        let epoch = match rest[48] {
            0 => None,
            1 => Some(Epoch(u64_at(rest, 49))),
            _ => return Err(bad("the epoch is neither there nor absent")),
        };
        Ok(Meta {
            format: body[8],
            cluster: cluster.to_owned(),
            node: NodeId(u128_at(rest, 0)),
            ties: Ties {
                directory: u128_at(rest, 16),
                salt: u128_at(rest, 32),
            },
            epoch,
            synced: Lsn(u64_at(rest, 57)),
        })
    }
}
