//! Higher epochs of a running node: when one is taken, and the network that is closed and opened again for it.
//!
//! A peer that knows a higher epoch of this node fences it, and it goes on above that one: once after a start on a lost or
//! restored directory, or with a clock that went back. Two running copies of one node fence each other without end; so
//! each further step waits longer, and says what it probably is.

use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::Epoch;

use crate::engine::{Input, Time};
use crate::error::Error;
use crate::store::{Disk, Store, StoreError};

use super::clock::{until, wall_ms};
use super::shared::Shared;
use super::start::new_epoch;

/// How long the second epoch within [`QUIET_MS`] is put off, milliseconds; doubled with each one after it.
const ADOPT_MS_MIN: u64 = 100;

/// How long a further epoch is put off at most, milliseconds.
const ADOPT_MS_MAX: u64 = 30_000;

/// An epoch after so many milliseconds without one is the first again.
const QUIET_MS: u64 = 60_000;

/// How long to wait before the network is tried again that could not be opened, milliseconds; doubled with each failure.
const OPEN_MS_MIN: u64 = 50;

/// How long to wait for that at most, milliseconds.
const OPEN_MS_MAX: u64 = 10_000;

// Two copies that take turns as slowly as they may are still two copies.
const _: () = assert!(ADOPT_MS_MAX < QUIET_MS);

/// What waits to be done about epochs.
#[derive(Debug)]
pub(super) struct Epochs {
    last: Epoch,
    /// The engine wants an epoch above this one.
    wanted: Option<Epoch>,
    pace: Pace,
    /// When to open the network again, if it is closed.
    reopen_at: Option<Time>,
    reopen_wait_ms: u64,
}

impl Epochs {
    pub(super) fn new(last: Epoch) -> Epochs {
        Epochs {
            last,
            wanted: None,
            pace: Pace::default(),
            reopen_at: None,
            reopen_wait_ms: OPEN_MS_MIN,
        }
    }

    /// Somebody knows this epoch of this node. Several may say so; one step above all of them is enough.
    pub(super) fn want(&mut self, above: Epoch) {
        if above >= self.last {
            self.wanted = self.wanted.max(Some(above));
        }
    }

    /// How long until there is something to do, if there is.
    pub(super) fn wait(&self, now: Time) -> Option<Duration> {
        let adopt_at = self.wanted.map(|_| self.pace.not_before);
        let at = adopt_at.into_iter().chain(self.reopen_at).min()?;
        Some(until(now, at))
    }

    /// Does what is due. An error of the store may be a poisoned one; everything else is tried again.
    pub(super) fn advance<D: Disk>(&mut self, store: &mut Store<D>, shared: &Shared) -> Result<(), Failed> {
        let now = shared.clock.now().time;
        if self.wanted.is_some() && self.pace.not_before <= now {
            self.adopt(store, shared)?;
        }
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.reopen(shared);
        }
        Ok(())
    }

    /// Takes the epoch the engine asked for: durable first, then the engine goes on under it, and the network after it.
    fn adopt<D: Disk>(&mut self, store: &mut Store<D>, shared: &Shared) -> Result<(), Failed> {
        let Some(above) = self.wanted else { return Ok(()) };
        let epoch = match new_epoch(wall_ms(), Some(self.last.max(above))) {
            Ok(epoch) => epoch,
            Err(error) => {
                tracing::error!(%error, "no epoch is above the one a peer knows; it is ignored");
                self.wanted = None;
                return Ok(());
            }
        };
        match start_durably(store, epoch) {
            Ok(()) => {}
            Err(error) if error.is_poisoned() => return Err(Failed::Store(error)),
            Err(error) => {
                tracing::error!(%error, %epoch, "a higher epoch could not be started; trying again");
                self.pace.put_off(shared.clock.now().time);
                return Ok(());
            }
        }
        if self.pace.took_one(shared.clock.now().time) {
            tracing::error!(
                %epoch,
                "peers knew a higher epoch of this node again: another running process probably uses this node's \
                 certificate; give each node one of its own and stop the other"
            );
        } else {
            tracing::warn!(%epoch, "peers knew a higher epoch of this node; it goes on under a new one");
        }
        self.wanted = None;
        self.last = epoch;
        // No link may carry the new epoch's dots under the old one's name.
        shared.network().close(false);
        self.reopen_at = Some(Time(0));
        self.reopen_wait_ms = OPEN_MS_MIN;
        shared.step(Input::EpochAdopted { epoch }).map_err(Failed::Node)?;
        // Only now: who reads it may count on writing under it.
        shared.set_epoch(epoch);
        Ok(())
    }

    /// Without a network the node still answers its own callers, so it is no reason to end that the port was not free again.
    fn reopen(&mut self, shared: &Shared) {
        match Arc::clone(shared.network()).open(self.last) {
            Ok(()) => self.reopen_at = None,
            Err(error) => {
                tracing::error!(%error, "the network could not be opened again; trying again");
                self.reopen_at = Some(shared.clock.now().time.after_ms(self.reopen_wait_ms));
                self.reopen_wait_ms = (self.reopen_wait_ms * 2).min(OPEN_MS_MAX);
            }
        }
    }
}

