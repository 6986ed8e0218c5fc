//! What a function does with what it was told, well or not.

use anabranch::session::{Action, CommandId, Encoding, Payload, Reply, Said, State, StreamId, Streams};
use anabranch::{Error, ErrorKind, Level, Mutation};
use bytes::Bytes;

use crate::model::EntityIx;
use crate::net::NodeIx;
use crate::rng::Rng;

/// What a function is about to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    pub node: NodeIx,
    pub lives: u64,
    pub entity: EntityIx,
    pub stream: StreamId,
    pub command: Option<u64>,
    pub manner: Manner,
    pub goes_on: bool,
    /// Whether the command was answered before, and it is its caller's leaving that is to be answered.
    pub is_left: bool,
}

/// How a function takes a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Well,
    /// And again, though it was answered.
    Twice,
    /// With what the entity's type does not take.
    Wrongly,
    /// It refuses, though it says that it did something.
    Refuses,
    Fails,
    FailsWhole,
    /// It answers what it was not asked.
    Babbles,
    Ends,
    Silent,
    /// Not asked, it says more of what goes on.
    Speaks,
    /// It is none of the function's: a caller of what goes on leaves.
    Leaves,
}

impl Manner {
    /// Most do well.
    pub fn draw(rng: &mut Rng) -> Manner {
        match rng.below(100) {
            0..70 => Manner::Well,
            70..74 => Manner::Twice,
            74..78 => Manner::Wrongly,
            78..84 => Manner::Refuses,
            84..88 => Manner::Fails,
            88..90 => Manner::FailsWhole,
            90..93 => Manner::Babbles,
            93..96 => Manner::Ends,
            _ => Manner::Silent,
        }
    }
}

impl Act {
    /// With `part` its answer begins, where that goes on.
    pub fn says(&self, mutations: &[Mutation], level: Option<Level>, part: Payload) -> Vec<Said> {
        let Some(command) = self.command.map(CommandId) else {
            return match self.manner {
                Manner::Silent => Vec::new(),
                _ => vec![Said::Ended],
            };
        };
        let reply = |command, action| {
            Said::Reply(Reply {
                command,
                action,
                state: match mutations {
                    [] => State::Same,
                    [Mutation::Delete] => State::Delete,
                    _ => State::Update(mutations.to_vec()),
                },
                effects: Vec::new(),
                level,
                ty: None,
                streams: match self.goes_on {
                    true => Streams::Begun,
                    false => Streams::No,
                },
            })
        };
        let well = || reply(command, Action::Reply(part.clone()));
        let error = || Error::new(ErrorKind::Refused, "the function says no");
        let failed = |command| Said::Failed {
            command,
            error: error(),
        };
        match self.manner {
            Manner::Well | Manner::Wrongly => vec![well()],
            Manner::Twice => vec![well(), well()],
            Manner::Refuses => vec![reply(command, Action::Refuse(error()))],
            Manner::Fails => vec![failed(Some(command))],
            Manner::FailsWhole => vec![failed(None)],
            Manner::Babbles => vec![reply(CommandId(u64::MAX), Action::Reply(payload()))],
            Manner::Ends => vec![Said::Ended],
            Manner::Silent | Manner::Speaks | Manner::Leaves => Vec::new(),
        }
    }
}

pub(super) fn payload() -> Payload {
    Payload {
        encoding: Encoding::Json,
        bytes: Bytes::new(),
    }
}
