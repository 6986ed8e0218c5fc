//! What a replica holds, without contexts: every dot it was ever told to be put, and every dot it was ever told to be
//! dead. Nothing is forgotten, so joining is union.

use crate::model::{Atoms, each};

/// What a replica was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Naive {
    /// Dots that were put.
    pub put: Atoms,
    /// Dots that are dead.
    pub dead: Atoms,
    /// Of those, dots that were removed and not merely followed by their author's next.
    pub removed: Atoms,
    /// Dots whose whole effect has arrived: the put and what it killed.
    pub whole: Atoms,
}

/// One part of an operation, as the references know it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effect {
    /// Its dot.
    pub dot: usize,
    /// Whether it puts anything; all do but a deletion.
    pub puts: bool,
    /// The dots it kills.
    pub kills: Atoms,
    /// Whether it is a removal.
    pub removes: bool,
}

impl Naive {
    /// The dots that are alive. `before` holds for each dot the earlier ones of the same counter's slot: a later
    /// increment stands for all of them.
    pub fn live(self, before: &[Atoms]) -> Atoms {
        let passed = each(self.put | self.removed).fold(0, |passed, dot| passed | before[dot]);
        self.put & !self.dead & !passed
    }

    /// The dots it knows of.
    pub fn seen(self) -> Atoms {
        self.put | self.dead
    }

    /// Takes in what another was told.
    pub fn join(&mut self, other: Naive) {
        self.put |= other.put;
        self.dead |= other.dead;
        self.removed |= other.removed;
        self.whole |= other.whole;
    }

    /// Takes in one part of an operation.
    pub fn deliver(&mut self, effect: Effect) {
        let dot = 1 << effect.dot;
        if effect.puts {
            self.put |= dot;
        } else {
            self.dead |= dot;
        }
        self.dead |= effect.kills;
        self.removed |= if effect.removes { effect.kills } else { 0 };
        self.whole |= dot;
    }

    /// Takes in what another, with these live dots, holds of `claimed`, and nothing of what they killed.
    pub fn take(&mut self, live: Atoms, claimed: Atoms) {
        self.put |= live & claimed;
        self.dead |= claimed & !live;
    }
}
