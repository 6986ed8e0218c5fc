//! Every history of a few operations.
//!
//! An operation may have seen any set of the others that is closed under "had seen before" and holds its replica's own;
//! which of these sets, and in which order its members arrived, is all that schedules can differ in. So the walk makes
//! each operation at each replica on each such set, and joins the replicas' states at the end in every order.
//!
//! Contract: replicas and keys that were not used yet are alike, so only the first of them is tried.

use anabranch_crdt::{Mutation, Type};

use crate::model::Atoms;
use crate::script::{Mode, OpName, Script, Step};
use crate::world::{Mismatch, World};

/// What to walk through.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Of what.
    pub ty: Type,
    /// How many replicas.
    pub replicas: usize,
    /// How many operations.
    pub operations: usize,
    /// What each of them may be.
    pub mutations: Vec<Mutation>,
}

/// Walks through all histories of the scope and returns how many there were.
///
/// # Errors
///
/// The first that goes wrong, as a script.
pub fn run(scope: &Scope) -> Result<u64, Box<(Script, Mismatch)>> {
    let world = World::new(scope.ty, Mode::Causal, scope.replicas);
    let mut walk = Walk {
        scope,
        steps: Vec::new(),
        histories: 0,
    };
    walk.from(&world, scope.operations)?;
    Ok(walk.histories)
}

struct Walk<'a> {
    scope: &'a Scope,
    steps: Vec<Step>,
    histories: u64,
}

impl Walk<'_> {
    fn from(&mut self, world: &World, left: usize) -> Result<(), Box<(Script, Mismatch)>> {
        if left == 0 {
            self.histories += 1;
            return self.end(world);
        }
        let used = (0..self.scope.replicas)
            .take_while(|&n| world.made(n) > 0)
            .count();
        for at in 0..self.scope.replicas.min(used + 1) {
            for set in closed_sets(world, at) {
                let (mark, mut with) = (self.steps.len(), world.clone());
                self.bring(&mut with, at, set)?;
                self.mutate(&with, at, left)?;
                self.steps.truncate(mark);
            }
        }
        Ok(())
    }

    fn mutate(&mut self, world: &World, at: usize, left: usize) -> Result<(), Box<(Script, Mismatch)>> {
        for mutation in &self.scope.mutations {
            let mut next = world.clone();
            let step = Step::Mutate {
                at,
                mutation: mutation.clone(),
                stamp: 0,
            };
            self.step(&mut next, step)?;
            if next.history.len() > world.history.len() {
                self.from(&next, left - 1)?;
            }
            self.steps.pop();
        }
        Ok(())
    }

    /// Delivers what is missing of a set of operations, in the order they were made.
    fn bring(&mut self, world: &mut World, to: usize, set: Atoms) -> Result<(), Box<(Script, Mismatch)>> {
        for name in names(world) {
            let atoms = world.atoms(name);
            if atoms & set == atoms && !world.has(to, name) {
                let step = Step::Deliver { to, ops: vec![name] };
                self.step(world, step)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, world: &mut World, step: Step) -> Result<(), Box<(Script, Mismatch)>> {
        let result = world.step(&step).map_err(|e| e.after(&step));
        self.steps.push(step);
        result.map_err(|mismatch| self.failed(mismatch))
    }

    fn failed(&self, mismatch: Mismatch) -> Box<(Script, Mismatch)> {
        let script = Script {
            ty: self.scope.ty,
            mode: Mode::Causal,
            steps: self.steps.clone(),
        };
        Box::new((script, mismatch))
    }

    /// Everything reaches everybody: by whole states one way round, by what is lacking the other.
    fn end(&mut self, world: &World) -> Result<(), Box<(Script, Mismatch)>> {
        let mark = self.steps.len();
        let mut world = world.clone();
        let nodes = self.scope.replicas;
        for (from, to) in (0..nodes).zip(1..nodes) {
            self.step(&mut world, Step::Join { to, from })?;
        }
        for (to, from) in (0..nodes).zip(1..nodes).rev() {
            self.step(&mut world, Step::Since { to, from })?;
        }
        if world.replicas[0].naive.seen() != (1 << world.history.len()) - 1 {
            return Err(self.failed(Mismatch("not everything reached everybody".to_owned())));
        }
        self.steps.truncate(mark);
        Ok(())
    }
}

fn names(world: &World) -> Vec<OpName> {
    let mut names: Vec<OpName> = (0..world.replicas.len())
        .flat_map(|by| (1..=world.made(by)).map(move |nth| OpName { by, nth }))
        .collect();
    names.sort_by_key(|name| world.atoms(*name).trailing_zeros());
    names
}

/// Every set of whole operations that holds what a replica has seen, and with an operation all that it had seen.
fn closed_sets(world: &World, at: usize) -> Vec<Atoms> {
    let seen = world.replicas[at].naive.whole;
    let mut sets = vec![seen];
    for name in names(world) {
        let atoms = world.atoms(name);
        let before = world.history[atoms.trailing_zeros() as usize].saw;
        if atoms & seen == atoms {
            continue;
        }
        for i in 0..sets.len() {
            if before & !sets[i] == 0 {
                sets.push(sets[i] | atoms);
            }
        }
    }
    sets
}
