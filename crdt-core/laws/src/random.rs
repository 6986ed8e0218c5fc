//! Random histories.

use anabranch_crdt::{Clock, Mutation, Type};
use bytes::Bytes;

use crate::rng::Rng;
use crate::script::{Mode, OpName, Script, Step, replica_id};
use crate::shrink::shrink;
use crate::world::{Mismatch, World};
use crate::{laws, model};

/// How many steps a history has at most.
const STEPS_MAX: usize = 60;

/// A history that went wrong, shrunk.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The shortest history found that goes wrong.
    pub script: Script,
    /// How.
    pub mismatch: Mismatch,
    /// After how many steps, over all histories, it was met.
    pub steps: u64,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.mismatch)?;
        writeln!(
            f,
            "as a test:\n\n#[test]\nfn name_what_went_wrong() {{\n    check(\n        \"{}\",",
            { self.script.to_string().trim_end().replace('\n', "\n         ") }
        )?;
        writeln!(f, "    )\n    .unwrap();\n}}")
    }
}

/// Runs random histories of a type until so many steps are done.
///
/// # Errors
///
/// The first [`Failure`].
pub fn run(ty: Type, seed: u64, steps: u64) -> Result<(), Box<Failure>> {
    let mut done = 0;
    let mut history = 0;
    while done < steps {
        let (script, result) = one(ty, seed.wrapping_add(history));
        done += script.steps.len() as u64;
        history += 1;
        if let Err(mismatch) = result {
            let (script, mismatch) = shrink(script, mismatch);
            return Err(Box::new(Failure {
                script,
                mismatch,
                steps: done,
            }));
        }
    }
    Ok(())
}

/// Runs the history that these bytes choose: its type first, and then every step.
///
/// # Errors
///
/// As [`run`].
pub fn from_choices(bytes: &[u8]) -> Result<(), Box<Failure>> {
    let mut rng = Rng::from_choices(bytes);
    let ty = *rng.pick(&Type::ALL);
    let (script, result) = history(ty, &mut rng);
    result.map_err(|mismatch| {
        let steps = script.steps.len() as u64;
        let (script, mismatch) = shrink(script, mismatch);
        Box::new(Failure {
            script,
            mismatch,
            steps,
        })
    })
}

fn one(ty: Type, seed: u64) -> (Script, Result<(), Mismatch>) {
    history(ty, &mut Rng::new(seed ^ u64::from(ty.id()) << 56))
}

/// Makes and runs one history; it ends where it goes wrong.
fn history(ty: Type, rng: &mut Rng) -> (Script, Result<(), Mismatch>) {
    let mode = if rng.percent(60) { Mode::Causal } else { Mode::Any };
    let nodes = 2 + rng.below(4);
    let mut script = Script {
        ty,
        mode,
        steps: Vec::new(),
    };
    let mut world = World::new(ty, mode, nodes);
    for _ in 0..10 + rng.below(STEPS_MAX - 10) {
        if rng.is_over() {
            break;
        }
        let step = next(rng, &world);
        script.steps.push(step.clone());
        if let Err(mismatch) = world.step(&step) {
            return (script, Err(mismatch.after(&step)));
        }
        if world.is_full() {
            break;
        }
    }
    let result = laws::check(&world);
    (script, result)
}

fn next(rng: &mut Rng, world: &World) -> Step {
    let nodes = world.replicas.len();
    let (to, from) = (rng.below(nodes), rng.below(nodes));
    match rng.below(100) {
        0 if world.ty().is_map() => Step::Drop { at: to },
        0..40 => Step::Mutate {
            at: to,
            mutation: mutation(rng, world.ty(), nodes),
            stamp: rng.below(6) as u64,
        },
        40..70 => Step::Deliver {
            to,
            ops: vec![op(rng, world, from, to)],
        },
        70..78 => Step::Deliver {
            to,
            ops: (0..1 + rng.below(4))
                .map(|_| {
                    let from = rng.below(nodes);
                    op(rng, world, from, to)
                })
                .collect(),
        },
        78..84 => Step::DeliverPart {
            to,
            op: op(rng, world, from, to),
            part: rng.below(3),
        },
        84..90 => Step::Join { to, from },
        90..95 => Step::Since { to, from },
        _ => Step::Pieces {
            to,
            from,
            bytes_max: [1, 40, 100][rng.below(3)],
            only: rng.percent(50).then(|| rng.below(3)),
        },
    }
}

