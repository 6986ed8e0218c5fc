//! What all threads of one node share: the engine's cell, the queue to the writer, the watchers, the network.
//!
//! Lock order: the cell first; below it, and never held while taking it, the queue, the watchers and whatever the
//! network locks for itself. Above it there is only what was measured ([`sizes`](super::sizes)).

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId, Reading, Type};
use tokio::sync::watch;

use crate::engine::{Answer, Engine, Input, Read, RequestId, Update};
use crate::error::{Changed, Error, ErrorKind};
use crate::view::View;
use crate::wire::{DirectoryId, EntityId, Token};

use super::DiskState;
use super::calls::Calls;
use super::cell::{After, Cell, Submitted};
use super::clock::Clock;
use super::functions::Functions;
use super::network::Network;
use super::queue::{Closing, Queue};
use super::served::Served;
use super::sizes::Sizes;
use super::triggers::Triggers;
use super::watchers::Watchers;

/// What does not change while a node runs.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) directory: DirectoryId,
    pub(crate) path: PathBuf,
    pub(crate) shards: u32,
}

/// How far a node's life has come.
#[derive(Clone, Debug)]
enum Life {
    Running,
    /// Everything is closed: files, sockets, threads.
    Stopped {
        result: Result<(), Error>,
        /// The others were told that it does not come back.
        has_left: bool,
    },
}

/// One node's shared state.
pub(crate) struct Shared {
    pub(crate) about: About,
    pub(super) clock: Clock,
    pub(super) cell: Mutex<Cell>,
    /// Wakes the timer thread; waits on the cell.
    pub(super) timer: Condvar,
    pub(super) queue: Queue,
    pub(super) watchers: Watchers,
    pub(crate) functions: Functions,
    pub(super) calls: Calls,
    pub(super) served: Served,
    pub(super) triggers: Triggers,
    pub(super) sizes: Sizes,
    network: OnceLock<Arc<dyn Network>>,
    epoch: AtomicU64,
    disk: Mutex<DiskState>,
    /// Why the last snapshot that was tried has failed.
    snapshot_error: Mutex<Option<String>>,
    ready: watch::Sender<bool>,
    /// Set whenever who is there may be others than before.
    live: watch::Sender<()>,
    life: watch::Sender<Life>,
}

impl Shared {
    pub(super) fn new(
        about: About,
        clock: Clock,
        cell: Cell,
        epoch: Epoch,
        functions: Functions,
        triggers: Triggers,
    ) -> Shared {
        Shared {
            about,
            clock,
            cell: Mutex::new(cell),
            timer: Condvar::new(),
            queue: Queue::default(),
            watchers: Watchers::default(),
            functions,
            calls: Calls::new(),
            served: Served::new(),
            triggers,
            sizes: Sizes::default(),
            network: OnceLock::new(),
            epoch: AtomicU64::new(epoch.0),
            disk: Mutex::new(DiskState::Fine),
            snapshot_error: Mutex::default(),
            ready: watch::Sender::new(false),
            live: watch::Sender::new(()),
            life: watch::Sender::new(Life::Running),
        }
    }

    // Inputs.

    /// One input to the engine and all that follows from it. An error means that the engine broke earlier: the node
    /// is stopping, and nothing has happened.
    pub(super) fn step(&self, input: Input) -> Result<(), Error> {
        let after = self.with_cell(|cell| cell.step(self, input))?;
        self.finish(after);
        Ok(())
    }

    /// Makes an update and waits for its answer. Dropping the future does not undo it.
    pub(crate) async fn update(&self, update: Update) -> Result<Answer, Error> {
        let is_keyed = update.key.is_some();
        let made = self.ask(|request| Input::Submit { request, update }).await;
        made.map_err(|error| if is_keyed { error.keyed() } else { error })
    }

    /// Makes an update, and waits for nothing.
    pub(super) fn submit(&self, update: Update) {
        let input = |request, _| Input::Submit { request, update };
        // After a bug broke the engine the node stops, and nobody is waiting for this.
        if let Ok((_, after)) = self.with_cell(|cell| cell.submit(self, input)) {
            self.finish(after);
        }
    }

    /// Waits until what a session has seen is here.
    pub(crate) async fn await_read(&self, read: Read) -> Result<Answer, Error> {
        self.ask(|request| Input::Read { request, read }).await
    }

    /// Waits until what a session has seen of an entity is here.
    pub(super) async fn await_seen(
        &self,
        entity: &EntityId,
        seen: &Token,
        timeout_ms: u64,
    ) -> Result<(), Error> {
        let read = Read {
            entities: vec![entity.clone()],
            all: false,
            after: seen.clone(),
            majority: false,
            timeout_ms,
        };
        self.await_read(read).await.map(|_| ())
    }

    async fn ask(&self, input: impl FnOnce(RequestId) -> Input) -> Result<Answer, Error> {
        let (submitted, after) = self.with_cell(|cell| cell.submit(self, |request, _| input(request)))?;
        self.finish(after);
        match submitted {
            Submitted::Done(outcome) => outcome,
            Submitted::Waiting(answer) => answer.await.unwrap_or_else(|_| Err(unanswered(&Err(broken())))),
        }
    }

