//! Looking for a function until it is found, and again when it is gone.
//!
//! Contract: what is published can be served; a function that cannot be is told why, once, and asked again when it comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tonic::Code;

use super::connection::Connection;
use super::kalix::{self, Asked, Discovered};
use super::problem::{Problem, Severity};
use super::services::Services;
use super::{Served, told};
use crate::node::Node;

/// How long to wait before the function is looked for again; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(25);
/// How long to wait at most.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A function that has not said for so long what it is will not.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// After so many attempts in vain somebody may want to know.
const ATTEMPTS_NOTED: u32 = 40;

/// What is served.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving {
    /// The services, once they were discovered.
    pub services: Option<Served>,
    /// Whether their function is here now.
    pub is_here: bool,
}

impl Serving {
    /// For people.
    pub fn describe(&self, ingress: SocketAddr) -> Vec<String> {
        let services = self.services.iter().flat_map(|services| services.iter());
        let mut lines = Vec::new();
        for service in services {
            let what = if service.is_action { "action" } else { "entity" };
            let kind = if service.is_action { "" } else { &service.kind };
            let methods: Vec<&str> = service.methods.keys().map(String::as_str).collect();
            lines.push(format!("{what} {kind} {}: {}", service.name, methods.join(", ")).replace("  ", " "));
        }
        if let Some(line) = lines.first_mut() {
            line.insert_str(0, &format!("gRPC at {ingress}: "));
        }
        lines
    }
}

/// What it takes to look for a function.
pub(super) struct Discovering {
    pub node: Node,
    pub function: String,
    pub dev: bool,
    pub ingress: SocketAddr,
    pub publish: watch::Sender<Serving>,
    pub stopped: watch::Receiver<bool>,
}

impl Discovering {
    /// Until it is told to stop.
    pub async fn run(self) {
        let mut stopped = self.stopped.clone();
        while !*stopped.borrow() {
            tokio::select! {
                connection = self.connect() => self.serve(connection).await,
                () = told(&mut stopped) => return,
            }
        }
    }

    async fn connect(&self) -> Connection {
        let mut pause = RETRY_MIN;
        for attempt in 1u32.. {
            match self.try_connect().await {
                Ok(connection) => return connection,
                Err(why) if attempt == ATTEMPTS_NOTED => {
                    tracing::warn!(
                        function = self.function,
                        why,
                        "no function is there yet; still looking"
                    );
                }
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        std::future::pending().await
    }

    async fn try_connect(&self) -> Result<Connection, String> {
        let mut addresses = tokio::net::lookup_host(&self.function)
            .await
            .map_err(|e| e.to_string())?;
        let address = addresses.next().ok_or("it has no address")?;
        Connection::open(address).await
    }

    /// Asks what is there, and serves it until it is gone.
    async fn serve(&self, connection: Connection) {
        let ingress = Some((self.ingress.ip().to_string(), self.ingress.port()));
        let asked = Asked {
            dev: self.dev,
            ingress,
        };
        let mut stopped = self.stopped.clone();
        let spec = tokio::select! {
            spec = tokio::time::timeout(ASK_TIMEOUT, kalix::ask(&connection, &asked)) => spec,
            () = told(&mut stopped) => return,
        };
        let spec = match spec {
            Ok(Ok(spec)) => spec,
            Ok(Err(status)) => {
                if matches!(
                    status.code(),
                    Code::Unimplemented | Code::Internal | Code::Unknown
                ) {
                    let function = &self.function;
                    tracing::warn!(function, %status, "what is there does not say what it is: no function of Kalix's protocol?");
                }
                return sleep(RETRY_MAX).await;
            }
            Err(_) => {
                tracing::warn!(function = self.function, "what is there does not say what it is");
                return;
            }
        };
        match Services::of(&spec).and_then(|found| self.check(found)) {
            Err(problems) => {
                for problem in &problems {
                    kalix::report(&connection, problem).await;
                }
                tracing::error!(
                    function = self.function,
                    "it is not served until it has been mended and started again"
                );
                self.until_gone(&connection).await;
            }
            Ok((services, problems)) => {
                for problem in &problems {
                    kalix::report(&connection, problem).await;
                }
                self.serve_these(Arc::new(services), connection).await;
            }
        }
    }

    /// Functions in Rust of the same kind would be called in place of these.
    fn check(
        &self,
        (services, problems): (Services, Vec<Problem>),
    ) -> Result<(Services, Vec<Problem>), Vec<Problem>> {
        let taken = |kind: &str| self.node.functions().any(|function| function.kind() == kind);
        let found = services.iter().find(|service| taken(&service.kind)).cloned();
        match found {
            None => Ok((services, problems)),
            Some(service) => Err(vec![Problem {
                severity: Severity::Error,
                message: format!(
                    "{}: this node has a function in Rust of kind {:?}",
                    service.name, service.kind
                ),
                location: None,
            }]),
        }
    }

    async fn serve_these(&self, services: Served, connection: Connection) {
        let (node, me) = (self.node.clone(), self.node.id());
        let live = Box::new(move || node.live_nodes());
        let discovered = Discovered::new(Arc::clone(&services), connection.clone(), me, live);
        let functions = discovered.functions();
        drop(discovered);
        self.node.serve_foreign(functions.clone());
        tracing::info!(
            function = self.function,
            services = services.iter().count(),
            "discovered"
        );
        self.publish.send_replace(Serving {
            services: Some(services),
            is_here: true,
        });
        self.until_gone(&connection).await;
        self.publish.send_modify(|serving| serving.is_here = false);
        self.node.serve_foreign_no_more(&functions);
        if *self.stopped.borrow() {
            kalix::farewell(&connection).await;
        } else {
            tracing::warn!(function = self.function, "the function is gone; looking for it");
        }
    }

    async fn until_gone(&self, connection: &Connection) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = connection.ended() => {}
            () = told(&mut stopped) => {}
        }
    }
}
