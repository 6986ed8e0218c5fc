//! The routes of services: read from the options of their methods, and found by method and path of a request.
//!
//! The option (`google.api.http`) is read from its bytes, so that it works whether or not the function's descriptors define it.
//!
//! Contract: of all routes that match a request, the one whose template says most of the path is taken ([`Template::precedence`]), one
//! for its HTTP method before one for every method, and the earlier in order of services and methods before the later; two that match
//! exactly the same are a problem, and the earlier stays.

use std::sync::Arc;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use http::{Method, StatusCode};
use prost::{Message, Oneof};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};

use super::example::{self, example, text};
use super::json::ANY;
use super::request::is_leaf;
use super::template::{Path, Template};
use crate::percent::{Undecodable, encode};
use crate::sidecar::key::KeyFields;
use crate::sidecar::problem::{Problem, Severity};
use crate::sidecar::scan::{Raw, fields};

/// `google.api.http` within `google.protobuf.MethodOptions`.
const HTTP_OPTION: u32 = 72_295_728;
/// `options` within a method's descriptor, for places in a file.
const METHOD_OPTIONS: i32 = 4;
/// Routes of one method.
const BINDINGS_MAX: usize = 50;
/// For a body: all of the input message.
const WHOLE: &str = "*";
/// For the kind of a custom pattern: every HTTP method. Another kind is the method of that name.
const EVERY: &str = "*";

/// `google.api.HttpRule`.
#[derive(Clone, PartialEq, Message)]
struct HttpRule {
    #[prost(oneof = "Pattern", tags = "2, 3, 4, 5, 6, 8")]
    pattern: Option<Pattern>,
    #[prost(string, tag = "7")]
    body: String,
    #[prost(string, tag = "12")]
    response_body: String,
    #[prost(message, repeated, tag = "11")]
    additional_bindings: Vec<HttpRule>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Pattern {
    #[prost(string, tag = "2")]
    Get(String),
    #[prost(string, tag = "3")]
    Put(String),
    #[prost(string, tag = "4")]
    Post(String),
    #[prost(string, tag = "5")]
    Delete(String),
    #[prost(string, tag = "6")]
    Patch(String),
    #[prost(message, tag = "8")]
    Custom(Custom),
}

/// `google.api.CustomHttpPattern`.
#[derive(Clone, PartialEq, Message)]
struct Custom {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    path: String,
}

/// Every route of some services.
#[derive(Debug, Default)]
pub struct Rules {
    /// In the order in which they are tried.
    rules: Vec<Arc<Rule>>,
}

/// A route.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) method: MethodDescriptor,
    /// None is every HTTP method.
    verb: Option<Method>,
    template: Template,
    /// The fields that the template's variables are, in their order: each as the fields that it is within, and itself.
    pub(super) variables: Vec<Vec<FieldDescriptor>>,
    pub(super) body: Body,
    /// The field of the output that is the response; all of it where there is none.
    pub(super) response_body: Option<FieldDescriptor>,
}

/// What of the input message is the body of a request.
#[derive(Debug)]
pub(super) enum Body {
    Nothing,
    Whole,
    Field(FieldDescriptor),
}

/// The route of a request.
#[derive(Debug)]
pub struct Match {
    pub(super) rule: Arc<Rule>,
    /// What the variables are in the path.
    pub(super) values: Vec<String>,
}

/// Why a request has no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// There is nothing under this path.
    #[error("there is nothing at this path")]
    NoRoute,
    /// There is, but for other HTTP methods: for these.
    #[error("this path does not take this HTTP method, but {}", names(.0))]
    NoMethod(Vec<Method>),
    /// It is no path.
    #[error("the path cannot be read: {0}")]
    Path(#[from] Undecodable),
}

