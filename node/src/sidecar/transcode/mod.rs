//! HTTP with JSON in front of gRPC methods, as `google.api.http` says: which method a request is for, its input message, and the
//! method's output as a response.
//!
//! `rules` reads the options of methods, `template` what they say of paths, `request` and `response` translate, by `json`. A method
//! without the option is `POST /package.Service/Method` with its input as the body.
//!
//! Not here: sockets, calling the method, and errors (`sidecar::status`). Contract: what a caller sends wrong is a
//! [`BadRequest`] or a [`Missing`] that says what is wrong with it; what whoever wrote the options did is a `Problem`.

mod example;
mod field;
mod json;
mod numbers;
mod once;
mod read;
mod request;
mod response;
mod rules;
mod template;
#[cfg(test)]
mod tests;
mod texts;
mod write;

pub use self::json::{json_to_message, message_to_json};
pub use self::request::BadRequest;
pub use self::rules::{Match, Missing, Route, Rules};
