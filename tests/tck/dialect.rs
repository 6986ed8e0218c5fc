//! The three dialects, written down a second time: paths, messages by their descriptors, and where the same is said differently.

use std::path::Path;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage};
use serde_json::{Value, json};

use super::notation::{Changes, Term, base64, text};
use crate::support::temp::TempDir;

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Kalix,
    Cloudstate,
    Early,
}

impl Speaks {
    pub const ALL: [Speaks; 3] = [Speaks::Kalix, Speaks::Cloudstate, Speaks::Early];

    pub fn name(self) -> &'static str {
        match self {
            Speaks::Kalix => "kalix",
            Speaks::Cloudstate => "cloudstate",
            Speaks::Early => "early",
        }
    }

    /// Where it is asked what it is.
    pub fn discover(self) -> &'static str {
        match self {
            Speaks::Kalix => "/kalix.protocol.Discovery/Discover",
            Speaks::Cloudstate | Speaks::Early => "/cloudstate.EntityDiscovery/discover",
        }
    }

    /// Where it is told what is wrong with it.
    pub fn report(self) -> &'static str {
        match self {
            Speaks::Kalix => "/kalix.protocol.Discovery/ReportError",
            Speaks::Cloudstate | Speaks::Early => "/cloudstate.EntityDiscovery/reportError",
        }
    }

    /// Where entities are.
    pub fn handle(self) -> &'static str {
        match self {
            Speaks::Kalix => "/kalix.component.replicatedentity.ReplicatedEntities/Handle",
            Speaks::Cloudstate | Speaks::Early => "/cloudstate.crdt.Crdt/handle",
        }
    }

    /// Where actions are: one message and one answer, many and one, one and many, many and many.
    pub fn actions(self) -> [&'static str; 4] {
        match self {
            Speaks::Kalix => [
                "/kalix.component.action.Actions/HandleUnary",
                "/kalix.component.action.Actions/HandleStreamedIn",
                "/kalix.component.action.Actions/HandleStreamedOut",
                "/kalix.component.action.Actions/HandleStreamed",
            ],
            Speaks::Cloudstate => [
                "/cloudstate.action.ActionProtocol/handleUnary",
                "/cloudstate.action.ActionProtocol/handleStreamedIn",
                "/cloudstate.action.ActionProtocol/handleStreamedOut",
                "/cloudstate.action.ActionProtocol/handleStreamed",
            ],
            Speaks::Early => [
                "/cloudstate.function.StatelessFunction/handleUnary",
                "/cloudstate.function.StatelessFunction/handleStreamedIn",
                "/cloudstate.function.StatelessFunction/handleStreamedOut",
                "/cloudstate.function.StatelessFunction/handleStreamed",
            ],
        }
    }

    /// What it calls entities, and actions.
    pub fn types(self) -> [&'static str; 2] {
        match self {
            Speaks::Kalix => [
                "kalix.component.replicatedentity.ReplicatedEntities",
                "kalix.component.action.Actions",
            ],
            Speaks::Cloudstate => ["cloudstate.crdt.Crdt", "cloudstate.action.ActionProtocol"],
            Speaks::Early => ["cloudstate.crdt.Crdt", "cloudstate.function.StatelessFunction"],
        }
    }

    /// The version that it says it is of.
    fn version(self) -> (i32, i32) {
        match self {
            Speaks::Kalix => (1, 1),
            Speaks::Cloudstate => (0, 2),
            Speaks::Early => (0, 0),
        }
    }

    /// Its option of an entity's key, and how that is used.
    fn key_option(self) -> (&'static str, &'static str) {
        match self {
            Speaks::Kalix => ("FieldOptions key = 1080;", "(key).entity_key = true"),
            Speaks::Cloudstate => ("bool key = 1080;", "(key) = true"),
            Speaks::Early => ("bool key = 50002;", "(key) = true"),
        }
    }
}

/// The kinds of entities that the scripted function serves: one for each type, whose other one is passivated soon; one that calls
/// others, and one that is called; and two whose changes are confirmed by several nodes, where discovery says so.
const ENTITIES: [&str; 26] = [
    "GCounter",
    "BriefGCounter",
    "Counter",
    "BriefCounter",
    "GSet",
    "BriefGSet",
    "Set",
    "BriefSet",
    "Register",
    "BriefRegister",
    "Flag",
    "BriefFlag",
    "Map",
    "BriefMap",
    "Vote",
    "BriefVote",
    "CounterMap",
    "BriefCounterMap",
    "RegisterMap",
    "BriefRegisterMap",
    "MultiMap",
    "BriefMultiMap",
    "Model",
    "Two",
    "Most",
    "All",
];
/// Its actions: one that calls others, and one that is called.
pub const ACTIONS: [&str; 2] = ["Work", "Other"];

/// Its services.
pub fn services() -> impl Iterator<Item = &'static str> {
    ENTITIES.into_iter().chain(ACTIONS)
}

