//! A running node, as its host program sees it: start one, update and read entities, watch, stop.
//!
//! Not here: how any of it happens (`driver`), typed handles (`entity`). No type of an async runtime appears in these
//! signatures: the futures run on whatever executor polls them.

mod builder;
mod dump;
mod parting;
mod status;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use anabranch_crdt::{Crdt, Epoch, NodeId, Reading, ReplicaId, Type};

pub use builder::{NodeBuilder, SHARDS_DEFAULT};
pub use dump::Dump;
pub use status::NodeStatus;
pub use watch::Watch;

#[cfg(feature = "sidecar")]
use crate::driver::Expected;
use crate::driver::{DiskState, Handle};
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::engine::{Answer, Read, ShardSummary, Update};
use crate::entity::Entity;
use crate::error::Error;
#[cfg(feature = "sidecar")]
use crate::function::Foreign;
use crate::function::{Function, Streaming, read_reply};
use crate::payload::{Encoding, Payload};
use crate::session::Call;
use crate::terms::millis;
use crate::trigger::check_kinds;
use crate::wire::{DirectoryId, EntityId, IdempotencyKey, Token};

/// How long a node that leaves waits where nothing is said: a peer that died is known to be gone by then.
pub(crate) const LEAVE_WITHIN: Duration = Duration::from_secs(30);

/// A running node: a replica of every entity of its cluster. Clones are the same node and cost one reference count.
///
/// When the last clone is dropped, the node stops in the background, without losing anything acknowledged durable;
/// [`Node::shutdown`] waits for it.
///
/// ```no_run
/// use anabranch::{Node, PnCounter};
///
/// # async fn example() -> Result<(), anabranch::Error> {
/// let node = Node::builder()
///     .directory("/var/lib/anabranch")
///     .identity_files("pki/ca.pem", "pki/node.pem", "pki/node.key")
///     .seeds(vec!["node-1.example:7400".into()])
///     .start()
///     .await?;
/// let visits = node.entity::<PnCounter>("visits", "/index.html")?;
/// visits.increment(1).await?;
/// println!("{:?} visits", visits.get());
/// node.shutdown().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Node {
    handle: Arc<Handle>,
}

impl Node {
    /// What a node is started with.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    #[cfg(test)]
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    // Who it is.

    /// Its id, which its certificate names.
    pub fn id(&self) -> NodeId {
        self.handle.about.node
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.handle.about.name
    }

    /// Its cluster's name.
    pub fn cluster(&self) -> &str {
        &self.handle.about.cluster
    }

    /// Its current epoch. It rises while the node runs only if peers know a higher one than its directory did.
    pub fn epoch(&self) -> Epoch {
        self.handle.epoch()
    }

    /// The random id of its data directory; another one means that it has lost what it remembered of idempotency
    /// keys.
    pub fn directory_id(&self) -> DirectoryId {
        self.handle.about.directory
    }

    /// Its data directory.
    pub fn data_directory(&self) -> &Path {
        &self.handle.about.path
    }

    /// Where it listens for its peers.
    pub fn quic_address(&self) -> SocketAddr {
        self.handle.network().local_address()
    }

    // Entities.

