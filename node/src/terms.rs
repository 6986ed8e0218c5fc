//! What the layers above all speak of: time and write levels.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Monotonic time in microseconds since an origin of the caller's choice. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This much later.
    pub fn after_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms.saturating_mul(1_000)))
    }

    /// How long it is until then, whole milliseconds; 0 once it has passed.
    pub fn ms_until(self, deadline: Time) -> u64 {
        deadline.0.saturating_sub(self.0) / 1_000
    }
}

/// A duration as whole milliseconds; the most there are where it is longer.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The two clocks at one moment: the monotonic one for waiting, the wall clock for hybrid-clock stamps only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time.
    pub time: Time,
    /// Wall-clock milliseconds since 1970. May jump; correctness never depends on it.
    pub wall_ms: u64,
}

/// How many replicas must confirm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Copies {
    /// This node alone.
    #[default]
    Local,
    /// So many replicas, this node among them; at least 1: a level of 0 is refused.
    N(u8),
    /// More than half of the replica set.
    Majority,
    /// The whole replica set.
    All,
}

/// What a replica must have done to confirm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Joined it into its memory.
    Applied,
    /// Synced it to its disk.
    #[default]
    Durable,
}

/// A write level: copies and stage. The default, everywhere, is local and durable.
///
/// ```
/// use anabranch::{Copies, Level, Stage};
/// assert_eq!(Level::default().to_string(), "local");
/// let level: Level = "majority-applied".parse()?;
/// assert_eq!(level, Level { copies: Copies::Majority, stage: Stage::Applied });
/// # Ok::<(), anabranch::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level {
    /// How many replicas.
    pub copies: Copies,
    /// What each must have done.
    pub stage: Stage,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.copies {
            Copies::Local => f.write_str("local")?,
            Copies::N(n) => write!(f, "{n}")?,
            Copies::Majority => f.write_str("majority")?,
            Copies::All => f.write_str("all")?,
        }
        if self.stage == Stage::Applied {
            f.write_str("-applied")
        } else {
            Ok(())
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(s: &str) -> Result<Level, Error> {
        let (copies, stage) = match s.strip_suffix("-applied") {
            Some(copies) => (copies, Stage::Applied),
            None => (s.strip_suffix("-durable").unwrap_or(s), Stage::Durable),
        };
        let copies = match copies {
            "local" => Copies::Local,
            "majority" => Copies::Majority,
            "all" => Copies::All,
            n => match n.parse::<u8>() {
                Ok(n) if n >= 1 => Copies::N(n),
                _ => {
                    return Err(Error::new(
                        crate::error::ErrorKind::Invalid,
                        format!(
                            "level {s:?} is none of local, 1 to 255, majority, all (each also with -applied)"
                        ),
                    ));
                }
            },
        };
        Ok(Level { copies, stage })
    }
}
