//! A few replicas of one value, run beside the two references.
//!
//! Contract: after each step the replica that was touched has exactly the live dots, and has seen exactly the dots,
//! that the naive state has; its digest is the one from scratch; equal states have equal bytes and different ones
//! different bytes; what the join said it changed is what changed; and where all that was seen has arrived in order,
//! it shows what the model says.

use std::collections::BTreeMap;
use std::fmt;

use anabranch_crdt::{
    Causal, CausalError, Changed, HashKey, Mutation, MutationError, Op, Piece, Reading, ReplicaId, Replicas,
    Type, Value,
};

use crate::model::{self, ATOMS_MAX, Atom, Atoms, Seen, each};
use crate::naive::{Effect, Naive};
use crate::script::{Mode, OpName, Step, replica_id};

/// What differed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(pub String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

impl Mismatch {
    pub(crate) fn after(self, step: &Step) -> Mismatch {
        Mismatch(format!("after `{step}`: {}", self.0))
    }
}

/// Makes a mismatch of two things that should be equal.
macro_rules! same {
    ($ours:expr, $theirs:expr, $what:literal) => {
        match (&$ours, &$theirs) {
            (ours, theirs) if ours != theirs => {
                return Err($crate::Mismatch(format!(
                    "{}: ours {ours:?}, theirs {theirs:?}",
                    $what
                )));
            }
            _ => {}
        }
    };
}
pub(crate) use same;

/// One operation as it was made.
#[derive(Clone, Debug)]
struct Made {
    op: Op,
    /// What each of its atoms does; they follow one another.
    effects: Vec<Effect>,
}

/// A replica.
#[derive(Clone, Debug)]
pub struct Replica {
    id: ReplicaId,
    /// The real thing.
    pub value: Causal,
    /// What it must hold.
    pub naive: Naive,
    ops: Vec<Made>,
}

/// The replicas, and everything that was done.
#[derive(Clone, Debug)]
pub struct World {
    ty: Type,
    mode: Mode,
    /// The replicas, `a` first.
    pub replicas: Vec<Replica>,
    /// Every operation.
    pub history: Vec<Atom>,
    /// For each, the earlier ones of the same counter's slot.
    before: Vec<Atoms>,
    by_dot: BTreeMap<(ReplicaId, u64), usize>,
    /// The bytes of the states there were.
    bytes: BTreeMap<(Atoms, Atoms), Vec<u8>>,
}

impl World {
    /// Replicas that have seen nothing.
    pub fn new(ty: Type, mode: Mode, nodes: usize) -> World {
        let replica = |n: usize| Replica {
            id: replica_id(n),
            value: Causal::new(ty),
            naive: Naive::default(),
            ops: Vec::new(),
        };
        World {
            ty,
            mode,
            replicas: (0..nodes).map(replica).collect(),
            history: Vec::new(),
            before: Vec::new(),
            by_dot: BTreeMap::new(),
            bytes: BTreeMap::new(),
        }
    }

    /// The type of the value.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// How many operations a replica has made.
    pub fn made(&self, node: usize) -> usize {
        self.replicas[node].ops.len()
    }

    /// An operation as it travels.
    pub(crate) fn made_op(&self, name: OpName) -> Option<Op> {
        self.op(name).map(|made| made.op.clone())
    }

    /// The atoms of an operation; none if there is no such operation.
    pub fn atoms(&self, name: OpName) -> Atoms {
        self.op(name).map_or(0, |made| {
            made.effects
                .iter()
                .fold(0, |atoms, effect| atoms | 1 << effect.dot)
        })
    }

    /// Whether an operation has arrived, whole.
    pub fn has(&self, at: usize, name: OpName) -> bool {
        self.atoms(name) & !self.replicas[at].naive.whole == 0
    }

    /// Whether another operation fits into the history.
    pub fn is_full(&self) -> bool {
        self.history.len() + 8 > ATOMS_MAX
    }

    /// Runs a step. A step about an operation that there is not, or that may not come yet, does nothing.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] if the real thing and the references differ.
    pub fn step(&mut self, step: &Step) -> Result<(), Mismatch> {
        match step {
            Step::Mutate { at, mutation, stamp } => self.mutate(*at, mutation, *stamp),
            Step::Drop { at } => {
                let id = self.replicas[*at].id;
                self.touch(*at, |replica| {
                    replica.value.drop_own_waiting(id);
                    vec![Ok(Changed::default())]
                })
            }
            Step::Deliver { to, ops } => self.deliver(*to, ops),
            Step::DeliverPart { to, op, part } => self.deliver_part(*to, *op, *part),
            Step::Join { to, from } => {
                let from = self.replicas[*from].clone();
                self.touch(*to, |replica| {
                    replica.naive.join(from.naive);
                    vec![replica.value.join(&from.value)]
                })
            }
            Step::Since { to, from } => {
                let piece = travelled(&self.piece(*to, *from)?)?;
                let naive = self.replicas[*from].naive;
                self.touch(*to, |replica| {
                    replica.naive.join(naive);
                    vec![replica.value.join_piece(&piece)]
                })
            }
            Step::Pieces {
                to,
                from,
                bytes_max,
                only,
            } => self.pieces(*to, *from, *bytes_max, *only),
        }
    }

