//! The scripted function beside one node: what it has heard, sorted by whose it is, and what it says to that.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tonic::Status;

use super::dialect::{Dialect, Speaks};
use super::notation::Term;
use super::say::Saying;
use crate::support::PATIENCE;
use crate::support::scripted::{Heard, Scripted, What};

/// The methods of the action that are streams, by their paths' order.
const STREAMS: [&str; 4] = ["Unary", "In", "Out", "Both"];

/// The function beside a node.
pub struct Function {
    pub scripted: Scripted,
    heard: UnboundedReceiver<Heard>,
    calls: BTreeMap<u64, Conversation>,
    /// What it was asked when it was found.
    pub question: Option<Value>,
    /// What its author was told.
    pub reports: Vec<String>,
}

/// A call of the node's.
struct Conversation {
    path: String,
    /// Of which service it is, and of which entity if any.
    service: String,
    key: String,
    method: &'static str,
    came: VecDeque<What>,
    /// How much of it the script has heard.
    taken: usize,
    ids: Vec<i64>,
    is_over: bool,
}

impl Conversation {
    fn is_of(&self, service: &str, key: &str) -> bool {
        self.service == service && (self.key.is_empty() || self.key == key)
    }
}

/// What a script hears next.
#[derive(Debug, PartialEq)]
pub enum Next {
    Said(Value),
    End,
}

impl Function {
    pub fn start(runtime: &Runtime, dialect: &Dialect) -> Function {
        let speaks = dialect.speaks;
        let mut paths = speaks.actions().to_vec();
        paths.extend([speaks.discover(), speaks.report(), speaks.handle()]);
        let (scripted, heard) = Scripted::start(runtime, &paths);
        Function {
            scripted,
            heard,
            calls: BTreeMap::new(),
            question: None,
            reports: Vec::new(),
        }
    }

    /// Takes in the next thing that comes.
    pub fn pump(&mut self, runtime: &Runtime, dialect: &Dialect, wanted: &str) {
        let heard = runtime.block_on(async { tokio::time::timeout(PATIENCE, self.heard.recv()).await });
        let heard =
            heard.unwrap_or_else(|_| panic!("nothing came, and not {wanted}; reports: {:?}", self.reports));
        self.take(dialect, heard.expect("the function goes on"));
    }

    fn take(&mut self, dialect: &Dialect, heard: Heard) {
        let speaks = dialect.speaks;
        let call = heard.call;
        if heard.path == speaks.discover() || heard.path == speaks.report() {
            let What::Message(bytes) = heard.what else { return };
            let answer = if heard.path == speaks.report() {
                let report = dialect.decode("Report", &bytes);
                assert_located(dialect.speaks, &report);
                self.reports
                    .push(report["message"].as_str().unwrap_or_default().to_owned());
                Vec::new()
            } else {
                self.question = Some(dialect.decode("Question", &bytes));
                dialect.spec()
            };
            self.scripted.say(call, answer);
            return self.scripted.end(call);
        }
        let is_entity = heard.path == speaks.handle();
        let new = || Conversation::begin(dialect, &heard);
        let conversation = self.calls.entry(call).or_insert_with(new);
        match heard.what {
            What::Gone | What::End if conversation.is_over => {}
            What::End if is_entity => {
                // As the SDKs do.
                conversation.is_over = true;
                conversation.came.push_back(What::End);
                self.scripted.end(call);
            }
            // Of a single message that goes without saying.
            What::End if ["Unary", "Out"].contains(&conversation.method) => {}
            what => conversation.came.push_back(what),
        }
    }

    /// What came next for the script's ears, if it has come; of what it has heard the beginning of, if `is_begun`.
    fn look(&mut self, dialect: &Dialect, service: &str, key: &str, is_begun: bool) -> Option<Next> {
        let mut calls = self.calls.values_mut();
        let is_next = |call: &&mut Conversation| {
            call.is_of(service, key) && !call.came.is_empty() && (call.taken > 0 || !is_begun)
        };
        let conversation = calls.find(is_next)?;
        let what = conversation.came.pop_front()?;
        conversation.taken += 1;
        Some(match what {
            What::Message(bytes) => Next::Said(conversation.show(dialect, &bytes)),
            What::End => Next::End,
            What::Gone => {
                conversation.is_over = true;
                Next::Said(json!("gone"))
            }
        })
    }

    /// What comes next. That a stream was given up may come behind the beginning of the one that follows it.
    pub fn next(
        &mut self,
        runtime: &Runtime,
        dialect: &Dialect,
        service: &str,
        key: &str,
        wanted: &str,
        is_end: bool,
    ) -> Next {
        loop {
            if let Some(next) = self.look(dialect, service, key, is_end) {
                return next;
            }
            self.pump(runtime, dialect, wanted);
        }
    }

