//! From whose pages browsers may call: the configured origins, and pages of the ingress itself.
//!
//! Why: whoever reaches the ingress may call, and a browser reaches it for any page that its user looks at. A page of the ingress (a
//! function may answer with HTML) has its address for origin; by a name it is believed only if it is configured, since whoever owns a
//! name may point it at this address.
//!
//! For the same reason an ingress at a loopback address is called by its own names alone, and by those of configured origins: a
//! browser has no `Origin` for what its page asks of the page's own host. A POST always has one, so a POST of gRPC that has none is no
//! browser's: such clients name the host as they like. Over TLS a name is one that the certificate has, and so this ingress's own.
//!
//! Not here: what a browser says (`browser`). Contract: a request of a foreign page does nothing and is answered with a refusal; only
//! an answer to a configured origin has headers `access-control-*`, whatever a function said.

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
use crate::browser::{self, ANY, Known, MAX_AGE, Odd};
use crate::sidecar::SESSION_HEADER;
use crate::sidecar::status::error_body;
use crate::sidecar::trace_context::TRACERESPONSE;

/// What a page may read of an answer's headers, beside what a function said and what it always may.
const EXPOSED: [&str; 4] = ["grpc-status", "grpc-message", SESSION_HEADER, TRACERESPONSE];
/// What it always may, and what is not for it.
const UNEXPOSED: [&str; 9] = [
    "cache-control",
    "content-language",
    "content-length",
    "content-type",
    "expires",
    "last-modified",
    "pragma",
    "set-cookie",
    "vary",
];

/// Which pages may call.
#[derive(Debug)]
pub(super) struct Origins {
    known: Known,
    /// Whether browsers may only say names that are known.
    by_name: bool,
    is_encrypted: bool,
}

impl Origins {
    /// Pages of these origins, in lower case or [`ANY`], at an ingress that listens there.
    pub fn new(allowed: Vec<String>, listens: IpAddr, is_encrypted: bool) -> Origins {
        let hosts = allowed.iter().filter_map(|origin| browser::host_of(origin));
        Origins {
            by_name: listens.is_loopback() && !is_encrypted && !allowed.iter().any(|origin| origin == ANY),
            is_encrypted,
            known: Known {
                hosts: hosts.map(str::to_owned).collect(),
                origins: allowed,
            },
        }
    }

    /// How addresses of the ingress begin.
    pub fn scheme(&self) -> &'static str {
        match self.is_encrypted {
            true => "https",
            false => "http",
        }
    }

    /// The configured origin that a request comes from; none where no page sent it, or one of this address.
    ///
    /// # Errors
    /// It comes from a page that may not call, or may be that of one.
    pub fn admit<B>(&self, request: &Request<B>, protocol: Protocol) -> Result<Option<HeaderValue>, Status> {
        let odd = |odd: Odd| foreign(&odd.to_string());
        let origin = browser::one(request.headers(), ORIGIN).map_err(odd)?;
        let is_native = protocol == Protocol::Grpc && request.method() == Method::POST;
        if is_native && origin.is_none() {
            return Ok(None);
        }
        let host = host(request).map_err(odd)?;
        if self.by_name && !self.known.is_host(host, None) {
            return Err(foreign(&format!(
                "calls to {host:?} are refused at a loopback address, which any page may give a name; call localhost, or add an \
                 origin of that name to ingress.origins"
            )));
        }
        let Some(origin) = origin else {
            return Ok(None);
        };
        match self.known.origin(request.headers()) {
            Some(known) => Ok(Some(known)),
            None if self.is_own(origin, host) => Ok(None),
            None => Err(foreign(&format!(
                "calls from pages of {origin:?} are refused; add it to ingress.origins"
            ))),
        }
    }

    /// Whether a page is one of the ingress.
    fn is_own(&self, origin: &str, host: &str) -> bool {
        let name = browser::name(host);
        let is_certain = self.is_encrypted || name.eq_ignore_ascii_case("localhost");
        browser::is_same(origin, self.scheme(), host) && (is_certain || name.parse::<IpAddr>().is_ok())
    }
}

fn foreign(why: &str) -> Status {
    Status::permission_denied(format!("nothing changed: {why}"))
}