/// Mostly the first operation that has not arrived yet; now and then any.
fn op(rng: &mut Rng, world: &World, by: usize, to: usize) -> OpName {
    let made = world.made(by);
    let missing = (1..=made).find(|&nth| !world.has(to, OpName { by, nth }));
    match missing {
        Some(nth) if rng.percent(75) => OpName { by, nth },
        _ => OpName {
            by,
            nth: 1 + rng.below(made),
        },
    }
}

const ELEMENTS: [&str; 5] = ["", "x", "y", "z", "an_element_of_more_than_22_bytes"];

fn element(rng: &mut Rng) -> Bytes {
    Bytes::from_static(rng.pick(&ELEMENTS).as_bytes())
}

fn elements(rng: &mut Rng) -> Vec<Bytes> {
    (0..1 + rng.below(3)).map(|_| element(rng)).collect()
}

/// A number, now and then an extreme one.
fn number(rng: &mut Rng) -> i64 {
    match rng.below(20) {
        0 => i64::from(i32::MAX),
        1 => 0,
        n => n as i64 - 9,
    }
}

/// A mutation that the type takes.
pub(crate) fn mutation(rng: &mut Rng, ty: Type, nodes: usize) -> Mutation {
    if rng.percent(3) {
        return Mutation::Delete;
    }
    within(rng, ty, nodes)
}

/// A mutation that the type takes also as a map's child.
fn within(rng: &mut Rng, ty: Type, nodes: usize) -> Mutation {
    if rng.percent(4) {
        return Mutation::Create;
    }
    match ty {
        Type::GCounter => Mutation::Increment(number(rng).abs()),
        Type::PnCounter => Mutation::Increment(number(rng)),
        Type::BoundedCounter if rng.percent(30) => Mutation::Transfer {
            to: replica_id(rng.below(nodes)),
            amount: rng.below(8) as u64,
        },
        Type::BoundedCounter => Mutation::Increment(number(rng)),
        Type::OrSet => match rng.below(10) {
            0..5 => Mutation::Add(elements(rng)),
            5..9 => Mutation::Remove(elements(rng)),
            _ => Mutation::Clear,
        },
        map if map.is_map() => in_map(rng, map, 0, nodes),
        Type::GSet => Mutation::Add(elements(rng)),
        Type::Flag if rng.percent(50) => Mutation::Enable,
        Type::Flag => Mutation::Disable,
        Type::Vote => Mutation::Vote(rng.percent(50)),
        Type::LwwRegister => Mutation::Set {
            value: element(rng),
            clock: clock(rng),
        },
        _ => Mutation::Set {
            value: element(rng),
            clock: Clock::Default,
        },
    }
}

/// A change in a map: few keys, so that they meet; and maps within maps, as deep as it comes.
fn in_map(rng: &mut Rng, map: Type, depth: usize, nodes: usize) -> Mutation {
    match rng.below(10) {
        0..3 => return Mutation::Remove(vec![key(rng)]),
        3 if rng.percent(30) => return Mutation::Clear,
        _ => {}
    }
    let any = if depth < 2 {
        &Type::ALL[..]
    } else {
        &Type::ALL[..4]
    };
    // Counters, what can be reset in part, and the types that are most at odds.
    let often = [Type::PnCounter, Type::OrSet, Type::PnCounter, Type::OrMap];
    let ty = map.child().unwrap_or_else(|| {
        if rng.percent(80) && depth < 2 {
            *rng.pick(&often)
        } else {
            *rng.pick(any)
        }
    });
    let ty = if map.takes(ty) { ty } else { Type::PnCounter };
    let mutation = if ty.is_map() {
        in_map(rng, ty, depth + 1, nodes)
    } else {
        within(rng, ty, nodes)
    };
    Mutation::Update {
        key: key(rng),
        ty: Some(ty),
        mutation: Box::new(mutation),
    }
}

fn key(rng: &mut Rng) -> Bytes {
    Bytes::from_static(rng.pick(&["k", "j"]).as_bytes())
}

fn clock(rng: &mut Rng) -> Clock {
    let number = |rng: &mut Rng| match rng.below(12) {
        0 => u64::MAX - rng.below(2) as u64,
        n => n as u64,
    };
    match rng.below(10) {
        0..5 => Clock::Default,
        5 => Clock::Reverse,
        6 => Clock::AutoIncrement(number(rng)),
        _ => Clock::Custom(number(rng)),
    }
}

const _: () = assert!(model::ATOMS_MAX > STEPS_MAX);
