//! What stands beside a node for a function in another process: its process, if the node runs it, and the sidecar that asks it and
//! takes its callers.
//!
//! Not here: how a process is looked after (`process`), what is asked (`sidecar`).
//!
//! Contract: the sidecar says farewell before the process is told to end.

use std::net::{SocketAddr, TcpListener};

use super::config::{FunctionAt, FunctionConfig};
use super::exit::Failure;
use super::ports;
use super::process::{self, Outlet, Settings, Supervisor};
use crate::node::Node;
use crate::sidecar::{self, Sidecar};

/// A function that is served.
pub struct Serving {
    sidecar: Sidecar,
    process: Option<Supervisor>,
    ingress: SocketAddr,
    /// Where its command is configured.
    place: String,
}

impl Serving {
    /// Starts its process, if there is one to start, and looks for it.
    pub async fn start(
        node: &Node,
        function: &FunctionConfig,
        listener: TcpListener,
        dev: bool,
        outlet: Outlet,
    ) -> Result<Serving, Failure> {
        let ingress = listener
            .local_addr()
            .map_err(|e| Failure::io(&function.ingress.place, &e))?;
        let (address, process) = match &function.at {
            FunctionAt::Address(address) => (address.clone(), None),
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
                let process = Supervisor::start(settings, outlet)?;
                (format!("{}:{port}", process::HOST), Some(process))
            }
        };
        let config = sidecar::Config {
            function: address,
            dev,
            message_bytes_max: function.ingress.message_bytes_max,
            connections_max: function.ingress.connections_max,
        };
        match Sidecar::start(node.clone(), config, listener) {
            Ok(sidecar) => Ok(Serving {
                sidecar,
                process,
                ingress,
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

    /// Where callers come.
    pub fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    /// Waits until callers are served; lines for people about what was found.
    pub async fn discovered(&self) -> Vec<String> {
        self.sidecar.discovered().await
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
