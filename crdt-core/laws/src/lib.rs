//! The proof suite of `anabranch-crdt`.
//!
//! A [`Script`] is a history of a few replicas of one value: who does what, and what reaches whom, in which form and
//! order. A [`World`] runs it on the real crate and on two references that share no code with it: a [`Naive`] state,
//! which keeps every dot ever put and every dot ever killed and so needs no context; and a [`model`] per type, which is
//! a list of operations and who had seen what when, and reads a value straight from the type's definition. After every
//! step the replica that was touched is compared with both, and at the end the [`laws`] are checked on all of them.
//!
//! Scripts are made at random ([`random`]) or all of them up to a size ([`exhaustive`]). One that fails is shrunk and
//! printed in a form that can be pasted as a test.
//!
//! Not here: engines, networks, disks (see the simulator), and the agreement with the `crdts` crate (in the crate itself).

pub mod exhaustive;
pub mod golden;
pub mod hostile;
pub mod laws;
pub mod model;
mod naive;
pub mod random;
mod rng;
mod script;
mod shrink;
mod world;

pub use naive::Naive;
pub use rng::Rng;
pub use script::{Mode, NODES_MAX, OpName, Script, ScriptError, Step, replica_id};
pub use shrink::shrink;
pub use world::{Mismatch, World};

/// Runs a script and checks the laws at its end.
///
/// ```
/// anabranch_laws::check("orset causal
///     a add x
///     b < a1
///     b remove x
///     a add x
///     a < b1").unwrap();
/// ```
///
/// # Errors
///
/// [`Mismatch`] says what differed after which step. A script that does not read is one too.
pub fn check(script: &str) -> Result<(), Mismatch> {
    let script = script.parse::<Script>().map_err(|e| Mismatch(e.to_string()))?;
    run(&script)
}

/// The same for a script that was read or made.
///
/// # Errors
///
/// As [`check`].
pub fn run(script: &Script) -> Result<(), Mismatch> {
    let mut world = World::new(script.ty, script.mode, script.nodes());
    for step in &script.steps {
        world.step(step).map_err(|e| e.after(step))?;
    }
    laws::check(&world)
}

#[cfg(test)]
mod tests;
