//! What one event does to the five entities, and under which idempotency key.
//!
//! Contract: operations and key are functions of the file and the run's name alone: a replay that is run again sends
//! the same bytes under the same keys.

use std::collections::BTreeSet;
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::super::api::{Octets, OpBody, OpName};
use super::history::{Contents, Event};
use crate::crdt::Type;
use crate::engine::limits::{ELEMENT_OVERHEAD_BYTES, UPDATE_BYTES_MAX, UPDATE_OPS_MAX, VALUE_BYTES_MAX};

/// Operations of one change, at most: the file's lines, who touched it, who owns it.
const OPS_PER_CHANGE: usize = 3;
/// Operations of an event beside its changes', at most: the count, the author's set, the author's last commit.
const OPS_BESIDE: usize = 3;
/// Changes of an event, at most: one event is one update.
pub const CHANGES_MAX: usize = (UPDATE_OPS_MAX - OPS_BESIDE) / OPS_PER_CHANGE;

/// Whether an event fits one update, which is what makes it count whole or not at all.
pub fn check(event: &Event) -> Result<(), String> {
    let (changes, author) = (event.changes.len(), event.author.len());
    if changes > CHANGES_MAX {
        return Err(format!(
            "{changes} changes are more than one update takes, at most {CHANGES_MAX}"
        ));
    }
    if event.commit.len() > VALUE_BYTES_MAX {
        let bytes = event.commit.len();
        return Err(format!("the commit has {bytes} bytes, at most {VALUE_BYTES_MAX}"));
    }
    // As a node counts them: names of entities, elements, the value.
    let change = |path: usize| {
        let (touched, owned) = (path + author, author + path);
        "lines".len() + path + "touched".len() + touched + "owned".len() + owned + 2 * ELEMENT_OVERHEAD_BYTES
    };
    let names = "commits".len() + "all".len() + "owned".len() + author + "last".len() + author;
    let bytes = names
        + event.commit.len()
        + event
            .changes
            .iter()
            .map(|c| change(c.path().len()))
            .sum::<usize>();
    if bytes > UPDATE_BYTES_MAX {
        return Err(format!(
            "its update has {bytes} bytes (paths and author count several times), at most {UPDATE_BYTES_MAX}"
        ));
    }
    Ok(())
}

/// Makes updates of events, in the file's order.
pub struct Translator {
    /// Authors whose `owned` set exists.
    owners: BTreeSet<String>,
}

impl Translator {
    /// Before the first event.
    pub fn new() -> Translator {
        Translator {
            owners: BTreeSet::new(),
        }
    }

    /// The next event is sent: what follows builds on it.
    pub fn accept(&mut self, event: &Event) {
        if !event.changes.is_empty() && !self.owners.contains(&event.author) {
            self.owners.insert(event.author.clone());
        }
    }

    /// The operations of the next event.
    pub fn operations(&self, event: &Event) -> Vec<OpBody> {
        let author = event.author.as_str();
        let mut ops = Vec::with_capacity(OPS_BESIDE + event.changes.len() * OPS_PER_CHANGE);
        ops.push(OpBody {
            by: Some(1),
            ..typed("commits", "all", OpName::Incr, Type::GCounter)
        });
        if !event.changes.is_empty() && !self.owners.contains(author) {
            ops.push(typed("owned", author, OpName::Create, Type::OrSet));
        }
        for change in &event.changes {
            let path = change.path();
            ops.push(OpBody {
                by: Some(change.lines()),
                ..typed("lines", path, OpName::Incr, Type::PnCounter)
            });
            ops.push(elements("touched", path, OpName::Add, author));
            match change.status() {
                "A" => ops.push(elements("owned", author, OpName::Add, path)),
                "D" => ops.push(elements("owned", author, OpName::Remove, path)),
                _ => {}
            }
        }
        let last = typed("last", author, OpName::Set, Type::LwwRegister);
        ops.push(OpBody {
            value: Some(Octets::from(event.commit.as_str())),
            clock: Some(event.at),
            ..last
        });
        ops
    }
}

fn typed(kind: &str, key: &str, op: OpName, ty: Type) -> OpBody {
    OpBody {
        ty: Some(ty.name().to_string()),
        ..OpBody::new(kind, key, op)
    }
}

fn elements(kind: &str, key: &str, op: OpName, element: &str) -> OpBody {
    OpBody {
        elements: Some(vec![Octets::from(element)]),
        ..typed(kind, key, op, Type::OrSet)
    }
}

