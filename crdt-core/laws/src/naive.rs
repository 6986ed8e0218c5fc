//! What a replica holds, without contexts: every dot it was ever told to be put, and every dot it was ever told to be
//! dead. Nothing is forgotten, so joining is union, twice.

use crate::model::Atoms;

/// What a replica was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Naive {
    /// Dots that were put.
    pub put: Atoms,
    /// Dots that are dead.
    pub dead: Atoms,
    /// Dots whose whole effect has arrived: the put and what it killed.
    pub whole: Atoms,
}

impl Naive {
    /// The dots that are alive.
    pub fn live(self) -> Atoms {
        self.put & !self.dead
    }

    /// The dots it knows of.
    pub fn seen(self) -> Atoms {
        self.put | self.dead
    }

    /// Takes in what another was told.
    pub fn join(&mut self, other: Naive) {
        self.put |= other.put;
        self.dead |= other.dead;
        self.whole |= other.whole;
    }

    /// Takes in one part of an operation.
    pub fn deliver(&mut self, dot: usize, kills: Atoms) {
        self.put |= 1 << dot;
        self.dead |= kills;
        self.whole |= 1 << dot;
    }

    /// Takes in what another holds of these dots, and nothing of what they killed.
    pub fn take(&mut self, other: Naive, claimed: Atoms) {
        self.put |= other.live() & claimed;
        self.dead |= claimed & !other.live();
    }
}
