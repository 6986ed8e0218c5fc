//! Sessions by script: beside a real engine, with a function that does what the script says.
//!
//! A line is what happens and, behind `=>`, everything that follows at once, `;` between.
//!
//! | line | meaning |
//! |---|---|
//! | `command N [in MS]` | a caller's command, given up after so long (1000) |
//! | `cancel N` | its caller has gone |
//! | `reply N [OP..] [at LEVEL] [effect]` | the function answers it: `add E..`, `remove E..`, `delete`, `incr N` or nothing |
//! | `reply N .. stream`, `reply N .. silent` | and it goes on; and the answer itself is nothing |
//! | `more N [last]`, `fails N`, `stumbles N` | it goes on; and fails as it does, for good or not |
//! | `OP in K TYPE` | the same of a child of a map |
//! | `refuse N [OP..] [effect]`, `forward N`, `fail N`, `fail`, `end` | it refuses, forwards, fails at it, fails, ends |
//! | `old REPLY` | an earlier life of the function says that |
//! | `other OP..` | somebody else changes the entity, and the session is told |
//! | `join` | the engine is given what is to be committed |
//! | `sync` | what the engine wrote is durable |
//! | `done N` | a command's effects are done |
//! | `wait MS`, `later MS` | time passes; and nobody has said so yet |

mod left;

use std::collections::VecDeque;

use anabranch_crdt::{Epoch, Mutation, NodeId, Reading, Type};
use bytes::Bytes;

use super::*;
use crate::engine::{
    Engine, EngineConfig, Input as EngineInput, Limits, Now, Op, Output as EngineOutput, RecordId, RequestId,
    Start, Update,
};
use crate::terms::Level;
use crate::wire::{DirectoryId, EntityId};

struct World {
    engine: Engine,
    session: Session,
    now: Time,
    ty: Option<Type>,
    commits: VecDeque<(CommandId, Type, Vec<Mutation>, View, Level, Time)>,
    record: RecordId,
    requests: u64,
    said: Vec<String>,
}

fn entity() -> EntityId {
    EntityId::new("k", "x").unwrap()
}

/// Runs a script with a function that remembers a set.
fn check(script: &str) -> World {
    check_with(Config::new(NodeId(1), entity(), Type::OrSet), script)
}

/// The same with one that is shown the set with every command.
fn check_forgetful(script: &str) -> World {
    let config = Config::new(NodeId(1), entity(), Type::OrSet);
    check_with(
        Config {
            remembers: false,
            ..config
        },
        script,
    )
}

fn check_with(config: Config, script: &str) -> World {
    let ty = config.ty;
    let mut engine = Engine::new(
        EngineConfig {
            cluster: "session".into(),
            node: NodeId(1),
            shards: 1,
            members: vec![NodeId(1)],
            kinds: Default::default(),
            limits: Limits::default(),
        },
        Now::default(),
    );
    let start = Start {
        epoch: Epoch(7),
        before: None,
        directory: DirectoryId(1),
    };
    engine.start(Now::default(), start);
    let mut world = World {
        engine,
        session: Session::new(config),
        now: Time(0),
        ty,
        commits: VecDeque::new(),
        record: RecordId(0),
        requests: 0,
        said: Vec::new(),
    };
    world.script(script);
    world
}

fn reading(reading: &Option<Reading>) -> String {
    match reading {
        None => "nothing".into(),
        Some(Reading::Count(n)) => n.to_string(),
        Some(Reading::Elements(elements)) => format!("[{}]", words(elements)),
        other => format!("{other:?}"),
    }
}

fn words(elements: &[Bytes]) -> String {
    let words = elements.iter().map(|e| String::from_utf8_lossy(e).into_owned());
    words.collect::<Vec<_>>().join(" ")
}

fn mutation(words: &[&str]) -> Mutation {
    let bytes = |words: &[&str]| {
        words
            .iter()
            .map(|w| Bytes::copy_from_slice(w.as_bytes()))
            .collect()
    };
    match words {
        [op @ .., "in", key, ty] => Mutation::Update {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ty: Some(ty.parse().unwrap()),
            mutation: Box::new(mutation(op)),
        },
        ["add", elements @ ..] => Mutation::Add(bytes(elements)),
        ["remove", elements @ ..] => Mutation::Remove(bytes(elements)),
        ["incr", by] => Mutation::Increment(by.parse().unwrap()),
        ["delete"] => Mutation::Delete,
        ["vote"] => Mutation::Vote(true),
        other => panic!("no operation {other:?}"),
    }
}

