//! Who may ask: the Host and Origin of a request, and its bearer token.
//!
//! Not here: what Host and Origin say, and why they are looked at (`browser`).

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::config::{HttpConfig, Secret};
use super::App;
use super::error::Refusal;
use super::session::LAST_EVENT_ID;
use crate::browser::{self, Known, MAX_AGE, Odd};
use crate::daemon::api::{IDEMPOTENT_HEADER, SESSION_HEADER, TIMEOUT_HEADER};
use crate::sidecar::trace_context::{TRACEPARENT, TRACERESPONSE};

/// The methods that there are here, beside those of which no browser asks.
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
/// The headers of a request that somebody here reads.
const READ: [&str; 7] = [
    "authorization",
    "content-type",
    SESSION_HEADER,
    TIMEOUT_HEADER,
    IDEMPOTENT_HEADER,
    LAST_EVENT_ID,
    TRACEPARENT,
];
/// Those of them that say how a request is to be done: of two nobody knows which was meant. (Of two traces none is taken.)
const ONCE: [&str; 5] = [
    "content-type",
    SESSION_HEADER,
    TIMEOUT_HEADER,
    IDEMPOTENT_HEADER,
    LAST_EVENT_ID,
];
/// What a page may read of an answer's headers, beside what it always may.
const EXPOSED: [&str; 4] = [SESSION_HEADER, TRACERESPONSE, "allow", "www-authenticate"];

/// The local address of the connection that a request came over.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalAddress(pub(super) SocketAddr);

/// Whom the API believes.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Secret>,
    known: Known,
}

/// Before every handler.
pub(super) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let local = request.extensions().get::<LocalAddress>().copied();
    let path = request.uri().path();
    let probe = matches!(
        path,
        "/healthz" | "/readyz" | "/readyz/writes" | "/readyz/function"
    );
    let origin = match app.guard.admit(request.headers(), local, probe, request.method()) {
        Ok(origin) => origin,
        Err(refusal) => return refusal.into_response(),
    };
    // A browser asks first whether a configured origin may send what is no simple request.
    let preflight = origin.is_some() && request.method() == Method::OPTIONS;
    let mut response = if preflight {
        may_send()
    } else {
        match once(request.headers()) {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        }
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        insert_list(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &EXPOSED);
    }
    response
}

/// What pages of a configured origin may send.
fn may_send() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    insert_list(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &METHODS);
    insert_list(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &READ);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    response
}

fn insert_list(headers: &mut HeaderMap, name: HeaderName, list: &[&str]) {
    if let Ok(list) = HeaderValue::try_from(list.join(", ")) {
        headers.insert(name, list);
    }
}

impl Guard {
    pub(super) fn new(config: &HttpConfig) -> Guard {
        Guard {
            token: config.token.clone(),
            known: Known {
                hosts: config.hosts.clone(),
                origins: config.origins.clone(),
            },
        }
    }

    /// Refuses the request, or says which configured foreign origin it comes from, if any. A probe (liveness,
    /// readiness) needs no token.
    fn admit(
        &self,
        headers: &HeaderMap,
        local: Option<LocalAddress>,
        probe: bool,
        method: &Method,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let host = one(headers, header::HOST)?.unwrap_or_default();
        if !self
            .known
            .is_host(host, local.map(|LocalAddress(local)| local.ip()))
        {
            return Err(forbidden(format!(
                "the request's Host {host:?} is neither a loopback name nor this address; add it to http.hosts"
            )));
        }
        let foreign = match one(headers, header::ORIGIN)? {
            None => None,
            Some(origin) if browser::is_same(origin, "http", host) => None,
            Some(origin) => {
                let known = self.known.origin(headers);
                Some(known.ok_or_else(|| {
                    let text =
                        format!("requests from pages of {origin:?} are refused; add it to http.origins");
                    forbidden(text)
                })?)
            }
        };
        // A browser's question before the request carries no token; it does nothing.
        let question = foreign.is_some() && method == Method::OPTIONS;
        if !probe && !question {
            self.check_token(headers)?;
        }
        Ok(foreign)
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(Secret(token)) = &self.token else {
            return Ok(());
        };
        match one(headers, header::AUTHORIZATION)?.and_then(bearer) {
            Some(shown) if equal(shown.as_bytes(), token.as_bytes()) => Ok(()),
            Some(_) => Err(unauthorized("the bearer token is not this node's")),
            None => Err(unauthorized(
                "this node wants a bearer token (http.token); commands take it from ANABRANCH_TOKEN",
            )),
        }
    }
}

