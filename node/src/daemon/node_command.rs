//! `node`: one node from its configuration file, until it is told to stop or stops by itself.
//!
//! Contract: it says that it is ready, on stdout, once writes are taken (to `dev`: once its function's callers are served, too);
//! SIGINT and SIGTERM end it in order (accepted updates are made durable, peers are told), also one that leaves and waits for its
//! peers. Started by `up` it also ends when its stdin does; started by hand it never looks at stdin.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::api::{LeaveBody, NodeNews, ReadyBody};
use super::certificate::{self, Reminder};
use super::cli::NodeArgs;
use super::config::{Config, Setting};
use super::exit::Failure;
use super::http::{self, Server};
use super::process::Outlet;
use super::serving::Serving;
use super::traces::{self, Exporter};
use super::{output, remarks, stdin};
use crate::error::{Error, ErrorKind};
use crate::function::Function;
use crate::node::Node;
use crate::transport::Identity;

/// How long requests under way may take to end once the node stops.
const HTTP_DRAIN: Duration = Duration::from_secs(2);

/// Why the node stops.
enum Stop {
    /// It is to come back: a signal, or the end of `up`, as it is called.
    Down(&'static str),
    /// It is not to come back: who asked wants to hear how it went.
    Leave(http::Asked),
    /// It stopped by itself.
    Itself,
    /// Its function cannot be started.
    Function(Failure),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Down(what) => f.write_str(what),
            Stop::Leave(_) => f.write_str("asked to leave"),
            Stop::Itself => f.write_str("it cannot go on"),
            Stop::Function(failure) => write!(f, "its function cannot be started: {failure}"),
        }
    }
}

/// What tells the node to stop.
struct Told {
    interrupt: Signal,
    terminate: Signal,
    /// A node outlives the shell that started it: the terminal's end is no reason to stop.
    hangup: Signal,
    /// The end of whoever started it.
    parent: Option<oneshot::Receiver<()>>,
}

impl Told {
    fn listen(until_stdin_closes: bool) -> Result<Told, Failure> {
        let on = |kind| signal(kind).map_err(|e| Failure::io("signals", &e));
        Ok(Told {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
            parent: until_stdin_closes.then(stdin::end),
        })
    }

    /// What it was.
    async fn until_stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                () = closed(self.parent.as_mut()) => return "whoever started it told it to, or has ended",
                // Whoever sends one may expect of it what others do.
                _ = self.hangup.recv() => tracing::info!(
                    "SIGHUP: the node goes on, and reads nothing again. For another configuration or certificate restart it; the \
                     ingress's certificate is read whenever its file changes"
                ),
            }
        }
    }
}

/// Runs one node.
pub async fn run(args: NodeArgs, functions: Vec<Arc<Function>>) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    config.check_files()?;
    let identity = identity(&config)?;
    let exporter = start_log(&config);
    certificate::check_key(&config.identity.key);
    let mut told = Told::listen(args.until_stdin_closes)?;
    let (leave, mut leaves) = mpsc::channel(1);

    let (listener, ingress) = bind(&config)?;
    let node = match builder(&config).functions(functions).start().await {
        Ok(node) => node,
        Err(error) => {
            drop((listener, ingress));
            return Err(located(&config, error));
        }
    };
    tracing::info!(node = %node.id(), name = node.name(), cluster = node.cluster(), epoch = %node.epoch(), "started");
    let app = Arc::new(api(&node, &identity, &config, leave));
    let server = Server::start(listener, Arc::clone(&app))?;
    let (outlet, drain) = match args.for_dev {
        true => Outlet::to_dev(),
        false => Outlet::to_people(node.name()),
    };
    let serving = serve(&node, &config, ingress, args.for_dev, &outlet).await?;
    if let Some(serving) = &serving {
        app.serves(serving);
    }
    let ready = ready_body(&node, &config, server.address(), serving.as_ref());
    let remarks = tokio::spawn(remarks::follow(
        node.clone(),
        config.kinds.clone(),
        config.seeds.clone(),
        reminders(&identity, serving.as_ref()),
    ));

    let stop = tokio::select! {
        what = told.until_stop() => Stop::Down(what),
        Some(asked) = leaves.recv() => Stop::Leave(asked),
        _ = node.stopped() => Stop::Itself,
        failure = failed(serving.as_ref()) => Stop::Function(failure),
        stop = announce(&node, serving.as_ref(), ready, &args, &outlet) => stop,
    };
    tracing::info!("stopping: {stop}");
    // Whoever asks it to leave from now on is told that it stops already.
    drop(leaves);
    remarks.abort();
    let ended = match stop {
        // The API goes on until it has given the answer.
        Stop::Leave(asked) => {
            let left = depart(&node, asked, &mut told, &args, &outlet).await;
            left.map_err(Failure::from)
        }
        Stop::Function(failure) => Err(failure),
        Stop::Down(_) | Stop::Itself => Ok(()),
    };
    server.stop(HTTP_DRAIN).await;
    if let Some(serving) = serving {
        serving.stop().await;
    }
    drop(outlet);
    drain.done().await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    // Whoever asks again gets the same answer.
    node.shutdown().await.map_err(Failure::from).and(ended)
}

