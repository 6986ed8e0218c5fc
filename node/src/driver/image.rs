//! A snapshot on its way to the disk, on a thread of its own: the writer goes on with its commits meanwhile.
//!
//! Not here: when one is due, and what becomes of the log (`writer`). Contract: whoever drops it has no thread left that
//! touches the directory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use crate::engine::FrozenImage;
use crate::error::Error;
use crate::store::{Disk, SnapshotJob, StoreError, WrittenSnapshot};

use super::shared::{Shared, broken};
use super::start::guarded;

/// What became of a snapshot.
pub(super) type Written = Result<WrittenSnapshot, StoreError>;

/// A snapshot that is being written.
pub(super) struct Image {
    thread: Option<JoinHandle<()>>,
    written: Receiver<Result<Written, Error>>,
    given_up: Arc<AtomicBool>,
}

impl Image {
    /// Begins to write it. The writer is woken when that is over.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn begin<D: Disk + Send + Sync + 'static>(
        job: SnapshotJob<D>,
        frozen: FrozenImage,
        shared: Arc<Shared>,
    ) -> io::Result<Image> {
        let given_up = Arc::new(AtomicBool::new(false));
        let (sender, written) = sync_channel(1);
        let stop = Arc::clone(&given_up);
        let run = move || {
            // There is room for the one answer, and whoever waits for none is gone.
            let _ = sender.send(guarded(|| Ok(write(job, frozen, &stop))));
            shared.queue.nudge();
        };
        let thread = thread::Builder::new().name("anabranch-image".into()).spawn(run)?;
        Ok(Image {
            thread: Some(thread),
            written,
            given_up,
        })
    }

    /// What became of it, if it is over. An error: it panicked.
    pub(super) fn poll(&self) -> Option<Result<Written, Error>> {
        match self.written.try_recv() {
            Ok(written) => Some(written),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(broken())),
        }
    }

    /// Has it given up, and waits for that; it may have become whole meanwhile.
    pub(super) fn give_up(self) -> Result<Written, Error> {
        self.given_up.store(true, Ordering::Relaxed);
        self.written.recv().unwrap_or_else(|_| Err(broken()))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has logged its own panic.
            let _ = thread.join();
        }
    }
}

fn write<D: Disk>(job: SnapshotJob<D>, frozen: FrozenImage, given_up: &AtomicBool) -> Written {
    let (mut count, mut bytes) = (0_u64, 0);
    let mut blocks = frozen.blocks().inspect(|block| {
        count += 1;
        bytes += block.len();
    });
    let written = job.write(&mut blocks, given_up)?;
    drop(blocks);
    tracing::info!(blocks = count, bytes, "snapshot written");
    Ok(written)
}
