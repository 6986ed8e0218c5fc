//! Where a function's output goes: the node's stderr with the node's name in front, or, under `dev`, the node's stdout as news.
//!
//! Contract: lines keep their order, and are dropped only where nobody reads them at the node's end. A reader that is slow
//! holds up who writes, and so the function, as a terminal does; never the node.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::daemon::api::NodeNews;
use crate::daemon::output;

/// Lines on their way.
const LINES_MAX: usize = 64;
/// How long the last lines may take at the node's end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// A way out for lines.
#[derive(Clone)]
pub struct Outlet {
    lines: mpsc::Sender<NodeNews>,
}

/// Its end, for whoever closes it.
pub struct Drain(oneshot::Receiver<()>);

impl Outlet {
    /// To people, with this name in front.
    pub fn to_people(name: &str) -> (Outlet, Drain) {
        let name = name.to_string();
        Outlet::start(move |news| {
            if let NodeNews::Function { line } = news {
                output::note_as(&name, &line);
            }
        })
    }

    /// To the `dev` that started the node.
    pub fn to_dev() -> (Outlet, Drain) {
        Outlet::start(|news| {
            // It may be gone: its end is heard of by stdin.
            let _ = output::object(&news);
        })
    }

    /// A thread of its own: a write that nobody reads waits for ever.
    pub(super) fn start(write: impl Fn(NodeNews) + Send + 'static) -> (Outlet, Drain) {
        let (lines, mut waiting) = mpsc::channel(LINES_MAX);
        let (done, drained) = oneshot::channel();
        std::thread::spawn(move || {
            while let Some(news) = waiting.blocking_recv() {
                write(news);
            }
            let _ = done.send(());
        });
        (Outlet { lines }, Drain(drained))
    }

    /// Says one line of the function's, or about it.
    pub async fn line(&self, line: impl Into<String>) {
        self.say(NodeNews::Function { line: line.into() }).await;
    }

    /// Says something to `dev`.
    pub async fn say(&self, news: NodeNews) {
        // The thread ends only with this process.
        let _ = self.lines.send(news).await;
    }
}

impl Drain {
    /// Waits until what was said is written; every outlet must have been dropped.
    pub async fn done(self) {
        let _ = timeout(END_TIMEOUT, self.0).await;
    }
}