    /// What came for an entity, or for an action, that no script has heard.
    pub fn left_over(&mut self, dialect: &Dialect, key: &str) -> Option<String> {
        while let Ok(heard) = self.heard.try_recv() {
            self.take(dialect, heard);
        }
        let mut calls = self.calls.values();
        let call = calls.find(|call| call.is_of(&call.service, key) && !call.came.is_empty())?;
        Some(format!("{} heard {:?} besides", call.service, call.came))
    }

    /// Says this, in the oldest call of whom it is that is not over.
    pub fn say(&mut self, dialect: &Dialect, service: &str, key: &str, terms: &[Term]) {
        let (number, call) = open(&mut self.calls, service, key);
        let saying = Saying {
            dialect,
            key,
            is_action: !call.method.is_empty(),
            ids: &call.ids,
        };
        self.scripted.say(number, saying.message(terms));
        if ["Unary", "In"].contains(&call.method) {
            call.is_over = true;
            self.scripted.end(number);
        }
    }

    /// Ends that with a status.
    pub fn fail(&mut self, service: &str, key: &str, status: Status) {
        let (number, call) = open(&mut self.calls, service, key);
        call.is_over = true;
        self.scripted.fail(number, status);
    }

    /// Says no more there.
    pub fn end(&mut self, service: &str, key: &str) {
        let (number, call) = open(&mut self.calls, service, key);
        call.is_over = true;
        self.scripted.end(number);
    }
}

/// It says where, as far as its dialect has a word for that. Kalix's SDKs show it only of what has a code.
fn assert_located(speaks: Speaks, report: &Value) {
    let code = report["code"].as_str().unwrap_or_default();
    match speaks {
        Speaks::Kalix => assert!(
            code.starts_with("ANB-") && report["places"][0]["file"].is_string(),
            "{report}"
        ),
        Speaks::Cloudstate | Speaks::Early => {
            let text = report["message"].as_str().unwrap_or_default();
            assert!(text.starts_with("services.proto:"), "{report}");
        }
    }
}

fn open<'a>(
    calls: &'a mut BTreeMap<u64, Conversation>,
    service: &str,
    key: &str,
) -> (u64, &'a mut Conversation) {
    let is_open = |call: &Conversation| call.is_of(service, key) && !call.is_over && call.taken > 0;
    let found = calls.iter_mut().find(|(_, call)| is_open(call));
    let (number, call) = found.unwrap_or_else(|| panic!("{service} of {key} has heard nothing"));
    (*number, call)
}

impl Conversation {
    /// Of whom it is, is said first.
    fn begin(dialect: &Dialect, heard: &Heard) -> Conversation {
        let place = dialect
            .speaks
            .actions()
            .iter()
            .position(|path| *path == heard.path);
        let name = |value: &Value| value.as_str().unwrap().trim_start_matches("tck.").to_owned();
        let (service, key) = match (&heard.what, place) {
            (What::Message(bytes), None) => {
                let message = dialect.decode("StreamIn", bytes);
                let init = &message["init"];
                assert!(init.is_object(), "it begins with {message}");
                (
                    name(&init["service"]),
                    init["entity"].as_str().unwrap().to_owned(),
                )
            }
            (What::Message(bytes), Some(0)) => {
                let message = dialect.decode("ActionCommand", bytes);
                let key = dialect.id(&message["payload"]["value"]);
                (name(&message["service"]), key)
            }
            (_, Some(_)) => ("Work".to_owned(), String::new()),
            // It was given up before it was told anything.
            (_, None) => (String::new(), "-".to_owned()),
        };
        Conversation {
            path: heard.path.clone(),
            service,
            key,
            method: place.map_or("", |place| STREAMS[place]),
            came: VecDeque::new(),
            taken: 0,
            ids: Vec::new(),
            is_over: false,
        }
    }

    /// A message without what no script says: metadata; commands are counted.
    fn show(&mut self, dialect: &Dialect, bytes: &[u8]) -> Value {
        if self.path != dialect.speaks.handle() {
            let mut message = dialect.decode("ActionCommand", bytes);
            message.as_object_mut().unwrap().remove("metadata");
            return message;
        }
        let mut message = dialect.decode("StreamIn", bytes);
        let id = |value: &Value| value.as_str().unwrap_or("0").parse::<i64>().unwrap();
        if let Some(command) = message.get_mut("command").and_then(Value::as_object_mut) {
            command.remove("metadata");
            let id = id(&command.remove("id").unwrap_or_default());
            self.ids.push(id);
            assert_eq!(
                id,
                self.ids.len() as i64,
                "commands are counted from 1 on each stream"
            );
        }
        if let Some(cancelled) = message.get_mut("cancelled") {
            let id = id(&cancelled["id"]);
            let place = self.ids.iter().position(|given| *given == id);
            cancelled["id"] = (place.expect("it had such a command") + 1).to_string().into();
        }
        message
    }
}
