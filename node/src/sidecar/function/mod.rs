//! A function in another process: what its services are asked and told, and what they say.
//!
//! Not here: in which words (`dialect`), when (`session`), and what is done about it (`driver`).

mod end;
mod grown;
mod life;
mod said;
mod streamed;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_crdt::{NodeId, Type};
use bytes::Bytes;
use tokio::runtime::Handle as Runtime;
use tonic::{Code, Status};

use self::end::takes_no_more;
use self::life::Life;
use self::streamed::Streamed;
use super::author::Author;
use super::awake::Awake;
use super::connection::{Stay, is_gone, not_begun, to_its_end};
use super::dialect::Dialect;
use super::envelope::Envelope;
use super::failure::{broke, refused};
use super::problem::{Class, Problem, Severity};
use super::proto::action::{ActionCommand, ActionResponse};
use super::read::{Unreadable, too_long};
use super::services::{Method, Service, Services};
use super::transcode::{json_to_message, message_to_json};
use super::{EntityTerms, wire_check};
use crate::error::{Error, ErrorKind};
use crate::function::{BoxFuture, Caller, Foreign, Handle, Hear, Pipe, unknown_elsewhere};
use crate::payload::{Encoding, Payload};
use crate::session::{Action, Call, Command, Config, Effect};
use crate::wire::EntityId;

/// What a function's server does not begin with is said on so many connections, one after the other.
const BEGUN_TRIES: usize = 3;

/// One discovered function, for all of its services.
pub struct Discovered {
    /// What it serves.
    pub services: Arc<Services>,
    terms: EntityTerms,
    awake: Arc<Awake>,
    author: Author,
    me: NodeId,
    /// The nodes that are up, this one among them.
    live: Box<dyn Fn() -> Vec<NodeId> + Send + Sync>,
    runtime: Runtime,
    /// What its author was told of which of its methods and services: each once.
    remarked: Mutex<BTreeSet<(String, &'static str)>>,
}

impl fmt::Debug for Discovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovered").field("awake", &self.awake).finish()
    }
}

/// One of its services.
#[derive(Clone, Debug)]
pub struct Function {
    pub(super) all: Arc<Discovered>,
    pub(super) service: Arc<Service>,
}

impl Discovered {
    /// What was discovered, while it is awake or asleep.
    pub fn new(
        services: Arc<Services>,
        terms: EntityTerms,
        awake: Arc<Awake>,
        me: NodeId,
        live: Box<dyn Fn() -> Vec<NodeId> + Send + Sync>,
    ) -> Arc<Discovered> {
        Arc::new(Discovered {
            author: Author::new(services.dialect, Arc::clone(&awake)),
            services,
            terms,
            awake,
            me,
            live,
            runtime: Runtime::current(),
            remarked: Mutex::default(),
        })
    }

    /// Its services, each as a function.
    pub fn functions(self: &Arc<Self>) -> Vec<Arc<dyn Foreign>> {
        let function = |service: &Arc<Service>| Function {
            all: Arc::clone(self),
            service: Arc::clone(service),
        };
        let functions = self.services.iter().map(function);
        functions
            .map(|function| Arc::new(function) as Arc<dyn Foreign>)
            .collect()
    }

    /// Whether its author was not told that yet, of a method or a service.
    fn is_news(&self, of: &str, what: &'static str) -> bool {
        let mut remarked = self.remarked.lock().unwrap_or_else(PoisonError::into_inner);
        remarked.insert((of.to_owned(), what))
    }

    /// What it speaks.
    fn dialect(&self) -> Dialect {
        self.services.dialect
    }
}

impl Function {
    fn method(&self, name: &str) -> Result<&Method, Error> {
        Ok(self.all.services.find(&self.service.name, name)?.1)
    }

    /// A message as the function takes it.
    fn taken(&self, method: &Method, payload: Payload) -> Result<Payload, Error> {
        match payload.encoding {
            Encoding::Protobuf => {
                let envelope = Envelope::of(&payload)?;
                let input = method.input();
                // One of another type, as functions may send each other, is not known here.
                let is_of_input = matches!(envelope.type_url.rsplit('/').next(), Some(name) if name.is_empty() || name == input.full_name());
                if is_of_input && let Err(why) = wire_check::check(&envelope.message, &input) {
                    return Err(argument(method, &why));
                }
                Ok(payload)
            }
            Encoding::Json => from_json(method, &payload),
            Encoding::Cbor | Encoding::Postcard => {
                let message = format!(
                    "nothing changed: {} takes messages of protobuf, or their JSON, and no others",
                    self.service.name
                );
                Err(Error::new(ErrorKind::Invalid, message))
            }
        }
    }

