//! What operations did: their dots, their puts, and what they killed.

use alloc::vec::Vec;

use super::DecodeError;
use super::dots::{DotReader, DotWriter};
use super::octets::{Reader, put_number};
use super::paths::{Front, Shape};
use super::payloads;
use crate::delta::{Delta, Kill, Part, Put};
use crate::dot::Dot;
use crate::kind::Type;

/// Of the first byte, which says the type: whether there are kills, and whether a part puts nothing.
const HAS_KILLS: u8 = 0x80;
const HAS_GAPS: u8 = 0x40;
const TYPE_BITS: u8 = 0x3f;

/// Of the byte before a kill: whether it is where its part's put is, and whether it resets a counter's slot. The rest is
/// the shape of the place.
const AT_PUT: u8 = 4;
const RESETS: u8 = 8;

pub(super) fn write(out: &mut Vec<u8>, delta: &Delta, replicas: usize) {
    let parts = delta.parts();
    let has_kills = parts.iter().any(|part| !part.kills.is_empty());
    let has_gaps = parts.iter().any(|part| part.put.is_none());
    let kills = if has_kills { HAS_KILLS } else { 0 };
    let gaps = if has_gaps { HAS_GAPS } else { 0 };
    out.push(delta.ty().id() | kills | gaps);
    if has_gaps {
        put_number(out, parts.len() as u64);
        out.extend(parts.iter().map(|part| u8::from(part.put.is_some())));
    }
    let dots_of = |with_put: bool| {
        let wanted = parts.iter().filter(move |part| part.put.is_some() == with_put);
        wanted.map(|part| part.dot).collect::<Vec<Dot>>()
    };
    let puts: Vec<&Put> = parts.iter().filter_map(|part| part.put.as_ref()).collect();
    super::write_dots_and_puts(out, replicas, &dots_of(true), &puts);
    let mut dots = DotWriter::new(replicas);
    for dot in dots_of(false) {
        dots.one(out, dot);
    }
    if has_kills {
        let mut front = Front::default();
        for part in parts {
            put_number(out, part.kills.len() as u64);
            for kill in &part.kills {
                write_kill(out, &mut dots, &mut front, part.put.as_ref(), kill);
            }
        }
    }
}

fn write_kill(out: &mut Vec<u8>, dots: &mut DotWriter, front: &mut Front, put: Option<&Put>, kill: &Kill) {
    let is_at_put = put.is_some_and(|put| put.path == kill.path);
    let place = if is_at_put {
        AT_PUT
    } else {
        Shape::of(&kill.path).bits()
    };
    out.push(place | if kill.reset.is_some() { RESETS } else { 0 });
    dots.one(out, kill.dot);
    if !is_at_put {
        front.write(out, &kill.path);
    }
    if let Some(reset) = kill.reset {
        payloads::write_totals(out, reset);
    }
}

pub(super) fn read(reader: &mut Reader<'_>, replicas: usize) -> Result<Delta, DecodeError> {
    let head = reader.byte()?;
    let ty = Type::from_id(head & TYPE_BITS).ok_or(DecodeError::Type(head & TYPE_BITS))?;
    let mut dots = DotReader::new(replicas);
    let mut parts = read_puts(reader, ty, replicas, head & HAS_GAPS != 0, &mut dots)?;
    if head & HAS_KILLS != 0 {
        let mut front = Front::default();
        for part in &mut parts {
            let count = reader.count(2)?;
            for _ in 0..count {
                let kill = read_kill(reader, &mut dots, &mut front, part.put.as_ref())?;
                if !ty.admits_kill(&kill) {
                    return Err(DecodeError::Misfit {
                        ty,
                        seq: part.dot.seq(),
                    });
                }
                part.kills.push(kill);
            }
        }
    }
    match misplaced(&parts) {
        Some(dot) => Err(DecodeError::Misplaced { seq: dot.seq() }),
        None => Ok(Delta::from_parts(ty, parts)),
    }
}

/// A dot that stands for two operations, or kills itself.
fn misplaced(parts: &[Part]) -> Option<Dot> {
    let kills_itself = |part: &&Part| part.kills.iter().any(|kill| kill.dot == part.dot);
    if let Some(part) = parts.iter().find(kills_itself) {
        return Some(part.dot);
    }
    let mut dots: Vec<Dot> = parts.iter().map(|part| part.dot).collect();
    dots.sort_unstable();
    dots.windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
}

/// The operations without their kills.
fn read_puts(
    reader: &mut Reader<'_>,
    ty: Type,
    replicas: usize,
    has_gaps: bool,
    dots: &mut DotReader,
) -> Result<Vec<Part>, DecodeError> {
    let has_put = if has_gaps {
        let count = reader.count(1)?;
        let has_put = (0..count).map(|_| payloads::read_bool(reader));
        Some(has_put.collect::<Result<Vec<bool>, _>>()?)
    } else {
        None
    };
    let puts = super::read_puts(reader, ty, replicas)?;
    let has_put = has_put.unwrap_or_else(|| alloc::vec![true; puts.len()]);
    let mut parts = Vec::with_capacity(has_put.len());
    let mut puts = puts.into_iter();
    for has_put in has_put {
        let (dot, put) = if has_put {
            let (dot, put) = puts.next().ok_or(DecodeError::CutShort)?;
            (dot, Some(put))
        } else {
            (dots.one(reader)?.0, None)
        };
        parts.push(Part {
            dot,
            put,
            kills: Vec::new(),
        });
    }
    match puts.next() {
        Some(_) => Err(DecodeError::CutShort),
        None => Ok(parts),
    }
}

fn read_kill(
    reader: &mut Reader<'_>,
    dots: &mut DotReader,
    front: &mut Front,
    put: Option<&Put>,
) -> Result<Kill, DecodeError> {
    let flags = reader.byte()?;
    if flags & !(3 | AT_PUT | RESETS) != 0 || (flags & AT_PUT != 0 && flags & 3 != 0) {
        return Err(DecodeError::Path);
    }
    let (dot, _) = dots.one(reader)?;
    let path = if flags & AT_PUT != 0 {
        put.ok_or(DecodeError::Path)?.path.clone()
    } else {
        front.read(reader, Shape::from_bits(flags & 3))?
    };
    let resets = flags & RESETS != 0;
    let reset = resets.then(|| payloads::read_totals(reader)).transpose()?;
    Ok(Kill { path, dot, reset })
}
