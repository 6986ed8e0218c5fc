//! Functions in Rust: code that is given an entity and a command, and answers.
//!
//! Not here: when they run and what becomes of what they did (`session`), and who calls them (`driver`).
//!
//! Contract: a function is a pure value. What it may know besides its entity and its argument comes in its [`Context`], so that
//! the same function does the same in a simulation. Nothing that it does to its state is seen by anybody before it has returned
//! well.

mod context;
mod datum;
pub mod far;
#[cfg(feature = "quic")]
mod foreign;
mod overlay;
pub mod state;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anabranch_crdt::{Mutation, Type};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use context::{Caller, Context, Nodes};
#[cfg(feature = "quic")]
pub use foreign::{Foreign, Handle, Hear, unknown_elsewhere};
#[cfg(feature = "quic")]
pub(crate) use stream::Pipe;
pub use stream::{AT_END_MAX, Ended, Host, Messages, STREAM_WAITING_MAX, Snapshot, Stream, Streaming};

use self::state::{Seen, State};
use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload, PayloadError};
use crate::session::{Action, Call, Command, CommandId, Effect, Reply, Said, State as StateAction, Streams};
use crate::session::{UNKNOWN_ELSEWHERE, lost_alone};
use crate::view::View;
use crate::wire::{KEY_BYTES_MAX, KIND_BYTES_MAX};

/// Kinds that begin so are Anabranch's own.
pub(crate) const OWN_KINDS: &str = "anabranch:";
/// The one of them that has a function: the kind of schedules.
pub const SCHEDULE: &str = "anabranch:schedule";

/// A method's name is at most this long.
pub const METHOD_BYTES_MAX: usize = 128;

/// The names of a trigger, all together: they are part of a key.
const TOLD_BYTES_MAX: usize = KEY_BYTES_MAX - 64;
/// What a function says of why it refuses is cut off behind so much.
const REFUSAL_BYTES_MAX: usize = 4 << 10;
/// What it says for programs is left out when it is more.
const DETAILS_BYTES_MAX: usize = 64 << 10;

/// What a method makes of an entity and an argument: its reply, and what it did.
type Run = dyn Fn(&Seen, &Payload, &mut Context) -> Result<(Payload, Vec<Mutation>), Error> + Send + Sync;

/// The same for one that waits for others.
type RunAsync = dyn for<'a> Fn(
        &'a Seen,
        &'a Payload,
        &'a mut Context,
    ) -> BoxFuture<'a, Result<(Payload, Vec<Mutation>), Error>>
    + Send
    + Sync;

/// A future of any type.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a caller hears of a method that a function does not have.
pub(crate) fn no_method(kind: &str, method: &str, there: &[impl AsRef<str>]) -> Error {
    let there: Vec<&str> = there.iter().map(AsRef::as_ref).collect();
    let message = format!(
        "nothing changed: the function of {kind} has no method {:?}; it has {}",
        method.chars().take(METHOD_BYTES_MAX).collect::<String>(),
        there.join(", ")
    );
    Error::new(ErrorKind::NoFunction, message)
}

/// One of a function's methods.
pub(crate) struct Method {
    is_query: bool,
    run: Runs,
    /// How many were named before it.
    place: usize,
}

enum Runs {
    Now(Box<Run>),
    Async(Box<RunAsync>),
    Stream(Box<stream::RunStream>),
}

/// The function of a kind of entities, with all its methods. Made by [`Function::of`], given to
/// [`NodeBuilder::function`](crate::NodeBuilder::function).
pub struct Function {
    kind: String,
    ty: Type,
    methods: BTreeMap<String, Method>,
    told: Vec<ToldOf>,
    problem: Option<String>,
}

/// Of what a function is told, by which of its methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldOf {
    /// Changes of entities of this kind.
    pub kind: String,
    /// Only of this one, if it is given.
    pub key: Option<String>,
    /// By this method.
    pub method: String,
}

/// The argument of a method that is told of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Change {
    /// The kind of the entity that has changed.
    pub kind: String,
    /// Its key.
    pub key: String,
}

/// Takes a function's methods one by one.
///
/// ```
/// use anabranch::{Context, Function};
/// use anabranch::state::PnCounter;
///
/// fn hit(hits: &mut PnCounter, _: &mut Context, by: i64) -> Result<i128, String> {
///     if by < 0 {
///         return Err(format!("{by} is not a number of hits"));
///     }
///     hits.increment(by);
///     Ok(hits.get())
/// }
///
/// let function: Function = Function::of::<PnCounter>("hits")
///     .command("hit", hit)
///     .query("show", |hits, _, ()| Ok::<_, String>(hits.get()))
///     .into();
/// assert_eq!(function.kind(), "hits");
/// ```
pub struct FunctionBuilder<S> {
    function: Function,
    state: PhantomData<fn(S)>,
}

