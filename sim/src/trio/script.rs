//! The lines of a script.

use anabranch::{IdempotencyKey, Level, Op, ShardId, Update};

use super::cluster::{NODES, Trio};
use crate::model::{Action, EntityIx, Shown};
use crate::names::type_of;
use crate::net::NodeIx;
use crate::oracle::{Asked, Standing};

type Step = Result<(), String>;

fn node(word: &str) -> Result<NodeIx, String> {
    match word {
        "a" => Ok(0),
        "b" => Ok(1),
        "c" => Ok(2),
        _ => Err(format!("{word:?} is no node: a, b, c are")),
    }
}

fn pair(word: &str, between: char) -> Result<(NodeIx, NodeIx), String> {
    let (a, b) = word
        .split_once(between)
        .ok_or_else(|| format!("{word:?} is no link"))?;
    Ok((node(a)?, node(b)?))
}

fn number<T: std::str::FromStr>(word: Option<&str>) -> Result<T, String> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("{word:?} is no number"))
}

/// An element is a letter.
fn element(word: &str) -> Result<u32, String> {
    match word.as_bytes() {
        [letter @ b'a'..=b'z'] => Ok(u32::from(letter - b'a')),
        _ => Err(format!("{word:?} is no element: a letter is")),
    }
}

impl Trio {
    /// Performs a line.
    ///
    /// # Errors
    /// What is wrong with it, what rule it broke, or what it expected and did not find.
    pub fn perform(&mut self, line: &str) -> Step {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["link", link] => pair(link, '-').and_then(|(a, b)| self.link(a, b)),
            ["cut", link] => pair(link, '-').and_then(|(a, b)| self.cut(a, b)),
            ["drop", link] => pair(link, '>').and_then(|(a, b)| self.lose(a, b, usize::MAX)),
            ["drop", link, n] => {
                let (a, b) = pair(link, '>')?;
                self.lose(a, b, number(Some(n))?)
            }
            ["talk", link, "until", who, "counted", name] => {
                let link = pair(link, '-')?;
                self.talk_until(link, node(who)?, name)
            }
            ["talk", ..] => {
                let pairs: Vec<_> = words[1..]
                    .iter()
                    .map(|link| pair(link, '-'))
                    .collect::<Result<_, _>>()?;
                self.talk(&pairs)
            }
            ["sync", who] => node(who).and_then(|n| self.sync(n)),
            ["crash", who] => node(who).and_then(|n| self.crash(n)),
            ["start", who] => node(who).and_then(|n| self.start(n)),
            ["lose", who] => self.lose_disk(node(who)?),
            ["backup", who] => self.back_up(node(who)?),
            ["restore", who] => self.restore(node(who)?),
            ["clock", who, ms] => {
                self.hosts[node(who)?].clock.skew_ms += number::<i64>(Some(ms))?;
                Ok(())
            }
            ["wait", ms] => self.wait(number(Some(ms))?),
            ["same", ..] => self.same(&words[1..]),
            [who, "shows", entity, ..] => self.shows(node(who)?, entity, &words[3..].join(" ")),
            [who, "covers", ..] => self.covers(node(who)?, &words[2..]),
            [who, "counted", name] => self.counted(node(who)?, name),
            [who, "refuses", ..] => self.refuses(node(who)?, &words[2..]),
            [who, ..] if who.ends_with(':') => self.makes(node(&who[..who.len() - 1])?, &words[1..]),
            [link] if link.contains('>') => {
                let (a, b) = pair(link, '>')?;
                self.deliver(a, b, usize::MAX).map(|_| ())
            }
            [link, "copy"] => pair(link, '>').and_then(|(a, b)| self.deliver_copy(a, b)),
            [link, n] if link.contains('>') => {
                let (a, b) = pair(link, '>')?;
                let wanted = number(Some(n))?;
                match self.deliver(a, b, wanted)? {
                    got if got == wanted => Ok(()),
                    got => Err(format!("only {got} frames waited")),
                }
            }
            _ => Err("this line means nothing".to_owned()),
        }
    }

    fn lose_disk(&mut self, node: NodeIx) -> Step {
        self.hosts[node].disk.wipe();
        self.oracle.on_disk_lost(node);
        self.keys.retain(|(at, _)| *at != node);
        Ok(())
    }

    fn back_up(&mut self, node: NodeIx) -> Step {
        self.hosts[node].back_up();
        self.oracle.on_backup(node);
        Ok(())
    }

    fn restore(&mut self, node: NodeIx) -> Step {
        if !self.hosts[node].restore() {
            return Err("there is no backup".into());
        }
        self.oracle.on_disk_restored(node);
        Ok(())
    }

    fn entity(&self, name: &str) -> Result<EntityIx, String> {
        (0..self.oracle.names.entities())
            .find(|&ix| self.oracle.names.entity(ix).0.to_string() == name)
            .ok_or_else(|| format!("{name:?} is no entity of scripts"))
    }

    fn action(words: &[&str]) -> Result<Action, String> {
        let elements = |list: &[&str]| {
            list.iter()
                .map(|word| element(word))
                .collect::<Result<Vec<u32>, _>>()
        };
        match *words {
            ["create"] => Ok(Action::Create),
            ["clear"] => Ok(Action::Clear),
            ["delete"] => Ok(Action::Delete),
            ["enable"] => Ok(Action::Enable),
            ["disable"] => Ok(Action::Disable),
            ["vote", yes] => Ok(Action::Vote(yes == "yes")),
            ["write", v] => Ok(Action::Write(number(Some(v))?)),
            ["incr", n, "in", key] => Ok(Action::IncrementIn(element(key)?, number(Some(n))?)),
            ["incr", n] => Ok(Action::Increment(number(Some(n))?)),
            ["add", ..] => Ok(Action::Add(elements(&words[1..])?)),
            ["remove", ..] => Ok(Action::Remove(elements(&words[1..])?)),
            ["set", v] => Ok(Action::Set {
                value: number(Some(v))?,
                clock: None,
            }),
            ["set", v, "clock", n] => Ok(Action::Set {
                value: number(Some(v))?,
                clock: Some(number(Some(n))?),
            }),
            _ => Err(format!("{words:?} is no operation")),
        }
    }

    /// `OP ENTITY ARGS [key K]`, and several of them with `and` between: one update.
    fn update(&self, words: &[&str]) -> Result<(Asked, Update, Option<String>), String> {
        let (words, key) = match *words {
            [ref rest @ .., "key", key] => (rest, Some(key.to_owned())),
            _ => (words, None),
        };
        let mut asked = Asked {
            ops: Vec::new(),
            ..Asked::default()
        };
        let mut ops = Vec::new();
        for words in words.split(|word| *word == "and") {
            let [op, entity, args @ ..] = words else {
                return Err("an operation names an entity".to_owned());
            };
            let entity = self.entity(entity)?;
            let action = Trio::action(&[&[*op], args].concat())?;
            let (id, kind) = self.oracle.names.entity(entity);
            let mutation = self.oracle.names.mutation(kind, &action);
            ops.push(Op {
                entity: id.clone(),
                ty: Some(type_of(kind)),
                mutation,
            });
            asked.ops.push((entity, action));
        }
        let idempotency = key
            .as_ref()
            .and_then(|key| IdempotencyKey::new(key.as_bytes()).ok());
        let update = Update {
            after: None,
            ops,
            level: Level::default(),
            key: idempotency,
            timeout_ms: 60_000,
        };
        Ok((asked, update, key))
    }

    fn makes(&mut self, node: NodeIx, words: &[&str]) -> Step {
        let (asked, update, key) = self.update(words)?;
        let used = key.is_some_and(|key| !self.keys.insert((node, key)));
        // Whether the record of its first use survived, the script's expectations say.
        let standing = if used { Standing::Unknown } else { Standing::New };
        let request = self.submit(node, &asked, update, standing)?;
        match self.answers.get(&request) {
            Some(Err(error)) => Err(format!("refused: {error}")),
            _ => Ok(()),
        }
    }

    fn refuses(&mut self, node: NodeIx, words: &[&str]) -> Step {
        let (asked, update, _) = self.update(words)?;
        let request = self.submit(node, &asked, update, Standing::New)?;
        match self.answers.get(&request) {
            Some(Err(_)) => Ok(()),
            other => Err(format!("it was to refuse, but: {other:?}")),
        }
    }

    fn shows(&mut self, node: NodeIx, entity: &str, expect: &str) -> Step {
        let (id, _) = self.oracle.names.entity(self.entity(entity)?);
        let Some(life) = &self.hosts[node].life else {
            return Err("it is down".to_owned());
        };
        let got = match life.engine.read(id) {
            None => "nothing".to_owned(),
            Some((_, reading)) => match self.oracle.names.shown(&reading) {
                Some(Shown::Count(n)) => n.to_string(),
                Some(Shown::Register(value)) => value.map_or("unset".to_owned(), |v| v.to_string()),
                Some(Shown::Elements(list)) => {
                    let letters: Vec<String> = list
                        .iter()
                        .map(|e| char::from(b'a' + *e as u8).to_string())
                        .collect();
                    format!("[{}]", letters.join(" "))
                }
                Some(Shown::Flag(is_enabled)) => is_enabled.to_string(),
                other => format!("{other:?} of {reading:?}"),
            },
        };
        if got == expect {
            Ok(())
        } else {
            Err(format!("{id} shows {got}"))
        }
    }

    fn covers(&mut self, node: NodeIx, expect: &[&str]) -> Step {
        let Some(life) = &self.hosts[node].life else {
            return Err("it is down".to_owned());
        };
        let got = self.oracle.told_vector(node, &life.engine);
        let mut must: Vec<String> = expect
            .iter()
            .map(|word| {
                word.replacen('a', "n0", 1)
                    .replacen('b', "n1", 1)
                    .replacen('c', "n2", 1)
            })
            .collect();
        must.sort();
        let mut have: Vec<&str> = got.trim_matches(['{', '}']).split_whitespace().collect();
        have.sort_unstable();
        if have == must {
            Ok(())
        } else {
            Err(format!("it covers {got}"))
        }
    }

    fn talk_until(&mut self, (a, b): (NodeIx, NodeIx), node: NodeIx, name: &str) -> Step {
        for _ in 0..1_000 {
            for (from, to) in [(a, b), (b, a)] {
                self.deliver(from, to, 1)?;
                if self.counted(node, name).is_ok() {
                    return Ok(());
                }
            }
            self.wait(1)?;
        }
        self.counted(node, name)
    }

    fn counted(&self, node: NodeIx, name: &str) -> Step {
        let Some(life) = &self.hosts[node].life else {
            return Err("it is down".to_owned());
        };
        match life
            .engine
            .counters()
            .iter()
            .find(|(counter, _)| *counter == name)
        {
            Some((_, 0)) => Err(format!("{name} is 0")),
            Some(_) => Ok(()),
            None => Err(format!("there is no counter {name}")),
        }
    }

    fn same(&mut self, words: &[&str]) -> Step {
        let nodes: Vec<NodeIx> = words.iter().map(|word| node(word)).collect::<Result<_, _>>()?;
        assert!(nodes.len() <= NODES, "more nodes than there are");
        let shard = ShardId(0);
        let mut states = nodes
            .iter()
            .filter_map(|&n| self.hosts[n].life.as_ref())
            .map(|life| {
                (
                    life.engine.version_vector(shard),
                    life.engine.fingerprint(shard),
                    life.engine.canonical_bytes(shard),
                )
            });
        let first = states.next();
        if states.all(|state| Some(&state) == first.as_ref()) {
            Ok(())
        } else {
            Err("they differ".to_owned())
        }
    }
}
