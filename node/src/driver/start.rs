//! Bringing a node up, on the thread that then owns its store: recover, start an epoch, bind, go.
//!
//! Order matters: the epoch is durable before the first frame can leave, and the engine is whole before the first can
//! come in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anabranch_crdt::{Epoch, NodeId, Type};
use tokio::sync::oneshot;

use crate::engine::limits::EPOCH_MAX;
use crate::engine::{Engine, EngineConfig, Limits, RecoverError, Start, epoch_for_start};
use crate::error::{Error, ErrorKind};
use crate::function::Function;
use crate::store::{Disk, FsDisk, Identity, Options, Recovered, Store, StoreError};
use crate::wire::DirectoryId;

use super::cell::Cell;
use super::clock::{Clock, wall_ms};
use super::epochs::start_durably;
use super::functions::Functions;
use super::loading::Loading;
use super::shared::{About, Shared, broken};
use super::triggers::{self, Triggers};
use super::writer::{Writer, unheard};
use super::{Handle, created, quic, timer};

/// Everything a node is started with, already checked for form.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) directory: PathBuf,
    pub(crate) identity: crate::transport::Identity,
    pub(crate) name: String,
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: Vec<String>,
    pub(crate) seeds: Vec<String>,
    pub(crate) members: Vec<NodeId>,
    pub(crate) shards: u32,
    pub(crate) kinds: BTreeMap<String, Type>,
    pub(crate) functions: Vec<Arc<Function>>,
    pub(crate) limits: Limits,
    pub(crate) snapshot_bytes: u64,
    pub(crate) mtu_bytes: u16,
}

/// Starts a node. Dropping the future stops it again.
pub(crate) async fn start(config: Config) -> Result<Handle, Error> {
    let (sender, started) = oneshot::channel();
    let thread = thread::Builder::new().name("anabranch-store".into());
    thread
        .spawn(move || run(&config, sender))
        .map_err(|e| thread_error(&e))?;
    started.await.unwrap_or_else(|_| Err(broken()))
}

/// The whole life of a node's store thread.
fn run(config: &Config, started: oneshot::Sender<Result<Handle, Error>>) {
    let disk = match FsDisk::open(&config.directory) {
        Ok(disk) => disk,
        Err(error) => return drop(started.send(Err(store_error(&error)))),
    };
    let connect = |shared: &Arc<Shared>| quic::start(config, shared, &|| !started.is_closed());
    match open(disk, config, connect) {
        Ok(open) => {
            // Nobody waits any more: the handle is dropped, which orders the stop.
            let _ = started.send(Ok(Handle::new(Arc::clone(&open.shared))));
            live(open);
        }
        Err(error) => drop(started.send(Err(error))),
    }
}

/// The seeds that are this node's own address, which is nobody to wait for, and how many others there are. A name that stands for
/// this node today may stand for others tomorrow.
fn own_seeds(config: &Config) -> (Vec<&str>, usize) {
    let is_own = |seed: &&str| {
        let is_listened = seed.parse() == Ok(config.listen);
        is_listened || config.advertise.iter().any(|own| own == seed)
    };
    let seeds = config.seeds.iter().map(String::as_str);
    let own: Vec<&str> = seeds.filter(is_own).collect();
    let rest = config.seeds.len() - own.len();
    if !own.is_empty() {
        let own = own.len();
        tracing::info!(
            own,
            rest,
            "this node's own address is among its seeds, and is ignored"
        );
    }
    (own, rest)
}

/// Whoever configures all nodes alike, with one seed, means this by the one that it is, and no other. Nobody but them can tell.
fn warn_of_a_new_cluster(own: &[&str]) {
    tracing::warn!(
        "this node's only seed is its own address, {}, no other members are configured, and its directory is new: it begins a cluster of \
         its own, and takes writes. If it was to join one, stop it, name a node of that in its seeds, and give it an empty directory",
        own.join(", ")
    );
}

/// A node of which everything is there; only nobody writes yet.
pub(super) struct Open<D: Disk> {
    pub(super) shared: Arc<Shared>,
    store: Store<D>,
    threads: Vec<JoinHandle<()>>,
}

