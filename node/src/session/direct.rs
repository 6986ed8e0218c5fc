//! A command that nobody competes with: begun, and ended, in one step each.
//!
//! Contract: each does what [`Session::handle`] does with the same word, where one output would be all that comes of it; where
//! more would, it does nothing and says so, and the word goes to `handle`. A host may use these or not.

use super::{Action, Busy, CommandId, Finishing, Life, Look, Open, Session, StreamId, Streaming, Streams};
use crate::terms::{Level, Time};
use crate::view::View;

/// What a command that has been answered did is to be brought in by: what its function saw, until when, and to which level if it
/// names none.
#[derive(Debug)]
pub struct Answered {
    /// What it had seen.
    pub view: View,
    /// When its caller gives up.
    pub deadline: Time,
    /// The session's level.
    pub level: Level,
}

impl Session {
    /// Gives a command to a function that remembers nothing, if nobody else's is before it: in which life of it, and what it is
    /// shown.
    pub fn begin(
        &mut self,
        now: Time,
        id: CommandId,
        deadline: Time,
        look: Look<'_>,
    ) -> Option<(StreamId, View)> {
        let is_free = matches!(self.life, Life::None)
            && !self.config.remembers
            && self.queue.is_empty()
            && self.committing.is_none()
            && self.outputs.is_empty();
        if !is_free || self.finishing.len() >= self.config.commands_max || deadline <= now {
            return None;
        }
        let seen = look().ok()?;
        self.now = now;
        self.streams += 1;
        let stream = StreamId(self.streams);
        let view = seen.clone();
        let busy = Busy {
            id,
            until: deadline.min(now.after_ms(self.config.answer_ms)),
            deadline,
            is_left: false,
        };
        self.life = Life::Open(Open {
            stream,
            seen,
            believes: None,
            busy: Some(busy),
            idle_since: now,
            is_changed: false,
            is_unsure: false,
            left: None,
            recounts: false,
            streaming: Streaming::default(),
        });
        Some((stream, view))
    }

    /// Its function has answered it, neither refused nor deleted anything, and wants nothing else done. What it changed is brought
    /// in before the session is told anything else; where it waits for its level, [`Session::finishes`] is told so.
    pub fn end(&mut self, now: Time, stream: StreamId, id: CommandId) -> Option<Answered> {
        let is_alone = !self.config.remembers && self.queue.is_empty() && self.outputs.is_empty();
        let open = match &mut self.life {
            Life::Open(open) if is_alone && open.stream == stream => open,
            _ => return None,
        };
        let busy = open.busy.take_if(|busy| busy.id == id && busy.until > now)?;
        let Life::Open(open) = std::mem::replace(&mut self.life, Life::None) else {
            unreachable!("it was just looked at");
        };
        self.now = now;
        Some(Answered {
            view: open.seen,
            deadline: busy.deadline,
            level: self.config.level,
        })
    }

    /// What a command did is where its level says: its answer, if that is all that comes of it.
    pub fn finish_alone(&mut self, now: Time, id: CommandId) -> Option<Action> {
        let is_alone = matches!(self.life, Life::None)
            && self.queue.is_empty()
            && self.committing.is_none()
            && self.outputs.is_empty();
        let is_plain = |finishing: &Finishing| {
            let refuses = matches!(finishing.action, Action::Refuse(_));
            !refuses
                && finishing.effects.is_empty()
                && !finishing.deletes
                && finishing.streams.0 == Streams::No
        };
        let mut all = self.finishing.iter();
        let at = all.position(|(other, finishing)| *other == id && is_plain(finishing))?;
        if !is_alone {
            return None;
        }
        self.now = now;
        Some(self.finishing.swap_remove(at).1.action)
    }

