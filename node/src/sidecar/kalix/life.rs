//! One life of a function beside an entity: the stream `Handle`, on which it is told of the entity and given commands.
//!
//! Contract: what is told goes out in order; what cannot be told, and what comes that makes no sense, ends the stream. The entity's
//! type and whether it was shown are kept here as the function knows them, since a change is understood by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch_crdt::{NodeId, Reading, Type};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::Function;
use super::said;
use crate::error::{Error, ErrorKind};
use crate::function::{Handle, Hear};
use crate::session::{Command, CommandId, Reply, Said, State, Told};
use crate::sidecar::datum::Primitives;
use crate::sidecar::envelope::Envelope;
use crate::sidecar::failure::{broke, refused};
use crate::sidecar::proto::common::{Command as CommandMessage, Failure};
use crate::sidecar::proto::entity::{
    Delete, Delta, EntityReply, In, Init, Out, StateChange, StreamIn, StreamOut,
};
use crate::sidecar::shown::Viewer;
use crate::sidecar::taken::take;
use crate::view::View;
use crate::wire::EntityId;

const HANDLE: &str = "/kalix.component.replicatedentity.ReplicatedEntities/Handle";
/// So much may wait to be told. A function that does not take that is not told more.
const TOLD_MAX: usize = 256;
/// So many messages may wait for the connection.
const OUT_MAX: usize = 16;

