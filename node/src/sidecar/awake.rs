//! Whether a function's process runs: it may sleep while nobody uses it, and is woken by whoever does.
//!
//! Not here: the process. Contract: it is never put to sleep under somebody who uses it, and whoever wants it while it sleeps gets it
//! once it runs, or is told that it does not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Connection, NoRoom, Room, Stay};
use crate::error::{Error, ErrorKind};

/// How long whoever wants it waits for it to wake up.
const WAKE_MAX: Duration = Duration::from_secs(60);

/// A function's connection, while there is one.
#[derive(Debug)]
pub struct Awake {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    connection: Option<Connection>,
    uses: usize,
    /// Since when nobody uses it.
    idle_since: Instant,
    /// It will not wake up any more.
    is_over: bool,
}

/// Somebody uses it as long as this is kept.
#[derive(Debug)]
pub struct Use {
    of: Arc<Awake>,
    /// Since when nobody has wanted anything by it, where that is so.
    rests_since: Option<Instant>,
}

impl Use {
    /// Something is wanted by it from now on, or no longer. An entity that is awake needs its process; but that it was is no use of it.
    pub fn rests(&mut self, rests: bool) {
        self.rests_since = rests.then(Instant::now);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let last = self.rests_since.unwrap_or_else(Instant::now);
        let mut state = self.of.lock();
        state.uses -= 1;
        state.idle_since = state.idle_since.max(last);
        drop(state);
        self.of.changed.send_replace(());
    }
}

impl Awake {
    /// It runs.
    pub fn new(connection: Connection) -> Arc<Awake> {
        Arc::new(Awake {
            state: Mutex::new(State {
                connection: Some(connection),
                uses: 0,
                idle_since: Instant::now(),
                is_over: false,
            }),
            changed: watch::Sender::new(()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its connection, if it is awake.
    pub fn now(&self) -> Option<Connection> {
        self.lock().connection.clone()
    }

    /// Room for a stream to it, once it is awake.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`]: it did not wake up, or takes no more connections. [`ErrorKind::Overloaded`]: it takes no more
    /// streams. Nothing was said to it.
    pub async fn room(self: &Arc<Self>, stay: Stay) -> Result<(Room, Use), Error> {
        let (connection, using) = self.connection().await?;
        let room = connection.room(stay).await.map_err(|why| match why {
            NoRoom::Refused(why) => {
                let message = format!("nothing changed: the function takes no more connections: {why}");
                Error::new(ErrorKind::Unreachable, message)
            }
            NoRoom::Full(streams) => {
                let message = format!(
                    "nothing changed: the function's server takes no more streams: {streams} are open, for entities that are awake and \
                     for calls; retry later"
                );
                Error::new(ErrorKind::Overloaded, message)
            }
        })?;
        Ok((room, using))
    }

    async fn connection(self: &Arc<Self>) -> Result<(Connection, Use), Error> {
        let mut changed = self.changed.subscribe();
        self.lock().uses += 1;
        let using = Use {
            of: Arc::clone(self),
            rests_since: None,
        };
        self.changed.send_replace(());
        let waking = async {
            loop {
                let (connection, is_over) = {
                    let state = self.lock();
                    (state.connection.clone(), state.is_over)
                };
                match connection {
                    Some(connection) => return Some(connection),
                    None if is_over || changed.changed().await.is_err() => return None,
                    None => {}
                }
            }
        };
        match timeout(WAKE_MAX, waking).await {
            Ok(Some(connection)) => Ok((connection, using)),
            _ => {
                let message = "nothing changed: the function was stopped while nobody used it, and has not started again";
                Err(Error::new(ErrorKind::Unreachable, message))
            }
        }
    }

    /// Waits until nobody has used it for so long, and takes its connection away: it is to sleep then.
    pub async fn idle(&self, after: Duration) {
        let mut changed = self.changed.subscribe();
        loop {
            let until = {
                let mut state = self.lock();
                let until = state.idle_since + after;
                if state.uses == 0 && until <= Instant::now() {
                    state.connection = None;
                    return;
                }
                (state.uses == 0).then_some(until)
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
            }
        }
    }

    /// Waits until somebody wants it.
    pub async fn wanted(&self) {
        let mut changed = self.changed.subscribe();
        while self.lock().uses == 0 {
            // It is here as long as somebody waits.
            let _ = changed.changed().await;
        }
    }

    /// It runs again.
    pub fn woken(&self, connection: Connection) {
        self.lock().connection = Some(connection);
        self.changed.send_replace(());
    }

    /// It is gone: whoever waits for it waits in vain.
    pub fn over(&self) {
        self.lock().is_over = true;
        self.changed.send_replace(());
    }
}
