//! Chance, all of it from one seed, split by purpose.
//!
//! A stream is named by what it decides (a link's delays, a disk's losses, a client's choices) and by a counter, and
//! comes from a hash of (seed, name, entity, counter). So removing one event does not re-roll the others: a smaller
//! scenario stays the same scenario.
//!
//! Contract: the same seed and names give the same numbers on every machine; nothing here asks the system.

/// A small generator (SplitMix64): good enough to choose faults, cheap enough to make one per message.
///
/// ```
/// use anabranch_sim::rng::Rng;
/// let (mut a, mut b) = (Rng::stream(7, "link", 1, 0), Rng::stream(7, "link", 1, 0));
/// assert_eq!(a.next_u64(), b.next_u64());
/// assert_ne!(a.next_u64(), Rng::stream(7, "link", 2, 0).next_u64());
/// ```
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of `name` for `entity` (a node, a link, a client) at `counter`.
    pub fn stream(seed: u64, name: &str, entity: u64, counter: u64) -> Rng {
        let named = name
            .bytes()
            .fold(seed ^ GOLDEN, |h, b| mix(h ^ u64::from(b)).wrapping_add(GOLDEN));
        Rng {
            state: mix(mix(named ^ entity).wrapping_add(GOLDEN) ^ counter),
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Evenly below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Evenly from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "between({low}, {high})");
        low + self.below((high - low).saturating_add(1))
    }

    /// Evenly in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        assert!(!items.is_empty(), "nothing to pick from");
        &items[self.below(items.len() as u64) as usize]
    }

    /// Between `low` and `high`, each factor as likely as any other: how intensities are drawn.
    pub fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        let (a, b) = (log2(low), log2(high));
        exp2(a + (b - a) * self.unit())
    }

    /// Exponentially distributed with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * LN_2 * log2(1.0 - self.unit())
    }

    /// Normally distributed (mean 0, deviation 1): twelve evens, which is near enough and needs no cosine.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

const LN_2: f64 = std::f64::consts::LN_2;

/// The binary logarithm from additions, products and quotients alone: the system's own differs between machines in
/// the last bits, and a replayed seed must not.
pub fn log2(x: f64) -> f64 {
    assert!(x > 0.0 && x.is_finite(), "log2({x})");
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    if exponent == -1023 {
        return log2(x * (1u64 << 52) as f64) - 52.0;
    }
    let mantissa = f64::from_bits((bits & !(0x7ff << 52)) | (1023 << 52));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut term = s;
    let mut sum = 0.0;
    for k in 0..16 {
        sum += term / f64::from(2 * k + 1);
        term *= square;
    }
    exponent as f64 + 2.0 * sum / LN_2
}

/// Two to the power of `x`, likewise.
pub fn exp2(x: f64) -> f64 {
    let whole = x.clamp(-1000.0, 1000.0).floor();
    let part = (x.clamp(-1000.0, 1000.0) - whole) * LN_2;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..18 {
        term *= part / f64::from(k);
        sum += term;
    }
    sum * f64::from_bits(((whole as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_logarithm_is_the_usual_one() {
        for x in [1e-300, 1e-3, 0.5, 1.0, 1.5, 2.0, 3.0, 1e9] {
            assert!((log2(x) - x.log2()).abs() < 1e-9, "{x}");
        }
        for x in [-40.5, -1.0, 0.0, 0.3, 1.0, 17.25] {
            assert!((exp2(x) / x.exp2() - 1.0).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn a_stream_depends_on_each_of_its_names() {
        let base = Rng::stream(1, "a", 2, 3).next_u64();
        for other in [
            Rng::stream(2, "a", 2, 3),
            Rng::stream(1, "b", 2, 3),
            Rng::stream(1, "a", 3, 3),
        ] {
            assert_ne!(base, other.clone().next_u64());
        }
        assert_ne!(base, Rng::stream(1, "a", 2, 4).next_u64());
    }

    #[test]
    fn distributions_have_their_means() {
        let mut rng = Rng::stream(1, "means", 0, 0);
        let mean = (0..20_000).map(|_| rng.exponential(3.0)).sum::<f64>() / 20_000.0;
        assert!((2.9..3.1).contains(&mean), "{mean}");
        assert!((0..10_000).all(|_| (5..=9).contains(&rng.between(5, 9))));
        assert!((0..10_000).all(|_| (0.01..1.0001).contains(&rng.log_uniform(0.01, 1.0))));
    }
}
