//! Statuses of gRPC as statuses of HTTP and back, and an error as the body of a response.
//!
//! The body is the description of the failure, as plain text: callers of such functions look for it there. A caller whose `Accept`
//! prefers `application/json` gets `{"code":N,"message":"..."}`, with the number of gRPC.
//!
//! Not here: which failure has which code. Contract: every code has a status; back, each status that a code has becomes the most
//! general of its codes.

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

/// The code of a call that was answered with this status.
pub fn code(status: StatusCode) -> Code {
    match status.as_u16() {
        200..=299 => Code::Ok,
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Aborted,
        429 => Code::ResourceExhausted,
        CLIENT_CLOSED_REQUEST => Code::Cancelled,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}

/// The name of a code, as gRPC's documents have it.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
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
    fn every_code_has_its_status_and_name() {
        let table = [
            (0, 200, "OK"),
            (1, 499, "CANCELLED"),
            (2, 500, "UNKNOWN"),
            (3, 400, "INVALID_ARGUMENT"),
            (4, 504, "DEADLINE_EXCEEDED"),
            (5, 404, "NOT_FOUND"),
            (6, 409, "ALREADY_EXISTS"),
            (7, 403, "PERMISSION_DENIED"),
            (8, 429, "RESOURCE_EXHAUSTED"),
            (9, 400, "FAILED_PRECONDITION"),
            (10, 409, "ABORTED"),
            (11, 400, "OUT_OF_RANGE"),
            (12, 501, "UNIMPLEMENTED"),
            (13, 500, "INTERNAL"),
            (14, 503, "UNAVAILABLE"),
            (15, 500, "DATA_LOSS"),
            (16, 401, "UNAUTHENTICATED"),
        ];
        for (number, status, text) in table {
            let code = Code::from_i32(number);
            assert_eq!(http_status(code).as_u16(), status, "{number}");
            assert_eq!(name(code), text);
            // Back and forth again is the same status.
            assert_eq!(http_status(super::code(http_status(code))).as_u16(), status);
        }
        for (status, code) in [
            (204, Code::Ok),
            (302, Code::Unknown),
            (418, Code::Unknown),
            (500, Code::Unknown),
            (502, Code::Unknown),
            (400, Code::InvalidArgument),
            (409, Code::Aborted),
            (499, Code::Cancelled),
        ] {
            assert_eq!(
                super::code(StatusCode::from_u16(status).unwrap()),
                code,
                "{status}"
            );
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