/// The idempotency key of one line: 39 bytes.
pub fn idempotency_key(contents: &Contents, line: u64, run: &str) -> String {
    let mut hasher = SipHasher24::new();
    hasher.write(&contents.digest.to_le_bytes());
    hasher.write(&line.to_le_bytes());
    hasher.write(run.as_bytes());
    format!("replay-{:032x}", hasher.finish128().as_u128())
}

#[cfg(test)]
mod tests {
    use super::super::history::Change;
    use super::*;
    use crate::wire::IDEMPOTENCY_KEY_BYTES_MAX;

    fn event(author: &str, changes: &[(&str, &str, i64, i64)]) -> Event {
        let change = |&(status, path, plus, minus): &(&str, &str, i64, i64)| {
            Change(status.into(), path.into(), plus, minus)
        };
        Event {
            commit: "c1".into(),
            at: 7,
            author: author.into(),
            changes: changes.iter().map(change).collect(),
        }
    }

    /// The operations, one a line, as a person would type them.
    fn operations(translator: &mut Translator, event: &Event) -> String {
        let text = |octets: &Octets| String::from_utf8(octets.0.clone()).unwrap();
        let line = |op: OpBody| {
            let mut line = format!("{} {} {:?}", op.kind, op.key, op.op).to_lowercase();
            op.by.iter().for_each(|by| line += &format!(" {by}"));
            op.elements
                .iter()
                .flatten()
                .for_each(|e| line += &format!(" {}", text(e)));
            op.value
                .iter()
                .for_each(|value| line += &format!(" {}", text(value)));
            op.clock.iter().for_each(|clock| line += &format!(" @{clock}"));
            line
        };
        let ops = translator.operations(event);
        translator.accept(event);
        assert!(ops.len() <= OPS_BESIDE + event.changes.len() * OPS_PER_CHANGE);
        ops.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_event_is_what_the_five_entities_say() {
        let mut translator = Translator::new();
        assert_eq!(
            operations(&mut translator, &event("a", &[])),
            "commits all incr 1\nlast a set c1 @7"
        );
        assert_eq!(
            operations(
                &mut translator,
                &event("a", &[("A", "x", 4, 1), ("D", "y", 0, 9), ("T", "z", 0, 0)])
            ),
            "commits all incr 1\nowned a create\nlines x incr 3\ntouched x add a\nowned a add x\n\
             lines y incr -9\ntouched y add a\nowned a remove y\nlines z incr 0\ntouched z add a\nlast a set c1 @7"
        );
        let again = operations(&mut translator, &event("a", &[("M", "x", 1, 1)]));
        assert_eq!(
            again,
            "commits all incr 1\nlines x incr 0\ntouched x add a\nlast a set c1 @7"
        );
    }

    #[test]
    fn what_does_not_fit_one_update_is_refused_before_it_is_sent() {
        let many = |changes: usize| event("a", &vec![("A", "x", 1, 0); changes]);
        assert_eq!(check(&many(CHANGES_MAX)), Ok(()));
        let refused = check(&many(CHANGES_MAX + 1)).unwrap_err();
        assert!(refused.contains("at most 349524"), "{refused}");
        // A long author stands in every element, so fewer changes fit.
        let author = "a".repeat(1_024);
        let long = |changes: usize| event(&author, &vec![("A", "x", 1, 0); changes]);
        assert_eq!(check(&long(30_000)), Ok(()));
        assert!(check(&long(40_000)).unwrap_err().contains("67108864"));
        let commit = Event {
            commit: "c".repeat(VALUE_BYTES_MAX + 1),
            ..event("a", &[])
        };
        assert!(check(&commit).unwrap_err().contains("the commit has"));
    }

    #[test]
    fn keys_differ_by_file_line_and_run() {
        let contents = Contents { digest: 1, lines: 9 };
        let key = idempotency_key(&contents, 1, "");
        assert!(key.len() <= IDEMPOTENCY_KEY_BYTES_MAX);
        assert_eq!(key, idempotency_key(&contents, 1, ""));
        for other in [
            idempotency_key(&Contents { digest: 2, lines: 9 }, 1, ""),
            idempotency_key(&contents, 2, ""),
            idempotency_key(&contents, 1, "again"),
        ] {
            assert_ne!(key, other);
        }
    }
}
