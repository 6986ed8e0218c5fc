//! What clients ask a node without any function: updates and reads of entities, as the library's and HTTP's callers make them.

use anabranch::engine::{Input as EngineInput, Read, RequestId, Time};
use anabranch::trigger::check_kinds;
use anabranch::{Answer, Encoding, Error, Level, Payload, ReplicaId, Token, Update};

use super::calling::{For, Witness};
use super::{Apps, By, CallIx, Delivery, Event, News, Step, Todo};
use crate::app::{Direct, Made};
use crate::net::NodeIx;
use crate::world::World;

/// Such a question, until it is answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub node: NodeIx,
    pub client: usize,
    pub deadline: Time,
    /// What the client's session has seen, if it is in one.
    session: Option<Token>,
    pub wants: Direct,
}

impl Apps {
    /// A client's question, which comes to its node once all that came up before is done.
    pub(super) fn open_direct(
        &mut self,
        world: &World,
        (node, client): (NodeIx, usize),
        wants: Direct,
        session: Option<Token>,
        timeout_ms: u64,
    ) -> CallIx {
        let ix = self.number();
        let direct = Asked {
            node,
            client,
            deadline: Time(world.kernel.now()).after_ms(timeout_ms),
            session,
            wants,
        };
        self.directs.insert(ix, direct);
        self.agenda.push_back(Todo::Begin(ix));
        ix
    }

    /// Whether this is such a question, which its node's engine then has, or will once it goes on.
    pub(super) fn begin_direct(&mut self, world: &mut World, ix: CallIx) -> Option<Step> {
        let direct = self.directs.get(&ix)?;
        let node = direct.node;
        if world.is_still(node) {
            let event = Event::Arrives { node, call: ix };
            self.held.push((node, News::Event(event)));
            return Some(Ok(()));
        }
        let timeout_ms = Time(world.kernel.now()).ms_until(direct.deadline);
        let (wants, session) = (direct.wants.clone(), direct.session.clone());
        let request = RequestId(world.number_request());
        let (input, level) = match wants {
            Direct::Update(update) => {
                if let Err(error) = check_kinds(&update) {
                    self.end_direct(ix, Err(error), Witness::default());
                    return Some(Ok(()));
                }
                let level = update.level;
                let after = session.or(update.after);
                let update = Update {
                    after,
                    timeout_ms,
                    ..update
                };
                (EngineInput::Submit { request, update }, Some(level))
            }
            Direct::Read { entity, majority } => {
                let read = Read {
                    entities: vec![entity],
                    all: false,
                    after: session.unwrap_or_default(),
                    majority,
                    timeout_ms,
                };
                (EngineInput::Read { request, read }, None)
            }
        };
        self.requests.insert(request.0, (node, For::Direct { ix, level }));
        world.oracle.note_surely(node);
        Some(world.ask_engine(node, input))
    }

    /// An engine has answered one.
    pub(super) fn on_direct_done(
        &mut self,
        world: &mut World,
        ix: CallIx,
        level: Option<Level>,
        result: Result<Answer, Error>,
    ) -> Step {
        let Some(direct) = self.directs.get_mut(&ix) else {
            return Ok(());
        };
        let node = direct.node;
        let mut witness = Witness::default();
        if let Ok(answer) = &result {
            if let Some(level) = level {
                let is_repeat = matches!(&direct.wants, Direct::Update(update) if update.key.is_some());
                world.check_answer(node, level, answer, (!is_repeat).then_some(false))?;
                witness.made = Some(Made {
                    by: ReplicaId::new(world.hosts[node].id, answer.epoch),
                    dots: answer.dots.clone(),
                });
            }
            let life = world.hosts[node].life.as_ref();
            let after = direct.session.clone().unwrap_or_default();
            let seen = match (&direct.wants, life) {
                (Direct::Read { entity, .. }, Some(life)) => {
                    let (read, seen) = life.engine.read_answered(answer, &after, entity);
                    witness.read = read;
                    seen
                }
                _ => answer.token.clone(),
            };
            if let Some(token) = &mut direct.session {
                token.join(&seen);
            }
        }
        self.end_direct(ix, result, witness);
        Ok(())
    }

    fn end_direct(&mut self, ix: CallIx, result: Result<Answer, Error>, witness: Witness) {
        let Some(direct) = self.directs.remove(&ix) else {
            return;
        };
        let nothing =
            || Payload::of(Encoding::Cbor, &()).unwrap_or_else(|e| unreachable!("`()` is written: {e}"));
        self.agenda.push_back(Todo::Deliver(Delivery {
            node: direct.node,
            to: By::Client(direct.client),
            result: result.map(|_| nothing()),
            session: direct.session,
            witness,
        }));
    }
}