/// What the request was sent to: HTTP/2 says that in the request's target.
fn host<B>(request: &Request<B>) -> Result<&str, Odd> {
    match request.uri().authority() {
        Some(target) => Ok(target.as_str()),
        None => Ok(browser::one(request.headers(), HOST)?.unwrap_or_default()),
    }
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
    // Whoever may call may read all that a function said to him.
    let mut exposed = EXPOSED.to_vec();
    let said = headers.keys().map(HeaderName::as_str);
    exposed.extend(said.filter(|name| !EXPOSED.contains(name) && !UNEXPOSED.contains(name)));
    if let Ok(exposed) = HeaderValue::try_from(exposed.join(", ")) {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
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

    /// Where an ingress beyond loopback listens.
    const ANYWHERE: &str = "0.0.0.0";

    fn admit(origins: &[&str], headers: &[(&str, &str)]) -> Result<Option<String>, Code> {
        admit_at(ANYWHERE, origins, Protocol::Json, &request(headers))
    }

    fn admit_at(
        listens: &str,
        origins: &[&str],
        protocol: Protocol,
        request: &Request<()>,
    ) -> Result<Option<String>, Code> {
        let origins = origins.iter().map(|text| (*text).to_owned()).collect();
        let origins = Origins::new(origins, listens.parse().unwrap(), false);
        let admitted = origins.admit(request, protocol);
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
        assert_eq!(admit_at(ANYWHERE, &[], Protocol::Web, &request), Ok(None));
    }

    #[test]
    fn a_loopback_address_is_called_by_its_own_names_and_those_of_configured_origins() {
        let ask = |listens: &str, origins: &[&str], protocol, method: Method, host: &str| {
            let mut request = request(&[("host", host)]);
            *request.method_mut() = method;
            admit_at(listens, origins, protocol, &request)
        };
        let shop = &["https://shop.example:8443"][..];
        for protocol in [Protocol::Json, Protocol::Web] {
            for method in [Method::GET, Method::POST] {
                let ask = |listens, origins, host| ask(listens, origins, protocol, method.clone(), host);
                for listens in ["127.0.0.1", "::1"] {
                    for host in ["127.0.0.1:9", "localhost", "[::1]:9", "shop.example"] {
                        assert_eq!(ask(listens, shop, host), Ok(None), "{host}");
                    }
                    for host in ["evil.example:9", "10.0.0.1", ""] {
                        assert_eq!(ask(listens, shop, host), Err(Code::PermissionDenied), "{host}");
                    }
                    assert_eq!(ask(listens, &[ANY], "any.example"), Ok(None));
                }
                assert_eq!(ask(ANYWHERE, &[], "shop.internal"), Ok(None));
            }
        }
        // Clients of gRPC name the host as they like; what is no POST may be a browser's.
        let grpc = |method| ask("127.0.0.1", &[], Protocol::Grpc, method, "shop.internal");
        assert_eq!(grpc(Method::POST), Ok(None));
        assert_eq!(grpc(Method::GET), Err(Code::PermissionDenied));
        let page = [("host", "evil.example"), ("origin", "http://evil.example")];
        let mut page = request(&page);
        *page.method_mut() = Method::POST;
        let page = admit_at("127.0.0.1", &[], Protocol::Grpc, &page);
        assert_eq!(page, Err(Code::PermissionDenied));
    }

    #[test]
    fn over_tls_a_name_is_the_certificates() {
        let origins = Origins::new(Vec::new(), "127.0.0.1".parse().unwrap(), true);
        let from = |origin: &str| {
            let request = request(&[("host", "shop.internal:9"), ("origin", origin)]);
            origins
                .admit(&request, Protocol::Web)
                .map_err(|status| status.code())
        };
        assert_eq!(from("https://shop.internal:9"), Ok(None));
        assert_eq!(from("http://shop.internal:9"), Err(Code::PermissionDenied));
        assert_eq!(from("https://evil.example:9"), Err(Code::PermissionDenied));
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
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        headers.insert("x-said", HeaderValue::from_static("well"));
        open(&mut headers, HeaderValue::from_static("https://shop.example"));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://shop.example");
        assert!(!headers.contains_key(credentials));
        assert_eq!(
            headers[ACCESS_CONTROL_EXPOSE_HEADERS],
            "grpc-status, grpc-message, anabranch-session, traceresponse, x-said"
        );
        assert_eq!(headers.get_all(VARY).iter().count(), 2);
    }
}
