//! From whose pages browsers may call: the configured origins, and pages of the ingress itself.
//!
//! Why: whoever reaches the ingress may call, and a browser reaches it for any page that its user looks at. It names the page in
//! `Origin`, which the page cannot forge. A page of the ingress (a function may answer with HTML) has its address for origin; by a
//! name it is believed only if it is configured, since whoever owns a name may point it at this address.
//!
//! Contract: a request of a foreign page does nothing and is answered with a refusal; only an answer to a configured origin has
//! headers `access-control-*`, whatever a function said.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;
use tonic::{Code, Status};

use super::{Protocol, respond, respond_as};
use crate::sidecar::status::error_body;

/// The one entry by which every page may call.
const ANY: &str = "*";
/// What a page may read of an answer's headers, beside what it always may.
const EXPOSED: &str = "grpc-status, grpc-message, anabranch-session";
/// For so long a browser need not ask again, seconds.
const MAX_AGE: &str = "600";

/// Which pages may call.
#[derive(Debug)]
pub(super) struct Origins {
    /// In lower case, or [`ANY`].
    allowed: Vec<String>,
}

impl Origins {
    pub fn new(allowed: Vec<String>) -> Origins {
        Origins { allowed }
    }

    /// The configured origin that a request comes from; none where no page sent it, or one of this address.
    ///
    /// # Errors
    /// It comes from a page that may not call.
    pub fn admit<B>(&self, request: &Request<B>) -> Result<Option<HeaderValue>, Status> {
        let mut origins = request.headers().get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return Ok(None);
        };
        if origins.next().is_some() {
            return Err(foreign("the header origin stands more than once"));
        }
        let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        if self.allowed.iter().any(|one| *one == text || one == ANY) {
            return Ok(Some(origin.clone()));
        }
        match is_of_this_address(&text, host(request)) {
            true => Ok(None),
            false => Err(foreign(&format!(
                "calls from pages of {text:?} are refused; add it to ingress.origins"
            ))),
        }
    }
}

fn foreign(why: &str) -> Status {
    Status::permission_denied(format!("nothing changed: {why}"))
}

/// What the request was sent to: HTTP/2 says that in the request's target.
fn host<B>(request: &Request<B>) -> &str {
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    let named = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    target.or_else(named).unwrap_or_default()
}

