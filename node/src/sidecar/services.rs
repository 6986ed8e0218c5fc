//! What a function serves: its services as its descriptors have them, checked before anything of it is used.
//!
//! Contract: what is here can be served. Everything that whoever wrote the function has to mend is said at once, with the place.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::Type;
use prost::Message as _;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor, ServiceDescriptor};

use super::dialect::{Dialect, level};
use super::key::{KeyFields, has_generated_key};
use super::options::{declared, is_fed, unconnected, unguarded};
use super::pool::pool;
use super::problem::{Class, Problem, Severity};
use super::proto::discovery::{ACTIONS, Component, ComponentSettings, ENTITIES, EntitySettings, Spec};
use super::reflection::{HEALTH, SERVICES};
use super::transcode::Rules;
use crate::engine::Level;
use crate::error::{Error, ErrorKind};
use crate::trigger::OWN_KINDS;
use crate::wire::{EntityId, KIND_BYTES_MAX};

/// The one key of what has no entities.
const NO_KEY: &str = "-";
/// Before the name of a message in a URL of its type.
pub const TYPE_URL: &str = "type.googleapis.com/";

/// The SDK (npm's) that says nothing to a cancellation that nobody handles; it does everything in order.
const SILENT_LIBRARY: &str = "cloudstate";

/// All services of a function.
#[derive(Debug)]
pub struct Services {
    /// What their function speaks.
    pub dialect: Dialect,
    /// Whether it may say nothing when the caller of a stream has gone.
    pub is_silent_when_cancelled: bool,
    /// Another where their function says something else of itself, such as after it was mended.
    pub edition: u64,
    /// Their descriptors.
    pub pool: DescriptorPool,
    /// Their routes over HTTP.
    pub rules: Rules,
    by_name: BTreeMap<String, Arc<Service>>,
}

/// One of its services.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its full name.
    pub name: String,
    /// Its descriptor.
    pub descriptor: ServiceDescriptor,
    /// The kind of its entities; its own name where it has none.
    pub kind: String,
    /// The type of its entities, if its descriptors say.
    pub ty: Option<Type>,
    /// Whether it has no entities.
    pub is_action: bool,
    /// The headers it wants to hear of, in lower case; all, if it does not say.
    pub headers: Option<Vec<String>>,
    /// After how long without a command it is passivated, if it says.
    pub passivation: Option<Duration>,
    /// Its write level.
    pub level: Level,
    /// Its methods, by name.
    pub methods: BTreeMap<String, Method>,
}

/// A method of a service.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its descriptor.
    pub descriptor: MethodDescriptor,
    key: Key,
    /// The URL of what it takes.
    pub input_url: String,
}

/// Where the key of a command comes from.
#[derive(Clone, Debug)]
enum Key {
    /// There are no entities.
    None,
    Fields(KeyFields),
    /// It is made up.
    Generated,
}

impl Services {
    /// Those of a spec, and what may not be meant; or what is wrong with it.
    pub fn of(dialect: Dialect, spec: &Spec) -> Result<(Services, Vec<Problem>), Vec<Problem>> {
        if spec.components.is_empty() {
            return Err(vec![Problem::nowhere(
                "the function serves nothing: add a component to it",
            )]);
        }
        let pool = pool(&spec.proto).map_err(|error| vec![error.into()])?;
        let mut problems = Vec::new();
        let library = spec
            .service_info
            .as_ref()
            .map(|info| info.support_library_name.as_str());
        let mut services = Services {
            dialect,
            is_silent_when_cancelled: library == Some(SILENT_LIBRARY),
            edition: edition(spec),
            by_name: BTreeMap::new(),
            rules: Rules::default(),
            pool,
        };
        for component in &spec.components {
            match Service::of(dialect, &services.pool, component, &mut problems) {
                Ok(service) => services.add(service, &mut problems),
                Err(problem) => problems.push(problem),
            }
        }
        let descriptors = services.iter().map(|service| service.descriptor.clone());
        let (rules, wrong) = Rules::new(descriptors.collect::<Vec<_>>());
        services.rules = rules;
        problems.extend(wrong);
        match problems.iter().any(|problem| problem.severity == Severity::Error) {
            true => Err(problems),
            false => Ok((services, problems)),
        }
    }

