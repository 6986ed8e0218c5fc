//! What a request gets that is not done: a status code and the one JSON form of an error.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::api::ErrorBody;
use super::session::with_token;
use crate::error::{Error, ErrorKind};
use crate::wire::Token;

/// A request that is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: ErrorBody,
    /// What the caller's session has seen although it was refused.
    seen: Option<Box<Token>>,
}

impl Refusal {
    /// A refusal that changed nothing and that a retry does not mend.
    pub(super) fn new(status: StatusCode, name: &str, message: impl Into<String>) -> Refusal {
        let body = ErrorBody {
            error: name.to_string(),
            message: message.into(),
            retry: false,
            changed: false,
            details: None,
        };
        Refusal {
            status,
            body,
            seen: None,
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, ErrorKind::Invalid.name(), message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Refusal {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Internal.name(),
            message,
        )
    }

    /// Nothing changed; the same request may succeed later.
    pub(super) fn overloaded(message: impl Into<String>) -> Refusal {
        Error::new(ErrorKind::Overloaded, message).into()
    }

    pub(super) fn not_found(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn no_route(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "no_route", message)
    }

    pub(super) fn no_method(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "no_method", message)
    }

    /// Its body.
    pub(super) fn text(&self) -> String {
        // The members are strings, booleans and JSON: that cannot fail.
        serde_json::to_string(&self.body).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal {
            status: status(error.kind()),
            body: ErrorBody {
                error: error.kind().name().to_string(),
                message: error.message().to_string(),
                retry: error.may_retry(),
                changed: error.changed_state(),
                details: error.details(),
            },
            seen: Token::of_error(&error).map(Box::new),
        }
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid | ErrorKind::TypeRequired => StatusCode::BAD_REQUEST,
        ErrorKind::WrongType | ErrorKind::KeyReused | ErrorKind::Rights => StatusCode::CONFLICT,
        ErrorKind::NotReady
        | ErrorKind::Stale
        | ErrorKind::Expired
        | ErrorKind::Overloaded
        | ErrorKind::Unreachable
        | ErrorKind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NoFunction => StatusCode::NOT_FOUND,
        ErrorKind::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Lost => StatusCode::BAD_GATEWAY,
        ErrorKind::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Unconfirmed | ErrorKind::Unanswered => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            self.text() + "\n",
        )
            .into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        match self.seen {
            Some(token) => with_token(response, &token),
            None => response,
        }
    }
}