    /// Runs with the engine locked. Whoever panics in there stops the node: its engine may be half-way through a
    /// change.
    pub(super) fn with_cell<R>(&self, f: impl FnOnce(&mut Cell) -> R) -> Result<R, Error> {
        let _watch = self.panic_watch();
        match self.cell.lock() {
            Ok(mut cell) => Ok(f(&mut cell)),
            Err(_) => Err(broken()),
        }
    }

    /// What a step left to do without the lock.
    pub(super) fn finish(&self, after: After) {
        if after.wake_writer {
            self.queue.wake();
        }
        if after.wake_timer {
            self.timer.notify_one();
        }
        for (sender, outcome) in after.done {
            // The caller may have gone away; the update stands.
            let _ = sender.send(outcome);
        }
        if !after.changed.is_empty() {
            self.watchers.changed(&after.changed);
        }
        if after.handed_over {
            self.queue.nudge();
        }
        if after.became_ready {
            self.ready.send_replace(true);
            self.triggers.look_around();
        }
    }

    /// Stops the node if the current thread panics before the guard is dropped.
    pub(super) fn panic_watch(&self) -> PanicWatch<'_> {
        PanicWatch {
            shared: self,
            panicking: std::thread::panicking(),
        }
    }

    // Views.

    /// Looks at the engine. After a bug broke it, what it last held is still readable.
    pub(crate) fn peek<R>(&self, f: impl FnOnce(&Engine) -> R) -> R {
        f(&self.cell.lock().unwrap_or_else(PoisonError::into_inner).engine)
    }

    /// An entity for a function that is about to change it.
    pub(super) fn view_to_change(&self, entity: &EntityId, ty: Type) -> Result<View, Error> {
        let cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
        cell.view_to_change(entity, ty)
    }

    pub(crate) fn read(&self, entity: &EntityId) -> Option<(Type, Reading)> {
        self.peek(|engine| engine.read(entity))
    }

    /// Whether writes are taken, and will be when the first peer is met: not once the node stops.
    pub(crate) fn is_ready(&self) -> bool {
        self.cell
            .lock()
            .is_ok_and(|cell| cell.refusing.is_none() && cell.is_ready())
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    pub(super) fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Ordering::Release);
    }

    pub(crate) fn disk(&self) -> DiskState {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_disk(&self, state: DiskState) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Why the last snapshot that was tried has failed; none where it has not, or there was none.
    pub(crate) fn snapshot_error(&self) -> Option<String> {
        let why = self.snapshot_error.lock();
        why.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_snapshot_error(&self, why: Option<String>) {
        *self.snapshot_error.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Bytes of the log's files; 0 where the directory cannot be listed.
    pub(crate) fn log_bytes(&self) -> u64 {
        let Ok(files) = std::fs::read_dir(&self.about.path) else {
            return 0;
        };
        let segments = files
            .flatten()
            .filter(|file| file.file_name().as_encoded_bytes().starts_with(b"log-"));
        segments
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    }

    /// The network.
    pub(crate) fn network(&self) -> &Arc<dyn Network> {
        let Some(network) = self.network.get() else {
            unreachable!("it is set before anything is handled")
        };
        network
    }

    pub(super) fn set_network(&self, network: Arc<dyn Network>) {
        assert!(self.network.set(network).is_ok(), "a node has one network");
    }

    /// Resolves once writes are taken, or the node has stopped.
    pub(crate) async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        tokio::select! {
            _ = ready.wait_for(|ready| *ready) => {}
            _ = self.stopped() => {}
        }
    }

    // Watching.

    /// Who is there may be others than before.
    pub(super) fn live_changed(&self) {
        self.live.send_replace(());
        self.triggers.look_around();
    }

    /// A mark that is set whenever that is so from now on.
    pub(super) fn watch_live(&self) -> watch::Receiver<()> {
        self.live.subscribe()
    }

    pub(crate) fn subscribe(&self, entity: &EntityId) -> Option<watch::Receiver<()>> {
        self.watchers.subscribe(entity)
    }

    pub(crate) fn unsubscribe(&self, entity: &EntityId, receiver: watch::Receiver<()>) {
        self.watchers.unsubscribe(entity, receiver);
    }

    // The end.

    /// The connected peers that are not known to have all that this node has. While there are some, the writer is nudged once
    /// there are none.
    pub(super) fn lacking(&self) -> Result<Vec<NodeId>, Error> {
        self.with_cell(|cell| {
            let held = cell.held.get_or_insert_with(|| cell.engine.holdings());
            let lacking: Vec<NodeId> = cell.engine.lacking(held).collect();
            cell.handing_over = !lacking.is_empty();
            lacking
        })
    }

    /// Orders the stop and returns at once; [`Shared::stopped`] tells when it is done. `leaving`: the node does not come back, and
    /// waits so long at most until its peers have what it has; ordered again, it waits no longer than the shorter.
    pub(crate) fn stop(&self, leaving: Option<Duration>) {
        self.refuse(None);
        let leaving = leaving.map(|within| {
            let ms = within.as_millis().try_into().unwrap_or(u64::MAX);
            self.clock.now().time.after_ms(ms)
        });
        self.queue.close(Closing { error: None, leaving });
    }

    /// Whether no further update is taken.
    pub(crate) fn is_stopping(&self) -> bool {
        self.with_cell(|cell| cell.refusing.is_some()).unwrap_or(true)
    }

    /// No further update is taken. The first reason stands.
    pub(super) fn refuse(&self, reason: Option<&Error>) {
        let mut cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
        cell.refusing
            .get_or_insert_with(|| reason.cloned().unwrap_or_else(stopping));
    }

    /// Ends the timer thread.
    pub(super) fn stop_timer(&self) {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.timer.notify_one();
    }

    /// Whether everything is closed.
    pub(super) fn has_stopped(&self) -> bool {
        matches!(*self.life.borrow(), Life::Stopped { .. })
    }

    /// Resolves when everything is closed; with the error if the node stopped because of one.
    pub(crate) async fn stopped(&self) -> Result<(), Error> {
        let mut life = self.life.subscribe();
        match life
            .wait_for(|life| matches!(life, Life::Stopped { .. }))
            .await
            .as_deref()
        {
            Ok(Life::Stopped { result, .. }) => result.clone(),
            _ => unreachable!("the sender lives as long as this borrow of its owner"),
        }
    }

    /// The same for who had the node leave: an error also if it had stopped, or had begun to, before it was told.
    pub(crate) async fn left(&self) -> Result<(), Error> {
        self.stopped().await?;
        match *self.life.borrow() {
            Life::Stopped { has_left: false, .. } => Err(Error::new(
                ErrorKind::Stopping,
                "the node had been stopped before, and has not left: the others still count it as a member. Start it again on the \
                 same directory, and have it leave then",
            )),
            _ => Ok(()),
        }
    }

    /// Last act of the writer thread: nobody waits in vain. `left`: what is to be said to who had the node leave, though it
    /// stopped well.
    pub(super) fn end(&self, result: Result<(), Error>, has_left: bool, left: Option<Error>) {
        let (waiting, unmade) = {
            let mut cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
            cell.refusing = Some(result.clone().err().unwrap_or_else(stopping));
            (std::mem::take(&mut cell.waiting), cell.engine.unmade())
        };
        for (request, sender) in waiting {
            let error = match unmade.contains(&request) {
                true => unmade_at_end(&result),
                false => unanswered(&result),
            };
            let _ = sender.send(Err(error));
        }
        self.watchers.close();
        self.functions.end();
        self.calls.end();
        let result = result.and(left.map_or(Ok(()), Err));
        self.life.send_replace(Life::Stopped { result, has_left });
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}

/// See [`Shared::panic_watch`].
pub(super) struct PanicWatch<'a> {
    shared: &'a Shared,
    panicking: bool,
}

impl Drop for PanicWatch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.panicking {
            self.shared.queue.close(Closing {
                error: Some(broken()),
                leaving: None,
            });
        }
    }
}

