//! Dots in a row: each as the distance from the one that its replica would issue next, and how many follow it without a
//! gap.
//!
//! Contract: without runs a dot takes at least a byte. Who allows runs bounds their number by something else that
//! every dot takes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::DecodeError;
use super::octets::{Reader, put_number, unzigzag, zigzag};
use crate::dot::{Dot, SEQ_MAX};
use crate::replicas::ReplicaIx;

/// A code is the distance times the number of replicas, and the index of the dot's. Of a table larger than this the index
/// is a number of its own, or the code might not fit 64 bits: a distance takes 49 with its sign.
const TOGETHER_MAX: usize = 1 << 14;

/// What both sides remember: of each replica the dot that would come next.
#[derive(Default)]
struct Next(BTreeMap<ReplicaIx, u64>);

impl Next {
    fn of(&self, ix: ReplicaIx) -> u64 {
        self.0.get(&ix).copied().unwrap_or(1)
    }

    fn is_past(&mut self, dot: Dot) {
        self.0.insert(dot.ix(), dot.seq() + 1);
    }
}

/// Writes dots.
pub(super) struct DotWriter {
    replicas: usize,
    next: Next,
}

impl DotWriter {
    /// Of a table of so many replicas.
    pub(super) fn new(replicas: usize) -> DotWriter {
        DotWriter {
            replicas,
            next: Next::default(),
        }
    }

    /// One dot.
    pub(super) fn one(&mut self, out: &mut Vec<u8>, dot: Dot) -> bool {
        let distance = dot.seq() as i64 - self.next.of(dot.ix()) as i64;
        let ix = u64::from(dot.ix().0);
        if self.replicas > TOGETHER_MAX {
            put_number(out, ix);
            put_number(out, zigzag(distance));
        } else {
            put_number(out, zigzag(distance) * self.replicas as u64 + ix);
        }
        self.next.is_past(dot);
        distance == 0
    }

    /// All of them; those that follow one another without a gap take next to nothing.
    pub(super) fn all(&mut self, out: &mut Vec<u8>, dots: &[Dot]) {
        let mut rest = dots;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            if !self.one(out, *first) {
                continue;
            }
            let follows = |(n, dot): &(u64, &Dot)| dot.ix() == first.ix() && dot.seq() == first.seq() + n;
            let more = (1..).zip(after).take_while(follows).count();
            put_number(out, more as u64);
            if let Some(last) = more.checked_sub(1) {
                self.next.is_past(after[last]);
            }
            rest = &after[more..];
        }
    }
}

/// Reads them.
pub(super) struct DotReader {
    replicas: usize,
    next: Next,
}

impl DotReader {
    pub(super) fn new(replicas: usize) -> DotReader {
        DotReader {
            replicas,
            next: Next::default(),
        }
    }

    /// One dot, and whether it is the one that its replica would issue next.
    pub(super) fn one(&mut self, reader: &mut Reader<'_>) -> Result<(Dot, bool), DecodeError> {
        let code = reader.number()?;
        let replicas = self.replicas as u64;
        let (ix, code) = if self.replicas > TOGETHER_MAX {
            (code, reader.number()?)
        } else {
            (
                code.checked_rem(replicas).unwrap_or(0),
                code.checked_div(replicas).unwrap_or(0),
            )
        };
        if ix >= replicas {
            return Err(DecodeError::Replica {
                index: ix,
                table: self.replicas,
            });
        }
        let ix = ReplicaIx(ix as u16);
        let distance = unzigzag(code);
        let seq = (self.next.of(ix) as i64).checked_add(distance);
        let dot = seq
            .and_then(|seq| u64::try_from(seq).ok())
            .and_then(|seq| Dot::try_new(ix, seq))
            .ok_or(DecodeError::Sequence)?;
        self.next.is_past(dot);
        Ok((dot, distance == 0))
    }

    /// So many dots.
    pub(super) fn all(&mut self, reader: &mut Reader<'_>, count: usize) -> Result<Vec<Dot>, DecodeError> {
        let mut dots = Vec::with_capacity(count);
        while dots.len() < count {
            let (first, is_next) = self.one(reader)?;
            dots.push(first);
            if !is_next {
                continue;
            }
            let more = reader.number()?;
            if more > (count - dots.len()) as u64 {
                return Err(DecodeError::CutShort);
            }
            if first.seq() + more > SEQ_MAX {
                return Err(DecodeError::Sequence);
            }
            dots.extend((1..=more).map(|n| Dot::new(first.ix(), first.seq() + n)));
            if let Some(last) = dots.last() {
                self.next.is_past(*last);
            }
        }
        Ok(dots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead_back(replicas: usize, dots: &[(u16, u64)]) -> usize {
        let dots: Vec<Dot> = dots
            .iter()
            .map(|(ix, seq)| Dot::new(ReplicaIx(*ix), *seq))
            .collect();
        let mut out = Vec::new();
        DotWriter::new(replicas).all(&mut out, &dots);
        let mut reader = Reader::new(&out);
        assert_eq!(DotReader::new(replicas).all(&mut reader, dots.len()), Ok(dots));
        reader.end().unwrap();
        out.len()
    }

    #[test]
    fn dots_lead_back_whatever_the_table() {
        for (replicas, last) in [(1, 0), (2, 1), (100, 99), (1 << 14, 16_383), (65_535, 65_534)] {
            lead_back(replicas, &[]);
            lead_back(
                replicas,
                &[
                    (last, SEQ_MAX),
                    (0, SEQ_MAX),
                    (last, 1),
                    (0, 1),
                    (0, 2),
                    (0, 3),
                    (last, 2),
                ],
            );
        }
    }

    #[test]
    fn a_run_takes_next_to_nothing() {
        let run: Vec<(u16, u64)> = (1..=100_000).map(|seq| (1, seq)).collect();
        assert!(lead_back(3, &run) <= 4);
    }

    #[test]
    fn a_run_claims_no_more_dots_than_there_are() {
        let mut out = Vec::new();
        DotWriter::new(1).all(&mut out, &[Dot::new(ReplicaIx(0), 1), Dot::new(ReplicaIx(0), 2)]);
        let one = DotReader::new(1).all(&mut Reader::new(&out), 1);
        assert_eq!(one, Err(DecodeError::CutShort));
        let at_the_end = [&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0, 3]].concat();
        let past = DotReader::new(1).all(&mut Reader::new(&at_the_end), 8);
        assert!(past.is_err(), "{past:?}");
    }
}
