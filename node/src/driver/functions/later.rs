//! Calls that nobody waits for, while whoever wants them goes on.
//!
//! Not here: those whose caller has gone (`left`).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::driver::quic::block_on;
use crate::driver::shared::Shared;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::Error;
use crate::payload::Payload;
use crate::session::{Call, Effect};

/// So many commands' effects that nobody waits for run at once; those of the next are waited for.
const LATER_MAX: usize = 64;

/// So many calls that one command or stream does not wait for may wait to be made; it waits before it wants more.
const LINE_MAX: usize = 64;

/// Nobody is told but the log.
pub(super) fn note_failure(name: &str, result: Result<Payload, Error>) {
    if let Err(error) = result {
        tracing::warn!("an effect, {name}, failed: {error}");
    }
}

/// What a command or a stream wants called that it does not wait for: one call after the other, while it goes on.
#[derive(Debug, Default)]
pub(super) struct Later(OnceLock<Arc<Line>>);

/// Calls that stand in line.
#[derive(Debug, Default)]
struct Line {
    waiting: Mutex<Waiting>,
    has_room: Notify,
}

/// Bounded by [`LINE_MAX`], and what one message wants called on top of it.
#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Call>,
    /// A thread makes them.
    is_attended: bool,
}

impl Later {
    /// Most commands have none.
    fn line(&self) -> &Arc<Line> {
        self.0.get_or_init(Arc::default)
    }

    /// What it wants called now, in order: what it waits for, and what there is no thread to call meanwhile. The rest is called,
    /// behind what was left before.
    pub(super) async fn leave(&self, shared: &Arc<Shared>, effects: Vec<Effect>) -> Vec<Call> {
        let (awaited, later): (Vec<_>, Vec<_>) = effects.into_iter().partition(|effect| effect.awaited);
        let calls = |effects: Vec<Effect>| effects.into_iter().map(|effect| effect.call);
        let mut now: Vec<Call> = calls(awaited).collect();
        if later.is_empty() {
            return now;
        }
        // Nothing overtakes what stands in line already.
        let line = self.line();
        while line.lock().calls.len() >= LINE_MAX {
            line.has_room.notified().await;
        }
        if let Err(later) = self.begin(shared, calls(later).collect()) {
            now.extend(later);
        }
        now
    }

    /// Has calls made on a thread of their own; gives them back where too many such threads run already.
    fn begin(&self, shared: &Arc<Shared>, calls: Vec<Call>) -> Result<(), Vec<Call>> {
        let line = self.line();
        let mut waiting = line.lock();
        if !waiting.is_attended {
            let (at, line) = (Arc::clone(shared), Arc::clone(line));
            let has_begun = attend(shared, move || {
                while let Some(call) = line.next() {
                    call_now(&at, call);
                }
            });
            if !has_begun {
                return Err(calls);
            }
            waiting.is_attended = true;
        }
        waiting.calls.extend(calls);
        Ok(())
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For its thread, which goes where there is nothing.
    fn next(&self) -> Option<Call> {
        let mut waiting = self.lock();
        let next = waiting.calls.pop_front();
        waiting.is_attended = next.is_some();
        drop(waiting);
        // Whoever waits waits alone: a command says one thing after the other.
        self.has_room.notify_one();
        next
    }
}

/// Has calls made on a thread; whether there is one for it.
fn attend(shared: &Arc<Shared>, make: impl FnOnce() + Send + 'static) -> bool {
    let running = &shared.functions.later;
    if running.fetch_add(1, Ordering::SeqCst) >= LATER_MAX {
        running.fetch_sub(1, Ordering::SeqCst);
        return false;
    }
    let counted = Counted(Arc::clone(shared));
    let run = move || {
        let _counted = counted;
        make();
    };
    let thread = std::thread::Builder::new().name("anabranch-effects".into());
    if let Err(error) = thread.spawn(run) {
        tracing::warn!("no thread for effects: {error}");
        return false;
    }
    true
}

/// A thread among those that make calls, however it ends.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.functions.later.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes a call, and waits for its end.
fn call_now(shared: &Arc<Shared>, call: Call) {
    let name = call.to_string();
    note_failure(
        &name,
        block_on(shared.call_anywhere(call, None, TIMEOUT_MS_DEFAULT)),
    );
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context as Polled, Waker};

    use super::*;
    use crate::driver::functions::caller::HostCaller;
    use crate::driver::tests::{Scratch, id, within};
    use crate::function::state::PnCounter;
    use crate::function::{Caller, Context, Function};
    use crate::payload::Encoding;
    use crate::wire::Token;

    /// What nobody waits for.
    fn notes(numbers: std::ops::Range<usize>) -> Vec<Effect> {
        let effect = |number| Effect {
            call: Call::new(
                id("notes", "a"),
                "note",
                Payload::of(Encoding::Postcard, &number).unwrap(),
            ),
            awaited: false,
        };
        numbers.map(effect).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_line_that_is_full_is_waited_for_and_nothing_overtakes_what_stands_in_it() {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (noted, mut notes_made) = tokio::sync::mpsc::unbounded_channel();
        let gate = Mutex::new(gate);
        let function =
            Function::of::<PnCounter>("notes").command("note", move |_, _: &mut Context, number: usize| {
                let passed = gate.lock().map_err(|e| e.to_string())?.recv();
                passed.map_err(|e| e.to_string())?;
                noted.send(number).map_err(|e| e.to_string())
            });
        let scratch = Scratch::new();
        let node = within(scratch.builder(1).function(function).start())
            .await
            .unwrap();
        let caller = HostCaller::new(node.handle().shared(), None, Token::default());
        // One is being made, the others wait.
        within(caller.make(notes(0..LINE_MAX + 1))).await;
        let one_more = LINE_MAX + 1;
        let mut more = pin!(caller.make(notes(one_more..one_more + 1)));
        let mut polled = Polled::from_waker(Waker::noop());
        assert!(more.as_mut().poll(&mut polled).is_pending());
        for _ in 0..=one_more {
            go.send(()).unwrap();
        }
        within(more).await;
        for number in 0..=one_more {
            assert_eq!(within(notes_made.recv()).await, Some(number));
        }
    }
}