fn api(node: &Node, identity: &Identity, config: &Config, leave: mpsc::Sender<http::Asked>) -> http::App {
    http::App::new(
        node.clone(),
        identity.cluster_id(),
        identity.expires_ms(),
        &config.http,
        config.trace.sample(),
        leave,
    )
    .with_function(config.function.is_some())
}

/// Of every certificate that somebody has to renew.
fn reminders(identity: &Identity, serving: Option<&Serving>) -> Vec<Reminder> {
    let ingress = serving.and_then(Serving::tls).map(Reminder::of_ingress);
    [Reminder::of_node(identity.expires_ms())]
        .into_iter()
        .chain(ingress)
        .collect()
}

/// Starts what is configured for a function in another process.
async fn serve(
    node: &Node,
    config: &Config,
    ingress: Option<TcpListener>,
    dev: bool,
    outlet: &Outlet,
) -> Result<Option<Serving>, Failure> {
    match (&config.function, ingress) {
        (Some(function), Some(ingress)) => {
            let serving = Serving::start(
                node,
                function,
                config.trace.sample(),
                ingress,
                dev,
                outlet.clone(),
            )
            .await?;
            Ok(Some(serving))
        }
        _ => Ok(None),
    }
}

/// Waits until the function is known never to start.
async fn failed(serving: Option<&Serving>) -> Failure {
    match serving {
        Some(serving) => serving.failed().await,
        None => std::future::pending().await,
    }
}

/// Leaves, and tells who asked what has become of what the node had.
async fn depart(
    node: &Node,
    asked: http::Asked,
    told: &mut Told,
    args: &NodeArgs,
    outlet: &Outlet,
) -> Result<(), Error> {
    let status = node.status();
    let peers = status.members.iter().filter(|member| member.connected).count();
    let outcome = leave(node, asked.within, told).await;
    let alone = (peers == 0 && status.entities > 0).then(|| {
        format!(
            "the node has left, but no other node was connected to take over what it had: {} may be in {} alone. Start it \
             again on that directory to hand over",
            output::plural(status.entities, "entity"),
            status.data_directory.display()
        )
    });
    let warning = match &outcome {
        Ok(()) => alone,
        Err(error) => Some(error.message().to_string()),
    };
    // Of one that was not heard, or has something that no other has, the warning says that it is to be started again.
    if warning.is_none() {
        say_left(args, outlet).await;
    }
    // Who asked may have gone away.
    let _ = asked.answer.send(LeaveBody {
        id: node.id().to_string(),
        peers,
        handed_over: warning.is_none(),
        warning,
    });
    outcome
}

/// Leaves within that time, or at once when it is told to stop meanwhile: it says goodbye all the same, and what its peers have not
/// confirmed by then is in the outcome.
async fn leave(node: &Node, within: Duration, told: &mut Told) -> Result<(), Error> {
    let mut leaving = pin!(node.leave_within(within));
    tokio::select! {
        outcome = &mut leaving => return outcome,
        what = told.until_stop() => tracing::warn!("{what} while it leaves: it waits for its peers no longer"),
    }
    let (outcome, _) = tokio::join!(leaving, node.leave_within(Duration::ZERO));
    outcome
}

/// Who the node is, and of which cluster. A certificate of another cluster must not start a node that its
/// configuration puts into this one.
fn identity(config: &Config) -> Result<Identity, Failure> {
    let files = &config.identity;
    let identity = Identity::load(&files.ca, &files.certificate, &files.key)
        .map_err(|e| Failure::new("identity", e.to_string()))?;
    match &config.cluster {
        Some(expected) if identity.cluster() != expected => Err(Failure::new(
            "identity",
            format!(
                "{}: cluster = {expected:?}, but {} is of cluster {:?}; nothing was started",
                config.line_of(Setting::Cluster),
                files.certificate.display(),
                identity.cluster()
            ),
        )),
        _ => Ok(identity),
    }
}

/// A failed start, with the line of the configuration that it comes from: where a declared kind contradicts what the
/// directory holds, or somebody took the port since it was looked at.
fn located(config: &Config, error: Error) -> Failure {
    if let (ErrorKind::InUse, Err(taken)) = (error.kind(), bind(config)) {
        return taken;
    }
    let failure = Failure::from(error);
    let named = |kind: &&String| failure.message().starts_with(&format!("kind {kind:?} "));
    match config.kinds.keys().find(named) {
        Some(kind) => {
            let place = config.line_of(Setting::Kind(kind));
            failure.at(place)
        }
        None => failure,
    }
}

