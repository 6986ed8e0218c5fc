//! Answers that go on: commands that were answered once, and of which their function says more as the entity changes.
//!
//! Contract: what is said while there is a command, or while what one did is not in, is heard after that: nobody hears of a
//! change before it is there. What goes on ends with the life it began in, and its caller hears so.

use std::collections::{BTreeSet, VecDeque};

use anabranch_crdt::planted;

use super::{Action, Busy, CommandId, Effect, Finishing, Life, Output, Payload, Session, Streams, Told};
use crate::error::{Error, ErrorKind};
use crate::payload::Encoding;

/// So much may have been said that cannot be heard yet.
const HELD_MAX: usize = 1_000;

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
    pub(super) fn has_gone(&self) -> bool {
        matches!(&self.life, Life::Open(open) if open.streaming.0.as_ref().is_some_and(|going| !going.gone.is_empty()))
    }

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
        open.busy = Some(Busy { id, until, deadline });
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
        match &mut self.life {
            Life::Open(open) if open.stream == stream => {
                open.streaming.going().open.insert(id);
                self.outputs.push_back(Output::Streamed {
                    id,
                    action: Some(finishing.action).filter(|_| streams == Streams::Begun),
                    effects: Vec::new(),
                });
            }
            _ => {
                let error = self.stream_lost();
                self.answer(id, Err(error));
            }
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
            return self.answer(id, Ok(nothing()));
        }
        let held = &mut going.held;
        if held.len() >= HELD_MAX {
            return self.broke(format!("it said {HELD_MAX} things while it had a command"));
        }
        held.push_back(Part {
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
        if planted!("part_before_commit", false, waits) {
            return;
        }
        while let Some(part) = going.held.front() {
            // It goes on before it has begun.
            if self.finishing.iter().any(|(id, _)| *id == part.id) {
                return;
            }
            let Some(Part {
                id,
                action,
                effects,
                is_last,
            }) = going.held.pop_front()
            else {
                return;
            };
            let is_heard = match is_last {
                true => going.open.remove(&id),
                false => going.open.contains(&id),
            };
            if !is_heard {
                continue;
            }
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
            "the stream of {} has ended, as its function begins anew there; open it again",
            self.config.entity
        );
        Error::new(ErrorKind::Unreachable, message)
    }
}

fn nothing() -> Action {
    Action::Reply(Payload {
        encoding: Encoding::Protobuf,
        bytes: bytes::Bytes::new(),
    })
}