    /// That it broke the protocol.
    fn broke(&self, why: &str) -> Error {
        broke(why, !self.service.is_action)
    }

    /// The same in how it answered a method. The author of an action is told here: of an entity it is told as its life ends.
    fn broke_at(&self, method: &str, what: &'static str, why: &str) -> Error {
        let error = self.broke(why);
        if self.service.is_action {
            self.remark(Severity::Error, method, what, error.message().to_owned());
        }
        error
    }

    /// Once for each method: its replies are none that its descriptor says.
    fn remark_reply(&self, method: &Method, type_url: &str) {
        let expected = method.output();
        let is_other = type_url.rsplit('/').next() != Some(expected.full_name());
        // A message that says nothing of itself is taken for what it should be.
        if !is_other || type_url.is_empty() {
            return;
        }
        let name = method.descriptor.name();
        let (full, expected) = (method.descriptor.full_name(), expected.full_name());
        self.remark(
            Severity::Warning,
            name,
            "reply",
            format!("{full} replies with {type_url}, and not with {expected}"),
        );
    }

    /// Tells its author of something that is wrong with how it answers a method, once for each method: of the same nobody wants to
    /// hear again and again.
    fn remark(&self, severity: Severity, method: &str, what: &'static str, text: String) {
        let Ok(method) = self.method(method) else { return };
        let descriptor = &method.descriptor;
        if self.all.is_news(descriptor.full_name(), what) {
            let file = descriptor.parent_service().parent_file();
            let path = [descriptor.path()];
            self.all.author.tell(match severity {
                Severity::Warning => Problem::warning(text, &file, &path).of(Class::Answer),
                Severity::Error => Problem::error(text, &file, &path).of(Class::Protocol),
            });
        }
    }

    /// The same of how its streams beside entities end, once for each way.
    fn remark_stream(&self, what: &'static str, text: &str) {
        if self.all.is_news(&self.service.name, what) {
            self.report(text);
        }
    }

    /// A command to an action; without its message, where that is still to come.
    fn question(&self, command: &Command, has_message: bool) -> Result<ActionCommand, Error> {
        let method = self.method(&command.method)?;
        let hears = |header: &str| self.service.hears(header);
        let envelope = Envelope::of(&command.payload)?;
        let (payload, metadata) = envelope.into_any(&method.input_url, command.origin.trace, hears);
        Ok(ActionCommand {
            service_name: self.service.name.clone(),
            name: command.method.clone(),
            payload: has_message.then_some(payload),
            metadata: Some(metadata),
        })
    }

    async fn act_unary(&self, command: &Command) -> Result<ActionResponse, Error> {
        let question = self.question(command, true)?;
        let path = self.all.dialect().paths().unary;
        for _ in 0..BEGUN_TRIES {
            // Whom nobody waits for any more does not use it.
            let (room, _using) = self.all.awake.room(Stay::Call).await?;
            let question = question.clone();
            let asking = to_its_end(async move { room.ask(path, question).await });
            match asking.await {
                // There is room on another connection.
                Err(status) if not_begun(&status) => {}
                Err(status) => return Err(self.failed(&command.method, &status)),
                Ok(answer) => return Ok(answer),
            }
        }
        Err(takes_no_more())
    }

    /// What a call or a stream of a method ended with.
    fn failed(&self, method: &str, status: &Status) -> Error {
        let unreadable = Unreadable::of(status).map(|what| ("answer", what.to_string()));
        match unreadable.or_else(|| Some(("long answer", too_long(status)?))) {
            Some((what, why)) => self.broke_at(method, what, &format!("its answer to {method} {why}")),
            None if not_begun(status) => takes_no_more(),
            None => failed(status),
        }
    }
}

impl Foreign for Function {
    fn kind(&self) -> &str {
        &self.service.kind
    }

    fn edition(&self) -> u64 {
        self.all.services.edition
    }

    fn has(&self, method: &str) -> bool {
        self.service.methods.contains_key(method)
    }

    fn methods(&self) -> Vec<String> {
        self.service.methods.keys().cloned().collect()
    }

    fn ty(&self) -> Option<Type> {
        self.service.ty
    }

    fn is_stateless(&self) -> bool {
        self.service.is_action
    }

    fn deletes_for_good(&self) -> bool {
        self.all.terms.deletes_for_good
    }

    fn deleted(&self, entity: &EntityId) -> Error {
        let message = format!("nothing changed: {entity} was deleted, and is not made again");
        refused(Code::NotFound as u32, &message)
    }

