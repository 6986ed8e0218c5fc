//! Functions in other processes, behind gRPC: what they are is found out by asking them, and their callers are served by an
//! ingress in front of the node.
//!
//! Not here: the rules of an entity's dealings with its function (`session`), how a command reaches it (`driver`), and who starts
//! its process (`daemon`). A dialect only translates.
//!
//! Contract: a function is served once all of what it said of itself was checked, and until its connection ends. What is wrong with
//! it is said to its author, at once and whole.

mod author;
mod awake;
mod connection;
mod datum;
mod delta;
mod dialect;
mod discovery;
mod envelope;
mod failure;
mod function;
mod ingress;
mod key;
mod lane;
pub mod media;
mod options;
mod pool;
mod problem;
mod proto;
#[cfg(test)]
mod protos;
mod pulse;
mod read;
mod reflection;
mod resets;
mod scan;
mod services;
mod shown;
mod status;
mod taken;
pub mod trace_context;
mod transcode;
mod untouched;
mod wire_check;
mod word;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use self::discovery::is_function;
use self::discovery::{Discovering, Serving};
use self::ingress::Ingress;
pub use self::ingress::{Requests, Tls};
use crate::error::{Error, ErrorKind};
use crate::function::BoxFuture;
use crate::node::Node;

/// The header in which a request says what its session has seen, and its answer what it has seen then.
pub const SESSION_HEADER: &str = "anabranch-session";

/// The header in which a request says how long its caller waits, milliseconds.
pub const TIMEOUT_HEADER: &str = "anabranch-timeout-ms";

/// A function, and who may call it where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the function is.
    pub function: Place,
    /// Whether it is being developed.
    pub dev: bool,
    /// What becomes of its entities.
    pub terms: EntityTerms,
    /// A message's bytes at most.
    pub message_bytes_max: usize,
    /// Connections to the ingress at a time, at most.
    pub connections_max: usize,
    /// What callers' connections are encrypted with, if they are.
    pub tls: Option<Tls>,
    /// Origins, in lower case, whose pages may call; `*`: all.
    pub origins: Vec<String>,
    /// Of traces that begin with a call here, how many are recorded: 0 to 1.
    pub sample: f64,
    /// Where it is a process of ours that is to sleep when nobody has used it for so long.
    pub idle_stop: Option<Duration>,
    /// Where to say what whoever started the function should know.
    pub remarks: mpsc::Sender<String>,
}

/// What becomes of a function's entities.
#[derive(Clone, Copy, Debug, Default)]
pub struct EntityTerms {
    /// Whether one that it deletes cannot be made again.
    pub deletes_for_good: bool,
    /// Whether what it believes of one is right after it has failed a command; otherwise it is given that anew.
    pub trusts_failures: bool,
    /// After how long without a command they are passivated at the latest, if that is not up to the function alone.
    pub idle_max: Option<Duration>,
}

/// Where a function is.
#[derive(Clone, Debug)]
pub enum Place {
    /// HOST:PORT.
    At(String),
    /// A process that is looked after here.
    Process(Arc<dyn Process>),
}

impl Place {
    /// HOST:PORT, as it is now.
    fn address(&self) -> String {
        match self {
            Place::At(address) => address.clone(),
            Place::Process(process) => process.address().to_string(),
        }
    }
}

/// A function's process, for whoever lets it sleep and wakes it.
pub trait Process: Send + Sync + std::fmt::Debug {
    /// Where it listens, or is to.
    fn address(&self) -> SocketAddr;

    /// Ends it; returns once nothing of it runs.
    fn sleep(&self) -> BoxFuture<'_, ()>;