fn builder(config: &Config) -> crate::node::NodeBuilder {
    let identity = &config.identity;
    let mut builder = Node::builder()
        .directory(config.data.clone())
        .identity_files(
            identity.ca.clone(),
            identity.certificate.clone(),
            identity.key.clone(),
        )
        .listen(config.listen)
        .advertise(config.advertise.clone())
        .seeds(config.seeds.clone())
        .members(config.members.clone())
        .shards(config.shards)
        .kinds(config.kinds.clone())
        .limits(config.limits.clone())
        .snapshot_bytes(config.snapshot_bytes)
        .mtu(config.mtu)
        .schedules(config.function.is_some());
    if let Some(name) = &config.name {
        builder = builder.name(name.clone());
    }
    builder
}

/// Takes the TCP ports, and sees that the UDP port is free, before anything else is touched: a port that is taken is
/// then a message of its own.
fn bind(config: &Config) -> Result<(TcpListener, Option<TcpListener>), Failure> {
    let refused = |place: String, name: &str, address: SocketAddr, error: &io::Error| {
        let message = format!("{place}: {name} = \"{address}\": {error}");
        match error.kind() {
            io::ErrorKind::AddrInUse => Failure::new(
                "address_in_use",
                format!(
                    "{message}; is this node running already? Stop what has the port, or configure another"
                ),
            ),
            _ => Failure::new("io", message),
        }
    };
    let place = |key| config.line_of(key);
    UdpSocket::bind(config.listen)
        .map_err(|e| refused(place(Setting::Listen), "listen", config.listen, &e))?;
    let http = config.http.listen;
    let listener =
        TcpListener::bind(http).map_err(|e| refused(place(Setting::HttpListen), "http.listen", http, &e))?;
    let ingress = config.function.as_ref().map(|function| {
        let ingress = &function.ingress;
        TcpListener::bind(ingress.listen)
            .map_err(|e| refused(ingress.place.to_string(), "ingress.listen", ingress.listen, &e))
    });
    Ok((listener, ingress.transpose()?))
}

fn start_log(config: &Config) -> Option<Exporter> {
    // The filter was checked when the file was read.
    let filter = tracing_subscriber::EnvFilter::new(&config.log);
    let log = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        // A terminal that is gone must not end the node.
        .log_internal_errors(false)
        .with_ansi(false)
        .with_filter(filter);
    let exporting = config.trace.collector.as_ref().map(|collector| {
        let node = config.name.clone().unwrap_or_default();
        traces::start(collector, &node)
    });
    let (exporter, parts) = exporting.unzip();
    let built = tracing_subscriber::registry().with(log).with(parts);
    // Only a second node in one process could find it set.
    let _ = built.try_init();
    exporter
}

fn ready_body(node: &Node, config: &Config, http: SocketAddr, serving: Option<&Serving>) -> ReadyBody {
    ReadyBody {
        node: node.name().to_string(),
        pid: std::process::id(),
        quic: node.quic_address().to_string(),
        http: http.to_string(),
        config: config.file.display().to_string(),
        ingress: serving.map(|serving| serving.ingress().to_string()),
    }
}

/// Says that the node is ready, and what its function is, again where that has changed; for ever.
async fn announce(
    node: &Node,
    serving: Option<&Serving>,
    ready: ReadyBody,
    args: &NodeArgs,
    outlet: &Outlet,
) -> Stop {
    node.ready().await;
    if node.is_ready() {
        if !args.for_dev {
            say_ready(&ready, args.json);
        }
        let note = |lines: &[String]| lines.iter().for_each(|line| output::note(line));
        let mut discovered = match serving {
            Some(serving) => serving.discovered(&[]).await,
            None => Vec::new(),
        };
        match args.for_dev {
            true => {
                let discovered = discovered.clone();
                outlet.say(NodeNews::Ready { ready, discovered }).await;
            }
            false => note(&discovered),
        }
        while let Some(serving) = serving {
            discovered = serving.discovered(&discovered).await;
            match args.for_dev {
                true => {
                    let discovered = discovered.clone();
                    outlet.say(NodeNews::Discovered { discovered }).await;
                }
                false => note(&discovered),
            }
        }
    }
    std::future::pending().await
}

fn say_ready(ready: &ReadyBody, json: bool) {
    let said = if json {
        output::object(ready)
    } else {
        output::line(&ready.to_string())
    };
    // Nobody may be listening; the node runs all the same.
    if let Err(failure) = said {
        tracing::debug!(%failure, "could not say that the node is ready");
    }
}

/// Says so to whoever has started this node as a child: its end is to be told from others.
async fn say_left(args: &NodeArgs, outlet: &Outlet) {
    if args.for_dev {
        outlet.say(NodeNews::Left).await;
    } else if args.json && args.until_stdin_closes {
        // It may have gone.
        let _ = output::object(&NodeNews::Left);
    }
}

async fn closed(parent: Option<&mut oneshot::Receiver<()>>) {
    match parent {
        Some(end) => {
            let _ = end.await;
        }
        None => std::future::pending().await,
    }
}
