//! [`Gossip`]: the membership by chitchat, and the one task that asks it and tells the hints.

use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::membership::carry::{Carrier, Farewell, SendFn, lock};
use crate::membership::chat::Chat;
use crate::membership::limits::{INBOX_MESSAGES_MAX, INPUTS_MAX, LEAVE_TIMEOUT};
use crate::membership::roster::Roster;
use crate::membership::watch::Watch;
use crate::membership::{Announcement, Hint, Leaving, Membership};

/// Who gossips, and how often.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// The cluster; gossip of another one is refused.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// What it says of itself at first.
    pub own: Announcement,
    /// The time between two rounds with a few peers each.
    pub interval: Duration,
}

/// The membership by gossip. It ends when it is dropped, without a word; see [`Membership::leave`].
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use anabranch::membership::{Announcement, Gossip, GossipConfig, Hint, Membership};
/// use anabranch::{Epoch, NodeId};
///
/// let runtime = tokio::runtime::Runtime::new()?;
/// let node = |id: u128| GossipConfig {
///     cluster: "shop".into(),
///     node: NodeId(id),
///     epoch: Epoch(1),
///     own: Announcement { addresses: vec!["192.0.2.1:4400".parse().unwrap()], ..Announcement::default() },
///     interval: std::time::Duration::from_millis(20),
/// };
/// // Two nodes whose links are channels.
/// let (to_b, from_a) = mpsc::channel();
/// let (to_a, from_b) = mpsc::channel();
/// let (hint, hints) = mpsc::channel();
/// let send_a = move |_, message| drop(to_b.send(message));
/// let send_b = move |_, message| drop(to_a.send(message));
/// let a = Gossip::start(node(1), runtime.handle(), send_a, move |h| drop(hint.send(h)));
/// let b = Arc::new(Gossip::start(node(2), runtime.handle(), send_b, |_| {}));
/// let receiver = b.clone();
/// std::thread::spawn(move || from_a.iter().for_each(|message| receiver.on_message(NodeId(1), message)));
/// a.on_link_up(NodeId(2));
/// let hint = loop {
///     if let Ok(message) = from_b.try_recv() {
///         a.on_message(NodeId(2), message);
///     }
///     if let Ok(hint) = hints.try_recv() {
///         break hint;
///     }
/// };
/// assert!(matches!(hint, Hint::Up { node: NodeId(2), epoch: Epoch(1), .. }));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Gossip {
    inputs: mpsc::Sender<Input>,
    inbox: mpsc::Sender<(NodeId, Bytes)>,
    own: watch::Sender<Announcement>,
    roster: Arc<Mutex<Roster>>,
    revivals: Arc<AtomicU64>,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GossipCounters {
    /// Nodes and earlier lives of them that are known now, this one among them.
    pub ids: u64,
    /// What was left out of the others' messages because it made no sense or there was no room.
    pub refused: u64,
    /// How often gossip had ended and was started again.
    pub revivals: u64,
}

enum Input {
    LinkUp(NodeId),
    Leave(oneshot::Sender<()>),
    #[cfg(test)]
    Break,
}

impl Gossip {
    /// Starts gossiping as tasks of `runtime`. `send` hands a message to the link with a node and must not wait;
    /// `hint` takes hints and must not block.
    pub fn start(
        config: GossipConfig,
        runtime: &Handle,
        send: impl Fn(NodeId, Bytes) + Send + Sync + 'static,
        hint: impl Fn(Hint) + Send + Sync + 'static,
    ) -> Gossip {
        let (inputs, inputs_rx) = mpsc::channel(INPUTS_MAX);
        let (inbox, inbox_rx) = mpsc::channel(INBOX_MESSAGES_MAX);
        let (own, own_rx) = watch::channel(config.own.clone());
        let roster = Arc::new(Mutex::new(Roster::new(config.node, config.epoch)));
        let farewell = Arc::new(Farewell::default());
        let send: SendFn = Arc::new(send);
        let carrier = Carrier {
            send,
            inbox: Arc::new(tokio::sync::Mutex::new(inbox_rx)),
            farewell: farewell.clone(),
            roster: roster.clone(),
        };
        let revivals = Arc::new(AtomicU64::new(0));
        let every = config.interval;
        let (knows, revived) = (roster.clone(), revivals.clone());
        drop(runtime.spawn(async move {
            let task = Loop {
                chat: Chat::start(config, carrier).await,
                farewell,
                roster: knows,
                revivals: revived,
                watch: Watch::default(),
            };
            task.run(every, inputs_rx, own_rx, &hint).await;
        }));
        Gossip {
            inputs,
            inbox,
            own,
            roster,
            revivals,
        }
    }