/// Words that may end with the type that they are about.
fn typed<'a>(words: &'a [&'a str]) -> (Option<Type>, &'a [&'a str]) {
    match words {
        [rest @ .., "as", ty] => (Some(ty.parse().unwrap()), rest),
        _ => (None, words),
    }
}

fn payload() -> Payload {
    Payload {
        encoding: Encoding::Json,
        bytes: Bytes::new(),
    }
}

fn call() -> Call {
    Call::new(EntityId::new("other", "y").unwrap(), "m", payload())
}

fn id(word: &str) -> CommandId {
    CommandId(word.parse().unwrap())
}

impl World {
    fn script(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (happens, follows) = line.split_once("=>").unwrap_or((line, ""));
            self.said.clear();
            self.happens(&happens.split_whitespace().collect::<Vec<_>>());
            let expected: Vec<&str> = follows
                .split(';')
                .map(str::trim)
                .filter(|s| !s.is_empty())
                .collect();
            assert_eq!(self.said, expected, "{line}");
        }
    }

    fn happens(&mut self, words: &[&str]) {
        match words {
            ["command", n, rest @ ..] => {
                let ms = rest.get(1).map_or(1_000, |ms| ms.parse().unwrap());
                let command = Command {
                    method: "m".into(),
                    payload: payload(),
                    deadline: self.now.after_ms(ms),
                    origin: Default::default(),
                };
                self.give(Input::Command { id: id(n), command });
            }
            ["recount"] => self.give(Input::Recount),
            ["cancel", n] => self.give(Input::Cancelled { id: id(n) }),
            ["other", op @ ..] => {
                let (ty, op) = typed(op);
                let update = self.update(ty.or(self.ty), vec![mutation(op)], Level::default(), 1_000);
                self.engine_does(|request| EngineInput::Submit { request, update }, None);
                self.give(Input::Changed);
            }
            ["join"] => self.join(),
            ["sync"] => {
                let upto = self.record;
                self.perform(EngineInput::Persisted { upto });
            }
            ["done", n] => self.give(Input::EffectsDone { id: id(n) }),
            ["wait", ms] => {
                self.now = self.now.after_ms(ms.parse().unwrap());
                self.perform(EngineInput::Wakeup);
                self.give(Input::Wakeup);
            }
            ["later", ms] => self.now = self.now.after_ms(ms.parse().unwrap()),
            ["old", rest @ ..] => self.says(StreamId(self.session.streams - 1), rest),
            said => self.says(StreamId(self.session.streams), said),
        }
    }

    fn says(&mut self, stream: StreamId, words: &[&str]) {
        let error = || Error::new(ErrorKind::Refused, "no");
        let said = match words {
            ["end"] => Said::Ended,
            ["full"] => Said::Failed {
                command: None,
                error: Error::new(ErrorKind::Overloaded, "full"),
            },
            ["fail"] => Said::Failed {
                command: None,
                error: error(),
            },
            ["fail", n] => Said::Failed {
                command: Some(id(n)),
                error: error(),
            },
            ["refuse", n, op @ ..] => Said::Reply(self.reply(n, Action::Refuse(error()), op)),
            ["fails", n] => Said::Streamed {
                command: id(n),
                action: Some(Action::Refuse(error())),
                effects: Vec::new(),
                is_last: true,
            },
            ["stumbles", n] => Said::Streamed {
                command: id(n),
                action: Some(Action::Refuse(error())),
                effects: Vec::new(),
                is_last: false,
            },
            ["more", n, rest @ ..] => Said::Streamed {
                command: id(n),
                action: Some(Action::Reply(payload())),
                effects: Vec::new(),
                is_last: rest == ["last"],
            },
            ["forward", n] => Said::Reply(self.reply(n, Action::Forward(call()), &[])),
            ["reply", n, op @ ..] => Said::Reply(self.reply(n, Action::Reply(payload()), op)),
            other => panic!("no line {other:?}"),
        };
        self.give(Input::Said { stream, said });
    }

    fn reply(&self, n: &str, action: Action, words: &[&str]) -> Reply {
        let (streams, words) = match words {
            [rest @ .., "stream"] => (Streams::Begun, rest),
            [rest @ .., "silent"] => (Streams::Silent, rest),
            _ => (Streams::No, words),
        };
        let effect = |awaited| Effect {
            call: call(),
            awaited,
        };
        let (words, effects) = match words {
            [rest @ .., "effect"] => (rest, vec![effect(true)]),
            [rest @ .., "side"] => (rest, vec![effect(false)]),
            _ => (words, Vec::new()),
        };
        let (ty, words) = typed(words);
        let (words, level) = match words {
            [rest @ .., "at", level] => (rest, Some(level.parse().unwrap())),
            _ => (words, None),
        };
        let state = match words {
            [] => State::Same,
            ["delete"] => State::Delete,
            op => State::Update(vec![mutation(op)]),
        };
        Reply {
            command: id(n),
            action,
            state,
            effects,
            level,
            ty,
            streams,
        }
    }

    fn give(&mut self, input: Input) {
        let (engine, ty) = (&self.engine, self.ty);
        let look = move || match ty {
            Some(ty) => engine.view(&entity(), ty),
            None => Ok(engine.view_as_it_is(&entity())),
        };
        self.session.handle(self.now, input, &look);
        while let Some(output) = self.session.poll_output() {
            let text = match output {
                Output::Tell { told, .. } => match told {
                    Told::Init { reading: state, .. } => format!("init {}", reading(&state)),
                    Told::Delta {
                        change: Change::Elements { removed, added },
                        ..
                    } => {
                        format!("delta -[{}] +[{}]", words(&removed), words(&added))
                    }
                    Told::Delta { change: other, .. } => format!("delta {other:?}"),
                    Told::Delete => "delete".into(),
                    Told::Command { id, view, .. } => format!("command {} {}", id.0, reading(&view.read())),
                    Told::Cancelled { id } => format!("cancelled {}", id.0),
                    Told::End => "end".into(),
                },
                Output::Reset { .. } => "reset".into(),
                Output::Commit {
                    id,
                    ty,
                    mutations,
                    view,
                    level,
                    deadline,
                } => {
                    self.commits.push_back((id, ty, mutations, view, level, deadline));
                    format!("commit {} {level}", id.0)
                }
                Output::Streamed { id, action, .. } => match action {
                    Some(_) => format!("streamed {}", id.0),
                    None => format!("silence {}", id.0),
                },
                Output::Effects { id, .. } => format!("effects {}", id.0),
                Output::Answer { id, result } => match result {
                    Ok(Action::Reply(_)) => format!("answer {}", id.0),
                    Ok(other) => format!(
                        "answer {} {}",
                        id.0,
                        if matches!(other, Action::Forward(_)) {
                            "forward"
                        } else {
                            "?"
                        }
                    ),
                    Err(error) => format!("answer {} {}", id.0, error.kind().name()),
                },
                Output::Report { .. } => "report".into(),
            };
            self.said.push(text);
        }
    }

    fn update(&self, ty: Option<Type>, mutations: Vec<Mutation>, level: Level, timeout_ms: u64) -> Update {
        let op = |mutation| Op {
            entity: entity(),
            ty,
            mutation,
        };
        Update {
            ops: mutations.into_iter().map(op).collect(),
            level,
            key: None,
            after: None,
            timeout_ms,
        }
    }

    fn join(&mut self) {
        let (id, ty, mutations, view, level, deadline) = self.commits.pop_front().expect("a commit");
        let update = self.update(Some(ty), mutations, level, (deadline.0 - self.now.0) / 1_000);
        let is_present = self.engine.is_present(&view);
        let commit = |request| EngineInput::Commit {
            request,
            update,
            view,
        };
        let is_done = self.engine_does(commit, Some(id));
        if !is_done {
            let left = is_present.then(|| self.engine.view_as_it_is(&entity()));
            self.give(Input::Joined { id, left });
        }
    }

    /// Whether it was answered at once.
    fn engine_does(&mut self, input: impl FnOnce(RequestId) -> EngineInput, id: Option<CommandId>) -> bool {
        self.requests += 1;
        let request = RequestId(id.map_or(1_000 + self.requests, |id| id.0));
        let before = self.said.len();
        self.perform(input(request));
        self.said.len() > before
    }

    fn perform(&mut self, input: EngineInput) {
        let now = Now {
            time: self.now,
            wall_ms: 1 + self.now.0 / 1_000,
        };
        self.engine.handle(now, input);
        while let Some(output) = self.engine.poll_output() {
            match output {
                EngineOutput::Persist { id, .. } => self.record = id,
                EngineOutput::Done { request, result } if request.0 < 1_000 => self.give(Input::Committed {
                    id: CommandId(request.0),
                    result: result.map(|_| ()),
                }),
                _ => {}
            }
        }
    }
}