    fn add(&mut self, service: Service, problems: &mut Vec<Problem>) {
        if let Some(other) = self.by_name.get(&service.name) {
            let (name, other, kind) = (&service.name, &other.kind, &service.kind);
            let text = format!(
                "{name} is the service of two components, {other:?} and {kind:?}: give each a service of its own"
            );
            return problems.push(wrong_service(&service.descriptor, text));
        }
        let same = self.by_name.values().find(|other| other.kind == service.kind);
        if let Some(other) = same {
            let text = format!(
                "{} and {} are both components of {:?}: give each an entity type of its own",
                other.name, service.name, service.kind
            );
            return problems.push(wrong_service(&service.descriptor, text));
        }
        self.by_name.insert(service.name.clone(), Arc::new(service));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_name.values()
    }

    /// The one of this name, and its method.
    ///
    /// # Errors
    /// [`ErrorKind::NoFunction`]: there is none.
    pub fn find(&self, service: &str, name: &str) -> Result<(&Arc<Service>, &Method), Error> {
        let none = |what: String| Error::new(ErrorKind::NoFunction, format!("nothing changed: {what}"));
        let found = self.by_name.get(service);
        let found = found.ok_or_else(|| none(format!("there is no service {service:?}")))?;
        let method = found.methods.get(name);
        let method = method.ok_or_else(|| none(format!("{service} has no method {name:?}")))?;
        Ok((found, method))
    }
}

/// What tells a function from one that was there before it, as far as it says; but for what its process is started with.
fn edition(spec: &Spec) -> u64 {
    let mut spec = spec.clone();
    if let Some(info) = &mut spec.service_info {
        info.env.clear();
    }
    let mut hasher = DefaultHasher::new();
    spec.encode_to_vec().hash(&mut hasher);
    hasher.finish()
}

impl Service {
    fn of(
        dialect: Dialect,
        pool: &DescriptorPool,
        component: &Component,
        problems: &mut Vec<Problem>,
    ) -> Result<Service, Problem> {
        let name = &component.service_name;
        let Some(descriptor) = pool.get_service_by_name(name) else {
            return Err(Problem::nowhere(format!(
                "the function has a component for service {name:?}, which its descriptor set does not have: make \
                 user-function.desc anew from all its .proto files"
            )));
        };
        check_name(&descriptor)?;
        let is_action = match component.component_type.as_str() {
            ACTIONS => true,
            ENTITIES => false,
            other => {
                let text = format!(
                    "{name} is a component of type {other}, which Anabranch does not serve: it serves replicated entities \
                     and actions. {}, or run it elsewhere",
                    instead_of(other)
                );
                return Err(wrong_service(&descriptor, text));
            }
        };
        let none = EntitySettings::default();
        let (entity, mut headers) = match &component.settings {
            Some(ComponentSettings::Entity(entity)) => (entity, entity.forward_headers.clone()),
            Some(ComponentSettings::Component(component)) => (&none, component.forward_headers.clone()),
            None => (&none, Vec::new()),
        };
        headers
            .iter_mut()
            .for_each(|header| header.make_ascii_lowercase());
        // Only Kalix's functions say; the first ones did not know of any.
        let headers = Some(headers).filter(|_| dialect != Dialect::Cloudstate);
        let kind = if is_action { name } else { &entity.entity_type };
        let is_kind = (1..=KIND_BYTES_MAX).contains(&kind.len()) && !kind.starts_with(OWN_KINDS);
        if !is_kind {
            let called = dialect.kind();
            let text = format!(
                "{name} has {called} of {kind:?}: it must have 1 to {KIND_BYTES_MAX} bytes and not begin with {OWN_KINDS:?}"
            );
            return Err(wrong_service(&descriptor, text));
        }
        problems.extend(unguarded(&descriptor));
        problems.extend(unconnected(&descriptor));
        let consistency = entity.replicated_entity.as_ref();
        let consistency = consistency.map_or(0, |settings| settings.write_consistency);
        let level = level(consistency).map_err(|why| wrong_service(&descriptor, format!("{name}: {why}")))?;
        let passivation = entity.passivation_strategy.as_ref();
        let passivation = passivation.and_then(|strategy| strategy.timeout.as_ref());
        let passivation = passivation.and_then(|timeout| u64::try_from(timeout.timeout).ok());
        Ok(Service {
            methods: methods(dialect, &descriptor, is_action, problems)?,
            name: name.clone(),
            ty: declared(&descriptor, kind),
            kind: kind.clone(),
            is_action,
            headers,
            passivation: passivation.filter(|ms| *ms > 0).map(Duration::from_millis),
            level,
            descriptor,
        })
    }

