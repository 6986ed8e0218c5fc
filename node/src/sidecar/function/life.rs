//! One life of a function beside an entity: the stream `Handle`, on which it is told of the entity and given commands.
//!
//! Contract: what is told goes out in order; what cannot be told, and what comes that makes no sense, ends the stream. The entity's
//! type and whether it was shown are kept here as the function knows them, since a change is understood by them.

mod heard;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anabranch_crdt::{NodeId, Reading, Type};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Status, Streaming};

use super::end::{End, away, takes_no_more};
use super::grown::Grown;
use super::{BEGUN_TRIES, Function};
use crate::error::{Error, ErrorKind};
use crate::function::{Foreign, Handle, Hear};
use crate::session::{Action, Command, CommandId, Reply, Said, State, Streams, Told};
use crate::sidecar::awake::Use;
use crate::sidecar::connection::{Headless, Stay};
use crate::sidecar::delta::{Delta, VoteDelta};
use crate::sidecar::envelope::Envelope;
use crate::sidecar::proto::common::Command as CommandMessage;
use crate::sidecar::shown::Viewer;
use crate::sidecar::untouched::Untouched;
use crate::sidecar::word::Word;
use crate::view::View;
use crate::wire::EntityId;

/// So much may wait to be told. A function that does not take that is not told more.
const TOLD_MAX: usize = 256;
/// So many messages may wait for the connection.
const OUT_MAX: usize = 16;

/// The near end of a life.
pub(super) struct Life {
    told: Option<mpsc::Sender<Told>>,
    /// Something could not be told.
    overrun: Arc<Notify>,
    task: AbortHandle,
}

