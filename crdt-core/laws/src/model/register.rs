//! A register shows, of the writes that no write seen has superseded, the one with the largest clock; of equal clocks
//! the larger replica's, then the later.
//!
//! A write without a clock of its own supersedes everything its author saw, with a clock above all of it. One with a
//! clock goes by clocks alone: it supersedes what is below it, and is no write at all where two others are above it.

use anabranch_crdt::{Clock, Mutation, ReplicaId};
use bytes::Bytes;

use super::{Atom, Seen, has};

/// The writes in force among those seen, each with its rank.
fn in_force(seen: Seen<'_>) -> Vec<(usize, Rank)> {
    seen.each()
        .filter(|(i, _)| !seen.each().any(|(_, other)| supersedes(seen.history, other, *i)))
        .map(|(i, atom)| (i, rank(seen.history, atom)))
        .collect()
}

type Rank = (Option<u64>, ReplicaId, u64);

fn rank(history: &[Atom], atom: &Atom) -> Rank {
    (clock(history, atom), atom.by, atom.seq)
}

/// Nothing for the creation of a register, which is below every write.
fn clock(history: &[Atom], atom: &Atom) -> Option<u64> {
    let Mutation::Set { clock, .. } = atom.mutation else {
        return None;
    };
    let above = || {
        let saw = Seen {
            history,
            seen: atom.saw,
        };
        let clocks = in_force(saw.standing())
            .into_iter()
            .filter_map(|(_, (clock, _, _))| clock);
        clocks.max().map_or(0, |highest| highest.saturating_add(1))
    };
    Some(match clock {
        Clock::Default => above().max(atom.stamp),
        Clock::Reverse => u64::MAX - atom.stamp,
        Clock::Custom(clock) => clock,
        Clock::AutoIncrement(clock) => above().max(clock),
    })
}

fn is_by_clock(mutation: &Mutation) -> bool {
    matches!(mutation, Mutation::Set { clock, .. } if *clock != Clock::Default)
}

fn supersedes(history: &[Atom], atom: &Atom, other: usize) -> bool {
    has(atom.saw, other)
        && match atom.mutation {
            _ if is_by_clock(&atom.mutation) => rank(history, &history[other]) < rank(history, atom),
            Mutation::Set { .. } => true,
            _ => false,
        }
}

pub(super) fn is_live(seen: Seen<'_>, i: usize) -> bool {
    in_force(seen).iter().any(|(other, _)| *other == i)
}

pub(super) fn read(seen: Seen<'_>) -> Option<Bytes> {
    let (winner, _) = in_force(seen).into_iter().max_by_key(|(_, rank)| *rank)?;
    match &seen.history[winner].mutation {
        Mutation::Set { value, .. } => Some(value.clone()),
        _ => None,
    }
}

/// Whether a write with a clock of its own is below two that are in force.
pub(super) fn is_lost(seen: Seen<'_>, new: &Atom) -> bool {
    if !is_by_clock(&new.mutation) {
        return false;
    }
    let mine = rank(seen.history, new);
    in_force(seen).iter().filter(|(_, rank)| *rank > mine).count() > 1
}
