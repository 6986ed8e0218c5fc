//! Functions in Rust: code that is given an entity and a command, and answers.
//!
//! Not here: when they run and what becomes of what they did (`session`), and who calls them (`driver`).
//!
//! Contract: a function is a pure value. What it may know besides its entity and its argument comes in its [`Context`], so that
//! the same function does the same in a simulation. Nothing that it does to its state is seen by anybody before it has returned
//! well.

mod context;
mod datum;
mod overlay;
pub mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anabranch_crdt::{Mutation, Type};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use context::Context;

use self::state::{Seen, State};
use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload, PayloadError};
use crate::session::{Action, Command, CommandId, Reply, Said, State as StateAction};
use crate::view::View;
use crate::wire::{EntityId, KIND_BYTES_MAX};

/// A method's name is at most this long.
pub const METHOD_BYTES_MAX: usize = 128;

/// What a method makes of an entity and an argument: its reply, and what it did.
type Run = dyn Fn(&Seen, &Payload, &mut Context) -> Result<(Payload, Vec<Mutation>), Error> + Send + Sync;

struct Method {
    is_query: bool,
    run: Box<Run>,
}

/// The function of a kind of entities, with all its methods. Made by [`Function::of`], given to
/// [`NodeBuilder::function`](crate::NodeBuilder::function).
pub struct Function {
    kind: String,
    ty: Type,
    methods: BTreeMap<String, Method>,
    problem: Option<String>,
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
        let is_name = (1..=KIND_BYTES_MAX).contains(&kind.len());
        let problem = format!("a function's kind {kind:?} must have 1 to {KIND_BYTES_MAX} bytes");
        let function = Function {
            kind: kind.to_owned(),
            ty: S::TYPE,
            methods: BTreeMap::new(),
            problem: (!is_name).then_some(problem),
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

    /// What its author has to mend.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether the method only looks.
    ///
    /// # Errors
    /// [`ErrorKind::NoFunction`] if there is none of that name.
    pub fn is_query(&self, method: &str) -> Result<bool, Error> {
        match self.methods.get(method) {
            Some(method) => Ok(method.is_query),
            None => {
                let there: Vec<&str> = self.methods().collect();
                let message = format!(
                    "nothing changed: the function of {} has no method {:?}; it has {}",
                    self.kind,
                    method.chars().take(METHOD_BYTES_MAX).collect::<String>(),
                    there.join(", ")
                );
                Err(Error::new(ErrorKind::NoFunction, message))
            }
        }
    }

    /// Answers a command, as it does at a node: for hosts of functions, simulations among them. A panic in there is the end of this command and of nothing else.
    pub fn run(&self, id: CommandId, command: &Command, view: View, mut context: Context) -> Said {
        let Some(method) = self.methods.get(&command.method) else {
            let error = self.is_query(&command.method).err();
            return Said::Failed {
                command: Some(id),
                error: error.unwrap_or_else(|| Error::new(ErrorKind::NoFunction, "no such method")),
            };
        };
        let entity = view.entity().clone();
        let seen = Seen::of(view);
        context.begin(command);
        let run = || {
            let (reply, changes) = (method.run)(&seen, &command.payload, &mut context)?;
            Ok((reply, changes, context.calls()?))
        };
        let outcome = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(panicked(&entity, &command.method, panic.as_ref())));
        // Whoever commits finds nobody else who keeps the entity as it was.
        drop(seen);
        match outcome {
            Ok((payload, changes, (effects, forward))) => Said::Reply(Reply {
                command: id,
                action: forward.map_or(Action::Reply(payload), Action::Forward),
                state: match (context.is_deleted(), changes.is_empty()) {
                    (true, _) => StateAction::Delete,
                    (false, true) => StateAction::Same,
                    (false, false) => StateAction::Update(changes),
                },
                effects,
                level: context.level(),
            }),
            Err(error) => Said::Reply(Reply {
                command: id,
                action: Action::Refuse(error),
                state: StateAction::Same,
                effects: Vec::new(),
                level: None,
            }),
        }
    }
}

/// A function's own bug.
fn panicked(entity: &EntityId, method: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("its panic has no words");
    tracing::error!(%entity, method, "a function panicked: {text}");
    Error::new(
        ErrorKind::Lost,
        format!("the function of {entity} panicked in {method}: {text}. The entity is as it was"),
    )
}

impl<S: State> FunctionBuilder<S> {
    /// A method that may change the state. It is given the entity as it is at this node, one command at a time; what it did is
    /// in, and where its level says, before its reply is heard. What it refuses leaves no trace.
    ///
    /// An error's type is written as the reply's is: its caller gets it back with [`Error::details`].
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
        self.method(method, false, move |seen, payload, context| {
            let argument = argument(payload)?;
            let mut state = S::open(seen);
            let reply = run(&mut state, context, argument);
            let reply = reply.map_err(|error| refusal(payload.encoding, &error))?;
            let changes = state.changes();
            seen.check()?;
            Ok((written(payload.encoding, &reply)?, changes))
        })
    }

    /// A method that only looks: many run at once, none waits for a command.
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
        self.method(method, true, move |seen, payload, context| {
            let argument = argument(payload)?;
            let reply = run(&S::open(seen), context, argument);
            let reply = reply.map_err(|error| refusal(payload.encoding, &error))?;
            seen.check()?;
            Ok((written(payload.encoding, &reply)?, Vec::new()))
        })
    }

    fn method(
        mut self,
        name: &str,
        is_query: bool,
        run: impl Fn(&Seen, &Payload, &mut Context) -> Result<(Payload, Vec<Mutation>), Error>
        + Send
        + Sync
        + 'static,
    ) -> FunctionBuilder<S> {
        let function = &mut self.function;
        let method = Method {
            is_query,
            run: Box::new(run),
        };
        let is_name = (1..=METHOD_BYTES_MAX).contains(&name.len());
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

fn argument<A: DeserializeOwned>(payload: &Payload) -> Result<A, Error> {
    let read = payload.read();
    read.map_err(|e: PayloadError| {
        Error::new(
            ErrorKind::Invalid,
            format!("nothing changed: the argument is not what the method takes: {e}"),
        )
    })
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
    let refused = Error::new(ErrorKind::Refused, error.to_string());
    match Payload::of(encoding, error) {
        Ok(details) => refused.with_details(details),
        Err(_) => refused,
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