    /// What a command did is in, and it is to be answered with this once [`Input::Committed`](super::Input::Committed) says that
    /// it is where its level wants it.
    pub fn finishes(&mut self, id: CommandId, action: Action, deadline: Time) {
        let finishing = Finishing {
            action,
            effects: Vec::new(),
            deadline,
            deletes: false,
            // No life of it remains that could go on.
            streams: (Streams::No, StreamId(0)),
        };
        self.finishing.push((id, finishing));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anabranch_crdt::{Mutation, NodeId, Type};
    use proptest::prelude::*;

    use super::*;
    use crate::session::{
        Call, Command, Config, Effect, Encoding, Input, Origin, Output, Payload, Reply, Said, State, Told,
    };
    use crate::wire::{EntityId, ShardId};

    /// A session, told by `handle` alone or directly where that can be, and what came of it.
    struct Side {
        session: Session,
        is_direct: bool,
        came: Vec<Output>,
    }

    fn entity() -> EntityId {
        EntityId::new("k", "x").unwrap()
    }

    fn look() -> Result<View, crate::error::Error> {
        Ok(View {
            entity: entity(),
            shard: ShardId(0),
            ty: Some(Type::PnCounter),
            value: None,
            replicas: Arc::default(),
            heir: None,
        })
    }

    fn payload() -> Payload {
        Payload::of(Encoding::Postcard, &7).unwrap()
    }

    impl Side {
        fn new(is_direct: bool) -> Side {
            let config = Config {
                remembers: false,
                commands_max: 4,
                ..Config::new(NodeId(1), entity(), Type::PnCounter)
            };
            Side {
                session: Session::new(config),
                is_direct,
                came: Vec::new(),
            }
        }

        fn handle(&mut self, now: Time, input: Input) {
            self.session.handle(now, input, &look);
            while let Some(output) = self.session.poll_output() {
                self.came.push(output);
            }
        }

        fn command(&mut self, now: Time, id: CommandId, wait_ms: u64) {
            let command = Command {
                method: "m".into(),
                payload: payload(),
                deadline: now.after_ms(wait_ms),
                origin: Origin::default(),
            };
            if self.is_direct
                && let Some((stream, view)) = self.session.begin(now, id, command.deadline, &look)
            {
                let told = Told::Command { id, command, view };
                return self.came.push(Output::Tell { stream, told });
            }
            self.handle(now, Input::Command { id, command });
        }

        fn committed(&mut self, now: Time, id: CommandId) {
            if self.is_direct
                && let Some(action) = self.session.finish_alone(now, id)
            {
                let result = Ok(action);
                return self.came.push(Output::Answer { id, result });
            }
            self.handle(now, Input::Committed { id, result: Ok(()) });
        }

        fn reply(&mut self, now: Time, stream: StreamId, reply: Reply, at_once: bool) {
            let id = reply.command;
            let is_plain = !matches!(reply.action, Action::Refuse(_)) && reply.effects.is_empty();
            if self.is_direct
                && is_plain
                && let Some(answered) = self.session.end(now, stream, id)
            {
                let result = Ok(reply.action.clone());
                if let State::Update(mutations) = reply.state {
                    self.came.push(Output::Commit {
                        id,
                        ty: Type::PnCounter,
                        mutations,
                        view: answered.view,
                        level: answered.level,
                        deadline: answered.deadline,
                    });
                    if !at_once {
                        return self.session.finishes(id, reply.action, answered.deadline);
                    }
                }
                return self.came.push(Output::Answer { id, result });
            }
            let (before, said) = (self.came.len(), Said::Reply(reply));
            self.handle(now, Input::Said { stream, said });
            let commits = self.came[before..].iter();
            if commits
                .filter(|output| matches!(output, Output::Commit { .. }))
                .count()
                == 0
            {
                return;
            }
            self.handle(
                now,
                match at_once {
                    true => Input::Committed { id, result: Ok(()) },
                    false => Input::Joined { id, left: None },
                },
            );
        }
    }

    /// What a function may say of a command.
    fn said(id: CommandId, how: u8) -> Reply {
        let refused = crate::error::Error::new(crate::error::ErrorKind::Refused, "no");
        let effect = Effect {
            call: Call::new(entity(), "e", payload()),
            awaited: true,
        };
        Reply {
            command: id,
            action: match how {
                3 => Action::Refuse(refused),
                _ => Action::Reply(payload()),
            },
            state: match how {
                0 | 1 => State::Update(vec![Mutation::Increment(1)]),
                _ => State::Same,
            },
            effects: match how {
                1 => vec![effect],
                _ => Vec::new(),
            },
            level: None,
            ty: None,
            streams: Streams::No,
        }
    }

    proptest! {
        #[test]
        fn what_is_told_directly_is_what_is_told_by_handle(steps in prop::collection::vec((0u8..6, 0u8..4, any::<bool>()), 0..60)) {
            let mut sides = [Side::new(false), Side::new(true)];
            let (mut now, mut running) = (Time(1), None);
            for (n, (step, how, at_once)) in steps.into_iter().enumerate() {
                let (id, some) = (CommandId(n as u64), CommandId(u64::from(how) + (n as u64).saturating_sub(4)));
                match step {
                    5 => now = now.after_ms([1, 40, 90, 70_000][usize::from(how)]),
                    _ => now = Time(now.0 + 1),
                }
                for side in &mut sides {
                    match step {
                        0 | 1 => side.command(now, id, [0, 50, 100, 100_000][usize::from(how)]),
                        2 | 3 => if let Some((stream, id)) = running {
                            side.reply(now, stream, said(id, how), at_once);
                        },
                        4 if at_once => side.handle(now, Input::EffectsDone { id: some }),
                        4 => side.committed(now, some),
                        _ => side.handle(now, Input::Wakeup),
                    }
                }
                let [by_handle, direct] = &sides;
                prop_assert_eq!(format!("{:?}", by_handle.came), format!("{:?}", direct.came));
                prop_assert_eq!(by_handle.session.commands(), direct.session.commands());
                prop_assert_eq!(by_handle.session.is_vacant(), direct.session.is_vacant());
                prop_assert_eq!(by_handle.session.next_wakeup(), direct.session.next_wakeup());
                for output in &by_handle.came {
                    if let Output::Tell { stream, told: Told::Command { id, .. } } = output {
                        running = Some((*stream, *id));
                    }
                }
            }
        }
    }
}
