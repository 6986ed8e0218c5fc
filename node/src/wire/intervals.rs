//! Several intervals in one message share one table of replicas: a few shards' news costs each id once. Within
//! an interval the places in values are front-coded.
//!
//! Contract: unpacking what was packed gives the same intervals, each with a table of its own that holds just the
//! replicas it uses, in the order of their use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::frame::DecodeError;
use crate::wire::interval::{Interval, WireReplica};
use crate::wire::lean;

/// Intervals as they travel and are logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Intervals {
    replicas: Vec<WireReplica>,
    intervals: Vec<Interval>,
}

impl Intervals {
    /// # Panics
    /// If an interval indexes past its own table: whoever wrote it made the indices.
    pub fn pack(mut intervals: Vec<Interval>) -> Intervals {
        let mut shared: BTreeMap<WireReplica, u16> = BTreeMap::new();
        let mut replicas = Vec::new();
        // Nobody to share with, as the news of one update mostly has: then each id is met in one place.
        let is_sole = intervals.len() == 1;
        for interval in &mut intervals {
            let own = std::mem::take(&mut interval.replicas);
            let mut met: Vec<Option<u16>> = vec![None; own.len()];
            let known = remap(interval, |i| {
                let (id, met) = (*own.get(usize::from(i))?, met.get_mut(usize::from(i))?);
                Some(*met.get_or_insert_with(|| {
                    let mut add = || {
                        replicas.push(id);
                        (replicas.len() - 1) as u16
                    };
                    if is_sole {
                        add()
                    } else {
                        *shared.entry(id).or_insert_with(add)
                    }
                }))
            });
            assert!(
                known.is_some(),
                "an interval indexes past its table of {} replicas",
                own.len()
            );
            lean::pack(interval);
        }
        Intervals { replicas, intervals }
    }

    pub fn unpack(self) -> Result<Vec<Interval>, DecodeError> {
        let shared = self.replicas;
        let mut intervals = self.intervals;
        let malformed = |why| DecodeError::Malformed {
            what: "interval",
            why,
        };
        for interval in &mut intervals {
            lean::unpack(interval).map_err(|why| malformed(why.to_owned()))?;
            let mut used: BTreeMap<u16, u16> = BTreeMap::new();
            let mut own = Vec::new();
            let known = remap(interval, |i| {
                let id = *shared.get(usize::from(i))?;
                Some(*used.entry(i).or_insert_with(|| {
                    own.push(id);
                    (own.len() - 1) as u16
                }))
            });
            if known.is_none() {
                let why = format!("a replica index past the table of {}", shared.len());
                return Err(malformed(why));
            }
            interval.replicas = own;
        }
        Ok(intervals)
    }
}

/// Rewrites every replica index; `None` as soon as one is unknown.
fn remap(interval: &mut Interval, mut to: impl FnMut(u16) -> Option<u16>) -> Option<()> {
    let Interval {
        from,
        to: until,
        deps,
        runs,
        ..
    } = interval;
    for (i, _) in from.iter_mut().chain(until).chain(deps) {
        *i = to(*i)?;
    }
    for run in runs {
        run.replica = to(run.replica)?;
        for kill in run.slots.iter_mut().flat_map(|slot| &mut slot.kills) {
            kill.replica = to(kill.replica)?;
        }
    }
    Some(())
}