#[test]
fn a_command_is_answered_once_its_change_is_where_its_level_wants_it() {
    check(
        "command 1 => init nothing; command 1 nothing
         reply 1 add a => commit 1 local
         join
         sync => answer 1
         command 2 => command 2 [a]
         reply 2 add b at local-applied => commit 2 local-applied
         join => answer 2
         command 3 => command 3 [a b]
         reply 3 => answer 3",
    );
}

#[test]
fn one_command_at_a_time_is_with_the_function_and_the_next_sees_what_it_did() {
    check(
        "command 1 => init nothing; command 1 nothing
         command 2
         reply 1 add a => commit 1 local
         command 3
         join => command 2 [a]
         reply 2 remove a => commit 2 local
         sync => answer 1
         join => command 3 []
         reply 3 => answer 3
         sync => answer 2",
    );
}

#[test]
fn a_function_is_told_nothing_while_it_has_a_command_and_what_it_did_not_see_stays() {
    check(
        "other add a b
         command 1 => init [a b]; command 1 [a b]
         other add a c
         reply 1 remove a => commit 1 local
         other add d
         join => delta -[] +[a c d]
         sync => answer 1
         command 2 => command 2 [a b c d]
         reply 2 => answer 2
         other remove b => delta -[b] +[]",
    );
}

