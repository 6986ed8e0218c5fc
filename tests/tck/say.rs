//! What a script's function says, as messages.
//!
//! | term | what it says |
//! |---|---|
//! | `reply(TEXT)`, `count(N)`, `forward(TEXT)`, `fail(TEXT)` | what the command's caller hears; nothing, without one of them |
//! | `long(N)` | a reply whose text has so many bytes |
//! | `create(CHANGE)`, `update(CHANGE)`, `delete` | what it did to the entity: made it, of which it knew nothing, or changed it |
//! | `at(LEVEL)` | where that must be before anybody hears |
//! | `effect(TEXT)`, `sync(TEXT)` | what is to be called: of service Two beside an entity, of Other beside an action |
//! | `.. @b`, `.. !`, `.. /SERVICE/METHOD` within those and `forward` | of another entity, of none, of another method |
//! | `garbage` | what is no message |
//! | `streamed` | its answer goes on |
//! | `more(N)`, `last(N)` | how its answer to its command N goes on, and that that was all |
//! | `cancelled(N)` | what it says to the cancellation of its command N |
//! | `failure(TEXT)` | that it failed at the command |
//! | `to(N)`, `as(N)` | it is its command N, not its latest; what it calls N itself, which may be none |
//!
//! A function's commands are counted from 1 in each of its lives.

use serde_json::{Map, Value, json};

use super::dialect::{Dialect, Speaks};
use super::notation::{Term, text};

/// What is said, and where.
pub struct Saying<'a> {
    pub dialect: &'a Dialect,
    pub key: &'a str,
    pub is_action: bool,
    /// The ids of the commands that it has heard.
    pub ids: &'a [i64],
}

impl Saying<'_> {
    /// The message that says this.
    pub fn message(&self, terms: &[Term]) -> Vec<u8> {
        if terms.first().is_some_and(|term| term.word == "garbage") {
            return vec![0xff];
        }
        let find = |word: &str| terms.iter().find(|term| term.word == word);
        if self.is_action {
            let mut said = self.action(terms).unwrap_or_default();
            said.insert("effects".to_owned(), self.effects(terms));
            return self.dialect.encode("ActionResponse", &Value::Object(said));
        }
        let named = ["to", "more", "last", "cancelled"].into_iter().find_map(find);
        let command = match (find("as"), named) {
            (Some(term), _) => term.within[0].word.parse().unwrap(),
            (None, Some(term)) => self.ids[term.within[0].word.parse::<usize>().unwrap() - 1],
            (None, None) => *self.ids.last().expect("it has heard a command"),
        };
        let (effects, action) = (self.effects(terms), self.action(terms));
        let message = if let Some(failure) = find("failure") {
            json!({"failure": {"command": command, "description": text(&failure.within)}})
        } else if find("more").or(find("last")).is_some() {
            let is_last = find("last").is_some();
            json!({"streamed": {"command": command, "action": action, "effects": effects, "last": is_last}})
        } else if find("cancelled").is_some() {
            json!({"cancelled": {"command": command, "effects": effects, "state": self.state(terms)}})
        } else {
            let state = self.state(terms);
            let mut reply = json!({"command": command, "action": action, "effects": effects, "state": state});
            if find("streamed").is_some() {
                reply["streamed"] = true.into();
            }
            json!({ "reply": reply })
        };
        self.dialect.encode("StreamOut", &message)
    }

    /// For the caller.
    fn action(&self, terms: &[Term]) -> Option<Map<String, Value>> {
        let action = terms.iter().find_map(|term| match term.word.as_str() {
            "reply" => {
                let response = json!({"text": text(&term.within)});
                Some(json!({"reply": {"payload": self.dialect.any("Response", response)}}))
            }
            "long" => {
                let response = json!({"text": "x".repeat(term.within[0].word.parse().unwrap())});
                Some(json!({"reply": {"payload": self.dialect.any("Response", response)}}))
            }
            "count" => {
                let count = json!({"count": {"value": term.within[0].word}});
                Some(json!({"reply": {"payload": self.dialect.any("Response", count)}}))
            }
            "forward" => Some(json!({"forward": self.call(term)})),
            "fail" => {
                let command = self.ids.last().copied().unwrap_or_default();
                Some(json!({"failure": {"command": command, "description": text(&term.within)}}))
            }
            _ => None,
        });
        action.and_then(|action| action.as_object().cloned())
    }

    /// A call that it wants made.
    fn call(&self, term: &Term) -> Value {
        let find = |sign: &str| term.within.iter().find_map(|term| term.word.strip_prefix(sign));
        let target = find("/").unwrap_or(match self.is_action {
            true => "Other/Call",
            false => "Two/Process",
        });
        let (service, command) = target.split_once('/').expect("a service and a method");
        let service = format!("tck.{service}");
        // Of the case's entity there, or of another one behind an `@`.
        let is_word = |term: &&Term| !term.word.starts_with(['@', '/', '!']);
        let words = term.within.iter().filter(is_word).cloned();
        let id = match (find("!"), find("@")) {
            (Some(_), _) => String::new(),
            (None, Some(at)) => format!("{}-{at}", self.key),
            (None, None) => self.key.to_owned(),
        };
        let request = json!({"id": id, "text": text(&words.collect::<Vec<_>>())});
        let payload = self.dialect.any("Request", request);
        json!({"service": service, "command": command, "payload": payload})
    }

    fn effects(&self, terms: &[Term]) -> Value {
        let effect = |term: &Term| {
            let is_effect = ["effect", "sync"].contains(&term.word.as_str());
            let mut call = is_effect.then(|| self.call(term))?;
            call["synchronous"] = (term.word == "sync").into();
            Some(call)
        };
        terms.iter().filter_map(effect).collect()
    }

    /// What was done to the entity.
    fn state(&self, terms: &[Term]) -> Option<Value> {
        let action = terms.iter().find_map(|term| match term.word.as_str() {
            "create" if self.dialect.speaks == Speaks::Early => {
                Some(json!({"create": self.dialect.changes.read(&term.within)}))
            }
            "create" | "update" => Some(json!({"update": self.dialect.changes.read(&term.within)})),
            "delete" => Some(json!({"delete": {}})),
            _ => None,
        });
        let mut action = action?;
        if let Some(level) = terms.iter().find(|term| term.word == "at") {
            action["level"] = level.within[0].word.to_uppercase().into();
        }
        Some(action)
    }
}
