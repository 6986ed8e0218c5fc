//! The independent model: every operation ever made, what it saw, and what a replica that covers given operations
//! must therefore show.
//!
//! It shares no code with `anabranch-crdt`: neither its dots, contexts and stores nor its joins. What an operation puts
//! and supersedes follows from its type's definition and from what its issuer had seen; what is alive at a version vector
//! is what covered operations put and no covered operation superseded; and values follow from that, a counter's from the
//! sum of covered increments alone.
//!
//! Not here: engines. See `crate::oracle` for the comparisons.
//! Contract: a [`Shadow`] at a vector depends on the ledger and the vector alone, not on the way there.

mod ledger;
mod predict;
mod shadow;
#[cfg(test)]
mod tests;

pub use ledger::{DotRecord, Ledger, OriginIx};
pub use predict::{Draft, Meaning, is_refused, predict};
pub use shadow::{Broken, News, Row, Shadow, Stamps};

/// Element `n` of the elements that workloads use.
pub type ElementIx = u32;
/// The one element of a flag that is enabled.
pub const ENABLED: ElementIx = ElementIx::MAX;
/// An entity's place in [`Ledger::entity`].
pub type EntityIx = u32;

/// A dot, in the model's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DotAt {
    /// Whose.
    pub origin: OriginIx,
    /// Which, from 1.
    pub seq: u64,
}

/// Where in a value a dot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The value itself.
    Root,
    /// A set's element.
    Element(ElementIx),
    /// A child of a map, by its key: a counter's slots, a register's writes, a set's presence marks.
    Child(ElementIx),
    /// An element of a set in a map, by the set's key.
    Member(ElementIx, ElementIx),
}

/// What stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// A presence mark or an element.
    Mark,
    /// One replica's totals.
    Count {
        /// Everything added.
        plus: u64,
        /// Everything taken away.
        minus: u64,
    },
    /// A register's value.
    Register {
        /// Its clock.
        clock: u64,
        /// Whether the caller gave it.
        custom: bool,
        /// The value's number.
        value: u64,
    },
    /// A multi-value register's value, by its number.
    Value(u64),
    /// A node's ballot.
    Ballot(bool),
    /// A share of a bounded counter.
    Rights {
        /// How much may be taken away.
        amount: u64,
        /// By whom, if not by the dot's own replica: node id and epoch.
        to: Option<(u128, u64)>,
    },
}

/// The types there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A counter that only grows.
    GCounter,
    /// A counter.
    PnCounter,
    /// A last-writer register.
    Register,
    /// An add-wins set.
    Set,
    /// A set that only grows.
    GSet,
    /// An enable-wins flag.
    Flag,
    /// A register that shows all concurrent values.
    MvRegister,
    /// One ballot a node.
    Vote,
    /// A counter that never falls below 0.
    Bounded,
    /// A map of counters under even keys and sets under odd ones.
    OrMap,
    /// A map of counters.
    CounterMap,
    /// A map of last-writer registers.
    RegisterMap,
    /// A map of add-wins sets.
    MultiMap,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 13] = [
        Kind::GCounter,
        Kind::PnCounter,
        Kind::Register,
        Kind::Set,
        Kind::GSet,
        Kind::Flag,
        Kind::MvRegister,
        Kind::Vote,
        Kind::Bounded,
        Kind::OrMap,
        Kind::CounterMap,
        Kind::RegisterMap,
        Kind::MultiMap,
    ];
}

impl Kind {
    /// Whether it holds others by key.
    pub fn is_map(self) -> bool {
        matches!(
            self,
            Kind::OrMap | Kind::CounterMap | Kind::RegisterMap | Kind::MultiMap
        )
    }

    /// The type of a map's child under a key.
    pub fn child(self, key: ElementIx) -> Kind {
        match self {
            Kind::RegisterMap => Kind::Register,
            Kind::MultiMap => Kind::Set,
            Kind::OrMap if key % 2 == 1 => Kind::Set,
            _ => Kind::PnCounter,
        }
    }
}

/// What a caller asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make it exist.
    Create,
    /// Count.
    Increment(i64),
    /// Add these elements; naming one twice is naming it once.
    Add(Vec<ElementIx>),
    /// Remove these elements.
    Remove(Vec<ElementIx>),
    /// Remove all elements.
    Clear,
    /// Delete it, whole.
    Delete,
    /// Set a register; with a clock of the caller's or without.
    Set {
        /// The value's number.
        value: u64,
        /// The caller's clock.
        clock: Option<u64>,
    },
    /// Set a register with this clock, or one above the clock it shows.
    SetAbove {
        /// The value's number.
        value: u64,
        /// The least clock.
        least: u64,
    },
    /// Set a register by the reversed hybrid clock: the first writer wins.
    SetFirst(u64),
    /// Set a multi-value register.
    Write(u64),
    /// Enable a flag.
    Enable,
    /// Disable a flag.
    Disable,
    /// Cast a ballot.
    Vote(bool),
    /// Hand a share of a bounded counter over.
    Transfer {
        /// How much.
        amount: u64,
        /// To whom: node id and epoch.
        to: (u128, u64),
    },
    /// Count under this key of a map.
    IncrementIn(ElementIx, i64),
    /// Add these elements to the set under this key.
    AddIn(ElementIx, Vec<ElementIx>),
    /// Remove these elements from the set under this key.
    RemoveIn(ElementIx, Vec<ElementIx>),
    /// Set the register under this key, without a clock of the caller's.
    SetIn(ElementIx, u64),
}

/// What an entity shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A counter's value.
    Count(i128),
    /// A set's elements, ascending.
    Elements(Vec<ElementIx>),
    /// A register's value; `None`: never set.
    Register(Option<u64>),
    /// Whether a flag is enabled.
    Flag(bool),
    /// A register's concurrent values, ascending, each once.
    Values(Vec<u64>),
    /// Each node's ballot, by the node's id.
    Ballots(Vec<(u128, bool)>),
    /// A map's children, by key.
    Map(Vec<(ElementIx, Shown)>),
}

/// A version vector: by origin, zero where there is none.
pub type Vv = Vec<u64>;

/// How far a vector goes for one origin.
#[inline]
pub fn at(vv: &[u64], origin: OriginIx) -> u64 {
    vv.get(usize::from(origin)).copied().unwrap_or(0)
}

/// Whether a vector covers a dot.
#[inline]
pub fn covers(vv: &[u64], dot: DotAt) -> bool {
    dot.seq <= at(vv, dot.origin)
}

/// Whether a vector covers another.
pub fn covers_all(vv: &[u64], other: &[u64]) -> bool {
    other
        .iter()
        .enumerate()
        .all(|(origin, &seq)| seq <= vv.get(origin).copied().unwrap_or(0))
}

/// Raises a vector to cover another.
pub fn raise(vv: &mut Vv, other: &[u64]) {
    if vv.len() < other.len() {
        vv.resize(other.len(), 0);
    }
    for (mine, &theirs) in vv.iter_mut().zip(other) {
        *mine = (*mine).max(theirs);
    }
}

/// Raises a vector to cover one dot.
pub fn raise_to(vv: &mut Vv, dot: DotAt) {
    let origin = usize::from(dot.origin);
    if vv.len() <= origin {
        vv.resize(origin + 1, 0);
    }
    vv[origin] = vv[origin].max(dot.seq);
}