#[test]
fn a_function_that_forgets_is_shown_the_entity_with_every_command() {
    let world = check_forgetful(
        "command 1 => command 1 nothing
         other add z
         reply 1 add a => commit 1 local
         join
         command 2 => command 2 [a z]
         sync => answer 1
         refuse 2 add b => answer 2 refused
         command 3 => command 3 [a z]
         fail 3 => answer 3 refused
         other remove z
         command 4 => command 4 [a]
         reply 4 delete => commit 4 local
         join
         sync => answer 4",
    );
    assert!(world.session.is_vacant());
}

#[test]
fn after_a_failed_command_the_function_begins_again() {
    check(
        "command 1 => init nothing; command 1 nothing
         refuse 1 add a => answer 1 refused; end
         end
         command 2 => init nothing; command 2 nothing
         command 3
         fail 2 => answer 2 refused; end; reset; init nothing; command 3 nothing
         old reply 2
         reply 3 => answer 3
         command 4 => command 4 nothing
         command 5
         fail => answer 4 refused; reset; init nothing; command 5 nothing
         end => answer 5 lost",
    );
}

#[test]
fn a_function_that_had_no_room_was_not_given_the_command() {
    check(
        "command 1 => init nothing; command 1 nothing
         full => answer 1 overloaded; reset
         command 2 => init nothing; command 2 nothing
         reply 2 => answer 2",
    );
}

#[test]
fn no_command_waits_for_the_end_of_a_function_and_nothing_it_says_is_heard() {
    let mut world = check(
        "command 1 => init nothing; command 1 nothing
         refuse 1 add a => answer 1 refused; end
         wait 4999
         command 2 => reset; init nothing; command 2 nothing
         old end
         old reply 1 add b
         old fail
         reply 2 => answer 2
         refuse 7 => report; reset
         command 3 => init nothing; command 3 nothing
         refuse 3 => answer 3 refused; end
         wait 4999
         wait 1 => reset",
    );
    assert!(world.session.is_vacant());
    world.script("old end");
}

#[test]
fn a_reply_to_nothing_and_a_second_reply_break_the_rules() {
    check(
        "command 1 => init nothing; command 1 nothing
         reply 7 add a => answer 1 lost; report; reset
         reply 1 add a
         command 2 => init nothing; command 2 nothing
         reply 2 add b => commit 2 local
         join
         command 3 => command 3 [b]
         reply 2 add c => answer 3 lost; report; reset
         sync => answer 2
         command 4 => init [b]; command 4 [b]",
    );
}

