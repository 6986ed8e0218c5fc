//! What chitchat may hear of a message: a copy of it, without what chitchat could not bear.
//!
//! chitchat asserts where it should refuse: versions that go back, more ids than fit a message. Its types do not show
//! what is in them, so the bytes are read here (chitchat 0.11, pinned; protocol version 0): ids and versions that cannot be
//! are left out, and so is what the [`Roster`] has no room for. What cannot be read at all is refused whole.
//!
//! A message: `45139 u16 | 0 u8 | kind u8`, then for a syn (0) `digest | cluster`, for a syn-ack (1) `digest | delta`, for an
//! ack (2) `delta`, for a refusal (3) nothing. A digest: `count u16`, then each `id | heartbeat u64 | gc u64 | max u64`. An
//! id: `node | epoch u64 | 4 or 6 u8 | address | port u16`. A text: `len u16 | UTF-8`. A delta: blocks `1 u8 | len u16 | zstd`
//! or `2 u8 | len u16 | bytes`, then `0 u8`; together steps `0 u8 | id | gc u64 | from u64`, `1 u8 | key | value | version u64 |
//! status u8`, `2 u8 | max u64`. All little-endian.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anabranch_crdt::{Epoch, NodeId};

use crate::membership::carry::node_of;
use crate::membership::limits::{
    BLOCK_BYTES_MAX, CLUSTER_BYTES_MAX, DELTA_BYTES_MAX, EPOCH_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX,
    VERSION_MAX,
};
use crate::membership::roster::{Id, Roster};

const HEAD: [u8; 3] = [0x53, 0xb0, 0];
const SYN: u8 = 0;
const SYN_ACK: u8 = 1;
const ACK: u8 = 2;
const BAD_CLUSTER: u8 = 3;

const STEP_NODE: u8 = 0;
const STEP_KEY: u8 = 1;
const STEP_MAX: u8 = 2;
const STATUS_MAX: u8 = 2;

const BLOCK_END: u8 = 0;
const BLOCK_PACKED: u8 = 1;
const BLOCK_PLAIN: u8 = 2;

/// The message as chitchat may hear it from this node, or why it may not hear it at all.
pub(super) fn vet(roster: &mut Roster, from: NodeId, message: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut input = Input(message);
    if input.bytes(HEAD.len())? != HEAD {
        return Err("no gossip of this version");
    }
    let kind = input.u8()?;
    let mut out = HEAD.to_vec();
    out.push(kind);
    match kind {
        SYN => {
            vet_digest(roster, from, &mut input, &mut out)?;
            let cluster = input.text()?;
            if cluster.len() > CLUSTER_BYTES_MAX {
                return Err("a cluster's name that is too long");
            }
            put_text(&mut out, cluster);
        }
        SYN_ACK => {
            vet_digest(roster, from, &mut input, &mut out)?;
            vet_delta(roster, &mut input, &mut out)?;
        }
        ACK => vet_delta(roster, &mut input, &mut out)?,
        BAD_CLUSTER => {}
        _ => return Err("a message of an unknown kind"),
    }
    Ok(out)
}

fn vet_digest(
    roster: &mut Roster,
    from: NodeId,
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let mut entries: BTreeMap<Id, &[u8]> = BTreeMap::new();
    for _ in 0..input.u16()? {
        let entry = input.0;
        let id = input.id()?;
        input.u64()?;
        let (gc, max) = (input.u64()?, input.u64()?);
        let entry = &entry[..entry.len() - input.0.len()];
        match id {
            Some(id) if gc <= VERSION_MAX && max <= VERSION_MAX => drop(entries.insert(id, entry)),
            _ => roster.refuse(),
        }
    }
    // The newest life of a node first: then its earlier ones are old.
    let mut admitted: Vec<&[u8]> = Vec::new();
    for (id, entry) in entries.iter().rev() {
        if roster.admit(*id, from) {
            admitted.push(entry);
        }
    }
    let Ok(count) = u16::try_from(admitted.len()) else {
        return Err("more ids than a message can have");
    };
    out.extend(count.to_le_bytes());
    for entry in admitted {
        out.extend(entry);
    }
    Ok(())
}