/// The one of this name in scripts.
pub fn service(name: &str) -> Option<&'static str> {
    services().find(|service| service.to_lowercase() == name)
}

/// A dialect, with the descriptors of its messages and of what is served.
pub struct Dialect {
    pub speaks: Speaks,
    pub changes: Changes,
    messages: DescriptorPool,
    pub services: DescriptorPool,
    served: Vec<u8>,
}

impl Dialect {
    pub fn of(speaks: Speaks) -> Dialect {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tck");
        let (messages, _) = compile(&data, &format!("{}.proto", speaks.name()));
        let dir = TempDir::new("tck-services");
        let (option, key) = speaks.key_option();
        let proto = std::fs::read_to_string(data.join("services.proto")).unwrap();
        let proto = proto.replace("OPTION", option).replace("KEY", key);
        let (head, entity) = proto.split_at(proto.find("service ENTITY").unwrap());
        let entities = ENTITIES.map(|name| entity.replace("ENTITY", name));
        dir.write("services.proto", format!("{head}{}", entities.concat()));
        let (services, served) = compile(dir.path(), "services.proto");
        let primitives = match speaks {
            Speaks::Kalix => "type.kalix.io/",
            Speaks::Cloudstate | Speaks::Early => "p.cloudstate.io/",
        };
        Dialect {
            speaks,
            changes: Changes { primitives },
            messages,
            services,
            served,
        }
    }

    fn message(&self, name: &str) -> MessageDescriptor {
        let own = format!("{}.{name}", self.speaks.name());
        let message = self.messages.get_message_by_name(&own);
        let common = || self.messages.get_message_by_name(&format!("common.{name}"));
        message.or_else(common).expect(name)
    }

    /// A message's bytes.
    pub fn encode(&self, name: &str, value: &Value) -> Vec<u8> {
        let message = DynamicMessage::deserialize(self.message(name), value);
        message.unwrap_or_else(|e| panic!("{value}: {e}")).encode_to_vec()
    }

    /// What bytes say, as JSON has it: without what is as if it were not there.
    pub fn decode(&self, name: &str, bytes: &[u8]) -> Value {
        let message = DynamicMessage::decode(self.message(name), bytes).unwrap();
        assert_known(&message);
        serde_json::to_value(&message).unwrap()
    }

    /// The same of JSON.
    pub fn canonical(&self, name: &str, value: &Value) -> Value {
        self.decode(name, &self.encode(name, value))
    }

    /// A message of what is served.
    pub fn payload(&self, message: &str, value: Value) -> Vec<u8> {
        let message = self.services.get_message_by_name(&format!("tck.{message}"));
        DynamicMessage::deserialize(message.unwrap(), value)
            .unwrap()
            .encode_to_vec()
    }

    /// The same, as functions have it.
    pub fn any(&self, message: &str, value: Value) -> Value {
        let bytes = self.payload(message, value);
        json!({"typeUrl": format!("type.googleapis.com/tck.{message}"), "value": base64(&bytes)})
    }