impl Missing {
    /// The status of an answer that says so.
    pub fn status(&self) -> StatusCode {
        match self {
            Missing::NoRoute => StatusCode::NOT_FOUND,
            Missing::NoMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Missing::Path(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// What goes into the header `Allow` of the answer.
    pub fn allow(&self) -> Option<String> {
        match self {
            Missing::NoMethod(allowed) => Some(names(allowed)),
            _ => None,
        }
    }
}

fn names(methods: &[Method]) -> String {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    names.join(", ")
}

/// A route, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method; `*` is every one.
    pub verb: String,
    /// The template of its path.
    pub template: String,
    /// The full name of the gRPC method: `package.Service/Method`.
    pub rpc: String,
    /// Whether it gives a stream.
    pub is_streamed: bool,
    /// Whether it gives a message of any type, which may be one that JSON cannot show.
    pub is_any: bool,
    /// Whether it takes a body.
    pub has_body: bool,
    /// A path to try it with, and a query where an entity's key is in none of path and body.
    pub path: String,
    /// A body to try it with.
    pub example: Option<String>,
}

impl Rules {
    /// The routes of these services, and what is wrong with the options of their methods: such routes are left out.
    pub fn new(services: impl IntoIterator<Item = ServiceDescriptor>) -> (Rules, Vec<Problem>) {
        let (mut rules, mut problems) = (Vec::new(), Vec::new());
        for service in services {
            for method in service.methods() {
                let found = bindings(&method).unwrap_or_else(|problem| vec![Err(problem)]);
                for rule in found {
                    match rule {
                        Ok(rule) => rules.push(rule),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
        }
        let rules = without_conflicts(rules, &mut problems);
        let rules = rules.into_iter().map(Arc::new).collect();
        (Rules { rules }, problems)
    }

    /// The route of a request to this path, which comes without its query.
    pub fn find(&self, verb: &Method, path: &str) -> Result<Match, Missing> {
        let path = Path::new(path)?;
        let mut others = Vec::new();
        // What may be got may be asked for its head.
        let mut get = None;
        for rule in &self.rules {
            let Some(values) = rule.template.values(&path) else {
                continue;
            };
            match &rule.verb {
                Some(other) if other != verb => {
                    others.push(other.clone());
                    if other == Method::GET {
                        others.push(Method::HEAD);
                        let rule = Arc::clone(rule);
                        get.get_or_insert(Match { rule, values });
                    }
                }
                _ => {
                    let rule = Arc::clone(rule);
                    return Ok(Match { rule, values });
                }
            }
        }
        if others.is_empty() {
            return Err(Missing::NoRoute);
        }
        if let (Some(get), &Method::HEAD) = (get, verb) {
            return Ok(get);
        }
        others.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        others.dedup();
        Err(Missing::NoMethod(others))
    }

    /// Every route that is served, by the name of its method.
    pub fn routes(&self) -> Vec<Route> {
        let served = self
            .rules
            .iter()
            .filter(|rule| !rule.method.is_client_streaming());
        let mut routes: Vec<Route> = served.map(|rule| rule.route()).collect();
        routes.sort_by(|a, b| (&a.rpc, &a.template, &a.verb).cmp(&(&b.rpc, &b.template, &b.verb)));
        routes
    }
}

impl Match {
    /// The gRPC method that it is for.
    pub fn method(&self) -> &MethodDescriptor {
        &self.rule.method
    }
}

impl Rule {
    fn route(&self) -> Route {
        let input = self.method.input();
        // Of what a path has a part of, it has all here.
        let in_path: Vec<FieldDescriptor> = self
            .variables
            .iter()
            .filter_map(|path| path.first().cloned())
            .collect();
        let keys = self.keys_beside(&in_path);
        let example = match &self.body {
            Body::Nothing => None,
            Body::Whole => Some(example(&input, &in_path, &keys).to_string()),
            Body::Field(field) => Some(example::of_field(field).to_string()),
        };
        let in_query = keys.iter().filter(|field| match &self.body {
            Body::Nothing => true,
            Body::Whole => false,
            Body::Field(body) => body != *field,
        });
        let in_query: Vec<String> = in_query
            .map(|field| format!("{}={}", field.name(), encode(&text(field))))
            .collect();
        let path = self.template.filled(|at| {
            let field = self.variables.get(at).and_then(|path| path.last());
            field.map(text).unwrap_or_default()
        });
        Route {
            verb: self.verb_name().to_owned(),
            template: self.template.to_string(),
            rpc: rpc(&self.method),
            is_any: self.method.output().full_name() == ANY,
            is_streamed: self.method.is_server_streaming(),
            path: match in_query.is_empty() {
                true => path,
                false => format!("{path}?{}", in_query.join("&")),
            },
            has_body: example.is_some(),
            example,
        }
    }

    /// The fields of an entity's key that are none of these.
    fn keys_beside(&self, others: &[FieldDescriptor]) -> Vec<FieldDescriptor> {
        let input = self.method.input();
        let Ok(keys) = KeyFields::of(&input) else {
            return Vec::new();
        };
        let keys = keys.names().filter_map(|name| input.get_field_by_name(name));
        keys.filter(|key| !others.contains(key)).collect()
    }

    fn verb_name(&self) -> &str {
        self.verb.as_ref().map_or(EVERY, Method::as_str)
    }
}

fn rpc(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// Something wrong with the option of a method.
fn problem(method: &MethodDescriptor, why: &str) -> Problem {
    let text = format!("the google.api.http option of {} {why}", rpc(method));
    let option = [method.path(), &[METHOD_OPTIONS, HTTP_OPTION as i32]].concat();
    let places: [&[i32]; 2] = [&option, method.path()];
    Problem::error(text, &method.parent_file(), &places)
}

fn bindings(method: &MethodDescriptor) -> Result<Vec<Result<Rule, Problem>>, Problem> {
    let by_name = || HttpRule {
        pattern: Some(Pattern::Post(format!("/{}", rpc(method)))),
        body: WHOLE.to_owned(),
        ..HttpRule::default()
    };
    let Some(http) = option(method)? else {
        return Ok(vec![rule(method, &by_name())]);
    };
    if method.is_client_streaming() {
        // By its name it is found and refused.
        let why = "has no effect: the method takes a stream, which comes over gRPC only";
        let problem = Problem {
            severity: Severity::Warning,
            ..problem(method, why)
        };
        return Ok(vec![rule(method, &by_name()), Err(problem)]);
    }
    if http.additional_bindings.len() >= BINDINGS_MAX {
        return Err(problem(method, &format!("has more than {BINDINGS_MAX} bindings")));
    }
    let mut rules = vec![rule(method, &http)];
    for http in &http.additional_bindings {
        rules.push(if http.additional_bindings.is_empty() {
            rule(method, http)
        } else {
            let why = "has additional_bindings within additional_bindings: put them beside one another";
            Err(problem(method, why))
        });
    }
    Ok(rules)
}

/// The option, if the method has it.
fn option(method: &MethodDescriptor) -> Result<Option<HttpRule>, Problem> {
    let options = method.options().encode_to_vec();
    let parts = fields(&options).flatten().filter_map(|field| match field {
        (HTTP_OPTION, Raw::Bytes(bytes)) => Some(bytes),
        _ => None,
    });
    // A message in several parts is the message of all their bytes.
    let parts: Vec<&[u8]> = parts.collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let decoded = HttpRule::decode(&parts.concat()[..]);
    let decoded = decoded.map_err(|e| problem(method, &format!("is no google.api.HttpRule: {e}")))?;
    Ok(Some(decoded))
}

fn rule(method: &MethodDescriptor, http: &HttpRule) -> Result<Rule, Problem> {
    let fail = |why: String| problem(method, &why);
    let (verb, path) = match &http.pattern {
        Some(Pattern::Get(path)) => (Some(Method::GET), path),
        Some(Pattern::Put(path)) => (Some(Method::PUT), path),
        Some(Pattern::Post(path)) => (Some(Method::POST), path),
        Some(Pattern::Delete(path)) => (Some(Method::DELETE), path),
        Some(Pattern::Patch(path)) => (Some(Method::PATCH), path),
        Some(Pattern::Custom(custom)) if custom.kind == EVERY => (None, &custom.path),
        Some(Pattern::Custom(custom)) => match Method::from_bytes(custom.kind.as_bytes()) {
            Ok(verb) => (Some(verb), &custom.path),
            Err(_) => {
                let why = "a custom pattern's kind is an HTTP method, or \"*\", which is every one";
                return Err(fail(format!("has the kind {:?}: {why}", custom.kind)));
            }
        },
        None => {
            return Err(fail(
                "has no pattern: give it one of get, put, post, delete and patch".into(),
            ));
        }
    };
    let template = Template::new(path).map_err(|e| fail(format!("has no path: {e}")))?;
    let input = method.input();
    let variables = template
        .variables()
        .iter()
        .map(|variable| fields_of_path(&input, &variable.name));
    let variables = variables.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    let body = match http.body.as_str() {
        "" => Body::Nothing,
        WHOLE => Body::Whole,
        name => {
            let field = field(&input, name, "body").map_err(fail)?;
            if variables.iter().any(|path| path[..] == [field.clone()]) {
                return Err(fail(format!(
                    "has the field {name} both in its path and as its body"
                )));
            }
            Body::Field(field)
        }
    };
    let response_body = match http.response_body.as_str() {
        "" => None,
        name => Some(field(&method.output(), name, "response_body").map_err(fail)?),
    };
    Ok(Rule {
        method: method.clone(),
        verb,
        template,
        variables,
        body,
        response_body,
    })
}

fn field(of: &MessageDescriptor, name: &str, what: &str) -> Result<FieldDescriptor, String> {
    of.get_field_by_name(name)
        .ok_or_else(|| format!("has the {what} {name:?}, which is no field of {}", of.full_name()))
}

/// A field that a variable may stand for, and before it those that it is within.
fn fields_of_path(input: &MessageDescriptor, name: &str) -> Result<Vec<FieldDescriptor>, String> {
    let (mut of, mut path) = (input.clone(), Vec::new());
    let mut parts = name.split('.').peekable();
    while let Some(part) = parts.next() {
        let field = field(&of, part, "variable")?;
        let is_within = parts.peek().is_some();
        let why = match field.kind() {
            _ if field.is_map() => "a map",
            _ if field.is_list() => "repeated",
            Kind::Message(inner) if is_within && !is_leaf(&inner) => {
                of = inner;
                path.push(field);
                continue;
            }
            Kind::Message(_) => "a message",
            _ if is_within => "no message",
            _ => "",
        };
        if !why.is_empty() {
            return Err(format!(
                "has the variable {name}, of which {part} is {why}: take it from the query or the body"
            ));
        }
        path.push(field);
    }
    Ok(path)
}

/// The routes in the order in which they are tried, of which no two match exactly the same.
fn without_conflicts(rules: Vec<Rule>, problems: &mut Vec<Problem>) -> Vec<Rule> {
    let mut taken = BTreeMap::new();
    let mut kept: Vec<Rule> = Vec::new();
    for rule in rules {
        match taken.entry((rule.template.shape(), rule.verb_name().to_owned())) {
            Entry::Vacant(free) => {
                free.insert((rpc(&rule.method), rule.template.to_string()));
                kept.push(rule);
            }
            Entry::Occupied(earlier) => {
                let (rpc, template) = earlier.get();
                let verb = rule.verb_name();
                let why = format!(
                    "has the route {verb} {}, which is the same as {verb} {template} of {rpc}: change one of them",
                    rule.template
                );
                problems.push(problem(&rule.method, &why));
            }
        }
    }
    // Stable: those that nothing tells apart stay in their order.
    kept.sort_by(|a, b| {
        let every = a.verb.is_none().cmp(&b.verb.is_none());
        a.template.precedence(&b.template).then(every)
    });
    kept
}
