//! Keeping links: one task per peer whose address is known and one per seed, each dialling while its link is down.
//!
//! Waits grow from failure to failure, with jitter, so that nodes which lost each other at one moment do not dial
//! at one moment for ever.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_crdt::NodeId;
use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::transport::establish::{Dialled, Failure, dial};
use crate::transport::limits::{
    Limits, RESOLVE_INTERVAL, RESOLVE_TIMEOUT, SEED_ADDRESSES_MAX, SEED_DIALS_MAX,
};
use crate::transport::link::canonical;
use crate::transport::net::Net;

/// A link that lived so long was a good one: the next dial does not wait.
const GOOD_LINK: Duration = Duration::from_secs(5);

/// Where one peer is dialled.
#[derive(Default)]
pub(super) struct Dial {
    state: Mutex<DialState>,
    news: Notify,
}

#[derive(Default)]
struct DialState {
    addresses: Vec<SocketAddr>,
    /// The peer left: it is not dialled until it, or somebody's word of it, is back.
    is_paused: bool,
    is_over: bool,
}

impl Dial {
    fn lock(&self) -> MutexGuard<'_, DialState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, addresses: Vec<SocketAddr>) {
        {
            let mut state = self.lock();
            if state.addresses == addresses && !state.is_paused {
                return;
            }
            state.addresses = addresses;
            state.is_paused = false;
        }
        self.news.notify_one();
    }

    pub(super) fn pause(&self) {
        self.lock().is_paused = true;
    }

    pub(super) fn resume(&self) {
        self.lock().is_paused = false;
    }

    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.news.notify_one();
    }

    /// Where to dial; `None` when it is over.
    fn targets(&self) -> Option<Vec<SocketAddr>> {
        let state = self.lock();
        if state.is_over {
            return None;
        }
        Some(if state.is_paused {
            Vec::new()
        } else {
            state.addresses.clone()
        })
    }
}

/// The wait before the next dial.
struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    fn new(limits: &Limits) -> Backoff {
        Backoff {
            next: limits.reconnect_min,
            min: limits.reconnect_min,
            max: limits.reconnect_max,
        }
    }

    fn reset(&mut self) {
        self.next = self.min;
    }

    /// Between half and all of the wait that is due, which doubles.
    fn wait(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(self.max);
        due.mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }
}

/// Keeps a link to `peer` for as long as its addresses are known.
pub(super) async fn keep_peer(net: Arc<Net>, peer: NodeId, state: Arc<Dial>) {
    let mut backoff = Backoff::new(&net.limits);
    loop {
        let mut rest = Duration::ZERO;
        if net.is_linked(peer) {
            let up_at = Instant::now();
            unlinked(&net, peer, &state).await;
            if up_at.elapsed() >= GOOD_LINK {
                backoff.reset();
            } else {
                // One side does not want the other, and says so only when the link is up.
                rest = backoff.wait();
            }
        }
        let Some(targets) = state.targets() else { return };
        if net.is_closing() {
            return;
        }
        if net.is_linked(peer) {
            continue;
        }
        // New addresses end a wait, and a dial that hangs on old ones.
        let tried = async {
            sleep(rest).await;
            dial_any(&net, peer, &targets).await;
            if !net.is_linked(peer) {
                sleep(backoff.wait()).await;
            }
            false
        };
        let was_told = tokio::select! {
            told = tried => told,
            () = state.news.notified() => true,
            () = linked(&net, peer) => false,
        };
        if was_told {
            backoff.reset();
        }
    }
}

/// Tries the addresses in order until the peer is linked.
async fn dial_any(net: &Arc<Net>, peer: NodeId, targets: &[SocketAddr]) {
    for &address in targets {
        match dial(net, address).await {
            Ok(Dialled::Linked(found) | Dialled::Known(found)) if found == peer => return,
            Ok(other) => tracing::debug!(%peer, %address, ?other, "another node answers there"),
            Err(_told) => {}
        }
    }
    if targets.is_empty() {
        // It left, or nobody knows where it is: news will come.
        std::future::pending::<()>().await;
    }
}

/// Waits until there is a link with `peer`.
async fn linked(net: &Net, peer: NodeId) {
    let mut changes = net.changes.subscribe();
    while !net.is_linked(peer) && changes.changed().await.is_ok() {}
}