#[test]
fn what_the_entity_does_not_take_is_the_functions_fault_and_changes_nothing() {
    check(
        "command 1 => init nothing; command 1 nothing
         command 2
         reply 1 incr 5 => commit 1 local
         join => report; reset; answer 1 wrong_type; init nothing; command 2 nothing
         reply 2 => answer 2",
    );
}

#[test]
fn a_function_that_does_not_answer_is_given_up() {
    check(
        "command 1 in 10 => init nothing; command 1 nothing
         command 2 in 5000
         command 3 in 5
         wait 10 => answer 3 expired; answer 1 lost; reset; init nothing; command 2 nothing
         old reply 1 add a
         reply 2 add b => commit 2 local
         join
         sync => answer 2
         command 4 => command 4 [b]",
    );
    // Its answer is too late as well where nobody has looked at the clock meanwhile.
    check_forgetful(
        "command 1 in 10 => command 1 nothing
         later 10
         reply 1 add a => answer 1 lost; reset
         command 2 => command 2 nothing",
    );
    let config = Config::new(NodeId(1), entity(), Type::OrSet);
    let hasty = Config {
        answer_ms: 100,
        ..config
    };
    check_with(
        hasty,
        "command 1 => init nothing; command 1 nothing
         wait 100 => answer 1 lost; reset",
    );
}

#[test]
fn a_commit_that_is_not_confirmed_in_time_is_in_all_the_same() {
    check(
        "command 1 => init nothing; command 1 nothing
         reply 1 add a => commit 1 local
         join
         wait 1000 => answer 1 unconfirmed
         command 2 => command 2 [a]
         reply 2 => answer 2",
    );
}

#[test]
fn commands_that_wait_are_bounded_and_can_be_cancelled() {
    let config = Config::new(NodeId(1), entity(), Type::OrSet);
    let narrow = Config {
        commands_max: 2,
        ..config
    };
    check_with(
        narrow,
        "command 1 => init nothing; command 1 nothing
         command 2
         command 3 => answer 3 overloaded
         cancel 2
         command 4
         reply 1 add a => commit 1 local
         command 5 => answer 5 overloaded
         join => command 4 [a]
         cancel 4
         sync => answer 1
         reply 4 => answer 4
         command 6 in 0 => answer 6 expired",
    );
}

#[test]
fn who_waits_behind_a_command_whose_caller_has_gone_waits_for_a_while_only() {
    // What comes of it in that while is in, as ever.
    check(
        "command 1 in 60000 => init nothing; command 1 nothing
         command 2 in 60000
         cancel 1
         wait 4999
         reply 1 add a => commit 1 local
         join => command 2 [a]
         sync => answer 1
         cancel 2
         command 3 in 60000
         wait 4999
         wait 1 => answer 2 unanswered; reset; init [a]; command 3 [a]
         old reply 2 add b
         reply 3 => answer 3",
    );
    // A deadline before that is the end of it all the same.
    check(
        "command 1 in 1000 => init nothing; command 1 nothing
         cancel 1
         wait 1000 => answer 1 unanswered; reset",
    );
}

#[test]
fn a_function_that_has_nothing_to_do_is_passivated_and_wakes_with_the_next_command() {
    let mut world = check(
        "command 1 => init nothing; command 1 nothing
         reply 1 => answer 1
         wait 29999
         other add a => delta -[] +[a]
         wait 1 => end
         other add b
         command 2 => reset; init [a b]; command 2 [a b]
         reply 2 => answer 2
         wait 30000 => end
         end",
    );
    assert!(world.session.is_vacant());
    assert_eq!(world.session.next_wakeup(), None);
    world.script("other add c");
    assert!(world.session.is_vacant());
}

#[test]
fn a_deleted_entity_ends_the_function_and_can_be_made_again() {
    check(
        "other add a
         command 1 => init [a]; command 1 [a]
         reply 1 => answer 1
         other delete => delete; end
         command 2 => reset; init nothing; command 2 nothing
         reply 2 add b => commit 2 local
         join
         sync => answer 2
         command 3 => command 3 [b]
         other add c
         reply 3 delete => commit 3 local
         join => end
         sync => answer 3
         end
         command 4 => init [c]; command 4 [c]",
    );
}