impl Function {
    /// The function of the entities of a kind, whose state is an `S`.
    pub fn of<S: State>(kind: &str) -> FunctionBuilder<S> {
        let problem = if !(1..=KIND_BYTES_MAX).contains(&kind.len()) {
            Some(format!(
                "a function's kind {kind:?} must have 1 to {KIND_BYTES_MAX} bytes"
            ))
        } else if kind.starts_with(OWN_KINDS) && kind != SCHEDULE {
            Some(format!("kind {kind:?} is one of Anabranch's own"))
        } else {
            None
        };
        let function = Function {
            kind: kind.to_owned(),
            ty: S::TYPE,
            methods: BTreeMap::new(),
            told: Vec::new(),
            problem,
        };
        FunctionBuilder {
            function,
            state: PhantomData,
        }
    }

    /// Whose function it is.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The type of its entities.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// Its methods, by name.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.keys().map(String::as_str)
    }

    /// Whether it has a method of this name.
    pub fn has(&self, method: &str) -> bool {
        self.methods.contains_key(method)
    }

    /// The method of this name, for whoever does several things with it.
    pub(crate) fn method(&self, name: &str) -> Option<&Method> {
        self.methods.get(name)
    }

    /// What its author has to mend.
    pub fn problem(&self) -> Option<String> {
        let told = self
            .told
            .iter()
            .find(|told| self.is_query(&told.method) != Ok(false));
        let told = told.map(|told| {
            format!(
                "the function of {} is to be told of changes by {:?}, which is none of its commands",
                self.kind, told.method
            )
        });
        let is_long = |told: &&ToldOf| {
            let key = told.key.as_ref().map_or(0, String::len);
            self.kind.len() + told.method.len() + told.kind.len() + key > TOLD_BYTES_MAX
        };
        let long = self.told.iter().find(is_long).map(|told| {
            format!(
                "the names of {} and of the {} that it is told of have more than {TOLD_BYTES_MAX} bytes together",
                self.kind, told.kind
            )
        });
        self.problem.clone().or(told).or(long)
    }

    /// Of which changes it is told.
    pub fn told(&self) -> &[ToldOf] {
        &self.told
    }

    /// Whether the method only looks, and answers once.
    ///
    /// # Errors
    /// [`ErrorKind::NoFunction`] if there is none of that name; [`ErrorKind::Invalid`] if it is one that streams.
    pub fn is_query(&self, method: &str) -> Result<bool, Error> {
        let is_query = self.is_query_or_stream(method)?;
        if self.is_stream(method) {
            let message = format!(
                "nothing changed: {method} of {} answers with a stream, which is opened, not called",
                self.kind
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(is_query)
    }

    fn is_query_or_stream(&self, method: &str) -> Result<bool, Error> {
        match self.methods.get(method) {
            Some(method) => Ok(method.is_query()),
            None => {
                let there: Vec<&str> = self.methods().collect();
                Err(no_method(&self.kind, method, &there))
            }
        }
    }

    /// Whether the method waits for others: it is then run with [`Function::run_async`].
    pub fn is_async(&self, method: &str) -> bool {
        self.method(method).is_some_and(Method::is_async)
    }

    /// Answers a command, as it does at a node: for hosts of functions, simulations among them. A panic in there is the end of
    /// this command and of nothing else.
    pub fn run(&self, id: CommandId, command: &Command, view: View, context: Context) -> Said {
        match self.method(&command.method) {
            Some(method) => self.run_method(method, id, command, view, context),
            None => self.cannot_run(id, command),
        }
    }

    /// The same, by a method of this function that was found before.
    pub(crate) fn run_method(
        &self,
        method: &Method,
        id: CommandId,
        command: &Command,
        view: View,
        mut context: Context,
    ) -> Said {
        let Runs::Now(run) = &method.run else {
            return self.cannot_run(id, command);
        };
        let outcome = run_now(run, command, view, &mut context);
        said(id, outcome, &context)
    }

    /// The reply of a method that only looks, and answers once.
    #[cfg(feature = "quic")]
    pub(crate) fn look(
        &self,
        method: &Method,
        command: &Command,
        view: View,
        mut context: Context,
    ) -> Result<Payload, Error> {
        let Runs::Now(run) = &method.run else {
            unreachable!("a query of {} waits for nobody", self.kind);
        };
        let ((reply, _), _) = run_now(run, command, view, &mut context)?;
        Ok(reply)
    }

    /// The same for a method that waits for others.
    pub async fn run_async(
        &self,
        id: CommandId,
        command: &Command,
        view: View,
        mut context: Context,
    ) -> Said {
        let Some(Runs::Async(run)) = self.methods.get(&command.method).map(|method| &method.run) else {
            return self.cannot_run(id, command);
        };
        context.begin(command);
        let seen = Seen::at(view, context.replica());
        let outcome = Caught(run(&seen, &command.payload, &mut context)).await;
        drop(seen);
        let outcome = match outcome {
            Ok(done) => done.and_then(|done| Ok((done, context.calls()?))),
            Err(panic) => Err(panicked(&context, &command.method, panic.as_ref())),
        };
        said(id, outcome, &context)
    }

    fn cannot_run(&self, id: CommandId, command: &Command) -> Said {
        let error = self.is_query(&command.method).err();
        let otherwise = || Error::new(ErrorKind::Internal, "the method is run in another way");
        Said::Failed {
            command: Some(id),
            error: error.unwrap_or_else(otherwise),
        }
    }
}

impl Method {
    /// Where it stands among its function's.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// Whether it only looks.
    pub(crate) fn is_query(&self) -> bool {
        self.is_query
    }

    /// Whether it waits for others.
    pub(crate) fn is_async(&self) -> bool {
        matches!(self.run, Runs::Async(_))
    }

    /// Whether it answers with a stream.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.run, Runs::Stream(_))
    }
}

