//! gRPC as browsers speak it (gRPC-web): over any HTTP, the status as the last frame of the body, and all of it in base64 where the
//! page asks for text.
//!
//! Not here: what is served, which is whatever is served over gRPC; from which pages (`origins`). `tonic-web` translates.
//!
//! Contract: a content type that is none of these is refused as such, and a body that is not what its type says with
//! INVALID_ARGUMENT.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use tonic::Status;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower_layer::Layer;
use tower_service::Service;

use super::call::Caller;
use super::{media_type, respond_as};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";
/// What each type is the same as.
const TYPES: [(&str, &str); 4] = [
    ("application/grpc-web", BINARY),
    (BINARY, BINARY),
    ("application/grpc-web-text", TEXT),
    (TEXT, TEXT),
];

/// Answers a request.
pub(super) async fn answer(caller: &Arc<Caller>, mut request: Request<Body>) -> Response<Body> {
    let Some((is, wants)) = types(request.headers()) else {
        let text = "gRPC-web's content types are application/grpc-web and application/grpc-web-text, with +proto or without";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    };
    if request.method() != Method::POST {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "a call over gRPC-web is a POST");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    // The library wants them spelt so.
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(is));
    headers.insert(ACCEPT, HeaderValue::from_static(wants));
    headers.remove(ACCEPT_ENCODING);
    let mut web = GrpcWebLayer::new().layer(Native {
        caller: Arc::clone(caller),
        is_text: is == TEXT,
    });
    match web.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// What a request is, and what its answer is to be: what it is itself, unless it says otherwise.
fn types(headers: &HeaderMap) -> Option<(&'static str, &'static str)> {
    let known = |text: &str| {
        let found = TYPES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        found.map(|(_, is)| *is)
    };
    let is = known(media_type(headers.get(CONTENT_TYPE)?.to_str().ok()?))?;
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let wants = accept.and_then(|accept| accept.split(',').map(media_type).find_map(known));
    Some((is, wants.unwrap_or(is)))
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Body> {
    respond_as(status, "text/plain; charset=utf-8", text)
}

/// What is served over gRPC itself.
struct Native {
    caller: Arc<Caller>,
    is_text: bool,
}

impl Service<Request<Body>> for Native {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (caller, is_text) = (Arc::clone(&self.caller), self.is_text);
        // The library takes what it cannot read for a fault of its own, and says of a text how long it is in base64.
        let readable = move |body: Body| {
            let body = body.map_err(unreadable);
            match is_text {
                true => Body::new(StreamBody::new(BodyStream::new(body))),
                false => Body::new(body),
            }
        };
        Box::pin(async move { Ok(super::native(&caller, request.map(readable)).await) })
    }
}

fn unreadable(status: Status) -> Status {
    Status::invalid_argument(format!(
        "the request's body cannot be read as gRPC-web: {}",
        status.message()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: &str, accept: Option<&str>) -> Option<(&'static str, &'static str)> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        if let Some(accept) = accept {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        types(&headers)
    }

    #[test]
    fn an_answer_is_what_was_asked_for_or_what_the_request_is() {
        for same in [None, Some("*/*"), Some("application/json"), Some("")] {
            assert_eq!(
                of("application/grpc-web", same),
                Some((BINARY, BINARY)),
                "{same:?}"
            );
            assert_eq!(
                of("application/grpc-web-text", same),
                Some((TEXT, TEXT)),
                "{same:?}"
            );
        }
        let text = Some("text/plain, application/grpc-web-text; q=0.9");
        assert_eq!(of("application/grpc-web+proto", text), Some((BINARY, TEXT)));
        assert_eq!(
            of(
                "Application/gRPC-web-text+proto; charset=x",
                Some("application/grpc-web")
            ),
            Some((TEXT, BINARY))
        );
        for wrong in [
            "application/grpc-web+json",
            "application/grpc-webby",
            "text/plain",
        ] {
            assert_eq!(of(wrong, None), None, "{wrong}");
        }
    }
}