    /// What was counted since the start.
    pub fn counters(&self) -> GossipCounters {
        let roster = lock(&self.roster);
        GossipCounters {
            ids: roster.ids() as u64,
            refused: roster.refused(),
            revivals: self.revivals.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
impl Gossip {
    /// Ends chitchat as a panic would.
    pub(super) fn break_down(&self) {
        let _ = self.inputs.try_send(Input::Break);
    }
}

impl Membership for Gossip {
    fn announce(&self, own: Announcement) {
        self.own.send_replace(own);
    }

    fn on_link_up(&self, peer: NodeId) {
        lock(&self.roster).link_up(peer);
        // Dropped when thousands wait: the rounds reach the peer too, later.
        let _ = self.inputs.try_send(Input::LinkUp(peer));
    }

    fn on_link_down(&self, peer: NodeId) {
        lock(&self.roster).link_down(peer);
    }

    fn on_message(&self, from: NodeId, message: Bytes) {
        if self.inbox.try_send((from, message)).is_err() {
            tracing::debug!(%from, "gossip dropped: too much waits");
        }
    }

    fn leave(&self) -> Leaving {
        let inputs = self.inputs.clone();
        Box::pin(async move {
            let (told, all_told) = oneshot::channel();
            let leaving = async {
                // Either error means that the gossip has ended: nobody is left to be told.
                if inputs.send(Input::Leave(told)).await.is_ok() {
                    let _ = all_told.await;
                }
            };
            let _ = timeout(LEAVE_TIMEOUT, leaving).await;
        })
    }
}

/// What the gossip's task does next.
enum Step {
    Look,
    Announce,
    Handle(Input),
    /// chitchat has ended.
    Ended(String),
    BeginAnew,
    End,
}

struct Loop {
    chat: Chat,
    farewell: Arc<Farewell>,
    roster: Arc<Mutex<Roster>>,
    revivals: Arc<AtomicU64>,
    watch: Watch,
}

impl Loop {
    async fn run(
        mut self,
        every: Duration,
        mut inputs: mpsc::Receiver<Input>,
        mut own: watch::Receiver<Announcement>,
        hint: &(dyn Fn(Hint) + Send + Sync),
    ) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = self.until_end();
        let mut begin_at: Option<Instant> = None;
        loop {
            let step = tokio::select! {
                input = inputs.recv() => input.map_or(Step::End, Step::Handle),
                changed = own.changed() => if changed.is_ok() { Step::Announce } else { Step::End },
                _ = ticks.tick() => Step::Look,
                why = &mut ended => Step::Ended(why),
                () = sleep_until(begin_at.unwrap_or_else(Instant::now)), if begin_at.is_some() => Step::BeginAnew,
            };
            match step {
                Step::Look => {
                    self.look().await.into_iter().for_each(hint);
                    if begin_at.is_none() && self.chat.bury_the_dead().await {
                        ended = self.until_end();
                        self.talk_to_all();
                    }
                }
                Step::Announce => {
                    let own = own.borrow_and_update().clone();
                    self.chat.announce(own).await;
                }
                Step::Handle(input) => self.handle(input).await,
                Step::Ended(why) => {
                    let wait = self.chat.wait();
                    tracing::error!(
                        why,
                        again_in = ?wait,
                        "gossip has ended because of a bug, here or in what a peer sent; it is started again"
                    );
                    begin_at = Some(Instant::now() + wait);
                    ended = Box::pin(pending());
                }
                Step::BeginAnew => {
                    self.revivals.fetch_add(1, Ordering::Relaxed);
                    self.chat.begin_anew().await;
                    begin_at = None;
                    ended = self.until_end();
                    self.talk_to_all();
                }
                Step::End => break,
            }
        }
        self.chat.stop();
    }

    fn until_end(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        Box::pin(self.chat.ended())
    }

    async fn look(&mut self) -> Vec<Hint> {
        let sights = self.chat.look().await;
        let roster = lock(&self.roster);
        self.watch.look(Instant::now(), &sights, roster.linked())
    }

    fn talk_to_all(&self) {
        for peer in lock(&self.roster).linked() {
            self.chat.talk_to(*peer);
        }
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::LinkUp(peer) => {
                self.watch.link_up(Instant::now(), peer);
                self.chat.talk_to(peer);
            }
            #[cfg(test)]
            Input::Break => self.chat.stop(),
            Input::Leave(told) => {
                self.chat.leave().await;
                self.farewell.begin(lock(&self.roster).linked().clone());
                self.talk_to_all();
                // In its own task: the answers to what was just said come through this loop's chitchat.
                let farewell = self.farewell.clone();
                tokio::spawn(async move {
                    let _ = timeout(LEAVE_TIMEOUT, farewell.done()).await;
                    let _ = told.send(());
                });
            }
        }
    }
}