type Done = ((Payload, Vec<Mutation>), (Vec<Effect>, Option<Call>));

/// What a method does that waits for nobody.
fn run_now(run: &Run, command: &Command, view: View, context: &mut Context) -> Result<Done, Error> {
    context.begin(command);
    context.waits_for_nobody();
    let seen = Seen::at(view, context.replica());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let done = run(&seen, &command.payload, context)?;
        Ok((done, context.calls()?))
    }));
    // Whoever commits finds nobody else who keeps the entity as it was.
    drop(seen);
    outcome.unwrap_or_else(|panic| Err(lost_alone(panicked(context, &command.method, panic.as_ref()))))
}

/// What became of a command, as its session hears it.
fn said(command: CommandId, outcome: Result<Done, Error>, context: &Context) -> Said {
    Said::Reply(match outcome {
        Ok(((payload, changes), (effects, forward))) => Reply {
            command,
            action: forward.map_or(Action::Reply(payload), Action::Forward),
            state: match (context.is_deleted(), changes.is_empty()) {
                (true, _) => StateAction::Delete,
                (false, true) => StateAction::Same,
                (false, false) => StateAction::Update(changes),
            },
            effects,
            level: context.level(),
            ty: None,
            streams: Streams::No,
        },
        Err(error) => Reply {
            command,
            action: Action::Refuse(error),
            state: StateAction::Same,
            effects: Vec::new(),
            level: None,
            ty: None,
            streams: Streams::No,
        },
    })
}

/// A future whose panic is its own.
struct Caught<'a, T>(BoxFuture<'a, T>);

impl<T> Future for Caught<'_, T> {
    type Output = std::thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<std::thread::Result<T>> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(task))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// A function's own bug.
fn panicked(context: &Context, method: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let entity = context.entity();
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("its panic has no words");
    // It may have put all that it was given into it.
    let text = &text[..text.floor_char_boundary(REFUSAL_BYTES_MAX)];
    tracing::error!(%entity, method, "a function panicked: {text}");
    Error::new(
        ErrorKind::Lost,
        format!("the function of {entity} panicked in {method}: {text}{UNKNOWN_ELSEWHERE}"),
    )
}

impl<S: State> FunctionBuilder<S> {
    /// A method that may change the state. It is given the entity as it is at this node, one command at a time. Its caller gets the
    /// reply once the change has reached its level: by default, this node's disk. A command that returns an error leaves the entity
    /// as it was.
    ///
    /// The error is encoded like a reply: the caller gets it back with [`Error::details`].
    #[must_use]
    pub fn command<A, R, E>(
        self,
        method: &str,
        run: impl Fn(&mut S, &mut Context, A) -> Result<R, E> + Send + Sync + 'static,
    ) -> FunctionBuilder<S>
    where
        A: DeserializeOwned,
        R: Serialize,
        E: fmt::Display + Serialize,
    {
        let run = move |seen: &Seen, payload: &Payload, context: &mut Context| {
            let argument = argument(payload)?;
            let mut state = S::open(seen);
            let reply = run(&mut state, context, argument);
            outcome(seen, payload.encoding, reply, || state.changes())
        };
        self.method(method, false, Runs::Now(Box::new(run)))
    }