    /// Starts it; returns once it listens.
    ///
    /// # Errors
    /// It cannot be started.
    fn wake(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A node's function and its ingress, while they are looked after.
#[derive(Debug)]
pub struct Sidecar {
    serving: watch::Receiver<Serving>,
    stop_ingress: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    discovering: JoinHandle<()>,
    ingress: Ingress,
}

impl Sidecar {
    /// Looks for the function from now on, and serves it on this listener.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]: the listener cannot be used. Nothing was started.
    pub fn start(node: Node, config: Config, listener: TcpListener) -> Result<Sidecar, Error> {
        let failed = |e: std::io::Error| Error::new(ErrorKind::Io, format!("the ingress: {e}"));
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let (stop_ingress, no_more_calls) = watch::channel(false);
        let (publish, serving) = watch::channel(Serving::default());
        let serving = until_stopped(serving, no_more_calls.clone());
        let ingress = Ingress::start(listener, node.clone(), &config, serving.clone(), no_more_calls);
        let discovering = Discovering {
            expected: Mutex::new(Some(node.expect_foreign())),
            node,
            function: config.function,
            dev: config.dev,
            terms: config.terms,
            idle_stop: config.idle_stop,
            ingress: address,
            remarks: config.remarks,
            last: Mutex::default(),
            publish,
            stopped,
        };
        Ok(Sidecar {
            serving,
            stop_ingress,
            stop,
            discovering: tokio::spawn(discovering.run()),
            ingress: ingress.map_err(failed)?,
        })
    }

    /// Where callers are served.
    pub fn address(&self) -> SocketAddr {
        self.ingress.address()
    }

    /// Waits until a function is served of which something else is to be said than before, which is nothing at first; what people may
    /// want to know of it.
    pub async fn discovered(&self, before: &[String]) -> Vec<String> {
        let mut serving = self.serving.clone();
        let says = |serving: &Serving| serving.describe(self.ingress.scheme(), self.address());
        let found = serving.wait_for(|serving| serving.is_here && says(serving) != before);
        match found.await {
            Ok(serving) => says(&serving),
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether a function was found, for whoever asks.
    pub fn discovery(&self) -> Discovery {
        Discovery(self.serving.clone())
    }

    /// What was asked at the ingress.
    pub fn requests(&self) -> Arc<Requests> {
        self.ingress.requests()
    }

    /// Takes no more calls, ends those under way, and tells the function so.
    pub async fn stop(self) {
        self.stop_ingress.send_replace(true);
        self.ingress.stop().await;
        self.stop.send_replace(true);
        // It ends by itself once the function was told.
        let _ = self.discovering.await;
    }
}

/// Why callers are refused as long as nothing was found.
pub const UNDISCOVERED: &str = "no function was discovered yet";

/// Whether a function was found since the start.
#[derive(Clone, Debug)]
pub struct Discovery(watch::Receiver<Serving>);

impl Discovery {
    /// Why every caller is refused, if there was none. One that was there and is away is no reason: other nodes may have it.
    pub fn missing(&self) -> Option<&'static str> {
        let serving = self.0.borrow();
        match (&serving.services, serving.is_refused) {
            (Some(_), _) => None,
            (None, false) => Some(UNDISCOVERED),
            (None, true) => Some("the function that is there cannot be served: its author was told why"),
        }
    }
}

/// What is served, for whoever serves it.
type Served = Arc<services::Services>;

/// What is served, for callers: nothing is here any more once they are to go elsewhere.
fn until_stopped(
    mut serving: watch::Receiver<Serving>,
    mut stopped: watch::Receiver<bool>,
) -> watch::Receiver<Serving> {
    let (publish, shown) = watch::channel(serving.borrow_and_update().clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = serving.changed() => match changed {
                    Ok(()) => {
                        let now = serving.borrow_and_update().clone();
                        let was_here = publish.send_replace(now.clone()).is_here;
                        if now.is_here && !was_here {
                            tracing::info!(services = now.count(), "discovered");
                        }
                    }
                    Err(_) => break,
                },
                () = told(&mut stopped) => break,
            }
        }
        publish.send_modify(|serving| serving.is_here = false);
    });
    shown
}

/// Resolves once it is time to stop.
async fn told(stopped: &mut watch::Receiver<bool>) {
    // Nobody is left who could say so: that is the end, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