/// Opens everything: what is left is to run the writer. `connect` sets the network, unless it fails.
pub(super) fn open<D: Disk>(
    disk: D,
    config: &Config,
    connect: impl FnOnce(&Arc<Shared>) -> Result<(), Error>,
) -> Result<Open<D>, Error> {
    let identity = Identity {
        cluster: config.identity.cluster().to_owned(),
        node: config.identity.node(),
        directory: rand::random(),
    };
    // Whose it is comes first: what else is wrong with somebody else's directory is of no interest.
    Store::check(&disk, &identity).map_err(|e| store_error(&e))?;
    created::check(&disk, config.shards)?;
    let clock = Clock::new();
    let (mut engine, mut store, opened) = recover(disk, config, &identity, &clock)?;
    check_kinds(&engine, config)?;
    let epoch = new_epoch(wall_ms(), opened.last_epoch)?;
    start_durably(&mut store, epoch).map_err(|e| store_error(&e))?;
    let directory = DirectoryId(opened.directory);
    let (own, rest) = own_seeds(config);
    if rest > 0 {
        engine.expect_others();
    }
    if opened.is_new && !own.is_empty() && engine.never_had_others() {
        warn_of_a_new_cluster(&own);
    }
    let start = Start {
        epoch,
        before: opened.last_epoch,
        directory,
    };
    engine.start(clock.now(), start);
    let about = About {
        node: config.identity.node(),
        name: config.name.clone(),
        cluster: config.identity.cluster().to_owned(),
        directory,
        path: config.directory.clone(),
        shards: config.shards,
    };
    tracing::info!(node = %about.node, %epoch, new = opened.is_new, "store open");
    let shared = Arc::new(Shared::new(
        about,
        clock,
        Cell::new(engine),
        epoch,
        Functions::new(&config.functions, rand::random()),
        Triggers::new(&config.functions),
    ));
    connect(&shared)?;
    let after = shared.with_cell(|cell| cell.drain(&shared, None))?;
    shared.finish(after);
    let mut threads = Vec::new();
    match begin_threads(&shared, &mut threads) {
        Ok(()) => Ok(Open {
            shared,
            store,
            threads,
        }),
        Err(error) => {
            shared.network().close(false);
            end_threads(&shared, threads);
            Err(thread_error(&error))
        }
    }
}

/// Begins the threads that look after time.
fn begin_threads(shared: &Arc<Shared>, threads: &mut Vec<JoinHandle<()>>) -> std::io::Result<()> {
    let mut begin = |name: &str, run: fn(&Arc<Shared>)| {
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name(name.into());
        threads.push(thread.spawn(move || run(&shared))?);
        Ok(())
    };
    begin("anabranch-timer", timer::run)?;
    match shared.triggers.are_any() {
        true => begin("anabranch-triggers", triggers::run),
        false => Ok(()),
    }
}

/// Ends the threads that look after time, and waits for that.
fn end_threads(shared: &Shared, threads: Vec<JoinHandle<()>>) {
    shared.stop_timer();
    shared.triggers.stop();
    for thread in threads {
        // It has logged its own panic.
        let _ = thread.join();
    }
}

