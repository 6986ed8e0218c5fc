//! The thread that tells the engine when time has passed.
//!
//! It waits on a condition variable of the engine's own lock, so that no earlier wake-up is ever missed: whoever makes
//! the engine want one says so before releasing the lock.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Input, Time};

use super::clock::until;
use super::shared::Shared;

/// Longest sleep when the engine wants nothing.
const IDLE_SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Runs until the node stops or its engine breaks.
pub(super) fn run(shared: &Arc<Shared>) {
    let _watch = shared.panic_watch();
    let Ok(mut cell) = shared.cell.lock() else { return };
    while !cell.stopped {
        let now = shared.clock.now().time;
        if cell.functions_at.take_if(|at| *at <= now).is_some() {
            drop(cell);
            let again = shared.wake_due();
            let Ok(back) = shared.cell.lock() else { return };
            cell = back;
            if let Some(at) = again {
                let _ = cell.want_functions_woken(at);
            }
            continue;
        }
        let next = cell.engine.next_wakeup();
        if next.is_some_and(|at| at <= now) {
            let after = cell.step(shared, Input::Wakeup);
            drop(cell);
            shared.finish(after);
            let Ok(again) = shared.cell.lock() else { return };
            cell = again;
            continue;
        }
        let next = next.into_iter().chain(cell.functions_at).min();
        cell.timer_at = next.unwrap_or(Time(u64::MAX));
        let sleep = next.map_or(IDLE_SLEEP_MAX, |at| until(now, at).min(IDLE_SLEEP_MAX));
        let Ok((back, _)) = shared.timer.wait_timeout(cell, sleep) else {
            return;
        };
        cell = back;
        cell.timer_at = Time(0);
    }
}
