//! Making a history that goes wrong as short as it gets.
//!
//! Contract: the result goes wrong too, and leaving out any one of its steps makes it go right.

use crate::script::Script;
use crate::world::Mismatch;

/// The shortest history found that goes wrong, and how it does.
///
/// # Panics
///
/// Never: what is given back was seen to go wrong, or is what came in.
pub fn shrink(script: Script, mismatch: Mismatch) -> (Script, Mismatch) {
    let mut best = (script, mismatch);
    let mut chunk = best.0.steps.len().div_ceil(2);
    loop {
        let mut at = 0;
        let mut is_shorter = false;
        while at < best.0.steps.len() {
            let mut candidate = best.0.clone();
            let to = (at + chunk).min(candidate.steps.len());
            candidate.steps.drain(at..to);
            if let Err(mismatch) = crate::run(&candidate) {
                best = (candidate, mismatch);
                is_shorter = true;
            } else {
                at += chunk;
            }
        }
        if chunk <= 1 && !is_shorter {
            return best;
        }
        chunk = chunk.div_ceil(2);
    }
}
