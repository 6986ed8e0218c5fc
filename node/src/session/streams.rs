//! Answers that go on: commands that were answered once, and of which their function says more as the entity changes.
//!
//! Contract: what is said while there is a command, or while what one did is not in, is heard after that: nobody hears of a
//! change before it is there. What goes on ends with the life it began in, and its caller hears so.

use std::collections::{BTreeSet, VecDeque};

use anabranch_crdt::planted;

use super::{Action, Busy, CommandId, Effect, Finishing, Life, Output, Payload, Session, Streams, Told};
use crate::error::{Error, ErrorKind};
use crate::payload::Encoding;

/// Of one entity so many answers may go on at a node.
const OPEN_MAX: usize = 1_000;
/// So much may have been said that cannot be heard yet, beside what a function says of each answer that goes on.
const HELD_MAX: usize = 1_000;
/// So often it may say something of each.
const HELD_EACH_MAX: usize = 4;

/// What goes on in one life of a function. Of few it is anything.
#[derive(Debug, Default)]
pub(super) struct Streaming(Option<Box<Going>>);

#[derive(Debug, Default)]
struct Going {
    open: BTreeSet<CommandId>,
    /// Their callers have gone, and the function was not told so yet.
    gone: VecDeque<CommandId>,
    held: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    id: CommandId,
    action: Option<Action>,
    effects: Vec<Effect>,
    is_last: bool,
}

impl Streaming {
    /// Whether anything goes on.
    pub fn is_any(&self) -> bool {
        let going = self.0.as_ref();
        going.is_some_and(|going| !going.open.is_empty() || !going.gone.is_empty())
    }

    /// Whether this does.
    pub fn has(&self, id: CommandId) -> bool {
        let going = self.0.as_ref();
        going.is_some_and(|going| going.open.contains(&id) || going.gone.contains(&id))
    }

    fn going(&mut self) -> &mut Going {
        self.0.get_or_insert_default()
    }
}

impl Session {
    /// Tells the function of one caller who has gone, if it has nothing else to do; and whether there was one.
    pub(super) fn tell_gone(&mut self) -> bool {
        let Life::Open(open) = &mut self.life else {
            return false;
        };
        if open.busy.is_some() {
            return false;
        }
        let going = open.streaming.0.as_mut();
        let Some(id) = going.and_then(|going| going.gone.pop_front()) else {
            return false;
        };
        let until = self.now.after_ms(self.config.closing_ms);
        let deadline = self.now.after_ms(self.config.answer_ms);
        open.busy = Some(Busy {
            id,
            until,
            deadline,
            is_left: false,
        });
        let stream = open.stream;
        self.tell(stream, Told::Cancelled { id });
        true
    }

    /// Nobody hears how an answer goes on.
    pub(super) fn on_stream_left(&mut self, id: CommandId) {
        if let Life::Open(open) = &mut self.life
            && let Some(going) = &mut open.streaming.0
            && going.open.remove(&id)
        {
            going.gone.push_back(id);
        }
    }

    /// A command was answered, and that is not all.
    pub(super) fn begin_stream(&mut self, id: CommandId, finishing: Finishing) {
        let (streams, stream) = finishing.streams;
        let action = Some(finishing.action).filter(|_| streams == Streams::Begun);
        let life = match &mut self.life {
            Life::Open(open) if open.stream == stream => Some(open.streaming.going()),
            _ => None,
        };
        let (action, ends) = match life {
            Some(going) if going.open.len() < OPEN_MAX => {
                going.open.insert(id);
                (action, None)
            }
            Some(going) => {
                going.gone.push_back(id);
                (Some(Action::Refuse(self.too_many())), None)
            }
            None if finishing.deletes => (action, Some(Ok(nothing()))),
            None => (action, Some(Err(self.stream_lost()))),
        };
        let effects = Vec::new();
        self.outputs.push_back(Output::Streamed { id, action, effects });
        if let Some(result) = ends {
            self.answer(id, result);
        }
    }

    /// The function says more.
    pub(super) fn on_streamed(
        &mut self,
        id: CommandId,
        action: Option<Action>,
        effects: Vec<Effect>,
        is_last: bool,
    ) {
        let Life::Open(open) = &mut self.life else { return };
        let going = open.streaming.going();
        if matches!(action, Some(Action::Refuse(_))) && going.open.remove(&id) {
            // A failure waits for nothing, and what was to be heard before it is not any more.
            self.outputs.push_back(Output::Streamed { id, action, effects });
            match is_last {
                true => self.answer(id, Ok(nothing())),
                // The function would go on.
                false => going.gone.push_back(id),
            }
            return;
        }
        if going.held.len() >= HELD_MAX + HELD_EACH_MAX * going.open.len() {
            return self.broke("it said more than can be kept while it had a command".to_owned());
        }
        going.held.push_back(Part {
            id,
            action,
            effects,
            is_last,
        });
    }

    /// Lets be heard what can be.
    pub(super) fn pass_on(&mut self) {
        let Life::Open(open) = &mut self.life else { return };
        let Some(going) = &mut open.streaming.0 else {
            return;
        };
        let waits = open.busy.is_some() || self.committing.is_some();
        if going.held.is_empty() || planted!("part_before_commit", false, waits) {
            return;
        }
        for part in std::mem::take(&mut going.held) {
            let Part { id, is_last, .. } = part;
            // It goes on before it has begun.
            if self.finishing.iter().any(|(finishing, _)| *finishing == id) {
                going.held.push_back(part);
                continue;
            }
            let is_heard = match is_last {
                true => going.open.remove(&id),
                false => going.open.contains(&id),
            };
            if !is_heard {
                continue;
            }
            let Part { action, effects, .. } = part;
            self.outputs.push_back(Output::Streamed { id, action, effects });
            if is_last {
                open.idle_since = self.now;
                let result = Ok(nothing());
                self.outputs.push_back(Output::Answer { id, result });
            }
        }
    }

    /// Nothing goes on beyond this life; the entity itself may be the reason.
    pub(super) fn end_streams(&mut self, is_deleted: bool) {
        let Life::Open(open) = &mut self.life else { return };
        let Some(going) = open.streaming.0.take() else {
            return;
        };
        let Going { open, gone, .. } = *going;
        let lost = self.stream_lost();
        for id in open {
            let result = match is_deleted {
                true => Ok(nothing()),
                false => Err(lost.clone()),
            };
            self.answer(id, result);
        }
        for id in gone {
            self.answer(id, Ok(nothing()));
        }
    }

    fn stream_lost(&self) -> Error {
        let message = format!(
            "the stream of {} has ended, as its function begins anew there; what it did stands; open it again",
            self.config.entity
        );
        Error::new(ErrorKind::Unanswered, message)
    }

    fn too_many(&self) -> Error {
        let message = format!(
            "{OPEN_MAX} streams of {} go on at this node; what this one did stands; retry later, or elsewhere",
            self.config.entity
        );
        Error::new(ErrorKind::Overloaded, message)
    }
}

fn nothing() -> Action {
    Action::Reply(Payload {
        encoding: Encoding::Protobuf,
        bytes: bytes::Bytes::new(),
    })
}