    fn mutate(&mut self, at: usize, mutation: &Mutation, stamp: u64) -> Result<(), Mismatch> {
        if self.is_full() {
            return Ok(());
        }
        let (by, seen) = (self.replicas[at].id, self.replicas[at].naive.whole);
        let before = self.replicas[at].value.clone();
        let mut atom = Atom {
            by,
            seq: self.next_seq(by),
            mutation: mutation.clone(),
            stamp,
            saw: seen,
        };
        let result = before.mutate(by, stamp, mutation);
        if let Some(seen) = self.understood(at) {
            let is_refused = result.is_err();
            same!(is_refused, model::is_refused(self.ty, seen, &atom), "refused");
        }
        let op = match result {
            Ok(op) => op,
            // Where operations came in any order, nothing says what a replica holds; it must not take more.
            Err(CausalError::Mutation(MutationError::NotHeld { .. })) => return Ok(()),
            Err(e) => return Err(Mismatch(format!("refused: {e}"))),
        };
        let expected = self.expected_atoms(at, &atom);
        if let Some(expected) = &expected {
            same!(op.delta().parts().len(), expected.len(), "dots used");
        }
        let mut effects = Vec::new();
        for (n, part) in op.delta().parts().iter().enumerate() {
            same!(part.dot.full(op.replicas()), (by, atom.seq), "a dot");
            self.by_dot.insert((by, atom.seq), self.history.len());
            effects.push(Effect {
                dot: self.history.len(),
                puts: *mutation != Mutation::Delete,
                kills: self.atoms_of(part.kills.iter().map(|kill| kill.dot.full(op.replicas())))?,
                removes: removes(mutation),
            });
            self.before.push(self.earlier_in_slot(by, mutation));
            if let Some(expected) = &expected {
                atom.mutation = expected[n].clone();
            }
            self.history.push(atom.clone());
            atom.saw |= 1 << (self.history.len() - 1);
            atom.seq += 1;
        }
        if self.ty == Type::BoundedCounter {
            let everything = Seen {
                history: &self.history,
                seen: (1 << self.history.len()) - 1,
            };
            let total = model::read(self.ty, everything);
            same!(
                matches!(total, Some(Reading::Count(..0))),
                false,
                "below the bound, all in all"
            );
        }
        let made = Made { op, effects };
        self.touch(at, |replica| {
            made.deliver_all(&mut replica.naive);
            let changed = replica.value.join_op(&made.op);
            replica.ops.push(made);
            vec![changed]
        })
    }

    /// The earlier increments of the same replica in the same counter, if this is one.
    fn earlier_in_slot(&self, by: ReplicaId, mutation: &Mutation) -> Atoms {
        let Some(slot) = slot(self.ty, mutation) else {
            return 0;
        };
        let same = |atom: &Atom| atom.by == by && self::slot(self.ty, &atom.mutation) == Some(slot.clone());
        let all = self.history.iter().enumerate().filter(|(_, atom)| same(atom));
        all.fold(0, |atoms, (i, _)| atoms | 1 << i)
    }

    fn next_seq(&self, by: ReplicaId) -> u64 {
        self.history.iter().filter(|atom| atom.by == by).count() as u64 + 1
    }

    /// What the model makes of a mutation, where the model has a say.
    fn expected_atoms(&self, at: usize, new: &Atom) -> Option<Vec<Mutation>> {
        // What a transfer is made of depends on nothing that was seen.
        let nothing = Seen {
            history: &self.history,
            seen: 0,
        };
        let any = matches!(new.mutation, Mutation::Transfer { .. }).then_some(nothing);
        let seen = self.understood(at).or(any)?;
        Some(model::atoms(self.ty, seen, new))
    }