/// The near end of a life.
pub(super) struct Life {
    told: Option<mpsc::Sender<Told>>,
    /// Something could not be told.
    overrun: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Life {
    pub fn begin(function: Function, entity: EntityId, hear: Hear) -> Life {
        let (told, to_tell) = mpsc::channel(TOLD_MAX);
        let overrun = Arc::new(AtomicBool::new(false));
        let runtime = function.all.runtime.clone();
        let stream = Conversation {
            hear,
            entity,
            command: None,
            ty: None,
            is_shown: false,
            overrun: Arc::clone(&overrun),
            function,
        };
        let task = runtime.spawn(stream.run(to_tell));
        Life {
            told: Some(told),
            overrun,
            task: task.abort_handle(),
        }
    }
}

impl Handle for Life {
    fn tell(&mut self, told: Told) {
        let Some(sender) = &self.told else { return };
        if sender.try_send(told).is_err() {
            self.overrun.store(true, Ordering::SeqCst);
            self.told = None;
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The far end: a task.
struct Conversation {
    function: Function,
    entity: EntityId,
    hear: Hear,
    overrun: Arc<AtomicBool>,
    /// What it has to answer: it is on its way to it.
    command: Option<(CommandId, Command)>,
    /// What the function knows the entity as.
    ty: Option<Type>,
    /// Whether it was shown an entity that exists.
    is_shown: bool,
}

/// Why a life ends before its time.
enum End {
    /// The function's side.
    Status(Status),
    /// Something cannot be told.
    Cannot(String),
    /// It broke the protocol.
    Broke(Error),
}

impl Conversation {
    async fn run(mut self, told: mpsc::Receiver<Told>) {
        let said = match self.converse(told).await {
            Ok(()) => Said::Ended,
            Err(End::Status(status)) if self.command.is_none() => Said::Failed {
                command: None,
                error: away(status.message()),
            },
            Err(End::Status(status)) => Said::Failed {
                command: None,
                error: Error::new(ErrorKind::Lost, status.message()),
            },
            Err(End::Cannot(why)) => Said::Failed {
                command: None,
                error: Error::new(
                    ErrorKind::WrongType,
                    format!("nothing changed: {}: {why}", self.entity),
                ),
            },
            Err(End::Broke(error)) => {
                self.function.report_about(&self.entity, error.message());
                Said::Failed {
                    command: self.command.as_ref().map(|(id, _)| *id),
                    error,
                }
            }
        };
        let is_over = said == Said::Ended;
        self.hear.said(said);
        if !is_over {
            self.hear.said(Said::Ended);
        }
    }

    async fn converse(&mut self, mut told: mpsc::Receiver<Told>) -> Result<(), End> {
        let (sender, outgoing) = mpsc::channel(OUT_MAX);
        // It may have to wake up first.
        let asleep = |error: Error| End::Status(Status::unavailable(error.message()));
        let (connection, _using) = self.function.all.awake.connection().await.map_err(asleep)?;
        let mut grpc = connection.grpc();
        let unavailable = |e: hyper::Error| End::Status(Status::unavailable(e.to_string()));
        grpc.ready().await.map_err(unavailable)?;
        let request = tonic::Request::new(ReceiverStream::new(outgoing));
        let codec = ProstCodec::<StreamIn, StreamOut>::default();
        let calling = grpc.streaming(request, PathAndQuery::from_static(HANDLE), codec);
        let mut calling = std::pin::pin!(calling);
        let mut incoming: Option<Streaming<StreamOut>> = None;
        // Dropped, it tells the function that nothing more comes.
        let mut out = Some(sender);
        loop {
            tokio::select! {
                // The answer's head may come with its first message only.
                response = &mut calling, if incoming.is_none() => {
                    incoming = Some(response.map_err(End::Status)?.into_inner());
                }
                message = next(&mut incoming) => match message.map_err(End::Status)? {
                    Some(message) => self.on_message(message)?,
                    None => return Ok(()),
                },
                next = told.recv(), if out.is_some() => {
                    let Some(next) = next.filter(|told| !matches!(told, Told::End)) else {
                        if self.overrun.load(Ordering::SeqCst) {
                            let why = format!("its function does not take {TOLD_MAX} messages");
                            return Err(End::Status(Status::resource_exhausted(why)));
                        }
                        out = None;
                        continue;
                    };
                    for message in self.messages(next)? {
                        let message = StreamIn { message: Some(message) };
                        if let Some(out) = &out && out.send(message).await.is_err() {
                            // The other direction says why.
                            break;
                        }
                    }
                }
            }
        }
    }

    /// What is told, in the function's words.
    fn messages(&mut self, told: Told) -> Result<Vec<In>, End> {
        Ok(match told {
            Told::Init { view, reading } => self.init(&view, reading.as_ref())?,
            Told::Delta { change, view } => {
                self.ty = view.ty();
                self.is_shown = true;
                let Some(ty) = view.ty() else {
                    return Ok(Vec::new());
                };
                let delta = self.viewing(|viewer| viewer.change(ty, view.value(), &change))?;
                delta.map(In::Delta).into_iter().collect()
            }
            Told::Delete => vec![In::Delete(Delete {})],
            Told::Command { id, command, .. } => vec![self.command(id, command)?],
            Told::End => Vec::new(),
        })
    }

    fn init(&mut self, view: &View, reading: Option<&Reading>) -> Result<Vec<In>, End> {
        self.ty = view.ty();
        self.is_shown = reading.is_some();
        let shown = view.ty().zip(reading);
        let delta = match shown {
            Some((ty, reading)) => self.viewing(|viewer| viewer.whole(ty, view.value(), reading))?,
            None => None,
        };
        let init = In::Init(Init {
            service_name: self.function.service.name.clone(),
            entity_id: self.entity.key().to_owned(),
            delta,
        });
        // A vote says how many there are from its beginning.
        if view.ty() == Some(Type::Vote) && reading.is_none() {
            let votes = self.viewing(|viewer| Ok(Some(viewer.no_votes())))?;
            return Ok([init].into_iter().chain(votes.map(In::Delta)).collect());
        }
        Ok(vec![init])
    }

    fn viewing(
        &self,
        show: impl FnOnce(&Viewer<'_>) -> Result<Option<Delta>, String>,
    ) -> Result<Option<Delta>, End> {
        let live = || -> Vec<NodeId> { (self.function.all.live)() };
        let viewer = Viewer {
            primitives: Primitives::Kalix,
            me: self.function.all.me,
            live: &live,
        };
        show(&viewer).map_err(End::Cannot)
    }

    fn command(&mut self, id: CommandId, command: Command) -> Result<In, End> {
        let service = &self.function.service;
        let method = self.function.method(&command.method).map_err(End::Broke)?;
        let envelope = Envelope::of(&command.payload).map_err(End::Broke)?;
        let (payload, metadata) = envelope.into_any(&method.input_url, |header| service.hears(header));
        let message = CommandMessage {
            entity_id: self.entity.key().to_owned(),
            id: id.0.cast_signed(),
            name: command.method.clone(),
            payload: Some(payload),
            metadata: Some(metadata),
        };
        self.command = Some((id, command));
        Ok(In::Command(message))
    }

    fn on_message(&mut self, message: StreamOut) -> Result<(), End> {
        let said = match message.message {
            Some(Out::Reply(reply)) => self.on_reply(reply).map_err(End::Broke)?,
            Some(Out::Failure(failure)) => self.on_failure(failure),
            None => return Err(End::Broke(broke("it sent an empty message"))),
        };
        self.hear.said(said);
        Ok(())
    }

    fn on_reply(&mut self, reply: EntityReply) -> Result<Said, Error> {
        let is_asked = |(id, _): &mut (CommandId, Command)| id.0.cast_signed() == reply.command_id;
        let Some((id, command)) = self.command.take_if(is_asked) else {
            let why = format!("it answered command {}, which it does not have", reply.command_id);
            return Err(broke(&why));
        };
        // What is wrong with the answer is the command's failure.
        self.command = Some((id, command.clone()));
        let action = reply.client_action.and_then(|action| action.action);
        let action = said::action(&self.function, action, &command)?;
        let effects = said::effects(&self.function, reply.side_effects, &command)?;
        let change = reply.state_action.and_then(|action| action.action);
        let (state, ty) = match change {
            None => (State::Same, None),
            Some(StateChange::Delete(_)) => (State::Delete, None),
            Some(StateChange::Update(delta)) => {
                let (ty, mutations) = take(&delta, !self.is_shown).map_err(|why| broke(&why))?;
                if let Some(is) = self.ty.filter(|is| *is != ty) {
                    let (is, ty) = (is.indefinite(), ty.indefinite());
                    return Err(broke(&format!(
                        "{} is {is}, and it changed it as {ty}",
                        self.entity
                    )));
                }
                (self.ty, self.is_shown) = (Some(ty), true);
                (State::Update(mutations), Some(ty))
            }
        };
        self.command = None;
        Ok(Said::Reply(Reply {
            command: id,
            action,
            state,
            effects,
            level: None,
            ty,
        }))
    }

    fn on_failure(&mut self, failure: Failure) -> Said {
        let is_of = |id: &CommandId| id.0.cast_signed() == failure.command_id && failure.command_id != 0;
        let command = self.command.as_ref().map(|(id, _)| *id).filter(is_of);
        Said::Failed {
            command,
            error: refused(failure.grpc_status_code, &failure.description),
        }
    }
}

impl Function {
    fn report_about(&self, entity: &EntityId, what: &str) {
        use crate::function::Foreign;
        self.report(&format!("{entity}: {what}"));
    }
}

/// Nothing was said to it.
fn away(why: &str) -> Error {
    let message = format!("nothing changed: the function is not there: {why}; retry later");
    Error::new(ErrorKind::Unreachable, message)
}

async fn next(incoming: &mut Option<Streaming<StreamOut>>) -> Result<Option<StreamOut>, Status> {
    match incoming {
        Some(incoming) => incoming.message().await,
        None => std::future::pending().await,
    }
}