/// Waits until there is no link with `peer`, or its dialling is over.
async fn unlinked(net: &Net, peer: NodeId, state: &Dial) {
    let mut changes = net.changes.subscribe();
    while net.is_linked(peer) && state.targets().is_some() && !net.is_closing() {
        tokio::select! {
            _ = changes.changed() => {}
            () = state.news.notified() => {}
        }
    }
}

/// Keeps a link to whatever nodes a seed's name stands for.
pub(super) async fn keep_seed(net: Arc<Net>, seed: String) {
    let mut backoff = Backoff::new(&net.limits);
    let mut mine = BTreeSet::new();
    loop {
        if net.is_closing() {
            return;
        }
        let reached = dial_seed(&net, &seed, &mut mine).await;
        if reached.is_empty() {
            sleep(backoff.wait()).await;
            continue;
        }
        let up_at = Instant::now();
        // A link lost, or time to look the name up again.
        let _ = timeout(RESOLVE_INTERVAL, any_unlinked(&net, &reached)).await;
        if up_at.elapsed() >= GOOD_LINK {
            backoff.reset();
        }
        sleep(backoff.wait()).await;
    }
}

/// Resolves the seed and dials what is not linked; says which peers it stands for.
async fn dial_seed(net: &Arc<Net>, seed: &str, mine: &mut BTreeSet<SocketAddr>) -> BTreeSet<NodeId> {
    let resolved = match timeout(RESOLVE_TIMEOUT, lookup_host(seed)).await {
        Ok(Ok(addresses)) => addresses
            .take(SEED_ADDRESSES_MAX)
            .map(canonical)
            .collect::<BTreeSet<_>>(),
        Ok(Err(error)) => {
            tracing::warn!(seed, %error, "a seed's name has no address now");
            return BTreeSet::new();
        }
        Err(_) => {
            tracing::warn!(seed, "looking up a seed's name takes too long");
            return BTreeSet::new();
        }
    };
    // A name's addresses come and go; what was ours may be another node's later.
    mine.retain(|address| resolved.contains(address));
    dial_all(net, resolved, mine).await
}

/// Dials what is not linked of a seed's addresses; says which peers they are.
pub(super) async fn dial_all(
    net: &Arc<Net>,
    resolved: BTreeSet<SocketAddr>,
    mine: &mut BTreeSet<SocketAddr>,
) -> BTreeSet<NodeId> {
    let mut reached = BTreeSet::new();
    let mut dials = JoinSet::new();
    for address in resolved {
        if address == net.local || net.hello.addresses.contains(&address) || mine.contains(&address) {
            continue;
        }
        let at = net.table().at(address);
        if let Some(peer) = at {
            reached.insert(peer);
            continue;
        }
        if dials.len() >= SEED_DIALS_MAX {
            heard(dials.join_next().await, &mut reached, mine);
        }
        let dialling = net.clone();
        // At the same time: an address where nobody is takes as long as a handshake may.
        dials.spawn(
            net.alarm
                .over(async move { (address, dial(&dialling, address).await) }),
        );
    }
    while !dials.is_empty() {
        heard(dials.join_next().await, &mut reached, mine);
    }
    reached
}

type SeedDial = Result<(SocketAddr, Result<Dialled, Failure>), JoinError>;

/// Takes in what came of one of a seed's addresses.
fn heard(dialled: Option<SeedDial>, reached: &mut BTreeSet<NodeId>, mine: &mut BTreeSet<SocketAddr>) {
    // What failed has been told.
    match dialled {
        Some(Ok((_, Ok(Dialled::Linked(peer) | Dialled::Known(peer))))) => drop(reached.insert(peer)),
        Some(Ok((address, Ok(Dialled::Myself)))) => drop(mine.insert(address)),
        Some(Ok((_, Err(_))) | Err(_)) | None => {}
    }
}

async fn any_unlinked(net: &Net, peers: &BTreeSet<NodeId>) {
    let mut changes = net.changes.subscribe();
    let all_linked = || peers.iter().all(|peer| net.is_linked(*peer));
    while all_linked() && !net.is_closing() && changes.changed().await.is_ok() {}
}
