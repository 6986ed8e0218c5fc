//! Statuses of gRPC as statuses of HTTP, and an error as the body of a response.
//!
//! The body is the description of the failure, as plain text: callers of such functions look for it there. A caller whose `Accept`
//! prefers `application/json` gets `{"code":N,"message":"..."}`, with the number of gRPC.
//!
//! Not here: which failure has which code. Contract: every code has a status.

use bytes::Bytes;
use http::StatusCode;
use tonic::Code;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// What nginx has for a caller that has gone; it is in no standard.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The status of a response to a call that ended so.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // It is a valid status: from 100 to 999.
        Code::Cancelled => {
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The code with this number, as a function's failure has it; no number, or one that is no failure's, is UNKNOWN.
pub fn of_failure(number: i32) -> Code {
    match Code::from_i32(number) {
        Code::Ok => Code::Unknown,
        code => code,
    }
}

/// The body of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// Its content type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: Bytes,
}

/// The body of a response to a call that failed, for a caller with this header `Accept`.
pub fn error_body(code: Code, description: &str, accept: Option<&str>) -> ErrorBody {
    if accept.is_some_and(prefers_json) {
        let body = serde_json::json!({ "code": code as i32, "message": description });
        return ErrorBody {
            content_type: JSON,
            body: body.to_string().into(),
        };
    }
    ErrorBody {
        content_type: TEXT,
        body: Bytes::copy_from_slice(description.as_bytes()),
    }
}

/// An error as an object within a stream of JSON, of the shape that Google's APIs have.
pub fn error_object(code: Code, description: &str) -> serde_json::Value {
    serde_json::json!({ "error": { "code": code as i32, "status": name(code), "message": description } })
}

/// The name of a code, as gRPC writes it.
pub fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Whether it names JSON, and no plain text that it would rather have. `*/*` names nothing.
fn prefers_json(accept: &str) -> bool {
    let (mut json, mut text) = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality: f32 = quality.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
        if media.eq_ignore_ascii_case(JSON) {
            json = quality;
        } else if media.eq_ignore_ascii_case("text/plain") {
            text = quality;
        }
    }
    json > 0.0 && json >= text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status() {
        let table = [
            (0, 200),
            (1, 499),
            (2, 500),
            (3, 400),
            (4, 504),
            (5, 404),
            (6, 409),
            (7, 403),
            (8, 429),
            (9, 400),
            (10, 409),
            (11, 400),
            (12, 501),
            (13, 500),
            (14, 503),
            (15, 500),
            (16, 401),
        ];
        for (number, status) in table {
            let code = Code::from_i32(number);
            assert_eq!(http_status(code).as_u16(), status, "{number}");
        }
    }

    #[test]
    fn names_are_grpcs() {
        for (code, is) in [
            (Code::Ok, "OK"),
            (Code::Cancelled, "CANCELLED"),
            (Code::DataLoss, "DATA_LOSS"),
            (Code::FailedPrecondition, "FAILED_PRECONDITION"),
        ] {
            assert_eq!(name(code), is);
        }
    }

    #[test]
    fn a_failure_is_never_ok() {
        for (number, code) in [
            (0, Code::Unknown),
            (-1, Code::Unknown),
            (17, Code::Unknown),
            (i32::MAX, Code::Unknown),
            (5, Code::NotFound),
        ] {
            assert_eq!(of_failure(number), code);
        }
    }

    #[test]
    fn an_error_is_its_description_unless_json_is_asked_for() {
        for (accept, is_json) in [
            (None, false),
            (Some(""), false),
            (Some("*/*"), false),
            (Some("text/html, */*;q=0.8"), false),
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("application/json, text/plain, */*"), true),
            (Some("text/plain;q=0.9, application/json;q=0.5"), false),
            (Some("text/plain;q=0.5,application/json;q=0.9"), true),
            (Some("application/json;q=0"), false),
            (Some("application/json;q=x"), false),
            (Some("text/event-stream"), false),
        ] {
            let error = error_body(Code::NotFound, "no \"cart\"", accept);
            let expected = if is_json {
                ("application/json", r#"{"code":5,"message":"no \"cart\""}"#)
            } else {
                ("text/plain; charset=utf-8", "no \"cart\"")
            };
            assert_eq!(
                (error.content_type, &error.body[..]),
                (expected.0, expected.1.as_bytes()),
                "{accept:?}"
            );
        }
    }
}
