//! Clients' ends of streams: what they take, when, and what they send.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::Poll;

use anabranch::{BoxFuture, Encoding, Error, ErrorKind, Messages, Payload, Streaming, Token};

use super::super::calling::Witness;
use super::super::{Apps, By, Delivery, Event, Step, Todo};
use super::{Opener, Who, print_of};
use crate::app::{Ask, Replied, Streamed};
use crate::net::NodeIx;
use crate::oracle::{Rule, broken};
use crate::rng::Rng;
use crate::world::World;

/// A client takes so long for a reply at least and at most, microseconds; and so long between two messages.
const TAKES_US: (f64, f64) = (1.0, 2e5);

/// A client's stream.
pub(in crate::world::app) struct Taking {
    pub client: usize,
    pub node: NodeIx,
    ask: Ask,
    /// Nothing until it is open.
    streaming: Option<Streaming>,
    /// Between which nodes, where it is not the client's own.
    line: Option<u64>,
    sending: Sending,
    messages: VecDeque<Payload>,
    /// Whether it says that there are no more once they are sent.
    finishes: bool,
    /// Whether a test does what else a client would.
    by_hand: bool,
    /// Whether it waits for a reply now.
    wants: bool,
    /// Replies that it took.
    taken: u64,
    last: Option<Payload>,
    in_session: bool,
}

/// Where its messages go.
enum Sending {
    Idle(Messages),
    Busy(BoxFuture<'static, (Messages, Result<(), Error>)>),
    Over,
}

impl Apps {
    /// A client opens a stream; returns what it is cancelled by.
    pub(in crate::world::app) fn stream_of_client(
        &mut self,
        world: &mut World,
        (node, client): (NodeIx, usize),
        ask: &Ask,
        streamed: &Streamed,
        session: Option<Token>,
    ) -> u64 {
        let number = self.number();
        let taking = Taking {
            client,
            node,
            ask: ask.clone(),
            streaming: None,
            line: None,
            sending: Sending::Over,
            messages: streamed.messages.clone().into(),
            finishes: streamed.finishes,
            by_hand: streamed.by_hand,
            wants: !streamed.by_hand,
            taken: 0,
            last: None,
            in_session: session.is_some(),
        };
        self.streams.taking.insert(number, taking);
        let on = streamed.on.map(|on| world.hosts[on].id);
        let (call, opener) = (streamed.call.clone(), Opener::Client(number));
        let after = session.unwrap_or_default();
        self.open_stream(world, node, on, opener, call, after, ask.timeout_ms());
        if let Some(us) = streamed.lasts_us {
            let event = Event::Leaves { client, call: number };
            world.plan_event(us, event);
        }
        number
    }

    pub(super) fn on_client_opened(
        &mut self,
        number: u64,
        opened: Result<Streaming, Error>,
        line: Option<u64>,
    ) {
        let Some(taking) = self.streams.taking.get_mut(&number) else {
            return;
        };
        match opened {
            Ok(streaming) => {
                let (messages, streaming) = streaming.split();
                taking.sending = Sending::Idle(messages);
                (taking.streaming, taking.line) = (Some(streaming), line);
                self.streams.bells.ring(Who::Taker(number));
                self.streams.bells.ring(Who::Sender(number));
            }
            Err(error) => self.end_taking(number, Err(error), None),
        }
    }

    /// A client's stream has ended: that is its answer.
    fn end_taking(&mut self, number: u64, result: Result<(), Error>, session: Option<Token>) {
        let Some(taking) = self.streams.taking.remove(&number) else {
            return;
        };
        let nothing = || Payload::of(Encoding::Cbor, &());
        let result =
            result.map(|()| nothing().unwrap_or_else(|e| unreachable!("nothing can be written: {e}")));
        self.agenda.push_back(Todo::Deliver(Delivery {
            node: taking.node,
            to: By::Client(taking.client),
            result,
            session: session.filter(|_| taking.in_session),
            witness: Witness::default(),
        }));
    }

    /// A client may have a reply, if it wants one.
    pub(in crate::world::app) fn poll_taker(&mut self, world: &mut World, number: u64) -> Step {
        let Some(taking) = self.streams.taking.get_mut(&number).filter(|taking| taking.wants) else {
            return Ok(());
        };
        let Some(streaming) = &mut taking.streaming else {
            return Ok(());
        };
        let polled = self
            .streams
            .bells
            .poll(pin!(streaming.next_payload()), Who::Taker(number));
        match polled {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(Some(reply))) => self.take_reply(world, number, reply),
            Poll::Ready(Ok(None)) => {
                let token = streaming.token().clone();
                self.check_end(number)?;
                self.end_taking(number, Ok(()), Some(token));
                Ok(())
            }
            Poll::Ready(Err(error)) => {
                let token = streaming.token().clone();
                self.end_taking(number, Err(error), Some(token));
                Ok(())
            }
        }
    }