    /// A method that only reads. Many run at once, and none waits for a command.
    #[must_use]
    pub fn query<A, R, E>(
        self,
        method: &str,
        run: impl Fn(&S, &Context, A) -> Result<R, E> + Send + Sync + 'static,
    ) -> FunctionBuilder<S>
    where
        A: DeserializeOwned,
        R: Serialize,
        E: fmt::Display + Serialize,
    {
        let run = move |seen: &Seen, payload: &Payload, context: &mut Context| {
            let argument = argument(payload)?;
            let reply = run(&S::open(seen), context, argument);
            outcome(seen, payload.encoding, reply, Vec::new)
        };
        self.method(method, true, Runs::Now(Box::new(run)))
    }

    /// A command that calls other functions and waits for their answers, with [`Context::call`]. Its future is boxed, so that it can
    /// be named. While it waits, the entity's next commands wait, too.
    ///
    /// At a node it always runs on a tokio runtime (the caller's, if it has one), so it may sleep, open sockets and spawn. A caller's
    /// own has to be built with time and IO for that (`enable_all`): on one without, a sleep or a socket panics, and the command with
    /// it. In a simulation there is no runtime, and it may wait only for what it calls.
    ///
    /// ```
    /// use anabranch::state::OrSet;
    /// use anabranch::{Context, Error, Function};
    ///
    /// let function: Function = Function::of::<OrSet<String>>("orders")
    ///     .command_async("order", |orders, context: &mut Context, product: String| {
    ///         Box::pin(async move {
    ///             let left: i64 = context.call("stock", &product, "take", &1).await?;
    ///             orders.add(&product);
    ///             Ok::<_, Error>(left)
    ///         })
    ///     })
    ///     .into();
    /// assert!(function.is_async("order"));
    /// ```
    #[must_use]
    pub fn command_async<A, R, E>(
        self,
        method: &str,
        run: impl for<'a> Fn(&'a mut S, &'a mut Context, A) -> BoxFuture<'a, Result<R, E>> + Send + Sync + 'static,
    ) -> FunctionBuilder<S>
    where
        S: Send,
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: fmt::Display + Serialize + Send + 'static,
    {
        let run = Arc::new(run);
        let run: Box<RunAsync> = Box::new(move |seen, payload, context| {
            let run = Arc::clone(&run);
            Box::pin(async move {
                let argument = argument(payload)?;
                let mut state = S::open(seen);
                let reply = run(&mut state, context, argument).await;
                outcome(seen, payload.encoding, reply, || state.changes())
            })
        });
        self.method(method, false, Runs::Async(run))
    }

    /// Calls a command of this function whenever an entity of another kind has changed, whoever changed it: for this function's
    /// entity of the same key, with a [`Change`]. If the command needs anything of the changed entity, it calls that entity.
    ///
    /// The command is called at least once after each change, and once for each entity that exists when the function is new. Several
    /// changes in a row may be told by one call.
    ///
    /// One node calls for one entity one call after the other. While nodes cannot reach each other, or after one of them stood still,
    /// two may call for the same entity: their calls overlap, and one that began before the last change may end last. Once its calls
    /// have ended, the node that is not responsible leaves a note, and the responsible one calls once more for what it cannot have
    /// seen. So the command must be right when it is repeated and when it comes late: let it ask for the changed entity as it is then,
    /// and set what follows from that. (A node that dies before it has left its note leaves none.)
    ///
    /// One node makes the calls of a shard. If it dies, another goes on from the last progress that was recorded, and repeats some
    /// calls. [`Context::call_id`] is the same, whichever node calls, while nothing more was done to the entity, and different once it
    /// was changed and changed back. But whenever nothing is left of an entity (its last element removed, or all of it deleted), the
    /// id is the one that stood for this before. So a function that must not run twice for one change keeps only the last id, where
    /// it changes nothing else that a late call could set back. If the responsible node dies before it notices a deletion, the function is not told of it.
    ///
    /// A refusal is an answer: the change is not told again. There is one exception: where the command refuses with the [`Error`] of a
    /// call of its own that may be retried, or whose outcome is not known, the change is told again. So a `?` on [`Context::call`]
    /// loses nothing. Return the error itself: its text (`to_string`) does not carry this.
    ///
    /// ```
    /// use anabranch::state::PnCounter;
    /// use anabranch::{Change, Context, Function};
    ///
    /// let function: Function = Function::of::<PnCounter>("changes")
    ///     .command("note", |count, _: &mut Context, _: Change| {
    ///         count.increment(1);
    ///         Ok::<_, String>(())
    ///     })
    ///     .on_change("cart", "note")
    ///     .into();
    /// assert_eq!(function.told()[0].kind, "cart");
    /// ```
    #[must_use]
    pub fn on_change(self, kind: &str, method: &str) -> FunctionBuilder<S> {
        self.on_change_of_any(kind, None, method)
    }