#[test]
fn effects_come_after_the_commit_and_the_awaited_ones_before_the_answer() {
    check(
        "command 1 => init nothing; command 1 nothing
         reply 1 add a effect => commit 1 local
         join
         sync => effects 1
         command 2 => command 2 [a]
         done 1 => answer 1
         reply 2 side => effects 2; answer 2
         command 3 => command 3 [a]
         forward 3 => answer 3 forward",
    );
}

#[test]
fn effects_of_a_refused_command_are_made_and_its_change_is_not() {
    check(
        "command 1 => init nothing; command 1 nothing
         refuse 1 add a effect => effects 1; end
         command 2 => reset; init nothing; command 2 nothing
         done 1 => answer 1 refused
         refuse 2 add b side => effects 2; answer 2 refused; end
         end",
    );
}

#[test]
fn an_entity_that_shows_as_another_type_has_no_function() {
    let config = Config::new(NodeId(1), entity(), Type::OrSet);
    let mut world = check_with(config, "");
    let op = Op {
        entity: entity(),
        ty: Some(Type::PnCounter),
        mutation: Mutation::Increment(1),
    };
    let update = Update {
        ops: vec![op],
        ..Update::delete(entity())
    };
    let request = RequestId(5_000);
    world.perform(EngineInput::Submit { request, update });
    world.script("command 1 => answer 1 wrong_type");
}

/// A function that takes its entity as it is, and makes one as it likes.
fn check_open(script: &str) -> World {
    let config = Config::new(NodeId(1), entity(), Type::OrSet);
    check_with(Config { ty: None, ..config }, script)
}

#[test]
fn a_function_makes_its_entity_as_the_type_it_says() {
    check_open(
        "command 1 => init nothing; command 1 nothing
         reply 1 incr 2 as pncounter => commit 1 local
         join
         sync => answer 1
         command 2 => command 2 2
         other incr 3 as pncounter
         reply 2 incr 1 as pncounter => commit 2 local
         join => delta Count(3)
         sync => answer 2",
    );
}

#[test]
fn a_change_of_another_type_is_the_end_of_the_functions_life() {
    check_open(
        "other add a as orset
         command 1 => init [a]; command 1 [a]
         reply 1 incr 2 as pncounter => answer 1 lost; report; reset
         command 2 => init [a]; command 2 [a]
         reply 2 add b as orset => commit 2 local",
    );
    check_open(
        "command 1 => init nothing; command 1 nothing
         reply 1 add a => answer 1 lost; report; reset",
    );
}

#[test]
fn what_two_functions_made_at_once_as_different_types_is_refused_to_the_second() {
    check_open(
        "command 1 => init nothing; command 1 nothing
         other add a as orset
         reply 1 incr 2 as pncounter => commit 1 local
         join => report; reset; answer 1 wrong_type
         command 2 => init [a]; command 2 [a]",
    );
}

#[test]
fn who_may_vote_is_told_between_commands_and_only_of_votes() {
    check_open(
        "command 1 => init nothing; command 1 nothing
         recount
         reply 1 vote as vote => commit 1 local
         join => delta Ballots({NodeId(00000000000000000000000000000001): true})
         recount => delta Ballots({NodeId(00000000000000000000000000000001): true})
         sync => answer 1",
    );
    check_open(
        "other add a as orset
         command 1 => init [a]; command 1 [a]
         reply 1 => answer 1
         recount",
    );
}

#[test]
fn an_answer_that_goes_on_is_heard_part_by_part_and_has_one_end() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 add a at local-applied stream  => commit 1 local-applied
         join                   => streamed 1
         more 1                 => streamed 1
         command 2              => command 2 [a]
         reply 2                => answer 2
         more 1 last            => streamed 1; answer 1
         more 1                 =>",
    );
}

#[test]
fn what_a_change_makes_it_say_is_heard_once_the_change_is_in() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 silent         => silence 1
         command 2              => command 2 nothing
         more 1                 =>
         reply 2 add a at local-applied  => commit 2 local-applied
         more 1                 =>
         join                   => answer 2; streamed 1; streamed 1",
    );
    // Refused, it is no change, and nothing of it is heard.
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 stream         => streamed 1
         command 2              => command 2 nothing
         more 1                 =>
         refuse 2               => answer 2 refused; answer 1 unanswered; end
         end                    =>",
    );
}