fn is_of_this_address(origin: &str, host: &str) -> bool {
    let is_same = origin
        .strip_prefix("http://")
        .is_some_and(|of| of.eq_ignore_ascii_case(host));
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    is_same && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

/// The refusal of a call, as its protocol has it.
pub(super) fn refusal(protocol: Protocol, status: Status, accept: Option<&str>) -> Response<Body> {
    let mut response = match protocol {
        Protocol::Grpc => return status.into_http(),
        Protocol::Web => status.into_http(),
        Protocol::Json => {
            let said = error_body(Code::PermissionDenied, status.message(), accept);
            respond_as(StatusCode::FORBIDDEN, said.content_type, said.body)
        }
    };
    // A browser shows no more than this of it.
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

/// The answer to a browser's question, before the request itself, whether this origin may send it. Methods and headers are no
/// secret and the request is checked when it comes, so it may send those it asks for.
pub(super) fn preflight<B>(request: &Request<B>, origin: &HeaderValue) -> Option<Response<Body>> {
    if request.method() != Method::OPTIONS {
        return None;
    }
    let method = request.headers().get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut response = respond(StatusCode::NO_CONTENT, Bytes::new());
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(wanted) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.append(VARY, HeaderValue::from_static("Origin"));
    Some(response)
}

/// Lets pages of this origin read an answer.
pub(super) fn open(headers: &mut HeaderMap, origin: HeaderValue) {
    let is_cors = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    let said: Vec<HeaderName> = headers.keys().filter(is_cors).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn admit(origins: &[&str], headers: &[(&str, &str)]) -> Result<Option<String>, Code> {
        let origins = Origins::new(origins.iter().map(|text| (*text).to_owned()).collect());
        let admitted = origins.admit(&request(headers));
        let text = |value: HeaderValue| value.to_str().unwrap().to_owned();
        admitted
            .map(|origin| origin.map(text))
            .map_err(|status| status.code())
    }

    #[test]
    fn pages_call_from_configured_origins_and_from_this_address() {
        let from = |origin| {
            admit(
                &["https://shop.example"],
                &[("host", "127.0.0.1:9"), ("origin", origin)],
            )
        };
        assert_eq!(
            from("https://shop.example"),
            Ok(Some("https://shop.example".into()))
        );
        assert_eq!(
            from("https://Shop.Example"),
            Ok(Some("https://Shop.Example".into()))
        );
        assert_eq!(from("http://127.0.0.1:9"), Ok(None));
        for origin in [
            "https://evil.example",
            "https://shop.example.evil.example",
            "http://shop.example",
            "https://shop.example:8443",
            "http://127.0.0.1",
            "http://127.0.0.1:10",
            "https://127.0.0.1:9",
            "null",
            "",
            "*",
        ] {
            assert_eq!(from(origin), Err(Code::PermissionDenied), "{origin:?}");
        }
        assert_eq!(admit(&[], &[("host", "127.0.0.1:9")]), Ok(None));
        let twice = [
            ("origin", "https://shop.example"),
            ("origin", "https://evil.example"),
        ];
        assert_eq!(
            admit(&["https://shop.example"], &twice),
            Err(Code::PermissionDenied)
        );
    }

    #[test]
    fn a_name_that_anybody_may_point_here_is_not_this_address() {
        let same = |host: &str| {
            let origin = format!("http://{host}");
            admit(&[], &[("host", host), ("origin", &origin)])
        };
        for host in ["localhost:9", "LocalHost", "10.0.0.1", "[::1]:9"] {
            assert_eq!(same(host), Ok(None), "{host}");
        }
        for host in ["evil.example:9", "localhost.evil.example", ""] {
            assert_eq!(same(host), Err(Code::PermissionDenied), "{host}");
        }
        // HTTP/2 has the name in the target.
        let mut request = request(&[("origin", "http://[::1]:9")]);
        *request.uri_mut() = "http://[::1]:9/a".parse().unwrap();
        assert_eq!(Origins::new(Vec::new()).admit(&request).unwrap(), None);
    }

    #[test]
    fn every_page_may_call_only_where_that_is_said() {
        for origin in ["https://any.example", "null"] {
            assert_eq!(admit(&[ANY], &[("origin", origin)]), Ok(Some(origin.into())));
        }
    }

    #[test]
    fn a_browsers_question_is_answered_as_it_asks() {
        let origin = HeaderValue::from_static("https://shop.example");
        let mut asked = request(&[
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type, x-grpc-web"),
        ]);
        assert!(preflight(&asked, &origin).is_none(), "a GET is no question");
        *asked.method_mut() = Method::OPTIONS;
        let answer = preflight(&asked, &origin).unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let header = |name: HeaderName| answer.headers()[name].to_str().unwrap();
        assert_eq!(header(ACCESS_CONTROL_ALLOW_ORIGIN), "https://shop.example");
        assert_eq!(header(ACCESS_CONTROL_ALLOW_METHODS), "POST");
        assert_eq!(header(ACCESS_CONTROL_ALLOW_HEADERS), "content-type, x-grpc-web");
        let mut other = request(&[]);
        *other.method_mut() = Method::OPTIONS;
        assert!(
            preflight(&other, &origin).is_none(),
            "an OPTIONS of some other purpose"
        );
    }

    #[test]
    fn a_function_has_no_say_in_who_reads_its_answers() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let credentials = HeaderName::from_static("access-control-allow-credentials");
        headers.insert(&credentials, HeaderValue::from_static("true"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        open(&mut headers, HeaderValue::from_static("https://shop.example"));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://shop.example");
        assert!(!headers.contains_key(credentials));
        assert_eq!(headers.get_all(VARY).iter().count(), 2);
    }
}
