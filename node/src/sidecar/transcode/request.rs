//! A request as the input message of its method: its body, then its query, then its path.
//!
//! Contract: the message is whole or there is none. A caller is told of everything that has no place in the message: unknown names,
//! values that are none, a body where none belongs, a field that is given twice.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::StatusCode;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};

use super::field;
use super::json;
use super::response::{HTTP_BODY, HttpBody};
use super::rules::{Body, Match};
use crate::percent::{Place, decode};
use crate::sidecar::media::{foreign_charset, no_charset};

/// Parameters of a query.
const PARAMETERS_MAX: usize = 1_000;

/// A request that is no input message: INVALID_ARGUMENT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Something in it is wrong.
    #[error("{0}")]
    Wrong(String),
    /// Its body is of a form that is not understood.
    #[error("{0}")]
    Media(String),
}

impl BadRequest {
    /// The status of an answer that says so.
    pub fn status(&self) -> StatusCode {
        match self {
            BadRequest::Wrong(_) => StatusCode::BAD_REQUEST,
            BadRequest::Media(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

fn bad<T>(why: impl Into<String>) -> Result<T, BadRequest> {
    Err(BadRequest::Wrong(why.into()))
}

impl Match {
    /// The input message of a request, encoded. The caller sees to it that the body is not too large.
    pub fn request(
        &self,
        query: Option<&str>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Bytes, BadRequest> {
        let mut message = self.body(content_type, body)?;
        self.query(&mut message, query.unwrap_or_default())?;
        for (path, text) in self.rule.variables.iter().zip(&self.values) {
            let fail = |e| BadRequest::Wrong(format!("{} in the path {e}", dotted(path)));
            put(&mut message, path, text).map_err(fail)?;
        }
        json::encoded(&message).map_err(BadRequest::Wrong)
    }

    fn body(&self, content_type: Option<&str>, body: &[u8]) -> Result<DynamicMessage, BadRequest> {
        let input = self.rule.method.input();
        let unread =
            |what: &str, e: String| BadRequest::Wrong(format!("the body is not the JSON of {what}: {e}"));
        match &self.rule.body {
            Body::Nothing if body.is_empty() => Ok(DynamicMessage::new(input)),
            Body::Nothing => bad("this request takes no body: what it says is in its path and query"),
            Body::Whole if input.full_name() == HTTP_BODY => raw(&input, content_type, body),
            Body::Whole if body.is_empty() => Ok(DynamicMessage::new(input)),
            Body::Whole => {
                check_json(content_type)?;
                json::parse(&input, body).map_err(|e| unread(input.full_name(), e))
            }
            Body::Field(field) => {
                let mut message = DynamicMessage::new(input);
                let what = |of: Kind| match of {
                    Kind::Message(of) if json::is_message(field) => of.full_name().to_owned(),
                    _ => format!("the field {}", field.name()),
                };
                let value = match field.kind() {
                    Kind::Message(of) if json::is_message(field) && of.full_name() == HTTP_BODY => {
                        Value::Message(raw(&of, content_type, body)?)
                    }
                    _ if body.is_empty() => return Ok(message),
                    kind => {
                        check_json(content_type)?;
                        match field::parse(field, body).map_err(|e| unread(&what(kind), e))? {
                            Some(value) => value,
                            None => return Ok(message),
                        }
                    }
                };
                message.set_field(field, value);
                Ok(message)
            }
        }
    }

    fn query(&self, message: &mut DynamicMessage, query: &str) -> Result<(), BadRequest> {
        let mut seen = BTreeSet::new();
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        for (at, parameter) in parameters.enumerate() {
            if at >= PARAMETERS_MAX {
                return bad(format!("the query has more than {PARAMETERS_MAX} parameters"));
            }
            let (name, text) = parameter.split_once('=').unwrap_or((parameter, ""));
            let read = |text: &str| {
                let read = decode(text, Place::Query);
                read.map_err(|e| BadRequest::Wrong(format!("the query cannot be read at {parameter:?}: {e}")))
            };
            let (name, text) = (read(name)?, read(text)?);
            if matches!(self.rule.body, Body::Whole) {
                return bad(format!(
                    "the query has {name:?}, but this request takes all from its body and path"
                ));
            }
            let fail = |why: String| BadRequest::Wrong(format!("{name:?} in the query {why}"));
            let path = fields_of(&message.descriptor(), &name).map_err(fail)?;
            self.check_free(&path).map_err(fail)?;
            let is_first = seen.insert(path.iter().map(FieldDescriptor::number).collect::<Vec<_>>());
            set(message, &path, &text, is_first).map_err(fail)?;
        }
        Ok(())
    }

    /// A field is in one place only.
    fn check_free(&self, path: &[FieldDescriptor]) -> Result<(), String> {
        if self.rule.variables.iter().any(|variable| variable == path) {
            return Err("is in the path already".into());
        }
        match &self.rule.body {
            Body::Field(body) if path.first() == Some(body) => Err("is the body of the request".into()),
            _ => Ok(()),
        }
    }
}

/// A field within fields, as it is named.
fn dotted(path: &[FieldDescriptor]) -> String {
    let names: Vec<&str> = path.iter().map(FieldDescriptor::name).collect();
    names.join(".")
}

/// Puts what the path says there, whatever was there before; but nothing that was given elsewhere is lost by it.
fn put(message: &mut DynamicMessage, path: &[FieldDescriptor], text: &str) -> Result<(), String> {
    if let Some(field) = path.first() {
        check_rivals(message, field)?;
    }
    match path {
        [] => Ok(()),
        [field] => {
            message.set_field(field, field::of_text(field, text)?);
            Ok(())
        }
        [field, rest @ ..] => match message.get_field_mut(field) {
            Value::Message(inner) => put(inner, rest, text),
            _ => Err("is unknown".into()),
        },
    }
}

/// The fields along a name with dots.
fn fields_of(message: &MessageDescriptor, name: &str) -> Result<Vec<FieldDescriptor>, String> {
    let (mut of, mut path) = (message.clone(), Vec::new());
    let mut parts = name.split('.').peekable();
    while let Some(part) = parts.next() {
        let field = of
            .get_field_by_name(part)
            .or_else(|| of.get_field_by_json_name(part));
        let Some(field) = field else {
            return Err(format!("is unknown: {} has no field {part:?}", of.full_name()));
        };
        if parts.peek().is_some() {
            of = match field.kind() {
                Kind::Message(inner) if json::is_message(&field) && !is_leaf(&inner) => inner,
                _ => {
                    return Err(format!(
                        "is unknown: {part:?} has no fields that a query can name"
                    ));
                }
            };
        }
        path.push(field);
    }
    Ok(path)
}

/// Messages that are one text in JSON.
pub(super) fn is_leaf(message: &MessageDescriptor) -> bool {
    let name = message.full_name().strip_prefix("google.protobuf.");
    name.is_some_and(|name| {
        matches!(
            name,
            "Timestamp"
                | "Duration"
                | "FieldMask"
                | "DoubleValue"
                | "FloatValue"
                | "Int64Value"
                | "UInt64Value"
                | "Int32Value"
                | "UInt32Value"
                | "BoolValue"
                | "StringValue"
                | "BytesValue"
        )
    })
}

/// That no other field of its `oneof` is there, which it would take away.
fn check_rivals(message: &DynamicMessage, field: &FieldDescriptor) -> Result<(), String> {
    let Some(oneof) = field.containing_oneof() else {
        return Ok(());
    };
    let mut rivals = oneof.fields().filter(|other| other != field);
    match rivals.find(|other| message.has_field(other)) {
        Some(rival) => Err(format!("and {:?} cannot both be given", rival.name())),
        None => Ok(()),
    }
}

fn set(
    message: &mut DynamicMessage,
    path: &[FieldDescriptor],
    text: &str,
    is_first: bool,
) -> Result<(), String> {
    let Some((field, rest)) = path.split_first() else {
        return Err("is no name".into());
    };
    check_rivals(message, field)?;
    if !rest.is_empty() {
        return match message.get_field_mut(field) {
            Value::Message(inner) => set(inner, rest, text, is_first),
            _ => Err("is unknown".into()),
        };
    }
    let value = field::of_text(field, text)?;
    if let (true, Value::List(values)) = (field.is_list(), message.get_field_mut(field)) {
        values.push(value);
        return Ok(());
    }
    if !is_first {
        return Err("is given twice".into());
    }
    message.set_field(field, value);
    Ok(())
}

/// A body that is taken as it is.
fn raw(
    of: &MessageDescriptor,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<DynamicMessage, BadRequest> {
    let body = HttpBody {
        content_type: content_type.unwrap_or_default().to_owned(),
        data: Bytes::copy_from_slice(body),
    };
    json::decode(of, &body.encode_to_vec()).map_err(BadRequest::Wrong)
}

fn check_json(content_type: Option<&str>) -> Result<(), BadRequest> {
    let media = |why: String| Err(BadRequest::Media(why));
    let Some(content_type) = content_type else {
        return media("the request has a body, but no content type: it is application/json".to_owned());
    };
    let shown = |text: &str| text.chars().take(80).collect::<String>();
    let is = content_type.split(';').next().unwrap_or_default().trim();
    if !is.eq_ignore_ascii_case("application/json") {
        return media(format!(
            "the content type of the body is {:?}: it is application/json",
            shown(is)
        ));
    }
    match foreign_charset(content_type) {
        Some(charset) => media(no_charset(charset)),
        None => Ok(()),
    }
}
