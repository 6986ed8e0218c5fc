//! The output of a method as a response: JSON, or what a `google.api.HttpBody` says; alone, or as one of a stream.
//!
//! Contract: JSON has no line breaks, so that a line is a message.

use bytes::Bytes;
use prost::Message;
use prost_reflect::Kind;
use tonic::Code;

use super::json;
use super::rules::Match;
use super::write;
use crate::sidecar::status::error_object;

/// The message that is a body as it is.
pub(super) const HTTP_BODY: &str = "google.api.HttpBody";
/// What it is where it does not say.
const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// `google.api.HttpBody`, without its extensions.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpBody {
    #[prost(string, tag = "1")]
    pub(super) content_type: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: Bytes,
}

/// The body of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its content type, fit for a header.
    pub content_type: String,
    /// Its bytes.
    pub body: Bytes,
}

/// An output that is no response: the function's doing, status 500, or INTERNAL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function's answer cannot be passed on: {0}")]
pub struct BadResponse(String);

impl Match {
    /// The response that an encoded output message is.
    pub fn response(&self, message: &[u8]) -> Result<Response, BadResponse> {
        self.render(message).map_err(BadResponse)
    }

    /// One of a stream of responses, a line each; what an `HttpBody` has is put together as it is.
    pub fn json_line(&self, message: &[u8]) -> Result<Bytes, BadResponse> {
        let response = self.response(message)?;
        if self.is_raw() {
            return Ok(response.body);
        }
        let mut line = Vec::from(response.body);
        line.push(b'\n');
        Ok(line.into())
    }

    /// One of a stream of responses, as an event of a `text/event-stream`.
    pub fn event(&self, message: &[u8]) -> Result<Bytes, BadResponse> {
        let response = self.response(message)?;
        let Ok(text) = std::str::from_utf8(&response.body) else {
            let why = "it is not UTF-8, and only text can be an event";
            return Err(BadResponse(why.into()));
        };
        let mut event = String::with_capacity(text.len() + 8);
        // What ends a line in a stream of events.
        for line in text.replace("\r\n", "\n").split(['\n', '\r']) {
            event.push_str("data: ");
            event.push_str(line);
            event.push('\n');
        }
        event.push('\n');
        Ok(event.into())
    }

    /// How a stream of responses ends that has failed: as one more line, or event; none where what came before has no lines.
    pub fn failure(&self, is_event: bool, code: Code, description: &str) -> Option<Bytes> {
        let error = error_object(code, description);
        match (is_event, self.is_raw()) {
            (true, _) => Some(format!("event: error\ndata: {error}\n\n").into()),
            (false, true) => None,
            (false, false) => Some(format!("{error}\n").into()),
        }
    }

    /// Whether the output is a body as it is.
    pub fn is_raw(&self) -> bool {
        match &self.rule.response_body {
            None => self.rule.method.output().full_name() == HTTP_BODY,
            Some(field) => match field.kind() {
                Kind::Message(of) => json::is_message(field) && of.full_name() == HTTP_BODY,
                _ => false,
            },
        }
    }

    fn render(&self, message: &[u8]) -> Result<Response, String> {
        let output = self.rule.method.output();
        let raw = match &self.rule.response_body {
            None if self.is_raw() => HttpBody::decode(message).map_err(|e| e.to_string())?,
            None => return Ok(json(json::message_to_json(&output, message)?)),
            Some(field) => {
                let message = json::decode(&output, message)?;
                match message.get_field(field).as_message() {
                    Some(inner) if self.is_raw() => {
                        HttpBody::decode(&inner.encode_to_vec()[..]).map_err(|e| e.to_string())?
                    }
                    _ => return Ok(json(write::write_field(&message, field)?)),
                }
            }
        };
        let content_type = match raw.content_type {
            empty if empty.is_empty() => OCTETS.to_owned(),
            given => given,
        };
        if http::HeaderValue::from_str(&content_type).is_err() {
            return Err(format!("its content type is {content_type:?}"));
        }
        Ok(Response {
            content_type,
            body: raw.data,
        })
    }
}

fn json(body: Vec<u8>) -> Response {
    Response {
        content_type: JSON.to_owned(),
        body: body.into(),
    }
}
