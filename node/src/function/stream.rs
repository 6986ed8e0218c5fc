//! Streaming calls: a function that is sent messages and replies as often as it likes, and its caller's end of that.
//!
//! Not here: where its entity and its clock come from (a [`Host`]), and how a stream goes to another node (`driver`).
//!
//! Contract: a stream looks and never changes its entity: what it wants changed it calls a command for, as anybody does. So it
//! holds up nobody, however long it lives. It ends with its function, with its caller, or with its node. Neither end gets ahead
//! of the other by more than [`STREAM_WAITING_MAX`] messages. No thread and no task belongs to it: it runs while its caller waits.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, ready};

use anabranch_crdt::{NodeId, ReplicaId, planted};
use futures_channel::mpsc::{Receiver, Sender, channel};
use futures_core::Stream as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::state::{Seen, State};
use super::{BoxFuture, Caller, Caught, Context, Function, FunctionBuilder, Method, Runs};
use super::{argument, panicked, read_reply, refusal, written};
use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload};
use crate::session::{Action, Call, Command, CommandId, Said};
use crate::view::View;
use crate::wire::{EntityId, Token};

/// At most so many messages wait for a stream's function, and so many replies for its caller.
pub const STREAM_WAITING_MAX: usize = 16;

/// At most so many calls can be left behind for a stream's end.
pub const AT_END_MAX: usize = 16;

/// What a stream's function is beside: its entity as it is, and somebody who makes its calls.
pub trait Host: Caller {
    /// The entity as it is at this node.
    ///
    /// # Errors
    /// It has another type, or the node has stopped.
    fn look(&self) -> Result<View, Error>;

    /// Waits until the entity, or who is there, may be another than when `look` was last called.
    ///
    /// # Errors
    /// [`ErrorKind::Stopping`]: nothing changes here any more.
    fn changed(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// The node's wall clock, milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// Has this called once the stream has ended, however it ends but with its node.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`]: so many wait for that already.
    fn at_end(&self, call: Call) -> Result<(), Error>;
}

/// The function's end of a streaming call: its entity as it changes, what its caller sends, and the way to it.
///
/// ```
/// use anabranch::state::OrSet;
/// use anabranch::{Error, Function, Stream};
///
/// /// Lets everybody in whom the caller names, and says each time who is there.
/// async fn doorman(mut stream: Stream<OrSet<String>, String, Vec<String>>, door: String) -> Result<(), Error> {
///     let (kind, key) = (stream.entity().kind().to_owned(), stream.key().to_owned());
///     while let Some(name) = stream.next().await? {
///         let _: () = stream.call(&kind, &key, "enter", &format!("{name} by {door}")).await?;
///         let guests = stream.state()?.elements();
///         stream.send(&guests).await?;
///     }
///     Ok(())
/// }
///
/// let function: Function = Function::of::<OrSet<String>>("room").stream("doorman", doorman).into();
/// assert!(function.is_stream("doorman"));
/// ```
pub struct Stream<S, M, R> {
    context: Context,
    host: Arc<dyn Host>,
    encoding: Encoding,
    seen: Option<Seen>,
    pipe: Pipe,
    types: PhantomData<fn(S, M) -> R>,
}

/// An entity's state as it was at one moment; for looking.
pub struct Snapshot<S>(S);

impl<S> Deref for Snapshot<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: State, M: DeserializeOwned, R: Serialize> Stream<S, M, R> {
    /// The entity as it is at this node now.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`]: it was made anew as something else. [`ErrorKind::Stopping`].
    pub fn state(&mut self) -> Result<Snapshot<S>, Error> {
        self.check()?;
        let seen = Seen::of(self.host.look()?);
        let state = S::open(&seen);
        self.seen = Some(seen);
        Ok(Snapshot(state))
    }

    /// Waits until the entity, or [`live`](Stream::live), may differ from when it was last looked at. Several changes in a row may
    /// be one.
    ///
    /// # Errors
    /// [`ErrorKind::Stopping`]: nothing changes here any more.
    pub async fn changed(&mut self) -> Result<(), Error> {
        self.host.changed().await
    }