    /// The id in a message of what is served.
    pub fn id(&self, payload: &Value) -> String {
        let bytes = anabranch::base64::decode(payload.as_str().unwrap()).unwrap();
        let request = self.services.get_message_by_name("tck.Request").unwrap();
        let request = DynamicMessage::decode(request, bytes.as_slice()).unwrap();
        request
            .get_field_by_name("id")
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// What it says it is.
    pub fn spec(&self) -> Vec<u8> {
        let [entity, action] = self.speaks.types();
        let (major, minor) = self.speaks.version();
        let passivation = |service: &str| {
            service
                .starts_with("Brief")
                .then(|| json!({"timeout": {"ms": 100}}))
        };
        let level = |service: &str| match service {
            "Most" => "MAJORITY",
            "All" => "ALL",
            _ => "LOCAL",
        };
        let components = services().map(|service| {
            let (name, kind) = (format!("tck.{service}"), service.to_lowercase());
            let is_action = ACTIONS.contains(&service);
            let ty = if is_action { action } else { entity };
            match self.speaks {
                Speaks::Kalix if is_action => json!({"type": ty, "service": name, "action": {}}),
                Speaks::Kalix => json!({"type": ty, "service": name, "entity": {
                    "kind": kind, "passivation": passivation(service), "replicated": {"level": level(service)},
                }}),
                Speaks::Cloudstate => json!({
                    "type": ty, "service": name, "kind": kind, "passivation": passivation(service),
                }),
                Speaks::Early => json!({"type": ty, "service": name, "kind": kind}),
            }
        });
        let list = match self.speaks {
            Speaks::Kalix => "components",
            Speaks::Cloudstate | Speaks::Early => "entities",
        };
        let components: Vec<Value> = components.collect();
        let info = json!({"name": "tck", "major": major, "minor": minor});
        let spec = json!({"proto": base64(&self.served), list: components, "info": info});
        self.encode("Spec", &spec)
    }

    /// What a function beside an entity is told, by the word of a script for it: one message, or two where one does not do.
    pub fn told(&self, service: &str, key: &str, term: &Term) -> Vec<Value> {
        let is_early = self.speaks == Speaks::Early;
        let command = |name: &str, streamed: bool| {
            let request = json!({"id": key, "text": text(&term.within)});
            let payload = self.any("Request", request);
            json!({"command": {"entity": key, "name": name, "payload": payload, "streamed": streamed}})
        };
        match term.word.as_str() {
            "init" => {
                let (state, rest) = match term.within.is_empty() {
                    true => (Value::Null, None),
                    false => self.whole(&term.within),
                };
                let init =
                    json!({"init": {"service": format!("tck.{service}"), "entity": key, "delta": state}});
                [Some(init), rest].into_iter().flatten().collect()
            }
            "whole" if is_early => {
                let (state, rest) = self.whole(&term.within);
                [Some(json!({ "state": state })), rest]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            "whole" | "delta" if !is_early => vec![json!({"delta": self.changes.read(&term.within)})],
            "delta" => vec![json!({"delta": children_in_parts(self.changes.read(&term.within))})],
            "delete" => vec![json!({"delete": {}})],
            "command" => vec![command("Process", false)],
            "call" => vec![command("Call", false)],
            "watch" => vec![command("Watch", true)],
            "asked" => vec![command("Watch", false)],
            "cancelled" => vec![json!({"cancelled": {"entity": key, "id": term.within[0].word}})],
            other => panic!("{other:?} is nothing that a function is told"),
        }
    }

    /// What an action is told; nothing, where its call alone says it.
    pub fn told_action(&self, service: &str, key: &str, term: &Term) -> Option<Value> {
        let named = |name: &str| json!({"service": format!("tck.{service}"), "name": name});
        let with = |mut command: Value| {
            command["payload"] = self.any("Request", json!({"id": key, "text": text(&term.within)}));
            command
        };
        // Which stream a message is of, each says, or the first one alone.
        let is_early = self.speaks == Speaks::Early;
        match term.word.as_str() {
            "call" => Some(with(named("Call"))),
            "unary" => Some(with(named("Unary"))),
            "out" => Some(with(named("Out"))),
            "in" | "both" if is_early => None,
            "in" => Some(named("In")),
            "both" => Some(named("Both")),
            "in-message" if is_early => Some(with(named("In"))),
            "both-message" if is_early => Some(with(named("Both"))),
            "in-message" | "both-message" => Some(with(json!({}))),
            other => panic!("{other:?} is nothing that an action is told"),
        }
    }

    /// An entity whole; of a map in the first version, that there is one, and then what is in it.
    fn whole(&self, terms: &[Term]) -> (Value, Option<Value>) {
        let change = self.changes.read(terms);
        if self.speaks != Speaks::Early || terms[0].word != "map" {
            return (change, None);
        }
        let rest = (terms.len() > 1).then(|| json!({"delta": children_in_parts(change)}));
        (json!({"map": {}}), rest)
    }
}

/// The first version's only SDK fails at a child of a map that is told whole: it is told empty, and then what is in it.
fn children_in_parts(mut change: Value) -> Value {
    let Some(map) = change.get_mut("map").and_then(Value::as_object_mut) else {
        return change;
    };
    let mut updated = Vec::new();
    let added = map.get_mut("added").and_then(Value::as_array_mut);
    for entry in added.into_iter().flatten() {
        let whole = entry["delta"].as_object().unwrap();
        let (ty, is_empty) = whole
            .iter()
            .next()
            .map(|(ty, value)| (ty.clone(), *value == json!({})))
            .unwrap();
        if !["gset", "set", "map"].contains(&ty.as_str()) {
            continue;
        }
        let empty = json!({"key": entry["key"], "delta": {&ty: {}}});
        let whole = std::mem::replace(entry, empty);
        if ty != "map" || !is_empty {
            let delta = children_in_parts(whole["delta"].clone());
            updated.push(json!({"key": whole["key"], "delta": delta}));
        }
    }
    updated.extend(
        map.remove("updated")
            .and_then(|value| value.as_array().cloned())
            .unwrap_or_default(),
    );
    map.insert("updated".to_owned(), updated.into());
    change
}

/// Nothing is in a message, nor in those in it, that its descriptor does not have.
fn assert_known(message: &DynamicMessage) {
    let unknown = message.unknown_fields().count();
    assert_eq!(
        unknown,
        0,
        "fields that are none of {}'s",
        message.descriptor().full_name()
    );
    for (_, value) in message.fields() {
        let within = value.as_message().into_iter();
        let listed = value
            .as_list()
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_message());
        within.chain(listed).for_each(assert_known);
    }
}

fn compile(dir: &Path, file: &str) -> (DescriptorPool, Vec<u8>) {
    let mut compiler = protox::Compiler::new([dir]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler
        .open_file(file)
        .unwrap_or_else(|e| panic!("{file}: {e:?}"));
    let set = compiler.encode_file_descriptor_set();
    (DescriptorPool::decode(set.as_slice()).unwrap(), set)
}
