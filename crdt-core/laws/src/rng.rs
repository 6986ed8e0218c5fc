//! Chance, from a seed: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). Or no
//! chance: bytes that say what is chosen, so that a fuzzer can.

/// A stream of numbers that its seed alone decides, or given choices.
#[derive(Clone, Debug)]
pub struct Rng(Source);

#[derive(Clone, Debug)]
enum Source {
    Seed(u64),
    /// One byte a choice; 0 when they are over.
    Choices(std::vec::IntoIter<u8>),
}

impl Rng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Rng {
        Rng(Source::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// These choices.
    pub fn from_choices(bytes: &[u8]) -> Rng {
        Rng(Source::Choices(Vec::from(bytes).into_iter()))
    }

    /// Whether the choices are over. A seed's never are.
    pub fn is_over(&self) -> bool {
        matches!(&self.0, Source::Choices(left) if left.as_slice().is_empty())
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        let state = match &mut self.0 {
            Source::Seed(state) => state,
            Source::Choices(left) => return left.next().map_or(0, u64::from),
        };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n.max(1) as u64) as usize
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