fn vet_delta(roster: &mut Roster, input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let steps = unpack(input)?;
    let mut steps = Input(&steps);
    let mut kept = Vec::new();
    // What the steps are about, and how far its version has come; nothing while they are left out.
    let mut about: Option<(Id, u64)> = None;
    while !steps.0.is_empty() {
        let step = steps.0;
        let was = about;
        let is_sane = match steps.u8()? {
            STEP_NODE => {
                let (id, gc, since) = (steps.id()?, steps.u64()?, steps.u64()?);
                // What others say of this node itself is no news to it, and of whom it has not heard it takes nothing.
                about = id
                    .filter(|id| !roster.is_me(*id) && roster.is_known(*id))
                    .map(|id| (id, 0));
                id.is_some() && gc <= VERSION_MAX && since <= VERSION_MAX
            }
            STEP_KEY => {
                let (key, value, version, status) = (steps.text()?, steps.text()?, steps.u64()?, steps.u8()?);
                about = was.map(|(id, _)| (id, version));
                key.len() <= KEY_BYTES_MAX
                    && value.len() <= VALUE_BYTES_MAX
                    && version <= VERSION_MAX
                    && status <= STATUS_MAX
                    && was.is_none_or(|(id, reached)| reached < version && roster.admit_key(id, key))
            }
            STEP_MAX => {
                let max = steps.u64()?;
                about = was.map(|(id, _)| (id, max));
                max <= VERSION_MAX && was.is_none_or(|(_, reached)| reached <= max)
            }
            _ => return Err("a change of an unknown kind"),
        };
        if !is_sane {
            // The rest about this node is left out too: what chitchat takes of one must have no holes.
            about = None;
            roster.refuse();
        }
        if about.is_some() {
            kept.extend(&step[..step.len() - steps.0.len()]);
        }
    }
    for block in kept.chunks(BLOCK_BYTES_MAX) {
        out.push(BLOCK_PLAIN);
        out.extend((block.len() as u16).to_le_bytes());
        out.extend(block);
    }
    out.push(BLOCK_END);
    Ok(())
}

/// All steps of a delta, unpacked.
fn unpack(input: &mut Input<'_>) -> Result<Vec<u8>, &'static str> {
    let mut steps = Vec::new();
    let mut block = vec![0; BLOCK_BYTES_MAX];
    loop {
        let kind = input.u8()?;
        if kind == BLOCK_END {
            return Ok(steps);
        }
        let len = usize::from(input.u16()?);
        let bytes = input.bytes(len)?;
        let plain = match kind {
            BLOCK_PLAIN => bytes,
            BLOCK_PACKED => {
                let unpacked = zstd::bulk::decompress_to_buffer(bytes, &mut block[..])
                    .map_err(|_| "a block that cannot be unpacked")?;
                &block[..unpacked]
            }
            _ => return Err("a block of an unknown kind"),
        };
        if steps.len() + plain.len() > DELTA_BYTES_MAX {
            return Err("more changes than a message may have");
        }
        steps.extend(plain);
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or("it is cut off")?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, &'static str> {
        let len = usize::from(self.u16()?);
        std::str::from_utf8(self.bytes(len)?).map_err(|_| "a text that is not UTF-8")
    }

    /// A node's id; none if no node of ours can have it.
    fn id(&mut self) -> Result<Option<Id>, &'static str> {
        let name = self.text()?;
        let epoch = self.u64()?;
        let ip: IpAddr = match self.u8()? {
            4 => Ipv4Addr::from(self.array::<4>()?).into(),
            6 => Ipv6Addr::from(self.array::<16>()?).into(),
            _ => return Err("an address of an unknown kind"),
        };
        let address = SocketAddr::new(ip, self.u16()?);
        let node = name
            .parse::<NodeId>()
            .ok()
            .filter(|node| node_of(address) == Some(*node));
        Ok(node
            .filter(|_| epoch < EPOCH_MAX)
            .map(|node| (node, Epoch(epoch))))
    }
}