/// What a caller is told once the engine has panicked.
pub(super) fn broken() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the node's engine stopped because of a bug in Anabranch; the log above has the panic, please report it. \
         What was acknowledged durable is on disk: restart the node",
    )
}

fn stopping() -> Error {
    Error::new(
        ErrorKind::Stopping,
        "this node is stopping and nothing was changed; retry at another node",
    )
}

/// What a caller is told who only read, or whose update still waited for what its session has seen.
fn unmade_at_end(result: &Result<(), Error>) -> Error {
    match result {
        Ok(()) => stopping(),
        Err(error) => {
            let message = format!(
                "nothing changed: the node stopped before what was asked for was begun; retry at another node. Why it \
                 stopped: {error}"
            );
            Error::new(ErrorKind::Stopping, message)
        }
    }
}

/// What a caller is told whose update was accepted but not answered before the node stopped.
pub(super) fn unanswered(result: &Result<(), Error>) -> Error {
    match result {
        Ok(()) => Error::new(
            ErrorKind::Unconfirmed,
            "accepted and durable here, but the node stopped before enough other copies confirmed; it goes on \
             replicating once the node is started again",
        ),
        Err(error) => {
            // Never one that says that nothing changed.
            let kind = match error.kind() {
                kind @ (ErrorKind::DiskFull
                | ErrorKind::InUse
                | ErrorKind::Internal
                | ErrorKind::Io
                | ErrorKind::Poisoned) => kind,
                _ => ErrorKind::Unconfirmed,
            };
            let message = format!(
                "accepted here, but the node stopped before it could answer: the outcome is unknown. Retry only with the \
                 idempotency key the update had, once the node is started again. Why it stopped: {error}"
            );
            Error::new(kind, message).with_changed(Changed::Unknown)
        }
    }
}
