//! The sessions of entities, and who waits for what they say.
//!
//! Contract: a session that nobody needs is kept for the entity's next command, so that a busy one need not be made anew with
//! each; but no more than [`KEPT_MAX`] of them in a lock's share.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::step::{Step, step};
use crate::engine::Time;
use crate::error::Error;
use crate::session::{CommandId, Input, Said, Session, StreamId};
use crate::view::View;
use crate::wire::EntityId;

/// So many sessions that nobody needs are kept by each lock.
const KEPT_MAX: usize = 64;

/// The sessions behind one lock.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: BTreeMap<EntityId, Box<Hosted>>,
    /// Of them those that nobody needs.
    kept: usize,
}

/// A session, and who waits for what it says. Bounded by the session's own bound.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) session: Session,
    pub(super) waiting: BTreeMap<CommandId, oneshot::Sender<Step>>,
    /// What was said to those who were running.
    pub(super) late: BTreeMap<CommandId, Step>,
    /// When it is looked after, if that is planned.
    pub(super) due: Option<Time>,
    /// Nobody needs it.
    is_kept: bool,
}

impl Sessions {
    /// The session of an entity, if there is one.
    pub(super) fn get_mut(&mut self, entity: &EntityId) -> Option<&mut Hosted> {
        self.all.get_mut(entity).map(|hosted| &mut **hosted)
    }

    /// The session that an entity's command is for.
    pub(super) fn open(&mut self, entity: &EntityId, new: impl FnOnce() -> Session) -> &mut Hosted {
        let place = self.all.entry(entity.clone());
        let hosted = place.or_insert_with(|| Box::new(Hosted::new(new())));
        self.kept -= usize::from(std::mem::take(&mut hosted.is_kept));
        hosted
    }

    /// Nobody needs one more of them.
    pub(super) fn keep_one_more(&mut self) {
        self.kept += 1;
        if self.kept > KEPT_MAX {
            self.all.retain(|_, hosted| !hosted.is_kept);
            self.kept = 0;
        }
    }

    /// How many commands wait or are being answered.
    pub(super) fn commands(&self) -> usize {
        self.all.values().map(|hosted| hosted.session.commands()).sum()
    }
}

impl Hosted {
    fn new(session: Session) -> Hosted {
        Hosted {
            session,
            waiting: BTreeMap::new(),
            late: BTreeMap::new(),
            due: None,
            is_kept: false,
        }
    }

    /// Tells the session one thing, and everybody what follows for them; returns what follows for `own`.
    pub(super) fn tell(
        &mut self,
        now: Time,
        input: Input,
        own: Option<CommandId>,
        look: &dyn Fn() -> Result<View, Error>,
    ) -> Option<Step> {
        let mut mine = None;
        let (mut input, mut more) = (input, Vec::new());
        loop {
            self.session.handle(now, input, look);
            while let Some(output) = self.session.poll_output() {
                let Some((id, step)) = step(output) else { continue };
                if own == Some(id) {
                    step.follow(&mut mine);
                } else if let Some(gone) = self.deliver(id, step) {
                    // Its caller has gone: the function was not given it after all.
                    let said = Said::Ended;
                    more.push(Input::Said { stream: gone, said });
                }
            }
            match more.pop() {
                Some(next) => input = next,
                None => return mine,
            }
        }
    }

    /// Whether nobody needs it any more, which is to be said with [`Sessions::keep_one_more`].
    pub(super) fn is_left(&mut self) -> bool {
        let is_vacant = self.session.is_vacant() && self.waiting.is_empty() && self.late.is_empty();
        is_vacant && !std::mem::replace(&mut self.is_kept, true)
    }

    /// When it is to be looked after, where somebody waits and no earlier time is planned.
    pub(super) fn next_due(&mut self) -> Option<Time> {
        let at = self.session.next_wakeup().filter(|_| !self.waiting.is_empty())?;
        if self.due.is_some_and(|due| due <= at) {
            return None;
        }
        self.due = Some(at);
        Some(at)
    }

    /// Hands a caller its next step; gives back the life of the function that a caller who has gone was to run.
    fn deliver(&mut self, id: CommandId, step: Step) -> Option<StreamId> {
        let Some(sender) = self.waiting.remove(&id) else {
            self.late.insert(id, step);
            return None;
        };
        match sender.send(step) {
            Err(Step::Run { stream, .. }) => Some(stream),
            _ => None,
        }
    }
}
