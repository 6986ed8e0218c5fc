//! Histories as text.
//!
//! The first line names the type and how news travels; every other line is a step:
//!
//! ```text
//! orset causal
//! a in k:orset add x   a mutates a child of a map
//! a drop            a lets go of slots of its own in which everything was reset
//! a add x y         a mutates; operations are numbered per replica: this is a1
//! b < a1            b gets a1
//! b < a1 c2         b gets both, as one delta
//! b < a1.0          b gets the first part of a1
//! b << a            b joins a's whole state
//! b <- a            b joins what it lacks of a's state
//! b <~ a 40         the same in pieces of at most 40 bytes, last first and that one twice
//! b <~ a 40 1       only one of them
//! ```

use std::fmt;
use std::str::FromStr;

use anabranch_crdt::{Clock, Epoch, Mutation, NodeId, ReplicaId, Type};
use bytes::Bytes;

/// How news travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An operation, whole, arrives only where everything its author had seen has arrived; the step is left out
    /// where it is not so. The types' definitions say what every replica must show.
    Causal,
    /// In any order, with holes, in parts. What is alive is still determined by the dots that came.
    Any,
}

/// One operation, by its author and the author's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpName {
    /// Which replica made it.
    pub by: usize,
    /// Its how manieth, from 1.
    pub nth: usize,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A replica mutates.
    Mutate {
        /// Which.
        at: usize,
        /// How.
        mutation: Mutation,
        /// What its hybrid clock says.
        stamp: u64,
    },
    /// A replica lets go of the slots of its own in which everything was reset.
    Drop {
        /// Which.
        at: usize,
    },
    /// A replica gets operations as one delta.
    Deliver {
        /// Which.
        to: usize,
        /// What.
        ops: Vec<OpName>,
    },
    /// A replica gets one part of an operation.
    DeliverPart {
        /// Which.
        to: usize,
        /// Of what.
        op: OpName,
        /// Which part, counted from 0.
        part: usize,
    },
    /// A replica joins another's whole state.
    Join {
        /// Which.
        to: usize,
        /// Whose.
        from: usize,
    },
    /// A replica joins what it lacks of another's state.
    Since {
        /// Which.
        to: usize,
        /// Whose.
        from: usize,
    },
    /// The same in pieces: all of them, the last first and that one twice, or one.
    Pieces {
        /// Which.
        to: usize,
        /// Whose.
        from: usize,
        /// The size of a piece.
        bytes_max: usize,
        /// The only one that arrives.
        only: Option<usize>,
    },
}

/// A history.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Of what.
    pub ty: Type,
    /// How news travels.
    pub mode: Mode,
    /// What happens.
    pub steps: Vec<Step>,
}

/// A line does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a step: {}", self.0)
    }
}

impl std::error::Error for ScriptError {}

impl Script {
    /// How many replicas take part.
    pub fn nodes(&self) -> usize {
        let most = |step: &Step| match step {
            Step::Mutate {
                at,
                mutation: Mutation::Transfer { to, .. },
                ..
            } => (0..NODES_MAX)
                .find(|&n| replica_id(n) == *to)
                .unwrap_or(0)
                .max(*at),
            Step::Mutate { at, .. } | Step::Drop { at } => *at,
            Step::Deliver { to, ops } => ops.iter().map(|op| op.by).chain([*to]).max().unwrap_or(0),
            Step::DeliverPart { to, op, .. } => *to.max(&op.by),
            Step::Join { to, from } | Step::Since { to, from } | Step::Pieces { to, from, .. } => {
                *to.max(from)
            }
        };
        self.steps.iter().map(most).max().unwrap_or(0) + 1
    }
}

/// The most replicas a history can have.
pub const NODES_MAX: usize = 8;

/// The id of a replica. Neither the order of letters nor that of epochs.
pub fn replica_id(node: usize) -> ReplicaId {
    ReplicaId::new(
        NodeId([3, 1, 4, 0, 2, 9, 8, 7][node % NODES_MAX]),
        Epoch(5 + node as u64 % 3),
    )
}