#[test]
fn a_failure_of_what_goes_on_waits_for_nothing() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 stream         => streamed 1
         command 2              => command 2 nothing
         more 1                 =>
         fails 1                => streamed 1; answer 1
         reply 2                => answer 2",
    );
}

#[test]
fn it_goes_on_before_it_was_answered() {
    check(
        "command 1              => init nothing; command 1 nothing
         more 1                 =>
         reply 1 add a at local-applied stream  => commit 1 local-applied
         join                   => streamed 1; streamed 1",
    );
}

#[test]
fn a_caller_that_leaves_ends_what_goes_on_as_a_command_does() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 add a at local-applied stream  => commit 1 local-applied
         join                   => streamed 1
         cancel 1               => cancelled 1
         command 2              =>
         other add b            =>
         more 1                 =>
         reply 1 remove a at local-applied  => commit 1 local-applied
         join                   => answer 1; delta -[] +[b]; command 2 [b]
         reply 2                => answer 2
         wait 30000             => end",
    );
    // It is told so when it has nothing else to do.
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 stream         => streamed 1
         command 2              => command 2 nothing
         cancel 1               =>
         reply 2                => answer 2; cancelled 1
         reply 1                => answer 1",
    );
}

#[test]
fn a_function_that_says_nothing_of_a_leaving_begins_anew() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 stream         => streamed 1
         command 2              => command 2 nothing
         reply 2 stream         => streamed 2
         cancel 1               => cancelled 1
         wait 5000              => answer 1 lost; answer 2 unanswered; reset
         command 3              => init nothing; command 3 nothing",
    );
}

#[test]
fn what_goes_on_keeps_its_function_and_ends_with_it() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 stream         => streamed 1
         wait 600000            =>
         other add a            => delta -[] +[a]
         more 1                 => streamed 1
         end                    => answer 1 unanswered",
    );
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 add a at local-applied stream  => commit 1 local-applied
         join                   => streamed 1
         other delete           => delete; answer 1; end",
    );
}

#[test]
fn what_only_grows_and_has_become_less_is_shown_anew() {
    let config = Config::new(NodeId(1), entity(), Type::GSet);
    check_with(
        config,
        "command 1              => init nothing; command 1 nothing
         reply 1 add a at local-applied  => commit 1 local-applied
         join                   => answer 1
         other add b            => delta -[] +[b]
         other delete           => delete; end
         end                    =>
         command 2              => init nothing; command 2 nothing
         reply 2 add a b at local-applied  => commit 2 local-applied
         join                   => answer 2
         command 3              => command 3 [a b]
         other delete           =>
         other add c            =>
         reply 3                => answer 3; end
         command 4              => reset; init [c]; command 4 [c]",
    );
}

#[test]
fn what_goes_on_and_fails_without_an_end_is_ended() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 stream         => streamed 1
         stumbles 1             => streamed 1; cancelled 1
         more 1                 =>
         reply 1                => answer 1",
    );
}

#[test]
fn last_words_are_heard_before_the_entity_is_gone() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 add a at local-applied stream  => commit 1 local-applied
         join                   => streamed 1
         command 2              => command 2 [a]
         more 1 last            =>
         reply 2 delete         => commit 2 local
         join                   => streamed 1; answer 1; end
         sync                   => answer 2",
    );
    // Of a command that deletes its own entity, too.
    check(
        "other add a            =>
         command 1              => init [a]; command 1 [a]
         reply 1 delete stream  => commit 1 local
         join                   => end
         sync                   => streamed 1; answer 1",
    );
}

#[test]
fn what_was_done_is_not_said_to_be_nothing_because_its_stream_cannot_go_on() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 add a stream   => commit 1 local
         join                   =>
         command 2              => command 2 [a]
         refuse 2               => answer 2 refused; end
         sync                   => streamed 1; answer 1 unanswered",
    );
}

#[test]
fn one_that_has_not_begun_holds_up_no_other() {
    check(
        "command 1              => init nothing; command 1 nothing
         reply 1 stream         => streamed 1
         command 2              => command 2 nothing
         more 2                 =>
         reply 2 add a stream   => commit 2 local
         more 1                 =>
         join                   => streamed 1
         sync                   => streamed 2; streamed 2",
    );
}
