//! What stands beside a node for a function in another process: its process, if the node runs it, and the sidecar that asks it and
//! takes its callers.
//!
//! Not here: how a process is looked after (`process`), what is asked (`sidecar`).
//!
//! Contract: the sidecar says farewell before the process is told to end.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::config::{Deletion, FunctionAt, FunctionConfig};
use super::exit::Failure;
use super::ports;
use super::process::{self, Outlet, Probe, Settings, Supervisor};
use crate::error::Error;
use crate::function::BoxFuture;
use crate::node::Node;
use crate::sidecar::{self, Discovery, Place, Sidecar, Tls};

/// Remarks on a function that wait to be said.
const REMARKS_MAX: usize = 16;

/// A function that is served.
pub struct Serving {
    sidecar: Sidecar,
    process: Option<Supervisor>,
    ingress: SocketAddr,
    tls: Option<Tls>,
    /// Where its command is configured.
    place: String,
}

impl Serving {
    /// Starts its process, if there is one to start, and looks for it. Of the traces that begin with its callers so many are recorded,
    /// 0 to 1.
    pub async fn start(
        node: &Node,
        function: &FunctionConfig,
        sample: f64,
        listener: TcpListener,
        dev: bool,
        outlet: Outlet,
    ) -> Result<Serving, Failure> {
        let ingress = listener
            .local_addr()
            .map_err(|e| Failure::io(&function.ingress.place, &e))?;
        let said = outlet.clone();
        let (place, process) = match &function.at {
            FunctionAt::Address(address) => (Place::At(address.clone()), None),
            FunctionAt::Command(command) => {
                let port = match command.port {
                    Some(port) => port,
                    None => ports::take_one()?,
                };
                let settings = Settings {
                    command: command.command.clone(),
                    directory: command.directory.clone(),
                    port,
                };
                let probe: Probe =
                    Arc::new(move |address| Box::pin(sidecar::is_function(address, dev, ingress)));
                let process = Supervisor::start(settings, outlet, probe)?;
                (Place::Process(Arc::new(Beside(process.handle()))), Some(process))
            }
        };
        let tls = function.ingress.tls()?;
        let (remarks, mut remarked) = mpsc::channel::<String>(REMARKS_MAX);
        tokio::spawn(async move {
            while let Some(remark) = remarked.recv().await {
                said.line(format!("({remark})")).await;
            }
        });
        let config = sidecar::Config {
            remarks,
            function: place,
            dev,
            terms: sidecar::EntityTerms {
                deletes_for_good: function.terms.deletion == Deletion::Permanent,
                trusts_failures: function.terms.trust_failures,
                // One that is awake uses the process.
                idle_max: idle_stop(function),
            },
            message_bytes_max: function.ingress.message_bytes_max,
            connections_max: function.ingress.connections_max,
            idle_stop: idle_stop(function),
            tls: tls.clone(),
            origins: function.ingress.origins.clone(),
            sample,
        };
        match Sidecar::start(node.clone(), config, listener) {
            Ok(sidecar) => Ok(Serving {
                sidecar,
                process,
                ingress,
                tls,
                place: function.place.to_string(),
            }),
            Err(error) => {
                if let Some(process) = process {
                    process.stop().await;
                }
                Err(Failure::from(error))
            }
        }
    }

    /// The function's process, if the node runs it.
    pub fn process(&self) -> Option<process::Handle> {
        self.process.as_ref().map(Supervisor::handle)
    }

    /// Whether it was found.
    pub fn discovery(&self) -> Discovery {
        self.sidecar.discovery()
    }

    /// What was asked at the ingress.
    pub fn requests(&self) -> Arc<sidecar::Requests> {
        self.sidecar.requests()
    }

    /// Where callers come.
    pub fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    /// What callers' connections are encrypted with, if they are.
    pub fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// Waits until callers are served; lines for people about what was found, where they are others than before.
    pub async fn discovered(&self, before: &[String]) -> Vec<String> {
        self.sidecar.discovered(before).await
    }

    /// Waits until it is known that the function can never be started.
    pub async fn failed(&self) -> Failure {
        match &self.process {
            Some(process) => {
                let message = format!("function.command cannot be started: {}", process.failed().await);
                Failure::new("config", message).at(&self.place)
            }
            None => std::future::pending().await,
        }
    }

    /// Ends all of it.
    pub async fn stop(self) {
        self.sidecar.stop().await;
        if let Some(process) = self.process {
            process.stop().await;
        }
    }
}

/// After how long without use a function's process is to sleep, if it is.
fn idle_stop(function: &FunctionConfig) -> Option<Duration> {
    match &function.at {
        FunctionAt::Command(command) => command.idle_stop,
        FunctionAt::Address(_) => None,
    }
}

/// A process, for the sidecar.
struct Beside(process::Handle);

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Beside").field(&self.0.state()).finish()
    }
}

impl sidecar::Process for Beside {
    fn address(&self) -> SocketAddr {
        self.0.address()
    }

    fn sleep(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.stop_idle())
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.0.wake())
    }
}