/// Why nothing more can be done.
#[derive(Debug)]
pub(super) enum Failed {
    /// The store takes nothing more.
    Store(StoreError),
    /// The engine broke.
    Node(Error),
}

/// Makes an epoch durable. On a full disk the space kept for this is given up, and taken again if something is left.
pub(super) fn start_durably<D: Disk>(store: &mut Store<D>, epoch: Epoch) -> Result<(), StoreError> {
    let mut started = store.start_epoch(epoch);
    if matches!(&started, Err(error) if error.is_full()) && store.give_up_reserve() {
        tracing::warn!("the disk is full: the space kept for starting an epoch is used");
        started = store.start_epoch(epoch);
    }
    store.keep_reserve();
    started
}

/// How fast epochs may follow one another.
#[derive(Debug)]
struct Pace {
    /// When the next one may be taken.
    not_before: Time,
    took_last: Option<Time>,
    wait_ms: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            not_before: Time(0),
            took_last: None,
            wait_ms: ADOPT_MS_MIN,
        }
    }
}

impl Pace {
    /// One was taken; says whether another was taken shortly before.
    fn took_one(&mut self, now: Time) -> bool {
        let again = self.took_last.is_some_and(|last| now < last.after_ms(QUIET_MS));
        if !again {
            self.wait_ms = ADOPT_MS_MIN;
        }
        self.took_last = Some(now);
        self.put_off(now);
        again
    }

    fn put_off(&mut self, now: Time) {
        self.not_before = now.after_ms(self.wait_ms);
        self.wait_ms = (self.wait_ms * 2).min(ADOPT_MS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epochs at these milliseconds: whether each was one of several, and from when on the next may be taken.
    fn paces(at_ms: &[u64]) -> Vec<(bool, u64)> {
        let mut pace = Pace::default();
        at_ms
            .iter()
            .map(|ms| (pace.took_one(Time(ms * 1_000)), pace.not_before.0 / 1_000))
            .collect()
    }

    #[test]
    fn epochs_that_follow_each_other_wait_longer_and_longer() {
        assert_eq!(
            paces(&[0, 100, 300, 700]),
            [(false, 100), (true, 300), (true, 700), (true, 1_500)]
        );
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.took_one(pace.not_before);
        }
        let now = pace.not_before;
        assert!(pace.took_one(now));
        assert_eq!(pace.not_before, now.after_ms(ADOPT_MS_MAX));
    }

    #[test]
    fn after_a_quiet_minute_the_next_epoch_is_the_first_again() {
        assert_eq!(
            paces(&[0, 1_000, 61_000, 61_100]),
            [(false, 100), (true, 1_200), (false, 61_100), (true, 61_300)]
        );
    }
}