/// A declaration that contradicts what the directory holds would refuse every write to it, or make a second entity of
/// the same name: nothing is started.
fn check_kinds(engine: &Engine, config: &Config) -> Result<(), Error> {
    for (kind, declared) in &config.kinds {
        if let Some(found) = engine.kind_types(kind).first().filter(|found| *found != declared) {
            let is_of_function = config.functions.iter().any(|function| function.kind() == kind);
            let message = match is_of_function {
                true => format!(
                    "the function of kind {kind:?} keeps {declared}, but this directory holds entities of it that are {found}; \
                     name the function's kind anew, or delete those first, with the version of the function that kept {found}"
                ),
                false => format!(
                    "kind {kind:?} is declared as {declared}, but this directory holds entities of it that are {found}; \
                     declare {found}, or take the declaration out"
                ),
            };
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    Ok(())
}

/// Feeds the engine what the store holds.
fn recover<D: Disk>(
    disk: D,
    config: &Config,
    identity: &Identity,
    clock: &Clock,
) -> Result<(Engine, Store<D>, crate::store::Opened), Error> {
    let mut engine = Engine::new(
        EngineConfig {
            cluster: identity.cluster.clone(),
            node: identity.node,
            shards: config.shards,
            members: config.members.clone(),
            kinds: config.kinds.clone(),
            limits: config.limits.clone(),
        },
        clock.now(),
    );
    let options = Options {
        snapshot_bytes: config.snapshot_bytes,
        ..Options::default()
    };
    let mut is_newer = false;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let opened = thread::scope(|scope| {
        // On one core this thread may as well do it.
        let mut loading = Loading::new(scope, if cores > 1 { cores } else { 0 });
        let mut visit = |recovered: Recovered<'_>| -> Result<(), String> {
            let taken: Result<(), RecoverError> = match recovered {
                Recovered::Image(block) => match engine.read_image(block) {
                    Ok(Some(shard)) => loading.load(&mut engine, shard),
                    read => read.map(|_| ()),
                },
                Recovered::ImageEnd => loading.finish(&mut engine),
                Recovered::Record { payload, .. } => engine.recover_record(payload),
            };
            taken.map_err(|e| {
                is_newer = e.is_newer();
                e.to_string()
            })
        };
        Store::open_salted(disk, identity, rand::random(), options, &mut visit)
    });
    let (store, opened) = opened.map_err(|error| match error {
        StoreError::Refused { .. } if is_newer => Error::new(ErrorKind::NewerFormat, error.to_string()),
        error => store_error(&error),
    })?;
    if opened.torn_bytes_cut > 0 {
        tracing::info!(
            bytes = opened.torn_bytes_cut,
            "cut what an interrupted commit had left behind"
        );
    }
    Ok((engine, store, opened))
}

/// Writes until the node stops, and stops it.
pub(super) fn live<D: Disk + Send + Sync + 'static>(open: Open<D>) {
    let Open {
        shared,
        store,
        threads,
    } = open;
    let mut writer = Writer::new(store, Arc::clone(&shared));
    let closing = guarded(|| writer.run());
    let (leaving, mut result) = match closing {
        Ok(closing) => (closing.leaving.is_some(), closing.error.map_or(Ok(()), Err)),
        Err(error) => (false, Err(error)),
    };
    if let Err(error) = &result {
        tracing::error!(%error, "the node stops");
    }
    shared.refuse(result.as_ref().err());
    let handed = result
        .clone()
        .and_then(|()| guarded(|| writer.hand_over(leaving)));
    let mut left = handed.unwrap_or_else(|error| {
        result = Err(error);
        None
    });
    let closed = guarded(|| {
        let has_others = shared.with_cell(|cell| cell.engine.members().len() > 1);
        let heard = shared.network().close(leaving);
        if leaving && has_others.unwrap_or(false) && heard == 0 {
            left.get_or_insert_with(unheard);
        }
        Ok(())
    });
    end_threads(&shared, threads);
    // The last records, of frames that came in until the network was closed.
    result = result.and(closed).and_then(|()| guarded(|| writer.finish()));
    // The directory's lock goes with the store: a node may be started on it as soon as this one says it has stopped.
    drop(writer);
    shared.end(result, leaving, left);
}

/// A panic in here is a bug of ours, and the node still has to stop in order.
pub(super) fn guarded<R>(f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err(broken()))
}

/// The epoch of a start: the wall clock with 16 random bits (two copies of one image differ), above any earlier one.
///
/// # Errors
/// Where the last one leaves none that peers would take: no clock ever gave it.
pub(super) fn new_epoch(wall_ms: u64, last: Option<Epoch>) -> Result<Epoch, Error> {
    // Beyond what peers take a clock is as wrong as one that stands at 1970; only being above the last epoch counts.
    let wall_ms = wall_ms.min((EPOCH_MAX >> 16) - 1);
    if let Some(last) = last.filter(|last| (last.0 >> 16) + 1 >= (2 * EPOCH_MAX) >> 16) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "the last known epoch of this node, {last}, is beyond any clock, and peers take none above it; move its \
                 data directory away and let it fetch its state from its peers"
            ),
        ));
    }
    Ok(epoch_for_start(last, wall_ms, rand::random()))
}

fn thread_error(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("a thread cannot be started: {error}"))
}

/// The store's failure as the library's error.
pub(super) fn store_error(error: &StoreError) -> Error {
    let kind = match error {
        StoreError::InUse { .. } => ErrorKind::InUse,
        StoreError::OtherNode { .. } | StoreError::OtherCluster { .. } => ErrorKind::Directory,
        StoreError::NewerFormat { .. } => ErrorKind::NewerFormat,
        StoreError::Corrupt { .. } | StoreError::OlderFormat { .. } | StoreError::Refused { .. } => {
            ErrorKind::Corrupt
        }
        StoreError::Full { .. } => ErrorKind::DiskFull,
        StoreError::Poisoned { .. } => ErrorKind::Poisoned,
        StoreError::NotWritable { .. } | StoreError::Disk { .. } => ErrorKind::Io,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, error.to_string())
}