    /// The caller's next message; `None` once it has said that there are no more.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: it is not what the method takes.
    pub async fn next(&mut self) -> Result<Option<M>, Error> {
        let Some(message) = self.pipe.next().await else {
            return Ok(None);
        };
        let read = message.read().map(Some);
        read.map_err(|e| {
            let message = format!("a message is not what the method takes: {e}");
            Error::new(ErrorKind::Invalid, message)
        })
    }

    /// Replies. Waits while the caller is [far behind](STREAM_WAITING_MAX).
    ///
    /// # Errors
    /// [`ErrorKind::Refused`]: the reply cannot be written, is too large, or what it was made of could not be read.
    pub async fn send(&mut self, reply: &R) -> Result<(), Error> {
        self.check()?;
        let reply = fitting(written(self.encoding, reply)?)?;
        let replied = self.pipe.reply(reply).await;
        replied.map_err(|_gone| Error::new(ErrorKind::Lost, "the caller has gone"))
    }

    /// Calls a function and waits for its answer: another entity's, or a command of this one.
    ///
    /// # Errors
    /// See [`Context::call`].
    pub async fn call<A: Serialize + ?Sized, T: DeserializeOwned>(
        &mut self,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<T, Error> {
        let call = self.context.call_of(kind, key, method, argument)?;
        self.ask(None, call).await
    }

    /// The same at a certain node.
    ///
    /// # Errors
    /// See [`Context::call_on`].
    pub async fn call_on<A: Serialize + ?Sized, T: DeserializeOwned>(
        &mut self,
        node: NodeId,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<T, Error> {
        let call = self.context.call_of(kind, key, method, argument)?;
        self.ask(Some(node), call).await
    }

    async fn ask<T: DeserializeOwned>(&self, on: Option<NodeId>, call: Call) -> Result<T, Error> {
        let name = call.to_string();
        let host = Arc::clone(&self.host);
        read_reply(&name, &host.call(on, call).await?)
    }

    /// Opens a stream of another function, at a certain node or at this one.
    ///
    /// # Errors
    /// See [`Caller::open`].
    pub async fn open<A: Serialize + ?Sized>(
        &mut self,
        node: Option<NodeId>,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<Streaming, Error> {
        let call = self.context.call_of(kind, key, method, argument)?;
        let host = Arc::clone(&self.host);
        host.open(node, call).await
    }

    /// Calls a function once this stream has ended, however it ends: well, with an error, or because its caller is gone; but not if
    /// the node itself stops. Several are called in the order in which they were asked for. A failure is told to nobody.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`]: [`AT_END_MAX`] wait for that already. [`ErrorKind::Invalid`] for a wrong name.
    pub fn at_end<A: Serialize + ?Sized>(
        &mut self,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<(), Error> {
        let call = self.context.call_of(kind, key, method, argument)?;
        self.host.at_end(call)
    }

    /// The runs of nodes that are believed to be up, this one's among them: see [`Context::live`].
    pub fn live(&self) -> Vec<ReplicaId> {
        self.context.live()
    }

    /// The entity that was asked.
    pub fn entity(&self) -> &EntityId {
        self.context.entity()
    }

    /// Its key.
    pub fn key(&self) -> &str {
        self.context.key()
    }

    /// The node that runs the function.
    pub fn node(&self) -> NodeId {
        self.context.node()
    }

    /// The node's run when the stream began.
    pub fn replica(&self) -> ReplicaId {
        self.context.replica()
    }

    /// The nodes that this one is linked with now.
    pub fn peers(&self) -> Vec<NodeId> {
        self.host.peers()
    }

    /// The node's wall clock now, milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.host.now_ms()
    }

    /// A random number, another one each time. Not for secrets.
    pub fn random(&mut self) -> u64 {
        self.context.random()
    }

    fn check(&self) -> Result<(), Error> {
        self.seen.as_ref().map_or(Ok(()), Seen::check)
    }
}

impl<S, M, R> fmt::Debug for Stream<S, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// What a method that streams is run with.
pub(super) struct Ends {
    context: Context,
    host: Arc<dyn Host>,
    pipe: Pipe,
}

/// The far end of a stream: what its caller sends, and the way to it.
pub(crate) struct Pipe {
    messages: Receiver<Payload>,
    replies: Sender<Payload>,
    /// Whether the caller has said that there are no more messages.
    is_all: Arc<AtomicBool>,
}

/// The caller is not there any more.
#[derive(Debug)]
pub(crate) struct Gone;

impl Pipe {
    /// The caller's next message; `None` after its last.
    pub(crate) async fn next(&mut self) -> Option<Payload> {
        match self.messages.recv().await {
            Ok(message) => Some(message),
            Err(_) if planted!("gone_has_said_all", true, self.is_all.load(Ordering::Acquire)) => None,
            // A caller that is gone has not said all: this function is about to be dropped.
            Err(_) => std::future::pending().await,
        }
    }

    /// Hands the caller a reply; waits while it is far behind.
    pub(crate) async fn reply(&mut self, reply: Payload) -> Result<(), Gone> {
        poll_fn(|task| self.replies.poll_ready(task))
            .await
            .map_err(|_| Gone)?;
        self.replies.start_send(reply).map_err(|_| Gone)
    }

    /// Both directions apart.
    pub(crate) fn split(self) -> (Pipe, Pipe) {
        let (_, no_messages) = channel(0);
        let (no_replies, _) = channel(0);
        let inward = Pipe {
            messages: self.messages,
            replies: no_replies,
            is_all: Arc::clone(&self.is_all),
        };
        let outward = Pipe {
            messages: no_messages,
            replies: self.replies,
            is_all: self.is_all,
        };
        (inward, outward)
    }
}

/// What becomes of such a method.
pub(super) type RunStream =
    dyn Fn(Ends, &Payload) -> Result<BoxFuture<'static, Result<(), Error>>, Error> + Send + Sync;

/// A stream, from its first step: what its function and its argument's type do themselves happens where the stream runs.
async fn run(function: Arc<Function>, command: Command, ends: Ends) -> Result<(), Error> {
    match function.methods.get(&command.method).map(|method| &method.run) {
        Some(Runs::Stream(run)) => run(ends, &command.payload)?.await,
        _ => follow(&function, &command, ends).await,
    }
}

impl<S: State> FunctionBuilder<S> {
    /// A method that replies as often as it likes, to messages or to changes of its entity. It changes nothing itself, and so blocks
    /// nobody: to change something it calls commands. When its caller goes away, it ends wherever it waits.
    ///
    /// To follow a query no such method is needed: every query can be [opened](crate::Node::stream) as a stream.
    #[must_use]
    pub fn stream<A, M, R, E, F>(
        self,
        method: &str,
        run: impl Fn(Stream<S, M, R>, A) -> F + Send + Sync + 'static,
    ) -> FunctionBuilder<S>
    where
        A: DeserializeOwned,
        M: DeserializeOwned,
        R: Serialize,
        E: fmt::Display + Serialize,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let run: Box<RunStream> = Box::new(move |ends, payload| {
            let encoding = payload.encoding;
            let stream = Stream {
                context: ends.context,
                host: ends.host,
                encoding,
                seen: None,
                pipe: ends.pipe,
                types: PhantomData,
            };
            let running = run(stream, argument(payload)?);
            Ok(Box::pin(async move {
                running.await.map_err(|error| refusal(encoding, &error))
            }))
        });
        self.method(method, true, Runs::Stream(run))
    }
}

impl Function {
    /// Whether the method is one that streams.
    pub fn is_stream(&self, method: &str) -> bool {
        self.method(method).is_some_and(Method::is_stream)
    }

    /// Answers a streaming call: with a method that streams; or with a query, which is asked again whenever the entity has
    /// changed, and whose replies are those that differ from the one before.
    ///
    /// # Errors
    /// [`ErrorKind::NoFunction`]: there is no such method. [`ErrorKind::Invalid`]: it is a command.
    pub fn open(
        self: &Arc<Self>,
        command: Command,
        mut context: Context,
        host: Arc<dyn Host>,
    ) -> Result<Streaming, Error> {
        let is_query = self.is_query_or_stream(&command.method)?;
        if !is_query {
            let message = format!(
                "nothing changed: {} of {} is a command, which is answered once: call it",
                command.method, self.kind
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        context.begin(&command);
        let about = (context.clone(), command.method.clone());
        Streaming::new(command.payload.encoding, |pipe| {
            let ends = Ends { context, host, pipe };
            let running = run(Arc::clone(self), command, ends);
            Ok(Box::pin(async move {
                let ended = Caught(Box::pin(running)).await;
                let ended = ended.unwrap_or_else(|panic| Err(panicked(&about.0, &about.1, panic.as_ref())));
                (ended, Token::default())
            }))
        })
    }
}

/// A query, again and again.
async fn follow(function: &Function, command: &Command, ends: Ends) -> Result<(), Error> {
    let Ends {
        context,
        host,
        mut pipe,
    } = ends;
    let mut last = None;
    loop {
        let (view, now_ms) = (host.look()?, host.now_ms());
        let said = function.run(CommandId(0), command, view, context.clone().at(now_ms));
        let reply = match said {
            Said::Reply(reply) => match reply.action {
                Action::Reply(payload) => fitting(payload)?,
                Action::Refuse(error) => return Err(error),
                Action::Forward(_) => unreachable!("a query has no way to forward"),
            },
            Said::Failed { error, .. } => return Err(error),
            Said::Ended | Said::Streamed { .. } => unreachable!("a function in Rust answers, at once"),
        };
        if last.as_ref() != Some(&reply) {
            last = Some(reply.clone());
            if pipe.reply(reply).await.is_err() {
                return Ok(());
            }
        }
        host.changed().await?;
    }
}

fn fitting(reply: Payload) -> Result<Payload, Error> {
    match reply.excess() {
        None => Ok(reply),
        Some(excess) => {
            let message = format!("a reply of the function has {excess}");
            Err(Error::new(ErrorKind::Refused, message))
        }
    }
}

/// How a stream ended, and what its function had seen then.
pub type Ended = (Result<(), Error>, Token);

/// The caller's end of a streaming call. Dropped, it ends the call.
///
/// ```no_run
/// # async fn example(node: anabranch::Node) -> Result<(), anabranch::Error> {
/// // What the query answers now, and whenever that changes.
/// let mut lines = node.stream("cart", "alice", "show", &()).await?;
/// while let Some(contents) = lines.next::<Vec<String>>().await? {
///     println!("{contents:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Streaming {
    messages: Messages,
    replies: Receiver<Payload>,
    run: Option<BoxFuture<'static, Ended>>,
    /// How it ended, until that was told.
    result: Result<(), Error>,
    token: Token,
}

/// Where a caller sends its messages. Dropped before it is [finished](Messages::finish), it leaves the function waiting for more,
/// until its caller has gone.
#[derive(Debug)]
pub struct Messages {
    encoding: Encoding,
    sender: Option<Sender<Payload>>,
    is_all: Arc<AtomicBool>,
}

impl Streaming {
    /// A stream that is run by what `run` makes of its far end.
    pub(crate) fn new(
        encoding: Encoding,
        run: impl FnOnce(Pipe) -> Result<BoxFuture<'static, Ended>, Error>,
    ) -> Result<Streaming, Error> {
        let (sender, messages) = channel(STREAM_WAITING_MAX - 1);
        let (replies, to_caller) = channel(STREAM_WAITING_MAX - 1);
        let is_all = Arc::default();
        let run = run(Pipe {
            messages,
            replies,
            is_all: Arc::clone(&is_all),
        })?;
        let sender = Some(sender);
        Ok(Streaming {
            messages: Messages {
                encoding,
                sender,
                is_all,
            },
            replies: to_caller,
            run: Some(run),
            result: Ok(()),
            token: Token::default(),
        })
    }

    /// The same, run in another way: for hosts, which end it when they do and say what it has seen.
    #[must_use]
    pub fn map(self, f: impl FnOnce(BoxFuture<'static, Ended>) -> BoxFuture<'static, Ended>) -> Streaming {
        Streaming {
            run: self.run.map(f),
            ..self
        }
    }

    /// Waits for the next reply; `None` once the function has ended well. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the function ended with, once; [`ErrorKind::Unanswered`] where the link with its node has; [`ErrorKind::Stopping`].
    /// The same for a reply of another type, and then the next one comes.
    pub async fn next<R: DeserializeOwned>(&mut self) -> Result<Option<R>, Error> {
        match self.next_payload().await? {
            Some(reply) => read_reply("a stream", &reply).map(Some),
            None => Ok(None),
        }
    }

    /// The same as bytes.
    ///
    /// # Errors
    /// See [`Streaming::next`].
    pub async fn next_payload(&mut self) -> Result<Option<Payload>, Error> {
        poll_fn(|task| self.poll_reply(task)).await
    }

    /// Sends the function a message; waits while the function is [far behind](STREAM_WAITING_MAX). A function whose replies are not
    /// taken waits, too: if you send many messages, also take the replies, or [`split`](Streaming::split) the two.
    ///
    /// # Errors
    /// The function has ended, with this error, or takes no more messages: [`ErrorKind::Refused`].
    pub async fn send<M: Serialize + ?Sized>(&mut self, message: &M) -> Result<(), Error> {
        let message = self.messages.write(message)?;
        poll_fn(|task| {
            let room = self.messages.poll_room(task);
            if room.is_pending() && self.poll_run(task).is_ready() {
                let ended = std::mem::replace(&mut self.result, Ok(()));
                return Poll::Ready(ended.and_then(|()| Err(no_more())));
            }
            room
        })
        .await?;
        self.messages.put(message)
    }

    /// There will be no more messages.
    pub fn finish(&mut self) {
        self.messages.finish();
    }

    /// Separates the messages from the replies, for a caller that sends while it waits. The function runs only while its replies
    /// are waited for.
    pub fn split(mut self) -> (Messages, Streaming) {
        let encoding = self.messages.encoding;
        let rest = Messages {
            encoding,
            sender: None,
            is_all: Arc::default(),
        };
        (std::mem::replace(&mut self.messages, rest), self)
    }

    /// What the function had seen when it ended: for reading what it did, with [`read_after`](crate::Node::read_after).
    pub fn token(&self) -> &Token {
        &self.token
    }

    fn poll_reply(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<Option<Payload>, Error>> {
        if let Poll::Ready(Some(reply)) = Pin::new(&mut self.replies).poll_next(task) {
            return Poll::Ready(Ok(Some(reply)));
        }
        let has_ended = self.poll_run(task).is_ready();
        match Pin::new(&mut self.replies).poll_next(task) {
            Poll::Ready(Some(reply)) => Poll::Ready(Ok(Some(reply))),
            _ if has_ended => Poll::Ready(std::mem::replace(&mut self.result, Ok(())).map(|()| None)),
            _ => Poll::Pending,
        }
    }

    fn poll_run(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        if let Some(run) = &mut self.run {
            let (result, token) = ready!(run.as_mut().poll(task));
            (self.run, self.result, self.token) = (None, result, token);
        }
        Poll::Ready(())
    }
}

impl Messages {
    /// Sends the function a message; waits while it is far behind.
    ///
    /// # Errors
    /// The function has ended or takes no more messages: [`ErrorKind::Refused`].
    pub async fn send<M: Serialize + ?Sized>(&mut self, message: &M) -> Result<(), Error> {
        let message = self.write(message)?;
        self.send_payload(message).await
    }

    /// The same with bytes.
    ///
    /// # Errors
    /// See [`Messages::send`].
    pub async fn send_payload(&mut self, message: Payload) -> Result<(), Error> {
        check_message(&message)?;
        poll_fn(|task| self.poll_room(task)).await?;
        self.put(message)
    }

    /// There will be no more messages.
    pub fn finish(&mut self) {
        self.is_all.store(true, Ordering::Release);
        self.sender = None;
    }

    fn write<M: Serialize + ?Sized>(&self, message: &M) -> Result<Payload, Error> {
        let invalid = |e: crate::PayloadError| Error::new(ErrorKind::Invalid, e.to_string());
        let message = Payload::of(self.encoding, message).map_err(invalid)?;
        check_message(&message)?;
        Ok(message)
    }

    fn poll_room(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        match &mut self.sender {
            Some(sender) => sender.poll_ready(task).map_err(|_| no_more()),
            None => Poll::Ready(Err(no_more())),
        }
    }

    fn put(&mut self, message: Payload) -> Result<(), Error> {
        let sender = self.sender.as_mut().ok_or_else(no_more)?;
        sender.start_send(message).map_err(|_| no_more())
    }
}

fn check_message(message: &Payload) -> Result<(), Error> {
    match message.excess() {
        None => Ok(()),
        Some(excess) => {
            let message = format!("not sent: a message of {excess}");
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

fn no_more() -> Error {
    Error::new(
        ErrorKind::Refused,
        "not sent: the function takes no more messages",
    )
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming")
            .field("has_ended", &self.run.is_none())
            .finish_non_exhaustive()
    }
}
