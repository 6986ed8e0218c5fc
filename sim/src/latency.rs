//! How long a message takes: the shapes that real networks have.

use crate::queue::Micros;
use crate::rng::{Rng, exp2};

/// A message is never faster than this, microseconds.
pub const LATENCY_US_MIN: Micros = 20;
/// Nor slower than this.
pub const LATENCY_US_MAX: Micros = 20_000_000;

/// A distribution of one-way delays. Plain data.
///
/// ```
/// use anabranch_sim::latency::Latency;
/// use anabranch_sim::rng::Rng;
/// let wait = Latency::Exponential { mean_us: 500.0 }.draw(&mut Rng::stream(1, "doc", 0, 0));
/// assert!(wait >= 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// Around a median, with a spread in powers of two.
    LogNormal {
        /// The median, microseconds.
        median_us: f64,
        /// The deviation of the binary logarithm.
        spread: f64,
    },
    /// Memoryless.
    Exponential {
        /// The mean, microseconds.
        mean_us: f64,
    },
    /// Mostly short, sometimes very long.
    HeavyTail {
        /// The shortest, microseconds.
        min_us: f64,
        /// The smaller, the heavier the tail (1 to 3).
        shape: f64,
    },
    /// Two ways through the network.
    Bimodal {
        /// The fast way, microseconds.
        fast_us: f64,
        /// The slow way, microseconds.
        slow_us: f64,
        /// How often the slow one.
        slow: f64,
    },
}

impl Latency {
    /// One message's delay.
    pub fn draw(&self, rng: &mut Rng) -> Micros {
        let us = match *self {
            Latency::LogNormal { median_us, spread } => median_us * exp2(spread * rng.normal()),
            Latency::Exponential { mean_us } => rng.exponential(mean_us),
            Latency::HeavyTail { min_us, shape } => {
                min_us * exp2(-crate::rng::log2(1.0 - rng.unit()) / shape)
            }
            Latency::Bimodal {
                fast_us,
                slow_us,
                slow,
            } => {
                let middle = if rng.chance(slow) { slow_us } else { fast_us };
                middle * (0.8 + 0.4 * rng.unit())
            }
        };
        (us as Micros).clamp(LATENCY_US_MIN, LATENCY_US_MAX)
    }

    /// A shape and a scale, from 50 us to a second: across the protocol's own constants.
    pub fn random(rng: &mut Rng) -> Latency {
        let scale = rng.log_uniform(50.0, 200_000.0);
        match rng.below(4) {
            0 => Latency::LogNormal {
                median_us: scale,
                spread: rng.log_uniform(0.05, 2.0),
            },
            1 => Latency::Exponential { mean_us: scale },
            2 => Latency::HeavyTail {
                min_us: scale / 2.0,
                shape: 1.0 + 2.0 * rng.unit(),
            },
            _ => Latency::Bimodal {
                fast_us: scale / 4.0,
                slow_us: scale * rng.log_uniform(2.0, 20.0),
                slow: rng.log_uniform(0.01, 0.5),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_stays_within_its_bounds() {
        for seed in 0..200 {
            let mut rng = Rng::stream(seed, "latency", 0, 0);
            let latency = Latency::random(&mut rng);
            for _ in 0..50 {
                let us = latency.draw(&mut rng);
                assert!(
                    (LATENCY_US_MIN..=LATENCY_US_MAX).contains(&us),
                    "{latency:?}: {us}"
                );
            }
        }
    }
}
