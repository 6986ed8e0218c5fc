//! `node`: one node from its configuration file, until it is told to stop or stops by itself.
//!
//! Contract: it says that it is ready, on stdout, once writes are taken; SIGINT and SIGTERM end it in order (accepted
//! updates are made durable, peers are told). Started by `up` it also ends when its stdin does; started by hand it
//! never looks at stdin.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::api::{LeaveBody, ReadyBody};
use super::cli::NodeArgs;
use super::config::{Config, Setting};
use super::exit::Failure;
use super::http::{self, Server};
use super::traces::{self, Exporter};
use super::{output, remarks};
use crate::error::{Error, ErrorKind};
use crate::function::Function;
use crate::node::Node;
use crate::transport::Identity;

/// How long requests under way may take to end once the node stops.
const HTTP_DRAIN: Duration = Duration::from_secs(2);

/// Why the node stops.
#[derive(Debug)]
enum Stop {
    /// It is to come back: a signal, or the end of `up`.
    Down,
    /// It is not to come back: who asked wants to hear how it went.
    Leave(http::Asked),
    /// It stopped by itself.
    Itself,
}

/// Runs one node.
pub async fn run(args: NodeArgs, functions: Vec<Arc<Function>>) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    config.check_files()?;
    let cluster_id = cluster_id(&config)?;
    let exporter = start_log(&config);
    let on = |kind| signal(kind).map_err(|e| Failure::io("signals", &e));
    let (mut interrupt, mut terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    // A node outlives the shell that started it: the terminal's end is no reason to stop.
    let _hangup = on(SignalKind::hangup())?;
    let parent = args.until_stdin_closes.then(stdin_end);
    let (leave, mut leaves) = mpsc::channel(1);

    let listener = bind(&config)?;
    let node = match builder(&config).functions(functions).start().await {
        Ok(node) => node,
        Err(error) => {
            drop(listener);
            return Err(located(&config, error));
        }
    };
    tracing::info!(node = %node.id(), name = node.name(), cluster = node.cluster(), epoch = %node.epoch(), "started");
    let server = Server::start(
        listener,
        Arc::new(http::App::new(
            node.clone(),
            &cluster_id,
            &config.http,
            config.trace.sample(),
            leave,
        )),
    )?;
    let announcing = tokio::spawn(announce(
        node.clone(),
        ready_body(&node, &config, server.address()),
        args.json,
    ));

    let remarks = tokio::spawn(remarks::follow(
        node.clone(),
        config.kinds.clone(),
        config.seeds.clone(),
    ));

    let stop = tokio::select! {
        _ = interrupt.recv() => Stop::Down,
        _ = terminate.recv() => Stop::Down,
        () = closed(parent) => Stop::Down,
        Some(asked) = leaves.recv() => Stop::Leave(asked),
        _ = node.stopped() => Stop::Itself,
    };
    tracing::info!(why = ?stop, "stopping");
    // Whoever asks it to leave from now on is told that it stops already.
    drop(leaves);
    announcing.abort();
    remarks.abort();
    let ended = match stop {
        // The API goes on until it has given the answer.
        Stop::Leave(asked) => depart(&node, asked).await,
        Stop::Down | Stop::Itself => Ok(()),
    };
    server.stop(HTTP_DRAIN).await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    // Whoever asks again gets the same answer.
    node.shutdown().await.and(ended).map_err(Failure::from)
}

/// Leaves, and tells who asked what has become of what the node had.
async fn depart(node: &Node, asked: http::Asked) -> Result<(), Error> {
    let status = node.status();
    let peers = status.members.iter().filter(|member| member.connected).count();
    let outcome = node.leave().await;
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
    // Who asked may have gone away.
    let _ = asked.send(LeaveBody {
        id: node.id().to_string(),
        peers,
        handed_over: warning.is_none(),
        warning,
    });
    outcome
}

/// What tells the cluster from others of its name. A certificate of another cluster must not start a node that its
/// configuration puts into this one.
fn cluster_id(config: &Config) -> Result<String, Failure> {
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
        _ => Ok(identity.cluster_id().to_string()),
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
        .mtu(config.mtu);
    if let Some(name) = &config.name {
        builder = builder.name(name.clone());
    }
    builder
}

/// Takes the HTTP port, and sees that the UDP port is free, before anything else is touched: a port that is taken is
/// then a message of its own.
fn bind(config: &Config) -> Result<TcpListener, Failure> {
    let refused = |key: Setting<'_>, address: SocketAddr, error: &io::Error| {
        let name = if key == Setting::Listen {
            "listen"
        } else {
            "http.listen"
        };
        let message = format!("{}: {name} = \"{address}\": {error}", config.line_of(key));
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
    UdpSocket::bind(config.listen).map_err(|e| refused(Setting::Listen, config.listen, &e))?;
    TcpListener::bind(config.http.listen).map_err(|e| refused(Setting::HttpListen, config.http.listen, &e))
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

fn ready_body(node: &Node, config: &Config, http: SocketAddr) -> ReadyBody {
    ReadyBody {
        node: node.name().to_string(),
        pid: std::process::id(),
        quic: node.quic_address().to_string(),
        http: http.to_string(),
        config: config.file.display().to_string(),
    }
}

async fn announce(node: Node, ready: ReadyBody, json: bool) {
    node.ready().await;
    if !node.is_ready() {
        return;
    }
    let said = if json {
        output::object(&ready)
    } else {
        output::line(&format!(
            "{} is ready: process {}, QUIC {}, HTTP {}",
            ready.node, ready.pid, ready.quic, ready.http
        ))
    };
    // Nobody may be listening; the node runs all the same.
    if let Err(failure) = said {
        tracing::debug!(%failure, "could not say that the node is ready");
    }
}

/// Resolves when stdin has ended. A thread of its own: a read of stdin cannot be taken back, and the runtime would
/// wait for it at the end.
fn stdin_end() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // The node may be stopping already.
        let _ = sender.send(());
    });
    receiver
}

async fn closed(parent: Option<oneshot::Receiver<()>>) {
    match parent {
        Some(end) => {
            let _ = end.await;
        }
        None => std::future::pending().await,
    }
}