/// The letter of a replica.
pub(crate) fn letter(node: usize) -> char {
    char::from(b'a' + (node as u8 & 15))
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", letter(self.by), self.nth)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Mutate { at, mutation, stamp } => {
                write!(f, "{} ", letter(*at))?;
                write_mutation(f, mutation)?;
                if *stamp > 0 {
                    write!(f, " ~{stamp}")?;
                }
                Ok(())
            }
            Step::Drop { at } => write!(f, "{} drop", letter(*at)),
            Step::Deliver { to, ops } => {
                write!(f, "{} <", letter(*to))?;
                ops.iter().try_for_each(|op| write!(f, " {op}"))
            }
            Step::DeliverPart { to, op, part } => write!(f, "{} < {op}.{part}", letter(*to)),
            Step::Join { to, from } => write!(f, "{} << {}", letter(*to), letter(*from)),
            Step::Since { to, from } => write!(f, "{} <- {}", letter(*to), letter(*from)),
            Step::Pieces {
                to,
                from,
                bytes_max,
                only,
            } => {
                write!(f, "{} <~ {} {bytes_max}", letter(*to), letter(*from))?;
                only.map_or(Ok(()), |only| write!(f, " {only}"))
            }
        }
    }
}

fn write_mutation(f: &mut fmt::Formatter<'_>, mutation: &Mutation) -> fmt::Result {
    let words = |f: &mut fmt::Formatter<'_>, words: &[Bytes]| {
        words.iter().try_for_each(|word| match &word[..] {
            b"" => f.write_str(" ''"),
            word => write!(f, " {}", word.escape_ascii()),
        })
    };
    write!(f, "{}", mutation.name())?;
    match mutation {
        Mutation::Create | Mutation::Clear | Mutation::Delete | Mutation::Enable | Mutation::Disable => {
            Ok(())
        }
        Mutation::Update { key, ty, mutation } => {
            words(f, std::slice::from_ref(key))?;
            ty.map_or(Ok(()), |ty| write!(f, ":{ty}"))?;
            f.write_str(" ")?;
            write_mutation(f, mutation)
        }
        Mutation::Vote(yes) => f.write_str(if *yes { " yes" } else { " no" }),
        Mutation::Increment(by) => write!(f, " {by}"),
        Mutation::Transfer { to, amount } => {
            let to = (0..NODES_MAX).find(|&n| replica_id(n) == *to);
            write!(f, " {amount} {}", to.map_or('?', letter))
        }
        Mutation::Add(elements) | Mutation::Remove(elements) => words(f, elements),
        Mutation::Set { value, clock } => {
            words(f, std::slice::from_ref(value))?;
            match clock {
                Clock::Default => Ok(()),
                Clock::Reverse => f.write_str(" @reverse"),
                Clock::Custom(clock) => write!(f, " @{clock}"),
                Clock::AutoIncrement(clock) => write!(f, " @+{clock}"),
            }
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Causal => "causal",
            Mode::Any => "any",
        };
        writeln!(f, "{} {mode}", self.ty)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Script, ScriptError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let head = lines.next().unwrap_or("");
        let bad = || ScriptError(head.to_owned());
        let (ty, mode) = head.split_once(' ').ok_or_else(bad)?;
        let mode = match mode {
            "causal" => Mode::Causal,
            "any" => Mode::Any,
            _ => return Err(bad()),
        };
        Ok(Script {
            ty: ty.parse().map_err(|_| bad())?,
            mode,
            steps: lines.map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

fn node(word: &str) -> Option<usize> {
    let [letter] = word.as_bytes() else { return None };
    letter.is_ascii_lowercase().then(|| usize::from(letter - b'a'))
}

fn op_name(word: &str) -> Option<OpName> {
    let (by, nth) = word.split_at_checked(1)?;
    Some(OpName {
        by: node(by)?,
        nth: nth.parse().ok()?,
    })
}

impl FromStr for Step {
    type Err = ScriptError;

    fn from_str(line: &str) -> Result<Step, ScriptError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        step(&words).ok_or_else(|| ScriptError(line.to_owned()))
    }
}

fn step(words: &[&str]) -> Option<Step> {
    let (first, rest) = words.split_first()?;
    let to = node(first)?;
    Some(match rest {
        ["drop"] => Step::Drop { at: to },
        ["<<", from] => Step::Join {
            to,
            from: node(from)?,
        },
        ["<-", from] => Step::Since {
            to,
            from: node(from)?,
        },
        ["<~", from, bytes_max, only @ ..] => Step::Pieces {
            to,
            from: node(from)?,
            bytes_max: bytes_max.parse().ok()?,
            only: only.first().map(|only| only.parse()).transpose().ok()?,
        },
        ["<", part] if part.contains('.') => {
            let (op, part) = part.split_once('.')?;
            Step::DeliverPart {
                to,
                op: op_name(op)?,
                part: part.parse().ok()?,
            }
        }
        ["<", ops @ ..] => Step::Deliver {
            to,
            ops: ops.iter().map(|op| op_name(op)).collect::<Option<_>>()?,
        },
        words => {
            let stamp = words.iter().find_map(|word| word.strip_prefix('~'));
            let words: Vec<&str> = words
                .iter()
                .copied()
                .filter(|word| !word.starts_with('~'))
                .collect();
            Step::Mutate {
                at: to,
                mutation: mutation(&words)?,
                stamp: stamp.map_or(Some(0), |stamp| stamp.parse().ok())?,
            }
        }
    })
}

fn mutation(words: &[&str]) -> Option<Mutation> {
    let bytes = |word: &str| match word {
        "''" => Bytes::new(),
        word => Bytes::copy_from_slice(word.as_bytes()),
    };
    let all = |words: &[&str]| words.iter().map(|word| bytes(word)).collect();
    Some(match words {
        ["create"] => Mutation::Create,
        ["clear"] => Mutation::Clear,
        ["delete"] => Mutation::Delete,
        ["enable"] => Mutation::Enable,
        ["disable"] => Mutation::Disable,
        ["in", key, inner @ ..] => {
            let (key, ty) = key
                .split_once(':')
                .map_or((*key, None), |(key, ty)| (key, Some(ty)));
            Mutation::Update {
                key: bytes(key),
                ty: ty
                    .map(|ty| ty.parse().ok())
                    .map_or(Some(None), |ty| ty.map(Some))?,
                mutation: Box::new(mutation(inner)?),
            }
        }
        ["vote", "yes"] => Mutation::Vote(true),
        ["vote", "no"] => Mutation::Vote(false),
        ["incr", by] => Mutation::Increment(by.parse().ok()?),
        ["transfer", amount, to] => Mutation::Transfer {
            to: replica_id(node(to)?),
            amount: amount.parse().ok()?,
        },
        ["add", elements @ ..] => Mutation::Add(all(elements)),
        ["remove", elements @ ..] => Mutation::Remove(all(elements)),
        ["set", value] => Mutation::Set {
            value: bytes(value),
            clock: Clock::Default,
        },
        ["set", value, clock] => Mutation::Set {
            value: bytes(value),
            clock: self::clock(clock.strip_prefix('@')?)?,
        },
        _ => return None,
    })
}

fn clock(word: &str) -> Option<Clock> {
    Some(match word.strip_prefix('+') {
        Some(least) => Clock::AutoIncrement(least.parse().ok()?),
        None if word == "reverse" => Clock::Reverse,
        None => Clock::Custom(word.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reads_as_it_prints() {
        let text = "orset any\na add x y\nb < a1 c2\nb < a1.0\nb << a\nb <- a\nb <~ a 40\nb <~ a 40 1\na remove x\na clear\n\
                    a incr -3\na create\na set ''\na set v @3\na set v ~9\na set v @reverse ~9\na set v @+4\na enable\n\
                    a disable\na vote yes\na vote no\na in k:ormap in j:orset add x\na in k incr 1\na drop\n\
                    a transfer 3 b\n";
        let script: Script = text.parse().unwrap();
        assert_eq!(script.to_string(), text);
        assert_eq!(script.nodes(), 3);
        assert!("orset any\na jump".parse::<Script>().is_err());
    }
}