    fn take_reply(&mut self, world: &mut World, number: u64, payload: Payload) -> Step {
        self.check_reply(number, &payload)?;
        let Some(taking) = self.streams.taking.get_mut(&number) else {
            return Ok(());
        };
        taking.taken += 1;
        taking.last = Some(payload.clone());
        taking.wants = false;
        self.counts.replies += 1;
        let replied = Replied {
            client: taking.client,
            ask: taking.ask.clone(),
            node: taking.node,
            stream: number,
            nth: taking.taken,
            at: world.kernel.now(),
            payload,
        };
        let (node, by_hand) = (taking.node, taking.by_hand);
        world.note_reply(&replied);
        if !by_hand {
            let mut rng = Rng::stream(world.plan.seed, "takes", number, replied.nth);
            let wait = rng.log_uniform(TAKES_US.0, TAKES_US.1) as u64;
            world.plan_event(wait, Event::Takes { node, number });
        }
        let judged = self.application.on_reply(&replied);
        judged.map_err(|why| broken(Rule::Application, node, why))
    }

    /// A client waits for the next reply.
    pub(in crate::world::app) fn on_takes(&mut self, number: u64) {
        if let Some(taking) = self.streams.taking.get_mut(&number) {
            taking.wants = true;
            self.streams.bells.ring(Who::Taker(number));
        }
    }

    /// Every reply is what the function has said, in order.
    fn check_reply(&self, number: u64, payload: &Payload) -> Step {
        let Some((taking, log)) = self.logged(number) else {
            return Ok(());
        };
        let said = log.replies.get(taking.taken as usize);
        if said != Some(&print_of(&payload.bytes)) {
            let what = format!(
                "client {} has as reply {} of {} what its function has not said",
                taking.client, taking.taken, taking.ask
            );
            return Err(broken(Rule::Stream, taking.node, what));
        }
        Ok(())
    }

    /// What ended well for its caller has done so for its function, with all replies taken.
    fn check_end(&self, number: u64) -> Step {
        let Some((taking, log)) = self.logged(number) else {
            return Ok(());
        };
        let said = log.replies.len() as u64;
        if log.ended != Some(true) || taking.taken != said {
            let what = format!(
                "{} has ended for client {} after {} replies; of its function, it is {:?} after {said}",
                taking.ask, taking.client, taking.taken, log.ended
            );
            return Err(broken(Rule::Stream, taking.node, what));
        }
        Ok(())
    }

    /// A client's stream that goes to another node, and what its function has said.
    fn logged(&self, number: u64) -> Option<(&Taking, &super::Log)> {
        let taking = self.streams.taking.get(&number)?;
        let log = self.streams.logs.get(&taking.line?)?;
        Some((taking, log))
    }

    /// A client goes on with its messages.
    pub(super) fn poll_sender(&mut self, world: &mut World, number: u64) {
        let Some(taking) = self.streams.taking.get_mut(&number) else {
            return;
        };
        if let Sending::Busy(busy) = &mut taking.sending {
            match self.streams.bells.poll(busy.as_mut(), Who::Sender(number)) {
                Poll::Pending => return,
                Poll::Ready((messages, Ok(()))) => taking.sending = Sending::Idle(messages),
                // The function takes no more.
                Poll::Ready((_, Err(_))) => taking.sending = Sending::Over,
            }
        }
        let Sending::Idle(messages) = &mut taking.sending else {
            return;
        };
        if taking.messages.is_empty() {
            if taking.finishes {
                messages.finish();
                taking.sending = Sending::Over;
            }
            return;
        }
        let node = taking.node;
        let mut rng = Rng::stream(world.plan.seed, "sends", number, taking.messages.len() as u64);
        let wait = match taking.by_hand {
            true => 0,
            false => rng.log_uniform(TAKES_US.0, TAKES_US.1) as u64,
        };
        world.plan_event(wait, Event::Sends { node, number });
    }

