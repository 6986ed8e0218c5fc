//! The types' definitions, read off a list of operations.
//!
//! An operation is known by what it does, who made it and what its author had seen; the value at a replica is a
//! function of the operations seen there. Nothing here knows dots, contexts, deltas or joins.
//!
//! Contract: as naive as the definitions read. An operation on several elements is one [`Atom`] an element, in the
//! order of the elements, each seeing the ones before.

mod bounded;
mod counter;
mod flag;
mod map;
mod register;
mod set;
mod values;
mod vote;

use anabranch_crdt::{Mutation, Reading, ReplicaId, Type};

/// A set of atoms: bit `i` is atom `i`.
pub type Atoms = u128;

/// The most atoms a history can have.
pub const ATOMS_MAX: usize = 128;

/// One operation, or one element's share of one.
#[derive(Clone, Debug)]
pub struct Atom {
    /// Who made it.
    pub by: ReplicaId,
    /// Its author's how manieth atom, from 1.
    pub seq: u64,
    /// What it does.
    pub mutation: Mutation,
    /// What its author's hybrid clock said.
    pub stamp: u64,
    /// What its author had seen.
    pub saw: Atoms,
}

/// The atoms of a set, first to last.
pub fn each(atoms: Atoms) -> impl Iterator<Item = usize> {
    let mut rest = atoms;
    std::iter::from_fn(move || {
        let next = rest.trailing_zeros() as usize;
        rest &= rest.checked_sub(1)?;
        Some(next)
    })
}

fn has(atoms: Atoms, atom: usize) -> bool {
    atoms >> atom & 1 == 1
}

/// The operations of this history that somebody has seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The whole history.
    pub history: &'a [Atom],
    /// What was seen of it.
    pub seen: Atoms,
}

impl<'a> Seen<'a> {
    fn each(self) -> impl Iterator<Item = (usize, &'a Atom)> {
        each(self.seen).map(move |i| (i, &self.history[i]))
    }

    /// Those that no deletion seen had seen: all others are gone, and the deletions themselves are nothing any more.
    fn standing(self) -> Seen<'a> {
        let deletions = self.each().filter(|(_, atom)| atom.mutation == Mutation::Delete);
        let seen = deletions.fold(self.seen, |seen, (i, atom)| seen & !atom.saw & !(1 << i));
        Seen { seen, ..self }
    }

    /// Those that had seen an operation.
    fn after(self, atom: usize) -> impl Iterator<Item = &'a Atom> {
        self.each()
            .map(|(_, other)| other)
            .filter(move |other| has(other.saw, atom))
    }
}

/// What a replica that has seen this must show; nothing if the value is absent.
pub fn read(ty: Type, seen: Seen<'_>) -> Option<Reading> {
    let seen = seen.standing();
    if seen.seen == 0 {
        return None;
    }
    Some(match ty {
        Type::GCounter | Type::PnCounter => Reading::Count(counter::read(seen)),
        Type::OrSet | Type::GSet => Reading::Elements(set::read(seen)),
        Type::Flag => Reading::Flag(flag::read(seen)),
        Type::MvRegister => Reading::Values(values::read(seen)),
        Type::Vote => Reading::Ballots(vote::read(seen)),
        Type::BoundedCounter => Reading::Count(bounded::read(seen)),
        Type::OrMap | Type::CounterMap | Type::RegisterMap | Type::MultiMap => Reading::Map(map::show(seen)),
        Type::LwwRegister => Reading::Register(register::read(seen)),
    })
}

/// Which operations must still be in force, and so cost anything, where this has been seen.
pub fn live(ty: Type, seen: Seen<'_>) -> Atoms {
    let seen = seen.standing();
    let map_live = if ty.is_map() { map::in_force(seen) } else { 0 };
    let in_force = |(i, atom): &(usize, &Atom)| match ty {
        Type::GCounter | Type::PnCounter => counter::is_live(seen, *i, atom),
        Type::OrSet | Type::GSet => set::is_live(seen, *i, atom),
        Type::Flag => flag::is_live(seen, *i, atom),
        Type::MvRegister => values::is_live(seen, *i),
        Type::Vote => vote::is_live(seen, *i, atom),
        Type::BoundedCounter => bounded::is_live(seen, *i, atom),
        Type::LwwRegister => register::is_live(seen, *i),
        Type::OrMap | Type::CounterMap | Type::RegisterMap | Type::MultiMap => has(map_live, *i),
    };
    seen.each().filter(in_force).fold(0, |live, (i, _)| live | 1 << i)
}

/// Whether a mutation must be refused where this has been seen.
pub fn is_refused(ty: Type, seen: Seen<'_>, new: &Atom) -> bool {
    ty == Type::BoundedCounter && bounded::is_refused(seen.standing(), new)
}

/// What a mutation is made of where this has been seen; nothing if it changes nothing.
pub fn atoms(ty: Type, seen: Seen<'_>, new: &Atom) -> Vec<Mutation> {
    let seen = seen.standing();
    match (&new.mutation, ty) {
        (Mutation::Delete, _) if seen.seen == 0 => Vec::new(),
        (Mutation::Delete, _) => vec![Mutation::Delete],
        (Mutation::Create, _) if seen.seen != 0 => Vec::new(),
        (Mutation::Create, _) => vec![Mutation::Create],
        (Mutation::Increment(0), _) if seen.seen != 0 => Vec::new(),
        (_, ty) if ty.is_map() => map::pieces(seen, new),
        (Mutation::Add(elements), Type::GSet) => set::new_atoms(seen, elements),
        (Mutation::Add(_) | Mutation::Remove(_) | Mutation::Clear, _) => set::atoms(seen, &new.mutation),
        (Mutation::Disable, _) if !flag::read(seen) => Vec::new(),
        (_, Type::BoundedCounter) => bounded::atoms(new),
        (_, Type::MvRegister) => vec![new.mutation.clone()],
        (Mutation::Set { .. }, _) if register::is_lost(seen, new) => Vec::new(),
        _ => vec![new.mutation.clone()],
    }
}