    /// A typed handle to one entity, which need not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the kind or the key is empty or too long.
    ///
    /// ```no_run
    /// # async fn example(node: anabranch::Node) -> Result<(), anabranch::Error> {
    /// let tags = node.entity::<anabranch::OrSet>("tags", "article 7")?;
    /// tags.add("rust").await?;
    /// assert!(tags.contains("rust"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn entity<T: Crdt>(&self, kind: &str, key: &str) -> Result<Entity<T>, Error> {
        let id = EntityId::new(kind, key)?;
        Ok(Entity::new(self.clone(), id))
    }

    /// Makes an update: all its operations become visible and durable together here, and per shard together
    /// everywhere. Resolves when the update's level is reached.
    ///
    /// Dropping the future does not undo the update once it has been polled. Kinds that begin with `anabranch:` are read by
    /// everybody and written by Anabranch alone: an update of one is [`Invalid`](crate::ErrorKind::Invalid).
    ///
    /// # Errors
    /// Each [`ErrorKind`](crate::ErrorKind) says whether anything changed and whether to retry.
    ///
    /// ```no_run
    /// use anabranch::{EntityId, IdempotencyKey, Level, Mutation, Op, Type, Update};
    ///
    /// # async fn example(node: anabranch::Node) -> Result<(), Box<dyn std::error::Error>> {
    /// let op = |key, n| -> Result<Op, anabranch::NameError> {
    ///     let entity = EntityId::new("account", key)?;
    ///     Ok(Op { entity, ty: Some(Type::PnCounter), mutation: Mutation::Increment(n) })
    /// };
    /// let answer = node
    ///     .update(Update {
    ///         ops: vec![op("alice", -10)?, op("bob", 10)?],
    ///         level: Level::default(),
    ///         key: Some(IdempotencyKey::new(b"transfer 4711")?),
    ///         after: None,
    ///         timeout_ms: 5_000,
    ///     })
    ///     .await?;
    /// assert_eq!(answer.directory, node.directory_id());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update(&self, update: Update) -> Result<Answer, Error> {
        check_kinds(&update)?;
        self.handle.update(update).await
    }

    /// Deletes everything of an entity that this node has seen, at the default level. Concurrent changes by others survive. Deleting
    /// what is not there changes nothing. Once all members have seen the deletion nothing is kept of the entity, and its next update
    /// creates it anew.
    ///
    /// For another level, make [`Mutation::Delete`](anabranch_crdt::Mutation::Delete) an operation of an update.
    ///
    /// ```no_run
    /// # use anabranch::{EntityId, Node};
    /// # async fn example(node: Node) -> Result<(), Box<dyn std::error::Error>> {
    /// node.delete(&EntityId::new("cart", "alice")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Node::update`].
    pub async fn delete(&self, id: &EntityId) -> Result<Answer, Error> {
        self.update(Update::delete(id.clone())).await
    }

    /// Whether this directory remembers an update with this idempotency key. Asking changes nothing and remembers
    /// nothing.
    ///
    /// ```no_run
    /// # fn example(node: anabranch::Node) -> Result<(), anabranch::NameError> {
    /// let key = anabranch::IdempotencyKey::new(b"transfer 4711")?;
    /// println!("made before: {}", node.knows_key(&key));
    /// # Ok(())
    /// # }
    /// ```
    pub fn knows_key(&self, key: &IdempotencyKey) -> bool {
        self.handle.peek(|engine| engine.knows_key(key))
    }

    /// The entity's type and value as this node has it; `None` if there is no such entity. Local: no waiting, no
    /// task switch. After the node has stopped: its last state.
    pub fn read(&self, id: &EntityId) -> Option<(Type, Reading)> {
        self.handle.read(id)
    }

    /// Like [`Node::read`], with the token of a session that begins with this read.
    pub fn read_with_token(&self, id: &EntityId) -> (Option<(Type, Reading)>, Token) {
        self.handle
            .peek(|engine| (engine.read(id), engine.token(&Token::default(), [id])))
    }

    /// What a session has seen once it has read this entity here, as it is now.
    #[cfg(feature = "sidecar")]
    pub(crate) fn seen_with(&self, after: &Token, id: &EntityId) -> Token {
        self.handle.peek(|engine| engine.token(after, [id]))
    }

    /// The entity as a session must see it: like [`Node::read`], but it waits until everything that `after` has seen of the entity,
    /// at whichever node, is here. It also returns what the session has seen now, for its next request.
    ///
    /// ```no_run
    /// # use anabranch::{Answer, EntityId, Node};
    /// # use std::time::Duration;
    /// # async fn example(here: Answer, there: Node) -> Result<(), Box<dyn std::error::Error>> {
    /// // Written here, read there: never without what was written.
    /// let cart = EntityId::new("cart", "alice")?;
    /// let (value, token) = there.read_after(&cart, &here.token, Duration::from_secs(1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Stale`: something did not come in time; retry later or at another node. `Invalid`: the token is of another cluster.
    /// `Overloaded`, `Stopping`: retry later or elsewhere.
    pub async fn read_after(
        &self,
        id: &EntityId,
        after: &Token,
        timeout: Duration,
    ) -> Result<(Option<(Type, Reading)>, Token), Error> {
        self.read_when(id, after, false, timeout).await
    }

    /// The entity as a majority of the members has it: not older than anything that a majority had on disk when this was called, nor
    /// than what an earlier majority read at any node has shown, nor (as [`Node::read_after`]) than what the session has seen. It
    /// takes one round trip, or two if a majority must first store something, and waits if there is no majority.
    ///
    /// ```no_run
    /// # use anabranch::{EntityId, Node, Token};
    /// # use std::time::Duration;
    /// # async fn example(node: Node) -> Result<(), Box<dyn std::error::Error>> {
    /// let leader = EntityId::new("leader", "shard 7")?;
    /// let (value, _) = node.read_majority(&leader, &Token::default(), Duration::from_secs(1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Stale`: no majority answered in time, or keeps it; retry later. The others as for [`Node::read_after`].
    pub async fn read_majority(
        &self,
        id: &EntityId,
        after: &Token,
        timeout: Duration,
    ) -> Result<(Option<(Type, Reading)>, Token), Error> {
        self.read_when(id, after, true, timeout).await
    }

    async fn read_when(
        &self,
        id: &EntityId,
        after: &Token,
        majority: bool,
        timeout: Duration,
    ) -> Result<(Option<(Type, Reading)>, Token), Error> {
        let read = Read {
            entities: vec![id.clone()],
            all: false,
            after: after.clone(),
            majority,
            timeout_ms: millis(timeout),
        };
        let answer = self.handle.await_read(read).await?;
        Ok(self
            .handle
            .peek(|engine| engine.read_answered(&answer, after, id)))
    }

    // Functions.

    /// Calls a method of an entity's function at this node, or, if this node has no such method, at the nearest that has it. The
    /// whole call has ten seconds.
    ///
    /// At this node the function runs on the calling thread. The reply comes once the change has reached the method's level: by
    /// default, this node's disk.
    ///
    /// ```no_run
    /// # async fn example(node: anabranch::Node) -> Result<(), anabranch::Error> {
    /// let hits: i64 = node.call("hits", "/index.html", "hit", &1).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NoFunction`](crate::ErrorKind::NoFunction), [`ErrorKind::Refused`](crate::ErrorKind::Refused) (with what the function said, for programs in
    /// [`Error::details`]), [`ErrorKind::Expired`](crate::ErrorKind::Expired), [`ErrorKind::Lost`](crate::ErrorKind::Lost); [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for an argument of another type,
    /// [`ErrorKind::Unanswered`](crate::ErrorKind::Unanswered) for a reply of another; and all those of [`Node::update`]. Each says whether anything changed.
    pub async fn call<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<R, Error> {
        let call = call_of(kind, key, method, argument)?;
        let shared = self.handle.shared();
        let reply = shared.call_anywhere(call, None, TIMEOUT_MS_DEFAULT).await?;
        read_reply(format_args!("{method} of {kind}/{key}"), &reply)
    }

    /// Like [`Node::call`], with bytes and in a session: it waits until all that `after` has seen is here, and returns what the
    /// session has seen then.
    ///
    /// # Errors
    /// See [`Node::call`]; `Stale` if something that the session has seen did not come in time.
    pub async fn call_payload(
        &self,
        call: Call,
        after: Option<&Token>,
        timeout: Duration,
    ) -> Result<(Payload, Token), Error> {
        let mut token = after.cloned().unwrap_or_default();
        let shared = self.handle.shared();
        let reply = shared
            .call_anywhere(call, Some(&mut token), millis(timeout))
            .await;
        in_session(reply, after, token)
    }

    /// Like [`Node::call_payload`], at a certain node, which must be linked with this one: for answers that depend on the node, such
    /// as what it holds of a bounded counter. The function runs there at most once, with what is left of the time.
    ///
    /// ```no_run
    /// use anabranch::{Call, Encoding, EntityId, NodeId, Payload};
    /// # use std::time::Duration;
    ///
    /// # async fn example(node: anabranch::Node, other: NodeId) -> Result<(), Box<dyn std::error::Error>> {
    /// let argument = Payload::of(Encoding::Cbor, &100)?;
    /// let call = Call::new(EntityId::new("quota", "api")?, "hand_over", argument);
    /// let (reply, _) = node.call_on(other, call, None, Duration::from_secs(1)).await?;
    /// println!("{:?}", reply.read::<u32>());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Node::call`]; [`ErrorKind::Unreachable`](crate::ErrorKind::Unreachable) where there is no link, and nothing was sent;
    /// [`ErrorKind::Unanswered`](crate::ErrorKind::Unanswered) where the link ended or the answer did not come: the function may have run.
    pub async fn call_on(
        &self,
        node: NodeId,
        call: Call,
        after: Option<&Token>,
        timeout: Duration,
    ) -> Result<(Payload, Token), Error> {
        let mut token = after.cloned().unwrap_or_default();
        let shared = self.handle.shared();
        let reply = shared
            .call_on(node, call, Some(&mut token), millis(timeout))
            .await;
        in_session(reply, after, token)
    }

    /// Opens a stream of an entity's function: a method that [streams](crate::FunctionBuilder::stream), or a query, which is
    /// answered now and whenever its answer has changed. It opens here, or, if there is no such method, at the nearest node that
    /// has it. It runs while its caller waits for it, and ends when it is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::NoFunction`](crate::ErrorKind::NoFunction); [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a command; [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded), [`ErrorKind::Unreachable`](crate::ErrorKind::Unreachable),
    /// [`ErrorKind::Unanswered`](crate::ErrorKind::Unanswered). Nothing has changed. What the function ends with is told by [`Streaming::next`].
    pub async fn stream<A: Serialize + ?Sized>(
        &self,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<Streaming, Error> {
        let call = call_of(kind, key, method, argument)?;
        let shared = self.handle.shared();
        shared
            .open_anywhere(call, Token::default(), TIMEOUT_MS_DEFAULT)
            .await
    }

    /// Like [`Node::stream`], with bytes, in a session, and at a certain node if one is given.
    ///
    /// # Errors
    /// See [`Node::stream`]; `Stale` if something that the session has seen did not come in time.
    pub async fn stream_payload(
        &self,
        on: Option<NodeId>,
        call: Call,
        after: &Token,
        timeout: Duration,
    ) -> Result<Streaming, Error> {
        let (shared, after) = (self.handle.shared(), after.clone());
        match on {
            Some(on) => shared.open_on(on, call, after, millis(timeout)).await,
            None => shared.open_anywhere(call, after, millis(timeout)).await,
        }
    }

    /// The same, for whoever must not be held up by a function's steps.
    #[cfg(feature = "daemon")]
    pub(crate) async fn stream_aside(
        &self,
        call: Call,
        after: &Token,
        timeout: Duration,
    ) -> Result<Streaming, Error> {
        let (shared, after) = (self.handle.shared(), after.clone());
        let is_here = self.handle.functions.has_method(&call);
        match is_here {
            true => shared.open_aside(call, after, millis(timeout)).await,
            false => shared.open_anywhere(call, after, millis(timeout)).await,
        }
    }

    /// Functions of another process are here from now on.
    #[cfg(feature = "sidecar")]
    pub(crate) fn serve_foreign(&self, functions: Vec<Arc<dyn Foreign>>) {
        self.handle.shared().serve_foreign(functions);
    }

    /// There are to be some, as long as this is held: callers of what is not here are to try again.
    #[cfg(feature = "sidecar")]
    pub(crate) fn expect_foreign(&self) -> Expected {
        self.handle.shared().expect_foreign()
    }

    /// They are here no more.
    #[cfg(feature = "sidecar")]
    pub(crate) fn serve_foreign_no_more(&self, functions: &[Arc<dyn Foreign>]) {
        self.handle.shared().serve_foreign_no_more(functions);
    }

    /// The nodes that are believed to be up, this one among them.
    #[cfg(feature = "sidecar")]
    pub(crate) fn live_nodes(&self) -> Vec<NodeId> {
        let others = self.handle.network().live();
        let others = others.into_iter().map(|replica| replica.node);
        others.chain([self.id()]).collect()
    }

    /// The functions that run here, by kind.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.handle.functions.iter().map(|function| &**function)
    }

    /// Follows one entity, which need not exist. The watch does not keep the node alive.
    pub fn watch(&self, id: &EntityId) -> Watch {
        Watch::new(Arc::clone(self.handle.shared()), id.clone())
    }

    /// Every entity with its type and value, sorted by kind, then key, bytewise.
    ///
    /// Each shard is shown as it was at one moment during this call; later changes do not show. Reads and writes go on meanwhile.
    /// [`Dump::token`] stands for what a session has seen with it.
    pub fn dump(&self) -> Dump {
        Dump::of(self, None, &Token::default())
    }

    /// Like [`Node::dump`], of one kind.
    pub fn dump_kind(&self, kind: &str) -> Dump {
        Dump::of(self, Some(kind), &Token::default())
    }

    /// Like [`Node::dump`], of one kind or of all, in a session: it waits until all that `after` has seen, in any shard, is here. The
    /// dump's token is the session's from then on.
    ///
    /// ```no_run
    /// # use anabranch::{Node, Token};
    /// # async fn example(node: Node, seen: Token) -> Result<(), anabranch::Error> {
    /// let carts = node.dump_after(Some("cart"), &seen, std::time::Duration::from_secs(1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Node::read_after`].
    pub async fn dump_after(
        &self,
        kind: Option<&str>,
        after: &Token,
        timeout: Duration,
    ) -> Result<Dump, Error> {
        let read = Read {
            entities: Vec::new(),
            all: true,
            after: after.clone(),
            majority: false,
            timeout_ms: millis(timeout),
        };
        self.handle.await_read(read).await?;
        Ok(Dump::of(self, kind, after))
    }

    /// The types that entities of a kind have here, ascending: none if there is no entity of it; several if nodes that
    /// could not see each other first wrote it under different ones.
    ///
    /// ```no_run
    /// # fn example(node: anabranch::Node) {
    /// assert_eq!(node.kind_types("cart"), [anabranch::Type::OrSet]);
    /// # }
    /// ```
    pub fn kind_types(&self, kind: &str) -> Vec<Type> {
        self.handle.peek(|engine| engine.kind_types(kind))
    }

    /// How many bytes of state there are here of each kind that has a function: its entities' keys, and their values in canonical
    /// form, without what the log and memory add.
    ///
    /// Each call measures what has changed since the last, at most 32 MiB of it; the rest is reported as measured before, and is
    /// measured by a later call. The engine goes on meanwhile; the call takes as long as encoding that much does.
    ///
    /// ```no_run
    /// # fn example(node: anabranch::Node) {
    /// let bytes = node.state_bytes();
    /// println!("carts take {} bytes", bytes.get("cart").unwrap_or(&0));
    /// # }
    /// ```
    pub fn state_bytes(&self) -> BTreeMap<String, u64> {
        self.handle.state_bytes()
    }

    /// The current run of a node that this one is linked with, or of this node: to whom rights of a bounded counter can be
    /// [handed over](Entity::transfer). A later run of that node has them too, once it has heard every member.
    pub fn replica_of(&self, node: NodeId) -> Option<ReplicaId> {
        if node == self.id() {
            return Some(ReplicaId::new(node, self.epoch()));
        }
        let epoch = self.handle.peek(|engine| engine.linked_epoch(node))?;
        Some(ReplicaId::new(node, epoch))
    }

    // How it is.

    /// Per shard that is not empty: its version vector and fingerprint. Replicas with equal vectors must have equal
    /// fingerprints.
    pub fn summaries(&self) -> Vec<ShardSummary> {
        self.handle.peek(|engine| engine.summaries())
    }

    /// Whether writes are taken: a node with a new directory that knows of others, by seeds or members, first catches
    /// up with one of them. A node that stops or has stopped takes none any more.
    pub fn is_ready(&self) -> bool {
        self.handle.is_ready()
    }

    /// How its store is doing. While its disk is full, updates are refused, though it has caught up.
    pub fn disk(&self) -> DiskState {
        self.handle.disk()
    }

    /// Whether it stops, or has.
    #[cfg(feature = "daemon")]
    pub(crate) fn is_stopping(&self) -> bool {
        self.handle.shared().is_stopping()
    }

    /// Resolves once writes are taken for the first time (or the node has stopped).
    pub async fn ready(&self) {
        self.handle.ready().await;
    }

    /// How the node and, as seen from here, its cluster are.
    pub fn status(&self) -> NodeStatus {
        NodeStatus::of(&self.handle)
    }

    // The end.

    /// Resolves when the node has stopped.
    ///
    /// # Errors
    /// Why, if it was not asked to: [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) after a failed sync, [`ErrorKind::DiskFull`](crate::ErrorKind::DiskFull) if its last
    /// updates found no room, [`ErrorKind::Io`](crate::ErrorKind::Io) if the system refused to take them, [`ErrorKind::Internal`](crate::ErrorKind::Internal) after a bug.
    pub async fn stopped(&self) -> Result<(), Error> {
        self.handle.stopped().await
    }

    /// Stops the node: takes no further updates, makes the accepted ones durable, tells the peers, closes everything.
    /// Updates that still wait for copies elsewhere end with [`ErrorKind::Unconfirmed`](crate::ErrorKind::Unconfirmed); what waits for what its
    /// session has seen, and so was not begun, with [`ErrorKind::Stopping`](crate::ErrorKind::Stopping). Any number of callers may ask;
    /// all get the same answer. Dropping the future does not keep the node running.
    ///
    /// Reads and queries are still answered afterwards, from the last state.
    ///
    /// # Errors
    /// See [`Node::stopped`].
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.handle.stop(None);
        self.handle.stopped().await
    }

    /// Like [`Node::shutdown`], and tells the others that this node does not come back, so that nobody looks or waits for it. Before
    /// that it hands over what it may take away of bounded counters, to the nodes that it is linked with, in turn, and waits until
    /// all of them have what it has, 30 seconds at most: see [`Node::leave_within`].
    ///
    /// # Errors
    /// See [`Node::stopped`]; [`ErrorKind::Unconfirmed`](crate::ErrorKind::Unconfirmed) if the node has left, but no peer, or not
    /// every connected one, is known to have all that it had; [`ErrorKind::Stopping`](crate::ErrorKind::Stopping) if it had been
    /// stopped before, and has not left.
    pub async fn leave(&self) -> Result<(), Error> {
        self.leave_within(LEAVE_WITHIN).await
    }

    /// The same with another limit. A peer that died holds a leaving up for the 10 seconds that it takes to find out; with a limit
    /// below that it ends in the error. Asked again with a shorter one, the node goes sooner: with none, at once. Every caller hears
    /// what was not confirmed then.
    ///
    /// # Errors
    /// See [`Node::leave`].
    pub async fn leave_within(&self, limit: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let kept = parting::hand_over(self, || began.elapsed() < limit).await;
        self.handle.stop(Some(limit.saturating_sub(began.elapsed())));
        self.handle.left().await?;
        match kept {
            0 => Ok(()),
            kept => Err(parting::kept(kept)),
        }
    }
}

fn call_of<A: Serialize + ?Sized>(kind: &str, key: &str, method: &str, argument: &A) -> Result<Call, Error> {
    let entity = EntityId::new(kind, key)?;
    Ok(Call::new(entity, method, Payload::of(Encoding::Cbor, argument)?))
}

/// How a call has ended, with what its session has seen then: also where it has seen more and no reply.
fn in_session(
    reply: Result<Payload, Error>,
    after: Option<&Token>,
    token: Token,
) -> Result<(Payload, Token), Error> {
    match reply {
        Ok(reply) => Ok((reply, token)),
        Err(error) if token == *after.unwrap_or(&Token::default()) => Err(error),
        Err(error) => Err(token.within(error)),
    }
}