fn one(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, Refusal> {
    browser::one(headers, name).map_err(|odd| Refusal::invalid(odd.to_string()))
}

/// That no header stands twice of which one is all that is read.
fn once(headers: &HeaderMap) -> Result<(), Refusal> {
    match ONCE.into_iter().find(|name| browser::is_twice(headers, name)) {
        None => Ok(()),
        Some(name) => Err(Refusal::invalid(
            Odd::Twice(HeaderName::from_static(name)).to_string(),
        )),
    }
}

/// The token of an `Authorization` of this scheme, which is written in any case (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("Bearer");
    is_bearer.then(|| token.trim_start_matches(' '))
}

/// Compares without telling by its duration where the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    a.len() == b.len() && difference == 0
}

fn forbidden(message: String) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "forbidden", message)
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(token: Option<&str>) -> Guard {
        Guard {
            token: token.map(|token| Secret(token.to_string())),
            known: Known {
                hosts: vec!["db.internal".to_string()],
                origins: vec!["https://ops.example".to_string()],
            },
        }
    }

    /// What a request with these headers gets, over a connection to 10.0.0.5.
    fn admit(guard: &Guard, headers: &[(&str, &str)]) -> Result<Option<String>, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let local = LocalAddress("10.0.0.5:80".parse().unwrap());
        let admitted = guard.admit(&map, Some(local), false, &Method::GET);
        admitted
            .map(|origin| origin.map(|o| o.to_str().unwrap().to_string()))
            .map_err(|r| r.status().as_u16())
    }

    #[test]
    fn hosts_are_loopback_this_address_or_configured() {
        let guard = guard(None);
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:7412",
            "127.9.9.9",
            "[::1]:80",
            "10.0.0.5:80",
            "db.internal:1",
        ] {
            assert_eq!(admit(&guard, &[("host", host)]), Ok(None), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7412",
            "10.0.0.6",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert_eq!(admit(&guard, &[("host", host)]), Err(403), "{host}");
        }
        assert_eq!(admit(&guard, &[]), Err(403));
        assert_eq!(
            admit(&guard, &[("host", "localhost"), ("host", "localhost")]),
            Err(400)
        );
    }

    #[test]
    fn origins_are_the_same_or_configured() {
        let guard = guard(None);
        let from = |origin| admit(&guard, &[("host", "localhost:80"), ("origin", origin)]);
        assert_eq!(from("http://localhost:80"), Ok(None));
        assert_eq!(
            from("https://ops.example"),
            Ok(Some("https://ops.example".to_string()))
        );
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost",
            "http://localhost:81",
            "https://localhost:80",
            "",
        ] {
            assert_eq!(from(origin), Err(403), "{origin}");
        }
    }

    #[test]
    fn a_token_must_be_the_very_one() {
        let guard = guard(Some("0123456789abcdef"));
        let with = |value| admit(&guard, &[("host", "localhost"), ("authorization", value)]);
        for value in [
            "Bearer 0123456789abcdef",
            "bearer 0123456789abcdef",
            "BEARER  0123456789abcdef",
        ] {
            assert_eq!(with(value), Ok(None), "{value}");
        }
        for value in [
            "bearer 0123456789abcdeX",
            "Bearer0123456789abcdef",
            "bearer",
            "Bearer 0123456789abcdeX",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
        ] {
            assert_eq!(with(value), Err(401), "{value}");
        }
        assert_eq!(admit(&guard, &[("host", "localhost")]), Err(401));
    }
}
