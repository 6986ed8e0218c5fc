//! What was seen, as runs: whose, how far from the run before, how long.

use alloc::vec::Vec;

use super::DecodeError;
use super::octets::{Reader, put_number};
use crate::context::Context;
use crate::dot::SEQ_MAX;
use crate::replicas::ReplicaIx;

pub(super) fn write(out: &mut Vec<u8>, context: &Context) {
    let runs: Vec<(ReplicaIx, u64, u64)> = context.all_runs().collect();
    put_number(out, runs.len() as u64);
    let mut before = (ReplicaIx(0), 0);
    for (ix, from, to) in runs {
        let after = if before.0 == ix { before.1 } else { 0 };
        put_number(out, u64::from(ix.0 - before.0.0));
        put_number(out, from - after);
        put_number(out, to - from);
        before = (ix, to);
    }
}

pub(super) fn read(reader: &mut Reader<'_>, replicas: usize) -> Result<Context, DecodeError> {
    let count = reader.count(3)?;
    let mut context = Context::new();
    let (mut ix, mut reached) = (0_u64, 0);
    for _ in 0..count {
        let step = reader.number()?;
        if step > 0 {
            (ix, reached) = (ix.saturating_add(step), 0);
        }
        if ix >= replicas as u64 {
            return Err(DecodeError::Replica {
                index: ix,
                table: replicas,
            });
        }
        let (gap, len) = (reader.number()?, reader.number()?);
        let from = gap.checked_add(reached).filter(|from| *from <= SEQ_MAX);
        let from = from.ok_or(DecodeError::Sequence)?;
        let to = from.checked_add(len).filter(|to| *to <= SEQ_MAX && len > 0);
        reached = to.ok_or(DecodeError::Sequence)?;
        context.insert_run(ReplicaIx(ix as u16), from, reached);
    }
    Ok(context)
}
