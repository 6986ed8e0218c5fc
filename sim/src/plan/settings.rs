//! The bounds a run's engines and stores get: each at its least, its default, or its most.

use crate::rng::Rng;

/// A setting's value: how it was chosen matters more than the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The least that makes sense.
    Min,
    /// What users get.
    #[default]
    Default,
    /// More than users get.
    Max,
}

impl Choice {
    fn draw(rng: &mut Rng) -> Choice {
        *rng.pick(&[Choice::Min, Choice::Default, Choice::Max])
    }

    /// The chosen one of three.
    pub fn of<T>(self, min: T, default: T, max: T) -> T {
        match self {
            Choice::Min => min,
            Choice::Default => default,
            Choice::Max => max,
        }
    }
}

/// How every bound was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Slots of a ring.
    pub ring: Choice,
    /// Bytes of a part.
    pub part: Choice,
    /// Bytes on their way to a peer.
    pub window: Choice,
    /// Delays of pushes, of what is said, of pulls.
    pub delays: Choice,
    /// The digest's period.
    pub digest: Choice,
    /// Batches held, pulls and sessions under way, transfers staged.
    pub slots: Choice,
    /// Bytes not yet durable.
    pub unpersisted: Choice,
    /// Updates waiting.
    pub requests: Choice,
    /// Idempotency keys.
    pub keys: Choice,
    /// Log bytes after which a snapshot is written.
    pub snapshot_bytes: u64,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        let usual = Choice::Default;
        Settings {
            ring: usual,
            part: usual,
            window: usual,
            delays: usual,
            digest: usual,
            slots: usual,
            unpersisted: usual,
            requests: usual,
            keys: usual,
            snapshot_bytes: 64 << 20,
            segment_bytes: 1 << 20,
        }
    }
}

impl Settings {
    /// A seed's choices; with both families out, all at their defaults.
    pub fn swarm(seed: u64, limits: bool, snapshots: bool) -> Settings {
        let mut rng = Rng::stream(seed, "plan-settings", 0, 0);
        let mut draw = || {
            let choice = Choice::draw(&mut rng);
            if limits { choice } else { Choice::Default }
        };
        let settings = Settings {
            ring: draw(),
            part: draw(),
            window: draw(),
            delays: draw(),
            digest: draw(),
            slots: draw(),
            unpersisted: draw(),
            requests: draw(),
            keys: draw(),
            ..Settings::default()
        };
        let snapshot = rng.log_uniform(2_000.0, 200_000.0) as u64;
        let segment = rng.log_uniform(4_000.0, 400_000.0) as u64;
        Settings {
            snapshot_bytes: if snapshots {
                snapshot
            } else {
                settings.snapshot_bytes
            },
            segment_bytes: if snapshots {
                segment
            } else {
                settings.segment_bytes
            },
            ..settings
        }
    }
}