    /// What a replica has seen, if everything came whole and in order.
    fn understood(&self, at: usize) -> Option<Seen<'_>> {
        let naive = self.replicas[at].naive;
        let is_understood = self.mode == Mode::Causal && naive.whole == naive.seen();
        is_understood.then_some(Seen {
            history: &self.history,
            seen: naive.whole,
        })
    }

    fn op(&self, name: OpName) -> Option<&Made> {
        self.replicas.get(name.by)?.ops.get(name.nth.checked_sub(1)?)
    }

    fn deliver(&mut self, to: usize, ops: &[OpName]) -> Result<(), Mismatch> {
        let mut naive = self.replicas[to].naive;
        let mut group: Vec<Op> = Vec::new();
        for made in ops.iter().filter_map(|name| self.op(*name)) {
            if self.mode == Mode::Causal && self.history_before(made) & !naive.whole != 0 {
                continue;
            }
            made.deliver_all(&mut naive);
            group.push(made.op.clone());
        }
        let Some(op) = Op::group(&group).map_err(|e| Mismatch(e.to_string()))? else {
            return Ok(());
        };
        let op = travelled_op(&op)?;
        self.touch(to, |replica| {
            replica.naive = naive;
            vec![replica.value.join_op(&op)]
        })
    }

    /// What had been seen by the author of an operation.
    fn history_before(&self, made: &Made) -> Atoms {
        let first = made
            .effects
            .first()
            .and_then(|effect| self.history.get(effect.dot));
        first.map_or(0, |atom| atom.saw)
    }

    fn deliver_part(&mut self, to: usize, name: OpName, part: usize) -> Result<(), Mismatch> {
        let Some(made) = self.op(name) else { return Ok(()) };
        let (Some(op), Some(effect)) = (made.op.split().nth(part), made.effects.get(part).copied()) else {
            return Ok(());
        };
        if self.mode == Mode::Causal && self.history[effect.dot].saw & !self.replicas[to].naive.whole != 0 {
            return Ok(());
        }
        let op = travelled_op(&op)?;
        self.touch(to, |replica| {
            replica.naive.deliver(effect);
            vec![replica.value.join_op(&op)]
        })
    }

    fn piece(&self, to: usize, from: usize) -> Result<Piece, Mismatch> {
        self.replicas[from]
            .value
            .since(&self.replicas[to].value.knowledge())
            .map_err(|e| Mismatch(e.to_string()))
    }

    fn pieces(
        &mut self,
        to: usize,
        from: usize,
        bytes_max: usize,
        only: Option<usize>,
    ) -> Result<(), Mismatch> {
        if (self.mode == Mode::Causal || counts(self.ty)) && only.is_some() {
            return Ok(());
        }
        let theirs = self.replicas[from].naive;
        let live = theirs.live(&self.before);
        let mut pieces: Vec<Piece> = self.piece(to, from)?.split(bytes_max).collect();
        pieces.reverse();
        if let Some(only) = only {
            let at = only.min(pieces.len());
            pieces = pieces.into_iter().skip(at).take(1).collect();
        }
        for piece in pieces.first().into_iter().chain(&pieces) {
            let claimed = self.claimed(piece)?;
            let piece = &travelled(piece)?;
            let replica = &mut self.replicas[to];
            let before = replica.naive.live(&self.before);
            replica.naive.take(live, claimed);
            let changed = replica.value.join_piece(piece);
            if !counts(self.ty) {
                self.check_changed(to, before, vec![changed])?;
                self.check_dots(to)?;
            }
        }
        if only.is_none() {
            self.replicas[to].naive.join(theirs);
        }
        self.check(to)
    }

    fn claimed(&self, piece: &Piece) -> Result<Atoms, Mismatch> {
        let replicas = piece.replicas();
        let runs = piece.fragment().claims().all_runs();
        self.atoms_of(runs.flat_map(|(ix, from, to)| (from + 1..=to).map(move |seq| (replicas.id(ix), seq))))
    }

    fn atoms_of(&self, dots: impl IntoIterator<Item = (ReplicaId, u64)>) -> Result<Atoms, Mismatch> {
        dots.into_iter()
            .try_fold(0, |atoms, dot| match self.by_dot.get(&dot) {
                Some(atom) => Ok(atoms | 1 << atom),
                None => Err(Mismatch(format!("a dot that nobody issued: {dot:?}"))),
            })
    }

    /// Changes a replica, and checks it.
    fn touch(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Replica) -> Vec<Result<Changed, anabranch_crdt::CausalError>>,
    ) -> Result<(), Mismatch> {
        let before = self.replicas[at].naive.live(&self.before);
        let changed = change(&mut self.replicas[at]);
        self.check_changed(at, before, changed)?;
        self.check(at)
    }

    fn check_changed(
        &self,
        at: usize,
        before: Atoms,
        changed: Vec<Result<Changed, anabranch_crdt::CausalError>>,
    ) -> Result<(), Mismatch> {
        let replica = &self.replicas[at];
        let after = replica.naive.live(&self.before);
        let (mut added, mut removed) = (0, 0);
        for changed in changed {
            let changed = changed.map_err(|e| Mismatch(format!("refused: {e}")))?;
            let table = replica.value.replicas();
            added |= self.atoms_of(changed.added.iter().map(|dot| dot.full(table)))?;
            removed |= self.atoms_of(changed.removed.iter().map(|dot| dot.full(table)))?;
        }
        same!(Bits(added), Bits(after & !before), "reported as added");
        same!(Bits(removed), Bits(before & !after), "reported as removed");
        Ok(())
    }

    /// Compares a replica with what it must be.
    fn check(&mut self, at: usize) -> Result<(), Mismatch> {
        self.check_dots(at)?;
        let replica = &self.replicas[at];
        if let Some(seen) = self.understood(at) {
            let expected = model::read(self.ty, seen);
            let value = replica.value.value();
            let reading = value.exists().then(|| replica.value.read());
            same!(reading, expected, "the value");
            let live = model::live(self.ty, seen);
            same!(
                Bits(replica.naive.live(&self.before)),
                Bits(live),
                "alive, by the model"
            );
        }
        Ok(())
    }

    fn check_dots(&mut self, at: usize) -> Result<(), Mismatch> {
        let Replica { value, naive, .. } = &self.replicas[at];
        let table = value.replicas();
        let live = self.atoms_of(value.value().puts().map(|(dot, _)| dot.full(table)))?;
        same!(Bits(live), Bits(naive.live(&self.before)), "alive");
        let runs = value.seen().all_runs();
        let seen =
            self.atoms_of(runs.flat_map(|(ix, from, to)| (from + 1..=to).map(move |s| (table.id(ix), s))))?;
        same!(Bits(seen), Bits(naive.seen()), "seen");
        if value.value().digest() != value.digest_from_scratch() {
            return Err(Mismatch("the digest is not the one from scratch".to_owned()));
        }
        let bytes = value.canonical_bytes();
        check_bytes(value, &bytes)?;
        // What was reset of a counter shows in its live slot, and the dots alone do not tell.
        let state = (live, if counts(self.ty) { naive.removed } else { 0 });
        if let Some(before) = self.bytes.get(&state) {
            same!(&bytes, before, "the bytes of equal states");
        } else {
            if !counts(self.ty) && self.bytes.values().any(|other| *other == bytes) {
                return Err(Mismatch("different states have equal bytes".to_owned()));
            }
            self.bytes.insert(state, bytes);
        }
        Ok(())
    }
}

