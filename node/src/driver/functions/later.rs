//! Calls that nobody waits for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use crate::driver::quic::block_on;
use crate::driver::shared::Shared;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::Error;
use crate::payload::Payload;
use crate::session::Call;

/// So many commands' effects that nobody waits for run at once; those of the next are waited for.
const LATER_MAX: usize = 64;

/// Nobody is told but the log.
pub(super) fn note_failure(name: &str, result: Result<Payload, Error>) {
    if let Err(error) = result {
        tracing::warn!("an effect, {name}, failed: {error}");
    }
}

/// Makes calls, one after the other, on a thread of their own; gives them back where too many do so already.
pub(super) fn call_later(shared: &Arc<Shared>, calls: Vec<Call>) -> Result<(), Vec<Call>> {
    let running = &shared.functions.later;
    if running.fetch_add(1, Ordering::Relaxed) >= LATER_MAX {
        running.fetch_sub(1, Ordering::Relaxed);
        return Err(calls);
    }
    let (hand_over, taken) = mpsc::channel::<Call>();
    let at = Arc::clone(shared);
    let run = move || {
        for call in taken {
            let name = call.to_string();
            note_failure(&name, block_on(at.call(call, None, TIMEOUT_MS_DEFAULT)));
        }
        at.functions.later.fetch_sub(1, Ordering::Relaxed);
    };
    let thread = std::thread::Builder::new().name("anabranch-effects".into());
    if let Err(error) = thread.spawn(run) {
        tracing::warn!("no thread for effects: {error}");
        running.fetch_sub(1, Ordering::Relaxed);
        return Err(calls);
    }
    for call in calls {
        // It takes them all before it ends.
        let _ = hand_over.send(call);
    }
    Ok(())
}
