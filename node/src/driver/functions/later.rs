//! Calls that nobody waits for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use crate::driver::quic::block_on;
use crate::driver::shared::Shared;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::Error;
use crate::payload::Payload;
use crate::session::{Call, Effect};

/// So many commands' effects that nobody waits for run at once; those of the next are waited for.
const LATER_MAX: usize = 64;

/// Streams that have ended and want calls made wait for such a thread; so many at most, and what comes on top is not done.
const AT_END_QUEUE_MAX: usize = 100_000;

/// Nobody is told but the log.
pub(super) fn note_failure(name: &str, result: Result<Payload, Error>) {
    if let Err(error) = result {
        tracing::warn!("an effect, {name}, failed: {error}");
    }
}

/// What a command wants called now, in order: what it waits for, and what there is no room to call meanwhile. The rest is called.
pub(super) fn leave_later(shared: &Arc<Shared>, effects: Vec<Effect>) -> Vec<Call> {
    let (awaited, later): (Vec<_>, Vec<_>) = effects.into_iter().partition(|effect| effect.awaited);
    let calls = |effects: Vec<Effect>| effects.into_iter().map(|effect| effect.call);
    let mut now: Vec<Call> = calls(awaited).collect();
    if !later.is_empty()
        && let Err(later) = call_later(shared, calls(later).collect())
    {
        now.extend(later);
    }
    now
}

/// Makes calls, one after the other, on a thread of their own; gives them back where too many do so already.
pub(super) fn call_later(shared: &Arc<Shared>, calls: Vec<Call>) -> Result<(), Vec<Call>> {
    let running = &shared.functions.later;
    if running.fetch_add(1, Ordering::SeqCst) >= LATER_MAX {
        running.fetch_sub(1, Ordering::SeqCst);
        return Err(calls);
    }
    let (hand_over, taken) = mpsc::channel::<Call>();
    let at = Arc::clone(shared);
    let run = move || {
        for call in taken {
            call_now(&at, call);
        }
        drain_at_end(&at);
    };
    let thread = std::thread::Builder::new().name("anabranch-effects".into());
    if let Err(error) = thread.spawn(run) {
        tracing::warn!("no thread for effects: {error}");
        running.fetch_sub(1, Ordering::SeqCst);
        return Err(calls);
    }
    for call in calls {
        // It takes them all before it ends.
        let _ = hand_over.send(call);
    }
    Ok(())
}

fn call_now(shared: &Arc<Shared>, call: Call) {
    let name = call.to_string();
    note_failure(
        &name,
        block_on(shared.call_anywhere(call, None, TIMEOUT_MS_DEFAULT)),
    );
}

/// Makes the calls that a stream wanted at its end, on a thread that does such things: one that is free, or the next that will be.
pub(super) fn call_at_end(shared: &Arc<Shared>, calls: Vec<Call>) {
    if calls.is_empty() || shared.has_stopped() {
        return;
    }
    let mut queue = shared.functions.at_end();
    if queue.len() >= AT_END_QUEUE_MAX {
        drop(queue);
        return tracing::error!(
            "{} calls at a stream's end are not made: too many wait",
            calls.len()
        );
    }
    // All of a stream in one: they are made in order.
    queue.push_back(calls);
    drop(queue);
    // Where there are as many threads as may be, one of them comes by: it looks after it has stopped being counted, too.
    let _ = call_later(shared, Vec::new());
}

/// The last thing that a thread does that makes calls nobody waits for.
fn drain_at_end(shared: &Arc<Shared>) {
    let functions = &shared.functions;
    loop {
        let next = functions.at_end().pop_front();
        match next {
            Some(calls) => calls.into_iter().for_each(|call| call_now(shared, call)),
            None => {
                functions.later.fetch_sub(1, Ordering::SeqCst);
                // What was queued meanwhile may have found no place for a thread.
                if functions.at_end().is_empty() {
                    return;
                }
                if functions.later.fetch_add(1, Ordering::SeqCst) >= LATER_MAX {
                    functions.later.fetch_sub(1, Ordering::SeqCst);
                    return;
                }
            }
        }
    }
}
