//! Puts without their dots: neighbours of one shape and one kind of payload together, first where they are, then what
//! they carry.

use alloc::vec::Vec;

use super::DecodeError;
use super::octets::{Reader, put_number};
use super::paths::{Front, Shape};
use super::payloads;
use crate::delta::{Path, Put};

/// Of the byte that says what a stretch of puts is: whether it is the last, which needs no count.
const LAST: u8 = 0x80;

fn kind_of(put: &Put) -> u8 {
    payloads::tag_of(&put.payload) << 2 | Shape::of(&put.path).bits()
}

pub(super) fn write(out: &mut Vec<u8>, puts: &[&Put]) {
    let mut front = Front::default();
    let mut rest = puts;
    while let Some(first) = rest.first() {
        let kind = kind_of(first);
        let len = rest.iter().take_while(|put| kind_of(put) == kind).count();
        let (stretch, after) = rest.split_at(len);
        if after.is_empty() {
            out.push(kind | LAST);
        } else {
            out.push(kind);
            put_number(out, len as u64);
        }
        if !Shape::from_bits(kind & 3).is_root() {
            stretch.iter().for_each(|put| front.write(out, &put.path));
        }
        stretch.iter().for_each(|put| payloads::write(out, &put.payload));
        rest = after;
    }
}

/// So many puts.
pub(super) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Put>, DecodeError> {
    let mut puts: Vec<Put> = Vec::with_capacity(count);
    let mut front = Front::default();
    while puts.len() < count {
        let kind = reader.byte()?;
        let left = count - puts.len();
        let len = if kind & LAST != 0 {
            left
        } else {
            usize::try_from(reader.number()?).unwrap_or(usize::MAX)
        };
        if len == 0 || len > left {
            return Err(DecodeError::CutShort);
        }
        let (shape, tag) = (Shape::from_bits(kind & 3), (kind & !LAST) >> 2);
        let mut paths = Vec::with_capacity(if shape.is_root() { 0 } else { len });
        if !shape.is_root() {
            for _ in 0..len {
                paths.push(front.read(reader, shape)?);
            }
        }
        let mut paths = paths.into_iter();
        for _ in 0..len {
            puts.push(Put {
                path: paths.next().unwrap_or(Path::Root),
                payload: payloads::read(reader, tag)?,
            });
        }
    }
    Ok(puts)
}