    /// Like [`on_change`](FunctionBuilder::on_change), for one entity of that kind.
    #[must_use]
    pub fn on_change_of(self, kind: &str, key: &str, method: &str) -> FunctionBuilder<S> {
        self.on_change_of_any(kind, Some(key.to_owned()), method)
    }

    fn on_change_of_any(mut self, kind: &str, key: Option<String>, method: &str) -> FunctionBuilder<S> {
        self.function.told.push(ToldOf {
            kind: kind.to_owned(),
            key,
            method: method.to_owned(),
        });
        self
    }

    fn method(mut self, name: &str, is_query: bool, run: Runs) -> FunctionBuilder<S> {
        let function = &mut self.function;
        let is_name = (1..=METHOD_BYTES_MAX).contains(&name.len());
        let place = function.methods.get(name).map(Method::place);
        let place = place.unwrap_or(function.methods.len());
        let method = Method { is_query, run, place };
        let problem = match function.methods.insert(name.to_owned(), method) {
            Some(_) => Some(format!(
                "the function of {} has two methods {name:?}",
                function.kind
            )),
            None if !is_name => Some(format!(
                "method {name:?} of {} must have 1 to {METHOD_BYTES_MAX} bytes",
                function.kind
            )),
            None => None,
        };
        function.problem = function.problem.take().or(problem);
        self
    }
}

impl<S> From<FunctionBuilder<S>> for Function {
    fn from(builder: FunctionBuilder<S>) -> Function {
        builder.function
    }
}

/// What a call was answered, as what its caller expects.
pub(crate) fn read_reply<R: DeserializeOwned>(call: impl fmt::Display, reply: &Payload) -> Result<R, Error> {
    reply.read().map_err(|e: PayloadError| {
        let message =
            format!("{call} was answered, and what it did is done; its reply is not what was expected: {e}");
        Error::new(ErrorKind::Unanswered, message)
    })
}

fn argument<A: DeserializeOwned>(payload: &Payload) -> Result<A, Error> {
    let read = payload.read();
    read.map_err(|e: PayloadError| {
        Error::new(
            ErrorKind::Invalid,
            format!("nothing changed: the argument is not what the method takes: {e}"),
        )
    })
}

/// What a method made of its command: its reply, and what it did, if all of that can be.
fn outcome<R: Serialize, E: fmt::Display + Serialize>(
    seen: &Seen,
    encoding: Encoding,
    reply: Result<R, E>,
    changes: impl FnOnce() -> Vec<Mutation>,
) -> Result<(Payload, Vec<Mutation>), Error> {
    let reply = reply.map_err(|error| refusal(encoding, &error))?;
    let changes = changes();
    seen.check()?;
    Ok((written(encoding, &reply)?, changes))
}

fn written<R: Serialize>(encoding: Encoding, reply: &R) -> Result<Payload, Error> {
    let written = Payload::of(encoding, reply);
    written.map_err(|e| {
        Error::new(
            ErrorKind::Refused,
            format!("nothing changed: the function's reply cannot be written: {e}"),
        )
    })
}

fn refusal<E: fmt::Display + Serialize>(encoding: Encoding, error: &E) -> Error {
    let mut message = error.to_string();
    if message.len() > REFUSAL_BYTES_MAX {
        message.truncate(message.floor_char_boundary(REFUSAL_BYTES_MAX));
        message.push('…');
    }
    let refused = Error::new(ErrorKind::Refused, message);
    match Payload::of(encoding, error) {
        Ok(details) if details.bytes.len() <= DETAILS_BYTES_MAX => refused.with_details(details),
        _ => refused,
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("kind", &self.kind)
            .field("type", &self.ty)
            .field("methods", &self.methods.keys())
            .finish()
    }
}

impl<S> fmt::Debug for FunctionBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.function.fmt(f)
    }
}
