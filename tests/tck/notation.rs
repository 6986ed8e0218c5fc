//! The words of scripts, and what becomes of an entity as JSON of the messages that say it.
//!
//! A term is a word, or a word with terms in parentheses right behind it. A change is
//!
//! | term | what becomes of what |
//! |---|---|
//! | `gcounter 7`, `counter -7` | counters |
//! | `gset a b`, `set clear -a +b` | sets |
//! | `register v`, `.. reverse`, `.. custom 7`, `.. auto 7` | a register, by one of its clocks |
//! | `flag on`, `flag off` | a flag |
//! | `map clear -k +k(CHANGE) ~k(CHANGE)` | a map: new children and changed ones |
//! | `countermap ~k(7)`, `registermap ~k(v)`, `multimap ~k(-a +b)` | maps of one type; `clear` and `-k` as in others |
//! | `vote yes`, `vote no 1/2` | a vote, and how many are for it, of how many |
//!
//! Elements, keys and values are strings, `""` the empty one.

use prost::encoding::string;
use serde_json::{Map, Value, json};

/// A word, and what is in parentheses behind it.
#[derive(Clone, Debug)]
pub struct Term {
    pub word: String,
    pub within: Vec<Term>,
}

/// The terms of a line.
pub fn read(line: &str) -> Vec<Term> {
    let mut open: Vec<Vec<Term>> = vec![Vec::new()];
    let mut word = String::new();
    for c in format!("{line} ").chars() {
        let ends = c == ' ' || c == '(' || c == ')';
        if !ends {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            let word = std::mem::take(&mut word);
            let within = Vec::new();
            open.last_mut().unwrap().push(Term { word, within });
        }
        match c {
            '(' => open.push(Vec::new()),
            ')' => {
                let within = open.pop().unwrap();
                let last = open.last_mut().and_then(|terms| terms.last_mut());
                last.unwrap_or_else(|| panic!("{line:?}: parentheses")).within = within;
            }
            _ => {}
        }
    }
    assert_eq!(open.len(), 1, "{line:?}: parentheses");
    open.remove(0)
}

/// Terms that are text.
pub fn text(terms: &[Term]) -> String {
    let words: Vec<&str> = terms.iter().map(|term| plain(&term.word)).collect();
    words.join(" ")
}

fn plain(word: &str) -> &str {
    if word == "\"\"" { "" } else { word }
}

/// Bytes as JSON has them.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    anabranch::base64::encode(&mut text, bytes);
    text
}

/// Changes, in a dialect that names primitives so.
#[derive(Clone, Copy)]
pub struct Changes {
    pub primitives: &'static str,
}

impl Changes {
    /// A string.
    fn any(self, text: &str) -> Value {
        let mut value = Vec::new();
        if !plain(text).is_empty() {
            string::encode(1, &plain(text).to_owned(), &mut value);
        }
        json!({"typeUrl": format!("{}string", self.primitives), "value": base64(&value)})
    }

    /// What the terms say became of an entity.
    pub fn read(self, terms: &[Term]) -> Value {
        let (head, rest) = terms.split_first().expect("a change");
        let change = match head.word.as_str() {
            "gcounter" | "counter" => number(rest),
            "gset" => {
                let added: Vec<Value> = rest.iter().map(|term| self.any(&term.word)).collect();
                json!({ "added": added })
            }
            "set" => self.set(rest),
            "register" => self.register(rest),
            "flag" => json!({"on": rest[0].word == "on"}),
            "map" => self.map(rest, |changes, terms| changes.read(terms)),
            "countermap" => self.map(rest, |_, terms| number(terms)),
            "registermap" => self.map(rest, Changes::register),
            "multimap" => self.map(rest, Changes::set),
            "vote" => vote(rest),
            other => panic!("{other:?} is no type"),
        };
        json!({ head.word.as_str(): change })
    }

    fn set(self, terms: &[Term]) -> Value {
        let mut set = self.keys(terms);
        let words = terms.iter().filter_map(|term| term.word.strip_prefix('+'));
        let added: Vec<Value> = words.map(|word| self.any(word)).collect();
        if !added.is_empty() {
            set.insert("added".to_owned(), added.into());
        }
        Value::Object(set)
    }

    /// What sets and maps have lost. What is as if it were not there is not there: not every message has a field for it.
    fn keys(self, terms: &[Term]) -> Map<String, Value> {
        let mut lost = Map::new();
        if terms.iter().any(|term| term.word == "clear") {
            lost.insert("cleared".to_owned(), true.into());
        }
        let words = terms.iter().filter_map(|term| term.word.strip_prefix('-'));
        let removed: Vec<Value> = words.map(|word| self.any(word)).collect();
        if !removed.is_empty() {
            lost.insert("removed".to_owned(), removed.into());
        }
        lost
    }

    fn register(self, terms: &[Term]) -> Value {
        let clock = match terms.get(1).map(|term| term.word.as_str()) {
            None => "DEFAULT",
            Some("reverse") => "REVERSE",
            Some("custom") => "CUSTOM",
            Some("auto") => "CUSTOM_AUTO_INCREMENT",
            Some(other) => panic!("{other:?} is no clock"),
        };
        let stamp = terms.get(2).map_or("0", |term| term.word.as_str());
        json!({"value": self.any(&terms[0].word), "clock": clock, "customClock": stamp})
    }

    fn map(self, terms: &[Term], child: impl Fn(Changes, &[Term]) -> Value) -> Value {
        let mut map = self.keys(terms);
        for (sign, name) in [('+', "added"), ('~', "updated")] {
            let entry = |term: &Term| {
                let key = term.word.strip_prefix(sign)?;
                Some(json!({"key": self.any(key), "delta": child(self, &term.within)}))
            };
            let entries: Vec<Value> = terms.iter().filter_map(entry).collect();
            if !entries.is_empty() {
                map.insert(name.to_owned(), entries.into());
            }
        }
        Value::Object(map)
    }
}

fn number(terms: &[Term]) -> Value {
    json!({"change": terms[0].word.trim_start_matches('+')})
}

fn vote(terms: &[Term]) -> Value {
    let mut vote = Map::from_iter([("mine".to_owned(), json!(terms[0].word == "yes"))]);
    if let Some((votes, of)) = terms.get(1).and_then(|term| term.word.split_once('/')) {
        vote.insert("for".to_owned(), json!(votes.parse::<u32>().unwrap()));
        vote.insert("of".to_owned(), json!(of.parse::<u32>().unwrap()));
    }
    Value::Object(vote)
}