/// Whether there may be counters in a value of this type. In a slot the later increment stands for the earlier before
/// the earlier is known to be dead, so pieces of a state are compared once all of them have come.
fn counts(ty: Type) -> bool {
    matches!(ty, Type::GCounter | Type::PnCounter) || ty.is_map()
}

/// The way to the counter that a mutation increments.
fn slot(ty: Type, mutation: &Mutation) -> Option<Vec<(bytes::Bytes, Type)>> {
    match mutation {
        Mutation::Update {
            key,
            ty: Some(ty),
            mutation,
        } => {
            let mut way = vec![(key.clone(), *ty)];
            way.extend(slot(*ty, mutation)?);
            Some(way)
        }
        Mutation::Increment(_) | Mutation::Create if matches!(ty, Type::GCounter | Type::PnCounter) => {
            Some(Vec::new())
        }
        _ => None,
    }
}

/// Whether it removes the value, or children of a map, however deep.
fn removes(mutation: &Mutation) -> bool {
    match mutation {
        Mutation::Update { mutation, .. } => removes(mutation),
        Mutation::Remove(_) | Mutation::Clear | Mutation::Delete => true,
        _ => false,
    }
}

/// An operation as it arrives: from its bytes.
fn travelled_op(op: &Op) -> Result<Op, Mismatch> {
    let back = Op::decode(&op.encode()).map_err(|e| Mismatch(format!("the bytes of an operation: {e}")))?;
    same!(back.delta(), op.delta(), "an operation from its bytes");
    Ok(back)
}

/// A piece as it arrives: from its bytes.
fn travelled(piece: &Piece) -> Result<Piece, Mismatch> {
    let back = Piece::decode(&piece.encode()).map_err(|e| Mismatch(format!("the bytes of a piece: {e}")))?;
    same!(back.fragment(), piece.fragment(), "a piece from its bytes");
    Ok(back)
}

/// The bytes of a state lead back to what is alive in it.
fn check_bytes(state: &Causal, bytes: &[u8]) -> Result<(), Mismatch> {
    let mut replicas = Replicas::new();
    let back = Value::from_canonical_bytes(bytes, &mut replicas, &HashKey([0; 16]));
    let back = back.map_err(|e| Mismatch(format!("the bytes of a state: {e}")))?;
    same!(
        back.puts().count(),
        state.value().puts().count(),
        "alive, from the bytes"
    );
    if back.exists() {
        same!(back.read(&replicas), state.read(), "the value from its bytes");
    }
    Ok(())
}

impl Made {
    fn deliver_all(&self, naive: &mut Naive) {
        self.effects.iter().for_each(|effect| naive.deliver(*effect));
    }
}

/// Atoms, for people.
#[derive(PartialEq, Eq)]
struct Bits(Atoms);

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(each(self.0)).finish()
    }
}