    fn parked(&self, what: &str) -> Error {
        // Nobody's client is to make it again by itself.
        refused(Code::FailedPrecondition as u32, what)
    }

    fn fault(&self, what: &str) -> Error {
        refused(Code::Internal as u32, what)
    }

    fn blame(&self, method: &str, what: &'static str, text: &str) -> Error {
        self.remark(Severity::Error, method, what, text.to_owned());
        self.fault(text)
    }

    fn session(&self, config: Config) -> Config {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let idle_ms = self.service.passivation.map_or(config.idle_ms, ms);
        Config {
            level: self.service.level,
            trusts_refusals: self.all.terms.trusts_failures,
            idle_ms: idle_ms.min(self.all.terms.idle_max.map_or(u64::MAX, ms)),
            ..config
        }
    }

    fn take(&self, call: Call) -> Result<Call, Error> {
        let payload = self.taken(self.method(&call.method)?, call.payload)?;
        Ok(Call { payload, ..call })
    }

    fn message(&self, payload: &Payload) -> Bytes {
        Envelope::of(payload).map_or_else(|_| payload.bytes.clone(), |envelope| envelope.message)
    }

    fn give(&self, method: &str, wants: Encoding, reply: Payload) -> Result<Payload, Error> {
        match wants {
            Encoding::Json => to_json(self.method(method)?, &reply),
            Encoding::Cbor | Encoding::Postcard | Encoding::Protobuf => Ok(reply),
        }
    }

    fn open(&self, entity: &EntityId, hear: Hear) -> Box<dyn Handle> {
        Box::new(Life::begin(self.clone(), entity.clone(), hear))
    }

    fn act(&self, command: Command) -> BoxFuture<'_, (Result<Action, Error>, Vec<Effect>)> {
        Box::pin(async move {
            let response = match self.act_unary(&command).await {
                Ok(response) => response,
                Err(error) => return (Err(error), Vec::new()),
            };
            let effects = match said::effects(self, response.side_effects, &command) {
                Ok(effects) => effects,
                Err(error) => return (Err(error), Vec::new()),
            };
            let action = said::action(self, response.response.map(Into::into), &command);
            (action, effects)
        })
    }

    fn is_streamed(&self, method: &str) -> bool {
        self.method(method).is_ok_and(Method::is_streamed)
    }

    fn goes_on(&self) -> bool {
        self.all.dialect().streams_entities()
    }

    fn stream(
        &self,
        command: Command,
        wants: Encoding,
        pipe: Pipe,
        calls: Arc<dyn Caller>,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let streamed = Streamed {
            function: self.clone(),
            command,
            wants,
            calls,
        };
        Box::pin(streamed.run(pipe))
    }

    fn report(&self, what: &str) {
        let service = &self.service.descriptor;
        let problem = Problem::error(what, &service.parent_file(), &[service.path()]);
        self.all.author.tell(problem.of(Class::Protocol));
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.all.runtime.spawn(task);
    }
}

/// What a call or a stream ended with.
fn failed(status: &Status) -> Error {
    match is_gone(status) {
        true => lost(status),
        false => refused(status.code() as u32, status.message()),
    }
}

/// That an answer did not come.
fn lost(status: &Status) -> Error {
    let message = format!(
        "the function was given the command and its answer is lost: {}. {}",
        status.message(),
        unknown_elsewhere(false)
    );
    Error::new(ErrorKind::Lost, message)
}

/// That a method cannot be given that.
fn argument(method: &Method, why: &dyn fmt::Display) -> Error {
    let name = method.descriptor.full_name();
    Error::new(
        ErrorKind::Invalid,
        format!("nothing changed: the argument of {name}: {why}"),
    )
}

fn from_json(method: &Method, payload: &Payload) -> Result<Payload, Error> {
    let text: &[u8] = match payload.bytes.as_ref() {
        b"" | b"null" => b"{}",
        text => text,
    };
    let message = json_to_message(&method.input(), text).map_err(|why| argument(method, &why))?;
    let envelope = Envelope {
        message,
        ..Envelope::default()
    };
    Ok(envelope.to_payload())
}

fn to_json(method: &Method, reply: &Payload) -> Result<Payload, Error> {
    let envelope = Envelope::of(reply)?;
    let text = message_to_json(&method.output(), &envelope.message).map_err(|why| {
        let name = method.descriptor.full_name();
        let message = format!("{name} was answered, and the answer cannot be read: {why}");
        Error::new(ErrorKind::Internal, message)
    })?;
    Ok(Payload {
        encoding: Encoding::Json,
        bytes: text.into(),
    })
}
