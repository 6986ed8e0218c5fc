//! The laws, on whatever states a history led to.
//!
//! Join is commutative, associative, idempotent and never loses anything; deltas, parts of deltas, whole states, what one
//! side lacks, pieces and irreducible parts all lead to the same state; nothing of a decomposition is redundant.

use anabranch_crdt::{Causal, CausalError, Op, Piece};

use crate::script::OpName;
use crate::world::{Mismatch, World, same};

fn is_same(ours: &Causal, theirs: &Causal, what: &str) -> Result<(), Mismatch> {
    if ours == theirs {
        return Ok(());
    }
    let show = |state: &Causal| {
        let reading = state.value().exists().then(|| state.read());
        format!("{reading:?}, having seen {:?}", state.seen())
    };
    Err(Mismatch(format!(
        "{what}: ours {}; theirs {}",
        show(ours),
        show(theirs)
    )))
}

impl From<CausalError> for Mismatch {
    fn from(error: CausalError) -> Mismatch {
        Mismatch(format!("refused: {error}"))
    }
}

/// Sizes of pieces: a put each, a few, most values whole.
const PIECE_BYTES: [usize; 3] = [1, 60, 2_000];

/// Checks every law on the replicas of a world.
///
/// # Errors
///
/// [`Mismatch`] names the law that does not hold.
pub fn check(world: &World) -> Result<(), Mismatch> {
    let states: Vec<&Causal> = world.replicas.iter().map(|replica| &replica.value).collect();
    for a in &states {
        is_same(&joined(a, a)?, a, "joining oneself")?;
        is_same(&joined(a, &Causal::new(world.ty()))?, a, "joining nothing")?;
    }
    for (i, a) in states.iter().enumerate() {
        for (j, b) in states.iter().enumerate().skip(i + 1) {
            // Each pair once, and neither side always the same.
            if (i + j) % 2 == 0 {
                pair(a, b)?
            } else {
                pair(b, a)?
            };
        }
    }
    if let [a, b, c, ..] = states[..] {
        is_same(
            &joined(&joined(a, b)?, c)?,
            &joined(a, &joined(b, c)?)?,
            "associative",
        )?;
    }
    let everything = union(world, states.iter().copied())?;
    is_same(
        &union(world, states.iter().rev().copied())?,
        &everything,
        "in another order",
    )?;
    is_same(&by_ops(world, false)?, &everything, "by operations")?;
    is_same(
        &by_ops(world, true)?,
        &everything,
        "by parts of operations, last first",
    )?;
    decomposition(world, &everything)
}

fn joined(a: &Causal, b: &Causal) -> Result<Causal, Mismatch> {
    let mut both = a.clone();
    both.join(b)?;
    Ok(both)
}

fn with_pieces(a: &Causal, pieces: impl IntoIterator<Item = Piece>) -> Result<Causal, Mismatch> {
    let mut with = a.clone();
    for piece in pieces {
        with.join_piece(&piece)?;
    }
    Ok(with)
}

fn pair(a: &Causal, b: &Causal) -> Result<(), Mismatch> {
    let both = joined(a, b)?;
    is_same(&joined(b, a)?, &both, "commutative")?;
    same!(
        both.canonical_bytes(),
        joined(b, a)?.canonical_bytes(),
        "bytes either way"
    );
    is_same(&joined(&both, a)?, &both, "monotone")?;
    is_same(&joined(&both, b)?, &both, "monotone")?;
    let lacks = b.since(&a.knowledge())?;
    is_same(&with_pieces(a, [lacks.clone()])?, &both, "what one side lacks")?;
    is_same(
        &with_pieces(&both, [lacks.clone()])?,
        &both,
        "what one side lacks, again",
    )?;
    for bytes_max in PIECE_BYTES {
        let mut pieces: Vec<Piece> = lacks.clone().split(bytes_max).collect();
        pieces.iter().try_for_each(|piece| is_small(piece, bytes_max))?;
        pieces.reverse();
        pieces.extend(pieces.first().cloned());
        is_same(&with_pieces(a, pieces)?, &both, "pieces")?;
    }
    Ok(())
}

/// A piece is at most as large as asked for, or cannot be smaller.
fn is_small(piece: &Piece, bytes_max: usize) -> Result<(), Mismatch> {
    let mut bytes = Vec::new();
    piece.fragment().encode(piece.replicas().len(), &mut bytes);
    let runs = piece.fragment().claims().all_runs().count();
    let is_one = piece.fragment().puts().len() + runs <= 2;
    same!(bytes.len() <= bytes_max || is_one, true, "the size of a piece");
    Ok(())
}

fn union<'a>(world: &World, states: impl Iterator<Item = &'a Causal>) -> Result<Causal, Mismatch> {
    let mut all = Causal::new(world.ty());
    for state in states {
        all.join(state)?;
    }
    Ok(all)
}

fn by_ops(world: &World, parts: bool) -> Result<Causal, Mismatch> {
    let mut ops: Vec<Op> = Vec::new();
    for by in 0..world.replicas.len() {
        ops.extend((1..=world.made(by)).filter_map(|nth| world.made_op(OpName { by, nth })));
    }
    if parts {
        ops = ops.iter().flat_map(Op::split).collect();
        ops.reverse();
    }
    let mut all = Causal::new(world.ty());
    for op in &ops {
        all.join_op(op)?;
        let again = all.join_op(op)?;
        same!(again.is_empty(), true, "an operation again");
    }
    Ok(all)
}

fn decomposition(world: &World, whole: &Causal) -> Result<(), Mismatch> {
    let nothing = Causal::new(world.ty());
    let piece = whole.since(&nothing.knowledge())?;
    is_same(&with_pieces(&nothing, [piece.clone()])?, whole, "since nothing")?;
    let mut parts: Vec<Piece> = piece.decompose().collect();
    is_same(
        &with_pieces(&nothing, parts.iter().cloned())?,
        whole,
        "irreducible parts",
    )?;
    parts.reverse();
    for left_out in 0..parts.len().min(8) {
        let rest = parts.iter().enumerate().filter(|(i, _)| *i != left_out);
        let without = with_pieces(&nothing, rest.map(|(_, part)| part.clone()))?;
        same!(
            without == *whole,
            false,
            "a part of the decomposition is redundant"
        );
        is_same(
            &with_pieces(&without, [parts[left_out].clone()])?,
            whole,
            "the part left out",
        )?;
    }
    Ok(())
}