impl Life {
    pub fn begin(function: Function, entity: EntityId, hear: Hear) -> Life {
        let (told, to_tell) = mpsc::channel(TOLD_MAX);
        let overrun = Arc::new(Notify::new());
        let runtime = function.all.runtime.clone();
        let stream = Conversation {
            hear,
            entity,
            given: 0,
            using: None,
            command: None,
            is_cancelling: false,
            probe: 0,
            is_all_said: false,
            shown: 0,
            streams: BTreeMap::new(),
            ty: None,
            is_shown: false,
            is_on: false,
            votes: VoteDelta {
                total_voters: 1,
                ..VoteDelta::default()
            },
            grown: Grown::default(),
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
            self.overrun.notify_one();
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
    overrun: Arc<Notify>,
    /// How many commands it was given: each is to it the number that it is.
    given: i64,
    /// What it keeps the process for.
    using: Option<Use>,
    /// What it has to answer: it is on its way to it.
    command: Option<Given>,
    /// Whether that has been answered, and what it has to say to its cancellation is all that is missing.
    is_cancelling: bool,
    /// The number of the last command that no function has: below those that are somebody's.
    probe: i64,
    /// Whether what it says of the command that it has goes on no more, though that is not answered.
    is_all_said: bool,
    /// The most bytes that it was told of the entity at a time since it last said something.
    shown: usize,
    /// Commands of which it may say more, by number.
    streams: BTreeMap<i64, Given>,
    /// What the function knows the entity as.
    ty: Option<Type>,
    /// Whether it was shown an entity that exists.
    is_shown: bool,
    /// Whether it knows it as a flag that is on.
    is_on: bool,
    /// How it counts votes, where it is one: of a new one, that nobody has voted of one who may.
    votes: VoteDelta,
    /// How large it has become.
    grown: Grown,
}

/// What goes out to it, in order.
#[derive(Default)]
struct Outgoing {
    /// What is to go out next. A function that does not take it is heard all the same.
    unsaid: VecDeque<Bytes>,
    /// What went out, as long as nothing says that somebody took it.
    unheard: VecDeque<Bytes>,
    /// Nothing more comes.
    is_over: bool,
}

impl Outgoing {
    /// Nobody took it.
    fn again(&mut self) {
        self.unheard.append(&mut self.unsaid);
        std::mem::swap(&mut self.unheard, &mut self.unsaid);
    }
}

/// A command that it was given.
#[derive(Clone)]
struct Given {
    number: i64,
    id: CommandId,
    command: Command,
}

impl Conversation {
    async fn run(mut self, mut told: mpsc::Receiver<Told>) {
        let said = match self.converse(&mut told).await {
            Ok(()) => Said::Ended,
            Err(end) => self.ended(end, &mut told),
        };
        let is_over = said == Said::Ended;
        self.hear.said(said);
        if !is_over {
            self.hear.said(Said::Ended);
        }
    }

    /// What there is to hear of an end before its time; its author is told.
    fn ended(&self, end: End, told: &mut mpsc::Receiver<Told>) -> Said {
        let (command, error) = match end {
            End::Gone(why) if self.command.is_none() => (None, away(&why)),
            End::Gone(why) => (None, Error::new(ErrorKind::Lost, why)),
            End::NoRoom(error) => (None, error),
            End::NotBegun => (None, takes_no_more()),
            End::Closed => {
                let is_command = |told: Told| matches!(told, Told::Command { .. });
                let mut waits = std::iter::from_fn(|| told.try_recv().ok());
                if self.command.is_none() && !waits.any(is_command) {
                    // Nobody misses anything: the next command begins another life.
                    return Said::Ended;
                }
                let error = End::closed(&self.entity);
                self.function.remark_stream("closed", error.message());
                (None, error)
            }
            End::Failed { way, error } => {
                let text = error.message();
                // That is for its caller.
                let text = text.strip_prefix("nothing changed: ").unwrap_or(text);
                self.function.remark_stream(way, text);
                (None, error)
            }
            End::Cannot(why) => {
                self.function.report_about(&self.entity, &why);
                let message = format!("nothing changed: {}: {why}", self.entity);
                (None, Error::new(ErrorKind::WrongType, message))
            }
            End::Broke(error) => {
                self.function.report_about(&self.entity, error.message());
                (self.command.as_ref().map(|given| given.id), error)
            }
        };
        Said::Failed { command, error }
    }

    async fn converse(&mut self, told: &mut mpsc::Receiver<Told>) -> Result<(), End> {
        let mut outgoing = Outgoing::default();
        for _ in 0..BEGUN_TRIES {
            match self.converse_on_one(told, &mut outgoing).await {
                Err(End::NotBegun) => outgoing.again(),
                ended => return ended,
            }
        }
        Err(End::NotBegun)
    }

    /// The same on one connection, until its server refuses it.
    async fn converse_on_one(
        &mut self,
        told: &mut mpsc::Receiver<Told>,
        Outgoing {
            unsaid,
            unheard,
            is_over,
        }: &mut Outgoing,
    ) -> Result<(), End> {
        let (sender, outgoing) = mpsc::channel(OUT_MAX);
        // It may have to wake up first.
        let place = self.function.all.awake.room(Stay::Awake).await;
        let (place, using) = place.map_err(End::NoRoom)?;
        self.using = Some(using);
        let mut grpc = place.grpc();
        let unavailable = |e: Headless| End::Gone(e.to_string());
        grpc.ready().await.map_err(unavailable)?;
        let request = tonic::Request::new(ReceiverStream::new(outgoing));
        let path = PathAndQuery::from_static(self.function.all.dialect().paths().handle);
        let calling = grpc.streaming(request, path, Untouched);
        let mut calling = std::pin::pin!(calling);
        let mut incoming: Option<Streaming<Bytes>> = None;
        // Dropped, it tells the function that nothing more comes.
        let mut out = Some(sender);
        let overrun = Arc::clone(&self.overrun);
        let failed = |me: &Conversation, status: &Status| {
            place.heard(status);
            me.failed(status)
        };
        loop {
            if *is_over && unsaid.is_empty() {
                out = None;
            }
            tokio::select! {
                // The answer's head may come with its first message only.
                response = &mut calling, if incoming.is_none() => {
                    incoming = Some(response.map_err(|status| failed(self, &status))?.into_inner());
                    unheard.clear();
                }
                message = next(&mut incoming) => match message.map_err(|status| failed(self, &status))? {
                    Some(message) => self.on_message(message)?,
                    None if out.is_some() => return Err(End::Closed),
                    None => return Ok(()),
                },
                next = told.recv(), if !*is_over && unsaid.is_empty() => {
                    match next.filter(|told| !matches!(told, Told::End)) {
                        Some(next) => unsaid.extend(self.messages(next)?),
                        None => *is_over = true,
                    }
                }
                () = overrun.notified() => {
                    let why = format!("its function does not take {TOLD_MAX} messages");
                    return Err(End::Gone(why));
                }
                permit = room(&out), if !unsaid.is_empty() => match permit.zip(unsaid.pop_front()) {
                    Some((permit, message)) => {
                        if incoming.is_none() {
                            unheard.push_back(message.clone());
                        }
                        permit.send(message);
                    }
                    // The other direction says why.
                    None => unsaid.clear(),
                }
            }
        }
    }

    /// What is told, as it goes out.
    fn messages(&mut self, told: Told) -> Result<Vec<Bytes>, End> {
        let dialect = self.function.all.dialect();
        let mut all = Vec::new();
        for word in self.words(told)? {
            let is_shown = matches!(word, Word::Init { .. } | Word::Delta { .. });
            let messages = self.grown.told(dialect, word).map_err(End::Cannot)?;
            if is_shown {
                self.shown = messages.iter().map(Bytes::len).fold(self.shown, usize::max);
            }
            all.extend(messages);
        }
        Ok(all)
    }

    fn failed(&self, status: &Status) -> End {
        let path = self.function.all.dialect().paths().handle;
        End::of(path, &self.entity, status, self.shown)
    }

    /// What is told, in words.
    fn words(&mut self, told: Told) -> Result<Vec<Word>, End> {
        Ok(match told {
            Told::Init { view, reading } => self.init(&view, reading.as_ref())?,
            Told::Delta { change, view } => {
                self.ty = view.ty();
                let Some(ty) = view.ty() else {
                    return Ok(Vec::new());
                };
                let delta = self.viewing(|viewer| viewer.change(ty, view.value(), &change))?;
                let delta = delta.filter(|delta| self.is_news(delta));
                let is_whole = !self.is_shown;
                self.is_shown |= delta.is_some();
                let word = delta.map(|delta| Word::Delta { delta, is_whole });
                word.into_iter().collect()
            }
            Told::Delete => vec![Word::Delete],
            Told::Command { id, command, view } => {
                self.grown.given(view);
                vec![self.command(id, command)?]
            }
            Told::Cancelled { id } => self.cancelled(id),
            Told::End => Vec::new(),
        })
    }

    fn init(&mut self, view: &View, reading: Option<&Reading>) -> Result<Vec<Word>, End> {
        self.ty = view.ty();
        let shown = view.ty().zip(reading);
        let state = match shown {
            Some((ty, reading)) => self.viewing(|viewer| viewer.whole(ty, view.value(), reading))?,
            None => None,
        };
        self.is_shown = state.is_some();
        if let Some(state) = &state {
            self.is_news(state);
        }
        let init = Word::Init {
            service: self.function.service.name.clone(),
            entity: self.entity.key().to_owned(),
            state,
        };
        // A vote says how many there are from its beginning.
        if view.ty() == Some(Type::Vote) && reading.is_none() {
            let votes = self.viewing(|viewer| Ok(Some(viewer.no_votes())))?;
            // Though nothing is there yet, what comes next is what becomes of that.
            self.is_shown = votes.as_ref().is_some_and(|votes| self.is_news(votes));
            let votes = votes.map(|delta| Word::Delta {
                delta,
                is_whole: true,
            });
            return Ok([init].into_iter().chain(votes).collect());
        }
        Ok(vec![init])
    }

    /// Whether it does not know that yet, as it may how many have voted. It does from now on.
    fn is_news(&mut self, delta: &Delta) -> bool {
        self.is_on = *delta == Delta::Flag(true);
        match delta {
            Delta::Vote(votes) => std::mem::replace(&mut self.votes, *votes) != *votes || !self.is_shown,
            _ => true,
        }
    }

    fn viewing(
        &self,
        show: impl FnOnce(&Viewer<'_>) -> Result<Option<Delta>, String>,
    ) -> Result<Option<Delta>, End> {
        let live = || -> Vec<NodeId> { (self.function.all.live)() };
        let viewer = Viewer {
            primitives: self.function.all.dialect().primitives(),
            me: self.function.all.me,
            live: &live,
        };
        show(&viewer).map_err(End::Cannot)
    }

    fn command(&mut self, id: CommandId, command: Command) -> Result<Word, End> {
        let service = &self.function.service;
        let method = self.function.method(&command.method).map_err(End::Broke)?;
        let envelope = Envelope::of(&command.payload).map_err(End::Broke)?;
        let hears = |header: &str| service.hears(header);
        let (payload, metadata) = envelope.into_any(&method.input_url, command.origin.trace, hears);
        self.given += 1;
        let number = self.given;
        let message = CommandMessage {
            entity_id: self.entity.key().to_owned(),
            id: number,
            name: command.method.clone(),
            payload: Some(payload),
            streamed: self.function.goes_on_answering(&command.method),
            metadata: Some(metadata),
        };
        self.command = Some(Given { number, id, command });
        self.note_rest();
        (self.is_cancelling, self.is_all_said) = (false, false);
        Ok(Word::Command(message))
    }

    /// Whether anybody wants something of it may have changed.
    fn note_rest(&mut self) {
        let rests = self.command.is_none() && self.streams.is_empty();
        if let Some(using) = &mut self.using {
            using.rests(rests);
        }
    }

    /// Nobody hears any more what it says to a command. Some SDKs say nothing to that themselves: those answer what follows it, which
    /// is a command that they do not have.
    fn cancelled(&mut self, id: CommandId) -> Vec<Word> {
        let number = self.streams.values().find(|given| given.id == id);
        let Some(number) = number.map(|given| given.number) else {
            // It has said all of it by now, and knows of nothing that could be cancelled.
            self.hear.said(Said::Reply(nothing_of(id)));
            return Vec::new();
        };
        (self.command, self.is_cancelling) = (self.streams.remove(&number), true);
        self.note_rest();
        let entity = self.entity.key().to_owned();
        let cancelled = Word::Cancelled {
            entity: entity.clone(),
            id: number,
        };
        if !self.function.all.services.is_silent_when_cancelled {
            return vec![cancelled];
        }
        self.probe -= 1;
        let probe = Word::Command(CommandMessage {
            entity_id: entity,
            id: self.probe,
            ..CommandMessage::default()
        });
        vec![cancelled, probe]
    }
}

impl Function {
    /// Whether it answers a command of this method with a stream.
    fn goes_on_answering(&self, method: &str) -> bool {
        self.goes_on() && self.is_streamed(method)
    }

    fn report_about(&self, entity: &EntityId, what: &str) {
        self.report(&format!("{entity}: {what}"));
    }
}

/// What a command is answered that does nothing.
fn nothing_of(command: CommandId) -> Reply {
    Reply {
        command,
        action: Action::Reply(Envelope::default().to_payload()),
        state: State::Same,
        effects: Vec::new(),
        level: None,
        ty: None,
        streams: Streams::No,
    }
}

/// Waits until a message can be sent; nothing, if none can be any more.
async fn room(out: &Option<mpsc::Sender<Bytes>>) -> Option<OwnedPermit<Bytes>> {
    out.clone()?.reserve_owned().await.ok()
}

async fn next(incoming: &mut Option<Streaming<Bytes>>) -> Result<Option<Bytes>, Status> {
    match incoming {
        Some(incoming) => incoming.message().await,
        None => std::future::pending().await,
    }
}