    /// The entity that a message is for.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: its key is missing, or is none.
    pub fn entity(&self, method: &Method, message: &[u8]) -> Result<EntityId, Error> {
        let invalid = |why: String| Error::new(ErrorKind::Invalid, format!("nothing changed: {why}"));
        let key = match &method.key {
            Key::None => NO_KEY.to_owned(),
            Key::Generated => uuid(),
            Key::Fields(fields) => fields.key(message).map_err(|e| invalid(e.to_string()))?,
        };
        EntityId::new(&self.kind, &key).map_err(|e| invalid(e.to_string()))
    }

    /// What is wrong where this node has entities of its kind, of these types: none of them is the one that its options say.
    pub fn unlike(&self, stored: &[Type]) -> Option<Problem> {
        let says = self.ty.filter(|ty| !stored.contains(ty))?;
        let is = stored.first()?;
        let text = format!(
            "{} has entities of type {says} by its options, and what is stored of kind {:?} has the type {is}: every command of it is refused. Give \
             it an entity type of its own, or the type that it had",
            self.name, self.kind
        );
        let problem = Problem::warning(text, &self.descriptor.parent_file(), &[self.descriptor.path()]);
        Some(problem.of(Class::Stored))
    }

    /// Whether its functions want to hear of any header.
    pub fn hears_any(&self) -> bool {
        self.headers.as_ref().is_none_or(|headers| !headers.is_empty())
    }

    /// Whether its functions want to hear of a header.
    pub fn hears(&self, header: &str) -> bool {
        let headers = self.headers.as_ref();
        headers.is_none_or(|headers| headers.iter().any(|name| header.eq_ignore_ascii_case(name)))
    }
}

impl Method {
    /// Whether it takes or gives more than one message.
    pub fn is_streamed(&self) -> bool {
        self.descriptor.is_client_streaming() || self.descriptor.is_server_streaming()
    }

    /// What it takes.
    pub fn input(&self) -> MessageDescriptor {
        self.descriptor.input()
    }

    /// Whether it is meant for what is never delivered to it, and for no caller.
    pub fn is_fed(&self) -> bool {
        is_fed(&self.descriptor)
    }

    /// What it gives.
    pub fn output(&self) -> MessageDescriptor {
        self.descriptor.output()
    }
}

fn methods(
    dialect: Dialect,
    service: &ServiceDescriptor,
    is_action: bool,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<String, Method>, Problem> {
    let mut methods = BTreeMap::new();
    for descriptor in service.methods() {
        let name = descriptor.full_name().to_owned();
        let key = if is_action {
            Key::None
        } else if descriptor.is_client_streaming() {
            let text = format!(
                "{name} takes a stream, which no entity does: make it unary, or the method of an action"
            );
            problems.push(wrong_method(&descriptor, text));
            continue;
        } else {
            match key(dialect, &descriptor, problems) {
                Some(key) => key,
                None => continue,
            }
        };
        let method = Method {
            key,
            input_url: format!("{TYPE_URL}{}", descriptor.input().full_name()),
            descriptor,
        };
        methods.insert(method.descriptor.name().to_owned(), method);
    }
    Ok(methods)
}

/// Where the key of an entity's command comes from; nothing where what is wrong with it was noted.
fn key(dialect: Dialect, descriptor: &MethodDescriptor, problems: &mut Vec<Problem>) -> Option<Key> {
    let name = descriptor.full_name();
    let input = descriptor.input();
    let fields = KeyFields::of(&input).map_err(|problem| note(problems, problem, name));
    let fields = fields.ok()?;
    if has_generated_key(descriptor) {
        if fields.is_empty() {
            return Some(Key::Generated);
        }
        let marked: Vec<&str> = fields.names().collect();
        let text = format!(
            "{name} has a key generator, and takes {}, whose entity key is {}: its key is made up, or said by its caller, and not both. \
             Take the generator away, or give it a message without an entity key",
            input.full_name(),
            marked.join(", ")
        );
        problems.push(wrong_method(descriptor, text));
        return None;
    }
    if fields.is_empty() {
        let option = match dialect {
            Dialect::Kalix => "(kalix.field).entity_key",
            Dialect::Cloudstate | Dialect::Early => "(cloudstate.entity_key)",
        };
        let text = format!(
            "{name}: no field of {} is the entity's key: mark one with [{option} = true]",
            input.full_name()
        );
        problems.push(wrong_method(descriptor, text));
        return None;
    }
    if let Some(warning) = fields.warning() {
        note(problems, warning.clone(), name);
    }
    Some(Key::Fields(fields))
}

/// Notes what is wrong with what a method takes: once, with all the methods that take it.
fn note(problems: &mut Vec<Problem>, problem: Problem, method: &str) {
    let text = format!("{} (taken by ", problem.message);
    let same = |noted: &&mut Problem| noted.location == problem.location && noted.message.starts_with(&text);
    match problems.iter_mut().find(same) {
        Some(noted) => {
            noted.message.pop();
            noted.message += &format!(", {method})");
        }
        None => problems.push(Problem {
            message: format!("{text}{method})"),
            ..problem
        }),
    }
}

/// That nobody else answers for a service: one of an ingress's own would be called in place of the function's.
fn check_name(service: &ServiceDescriptor) -> Result<(), Problem> {
    let name = service.full_name();
    if name != HEALTH && !SERVICES.contains(&name) {
        return Ok(());
    }
    let text = format!(
        "{name} is what every node's ingress answers itself, so that nobody could call the function's: leave the component out, or \
         give its service another name"
    );
    Err(wrong_service(service, text))
}

/// What can take the place of a component of a type that is not served.
fn instead_of(component_type: &str) -> &'static str {
    let is = |what: &str| component_type.to_ascii_lowercase().contains(what);
    if is("valueentit") || is("crud") {
        "Make it a replicated entity (a ReplicatedRegister holds one value, and each write replaces it; a map of registers keeps \
         fields apart)"
    } else if is("eventsourced") {
        "Make it a replicated entity, whose counters, sets and maps keep what the events add up to, though not the events"
    } else if is("view") {
        "Keep what it would show in a replicated entity (a map, by what it is looked up by) that those it shows are written along with"
    } else if is("workflow") {
        "Make it an action that calls its steps one after the other, and keep how far it is in a replicated entity"
    } else {
        "Leave it out"
    }
}

