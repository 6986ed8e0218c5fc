//! Durations counted in buckets: percentiles in bounded memory, each within 3.2 % of the true one.

use std::time::Duration;

/// Buckets per doubling, as a power of two: 32.
const FINE_BITS: u32 = 5;
const BUCKETS: usize = ((64 - FINE_BITS) as usize + 1) << FINE_BITS;

/// Counts durations, in microseconds.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Nothing counted yet.
    pub fn new() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }

    /// Counts one.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)] += 1;
        self.total += 1;
        self.max = self.max.max(us);
    }

    /// The duration that this share (0 to 1) of all did not exceed, in milliseconds; 0 if none was counted.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(index).min(self.max) as f64 / 1_000.0;
            }
        }
        0.0
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.max as f64 / 1_000.0
    }
}

/// Below 64 each value has its own bucket; above, each doubling has 32.
fn bucket(us: u64) -> usize {
    let shift = (63 - (us | 1).leading_zeros()).saturating_sub(FINE_BITS);
    ((shift as usize) << FINE_BITS) + (us >> shift) as usize
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let shift = (index >> FINE_BITS).saturating_sub(1);
    let top = (index - (shift << FINE_BITS)) as u64;
    ((u128::from(top) + 1) << shift)
        .saturating_sub(1)
        .min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_just_above_it() {
        for us in (0..5_000)
            .chain((0..64).map(|bit| 1 << bit))
            .chain([u64::MAX, u64::MAX - 1])
        {
            let upper = upper(bucket(us));
            assert!(upper >= us, "{us} in a bucket up to {upper}");
            assert!(upper - us <= us / 31, "{us} in a bucket up to {upper}");
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_are_near_the_true_ones() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.quantile_ms(0.5), histogram.max_ms()), (0.0, 0.0));
        (1..=1_000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        for (share, expected) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = histogram.quantile_ms(share);
            assert!((expected..expected * 1.04).contains(&found), "{share}: {found}");
        }
        assert_eq!(histogram.quantile_ms(1.0), 1_000.0);
        assert_eq!(histogram.max_ms(), 1_000.0);
    }
}
