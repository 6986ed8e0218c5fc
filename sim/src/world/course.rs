//! From one event to the next.

use super::{EVENTS_MAX, Event, Phase, World, app};
use crate::oracle::{Failure, Rule, broken};
use crate::queue::Micros;

impl World {
    /// Lets everything happen, until the end or `until`.
    pub fn run(&mut self, until: Micros) -> Result<(), Failure> {
        while self.phase != Phase::Over {
            if !self.go_on(until)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets the next thing happen, unless it is later than `until`: whether there was one.
    pub(crate) fn go_on(&mut self, until: Micros) -> Result<bool, Failure> {
        let Some(event) = self.kernel.next(until) else {
            return Ok(false);
        };
        self.budget -= 1;
        let done = if self.budget == 0 {
            let what = format!("more than {EVENTS_MAX} events in a quarter of a second");
            Err(broken(Rule::Progress, None, what))
        } else {
            self.on_event(event).and_then(|()| self.run_application())
        };
        match done {
            Ok(()) => Ok(true),
            Err(mut failure) => {
                failure.at = self.kernel.now();
                Err(failure)
            }
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), Failure> {
        self.absorb(&event);
        match event {
            Event::Net(event) => self.on_net(event),
            Event::Wake { node, life, at } => self.on_wake(node, life, at),
            Event::Synced { node, life } => self.on_synced(node, life),
            Event::ImageWritten { node, life } => self.on_image_written(node, life),
            Event::Boot {
                node,
                lives,
                recovery,
            } => self.on_boot(node, lives, recovery),
            Event::Resume { node, life } => self.on_resume(node, life),
            Event::Operator { node, life } => {
                self.on_operator(node, life);
                Ok(())
            }
            Event::Client { client } => self.on_client(client),
            Event::Function { act } => self.on_function(act),
            Event::Session {
                node,
                entity,
                lives,
                at,
            } => self.on_session_due(node, entity, lives, at),
            Event::Repeat { key } => self.on_repeat(key),
            Event::Fault { index } => self.on_fault(index),
            Event::Probe { node } => self.on_probe(node),
            Event::ProbeAgain { node } => self.on_probe_again(node),
            Event::Seen { node } => self.on_seen(node),
            Event::Look => self.on_look(),
            Event::App(event) => {
                self.news.push_back(app::News::Event(event));
                Ok(())
            }
        }
    }
}
