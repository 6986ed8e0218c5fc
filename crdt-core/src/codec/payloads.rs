//! What dots carry.

use alloc::vec::Vec;

use super::DecodeError;
use super::octets::{Reader, put_number, put_string};
use crate::delta::{Base, ClockMode, Payload, Totals};
use crate::dot::SEQ_MAX;
use crate::id::{Epoch, NodeId, ReplicaId};

/// Append-only numbers of what a dot may carry.
pub(super) mod tag {
    pub(crate) const PRESENT: u8 = 0;
    pub(crate) const COUNT: u8 = 1;
    pub(crate) const STAMPED: u8 = 2;
    pub(crate) const WRITTEN: u8 = 3;
    pub(crate) const BALLOT: u8 = 4;
    pub(crate) const RIGHTS: u8 = 5;
}

pub(super) fn tag_of(payload: &Payload) -> u8 {
    match payload {
        Payload::Present => tag::PRESENT,
        Payload::Count { .. } => tag::COUNT,
        Payload::Stamped { .. } => tag::STAMPED,
        Payload::Written { .. } => tag::WRITTEN,
        Payload::Ballot { .. } => tag::BALLOT,
        Payload::Rights { .. } => tag::RIGHTS,
    }
}

pub(super) fn write(out: &mut Vec<u8>, payload: &Payload) {
    match payload {
        Payload::Present => {}
        Payload::Count { totals, base } => {
            let (seq, reset) = base.origin();
            // Sequences are of 48 bits.
            put_number(out, seq << 1 | u64::from(reset.is_some()));
            write_totals(out, *totals);
            if let Some(reset) = reset {
                write_totals(out, reset);
            }
        }
        Payload::Stamped { clock, mode, value } => {
            out.push(u8::from(*mode == ClockMode::Custom));
            out.extend_from_slice(&clock.to_be_bytes());
            put_string(out, value);
        }
        Payload::Written { value } => put_string(out, value),
        Payload::Ballot { yes } => out.push(u8::from(*yes)),
        Payload::Rights { amount, to } => {
            out.push(u8::from(to.is_some()));
            put_number(out, *amount);
            if let Some(to) = to {
                write_replica(out, *to);
            }
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, kind: u8) -> Result<Payload, DecodeError> {
    Ok(match kind {
        tag::PRESENT => Payload::Present,
        tag::COUNT => {
            let head = reader.number()?;
            let (seq, is_reset) = (head >> 1, head & 1 == 1);
            if seq == 0 || seq > SEQ_MAX {
                return Err(DecodeError::Sequence);
            }
            let totals = read_totals(reader)?;
            let base = if is_reset {
                Base::reset(seq, read_totals(reader)?)
            } else {
                Base::opened(seq)
            };
            Payload::Count { totals, base }
        }
        tag::STAMPED => Payload::Stamped {
            mode: if read_bool(reader)? {
                ClockMode::Custom
            } else {
                ClockMode::Default
            },
            clock: u64::from_be_bytes(reader.array()?),
            value: reader.string()?,
        },
        tag::WRITTEN => Payload::Written {
            value: reader.string()?,
        },
        tag::BALLOT => Payload::Ballot {
            yes: read_bool(reader)?,
        },
        tag::RIGHTS => {
            let is_handed_over = read_bool(reader)?;
            Payload::Rights {
                amount: reader.number()?,
                to: is_handed_over.then(|| read_replica(reader)).transpose()?,
            }
        }
        other => return Err(DecodeError::Payload(other)),
    })
}

pub(super) fn write_totals(out: &mut Vec<u8>, totals: Totals) {
    put_number(out, totals.plus);
    put_number(out, totals.minus);
}

pub(super) fn read_totals(reader: &mut Reader<'_>) -> Result<Totals, DecodeError> {
    Ok(Totals {
        plus: reader.number()?,
        minus: reader.number()?,
    })
}

pub(super) fn read_bool(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Number),
    }
}

/// How many bytes a replica's id takes.
pub(super) const REPLICA_BYTES: usize = 24;

pub(super) fn write_replica(out: &mut Vec<u8>, id: ReplicaId) {
    out.extend_from_slice(&id.node.0.to_be_bytes());
    out.extend_from_slice(&id.epoch.0.to_be_bytes());
}

pub(super) fn read_replica(reader: &mut Reader<'_>) -> Result<ReplicaId, DecodeError> {
    Ok(ReplicaId::new(
        NodeId(u128::from_be_bytes(reader.array()?)),
        Epoch(u64::from_be_bytes(reader.array()?)),
    ))
}