    /// It is time for a client's next message.
    pub(in crate::world::app) fn on_sends(&mut self, number: u64) {
        let Some(taking) = self.streams.taking.get_mut(&number) else {
            return;
        };
        match std::mem::replace(&mut taking.sending, Sending::Over) {
            Sending::Idle(mut messages) => {
                let Some(message) = taking.messages.pop_front() else {
                    taking.sending = Sending::Idle(messages);
                    return;
                };
                taking.sending = Sending::Busy(Box::pin(async move {
                    let sent = messages.send_payload(message).await;
                    (messages, sent)
                }));
                self.streams.bells.ring(Who::Sender(number));
            }
            other => taking.sending = other,
        }
    }

    /// A client goes away. Whether it was there.
    pub(in crate::world::app) fn drop_taking(&mut self, number: u64) -> bool {
        let was_there = self.streams.taking.remove(&number).is_some();
        if was_there {
            self.cancel_opening(&Opener::Client(number));
        }
        was_there
    }

    /// Which client's stream this is.
    fn taking_of(&mut self, client: usize) -> Option<(u64, &mut Taking)> {
        let mut all = self.streams.taking.iter_mut();
        let found = all.find(|(_, taking)| taking.client == client)?;
        Some((*found.0, found.1))
    }

    /// A test's client waits for a reply.
    pub(in crate::world::app) fn want_by_hand(&mut self, client: usize) {
        if let Some((number, _)) = self.taking_of(client) {
            self.on_takes(number);
        }
    }

    /// A test's client sends this, or says that it has said all.
    pub(in crate::world::app) fn send_by_hand(&mut self, client: usize, message: Option<Payload>) {
        if let Some((number, taking)) = self.taking_of(client) {
            taking.finishes |= message.is_none();
            taking.messages.extend(message);
            self.streams.bells.ring(Who::Sender(number));
        }
    }

    /// How far a test's client is: whether its stream is open, whether all that it sent has room, and how many replies it took, with
    /// the last of them.
    pub(in crate::world::app) fn stands_by_hand(&self, client: usize) -> Option<Stands> {
        let taking = self
            .streams
            .taking
            .values()
            .find(|taking| taking.client == client)?;
        Some(Stands {
            is_open: taking.streaming.is_some(),
            has_sent: taking.messages.is_empty() && !matches!(taking.sending, Sending::Busy(_)),
            taken: taking.taken,
            last: taking.last.clone(),
        })
    }

    /// The stream of a client that it is cancelled by.
    pub(in crate::world::app) fn stream_by_hand(&self, client: usize) -> Option<u64> {
        let mut all = self.streams.taking.iter();
        all.find(|(_, taking)| taking.client == client)
            .map(|(number, _)| *number)
    }

    /// A query that a client follows and whose last reply is not what it answers now.
    pub(super) fn behind(&self, world: &World) -> Option<String> {
        let all = self.streams.taking.values().filter(|taking| !taking.by_hand);
        all.filter(|taking| taking.streaming.is_some())
            .find_map(|taking| {
                let at = match taking.line {
                    Some(line) => self.streams.serving_node(line)?,
                    None => taking.node,
                };
                let call = taking.ask.call()?;
                let now = self.answers(world, at, call)?;
                let is_behind = taking.last.as_ref() != Some(&now);
                is_behind.then(|| {
                    format!(
                        "client {} follows {} at n{at} and has not heard what that answers now",
                        taking.client, taking.ask
                    )
                })
            })
    }

    /// Once all is settled clients have heard all that there is to hear, and go away; and what they had open is open no more.
    pub(in crate::world::app) fn settle_streams(
        &mut self,
        world: &mut World,
    ) -> Result<Option<String>, crate::oracle::Failure> {
        if self.streams.taking.values().any(|taking| !taking.by_hand) {
            if let Some(behind) = self.behind(world) {
                return Ok(Some(behind));
            }
            let all = self.streams.taking.iter().filter(|(_, taking)| !taking.by_hand);
            let all: Vec<_> = all.map(|(number, taking)| (*number, taking.client)).collect();
            for (number, client) in all {
                self.on_leaves(world, client, number)?;
            }
            return Ok(Some("clients leave their streams".to_owned()));
        }
        Ok(self.streams.left_over())
    }
}

/// See [`Apps::stands_by_hand`].
pub(crate) struct Stands {
    pub is_open: bool,
    pub has_sent: bool,
    pub taken: u64,
    pub last: Option<Payload>,
}

/// A client that goes away by itself.
pub(in crate::world::app) fn has_left() -> Error {
    Error::new(
        ErrorKind::Unanswered,
        "the client did not wait for the answer: whether the function ran is not known",
    )
}