/// A key that nobody else makes up.
fn uuid() -> String {
    let random: u128 = rand::random();
    // Version 4, variant 1 (RFC 9562).
    let bits = (random & !(0xf000 << 64) & !(0b11 << 62)) | (0x4000 << 64) | (0b10 << 62);
    let text = format!("{bits:032x}");
    let parts = [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ];
    parts.join("-")
}

fn wrong_service(service: &ServiceDescriptor, text: String) -> Problem {
    Problem::error(text, &service.parent_file(), &[service.path()])
}

fn wrong_method(method: &MethodDescriptor, text: String) -> Problem {
    Problem::error(text, &method.parent_service().parent_file(), &[method.path()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::protos;

    const HEAD: &str = "syntax = \"proto3\";\nimport \"kalix/annotations.proto\";\n";
    const BODY: &str = "message Id { string id = 1 [(kalix.field).entity_key = true]; }\nservice S { rpc Get(Id) returns (Id); }";

    fn found(options: &str, kinds: &[&str]) -> Result<Vec<String>, Vec<String>> {
        found_in(&format!("{HEAD}{options}{BODY}"), kinds)
    }

    fn found_in(text: &str, kinds: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let component = |kind: &&str| Component {
            component_type: ENTITIES.to_owned(),
            service_name: "S".to_owned(),
            settings: Some(ComponentSettings::Entity(EntitySettings {
                entity_type: (*kind).to_owned(),
                ..EntitySettings::default()
            })),
        };
        let spec = Spec {
            proto: protos::set(&[("test.proto", text)]).into(),
            components: kinds.iter().map(component).collect(),
            ..Spec::default()
        };
        let texts = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect();
        match Services::of(Dialect::Kalix, &spec) {
            Ok((_, problems)) => Ok(texts(problems)),
            Err(problems) => Err(texts(problems)),
        }
    }

    #[test]
    fn a_service_that_every_ingress_has_itself_was_served_and_nobody_could_call_it() {
        for name in [HEALTH, SERVICES[0], SERVICES[1]] {
            let (package, service) = name.rsplit_once('.').unwrap();
            let text = format!(
                "syntax = \"proto3\"; package {package}; message M {{}} service {service} {{ rpc Do(M) returns (M); }}"
            );
            let spec = Spec {
                proto: protos::set(&[("own.proto", text.as_str())]).into(),
                components: vec![Component {
                    component_type: ACTIONS.to_owned(),
                    service_name: name.to_owned(),
                    settings: None,
                }],
                ..Spec::default()
            };
            let problems = Services::of(Dialect::Kalix, &spec).unwrap_err();
            let text = problems[0].to_string();
            assert!(
                text.starts_with("own.proto") && text.contains("every node's ingress"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_service_is_of_one_component() {
        assert_eq!(found("", &["one"]), Ok(Vec::new()));
        for kinds in [["one", "two"], ["one", "one"]] {
            let problems = found("", &kinds).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with("test.proto:4"), "{problems:?}");
            assert!(
                problems[0].contains("S is the service of two components"),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn a_key_is_made_up_or_said_and_not_both() {
        let generated = |takes: &str| {
            let service = format!(
                "message None {{ string id = 1; }} message Id {{ string id = 1 [(kalix.field).entity_key = true]; }}\n\
                 service S {{ rpc Make({takes}) returns (Id) {{ option (kalix.method).entity.key_generator = 1; }} }}"
            );
            found_in(&format!("{HEAD}{service}"), &["one"])
        };
        assert_eq!(generated("None"), Ok(Vec::new()));
        let problems = generated("Id").unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("test.proto:4"), "{problems:?}");
        assert!(
            problems[0].contains("S.Make has a key generator, and takes Id, whose entity key is id"),
            "{problems:?}"
        );
    }

    #[test]
    fn who_brings_what_is_not_served_hears_what_to_do() {
        for (ty, hint) in [
            (
                "kalix.component.valueentity.ValueEntities",
                "(a ReplicatedRegister holds",
            ),
            (
                "kalix.component.eventsourcedentity.EventSourcedEntities",
                "add up to",
            ),
            ("cloudstate.eventsourced.EventSourced", "add up to"),
            ("kalix.component.view.Views", "Keep what it would show"),
            ("kalix.component.workflow.WorkflowEntities", "Make it an action"),
            ("elsewhere.Unheard", "Leave it out, or run it elsewhere"),
        ] {
            let component = Component {
                component_type: ty.to_owned(),
                service_name: "S".to_owned(),
                settings: None,
            };
            let spec = Spec {
                proto: protos::set(&[("test.proto", &format!("{HEAD}{BODY}"))]).into(),
                components: vec![component],
                ..Spec::default()
            };
            let problems = Services::of(Dialect::Kalix, &spec).unwrap_err();
            let text = problems[0].to_string();
            assert!(text.contains(ty) && text.contains(hint), "{text}");
            assert!(text.ends_with("or run it elsewhere"), "{text}");
        }
    }

    #[test]
    fn what_is_stored_as_another_type_is_told() {
        let component = Component {
            component_type: ENTITIES.to_owned(),
            service_name: "S".to_owned(),
            settings: Some(ComponentSettings::Entity(EntitySettings {
                entity_type: "carts".to_owned(),
                ..EntitySettings::default()
            })),
        };
        let pool = protos::pool(&format!("{HEAD}{BODY}"));
        let service = Service::of(Dialect::Kalix, &pool, &component, &mut Vec::new()).unwrap();
        assert_eq!(service.unlike(&[Type::PnCounter]), None);
        let declared = Service {
            ty: Some(Type::OrSet),
            ..service
        };
        assert_eq!(declared.unlike(&[]), None);
        assert_eq!(declared.unlike(&[Type::OrSet, Type::PnCounter]), None);
        let problem = declared.unlike(&[Type::PnCounter]).unwrap();
        assert_eq!(
            (problem.severity, problem.class),
            (Severity::Warning, Class::Stored)
        );
        let text = problem.to_string();
        assert!(
            text.starts_with("test.proto:4") && text.contains("carts"),
            "{text}"
        );
        assert!(
            text.contains("orset by its options") && text.contains("has the type pncounter"),
            "{text}"
        );
    }

    #[test]
    fn who_says_who_may_call_is_told_that_everybody_may() {
        let options = [
            "option (kalix.file) = { acl: { deny: true } };\n",
            "option (kalix.file) = { acl: {} };\n",
            "service T { option (kalix.service) = { acl: { deny: true } }; }\n",
            "option (kalix.file) = { note: \"x\" };\n",
        ];
        let warned = options.map(|options| found(options, &["one"]).unwrap().len());
        // That of another service concerns that.
        assert_eq!(warned, [1, 1, 0, 0]);
    }
}
